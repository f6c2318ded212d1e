//! A node of a lab that is up: what it has, and how far its start is.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use port::Impairments;
use shmbus::MacAddr6;

use super::children::{Children, Place, Purpose};
use super::hosts::Hosts;
use super::impairing::InterfaceImpairments;
use super::lans::{LabPort, Lans};
use super::logs::Logs;
use super::space::{Space, Surroundings};
use super::strays;
use super::taps::Taps;
use crate::error::{LabError, at, system};
use crate::folder::Folder;
use crate::plan::{Interface, Kind, Node, Plan, Ready, Restart, Service, Vm};
use crate::protocol::{InterfaceState, NodeState, Phase};

/// How long to wait between two looks at whether a node is ready.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// A command that finds out whether a node is ready is killed after this time.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before a service is started again: it doubles from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// The most that is read of a log in search of a text, in bytes from its end.
const MAX_SEARCH: u64 = 5 << 20;
/// Where programs of the system are that a user's `PATH` may lack.
const SYSTEM_PROGRAMS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// The variable with a node's scratch folder.
const NODE_DIR: &str = "NODE_DIR";
/// The socket of passt in its node's scratch folder.
const PASST_SOCKET: &str = "passt.sock";
/// The longest packet that passt can be told of, in bytes.
const MAX_PASST_MTU: u32 = 65_520;
/// The state of a listening TCP socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// What the nodes of a lab share.
pub(super) struct Shared<'a> {
    pub(super) plan: &'a Plan,
    pub(super) folder: &'a Folder,
    pub(super) lans: &'a mut Lans,
    pub(super) hosts: &'a Hosts,
    pub(super) logs: &'a Logs,
    pub(super) children: &'a mut Children,
}

/// See the module.
pub(super) struct LabNode {
    pub(super) plan: Node,
    pub(super) phase: Phase,
    /// Why it has failed, or what it waits for.
    pub(super) detail: String,
    space: Option<Space>,
    /// One for each interface, in order, of kinds that have ports.
    ports: Vec<LabPort>,
    /// What the link of a host does to frames; a host has no port.
    host_link: Option<InterfaceImpairments>,
    taps: Taps,
    env: BTreeMap<String, String>,
    scratch: PathBuf,
    services: Vec<RunningService>,
    /// How many of its commands before the services are done.
    executed: usize,
    /// How many of the conditions for being ready hold.
    held: usize,
    probe: Option<Probe>,
    next_look: Instant,
    started: Instant,
    restarts: u32,
}

struct RunningService {
    service: Service,
    pid: Option<Pid>,
    since: Instant,
    pause: Duration,
    /// When it is started again.
    due: Option<Instant>,
}

struct Probe {
    pid: Pid,
    since: Instant,
}

impl LabNode {
    pub(super) fn new(plan: Node, folder: &Folder) -> Self {
        let scratch = folder.scratch(&plan.name);
        let now = Instant::now();
        Self {
            plan,
            phase: Phase::Waiting,
            detail: String::new(),
            space: None,
            ports: Vec::new(),
            host_link: None,
            taps: Taps::default(),
            env: BTreeMap::new(),
            scratch,
            services: Vec::new(),
            executed: 0,
            held: 0,
            probe: None,
            next_look: now,
            started: now,
            restarts: 0,
        }
    }

    /// Returns whether it is a host in the thread of hosts.
    pub(super) fn is_host(&self) -> bool {
        matches!(self.plan.kind, Kind::Host(_))
    }

    /// Returns whether it waits for others, all of which `is_ready` says to be ready.
    pub(super) fn can_start(&self, is_ready: impl Fn(&str) -> bool) -> bool {
        self.phase == Phase::Waiting && self.plan.after.iter().all(|name| is_ready(name))
    }

    /// Starts it: its files, its namespace and interfaces, then its commands.
    pub(super) fn start(&mut self, shared: &mut Shared<'_>) {
        self.phase = Phase::Starting;
        self.started = Instant::now();
        if let Err(error) = self.prepare(shared) {
            self.fail(&error.to_string(), shared);
        }
    }

