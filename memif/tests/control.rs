//! The control side as a program uses it: waits that end, listeners that move to a successor, users
//! that are allowed.

mod common;

use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use common::*;
use memif::{
    BindError, Client, ClientOptions, DisconnectReason, Event, InterfaceOptions, Link, LinkError,
    Rejection, Server, SocketAddr, SocketOptions,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};

#[test]
fn another_thread_ends_a_wait() {
    let addr = unique("cancel");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    let mut client = Client::new(&addr, ClientOptions::new(0).reconnect(None)).unwrap();
    // Its connection is not answered: nothing happens.
    let (stop_server, stop_client) = (server.waker(), client.waker());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| server.wait(None).unwrap().is_none());
        stop_server.wake();
        assert!(waiting.join().unwrap());
    });
    // Said before: the next one ends at once, and the one after it does not.
    stop_client.clone().wake();
    stop_client.wake();
    let none = |event: Option<Event>| assert!(event.is_none(), "{event:?}");
    none(client.wait(None).unwrap());
    none(client.wait(Some(Duration::from_millis(1))).unwrap());
}

#[test]
fn a_flood_leaves_the_caller_time_for_others() {
    let addr = unique("flood-of-events");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(0)).unwrap();
    let mut kept = Vec::new();
    let mut one_more = || {
        kept.push(Mock::connect(&addr));
        kept.last().unwrap().send(&init(9, 0, b""), &[]);
    };
    one_more();
    assert!(server.ready().unwrap().is_none(), "greeted");
    let mut rounds = 0;
    for _ in 0..100 {
        // Each round rejects one client and accepts a new one.
        one_more();
        match server.ready().unwrap() {
            Some(Event::Rejected { .. }) => {}
            Some(other) => panic!("{other:?}"),
            None => rounds += 1,
        }
    }
    assert!(rounds >= 10, "{rounds}");
    // Nothing of it is forgotten.
    let mut refused = 0;
    until("all of them", || {
        refused += usize::from(server.wait(Some(Duration::ZERO)).unwrap().is_some());
        (refused == rounds + 1).then_some(())
    });
}

/// Lets a new client of the address connect.
fn connects(world: &mut World, addr: &SocketAddr) -> Client {
    let mut client = Client::new(addr, ClientOptions::new(0)).unwrap();
    until("a link", || {
        world.pump();
        matches!(client.ready().unwrap(), Some(Event::Connected { .. })).then_some(())
    });
    client
}

#[test]
fn a_listening_socket_moves_to_a_successor_without_a_rejection() {
    let folder = tempfile::tempdir().unwrap();
    let path = SocketAddr::path(folder.path().join("memif.sock")).unwrap();
    for addr in [path, unique("handed-over")] {
        let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
        server.add(InterfaceOptions::new(0)).unwrap();
        let mut world = World::new(server);
        let mut client = connects(&mut world, &addr);
        let listener = world.server.into_listener().unwrap();
        // Without a server, clients still reach the socket, and no other server can take its place.
        until("Disconnected", || {
            client.ready().unwrap().filter(|event| matches!(event, Event::Disconnected { .. }))
        });
        let waiting = Mock::connect(&addr);
        assert!(matches!(Server::bind(&addr, SocketOptions::new()), Err(BindError::InUse { .. })));
        let mut server = Server::from_listener(listener, &addr, SocketOptions::new()).unwrap();
        server.add(InterfaceOptions::new(0)).unwrap();
        assert_eq!(server.details(0).unwrap().socket, addr.to_string());
        let mut world = World::new(server);
        until("HELLO", || {
            world.pump();
            waiting.receive().filter(|received| *received == Received::Hello)
        });
        connects(&mut world, &addr);
        drop(world);
        if let Some(path) = addr.as_path() {
            assert!(path.exists(), "its maker removes the file");
        }
    }
}

#[test]
fn what_does_not_listen_is_not_taken() {
    let addr = unique("not-listening");
    let taken = |fd: OwnedFd| Server::from_listener(fd, &addr, SocketOptions::new()).err();
    let refused = |fd| assert!(matches!(taken(fd), Some(BindError::NotListening)));
    let unix = |kind| socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let (pipe, _other) = nix::unistd::pipe().unwrap();
    refused(pipe);
    refused(unix(SockType::SeqPacket));
    let bound = unix(SockType::SeqPacket);
    let name = format!("memif-test-bound-{}", std::process::id());
    bind(bound.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).unwrap()).unwrap();
    refused(bound);
    let stream = std::os::unix::net::UnixListener::bind_addr(
        &<std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            name + "2",
        )
        .unwrap(),
    );
    refused(stream.unwrap().into());
}

