//! Safe code reaches a packet's bytes as atomics, and stores to them in one thread while another
//! one copies the packet. The thread sanitizer reports a data race here if a copy is anything else
//! than atomic; `.ci/run` runs this program under it.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;

use memif::{
    BufferPool, Client, ClientOptions, Event, InterfaceOptions, Link, Server, SocketAddr,
    SocketOptions,
};

/// Lengths that take different ways through the copy.
const LENGTHS: [usize; 10] = [1, 3, 7, 14, 20, 33, 64, 100, 300, 1_514];

/// Both ends of one link, in this process.
struct Pair {
    _server: Server,
    _client: Client,
    here: Link,
    there: Link,
}

fn pair(test: &str) -> Pair {
    let name = format!("memif-races-{}-{test}", std::process::id());
    let addr = SocketAddr::abstract_name(name).expect("a name");
    let mut server = Server::bind(&addr, SocketOptions::new()).expect("a server");
    server.add(InterfaceOptions::new(0)).expect("an interface");
    let mut client = Client::new(&addr, ClientOptions::new(0)).expect("a client");
    let (mut here, mut there) = (None, None);
    loop {
        if let Ok(Some(Event::Connected { link, .. })) = server.ready() {
            here = Some(link);
        }
        if let Ok(Some(Event::Connected { link, .. })) = client.ready() {
            there = Some(link);
        }
        if here.is_some() && there.is_some() {
            break;
        }
    }
    let (here, there) = here.zip(there).expect("both");
    Pair { _server: server, _client: client, here, there }
}

/// Runs `copy` while another thread writes every byte of `memory`, over and over, and reads them.
fn raced(memory: &[AtomicU8], mut copy: impl FnMut()) {
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for byte in memory {
                    byte.store(byte.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
                }
                begun.store(true, Ordering::Relaxed);
            }
        });
        while !begun.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        (0..200).for_each(|_| copy());
        done.store(true, Ordering::Relaxed);
        // The end of a scope waits in a way that the thread sanitizer does not know.
        writer.join().expect("it does not panic");
    });
}

fn atomics(len: usize) -> Vec<AtomicU8> {
    (0..len).map(|_| AtomicU8::new(0)).collect()
}

#[test]
fn a_packet_is_copied_while_another_thread_writes_its_segments() {
    let mut pair = pair("packet");
    for len in LENGTHS {
        let mut burst = pair.there.tx[0].burst().expect("up");
        assert!(burst.push(&vec![1; len]));
        assert_eq!(burst.publish(), 1);
        let received = pair.here.rx[0].burst(1).expect("up");
        let packet = received.iter().next().expect("it arrived");
        let mut copy = vec![0; len];
        for segment in packet.segments() {
            raced(segment, || assert_eq!(packet.copy_to(&mut copy), len));
        }
    }
}

#[test]
fn a_packet_is_written_from_memory_that_another_thread_writes() {
    let mut pair = pair("slot");
    for len in LENGTHS {
        let memory = atomics(len);
        raced(&memory, || {
            let mut burst = pair.there.tx[0].burst().expect("up");
            burst.reserve(len).expect("room").write_shared(&memory);
            assert_eq!(burst.publish(), 1);
            assert_eq!(pair.here.rx[0].burst(1).expect("up").len(), 1);
        });
    }
}

#[test]
fn a_buffer_is_filled_and_copied_while_another_thread_writes_both() {
    let memory = BufferPool::new(1, 2_048).expect("memory");
    let mut buffer = memory.buffer().expect("a buffer");
    for len in LENGTHS {
        let bytes = atomics(len);
        buffer.clear(0);
        raced(&bytes, || {
            buffer.clear(0);
            assert!(buffer.append_shared(&bytes));
        });
        let mut copy = vec![0; len];
        raced(buffer.bytes(), || assert_eq!(buffer.copy_to(&mut copy), len));
    }
}
