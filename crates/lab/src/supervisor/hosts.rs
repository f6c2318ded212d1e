//! The `host` nodes of a lab: one thread serves them all.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use iphost::{BusNic, HostAddress, HostSet, ImpairedNic, PingPlan, Pinger, Services, Stack};
use node::{BusIdentities, Report, Reports};
use port::{ImpairHandle, WakeFd};
use shmbus::{Bus, MacAddr6, Station, StationOptions};

use crate::error::LabError;
use crate::plan::{Host, Interface, Node};

/// The longest sleep of the thread, in which nothing is missed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How long a host is polled after it received a frame, before it sleeps.
const BUSY_POLL: Duration = Duration::from_micros(50);
/// How long a ping waits for its reply.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

type HostNic = ImpairedNic<BusNic<Station>>;
type HostStack = Stack<HostNic>;

/// The thread of the hosts. Dropping this ends it, and them.
pub(super) struct Hosts {
    orders: Sender<Order>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and the supervisor share.
struct Shared {
    /// Wakes the thread.
    wake_fd: WakeFd,
    /// Wakes the supervisor, as something has changed.
    changed: Arc<WakeFd>,
    is_over: AtomicBool,
    states: Mutex<BTreeMap<String, HostState>>,
    /// What has come of pings: the token of each, and the detail of one that failed.
    pings: Mutex<Vec<(u64, Result<String, String>)>>,
}

/// What the thread is to do.
enum Order {
    Add { name: String, host: Host, stack: Box<HostStack> },
    Ping { token: u64, name: String, target: IpAddr },
}

/// How a host is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostState {
    /// Whether it uses its addresses, and those that it is to have from its network.
    pub(super) is_ready: bool,
    pub(super) addresses: Vec<String>,
    /// Why it cannot be used, if another has its address.
    pub(super) conflict: Option<String>,
}

