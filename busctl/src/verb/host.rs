//! `busctl host`: a small IP host.

mod commands;
mod task;

use std::io::Write as _;
use std::num::NonZeroU16;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use iphost::{ECHO_PORT, HostAddress, Nic, Services, Stack, Transfer, count_up};
use shmbus::SendError;

use self::commands::Commands;
use self::task::{Delivery, Errand};
use crate::bus_argument::BusArgument;
use crate::context::Context;
use crate::misuse::misuse;
use crate::nic_argument::{Plug, Plugged};
use crate::output;
use crate::process::shutdown::Shutdown;

/// The longest sleep when nothing is due.
const LONG: Duration = Duration::from_secs(1);
/// How long a host stays awake after the last frame: falling asleep and being woken takes longer than most answers.
const LINGER: Duration = Duration::from_micros(50);
/// How often, at most, the user is told that the bus takes nothing.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Be a small IP host, until stopped
///
/// It answers ARP and IPv6 neighbor discovery, ICMP echo, and UDP and TCP echo on port 7. Prints 'ready' when it can be used: on
/// a bus at once, behind memif when the peer has connected. With an IPv6 address it also has a link-local one.
///
/// An interface is run meanwhile, and its record followed; when it is destroyed, the host ends. The host leaves to it the
/// checksums and the TCP segmentation that its 'capenable' has; without, it does them itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 1: not all of --tcp-source was acknowledged.\n\n\
                        Examples:\n  \
                        busctl host ./lan.bus 10.0.0.1/24\n  \
                        busctl host shmif0 10.0.0.1/24 fd00::1/64\n  \
                        busctl host memif:role=client,id=1,socket=./memif.sock 10.0.0.2/24\n  \
                        busctl host ./lan.bus 10.0.0.1/24 --count 250\n  \
                        busctl host ./lan.bus 10.0.0.1/24 --tcp-sink 5001 & \
                        busctl host ./lan.bus 10.0.0.2/24 --tcp-source 10.0.0.1:5001 1G")]
pub(crate) struct Args {
    /// An interface, the path of a bus with a '/' in it, or memif:key=value,... as 'busctl attach' takes it
    #[arg(value_name = "BUS")]
    pub bus: Plug,

    /// Its addresses, each with the length of its network's prefix
    #[arg(value_name = "ADDR/LEN", required = true)]
    pub addresses: Vec<HostAddress>,

    /// Be N hosts in this process, each a station of its own; their addresses count up from ADDR
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true, value_parser = clap::value_parser!(u32).range(1..=250))]
    pub count: u32,

    /// Take what comes on this TCP port, and print for each connection how much and how fast it was
    #[arg(long, value_name = "PORT")]
    pub tcp_sink: Option<NonZeroU16>,

    /// Send BYTES (with K, M or G: times 1,024 and so on) to a TCP port, print how fast it was, and stop
    #[arg(long, num_args = 2, value_names = ["ADDR:PORT", "BYTES"], conflicts_with_all = ["count", "commands"])]
    pub tcp_source: Option<Vec<String>>,

    /// Print transfers as JSON, one a line
    #[arg(long)]
    pub json: bool,

    /// Do what stdin says, and stop when it ends
    #[arg(
        long,
        conflicts_with = "count",
        long_help = "Do what stdin says, a command a line, and stop when it ends: 'ping ADDR [COUNT [SECONDS]]' pings from this \
                     host and prints the result as JSON, with the keys of 'busctl ping --json' and 'target'; a command that \
                     cannot be done is answered with the key 'error'"
    )]
    pub commands: bool,
}

/// Runs the hosts until they are asked to stop, or what they were started for is done.
///
/// # Errors
/// When the addresses do not go together or the bus cannot be joined; when not all was sent that was to be.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let addresses = count_up(&args.addresses, args.count).map_err(|problem| misuse(anyhow!(problem)))?;
    let delivery =
        args.tcp_source.as_deref().map(|words| Delivery::parse(words, &args.addresses)).transpose()?;
    check(args)?;
    let stop = Shutdown::on_signals()?;
    let (mut stations, mut links) = (Vec::new(), Vec::new());
    for addresses in &addresses {
        match args.bus.plug_in(context, true)? {
            Plugged::Bus(nic) => stations.push(Stack::new(*nic, addresses)),
            Plugged::Memif(nic) => links.push(Stack::new(*nic, addresses)),
        }
    }
    let errand = match delivery {
        Some(delivery) => Errand::Delivery(delivery),
        None if args.commands => Errand::Commands(Box::new(Commands::new(&args.addresses))),
        None => Errand::None,
    };
    // It is one or the other.
    if links.is_empty() { serve(stations, errand, args, &stop) } else { serve(links, errand, args, &stop) }
}

