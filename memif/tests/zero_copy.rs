//! Packets that move without being copied: between rings of one client, between clients with the
//! same buffer pool, and through buffers of the caller. The same calls copy where that is not
//! possible.

mod common;

use std::os::fd::OwnedFd;

use common::*;
use memif::{
    Buffer, BufferPool, BufferPoolError, Client, ClientOptions, Event, InterfaceOptions, Layout,
    Link, Rejection, RxQueue, Server, SocketOptions, TxQueue,
};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Packet number `n`, 4 to `longest` bytes.
fn packet(n: u32, longest: usize) -> Vec<u8> {
    let length = 4 + (n as usize).wrapping_mul(2_654_435_761) % (longest - 3);
    let mut packet = vec![n.to_le_bytes()[0]; length];
    packet[..4].copy_from_slice(&n.to_le_bytes());
    packet
}

/// Two links of one server with a client each: the world, the server's links, the clients, and
/// theirs.
fn two(
    test: &str,
    left: ClientOptions,
    right: ClientOptions,
) -> (World, [Link; 2], [Client; 2], [Link; 2]) {
    let addr = unique(test);
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(0)).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let mut connect = |options| {
        let mut client = Client::new(&addr, options).unwrap();
        let there = until("a link", || {
            world.pump();
            match client.ready().unwrap() {
                Some(Event::Connected { link, .. }) => Some(link),
                Some(other) => panic!("{other:?}"),
                None => None,
            }
        });
        (world.link(), client, there)
    };
    let (here0, client0, there0) = connect(left);
    let (here1, client1, there1) = connect(right);
    (world, [here0, here1], [client0, client1], [there0, there1])
}

/// Adds packets from number `next` on to the queue while they fit; the next number.
fn feed(queue: &mut TxQueue, mut next: u32, end: u32, longest: usize) -> u32 {
    let mut burst = queue.burst().unwrap();
    while next < end && burst.push(&packet(next, longest)) {
        next += 1;
    }
    burst.publish();
    next
}

/// Checks what has come; the next number due.
fn drain(queue: &mut RxQueue, mut next: u32, longest: usize) -> u32 {
    let mut copy = vec![0; longest];
    for received in &queue.burst(64).unwrap() {
        let len = received.copy_to(&mut copy);
        assert_eq!(copy[..len], packet(next, longest), "packet {next}");
        next += 1;
    }
    next
}

/// Sends `count` packets from `source` through `relay` to `sink`.
fn pass(
    source: &mut TxQueue,
    (rx, tx): (&mut RxQueue, &mut TxQueue),
    sink: &mut RxQueue,
    count: u32,
    longest: usize,
) {
    let (mut sent, mut moved, mut received) = (0, 0, 0);
    until("all packets", || {
        sent = feed(source, sent, count, longest);
        let burst = rx.burst(7).unwrap();
        let mut out = tx.burst().unwrap();
        let here = out.forward(burst);
        assert_eq!(out.len(), here);
        assert_eq!(out.publish(), here);
        moved += here;
        received = drain(sink, received, longest);
        (received == count).then_some(())
    });
    assert_eq!(moved, count as usize);
}

#[test]
fn clients_with_the_same_pool_pass_packets_on() {
    for (buffer_size, longest) in [(2_048, 1_514), (128, 700)] {
        let pool = BufferPool::new(4 * 16 + 10, buffer_size).unwrap();
        let total = pool.free();
        let side = |id| ClientOptions::new(id).log2_ring_size(4).buffer_pool(&pool);
        let (world, [mut here0, mut here1], clients, [mut there0, mut there1]) =
            two(&format!("shared-{buffer_size}"), side(0), side(1).headroom(40));
        assert_eq!(pool.free(), 10);
        let regions = clients[0].details().regions;
        assert_eq!(regions.len(), 2, "rings, and the memory");
        // One way and the other, until every buffer has been everywhere.
        pass(
            &mut here0.tx[0],
            (&mut there0.rx[0], &mut there1.tx[0]),
            &mut here1.rx[0],
            3_000,
            longest,
        );
        pass(
            &mut here1.tx[0],
            (&mut there1.rx[0], &mut there0.tx[0]),
            &mut here0.rx[0],
            3_000,
            longest,
        );

        // Every buffer is in one ring, once.
        let details = clients.each_ref().map(Client::details_with_descriptors);
        let rings = details.iter().flat_map(|details| details.rx.iter().chain(&details.tx));
        // Of S2M rings, the descriptors say what was sent last.
        let offered =
            rings.filter(|ring| ring.direction == "M2S").flat_map(|ring| &ring.descriptors);
        let mut offsets: Vec<u32> = offered.map(|d| d.offset / 64).collect();
        let all = offsets.len();
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!((offsets.len(), all), (32, 32));

        drop((there0, clients));
        assert_eq!(pool.free(), 10 + 32);
        drop((there1, world));
        assert_eq!(pool.free(), total, "every buffer came back");
    }
}

