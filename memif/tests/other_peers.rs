//! Peers of other people's making, played as they are known to behave: what they send, leave as it
//! was, reset and put up with. DPDK itself takes part in the system tests.

mod common;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use common::*;
use memif::{
    Client, ClientOptions, Event, InterfaceOptions, Link, Mode, Rejection, Server, SocketAddr,
    SocketOptions,
};
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::eventfd::EventFd;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Rings of 1,024, packed back to back from the beginning of region 0, as all of them do.
const LOG2: u8 = 10;
const SIZE: u16 = 1 << LOG2;
const RING: u32 = 128 + 16 * SIZE as u32;

/// A message as peers make it that allocate it and set its fields.
fn dirty(kind: u16, fields: &[&[u8]]) -> Vec<u8> {
    let used = 2 + fields.iter().map(|field| field.len()).sum::<usize>();
    let mut dirty = message(kind, fields);
    dirty[used..].fill(0xA5);
    dirty
}

/// A name in its field, closed.
fn field<const N: usize>(name: &str) -> [u8; N] {
    let mut field = [0xA5; N];
    field[..name.len()].copy_from_slice(name.as_bytes());
    field[name.len()] = 0;
    field
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[derive(Clone, Copy, Debug)]
struct Desc {
    next: bool,
    region: u16,
    length: u32,
    offset: u32,
}

/// A ring, accessed through the file of its region.
struct Ring {
    memory: File,
    at: u32,
    size: u16,
}

impl Ring {
    fn new(memory: &File, at: u32, log2: u8) -> Self {
        Self { memory: memory.try_clone().unwrap(), at, size: 1 << log2 }
    }

    fn get(&self, at: u32) -> u16 {
        let mut bytes = [0; 2];
        self.memory.read_exact_at(&mut bytes, u64::from(self.at + at)).unwrap();
        u16::from_ne_bytes(bytes)
    }

    fn set(&self, at: u32, value: u16) {
        self.memory.write_all_at(&value.to_ne_bytes(), u64::from(self.at + at)).unwrap();
    }

    fn flags(&self) -> u16 {
        self.get(4)
    }

    fn set_flags(&self, flags: u16) {
        self.set(4, flags);
    }

    fn head(&self) -> u16 {
        self.get(6)
    }

    fn set_head(&self, head: u16) {
        self.set(6, head);
    }

    fn tail(&self) -> u16 {
        self.get(64)
    }

    fn set_tail(&self, tail: u16) {
        self.set(64, tail);
    }

    fn place(&self, index: u16) -> u64 {
        u64::from(self.at + 128 + 16 * u32::from(index % self.size))
    }

    fn desc(&self, index: u16) -> Desc {
        let mut bytes = [0; 16];
        self.memory.read_exact_at(&mut bytes, self.place(index)).unwrap();
        let flags = word(&bytes, 0);
        assert_eq!(flags & !1, 0, "NEXT is the only known flag");
        Desc {
            next: flags == 1,
            region: word(&bytes, 2),
            length: long(&bytes, 4),
            offset: long(&bytes, 8),
        }
    }

    /// Flags and length alone.
    fn fill(&self, index: u16, next: bool, length: u32) {
        self.memory.write_all_at(&u16::from(next).to_ne_bytes(), self.place(index)).unwrap();
        self.memory.write_all_at(&length.to_ne_bytes(), self.place(index) + 4).unwrap();
    }

    fn write(&self, index: u16, desc: Desc) {
        let bytes = descriptor(u16::from(desc.next), desc.region, desc.length, desc.offset);
        self.memory.write_all_at(&bytes, self.place(index)).unwrap();
    }

    fn set_cookie(&self) {
        self.memory.write_all_at(&0x03E3_1F20u32.to_ne_bytes(), self.at.into()).unwrap();
    }
}

fn memfd(size: u64, seal: bool) -> File {
    let flags = if seal {
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING
    } else {
        MFdFlags::MFD_CLOEXEC
    };
    let file = File::from(memfd_create("region", flags).unwrap());
    if seal {
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    }
    file.set_len(size).unwrap();
    file
}

/// The `n`th packet of a conversation, of a length that suits `n`.
fn packet(n: u32, lengths: &[usize]) -> Vec<u8> {
    let len = lengths[n as usize % lengths.len()];
    let bytes = std::iter::successors(Some(n.to_be_bytes()[3]), |byte| Some(byte.wrapping_add(7)));
    let mut packet: Vec<u8> = bytes.take(len).collect();
    packet[..4].copy_from_slice(&n.to_be_bytes());
    packet
}

fn length(piece: &[u8]) -> u32 {
    piece.len().try_into().unwrap()
}

/// Sends this packet on a link of ours; whether there was room.
fn sent(link: &mut Link, packet: &[u8]) -> bool {
    let mut burst = link.tx[0].burst().unwrap();
    burst.push(packet) && burst.publish() == 1
}

/// All that has come on a link of ours.
fn received(link: &mut Link) -> Vec<Vec<u8>> {
    let burst = link.rx[0].burst(64).unwrap();
    let copy = |packet: memif::Packet<'_>| {
        let mut copy = vec![0; packet.len()];
        assert_eq!(packet.copy_to(&mut copy), copy.len());
        copy
    };
    burst.iter().map(copy).collect()
}

