//! One end of a measurement by itself, where the other is another program: a rump kernel, VPP, testpmd.

use ::memif::Role;
use port::memif::MemifSpec;

use super::start_stop::StartStop;
use super::{MemifManner, Plan, Report, Sender, Subject, bus, cpu, memif};
use crate::misuse::OrMisuse as _;

/// Which end is ours, and where the other is to be found: the path of a bus, or a memif interface as in `attach`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the same in both, and described above")]
pub(crate) enum End {
    /// Frames are sent for as long as the plan says.
    Sender { place: String, cpu: Option<usize> },
    /// Frames are received for as long as the plan says, from the first one on.
    Receiver { place: String, cpu: Option<usize> },
}

/// Runs one end of `plan`.
///
/// # Errors
/// When the other end is not to be found, or goes away.
pub(crate) fn measure_alone(plan: &Plan, end: &End) -> anyhow::Result<Report> {
    let start_stop = StartStop::of_person(plan.load.time)?;
    let (End::Sender { place, cpu } | End::Receiver { place, cpu }) = end;
    if let Some(index) = cpu {
        cpu::pin(*index);
    }
    let is_bus = plan.subject == Subject::Bus;
    let mut plan = *plan;
    if !is_bus {
        plan.manner.memif = manner(&place.parse().misuse()?, end, plan.manner.memif);
    }
    let (plan, load, manner) = (&plan, plan.load, plan.manner);
    Ok(match end {
        End::Sender { .. } if is_bus => {
            Report::of_sender(plan, &bus::send(place.as_ref(), load, &start_stop)?)
        }
        End::Receiver { .. } if is_bus => {
            Report::of_receiver(plan, &bus::receive(place.as_ref(), manner, &start_stop)?)
        }
        End::Sender { .. } => {
            let (sent, held) = memif::send(place, load, manner, &start_stop)?;
            held.let_go(&start_stop);
            Report::of_sender(plan, &sent)
        }
        End::Receiver { .. } => Report::of_receiver(plan, &memif::receive(place, load, manner, &start_stop)?),
    })
}

/// How memif is used where one end is as its keys say: a client's sizes hold for both, and a server's are not used.
fn manner(spec: &MemifSpec, end: &End, plan: MemifManner) -> MemifManner {
    let is_sender = matches!(end, End::Sender { .. });
    match (spec.role, is_sender) {
        (Role::Client, _) => {
            let sender = if is_sender { Sender::Client } else { Sender::Server };
            MemifManner { sender, rsize: spec.log2_ring_size, bsize: spec.buffer_size, ..plan }
        }
        (Role::Server, true) => MemifManner { sender: Sender::Server, ..plan },
        (Role::Server, false) => MemifManner { sender: Sender::Client, ..plan },
    }
}
