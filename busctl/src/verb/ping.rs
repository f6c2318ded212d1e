//! `busctl ping`: sends ICMP echo requests.

use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use iphost::{
    Damage, HostAddress, HostSet, Nic, PingEvent, PingPlan, Pinger, Reply, Stack, largest_payload,
};
use shmbus::BusOptions;

use crate::bus_argument::parse_mode;
use crate::context::Context;
use crate::host_network::{ChangeReports, HostNetwork};
use crate::misuse::misuse;
use crate::nic_argument::{HostNic, NicArgument};
use crate::output;
use crate::process::shutdown::Shutdown;
use crate::quantity;

const INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait for an address from the network at least. A DHCP server may first look for other
/// hosts that have it, for three seconds.
const NETWORK_WAIT: Duration = Duration::from_secs(15);
/// How long to poll for a reply: to fall asleep and be woken would be a good part of the measured
/// time.
const BUSY_POLL: Duration = Duration::from_micros(200);

/// Ping a host on a bus, or behind memif
///
/// Prints a line for each reply and each ICMP error, and the statistics of ping(8) at the end or on
/// ^C. Times start when a request leaves, so they do not include the lookup of the host's Ethernet
/// address. Requests that do not fit a frame are sent in fragments. A reply with a wrong checksum
/// is no reply, and is counted apart. Other networks are reached through a router: --gateway,
/// --dhcp or --slaac (behind memif in mode=ip through the peer); redirects are printed and ignored. With -f replies print no line: on a terminal each request
/// prints a dot, each reply removes one, an error replaces it with E and a wrong checksum with C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 1: no reply came, or none with the data of its request.\n\n\
                        Examples:\n  \
                        busctl ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -c 3\n  \
                        busctl ping ./lan.bus 192.0.2.1 --from 10.0.0.2/24 --gateway 10.0.0.254\n  \
                        busctl ping ./lan.bus 192.0.2.1 --dhcp -c 3\n  \
                        busctl ping shmif0 fd00::1 --from fd00::2/64 -i 0.1 -s 1000\n  \
                        busctl ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -f -c 10000\n  \
                        busctl ping memif:role=client,socket=./memif.sock 10.0.0.1 \\\n    \
                        --from 10.0.0.2/24 -c 3 --json")]
pub(crate) struct Args {
    /// An interface, the path of a bus with a '/' in it, or memif:key=value,... as 'busctl attach'
    /// takes it
    #[arg(value_name = "BUS")]
    bus: NicArgument,

    /// The address to ping
    #[arg(value_name = "ADDR")]
    target: IpAddr,

    /// The address to ping from, with its prefix length
    #[arg(long, value_name = "ADDR/LEN", required_unless_present_any = ["dhcp", "slaac"])]
    from: Option<HostAddress>,

    #[command(flatten)]
    network: HostNetwork,

    /// Make a missing bus, with these permissions in octal; otherwise it is an error
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    mode: Option<u32>,

    /// The hop limit of the requests (IPv4: time to live) [default: 64, or what IPv6 routers
    /// advertise]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    ttl: Option<u8>,

    /// Stop after N requests
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Seconds between requests [default: 1]; 0 sends the next one after the reply, or after 10 ms
    #[arg(short, long, value_name = "SEC", value_parser = parse_seconds)]
    interval: Option<Duration>,

    /// Flood: print no lines for replies; without -i, like -i 0
    #[arg(short, long)]
    flood: bool,

    /// Bytes of data in a request; at most 65507 with IPv4, 65527 with IPv6
    #[arg(short, long, value_name = "BYTES", default_value_t = 56)]
    size: usize,

    /// Seconds to wait for a reply, and at the start for a memif peer
    #[arg(short = 'W', long, value_name = "SEC", default_value = "2", value_parser = parse_seconds)]
    timeout: Duration,

    /// Print only the result, as JSON
    #[arg(long)]
    json: bool,
}

/// Pings.
///
/// # Errors
/// When the addresses do not fit together, the bus cannot be joined or stays busy, or no reply
/// came.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    check(args)?;
    let stop = Shutdown::on_signals()?;
    let new = args.mode.map(|mode| BusOptions::new().mode(mode));
    let from = args.from.as_slice();
    let station = args.network.station(0, 1)?;
    match args.bus.open(context, new.as_ref(), station, args.network.mac())? {
        HostNic::Bus(nic) => ping(Stack::new(*nic, from), args, &stop),
        HostNic::Memif(nic) => ping(Stack::new(*nic, from), args, &stop),
    }
}