    fn prepare(&mut self, shared: &mut Shared<'_>) -> Result<(), LabError> {
        fs::create_dir_all(&self.scratch).map_err(at("make", &self.scratch))?;
        for file in &self.plan.files {
            let path = self.scratch.join(&file.path);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(at("make", folder))?;
            }
            fs::write(&path, &file.text).map_err(at("write", &path))?;
            if file.is_executable {
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(&path, mode).map_err(at("change", &path))?;
            }
        }
        self.env = environment(&self.plan, shared.plan, shared.folder, &self.scratch);
        self.services = self.plan.services.iter().cloned().map(RunningService::new).collect();
        let plan = self.plan.clone();
        match &plan.kind {
            Kind::Run(run) => {
                let surroundings = Surroundings {
                    mtus: plan
                        .interfaces
                        .iter()
                        .map(|interface| shared.lans.mtu(interface))
                        .collect(),
                    hosts: hosts_file(shared.plan, &plan),
                    etc: &shared.folder.path().join("etc").join(&plan.name),
                };
                let (space, taps, complaints) = Space::make(&plan, run, &surroundings)?;
                for complaint in complaints {
                    shared.logs.say(shared.folder, &plan.name, &complaint);
                }
                self.taps = Taps::of(&taps).map_err(system("keep an interface"))?;
                for (tap, interface) in taps.into_iter().zip(&plan.interfaces) {
                    self.ports.push(shared.lans.join_tap(tap, &plan.name, interface)?);
                }
                self.space = Some(space);
            }
            Kind::Host(host) => {
                let Some(interface) = plan.interfaces.first() else {
                    return Err(LabError::Refused(format!("the host {} is on no LAN", plan.name)));
                };
                let link = shared.lans.impairments_of(interface)?;
                let bus = shared.lans.bus(&interface.lan)?;
                shared.hosts.add(&plan, (host, interface), bus, link.handle.clone())?;
                self.host_link = Some(link);
            }
            Kind::Memif(memif) => {
                let socket = match memif.socket.to_string_lossy().strip_prefix('@') {
                    Some(name) => format!("socket-abstract={name}"),
                    None => format!("socket={}", self.scratch.join(&memif.socket).display()),
                };
                let role = if memif.is_server { "server" } else { "client" };
                let text =
                    format!("memif:id={},{socket},role={role}{}", memif.id, keys(&memif.keys));
                self.open_ports(&text, shared)?;
            }
            Kind::Vm(vm) => {
                for interface in &plan.interfaces {
                    let socket = self.scratch.join(format!("{}.sock", interface.name));
                    let text = format!(
                        "socket:path={},framing=qemu,role=server{}",
                        socket.display(),
                        keys(&interface.keys)
                    );
                    self.ports.extend(shared.lans.open(&text, interface)?);
                }
                self.services.insert(0, RunningService::new(machine(vm, &plan)));
            }
            Kind::Internet => {
                let mtus = plan.interfaces.iter().map(|interface| shared.lans.mtu(interface));
                self.services.insert(0, RunningService::new(passt(mtus.min().unwrap_or(0))));
            }
            Kind::Bus(path) => self.open_ports(&format!("bus:{}", path.display()), shared)?,
            Kind::Pcap(path) => self.open_ports(&format!("pcap:in={}", path.display()), shared)?,
            Kind::Rump | Kind::Process => {}
        }
        Ok(())
    }

    fn open_ports(&mut self, text: &str, shared: &mut Shared<'_>) -> Result<(), LabError> {
        let Some(interface) = self.plan.interfaces.first() else {
            return Err(LabError::Refused(format!("{} is on no LAN", self.plan.name)));
        };
        let text = format!("{text}{}", keys(&interface.keys));
        self.ports.extend(shared.lans.open(&text, interface)?);
        Ok(())
    }

    /// Does what is due. Returns whether its state may have changed.
    pub(super) fn step(&mut self, shared: &mut Shared<'_>) -> bool {
        let before = (self.phase, self.detail.clone());
        self.step_services(shared);
        match self.phase {
            Phase::Starting => self.step_exec(shared),
            Phase::Running => self.step_ready(shared),
            Phase::Waiting | Phase::Ready | Phase::Failed => {}
        }
        if matches!(self.phase, Phase::Starting | Phase::Running)
            && self.started.elapsed() > self.plan.ready_within
        {
            let within = self.plan.ready_within.as_secs_f64();
            let why = format!("it is not ready within {within} s: {}", self.detail);
            self.fail(&why, shared);
        }
        before != (self.phase, self.detail.clone())
    }

    /// Returns when the next step is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let services = self.services.iter().filter_map(|service| service.due).min();
        let look = matches!(self.phase, Phase::Starting | Phase::Running).then_some(self.next_look);
        services.into_iter().chain(look).min()
    }

    fn step_exec(&mut self, shared: &mut Shared<'_>) {
        let Some(command) = self.plan.exec.get(self.executed).cloned() else {
            self.phase = Phase::Running;
            self.detail.clear();
            for index in 0..self.services.len() {
                self.start_service(index, shared);
            }
            if self.phase == Phase::Running {
                self.step_ready(shared);
            }
            return;
        };
        self.next_look = Instant::now() + PROBE_INTERVAL;
        if self.probe.is_some() {
            return;
        }
        self.detail = format!("runs '{command}'");
        match self.run(&command, Purpose::Exec, shared) {
            Ok(pid) => self.probe = Some(Probe { pid, since: Instant::now() }),
            Err(error) => self.fail(&format!("cannot run '{command}': {error}"), shared),
        }
    }

    /// Starts a command that prints to the node's log.
    fn run(
        &self,
        command: &str,
        purpose: Purpose,
        shared: &mut Shared<'_>,
    ) -> std::io::Result<Pid> {
        let log = shared.logs.open(shared.folder, &self.plan.name)?;
        let stdio = (log.try_clone()?.into(), log.into());
        shared.children.start(&self.place(), command, purpose, stdio)
    }

    /// Returns where its commands run.
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            node: &self.plan.name,
            space: self.space.as_ref(),
            folder: &self.scratch,
            env: &self.env,
        }
    }

    pub(super) fn space(&self) -> Option<&Space> {
        self.space.as_ref()
    }

    fn start_service(&mut self, index: usize, shared: &mut Shared<'_>) {
        let service = &self.services[index].service;
        let started = self.run(&service.command, Purpose::Service(index), shared);
        let name = service.name.clone();
        match started {
            Ok(pid) => {
                let service = &mut self.services[index];
                (service.pid, service.since, service.due) = (Some(pid), Instant::now(), None);
            }
            Err(error) => {
                self.fail(&format!("the service {name} cannot be started: {error}"), shared);
            }
        }
    }

    fn step_services(&mut self, shared: &mut Shared<'_>) {
        let now = Instant::now();
        for index in 0..self.services.len() {
            if self.services[index].due.is_some_and(|due| due <= now) {
                self.restarts += 1;
                self.start_service(index, shared);
            }
        }
    }

    /// Looks whether what makes it ready holds.
    fn step_ready(&mut self, shared: &mut Shared<'_>) {
        let now = Instant::now();
        if let Some(probe) = &self.probe {
            if now - probe.since > PROBE_TIMEOUT {
                Children::kill(probe.pid);
            }
            return;
        }
        if now < self.next_look {
            return;
        }
        self.next_look = now + PROBE_INTERVAL;
        if matches!(self.plan.kind, Kind::Internet) && !self.is_passt_connected(shared) {
            return;
        }
        if matches!(self.plan.kind, Kind::Host(_)) {
            let state = shared.hosts.state(&self.plan.name);
            if let Some(conflict) = state.conflict {
                return self.fail(&conflict, shared);
            }
            if !state.is_ready {
                "waits for its addresses".clone_into(&mut self.detail);
                return;
            }
        }
        while let Some(ready) = self.plan.ready.get(self.held).cloned() {
            self.detail = describe(&ready);
            let holds = match &ready {
                Ready::Exec(command) => {
                    let stdio = (Stdio::null(), Stdio::null());
                    let place = self.place();
                    match shared.children.start(&place, command, Purpose::Probe, stdio) {
                        Ok(pid) => self.probe = Some(Probe { pid, since: now }),
                        Err(error) => {
                            self.fail(&format!("cannot run '{command}': {error}"), shared);
                        }
                    }
                    return;
                }
                Ready::Tcp(port) => self.listens(*port),
                Ready::File(path) => self.scratch.join(path).exists(),
                Ready::Log(text) => has_text(&shared.folder.log(&self.plan.name), text),
                Ready::Connected => self.ports.iter().all(|port| port.stats.is_up()),
            };
            if !holds {
                return;
            }
            self.held += 1;
        }
        self.phase = Phase::Ready;
        self.detail.clear();
    }

    /// Connects to passt once that listens. Returns whether it is connected.
    fn is_passt_connected(&mut self, shared: &mut Shared<'_>) -> bool {
        "waits for passt".clone_into(&mut self.detail);
        let socket = self.scratch.join(PASST_SOCKET);
        if self.ports.is_empty() && socket.exists() {
            let text = format!("socket:path={},framing=qemu,role=client", socket.display());
            if let Err(error) = self.open_ports(&text, shared) {
                self.fail(&error.to_string(), shared);
            }
        }
        !self.ports.is_empty() && self.ports.iter().all(|port| port.stats.is_up())
    }

    /// Returns whether a socket in its network listens on a TCP port.
    fn listens(&self, port: u16) -> bool {
        let read = || {
            ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
                .map(|path| fs::read_to_string(path).unwrap_or_default())
                .concat()
        };
        let table = match &self.space {
            Some(space) => space.run(read).unwrap_or_default(),
            None => read(),
        };
        listens_in(&table, port)
    }

    /// Takes note that a process of it has ended.
    pub(super) fn ended(&mut self, purpose: &Purpose, code: u8, shared: &mut Shared<'_>) {
        match purpose {
            Purpose::Exec => {
                self.probe = None;
                if code == 0 {
                    self.executed += 1;
                    self.next_look = Instant::now();
                } else if self.phase == Phase::Starting {
                    let command = self.plan.exec.get(self.executed).cloned().unwrap_or_default();
                    self.fail(&format!("'{command}' has ended with exit code {code}"), shared);
                }
            }
            Purpose::Probe => {
                self.probe = None;
                if code == 0 {
                    self.held += 1;
                    self.next_look = Instant::now();
                }
            }
            Purpose::Service(index) => self.service_ended(*index, code, shared),
            Purpose::Task(_) => {}
        }
    }

    fn service_ended(&mut self, index: usize, code: u8, shared: &mut Shared<'_>) {
        let Some(service) = self.services.get_mut(index) else { return };
        service.pid = None;
        let name = service.service.name.clone();
        let again = match service.service.restart {
            Restart::No => false,
            Restart::OnFailure => code != 0,
            Restart::Always => true,
        };
        let line = format!("the service {name} has ended with exit code {code}");
        shared.logs.say(shared.folder, &self.plan.name, &line);
        if again {
            if service.since.elapsed() > LAST_PAUSE {
                service.pause = FIRST_PAUSE;
            }
            service.due = Some(Instant::now() + service.pause);
            service.pause = (service.pause * 2).min(LAST_PAUSE);
        } else if code != 0 && self.phase != Phase::Failed {
            self.fail(&line, shared);
        }
    }

    /// Takes note that one of its ports was closed. Returns whether it is one of its.
    pub(super) fn port_closed(
        &mut self,
        id: node::PortId,
        why: &str,
        shared: &mut Shared<'_>,
    ) -> bool {
        let is_ours = self.ports.iter().any(|port| port.id == id);
        // A capture that was played to its end is closed in good order.
        if is_ours && !matches!(self.plan.kind, Kind::Pcap(_)) {
            self.fail(&format!("a port is closed: {why}"), shared);
        }
        is_ours
    }

    pub(super) fn fail(&mut self, why: &str, shared: &Shared<'_>) {
        self.phase = Phase::Failed;
        why.clone_into(&mut self.detail);
        shared.logs.say(shared.folder, &self.plan.name, why);
        shared.logs.settle();
    }

    /// Ends its processes and closes its ports. Afterwards it waits to be started.
    pub(super) fn stop(&mut self, shared: &mut Shared<'_>) {
        self.kill(shared.children);
        shared.children.forget(&self.plan.name);
        for port in self.ports.drain(..) {
            shared.lans.close(&port);
        }
        let plan = self.plan.clone();
        let restarts = self.restarts;
        *self = Self { restarts, ..Self::new(plan, shared.folder) };
    }

    /// Follows a LAN that does something else to frames from now on.
    pub(super) fn follow(&self, lan: &str, impairments: &Impairments) {
        for (link, interface) in self.links().zip(&self.plan.interfaces) {
            if interface.lan == lan {
                link.follow(impairments);
            }
        }
    }

    /// Returns what its interfaces do to frames, in their order; nothing for kinds that are on the
    /// buses themselves, and before it is started.
    fn links(&self) -> impl Iterator<Item = &InterfaceImpairments> {
        self.ports.iter().map(|port| &port.impairments).chain(&self.host_link)
    }

    fn links_mut(&mut self) -> impl Iterator<Item = &mut InterfaceImpairments> {
        self.ports.iter_mut().map(|port| &mut port.impairments).chain(&mut self.host_link)
    }

    /// Changes what one of its interfaces does to frames; it is named by itself or by its LAN.
    pub(super) fn impair(&mut self, interface: &str, impair: &str) -> Result<(), LabError> {
        let is_it = |found: &Interface| found.name == interface || found.lan == interface;
        let Some(index) = self.plan.interfaces.iter().position(is_it) else {
            return Err(LabError::Refused(format!(
                "{} has no interface {interface}",
                self.plan.name
            )));
        };
        let name = self.plan.name.clone();
        match self.links_mut().nth(index) {
            Some(link) => link.change(impair),
            None => Err(LabError::Refused(format!(
                "{name} is on the bus itself, where nothing could impair {interface}: impair the \
                 other end"
            ))),
        }
    }

    /// Lets one of its interfaces do to frames what its plan says by now.
    pub(super) fn replace(&mut self, interface: &str, shared: &Shared<'_>) -> Result<(), LabError> {
        let found = self.plan.interfaces.iter().position(|found| found.name == interface);
        let Some((index, own)) = found.map(|index| (index, self.plan.interfaces[index].clone()))
        else {
            return Ok(());
        };
        match self.links_mut().nth(index) {
            Some(link) => link.replace(own.impair.as_deref(), &shared.lans.of(&own.lan)),
            // There is nothing to change yet.
            None => Ok(()),
        }
    }

    /// Returns its interfaces, which are gone when this is dropped and no port serves them.
    pub(super) fn take_taps(&mut self) -> Taps {
        std::mem::take(&mut self.taps)
    }

    /// Kills its processes, also those that have left the groups of its commands.
    pub(super) fn kill(&self, children: &Children) {
        children.signal(&self.plan.name, Signal::SIGKILL);
        match &self.space {
            Some(space) => space.kill_all(),
            None => strays::kill_where(|pid| strays::has_variable(pid, NODE_DIR, &self.scratch)),
        }
    }

    /// Returns how it is.
    pub(super) fn state(&self, hosts: &Hosts, children: &Children) -> NodeState {
        let of_host = hosts.state(&self.plan.name).addresses;
        let interface = |(index, interface): (usize, &Interface)| InterfaceState {
            name: interface.name.clone(),
            lan: interface.lan.clone(),
            addresses: if of_host.is_empty() {
                interface.addresses.iter().map(ToString::to_string).collect()
            } else {
                of_host.clone()
            },
            impair: (self.links().nth(index))
                .map(|link| link.handle.get().to_string())
                .unwrap_or_default(),
            up: match self.ports.get(index) {
                Some(port) => port.stats.is_up(),
                None => self.phase == Phase::Ready,
            },
        };
        NodeState {
            name: self.plan.name.clone(),
            kind: self.plan.kind.word().to_owned(),
            phase: self.phase,
            detail: self.detail.clone(),
            interfaces: self.plan.interfaces.iter().enumerate().map(interface).collect(),
            processes: children.count(&self.plan.name),
            restarts: self.restarts,
        }
    }
}