/// Takes the interrupts that wait at an eventfd.
fn interrupts(event_fd: impl AsFd) -> u64 {
    let mut count = [0; 8];
    nix::unistd::read(event_fd, &mut count).unwrap();
    u64::from_ne_bytes(count)
}

/// A client's messages one by one, each when the last was answered, and the memory and eventfds
/// that go with them.
fn lock_step(world: &mut World, mock: &Mock, script: &[(Vec<u8>, Option<i32>)]) -> Link {
    let mut answers = until("HELLO", || {
        world.pump();
        mock.receive_packet()
    });
    assert_eq!(word(&answers.0, 0), 2);
    for (message, fd) in script {
        mock.send(message, fd.as_slice());
        answers = until("an answer", || {
            world.pump();
            mock.receive_packet()
        });
        assert!(answers.0.len() == 128 && answers.1.is_empty());
        assert_eq!(
            word(&answers.0, 0),
            if word(message, 0) == 6 { 7 } else { 1 },
            "{:?}",
            &answers.0[..102]
        );
    }
    world.link()
}

/// INIT without a secret, whose field is what was there before.
fn dirty_init(mode: u8, app: &str) -> Vec<u8> {
    let (version, id) = (0x0200u16.to_ne_bytes(), 0u32.to_ne_bytes());
    dirty(3, &[&version, &id, &[mode], &[0xA5; 24], &field::<32>(app)])
}

fn dirty_ring(s2m: bool, offset: u32, log2: u8) -> Vec<u8> {
    let (flags, zero) = (u16::from(s2m).to_ne_bytes(), [0; 2]);
    dirty(5, &[&flags, &zero, &zero, &offset.to_ne_bytes(), &[log2], &zero])
}

fn server(name: &str, options: InterfaceOptions) -> (SocketAddr, World) {
    let addr = unique(name);
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(options).unwrap();
    (addr, World::new(server))
}

/// A VPP client that does not copy: rings alone in region 0, and its pool of buffers, whose file
/// has no seal, in region 1.
struct VppClient {
    s2m: Ring,
    m2s: Ring,
    pool: File,
    /// Where free buffers begin.
    free: Vec<u32>,
    /// The buffer in each slot.
    lent: [Vec<u32>; 2],
    last_tail: [u16; 2],
    _mock: Mock,
}

impl VppClient {
    /// Between the data of one buffer and that of the next are its headers.
    const STRIDE: u32 = 2_496;

    fn connect(addr: &SocketAddr, world: &mut World, mode: u8) -> (Self, Link) {
        let (rings, pool) = (memfd(2 * u64::from(RING), true), memfd(64 << 20, false));
        let (s2m, m2s) = (Ring::new(&rings, 0, LOG2), Ring::new(&rings, RING, LOG2));
        [&s2m, &m2s].into_iter().for_each(Ring::set_cookie);
        let (mock, event_fds) = (Mock::connect(addr), [event_fd(), event_fd()]);
        let event_fd = |n: usize| Some(event_fds[n].as_fd().as_raw_fd());
        let region = |index: u16, size: u64| dirty(4, &[&index.to_ne_bytes(), &size.to_ne_bytes()]);
        let link = lock_step(
            world,
            &mock,
            &[
                (dirty_init(mode, "VPP 26.10"), None),
                (region(0, 2 * u64::from(RING)), Some(rings.as_raw_fd())),
                (region(1, 64 << 20), Some(pool.as_raw_fd())),
                (dirty_ring(true, 0, LOG2), event_fd(0)),
                (dirty_ring(false, RING, LOG2), event_fd(1)),
                (dirty(6, &[&field::<32>("memif1/0")]), None),
            ],
        );
        // It polls.
        m2s.set_flags(1);
        let free = (0..(64 << 20) / Self::STRIDE).map(|n| n * Self::STRIDE + 384).collect();
        let lent = [vec![0; SIZE.into()], vec![0; SIZE.into()]];
        (Self { s2m, m2s, pool, free, lent, last_tail: [0; 2], _mock: mock }, link)
    }

