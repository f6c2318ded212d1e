//! The control side as a program uses it: waiting that can be ended, sockets that are handed over, users that are let in or not.

mod common;

use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use common::*;
use memif::{BindError, Client, Event, Options, Refusal, Server, ServerOptions, SocketAddr};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};

#[test]
fn waiting_ends_when_another_thread_says_so() {
    let addr = unique("cancel");
    let mut server = Server::bind(&addr).unwrap();
    let mut client = Client::new(&addr, Options::new(0).reconnect(None)).unwrap();
    // Its connection is not answered: nothing happens.
    let (stop_server, stop_client) = (server.canceller(), client.canceller());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| server.wait(None).unwrap().is_none());
        stop_server.cancel();
        assert!(waiting.join().unwrap());
    });
    // Said before: the next one ends at once, and the one after it does not.
    stop_client.clone().cancel();
    stop_client.cancel();
    let none = |event: Option<Event>| assert!(event.is_none(), "{event:?}");
    none(client.wait(None).unwrap());
    none(client.wait(Some(Duration::from_millis(1))).unwrap());
}

/// Lets a new client of the address connect.
fn connects(world: &mut World, addr: &SocketAddr) -> Client {
    let mut client = Client::new(addr, Options::new(0)).unwrap();
    until("a link", || {
        world.pump();
        matches!(client.ready().unwrap(), Some(Event::Connected { .. })).then_some(())
    });
    client
}

#[test]
fn a_listening_socket_is_handed_over_and_nobody_is_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = SocketAddr::path(folder.path().join("memif.sock")).unwrap();
    for addr in [path, unique("handed-over")] {
        let mut server = Server::bind(&addr).unwrap();
        server.add(Options::new(0)).unwrap();
        let mut world = World::new(server);
        let mut client = connects(&mut world, &addr);
        let listener = world.server.into_listener().unwrap();
        // Without anybody to answer, clients still get through to the socket, which is still not to be had by others.
        until("Disconnected", || {
            client.ready().unwrap().filter(|event| matches!(event, Event::Disconnected { .. }))
        });
        let waiting = Mock::connect(&addr);
        assert!(matches!(Server::bind(&addr), Err(BindError::InUse { .. })));
        let mut server = Server::from_listener(listener, &addr, ServerOptions::new()).unwrap();
        server.add(Options::new(0)).unwrap();
        assert_eq!(server.details(0).unwrap().socket, addr.to_string());
        let mut world = World::new(server);
        until("HELLO", || {
            world.pump();
            waiting.hear().filter(|heard| *heard == Heard::Hello)
        });
        connects(&mut world, &addr);
        drop(world);
        if let Some(path) = addr.as_path() {
            assert!(path.exists(), "whoever made the file removes it");
        }
    }
}

#[test]
fn what_does_not_listen_is_not_taken() {
    let addr = unique("not-listening");
    let taken = |fd: OwnedFd| Server::from_listener(fd, &addr, ServerOptions::new()).err();
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
        let mut server = Server::bind_with(&addr, ServerOptions::new().allow_uids(uids)).unwrap();
        server.add(Options::new(0)).unwrap();
        let mut world = World::new(server);
        if allowed {
            connects(&mut world, &addr);
            continue;
        }
        let mock = Mock::connect(&addr);
        assert_eq!(world.verdict(&mock), Heard::Disconnect("this user is not allowed here".into()));
        assert_eq!(world.verdict(&mock), Heard::Closed);
        world.event("Refused", |event| match event {
            Event::Refused { id: None, reason: Refusal::UidNotAllowed { uid } } => {
                assert_eq!(*uid, Some(me));
                Some(())
            }
            _ => None,
        });
        assert_eq!(world.server.failures(), [("uid-not-allowed", 1)]);
    }
}

#[test]
fn a_client_reconnects_when_it_is_told_to() {
    let addr = unique("on-request");
    let long = Some(Duration::from_hours(1));
    let mut client = Client::new(&addr, Options::new(0).reconnect(long)).unwrap();
    assert!(matches!(client.ready().unwrap(), Some(Event::Refused { reason: Refusal::Connect(_), .. })));
    let mut server = Server::bind(&addr).unwrap();
    server.add(Options::new(0)).unwrap();
    let mut world = World::new(server);
    // The period is far from over.
    client.connect();
    until("a link", || {
        world.pump();
        matches!(client.ready().unwrap(), Some(Event::Connected { .. })).then_some(())
    });
}
