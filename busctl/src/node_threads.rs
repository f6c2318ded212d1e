//! The threads of a node and their CPUs: flags of the verbs that run a node.

use nix::sched::CpuSet;
use node::NodeOptions;

use crate::output;

/// Flags to be flattened into a verb's own.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Threads {
    /// Run N threads [default: 1, or one for each of --cpus]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,

    /// Pin the threads to these CPUs, such as 0,2-3
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    cpus: Option<Cpus>,
}

/// CPUs, in the order they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cpus(Vec<usize>);

impl Threads {
    /// Returns the same as options of the library.
    pub(crate) fn options(&self) -> NodeOptions {
        let options = NodeOptions::new().reporter(output::reporter());
        let options = options.cpus(self.cpus.iter().flat_map(|cpus| cpus.0.iter().copied()));
        match self.threads {
            Some(threads) => options.threads(threads.into()),
            None => options,
        }
    }
}

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let wrong = || "it takes numbers and ranges of CPUs, such as 0,2-3".to_owned();
    let number = |text: &str| {
        text.parse::<usize>().ok().filter(|cpu| *cpu < CpuSet::count()).ok_or_else(wrong)
    };
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
    fn cpus_are_numbers_and_ranges() {
        assert_eq!(parse_cpus("0,2-3"), Ok(Cpus(vec![0, 2, 3])));
        assert_eq!(parse_cpus("7"), Ok(Cpus(vec![7])));
        for text in ["", "a", "1-", "3-2", "0,,1", "-1", "99999"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }
}
