//! The supervisor of a lab: the process that makes the LANs, starts the nodes, and serves clients.
//!
//! It is the first process of the lab's pid namespace, so nothing of the lab outlives it. One thread
//! of it decides everything; others move frames, serve the hosts, and write the logs.

mod children;
mod clients;
mod confinement;
mod hosts;
mod impairing;
mod lab_node;
mod lans;
mod logs;
mod port_reports;
mod signals;
mod space;
mod strays;
mod taps;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use port::trunk::OpenTrunk;
use port::{Reporter, Severity, WakeFd};

pub use self::confinement::confine;

use self::children::{Children, signal_all};
use self::clients::{ClientId, Clients};
use self::hosts::Hosts;
use self::lab_node::{LabNode, Shared};
use self::lans::Lans;
use self::logs::Logs;
use self::signals::Signals;
use self::taps::Taps;
use self::tasks::Tasks;
use crate::diff::diff;
use crate::error::{LabError, system};
use crate::folder::{Folder, Locked};
use crate::parts::HostError;
use crate::plan::{Action, Check, Kind, Node, Plan};
use crate::protocol::{
    Checked, Entry, LabState, LanState, Namespace, NodeElsewhere, Phase, Reply, Request,
};
use crate::wire::Wire;

/// The longest sleep, in which nothing is missed.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// How long processes have to end in good order.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked whether they have.
const GRACE_STEP: Duration = Duration::from_millis(5);
/// The log of what concerns no single node.
const OWN_LOG: &str = "lab";

/// Runs the lab in `folder` until it is taken down, or the process that started it is gone. That
/// process is at the other end of stdin. `trunks` opens trunk ports, in programs that have them.
///
/// # Errors
/// When the lab cannot be started at all. That process has been told so.
pub fn run(folder: &Folder, trunks: Option<OpenTrunk>) -> Result<ExitCode, LabError> {
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(system("use stdin"))?;
    let mut starter = Wire::new(UnixStream::from(socket));
    let (Begin, mut descriptors) = starter
        .receive()
        .map_err(|source| LabError::Unreachable { name: folder.name(), source })?;
    let lock =
        descriptors.pop().ok_or_else(|| LabError::Refused("no lock was given".to_owned()))?;
    let locked = Locked { file: lock.into() };
    let supervisor = match Supervisor::new(folder.clone(), trunks) {
        Ok(supervisor) => supervisor,
        Err(error) => {
            let _ = starter.send(&Reply::Refused(error.to_string()), &[]);
            let _ = folder.remove(locked);
            return Ok(ExitCode::FAILURE);
        }
    };
    // A starter that is gone by now is noticed in the first round.
    let _ = starter.send(&Reply::Done, &[]);
    supervisor.serve(starter, locked)
}

/// The first message to the supervisor, with the lock of the lab's folder beside it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Begin;

/// Returns on how many interfaces of a LAN frames can be impaired. Rump kernels and other processes
/// open the bus themselves.
fn impairable_on(plan: &Plan, lan: &str) -> usize {
    let is_ours = |node: &&Node| !matches!(node.kind, Kind::Rump | Kind::Process);
    let interfaces = plan.nodes.iter().filter(is_ours).flat_map(|node| &node.interfaces);
    interfaces.filter(|interface| interface.lan == lan).count()
}

/// Describes a node that another machine runs.
fn node_elsewhere(node: &Node) -> NodeElsewhere {
    let interfaces = node.interfaces.iter().map(|interface| {
        let addresses = interface.addresses.iter().map(ToString::to_string);
        (interface.lan.clone(), addresses.collect())
    });
    NodeElsewhere {
        name: node.name.clone(),
        kind: node.kind.word().to_owned(),
        host: node.on.clone().unwrap_or_default(),
        interfaces: interfaces.collect(),
    }
}

/// Returns what has come of a check that changes a link.
fn set_check(name: String, set: Result<Reply, String>) -> Checked {
    let (passed, detail) = (set.is_ok(), set.err().unwrap_or_default());
    Checked { name, passed, took: Duration::ZERO, tries: 1, detail }
}

