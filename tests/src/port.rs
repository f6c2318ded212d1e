//! The memif ports of `busctl attach`, as arguments.

use std::path::Path;

/// Returns a port that listens on `socket` as interface `id`. `keys`, such as `secret=x`, are
/// appended.
#[must_use]
pub fn server(socket: &Path, id: u32, keys: &str) -> String {
    memif("server", socket, id, keys)
}

/// Returns a port that connects to interface `id` on `socket`. `keys` are appended.
#[must_use]
pub fn client(socket: &Path, id: u32, keys: &str) -> String {
    memif("client", socket, id, keys)
}

fn memif(role: &str, socket: &Path, id: u32, keys: &str) -> String {
    let comma = if keys.is_empty() { "" } else { "," };
    format!("memif:role={role},id={id},socket={}{comma}{keys}", socket.display())
}
