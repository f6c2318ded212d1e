//! The crate `memif` with DPDK's driver at the other end, without a bus in between: testpmd in `io` mode sends every frame back
//! as it came, so both directions can be compared byte for byte.

use memif::Options;
use system_tests::memifpeer::{Listening, MemifPeer};
use system_tests::testpmd::{BURST, Setup};
use system_tests::turn::Turn;
use system_tests::{Lab, Testpmd, frames, lab, require, wait};

/// Sends frames of every size, in bursts, and compares what comes back.
fn every_size_comes_back(peer: &mut MemifPeer) {
    let sizes = || (14..=1514).chain((14..=1514).rev());
    let sent: Vec<_> = sizes().map(|len| frames::patterned(len, 1)).collect();
    for burst in sent.chunks(16) {
        peer.send_all(burst);
        assert!(peer.receive_exactly(burst.len()) == burst, "from {} bytes on", burst[0].len());
    }
}

fn from_a_testpmd_client(options: Options, setup: impl Fn(Setup) -> Setup) {
    require!("dpdk-testpmd");
    let _turn = Turn::take();
    let lab = lab!();
    let socket = lab.path("m.sock");
    // A client of testpmd's calls once, when it starts, and waits for the answer: somebody has to give it meanwhile.
    let listening = Listening::on(&socket, options);
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| listening.accept());
        let mut testpmd = setup(Testpmd::client(&socket, 3)).forwards("io").start(&lab);
        let mut peer = accepted.join().expect("a link");
        testpmd.wait_for_link();
        every_size_comes_back(&mut peer);
        testpmd.quit().succeeds();
    });
}

#[test]
fn every_size_comes_back_from_a_testpmd_client() {
    from_a_testpmd_client(Options::new(3), |setup| setup);
}

#[test]
fn every_size_comes_back_from_a_testpmd_client_in_chains_of_small_buffers() {
    from_a_testpmd_client(Options::new(3), |setup| setup.key("bsize=256"));
}

#[test]
fn every_size_comes_back_from_a_testpmd_client_through_small_rings() {
    from_a_testpmd_client(Options::new(3), |setup| setup.key("rsize=6"));
}

#[test]
fn every_size_comes_back_from_a_testpmd_client_with_a_secret() {
    let options = Options::new(3).secret("a secret of 23 bytes...").expect("a valid secret");
    from_a_testpmd_client(options, |setup| setup.key("secret=a secret of 23 bytes..."));
}

fn from_a_testpmd_server(options: Options) {
    require!("dpdk-testpmd");
    let _turn = Turn::take();
    let lab = lab!();
    let socket = lab.path("m.sock");
    let mut testpmd = Testpmd::server(&socket, 3).forwards("io").start(&lab);
    let mut peer = MemifPeer::client(&socket, options);
    testpmd.wait_for_link();
    every_size_comes_back(&mut peer);
    testpmd.quit().succeeds();
}

#[test]
fn every_size_comes_back_from_a_testpmd_server() {
    from_a_testpmd_server(Options::new(3));
}

#[test]
fn every_size_comes_back_from_a_testpmd_server_through_small_rings() {
    from_a_testpmd_server(Options::new(3).log2_ring_size(6));
}

/// How the two started does not matter once the link is up: bursts of testpmd's own arrive, all of them.
#[test]
fn bursts_of_a_testpmd_server_arrive() {
    require!("dpdk-testpmd");
    let _turn = Turn::take();
    let lab = lab!();
    let (mut testpmd, mut peer) = server_and_client(&lab);
    testpmd.start_with_bursts(10);
    let got = peer.receive_exactly(10 * usize::try_from(BURST).expect("small"));
    assert!(got.iter().all(|frame| frame.len() == 64));
    wait::until("testpmd has counted them", system_tests::PATIENCE, || {
        testpmd.stats().tx_packets == 10 * BURST
    });
    testpmd.quit().succeeds();
}

fn server_and_client(lab: &Lab) -> (Testpmd, MemifPeer) {
    let socket = lab.path("m.sock");
    let mut testpmd = Testpmd::server(&socket, 3).start(lab);
    let peer = MemifPeer::client(&socket, Options::new(3));
    testpmd.wait_for_link();
    (testpmd, peer)
}
