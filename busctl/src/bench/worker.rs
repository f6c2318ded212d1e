//! The processes of a measurement as their parent sees them. Their dialogue is lines on stdin and
//! stdout:
//!
//! | parent | worker |
//! |---|---|
//! | starts it with its [`Job`] as JSON | |
//! | | `ready` |
//! | `go` | sends, or receives |
//! | (but for senders) closes its stdin | |
//! | | its result as JSON |

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::DeserializeOwned;

use super::protocol::Job;
use crate::process::shutdown::Shutdown;

fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}

/// A worker process. Dropping this kills it.
#[derive(Debug)]
pub(super) struct Worker<'s> {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stop: &'s Shutdown,
}

impl<'s> Worker<'s> {
    /// Starts a worker.
    pub(super) fn start(job: &Job, stop: &'s Shutdown) -> anyhow::Result<Self> {
        let job = serde_json::to_string(job)?;
        Self::spawn(Command::new(program()?).args(["bench", "bus", "--worker", &job]), stop)
    }

    /// Starts a node with these ports on the bus `path`, and waits until it is ready.
    pub(super) fn node(path: &Path, ports: &[String], stop: &'s Shutdown) -> anyhow::Result<Self> {
        // Its notes about peers that come and go are not shown.
        let command = &mut Command::new(program()?);
        let mut node =
            Self::spawn(command.arg("attach").arg(path).args(ports).stderr(Stdio::piped()), stop)?;
        if let Err(error) = node.wait_until_ready() {
            let mut notes = String::new();
            if let Some(stderr) = &mut node.child.stderr {
                // A part of it is better than nothing.
                let _ = stderr.read_to_string(&mut notes);
            }
            return Err(error.context(notes).context("the node is not available"));
        }
        Ok(node)
    }

    fn spawn(command: &mut Command, stop: &'s Shutdown) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a worker")?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("a worker without stdout")?);
        Ok(Self { child, stdin, stdout, stop })
    }

    pub(super) fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let line = self.line()?;
        if line == "ready" { Ok(()) } else { bail!("a worker printed '{line}' instead of 'ready'") }
    }

    pub(super) fn go(&mut self) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("a worker without stdin")?;
        stdin.write_all(b"go\n").context("a worker is gone")
    }

    /// Stops a receiver: no more frames are sent.
    pub(super) fn stop(&mut self) {
        self.stdin = None;
    }

    pub(super) fn result<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("a worker printed '{line}'"))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        // Each line is one answer, so the buffer is empty here.
        let mut fds = [
            PollFd::new(self.stdout.get_ref().as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
        ];
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot wait for a worker"),
            }
        }
        if self.stop.requested() {
            bail!("stopped before it was done");
        }
        let mut line = String::new();
        if self.stdout.read_line(&mut line).context("cannot read from a worker")? == 0 {
            bail!("a worker has failed");
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
