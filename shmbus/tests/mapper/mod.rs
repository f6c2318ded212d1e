//! A process that has a bus mapped: the test that starts it again, in a process of its own.

use std::io::{BufRead as _, BufReader, copy, sink, stdin};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const PATH: &str = "SHMBUS_TEST_MAPPER";
const KIND: &str = "SHMBUS_TEST_MAPPER_KIND";

/// A process that runs until this is dropped.
pub(crate) struct Mapper(pub(crate) Child);

impl Mapper {
    /// Starts the test `test` again, which finds `path` and `kind` in its [`role`], and waits until
    /// it [has the bus mapped](stay_mapped).
    pub(crate) fn start(test: &str, path: &Path, kind: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test, "--nocapture"])
            .env(PATH, path)
            .env(KIND, kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains("mapped"))));
        Self(child)
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the path of the bus and the kind of process that this one is to be; none in the process
/// that the user started.
pub(crate) fn role() -> Option<(PathBuf, String)> {
    Some((std::env::var_os(PATH)?.into(), std::env::var(KIND).expect("a kind")))
}

/// Reports that the bus is mapped, and waits until the process that started this one is done.
pub(crate) fn stay_mapped() {
    println!("mapped");
    let _ = copy(&mut stdin(), &mut sink());
}
