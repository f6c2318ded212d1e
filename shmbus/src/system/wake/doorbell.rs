//! Doorbells: a FIFO for each sleeper, which a sender writes to wake that one alone.
//!
//! A FIFO can be polled together with all else, costs no inotify instance, and works between pid,
//! network and mount namespaces as long as the folder beside the bus is visible in both.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use nix::libc;

use super::folder::WakeFolder;

/// The most FIFOs of others that are kept open: a descriptor each.
const MAX_OPEN: usize = 256;
/// Each time as many more are open, those of stations that have left are closed.
const SWEEP: usize = 32;
/// The most reads to empty a FIFO, which has room for 64 KiB.
const MAX_READS: usize = 256;
/// How often a name is drawn before giving up.
const MAX_ATTEMPTS: usize = 8;

/// The name of a doorbell's FIFO.
fn name_of(id: u32) -> String {
    format!("{id:08x}")
}

/// The doorbell of a station, or of all the stations of a wait set on one bus.
#[derive(Debug)]
pub(crate) struct Doorbell {
    id: u32,
    fifo: File,
    folder: Arc<WakeFolder>,
}

impl Doorbell {
    pub(crate) fn new(folder: Arc<WakeFolder>) -> io::Result<Self> {
        for _ in 0..MAX_ATTEMPTS {
            // 0 stands for none.
            let id = fastrand::Rng::with_seed(crate::system::liveness::random_number()).u32(1..);
            match folder.make_fifo(&name_of(id)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                fifo => return Ok(Self { id, fifo: fifo?, folder }),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no name is free"))
    }

    /// What stands in the slots of those that it wakes.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Takes in what was rung.
    pub(crate) fn drain(&self) {
        let mut rung = [0; 256];
        // Empty at the end, or fails for good: then the sleeper looks by itself. A process that
        // rings without end does not keep it here.
        for _ in 0..MAX_READS {
            if !matches!((&self.fifo).read(&mut rung), Ok(len) if len == rung.len()) {
                break;
            }
        }
    }

    /// Whether senders find it.
    pub(crate) fn is_in_place(&self) -> bool {
        self.folder.is_in_place() && self.folder.open_fifo(&name_of(self.id)).is_ok()
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        self.folder.remove(name_of(self.id));
    }
}

/// The doorbells of others that this process has rung.
#[derive(Debug, Default)]
pub(crate) struct Ringer {
    open: HashMap<u32, File>,
}

impl Ringer {
    /// Rings a doorbell; `false` when it is not there. It belongs to a station that has left, or is
    /// of no use: its owner looks by itself.
    pub(crate) fn ring(&mut self, folder: &WakeFolder, id: u32) -> bool {
        if !self.open.contains_key(&id) {
            let Some(fifo) = self.open_fifo(folder, id) else { return false };
            if self.open.len() % SWEEP == SWEEP - 1 {
                self.open.retain(|_, fifo| fifo.metadata().is_ok_and(|fifo| fifo.nlink() > 0));
            }
            if self.open.len() >= MAX_OPEN {
                self.open.clear();
            }
            self.open.insert(id, fifo);
        }
        if let Some(mut fifo) = self.open.get(&id)
            && let Err(error) = fifo.write(&[1])
            // A full one was rung already.
            && error.kind() != io::ErrorKind::WouldBlock
        {
            self.open.remove(&id);
        }
        true
    }

    fn open_fifo(&mut self, folder: &WakeFolder, id: u32) -> Option<File> {
        let fifo = folder.open_fifo(&name_of(id));
        let is_short =
            |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
        if fifo.as_ref().is_err_and(is_short) && !self.open.is_empty() {
            // No descriptor is left. Those that are needed are opened again.
            self.open.clear();
            return folder.open_fifo(&name_of(id)).ok();
        }
        fifo.ok()
    }
}