    /// Offers buffers: only when there is room for 32, and then 8 or a multiple of it.
    fn refill(&mut self) {
        let head = self.m2s.head();
        let count = (SIZE - head.wrapping_sub(self.last_tail[1])) & !7;
        if count < 32 {
            return;
        }
        for index in (0..count).map(|n| head.wrapping_add(n)) {
            let offset = self.free.pop().unwrap();
            self.lent[1][usize::from(index % SIZE)] = offset;
            self.m2s.write(index, Desc { next: false, region: 1, length: 2_048, offset });
        }
        self.m2s.set_head(head.wrapping_add(count));
    }

    /// Takes what has come, by the buffers it knows to be in the slots.
    fn receive(&mut self) -> Vec<Vec<u8>> {
        let (mut packets, mut goes_on) = (Vec::new(), false);
        let tail = self.m2s.tail();
        while self.last_tail[1] != tail {
            let slot = usize::from(self.last_tail[1] % SIZE);
            let (desc, offset) = (self.m2s.desc(self.last_tail[1]), self.lent[1][slot]);
            assert!((1..=2_048).contains(&desc.length));
            if !goes_on {
                packets.push(Vec::new());
            }
            let packet: &mut Vec<u8> = packets.last_mut().unwrap();
            let begin = packet.len();
            packet.resize(begin + desc.length as usize, 0);
            self.pool.read_exact_at(&mut packet[begin..], offset.into()).unwrap();
            self.free.push(offset);
            goes_on = desc.next;
            self.last_tail[1] = self.last_tail[1].wrapping_add(1);
        }
        assert!(!goes_on, "a packet is published as a whole");
        packets
    }

    /// Sends a packet in as many of its own buffers as it takes, the first of which is short.
    fn send(&mut self, packet: &[u8]) -> bool {
        let freed = self.s2m.tail().wrapping_sub(self.last_tail[0]);
        if freed >= 16 {
            for index in (0..freed).map(|n| self.last_tail[0].wrapping_add(n)) {
                self.free.push(self.lent[0][usize::from(index % SIZE)]);
            }
            self.last_tail[0] = self.last_tail[0].wrapping_add(freed);
        }
        let head = self.s2m.head();
        let (first, rest) = packet.split_at(packet.len().min(100));
        let pieces: Vec<&[u8]> = std::iter::once(first).chain(rest.chunks(2_048)).collect();
        let room = SIZE - head.wrapping_sub(self.last_tail[0]);
        if usize::from(room) < pieces.len() {
            return false;
        }
        let mut index = head;
        for (n, piece) in pieces.iter().enumerate() {
            let offset = self.free.pop().unwrap();
            self.pool.write_all_at(piece, offset.into()).unwrap();
            self.lent[0][usize::from(index % SIZE)] = offset;
            let (next, length) = (n + 1 < pieces.len(), length(piece));
            self.s2m.write(index, Desc { next, region: 1, length, offset });
            index = index.wrapping_add(1);
        }
        self.s2m.set_head(index);
        true
    }
}

const ANY_LENGTH: [usize; 7] = [60, 42, 1_514, 2_048, 2_049, 9_000, 9_216];

