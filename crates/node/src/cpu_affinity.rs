//! Which processor a thread of a node runs on.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use port::Reporter;

/// Puts the calling thread, the node's thread number `index`, on its processor of `cpus`, if there are any.
pub(crate) fn pin(index: usize, cpus: &[usize], reporter: &Reporter) {
    if cpus.is_empty() {
        return;
    }
    let cpu = cpus[index % cpus.len()];
    let mut set = CpuSet::new();
    if let Err(error) = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)) {
        let why = error.desc();
        reporter.warn(&format!("cannot use processor {cpu}: {why}; the system chooses one"));
    }
}