impl RunningService {
    fn new(service: Service) -> Self {
        Self { service, pid: None, since: Instant::now(), pause: FIRST_PAUSE, due: None }
    }
}

/// Returns further keys as they follow others.
fn keys(keys: &str) -> String {
    if keys.is_empty() { String::new() } else { format!(",{keys}") }
}

fn describe(ready: &Ready) -> String {
    match ready {
        Ready::Exec(command) => format!("waits for '{command}'"),
        Ready::Tcp(port) => format!("waits for a server on TCP port {port}"),
        Ready::File(path) => format!("waits for the file {}", path.display()),
        Ready::Log(text) => format!("waits for '{text}' in its log"),
        Ready::Connected => "waits for its peer".to_owned(),
    }
}

/// Returns the variables in the environment of the commands of a node.
fn environment(
    node: &Node,
    plan: &Plan,
    folder: &Folder,
    scratch: &Path,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
    set("LAB", plan.name.clone());
    set("LAB_DIR", folder.path().display().to_string());
    set("NODE", node.name.clone());
    set(NODE_DIR, scratch.display().to_string());
    for lan in plan.lans_here() {
        let good = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
        let name: String = lan.name.chars().map(good).collect();
        set(&format!("BUS_{name}"), folder.bus(&lan.name).display().to_string());
    }
    set("PATH", with_system_programs(&env::var("PATH").unwrap_or_default()));
    variables.extend(node.env.clone());
    variables
}

