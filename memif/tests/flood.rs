//! Thousands of connections a second, which stay open and say nothing. A program of its own, as it
//! keeps the processors busy.

mod common;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use memif::{Client, ClientOptions, Event, InterfaceOptions, Server, SocketAddr, SocketOptions};

/// Connects over and over, until it is over.
fn flood(addr: &SocketAddr, over: &AtomicBool) {
    let mut kept = VecDeque::new();
    while !over.load(Ordering::Relaxed) {
        if kept.len() < 300 {
            kept.extend(Mock::try_connect(addr));
        } else if kept
            .front()
            .and_then(Mock::receive)
            .is_some_and(|received| received != Received::Hello)
        {
            kept.pop_front();
        } else {
            thread::yield_now();
        }
    }
}

/// Says that it is over, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_flood_of_connections_excludes_no_client_and_disturbs_no_link() {
    let addr = unique("flood");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(0)).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let (_bystander, memory, mut link) = world.connect_mock(&addr, 0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&over);
        scope.spawn(|| flood(&addr, &over));
        let crowded = |world: &World| {
            let failures = world.server.failures();
            failures.iter().find(|(name, _)| *name == "crowded").map_or(0, |(_, count)| *count)
        };
        for head in 1..=8 {
            let before = crowded(&world);
            until("a hundred more of them", || {
                world.pump();
                (crowded(&world) > before + 100).then_some(())
            });
            // One attempt only.
            let mut client = Client::new(&addr, ClientOptions::new(1).reconnect(None)).unwrap();
            until("a link", || {
                world.pump();
                match client.ready().unwrap() {
                    Some(Event::Connected { .. }) => Some(()),
                    Some(other) => panic!("{other:?}"),
                    None => None,
                }
            });
            set_descriptor(&memory, S2M, u32::from(head - 1) & 7, descriptor(0, 0, 5, S2M_BUFFERS));
            set_head(&memory, S2M, head);
            assert_eq!(link.rx[0].burst(9).unwrap().len(), 1);
            drop(client);
        }
    });
}

/// Connections that close at once cause no events, but keep a server busy.
#[test]
fn waiting_ends_in_time_whoever_comes_and_goes() {
    let addr = unique("come-and-go");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(0)).unwrap();
    let over = AtomicBool::new(false);
    let come_and_go = || {
        while !over.load(Ordering::Relaxed) {
            drop(Mock::try_connect(&addr));
        }
    };
    thread::scope(|scope| {
        let _stop = Stop(&over);
        (0..4).for_each(|_| drop(scope.spawn(come_and_go)));
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            let start = Instant::now();
            let event = server.wait(Some(Duration::from_millis(1))).unwrap();
            assert!(event.is_none(), "{event:?}");
            longest = longest.max(start.elapsed());
        }
        assert!(longest < Duration::from_secs(1), "{longest:?}");
    });
}
