//! Servers that break the protocol, reject the client, or do not exist: the client reports each and
//! stays sound.

mod common;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use common::*;
use memif::{
    Client, ClientOptions, ConnectError, DisconnectReason, Event, Link, LinkError, Rejection,
    SocketAddr,
};

/// Messages, and whether a descriptor goes with each.
type Script = Vec<(Vec<u8>, bool)>;

/// A client that tries again soon, so that one test can have many attempts.
fn client(addr: &SocketAddr) -> Client {
    let options = ClientOptions::new(0).log2_ring_size(LOG2).buffer_size(128);
    Client::new(addr, options.reconnect(Some(Duration::from_millis(5)))).unwrap()
}

/// Serves the handshake up to CONNECTED; the client's memory and link.
fn serve(mock: &Mock, client: &mut Client) -> (File, Link) {
    mock.send(&hello(0x0200, 0x0200, 255, 14), &[]);
    expect(mock, client, 3);
    mock.send(&ack(), &[]);
    let memory = File::from(expect(mock, client, 4).pop().unwrap());
    for _ring in 0..2 {
        mock.send(&ack(), &[]);
        assert_eq!(expect(mock, client, 5).len(), 1);
    }
    mock.send(&ack(), &[]);
    expect(mock, client, 6);
    mock.send(&connected(), &[]);
    let link = until("Connected", || match client.ready().unwrap() {
        Some(Event::Connected { link, .. }) => Some(link),
        Some(other) => panic!("{other:?}"),
        None => None,
    });
    (memory, link)
}

fn rejection(client: &mut Client) -> Rejection {
    until("Refused", || match client.ready().unwrap() {
        Some(Event::Rejected { id: Some(0), reason }) => Some(reason),
        Some(other) => panic!("{other:?}"),
        None => None,
    })
}

#[test]
fn violations_in_the_handshake_are_rejected_with_a_reason() {
    let addr = unique("server-violations");
    let listener = mock_listener(&addr);
    let event_fd = event_fd();
    let event_fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&event_fd));
    let good = || hello(0x0200, 0x0200, 255, 14);
    let cases: Vec<(Script, &str)> = vec![
        (vec![(ack(), false)], "ACK out of turn, expected HELLO"),
        (vec![(hello(0x0300, 0x0400, 255, 14), false)], "version 0x0300 to 0x0400"),
        (vec![(good()[..100].to_vec(), false)], "message of 100 bytes"),
        (vec![(message(77, &[]), false)], "unknown message type 77"),
        (vec![(good(), true)], "HELLO with 1 file descriptors"),
        (vec![(good(), false), (good(), false)], "HELLO out of turn"),
        (vec![(good(), false), (connected(), false)], "CONNECTED out of turn, expected ACK"),
        (vec![(good(), false), (init(0, 0, b""), false)], "INIT out of turn"),
    ];
    let mut client = client(&addr);
    for (script, text) in cases {
        let mock = accept(&listener, &mut client);
        for (message, with_fd) in script {
            mock.send(&message, if with_fd { std::slice::from_ref(&event_fd) } else { &[] });
        }
        let refusal = rejection(&mut client).to_string();
        assert!(refusal.contains(text), "{refusal:?} should say {text:?}");
        let reason = until("the reason", || {
            mock.receive().filter(|received| matches!(received, Received::Disconnect(_)))
        });
        assert_eq!(reason, Received::Disconnect(refusal));
    }
}

#[test]
fn a_rejection_has_the_servers_reason() {
    let addr = unique("says-no");
    let listener = mock_listener(&addr);
    let mut client = client(&addr);
    let mock = accept(&listener, &mut client);
    mock.send(&hello(0x0200, 0x0200, 0, 10), &[]);
    expect(&mock, &mut client, 3);
    mock.send(&message(8, &[&0u32.to_ne_bytes(), b"not today"]), &[]);
    assert!(matches!(rejection(&mut client), Rejection::Peer { reason } if reason == "not today"));

    // libmemif's way: an ACK, and no more.
    let mock = accept(&listener, &mut client);
    mock.send(&hello(0x0200, 0x0200, 0, 10), &[]);
    expect(&mock, &mut client, 3);
    mock.send(&ack(), &[]);
    drop(mock);
    let rejection = rejection(&mut client);
    assert!(matches!(rejection, Rejection::Unanswered { message: "ADD_REGION" }), "{rejection}");
    assert!(rejection.to_string().contains("interface with this id"), "{rejection}");
}