/// Returns a `PATH` on which the programs of the system's administrator are found: commands of a node
/// are its administrator.
fn with_system_programs(path: &str) -> String {
    let missing =
        SYSTEM_PROGRAMS.iter().filter(|folder| !path.split(':').any(|found| found == **folder));
    let folders = path.split(':').chain(missing.copied()).filter(|folder| !folder.is_empty());
    folders.collect::<Vec<_>>().join(":")
}

/// Returns what a node's `/etc/hosts` begins with: its own name, then all nodes with addresses.
fn hosts_file(plan: &Plan, node: &Node) -> String {
    let mut text = String::new();
    let others = plan.nodes.iter().filter(|other| other.name != node.name);
    for node in [node].into_iter().chain(others) {
        for address in node.interfaces.iter().flat_map(|interface| &interface.addresses) {
            let _ = writeln!(text, "{}\t{}", address.addr(), node.name);
        }
    }
    if node.interfaces.iter().all(|interface| interface.addresses.is_empty()) {
        let _ = writeln!(text, "127.0.1.1\t{}", node.name);
    }
    text
}

/// Returns the service that runs a virtual machine. What its console prints is in the node's log.
fn machine(vm: &Vm, node: &Node) -> Service {
    let mut words = vec![vm.program.display().to_string()];
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"]);
    add(&["-serial", "stdio", "-no-reboot", "-accel", "kvm", "-accel", "tcg"]);
    add(&["-m", &vm.memory.to_string()]);
    if let Some(kernel) = &vm.kernel {
        add(&["-kernel", &kernel.display().to_string(), "-append", &vm.append]);
    }
    if let Some(initrd) = &vm.initrd {
        add(&["-initrd", &initrd.display().to_string()]);
    }
    if let Some(disk) = &vm.disk {
        add(&["-drive", &format!("file={},if=virtio,snapshot=on", disk.display())]);
    }
    for (index, interface) in node.interfaces.iter().enumerate() {
        add(&[
            "-netdev",
            &format!(
                "stream,id=n{index},server=off,addr.type=unix,addr.path={}.sock",
                interface.name
            ),
            "-device",
            &format!("virtio-net-pci,netdev=n{index},mac={}", MacAddr6::from(interface.mac)),
        ]);
    }
    add(&vm.arguments.iter().map(|word| &**word).collect::<Vec<_>>());
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    Service {
        name: "vm".to_owned(),
        command: format!("exec {}", quoted.join(" ")),
        restart: Restart::No,
    }
}

