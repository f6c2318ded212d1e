//! Clients that break the protocol: each loses its connection, receives the reason, and nothing
//! else is disturbed.

mod common;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use common::*;
use memif::{
    DisconnectReason, Event, InterfaceOptions, LinkError, Rejection, Server, SocketAddr,
    SocketOptions,
};
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::stat::Mode;

type Script = Vec<(Vec<u8>, Vec<RawFd>)>;

/// Plays `script` to a fresh connection; the server's words to the mock, which must be those in its
/// report.
fn rejected(world: &mut World, addr: &memif::SocketAddr, script: &Script) -> String {
    let mock = Mock::connect(addr);
    for (message, fds) in script {
        mock.send(message, fds);
    }
    let Received::Disconnect(reason) = world.verdict(&mock) else { panic!("no reason given") };
    let reported = world.event("Refused", |event| match event {
        Event::Rejected { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    assert!(reported.starts_with(&reason), "{reported:?} was reported, {reason:?} was sent");
    assert_eq!(world.verdict(&mock), Received::Closed);
    reason
}

/// A proper script with one message replaced.
fn spoiled(memory: &File, event_fd: RawFd, at: usize, message: Vec<u8>, fds: Vec<RawFd>) -> Script {
    let mut all: Script = vec![
        (init(1, 0, b""), vec![]),
        (add_region(0, SIZE), vec![memory.as_raw_fd()]),
        (add_ring(true, 0, 0, S2M, LOG2), vec![event_fd]),
        (add_ring(false, 0, 0, M2S, LOG2), vec![event_fd]),
        (connect_message(), vec![]),
    ];
    if let Some(step) = all.get_mut(at) {
        *step = (message, fds);
    }
    all
}

#[test]
#[expect(clippy::too_many_lines, reason = "most of it is a table of cases")]
fn every_violation_in_the_handshake_is_rejected_with_a_reason_and_harms_no_link() {
    let addr = unique("violations");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(0)).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    server.add(InterfaceOptions::new(2).secret("right").unwrap()).unwrap();
    server.add(InterfaceOptions::new(3).mode(memif::Mode::Ip)).unwrap();
    let mut world = World::new(server);
    let (_bystander, bystanders_memory, mut bystanders_link) = world.connect_mock(&addr, 0);

    let memory = memory();
    let file = memory.as_raw_fd();
    let event_fd = event_fd();
    let event_fd = event_fd.as_fd().as_raw_fd();
    let (pipe, _other_end) = nix::unistd::pipe().unwrap();
    let pipe = pipe.as_raw_fd();
    let no_cookie = common::memory();
    no_cookie.write_all_at(&[0; 4], u64::from(M2S)).unwrap();
    let with = |at, message, fds| spoiled(&memory, event_fd, at, message, fds);
    let long = [init(1, 0, b""), vec![0]].concat();
    let private = message(5, &[&[1, 0], &[0; 2], &[0; 2], &[0; 4], &[LOG2], &8u16.to_ne_bytes()]);

    let cases: Vec<(Script, &str)> = vec![
        (with(0, init(9, 0, b""), vec![]), "no interface with id 9"),
        (with(0, init(0, 0, b""), vec![]), "interface 0 is already connected"),
        (with(0, init(2, 0, b"wrong"), vec![]), "wrong secret"),
        (with(0, init(2, 0, b""), vec![]), "wrong secret"),
        (with(0, init(2, 0, b"right and more"), vec![]), "wrong secret"),
        (with(0, init(3, 0, b""), vec![]), "interface mode 0 does not match, expected ip"),
        (with(0, init(1, 77, b""), vec![]), "interface mode 77 does not match"),
        (
            with(0, message(3, &[&0x0100u16.to_ne_bytes(), &1u32.to_ne_bytes()]), vec![]),
            "version 0x0100",
        ),
        (with(0, init(1, 0, b"")[..127].to_vec(), vec![]), "message of 127 bytes, not 128"),
        (with(0, long, vec![]), "message of 129 bytes, not 128"),
        (with(0, vec![3], vec![]), "message of 1 bytes"),
        (with(0, message(0, &[]), vec![]), "unknown message type 0"),
        (with(1, message(99, &[]), vec![]), "unknown message type 99"),
        (with(0, add_region(0, SIZE), vec![file]), "ADD_REGION out of turn, expected INIT"),
        (with(1, init(1, 0, b""), vec![]), "INIT out of turn, after INIT"),
        (with(0, init(1, 0, b""), vec![file]), "INIT with 1 file descriptors, not 0"),
        (with(1, add_region(0, SIZE), vec![]), "ADD_REGION with 0 file descriptors, not 1"),
        (
            with(1, add_region(0, SIZE), vec![file, file, event_fd]),
            "ADD_REGION with 3 file descriptors, not 1",
        ),
        (with(1, add_region(1, SIZE), vec![file]), "region index 1, not 0"),
        (with(2, add_region(0, SIZE), vec![file]), "region index 0, not 1"),
        (with(1, add_region(0, 0), vec![file]), "size of 0 bytes"),
        (
            with(1, add_region(0, SIZE + 1), vec![file]),
            "4097 bytes announced, but the file has 4096",
        ),
        (with(1, add_region(0, u64::MAX), vec![file]), "bytes announced, but the file has 4096"),
        (with(1, add_region(0, 1 << 63), vec![file]), "bytes announced, but the file has 4096"),
        (with(1, add_region(0, 1 << 32), vec![file]), "bytes announced, but the file has 4096"),
        (with(1, add_region(0xFFFF, SIZE), vec![file]), "region index 65535, not 0"),
        (
            with(2, add_ring(true, 1, 0, S2M, LOG2), vec![event_fd]),
            "S2M ring 1: out of turn, expected 0",
        ),
        (with(2, add_ring(true, 300, 0, S2M, LOG2), vec![event_fd]), "S2M ring 300: out of turn"),
        (
            with(3, add_ring(true, 0, 0, M2S, LOG2), vec![event_fd]),
            "S2M ring 0: out of turn, expected 1",
        ),
        (with(2, add_ring(true, 0, 0, S2M, LOG2), vec![]), "ADD_RING with 0 file descriptors"),
        (
            with(2, add_ring(true, 0, 0, S2M, LOG2), vec![pipe]),
            "S2M ring 0: its descriptor is no eventfd",
        ),
        (
            with(2, add_ring(true, 0, 0, S2M, LOG2), vec![file]),
            "S2M ring 0: its descriptor is no eventfd",
        ),
        (with(2, add_ring(true, 0, 0, S2M, 16), vec![event_fd]), "log2 size 16 is too large"),
        (with(2, add_ring(true, 0, 0, S2M, 200), vec![event_fd]), "log2 size 200 is too large"),
        (with(2, add_ring(true, 0, 0, S2M, 14), vec![event_fd]), "S2M ring 0: outside its region"),
        (with(2, add_ring(true, 0, 7, S2M, LOG2), vec![event_fd]), "region 7 does not exist"),
        (
            with(2, add_ring(true, 0, 0, 8, LOG2), vec![event_fd]),
            "offset 8 is not a multiple of 16",
        ),
        (with(2, add_ring(true, 0, 0, 0xFFFF_FFF0, LOG2), vec![event_fd]), "outside its region"),
        (with(3, add_ring(false, 0, 0, 240, LOG2), vec![event_fd]), "overlaps another ring"),
        (with(2, private, vec![event_fd]), "private header of 8 bytes"),
        (spoiled(&no_cookie, event_fd, 9, vec![], vec![]), "M2S ring 0: wrong cookie 0x0"),
        (with(4, message(1, &[]), vec![]), "ACK out of turn"),
        (with(2, connect_message(), vec![]), "no S2M ring"),
        (with(3, connect_message(), vec![]), "no M2S ring"),
    ];
    for (script, text) in cases {
        let reason = rejected(&mut world, &addr, &script);
        assert!(reason.contains(text), "{reason:?} should say {text:?}");
    }

    // The bystander has noticed nothing, and the interface all of them wanted is free.
    set_descriptor(&bystanders_memory, S2M, 0, descriptor(0, 0, 5, S2M_BUFFERS));
    bystanders_memory.write_all_at(b"hello", u64::from(S2M_BUFFERS)).unwrap();
    set_head(&bystanders_memory, S2M, 1);
    let mut copy = [0; 9];
    assert_eq!(
        bystanders_link.rx[0].burst(9).unwrap().iter().next().unwrap().copy_to(&mut copy),
        5
    );
    assert_eq!(&copy[..5], b"hello");
    assert_eq!(tail(&bystanders_memory, S2M), 1, "the buffer was given back");
    world.connect_mock(&addr, 1);
    assert!(world.events.is_empty(), "{:?}", world.events);
}

#[test]
fn what_is_no_memory_is_no_region() {
    let addr = unique("no-memory");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let (memory, frozen, event_fd) = (memory(), memory(), event_fd());
    fcntl(&frozen, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).unwrap();
    let again = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let name_only = open(again.as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    let file = |path: &str| OwnedFd::from(File::open(path).unwrap());
    let no_memory = "its file is not memory";
    let cases: [(OwnedFd, &str); 9] = [
        (nix::unistd::pipe().unwrap().0, no_memory),
        (UnixDatagram::unbound().unwrap().into(), no_memory),
        (event_fd.as_fd().try_clone_to_owned().unwrap(), no_memory),
        (file("/dev/zero"), no_memory),
        (file("/proc/self"), no_memory),
        (file("/proc/self/exe"), no_memory),
        (name_only, no_memory),
        (frozen.into(), "mapping it failed"),
        (file(&again), "mapping it failed"),
    ];
    for (fd, text) in cases {
        let script = spoiled(
            &memory,
            event_fd.as_fd().as_raw_fd(),
            1,
            add_region(0, SIZE),
            vec![fd.as_raw_fd()],
        );
        let reason = rejected(&mut world, &addr, &script);
        assert!(reason.contains(text), "{reason:?} should say {text:?}");
    }
    world.connect_mock(&addr, 1);
}

#[test]
fn violations_on_a_live_link_end_that_link_only() {
    type Violation = fn(&File);
    let receive: [(Violation, &str); 9] = [
        (|m| set_head(m, S2M, 9), "S2M ring 0: index jumped to 9"),
        (|m| set_head(m, S2M, 0xFFFF), "S2M ring 0: index jumped to 65535"),
        (|m| one(m, descriptor(0, 0, 0, S2M_BUFFERS)), "S2M ring 0: slot 0: length 0"),
        (|m| one(m, descriptor(0, 1, 64, S2M_BUFFERS)), "slot 0: buffer outside its region"),
        (|m| one(m, descriptor(0, 0xFFFF, 64, S2M_BUFFERS)), "slot 0: buffer outside its region"),
        (|m| one(m, descriptor(0, 0, 64, 4_090)), "slot 0: buffer outside its region"),
        (
            |m| one(m, descriptor(0, 0, 0xFFFF_FFF0, 0xFFFF_FFF0)),
            "slot 0: buffer outside its region",
        ),
        (
            |m| one(m, descriptor(1, 0, 64, S2M_BUFFERS)),
            "slot 0: the packet continues, but no descriptor follows",
        ),
        (
            |m| {
                (0..8).for_each(|slot| {
                    set_descriptor(m, S2M, slot, descriptor(1, 0, 64, S2M_BUFFERS));
                });
                set_head(m, S2M, 8);
            },
            "slot 7: the packet continues, but no descriptor follows",
        ),
    ];
    let send: [(Violation, &str); 4] = [
        (|m| set_head(m, M2S, 9), "M2S ring 0: index jumped to 9"),
        (|m| set_head(m, M2S, 8), "M2S ring 0: slot 0: length 0"),
        (|m| offer(m, descriptor(0, 3, 64, M2S_BUFFERS)), "slot 0: buffer outside its region"),
        (
            |m| offer(m, descriptor(0, 0, 0xFFFF_FFFF, M2S_BUFFERS)),
            "slot 0: buffer outside its region",
        ),
    ];
    let addr = unique("live-violations");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(0)).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let (_bystander, _memory, mut bystander) = world.connect_mock(&addr, 0);

    let all = receive
        .map(|(violate, text)| (true, violate, text))
        .into_iter()
        .chain(send.map(|(violate, text)| (false, violate, text)));
    for (receiving, violate, text) in all {
        let (mock, memory, mut link) = world.connect_mock(&addr, 1);
        violate(&memory);
        let error = if receiving {
            link.rx[0].burst(64).expect_err(text)
        } else {
            let mut burst = link.tx[0].burst().unwrap();
            assert!(!burst.push(&[1; 60]), "{text}");
            assert_eq!(burst.publish(), 0);
            link.tx[0].burst().expect_err(text)
        };
        assert!(
            matches!(&error, LinkError::Peer(fault) if fault.to_string().contains(text)),
            "{error} / {text}"
        );
        let Received::Disconnect(reason) = world.verdict(&mock) else {
            panic!("no reason sent: {text}")
        };
        assert!(reason.contains(text), "{reason:?} should say {text:?}");
        world.event("Disconnected", |event| match event {
            Event::Disconnected { id: 1, reason: DisconnectReason::ProtocolError(fault) } => {
                assert!(fault.to_string().contains(text));
                Some(())
            }
            _ => None,
        });
        assert!(link.rx[0].burst(1).is_err() && link.tx[0].burst().is_err());
        assert!(link.rx[0].arm().is_err() && link.tx[0].free_slots().is_err());
        assert!(bystander.rx[0].burst(1).unwrap().is_empty());
    }
}

/// One descriptor, published.
fn one(memory: &File, descriptor: [u8; 16]) {
    set_descriptor(memory, S2M, 0, descriptor);
    set_head(memory, S2M, 1);
}

/// One buffer, offered.
fn offer(memory: &File, descriptor: [u8; 16]) {
    set_descriptor(memory, M2S, 0, descriptor);
    set_head(memory, M2S, 1);
}

#[test]
fn messages_after_connected_end_the_link() {
    let addr = unique("late");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    for (late, text) in [
        (connect_message(), "CONNECT out of turn, after CONNECTED"),
        (init(1, 0, b""), "INIT out of turn, after CONNECTED"),
        (vec![0; 5], "message of 5 bytes"),
    ] {
        let (mock, _memory, mut link) = world.connect_mock(&addr, 1);
        mock.send(&late, &[]);
        assert_eq!(
            world.verdict(&mock),
            Received::Disconnect(text.to_owned() + if late.len() == 5 { ", not 128" } else { "" })
        );
        world.event("Disconnected", |event| {
            matches!(event, Event::Disconnected { id: 1, .. }).then_some(())
        });
        assert_eq!(link.rx[0].burst(1).unwrap_err(), LinkError::Down);
    }
}

#[test]
fn disconnect_reasons_are_reported() {
    let addr = unique("goodbye");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let reason = |event: &Event| match event {
        Event::Disconnected { id: 1, reason } => Some(reason.clone()),
        _ => None,
    };
    let (mock, ..) = world.connect_mock(&addr, 1);
    mock.send(&message(8, &[&7u32.to_ne_bytes(), b"lunch\x07time"]), &[]);
    let said = DisconnectReason::Peer { reason: "lunch\u{fffd}time".into() };
    assert_eq!(world.event("Disconnected", reason), said);

    let (mock, ..) = world.connect_mock(&addr, 1);
    drop(mock);
    assert_eq!(world.event("Disconnected", reason), DisconnectReason::Closed);

    let (mock, ..) = world.connect_mock(&addr, 1);
    assert!(world.server.disconnect(1, "maintenance"));
    assert_eq!(world.verdict(&mock), Received::Disconnect("maintenance".into()));
    assert_eq!(
        world.event("Disconnected", reason),
        DisconnectReason::Local { reason: "maintenance".into() }
    );
    assert!(!world.server.disconnect(1, "again"));

    let (mock, ..) = world.connect_mock(&addr, 1);
    assert!(world.server.remove(1, "gone for good"));
    assert_eq!(world.verdict(&mock), Received::Disconnect("gone for good".into()));
    assert_eq!(
        rejected(&mut world, &addr, &vec![(init(1, 0, b""), vec![])]),
        "no interface with id 1 on this socket"
    );
}

#[test]
fn who_never_says_init_goes_and_never_keeps_others_out() {
    let addr = unique("silent");
    let options = SocketOptions::new().connect_timeout(Duration::from_millis(200)).max_pending(4);
    let mut server = Server::bind(&addr, options).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let silent: Vec<Mock> = (0..200)
        .map(|_| {
            let mock = Mock::connect(&addr);
            world.pump();
            mock
        })
        .collect();
    let (_mock, _memory, mut link) = world.connect_mock(&addr, 1);
    let reason: Vec<Received> = silent.iter().map(|mock| world.verdict(mock)).collect();
    let count = |text: &str| {
        reason.iter().filter(|received| **received == Received::Disconnect(text.into())).count()
    };
    let crowded = count("too many connections without INIT");
    assert_eq!(crowded + count("the handshake took too long"), 200, "{reason:?}");
    assert!(crowded >= 196, "at most 4 may stay");
    // The timeout is for connecting only.
    assert!(link.rx[0].burst(1).is_ok());
}

#[test]
fn a_client_that_stops_anywhere_on_its_way_frees_its_interface() {
    let addr = unique("halfway");
    let options = SocketOptions::new().connect_timeout(Duration::from_millis(100));
    let mut server = Server::bind(&addr, options).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    for steps in 1..5 {
        let (mock, memory, event_fd) = (Mock::connect(&addr), memory(), event_fd());
        for (message, fd) in proper(1, &memory, &event_fd).into_iter().take(steps) {
            mock.send(&message, fd.as_slice());
        }
        assert_eq!(
            world.verdict(&mock),
            Received::Disconnect("the handshake took too long".into())
        );
        world.event("Refused", |event| match event {
            Event::Rejected { id: Some(1), reason: Rejection::Timeout } => Some(()),
            _ => None,
        });
        world.connect_mock(&addr, 1);
    }
}

#[test]
fn the_successor_of_a_dead_client_connects_at_once() {
    let addr = unique("successor");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let mut before = world.connect_mock(&addr, 1);
    for _ in 0..20 {
        // Both the death and the new INIT wait when the server looks.
        drop(before);
        before = world.connect_mock(&addr, 1);
        world.event("Disconnected", |event| {
            matches!(event, Event::Disconnected { .. }).then_some(())
        });
    }
}

#[test]
fn unread_answers_are_bounded_and_kept() {
    let addr = unique("deaf");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let mock = Mock::connect(&addr);
    let (memory, event_fd) = (memory(), event_fd());
    memory.set_len(1 << 20).unwrap();
    for ring in 0u32..510 {
        memory.write_all_at(&0x03E3_1F20u32.to_ne_bytes(), u64::from(ring * 256)).unwrap();
    }
    let (file, event_fd) = (memory.as_raw_fd(), event_fd.as_fd().as_raw_fd());
    let mut script: Vec<(Vec<u8>, Option<RawFd>)> = vec![(init(1, 0, b""), None)];
    script.extend((0..256).map(|n| (add_region(n, 1 << 20), Some(file))));
    script
        .extend((0..255).map(|n| (add_ring(true, n, n, u32::from(n) * 256, LOG2), Some(event_fd))));
    script.extend(
        (0..255).map(|n| (add_ring(false, n, n, (255 + u32::from(n)) * 256, LOG2), Some(event_fd))),
    );
    script.push((connect_message(), None));
    let messages = script.len();

    // Send ahead as far as it goes, without reading any answer: the server neither blocks nor
    // hoards.
    let mut stalled = 0;
    let mut script = script.into_iter().peekable();
    while stalled < 1_000 {
        let Some((message, fd)) = script.peek() else { break };
        match mock.try_send(message, fd.as_slice()) {
            Ok(()) => {
                script.next();
                stalled = 0;
            }
            Err(nix::Error::EAGAIN) => stalled += 1,
            Err(errno) => panic!("{errno}"),
        }
        world.pump();
    }
    // Then read: everything was answered, in order.
    let mut answers = 0;
    until("all answers", || {
        if let Some((message, fd)) = script.peek()
            && mock.try_send(message, fd.as_slice()).is_ok()
        {
            script.next();
        }
        world.pump();
        let received = mock.receive()?;
        answers += 1;
        match received {
            Received::Connected => Some(()),
            Received::Ack | Received::Hello => None,
            other => panic!("{other:?} after {answers} answers"),
        }
    });
    assert_eq!(answers, messages + 1, "HELLO, and an answer for each");
    let link = world.link();
    assert_eq!((link.rx.len(), link.tx.len()), (255, 255));
}

#[test]
fn more_rings_than_allowed_are_rejected() {
    let addr = unique("more-rings");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1).rx_queues(1).tx_queues(2)).unwrap();
    let mut world = World::new(server);
    let (memory, event_fd) = (memory(), event_fd());
    let event_fd = event_fd.as_fd().as_raw_fd();
    let script = spoiled(&memory, event_fd, 3, add_ring(true, 1, 0, M2S, LOG2), vec![event_fd]);
    assert_eq!(rejected(&mut world, &addr, &script), "S2M ring 1: only 1 are allowed here");
}

