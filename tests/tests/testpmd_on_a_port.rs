//! One testpmd on a port of `busctl attach`, as client and as server. Its frames arrive at another
//! station on the bus, in a live dump and in a pcap, and it answers pings from the bus.

use std::path::Path;

use system_tests::reference::RumpPeer;
use system_tests::testpmd::{BURST, Setup};
use system_tests::{CpuLock, Lab, Process, Testpmd, WAIT_TIMEOUT, frames, lab, port, require};

const STATION: frames::Mac = [0xb2, 0xa0, 0, 0, 0, 1];
const TESTPMD: frames::Mac = [0x02, 0, 0, 0, 0, 0x07];

#[derive(Clone, Copy)]
enum TestpmdIs {
    Client,
    Server,
}

impl TestpmdIs {
    fn setup(self, socket: &Path) -> Setup {
        let setup = match self {
            Self::Client => Testpmd::client(socket, 7),
            Self::Server => Testpmd::server(socket, 7),
        };
        setup.key("mac=02:00:00:00:00:07")
    }

    /// Starts testpmd and the node on the bus. The one that listens starts first.
    fn join(self, lab: &Lab, setup: impl Fn(Setup) -> Setup) -> (Process, Testpmd) {
        let (bus, socket) = (lab.arg("lan.bus"), lab.path("m.sock"));
        match self {
            Self::Client => {
                let node = lab.ready(["attach", &bus, &port::server(&socket, 7, "")]);
                (node, setup(self.setup(&socket)).start(lab))
            }
            Self::Server => {
                let testpmd = setup(self.setup(&socket)).start(lab);
                (lab.ready(["attach", &bus, &port::client(&socket, 7, "")]), testpmd)
            }
        }
    }
}

/// Testpmd sends at full speed. Every reader is overrun, and still receives undamaged frames.
fn a_flood_reaches_a_station_and_a_pcap(role: TestpmdIs) {
    require!("dpdk-testpmd", "tcpdump");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let bus = lab.path("lan.bus");
    let (_node, mut testpmd) = role.join(&lab, |setup| setup.forwards("txonly"));
    testpmd.wait_for_link();

    let mut station = RumpPeer::attach(&bus, STATION);
    for _ in 0..5000 {
        let frame = station.wait(WAIT_TIMEOUT).expect("a frame from testpmd");
        assert_eq!((frame.len(), &frame[6..12]), (64, &TESTPMD[..]), "{frame:02x?}");
    }

    let pcap = lab.path("flood.pcap");
    lab.run(["dump", &lab.arg("lan.bus"), "-f", "-c", "1000", "-w", &lab.arg("flood.pcap")])
        .succeeds();
    let captured = frames::read_pcap(&pcap);
    assert_eq!(captured.len(), 1000);
    assert!(captured.iter().all(|frame| frame.len() == 64 && frame[6..12] == TESTPMD));

    let tcpdump = require::find("tcpdump").expect("required above");
    let read = lab.run_program(lab.command(tcpdump).args(["-nn", "-r"]).arg(&pcap));
    let datagrams =
        read.succeeds().lines().filter(|line| line.contains("198.18.0.1.9 > 198.18.0.2.9: UDP"));
    assert_eq!(datagrams.count(), 1000, "{read}");
    testpmd.quit().succeeds();
}

#[test]
fn a_flood_from_a_testpmd_client_reaches_a_station_and_a_pcap() {
    a_flood_reaches_a_station_and_a_pcap(TestpmdIs::Client);
}

#[test]
fn a_flood_from_a_testpmd_server_reaches_a_station_and_a_pcap() {
    a_flood_reaches_a_station_and_a_pcap(TestpmdIs::Server);
}

