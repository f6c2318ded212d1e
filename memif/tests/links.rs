//! Traffic over real links: both directions, several queues on threads of their own, chained
//! packets, interrupts.

mod common;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use common::*;
use memif::{
    Client, ClientOptions, Event, InterfaceOptions, LinkError, Mode, RxMode, RxQueue,
    SocketOptions, TxQueue,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Packet number `n`: its length and bytes follow from the number.
fn packet(n: u32, longest: usize) -> Vec<u8> {
    let length = 4 + (n as usize).wrapping_mul(2_654_435_761) % (longest - 3);
    let mut packet = vec![n.to_le_bytes()[0]; length];
    packet[..4].copy_from_slice(&n.to_le_bytes());
    packet
}

fn send(mut queue: TxQueue, count: u32, longest: usize) {
    let mut next = 0;
    while next < count {
        let mut burst = queue.burst().unwrap();
        let mut added = 0;
        while next + added < count && added < 32 && burst.push(&packet(next + added, longest)) {
            added += 1;
        }
        assert_eq!(burst.publish(), added as usize);
        next += added;
        if added == 0 {
            thread::yield_now();
        }
    }
}

fn receive(mut queue: RxQueue, count: u32, longest: usize) {
    let mut copy = vec![0; longest + 1];
    let mut next = 0;
    while next < count {
        let burst = queue.burst(64).unwrap();
        for received in &burst {
            let expected = packet(next, longest);
            assert_eq!(received.len(), expected.len());
            let len = received.copy_to(&mut copy);
            assert_eq!(copy[..len], expected);
            let pieces: usize = received.segments().map(<[AtomicU8]>::len).sum();
            assert_eq!(pieces, len);
            next += 1;
        }
        if burst.is_empty() {
            drop(burst);
            thread::yield_now();
        }
    }
    assert!(queue.burst(1).unwrap().is_empty());
}

/// Sends on all queues in both directions at once.
fn exchange(test: &str, options: ClientOptions, count: u32, longest: usize) {
    let addr = unique(test);
    let Pair { here, there, server: _server, client: _client } =
        pair(&addr, InterfaceOptions::new(0), options);
    thread::scope(|scope| {
        for link in [here, there] {
            link.tx
                .into_iter()
                .for_each(|queue| drop(scope.spawn(move || send(queue, count, longest))));
            link.rx
                .into_iter()
                .for_each(|queue| drop(scope.spawn(move || receive(queue, count, longest))));
        }
    });
}

#[test]
fn packets_of_all_lengths_go_both_ways() {
    exchange("plain", ClientOptions::new(0), 50_000, 2_048);
}

#[test]
fn packets_longer_than_a_buffer_are_chained() {
    exchange("chained", ClientOptions::new(0).buffer_size(100).log2_ring_size(5), 20_000, 3_000);
}

#[test]
fn queues_work_each_on_its_own_thread() {
    let options = ClientOptions::new(0).rx_queues(3).tx_queues(4).log2_ring_size(6);
    exchange("queues", options, 10_000, 1_514);
}

#[test]
fn there_may_be_255_queues_each_way() {
    // Both ends in one process take some 1,030 descriptors: more than many systems allow unasked.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(4_096)), hard).unwrap();
    let addr = unique("255");
    let options =
        ClientOptions::new(0).rx_queues(255).tx_queues(255).log2_ring_size(1).buffer_size(64);
    let Pair { mut here, mut there, server: _server, client: _client } =
        pair(&addr, InterfaceOptions::new(0), options);
    for (from, to) in [(&mut here.tx, &mut there.rx), (&mut there.tx, &mut here.rx)] {
        assert_eq!((from.len(), to.len()), (255, 255));
        for (n, queue) in (0..).zip(from) {
            let mut burst = queue.burst().unwrap();
            assert!(burst.push(&packet(n, 64)));
            assert_eq!(burst.publish(), 1);
        }
        for (n, queue) in (0..).zip(to) {
            let mut copy = [0; 64];
            let burst = queue.burst(2).unwrap();
            let len = burst.iter().next().unwrap().copy_to(&mut copy);
            assert_eq!((burst.len(), &copy[..len]), (1, &packet(n, 64)[..]));
        }
    }
}

#[test]
fn the_smallest_and_the_largest_rings_work() {
    exchange("small", ClientOptions::new(0).log2_ring_size(1).buffer_size(64), 3_000, 100);
    exchange("large", ClientOptions::new(0).log2_ring_size(14).buffer_size(2_048), 40_000, 1_514);
    exchange("jumbo", ClientOptions::new(0).log2_ring_size(4).buffer_size(65_535), 500, 65_535);
}

#[test]
fn names_modes_and_secrets_arrive() {
    let addr = unique("names");
    let secret = "0123456789abcdefghijklm";
    let server = InterfaceOptions::new(7).name("left0").app_name("left app").mode(Mode::Ip);
    let client = ClientOptions::new(7).name("right0").app_name("right app").mode(Mode::Ip);
    let Pair { here, there, .. } =
        pair(&addr, server.secret(secret).unwrap(), client.secret(secret).unwrap());
    assert_eq!((here.peer.name.as_str(), here.peer.app_name.as_str()), ("right0", "right app"));
    assert_eq!((there.peer.name.as_str(), there.peer.app_name.as_str()), ("left0", "left app"));
    assert_eq!((here.mode, there.mode), (Mode::Ip, Mode::Ip));
    assert!(here.sealed && there.sealed);
}

#[test]
fn metadata_travels_and_unpublished_packets_do_not() {
    let addr = unique("metadata");
    let Pair { mut here, mut there, server: _server, client: _client } =
        pair(&addr, InterfaceOptions::new(0), ClientOptions::new(0));
    for (tx, rx) in [(&mut here.tx[0], &mut there.rx[0]), (&mut there.tx[0], &mut here.rx[0])] {
        let mut burst = tx.burst().unwrap();
        burst.push(b"dropped with its burst");
        drop(burst);
        let mut burst = tx.burst().unwrap();
        burst.push(b"forgotten");
        std::mem::forget(burst);

        let mut burst = tx.burst().unwrap();
        let mut slot = burst.reserve(8).unwrap();
        slot.write(b"in ");
        let shared: Vec<AtomicU8> =
            b"pieces and more".iter().map(|byte| AtomicU8::new(*byte)).collect();
        slot.write_shared(&shared);
        slot.set_metadata(0xC0FF_EE00);
        assert!(burst.push(b"second") && burst.push(b"third"));
        assert!(burst.push(b""), "an empty frame is passed over");
        assert!(burst.reserve(0).is_none());
        assert_eq!(burst.len(), 3);
        burst.truncate(2);
        assert_eq!(burst.publish(), 2);

        let burst = rx.burst(1).unwrap();
        let first = burst.iter().next().unwrap();
        assert_eq!((burst.len(), first.len(), first.metadata()), (1, 8, 0xC0FF_EE00));
        let mut copy = [0; 8];
        first.copy_to(&mut copy);
        assert_eq!(&copy, b"in piece");
        burst.release(0);

        let burst = rx.burst(9).unwrap();
        assert_eq!(burst.len(), 2, "what was not released comes again");
        burst.release(1);
        let burst = rx.burst(9).unwrap();
        assert_eq!(burst.iter().map(|packet| packet.len()).collect::<Vec<_>>(), [6]);
    }
}

#[test]
fn a_full_ring_says_so_and_recovers() {
    let addr = unique("full");
    let Pair { mut here, mut there, server: _server, client: _client } =
        pair(&addr, InterfaceOptions::new(0), ClientOptions::new(0).log2_ring_size(3));
    for (tx, rx) in [(&mut here.tx[0], &mut there.rx[0]), (&mut there.tx[0], &mut here.rx[0])] {
        assert_eq!((tx.ring_size(), tx.free_slots().unwrap()), (8, 8));
        let mut burst = tx.burst().unwrap();
        assert_eq!((0..20).filter(|n| burst.push(&[*n; 60])).count(), 8);
        burst.publish();
        assert_eq!(tx.free_slots().unwrap(), 0);
        assert_eq!(rx.burst(3).unwrap().len(), 3);
        assert_eq!(tx.free_slots().unwrap(), 3);
    }
}

fn readable(queue: &RxQueue, timeout: PollTimeout) -> bool {
    poll(&mut [PollFd::new(queue.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1
}

#[test]
fn no_wakeup_is_lost_between_two_sleepers() {
    let addr = unique("interrupts");
    let Pair { here, there, server: _server, client: _client } =
        pair(&addr, InterfaceOptions::new(0), ClientOptions::new(0));
    // A ball thrown to and fro: each side sleeps until it has it.
    let play = |mut rx: RxQueue, mut tx: TxQueue, serves: bool| {
        let mut burst = tx.burst().unwrap();
        if serves {
            burst.push(b"ball");
        }
        burst.publish();
        for _ in 0..20_000 {
            while rx.burst(1).unwrap().is_empty() {
                if !rx.arm().unwrap() {
                    assert!(readable(&rx, PollTimeout::from(20_000u16)), "a wake-up was lost");
                }
                rx.disarm();
            }
            let mut burst = tx.burst().unwrap();
            burst.push(b"ball");
            burst.publish();
        }
    };
    let mut sides =
        [here, there].map(|mut link| (link.rx.remove(0), link.tx.remove(0))).into_iter();
    let (left, right) = (sides.next().unwrap(), sides.next().unwrap());
    thread::scope(|scope| {
        scope.spawn(move || play(left.0, left.1, true));
        scope.spawn(move || play(right.0, right.1, false));
    });
}

#[test]
fn only_who_asked_is_interrupted() {
    for (mode, woken) in
        [(RxMode::Polling, false), (RxMode::Adaptive, false), (RxMode::Interrupt, true)]
    {
        let addr = unique(&format!("mode-{mode:?}"));
        let Pair { mut here, mut there, server: _server, client: _client } = pair(
            &addr,
            InterfaceOptions::new(0).rx_mode(mode),
            ClientOptions::new(0).rx_mode(mode),
        );
        for (tx, rx) in [(&mut here.tx[0], &mut there.rx[0]), (&mut there.tx[0], &mut here.rx[0])] {
            let mut burst = tx.burst().unwrap();
            burst.push(b"knock");
            burst.publish();
            assert_eq!(readable(rx, PollTimeout::ZERO), woken, "{mode:?}");
            rx.disarm();
            assert!(!readable(rx, PollTimeout::ZERO));
        }
    }
}

#[test]
fn who_sleeps_is_woken_when_the_link_goes_down() {
    let addr = unique("down");
    let Pair { mut here, mut there, mut server, mut client } =
        pair(&addr, InterfaceOptions::new(0), ClientOptions::new(0));
    assert!(!here.rx[0].arm().unwrap() && !there.rx[0].arm().unwrap());
    assert!(server.server.disconnect(0, "closing time"));
    assert!(readable(&here.rx[0], PollTimeout::NONE));
    assert_eq!(here.rx[0].burst(1).unwrap_err(), LinkError::Down);
    let event = until("Disconnected", || client.ready().unwrap());
    assert!(
        matches!(&event, Event::Disconnected { reason, .. } if reason.to_string().ends_with("closing time"))
    );
    assert!(readable(&there.rx[0], PollTimeout::NONE));
    assert_eq!(there.tx[0].burst().unwrap_err(), LinkError::Down);
}

#[test]
fn one_socket_serves_many_interfaces() {
    let addr = unique("many");
    let mut server = memif::Server::bind(&addr, SocketOptions::new()).unwrap();
    (0..20).for_each(|id| server.add(InterfaceOptions::new(id)).unwrap());
    assert!(server.add(InterfaceOptions::new(5)).is_err());
    let mut world = World::new(server);
    let mut clients: Vec<Client> =
        (0..20).map(|id| Client::new(&addr, ClientOptions::new(id)).unwrap()).collect();
    let mut connected = 0;
    until("all links", || {
        world.pump();
        for client in &mut clients {
            connected +=
                usize::from(matches!(client.ready().unwrap(), Some(Event::Connected { .. })));
        }
        (connected == 20).then_some(())
    });
    world.pump();
    assert_eq!(world.events.len(), 20);
}

#[test]
fn queues_outlive_their_endpoint() {
    let addr = unique("outlive");
    let Pair { mut here, there, server, client } =
        pair(&addr, InterfaceOptions::new(0), ClientOptions::new(0));
    drop((server, client, there));
    assert_eq!(here.rx[0].burst(1).unwrap_err(), LinkError::Down);
    assert_eq!(here.tx[0].free_slots().unwrap_err(), LinkError::Down);
}

/// A peer that scribbles over all of the shared memory while it is in use makes no more than
/// errors.
#[test]
fn memory_scribbled_over_under_a_live_reader_is_survived() {
    use std::os::unix::fs::FileExt;
    let addr = unique("scribble");
    let mut server = memif::Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    for round in 0..30u8 {
        let (_mock, memory, mut link) = world.connect_mock(&addr, 1);
        let done = AtomicU8::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut step = u32::from(round);
                while done.load(Ordering::Relaxed) == 0 {
                    step = step.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let ring = if step & 0x100 == 0 { S2M } else { M2S };
                    let (slot, length) = (step >> 9 & 7, step >> 12 & 0xfff);
                    set_descriptor(&memory, ring, slot, descriptor(0, 0, length, S2M_BUFFERS));
                    memory
                        .write_all_at(&[step.to_le_bytes()[3] & 7, 0], u64::from(ring + 6))
                        .unwrap();
                }
            });
            let mut copy = [0; 4_096];
            for _ in 0..2_000 {
                let Ok(burst) = link.rx[0].burst(8) else { break };
                burst.iter().for_each(|packet| assert_eq!(packet.copy_to(&mut copy), packet.len()));
                drop(burst);
                let Ok(mut burst) = link.tx[0].burst() else { break };
                burst.push(&copy[..300]);
                burst.publish();
            }
            done.store(1, Ordering::Relaxed);
        });
    }
}