#[test]
fn wishes_are_cut_to_the_servers_bounds() {
    let addr = unique("bounds");
    let listener = mock_listener(&addr);
    let options = ClientOptions::new(0).rx_queues(9).tx_queues(9).log2_ring_size(12);
    let mut client = Client::new(&addr, options).unwrap();
    let mock = accept(&listener, &mut client);
    mock.send(&hello(0x0100, 0x0300, 1, 5), &[]);
    expect(&mock, &mut client, 3);
    mock.send(&ack(), &[]);
    expect(&mock, &mut client, 4);
    for _ring in 0..4 {
        mock.send(&ack(), &[]);
        expect(&mock, &mut client, 5);
    }
    mock.send(&ack(), &[]);
    expect(&mock, &mut client, 6);
    mock.send(&connected(), &[]);
    let link = until("Connected", || match client.ready().unwrap() {
        Some(Event::Connected { link, .. }) => Some(link),
        _ => None,
    });
    assert_eq!((link.rx.len(), link.tx.len(), link.rx[0].ring_size()), (2, 2, 32));
    assert!(link.sealed, "what this side makes cannot shrink");
    assert_eq!(link.peer.app_name, "m".repeat(32), "an unclosed name ends with its field");
}

#[test]
fn violations_on_a_live_link_end_it_and_the_client_reconnects() {
    type Violation = fn(&File);
    // With rings of 8, S2M is at 0 and M2S at 256, as in the mock's own memory.
    let violations: [(bool, Violation, &str); 6] = [
        (true, |m| set_tail(m, M2S, 9), "M2S ring 0: index jumped to 9"),
        (true, |m| set_tail(m, M2S, 0xFFFF), "M2S ring 0: index jumped to 65535"),
        (true, |m| packet(m, 0, 129), "slot 0: 129 bytes in a buffer of 128"),
        (true, |m| packet(m, 0, 0), "slot 0: length 0"),
        (true, |m| packet(m, 1, 128), "slot 0: the packet continues, but no descriptor follows"),
        (false, |m| set_tail(m, S2M, 1), "S2M ring 0: index jumped to 1"),
    ];
    let addr = unique("server-live-violations");
    let listener = mock_listener(&addr);
    let mut client = client(&addr);
    for (receiving, violate, text) in violations {
        let mock = accept(&listener, &mut client);
        let (memory, mut link) = serve(&mock, &mut client);
        assert!(link.rx[0].burst(8).unwrap().is_empty());
        violate(&memory);
        let error = if receiving {
            link.rx[0].burst(8).expect_err(text)
        } else {
            link.tx[0].free_slots().expect_err(text)
        };
        assert!(
            matches!(&error, LinkError::Peer(fault) if fault.to_string().contains(text)),
            "{error} / {text}"
        );
        let reason = until("the reason", || {
            if let Some(event) = client.ready().unwrap() {
                assert!(
                    matches!(
                        event,
                        Event::Disconnected { reason: DisconnectReason::ProtocolError(_), .. }
                    ),
                    "{event:?}"
                );
            }
            mock.receive()
        });
        assert!(
            matches!(&reason, Received::Disconnect(reason) if reason.contains(text)),
            "{reason:?} / {text}"
        );
    }
}

/// One packet in the first buffer.
fn packet(memory: &File, flags: u16, length: u32) {
    set_descriptor(memory, M2S, 0, descriptor(flags, 0, length, 0));
    set_tail(memory, M2S, 1);
}

#[test]
fn a_client_ignores_where_the_server_says_its_packet_is() {
    let addr = unique("moved");
    let listener = mock_listener(&addr);
    let mut client = client(&addr);
    let mock = accept(&listener, &mut client);
    let (memory, mut link) = serve(&mock, &mut client);
    let mut offered = [0; 16];
    memory.read_exact_at(&mut offered, u64::from(M2S + 128)).unwrap();
    let offset = u32::from_ne_bytes(offered[8..12].try_into().unwrap());
    memory.write_all_at(b"in place", offset.into()).unwrap();
    set_descriptor(&memory, M2S, 0, descriptor(0, 99, 8, 0xFFFF_FFFF));
    set_tail(&memory, M2S, 1);
    let mut copy = [0; 8];
    for packet in &link.rx[0].burst(8).unwrap() {
        packet.copy_to(&mut copy);
    }
    assert_eq!(&copy, b"in place");
    let mut again = [0; 16];
    memory.read_exact_at(&mut again, u64::from(M2S + 128)).unwrap();
    assert_eq!(again, offered, "the whole descriptor is offered anew");
}

