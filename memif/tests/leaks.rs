//! Nothing stays behind: descriptors and mappings are counted before and after. One test, as it
//! counts for the process.

mod common;

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use common::*;
use memif::{Client, ClientOptions, Event, InterfaceOptions, Server, SocketOptions};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Open descriptors and mapped memory files of this process.
fn held() -> (usize, usize) {
    let fds = fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    (fds, maps.lines().filter(|line| line.contains("memfd:")).count())
}

#[test]
fn no_descriptor_and_no_mapping_is_lost_whoever_is_to_blame() {
    let before = held();
    {
        let addr = unique("leaks");
        let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
        server.add(InterfaceOptions::new(0)).unwrap();
        server.add(InterfaceOptions::new(1)).unwrap();
        let mut world = World::new(server);
        let empty = held();

        // A hundred links come and go.
        for _ in 0..100 {
            let mut client = Client::new(&addr, ClientOptions::new(0).rx_queues(2)).unwrap();
            until("a link", || {
                world.pump();
                matches!(client.ready().unwrap(), Some(Event::Connected { .. })).then_some(())
            });
            assert_eq!(world.link().tx.len(), 2);
            drop(client);
            world.event("Disconnected", |event| {
                matches!(event, Event::Disconnected { .. }).then_some(())
            });
        }
        assert_eq!(held(), empty);

        // Clients break off at every step, or send more descriptors than belong there.
        for steps in 0..5 {
            for extra in [false, true] {
                let mock = Mock::connect(&addr);
                let (memory, event_fd) = (memory(), event_fd());
                for (message, fd) in proper(1, &memory, &event_fd).into_iter().take(steps) {
                    mock.send(&message, fd.as_slice());
                }
                if extra {
                    mock.send(&add_region(9, SIZE), &[event_fd.as_fd().as_raw_fd(); 253]);
                }
                world.pump();
                drop(mock);
                world.pump();
            }
        }
        until("all gone", || {
            world.pump();
            world.events.clear();
            (held() == empty).then_some(())
        });

        // They send files, which are closed elsewhere.
        for _ in 0..5 {
            let (mock, file) = (Mock::connect(&addr), fs::File::open("/proc/self/exe").unwrap());
            mock.send(&init(1, 0, b""), &[]);
            mock.send(&add_region(0, SIZE), &[file.as_raw_fd()]);
            let Received::Disconnect(reason) = world.verdict(&mock) else {
                panic!("no reason given")
            };
            assert!(reason.contains("its file is not memory"), "{reason}");
        }
        until("all gone", || {
            world.pump();
            world.events.clear();
            (held() == empty).then_some(())
        });

        // A client is turned away again and again.
        let options = ClientOptions::new(77).reconnect(Some(std::time::Duration::from_millis(1)));
        let mut client = Client::new(&addr, options).unwrap();
        let mut refusals = 0;
        until("refusals", || {
            world.pump();
            refusals +=
                usize::from(matches!(client.ready().unwrap(), Some(Event::Rejected { .. })));
            (refusals == 50).then_some(())
        });
        drop(client);
        until("all gone", || {
            world.pump();
            world.events.clear();
            (held() == empty).then_some(())
        });

        // More descriptors arrive than may be open: those that fit are not lost.
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let mock = Mock::connect(&addr);
        let event_fd = event_fd();
        world.pump();
        let connected = held();
        mock.send(&add_region(0, SIZE), &[event_fd.as_fd().as_raw_fd(); 253]);
        let few = u64::try_from(connected.0 + 20).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, few, hard).unwrap();
        world.pump();
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        drop((mock, event_fd));

        // More connections arrive than may be open: they wait until they may.
        let waiting: Vec<Mock> = (0..3).map(|_| Mock::connect(&addr)).collect();
        let few = u64::try_from(held().0).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, few.min(soft), hard).unwrap();
        world.pump();
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        for mock in &waiting {
            until("HELLO", || {
                world.pump();
                mock.receive()
            });
        }
        drop(waiting);
        until("all gone", || {
            world.pump();
            world.events.clear();
            (held() == empty).then_some(())
        });
    }
    assert_eq!(held(), before);
}