#[test]
fn a_vpp_client_that_does_not_copy_is_served() {
    let (addr, mut world) = server("vpp-client", InterfaceOptions::new(0));
    let (mut vpp, mut link) = VppClient::connect(&addr, &mut world, 0);
    assert_eq!((link.peer.app_name.as_str(), link.peer.name.as_str()), ("VPP 26.10", "memif1/0"));
    assert!(!link.sealed, "a pool has no seal");
    // It offers nothing until it looks at its rings.
    assert!(!sent(&mut link, &[1; 60]));
    let (mut there, mut back) = (0, 0);
    // Indexes go around their 16 bits.
    while there < 40_000 {
        vpp.refill();
        let mut next = there;
        while next < there + 50 && sent(&mut link, &packet(next, &ANY_LENGTH)) {
            next += 1;
        }
        for got in vpp.receive() {
            assert_eq!(got, packet(there, &ANY_LENGTH));
            there += 1;
        }
        assert_eq!(there, next);
        let mut next = back;
        while next < back + 50 && vpp.send(&packet(next, &ANY_LENGTH)) {
            next += 1;
        }
        for got in received(&mut link) {
            assert_eq!(got, packet(back, &ANY_LENGTH));
            back += 1;
        }
        assert_eq!(back, next);
    }
    assert!(back > 40_000 / 2);
    assert_eq!(link.tx[0].stats().interrupts, 0, "it polls");
}

#[test]
fn a_vpp_client_of_ip_packets_is_served() {
    let (addr, mut world) = server("vpp-ip", InterfaceOptions::new(0).mode(Mode::Ip));
    let (mut vpp, mut link) = VppClient::connect(&addr, &mut world, 1);
    vpp.refill();
    assert!(sent(&mut link, &packet(1, &[20])) && vpp.send(&packet(2, &[84])));
    assert_eq!(
        (vpp.receive(), received(&mut link)),
        (vec![packet(1, &[20])], vec![packet(2, &[84])])
    );
}

/// VPP lays rings out for the size that HELLO allows, which is 32,768 here.
#[test]
fn a_vpp_client_with_rings_of_32_768_is_served() {
    let (addr, mut world) = server("vpp-32768-served", InterfaceOptions::new(0));
    let ring = 128 + 16 * 32_768;
    let (mock, memory, event_fd) = (Mock::connect(&addr), memfd(4 * ring, true), event_fd());
    for at in [0, ring] {
        memory.write_all_at(&0x3E3_1F20u32.to_ne_bytes(), at).unwrap();
    }
    let event_fd = event_fd.as_fd().as_raw_fd();
    mock.send(&dirty_init(0, "VPP"), &[]);
    mock.send(&add_region(0, 4 * ring), &[memory.as_raw_fd()]);
    mock.send(&dirty_ring(true, 0, 15), &[event_fd]);
    mock.send(&dirty_ring(false, u32::try_from(ring).unwrap(), 15), &[event_fd]);
    mock.send(&dirty(6, &[&field::<32>("memif1/0")]), &[]);
    assert_eq!(world.verdict(&mock), Received::Connected);
    assert_eq!(world.link().rx[0].ring_size(), 32_768);
}

/// A client that announces a larger ring than it has laid out.
#[test]
fn a_vpp_client_with_rings_of_32_768_gets_a_reason() {
    let (addr, mut world) = server("vpp-32768", InterfaceOptions::new(0));
    let ring = 128 + 16 * 16_384;
    for (bytes, reason) in [
        (2 * ring, "M2S ring 0: outside its region"),
        (8 * ring, "M2S ring 0: overlaps another ring"),
    ] {
        let (mock, memory, event_fd) =
            (Mock::connect(&addr), memfd(bytes.into(), true), event_fd());
        let event_fd = event_fd.as_fd().as_raw_fd();
        mock.send(&dirty_init(0, "VPP"), &[]);
        mock.send(&add_region(0, bytes.into()), &[memory.as_raw_fd()]);
        mock.send(&dirty_ring(true, 0, 15), &[event_fd]);
        mock.send(&dirty_ring(false, ring, 15), &[event_fd]);
        mock.send(&dirty(6, &[&field::<32>("memif1/0")]), &[]);
        assert_eq!(world.verdict(&mock), Received::Disconnect(reason.into()));
    }
}

/// What a client of ours sends until it is connected.
struct Served {
    regions: Vec<File>,
    s2m: Ring,
    m2s: Ring,
    event_fds: Vec<OwnedFd>,
    mock: Mock,
}

/// How another server differs.
struct Manners {
    hello: Vec<u8>,
    /// What it does to the rings before it says CONNECTED.
    connect: fn(&Ring, &Ring),
}