fn check(args: &Args) -> anyhow::Result<()> {
    let Args { target, from, ref network, .. } = *args;
    let may_route = network.may_route(&args.bus, from.as_slice(), target);
    let problem = if target.is_multicast() || target.is_unspecified() {
        format!("cannot ping {target}: it is not the address of a single host")
    } else if let Some(why) = from.and_then(|from| check_from(target, from, may_route)) {
        why
    } else if from.is_none() && !may_route {
        format!("cannot ping {target}: --slaac makes an IPv6 address; take --dhcp or --from")
    } else if args.size > largest_payload(target) {
        format!(
            "cannot send {} bytes in one packet: {} are the most",
            args.size,
            largest_payload(target)
        )
    } else {
        return network.check(&args.bus, from.as_slice());
    };
    Err(misuse(anyhow!(problem)))
}

/// Returns why the target cannot be reached from an address, if that is certain. There may be a
/// router.
fn check_from(target: IpAddr, from: HostAddress, may_route: bool) -> Option<String> {
    if target == from.address() {
        Some(format!("cannot ping {target}: it is the address of the ping itself"))
    } else if target.is_ipv4() != from.address().is_ipv4() && !may_route {
        Some(format!("cannot ping {target} from {from}: one is IPv4 and the other IPv6"))
    } else if !from.reaches(target) && !is_link_local(target) && !may_route {
        Some(format!(
            "cannot ping {target} from {from}: it is on another network, and there is no router; --gateway names one"
        ))
    } else {
        from.refuses(target).map(|why| format!("cannot ping {target} from {from}: {why}"))
    }
}

/// Returns whether the target is link-local. Every IPv6 host reaches such addresses, because it has
/// one itself.
fn is_link_local(target: IpAddr) -> bool {
    matches!(target, IpAddr::V6(target) if target.is_unicast_link_local())
}

fn ping<N: Nic>(mut stack: Stack<N>, args: &Args, stop: &Shutdown) -> anyhow::Result<()> {
    args.network.apply(&mut stack, (0, 1), args.network.is_automatic());
    let mut hosts = HostSet::new();
    let own = hosts.push(stack);
    let result = ping_from(&mut hosts, own, args, stop);
    if args.network.dhcp {
        hosts[own].release_lease();
        // The server also finds out by itself.
        let _ = hosts[own].poll(&mut |_| {});
    }
    result
}

/// Waits until the host can send to the target. Returns the address that it sends from.
fn wait_for_network<N: Nic>(
    hosts: &mut HostSet<N>,
    own: usize,
    args: &Args,
    stop: &Shutdown,
) -> anyhow::Result<IpAddr> {
    let Args { target, ref network, .. } = *args;
    let longest =
        if network.is_automatic() { args.timeout.max(NETWORK_WAIT) } else { args.timeout };
    let begin = Instant::now();
    let mut changes = ChangeReports::default();
    loop {
        let left = longest.saturating_sub(begin.elapsed());
        let stack = &mut hosts[own];
        let source = stack.source_for(target);
        if let Some(source) = source.filter(|_| stack.is_up()) {
            if source == target {
                bail!("cannot ping {target}: it is the address of the ping itself");
            }
            if let Some(why) = stack.addresses().find_map(|own| own.refuses(target)) {
                bail!("cannot ping {target}: {why}");
            }
            return Ok(source);
        }
        if stop.requested() || left.is_zero() {
            let why = if !stack.is_up() {
                "no memif peer has connected"
            } else if !network.is_automatic() {
                "the gateway is not on the network of the ping's address"
            } else if target.is_ipv4() && !stack.is_leased() {
                "no DHCP server has leased an address"
            } else if target.is_ipv6() && !stack.has_made_address() {
                "no IPv6 router has advertised a prefix"
            } else {
                "it is on another network, and there is no router"
            };
            bail!("cannot ping {target}: {why}");
        }
        stack.poll(&mut |_| {})?;
        changes.report(stack);
        hosts.wait(&[stop.as_fd()], left)?;
    }
}

