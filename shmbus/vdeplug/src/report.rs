//! Lines for people, on stderr: VDE itself has only `errno`.

use std::fmt::Display;
use std::io::Write as _;

/// Writes a line. The program may have closed its stderr.
pub(crate) fn report(message: impl Display) {
    let _ = writeln!(std::io::stderr(), "vdeplug_shmif: {message}");
}