/// Serves a client of ours as others do: one answer to each message.
fn served(listener: &OwnedFd, client: &mut Client, manners: &Manners) -> (Served, Link) {
    let mock = accept(listener, client);
    mock.send(&manners.hello, &[]);
    let (mut regions, mut rings, mut event_fds) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let (message, mut fds) = until("a message", || {
            assert!(client.ready().unwrap().is_none());
            mock.receive_packet()
        });
        assert_eq!(message.len(), 128);
        match (word(&message, 0), fds.pop()) {
            (3, None) => {
                assert_eq!((word(&message, 2), long(&message, 4)), (0x0200, 0));
                assert!(message[9..33].iter().all(|byte| *byte == 0), "no secret is zeros");
                assert!(message[33..65].contains(&0), "names are closed");
            }
            (4, Some(fd)) => {
                assert_eq!(usize::from(word(&message, 2)), regions.len());
                let size = u64::from_ne_bytes(message[4..12].try_into().unwrap());
                regions.push(File::from(fd));
                assert!(regions.last().unwrap().metadata().unwrap().len() >= size);
            }
            (5, Some(fd)) => {
                let s2m = word(&message, 2) == 1;
                assert_eq!((s2m, word(&message, 4)), (rings.is_empty(), 0), "S2M rings first");
                assert_eq!(word(&message, 13), 0, "no implementation has private headers");
                let memory = &regions[usize::from(word(&message, 6))];
                rings.push(Ring::new(memory, long(&message, 8), message[12]));
                let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL).unwrap());
                assert!(flags.contains(OFlag::O_NONBLOCK), "they read it until it is empty");
                event_fds.push(fd);
            }
            (6, None) => break,
            other => panic!("{other:?}"),
        }
        mock.send(&dirty(1, &[]), &[]);
    }
    let m2s = rings.pop().unwrap();
    let s2m = rings.pop().unwrap();
    for ring in [&s2m, &m2s] {
        assert_eq!((ring.get(0), ring.get(2)), (0x1F20, 0x03E3));
        assert_eq!((ring.head(), ring.tail()), (0, 0), "nothing is posted or offered yet");
    }
    (manners.connect)(&s2m, &m2s);
    mock.send(&dirty(7, &[&field::<32>("theirs")]), &[]);
    let link = until("Connected", || match client.ready().unwrap() {
        Some(Event::Connected { link, .. }) => Some(link),
        Some(other) => panic!("{other:?}"),
        None => None,
    });
    assert_eq!(link.peer.name, "theirs");
    (Served { regions, s2m, m2s, event_fds, mock }, link)
}

impl Served {
    /// Sends a packet over as many buffers as its room takes, and sets of a descriptor what VPP and
    /// libmemif set.
    fn send(&self, packet: &[u8]) -> bool {
        let (head, mut tail) = (self.m2s.head(), self.m2s.tail());
        let mut rest = packet;
        let mut filled = Vec::new();
        while !rest.is_empty() {
            if tail == head {
                return false;
            }
            let room = self.m2s.desc(tail);
            assert!(!room.next && room.length > 0, "offers are whole");
            let (here, later) = rest.split_at(rest.len().min(room.length as usize));
            self.regions[usize::from(room.region)].write_all_at(here, room.offset.into()).unwrap();
            filled.push((tail, !later.is_empty(), length(here)));
            (tail, rest) = (tail.wrapping_add(1), later);
        }
        for (index, next, length) in filled {
            self.m2s.fill(index, next, length);
        }
        self.m2s.set_tail(tail);
        true
    }

    /// Takes what has come as a VPP server does, which drops what it finds bad.
    fn receive(&self) -> Vec<Vec<u8>> {
        let (head, mut tail) = (self.s2m.head(), self.s2m.tail());
        let (mut packets, mut goes_on) = (Vec::new(), false);
        while tail != head {
            let desc = self.s2m.desc(tail);
            let memory = &self.regions[usize::from(desc.region)];
            assert!((1..=9_216).contains(&desc.length));
            assert!(
                u64::from(desc.offset) + u64::from(desc.length) <= memory.metadata().unwrap().len()
            );
            if !goes_on {
                packets.push(Vec::new());
            }
            let packet: &mut Vec<u8> = packets.last_mut().unwrap();
            let begin = packet.len();
            packet.resize(begin + desc.length as usize, 0);
            memory.read_exact_at(&mut packet[begin..], desc.offset.into()).unwrap();
            goes_on = desc.next;
            // libmemif clears it.
            self.s2m.fill(tail, false, desc.length);
            tail = tail.wrapping_add(1);
        }
        assert!(!goes_on, "a packet is published as a whole");
        self.s2m.set_tail(tail);
        packets
    }

