//! The crate `memif` with DPDK's driver at the other end, without a bus in between. Testpmd in `io`
//! mode sends every frame back unchanged, so both directions can be compared byte for byte.

use std::os::fd::AsFd;

use memif::{Buffer, BufferPool, ClientOptions, InterfaceOptions, Rejection, RxMode, SocketAddr};
use nix::poll::{PollFd, PollFlags, poll};
use system_tests::memifpeer::{Listening, MemifPeer};
use system_tests::testpmd::{BURST, Setup};
use system_tests::{CpuLock, Lab, Testpmd, frames, lab, require, wait};

/// Sends frames of every size, in bursts, and compares what comes back.
fn every_size_comes_back(peer: &mut MemifPeer) {
    let sizes = || (14..=1514).chain((14..=1514).rev());
    let sent: Vec<_> = sizes().map(|len| frames::patterned(len, 1)).collect();
    for burst in sent.chunks(16) {
        peer.send_all(burst);
        assert!(peer.receive_exactly(burst.len()) == burst, "from {} bytes on", burst[0].len());
    }
}

/// Does the same on each queue, and asserts that no frame comes on another.
fn every_size_comes_back_on_its_queue(peer: &mut MemifPeer, queues: usize) {
    assert_eq!((peer.link().rx.len(), peer.link().tx.len()), (queues, queues));
    for queue in 0..queues {
        peer.use_queue(queue);
        every_size_comes_back(peer);
    }
    let received = peer.details().rx.iter().map(|ring| ring.stats.packets).collect::<Vec<_>>();
    assert_eq!(received, vec![2 * 1_501; queues]);
}

/// Connects a testpmd client to a server of ours, and runs `play` while it forwards.
fn with_a_testpmd_client(
    options: InterfaceOptions,
    setup: impl Fn(Setup) -> Setup,
    play: impl FnOnce(&mut MemifPeer),
) {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let socket = lab.path("m.sock");
    let listening = Listening::on(&socket, options);
    let (mut testpmd, mut peer) =
        client_of(&lab, listening, &setup(Testpmd::client(&socket, 3)).forwards_on_demand("io"));
    testpmd.command("start");
    play(&mut peer);
    testpmd.command("stop");
    testpmd.quit().succeeds();
}

/// Starts a testpmd client and accepts it. The client connects once, when it starts, and waits for
/// the answer, so a second thread must accept it meanwhile.
fn client_of(lab: &Lab, listening: Listening, setup: &Setup) -> (Testpmd, MemifPeer) {
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| listening.accept());
        let mut testpmd = setup.start(lab);
        let peer = accepted.join().expect("a link");
        testpmd.wait_for_link();
        (testpmd, peer)
    })
}

#[test]
fn every_size_comes_back_from_a_testpmd_client() {
    with_a_testpmd_client(InterfaceOptions::new(3), |setup| setup, every_size_comes_back);
}

#[test]
fn every_size_comes_back_from_a_testpmd_client_in_chains_of_small_buffers() {
    with_a_testpmd_client(
        InterfaceOptions::new(3),
        |setup| setup.key("bsize=256"),
        every_size_comes_back,
    );
}

#[test]
fn every_size_comes_back_from_a_testpmd_client_through_small_and_large_rings() {
    for (key, size) in [("rsize=6", 64), ("rsize=14", 16_384)] {
        with_a_testpmd_client(
            InterfaceOptions::new(3),
            |setup| setup.key(key),
            |peer| {
                assert_eq!(
                    (peer.link().rx[0].ring_size(), peer.link().tx[0].ring_size()),
                    (size, size)
                );
                every_size_comes_back(peer);
            },
        );
    }
}

#[test]
fn every_size_comes_back_from_a_testpmd_client_on_each_of_four_queues() {
    with_a_testpmd_client(
        InterfaceOptions::new(3),
        |setup| setup.queues(4),
        |peer| {
            every_size_comes_back_on_its_queue(peer, 4);
        },
    );
}

/// The client's packets stay in its own memory, which is mapped here: the second region and those
/// after it, without seals.
#[test]
fn every_size_comes_back_from_a_testpmd_client_that_does_not_copy() {
    with_a_testpmd_client(InterfaceOptions::new(3), Setup::zero_copy, |peer| {
        let regions = peer.details().regions;
        assert!(regions.len() >= 2 && !peer.link().sealed, "{regions:?}");
        every_size_comes_back(peer);
    });
}