#[test]
fn only_allowed_users_are_served() {
    let me = nix::unistd::geteuid().as_raw();
    for allowed in [true, false] {
        let addr = unique(&format!("uids-{allowed}"));
        let uids = if allowed { vec![me.wrapping_add(1), me] } else { vec![me.wrapping_add(1)] };
        let mut server = Server::bind(&addr, SocketOptions::new().allow_uids(uids)).unwrap();
        server.add(InterfaceOptions::new(0)).unwrap();
        let mut world = World::new(server);
        if allowed {
            connects(&mut world, &addr);
            continue;
        }
        let mock = Mock::connect(&addr);
        assert_eq!(
            world.verdict(&mock),
            Received::Disconnect("this user is not allowed to connect".into())
        );
        assert_eq!(world.verdict(&mock), Received::Closed);
        world.event("Refused", |event| match event {
            Event::Rejected { id: None, reason: Rejection::UidNotAllowed { uid } } => {
                assert_eq!(*uid, Some(me));
                Some(())
            }
            _ => None,
        });
        assert_eq!(world.server.failures(), [("uid-not-allowed", 1)]);
    }
}

#[test]
fn a_client_reconnects_on_request() {
    let addr = unique("on-request");
    let long = Some(Duration::from_secs(3_600));
    let mut client = Client::new(&addr, ClientOptions::new(0).reconnect(long)).unwrap();
    assert!(matches!(
        client.ready().unwrap(),
        Some(Event::Rejected { reason: Rejection::Connect(_), .. })
    ));
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(0)).unwrap();
    let mut world = World::new(server);
    // The period is far from over.
    client.connect();
    until("a link", || {
        world.pump();
        matches!(client.ready().unwrap(), Some(Event::Connected { .. })).then_some(())
    });
}

/// One packet from each side to the other: the link works, and nothing else is on it.
fn ball(left: &mut Link, right: &mut Link, number: u32) {
    for (tx, rx) in [(&mut left.tx[0], &mut right.rx[0]), (&mut right.tx[0], &mut left.rx[0])] {
        let mut burst = tx.burst().unwrap();
        assert!(burst.push(&number.to_le_bytes()));
        burst.publish();
        let burst = rx.burst(9).unwrap();
        let mut bytes = [0; 4];
        assert_eq!(burst.iter().map(|packet| packet.copy_to(&mut bytes)).collect::<Vec<_>>(), [4]);
        assert_eq!(bytes, number.to_le_bytes());
    }
}

#[test]
fn interfaces_come_and_go_while_others_are_connected() {
    let addr = unique("come-and-go");
    let Pair { mut here, mut there, mut server, client: _client } =
        pair(&addr, InterfaceOptions::new(0), ClientOptions::new(0));
    let soon = Some(Duration::from_millis(1));
    for round in 0..50 {
        // A client that is early is turned away, and gets in by itself once its interface is there.
        let id = 1 + round % 3;
        let mut early = Client::new(&addr, ClientOptions::new(id).reconnect(soon)).unwrap();
        until("a refusal", || {
            server.pump();
            match early.ready().unwrap() {
                Some(Event::Rejected { reason: Rejection::Peer { reason }, .. }) => Some(reason),
                _ => None,
            }
        });
        ball(&mut here, &mut there, round);
        server.server.add(InterfaceOptions::new(id)).unwrap();
        assert_eq!(server.server.ids(), [0, id]);
        let mut far = until("a link", || {
            server.pump();
            match early.ready().unwrap() {
                Some(Event::Connected { link, .. }) => Some(link),
                _ => None,
            }
        });
        let mut near = server.link();
        ball(&mut near, &mut far, round);
        ball(&mut here, &mut there, round);

        assert!(server.server.remove(id, "not needed any more"));
        let reason = until("Disconnected", || match early.ready().unwrap() {
            Some(Event::Disconnected { reason, .. }) => Some(reason),
            _ => None,
        });
        assert_eq!(reason, DisconnectReason::Peer { reason: "not needed any more".into() });
        assert_eq!(near.rx[0].burst(1).unwrap_err(), LinkError::Down);
        server.event("Disconnected", |event| match event {
            Event::Disconnected { id: gone, .. } => {
                assert_eq!(*gone, id);
                Some(())
            }
            _ => None,
        });
        assert!(server.server.details(id).is_none() && !server.server.remove(id, "again"));
        drop(early);
        server.events.clear();
    }
    let details = server.server.details(0).unwrap();
    assert_eq!((details.links, details.rx_total.packets), (1, 100), "the link is not disturbed");
}
