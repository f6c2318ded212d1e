//! How many threads a node has and where they run: flags of the verbs that run one.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::output;

/// Flags to be flattened into a verb's own.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Threads {
    /// Serve interfaces with N threads [default: 1, or one for each of --cpus]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,

    /// Keep the threads on these processors, such as 0,2-3
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    pub cpus: Option<Cpus>,
}

/// Processors, in the order they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus(Vec<usize>);

impl Threads {
    /// How many threads there are to be.
    pub(super) fn count(&self) -> usize {
        let cpus = || self.cpus.as_ref().map_or(1, |cpus| cpus.0.len());
        self.threads.map_or_else(cpus, usize::from)
    }

    /// Puts the calling thread, the node's thread number `index`, where it is to be.
    pub(super) fn settle(&self, index: usize) {
        let Some(Cpus(cpus)) = &self.cpus else { return };
        let cpu = cpus[index % cpus.len()];
        let mut set = CpuSet::new();
        if let Err(error) = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)) {
            let why = error.desc();
            output::warn(format_args!("cannot use processor {cpu}: {why}; the system chooses one"));
        }
    }
}

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let wrong = || "it takes numbers and ranges of processors, such as 0,2-3".to_owned();
    let number =
        |text: &str| text.parse::<usize>().ok().filter(|cpu| *cpu < CpuSet::count()).ok_or_else(wrong);
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = number(first)?..=number(last)?;
        if range.is_empty() {
            return Err(wrong());
        }
        cpus.extend(range);
    }
    Ok(Cpus(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_numbers_and_ranges() {
        assert_eq!(parse_cpus("0,2-3"), Ok(Cpus(vec![0, 2, 3])));
        assert_eq!(parse_cpus("7"), Ok(Cpus(vec![7])));
        for text in ["", "a", "1-", "3-2", "0,,1", "-1", "99999"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn there_is_a_thread_for_each_processor_unless_told_otherwise() {
        let cpus = Some(Cpus(vec![0, 1]));
        assert_eq!(Threads::default().count(), 1);
        assert_eq!(Threads { threads: None, cpus: cpus.clone() }.count(), 2);
        assert_eq!(Threads { threads: Some(3), cpus }.count(), 3);
    }
}
