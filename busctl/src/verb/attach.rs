//! `busctl attach`: joins ports to a bus, without records of them.

mod lan;

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use port::PortSpec;

use self::lan::Lan;
use crate::bus_argument::{BusArgument, NewBus};
use crate::context::Context;
use crate::node_threads::Threads;
use crate::output;
use crate::process::shutdown::Shutdown;
use crate::registry::runner::{Destroyed, POLL_INTERVAL};

/// Join ports to a bus until stopped
///
/// An interface is run meanwhile, and its record followed: while it is down, or has no link, the ports keep their peers, and
/// nothing goes between these and the bus. The first port has its address, unless it has one of its own; all of them hear what is for
/// others, too. When it is destroyed, this ends.
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
pub(crate) struct Args {
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
/// When the bus cannot be joined or a port cannot be opened; when the bus or the last port goes.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let stop = Shutdown::on_signals().context("cannot handle signals")?;
    let mut lan = Lan::open(args, context)?;
    announce(&args.ports)?;
    let pause = lan.is_followed().then_some(POLL_INTERVAL);
    while !stop.wait([lan.as_fd()], pause) {
        if let Err(error) = lan.pass() {
            let Some(destroyed) = error.downcast_ref::<Destroyed>() else { return Err(error) };
            // Somebody has asked for it, as with a signal.
            output::note(&format!("{destroyed}: its ports are closed"));
            return Ok(());
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
