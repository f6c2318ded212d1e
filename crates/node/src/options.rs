//! How a node runs.

use port::Reporter;

/// How many threads a node has, where they run, and where it reports.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    pub(crate) threads: Option<usize>,
    pub(crate) cpus: Vec<usize>,
    pub(crate) reporter: Reporter,
}

impl NodeOptions {
    /// Makes the default options: one thread, on any processor, and reports that are logged.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of threads, at least 1; otherwise there is one, or one for each of the [processors](Self::cpus).
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: Some(threads), ..self }
    }

    /// Keeps the threads on these processors, in turn. A processor that cannot be used is reported, and the system chooses.
    #[must_use]
    pub fn cpus(self, cpus: impl IntoIterator<Item = usize>) -> Self {
        Self { cpus: cpus.into_iter().collect(), ..self }
    }

    /// Sets where the node reports trouble with ports and buses.
    #[must_use]
    pub fn reporter(self, reporter: Reporter) -> Self {
        Self { reporter, ..self }
    }

    /// Returns how many threads there are to be.
    pub(crate) fn count(&self) -> usize {
        self.threads.unwrap_or(self.cpus.len()).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_thread_for_each_processor_unless_a_number_is_set() {
        assert_eq!(NodeOptions::new().count(), 1);
        assert_eq!(NodeOptions::new().cpus([0, 1]).count(), 2);
        assert_eq!(NodeOptions::new().cpus([0, 1]).threads(3).count(), 3);
        assert_eq!(NodeOptions::new().threads(0).count(), 1);
    }
}
