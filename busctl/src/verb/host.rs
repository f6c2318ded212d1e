//! `busctl host`: a small IP host.

mod commands;
mod task;

use std::io::Write as _;
use std::num::NonZeroU16;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use iphost::{
    ECHO_PORT, HostAddress, HostSet, ImpairedNic, Nic, Services, SleepError, Stack, Transfer,
    count_up,
};
use node::{BusIdentities, Counters, Report, Reports};
use port::{ImpairHandle, Impairments};
use serde::Serialize;
use shmbus::SendError;

use self::task::{Task, TcpSourceTask};
use crate::bus_argument::{BusArgument, NewBus};
use crate::context::Context;
use crate::detached::{Detach, Request};
use crate::host_network::{ChangeReports, HostNetwork, HostView};
use crate::misuse::{OrMisuse as _, misuse, remedy};
use crate::nic_argument::{HostNic, NicArgument};
use crate::output;
use crate::port_view::Totals;
use crate::process::shutdown::Shutdown;
use crate::service::Service;

/// The longest sleep while nothing is due.
const IDLE_SLEEP: Duration = Duration::from_secs(1);
/// How long a host polls after the last frame: to fall asleep and be woken takes longer than most
/// answers.
const BUSY_POLL: Duration = Duration::from_micros(50);
/// How long a host waits for addresses from its network before it says so.
const LONG_WAIT: Duration = Duration::from_secs(10);
/// How often, at most, the user is warned that frames are lost.
const LOSS_WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Run a small IP host, until stopped
///
/// The host answers ARP and IPv6 neighbor discovery, ICMP echo, and UDP and TCP echo on port 7, also
/// in fragments. It prints 'ready' when it can be used: on a bus after a tenth of a second, in which
/// it asks whether another host has its addresses; behind memif when the peer has connected as well.
/// Then it announces its addresses. With an IPv6 address it also has a link-local one, makes further
/// ones of the prefixes that routers advertise (SLAAC), and reaches other networks through them;
/// through others with --gateway. It ignores redirects. Behind memif in mode=ip there are packets and
/// no Ethernet: the peer is the way to all other hosts.
///
/// With --dhcp and --slaac, 'ready' comes when the host uses an address of each kind; with --dhcp it
/// does not wait for an IPv6 router. Leases, renewals, losses and routers are reported on stderr. The
/// lease is given back at the end.
///
/// When another host has an address at the start, this one ends with exit code 1. When another
/// claims one later, this one warns, keeps the address and announces it again, at most every 10
/// seconds.
///
/// When BUS is an interface, this process runs it and follows its record; when the interface is
/// destroyed, the host ends. The interface does the checksums and the TCP segmentation that its
/// 'capenable' names; the host does the rest itself.
///
/// It notifies a supervisor such as systemd as 'busctl node' does. With -d it runs in the
/// background.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 1: another host has the address; the peer did not acknowledge all bytes of --tcp-source.\n\n\
                        Examples:\n  \
                        busctl host ./lan.bus 10.0.0.1/24\n  \
                        busctl host shmif0 10.0.0.1/24 fd00::1/64\n  \
                        busctl host memif:role=client,id=1,socket=./memif.sock 10.0.0.2/24\n  \
                        busctl host memif:mode=ip,socket=./ip.sock 10.0.0.2/24 fd00::2/64\n  \
                        busctl host ./lan.bus 10.0.0.1/24 --count 250\n  \
                        busctl host ./lan.bus 10.0.0.1/24 --impair delay=20ms,loss=1%,seed=7\n  \
                        busctl host -d=web ./lan.bus 10.0.0.1/24; busctl stop web\n  \
                        busctl host ./lan.bus 10.0.0.1/24 fd00::1/64 --gateway 10.0.0.254 --name web\n  \
                        busctl host ./lan.bus --dhcp\n  \
                        busctl host ./lan.bus 10.0.0.1/24 --tcp-sink 5001 &\n  \
                        busctl host ./lan.bus 10.0.0.2/24 --tcp-source 10.0.0.1:5001 1G"
)]
pub(crate) struct Args {
    /// An interface, the path of a bus with a '/' in it, or memif:key=value,... as 'busctl attach'
    /// takes it
    #[arg(value_name = "BUS")]
    bus: NicArgument,

    /// The addresses of the host, each with its prefix length
    #[arg(value_name = "ADDR/LEN", required_unless_present_any = ["dhcp", "slaac"])]
    addresses: Vec<HostAddress>,

