//! The body of a worker process: does one job and prints what it measured.

use anyhow::Context as _;

use super::latency::{self, BusChannel, MemifChannel};
use super::protocol::{Job, Medium, Role};
use super::start_stop::StartStop;
use super::{bus, cpu, memif};
use crate::output::print_json;

/// Does the job in `text`, a [`Job`] as JSON.
///
/// # Errors
/// When it is not a job, or the job fails.
pub(crate) fn work(text: &str) -> anyhow::Result<()> {
    let job: Job = serde_json::from_str(text).context("not a job")?;
    let Job { load, options, .. } = job;
    if let Some(index) = job.cpu {
        cpu::pin(index);
    }
    let start_stop = StartStop::of_parent();
    match (&job.medium, job.role) {
        (Medium::Bus { path }, Role::Send) => print_json(&bus::send(path, load, &start_stop)?)?,
        (Medium::Bus { path }, Role::Receive) => {
            print_json(&bus::receive(path, options, &start_stop)?)?;
        }
        (Medium::Bus { path }, Role::Ask) => {
            print_json(&latency::ask(BusChannel::open(path)?, load, options, &start_stop)?)?;
        }
        (Medium::Bus { path }, Role::Answer) => {
            print_json(&latency::answer(BusChannel::open(path)?, load, options, &start_stop)?)?;
        }
        (Medium::Memif { spec }, Role::Send) => {
            let (sent, pending) = memif::send(spec, load, options, &start_stop)?;
            print_json(&sent)?;
            pending.drain(&start_stop);
        }
        (Medium::Memif { spec }, Role::Receive) => {
            print_json(&memif::receive(spec, load, options, &start_stop)?)?;
        }
        (Medium::Memif { spec }, Role::Ask) => {
            print_json(&latency::ask(
                MemifChannel::open(spec, &start_stop)?,
                load,
                options,
                &start_stop,
            )?)?;
        }
        (Medium::Memif { spec }, Role::Answer) => {
            print_json(&latency::answer(
                MemifChannel::open(spec, &start_stop)?,
                load,
                options,
                &start_stop,
            )?)?;
        }
    }
    Ok(())
}
