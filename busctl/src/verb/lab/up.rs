//! Starting a lab, and staying until it is to end.

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use ::lab::{Client, Folder, Follower, LabError, LabState, Plan, Started};
use anyhow::{Context as _, bail};

use super::stage::{self, Stage};
use super::{UpArgs, table, totals};
use crate::context::Context;
use crate::output;
use crate::process::shutdown::Shutdown;

/// Starts the lab, and takes it down when this process is asked to stop.
pub(super) fn run(args: &UpArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let plan = args.host.read(&args.file)?;
    let stop = Shutdown::on_signals()?;
    let service = context.service();
    let Some(mut lab) = RunningLab::start(&plan, context)? else { return Ok(ExitCode::from(2)) };
    if lab.wait_ready(&stop)? {
        service.ready()?;
        lab.print(args.json)?;
        lab.stay(&stop)?;
        totals::say(&lab.state);
    }
    service.stopping();
    lab.down()?;
    Ok(ExitCode::SUCCESS)
}

/// A lab that this process has started. It goes down when this is dropped.
pub(super) struct RunningLab {
    folder: Folder,
    process: Started,
    /// To take it down. After its end another lab may have the name.
    control: Client,
    follower: Follower,
    state: LabState,
}

impl RunningLab {
    /// Starts the lab; none when its supervisor could not, and has said why.
    pub(super) fn start(plan: &Plan, context: &Context) -> anyhow::Result<Option<Self>> {
        let folder = Folder::new(&context.state_folder()?, &plan.name)?;
        let mut confine = stage::command(Stage::Confine, &folder);
        // What a terminal sends is for this process, which takes the lab down.
        std::os::unix::process::CommandExt::process_group(&mut confine, 0);
        let process = match Started::start(plan, &folder, confine) {
            Err(LabError::NotStarted) => return Ok(None),
            started => started?,
        };
        let control = Client::connect(&folder)?;
        let follower = Client::connect(&folder)?.follow()?;
        Ok(Some(Self { folder, process, control, follower, state: LabState::default() }))
    }

    /// Waits until all nodes are ready; returns `false` when this process is asked to stop before.
    ///
    /// # Errors
    /// When a node fails.
    pub(super) fn wait_ready(&mut self, stop: &Shutdown) -> anyhow::Result<bool> {
        let shows_progress = std::io::stderr().is_terminal();
        let mut shown = String::new();
        while !self.state.ready {
            if stop.wait([self.follower.as_fd()], None) {
                return Ok(false);
            }
            let Some(state) = self.follower.change()? else { continue };
            self.state = state;
            let summary = table::summary(&self.state);
            if shows_progress && summary != shown {
                eprint!("\r\x1b[K{summary}");
                shown = summary;
            }
            if let Some(failed) = &self.state.failed {
                if shows_progress {
                    eprint!("\r\x1b[K");
                }
                bail!("the lab {} was not started: {failed}", self.state.name);
            }
        }
        if shows_progress {
            eprint!("\r\x1b[K");
        }
        Ok(true)
    }

    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            output::print_json(&self.state)?;
        } else {
            table::print(&self.state)?;
        }
        Ok(output::stdout().flush()?)
    }

    /// Stays until this process is asked to stop, or the lab ends. Reports nodes that fail.
    fn stay(&mut self, stop: &Shutdown) -> anyhow::Result<()> {
        let mut reported = None;
        loop {
            if stop.wait([self.follower.as_fd()], None) {
                return Ok(());
            }
            match self.follower.change() {
                Ok(Some(state)) => self.state = state,
                Ok(None) => {}
                // By 'busctl lab down', or killed.
                Err(_) => return Ok(()),
            }
            if self.state.failed != reported {
                reported.clone_from(&self.state.failed);
                if let Some(failed) = &reported {
                    output::warn(format_args!("{failed}"));
                }
            }
        }
    }

    /// Returns the folder of the lab.
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Takes the lab down, and waits until nothing of it is left.
    pub(super) fn down(self) -> anyhow::Result<()> {
        match self.control.down() {
            // It is down already.
            Ok(()) | Err(LabError::NotUp(_) | LabError::Unreachable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        drop(self.follower);
        self.process.wait().context("cannot wait for the lab")?;
        // What a killed one has left.
        self.folder.is_up()?;
        Ok(())
    }
}