struct Supervisor {
    folder: Folder,
    plan: Plan,
    signals: Signals,
    lans: Lans,
    hosts: Hosts,
    logs: Arc<Logs>,
    children: Children,
    nodes: Vec<LabNode>,
    tasks: Tasks,
    clients: Clients,
    /// Polls readable when the thread of the hosts has something new.
    hosts_changed: Arc<WakeFd>,
    /// What was last told to clients.
    told: LabState,
}

/// How a lab ends.
enum End {
    /// A client asked for it, and waits for an answer.
    Asked(ClientId),
    /// By a signal, or with the process that started it.
    Alone,
}

impl Supervisor {
    fn new(folder: Folder, trunks: Option<OpenTrunk>) -> Result<Self, LabError> {
        let signals = Signals::catch().map_err(system("receive signals"))?;
        set_pdeathsig(Signal::SIGTERM).map_err(system("end with the lab"))?;
        confinement::mount_proc();
        confinement::allow_descriptors();
        let plan = folder.read_plan()?;
        plan.check_here()?;
        folder.make_folders()?;
        let clients = Clients::listen(&folder)?;
        let logs = Arc::new(Logs::start().map_err(system("start a thread"))?);
        let (to_log, log_folder) = (Arc::clone(&logs), folder.clone());
        let reporter = Reporter::new(move |severity, line| {
            let word = if severity == Severity::Warning { "warning: " } else { "" };
            to_log.say(&log_folder, OWN_LOG, &format!("{word}{line}"));
        });
        let mut lans =
            Lans::start(folder.clone(), reporter, trunks).map_err(system("start a thread"))?;
        for lan in plan.lans_here() {
            lans.add(lan, impairable_on(&plan, &lan.name))?;
        }
        plan.lans_to_join().into_iter().try_for_each(|lan| lans.join_parts(&plan, lan))?;
        let hosts_changed = Arc::new(WakeFd::new().map_err(system("make a descriptor"))?);
        let hosts = Hosts::start(Arc::clone(&hosts_changed)).map_err(system("start a thread"))?;
        let nodes = plan.nodes_here().map(|node| LabNode::new(node.clone(), &folder)).collect();
        Ok(Self {
            folder,
            plan,
            signals,
            lans,
            hosts,
            logs,
            children: Children::default(),
            nodes,
            tasks: Tasks::default(),
            clients,
            hosts_changed,
            told: LabState::default(),
        })
    }

    fn serve(mut self, mut starter: Wire, locked: Locked) -> Result<ExitCode, LabError> {
        let end = loop {
            if let Some(end) = self.round(&mut starter) {
                break end;
            }
        };
        self.end_processes();
        let Self { folder, mut clients, lans, hosts, mut nodes, .. } = self;
        let taps: Vec<_> = nodes.iter_mut().map(LabNode::take_taps).collect();
        drop((lans, hosts));
        Taps::close_all(taps);
        drop(nodes);
        clients.close();
        let removed = folder.remove(locked);
        if let End::Asked(client) = end {
            let reply = match &removed {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Refused(error.to_string()),
            };
            clients.answer(client, &reply, &[]);
        }
        removed.map(|()| ExitCode::SUCCESS)
    }

    /// Waits for something to do, and does it. Returns the end, when that is due.
    fn round(&mut self, starter: &mut Wire) -> Option<End> {
        self.step();
        self.tell();
        self.wait(starter.as_fd());
        self.signals.drain();
        if self.signals.is_asked() {
            return Some(End::Alone);
        }
        if !matches!(starter.fill_now(), Ok(true)) {
            return Some(End::Alone);
        }
        self.reap();
        self.hosts_changed.drain();
        for (token, result) in self.hosts.pings() {
            self.tasks.pinged(token, &result, &mut self.clients);
        }
        while let Some((id, why)) = self.lans.next_closed() {
            if let Some(lan) = self.lans.trunk_closed(id, &why) {
                let line = format!("warning: {lan} no longer reaches other hosts: {why}");
                self.logs.say(&self.folder, OWN_LOG, &line);
                continue;
            }
            self.change_nodes(|node, shared| node.port_closed(id, &why, shared));
        }
        let mut end = None;
        for (client, request) in self.clients.requests() {
            if matches!(request, Request::Down) {
                end = Some(End::Asked(client));
            } else {
                self.handle(client, request);
            }
        }
        end
    }

