//! A memif server that sends every frame back to its sender: a first peer for VPP or testpmd.
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
        // A program with other work polls the descriptor of the server together with its others
        // instead.
        match server.wait(Some(Duration::from_millis(if link.is_some() { 1 } else { 1_000 })))? {
            Some(Event::Connected { link: new, .. }) => {
                println!("connected to {} ({})", new.peer.name, new.peer.app_name);
                link = Some(new);
            }
            Some(Event::Disconnected { reason, .. }) => {
                println!("{reason}");
                link = None;
            }
            Some(Event::Rejected { reason, .. }) => println!("turned a peer away: {reason}"),
            _ => {}
        }
        if let Some(link) = &mut link {
            // A protocol error of the peer ends the link; the next event of the server reports it.
            let _ = echo(link);
        }
    }
}

/// Sends frames back until no more are received.
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
            // Copied before it is read: until then the peer can change it.
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