    /// Sends and receives until indexes have gone around their 16 bits.
    fn converse(&self, link: &mut Link) {
        let (mut there, mut back) = (0, 0);
        while there < 40_000 {
            let mut next = there;
            while next < there + 50 && sent(link, &packet(next, &ANY_LENGTH)) {
                next += 1;
            }
            for got in self.receive() {
                assert_eq!(got, packet(there, &ANY_LENGTH));
                there += 1;
            }
            assert_eq!(there, next);
            let mut next = back;
            while next < back + 50 && self.send(&packet(next, &ANY_LENGTH)) {
                next += 1;
            }
            for got in received(link) {
                assert_eq!(got, packet(back, &ANY_LENGTH));
                back += 1;
            }
            assert_eq!(back, next);
        }
    }
}

fn dirty_hello(name: &str, max: u16) -> Vec<u8> {
    let (version, max) = (0x0200u16.to_ne_bytes(), max.to_ne_bytes());
    dirty(2, &[&field::<32>(name), &version, &version, &max, &max, &max, &[14]])
}

#[test]
fn a_vpp_server_is_understood() {
    let addr = unique("vpp-server");
    let listener = mock_listener(&addr);
    let manners =
        Manners { hello: dirty_hello("VPP 26.10", 256), connect: |s2m, _| s2m.set_flags(1) };
    let mut client = Client::new(&addr, ClientOptions::new(0)).unwrap();
    let (vpp, mut link) = served(&listener, &mut client, &manners);
    assert_eq!(link.peer.app_name, "VPP 26.10");
    assert_eq!((vpp.s2m.at, vpp.m2s.at), (0, RING), "where they all are");
    vpp.converse(&mut link);
    assert_eq!(link.tx[0].stats().interrupts, 0, "it polls");
    // It is configured to take interrupts.
    vpp.s2m.set_flags(0);
    assert!(sent(&mut link, &[1; 60]));
    assert_eq!(interrupts(&vpp.event_fds[0]), 1);
    // It goes, and says so.
    vpp.mock.send(&dirty(8, &[&[0; 4], &field::<96>("interface deleted")]), &[]);
    drop(vpp);
    let reason = until("Disconnected", || match client.ready().unwrap() {
        Some(Event::Disconnected { reason, .. }) => Some(reason.to_string()),
        _ => None,
    });
    assert_eq!(reason, "the peer disconnected: interface deleted");
}

/// It sets all indexes to 0 while connecting, and neither looks at modes nor says why it closes.
#[test]
fn a_libmemif_server_is_understood() {
    let addr = unique("libmemif-server");
    let listener = mock_listener(&addr);
    let reset = |s2m: &Ring, m2s: &Ring| {
        for ring in [s2m, m2s] {
            ring.set_head(0);
            ring.set_tail(0);
        }
    };
    let manners = Manners { hello: dirty_hello("ICMP_Responder", 255), connect: reset };
    let options = ClientOptions::new(0).mode(Mode::Ip).layout(memif::Layout::TwoRegions);
    let mut client = Client::new(&addr, options).unwrap();
    let (libmemif, mut link) = served(&listener, &mut client, &manners);
    // It takes interrupts unless configured otherwise.
    assert!(sent(&mut link, &[1; 60]));
    assert_eq!((interrupts(&libmemif.event_fds[0]), libmemif.receive()), (1, vec![vec![1; 60]]));
    libmemif.s2m.set_flags(1);
    libmemif.converse(&mut link);
    drop(libmemif);
    let reason = until("Disconnected", || match client.ready().unwrap() {
        Some(Event::Disconnected { reason, .. }) => Some(reason.to_string()),
        _ => None,
    });
    assert_eq!(reason, "the peer closed the connection");
}

/// Its HELLO allows 256 rings, but it closes the connection on one more than it was configured
/// with.
#[test]
fn a_libmemif_server_with_fewer_rings_is_tried_again() {
    let addr = unique("libmemif-rings");
    let listener = mock_listener(&addr);
    let options = ClientOptions::new(0).tx_queues(2).reconnect(Some(Duration::from_millis(5)));
    let mut client = Client::new(&addr, options).unwrap();
    for _ in 0..3 {
        let mock = accept(&listener, &mut client);
        mock.send(&dirty_hello("libmemif", 255), &[]);
        for kind in [3, 4, 5] {
            expect(&mock, &mut client, kind);
            mock.send(&dirty(1, &[]), &[]);
        }
        expect(&mock, &mut client, 5);
        drop(mock);
        let refusal = until("Refused", || match client.ready().unwrap() {
            Some(Event::Rejected { reason, .. }) => Some(reason),
            _ => None,
        });
        assert!(matches!(refusal, Rejection::Unanswered { message: "ADD_RING" }), "{refusal}");
        assert!(refusal.to_string().contains("fewer queues"), "{refusal}");
    }
}