#[test]
fn every_size_comes_back_from_a_testpmd_client_with_a_secret() {
    let options =
        InterfaceOptions::new(3).secret("a secret of 23 bytes...").expect("a valid secret");
    with_a_testpmd_client(
        options,
        |setup| setup.key("secret=a secret of 23 bytes..."),
        every_size_comes_back,
    );
}

/// An abstract socket is DPDK's default.
#[test]
fn every_size_comes_back_from_a_testpmd_client_on_an_abstract_socket() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let name = lab.path("abstract");
    let address = SocketAddr::abstract_name(&name).expect("a short name");
    let listening = Listening::at(&address, InterfaceOptions::new(3));
    let setup = Testpmd::client(&name, 3).abstract_socket().forwards_on_demand("io");
    let (mut testpmd, mut peer) = client_of(&lab, listening, &setup);
    assert!(!name.exists());
    testpmd.command("start");
    every_size_comes_back(&mut peer);
    testpmd.command("stop");
    testpmd.quit().succeeds();
}

/// Connects a client of ours to a testpmd server.
fn with_a_testpmd_server(
    options: ClientOptions,
    setup: impl Fn(Setup) -> Setup,
    play: impl FnOnce(&mut MemifPeer),
) {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let socket = lab.path("m.sock");
    let mut testpmd = setup(Testpmd::server(&socket, 3)).forwards_on_demand("io").start(&lab);
    let mut peer = MemifPeer::client(&socket, options);
    testpmd.wait_for_link();
    testpmd.command("start");
    play(&mut peer);
    testpmd.command("stop");
    testpmd.quit().succeeds();
}

#[test]
fn every_size_comes_back_from_a_testpmd_server() {
    with_a_testpmd_server(ClientOptions::new(3), |setup| setup, every_size_comes_back);
}

#[test]
fn every_size_comes_back_from_a_testpmd_server_through_small_and_large_rings() {
    for log2 in [6, 14] {
        with_a_testpmd_server(
            ClientOptions::new(3).log2_ring_size(log2),
            |setup| setup,
            |peer| {
                assert_eq!(
                    (peer.link().rx[0].ring_size(), peer.link().tx[0].ring_size()),
                    (1 << log2, 1 << log2)
                );
                every_size_comes_back(peer);
            },
        );
    }
}

/// There are always enough small buffers here: where a chain does not fit, this server writes
/// beyond the buffers it was offered.
#[test]
fn every_size_comes_back_from_a_testpmd_server_in_chains_of_small_buffers() {
    with_a_testpmd_server(
        ClientOptions::new(3).buffer_size(256),
        |setup| setup,
        every_size_comes_back,
    );
}

#[test]
fn every_size_comes_back_from_a_testpmd_server_on_each_of_four_queues() {
    let options = ClientOptions::new(3).rx_queues(4).tx_queues(4);
    with_a_testpmd_server(
        options,
        |setup| setup.queues(4),
        |peer| every_size_comes_back_on_its_queue(peer, 4),
    );
}

#[test]
fn every_size_comes_back_from_a_testpmd_server_with_a_secret_on_an_abstract_socket() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let name = lab.path("abstract");
    let setup =
        Testpmd::server(&name, 3).abstract_socket().key("secret=sesame").forwards_on_demand("io");
    let mut testpmd = setup.start(&lab);
    let options = ClientOptions::new(3).secret("sesame").expect("a valid secret");
    let mut peer =
        MemifPeer::client_at(&SocketAddr::abstract_name(&name).expect("a short name"), options);
    testpmd.wait_for_link();
    testpmd.command("start");
    every_size_comes_back(&mut peer);
    testpmd.command("stop");
    testpmd.quit().succeeds();
}

