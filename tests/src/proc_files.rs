//! What the kernel reports about processes and memory in `/proc`.

use std::fs;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Returns the processor time that a process has used so far, of all its threads, in nanoseconds
/// and not in the clock ticks of `/proc/PID/stat`.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn cpu_time(pid: u32) -> Duration {
    let time = clock_getcpuclockid(to_pid(pid)).and_then(clock_gettime);
    time.unwrap_or_else(|why| panic!("the processor time of process {pid}: {why}")).into()
}

/// Returns how often the threads of a process have waited for something so far.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn voluntary_switches(pid: u32) -> u64 {
    let folder = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&folder).unwrap_or_else(|why| panic!("list {folder}: {why}"));
    // A thread may end before its file is read.
    let statuses = tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter_map(|status| switches_in(&status));
    statuses.sum()
}

/// Returns the processes whose parent is `pid`, also those that have ended and are not reaped.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let child = |name: &str| {
        let child = name.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        (parent_in(&stat)? == pid).then_some(child)
    };
    processes.filter_map(|entry| child(entry.ok()?.file_name().to_str()?)).collect()
}

/// Returns the bytes of memory that programs can still use, or `None` where the kernel does not
/// say.
#[must_use]
pub fn available_memory() -> Option<u64> {
    available_in(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn to_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("process ids fit"))
}

/// Returns the number behind `key` and a colon in a file of such lines.
fn number(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.split_whitespace().next()?.parse().ok())
}

/// Returns the voluntary switches in a `/proc/PID/status`.
fn switches_in(status: &str) -> Option<u64> {
    number(status, "voluntary_ctxt_switches")
}

/// Returns the available bytes in a `/proc/meminfo`.
fn available_in(meminfo: &str) -> Option<u64> {
    number(meminfo, "MemAvailable")?.checked_mul(1_024)
}

/// Returns the parent in a `/proc/PID/stat`.
fn parent_in(stat: &str) -> Option<u32> {
    // Skip the name, which is in parentheses and may contain anything, and the state.
    let fields = stat.rsplit_once(')')?.1;
    fields.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tbusctl\nState:\tS (sleeping)\nThreads:\t2\n\
                          nonvoluntary_ctxt_switches:\t66\nvoluntary_ctxt_switches:\t2083\n";

    #[test]
    fn voluntary_switches_are_not_the_others() {
        assert_eq!(switches_in(STATUS), Some(2_083));
        assert_eq!(switches_in("Name:\tbusctl\n"), None);
        assert_eq!(switches_in("voluntary_ctxt_switches:\tmany\n"), None);
    }

    #[test]
    fn available_memory_is_in_kilobytes() {
        let meminfo = "MemTotal:       24684092 kB\nMemFree:         2279768 kB\n\
                       MemAvailable:         10 kB\n";
        assert_eq!(available_in(meminfo), Some(10_240));
        assert_eq!(available_in("MemTotal:       24684092 kB\n"), None);
    }

    #[test]
    fn a_process_is_parsed_whatever_its_name() {
        assert_eq!(parent_in("12 (busctl) S 7 12 12 0 -1"), Some(7));
        assert_eq!(parent_in("12 (a) R 9 (b) S 7 12 12 0 -1"), Some(7));
        assert_eq!(parent_in("12 (busctl) Z"), None);
        assert_eq!(parent_in("12 (busctl"), None);
    }

    #[test]
    fn this_process_uses_time_and_has_a_parent() {
        let own = std::process::id();
        let parent = nix::unistd::getppid().as_raw().cast_unsigned();
        assert!(cpu_time(own) > Duration::ZERO);
        let before = voluntary_switches(own);
        std::thread::sleep(Duration::from_millis(1));
        assert!(voluntary_switches(own) > before);
        assert!(children(parent).contains(&own));
    }
}
