//! A lock on the machine's processors. DPDK's peers poll, so each of them keeps a core busy. Two
//! such tests at once on two cores would measure the scheduler, so they run one at a time, also
//! across processes. Light tests run beside them.

use std::fs::File;

/// The right to keep the cores busy, until dropped or until the process ends.
#[derive(Debug)]
pub struct CpuLock {
    _lock: File,
}

impl CpuLock {
    /// Waits for the lock. Take it in any test with a polling peer or with millions of frames,
    /// before the first process is started, so that no deadline runs during the wait.
    ///
    /// # Panics
    /// When the folder of this build cannot be locked.
    #[must_use]
    pub fn acquire() -> Self {
        // All integration tests of a build are in one folder. Locking the folder leaves no lock
        // file.
        let program = std::env::current_exe().expect("a running program has a path");
        let folder = program.parent().expect("a program is in a folder");
        let lock =
            File::open(folder).unwrap_or_else(|why| panic!("open {}: {why}", folder.display()));
        lock.lock().unwrap_or_else(|why| panic!("lock {}: {why}", folder.display()));
        Self { _lock: lock }
    }
}
