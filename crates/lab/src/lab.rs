//! A lab as a value: for tests, and for programs that drive one.

use std::env;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shmbus::{Bus, Station, StationOptions};
use tempfile::TempDir;

use crate::capture::Capture;
use crate::client::Client;
use crate::error::{LabError, at};
use crate::folder::Folder;
use crate::plan::{Check, Plan};
use crate::protocol::{Checked, LabState, NodeState, Output, Phase};
use crate::start::Started;

/// The folders that may lie in memory, where buses do best.
const IN_MEMORY: &str = "/dev/shm";
/// How long [`Lab::drop`] waits for the lab to end in good order.
const DOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// A lab that is up as long as this value, also when a test panics.
///
/// Its supervisor is the program `busctl`, which is found by the variable `BUSCTL`, else on the
/// `PATH`. Each lab has a state folder of its own, so that labs of the same name may be up at the
/// same time.
///
/// ```no_run
/// use std::time::Duration;
///
/// use lab::{Lab, Section};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let lab = Lab::builder("wire")
///     .link("wire", ["r1", "r2"], Section::new().set("prefix", "10.1.0.0/30"))
///     .node("r1", Section::new())
///     .node("r2", Section::new())
///     .start()?;
/// lab.wait_ready(Duration::from_secs(30))?;
/// let mut frames = lab.capture("wire")?;
/// assert!(lab.node("r1").exec("ping -c 1 r2")?.is_success());
/// assert!(frames.next_within(Duration::from_secs(1))?.is_some());
/// lab.set("wire", "partition=on")?;
/// assert!(!lab.node("r1").exec("ping -c 1 -W 1 r2")?.is_success());
/// lab.node("r2").kill()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Lab {
    program: PathBuf,
    folder: Folder,
    /// None when the lab was ended.
    process: Option<Started>,
    /// The state folder, which is removed last.
    state: TempDir,
}

/// A node of a [`Lab`].
#[derive(Clone, Copy, Debug)]
pub struct NodeHandle<'l> {
    lab: &'l Lab,
    name: &'l str,
}

impl Lab {
    /// Starts the lab of a lab file. It is not waited for: see [`wait_ready`](Self::wait_ready).
    ///
    /// # Errors
    /// When the file is wrong or cannot be read; as for [`start`](Self::start).
    pub fn from_file(path: &Path) -> Result<Self, LabError> {
        Self::start(&Plan::from_file(path)?)
    }

    /// Starts the lab of a plan. It is not waited for: see [`wait_ready`](Self::wait_ready).
    ///
    /// # Errors
    /// When the system denies namespaces, or the program `busctl` is not found.
    pub fn start(plan: &Plan) -> Result<Self, LabError> {
        let program = env::var_os("BUSCTL").map_or_else(|| "busctl".into(), PathBuf::from);
        Self::start_by(&program, plan)
    }