    /// Run N hosts in this process, each as a station; their addresses count up from ADDR
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true, value_parser = clap::value_parser!(u32).range(1..=250))]
    count: u32,

    #[command(flatten)]
    network: HostNetwork,

    /// Receive on this TCP port, and print bytes and speed of each connection
    #[arg(long, value_name = "PORT")]
    tcp_sink: Option<NonZeroU16>,

    /// Send BYTES (such as 64K, 10M or 1G) to a TCP port, print the speed, and stop
    #[arg(long, num_args = 2, value_names = ["ADDR:PORT", "BYTES"], conflicts_with_all = ["count", "commands"])]
    tcp_source: Option<Vec<String>>,

    /// Print JSON only, an object per line: {"ready":true}, then each transfer
    #[arg(long)]
    json: bool,

    /// Make the links of the hosts misbehave, in the words of 'busctl attach', such as
    /// delay=20ms,in.loss=1%; in. is from the host to the bus; each host
    /// has its own seed, made of the given one; may be repeated
    #[arg(long, value_name = "KEY=VALUE,...")]
    impair: Vec<String>,

    /// How a missing bus is made
    #[command(flatten)]
    new_bus: NewBus,

    /// Read commands from stdin, and stop when it ends
    #[arg(
        long,
        conflicts_with_all = ["count", "detach"],
        long_help = "Read commands from stdin, one per line, and stop when it ends. 'ping ADDR [COUNT [SECONDS]]' pings from this \
                     host and prints the result as JSON, with the keys of 'busctl ping --json' and 'target'. A command that \
                     fails is answered with the key 'error'"
    )]
    commands: bool,

    /// Whether it runs in the background
    #[command(flatten)]
    detach: Detach,
}

impl Args {
    /// Returns what is to run detached, if that is asked for.
    pub(crate) fn detached(&self) -> Option<Request> {
        let bus = match &self.bus {
            NicArgument::Bus(bus) => bus.absolute(),
            NicArgument::Memif(_) => "memif".to_owned(),
        };
        Some(self.detach.request("host", Some(bus))?.json(self.json))
    }
}

/// What `host --json` prints when the hosts can be used.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    /// What the hosts have, if they have it from their network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<HostView>,
}

/// Runs the hosts until the process is asked to stop, or their task is done.
///
/// # Errors
/// When the addresses do not fit together, the bus cannot be joined, another host has one of the
/// addresses, or not all of --tcp-source was sent.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let addresses =
        count_up(&args.addresses, args.count).map_err(|problem| misuse(anyhow!(problem)))?;
    let tcp_source = args
        .tcp_source
        .as_deref()
        .map(|words| TcpSourceTask::parse(words, &args.addresses, (&args.bus, &args.network)))
        .transpose()?;
    check(args)?;
    let impairments: Impairments = args.impair.join(",").parse().misuse()?;
    let stop = Shutdown::on_signals()?;
    let (mut stations, mut links) = (Vec::new(), Vec::new());
    let (mut impaired_stations, mut impaired_links) = (Vec::new(), Vec::new());
    for (number, addresses) in (0..).zip(&addresses) {
        let new_bus = args.new_bus.options();
        let station = args.network.station(number, args.count)?;
        match args.bus.open(context, Some(&new_bus), station, args.network.mac())? {
            HostNic::Bus(nic) if impairments.is_none() => {
                stations.push(Stack::new(*nic, addresses));
            }
            HostNic::Memif(nic) if impairments.is_none() => {
                links.push(Stack::new(*nic, addresses));
            }
            HostNic::Bus(nic) => {
                let own = impairments.clone().vary_seed(number.into());
                let nic = ImpairedNic::new(*nic, ImpairHandle::new(own));
                impaired_stations.push(Stack::new(nic, addresses));
            }
            HostNic::Memif(nic) => {
                let own = impairments.clone().vary_seed(number.into());
                let nic = ImpairedNic::new(*nic, ImpairHandle::new(own));
                impaired_links.push(Stack::new(nic, addresses));
            }
        }
    }
    let task = match tcp_source {
        Some(tcp_source) => Task::TcpSourceTask(tcp_source),
        None if args.commands => Task::Commands(Box::default()),
        None => Task::None,
    };
    // All hosts are on a bus, or all on memif, with impairments or without.
    let service = &mut context.service();
    match (links.is_empty(), impaired_links.is_empty(), impaired_stations.is_empty()) {
        (_, _, false) => serve(impaired_stations, task, args, &stop, service),
        (_, false, _) => serve(impaired_links, task, args, &stop, service),
        (false, ..) => serve(links, task, args, &stop, service),
        _ => serve(stations, task, args, &stop, service),
    }
}