/// Both regions are the caller's own memory. Frames are sent from and received into the caller's
/// buffers, by exchange.
#[test]
fn buffers_go_to_a_testpmd_server_and_back_without_being_copied() {
    let memories = [BufferPool::new(1_024, 2_048), BufferPool::new(2_048, 2_048)]
        .map(|memory| memory.expect("memory"));
    let options = memories.iter().fold(ClientOptions::new(3), ClientOptions::buffer_pool);
    with_a_testpmd_server(
        options,
        |setup| setup,
        |peer| {
            assert_eq!(peer.details().regions.len(), 3, "rings, and two memories");
            let mut buffers: Vec<Buffer> =
                memories.iter().flat_map(|memory| (0..8).map_while(|_| memory.buffer())).collect();
            assert!(buffers.len() >= 8, "what the rings have left");
            let sizes: Vec<usize> = (14..=1514).collect();
            for sizes in sizes.chunks(buffers.len()) {
                let sent: Vec<_> = sizes.iter().map(|len| frames::patterned(*len, 2)).collect();
                let link = peer.link();
                let mut burst = link.tx[0].burst().expect("the link is up");
                for (buffer, frame) in buffers.iter_mut().zip(&sent) {
                    buffer.clear(0);
                    assert!(buffer.append(frame) && burst.enqueue(std::slice::from_mut(buffer)));
                }
                assert_eq!(burst.publish(), sent.len());
                let mut taken = 0;
                wait::until("the frames to come back", system_tests::WAIT_TIMEOUT, || {
                    taken +=
                        link.rx[0].burst(64).expect("the link is up").take(&mut buffers[taken..]);
                    taken == sent.len()
                });
                for (buffer, frame) in buffers.iter().zip(&sent) {
                    let mut copy = vec![0; buffer.len()];
                    buffer.copy_to(&mut copy);
                    assert!(copy == *frame, "{} bytes", frame.len());
                }
            }
        },
    );
}

/// We sleep, testpmd polls. Asserts that every frame is found, and that interrupts announced them.
fn sleeps(peer: &mut MemifPeer) {
    for mode in [RxMode::Interrupt, RxMode::Adaptive] {
        let queue = &mut peer.link().rx[0];
        let before = queue.stats();
        // No frame is in flight.
        assert!(!queue.set_mode(mode).expect("the link is up"));
        for round in 0..500u64 {
            let sent: Vec<_> = (0..8).map(|n| frames::numbered(60 + 40 * n, round)).collect();
            peer.send_all(&sent);
            let queue = &mut peer.link().rx[0];
            let mut got = Vec::new();
            wait::poll_every(std::time::Duration::ZERO, system_tests::WAIT_TIMEOUT, || {
                if !queue.arm().expect("the link is up") {
                    // DPDK has no fence between publishing and reading the flag, so a wake-up may
                    // be missed.
                    poll(&mut [PollFd::new(queue.as_fd(), PollFlags::POLLIN)], 10u16)
                        .expect("poll");
                }
                queue.disarm();
                for packet in &queue.burst(64).expect("the link is up") {
                    let mut frame = vec![0; packet.len()];
                    packet.copy_to(&mut frame);
                    got.push(frame);
                }
                (got.len() >= sent.len()).then_some(())
            });
            assert!(got == sent, "round {round} in {mode} mode");
        }
        let after = peer.link().rx[0].stats();
        assert_eq!(after.packets - before.packets, 8 * 500);
        assert!(after.interrupts > before.interrupts, "{mode}: {after:?}");
    }
}

#[test]
fn we_may_sleep_while_a_testpmd_client_polls() {
    with_a_testpmd_client(InterfaceOptions::new(3), |setup| setup, sleeps);
}

#[test]
fn we_may_sleep_while_a_testpmd_server_polls() {
    with_a_testpmd_server(ClientOptions::new(3), |setup| setup, sleeps);
}

#[test]
fn a_testpmd_client_with_a_wrong_secret_is_turned_away_and_the_next_one_is_not() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let socket = lab.path("m.sock");
    let mut listening =
        Listening::on(&socket, InterfaceOptions::new(3).secret("sesame").expect("a valid secret"));
    let mut wrong = std::thread::scope(|scope| {
        let refusal = scope.spawn(|| listening.refuse());
        let wrong = Testpmd::client(&socket, 3).key("secret=tahini").start(&lab);
        assert!(matches!(refusal.join().expect("no link"), Rejection::WrongSecret));
        wrong
    });
    assert!(!wrong.link_is_up());
    wrong.quit().succeeds();
    let setup = Testpmd::client(&socket, 3).key("secret=sesame").forwards_on_demand("io");
    let (mut testpmd, mut peer) = client_of(&lab, listening, &setup);
    testpmd.command("start");
    every_size_comes_back(&mut peer);
    testpmd.command("stop");
    testpmd.quit().succeeds();
}

