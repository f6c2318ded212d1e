//! Peers that a machine may lack. A test whose peer is missing reports this and returns. With
//! `BUSCTL_REQUIRE_PEERS=1`, as in continuous integration, it fails instead, so that a skipped test
//! never counts as passed.

use std::io::Write;
use std::path::PathBuf;

/// Folders that are searched after `$PATH`: an unprivileged user's path lacks the second half of
/// the system's programs.
const MORE_FOLDERS: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];

/// Returns the path of the program `name`, if it is installed.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Returns whether the program `name` is installed. If not, reports that the test is skipped.
///
/// # Panics
/// When it is missing and `BUSCTL_REQUIRE_PEERS=1`.
#[must_use]
pub fn program(name: &str) -> bool {
    let required = std::env::var("BUSCTL_REQUIRE_PEERS").as_deref() == Ok("1");
    let skipped = skips(find(name).is_some(), name, required);
    if let Some(skipped) = &skipped {
        // Written past the test runner's capture: a skipped test must be seen without --nocapture.
        let _ = writeln!(std::io::stderr(), "{skipped}");
    }
    skipped.is_none()
}

/// Returns the line that reports a skipped test, `skipped: NAME not found`, or `None` if the
/// program was found.
///
/// # Panics
/// When it was not found and is `required`.
#[must_use]
pub fn skips(found: bool, name: &str, required: bool) -> Option<String> {
    assert!(found || !required, "{name} not found, and BUSCTL_REQUIRE_PEERS=1");
    (!found).then(|| format!("skipped: {name} not found"))
}

/// Returns from the test, and prints `skipped: NAME not found`, when one of the named programs is
/// not installed.
#[macro_export]
macro_rules! require {
    ($($program:literal),+ $(,)?) => {
        $(if !$crate::require::program($program) {
            return;
        })+
    };
}
