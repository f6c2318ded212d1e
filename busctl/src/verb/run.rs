//! `busctl run`: a command in a network namespace on the LAN.
//!
//! `run` itself stays outside. It starts this program again, as a process that makes the namespaces
//! and hands the descriptors of their TAP interfaces out, and as the first process inside, which
//! runs the command. The ports of the TAPs are served out here, by the threads of a node.

mod channel;
mod exec;
mod files;
mod id_maps;
mod init;
mod messages;
mod plan;
mod session;
mod setup;
mod stage;
mod terminal;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use port::{ImpairHandle, Impaired, Impairments, LoopGuard, Port};
use shmbus::MacAddr6;
use tapdev::{Form, TapDevice};

use self::messages::{Plan, Route, Space};
use self::plan::{AddressArgument, ETHERNET_HEADER};
use self::session::{Interrupted, Running, Session};
use self::stage::Stage;
use self::terminal::Foreground;
use crate::bus_argument::{BusArgument, BusList, NewBus};
use crate::context::Context;
use crate::detached::{Detach, Request};
use crate::lan::{Lan, NewPort};
use crate::misuse::{OrMisuse as _, misuse, sentence};
use crate::node_threads::Threads;
use crate::output;
use crate::registry::parse_mac;
use crate::registry::runner::POLL_INTERVAL;
use crate::service::Service;

/// Run a command in a network namespace on the LAN
///
/// The command has a network of its own: a loopback interface, and eth0, eth1 and so on, one on each
/// BUS. It is root there, and no more than you on everything else. 'run' ends when the command
/// ends, with its exit code, or 128 and the number of the signal that killed it; signals to 'run'
/// are signals to the command. All processes that the command has started end with it, and the
/// whole namespace ends with 'run', even when one of them is killed.
///
/// With one BUS, all addresses are its. With several, the first IPv4 address is that of the first
/// bus, the second that of the second, and so for IPv6.
///
/// A missing BUS is made. A BUS that is an interface name is run by this process and followed, as
/// by 'busctl attach'.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("size", |size| size.help(NewBus::BIG_SIZE_HELP)),
    after_help = "Exit code: that of the command; 127 when there is no such program, 126 when it cannot be\n\
                        run; 1 and 2 also when there is no namespace for it, with a line that says why.\n\n\
                        Examples:\n  \
                        busctl run ./lan.bus 10.0.0.1/24\n  \
                        busctl run ./lan.bus 10.0.0.2/24 fd00::2/64 --gateway 10.0.0.1 -- iperf3 -s\n  \
                        busctl run ./a.bus,./b.bus 10.0.1.1/24 10.0.2.1/24 --forward -- bird -f\n  \
                        busctl run ./lan.bus --hostname web --dns 10.0.0.53 -- python3 -m http.server 80\n  \
                        busctl run ./lan.bus 10.0.0.2/24 --impair delay=20ms,loss=1% -- iperf3 -s\n  \
                        busctl run -d=web ./lan.bus 10.0.0.3/24 -- iperf3 -s; busctl stop web\n  \
                        sudo busctl run ./lan.bus 10.0.0.9/24 --pid 4711 -- sleep inf"
)]
pub(crate) struct Args {
    /// The paths of buses with a '/' in each, or interface names, with commas between
    #[arg(value_name = "BUS[,BUS...]", required_unless_present = "stage")]
    buses: Option<BusList>,

    /// The addresses of eth0, each with its prefix length; with several buses one for each bus, or
    /// ethN=ADDR/LEN for the Nth bus, counted from 0. With --netns and --pid the interfaces have the
    /// lowest free names of eth0, eth1 and so on, and ethN= counts the buses all the same
    #[arg(value_name = "ADDR/LEN")]
    addresses: Vec<AddressArgument>,

    /// The router of the default route; one for each family
    #[arg(long, value_name = "ADDR")]
    gateway: Vec<IpAddr>,

    /// Reach the network NET by the router GW; may be repeated
    #[arg(long, value_name = "NET=GW", value_parser = plan::parse_route)]
    route: Vec<Route>,

    /// A name server for /etc/resolv.conf as the command sees it; may be repeated
    #[arg(long, value_name = "ADDR")]
    dns: Vec<IpAddr>,

