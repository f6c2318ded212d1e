//! A process of the demo: this program again. Its lines are read as they come, and it always ends.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::output;
use crate::process::shutdown::Shutdown;
use crate::process::{die_with_parent, name};

/// How long a process may take to end after it was asked to.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// `^C` reaches all processes at once: how long it may take until this process notices that a child
/// ended because of it.
const GRACE: Duration = Duration::from_millis(100);

/// A running process. Dropping it ends it.
pub(super) struct Child {
    name: &'static str,
    process: Process,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
    ended: bool,
}

impl Child {
    /// Starts this program again, in `folder` and with these arguments. The first process that ends
    /// removes the file `bus`, and the last one the folder.
    pub(super) fn start(
        name: &'static str,
        folder: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        bus: &str,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.arg0(name::program()).args(arguments).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        die_with_parent::end_with_parent(&mut command);
        die_with_parent::clean_up_afterwards(&mut command, bus);
        let mut process = command.spawn().with_context(|| format!("cannot start the {name}"))?;
        let (sender, lines) = channel();
        let stdout = process.stdout.take();
        let stderr = process.stderr.take();
        thread::spawn(move || stdout.map(|stdout| pass_lines(stdout, &sender)));
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            // A part of it is better than nothing.
            let _ = stderr.map(|mut stderr| stderr.read_to_string(&mut text));
            text
        });
        Ok(Self { name, process, lines, stderr: Some(stderr), ended: false })
    }

    /// Returns the next line that the process prints, if it comes within `time`.
    pub(super) fn line(
        &mut self,
        stop: &Shutdown,
        time: Duration,
    ) -> anyhow::Result<Option<String>> {
        match self.lines.recv_timeout(time) {
            Ok(line) => Ok(Some(line)),
            Err(_) if stop.requested() => bail!("interrupted"),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) if stop.sleep(GRACE) => bail!("interrupted"),
            Err(RecvTimeoutError::Disconnected) => Err(self.died()),
        }
    }

    /// Ends a process that lives but has printed nothing for `time`.
    pub(super) fn timed_out(&mut self, time: Duration) -> anyhow::Error {
        self.finish();
        anyhow!("the {} printed nothing for {} s", self.name, time.as_secs())
    }

    /// Writes a line to the stdin of the process.
    pub(super) fn send_line(&mut self, line: &str, stop: &Shutdown) -> anyhow::Result<()> {
        let stdin = self.process.stdin.as_mut();
        let written = stdin.map(|stdin| writeln!(stdin, "{line}").and_then(|()| stdin.flush()));
        match written {
            Some(Ok(())) => Ok(()),
            _ if stop.sleep(GRACE) => bail!("interrupted"),
            _ => Err(self.died()),
        }
    }

    /// Fails when the process has ended without being asked to.
    pub(super) fn check(&mut self, stop: &Shutdown) -> anyhow::Result<()> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            _ if stop.sleep(GRACE) => bail!("interrupted"),
            _ => Err(self.died()),
        }
    }

    /// Asks the process to end, and waits for that.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        match self.finish() {
            Some(status) if status.success() => Ok(()),
            _ => Err(self.died()),
        }
    }

    /// Returns the error of a process that has ended, or closed its stdout, too early.
    fn died(&mut self) -> anyhow::Error {
        let status = self.finish();
        let status = status.map_or("it had to be killed".to_owned(), |status| status.to_string());
        anyhow!("the {} has failed: {status}", self.name)
    }

    /// Ends the process if it runs, prints its stderr if it failed, and returns its status; none
    /// when it had to be killed.
    fn finish(&mut self) -> Option<ExitStatus> {
        // The reader threads end with the process, because no other process has its pipes.
        self.process.stdin = None;
        let status = self.wait();
        if !std::mem::replace(&mut self.ended, true)
            && status.is_none_or(|status| !status.success())
        {
            let stderr =
                self.stderr.take().and_then(|stderr| stderr.join().ok()).unwrap_or_default();
            stderr.lines().for_each(|line| output::note(&format!("demo: {}: {line}", self.name)));
        }
        status
    }

    fn wait(&mut self) -> Option<ExitStatus> {
        if let Ok(Some(status)) = self.process.try_wait() {
            return Some(status);
        }
        if let Ok(pid) = i32::try_from(self.process.id()) {
            // The process was not waited for, so the pid is still its own.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + EXIT_TIMEOUT;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        None
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.ended = true;
        self.finish();
    }
}

fn pass_lines(stdout: impl Read, sender: &Sender<String>) {
    let mut stdout = BufReader::new(stdout);
    let mut bytes = Vec::new();
    while stdout.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        // Also without a receiver, the pipe must not fill up and block the process.
        let _ = sender.send(String::from_utf8_lossy(&bytes).trim_end().to_owned());
        bytes.clear();
    }
}
