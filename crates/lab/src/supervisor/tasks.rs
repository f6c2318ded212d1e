//! What clients wait for: commands in nodes, and checks that are tried until they hold.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::children::{Children, Printed, Purpose};
use super::clients::{ClientId, Clients};
use super::hosts::Hosts;
use super::lab_node::LabNode;
use crate::plan::{Action, Check};
use crate::protocol::{Checked, Output, Reply};

/// How long to wait between two tries of a check.
const PAUSE: Duration = Duration::from_millis(200);
/// How often the output of a running command is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Default)]
pub(super) struct Tasks {
    tasks: Vec<Task>,
    last_token: u64,
}

struct Task {
    token: u64,
    client: ClientId,
    what: What,
    begin: Instant,
    within: Duration,
    /// When it is to be started, if it is not running.
    next: Option<Instant>,
    running: Option<Running>,
    /// How often it was started.
    tries: u32,
    /// What the last try has left.
    last: String,
}

#[derive(Clone)]
enum What {
    Exec { node: String, command: String },
    Check(Check),
}

struct Running {
    pid: Pid,
    printed: Printed,
    is_late: bool,
}

impl Tasks {
    /// Runs a command in a node, and answers the client with its output.
    pub(super) fn exec(
        &mut self,
        client: ClientId,
        node: String,
        command: String,
        within: Duration,
    ) {
        self.push(client, What::Exec { node, command }, within);
    }

    /// Tries a check until it holds or its time is over, and answers the client.
    pub(super) fn check(&mut self, client: ClientId, check: Check) {
        let within = check.within;
        self.push(client, What::Check(check), within);
    }

    fn push(&mut self, client: ClientId, what: What, within: Duration) {
        self.last_token += 1;
        let now = Instant::now();
        self.tasks.push(Task {
            token: self.last_token,
            client,
            what,
            begin: now,
            within,
            next: Some(now),
            running: None,
            tries: 0,
            last: String::new(),
        });
    }

    /// Returns when the next step is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = |task: &Task| {
            let end = task.begin + task.within;
            match (&task.running, task.next) {
                (Some(running), _) => {
                    let look = Instant::now() + LOOK_INTERVAL;
                    Some(if running.is_late { look } else { look.min(end) })
                }
                (None, Some(next)) => Some(next.min(end)),
                // A ping, whose end is reported.
                (None, None) => None,
            }
        };
        self.tasks.iter().filter_map(due).min()
    }

    /// Starts what is due, and ends what is late.
    pub(super) fn step(
        &mut self,
        nodes: &[LabNode],
        children: &mut Children,
        hosts: &Hosts,
        clients: &mut Clients,
    ) {
        let now = Instant::now();
        self.tasks.retain_mut(|task| {
            let is_late = now >= task.begin + task.within;
            if let Some(running) = &mut task.running {
                if is_late || running.printed.is_too_much() {
                    running.is_late = true;
                    Children::kill(running.pid);
                }
                return true;
            }
            if task.next.is_none_or(|next| next > now && !is_late) {
                return true;
            }
            if is_late && task.tries > 0 {
                task.answer(clients, false);
                return false;
            }
            task.next = None;
            task.tries += 1;
            match task.start(nodes, children, hosts) {
                Ok(()) => true,
                Err(why) => {
                    let reply = match &task.what {
                        What::Exec { .. } => Reply::Refused(why),
                        What::Check(_) => {
                            task.last = why;
                            return !task.settle(false, clients);
                        }
                    };
                    clients.answer(task.client, &reply, &[]);
                    false
                }
            }
        });
    }

    /// Takes note that the command of a task has ended.
    pub(super) fn ended(&mut self, token: u64, code: u8, clients: &mut Clients) {
        self.tasks.retain_mut(|task| {
            if task.token != token {
                return true;
            }
            let Some(Running { printed, is_late, .. }) = task.running.take() else { return true };
            let (stdout, stderr) = printed.read();
            let code = (!is_late).then_some(code);
            match &task.what {
                What::Exec { .. } => {
                    let output = Output { code, stdout, stderr };
                    clients.answer(task.client, &Reply::Output(output), &[]);
                    false
                }
                What::Check(check) => {
                    let Action::Exec { output, fails, .. } = &check.action else { return false };
                    let is_good = (code == Some(0) && stdout.contains(output.as_str())) != *fails;
                    let code = code
                        .map_or("its time was over".to_owned(), |code| format!("exit code {code}"));
                    task.last = format!("{code}\n{stdout}{stderr}");
                    !task.settle(is_good && !is_late, clients)
                }
            }
        });
    }

    /// Takes note of what has come of a ping.
    pub(super) fn pinged(
        &mut self,
        token: u64,
        result: &Result<String, String>,
        clients: &mut Clients,
    ) {
        self.tasks.retain_mut(|task| {
            let What::Check(Check { action: Action::Ping { fails, .. }, .. }) = &task.what else {
                return true;
            };
            if task.token != token {
                return true;
            }
            let is_good = result.is_ok() != *fails;
            task.last = match result {
                Ok(detail) | Err(detail) => detail.clone(),
            };
            !task.settle(is_good, clients)
        });
    }
}

impl Task {
    fn start(
        &mut self,
        nodes: &[LabNode],
        children: &mut Children,
        hosts: &Hosts,
    ) -> Result<(), String> {
        let (node, command) = match &self.what {
            What::Exec { node, command }
            | What::Check(Check { action: Action::Exec { node, command, .. }, .. }) => {
                (node, command)
            }
            What::Check(Check { action: Action::Ping { node, target, .. }, .. }) => {
                hosts.ping(self.token, node, *target);
                return Ok(());
            }
            What::Check(_) => return Err("this check is not for the supervisor".to_owned()),
        };
        let found = nodes.iter().find(|found| found.plan.name == *node);
        let place = found.ok_or_else(|| format!("there is no node {node}"))?.place();
        let started = Printed::new().and_then(|printed| {
            let stdio = printed.stdio()?;
            let pid = children.start(&place, command, Purpose::Task(self.token), stdio)?;
            Ok(Running { pid, printed, is_late: false })
        });
        self.running = Some(started.map_err(|error| format!("cannot run '{command}': {error}"))?);
        Ok(())
    }

    /// Answers the client when the check holds, or its time is over. Returns whether it is done.
    fn settle(&mut self, passed: bool, clients: &mut Clients) -> bool {
        if passed || self.begin.elapsed() >= self.within {
            self.answer(clients, passed);
            return true;
        }
        self.next = Some(Instant::now() + PAUSE);
        false
    }

    fn answer(&self, clients: &mut Clients, passed: bool) {
        let What::Check(check) = &self.what else { return };
        let checked = Checked {
            name: check.name.clone(),
            passed,
            took: self.begin.elapsed(),
            tries: self.tries,
            detail: self.last.clone(),
        };
        clients.answer(self.client, &Reply::Checked(checked), &[]);
    }
}
