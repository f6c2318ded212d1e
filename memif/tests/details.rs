//! Counts of queues, and snapshots of endpoints.

mod common;

use common::*;
use memif::{
    ClientOptions, DisconnectReason, Event, InterfaceOptions, Mode, QueueStats, Role, RxMode,
    Server, SocketOptions,
};

/// Packets, bytes and interrupts, and the three ways not to send.
fn counts(stats: QueueStats) -> [u64; 6] {
    [stats.packets, stats.bytes, stats.interrupts, stats.ring_full, stats.cancelled, stats.down]
}

#[test]
fn queues_count_what_they_do() {
    let addr = unique("counts");
    let Pair { mut here, mut there, mut server, client } = pair(
        &addr,
        InterfaceOptions::new(0),
        ClientOptions::new(0).log2_ring_size(3).buffer_size(64),
    );
    for (tx, rx) in [(&mut here.tx[0], &mut there.rx[0]), (&mut there.tx[0], &mut here.rx[0])] {
        assert_eq!((tx.stats(), rx.stats()), (QueueStats::default(), QueueStats::default()));
        let mut burst = tx.burst().unwrap();
        // Four descriptors for three packets, and a packet that is taken back.
        assert!(
            burst.push(&[1; 60])
                && burst.push(&[2; 100])
                && burst.push(&[3; 1])
                && burst.push(&[4; 9])
        );
        assert!(!burst.push(&[5; 400]), "there are 3 of 8 buffers left");
        burst.truncate(3);
        burst.publish();
        assert_eq!(counts(tx.stats()), [3, 161, 0, 1, 1, 0]);

        let burst = rx.burst(9).unwrap();
        assert_eq!(burst.len(), 3);
        burst.release(2);
        assert_eq!(
            counts(rx.stats()),
            [2, 160, 0, 0, 0, 0],
            "what was not given back does not count"
        );
        drop(rx.burst(9).unwrap());
        assert_eq!(counts(rx.stats()), [3, 161, 0, 0, 0, 0]);

        assert!(!rx.arm().unwrap());
        for _ in 0..2 {
            let mut burst = tx.burst().unwrap();
            burst.push(&[6; 10]);
            burst.publish();
        }
        rx.disarm();
        assert_eq!((tx.stats().interrupts, rx.stats().interrupts), (2, 2));
        drop(rx.burst(9).unwrap());
    }
    let mut late = there.tx[0].burst().unwrap();
    late.push(&[7; 10]);
    assert!(server.server.disconnect(0, "enough"));
    drop(client);
    late.publish();
    assert_eq!(there.tx[0].stats().down, 1);
}

