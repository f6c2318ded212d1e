//! `busctl host`: a small IP host.

mod commands;

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use shmbus::SendError;

use self::commands::Commands;
use crate::context::Context;
use crate::exit::misuse;
use crate::ip::{EchoServices, HostAddress, Nic, Plug, Plugged, Stack, check_all};
use crate::output;
use crate::stop::Stop;

/// The longest sleep when nothing is due.
const LONG: Duration = Duration::from_secs(1);
/// How often, at most, the user is told that the bus takes nothing.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Be a small IP host, until stopped
///
/// It answers ARP and IPv6 neighbor discovery, ICMP echo, and UDP and TCP echo on port 7. Prints 'ready' when it can be used: on
/// a bus at once, behind memif when the peer has connected. With an IPv6 address it also has a link-local one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl host ./lan.bus 10.0.0.1/24\n  \
                        busctl host shmif0 10.0.0.1/24 fd00::1/64\n  \
                        busctl host memif:role=client,id=1,socket=./memif.sock 10.0.0.2/24")]
pub struct Args {
    /// An interface, the path of a bus with a '/' in it, or memif:key=value,... as 'busctl attach' takes it
    #[arg(value_name = "BUS")]
    pub bus: Plug,

    /// Its addresses, each with the length of its network's prefix
    #[arg(value_name = "ADDR/LEN", required = true)]
    pub addresses: Vec<HostAddress>,

    /// Do what stdin says, and stop when it ends
    #[arg(
        long,
        long_help = "Do what stdin says, a command a line, and stop when it ends: 'ping ADDR [COUNT [SECONDS]]' pings from this\n\
                     host and prints the result as JSON, with the keys of 'busctl ping --json' and 'target'; a command that\n\
                     cannot be done is answered with the key 'error'"
    )]
    pub commands: bool,
}

/// Runs the host until it is asked to stop.
///
/// # Errors
/// When the addresses do not go together or the bus cannot be joined.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    check_all(&args.addresses).map_err(|problem| misuse(anyhow!(problem)))?;
    let stop = Stop::on_signals()?;
    match args.bus.plug_in(context, true)? {
        Plugged::Bus(nic) => serve(Stack::new(*nic, &args.addresses), args, &stop),
        Plugged::Memif(nic) => serve(Stack::new(*nic, &args.addresses), args, &stop),
    }
}

fn serve<N: Nic>(mut stack: Stack<N>, args: &Args, stop: &Stop) -> anyhow::Result<()> {
    let mut services = EchoServices::open(stack.sockets());
    let mut commands = args.commands.then(|| Commands::new(&args.addresses));
    let mut complaints = Complaints::default();
    let mut ready = false;
    while !stop.requested() {
        // What the bus does not take is lost, as on any Ethernet; the bus may be free again the next time.
        complaints.hear(stack.poll());
        if !ready && stack.is_up() {
            ready = true;
            writeln!(output::stdout(), "ready")?;
            output::stdout().flush()?;
        }
        stack.serve(&mut services);
        let mut due = None;
        if let Some(commands) = &mut commands {
            if commands.step(&mut stack)? {
                break;
            }
            due = commands.due();
        }
        let pause = due.map_or(LONG, |due| due.saturating_duration_since(Instant::now()));
        let input = commands.as_ref().and_then(Commands::input);
        stack.sleep(stop, input.as_ref().map(std::os::fd::AsFd::as_fd), pause)?;
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