fn ping_from<N: Nic>(
    hosts: &mut HostSet<N>,
    own: usize,
    args: &Args,
    stop: &Shutdown,
) -> anyhow::Result<()> {
    let target = args.target;
    let from = wait_for_network(hosts, own, args, stop)?;
    if !args.json {
        writeln!(output::stdout(), "PING {target} from {from}: {} data bytes", args.size)?;
    }
    let plan = PingPlan {
        target,
        count: args.count,
        interval: args.interval.unwrap_or(if args.flood { Duration::ZERO } else { INTERVAL }),
        size: args.size,
        timeout: args.timeout,
    };
    let mut changes = ChangeReports::default();
    let mut pinger = Pinger::start(&mut hosts[own], plan);
    if let Some(ttl) = args.ttl {
        pinger = pinger.hop_limit(ttl);
    }
    let begin = Instant::now();
    let mut printed = Ok(());
    let mut dots = Dots::new(args);
    let mut closed = Ok(());
    while !stop.requested() {
        let stack = &mut hosts[own];
        stack.poll(&mut |_| {})?;
        closed = stack.check();
        if closed.is_err() {
            break;
        }
        let done = pinger.step(stack, |event| {
            if args.flood {
                dots.event(&event);
            } else if !args.json && printed.is_ok() {
                printed = print_event(target, &event);
            }
        });
        changes.report(stack);
        std::mem::replace(&mut printed, Ok(()))?;
        dots.show(pinger.statistics().sent())?;
        if done {
            break;
        }
        if pinger.last_sent().is_some_and(|sent| sent.elapsed() < BUSY_POLL) {
            // The peer that is to answer may be waiting for this CPU.
            thread::yield_now();
            continue;
        }
        hosts.wait(&[stop.as_fd()], pinger.due().saturating_duration_since(Instant::now()))?;
    }
    let statistics = pinger.statistics();
    if args.json {
        output::print_json(&statistics.report())?;
    } else {
        writeln!(output::stdout(), "\n--- {target} ping statistics ---")?;
        let total = begin.elapsed();
        let summary =
            if args.flood { statistics.flood_summary(total) } else { statistics.summary(total) };
        writeln!(output::stdout(), "{summary}")?;
    }
    closed?;
    if statistics.received() == 0 {
        bail!("no reply from {target}");
    }
    if statistics.received_undamaged() == 0 {
        bail!("no reply from {target} has the data of its request");
    }
    Ok(())
}

/// The dots of a flood on a terminal.
struct Dots {
    terminal: bool,
    /// Requests that have a dot.
    shown: u64,
    text: Vec<u8>,
}

impl Dots {
    fn new(args: &Args) -> Self {
        let terminal = args.flood && !args.json && std::io::stdout().is_terminal();
        Self { terminal, shown: 0, text: Vec::new() }
    }

    /// Removes a dot for a reply, and replaces one for anything else.
    fn event(&mut self, event: &PingEvent) {
        self.text.extend_from_slice(match event {
            PingEvent::Reply(reply) if reply.damage == Some(Damage::Checksum) => b"\x08C",
            PingEvent::Reply(_) => b"\x08 \x08",
            _ => b"\x08E",
        });
    }

    /// Prints what has changed since the last call; `sent` counts the requests so far.
    fn show(&mut self, sent: u64) -> std::io::Result<()> {
        // Replies belong to requests that were shown before.
        self.text.extend((self.shown..sent).map(|_| b'.'));
        self.shown = sent;
        if self.terminal && !self.text.is_empty() {
            output::stdout().write_all(&self.text)?;
            output::stdout().flush()?;
        }
        self.text.clear();
        Ok(())
    }
}

fn print_event(target: IpAddr, event: &PingEvent) -> std::io::Result<()> {
    match event {
        PingEvent::Reply(reply) => print_reply(target, reply),
        PingEvent::Error { sequence, from, error, .. } => {
            writeln!(output::stdout(), "From {from} icmp_seq={sequence} {error}")
        }
        _ => Ok(()),
    }
}

fn print_reply(target: IpAddr, reply: &Reply) -> std::io::Result<()> {
    let Reply { len, sequence, hop_limit, .. } = *reply;
    let mut out = output::stdout();
    write!(out, "{len} bytes from {target}: icmp_seq={sequence} ttl={hop_limit}")?;
    if let Some(rtt) = reply.rtt {
        write!(out, " time={:.3} ms", rtt.as_secs_f64() * 1e3)?;
    }
    if reply.is_duplicate {
        write!(out, " (DUP!)")?;
    }
    match reply.damage {
        None => writeln!(out),
        Some(Damage::Checksum) => writeln!(out, " (BAD CHECKSUM!)"),
        Some(Damage::Byte { at, sent, received }) => {
            writeln!(out, "\nwrong data byte #{at} should be 0x{sent:x} but was 0x{received:x}")
        }
        Some(_) => writeln!(out, " (wrong length)"),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    quantity::seconds(text)
        .filter(|seconds| *seconds <= Duration::from_hours(24))
        .ok_or_else(|| "it takes a number of seconds from 0 to 86400, such as 1 or 0.5".to_owned())
}
