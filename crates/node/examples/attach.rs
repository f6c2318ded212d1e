//! Puts two memif servers and a TAP on a bus, and prints what becomes of them.
//!
//! ```text
//! cargo run -p shmlan-node --example attach -- /dev/shm/lan /tmp/memif.sock
//! ```

use std::error::Error;
use std::path::Path;

use node::{Event, Node, NodeOptions};
use port::{PortOptions, PortSpec};
use shmbus::Bus;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(bus), Some(socket)) = (args.next(), args.next()) else {
        return Err("usage: attach BUS SOCKET".into());
    };
    let bus = Path::new(&bus);
    let specs: Vec<PortSpec> = vec![
        format!("memif:id=0,socket={socket}").parse()?,
        format!("memif:id=1,socket={socket},learn=on").parse()?,
        "tap:name=tap0".parse()?,
    ];
    let mut node = Node::start(NodeOptions::new())?;
    for port in port::open(&specs, bus, &PortOptions::new())? {
        let name = port.name().to_owned();
        let id = node.attach(port, Bus::open_or_create(bus, 0o600)?)?;
        println!("port {id} is {name}");
    }
    loop {
        match node.wait_event()? {
            Event::Up(port) => println!("port {port} has a peer"),
            Event::Down(port) => println!("port {port} has none: {:?}", node.counters(port)),
            Event::Closed { port, reason } => println!("port {port} is closed: {reason}"),
            _ => {}
        }
    }
}
