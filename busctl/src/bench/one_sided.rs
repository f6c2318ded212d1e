//! One end of a measurement by itself, where the other is another program: a rump kernel, VPP,
//! testpmd.

use ::memif::Role;
use port::memif::MemifSpec;

use super::start_stop::StartStop;
use super::{MemifOptions, Plan, Report, Sender, Topology, bus, cpu, memif};
use crate::misuse::OrMisuse as _;

/// Which end this process is, and where the other is: the path of a bus, or a memif interface as in
/// `attach`.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// Frames are sent for as long as the plan says.
    Sender { place: String, cpu: Option<usize> },
    /// Frames are received for as long as the plan says, from the first one on.
    Receiver { place: String, cpu: Option<usize> },
}

/// Runs one end of `plan`.
///
/// # Errors
/// When the other end is not found, or disconnects.
pub(crate) fn measure_one_sided(plan: &Plan, end: &End) -> anyhow::Result<Report> {
    let start_stop = StartStop::of_user(plan.load.time)?;
    let (End::Sender { place, cpu } | End::Receiver { place, cpu }) = end;
    if let Some(index) = cpu {
        cpu::pin(*index);
    }
    let is_bus = plan.topology == Topology::Bus;
    let mut plan = *plan;
    if !is_bus {
        let spec = place.parse().misuse()?;
        plan.options.memif = options(&spec, end, plan.options.memif);
        if spec.role == Role::Client {
            plan.options.memif.check_frame(plan.load.frame).misuse()?;
        }
    }
    let (plan, load, options) = (&plan, plan.load, plan.options);
    Ok(match end {
        End::Sender { .. } if is_bus => {
            Report::of_sender(plan, &bus::send(place.as_ref(), load, &start_stop)?)
        }
        End::Receiver { .. } if is_bus => {
            Report::of_receiver(plan, &bus::receive(place.as_ref(), options, &start_stop)?)
        }
        End::Sender { .. } => {
            let (sent, pending) = memif::send(place, load, options, &start_stop)?;
            pending.drain(&start_stop);
            Report::of_sender(plan, &sent)
        }
        End::Receiver { .. } => {
            Report::of_receiver(plan, &memif::receive(place, load, options, &start_stop)?)
        }
    })
}

/// Returns the memif options of a measurement with one end of ours: a client's sizes hold for both
/// sides, a server's for none.
fn options(spec: &MemifSpec, end: &End, plan: MemifOptions) -> MemifOptions {
    let is_sender = matches!(end, End::Sender { .. });
    match (spec.role, is_sender) {
        (Role::Client, _) => {
            let sender = if is_sender { Sender::Client } else { Sender::Server };
            MemifOptions { sender, rsize: spec.log2_ring_size, bsize: spec.buffer_size, ..plan }
        }
        (Role::Server, true) => MemifOptions { sender: Sender::Server, ..plan },
        (Role::Server, false) => MemifOptions { sender: Sender::Client, ..plan },
    }
}
