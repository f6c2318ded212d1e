//! A child process whose output is kept and which cannot outlive its owner.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::{WAIT_TIMEOUT, wait};

/// The stream that a child wrote a line to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// One line of a child's output, without its line end.
#[derive(Clone, Debug)]
pub struct Line {
    /// The stream it was written to.
    pub stream: Stream,
    /// The text; invalid UTF-8 is replaced.
    pub text: String,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Vec<Line>>,
    grew: Condvar,
}

/// A running child. Dropping it kills its process group and reaps it. If the test itself dies, the
/// kernel kills the child.
///
/// The thread that spawned it must outlive it: for the kernel the spawning *thread* is the parent
/// whose death ends the child.
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

/// A child that has ended, with all its output.
#[derive(Debug)]
pub struct Finished {
    /// The command, for messages.
    pub name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Everything on standard output.
    pub stdout: String,
    /// Everything on standard error.
    pub stderr: String,
}

impl Process {
    /// Starts `command` in a process group of its own, with standard input kept open.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: the closure runs in the forked child before exec; prctl is one system call, and
        // async-signal-safe.
        unsafe {
            // This runs after the change of user, which would clear the signal. A killed test run
            // leaves no orphans.
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
        }
        let mut child =
            command.spawn().unwrap_or_else(|why| panic!("start {name} ({command:?}): {why}"));
        let output = Arc::new(Output::default());
        let stdout = child.stdout.take().expect("stdout was piped");
        let stderr = child.stderr.take().expect("stderr was piped");
        let readers =
            vec![collect(stdout, Stream::Out, &output), collect(stderr, Stream::Err, &output)];
        let stdin = child.stdin.take();
        Self { name: name.to_owned(), child, stdin, output, readers, status: None }
    }

    /// Returns the child's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit"))
    }

    /// Returns how many lines were written so far, as a mark for [`wait_after`](Self::wait_after).
    #[must_use]
    pub fn mark(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.output.lines.lock().expect("a reader panicked")
    }

    /// Returns the lines written so far, from number `mark` on.
    #[must_use]
    pub fn lines_after(&self, mark: usize) -> Vec<Line> {
        self.lock().get(mark..).unwrap_or_default().to_vec()
    }

    /// Waits for a line that contains `pattern`, from the start of the output on, and returns it.
    ///
    /// # Panics
    /// When none comes within [`WAIT_TIMEOUT`] or before the child ends. The message contains all
    /// its output.
    #[allow(
        clippy::must_use_candidate,
        reason = "most callers wait for the line, and know its text"
    )]
    pub fn wait_for_line(&self, pattern: &str) -> String {
        self.wait_after(0, pattern)
    }

    /// Waits like [`wait_for_line`](Self::wait_for_line), but only for a line from number `mark`
    /// on.
    #[allow(
        clippy::must_use_candidate,
        reason = "most callers wait for the line, and know its text"
    )]
    pub fn wait_after(&self, mark: usize, pattern: &str) -> String {
        self.wait_for(mark, WAIT_TIMEOUT, &format!("a line with {pattern:?}"), |line| {
            line.text.contains(pattern)
        })
    }

    /// Waits for a line, from number `mark` on, that satisfies `fits`, and returns it.
    ///
    /// # Panics
    /// When none comes before the deadline or before both streams end. The message names `what` and
    /// contains all output.
    #[allow(
        clippy::must_use_candidate,
        reason = "most callers wait for the line, and know its text"
    )]
    pub fn wait_for(
        &self,
        mark: usize,
        deadline: Duration,
        what: &str,
        fits: impl Fn(&Line) -> bool,
    ) -> String {
        let end = Instant::now() + deadline;
        let mut lines = self.lock();
        loop {
            // Read this before the lines: if both streams have ended, the lines are complete.
            let ended = self.readers.iter().all(JoinHandle::is_finished);
            if let Some(line) = lines.iter().skip(mark).find(|line| fits(line)) {
                return line.text.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || ended {
                drop(lines);
                let why = if ended { "it ended" } else { "time is up" };
                panic!("{}: waited for {what}, but {why}\n{}", self.name, self.transcript());
            }
            // Bounded, because a reader that ends does not notify the condition variable.
            let nap = left.min(Duration::from_millis(50));
            lines = self.output.grew.wait_timeout(lines, nap).expect("a reader panicked").0;
        }
    }

    /// Types a line into the child's standard input.
    ///
    /// # Panics
    /// When the child no longer reads.
    pub fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        let typed = stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush());
        if let Err(why) = typed {
            panic!("{}: cannot type {line:?}: {why}\n{}", self.name, self.transcript());
        }
    }

    /// Sends the child (not its group) a signal.
    ///
    /// # Panics
    /// When the child is gone.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal)
            .unwrap_or_else(|why| panic!("{}: {signal}: {why}\n{}", self.name, self.transcript()));
    }

    /// Interrupts the whole process group, as a terminal does on `^C`, and waits for the child's
    /// end.
    ///
    /// # Panics
    /// When it does not end within [`WAIT_TIMEOUT`].
    #[must_use]
    pub fn interrupt(self) -> Finished {
        killpg(self.pid(), Signal::SIGINT)
            .unwrap_or_else(|why| panic!("{}: interrupt: {why}\n{}", self.name, self.transcript()));
        self.finish(WAIT_TIMEOUT)
    }

    /// Kills the whole process group with `SIGKILL` and reaps the child. No handler and no clean-up
    /// runs.
    pub fn kill(&mut self) {
        if self.status.is_none() {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            self.status = self.child.wait().ok();
        }
    }

    /// Returns whether the child still runs.
    pub fn is_running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be asked");
        }
        self.status.is_none()
    }

    /// Waits for the child's end and returns all its output. Standard input stays open until then.
    ///
    /// # Panics
    /// When it still runs after the deadline. The message contains all its output.
    #[must_use]
    pub fn finish(mut self, deadline: Duration) -> Finished {
        let ended = wait::poll(deadline, || (!self.is_running()).then_some(())).is_some();
        assert!(ended, "{} still runs after {deadline:?}\n{}", self.name, self.transcript());
        // Processes that the child left behind hold the pipes open, so kill them before joining the
        // readers.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader panicked");
        }
        let lines = self.lock();
        let all = |stream| {
            lines.iter().filter(|line| line.stream == stream).fold(
                String::new(),
                |mut text, line| {
                    text.push_str(&line.text);
                    text.push('\n');
                    text
                },
            )
        };
        Finished {
            name: self.name.clone(),
            status: self.status.expect("it has ended"),
            stdout: all(Stream::Out),
            stderr: all(Stream::Err),
        }
    }

    /// Returns all the child's output so far, for a failure message.
    #[must_use]
    pub fn transcript(&self) -> String {
        let mut text = format!("---- {} (pid {}) wrote:\n", self.name, self.child.id());
        for line in self.lock().iter() {
            let stream = if line.stream == Stream::Out { "out" } else { "err" };
            let _ = writeln!(text, "{stream}| {}", line.text);
        }
        text.push_str("----");
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            // The test runner shows this output of the process with the failed test.
            eprintln!("{}", self.transcript());
        }
    }
}

