//! Zero-copy between two links: a client of two servers hands every packet on to the other, by exchanging buffers.
//!
//! ```text
//! $ cargo run --example forwarder -p memif
//! @memif-forwarder-4711-left: connected to memif-rs 0.1.0
//! @memif-forwarder-4711-right: connected to memif-rs 0.1.0
//! 100000 packets went from left to right, 6400000 bytes, none of them copied here
//! ```
//!
//! With two addresses it forwards between two real servers, both ways, until it is stopped, and says when one comes or goes:
//!
//! ```text
//! $ cargo run --example forwarder -p memif -- /run/vpp/left.sock /run/vpp/right.sock
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use memif::{BufferPool, Client, Event, Link, Options, Server, SocketAddr};

/// A client and its link, when it has one.
struct Side {
    addr: SocketAddr,
    client: Client,
    link: Option<Link>,
    /// What was said of it last.
    said: String,
}

impl Side {
    fn new(addr: &SocketAddr, memory: &BufferPool) -> Result<Self, Box<dyn Error>> {
        // The same memory for both sides: that is what makes buffers exchangeable.
        let client = Client::new(addr, Options::new(0).app_name("forwarder").memory(memory))?;
        Ok(Self { addr: addr.clone(), client, link: None, said: String::new() })
    }

    /// Says what is new about it.
    fn say(&mut self, what: String) {
        if self.said != what {
            println!("{}: {what}", self.addr);
            self.said = what;
        }
    }

    fn look_after(&mut self) -> Result<(), Box<dyn Error>> {
        match self.client.ready()? {
            Some(Event::Connected { link, .. }) => {
                self.say(format!("connected to {}", link.peer.app_name));
                self.link = Some(link);
            }
            Some(Event::Disconnected { reason, .. }) => {
                let (rx, tx) = (self.client.details().rx_total, self.client.details().tx_total);
                self.say(format!(
                    "{reason}; {} packets came from there, {} went there",
                    rx.packets, tx.packets
                ));
                self.link = None;
            }
            Some(Event::Refused { reason, .. }) => self.say(reason.to_string()),
            _ => {}
        }
        Ok(())
    }
}

/// Hands on what has come on one link to the other; how many packets that was.
fn forward(from: &mut Side, to: &mut Side) -> usize {
    let (Some(from), Some(to)) = (&mut from.link, &mut to.link) else { return 0 };
    // An error says that the link is down, and `ready` will say why.
    let (Ok(received), Ok(mut out)) = (from.rx[0].burst(64), to.tx[0].burst()) else { return 0 };
    // The packets' buffers go to the other ring, whose empty ones come here. What finds no room stays for the next time.
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
    let memory = BufferPool::new(4 * 1_024, 2_048)?;
    match addresses {
        [] => demonstrate(&memory),
        [left, right] => join(left, right, &memory),
        _ => Err("usage: forwarder [SOCKET SOCKET]".into()),
    }
}

/// Forwards both ways until it is stopped.
fn join(left: &str, right: &str, memory: &BufferPool) -> Result<(), Box<dyn Error>> {
    let mut sides = [Side::new(&left.parse()?, memory)?, Side::new(&right.parse()?, memory)?];
    loop {
        sides.iter_mut().try_for_each(Side::look_after)?;
        let [left, right] = &mut sides;
        if forward(left, right) + forward(right, left) == 0 {
            // A pause costs less than a core; see `RxQueue::arm` for sleeping until something comes.
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// Plays both servers as well.
fn demonstrate(memory: &BufferPool) -> Result<(), Box<dyn Error>> {
    const COUNT: u64 = 100_000;
    let serve = |name: &str| -> Result<(Server, SocketAddr), Box<dyn Error>> {
        let addr = SocketAddr::abstract_name(format!("memif-forwarder-{}-{name}", std::process::id()))?;
        let mut server = Server::bind(&addr)?;
        server.add(Options::new(0))?;
        Ok((server, addr))
    };
    let ((mut left, left_addr), (mut right, right_addr)) = (serve("left")?, serve("right")?);
    let mut sides = [Side::new(&left_addr, memory)?, Side::new(&right_addr, memory)?];
    let (mut source, mut sink) = (None, None);
    let (mut sent, mut received, mut bytes) = (0, 0, 0);
    while received < COUNT {
        sides.iter_mut().try_for_each(Side::look_after)?;
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