    /// The host name that the command sees, also in /etc/hosts
    #[arg(long, value_name = "NAME", value_parser = plan::parse_hostname)]
    hostname: Option<String>,

    /// The Ethernet address of eth0; repeated, those of eth1 and so on [default: random]
    #[arg(long, value_parser = parse_mac)]
    mac: Vec<MacAddr6>,

    /// The MTU of the interfaces [default: what the bus carries]
    #[arg(long, value_name = "BYTES", value_parser = plan::parse_mtu)]
    mtu: Option<u32>,

    /// Forward packets between the interfaces, as a router
    #[arg(long, conflicts_with_all = ["netns", "pid"])]
    forward: bool,

    /// Be the user that you are, and not root; the command cannot change its network then
    #[arg(long, conflicts_with_all = ["netns", "pid"])]
    user: bool,

    /// Use the network namespace NAME of 'ip netns', or that of a path, and not a new one
    #[arg(long, value_name = "NAME", conflicts_with = "pid")]
    netns: Option<String>,

    /// Use the network namespace of a process, such as that of a container; the files stay those
    /// of this host
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

    /// Make the links of the interfaces misbehave, in the words of 'busctl attach', such as
    /// delay=20ms,in.loss=1%; in. is from the command to the bus; may be repeated
    #[arg(long, value_name = "KEY=VALUE,...")]
    impair: Vec<String>,

    /// How a missing bus is made
    #[command(flatten)]
    new_bus: NewBus,

    /// The threads that serve the interfaces of each bus
    #[command(flatten)]
    threads: Threads,

    /// Whether it runs in the background
    #[command(flatten)]
    detach: Detach,

    /// Set in the processes that 'run' starts
    #[arg(long, hide = true)]
    stage: Option<Stage>,

    /// The command and its arguments [default: $SHELL]
    #[arg(value_name = "CMD", last = true)]
    command: Vec<OsString>,
}

impl Args {
    /// Returns whether this process is one of those that `run` starts.
    pub(crate) fn is_stage(&self) -> bool {
        self.stage.is_some()
    }

    /// Returns what is to run detached, if that is asked for.
    ///
    /// # Errors
    /// When there is no command: a shell reads stdin.
    pub(crate) fn detached(&self) -> anyhow::Result<Option<Request>> {
        let buses = self.buses.as_ref().map_or(&[][..], BusList::buses);
        let buses: Vec<String> = buses.iter().map(BusArgument::absolute).collect();
        let request = self.detach.request("run", Some(buses.join(",")));
        if request.is_some() && self.command.is_empty() {
            return Err(misuse(anyhow!(
                "a shell cannot run detached: it has nothing to read; give a command after '--'"
            )));
        }
        Ok(request)
    }
}

/// Runs the verb, and returns the exit code of the command.
///
/// # Errors
/// When there is no namespace for the command, a bus cannot be joined, or an interface cannot be as
/// the arguments say.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    match args.stage {
        Some(Stage::Setup) => return setup::run(&args.command),
        Some(Stage::Init) => return init::run(&args.command),
        Some(Stage::Exec) => return exec::run(&args.command),
        None => {}
    }
    let buses = args.buses.as_ref().map_or(&[][..], BusList::buses);
    let plan = plan(args, buses.len()).map_err(|problem| misuse(anyhow!(problem)))?;
    let impairments = args.impair.join(",").parse().misuse()?;
    let foreground = Foreground::of_this_process();
    let started = start(args, &plan, &impairments, context);
    let code = match started {
        Ok((running, lans)) => serve(&running, lans, &mut context.service()),
        Err(error) => match error.downcast_ref::<Interrupted>() {
            Some(interrupted) => Ok(interrupted.code()),
            None => Err(error),
        },
    };
    drop(foreground);
    code
}

