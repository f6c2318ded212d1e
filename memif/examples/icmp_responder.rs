//! Answers ARP requests and pings for one address, as the program of this name does in libmemif.
//!
//! It is the server for a VPP or libmemif client, or the client of one:
//!
//! ```text
//! $ cargo run --example icmp_responder -p memif -- server /run/vpp/memif.sock 192.168.1.1
//! $ cargo run --example icmp_responder -p memif -- client /run/vpp/memif.sock 192.168.1.1
//! ```
//!
//! For the second command, in VPP:
//!
//! ```text
//! create interface memif id 0 master
//! set interface state memif0/0 up
//! set interface ip address memif0/0 192.168.1.2/24
//! ping 192.168.1.1
//! ```
//!
//! The interface's id is 0 unless another one follows the address. Without a peer,
//! `cargo run --example icmp_responder -p memif -- demo` plays both sides.

use std::error::Error;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use memif::{
    Client, ClientOptions, Event, InterfaceOptions, Link, LinkError, Server, SocketAddr,
    SocketOptions,
};

const MAC: [u8; 6] = [2, 0xfe, 0x68, 0x72, 0x73, 0x74];

/// Turns a request for `me` into its answer; returns `false` when it is neither ARP nor a ping, or
/// for another address.
fn answer(frame: &mut [u8], me: Ipv4Addr) -> bool {
    if frame.len() < 42 {
        return false;
    }
    // ARP for IPv4 over Ethernet, a request.
    let arp = frame[12..22] == [8, 6, 0, 1, 8, 0, 6, 4, 0, 1] && frame[38..42] == me.octets();
    // IPv4 without options and not a fragment, ICMP, echo request.
    let whole = matches!(frame[20..22], [0 | 0x40, 0]);
    let ping = frame[12..15] == [8, 0, 0x45] && whole && frame[23] == 1 && frame[34] == 8;
    let is_for_me = arp || (ping && frame[30..34] == me.octets());
    if !is_for_me {
        return false;
    }
    if frame[13] == 6 {
        frame[21] = 2;
        frame.copy_within(22..32, 32);
        frame[22..28].copy_from_slice(&MAC);
        frame[28..32].copy_from_slice(&me.octets());
    } else {
        // Source and destination change places, which leaves the header's checksum as it is.
        frame.copy_within(26..30, 30);
        frame[26..30].copy_from_slice(&me.octets());
        // An echo reply has type 0 instead of 8: the checksum grows by what the type shrinks, with
        // end-around carry.
        frame[34] = 0;
        let sum = u32::from(u16::from_be_bytes([frame[36], frame[37]])) + 0x0800;
        let [_, carry, high, low] = sum.to_be_bytes();
        let sum = u16::from_be_bytes([high, low]) + u16::from(carry);
        frame[36..38].copy_from_slice(&sum.to_be_bytes());
    }
    frame.copy_within(6..12, 0);
    frame[6..12].copy_from_slice(&MAC);
    true
}

/// Answers the frames that have come; returns how many there were.
fn respond(link: &mut Link, me: Ipv4Addr) -> Result<usize, LinkError> {
    let mut frame = [0; 9_216];
    let received = link.rx[0].burst(64)?;
    let mut replies = link.tx[0].burst()?;
    for packet in &received {
        if packet.len() > frame.len() {
            continue;
        }
        // Copied before it is read: the peer may still change it.
        let len = packet.copy_to(&mut frame);
        if answer(&mut frame[..len], me) {
            // Without room the answer is dropped: the peer asks again.
            replies.push(&frame[..len]);
        }
    }
    replies.publish();
    Ok(received.len())
}

/// Handles an event of the interface.
fn handle(event: Option<Event>, link: &mut Option<Link>) {
    match event {
        Some(Event::Connected { link: new, .. }) => {
            println!("connected to {}", new.peer.app_name);
            *link = Some(new);
        }
        Some(Event::Disconnected { reason, .. }) => {
            println!("{reason}");
            *link = None;
        }
        Some(Event::Rejected { reason, .. }) => println!("{reason}"),
        _ => {}
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("icmp_responder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<(), Box<dyn Error>> {
    let (args, id) = match args {
        [all @ .., id] if all.len() == 3 => (all, id.parse()?),
        all => (all, 0),
    };
    // Check the queue every millisecond; see `RxQueue::arm` for sleeping until packets come.
    let pause = Some(Duration::from_millis(1));
    let mut link = None;
    match *args {
        ["server", socket, me] => {
            let mut server = Server::bind(&socket.parse()?, SocketOptions::new())?;
            let me = me.parse()?;
            server.add(InterfaceOptions::new(id).name("icmp0"))?;
            println!("listening on {socket} as {me}");
            loop {
                handle(server.wait(pause)?, &mut link);
                // On an error the link is down, and `wait` returns the reason.
                while link
                    .as_mut()
                    .is_some_and(|link| respond(link, me).is_ok_and(|frames| frames > 0))
                {
                }
            }
        }
        ["client", socket, me] => {
            let me = me.parse()?;
            let mut client = Client::new(&socket.parse()?, ClientOptions::new(id).name("icmp0"))?;
            loop {
                handle(client.wait(pause)?, &mut link);
                while link
                    .as_mut()
                    .is_some_and(|link| respond(link, me).is_ok_and(|frames| frames > 0))
                {
                }
            }
        }
        ["demo"] => demo(),
        _ => Err("usage: icmp_responder server|client SOCKET ADDRESS [ID], or icmp_responder demo"
            .into()),
    }
}

/// Sends itself one ping.
fn demo() -> Result<(), Box<dyn Error>> {
    let me = Ipv4Addr::new(192, 168, 1, 1);
    let addr = SocketAddr::abstract_name(format!("memif-icmp-{}", std::process::id()))?;
    let mut server = Server::bind(&addr, SocketOptions::new())?;
    server.add(InterfaceOptions::new(0).name("icmp0"))?;
    let mut client = Client::new(&addr, ClientOptions::new(0))?;
    let (mut here, mut there) = (None, None);
    while here.is_none() || there.is_none() {
        handle(server.ready()?, &mut here);
        handle(client.ready()?, &mut there);
    }
    let (Some(mut here), Some(mut there)) = (here, there) else { return Err("no link".into()) };

    let mut ping = [0; 60];
    ping[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 1]);
    ping[26..30].copy_from_slice(&[192, 168, 1, 2]);
    ping[30..34].copy_from_slice(&me.octets());
    // An echo request of zeros, and its checksum.
    ping[34..38].copy_from_slice(&[8, 0, 0xf7, 0xff]);
    let mut burst = there.tx[0].burst()?;
    burst.push(&ping);
    burst.publish();
    respond(&mut here, me)?;
    let replies = there.rx[0].burst(8)?;
    let mut reply = [0; 60];
    let len = replies.iter().next().ok_or("no answer")?.copy_to(&mut reply);
    assert_eq!((len, reply[34], &reply[36..38]), (60, 0, &[0xff, 0xff][..]));
    println!("{me} answers");
    Ok(())
}
