//! `busctl attach`: joins ports to a bus without recording them.

use std::io::Write as _;
use std::iter;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use port::{PortOptions, PortSpec};

use crate::bus_argument::{BusArgument, NewBus};
use crate::context::Context;
use crate::detached::{Detach, Request};
use crate::lan::{Lan, NewPort};
use crate::misuse::misuse;
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
///
/// It notifies a supervisor such as systemd as 'busctl node' does. With -d it runs in the
/// background.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A PORT is a kind, a colon, and key=value pairs with commas between. Prints\n\
                  'ready' when all ports are open.\n\n\
                  memif:  role=server|client id=N socket=PATH|@NAME socket-abstract=yes|no\n        \
                          secret=S rsize=LOG2 bsize=BYTES rx-queues=N tx-queues=N mac=MAC\n        \
                          rx-mode=adaptive|polling|interrupt name=S reconnect=MS\n        \
                          mode=ip ip=ADDR/LEN,... gateway=ADDR,...: the peer sends IP packets without\n        \
                          Ethernet; the port answers for its addresses, and finds its neighbors\n\
                  tap:    a name, or name=tap0; mac=MAC offload=on|off ip=ADDR/LEN,... up=on\n        \
                          netns=NAME pid=PID queues=N (with --threads N); needs the right to make interfaces, as in\n        \
                          'unshare -Urn'\n\
                  pcap:   in=FILE (played) out=FILE (overwritten) file=FILE (must be new)\n        \
                          pps=N; - is stdin or stdout\n\
                  bus:    the PATH of another bus, as in bus:./other.bus\n\
                  socket: path=PATH|@NAME, tcp=ADDRESS:PORT or fd=N (inherited; fd=0 reads stdin,\n        \
                          writes stdout; fd-out=N) framing=qemu|packet|dgram|vde\n        \
                          role=server|client clients=N (a port each) peer=PATH mac=MAC\n\
                  vxlan:  vni=N local=ADDRESS[:PORT] peers=ADDRESS[:PORT],... (the other machines,\n        \
                          on each of which all others are named) hosts=NAME,... (of the peers,\n        \
                          for show and top) group=ADDRESS (multicast)\n        \
                          storm=N (group frames a second from each)\n        \
                          suppress=on (known neighbors are not asked for) mac=MAC\n\
                  trunk:  the NAME of a LAN whose ends find each other through Zenoh;\n        \
                          connect=ENDPOINT,... (routers) listen=ENDPOINT,... (be one)\n        \
                          via=auto|vxlan|zenoh config=FILE (Zenoh's own) vni=N\n        \
                          local=ADDRESS[:PORT] host=NAME (for the others' show and top)\n        \
                          storm=N suppress=on mac=MAC; in programs that were built\n        \
                          with --features trunk\n\
                  Every kind also takes learn=on: forward only what its peer needs, as a\n\
                  switch does (vxlan and trunk do unless learn=off); mtu=N; vlan=N: its peer is in that\n\
                  VLAN without a tag, as at an access port; trunk=LIST: its peer gets the tags\n\
                  of those VLANs (0: none), and native=N of them has no tag on the bus.\n\n\
                  Every kind can have a link that misbehaves, in the words of netem:\n\
                  delay=TIME jitter=TIME distribution=uniform|normal|pareto|paretonormal\n\
                  loss=P% loss-state=P13/P31/P32/P23/P14 gemodel=P/R/1-H/1-K corrupt=P%\n\
                  duplicate=P% reorder=P% gap=N rate=RATE overhead=BYTES limit=FRAMES\n\
                  flap=UP/DOWN partition=on|off seed=N. Each is for both directions; with in. in\n\
                  front, for frames from the peer, and with out., to the peer. A time without a\n\
                  unit is in microseconds, a rate in bits per second.\n\n\
                  Examples:\n  \
                  busctl attach ./lan.bus memif:role=server,id=0,socket=./memif.sock\n  \
                  busctl attach ./lan.bus memif:id=0,socket=./a.sock \\\n    \
                  memif:id=1,socket=./a.sock memif:role=client,socket=@vpp\n  \
                  unshare -Urn busctl attach ./lan.bus tap:tap0,ip=10.0.0.7/24,up=on\n  \
                  busctl attach ./lan.bus memif:socket=./a.sock,vlan=10 bus:./b.bus,trunk=10,20\n  \
                  busctl attach ./lan.bus socket:path=./vm.sock,clients=2\n  \
                  busctl attach ./lan.bus memif:socket=./a.sock,delay=20ms,out.loss=1%,seed=7\n  \
                  busctl attach ./lan.bus vxlan:vni=42,local=192.0.2.1,peers=192.0.2.2,192.0.2.3\n  \
                  busctl attach ./lan.bus trunk:lab,connect=tcp/192.0.2.9:7447\n  \
                  busctl attach ./lan.bus memif:mode=ip,socket=./ip.sock,ip=10.0.0.2/24,gateway=10.0.0.1\n  \
                  busctl attach ./lan.bus pcap:in=replies.pcap,pps=1000,out=seen.pcap\n  \
                  busctl attach -d=vpp ./lan.bus memif:role=client,socket=@vpp; busctl stop vpp"
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

    /// Whether it runs in the background
    #[command(flatten)]
    detach: Detach,
}

