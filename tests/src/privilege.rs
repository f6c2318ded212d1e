//! The user the children run as. This project needs no privileges, so its tests have none. If root
//! runs the tests, as in most containers, every child runs as an unprivileged user. If another user
//! runs them, children run as that user.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, chown, geteuid};

/// The user and group "nobody" on common systems. Any id works that is not root and owns no files.
const NOBODY: u32 = 65534;

/// Returns whether the tests run as root, so that children must change to another user.
#[must_use]
pub fn are_root() -> bool {
    geteuid().is_root()
}

/// Makes `command` run unprivileged. If the tests run as root, it runs as the user "nobody" without
/// supplementary groups. Otherwise it is unchanged.
pub fn drop_root(command: &mut Command) {
    if are_root() {
        // std clears the supplementary groups when root sets a uid.
        command.uid(NOBODY).gid(NOBODY);
    }
}

/// Gives `path` to the user the children run as.
///
/// # Panics
/// When the owner cannot be changed.
pub fn hand_over(path: &Path) {
    if are_root() {
        chown(path, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY)))
            .unwrap_or_else(|why| panic!("chown {}: {why}", path.display()));
    }
}

/// Takes every right to `path` from the user the children run as. Its mode becomes 0, and if the
/// tests run as root, root becomes its owner.
///
/// # Panics
/// When owner or mode cannot be changed.
pub fn take_away(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if are_root() {
        chown(path, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))
            .unwrap_or_else(|why| panic!("chown {}: {why}", path.display()));
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o0))
        .unwrap_or_else(|why| panic!("chmod {}: {why}", path.display()));
}
