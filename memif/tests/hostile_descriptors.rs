//! Peers that send descriptors whose use or close blocks, or that make shared ones block: no
//! endpoint waits for them.

mod common;

use std::io::{ErrorKind, IoSlice, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::*;
use memif::{InterfaceOptions, Link, RxQueue, Server, SocketOptions, TxQueue};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::linger;
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};

/// Does `work` on a thread, so that a test whose promise is broken fails and does not hang.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(work);
    until(what, || thread.is_finished().then_some(()));
    thread.join().expect("it has said why")
}

/// A connection whose last close waits for an hour, and its other end, which never reads.
fn lingering() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut full = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    full.set_nonblocking(true).unwrap();
    let bytes = vec![0; 1 << 16];
    let end = until("a full connection", || full.write(&bytes).err());
    assert_eq!(end.kind(), ErrorKind::WouldBlock);
    setsockopt(&full, sockopt::Linger, &linger { l_onoff: 1, l_linger: 3_600 }).unwrap();
    (full.into(), listener.accept().unwrap().0)
}

/// A socket in whose queue such a connection waits to be received: closing the one closes the
/// other.
fn nested() -> (OwnedFd, TcpStream) {
    let (full, silent) = lingering();
    let (from, to) = UnixDatagram::pair().unwrap();
    let rights = [full.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(from.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None)
        .unwrap();
    (to.into(), silent)
}

#[test]
fn closing_a_peers_descriptors_blocks_no_caller() {
    hold_up("lingering", lingering);
    hold_up("nested", nested);
}

/// Sends what such a trap is wherever a descriptor can be sent.
fn hold_up(name: &str, trap: fn() -> (OwnedFd, TcpStream)) {
    let addr = unique(name);
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let leave = message(8, &[]);
    // Where none belongs; as a region; as an eventfd; behind what ended the connection already;
    // with no message at all, and behind what looks like the end.
    let scripts: [Vec<Vec<u8>>; 8] = [
        vec![init(1, 0, b"")],
        vec![init(1, 0, b""), add_region(0, SIZE)],
        vec![init(1, 0, b""), add_ring(true, 0, 0, S2M, LOG2)],
        vec![init(9, 0, b""), add_region(0, SIZE)],
        vec![leave.clone(), add_region(0, SIZE)],
        vec![vec![]],
        vec![leave, vec![], add_region(0, SIZE)],
        vec![vec![], vec![], vec![]],
    ];
    for script in scripts {
        let (full, _silent) = trap();
        let mock = Mock::connect(&addr);
        world.pump();
        let (last, others) = script.split_last().unwrap();
        for message in others {
            mock.send(message, &[]);
        }
        mock.send(last, &[full.as_raw_fd()]);
        mock.send(&connect_message(), &[]);
        // Only what is on its way holds it open now.
        drop(full);
        world = in_time("the connection's end", move || {
            until("the connection's end", || {
                world.pump();
                (mock.receive() == Some(Received::Closed)).then_some(())
            });
            world
        });
    }
    world.connect_mock(&addr, 1);

    // To a server that goes before it has taken the connection.
    let (full, _silent) = trap();
    let mock = Mock::connect(&addr);
    mock.send(&init(1, 0, b""), &[full.as_raw_fd()]);
    drop(full);
    in_time("the server's end", move || drop(world));
    until("the connection's end", || (mock.receive() == Some(Received::Closed)).then_some(()));
}

/// Works while the peer says over and over that calls for this eventfd may wait. Tens of thousands
/// of times, since between any two system calls of ours it has little time to say so.
fn in_time_with_a_spoiler<T: Send + 'static>(
    event_fd: &EventFd,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fcntl(event_fd, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
            }
        });
        // Also when it was not in time: the scope waits for its threads.
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
            in_time("tens of thousands of interrupts", work)
        }));
        done.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|why| std::panic::resume_unwind(why))
    })
}

const BURSTS: u16 = 60_000;

/// Sends to a peer that wants interrupts, offers room at once and never takes an interrupt.
fn send(tx: &mut TxQueue, mut room: impl FnMut(u16)) {
    for n in 1..=BURSTS {
        room(n);
        let mut burst = tx.burst().unwrap();
        assert!(burst.push(&[1; 60]));
        assert_eq!(burst.publish(), 1);
    }
    assert_eq!(tx.stats().interrupts, BURSTS.into());
}

fn doze(rx: &mut RxQueue) {
    for _ in 0..BURSTS {
        assert!(!rx.arm().unwrap());
        rx.disarm();
    }
}

#[test]
fn a_client_cannot_make_its_server_wait_for_an_eventfd() {
    let addr = unique("full-event_fd");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let (mock, memory, event_fds) = (Mock::connect(&addr), memory(), [event_fd(), event_fd()]);
    let mut script = proper(1, &memory, &event_fds[0]);
    script[3].1 = Some(event_fds[1].as_fd().as_raw_fd());
    for (message, fd) in script {
        mock.send(&message, fd.as_slice());
    }
    assert_eq!(world.verdict(&mock), Received::Connected);
    let Link { mut rx, mut tx, .. } = world.link();
    // There is never anything to be read ...
    let memory = in_time_with_a_spoiler(&event_fds[0], move || {
        doze(&mut rx[0]);
        memory
    });
    // ... and no room to write.
    event_fds[1].write(u64::MAX - 1).unwrap();
    in_time_with_a_spoiler(&event_fds[1], move || {
        send(&mut tx[0], |head| {
            set_descriptor(
                &memory,
                M2S,
                u32::from(head - 1) & 7,
                descriptor(0, 0, 128, M2S_BUFFERS),
            );
            set_head(&memory, M2S, head);
        });
    });
}

#[test]
fn ends_of_links_wait_for_no_eventfd() {
    let addr = unique("full-event_fd-at-the-end");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let (mock, memory, event_fd) = (Mock::connect(&addr), memory(), event_fd());
    event_fd.write(u64::MAX - 1).unwrap();
    for (message, fd) in proper(1, &memory, &event_fd) {
        mock.send(&message, fd.as_slice());
    }
    assert_eq!(world.verdict(&mock), Received::Connected);
    fcntl(&event_fd, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let mut world = in_time("the end", move || {
        assert!(world.server.disconnect(1, "enough"));
        world
    });
    world.connect_mock(&addr, 1);
}