impl Args {
    /// Returns what is to run detached, if that is asked for.
    ///
    /// # Errors
    /// When a port reads stdin or writes to stdout.
    pub(crate) fn detached(&self) -> anyhow::Result<Option<Request>> {
        let request = self.detach.request("attach", Some(self.bus.absolute()));
        let takes_stream = |port: &PortSpec| port.takes_stdin() || port.takes_stdout();
        if request.is_some() && self.ports.iter().any(takes_stream) {
            return Err(misuse(anyhow!(
                "a port on stdin or stdout cannot run detached: the process has no such streams then; give it a file"
            )));
        }
        Ok(request)
    }
}

/// Runs the verb.
///
/// # Errors
/// When the bus cannot be joined or a port cannot be opened; when the bus or the last port is gone.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let stop = Shutdown::on_signals().context("cannot handle signals")?;
    let mut lan = open(args, context)?;
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
    let mut service = context.service();
    service.ready()?;
    announce(&args.ports)?;
    while !stop.wait([lan.as_fd()], Some(POLL_INTERVAL)) {
        service.alive(|| lan.beats());
        if let Err(error) = lan.pass() {
            let Some(destroyed) = error.downcast_ref::<Destroyed>() else { return Err(error) };
            // The user asked for it, as with a signal.
            output::note(&format!("{destroyed}: its ports are closed"));
            break;
        }
    }
    service.stopping();
    Ok(())
}

/// Opens the ports and joins them to the bus.
fn open(args: &Args, context: &Context) -> anyhow::Result<Lan> {
    let options = args.new_bus.options();
    let specs = &args.ports;
    let node_options = args.threads.options();
    let port_options = PortOptions::new()
        .bus(options.clone())
        .program(crate::PROGRAM)
        .guard_loops(true)
        .threads(node_options.thread_count())
        .reporter(output::reporter());
    #[cfg(feature = "trunk")]
    let port_options = port_options.trunks(trunk::open);
    let lan = Lan::open(&args.bus, options, node_options, context, |bus| {
        let ports = port::open_each(specs, bus, &port_options)?;
        let each = |(ports, spec): (Vec<_>, &PortSpec)| {
            // Of several ports the first has the address.
            let mac = [spec.mac()].into_iter().chain(iter::repeat(None));
            // A capture is there to be looked at, so its port says nothing.
            let says_counters = spec.joins();
            let new = move |(port, mac)| NewPort { port, mac, says_counters };
            ports.into_iter().zip(mac).map(new)
        };
        Ok(ports.into_iter().zip(specs).flat_map(each).collect())
    })?;
    Ok(lan.check_loops_of(specs))
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
