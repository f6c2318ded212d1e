//! Opening the ports that [`PortSpec`]s describe.

use std::path::Path;

use memif::Mode;
use shmbus::BusOptions;

use crate::bus::JoinedBuses;
use crate::error::PortError;
use crate::frame_rules::Ruled;
use crate::impair::ImpairHandle;
use crate::impaired::Impaired;
use crate::ip_adapter::IpAdapter;
use crate::learning::Learning;
use crate::loop_guard::LoopGuard;
use crate::memif::{MemifPort, MemifSpec, Sockets};
use crate::port::Port;
use crate::reporter::Reporter;
use crate::socket::{SocketServers, SocketSpec};
use crate::spec::{KindSpec, PortSpec};
use crate::trunk::OpenTrunk;
use crate::vxlan::VxlanPort;
use crate::{pcap, tap};

/// How ports are opened: what the ports of one program have in common.
#[derive(Clone, Debug)]
pub struct PortOptions {
    bus: BusOptions,
    program: String,
    reporter: Reporter,
    guards_loops: bool,
    threads: usize,
    trunks: Option<OpenTrunk>,
}

impl Default for PortOptions {
    fn default() -> Self {
        Self {
            bus: BusOptions::default(),
            program: String::new(),
            reporter: Reporter::default(),
            guards_loops: false,
            threads: 1,
            trunks: None,
        }
    }
}

impl PortOptions {
    /// Makes the default options: new buses of the default size and mode, no program name, reports
    /// to the log, one thread.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how a `bus:` port makes the other bus when its file does not exist.
    #[must_use]
    pub fn bus(self, bus: BusOptions) -> Self {
        Self { bus, ..self }
    }

    /// Sets the program's name that memif peers see; only the first 31 bytes count.
    #[must_use]
    pub fn program(self, program: impl Into<String>) -> Self {
        Self { program: program.into(), ..self }
    }

    /// Sets whether ports that could close a loop are [guarded](LoopGuard). They are not by
    /// default: a guarded port sends probes to its peer, and withholds frames for a moment when the
    /// peer comes.
    #[must_use]
    pub fn guard_loops(self, on: bool) -> Self {
        Self { guards_loops: on, ..self }
    }

    /// Sets how many threads serve the ports. A TAP interface has no more queues than that.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Sets how trunk ports are opened, which this crate does not do itself. Without it there are none.
    #[must_use]
    pub fn trunks(self, open: OpenTrunk) -> Self {
        Self { trunks: Some(open), ..self }
    }

    /// Sets where the ports report.
    #[must_use]
    pub fn reporter(self, reporter: Reporter) -> Self {
        Self { reporter, ..self }
    }
}

/// Opens ports for the bus at `bus`, and returns them in order. Memif servers with one address
/// share one socket. A socket server is a port for each client, and a TAP interface one for each
/// queue.
///
/// The bus itself need not exist yet. Each port has the impairments that its specification names, and
/// an [`impair_handle`](Port::impair_handle) that changes them.
///
/// # Errors
/// [`PortError`] when one of them cannot be opened, or two exclude each other. None is open then.
pub fn open(
    specs: &[PortSpec],
    bus: &Path,
    options: &PortOptions,
) -> Result<Vec<Box<dyn Port>>, PortError> {
    Ok(open_each(specs, bus, options)?.into_iter().flatten().collect())
}

/// As [`open`], and returns the ports of each of `specs` apart.
///
/// # Errors
/// As [`open`].
pub fn open_each(
    specs: &[PortSpec],
    bus: &Path,
    options: &PortOptions,
) -> Result<Vec<Vec<Box<dyn Port>>>, PortError> {
    let stdins = specs.iter().filter(|spec| spec.takes_stdin()).count();
    let stdouts = specs.iter().filter(|spec| spec.takes_stdout()).count();
    for (stream, users) in [("stdin", stdins), ("stdout", stdouts)] {
        if users > 1 {
            return Err(PortError::SharedStandard(stream));
        }
    }
    let sockets = Sockets::start(&options.program, &options.reporter)?;
    let socket_servers = SocketServers::new(&options.reporter);
    let mut buses = JoinedBuses::new(bus);
    let wrap = |port: Box<dyn Port>, spec: &PortSpec| -> Box<dyn Port> {
        let rules = spec.rules();
        let port = if rules.is_empty() { port } else { Box::new(Ruled::new(port, rules.clone())) };
        let port = if spec.learns() { Box::new(Learning::new(port)) } else { port };
        if options.guards_loops && spec.joins() { Box::new(LoopGuard::new(port)) } else { port }
    };
    let open_all = |spec: &PortSpec| -> Result<Vec<Box<dyn Port>>, PortError> {
        let handle = || ImpairHandle::new(spec.impairments().clone());
        let ports: Vec<Box<dyn Port>> = match &spec.0 {
            KindSpec::Memif(spec) => {
                let port = sockets.open(spec, spec.to_string())?;
                vec![of_memif(port, spec, handle())]
            }
            KindSpec::Tap(spec) => {
                // All queues are one link.
                let handle = handle();
                let queues = tap::open(spec, options.threads)?;
                queues.into_iter().map(|queue| impaired(queue, handle.clone())).collect()
            }
            KindSpec::Pcap(spec) => {
                let port = pcap::open(spec, bus, &options.program, &options.reporter)?;
                vec![impaired(port, handle())]
            }
            KindSpec::Bus(spec) => vec![impaired(buses.open(spec, &options.bus)?, handle())],
            KindSpec::Vxlan(spec) => {
                vec![impaired(VxlanPort::open(spec, spec.to_string())?, handle())]
            }
            KindSpec::Trunk(spec) => {
                let open = options.trunks.ok_or(PortError::NoTrunks)?;
                vec![impaired(open(spec, spec.to_string())?, handle())]
            }
            KindSpec::Socket(spec) => {
                let open = |spec: SocketSpec| {
                    Ok(impaired(socket_servers.open(&spec, spec.to_string())?, handle()))
                };
                spec.each_client().map(open).collect::<Result<_, PortError>>()?
            }
        };
        Ok(ports.into_iter().map(|port| wrap(port, spec)).collect())
    };
    specs.iter().map(open_all).collect()
}

/// Wraps an open memif port as its settings say: with impairments, and a peer that sends IP packets alone
/// in an adapter.
#[must_use]
pub fn of_memif(port: MemifPort, spec: &MemifSpec, impair: ImpairHandle) -> Box<dyn Port> {
    match spec.mode {
        Mode::Ip => impaired(IpAdapter::new(port, spec.ip_peer.clone()), impair),
        Mode::Ethernet | Mode::PuntInject => impaired(port, impair),
    }
}

/// Wraps a port of a certain kind: without impairments it is forwarded to without a further call.
fn impaired(port: impl Port + 'static, handle: ImpairHandle) -> Box<dyn Port> {
    Box::new(Impaired::new(port, handle))
}

/// Checks that open ports can be moved to the bus at `bus` without a loop.
///
/// # Errors
/// [`PortError`] when the move would close a loop of buses.
pub fn check_loops(specs: &[PortSpec], bus: &Path) -> Result<(), PortError> {
    let mut buses = JoinedBuses::of_open_ports(bus);
    let others = specs.iter().filter_map(|spec| match &spec.0 {
        KindSpec::Bus(spec) => Some(spec),
        KindSpec::Memif(_)
        | KindSpec::Tap(_)
        | KindSpec::Pcap(_)
        | KindSpec::Socket(_)
        | KindSpec::Vxlan(_)
        | KindSpec::Trunk(_) => None,
    });
    others.into_iter().try_for_each(|spec| buses.check(spec))
}
