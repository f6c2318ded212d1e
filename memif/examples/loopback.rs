//! Both roles in one process: a server and a client on one socket, which exchange packets.
//!
//! ```text
//! $ cargo run --example loopback -p memif
//! the server sees loopback-client, the client sees loopback-server
//! 1000 packets there and back
//! ```

use std::time::{Duration, Instant};

use memif::{
    Client, ClientOptions, Event, InterfaceOptions, Link, Server, SocketAddr, SocketOptions,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = SocketAddr::abstract_name(format!("memif-loopback-{}", std::process::id()))?;
    let mut server = Server::bind(&addr, SocketOptions::new())?;
    server.add(InterfaceOptions::new(0).app_name("loopback-server"))?;
    let mut client = Client::new(&addr, ClientOptions::new(0).app_name("loopback-client"))?;

    let (mut here, mut there) = connect(&mut server, &mut client)?;
    println!("the server sees {}, the client sees {}", here.peer.app_name, there.peer.app_name);

    let mut returned = 0u32;
    let mut sent = 0u32;
    let end = Instant::now() + Duration::from_secs(10);
    while returned < 1_000 && Instant::now() < end {
        // The client sends as many packets as fit ...
        let mut burst = there.tx[0].burst()?;
        while sent < 1_000 && burst.push(&frame(sent)) {
            sent += 1;
        }
        burst.publish();

        // ... the server sends them back, from the buffers of one queue straight into those of the
        // other ...
        let received = here.rx[0].burst(64)?;
        let mut echo = here.tx[0].burst()?;
        let mut echoed = 0;
        for packet in &received {
            let Some(mut slot) = echo.reserve(packet.len()) else { break };
            packet.segments().for_each(|segment| slot.write_shared(segment));
            echoed += 1;
        }
        echo.publish();
        // (packets that found no room stay for the next burst)
        received.release(echoed);

        // ... and the client checks them.
        let mut copy = [0; 64];
        for packet in &there.rx[0].burst(64)? {
            let len = packet.copy_to(&mut copy);
            assert_eq!(copy[..len], frame(returned));
            returned += 1;
        }
    }
    println!("{returned} packets there and back");
    Ok(())
}

/// Returns a broadcast frame with a number in it.
fn frame(number: u32) -> [u8; 60] {
    let mut frame = [0xff; 60];
    frame[56..].copy_from_slice(&number.to_be_bytes());
    frame
}

/// Runs both sides until each has its link.
fn connect(
    server: &mut Server,
    client: &mut Client,
) -> Result<(Link, Link), Box<dyn std::error::Error>> {
    let (mut here, mut there) = (None, None);
    loop {
        match server.wait(Some(Duration::from_millis(1)))? {
            Some(Event::Connected { link, .. }) => here = Some(link),
            Some(other) => return Err(format!("server: {other:?}").into()),
            None => {}
        }
        match client.wait(Some(Duration::from_millis(1)))? {
            Some(Event::Connected { link, .. }) => there = Some(link),
            Some(other) => return Err(format!("client: {other:?}").into()),
            None => {}
        }
        if let (Some(_), Some(_)) = (&here, &there) {
            break;
        }
    }
    here.zip(there).ok_or_else(|| "no link".into())
}
