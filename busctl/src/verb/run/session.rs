//! The processes of one `run`, as the first of them sees them.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use super::channel::Channel;
use super::id_maps;
use super::init::{exit_code, signal_code};
use super::messages::{Failure, FromInside, Go, Plan, Space, Step, ToSetup};
use super::stage::{self, Stage};
use crate::denied;
use crate::misuse::misuse;
use crate::process::signals::Signals;

/// The namespaces while they are set up. Dropping this ends them.
pub(super) struct Session {
    signals: Signals,
    channel: Channel,
    setup: Child,
    is_new: bool,
}

/// A signal that came before the command ran.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("interrupted by {0}")]
pub(super) struct Interrupted(Signal);

impl Interrupted {
    /// Returns the exit code of a process that the signal has ended.
    pub(super) fn code(self) -> ExitCode {
        ExitCode::from(signal_code(self.0))
    }
}

impl Session {
    /// Makes the namespaces of `plan`, for a command.
    ///
    /// # Errors
    /// When that is not possible here; the error names the setting that denies it.
    pub(super) fn start(plan: &Plan, command: &[OsString]) -> anyhow::Result<Self> {
        let signals = Signals::block().context("cannot handle signals")?;
        // The process that makes the namespaces leaves their init to this one.
        set_child_subreaper(true).context("cannot adopt processes")?;
        let (channel, theirs) = Channel::pair().context("cannot make a channel")?;
        let setup = stage::command(Stage::Setup, command, theirs)
            .spawn()
            .context("cannot start this program again")?;
        let mut session = Self { signals, channel, setup, is_new: plan.space == Space::New };
        session.send(plan)?;
        session.expect(|message| matches!(message, FromInside::Entered).then_some(()))?;
        if session.is_new {
            id_maps::write(session.setup.id(), plan.user).map_err(|error| {
                let what = format!("cannot map the ids of a user namespace: {error}");
                misuse(anyhow!("{what}: {}", denied::explain(error.raw_os_error())))
            })?;
        }
        session.send(&ToSetup::Mapped)?;
        Ok(session)
    }

    /// Returns the interfaces that were made, by name and as TAP descriptors.
    pub(super) fn taps(&mut self) -> anyhow::Result<Vec<(String, OwnedFd)>> {
        let (names, descriptors) = self.expect(|message| match message {
            FromInside::Taps(names) => Some(names),
            _ => None,
        })?;
        Ok(names.into_iter().zip(descriptors).collect())
    }

    /// Sets the interfaces up with these MTUs, and starts the command.
    pub(super) fn go(mut self, mtus: Vec<u32>) -> anyhow::Result<Running> {
        self.send(&ToSetup::Configure(mtus))?;
        let (mut pid, mut is_ready) = (None, false);
        while pid.is_none() || !is_ready {
            self.expect(|message| match message {
                FromInside::Init(init) => pid.replace(Pid::from_raw(init)).is_none().then_some(()),
                FromInside::Ready => (!std::mem::replace(&mut is_ready, true)).then_some(()),
                _ => None,
            })?;
        }
        let init = pid.context("the namespace has no first process")?;
        // From its end on, init is a child of this process.
        self.setup.wait().context("cannot wait for the namespace")?;
        // A namespace that has ended is found in the next step.
        let _ = self.channel.send(&Go, &[io::stdin().as_fd()]);
        // Init that ends without a word has an exit code, which is that of `run`. Signals wait
        // meanwhile: CMD may run already, and is to have them.
        let is_started = matches!(self.channel.receive(), Ok((FromInside::Running, _)));
        Ok(Running { session: self, init, is_started })
    }

    fn send(&self, message: &impl serde::Serialize) -> anyhow::Result<()> {
        match self.channel.send(message, &[]) {
            // Why it has ended is in its last message, or in its status.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent.context("cannot reach the namespace"),
        }
    }

    /// Waits for a message of setup.
    fn expect<T>(
        &mut self,
        wanted: impl FnOnce(FromInside) -> Option<T>,
    ) -> anyhow::Result<(T, Vec<OwnedFd>)> {
        match self.receive()? {
            (FromInside::Failed(failure), _) => Err(self.failed(&failure)),
            (message, descriptors) => match wanted(message) {
                Some(wanted) => Ok((wanted, descriptors)),
                None => bail!("the processes of 'busctl run' do not agree; this is a bug"),
            },
        }
    }

    fn receive<T: DeserializeOwned>(&mut self) -> anyhow::Result<(T, Vec<OwnedFd>)> {
        loop {
            let mut events = [
                PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut events, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("cannot wait for the namespace"),
            }
            if events[0].any() == Some(true) {
                break;
            }
            while let Some(received) = self.signals.next() {
                if let Some(signal) = received.to_end() {
                    return Err(Interrupted(signal).into());
                }
            }
        }
        self.channel.receive().map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                let status = self.setup.wait().map(|status| status.to_string());
                anyhow!(
                    "the process that makes the namespace has ended: {}",
                    status.unwrap_or_else(|error| error.to_string())
                )
            }
            _ => anyhow::Error::new(error).context("cannot hear from the namespace"),
        })
    }

    /// Returns the error of setup, with the setting that denies it and what works instead.
    fn failed(&self, failure: &Failure) -> anyhow::Error {
        let Failure { step, text, errno } = failure;
        let text = match step {
            Step::Device => format!("{text}; {}", denied::without_device()),
            Step::Namespaces if self.is_new => format!("{text}: {}", denied::explain(*errno)),
            // AppArmor lets the namespace be made, and denies what is done in it.
            Step::Later if self.is_new && denied::is_denial(*errno) => {
                format!("{text}: {}", denied::explain(*errno))
            }
            Step::Namespaces | Step::Later => text.clone(),
        };
        misuse(anyhow!(text))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended when the command runs; the namespaces end with the channel.
        let _ = self.setup.kill();
        let _ = self.setup.wait();
    }
}

/// A command in its namespace. Dropping this ends it.
pub(super) struct Running {
    session: Session,
    init: Pid,
    is_started: bool,
}

impl Running {
    /// Returns whether the command was started. Otherwise its exit code says why not.
    pub(super) fn is_started(&self) -> bool {
        self.is_started
    }

    /// Waits until the command ends, one of `others` polls readable, or `time` is over. Hands on
    /// signals meanwhile. Returns the exit code when the command has ended.
    pub(super) fn wait<'fd>(
        &'fd self,
        others: impl IntoIterator<Item = BorrowedFd<'fd>>,
        time: Duration,
    ) -> anyhow::Result<Option<ExitCode>> {
        let watch = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
        let mut descriptors: Vec<_> = others.into_iter().map(watch).collect();
        descriptors.push(watch(self.session.signals.as_fd()));
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for the command"),
        }
        while let Some(received) = self.session.signals.next() {
            if let Some(signal) = received.to_hand_on() {
                // Init has not been waited for, so the pid is its own.
                let _ = kill(self.init, signal);
            }
        }
        let status = waitpid(self.init, Some(WaitPidFlag::WNOHANG))
            .context("cannot wait for the command")?;
        Ok(exit_code(status).map(|(_, code)| ExitCode::from(code)))
    }
}
