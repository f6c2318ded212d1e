//! The processes of a measurement, and how they talk: lines on stdin and stdout.
//!
//! | parent | worker |
//! |---|---|
//! | starts it with its [`Job`] as JSON | |
//! | | `ready` |
//! | `go` | sends, or receives |
//! | (receivers only) closes its stdin | |
//! | | its result as JSON |

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::frames::Tally;
use super::{Load, bus, cpu, memif};
use crate::output;

/// How long a receiver that was told to stop waits for frames still on their way.
const QUIET: Duration = Duration::from_millis(200);

/// What a worker is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) role: Role,
    pub(super) medium: Medium,
    pub(super) load: Load,
    /// Which of the processors to stay on; `None`: any.
    pub(super) cpu: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    Send,
    Receive,
}

/// What a worker sends to or receives from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Medium {
    Bus { path: PathBuf },
    Memif { spec: String },
}

/// Does the job in `text`, a `Job` as JSON: the body of a worker process.
///
/// # Errors
/// Whatever keeps it from being done.
pub fn work(text: &str) -> anyhow::Result<()> {
    let job: Job = serde_json::from_str(text).context("not a job")?;
    if let Some(index) = job.cpu {
        cpu::pin(index);
    }
    match (&job.medium, job.role) {
        (Medium::Bus { path }, Role::Send) => bus::send(path, job.load),
        (Medium::Bus { path }, Role::Receive) => bus::receive(path, job.load),
        (Medium::Memif { spec }, Role::Send) => memif::send(spec, job.load),
        (Medium::Memif { spec }, Role::Receive) => memif::receive(spec, job.load),
    }
}

/// Says that the worker is ready, and waits for its parent to be.
pub(super) fn wait_for_go() -> anyhow::Result<()> {
    writeln!(output::stdout(), "ready")?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("cannot read from the parent")?;
    if line.trim() != "go" {
        bail!("the parent is gone");
    }
    Ok(())
}

/// A receiver's end: it goes on until its parent has closed its stdin and nothing has come for a while.
#[derive(Debug)]
pub(super) struct Until {
    closed: Arc<AtomicBool>,
    quiet_since: Option<Instant>,
}

impl Until {
    pub(super) fn stdin_closes() -> Self {
        let closed = Arc::new(AtomicBool::new(false));
        let close = Arc::clone(&closed);
        std::thread::spawn(move || {
            // An error is an end as well.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            close.store(true, Ordering::Release);
        });
        Self { closed, quiet_since: None }
    }

    /// Whether it is time to stop, after a look that found `frames` frames.
    #[inline]
    pub(super) fn over(&mut self, frames: usize, tally: &mut Tally) -> bool {
        if frames > 0 {
            tally.touch();
            self.quiet_since = None;
            return false;
        }
        self.closed.load(Ordering::Acquire)
            && self.quiet_since.get_or_insert_with(Instant::now).elapsed() >= QUIET
    }
}

fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}

/// A worker as its parent sees it. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a worker.
    pub(super) fn start(job: &Job) -> anyhow::Result<Self> {
        Self::spawn(Command::new(program()?).args(["bench", "bus", "--worker", &serde_json::to_string(job)?]))
    }

    /// Starts a node with these ports on the bus `path`, and waits until they can be used.
    pub(super) fn node(path: &Path, ports: &[String]) -> anyhow::Result<Self> {
        // That its peers come and go is no news here.
        let command = &mut Command::new(program()?);
        let mut node = Self::spawn(command.arg("attach").arg(path).args(ports).stderr(Stdio::piped()))?;
        if let Err(error) = node.wait_until_ready() {
            let mut words = String::new();
            if let Some(stderr) = &mut node.child.stderr {
                // What there is of them is better than nothing.
                let _ = stderr.read_to_string(&mut words);
            }
            return Err(error.context(words).context("the node is not to be had"));
        }
        Ok(node)
    }

    fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start a worker")?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("a worker without stdout")?);
        Ok(Self { child, stdin, stdout })
    }

    pub(super) fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let line = self.line()?;
        if line == "ready" { Ok(()) } else { bail!("a worker said '{line}' and not that it is ready") }
    }

    pub(super) fn go(&mut self) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("a worker without stdin")?;
        stdin.write_all(b"go\n").context("a worker is gone")
    }

    /// Tells a receiver that no more is sent.
    pub(super) fn stop(&mut self) {
        self.stdin = None;
    }

    pub(super) fn result<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("a worker said '{line}'"))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line).context("cannot read from a worker")? == 0 {
            bail!("a worker gave up");
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
