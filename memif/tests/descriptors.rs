//! How many descriptors a link takes. A program of its own, as its limit is the process's.

mod common;

use common::*;
use memif::{Client, ClientOptions, Event};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[test]
fn a_client_needs_one_descriptor_for_each_ring() {
    let addr = unique("descriptors");
    let listener = mock_listener(&addr);
    let options =
        ClientOptions::new(0).rx_queues(255).tx_queues(255).log2_ring_size(1).buffer_size(64);
    let mut client = Client::new(&addr, options.reconnect(None)).unwrap();
    let mock = accept(&listener, &mut client);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // And one for its memory, and what comes along for a moment.
    setrlimit(Resource::RLIMIT_NOFILE, open as u64 + 510 + 10, hard).unwrap();
    mock.send(&hello(0x0200, 0x0200, 255, 14), &[]);
    expect(&mock, &mut client, 3);
    mock.send(&ack(), &[]);
    expect(&mock, &mut client, 4);
    for _ring in 0..510 {
        mock.send(&ack(), &[]);
        assert_eq!(expect(&mock, &mut client, 5).len(), 1);
    }
    mock.send(&ack(), &[]);
    expect(&mock, &mut client, 6);
    mock.send(&connected(), &[]);
    let link = until("Connected", || match client.ready().unwrap() {
        Some(Event::Connected { link, .. }) => Some(link),
        Some(other) => panic!("{other:?}"),
        None => None,
    });
    assert_eq!((link.rx.len(), link.tx.len()), (255, 255));
}
