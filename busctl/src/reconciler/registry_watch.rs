//! Notices changes of the registry.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::output;

/// Watches the folders with records. Without an inotify instance, changes are found by the periodic
/// pass, a little later.
pub(super) struct RegistryWatch {
    inotify: Option<Inotify>,
    folders: Vec<PathBuf>,
}

impl RegistryWatch {
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|error| {
                output::warn(format_args!(
                    "cannot watch the registry: {error}; changes are followed within a second"
                ));
            })
            .ok();
        let watch = Self { inotify, folders };
        watch.renew();
        watch
    }

    /// Watches the folders that exist now: the user may have removed and made them again.
    pub(super) fn renew(&self) {
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        for folder in &self.folders {
            // A missing folder has no changes, and adding a watch again changes nothing.
            let _ = self.inotify.as_ref().map(|inotify| inotify.add_watch(folder, changes));
        }
    }

    /// Returns whether something has changed since the last call, as far as inotify reports it.
    pub(super) fn has_changed(&self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mut changed = false;
        // Reading ends with EAGAIN when there are no more events; any other error would repeat.
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {
            changed = true;
        }
        changed
    }

    /// Returns the descriptor, which polls readable when something has changed.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }
}
