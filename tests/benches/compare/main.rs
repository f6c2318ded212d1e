//! Compares our figures with those of other programs, in the same minutes on the same machine.
//!
//! ```text
//! cargo bench -p system-tests --bench compare -- [bus] [rump] [taps] [latency] [memif] [interrupt]
//!     [adapter] [sockets] [vxlan] [ends] [run] [idle] [many] [--rounds N] [--seconds S]
//!     [--sizes N,N,...] [--svg FILE] [--figures FILE] [--json]
//! ```
//!
//! A shared machine is fast in one minute and slow in the next. So ours and theirs alternate, for a
//! short time each, and the result is the median of the ratios in each round. docs/BENCHMARKS.md
//! explains every row. No time is asserted; a missed target is reported. `--sizes` are those of the
//! section `many`: how many stations, ports or plugs there are beside the two that are measured.
//! `--svg` also draws the medians, and `--figures` keeps them as JSON.

mod adapter;
mod arguments;
mod bus;
mod comparison;
mod cpu;
mod ends;
mod idle;
mod interrupt;
mod latency;
mod many;
mod memif;
mod namespaces;
mod ours;
mod plain_ring;
mod rump;
mod sockets;
mod throughput;
mod vde;

use self::arguments::Arguments;
use self::comparison::Table;
use system_tests::CpuLock;

fn main() {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("compare: {why}");
            std::process::exit(2);
        }
    };
    if let Err(why) = interrupt::clean_up_on_signals() {
        eprintln!("compare: cannot watch for signals: {why}");
        std::process::exit(1);
    }
    // Tests that keep the processors busy wait meanwhile.
    let _cpus = CpuLock::acquire();
    let mut table = Table::new(&arguments);
    for (name, section) in SECTIONS {
        if arguments.wants(name) {
            section(&mut table);
        }
    }
    if let Err(why) = table.finish() {
        eprintln!("compare: {why}");
        std::process::exit(1);
    }
}

/// Measures the rows of one subject.
type Section = fn(&mut Table<'_>);

/// The sections, by name.
const SECTIONS: [(&str, Section); 13] = [
    ("bus", bus::beside_a_plain_ring),
    ("rump", rump::beside_rump_kernels),
    ("taps", bus::with_many_taps),
    ("latency", latency::beside_eventfds),
    ("memif", memif::beside_testpmd),
    ("interrupt", memif::asleep),
    ("adapter", adapter::beside_vde),
    ("sockets", sockets::between_two_ports),
    ("vxlan", |table| {
        sockets::between_two_machines(table);
        namespaces::beside_the_kernels_vxlan(table);
    }),
    ("ends", ends::by_their_number),
    ("run", namespaces::beside_a_veth_pair),
    ("idle", idle::a_hundred_ports),
    ("many", many::a_lan_for_many),
];
