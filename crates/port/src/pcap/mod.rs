//! Captures as a port: one is played onto the bus, another is written from it.
//!
//! When a capture was played to its end, or cannot be written any more, the port goes without it.
//! The node continues.

mod input;
mod output;
mod spec;

use std::os::fd::BorrowedFd;
use std::path::Path;

use memif::RxMode;
use shmbus::Station;
use shmbus::offload::TxRequest;

use self::input::Input;
use self::output::Output;
pub(crate) use self::spec::{PcapSpec, Place};
use crate::error::PortError;
use crate::file_identity::Identity;
use crate::port::{Moved, NotSent, Port};
use crate::reporter::Reporter;

/// The captures of one port.
pub(crate) struct PcapPort {
    name: String,
    input: Option<Input>,
    output: Option<Output>,
}

/// Opens a port for the bus at `bus`.
///
/// # Errors
/// [`PortError`] when a capture cannot be opened, or is not one.
pub(super) fn open(
    spec: &PcapSpec,
    bus: &Path,
    program: &str,
    reporter: &Reporter,
) -> Result<PcapPort, PortError> {
    let name = match (&spec.input, &spec.output) {
        (Some(place), None) => format!("pcap in={place}"),
        (None, Some(place)) => format!("pcap out={place}"),
        (Some(input), Some(output)) => {
            if let (Place::Path(input), Place::Path(output)) = (input, output)
                && Identity::of(input) == Identity::of(output)
            {
                return Err(PortError::SameCapture(input.clone()));
            }
            format!("pcap in={input},out={output}")
        }
        (None, None) => return Err(PortError::NoCapture),
    };
    // The input comes first: when it is missing, no output is made.
    let input = spec
        .input
        .as_ref()
        .map(|place| Input::open(place, spec.pps, spec.filter.clone()))
        .transpose()?;
    let output = spec
        .output
        .as_ref()
        .map(|place| Output::open(place, spec, bus, program, reporter))
        .transpose()?;
    Ok(PcapPort { name, input, output })
}

impl Port for PcapPort {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_up(&self) -> bool {
        self.input.is_some() || self.output.is_some()
    }

    fn wants_service(&self) -> bool {
        self.input.as_ref().is_some_and(Input::has_ended)
            || self.output.as_ref().is_some_and(Output::has_ended)
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        if let Some(text) = self.input.as_ref().and_then(Input::end) {
            report(&text);
            self.input = None;
        }
        if let Some(text) = self.output.as_ref().and_then(Output::end) {
            report(&text);
            self.output = None;
        }
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        self.input.as_mut().map_or_else(|| Ok(Moved::default()), |input| input.play(station))
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        let Some(output) = &mut self.output else {
            // There is no capture to write to.
            station.discard_pending();
            return Moved::default();
        };
        output.take(station)
    }

    /// Without a capture to write to, frames are dropped.
    fn put_burst(&mut self, frames: &mut dyn Iterator<Item = &[u8]>) -> usize {
        match &mut self.output {
            Some(output) => output.put(frames),
            None => frames.count(),
        }
    }

    fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        self.input.as_mut().map_or(0, |input| input.take(frame))
    }

    fn rx_mode(&self) -> RxMode {
        RxMode::Adaptive
    }

    fn arm(&mut self) -> bool {
        self.input.as_mut().is_some_and(Input::arm)
    }

    fn disarm(&mut self) {
        if let Some(input) = &mut self.input {
            input.disarm();
        }
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        if let Some(input) = &self.input {
            input.descriptors(watch);
        }
    }
}
