//! One busy test at a time. DPDK's peers poll, so each of them takes a core for itself; two such tests at once on two cores
//! would measure the scheduler. They take turns, also across processes, while light tests go on beside them.

use std::fs::File;

/// The right to keep the cores busy, until dropped (or until the process is gone).
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits for its turn. Take it in any test with a polling peer or with millions of frames, before the first process is
    /// started, so that no deadline runs while waiting.
    ///
    /// # Panics
    /// When the folder of this build cannot be locked.
    #[must_use]
    pub fn take() -> Self {
        // All integration tests of a build lie in one folder; locking that makes and leaves no lock file.
        let program = std::env::current_exe().expect("a running program has a path");
        let folder = program.parent().expect("a program lies in a folder");
        let lock = File::open(folder).unwrap_or_else(|why| panic!("open {}: {why}", folder.display()));
        lock.lock().unwrap_or_else(|why| panic!("lock {}: {why}", folder.display()));
        Self { _lock: lock }
    }
}