/// A libmemif client: rings in region 0, buffers in region 1, both sealed; a headroom of 64 bytes
/// in what it offers.
struct LibmemifClient {
    s2m: Ring,
    m2s: Ring,
    buffers: File,
    last_tail: u16,
    event_fds: [EventFd; 2],
    _mock: Mock,
}

impl LibmemifClient {
    const BUFFER: u32 = 2_048;
    const HEADROOM: u32 = 64;

    fn connect(addr: &SocketAddr, world: &mut World) -> (Self, Link) {
        let bytes = u64::from(Self::BUFFER) * 2 * u64::from(SIZE);
        let (rings, buffers) = (memfd(2 * u64::from(RING), true), memfd(bytes, true));
        let (s2m, m2s) = (Ring::new(&rings, 0, LOG2), Ring::new(&rings, RING, LOG2));
        for (n, ring) in (0..).zip([&s2m, &m2s]) {
            ring.set_cookie();
            // It fills them in before anything is offered.
            for slot in 0..SIZE {
                let offset = (n * u32::from(SIZE) + u32::from(slot)) * Self::BUFFER;
                ring.write(slot, Desc { next: false, region: 1, length: Self::BUFFER, offset });
            }
        }
        let (mock, event_fds) = (Mock::connect(addr), [event_fd(), event_fd()]);
        let event_fd = |n: usize| Some(event_fds[n].as_fd().as_raw_fd());
        let region = |index: u16, size: u64| dirty(4, &[&index.to_ne_bytes(), &size.to_ne_bytes()]);
        let link = lock_step(
            world,
            &mock,
            &[
                (dirty_init(0, "ICMP_Responder"), None),
                (region(0, 2 * u64::from(RING)), Some(rings.as_raw_fd())),
                (region(1, bytes), Some(buffers.as_raw_fd())),
                (dirty_ring(true, 0, LOG2), event_fd(0)),
                (dirty_ring(false, RING, LOG2), event_fd(1)),
                (dirty(6, &[&field::<32>("memif_connection")]), None),
            ],
        );
        // With CONNECTED it sets all indexes to 0 once more.
        for ring in [&s2m, &m2s] {
            ring.set_head(0);
            ring.set_tail(0);
        }
        (Self { s2m, m2s, buffers, last_tail: 0, event_fds, _mock: mock }, link)
    }

    fn refill(&self) {
        let mut head = self.m2s.head();
        for _ in 0..SIZE - head.wrapping_sub(self.last_tail) {
            let desc = self.m2s.desc(head);
            let (offset, length) =
                (desc.offset - desc.offset % Self::BUFFER, Self::BUFFER - Self::HEADROOM);
            self.m2s
                .write(head, Desc { region: 1, length, offset: offset + Self::HEADROOM, ..desc });
            head = head.wrapping_add(1);
        }
        self.m2s.set_head(head);
    }

    fn receive(&mut self) -> Vec<Vec<u8>> {
        let (mut packets, mut goes_on) = (Vec::new(), false);
        let tail = self.m2s.tail();
        while self.last_tail != tail {
            let desc = self.m2s.desc(self.last_tail);
            if !goes_on {
                packets.push(Vec::new());
            }
            let packet: &mut Vec<u8> = packets.last_mut().unwrap();
            let begin = packet.len();
            packet.resize(begin + desc.length as usize, 0);
            self.buffers.read_exact_at(&mut packet[begin..], desc.offset.into()).unwrap();
            goes_on = desc.next;
            self.m2s.fill(self.last_tail, false, Self::BUFFER);
            self.last_tail = self.last_tail.wrapping_add(1);
        }
        assert!(!goes_on, "a packet is published as a whole");
        packets
    }