#[test]
fn a_server_that_keeps_the_memory_it_was_given_keeps_nothing_of_it() {
    let addr = unique("hoard");
    let listener = mock_listener(&addr);
    let mut client = client(&addr);
    let mut hoard = Vec::new();
    let mut queues = None;
    for round in 0..10 {
        let mock = accept(&listener, &mut client);
        let (memory, link) = serve(&mock, &mut client);
        if round == 4 {
            // These may be looked at for longer than their link is up.
            queues = Some(link);
        }
        hoard.push(memory);
        drop(mock);
        until("Disconnected", || {
            matches!(client.ready().unwrap(), Some(Event::Disconnected { .. })).then_some(())
        });
    }
    // And one that never comes up.
    let mock = accept(&listener, &mut client);
    mock.send(&hello(0x0200, 0x0200, 255, 14), &[]);
    expect(&mock, &mut client, 3);
    mock.send(&ack(), &[]);
    hoard.push(File::from(expect(&mock, &mut client, 4).pop().unwrap()));
    drop(mock);
    let last = accept(&listener, &mut client);
    let kept: Vec<bool> =
        hoard.iter().map(|memory| memory.metadata().unwrap().blocks() != 0).collect();
    assert_eq!(kept, (0..11).map(|round| round == 4).collect::<Vec<_>>());
    drop(queues);
    drop(last);
    accept(&listener, &mut client);
    assert_eq!(hoard[4].metadata().unwrap().blocks(), 0);
}

#[test]
fn a_server_that_says_nothing_is_given_up_and_tried_again() {
    let addr = unique("mute");
    let listener = mock_listener(&addr);
    let soon = Duration::from_millis(20);
    let options = ClientOptions::new(0).connect_timeout(soon).reconnect(Some(soon));
    let mut client = Client::new(&addr, options).unwrap();
    for _ in 0..3 {
        let mock = accept(&listener, &mut client);
        until("the end of its patience", || {
            let _ = client.ready().unwrap();
            mock.receive().filter(|received| {
                *received == Received::Disconnect("the handshake took too long".into())
            })
        });
    }
}

#[test]
fn the_reason_for_no_connection_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| SocketAddr::path(folder.path().join(name)).unwrap();
    let attempt = |addr: &SocketAddr| {
        let mut client = Client::new(addr, ClientOptions::new(0).reconnect(None)).unwrap();
        match rejection(&mut client) {
            Rejection::Connect(error) => (error, client),
            other => panic!("{other}"),
        }
    };
    let (error, mut client) = attempt(&path("no/such.sock"));
    assert!(
        matches!(&error, ConnectError::NoDirectory { directory, .. } if directory.ends_with("no")),
        "{error}"
    );
    assert!(
        client.wait(Some(Duration::from_millis(20))).unwrap().is_none(),
        "one attempt was asked for"
    );
    client.connect();
    assert!(matches!(rejection(&mut client), Rejection::Connect(ConnectError::NoDirectory { .. })));

    assert!(matches!(attempt(&path("none.sock")).0, ConnectError::NoSocket { .. }));
    assert!(matches!(attempt(&unique("none")).0, ConnectError::NoSocket { .. }));
    drop(mock_listener(&path("dead.sock")));
    assert!(matches!(attempt(&path("dead.sock")).0, ConnectError::NotListening { .. }));
    std::fs::write(folder.path().join("file"), "text").unwrap();
    assert!(matches!(attempt(&path("file")).0, ConnectError::NotMemif { .. }));
    let _stream = std::os::unix::net::UnixListener::bind(folder.path().join("stream")).unwrap();
    assert!(matches!(attempt(&path("stream")).0, ConnectError::NotMemif { .. }));
}
