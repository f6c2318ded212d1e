//! What the pieces of the data path cost, on one thread: `cargo bench -p memif`.
//!
//! Between two processes other things count, above all cache lines that go to and fro: `busctl bench memif` measures that.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use memif::{BufferPool, Client, Event, Link, Options, RxQueue, Server, SocketAddr, TxQueue};

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

fn pair(options: Options) -> Pair {
    let name = format!("memif-bench-{}-{:?}", std::process::id(), std::thread::current().id());
    let addr = SocketAddr::abstract_name(name).expect("a name");
    let mut server = Server::bind(&addr).expect("a server");
    server.add(Options::new(0)).expect("an interface");
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
    let mut pair = pair(Options::new(0));
    let (frame, mut copy) = (vec![1; len], vec![0; len]);
    bencher.counter(ItemsCount::new(BURST)).counter(BytesCount::new(BURST * len)).bench_local(|| {
        send(&mut pair.there.tx[0], &frame);
        receive(&mut pair.here.rx[0], &mut copy);
    });
}

/// The other way: every packet's buffer is the server's to find first.
#[divan::bench(args = LENGTHS)]
fn server_to_client(bencher: Bencher<'_, '_>, len: usize) {
    let mut pair = pair(Options::new(0));
    let (frame, mut copy) = (vec![1; len], vec![0; len]);
    bencher.counter(ItemsCount::new(BURST)).counter(BytesCount::new(BURST * len)).bench_local(|| {
        send(&mut pair.here.tx[0], &frame);
        receive(&mut pair.there.rx[0], &mut copy);
    });
}

/// There, handed on by the client, and back: exchanging buffers.
#[divan::bench(args = LENGTHS)]
fn echo_by_exchange(bencher: Bencher<'_, '_>, len: usize) {
    let memory = BufferPool::new(2 * 1_024, 2_048).expect("memory");
    let mut pair = pair(Options::new(0).memory(&memory));
    let (frame, mut copy) = (vec![1; len], vec![0; len]);
    bencher.counter(ItemsCount::new(BURST)).counter(BytesCount::new(BURST * len)).bench_local(|| {
        send(&mut pair.here.tx[0], &frame);
        let received = pair.there.rx[0].burst(BURST).expect("up");
        let mut out = pair.there.tx[0].burst().expect("up");
        out.forward(received);
        out.publish();
        receive(&mut pair.here.rx[0], &mut copy);
    });
}

/// Asking for an interrupt, and not: what a receiver pays to sleep.
#[divan::bench]
fn arm_and_disarm(bencher: Bencher<'_, '_>) {
    let mut pair = pair(Options::new(0));
    bencher.bench_local(|| {
        black_box(pair.here.rx[0].arm().expect("up"));
        pair.here.rx[0].disarm();
    });
}

/// What there is to know about a link, for a display.
#[divan::bench]
fn details(bencher: Bencher<'_, '_>) {
    let pair = pair(Options::new(0));
    bencher.bench_local(|| black_box(pair.client.details()));
}