#[test]
fn a_testpmd_server_turns_us_away_when_our_secret_is_wrong() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let socket = lab.path("m.sock");
    let testpmd = Testpmd::server(&socket, 3).key("secret=sesame").start(&lab);
    for options in
        [ClientOptions::new(3), ClientOptions::new(3).secret("tahini").expect("a valid secret")]
    {
        let refusal = MemifPeer::turned_away(&socket, options);
        assert!(
            matches!(&refusal, Rejection::Peer { reason } if reason.to_lowercase().contains("secret")),
            "{refusal}"
        );
    }
    drop(MemifPeer::client(
        &socket,
        ClientOptions::new(3).secret("sesame").expect("a valid secret"),
    ));
    testpmd.quit().succeeds();
}

/// Once the link is up, all of testpmd's own bursts arrive, whichever end started first.
#[test]
fn bursts_of_a_testpmd_server_arrive() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (mut testpmd, mut peer) = server_and_client(&lab);
    bursts_arrive(&mut testpmd, &mut peer);
    testpmd.quit().succeeds();
}

fn server_and_client(lab: &Lab) -> (Testpmd, MemifPeer) {
    let socket = lab.path("m.sock");
    let mut testpmd = Testpmd::server(&socket, 3).start(lab);
    let peer = MemifPeer::client(&socket, ClientOptions::new(3));
    testpmd.wait_for_link();
    (testpmd, peer)
}

fn bursts_arrive(testpmd: &mut Testpmd, peer: &mut MemifPeer) {
    testpmd.wait_for_link();
    // Testpmd resets its counters when some links end.
    let before = testpmd.stats().tx_packets;
    testpmd.start_with_bursts(10);
    let got = peer.receive_exactly(10 * usize::try_from(BURST).expect("small"));
    assert!(got.iter().all(|frame| frame.len() == 64));
    wait::until("testpmd has counted them", system_tests::WAIT_TIMEOUT, || {
        testpmd.stats().tx_packets == before + 10 * BURST
    });
    testpmd.command("stop");
}

#[test]
fn our_client_and_a_testpmd_server_reconnect_whichever_end_goes() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (mut testpmd, mut peer) = server_and_client(&lab);
    bursts_arrive(&mut testpmd, &mut peer);
    // We disconnect.
    peer.hang_up();
    peer.come_back();
    bursts_arrive(&mut testpmd, &mut peer);
    // Testpmd is killed, and leaves a stale socket in its own way.
    testpmd.kill();
    peer.loss();
    let socket = lab.path("m.sock");
    std::fs::remove_file(&socket).expect("its socket");
    let mut testpmd = Testpmd::server(&socket, 3).start(&lab);
    peer.come_back();
    bursts_arrive(&mut testpmd, &mut peer);
    testpmd.quit().succeeds();
    peer.loss();
}

#[test]
fn our_server_and_a_testpmd_client_reconnect_whichever_end_goes() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let socket = lab.path("m.sock");
    let (mut testpmd, mut peer) = client_of(
        &lab,
        Listening::on(&socket, InterfaceOptions::new(3)),
        &Testpmd::client(&socket, 3),
    );
    bursts_arrive(&mut testpmd, &mut peer);
    // We disconnect. Testpmd connects again when its port is restarted.
    peer.hang_up();
    testpmd.wait_for_link_loss();
    testpmd.restart_port();
    peer.come_back();
    testpmd.command("stop");
    bursts_arrive(&mut testpmd, &mut peer);
    // Testpmd is killed, and another one connects.
    testpmd.kill();
    peer.loss();
    let mut testpmd = std::thread::scope(|scope| {
        let back = scope.spawn(|| peer.come_back());
        let testpmd = Testpmd::client(&socket, 3).start(&lab);
        back.join().expect("a link");
        testpmd
    });
    bursts_arrive(&mut testpmd, &mut peer);
    testpmd.quit().succeeds();
    peer.loss();
}
