//! `busctl attach`: joins ports to a bus without recording them.

mod lan;

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use port::PortSpec;

use self::lan::Lan;
use crate::bus_argument::{BusArgument, NewBus};
use crate::context::Context;
use crate::node_threads::Threads;
use crate::output;
use crate::process::shutdown::Shutdown;
use crate::registry::runner::{Destroyed, POLL_INTERVAL};
use crate::stderr;

/// How long ports may listen for loops before they are announced all the same.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(1);

/// Join ports to a bus, until stopped
///
/// When BUS is an interface, this process runs it and follows its record. While the interface is
/// down or has no link, the ports keep their peers, and no frame goes between them and the bus. The
/// first port has the address of the interface unless it has its own. All ports also receive frames
/// that are addressed to others. When the interface is destroyed, 'attach' ends.
///
/// A port that would close a loop is blocked, named, and tried again every 5 s. 'busctl show' with
/// the path of the bus shows the counters of the ports; they are also printed at the end.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A PORT is a kind, a colon, and key=value pairs with commas between. Prints\n\
                  'ready' when all ports are open.\n\n\
                  memif:  role=server|client id=N socket=PATH|@NAME socket-abstract=yes|no\n        \
                          secret=S rsize=LOG2 bsize=BYTES rx-queues=N tx-queues=N mac=MAC\n        \
                          rx-mode=adaptive|polling|interrupt name=S reconnect=MS\n\
                  tap:    name=tap0 mac=MAC offload=on|off; needs the right to make\n        \
                          interfaces, as in 'unshare -Urn'\n\
                  pcap:   in=FILE (played) out=FILE (overwritten) file=FILE (must be new)\n        \
                          pps=N; - is stdin or stdout\n\
                  bus:    the PATH of another bus, as in bus:./other.bus\n\
                  socket: path=PATH|@NAME, tcp=ADDRESS:PORT or fd=N (inherited; fd=0 reads stdin,\n        \
                          writes stdout; fd-out=N) framing=qemu|packet|dgram|vde\n        \
                          role=server|client clients=N (a port each) peer=PATH mac=MAC\n\
                  Every kind also takes learn=on: forward only what its peer needs, as a\n\
                  switch does.\n\n\
                  Examples:\n  \
                  busctl attach ./lan.bus memif:role=server,id=0,socket=./memif.sock\n  \
                  busctl attach ./lan.bus memif:id=0,socket=./a.sock \\\n    \
                  memif:id=1,socket=./a.sock memif:role=client,socket=@vpp\n  \
                  unshare -Urn busctl attach ./lan.bus tap:name=tap0\n  \
                  busctl attach ./lan.bus socket:path=./vm.sock,clients=2\n  \
                  busctl attach ./lan.bus pcap:in=replies.pcap,pps=1000,out=seen.pcap"
)]
pub(crate) struct Args {
    /// An interface name, or the path of a bus, which is made when it is missing
    #[arg(value_name = "BUS")]
    bus: BusArgument,

    /// What to join to the bus, such as memif:role=server,id=0,socket=./memif.sock
    #[arg(value_name = "PORT", required = true)]
    ports: Vec<PortSpec>,

    /// How a missing bus is made
    #[command(flatten)]
    new_bus: NewBus,

    /// The threads that serve the ports
    #[command(flatten)]
    threads: Threads,
}

/// Runs the verb.
///
/// # Errors
/// When the bus cannot be joined or a port cannot be opened; when the bus or the last port is gone.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let stop = Shutdown::on_signals().context("cannot handle signals")?;
    let mut lan = Lan::open(args, context)?;
    // Frames that are sent after "ready" pass.
    let begin = Instant::now();
    loop {
        lan.pass()?;
        let left = LISTEN_TIMEOUT.saturating_sub(begin.elapsed());
        if !lan.is_listening() || left.is_zero() {
            break;
        }
        if stop.wait([lan.as_fd()], Some(left)) {
            return Ok(());
        }
    }
    announce(&args.ports)?;
    while !stop.wait([lan.as_fd()], Some(POLL_INTERVAL)) {
        if let Err(error) = lan.pass() {
            let Some(destroyed) = error.downcast_ref::<Destroyed>() else { return Err(error) };
            // The user asked for it, as with a signal.
            output::note(&format!("{destroyed}: its ports are closed"));
            return Ok(());
        }
    }
    Ok(())
}

/// Prints that the ports can be used: on stdout, unless one of them writes there.
fn announce(ports: &[PortSpec]) -> anyhow::Result<()> {
    if ports.iter().any(PortSpec::takes_stdout) {
        stderr::print(b"ready\n".to_vec());
        return Ok(());
    }
    writeln!(output::stdout(), "ready")?;
    Ok(output::stdout().flush()?)
}