/// Returns the service that is the internet. It stays the lab's root, who is this user outside: where
/// real root has started the lab it would become a user who may not write in the scratch folder.
fn passt(mtu: u32) -> Service {
    Service {
        name: "passt".to_owned(),
        command: format!(
            "exec passt --runas 0:0 --foreground --mtu {} --socket {PASST_SOCKET}",
            mtu.min(MAX_PASST_MTU)
        ),
        restart: Restart::OnFailure,
    }
}

/// Returns a word as the shell takes it.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Returns whether the end of a log has a text in it.
fn has_text(log: &Path, text: &str) -> bool {
    use std::io::Seek as _;
    let Ok(mut file) = fs::File::open(log) else { return false };
    let len = file.metadata().map_or(0, |found| found.len());
    let mut bytes = Vec::new();
    let from = std::io::SeekFrom::Start(len.saturating_sub(MAX_SEARCH));
    let read = file.seek(from).and_then(|_| file.take(MAX_SEARCH).read_to_end(&mut bytes));
    read.is_ok() && String::from_utf8_lossy(&bytes).contains(text)
}

/// Returns whether a table of `/proc/net/tcp` has a listening socket on `port`.
fn listens_in(table: &str, port: u16) -> bool {
    table.lines().any(|line| {
        let mut words = line.split_whitespace();
        let (Some(local), Some(state)) = (words.nth(1), words.nth(1)) else { return false };
        let found = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        found == Some(port) && state == LISTEN
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_told_from_others() {
        let table = "  sl  local_address rem_address   st\n   \
                     0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000\n   \
                     1: 0100007F:0050 0100007F:9C40 01 00000000:00000000 00:00000000\n";
        assert!(listens_in(table, 8_080));
        assert!(!listens_in(table, 80), "connected");
        assert!(!listens_in("", 80));
    }

    #[test]
    fn words_reach_the_program_through_the_shell() {
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
    }
}
