//! A process that runs an interface, played by the test: it holds the lock that says so, and writes
//! the reports that `show` and `up` read. Only the files of the state folder are used, so these
//! tests hold for runners of any version.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Holds the claim on an interface until it is dropped.
pub(crate) struct Runner {
    _lock: File,
    state: PathBuf,
    name: String,
}

impl Runner {
    /// Claims the interface `name` of the registry in `state`.
    pub(crate) fn claim(state: &Path, name: &str) -> Self {
        let folder = state.join("running");
        fs::create_dir_all(&folder).unwrap();
        let mut lock = File::create(folder.join(name)).unwrap();
        lock.try_lock().unwrap();
        writeln!(lock, "{}", std::process::id()).unwrap();
        let runner = Self { _lock: lock, state: state.to_owned(), name: name.to_owned() };
        runner.report(&runner.record(), "", &[]);
        runner
    }

    /// The record as it is now.
    pub(crate) fn record(&self) -> toml::Table {
        let path = self.state.join("interfaces").join(format!("{}.toml", self.name));
        fs::read_to_string(path).unwrap().parse().unwrap()
    }

    /// Reports that `record` is acted on, or the trouble with it, and what was counted.
    pub(crate) fn report(&self, record: &toml::Table, trouble: &str, counters: &[(&str, i64)]) {
        let mut report = toml::Table::new();
        report.insert("revision".to_owned(), record["revision"].clone());
        if !trouble.is_empty() {
            report.insert("trouble".to_owned(), trouble.into());
        }
        let counters: toml::Table =
            counters.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        report.insert("counters".to_owned(), counters.into());
        let folder = self.state.join("reports");
        fs::create_dir_all(&folder).unwrap();
        // Replaced as a whole: a reader sees the old report or the new one.
        let new = folder.join(format!(".{}.new", self.name));
        fs::write(&new, report.to_string()).unwrap();
        fs::rename(new, folder.join(format!("{}.toml", self.name))).unwrap();
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Gone already when the interface was destroyed.
        let _ = fs::remove_file(self.state.join("running").join(&self.name));
    }
}
