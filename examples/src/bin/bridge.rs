//! A memif peer on a bus: what `busctl attach` does, without its error handling. Each frame is
//! copied once.
//!
//! ```text
//! cargo run -p examples --bin bridge -- /tmp/lan /tmp/memif.sock
//! ```

use std::sync::atomic::AtomicU8;

use anyhow::Context as _;
use memif::{Event, InterfaceOptions, Link, Packet, Server, SocketOptions, TxBurst};
use shmbus::{Bus, FrameSink, FrameSlot, FrameSource, RingFrame, Station, StationOptions};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (bus, socket) =
        arguments.next().zip(arguments.next()).context("usage: bridge BUSPATH SOCKET")?;
    let mut station =
        Station::join(Bus::open_or_create(bus, 0o600)?, StationOptions::new().promiscuous(true))?;
    let mut server = Server::bind(&socket.parse()?, SocketOptions::new())?;
    server.add(InterfaceOptions::new(0))?;
    loop {
        if let Some(Event::Connected { mut link, .. }) = server.wait(None)? {
            println!("connected to {}", link.peer.app_name);
            station.discard_pending();
            while server.ready()?.is_none() {
                if let Err(error) = forward(&mut link, &mut station) {
                    println!("{error}");
                }
            }
            println!("disconnected");
        }
    }
}

/// Moves a burst each way.
fn forward(link: &mut Link, station: &mut Station) -> anyhow::Result<()> {
    let packets = link.rx[0].burst(256)?;
    station.send_burst(
        packets.iter().filter(|packet| (14..=1514).contains(&packet.len())).map(Incoming),
    )?;
    drop(packets);

    let mut sink = Outgoing(link.tx[0].burst()?);
    station.recv_into(&mut sink, 256);
    sink.0.publish();
    Ok(())
}

/// Copies from the peer's memory onto the ring.
struct Incoming<'a>(Packet<'a>);

impl FrameSource for Incoming<'_> {
    fn frame_len(&self) -> usize {
        self.0.len()
    }

    fn write_to(&self, slot: &mut FrameSlot<'_>) {
        for segment in self.0.segments() {
            slot.write_shared(segment);
        }
    }
}

/// Copies from the ring into the peer's memory.
struct Outgoing<'a>(TxBurst<'a>);

impl FrameSink for Outgoing<'_> {
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        let Some(mut slot) = self.0.reserve(frame.len()) else { return false };
        slot.fill(frame.len(), |done, room: &[AtomicU8]| frame.copy_to_shared(done, room));
        true
    }

    fn commit(&mut self) {}

    /// Drops the frames: another station overwrote them while they were copied.
    fn discard(&mut self) {
        self.0.truncate(0);
    }
}