#[test]
fn unsealed_memory_is_taken_and_said_to_be_so() {
    let addr = unique("unsealed");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let (_mock, _memory, link) = world.connect_mock(&addr, 1);
    assert!(!link.sealed && !link.rx[0].sealed());
    assert_eq!((link.peer.name.as_str(), link.peer.app_name.as_str()), ("mock0", "mock app"));
}

/// A sparse file of so many bytes, with two proper rings.
fn sparse(bytes: u64) -> File {
    let file = memory();
    file.set_len(bytes).unwrap();
    file
}

/// Connects a client of interface 1 whose regions are these files and sizes, and whose M2S ring is
/// in region `m2s`.
fn with_regions(
    world: &mut World,
    addr: &SocketAddr,
    regions: &[(&File, u64)],
    m2s: u16,
) -> (Mock, Received) {
    let (mock, event_fd) = (Mock::connect(addr), event_fd());
    let event_fd = event_fd.as_fd().as_raw_fd();
    mock.send(&init(1, 0, b""), &[]);
    for (index, (file, size)) in (0..).zip(regions) {
        mock.send(&add_region(index, *size), &[file.as_raw_fd()]);
    }
    mock.send(&add_ring(true, 0, 0, S2M, LOG2), &[event_fd]);
    mock.send(&add_ring(false, 0, m2s, M2S, LOG2), &[event_fd]);
    mock.send(&connect_message(), &[]);
    let verdict = world.verdict(&mock);
    (mock, verdict)
}

