//! The ends of TAP interfaces, kept beside the ports that serve them.
//!
//! The interface goes with its last descriptor, and the kernel then waits until no processor looks
//! at it: some 10 ms each, one after the other. Many can be waited for at once. So the ports of a
//! lab do not have the last descriptors, and these are closed together.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;

/// The most threads that close descriptors.
const MAX_THREADS: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Taps(Vec<OwnedFd>);

impl Taps {
    /// Makes further descriptors of these interfaces.
    pub(super) fn of(taps: &[OwnedFd]) -> io::Result<Self> {
        taps.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>().map(Self)
    }

    /// Closes the interfaces of several nodes at once.
    pub(super) fn close_all(all: impl IntoIterator<Item = Self>) {
        let mut taps: Vec<_> = all.into_iter().flat_map(|taps| taps.0).collect();
        let share = taps.len().div_ceil(MAX_THREADS).max(1);
        thread::scope(|scope| {
            while !taps.is_empty() {
                let some = taps.split_off(taps.len().saturating_sub(share));
                // Without a thread they are closed here.
                let _ = thread::Builder::new().spawn_scoped(scope, move || drop(some));
            }
        });
    }
}