impl Finished {
    /// Asserts that it succeeded, and returns its standard output.
    ///
    /// # Panics
    /// When it failed.
    #[allow(
        clippy::must_use_candidate,
        reason = "the assertion is the point; what it returns is a convenience"
    )]
    pub fn succeeds(&self) -> &str {
        assert!(self.status.success(), "should have succeeded: {self}");
        &self.stdout
    }

    /// Asserts exit status `code`, nothing on standard output, and exactly one line on standard
    /// error. The line has the form `busctl: ...` and contains each of `causes`, in any case.
    /// Returns the line.
    ///
    /// # Panics
    /// When one of these assertions fails.
    #[allow(
        clippy::must_use_candidate,
        reason = "the assertion is the point; what it returns is a convenience"
    )]
    pub fn fails_with(&self, code: i32, causes: &[&str]) -> &str {
        assert_eq!(self.status.code(), Some(code), "exit status of {self}");
        assert_eq!(self.stdout, "", "nothing on standard output of {self}");
        let line = self.stderr.trim_end_matches('\n');
        assert!(
            !line.is_empty() && !line.contains('\n'),
            "exactly one line on standard error of {self}"
        );
        assert!(line.starts_with("busctl: "), "the line starts with busctl: {self}");
        for cause in causes {
            assert!(
                line.to_lowercase().contains(&cause.to_lowercase()),
                "the line names {cause:?}: {self}"
            );
        }
        line
    }

    /// Returns the one JSON object it printed.
    ///
    /// # Panics
    /// When it failed, or printed anything else.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        self.succeeds();
        self.report()
    }

    /// Returns the one JSON object it printed, even if it failed, as a ping does that loses
    /// answers.
    ///
    /// # Panics
    /// When it printed anything else.
    #[must_use]
    pub fn report(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|why| panic!("no JSON ({why}): {self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, status, stdout, stderr } = self;
        write!(f, "{name}\n---- {status}\n---- stdout:\n{stdout}---- stderr:\n{stderr}----")
    }
}

fn collect(
    stream: impl Read + Send + 'static,
    which: Stream,
    output: &Arc<Output>,
) -> JoinHandle<()> {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        while stream.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            output
                .lines
                .lock()
                .expect("a test panicked with the lines")
                .push(Line { stream: which, text });
            output.grew.notify_all();
            bytes.clear();
        }
    })
}
