//! Clients that take their memory away while it is in use: the link ends with a reason, and nothing
//! else does.

mod common;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::*;
use memif::{
    ClientOptions, DisconnectReason, Event, InterfaceOptions, Link, LinkError, ProtocolError,
    Server, SocketAddr, SocketOptions,
};

/// Rings are in the first page of the mock's memory, its buffers in the second, so that they can be
/// lost alone.
const PAGE: u64 = 4_096;
const BUFFER: u32 = 4_096;
const BYTES: [u8; 64] = [0xA5; 64];

fn server(addr: &SocketAddr, options: SocketOptions) -> World {
    memif::survive_truncation().unwrap();
    let mut server = Server::bind(addr, options).unwrap();
    server.add(InterfaceOptions::new(0)).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    World::new(server)
}

/// A client whose memory is not sealed.
fn client(world: &mut World, addr: &SocketAddr, id: u32) -> (Mock, File, Link) {
    let file = memory();
    file.set_len(2 * PAGE).unwrap();
    let mock = Mock::connect(addr);
    let event_fd = event_fd();
    let mut script = proper(id, &file, &event_fd);
    script[1] = (add_region(0, 2 * PAGE), Some(file.as_raw_fd()));
    for (message, fd) in script {
        mock.send(&message, fd.as_slice());
    }
    assert_eq!(world.verdict(&mock), Received::Connected);
    file.write_all_at(&[0xA5; 4_096], PAGE).unwrap();
    for slot in 0..8 {
        set_descriptor(&file, S2M, slot, descriptor(0, 0, 64, BUFFER + 64 * slot));
        set_descriptor(&file, M2S, slot, descriptor(0, 0, 64, BUFFER + 1_024 + 64 * slot));
    }
    (mock, file, world.link())
}

fn is_loss(error: &LinkError) -> bool {
    matches!(error, LinkError::Peer(ProtocolError::RegionLost { index: 0 }))
}

/// Both the peer and the caller learn the reason.
fn ends(world: &mut World, mock: &Mock, id: u32) {
    let Received::Disconnect(reason) = world.verdict(mock) else {
        panic!("the mock got no reason")
    };
    assert_eq!(reason, "region 0: its memory was taken away while in use");
    world.event("Disconnected", |event| match event {
        Event::Disconnected {
            id: which,
            reason: DisconnectReason::ProtocolError(ProtocolError::RegionLost { index: 0 }),
        } => {
            assert_eq!(*which, id);
            Some(())
        }
        _ => None,
    });
}

type Use = fn(&mut Link) -> LinkError;

#[test]
fn rings_that_vanish_end_their_link_only() {
    let addr = unique("truncate-rings");
    let mut world = server(&addr, SocketOptions::new());
    let (_bystander, bystanders_memory, mut bystander) = client(&mut world, &addr, 1);
    let uses: [Use; 4] = [
        |link| link.rx[0].burst(8).unwrap_err(),
        |link| link.rx[0].arm().unwrap_err(),
        |link| link.tx[0].free_slots().unwrap_err(),
        |link| {
            let mut burst = link.tx[0].burst().unwrap();
            burst.push(&[1; 60]);
            assert_eq!(burst.publish(), 0);
            link.tx[0].burst().unwrap_err()
        },
    ];
    for touch in uses {
        let (mock, memory, mut link) = client(&mut world, &addr, 0);
        assert!(!link.sealed);
        set_head(&memory, S2M, 2);
        assert_eq!(link.rx[0].burst(8).unwrap().len(), 2);
        set_head(&memory, M2S, 4);
        memory.set_len(0).unwrap();
        // Zeros look like an empty ring to who does not ask.
        let error = touch(&mut link);
        assert!(is_loss(&error) || error == LinkError::Down, "{error}");
        ends(&mut world, &mock, 0);
    }
    set_head(&bystanders_memory, S2M, 1);
    assert_eq!(bystander.rx[0].burst(8).unwrap().len(), 1);
}

