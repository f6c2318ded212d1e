//! Opening ports that are written as [`PortSpec`]s.

use std::path::Path;

use shmbus::BusOptions;

use crate::bus::Joined;
use crate::error::PortError;
use crate::learning::Learning;
use crate::memif::Sockets;
use crate::port::Port;
use crate::reporter::Reporter;
use crate::spec::PortSpec;
use crate::{pcap, tap};

/// What ports are opened with.
#[derive(Clone, Debug, Default)]
pub struct PortOptions {
    bus: BusOptions,
    program: String,
    reporter: Reporter,
}

impl PortOptions {
    /// Makes the default options: buses of the default size and mode, no program name, reports that are logged.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how other buses are made where there are none.
    #[must_use]
    pub fn bus(self, bus: BusOptions) -> Self {
        Self { bus, ..self }
    }

    /// Sets the program's name that memif peers see, up to 31 bytes.
    #[must_use]
    pub fn program(self, program: impl Into<String>) -> Self {
        Self { program: program.into(), ..self }
    }

    /// Sets where the ports report.
    #[must_use]
    pub fn reporter(self, reporter: Reporter) -> Self {
        Self { reporter, ..self }
    }
}

/// Opens ports on the bus at `bus`, in order. Ports that share a socket are opened together.
///
/// # Errors
/// [`PortError`] when one of them cannot be opened, or two are in each other's way; none is open then.
pub fn open(specs: &[PortSpec], bus: &Path, options: &PortOptions) -> Result<Vec<Box<dyn Port>>, PortError> {
    for (standard, takes) in
        [("stdin", PortSpec::takes_stdin as fn(&PortSpec) -> bool), ("stdout", PortSpec::takes_stdout)]
    {
        if specs.iter().filter(|spec| takes(spec)).count() > 1 {
            return Err(PortError::SharedStandard(standard));
        }
    }
    let sockets = Sockets::start(&options.program, &options.reporter)?;
    let mut buses = Joined::new(bus);
    let mut open_one = |spec: &PortSpec| -> Result<Box<dyn Port>, PortError> {
        let port: Box<dyn Port> = match spec {
            PortSpec::Memif(spec) => Box::new(sockets.open(spec, spec.to_string())?),
            PortSpec::Tap(spec) => Box::new(tap::open(spec)?),
            PortSpec::Pcap(spec) => Box::new(pcap::open(spec, bus, &options.program, &options.reporter)?),
            PortSpec::Bus(spec) => Box::new(buses.open(spec, &options.bus)?),
        };
        Ok(if spec.learns() { Box::new(Learning::new(port)) } else { port })
    };
    specs.iter().map(&mut open_one).collect()
}

/// Checks that ports that are open can be moved to the bus at `bus`.
///
/// # Errors
/// [`PortError`] when there would be a loop of buses.
pub fn check_loops(specs: &[PortSpec], bus: &Path) -> Result<(), PortError> {
    let mut buses = Joined::anew(bus);
    let others = specs.iter().filter_map(|spec| match spec {
        PortSpec::Bus(spec) => Some(spec),
        PortSpec::Memif(_) | PortSpec::Tap(_) | PortSpec::Pcap(_) => None,
    });
    others.into_iter().try_for_each(|spec| buses.check(spec))
}
