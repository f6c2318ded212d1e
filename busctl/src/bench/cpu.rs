//! Keeping a process on one processor, so that two that are measured do not share one by chance.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps this thread on the `index`-th of the processors it may run on, counted around. Where that is not possible it
/// stays where it is: the measurement is only less steady.
pub(super) fn pin(index: usize) {
    let this = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(this) else { return };
    let allowed: Vec<usize> =
        (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    let mut set = CpuSet::new();
    if !allowed.is_empty() && set.set(allowed[index % allowed.len()]).is_ok() {
        let _ = sched_setaffinity(this, &set);
    }
}
