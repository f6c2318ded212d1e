//! Being told when the registry has changed.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::output;

/// Watches the folders with records. Where no inotify instance is to be had, changes are found a little later, by looking.
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

    /// Watches the folders that are there now: somebody may have removed and made them anew.
    pub(super) fn renew(&self) {
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        for folder in &self.folders {
            // One that is not there has nothing to tell, and those that are watched already are watched as before.
            let _ = self.inotify.as_ref().map(|inotify| inotify.add_watch(folder, changes));
        }
    }

    /// Whether something has changed since the last call, as far as that can be told.
    pub(super) fn has_changed(&self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mut changed = false;
        // It ends with EAGAIN when there is nothing port_removed; any other error would repeat as well.
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {
            changed = true;
        }
        changed
    }

    /// Readable when something has changed.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }
}
