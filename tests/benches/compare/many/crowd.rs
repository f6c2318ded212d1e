//! Idle hosts beside those that are measured.

use std::ops::Range;
use std::path::Path;

use nix::sys::signal::Signal;
use system_tests::{Lab, Process, WAIT_TIMEOUT};

/// Hosts that are started at once. A memif server limits how many clients it waits for.
const AT_ONCE: usize = 16;

/// How hosts are distributed over processes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    Processes,
    OneProcess,
}

impl Form {
    /// Describes `count` hosts, in few words.
    pub(super) fn describe(self, count: usize) -> String {
        match self {
            Self::Processes => format!("{count} processes"),
            Self::OneProcess => format!("{count} in one process"),
        }
    }
}

/// Idle hosts. They end in good order when this is dropped, so that a bus forgets them.
pub(super) struct Crowd {
    processes: Vec<Process>,
}

impl Crowd {
    /// Starts `count` hosts on a bus.
    pub(super) fn on_bus(lab: &Lab, bus: &str, form: Form, count: usize) -> Self {
        let host = |number| vec!["host".to_owned(), bus.to_owned(), address(number)];
        let commands = match form {
            Form::Processes => (1..=count).map(host).collect(),
            Form::OneProcess => {
                let mut command = host(1);
                command.extend(["--count".to_owned(), count.to_string()]);
                vec![command]
            }
        };
        Self::start(lab, &commands)
    }

    /// Starts a host behind each of these interfaces of a memif socket.
    pub(super) fn on_memif(lab: &Lab, socket: &Path, ids: Range<usize>) -> Self {
        let host = |id| vec!["host".to_owned(), memif_client(socket, id), address(id)];
        Self::start(lab, &ids.map(host).collect::<Vec<_>>())
    }

    fn start(lab: &Lab, commands: &[Vec<String>]) -> Self {
        let mut processes = Vec::new();
        for commands in commands.chunks(AT_ONCE) {
            let started: Vec<_> = commands.iter().map(|command| lab.spawn(command)).collect();
            for process in &started {
                process.wait_for(0, WAIT_TIMEOUT, "the line `ready`", |line| line.text == "ready");
            }
            processes.extend(started);
        }
        Self { processes }
    }

    /// Returns the ids of the processes.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(Process::id)
    }

    /// Suspends all while `measure` runs: idle hosts take some processor time, and what is measured
    /// meanwhile is to be without them.
    pub(super) fn suspended<T>(&self, measure: impl FnOnce() -> T) -> T {
        self.processes.iter().for_each(|process| process.signal(Signal::SIGSTOP));
        let measured = measure();
        self.processes.iter().for_each(|process| process.signal(Signal::SIGCONT));
        measured
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for process in &self.processes {
            process.signal(Signal::SIGTERM);
        }
        for process in self.processes.drain(..) {
            process.finish(WAIT_TIMEOUT).succeeds();
        }
    }
}

/// Returns the interface of a memif client, as `busctl host` takes it.
pub(super) fn memif_client(socket: &Path, id: usize) -> String {
    format!("memif:role=client,id={id},socket={}", socket.display())
}

/// Returns the address of an idle host. The two that are measured are in another part of the same
/// network.
fn address(number: usize) -> String {
    format!("10.0.1.{number}/16")
}
