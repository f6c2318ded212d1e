//! What a measurement and its worker processes send each other, as JSON: the job on the command
//! line, the report on stdout.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cpu::Usage;
use super::{EndOptions, Load};

/// What a worker is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) role: Role,
    pub(super) medium: Medium,
    pub(super) load: Load,
    pub(super) options: EndOptions,
    /// The index of the CPU to stay on; `None`: any.
    pub(super) cpu: Option<usize>,
}

/// Which end of a measurement a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    Send,
    Receive,
    /// Sends single frames and waits for each to come back.
    Ask,
    /// Sends every frame back.
    Answer,
}

/// What a worker sends to or receives from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Medium {
    Bus { path: PathBuf },
    Memif { spec: String },
}

/// What a worker reports at the end: one result for each queue, and the time it used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Reported<T> {
    pub(super) results: Vec<T>,
    pub(super) usage: Usage,
}
