//! The options of a node.

use port::Reporter;

/// The options of a node: how many threads it has, on which processors they run, and where it
/// reports.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    threads: Option<usize>,
    cpus: Vec<usize>,
    pub(crate) reporter: Reporter,
}

impl NodeOptions {
    /// Makes the default options: one thread, on any processor, and reports to the log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of threads, at least 1. The default is one, or one for each of the
    /// [processors](Self::cpus).
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: Some(threads), ..self }
    }

    /// Assigns the threads to these processors in turn. A processor that cannot be used is
    /// reported, and the system chooses another.
    #[must_use]
    pub fn cpus(self, cpus: impl IntoIterator<Item = usize>) -> Self {
        Self { cpus: cpus.into_iter().collect(), ..self }
    }

    /// Sets where the node reports trouble with ports and buses.
    #[must_use]
    pub fn reporter(self, reporter: Reporter) -> Self {
        Self { reporter, ..self }
    }

    /// Returns the number of threads.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.threads.unwrap_or(self.cpus.len()).max(1)
    }

    /// Returns the processor of the thread number `index`, if it has a certain one.
    pub(crate) fn cpu_of(&self, index: usize) -> Option<usize> {
        self.cpus.iter().cycle().nth(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_thread_for_each_processor_unless_a_number_is_set() {
        assert_eq!(NodeOptions::new().thread_count(), 1);
        assert_eq!(NodeOptions::new().cpus([0, 1]).thread_count(), 2);
        assert_eq!(NodeOptions::new().cpus([0, 1]).threads(3).thread_count(), 3);
        assert_eq!(NodeOptions::new().threads(0).thread_count(), 1);
    }

    #[test]
    fn processors_are_used_in_turn() {
        let options = NodeOptions::new().cpus([4, 6]);
        assert_eq!([0, 1, 2].map(|index| options.cpu_of(index)), [Some(4), Some(6), Some(4)]);
        assert_eq!(NodeOptions::new().cpu_of(1), None);
    }
}