fn check(args: &Args) -> anyhow::Result<()> {
    args.network.check(&args.bus, &args.addresses)?;
    if args.count > 1 && !matches!(args.bus, NicArgument::Bus(BusArgument::Path(_))) {
        let why = "an interface is one station; give the path of its bus instead";
        return Err(misuse(anyhow!("there cannot be {} hosts there: {why}", args.count)));
    }
    if args.tcp_sink.is_some_and(|port| port.get() == ECHO_PORT) {
        return Err(misuse(anyhow!(
            "port {ECHO_PORT} cannot be a sink: it is the echo's; take another"
        )));
    }
    Ok(())
}

/// Serves the hosts until the process is asked to stop, or their task is done. A task belongs to
/// the first host, which is the only one then.
fn serve<N: Nic>(
    stacks: Vec<Stack<N>>,
    task: Task,
    args: &Args,
    stop: &Shutdown,
    service: &mut Service<'_>,
) -> anyhow::Result<()> {
    let mut hosts = HostSet::new().busy_poll(BUSY_POLL);
    let mut services = Vec::new();
    let hears_routers = args.network.hears_routers(&args.addresses) && !args.bus.is_ip_mode();
    for (number, mut stack) in (0..).zip(stacks) {
        args.network.apply(&mut stack, (number, args.count), hears_routers);
        services.push(Services::open(stack.sockets(), args.tcp_sink.map(NonZeroU16::get)));
        stack.claim_addresses();
        hosts.push(stack);
    }
    let result = serve_until_over(&mut hosts, &mut services, task, args, stop, service);
    // An error is one line.
    if result.is_ok() {
        say_counters(&mut hosts, services.len());
    }
    if args.network.dhcp {
        let mut loss_warnings = LossWarnings::default();
        for index in 0..services.len() {
            hosts[index].release_lease();
            loss_warnings.report(hosts[index].poll(&mut |_| {}));
        }
    }
    result
}

/// As [`serve`], without giving leases back.
fn serve_until_over<N: Nic>(
    hosts: &mut HostSet<N>,
    services: &mut [Services],
    mut task: Task,
    args: &Args,
    stop: &Shutdown,
    service: &mut Service<'_>,
) -> anyhow::Result<()> {
    let mut rounds = 0;
    let mut loss_warnings = LossWarnings::default();
    let mut waiting = Waiting { begin: Instant::now(), is_reported: false };
    let mut changes = ChangeReports::default();
    let mut transfers = Vec::new();
    let mut ready = false;
    let mut over = false;
    let mut reports = Reports::begin();
    while !over && !stop.requested() {
        let sleep = reports.due_in().map_or(IDLE_SLEEP, |due| due.min(IDLE_SLEEP));
        for index in wait(hosts, &task, service.longest_sleep(sleep), stop)? {
            reports.mark_changed();
            let stack = &mut hosts[index];
            // A frame that the bus does not take is lost, as on any Ethernet; the bus may be free
            // the next time.
            let done = &mut |transfer| transfers.push(transfer);
            loss_warnings.report(round(stack, &mut services[index], done));
            report_conflicts(stack)?;
            changes.report(stack);
            if ready {
                over |= task.step(stack)?;
            }
            if let Err(destroyed) = stack.check() {
                // The user asked for it, as with a signal.
                output::note(&format!("{destroyed}: the host ends"));
                over = true;
            }
        }
        let is_usable =
            |stack: &Stack<N>| stack.is_up() && !stack.is_claiming() && args.network.is_done(stack);
        if !ready && hosts.iter().all(is_usable) {
            ready = true;
            service.ready()?;
            let is_automatic = args.network.is_automatic();
            let views = hosts.iter().filter(|_| is_automatic).map(HostView::of).collect();
            announce(args.json, views)?;
        }
        rounds += 1;
        service.alive(|| vec![rounds]);
        // New each time: another file may have the path by now.
        let mut identities = BusIdentities::default();
        reports.publish((0..services.len()).filter_map(|index| {
            let station = hosts[index].station()?;
            Some(Report::of_station(station, identities.of(station.bus().path())?))
        }));
        let is_leased = hosts.iter().all(Stack::is_leased);
        waiting.report(ready, is_leased, &args.network);
        for transfer in transfers.drain(..) {
            print(&transfer, args.json)?;
        }
    }
    service.stopping();
    match task {
        Task::TcpSourceTask(tcp_source) => {
            // Sends what is still queued.
            loss_warnings.report(round(&mut hosts[0], &mut services[0], &mut |_| {}));
            match tcp_source.result(&mut hosts[0]) {
                Some((transfer, trouble)) => {
                    print(&transfer, args.json)?;
                    trouble.map_or(Ok(()), |trouble| Err(anyhow!(trouble)))
                }
                None if args.network.is_automatic() => {
                    Err(anyhow!("nothing was sent: the host has no address from its network"))
                }
                None => Err(anyhow!("nothing was sent: no memif peer has connected")),
            }
        }
        Task::Commands(_) | Task::None => Ok(()),
    }
}