#[test]
fn nothing_is_copied_where_memory_is_shared() {
    let pool = BufferPool::new(100, 256).unwrap();
    let side = |id| ClientOptions::new(id).log2_ring_size(3).buffer_pool(&pool);
    let (_world, [mut here0, mut here1], _clients, [mut there0, mut there1]) =
        two("same-address", side(0), side(1));
    feed(&mut here0.tx[0], 0, 1, 100);
    let burst = there0.rx[0].burst(1).unwrap();
    let address = burst.iter().next().unwrap().segments().next().unwrap().as_ptr();
    let mut out = there1.tx[0].burst().unwrap();
    assert_eq!(out.forward(burst), 1);
    out.publish();
    assert_eq!(drain(&mut here1.rx[0], 0, 100), 1);
    // It comes back to where it was when the ring of 8 has turned around.
    let mut seen = Vec::new();
    for _ in 0..40 {
        feed(&mut here0.tx[0], 0, 1, 100);
        let burst = there0.rx[0].burst(1).unwrap();
        seen.push(burst.iter().next().unwrap().segments().next().unwrap().as_ptr());
        let mut out = there1.tx[0].burst().unwrap();
        out.forward(burst);
        out.publish();
        drain(&mut here1.rx[0], 0, 100);
    }
    assert!(seen.contains(&address), "the buffer went through both rings");
}

#[test]
fn queues_of_one_client_pass_packets_on() {
    for layout in [Layout::OneRegion, Layout::TwoRegions] {
        let addr = unique(&format!("echo-{layout:?}"));
        let options =
            ClientOptions::new(0).log2_ring_size(4).buffer_size(200).layout(layout).headroom(100);
        let Pair { mut here, mut there, server: _server, client } =
            pair(&addr, InterfaceOptions::new(0), options);
        let regions = client.details().regions;
        assert_eq!(regions.len(), if layout == Layout::OneRegion { 1 } else { 2 });
        assert!(regions.iter().all(|region| region.sealed));
        let (tx, rx) = (&mut here.tx[0], &mut here.rx[0]);
        pass(tx, (&mut there.rx[0], &mut there.tx[0]), rx, 2_000, 350);
    }
}

#[test]
fn where_nothing_is_shared_packets_are_copied() {
    // On the server, and between clients with memory of their own.
    let side = |id| ClientOptions::new(id).log2_ring_size(4);
    let (_world, [mut here0, mut here1], _clients, [mut there0, mut there1]) =
        two("copied", side(0).buffer_size(100), side(1).buffer_size(300));
    pass(&mut there0.tx[0], (&mut here0.rx[0], &mut here1.tx[0]), &mut there1.rx[0], 1_000, 800);
    pass(&mut here0.tx[0], (&mut there0.rx[0], &mut there1.tx[0]), &mut here1.rx[0], 1_000, 800);
    pass(&mut there1.tx[0], (&mut here1.rx[0], &mut here0.tx[0]), &mut there0.rx[0], 1_000, 800);
}

#[test]
fn what_finds_no_room_stays_and_what_is_not_published_is_lost() {
    let pool = BufferPool::new(100, 256).unwrap();
    let side = |id| ClientOptions::new(id).log2_ring_size(3).buffer_pool(&pool);
    let (_world, [mut here0, mut here1], clients, [mut there0, mut there1]) =
        two("room", side(0), side(1));
    assert_eq!(feed(&mut here0.tx[0], 0, 8, 100), 8);
    let mut out = there1.tx[0].burst().unwrap();
    assert!((0..6).all(|n| out.push(&packet(n, 100))));
    assert_eq!(out.forward(there0.rx[0].burst(8).unwrap()), 2);
    assert_eq!(out.forward(there0.rx[0].burst(8).unwrap()), 0);
    assert_eq!((out.len(), out.publish()), (8, 8));
    assert_eq!(there1.tx[0].stats().ring_full, 2);
    drop(here1.rx[0].burst(9).unwrap());
    // Two more, but this burst comes to nothing.
    let mut out = there1.tx[0].burst().unwrap();
    assert_eq!(out.forward(there0.rx[0].burst(2).unwrap()), 2);
    drop(out);
    assert_eq!(there1.tx[0].stats().cancelled, 2);
    let mut out = there1.tx[0].burst().unwrap();
    assert_eq!(out.forward(there0.rx[0].burst(9).unwrap()), 4);
    out.publish();
    let burst = here1.rx[0].burst(9).unwrap();
    assert_eq!(burst.len(), 4);
    let mut copy = [0; 100];
    let len = burst.iter().next().unwrap().copy_to(&mut copy);
    assert_eq!(copy[..len], packet(4, 100));
    drop(burst);
    drop((there0, there1, clients));
    assert_eq!(pool.free(), 100);
}