impl Hosts {
    /// Starts the thread. `changed` is woken when a host is ready, or a ping is over.
    pub(super) fn start(changed: Arc<WakeFd>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            wake_fd: WakeFd::new()?,
            changed,
            is_over: AtomicBool::new(false),
            states: Mutex::default(),
            pings: Mutex::default(),
        });
        let (orders, received) = mpsc::channel();
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("hosts".to_owned());
        let thread = thread.spawn(move || Serving::new(theirs, received).run())?;
        Ok(Self { orders, shared, thread: Some(thread) })
    }

    /// Starts the host of `node` on `bus`. What its link does to frames is that of `impair`.
    pub(super) fn add(
        &self,
        node: &Node,
        (host, interface): (&Host, &Interface),
        bus: Bus,
        impair: ImpairHandle,
    ) -> Result<(), LabError> {
        let refused = |why: String| LabError::Refused(format!("the host {}: {why}", node.name));
        let options =
            StationOptions::new().name(node.name.clone()).mac(MacAddr6::from(interface.mac));
        let station = Station::join(bus, options).map_err(|error| refused(error.to_string()))?;
        let addresses = interface.addresses.iter().map(|address| address.to_string().parse());
        let addresses: Vec<HostAddress> = addresses
            .collect::<Result<_, _>>()
            .map_err(|error: iphost::ParseAddressError| refused(error.to_string()))?;
        let nic = ImpairedNic::new(BusNic::new(station), impair);
        let mut stack = Box::new(Stack::new(nic, &addresses));
        stack.name_gateways(&host.gateways);
        if host.slaac || addresses.iter().any(|address| address.address().is_ipv6()) {
            stack.accept_router_advertisements();
        }
        if host.dhcp {
            stack.use_dhcp(Some(&node.name));
        }
        stack.claim_addresses();
        self.order(Order::Add { name: node.name.clone(), host: host.clone(), stack });
        Ok(())
    }

    /// Pings once from the host `name`. [`pings`](Self::pings) has the result, under `token`.
    pub(super) fn ping(&self, token: u64, name: &str, target: IpAddr) {
        self.order(Order::Ping { token, name: name.to_owned(), target });
    }

    fn order(&self, order: Order) {
        // The thread is there as long as this value, unless its buses are lost.
        let _ = self.orders.send(order);
        self.shared.wake_fd.wake();
    }

    /// Returns how a host is.
    pub(super) fn state(&self, name: &str) -> HostState {
        let states = self.shared.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(name).cloned().unwrap_or_default()
    }

    /// Takes the results of pings that are over.
    pub(super) fn pings(&self) -> Vec<(u64, Result<String, String>)> {
        std::mem::take(&mut *self.shared.pings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // Relaxed: the flag orders nothing.
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.shared.wake_fd.wake();
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// The thread's own.
struct Serving {
    shared: Arc<Shared>,
    orders: Receiver<Order>,
    hosts: HostSet<HostNic>,
    entries: Vec<Entry>,
    pingers: Vec<RunningPing>,
    reports: Reports,
}

/// What belongs to the host of the same index.
struct Entry {
    name: String,
    host: Host,
    services: Services,
    state: HostState,
}

struct RunningPing {
    token: u64,
    index: usize,
    pinger: Pinger,
}

impl Serving {
    fn new(shared: Arc<Shared>, orders: Receiver<Order>) -> Self {
        let hosts = HostSet::new().busy_poll(BUSY_POLL);
        let (entries, pingers, reports) = (Vec::new(), Vec::new(), Reports::begin());
        Self { shared, orders, hosts, entries, pingers, reports }
    }

    fn run(mut self) {
        while !self.shared.is_over.load(Ordering::Relaxed) {
            self.shared.wake_fd.drain();
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order);
            }
            let now = Instant::now();
            let due = self.pingers.iter().map(|ping| ping.pinger.due());
            let sleep = due.min().map_or(LONGEST_SLEEP, |due| due.saturating_duration_since(now));
            let sleep = self.reports.due_in().map_or(sleep, |due| due.min(sleep));
            let Ok(woken) =
                self.hosts.wait(&[self.shared.wake_fd.as_fd()], sleep.min(LONGEST_SLEEP))
            else {
                self.lose_all();
                return;
            };
            for index in woken {
                self.reports.mark_changed();
                self.serve(index);
            }
            self.step_pings();
            self.publish();
        }
        for index in 0..self.entries.len() {
            if self.entries[index].host.dhcp {
                self.hosts[index].release_lease();
                let _ = self.hosts[index].poll(&mut |_| {});
            }
        }
    }

    /// Publishes the counters of the hosts.
    fn publish(&mut self) {
        let mut identities = BusIdentities::default();
        let hosts = &mut self.hosts;
        self.reports.publish((0..self.entries.len()).filter_map(|index| {
            let station = hosts[index].station()?;
            Some(Report::of_station(station, identities.of(station.bus().path())?))
        }));
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Add { name, host, mut stack } => {
                let services = Services::open(stack.sockets(), host.tcp_sink);
                self.hosts.push(*stack);
                let state = HostState::default();
                self.entries.push(Entry { name, host, services, state });
            }
            Order::Ping { token, name, target } => {
                let Some(index) = self.entries.iter().position(|entry| entry.name == name) else {
                    return self.report_ping(token, Err(format!("no host {name} is up")));
                };
                if self.hosts[index].source_for(target).is_none() {
                    return self.report_ping(token, Err(format!("there is no way to {target}")));
                }
                let plan = PingPlan {
                    target,
                    count: Some(1),
                    interval: PING_TIMEOUT,
                    size: 56,
                    timeout: PING_TIMEOUT,
                };
                let pinger = Pinger::start(&mut self.hosts[index], plan);
                self.pingers.push(RunningPing { token, index, pinger });
            }
        }
    }

    fn serve(&mut self, index: usize) {
        let (stack, entry) = (&mut self.hosts[index], &mut self.entries[index]);
        // A frame that the bus does not take is lost, as on any Ethernet.
        let _ = stack.poll(&mut |sockets| entry.services.accept(sockets));
        stack.serve(&mut entry.services, &mut |_| {});
        while stack.next_change().is_some() {}
        let mut state = entry.state.clone();
        while let Some(conflict) = stack.next_conflict() {
            state.conflict = Some(conflict.to_string());
        }
        let host = &entry.host;
        state.is_ready = stack.is_up()
            && !stack.is_claiming()
            && (!host.dhcp || stack.is_leased())
            && (!host.slaac || stack.has_made_address());
        state.addresses = stack.addresses().map(|address| address.to_string()).collect();
        if state != entry.state {
            entry.state = state.clone();
            let mut states = self.shared.states.lock().unwrap_or_else(PoisonError::into_inner);
            states.insert(entry.name.clone(), state);
            drop(states);
            self.shared.changed.wake();
        }
    }

    fn step_pings(&mut self) {
        let pingers = std::mem::take(&mut self.pingers);
        for mut ping in pingers {
            let stack = &mut self.hosts[ping.index];
            let mut events = String::new();
            // What it has written leaves in the host's next round: a round here could receive the
            // reply, and nothing would say so.
            if !ping.pinger.step(stack, |event| events = format!("{event:?}")) {
                self.pingers.push(ping);
                continue;
            }
            let result = if ping.pinger.finish(stack).received() > 0 {
                Ok(events)
            } else {
                Err("no reply".to_owned())
            };
            self.report_ping(ping.token, result);
        }
    }

    fn report_ping(&self, token: u64, result: Result<String, String>) {
        let mut pings = self.shared.pings.lock().unwrap_or_else(PoisonError::into_inner);
        pings.push((token, result));
        drop(pings);
        self.shared.changed.wake();
    }

    /// Reports that the hosts have lost their bus.
    fn lose_all(&self) {
        let mut states = self.shared.states.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in &self.entries {
            let conflict = Some("its bus is lost".to_owned());
            states.insert(entry.name.clone(), HostState { conflict, ..HostState::default() });
        }
        drop(states);
        self.shared.changed.wake();
    }
}
