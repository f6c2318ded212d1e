//! A LAN of many: what stations, ports and plugs cost that are beside the two that are measured.

mod bridge;
mod broadcast;
mod bystanders;
mod cost;
mod crowd;
mod hosts;
mod kernel_hosts;
mod ports;
mod switches;

use std::io::Write as _;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use system_tests::{Lab, Process, proc_files};

use crate::comparison::Table;

/// What an idle host may take of memory, with the rings of a memif peer.
const HOST_BYTES: u64 = 8 << 20;

/// Measures all of it, in the sizes that the command line names and the memory suffices for.
pub(crate) fn a_lan_for_many(table: &mut Table<'_>) {
    raise_descriptor_limit();
    let sizes = affordable(table.sizes());
    bystanders::on_a_bus(table, &sizes);
    cost::of_a_bystander(table, &sizes);
    broadcast::to_sleepers(table, &sizes);
    ports::of_a_node(table, &sizes);
    switches::beside_vde(table, &sizes);
    switches::beside_a_bridge(table, &sizes);
}

/// Starts a station on a bus, as `bus-station` has them.
fn bus_station(lab: &Lab, words: &[&str]) -> Process {
    let program = lab.reach(env!("CARGO_BIN_EXE_bus-station").as_ref());
    Process::spawn("bus-station", lab.command(program).args(words))
}

/// Reports that rows are left out, and why.
fn leave_out(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "left out: {what}: {why}");
}

/// Returns the sizes that the memory suffices for, and reports the others.
fn affordable(sizes: &[usize]) -> Vec<usize> {
    let available = proc_files::available_memory().unwrap_or(u64::MAX);
    let most = available / HOST_BYTES;
    let (affordable, others): (Vec<usize>, Vec<usize>) =
        sizes.iter().copied().partition(|size| *size as u64 <= most);
    for size in others {
        let megabytes = |bytes| bytes >> 20;
        let why = format!(
            "{} MiB of memory are available, and {} may be needed",
            megabytes(available),
            megabytes(size as u64 * HOST_BYTES)
        );
        leave_out(&format!("all rows with {size} beside"), &why);
    }
    affordable
}

/// Takes as many descriptors as the system allows: each process has three, each plug two.
fn raise_descriptor_limit() {
    // Where this fails, a row with many may fail later, and says at what.
    let _ = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
}