/// Takes packets, puts a header in front of each, and sends them: zero-copy or not, as the queues
/// can.
fn tunnel(rx: &mut RxQueue, tx: &mut TxQueue, hands: &mut [Buffer]) {
    let taken = rx.burst(8).unwrap().take(hands);
    let mut packets = 0;
    let mut rest = &mut hands[..taken];
    let mut out = tx.burst().unwrap();
    while let Some(last) = rest.iter().position(|buffer| !buffer.continues()) {
        let (packet, behind) = rest.split_at_mut(last + 1);
        assert!(packet[0].prepend(b"head") || packet[0].headroom() < 4);
        assert!(out.enqueue(packet));
        assert!(packet.iter().all(Buffer::is_empty), "others, and empty");
        packets += 1;
        rest = behind;
    }
    assert_eq!(out.publish(), packets);
}

#[test]
fn packets_go_through_the_callers_buffers() {
    let pool = BufferPool::new(64, 256).unwrap();
    let side = |id| ClientOptions::new(id).log2_ring_size(4).buffer_pool(&pool).headroom(32);
    // A tunnel of a link with itself.
    let addr = unique("hands");
    let Pair { mut here, mut there, server, client } =
        pair(&addr, InterfaceOptions::new(0), side(0));
    let mut hands: Vec<Buffer> = (0..16).map(|_| pool.buffer().unwrap()).collect();
    for round in 0..200 {
        let sent = packet(round, 600);
        let mut burst = here.tx[0].burst().unwrap();
        let mut slot = burst.reserve(sent.len()).unwrap();
        slot.write(&sent);
        slot.set_metadata(0xFACE_0000 + round);
        assert!(burst.push(&sent[..4]));
        burst.publish();
        tunnel(&mut there.rx[0], &mut there.tx[0], &mut hands);
        let burst = here.rx[0].burst(9).unwrap();
        let metadata: Vec<u32> = burst.iter().map(|packet| packet.metadata()).collect();
        assert_eq!(metadata, [0xFACE_0000 + round, 0]);
        let mut copy = [0; 700];
        let len = burst.iter().next().unwrap().copy_to(&mut copy);
        assert_eq!((&copy[..4], &copy[4..len]), (&b"head"[..], &sent[..]));
    }
    drop((there, client, server, hands));
    assert_eq!(pool.free(), 64);
}

#[test]
fn taking_and_enqueueing_copy_where_the_buffers_are_the_peers() {
    let pool = BufferPool::new(16, 128).unwrap();
    let addr = unique("foreign-hands");
    let Pair { mut here, mut there, server: _server, client: _client } = pair(
        &addr,
        InterfaceOptions::new(0),
        ClientOptions::new(0).log2_ring_size(4).buffer_size(300),
    );
    let mut hands: Vec<Buffer> = (0..6).map(|_| pool.buffer().unwrap()).collect();
    for length in [4, 127, 128, 129, 256, 299, 300, 301, 500, 640] {
        let sent = vec![7; length];
        let mut burst = there.tx[0].burst().unwrap();
        let mut slot = burst.reserve(length).unwrap();
        slot.write(&sent);
        slot.set_metadata(0xFACE);
        assert!(burst.push(b"next"));
        burst.publish();
        let taken = here.rx[0].burst(9).unwrap().take(&mut hands);
        assert_eq!(taken, length.div_ceil(128) + 1);
        let continues: Vec<bool> = hands[..taken].iter().map(Buffer::continues).collect();
        assert_eq!(continues.iter().filter(|more| !**more).count(), 2, "{continues:?}");
        let mut out = here.tx[0].burst().unwrap();
        assert!(out.enqueue(&mut hands[..taken - 1]) && out.enqueue(&mut hands[taken - 1..taken]));
        assert!(!out.enqueue(&mut hands[..1]), "it is empty now");
        assert!(!out.enqueue(&mut []));
        out.publish();
        let burst = there.rx[0].burst(9).unwrap();
        let lengths: Vec<usize> = burst.iter().map(|packet| packet.len()).collect();
        assert_eq!(lengths, [length, 4]);
        let metadata: Vec<u32> = burst.iter().map(|packet| packet.metadata()).collect();
        assert_eq!(metadata, [0xFACE, 0]);
    }
    // What does not fit into the caller's hands stays.
    let mut burst = there.tx[0].burst().unwrap();
    assert!(burst.push(&[7; 300]));
    burst.publish();
    assert_eq!(here.rx[0].burst(9).unwrap().take(&mut hands[..2]), 0);
    assert_eq!(here.rx[0].burst(9).unwrap().take(&mut hands[..3]), 3);
}

