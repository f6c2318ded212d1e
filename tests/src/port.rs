//! The memif ports of `busctl attach`, as arguments.

use std::path::Path;

/// A port that listens on `socket` as interface `id`; `keys` (such as `secret=x`) are added, comma first when not empty.
#[must_use]
pub fn server(socket: &Path, id: u32, keys: &str) -> String {
    memif("server", socket, id, keys)
}

/// A port that calls interface `id` on `socket`.
#[must_use]
pub fn client(socket: &Path, id: u32, keys: &str) -> String {
    memif("client", socket, id, keys)
}

fn memif(role: &str, socket: &Path, id: u32, keys: &str) -> String {
    let comma = if keys.is_empty() { "" } else { "," };
    format!("memif:role={role},id={id},socket={}{comma}{keys}", socket.display())
}