#[test]
fn details_show_the_whole_link() {
    let addr = unique("details");
    let options = ClientOptions::new(4).name("right").app_name("right app").mode(Mode::Ip);
    let Pair { mut here, mut there, server, client } = pair(
        &addr,
        InterfaceOptions::new(4).name("left").app_name("left app").mode(Mode::Ip),
        options.rx_queues(2).tx_queues(3).log2_ring_size(4).rx_mode(RxMode::Interrupt),
    );
    let mut burst = there.tx[2].burst().unwrap();
    let mut slot = burst.reserve(44).unwrap();
    slot.write(&[1; 44]);
    slot.set_metadata(0xABCD);
    burst.publish();
    assert_eq!(here.rx[2].burst(9).unwrap().len(), 1);
    let mut burst = there.tx[2].burst().unwrap();
    burst.push(&[1; 33]);
    burst.publish();

    let theirs = server.server.details(4).unwrap();
    assert!(server.server.details(5).is_none());
    assert_eq!(server.server.ids(), [4]);
    let ours = client.details();
    assert_eq!(
        (theirs.role, ours.role, ours.mode, ours.id),
        (Role::Server, Role::Client, Mode::Ip, 4)
    );
    assert_eq!((ours.name.as_str(), ours.app_name.as_str()), ("right", "right app"));
    assert_eq!(theirs.peer.as_ref().unwrap().name, "right");
    assert_eq!(ours.peer.as_ref().unwrap().app_name, "left app");
    assert_eq!((theirs.rx.len(), theirs.tx.len(), ours.rx.len(), ours.tx.len()), (3, 2, 2, 3));
    assert_eq!(
        (theirs.regions.len(), theirs.regions[0].sealed, theirs.regions[0].lost),
        (1, true, false)
    );
    assert_eq!(theirs.regions, ours.regions);

    // Both sides see the same ring.
    let (sent, received) = (&ours.tx[2], &theirs.rx[2]);
    for ring in [sent, received] {
        assert_eq!((ring.direction, ring.index, ring.size), ("S2M", 2, 16));
        assert_eq!((ring.head, ring.tail, ring.flags), (2, 1, 1));
    }
    assert_eq!((sent.offset, sent.region), (received.offset, received.region));
    assert_eq!((counts(sent.stats)[..2].to_vec(), sent.rx_mode), (vec![2, 77], None));
    assert_eq!(
        (counts(received.stats)[..2].to_vec(), received.rx_mode),
        (vec![1, 44], Some(RxMode::Adaptive))
    );
    assert_eq!(
        (ours.rx[0].rx_mode, ours.rx[0].flags, ours.rx[0].head),
        (Some(RxMode::Interrupt), 0, 16)
    );
    assert_eq!((ours.tx_total.packets, ours.rx_total.packets, theirs.rx_total.packets), (2, 0, 1));

    assert!(sent.descriptors.is_empty());
    let full = client.details_with_descriptors();
    let descriptors = &full.tx[2].descriptors;
    assert_eq!(descriptors.len(), 16);
    assert_eq!(
        (descriptors[0].length, descriptors[0].metadata, descriptors[1].length),
        (44, 0xABCD, 33)
    );
    assert_eq!(server.server.details_with_descriptors(4).unwrap().rx[2].descriptors, *descriptors);

    let text = full.to_string();
    for line in [
        "interface right id 4 role client mode ip",
        "link up, remote-name \"left app\" remote-interface \"left\"",
        "region 0 size",
        "tx queue 2: S2M ring",
        "head 2 tail 1 flags 0x0001",
        "packets 2 bytes 77 interrupts 0 ring-full 0",
        "rx queue 0: M2S ring",
        "rx-mode interrupt",
        "slot flags region",
        "43981",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn modes_can_be_changed_while_traffic_flows() {
    let addr = unique("live-modes");
    let Pair { mut here, mut there, server, client: _client } =
        pair(&addr, InterfaceOptions::new(0).rx_queues(2), ClientOptions::new(0).tx_queues(2));
    let send = |queue: &mut memif::TxQueue| {
        let mut burst = queue.burst().unwrap();
        burst.push(&[1; 10]);
        burst.publish();
        queue.stats().interrupts
    };
    assert_eq!(send(&mut there.tx[0]), 0);
    assert!(here.rx[0].set_mode(RxMode::Interrupt).unwrap(), "a packet is there already");
    assert_eq!(send(&mut there.tx[0]), 1);
    assert_eq!(send(&mut there.tx[1]), 0, "the other queue is as it was");
    let modes = |server: &Server| {
        server.details(0).unwrap().rx.iter().map(|ring| ring.rx_mode.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(modes(&server.server), [RxMode::Interrupt, RxMode::Adaptive]);
    assert!(!here.rx[0].set_mode(RxMode::Polling).unwrap());
    assert_eq!((here.rx[0].mode(), here.rx[0].stats().interrupts), (RxMode::Polling, 1));
    assert_eq!(send(&mut there.tx[0]), 1);
    assert_eq!(modes(&server.server), [RxMode::Polling, RxMode::Adaptive]);
    assert_eq!(here.rx[0].burst(9).unwrap().len(), 3);
}

#[test]
fn reasons_of_both_sides_are_kept() {
    let addr = unique("reasons");
    let Pair { mut here, mut there, mut server, mut client } =
        pair(&addr, InterfaceOptions::new(0), ClientOptions::new(0).reconnect(None));
    let gone = |client: &mut memif::Client| {
        until("Disconnected", || match client.ready().unwrap() {
            Some(Event::Disconnected { reason, .. }) => Some(reason),
            _ => None,
        })
    };
    let mut burst = there.tx[0].burst().unwrap();
    burst.push(&[1; 50]);
    burst.publish();
    drop(here.rx[0].burst(9).unwrap());
    server.server.disconnect(0, "closing time");
    gone(&mut client);
    let details = client.details();
    assert_eq!(
        details.last_disconnect,
        Some(DisconnectReason::Peer { reason: "closing time".into() })
    );
    assert_eq!(
        (details.last_reason_received.as_deref(), details.last_reason_sent),
        (Some("closing time"), None)
    );
    assert_eq!(
        (details.links, details.peer, details.rx.len(), details.tx_total.bytes),
        (1, None, 0, 50)
    );
    server.pump();
    let details = server.server.details(0).unwrap();
    assert_eq!(
        details.last_disconnect,
        Some(DisconnectReason::Local { reason: "closing time".into() })
    );
    assert_eq!(
        (details.last_reason_sent.as_deref(), details.rx_total.bytes),
        (Some("closing time"), 50)
    );
    assert!(details.to_string().contains("link down"));

    server.events.clear();
    client.connect();
    until("a link", || {
        server.pump();
        matches!(client.ready().unwrap(), Some(Event::Connected { .. })).then_some(())
    });
    client.disconnect("moving on");
    server.event("Disconnected", |event| matches!(event, Event::Disconnected { .. }).then_some(()));
    let details = server.server.details(0).unwrap();
    assert_eq!((details.last_reason_received.as_deref(), details.links), (Some("moving on"), 2));
    assert_eq!(details.last_reason_sent.as_deref(), Some("closing time"));
    assert_eq!(client.details().last_reason_sent.as_deref(), Some("moving on"));
    assert_eq!(client.details().tx_total.bytes, 50, "what earlier links did still counts");
}

#[test]
fn failed_checks_are_counted_by_name() {
    let addr = unique("failures");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1).secret("right").unwrap()).unwrap();
    server.add(InterfaceOptions::new(2)).unwrap();
    let mut world = World::new(server);
    for packet in
        [init(1, 0, b"wrong"), init(1, 0, b""), init(9, 0, b""), message(77, &[]), vec![1]]
    {
        let mock = Mock::connect(&addr);
        mock.send(&packet, &[]);
        assert!(matches!(world.verdict(&mock), Received::Disconnect(_)));
    }
    let (mock, memory, mut link) = world.connect_mock(&addr, 2);
    set_head(&memory, S2M, 9);
    assert!(link.rx[0].burst(1).is_err());
    assert!(matches!(world.verdict(&mock), Received::Disconnect(_)));
    let expected = [
        ("message-length", 1),
        ("message-type", 1),
        ("ring-jump", 1),
        ("unknown-id", 1),
        ("wrong-secret", 2),
    ];
    assert_eq!(world.server.failures(), expected);
    let details = world.server.details(1).unwrap();
    assert_eq!(
        (details.links, details.last_rejection),
        (0, None),
        "a client that never had it leaves nothing in its history"
    );
    assert_eq!(
        world.server.details(2).unwrap().last_disconnect.unwrap().to_string(),
        "the peer broke the protocol: S2M ring 0: index jumped to 9"
    );
}