    /// As [`start`](Self::start), with the program `busctl` at this path.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_by(program: &Path, plan: &Plan) -> Result<Self, LabError> {
        let place = if Path::new(IN_MEMORY).is_dir() { IN_MEMORY.into() } else { env::temp_dir() };
        let state = tempfile::Builder::new().prefix("lab-").tempdir_in(&place);
        let state = state.map_err(at("make a folder in", &place))?;
        let folder = Folder::new(state.path(), &plan.name)?;
        let mut confine = Command::new(program);
        confine.args(["lab", "stage", "confine"]).arg(folder.path());
        let process = Some(Started::start(plan, &folder, confine)?);
        Ok(Self { program: program.to_owned(), folder, process, state })
    }

    /// Waits until all nodes are ready.
    ///
    /// # Errors
    /// When a node fails, or the time is over; the error says which.
    pub fn wait_ready(&self, timeout: Duration) -> Result<LabState, LabError> {
        self.wait(timeout, |state| {
            if let Some(failed) = &state.failed {
                return Err(failed.clone());
            }
            let waits = state.nodes.iter().find(|node| node.phase != Phase::Ready);
            Ok(waits.map(|node| format!("{} is not ready: {}", node.name, node.detail)))
        })
    }

    /// Waits until `missing` returns that nothing is; it returns an error when that is hopeless.
    fn wait(
        &self,
        timeout: Duration,
        missing: impl Fn(&LabState) -> Result<Option<String>, String>,
    ) -> Result<LabState, LabError> {
        let end = Instant::now() + timeout;
        let mut follower = Client::connect(&self.folder)?.follow()?;
        let mut what = "it has not answered".to_owned();
        loop {
            if let Some(state) = follower.change()? {
                match missing(&state).map_err(LabError::Refused)? {
                    None => return Ok(state),
                    Some(missing) => what = missing,
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seconds = timeout.as_secs_f64();
                return Err(LabError::Refused(format!("after {seconds} s: {what}")));
            }
            let nap = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            // An interrupted wait is taken up again.
            let _ = poll(&mut [PollFd::new(follower.as_fd(), PollFlags::POLLIN)], nap);
        }
    }

    /// Returns how the lab is.
    ///
    /// # Errors
    /// When it has ended; and so for the other methods.
    pub fn state(&self) -> Result<LabState, LabError> {
        Client::connect(&self.folder)?.state()
    }

    /// Returns a node. Whether there is one of this name is seen when it is used.
    #[must_use]
    pub fn node<'l>(&'l self, name: &'l str) -> NodeHandle<'l> {
        NodeHandle { lab: self, name }
    }

    /// Tries a check until it holds, or its time is over.
    ///
    /// # Errors
    /// As for [`state`](Self::state). A check that does not hold is no error.
    pub fn check(&self, check: &Check) -> Result<Checked, LabError> {
        Client::connect(&self.folder)?.check(check)
    }

    /// Changes what a LAN, or `NODE:INTERFACE`, does to frames, by words such as
    /// `delay=20ms,loss=1%`. Other words stay as they were.
    ///
    /// # Errors
    /// When there is no such link, or a word is wrong.
    pub fn set(&self, link: &str, impair: &str) -> Result<(), LabError> {
        Client::connect(&self.folder)?.set(link, impair)
    }

    /// Makes the lab that of another plan of the same name: what differs is started again.
    ///
    /// # Errors
    /// When a LAN cannot be made.
    pub fn apply(&self, plan: &Plan) -> Result<(), LabError> {
        Client::connect(&self.folder)?.apply(plan)
    }

    /// Returns the path of the bus of a LAN.
    #[must_use]
    pub fn bus(&self, lan: &str) -> PathBuf {
        self.folder.bus(lan)
    }

    /// Joins a LAN with a station of this process.
    ///
    /// # Errors
    /// When there is no such LAN.
    pub fn station(&self, lan: &str, options: StationOptions) -> Result<Station, LabError> {
        let join = || Station::join(Bus::open(self.bus(lan))?, options);
        join().map_err(|error| LabError::Refused(format!("cannot join {lan}: {error}")))
    }

    /// Returns the frames of a LAN or link, from now on.
    ///
    /// # Errors
    /// When there is no such LAN.
    pub fn capture(&self, lan: &str) -> Result<Capture, LabError> {
        Capture::from_now(&self.bus(lan))
    }

    /// Returns what the commands of a node have printed lately.
    ///
    /// # Errors
    /// When they have printed nothing.
    pub fn log(&self, node: &str) -> Result<String, LabError> {
        let path = self.folder.log(node);
        let bytes = std::fs::read(&path).map_err(at("read", &path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Takes the lab down. When this returns, nothing of it is left.
    ///
    /// # Errors
    /// When something is.
    pub fn down(mut self) -> Result<(), LabError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), LabError> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let asked = Client::connect(&self.folder).and_then(Client::down);
        process.wait_for(DOWN_TIMEOUT);
        match asked {
            // It had ended by itself.
            Err(LabError::NotUp(_) | LabError::Unreachable { .. }) => Ok(()),
            asked => asked,
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // There is no one to tell; with this process the lab ends at the latest.
        let _ = self.end();
    }
}

impl NodeHandle<'_> {
    /// Runs a command for the shell in the node, for a minute at most.
    ///
    /// # Errors
    /// When there is no such node. A command that fails is no error.
    pub fn exec(&self, command: &str) -> Result<Output, LabError> {
        self.exec_within(command, Duration::from_mins(1))
    }

    /// As [`exec`](Self::exec), with another limit of time.
    ///
    /// # Errors
    /// As for [`exec`](Self::exec).
    pub fn exec_within(&self, command: &str, within: Duration) -> Result<Output, LabError> {
        Client::connect(&self.lab.folder)?.exec(self.name, command, within)
    }

    /// Returns a command to be started in the node, with stdin, stdout and stderr as the caller
    /// sets them. The process ends with the lab at the latest.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.lab.program);
        command.arg("--state").arg(self.lab.state.path());
        command.args(["lab", "exec", self.name, "--lab", &self.lab.folder.name(), "--", program]);
        command
    }

    /// Waits until the node is ready.
    ///
    /// # Errors
    /// When it fails, or the time is over.
    pub fn wait_ready(&self, timeout: Duration) -> Result<NodeState, LabError> {
        let of = |state: &LabState| state.nodes.iter().find(|node| node.name == self.name).cloned();
        let state = self.lab.wait(timeout, |state| {
            let node = of(state).ok_or_else(|| format!("there is no node {}", self.name))?;
            match node.phase {
                Phase::Ready => Ok(None),
                Phase::Failed => Err(format!("{}: {}", self.name, node.detail)),
                _ => Ok(Some(format!("{} is not ready: {}", self.name, node.detail))),
            }
        })?;
        of(&state).ok_or_else(|| LabError::Refused(format!("there is no node {}", self.name)))
    }

    /// Returns how the node is, with its addresses.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn state(&self) -> Result<NodeState, LabError> {
        let nodes = self.lab.state()?.nodes;
        let found = nodes.into_iter().find(|node| node.name == self.name);
        found.ok_or_else(|| LabError::Refused(format!("there is no node {}", self.name)))
    }

    /// Kills the processes of the node, as by a crash. Its services are started again if they are
    /// to be.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn kill(&self) -> Result<(), LabError> {
        Client::connect(&self.lab.folder)?.kill(self.name)
    }

    /// Ends the processes of the node, and starts it again with a new namespace.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn restart(&self) -> Result<(), LabError> {
        Client::connect(&self.lab.folder)?.restart(self.name)
    }
}