/// Makes the namespaces, joins the buses, and starts the command.
fn start(
    args: &Args,
    plan: &Plan,
    impairments: &Impairments,
    context: &Context,
) -> anyhow::Result<(Running, Vec<Lan>)> {
    let command = match &args.command[..] {
        [] => vec![shell()],
        command => command.to_vec(),
    };
    let mut session = Session::start(plan, &command)?;
    // With one way out, a namespace is on no loop, unless a port of its own closes it: that one
    // finds out.
    let guarded = plan.interfaces.len() > 1 || plan.space != Space::New;
    let (mut lans, mut mtus) = (Vec::new(), Vec::new());
    let buses = args.buses.as_ref().map_or(&[][..], BusList::buses);
    for ((number, bus), (name, tap)) in (0..).zip(buses).zip(session.taps()?) {
        let impair = ImpairHandle::new(impairments.clone().vary_seed(number));
        let port = port(&name, tap, args.hostname.as_deref(), impair, guarded)?;
        let new_port = NewPort {
            port,
            mac: plan.interfaces[lans.len()].mac.map(MacAddr6::from),
            // A script that reads stderr reads that of the command.
            says_counters: io::stderr().is_terminal(),
        };
        let options = args.new_bus.big_options();
        let open = |_: &Path| Ok(vec![new_port]);
        let lan = Lan::open(bus, options, args.threads.options(), context, open)?;
        mtus.push(mtu(args.mtu, lan.max_frame()).map_err(|why| misuse(anyhow!("{name}: {why}")))?);
        lans.push(lan);
    }
    Ok((session.go(mtus)?, lans))
}

fn plan(args: &Args, buses: usize) -> Result<Plan, String> {
    let mut routes: Vec<Route> = args.gateway.iter().copied().map(plan::default_route).collect();
    routes.extend(args.route.iter().cloned());
    Ok(Plan {
        space: match (&args.netns, args.pid) {
            (Some(name), _) => Space::Named(name.clone()),
            (None, Some(pid)) => Space::Process(pid),
            (None, None) => Space::New,
        },
        interfaces: plan::interfaces(buses, &args.addresses, &args.mac)?,
        routes,
        dns: args.dns.clone(),
        hostname: args.hostname.clone(),
        user: args.user,
        forward: args.forward,
    })
}

/// Returns the user's shell.
fn shell() -> OsString {
    let own = std::env::var_os("SHELL").filter(|shell| Path::new(shell).is_file());
    own.unwrap_or_else(|| "/bin/sh".into())
}

/// Makes a port of an interface in the namespace.
fn port(
    name: &str,
    tap: OwnedFd,
    hostname: Option<&str>,
    impair: ImpairHandle,
    guarded: bool,
) -> anyhow::Result<Box<dyn Port>> {
    let named = match hostname {
        Some(hostname) => format!("tap {name} of {hostname}"),
        None => format!("tap {name}"),
    };
    let port = port::tap::serve(TapDevice::from_fd(tap, name), named, Form::Virtio)?;
    let port = Impaired::new(port, impair);
    Ok(if guarded { Box::new(LoopGuard::new(port)) } else { Box::new(port) })
}

/// Returns the MTU of an interface on a bus with frames of up to `max_frame` bytes.
fn mtu(wanted: Option<u32>, max_frame: usize) -> Result<u32, String> {
    let most = u32::try_from(max_frame - ETHERNET_HEADER).unwrap_or(u32::MAX);
    match wanted {
        // All on a LAN have the same, or long packets are lost on the way to some.
        None => Ok(most),
        Some(mtu) if mtu <= most => Ok(mtu),
        Some(mtu) => Err(format!(
            "the bus carries no packets of {mtu} bytes, but of {most}; a new one takes more \
             without --size 1M"
        )),
    }
}

/// Serves the interfaces until the command ends, and returns its exit code.
fn serve(
    running: &Running,
    mut lans: Vec<Lan>,
    service: &mut Service<'_>,
) -> anyhow::Result<ExitCode> {
    if running.is_started() {
        service.ready()?;
    }
    loop {
        service.alive(|| lans.iter().flat_map(Lan::beats).collect());
        let wake = lans.iter().map(|lan| lan.as_fd());
        if let Some(code) = running.wait(wake, POLL_INTERVAL)? {
            service.stopping();
            return Ok(code);
        }
        lans.retain_mut(|lan| match lan.pass() {
            Ok(()) => true,
            Err(error) => {
                output::note(&format!("{}; the command continues without it", sentence(&error)));
                false
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mtu_is_what_the_bus_carries() {
        assert_eq!((mtu(None, 1_514), mtu(None, 9_216)), (Ok(1_500), Ok(9_202)));
        assert_eq!((mtu(Some(9_000), 9_216), mtu(None, 1_014)), (Ok(9_000), Ok(1_000)));
        assert!(mtu(Some(9_000), 1_514).unwrap_err().contains("1500"));
    }
}
