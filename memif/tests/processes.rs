//! Two processes: either may be killed at any moment, and the other continues and connects again.

mod common;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::*;
use memif::{
    Client, ClientOptions, DisconnectReason, Event, InterfaceOptions, Link, Server, SocketAddr,
    SocketOptions,
};

const ROLE: &str = "MEMIF_TEST_ROLE";
const ADDRESS: &str = "MEMIF_TEST_ADDRESS";

/// Not a test: what the other process runs. It sends back every packet until it is killed.
#[test]
fn the_other_process() {
    let (Ok(role), Ok(address)) = (std::env::var(ROLE), std::env::var(ADDRESS)) else { return };
    let addr: SocketAddr = address.parse().unwrap();
    let (mut server, mut client) = (None, None);
    if role == "server" {
        let mut bound = Server::bind(&addr, SocketOptions::new()).unwrap();
        bound.add(InterfaceOptions::new(0)).unwrap();
        server = Some(bound);
    } else {
        client = Some(
            Client::new(&addr, ClientOptions::new(0).reconnect(Some(Duration::from_millis(20))))
                .unwrap(),
        );
    }
    let mut link = None;
    let start = Instant::now();
    // It is killed long before, unless its parent was.
    while start.elapsed() < 2 * WAIT_TIMEOUT {
        let event = match (&mut server, &mut client) {
            (Some(server), _) => server.ready().unwrap(),
            (_, Some(client)) => client.ready().unwrap(),
            _ => None,
        };
        match event {
            Some(Event::Connected { link: new, .. }) => link = Some(new),
            Some(Event::Disconnected { .. }) => link = None,
            _ => {}
        }
        if let Some(link) = &mut link {
            echo(link);
        }
        std::thread::yield_now();
    }
}

fn echo(link: &mut Link) {
    let (Ok(received), Ok(mut back)) = (link.rx[0].burst(64), link.tx[0].burst()) else { return };
    let mut echoed = 0;
    for packet in &received {
        let Some(mut slot) = back.reserve(packet.len()) else { break };
        packet.segments().for_each(|segment| slot.write_shared(segment));
        echoed += 1;
    }
    back.publish();
    received.release(echoed);
}

/// A process that is gone when the test is, one way or another.
struct Other(Child);

impl Other {
    fn start(role: &str, addr: &SocketAddr) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "the_other_process"])
            .env(ROLE, role)
            .env(ADDRESS, addr.to_string());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// SIGKILL: it has no chance to say goodbye.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends packets until some have come back.
fn talk(link: &mut Link) {
    let mut back = 0;
    until("an echo", || {
        let mut burst = link.tx[0].burst().unwrap();
        burst.push(&[7; 100]);
        burst.publish();
        back += link.rx[0].burst(64).unwrap().len();
        (back > 100).then_some(())
    });
}

fn link_of(mut ready: impl FnMut() -> Option<Event>) -> Link {
    until("Connected", || match ready() {
        Some(Event::Connected { link, .. }) => Some(link),
        _ => None,
    })
}

fn loss_of(mut ready: impl FnMut() -> Option<Event>) -> DisconnectReason {
    until("Disconnected", || match ready() {
        Some(Event::Disconnected { reason, .. }) => Some(reason),
        _ => None,
    })
}

#[test]
fn a_killed_client_leaves_the_server_and_its_other_links_fine() {
    let addr = unique("kill-client");
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(0)).unwrap();
    server.add(InterfaceOptions::new(1)).unwrap();
    let mut world = World::new(server);
    let (_mock, _memory, mut bystander) = world.connect_mock(&addr, 1);
    for _ in 0..3 {
        let other = Other::start("client", &addr);
        let mut link = link_of(|| world.server.ready().unwrap());
        talk(&mut link);
        other.kill();
        assert_eq!(loss_of(|| world.server.ready().unwrap()), DisconnectReason::Closed);
        assert!(link.tx[0].burst().is_err());
        assert!(bystander.rx[0].burst(1).unwrap().is_empty());
    }
}

#[test]
fn traffic_resumes_soon_after_a_killed_server_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let addr = SocketAddr::path(folder.path().join("memif.sock")).unwrap();
    let mut other = Other::start("server", &addr);
    let mut client = Client::new(&addr, ClientOptions::new(0)).unwrap();
    for _ in 0..2 {
        let mut link = link_of(|| client.ready().unwrap());
        talk(&mut link);
        other.kill();
        assert_eq!(loss_of(|| client.ready().unwrap()), DisconnectReason::Closed);
        // The dead server's socket is still there, and is replaced.
        assert!(addr.as_path().unwrap().exists());
        other = Other::start("server", &addr);
    }
    let mut link = link_of(|| client.ready().unwrap());
    talk(&mut link);
}
