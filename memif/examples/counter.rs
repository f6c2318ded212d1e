//! A client for a VPP or DPDK server: connects, counts packets, and connects again when the server
//! restarts. This is the README's first program.
//!
//! ```text
//! $ cargo run --example counter -p memif -- /run/vpp/memif.sock
//! ```

use std::time::{Duration, Instant};

use memif::{Client, ClientOptions, Event, Link};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = std::env::args().nth(1).unwrap_or("/run/vpp/memif.sock".into());
    let mut client = Client::new(&socket.parse()?, ClientOptions::new(0).name("counter"))?;
    let mut link: Option<Link> = None;
    let (mut packets, mut bytes) = (0, 0);
    let (mut printed, mut since) = (0, Instant::now());
    loop {
        // Work on the connection, for at most a millisecond while there is a link to poll.
        match client.wait(link.is_some().then_some(Duration::from_millis(1)))? {
            Some(Event::Connected { link: new, .. }) => {
                println!("connected to {}", new.peer.app_name);
                link = Some(new);
            }
            Some(Event::Disconnected { reason, .. }) => {
                println!("{packets} packets, {bytes} bytes; {reason}");
                link = None;
            }
            Some(Event::Rejected { reason, .. }) => println!("{reason}"),
            _ => {}
        }
        let Some(queue) = link.as_mut().and_then(|link| link.rx.first_mut()) else { continue };
        // On an error the link is down, and `wait` returns the reason.
        while let Ok(burst) = queue.burst(256) {
            if burst.is_empty() {
                break;
            }
            packets += burst.len();
            bytes += burst.iter().map(|packet| packet.len()).sum::<usize>();
        }
        if packets != printed && since.elapsed() >= Duration::from_secs(1) {
            println!("{packets} packets, {bytes} bytes so far");
            (printed, since) = (packets, Instant::now());
        }
    }
}