    fn wait(&self, starter: BorrowedFd<'_>) {
        let now = Instant::now();
        let due = self.nodes.iter().filter_map(LabNode::due).chain(self.tasks.due()).min();
        let sleep = due.map_or(LONGEST_SLEEP, |due| due.saturating_duration_since(now));
        let own = [self.signals.as_fd(), self.hosts_changed.as_fd(), self.lans.as_fd(), starter];
        let mut fds: Vec<_> = own
            .into_iter()
            .chain(self.clients.descriptors())
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
            .collect();
        match ppoll(&mut fds, Some(sleep.min(LONGEST_SLEEP).into()), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Without memory for the call, the next one may succeed.
            Err(_) => thread::sleep(GRACE_STEP),
        }
    }

    fn reap(&mut self) {
        for ended in self.children.reap() {
            if let children::Purpose::Task(token) = ended.purpose {
                self.tasks.ended(token, ended.code, &mut self.clients);
                continue;
            }
            self.change_nodes(|node, shared| {
                let is_its = node.plan.name == ended.node;
                if is_its {
                    node.ended(&ended.purpose, ended.code, shared);
                }
                is_its
            });
        }
    }

    /// Offers a change to the nodes in turn, until one has taken it.
    fn change_nodes(
        &mut self,
        mut change: impl FnMut(&mut LabNode, &mut Shared<'_>) -> bool,
    ) -> bool {
        let mut shared = Shared {
            plan: &self.plan,
            folder: &self.folder,
            lans: &mut self.lans,
            hosts: &self.hosts,
            logs: &self.logs,
            children: &mut self.children,
        };
        self.nodes.iter_mut().any(|node| change(node, &mut shared))
    }

    /// Starts nodes whose time has come, and does what else is due.
    fn step(&mut self) {
        loop {
            let ready: BTreeSet<String> = self
                .nodes
                .iter()
                .filter(|node| node.phase == Phase::Ready)
                .map(|node| node.plan.name.clone())
                .collect();
            let is_ready = |name: &str| ready.contains(name);
            let mut has_changed = false;
            self.change_nodes(|node, shared| {
                if node.can_start(is_ready) {
                    node.start(shared);
                    has_changed = true;
                }
                has_changed |= node.step(shared);
                false
            });
            if !has_changed {
                break;
            }
        }
        let nodes = &self.nodes;
        self.tasks.step(nodes, &mut self.children, &self.hosts, &mut self.clients);
    }

    fn state(&self) -> LabState {
        let lans = self.plan.lans_here().map(|lan| LanState {
            name: lan.name.clone(),
            bus: self.folder.bus(&lan.name),
            impair: self.lans.impairments(&lan.name),
            trunk: self.lans.trunk_state(lan),
        });
        let elsewhere = self.plan.nodes.iter().filter(|node| !self.plan.is_here(node));
        let failed = self.nodes.iter().find(|node| node.phase == Phase::Failed);
        LabState {
            name: self.plan.name.clone(),
            ready: self.nodes.iter().all(|node| node.phase == Phase::Ready),
            failed: failed.map(|node| format!("{}: {}", node.plan.name, node.detail)),
            lans: lans.collect(),
            nodes: self.nodes.iter().map(|node| node.state(&self.hosts, &self.children)).collect(),
            host: self.plan.here.clone(),
            elsewhere: elsewhere.map(node_elsewhere).collect(),
        }
    }

    /// Tells clients what has changed.
    fn tell(&mut self) {
        if self.clients.has_followers() {
            let state = self.state();
            if state != self.told || self.clients.has_new_followers() {
                self.clients.tell(&Reply::State(state.clone()));
                self.told = state;
            }
        }
    }

    fn handle(&mut self, client: ClientId, request: Request) {
        let reply = match request {
            Request::Show => Ok(Reply::State(self.state())),
            Request::Follow => return self.clients.follow(client),
            Request::Enter { node } => return self.enter(client, &node),
            Request::Exec { node, command, within } => {
                self.tasks.exec(client, node, command, within);
                return;
            }
            Request::Check(Check { name, action: Action::Set { link, impair }, .. }) => {
                Ok(Reply::Checked(set_check(name, self.set(&link, &impair))))
            }
            Request::Check(check) => {
                self.tasks.check(client, check);
                return;
            }
            Request::Set { link, impair } => self.set(&link, &impair),
            Request::Restart { node } => self.restart(&node),
            Request::Apply(plan) => self.apply(plan).map_err(|error| error.to_string()),
            Request::Kill { node } => {
                self.with_node(&node, |node, shared| node.kill(shared.children))
            }
            Request::Down => Ok(Reply::Done),
        };
        let reply = reply.unwrap_or_else(Reply::Refused);
        self.clients.answer(client, &reply, &[]);
    }

    /// Changes what a LAN, or `NODE:INTERFACE`, does to frames.
    fn set(&mut self, link: &str, impair: &str) -> Result<Reply, String> {
        let refused = |error: LabError| error.to_string();
        if self.plan.lans_here().any(|lan| lan.name == link) {
            let lan = self.lans.change(link, impair).map_err(refused)?;
            self.change_nodes(|node, _| {
                node.follow(link, &lan);
                false
            });
            return Ok(Reply::Done);
        }
        let Some((name, interface)) = link.split_once(':') else {
            return Err(format!(
                "there is no LAN {link} in the lab {}; NODE:INTERFACE names an interface",
                self.plan.name
            ));
        };
        let mut changed = Err(self.no_node(name));
        self.change_nodes(|node, _| {
            let is_it = node.plan.name == name;
            if is_it {
                changed = node.impair(interface, impair).map_err(refused);
            }
            is_it
        });
        changed.map(|()| Reply::Done)
    }

    /// Stops a node, so that the next step starts it.
    fn restart(&mut self, name: &str) -> Result<Reply, String> {
        let reply = self.with_node(name, LabNode::stop)?;
        let is_host = |node: &LabNode| node.plan.name == name && node.is_host();
        if self.nodes.iter().any(is_host) {
            self.renew_hosts().map_err(|error| error.to_string())?;
        }
        Ok(reply)
    }

    /// Ends all hosts, so that the next step starts them: they live in one thread.
    fn renew_hosts(&mut self) -> Result<(), LabError> {
        self.change_nodes(|node, shared| {
            if node.is_host() {
                node.stop(shared);
            }
            false
        });
        self.hosts =
            Hosts::start(Arc::clone(&self.hosts_changed)).map_err(system("start a thread"))?;
        Ok(())
    }

    /// Makes the lab that of another plan. What is the same stays as it is.
    fn apply(&mut self, plan: Plan) -> Result<Reply, LabError> {
        plan.check_here()?;
        if let (Some(here), Some(other)) = (&self.plan.here, &plan.here)
            && here != other
        {
            let name = &self.plan.name;
            let why = format!("this is the host {here} of the lab {name}, and not {other}");
            return Err(HostError(why).into());
        }
        let change = diff(&self.plan, &plan);
        let stops = |name: &String| {
            change.removed_nodes.contains(name) || change.changed_nodes.contains(name)
        };
        let mut host_stops = false;
        self.change_nodes(|node, shared| {
            if stops(&node.plan.name) {
                host_stops |= node.is_host();
                node.stop(shared);
            }
            false
        });
        let old = std::mem::take(&mut self.nodes).into_iter();
        let mut old: BTreeMap<String, LabNode> =
            old.map(|node| (node.plan.name.clone(), node)).collect();
        let node = |plan: &Node| match old.remove(&plan.name) {
            Some(mut node) if !stops(&plan.name) => {
                node.plan = plan.clone();
                node
            }
            _ => LabNode::new(plan.clone(), &self.folder),
        };
        self.nodes = plan.nodes_here().map(node).collect();
        if host_stops {
            self.renew_hosts()?;
        }
        // First all, because one may need the UDP port of another.
        change.rejoined_lans.iter().for_each(|lan| self.lans.part(lan));
        for lan in &change.removed_lans {
            self.lans.remove(lan);
        }
        self.plan = plan;
        for lan in self.plan.lans.iter().filter(|lan| change.added_lans.contains(&lan.name)) {
            self.lans.add(lan, impairable_on(&self.plan, &lan.name))?;
        }
        for lan in self.plan.lans_to_join() {
            if change.added_lans.contains(&lan.name) || change.rejoined_lans.contains(&lan.name) {
                self.lans.join_parts(&self.plan, lan)?;
            }
        }
        self.folder.write_plan(&self.plan)?;
        for (link, impair) in &change.impaired {
            self.replace(link, impair)?;
        }
        Ok(Reply::Done)
    }

    /// Does to frames what a plan says, in place of all that was said before.
    fn replace(&mut self, link: &str, impair: &str) -> Result<(), LabError> {
        let Some((name, interface)) = link.split_once(':') else {
            let lan = self.lans.replace(link, impair)?;
            self.change_nodes(|node, _| {
                node.follow(link, &lan);
                false
            });
            return Ok(());
        };
        let mut replaced = Ok(());
        self.change_nodes(|node, shared| {
            let is_it = node.plan.name == name;
            if is_it {
                replaced = node.replace(interface, shared);
            }
            is_it
        });
        replaced
    }

    fn with_node(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut LabNode, &mut Shared<'_>),
    ) -> Result<Reply, String> {
        let mut change = Some(change);
        let is_found = self.change_nodes(|node, shared| {
            let is_it = node.plan.name == name;
            if let Some(change) = change.take_if(|_| is_it) {
                change(node, shared);
            }
            is_it
        });
        if is_found { Ok(Reply::Done) } else { Err(self.no_node(name)) }
    }

    fn no_node(&self, name: &str) -> String {
        format!("there is no node {name} in the lab {}", self.plan.name)
    }

    /// Answers with what a process needs to enter a node.
    fn enter(&mut self, client: ClientId, name: &str) {
        let Some(node) = self.nodes.iter().find(|node| node.plan.name == name) else {
            let reply = Reply::Refused(self.no_node(name));
            return self.clients.answer(client, &reply, &[]);
        };
        let own = |kind: &str| fs::File::open(format!("/proc/self/ns/{kind}"));
        let (Ok(user), Ok(pid), Ok(mounts)) = (own("user"), own("pid"), own("mnt")) else {
            let reply = Reply::Refused("the namespaces of the lab cannot be opened".to_owned());
            return self.clients.answer(client, &reply, &[]);
        };
        let mut namespaces = vec![Namespace::User, Namespace::Pid];
        let mut descriptors = vec![user.as_fd(), pid.as_fd()];
        if let Some(space) = node.space() {
            namespaces.extend([Namespace::Net, Namespace::Uts, Namespace::Mount]);
            descriptors.extend(space.descriptors());
        } else {
            namespaces.push(Namespace::Mount);
            descriptors.push(mounts.as_fd());
        }
        let place = node.place();
        let entry = Entry { namespaces, folder: place.folder.to_owned(), env: place.env.clone() };
        self.clients.answer(client, &Reply::Entry(entry), &descriptors);
    }

    /// Ends all processes of the lab.
    fn end_processes(&mut self) {
        let begin = Instant::now();
        signal_all(Signal::SIGTERM);
        loop {
            self.children.reap();
            // The kernel no longer finds any but this one.
            if !signal_all(Signal::SIGCONT) {
                return;
            }
            if begin.elapsed() > GRACE {
                break;
            }
            self.wait_for_a_child();
        }
        while signal_all(Signal::SIGKILL) {
            self.children.reap();
            self.wait_for_a_child();
        }
    }

    /// Waits until a child has ended, or for [`GRACE_STEP`]: a process that another has started
    /// becomes a child only when that other one ends.
    fn wait_for_a_child(&self) {
        let mut ended = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let _ = ppoll(&mut ended, Some(GRACE_STEP.into()), None);
        self.signals.drain();
    }
}