/// A known number of frames, slow enough for every reader: each arrives once, at a station and in a
/// live dump.
fn a_burst_arrives_whole(role: TestpmdIs) {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (_node, mut testpmd) = role.join(&lab, |setup| setup.frame_bytes(1514));
    testpmd.wait_for_link();
    let mut station = RumpPeer::attach(&lab.path("lan.bus"), STATION);
    let dump = lab.spawn(["dump", &lab.arg("lan.bus"), "-f"]);
    dump.wait_for_line("bus version 3");

    testpmd.start_with_bursts(3);
    for number in 0..3 * BURST {
        let frame =
            station.wait(WAIT_TIMEOUT).unwrap_or_else(|| panic!("frame {number} is missing"));
        assert_eq!((frame.len(), &frame[6..12]), (1514, &TESTPMD[..]));
    }
    assert_eq!(testpmd.stats().tx_packets, 3 * BURST);
    dump.wait_for_line(&format!("packet {}, ", 3 * BURST - 1));

    // A sentinel from the bus: when it arrives, every earlier frame has been read.
    let sentinel = frames::numbered(60, 0);
    RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 2]).send([&sentinel]);
    assert!(station.wait(WAIT_TIMEOUT) == Some(sentinel), "nothing came twice");
    let dumped = dump.wait_for_line("length 0x003c");
    assert!(
        dumped.starts_with(&format!("packet {}, ", 3 * BURST)),
        "nothing was dumped twice: {dumped}"
    );
    testpmd.wait_for_rx(1);
    testpmd.quit().succeeds();
}

#[test]
fn a_burst_from_a_testpmd_client_arrives_whole() {
    a_burst_arrives_whole(TestpmdIs::Client);
}

#[test]
fn a_burst_from_a_testpmd_server_arrives_whole() {
    a_burst_arrives_whole(TestpmdIs::Server);
}

fn pings_are_answered(role: TestpmdIs) {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (_node, mut testpmd) = role.join(&lab, |setup| setup.forwards("icmpecho"));
    testpmd.wait_for_link();
    let ping = lab.run([
        "ping",
        &lab.arg("lan.bus"),
        "10.0.0.9",
        "--from",
        "10.0.0.1/24",
        "-c",
        "20",
        "-i",
        "0.02",
        "--json",
    ]);
    let answer = ping.json();
    assert_eq!(
        (answer["sent"].as_u64(), answer["received"].as_u64()),
        (Some(20), Some(20)),
        "{ping}"
    );
    assert_eq!(answer["loss"].as_f64(), Some(0.0), "{ping}");
    testpmd.quit().succeeds();
}

#[test]
fn a_testpmd_client_answers_pings_from_the_bus() {
    pings_are_answered(TestpmdIs::Client);
}

#[test]
fn a_testpmd_server_answers_pings_from_the_bus() {
    pings_are_answered(TestpmdIs::Server);
}

/// Small buffers and rings on either side: a frame of 1,514 bytes takes a chain of them.
#[test]
fn frames_longer_than_a_buffer_arrive_from_a_testpmd_client() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (_node, mut testpmd) = TestpmdIs::Client
        .join(&lab, |setup| setup.key("bsize=512").key("rsize=8").frame_bytes(1514));
    testpmd.wait_for_link();
    let mut station = RumpPeer::attach(&lab.path("lan.bus"), STATION);
    testpmd.start_with_bursts(1);
    for number in 0..BURST {
        let frame =
            station.wait(WAIT_TIMEOUT).unwrap_or_else(|| panic!("frame {number} is missing"));
        assert_eq!((frame.len(), &frame[6..12]), (1514, &TESTPMD[..]));
    }
    station.send([frames::numbered(1514, 1)]);
    testpmd.wait_for_rx(1);
    testpmd.quit().succeeds();
}

/// DPDK's default is an abstract socket; ours is spelled with an `@` or with DPDK's own key.
#[test]
fn frames_arrive_through_an_abstract_socket() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let name = lab.path("abstract");
    let ports = [
        format!("memif:role=server,id=1,socket=@{}", name.display()),
        format!("memif:role=server,id=2,socket={},socket-abstract=yes", name.display()),
    ];
    let _node = lab.ready(["attach", &lab.arg("lan.bus"), &ports[0], &ports[1]]);
    assert!(!name.exists(), "an abstract socket is no file");
    let mut station = RumpPeer::attach(&lab.path("lan.bus"), STATION);
    for id in [1, 2] {
        let mut testpmd = Testpmd::client(&name, id).abstract_socket().start(&lab);
        testpmd.wait_for_link();
        testpmd.start_with_bursts(1);
        for number in 0..BURST {
            assert!(station.wait(WAIT_TIMEOUT).is_some(), "frame {number} from id {id} is missing");
        }
        testpmd.quit().succeeds();
    }
}
