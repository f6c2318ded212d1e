//! Several queues, each on its own thread. They share nothing, so with enough CPUs two queues carry
//! twice the packets of one.
//!
//! ```text
//! $ cargo run --release --example multi_queue -p memif -- 2
//! queue 0: 5000000 packets
//! queue 1: 5000000 packets
//! 10000000 packets of 64 bytes over 2 queues in 0.21 s
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use memif::{
    Client, ClientOptions, Event, InterfaceOptions, LinkError, RxQueue, Server, SocketAddr,
    SocketOptions, TxQueue,
};

const PACKETS: usize = 5_000_000;

/// Sends on one queue.
fn send(mut queue: TxQueue) -> Result<(), LinkError> {
    let mut sent = 0;
    while sent < PACKETS {
        let mut burst = queue.burst()?;
        while burst.len() < 32 && sent + burst.len() < PACKETS && burst.push(&[0xff; 64]) {}
        match burst.publish() {
            // The protocol has no signal for room in the ring: let other threads use the CPU.
            0 => thread::yield_now(),
            more => sent += more,
        }
    }
    Ok(())
}

/// Receives on one queue; returns its count.
fn receive(mut queue: RxQueue) -> Result<u64, LinkError> {
    while queue.stats().packets < PACKETS as u64 {
        let burst = queue.burst(64)?;
        if burst.is_empty() {
            thread::yield_now();
        }
    }
    Ok(queue.stats().packets)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("multi_queue: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let queues = std::env::args().nth(1);
    let queues: u8 =
        queues.map_or(Ok(2), |count| count.parse()).map_err(|_| "usage: multi_queue [1..255]")?;
    let addr = SocketAddr::abstract_name(format!("memif-queues-{}", std::process::id()))?;
    let mut server = Server::bind(&addr, SocketOptions::new())?;
    server.add(InterfaceOptions::new(0))?;
    // The client decides the number of queues, up to what the server allows.
    let mut client = Client::new(&addr, ClientOptions::new(0).tx_queues(queues))?;
    let (mut here, mut there) = (None, None);
    while here.is_none() || there.is_none() {
        if let Some(Event::Connected { link, .. }) = server.ready()? {
            here = Some(link);
        }
        match client.ready()? {
            Some(Event::Connected { link, .. }) => there = Some(link),
            Some(Event::Rejected { reason, .. }) => return Err(reason.into()),
            _ => {}
        }
    }
    let (Some(here), Some(there)) = (here, there) else { return Err("no link".into()) };

    let start = Instant::now();
    let received = thread::scope(|scope| {
        let receivers: Vec<_> =
            here.rx.into_iter().map(|queue| scope.spawn(|| receive(queue))).collect();
        let senders: Vec<_> =
            there.tx.into_iter().map(|queue| scope.spawn(|| send(queue))).collect();
        for sender in senders {
            sender.join().map_err(|_| "a sender panicked")??;
        }
        let counts = receivers
            .into_iter()
            .map(|thread| Ok(thread.join().map_err(|_| "a receiver panicked")??));
        counts.collect::<Result<Vec<u64>, Box<dyn Error>>>()
    })?;
    let seconds = start.elapsed().as_secs_f64();
    for (queue, packets) in received.iter().enumerate() {
        println!("queue {queue}: {packets} packets");
    }
    println!(
        "{} packets of 64 bytes over {queues} queues in {seconds:.2} s",
        received.iter().sum::<u64>()
    );
    Ok(())
}