#[test]
fn clients_wait_for_buffers() {
    let pool = BufferPool::new(16, 256).unwrap();
    let addr = unique("wait-for-buffers");
    let options = || ClientOptions::new(0).log2_ring_size(3).buffer_pool(&pool).reconnect(None);
    let Pair { there, mut server, mut client, .. } =
        pair(&addr, InterfaceOptions::new(0), options());
    assert_eq!(pool.free(), 0);
    client.disconnect("again");
    client.connect();
    let event = until("a rejection", || {
        server.pump();
        client.ready().unwrap().filter(|event| matches!(event, Event::Rejected { .. }))
    });
    let Event::Rejected { reason, .. } = event else { unreachable!() };
    assert!(matches!(reason, Rejection::NoBuffers { rings: 2, size: 8 }), "{reason}");
    drop(there);
    assert_eq!(pool.free(), 16, "the old link's buffers are free with its queues");
    client.connect();
    until("a link", || {
        server.pump();
        matches!(client.ready().unwrap(), Some(Event::Connected { .. })).then_some(())
    });
}

/// The server continues to use the buffers it was given, whatever the client does with its queues.
#[test]
fn a_queue_that_is_dropped_gives_nothing_back_before_the_link_is_over() {
    let pool = BufferPool::new(20, 256).unwrap();
    let addr = unique("dropped-queue");
    let options = ClientOptions::new(0).log2_ring_size(3).buffer_pool(&pool);
    let Pair { mut here, there, mut server, mut client } =
        pair(&addr, InterfaceOptions::new(0), options);
    drop(there);
    assert_eq!(pool.free(), 4);
    let mut mine = pool.buffer().unwrap();
    assert!(mine.append(&[1; 256]));
    // The server fills all that it was offered.
    let mut burst = here.tx[0].burst().unwrap();
    while burst.push(&[9; 256]) {}
    assert_eq!(burst.publish(), 8);
    let mut copy = [0; 256];
    mine.copy_to(&mut copy);
    assert_eq!(copy, [1; 256]);
    drop(mine);

    client.disconnect("enough");
    assert_eq!(pool.free(), 20);
    server.pump();
}

fn file(bytes: i64) -> OwnedFd {
    let file = memfd_create("mine", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    nix::unistd::ftruncate(&file, bytes).unwrap();
    file
}

#[test]
fn buffers_may_come_from_several_files_of_the_caller() {
    let (small, large) = (
        BufferPool::from_file(file(5_000), 256).unwrap(),
        BufferPool::from_file(file(1 << 20), 512).unwrap(),
    );
    assert!(small.free() < 32);
    let addr = unique("several");
    let options = ClientOptions::new(0).log2_ring_size(4).buffer_pool(&small).buffer_pool(&large);
    let Pair { mut here, mut there, server: _server, client } =
        pair(&addr, InterfaceOptions::new(0), options);
    let regions = client.details().regions;
    assert_eq!(
        regions.iter().map(|region| region.sealed).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert!(!there.sealed && small.free() == 0);
    let (tx, rx) = (&mut here.tx[0], &mut here.rx[0]);
    pass(tx, (&mut there.rx[0], &mut there.tx[0]), rx, 2_000, 900);
}

#[test]
fn options_for_buffer_pools_are_checked() {
    let pool = BufferPool::new(16, 128).unwrap();
    let rejected =
        |options: ClientOptions| Client::new(&unique("options"), options).unwrap_err().to_string();
    assert!(rejected(ClientOptions::new(0).headroom(2_000)).contains("headroom of 2000 bytes"));
    assert!(
        rejected(ClientOptions::new(0).buffer_pool(&pool).headroom(65))
            .contains("of a buffer's 128")
    );
    let many = (0..256).fold(ClientOptions::new(0), |options, _| options.buffer_pool(&pool));
    assert!(rejected(many).contains("256 buffer pools"));
    assert!(matches!(
        BufferPool::from_file(file(100), 128),
        Err(BufferPoolError::Size { bytes: 100 })
    ));
}
