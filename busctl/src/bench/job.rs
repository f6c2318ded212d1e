//! The body of a worker process: what it is told to do, and what it says in the end.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::latency::{self, BusWire, MemifWire};
use super::start_stop::StartStop;
use super::usage::Usage;
use super::{Load, Manner, bus, cpu, memif};
use crate::output::print_json;

/// What a worker is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) role: Role,
    pub(super) medium: Medium,
    pub(super) load: Load,
    pub(super) manner: Manner,
    /// Which of the processors to stay on; `None`: any.
    pub(super) cpu: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    Send,
    Receive,
    /// Sends single frames and waits for each to come back.
    Ask,
    /// Sends back what comes.
    Answer,
}

/// What a worker sends to or receives from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Medium {
    Bus { path: PathBuf },
    Memif { spec: String },
}

/// What a worker says in the end: one thing for each queue, and what it used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Reported<T> {
    pub(super) what: Vec<T>,
    pub(super) usage: Usage,
}

/// Does the job in `text`, a `Job` as JSON: the body of a worker process.
///
/// # Errors
/// Whatever keeps it from being done.
pub(crate) fn work(text: &str) -> anyhow::Result<()> {
    let job: Job = serde_json::from_str(text).context("not a job")?;
    let Job { load, manner, .. } = job;
    if let Some(index) = job.cpu {
        cpu::pin(index);
    }
    let start_stop = StartStop::of_parent();
    match (&job.medium, job.role) {
        (Medium::Bus { path }, Role::Send) => print_json(&bus::send(path, load, &start_stop)?)?,
        (Medium::Bus { path }, Role::Receive) => print_json(&bus::receive(path, manner, &start_stop)?)?,
        (Medium::Bus { path }, Role::Ask) => {
            print_json(&latency::ask(BusWire::open(path)?, load, manner, &start_stop)?)?;
        }
        (Medium::Bus { path }, Role::Answer) => {
            print_json(&latency::answer(BusWire::open(path)?, load, manner, &start_stop)?)?;
        }
        (Medium::Memif { spec }, Role::Send) => {
            let (sent, held) = memif::send(spec, load, manner, &start_stop)?;
            print_json(&sent)?;
            held.let_go(&start_stop);
        }
        (Medium::Memif { spec }, Role::Receive) => {
            print_json(&memif::receive(spec, load, manner, &start_stop)?)?;
        }
        (Medium::Memif { spec }, Role::Ask) => {
            print_json(&latency::ask(MemifWire::open(spec, &start_stop)?, load, manner, &start_stop)?)?;
        }
        (Medium::Memif { spec }, Role::Answer) => {
            print_json(&latency::answer(MemifWire::open(spec, &start_stop)?, load, manner, &start_stop)?)?;
        }
    }
    Ok(())
}