#[test]
fn memory_up_to_the_limit_is_reached_and_no_more_is_taken() {
    const GIB: u64 = 1 << 30;
    let addr = unique("memory-limit");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let file = sparse(16 * GIB);
    // 8 GiB is all that 32 bits of offset and of length can reach.
    let (_mock, verdict) = with_regions(&mut world, &addr, &[(&file, 16 * GIB); 8], 0);
    assert_eq!(verdict, Received::Connected);
    let mut link = world.link();
    assert_eq!(world.server.details(1).unwrap().regions[7].size, 8 * GIB);
    file.write_all_at(b"beyond four", 4 * GIB - 6).unwrap();
    set_descriptor(&file, S2M, 0, descriptor(0, 7, 11, 0xFFFF_FFFA));
    set_head(&file, S2M, 1);
    let mut copy = [0; 11];
    let burst = link.rx[0].burst(9).unwrap();
    burst.iter().for_each(|packet| assert_eq!(packet.copy_to(&mut copy), 11));
    assert_eq!(&copy, b"beyond four");
    drop(burst);
    world.server.disconnect(1, "next");

    let (_mock, verdict) = with_regions(&mut world, &addr, &[(&file, 16 * GIB); 9], 0);
    let text = "region 8: size of 17179869184 bytes is not in 1..=0";
    assert_eq!(verdict, Received::Disconnect(text.into()));

    let addr = unique("memory-limit-set");
    let mut server = Server::bind(&addr, SocketOptions::new().max_memory(2 * SIZE)).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let file = sparse(2 * SIZE);
    let (_mock, verdict) = with_regions(&mut world, &addr, &[(&file, SIZE), (&file, SIZE + 1)], 0);
    let text = "region 1: size of 4097 bytes is not in 1..=4096";
    assert_eq!(verdict, Received::Disconnect(text.into()));
    let (_mock, verdict) = with_regions(&mut world, &addr, &[(&file, SIZE), (&file, SIZE)], 0);
    assert_eq!(verdict, Received::Connected);
}

/// The same memory as two regions, rings and packets on top of each other: a muddle, and the
/// client's own.
#[test]
fn memory_that_is_several_regions_at_once_is_survived() {
    let addr = unique("aliases");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let file = sparse(SIZE);
    for slot in 0..8 {
        // Packets and room for packets: all of the memory, rings included.
        for ring in [S2M, M2S] {
            set_descriptor(&file, ring, slot, descriptor(0, (slot & 1) as u16, 4_096, 0));
        }
    }
    let (_mock, verdict) = with_regions(&mut world, &addr, &[(&file, SIZE), (&file, SIZE)], 1);
    assert_eq!(verdict, Received::Connected);
    let mut link = world.link();
    let mut copy = [0; 5_000];
    for round in 1..2_000u16 {
        set_head(&file, S2M, round & 7);
        set_head(&file, M2S, round & 7);
        let Ok(burst) = link.rx[0].burst(8) else { break };
        assert!(burst.iter().all(|packet| packet.copy_to(&mut copy) <= 4_096));
        let Ok(mut out) = link.tx[0].burst() else { break };
        out.forward(burst);
        out.push(&copy);
        out.publish();
    }
    world.server.disconnect(1, "enough");
    world.connect_mock(&addr, 1);
}