/// Prints what hosts on a bus have counted, at their end, if frames have passed.
fn say_counters<N: Nic>(hosts: &mut HostSet<N>, count: usize) {
    let mut counters = Counters::default();
    for index in 0..count {
        let Some(station) = hosts[index].station() else { continue };
        counters = counters.plus(Counters::of_station(&station.stats()));
    }
    if counters.rx_packets + counters.tx_packets > 0 {
        let who = if count == 1 { "the host".to_owned() } else { format!("{count} hosts") };
        output::note(&format!("{who}: {}", Totals(counters)));
    }
}

/// Waits until a host or the task has something to do; returns the hosts whose turn it is.
fn wait<N: Nic>(
    hosts: &mut HostSet<N>,
    task: &Task,
    idle_sleep: Duration,
    stop: &Shutdown,
) -> Result<Vec<usize>, SleepError> {
    let due = task.due().map(|due| due.saturating_duration_since(Instant::now()));
    let pause = due.unwrap_or(idle_sleep);
    let input = task.input();
    let mut others = vec![stop.as_fd()];
    others.extend(input.as_ref().map(|input| input.as_fd()));
    let woken = hosts.wait(&others, pause)?;
    // What a task does need not depend on the bus.
    Ok(if matches!(task, Task::None) { woken } else { vec![0] })
}

/// Prints that the hosts can be used, and what they have from their network.
fn announce(json: bool, hosts: Vec<HostView>) -> anyhow::Result<()> {
    if json {
        output::print_json(&Ready { ready: true, hosts })?;
    } else {
        writeln!(output::stdout(), "ready")?;
    }
    Ok(output::stdout().flush()?)
}

/// Warns of other hosts that claim an address of this one.
///
/// # Errors
/// When another had the address before.
fn report_conflicts<N: Nic>(stack: &mut Stack<N>) -> anyhow::Result<()> {
    while let Some(conflict) = stack.next_conflict() {
        if stack.is_claiming() {
            bail!("the address is taken: {conflict}; take another address");
        }
        output::warn(format_args!("{conflict}; both hosts are hard to reach"));
    }
    Ok(())
}

/// Does what a host has to do.
fn round<N: Nic>(
    stack: &mut Stack<N>,
    services: &mut Services,
    done: &mut dyn FnMut(Transfer),
) -> Result<(), SendError> {
    let result = stack.poll(&mut |sockets| services.accept(sockets));
    stack.serve(services, done);
    result
}

fn print(transfer: &Transfer, json: bool) -> anyhow::Result<()> {
    if json {
        output::print_json(transfer)?;
    } else {
        writeln!(output::stdout(), "{transfer}")?;
    }
    Ok(())
}

/// Says, once, what hosts wait for that take long to be ready.
struct Waiting {
    begin: Instant,
    is_reported: bool,
}

impl Waiting {
    fn report(&mut self, ready: bool, is_leased: bool, network: &HostNetwork) {
        let is_long = || network.is_automatic() && self.begin.elapsed() >= LONG_WAIT;
        if !self.is_reported && !ready && is_long() {
            self.is_reported = true;
            let what = if network.dhcp && !is_leased {
                "no DHCP server has leased an address"
            } else {
                "no IPv6 router has advertised a prefix"
            };
            output::note(&format!("{what} yet; waiting"));
        }
    }
}

/// Warns that frames are lost, at most once in [`LOSS_WARNING_INTERVAL`].
#[derive(Default)]
struct LossWarnings {
    warned_at: Option<Instant>,
}

impl LossWarnings {
    fn report(&mut self, result: Result<(), SendError>) {
        let Err(error) = result else { return };
        if self.warned_at.is_none_or(|warned_at| warned_at.elapsed() >= LOSS_WARNING_INTERVAL) {
            self.warned_at = Some(Instant::now());
            output::warn(format_args!("frames were lost: {error}{}", remedy(&error)));
        }
    }
}
