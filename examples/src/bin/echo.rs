//! A memif server that sends every frame back to where it came from: a first peer for a VPP or a testpmd.
//!
//! ```text
//! cargo run -p examples --bin echo -- /tmp/memif.sock
//! ```

use std::time::Duration;

use anyhow::Context as _;
use memif::{Event, InterfaceOptions, Link, LinkError, Server, SocketOptions};

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("usage: echo SOCKET")?;
    let mut server = Server::bind(&path.parse()?, SocketOptions::new())?;
    server.add(InterfaceOptions::new(0).name("echo"))?;
    let mut link = None;
    loop {
        // A program that has more to do polls the server's descriptor with its others instead.
        match server.wait(Some(Duration::from_millis(if link.is_some() { 1 } else { 1_000 })))? {
            Some(Event::Connected { link: new, .. }) => {
                println!("connected to {} ({})", new.peer.name, new.peer.app_name);
                link = Some(new);
            }
            Some(Event::Disconnected { reason, .. }) => {
                println!("{reason}");
                link = None;
            }
            Some(Event::Rejected { reason, .. }) => println!("turned somebody away: {reason}"),
            _ => {}
        }
        if let Some(link) = &mut link {
            // A lie of the peer ends the link; the server's next event says so.
            let _ = echo(link);
        }
    }
}

/// Sends back what has come, until nothing more does.
fn echo(link: &mut Link) -> Result<(), LinkError> {
    let mut frame = [0; 2_048];
    let (rx, tx) = (&mut link.rx[0], &mut link.tx[0]);
    loop {
        let packets = rx.burst(64)?;
        if packets.is_empty() {
            return Ok(());
        }
        let mut back = tx.burst()?;
        for packet in &packets {
            // Copied before it is looked at: until then the peer can change it.
            let len = packet.copy_to(&mut frame);
            if len >= 12 {
                let (destination, source) = frame[..12].split_at_mut(6);
                destination.swap_with_slice(source);
                back.push(&frame[..len]);
            }
        }
        back.publish();
    }
}
