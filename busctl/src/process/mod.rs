//! This process and its surroundings: signals, its name, the parent, the service manager.

pub(crate) mod background_thread;
pub(crate) mod called;
pub(crate) mod die_with_parent;
pub(crate) mod identity;
pub(crate) mod name;
pub(crate) mod sd_notify;
pub(crate) mod shutdown;
pub(crate) mod signals;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGXFSZ;

/// Makes a write beyond `ulimit -f` fail with [`io::ErrorKind::FileTooLarge`], which can be
/// reported. By default its signal kills the process without a word.
///
/// # Errors
/// When the handler cannot be installed.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    // A handler that does nothing, and not the action to ignore: a child would inherit that.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(drop)
}
