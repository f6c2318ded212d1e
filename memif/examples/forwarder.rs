//! Zero-copy between two links: a client of two servers passes the packets of each to the other, by
//! exchanging buffers.
//!
//! ```text
//! $ cargo run --example forwarder -p memif
//! @memif-forwarder-4711-left: connected to memif-rs 0.2.0
//! @memif-forwarder-4711-right: connected to memif-rs 0.2.0
//! 100000 packets went from left to right, 6400000 bytes, none of them copied here
//! ```
//!
//! With two addresses it forwards between two real servers, both ways, until it is stopped, and
//! reports when one connects or disconnects:
//!
//! ```text
//! $ cargo run --example forwarder -p memif -- /run/vpp/left.sock /run/vpp/right.sock
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use memif::{
    BufferPool, Client, ClientOptions, Event, InterfaceOptions, Link, Server, SocketAddr,
    SocketOptions,
};

/// A client and its link, when it has one.
struct Side {
    addr: SocketAddr,
    client: Client,
    link: Option<Link>,
    /// The last state printed.
    printed: String,
}

impl Side {
    fn new(addr: &SocketAddr, pool: &BufferPool) -> Result<Self, Box<dyn Error>> {
        // Both sides have the same pool, so they can exchange buffers.
        let client =
            Client::new(addr, ClientOptions::new(0).app_name("forwarder").buffer_pool(pool))?;
        Ok(Self { addr: addr.clone(), client, link: None, printed: String::new() })
    }

    /// Prints the side's state if it has changed.
    fn report(&mut self, what: String) {
        if self.printed != what {
            println!("{}: {what}", self.addr);
            self.printed = what;
        }
    }

    fn service(&mut self) -> Result<(), Box<dyn Error>> {
        match self.client.ready()? {
            Some(Event::Connected { link, .. }) => {
                self.report(format!("connected to {}", link.peer.app_name));
                self.link = Some(link);
            }
            Some(Event::Disconnected { reason, .. }) => {
                let (rx, tx) = (self.client.details().rx_total, self.client.details().tx_total);
                self.report(format!(
                    "{reason}; {} packets came from there, {} went there",
                    rx.packets, tx.packets
                ));
                self.link = None;
            }
            Some(Event::Rejected { reason, .. }) => self.report(reason.to_string()),
            _ => {}
        }
        Ok(())
    }
}

/// Passes the packets of one link to the other; returns how many.
fn forward(from: &mut Side, to: &mut Side) -> usize {
    let (Some(from), Some(to)) = (&mut from.link, &mut to.link) else { return 0 };
    // On an error the link is down, and `ready` returns the reason.
    let (Ok(received), Ok(mut out)) = (from.rx[0].burst(64), to.tx[0].burst()) else { return 0 };
    // The packets' buffers go to the other ring, in exchange for empty ones. Packets without room
    // stay for the next call.
    out.forward(received);
    out.publish()
}

fn main() -> ExitCode {
    let addresses: Vec<String> = std::env::args().skip(1).collect();
    match run(&addresses) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forwarder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(addresses: &[String]) -> Result<(), Box<dyn Error>> {
    // Two links with a ring of 1,024 each way.
    let pool = BufferPool::new(4 * 1_024, 2_048)?;
    match addresses {
        [] => demonstrate(&pool),
        [left, right] => join(left, right, &pool),
        _ => Err("usage: forwarder [SOCKET SOCKET]".into()),
    }
}

/// Forwards both ways until it is stopped.
fn join(left: &str, right: &str, pool: &BufferPool) -> Result<(), Box<dyn Error>> {
    let mut sides = [Side::new(&left.parse()?, pool)?, Side::new(&right.parse()?, pool)?];
    loop {
        sides.iter_mut().try_for_each(Side::service)?;
        let [left, right] = &mut sides;
        if forward(left, right) + forward(right, left) == 0 {
            // A pause saves the CPU; see `RxQueue::arm` for sleeping until packets come.
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// Plays both servers as well.
fn demonstrate(pool: &BufferPool) -> Result<(), Box<dyn Error>> {
    const COUNT: u64 = 100_000;
    let serve = |name: &str| -> Result<(Server, SocketAddr), Box<dyn Error>> {
        let addr =
            SocketAddr::abstract_name(format!("memif-forwarder-{}-{name}", std::process::id()))?;
        let mut server = Server::bind(&addr, SocketOptions::new())?;
        server.add(InterfaceOptions::new(0))?;
        Ok((server, addr))
    };
    let ((mut left, left_addr), (mut right, right_addr)) = (serve("left")?, serve("right")?);
    let mut sides = [Side::new(&left_addr, pool)?, Side::new(&right_addr, pool)?];
    let (mut source, mut sink) = (None, None);
    let (mut sent, mut received, mut bytes) = (0, 0, 0);
    while received < COUNT {
        sides.iter_mut().try_for_each(Side::service)?;
        if let Some(Event::Connected { link, .. }) = left.ready()? {
            source = Some(link);
        }
        if let Some(Event::Connected { link, .. }) = right.ready()? {
            sink = Some(link);
        }
        let (Some(source), Some(sink)) = (&mut source, &mut sink) else { continue };
        let mut burst = source.tx[0].burst()?;
        while sent < COUNT && burst.push(&[0xff; 64]) {
            sent += 1;
        }
        burst.publish();
        let [left, right] = &mut sides;
        forward(left, right);
        let burst = sink.rx[0].burst(256)?;
        received += burst.len() as u64;
        bytes += burst.iter().map(|packet| packet.len()).sum::<usize>();
    }
    println!("{received} packets went from left to right, {bytes} bytes, none of them copied here");
    Ok(())
}
