//! Who the children run as. Nothing in this project needs privileges, so nothing in its tests has any: run by root (as
//! in most containers), the tests hand every child to an unprivileged user, and run by anybody else, children run as that user.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, chown, geteuid};

/// The user and group "nobody" everywhere that matters; what matters is that it is not root and owns nothing.
const NOBODY: u32 = 65534;

/// Whether the tests run as root, so that children have to be dropped to somebody else.
#[must_use]
pub fn are_root() -> bool {
    geteuid().is_root()
}

/// Makes `command` run unprivileged: as nobody, without supplementary groups, when we are root; unchanged otherwise.
pub fn drop_root(command: &mut Command) {
    if are_root() {
        // std clears the supplementary groups itself when root sets a uid.
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

/// Takes from the user the children run as every right to `path`: it becomes root's where we are root, and nobody's
/// to read or write where we are not.
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
