//! A bus file that leaves nothing behind, whatever happens to the process.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use shmbus::{Bus, OpenError, Station, StationOptions};

/// A file without a name: it is reached through the descriptor, in memory where there is a place
/// for that.
pub(super) struct BusFile {
    file: File,
}

impl BusFile {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let file =
            tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).expect("a file");
        file.write_all_at(bytes, 0).expect("room for a bus");
        Self { file }
    }

    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    pub(super) fn size(&self) -> usize {
        let size = self.file.metadata().expect("an open file").len();
        usize::try_from(size).expect("some MiB")
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size()];
        self.file.read_exact_at(&mut bytes, 0).expect("no other process cuts it");
        bytes
    }

    pub(super) fn write(&self, at: u32, bytes: &[u8]) {
        self.file.write_all_at(bytes, at.into()).expect("room for a bus");
    }

    pub(super) fn cut(&self, len: u32) {
        self.file.set_len(len.into()).expect("a size a file can have");
    }

    pub(super) fn word(&self, at: u32) -> u32 {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, at.into()).expect("inside the header");
        u32::from_ne_bytes(bytes)
    }

    /// A station that hears everything and does not wait for locks.
    pub(super) fn station(&self) -> Result<Station, OpenError> {
        let options =
            StationOptions::new().promiscuous(true).lock_timeout(Duration::from_millis(1));
        Station::join(Bus::open(self.path())?, options)
    }
}