fn check(args: &Args) -> anyhow::Result<()> {
    if args.count > 1 && !matches!(args.bus, Plug::Bus(BusArgument::Path(_))) {
        let why = "an interface is one station; give the path of its bus instead";
        return Err(misuse(anyhow!("there cannot be {} hosts there: {why}", args.count)));
    }
    if args.tcp_sink.is_some_and(|port| port.get() == ECHO_PORT) {
        return Err(misuse(anyhow!("port {ECHO_PORT} cannot be a sink: it is the echo's; take another")));
    }
    Ok(())
}

/// A host, and what it does for others.
struct Host<N> {
    stack: Stack<N>,
    services: Services,
    /// When it has something to do by itself.
    due: Instant,
}

impl<N: Nic> Host<N> {
    fn new(mut stack: Stack<N>, sink: Option<NonZeroU16>) -> Self {
        let services = Services::open(stack.sockets(), sink.map(NonZeroU16::get));
        Self { stack, services, due: Instant::now() }
    }

    /// Does what there is to do.
    fn round(&mut self, done: &mut dyn FnMut(Transfer)) -> Result<(), SendError> {
        let Self { stack, services, .. } = self;
        let result = stack.poll(&mut |sockets| services.accept(sockets));
        stack.serve(services, done);
        result
    }
}

fn serve<N: Nic>(
    stacks: Vec<Stack<N>>,
    mut errand: Errand,
    args: &Args,
    stop: &Shutdown,
) -> anyhow::Result<()> {
    let mut hosts: Vec<_> = stacks.into_iter().map(|stack| Host::new(stack, args.tcp_sink)).collect();
    let mut complaints = Complaints::default();
    let mut transfers = Vec::new();
    let mut ready = false;
    let mut over = false;
    while !over && !stop.requested() {
        for (index, host) in hosts.iter_mut().enumerate() {
            // The first may have something to do that has nothing to do with the bus.
            if index > 0 && host.due > Instant::now() && !host.stack.look() {
                continue;
            }
            // What the bus does not take is lost, as on any Ethernet; the bus may be free again the next time.
            complaints.hear(host.round(&mut |transfer| transfers.push(transfer)));
            if index == 0 {
                over = errand.step(&mut host.stack)?;
            }
            if let Err(destroyed) = host.stack.check() {
                // Somebody has asked for it, as with a signal.
                output::note(&format!("{destroyed}: the host ends"));
                over = true;
            }
            host.due = Instant::now() + host.stack.pause();
        }
        if !ready && hosts.iter().all(|host| host.stack.is_up()) {
            ready = true;
            writeln!(output::stdout(), "ready")?;
            output::stdout().flush()?;
        }
        for transfer in transfers.drain(..) {
            print(&transfer, args.json)?;
        }
        if !over {
            rest(&mut hosts, &errand, stop)?;
        }
    }
    let Some(first) = hosts.first_mut() else { return Ok(()) };
    match errand {
        Errand::Delivery(delivery) => {
            // The last words.
            complaints.hear(first.round(&mut |_| {}));
            let Some((transfer, trouble)) = delivery.result(&mut first.stack) else {
                bail!("nothing was sent: no memif peer has connected");
            };
            print(&transfer, args.json)?;
            trouble.map_or(Ok(()), |trouble| Err(anyhow!(trouble)))
        }
        Errand::Commands(_) | Errand::None => Ok(()),
    }
}

/// Waits until one of the hosts, which are all on one bus, has something to do.
fn rest<N: Nic>(hosts: &mut [Host<N>], errand: &Errand, stop: &Shutdown) -> anyhow::Result<()> {
    let due = hosts.iter().map(|host| host.due).chain(errand.due()).min();
    let pause = due.map_or(LONG, |due| due.saturating_duration_since(Instant::now()));
    if pause.is_zero() {
        return Ok(());
    }
    if hosts.iter().any(|host| host.stack.heard_within(LINGER)) {
        // Whoever is to answer may be waiting for this core.
        thread::yield_now();
        return Ok(());
    }
    let input = errand.input();
    let input = input.as_ref().map(|input| input.as_fd());
    let Some((first, others)) = hosts.split_first_mut() else { return Ok(()) };
    let mut look = || others.iter_mut().any(|host| host.stack.look());
    Ok(first.stack.sleep_for(&mut look, stop.as_fd(), input, pause)?)
}

fn print(transfer: &Transfer, json: bool) -> anyhow::Result<()> {
    if json {
        output::print_json(transfer)?;
    } else {
        writeln!(output::stdout(), "{transfer}")?;
    }
    Ok(())
}

/// Tells the user that the bus takes nothing, but not all the time.
#[derive(Default)]
struct Complaints {
    said: Option<Instant>,
}

impl Complaints {
    fn hear(&mut self, result: Result<(), SendError>) {
        let Err(error) = result else { return };
        if self.said.is_none_or(|said| said.elapsed() >= COMPLAINT_INTERVAL) {
            self.said = Some(Instant::now());
            output::warn(format_args!("frames were lost: {error}"));
        }
    }
}