    fn send(&self, packet: &[u8]) -> bool {
        let mut head = self.s2m.head();
        let pieces: Vec<&[u8]> = packet.chunks(Self::BUFFER as usize).collect();
        let room = SIZE - head.wrapping_sub(self.s2m.tail());
        if usize::from(room) < pieces.len() {
            return false;
        }
        for (n, piece) in pieces.iter().enumerate() {
            let desc = self.s2m.desc(head);
            self.buffers.write_all_at(piece, desc.offset.into()).unwrap();
            self.s2m.fill(head, n + 1 < pieces.len(), length(piece));
            head = head.wrapping_add(1);
        }
        self.s2m.set_head(head);
        if self.s2m.flags() & 1 == 0 {
            self.event_fds[0].write(1).unwrap();
        }
        true
    }
}

#[test]
fn a_libmemif_client_is_served() {
    let (addr, mut world) = server("libmemif-client", InterfaceOptions::new(0));
    let (mut libmemif, mut link) = LibmemifClient::connect(&addr, &mut world);
    assert_eq!(link.peer.app_name, "ICMP_Responder");
    assert!(link.sealed);
    assert!(!sent(&mut link, &[1; 60]), "nothing is offered yet");
    libmemif.refill();
    // It takes interrupts unless configured otherwise.
    assert!(sent(&mut link, &[1; 60]));
    assert_eq!((interrupts(&libmemif.event_fds[1]), libmemif.receive()), (1, vec![vec![1; 60]]));
    libmemif.m2s.set_flags(1);
    assert!(!link.rx[0].arm().unwrap());
    let (mut there, mut back) = (0, 0);
    while there < 40_000 {
        libmemif.refill();
        let mut next = there;
        while next < there + 50 && sent(&mut link, &packet(next, &ANY_LENGTH)) {
            next += 1;
        }
        for got in libmemif.receive() {
            assert_eq!(got, packet(there, &ANY_LENGTH));
            there += 1;
        }
        assert_eq!(there, next);
        let mut next = back;
        while next < back + 50 && libmemif.send(&packet(next, &ANY_LENGTH)) {
            next += 1;
        }
        for got in received(&mut link) {
            assert_eq!(got, packet(back, &ANY_LENGTH));
            back += 1;
        }
        assert_eq!(back, next);
    }
    link.rx[0].disarm();
    assert!(link.rx[0].stats().interrupts > 0 && libmemif.s2m.flags() & 1 == 1);
}

/// More than HELLO allows, but legal: who lays them out for their size is served.
#[test]
fn rings_of_32_768_are_served_where_they_have_the_room() {
    const LOG2: u8 = 15;
    let (addr, mut world) = server("32768", InterfaceOptions::new(0));
    let (mock, event_fd, bytes) = (Mock::connect(&addr), event_fd(), 128 + 16 * 32_768);
    let memory = memfd(u64::from(2 * bytes) + 4_096, true);
    let (s2m, m2s) = (Ring::new(&memory, 0, LOG2), Ring::new(&memory, bytes, LOG2));
    [&s2m, &m2s].into_iter().for_each(Ring::set_cookie);
    let event_fd = Some(event_fd.as_fd().as_raw_fd());
    let mut link = lock_step(
        &mut world,
        &mock,
        &[
            (dirty_init(0, "VPP 26.10"), None),
            (add_region(0, u64::from(2 * bytes) + 4_096), Some(memory.as_raw_fd())),
            (dirty_ring(true, 0, LOG2), event_fd),
            (dirty_ring(false, bytes, LOG2), event_fd),
            (dirty(6, &[&field::<32>("memif1/0")]), None),
        ],
    );
    assert_eq!((link.rx[0].ring_size(), link.tx[0].ring_size()), (32_768, 32_768));
    for slot in 0..32_768 {
        for ring in [&s2m, &m2s] {
            ring.write(slot, Desc { next: false, region: 0, length: 64, offset: 2 * bytes });
        }
    }
    // All of the ring at once, until its indexes have gone around their 16 bits more than once.
    for round in 1..=5u16 {
        let all = round.wrapping_mul(32_768);
        s2m.set_head(all);
        m2s.set_head(all);
        let burst = link.rx[0].burst(usize::MAX).unwrap();
        assert_eq!(burst.len(), 32_768);
        drop(burst);
        let mut burst = link.tx[0].burst().unwrap();
        while burst.push(&[1; 60]) {}
        assert_eq!(burst.publish(), 32_768);
        assert_eq!((s2m.tail(), m2s.tail()), (all, all));
        for slot in 0..32_768 {
            m2s.fill(slot, false, 64);
        }
    }
}
