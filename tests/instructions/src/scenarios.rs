//! What is counted: bursts of 64-byte frames, sent and received, on a bus and over memif.

use std::hint::black_box;

use anyhow::ensure;
use memif::{
    Client, ClientOptions, Event, InterfaceOptions, Link, RxQueue, Server, SocketAddr,
    SocketOptions, TxQueue,
};
use shmbus::{Burst, BusOptions, Station, StationOptions};

/// Bursts that are counted of each scenario.
pub(crate) const ROUNDS: u32 = 64;

/// Bursts before those: what is made when it is first used is made by then.
const WARM_UP: u32 = 16;

const FRAME: [u8; 64] = [0xff; 64];

/// Frames of a burst.
const BURSTS: [usize; 3] = [1, 32, 256];

/// A part of the data path.
#[derive(Clone, Copy)]
enum Part {
    /// Onto a bus, and off it, as rump kernels know it.
    ShmifSend,
    ShmifReceive,
    /// The same, in our own format.
    OwnSend,
    OwnReceive,
    /// Over memif, from its client to its server.
    ClientSend,
    ServerReceive,
    /// The other way.
    ServerSend,
    ClientReceive,
}

/// A part of the data path with bursts of one length.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    part: Part,
    burst: usize,
}

/// All that is counted, in this order.
pub(crate) const SCENARIOS: [Scenario; 24] = {
    use Part::{
        ClientReceive, ClientSend, OwnReceive, OwnSend, ServerReceive, ServerSend, ShmifReceive,
        ShmifSend,
    };
    let parts = [
        ShmifSend,
        ShmifReceive,
        OwnSend,
        OwnReceive,
        ClientSend,
        ServerReceive,
        ServerSend,
        ClientReceive,
    ];
    let mut all = [Scenario { part: ShmifSend, burst: 0 }; 24];
    let mut nth = 0;
    while nth < all.len() {
        all[nth] = Scenario { part: parts[nth / 3], burst: BURSTS[nth % 3] };
        nth += 1;
    }
    all
};

impl Scenario {
    /// Returns its name in the file of counts.
    pub(crate) fn name(self) -> String {
        let part = match self.part {
            Part::ShmifSend => "bus-send",
            Part::ShmifReceive => "bus-receive",
            Part::OwnSend => "own-bus-send",
            Part::OwnReceive => "own-bus-receive",
            Part::ClientSend => "memif-client-send",
            Part::ServerReceive => "memif-server-receive",
            Part::ServerSend => "memif-server-send",
            Part::ClientReceive => "memif-client-receive",
        };
        format!("{part}-{}", self.burst)
    }

    fn run(self) -> anyhow::Result<()> {
        match self.part {
            Part::ShmifSend => self.bus(true, true),
            Part::ShmifReceive => self.bus(true, false),
            Part::OwnSend => self.bus(false, true),
            Part::OwnReceive => self.bus(false, false),
            Part::ClientSend => self.memif(true, true),
            Part::ServerReceive => self.memif(true, false),
            Part::ServerSend => self.memif(false, true),
            Part::ClientReceive => self.memif(false, false),
        }
    }

    fn bus(self, shmif: bool, count_send: bool) -> anyhow::Result<()> {
        let folder = tempfile::tempdir_in("/dev/shm")?;
        let options = BusOptions::new().mode(0o600).shmif(shmif);
        let path = folder.path().join("bus");
        let mut sender = Station::join(options.open_or_create(&path)?, StationOptions::new())?;
        let mut other = Station::join(options.open_or_create(&path)?, StationOptions::new())?;
        let frames = vec![FRAME; self.burst];
        let mut burst = Burst::new(self.burst);
        for round in 0..WARM_UP + ROUNDS {
            let counted = round >= WARM_UP;
            let sent = call(counted && count_send, || sender.send_burst(&frames))?;
            let received = call(counted && !count_send, || other.recv_burst(&mut burst));
            ensure!(sent == self.burst && received == self.burst, "{sent}, and {received} came");
        }
        Ok(())
    }

    fn memif(self, from_client: bool, count_send: bool) -> anyhow::Result<()> {
        let mut pair = Pair::connect()?;
        let (from, to) = if from_client {
            (&mut pair.client_link, &mut pair.server_link)
        } else {
            (&mut pair.server_link, &mut pair.client_link)
        };
        let mut copy = [0; FRAME.len()];
        for round in 0..WARM_UP + ROUNDS {
            let counted = round >= WARM_UP;
            let sent = call(counted && count_send, || send(&mut from.tx[0], self.burst))?;
            let received =
                call(counted && !count_send, || receive(&mut to.rx[0], self.burst, &mut copy))?;
            ensure!(sent == self.burst && received == self.burst, "{sent}, and {received} came");
        }
        Ok(())
    }
}

/// Runs every scenario once, in their order.
pub(crate) fn run_all() -> anyhow::Result<()> {
    for scenario in SCENARIOS {
        scenario.run()?;
        scenario_ends();
    }
    Ok(())
}

/// Runs `what`, and has callgrind count it if it is to be counted.
fn call<T>(counted: bool, what: impl FnOnce() -> T) -> T {
    if counted { counted_call(what) } else { what() }
}

/// Callgrind counts from the beginning of this function to its end, by its name.
#[inline(never)]
fn counted_call<T>(what: impl FnOnce() -> T) -> T {
    black_box(what())
}

/// Callgrind writes what it has counted after this function, by its name.
#[inline(never)]
fn scenario_ends() {
    black_box(());
}

fn send(queue: &mut TxQueue, frames: usize) -> Result<usize, memif::LinkError> {
    let mut burst = queue.burst()?;
    for _ in 0..frames {
        burst.push(&FRAME);
    }
    Ok(burst.publish())
}

fn receive(queue: &mut RxQueue, frames: usize, copy: &mut [u8]) -> Result<usize, memif::LinkError> {
    let burst = queue.burst(frames)?;
    for packet in &burst {
        packet.copy_to(copy);
        black_box(&mut *copy);
    }
    Ok(burst.len())
}

/// Both ends of a memif link.
struct Pair {
    _server: Server,
    _client: Client,
    server_link: Link,
    client_link: Link,
}

impl Pair {
    fn connect() -> anyhow::Result<Self> {
        let name = format!("instruction-counts-{}", std::process::id());
        let address = SocketAddr::abstract_name(name)?;
        let mut server = Server::bind(&address, SocketOptions::new())?;
        server.add(InterfaceOptions::new(0))?;
        let mut client = Client::new(&address, ClientOptions::new(0))?;
        let (mut server_link, mut client_link) = (None, None);
        // Each end waits for the other; the handshake takes a few messages.
        for _ in 0..1_000 {
            let within = Some(std::time::Duration::from_millis(10));
            if let Some(Event::Connected { link, .. }) = server.wait(within)? {
                server_link = Some(link);
            }
            if let Some(Event::Connected { link, .. }) = client.wait(within)? {
                client_link = Some(link);
            }
            if let (Some(_), Some(_)) = (&server_link, &client_link) {
                break;
            }
        }
        let links = server_link.zip(client_link);
        let (server_link, client_link) = links.ok_or_else(|| anyhow::anyhow!("no link"))?;
        Ok(Self { _server: server, _client: client, server_link, client_link })
    }
}
