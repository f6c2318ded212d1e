//! The cost of each piece of the data path, on one thread: `cargo bench -p memif`.
//!
//! Between two processes other costs dominate, above all cache lines that move between CPUs:
//! `busctl bench memif` measures that.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use memif::{
    BufferPool, Client, ClientOptions, Event, InterfaceOptions, Link, RxQueue, Server, SocketAddr,
    SocketOptions, TxQueue,
};

fn main() {
    divan::main();
}

const BURST: usize = 32;

/// A server and one client, with their links.
struct Pair {
    _server: Server,
    client: Client,
    here: Link,
    there: Link,
}

fn pair(options: ClientOptions) -> Pair {
    let name = format!("memif-bench-{}-{:?}", std::process::id(), std::thread::current().id());
    let addr = SocketAddr::abstract_name(name).expect("a name");
    let mut server = Server::bind(&addr, SocketOptions::new()).expect("a server");
    server.add(InterfaceOptions::new(0)).expect("an interface");
    let mut client = Client::new(&addr, options).expect("a client");
    let (mut here, mut there) = (None, None);
    loop {
        if let Ok(Some(Event::Connected { link, .. })) = server.ready() {
            here = Some(link);
        }
        if let Ok(Some(Event::Connected { link, .. })) = client.ready() {
            there = Some(link);
        }
        if let (Some(_), Some(_)) = (&here, &there) {
            break;
        }
    }
    let (here, there) = here.zip(there).expect("both");
    Pair { _server: server, client, here, there }
}

fn send(queue: &mut TxQueue, frame: &[u8]) {
    let mut burst = queue.burst().expect("up");
    for _ in 0..BURST {
        burst.push(frame);
    }
    burst.publish();
}

fn receive(queue: &mut RxQueue, copy: &mut [u8]) {
    for packet in &queue.burst(BURST).expect("up") {
        packet.copy_to(copy);
        black_box(&mut *copy);
    }
}

const LENGTHS: [usize; 3] = [64, 1_514, 9_000];

/// A burst from client to server, copied in and out.
#[divan::bench(args = LENGTHS)]
fn client_to_server(bencher: Bencher<'_, '_>, len: usize) {
    let mut pair = pair(ClientOptions::new(0));
    let (frame, mut copy) = (vec![1; len], vec![0; len]);
    bencher.counter(ItemsCount::new(BURST)).counter(BytesCount::new(BURST * len)).bench_local(
        || {
            send(&mut pair.there.tx[0], &frame);
            receive(&mut pair.here.rx[0], &mut copy);
        },
    );
}

/// A burst from server to client: the server must find each packet's buffer first.
#[divan::bench(args = LENGTHS)]
fn server_to_client(bencher: Bencher<'_, '_>, len: usize) {
    let mut pair = pair(ClientOptions::new(0));
    let (frame, mut copy) = (vec![1; len], vec![0; len]);
    bencher.counter(ItemsCount::new(BURST)).counter(BytesCount::new(BURST * len)).bench_local(
        || {
            send(&mut pair.here.tx[0], &frame);
            receive(&mut pair.there.rx[0], &mut copy);
        },
    );
}

/// A burst to the client and back, for which the client exchanges buffers.
#[divan::bench(args = LENGTHS)]
fn echo_by_exchange(bencher: Bencher<'_, '_>, len: usize) {
    let pool = BufferPool::new(2 * 1_024, 2_048).expect("a pool");
    let mut pair = pair(ClientOptions::new(0).buffer_pool(&pool));
    let (frame, mut copy) = (vec![1; len], vec![0; len]);
    bencher.counter(ItemsCount::new(BURST)).counter(BytesCount::new(BURST * len)).bench_local(
        || {
            send(&mut pair.here.tx[0], &frame);
            let received = pair.there.rx[0].burst(BURST).expect("up");
            let mut out = pair.there.tx[0].burst().expect("up");
            out.forward(received);
            out.publish();
            receive(&mut pair.here.rx[0], &mut copy);
        },
    );
}

/// Requesting an interrupt and cancelling it: what a receiver pays to sleep.
#[divan::bench]
fn arm_and_disarm(bencher: Bencher<'_, '_>) {
    let mut pair = pair(ClientOptions::new(0));
    bencher.bench_local(|| {
        black_box(pair.here.rx[0].arm().expect("up"));
        pair.here.rx[0].disarm();
    });
}

/// A snapshot of a link, for display.
#[divan::bench]
fn details(bencher: Bencher<'_, '_>) {
    let pair = pair(ClientOptions::new(0));
    bencher.bench_local(|| black_box(pair.client.details()));
}
