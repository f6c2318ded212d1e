//! The harness of the system tests. A test starts several real processes and real peers, waits for
//! what they do, inspects what they leave, and is sure that none of it outlives the test.
//!
//! A test opens a [`Lab`] with [`lab!`] and runs everything inside it:
//!
//! ```no_run
//! # // `lab!` itself needs the environment of an integration test.
//! # let lab = system_tests::Lab::new(std::path::Path::new("busctl"));
//! let bus = lab.arg("lan.bus");
//! let _host = lab.ready(["host", &bus, "10.0.0.2/24"]);
//! lab.run(["ping", &bus, "10.0.0.2", "--from", "10.0.0.1/24", "-c", "1"]).succeeds();
//! ```
//!
//! - [`mod@lab`]: the scratch folder, and `busctl` run inside it without privileges.
//! - [`port`]: memif ports as arguments of `busctl attach`.
//! - [`process`]: a child process whose output is kept and which cannot outlive its owner.
//! - [`wait`]: waiting for a condition, never for a time.
//! - [`privilege`]: the user the children run as.
//! - [`mod@require`]: peers a machine may lack.
//! - [`built`]: shared libraries of this build, for programs that are not in Rust.
//! - [`CpuLock`]: one busy test at a time.
//! - [`testpmd`]: DPDK's `dpdk-testpmd` as a memif peer.
//! - [`mod@reference`]: a rump kernel's side of the bus, as a peer for ours.
//! - [`c_program`]: C programs, compiled against a library of this workspace.
//! - [`memifpeer`]: a memif peer of our own, inside the test.
//! - [`rawmemif`]: the bare memif control channel, to check its messages.
//! - [`namespace`]: a network namespace with the right to create interfaces.
//! - [`site`]: machines with a cable to one switch, as namespaces.
//! - [`proc_files`]: what the kernel reports about processes.
//! - [`ping_output`]: what `ping`(8) prints.
//! - [`figures`]: how `compare` compares two figures, and its targets.
//! - [`pictures`]: the pictures of the documents, from data in the tree.
//! - [`frames`]: distinguishable test frames, and pcap files of them.

pub mod built;
pub mod c_program;
mod cpu_lock;
pub mod figures;
pub mod frames;
pub mod lab;
pub mod memifpeer;
pub mod namespace;
pub mod pictures;
pub mod ping_output;
pub mod port;
pub mod privilege;
pub mod proc_files;
pub mod process;
pub mod rawmemif;
pub mod reference;
pub mod require;
pub mod site;
pub mod testpmd;
pub mod vm;
pub mod wait;

pub use cpu_lock::CpuLock;
pub use lab::Lab;
pub use process::{Finished, Process};
pub use testpmd::Testpmd;

/// How long a test waits for an event that should be immediate. It is generous because several
/// polling peers may share two cores. It costs little because only a failing test waits this long.
pub const WAIT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Opens a [`Lab`] around the `busctl` that was built from this checkout.
///
/// It is a macro because cargo gives the path of that program only to the integration test itself.
#[macro_export]
macro_rules! lab {
    () => {
        $crate::Lab::new(::std::path::Path::new(env!("CARGO_BIN_EXE_busctl-under-test")))
    };
}

/// The page's program compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../docs/memif-in-ten-minutes.md")]
struct MemifInTenMinutes;
