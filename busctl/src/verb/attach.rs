//! `busctl attach`: joins ports to a bus without a registry.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};

use crate::bus_argument::{BusArgument, plugged_in, station_of};
use crate::context::Context;
use crate::exit::misuse;
use crate::new_bus::NewBus;
use crate::node::{self, Node, Threads};
use crate::output;
use crate::port::{self, PortSpec};
use crate::registry::Claim;
use crate::stop::Stop;

/// Join ports to a bus until stopped
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A PORT is its kind, a colon, and key=value pairs with commas between. Prints 'ready' when all ports are open.\n\n\
                  memif keys: role=server|client id=N socket=PATH|@NAME socket-abstract=yes|no secret=S rsize=LOG2\n  \
                  bsize=BYTES rx-queues=N tx-queues=N rx-mode=adaptive|polling|interrupt name=S mac=MAC reconnect=MS\n\
                  tap keys: name=tap0 mac=MAC offload=on|off; needs rights to make interfaces, as in 'unshare -Urn'\n\
                  pcap keys: in=FILE (played) out=FILE (written anew) file=FILE (written, must be new) pps=N; - is stdin or stdout\n\
                  bus:PATH joins another bus\n\
                  and for each kind: learn=on, to forward only what its peer needs, as a switch does\n\n\
                  Examples:\n  \
                  busctl attach ./lan.bus memif:role=server,id=0,socket=./memif.sock\n  \
                  busctl attach ./lan.bus memif:id=0,socket=./a.sock memif:id=1,socket=./a.sock memif:role=client,socket=@vpp\n  \
                  unshare -Urn busctl attach ./lan.bus tap:name=tap0\n  \
                  busctl attach ./lan.bus pcap:in=replies.pcap,pps=1000,out=seen.pcap bus:./other.bus"
)]
pub struct Args {
    /// An interface name, or the path of a bus, which is made when there is none
    #[arg(value_name = "BUS")]
    pub bus: BusArgument,

    /// What is to be on the bus, such as memif:role=server,id=0,socket=./memif.sock
    #[arg(value_name = "PORT", required = true)]
    pub ports: Vec<PortSpec>,

    /// How the bus is made when there is none
    #[command(flatten)]
    pub new_bus: NewBus,

    /// Who serves the ports
    #[command(flatten)]
    pub threads: Threads,
}

/// Runs the verb.
///
/// # Errors
/// When the bus cannot be joined or a port cannot be opened.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let (path, claim) = bus(&args.bus, context)?;
    let stop = Stop::on_signals().context("cannot handle signals")?;
    // The ports come first: when a socket is in the way, no bus is made.
    let ports = port::open(&args.ports, &path, &args.new_bus.options())?;
    let mut node = Node::start(&args.threads)?;
    let mut first = true;
    for (port, spec) in ports.into_iter().zip(&args.ports) {
        // The first port is the interface, if there is one.
        let interface = claim.as_ref().filter(|_| first).and_then(|claim| claim.record().shmif());
        first = false;
        let mac = spec.mac().or(interface.map(|shmif| shmif.mac));
        let bus = args.new_bus.options().open_or_create(&path)?;
        let station = node::station(bus, port.name(), mac, spec.learns())?;
        node.add(port, station);
    }
    announce(&args.ports)?;
    while !stop.wait([node.as_fd()], None) {
        if let Some((_, why)) = node.ended() {
            return Err(why.into());
        }
    }
    Ok(())
}

/// Says that the ports can be used: on stdout, unless that is one of them.
fn announce(ports: &[PortSpec]) -> anyhow::Result<()> {
    if ports.iter().any(PortSpec::takes_stdout) {
        writeln!(io::stderr(), "ready")?;
        return Ok(());
    }
    writeln!(output::stdout(), "ready")?;
    Ok(output::stdout().flush()?)
}

/// The bus, and for an interface the claim that makes this process the one that runs it.
fn bus(bus: &BusArgument, context: &Context) -> anyhow::Result<(PathBuf, Option<Claim>)> {
    match bus {
        BusArgument::Path(path) => Ok((path.clone(), None)),
        BusArgument::Interface(name) => {
            let registry = context.registry()?;
            station_of(&registry.load(*name)?)?;
            let claim = registry.claim(*name)?;
            let path = plugged_in(claim.record())?.to_owned();
            if !claim.record().up {
                return Err(misuse(anyhow!("{name} is down; 'busctl up {name}' sets it up")));
            }
            Ok((path, Some(claim)))
        }
    }
}