#[test]
fn packets_in_lost_memory_are_not_returned() {
    let addr = unique("truncate-packets");
    let mut world = server(&addr, SocketOptions::new());
    let (mock, memory, mut link) = client(&mut world, &addr, 0);
    set_head(&memory, S2M, 2);
    let burst = link.rx[0].burst(8).unwrap();
    let mut packets = burst.iter();
    let mut copy = [0; 64];
    assert_eq!(packets.next().unwrap().copy_to(&mut copy), 64);
    assert_eq!(copy, BYTES);
    assert_eq!(burst.check(), Ok(()));
    memory.set_len(PAGE).unwrap();
    assert_eq!(packets.next().unwrap().copy_to(&mut copy), 0);
    assert!(is_loss(&burst.check().unwrap_err()));
    drop(burst);
    assert!(link.rx[0].burst(8).is_err() && link.tx[0].burst().is_err());
    ends(&mut world, &mock, 0);
}

#[test]
fn packets_sent_into_nothing_do_not_count() {
    let addr = unique("truncate-send");
    let mut world = server(&addr, SocketOptions::new());
    let (mock, memory, mut link) = client(&mut world, &addr, 0);
    set_head(&memory, M2S, 8);
    memory.set_len(PAGE).unwrap();
    let mut burst = link.tx[0].burst().unwrap();
    assert!(burst.push(&[1; 60]), "not detected yet");
    assert_eq!(burst.publish(), 0);
    ends(&mut world, &mock, 0);
}

#[test]
fn whatever_comes_up_while_the_memory_vanishes_was_written_by_the_peer() {
    let addr = unique("truncate-race");
    let mut world = server(&addr, SocketOptions::new());
    for round in 0..40u64 {
        let (mock, memory, mut link) = client(&mut world, &addr, 0);
        let (received, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                // An honest sender, until it cuts its memory, at another place in the traffic each
                // time.
                let mut head = 0u16;
                let end = u16::try_from(100 + 37 * round).unwrap();
                while head != end {
                    if head.wrapping_sub(tail(&memory, S2M)) < 8 {
                        head = head.wrapping_add(1);
                        set_head(&memory, S2M, head);
                    } else {
                        thread::yield_now();
                    }
                }
                until("traffic", || received.load(Ordering::Relaxed).then_some(()));
                memory.set_len(if round % 2 == 0 { 0 } else { PAGE }).unwrap();
                // One more packet comes where there still is a ring to announce it.
                if round % 2 == 1 {
                    let room = || {
                        head.wrapping_sub(tail(&memory, S2M)) < 8 || ended.load(Ordering::Relaxed)
                    };
                    until("room", || room().then_some(()));
                    set_head(&memory, S2M, head.wrapping_add(1));
                }
            });
            let mut copy = [0; 64];
            let error = until("the end", || {
                match link.rx[0].burst(8) {
                    Err(error) => return Some(error),
                    Ok(burst) => {
                        for packet in &burst {
                            match packet.copy_to(&mut copy) {
                                0 => assert!(burst.check().is_err()),
                                _ => assert_eq!(copy, BYTES),
                            }
                            received.store(true, Ordering::Relaxed);
                        }
                    }
                }
                None
            });
            ended.store(true, Ordering::Relaxed);
            assert!(is_loss(&error), "{error}");
        });
        ends(&mut world, &mock, 0);
    }
}

#[test]
fn unsealed_memory_is_rejected_if_the_options_say_so() {
    let addr = unique("unsealed");
    let mut world = server(&addr, SocketOptions::new().reject_unsealed(true));
    let mock = Mock::connect(&addr);
    for (message, fd) in proper(0, &memory(), &event_fd()) {
        mock.send(&message, fd.as_slice());
    }
    let text = "region 0: its file is not sealed against shrinking";
    assert_eq!(world.verdict(&mock), Received::Disconnect(text.into()));
    // A client of ours is sealed.
    let mut client = memif::Client::new(&addr, ClientOptions::new(0)).unwrap();
    until("a link", || {
        world.pump();
        matches!(client.ready().unwrap(), Some(Event::Connected { .. })).then_some(())
    });
}
