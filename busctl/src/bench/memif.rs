//! Sending to and receiving from a memif peer.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use memif::{Client, Event, Link, Role, Server};

use super::Load;
use super::frames::{Source, Tally};
use super::patience::Patience;
use super::worker::{Until, wait_for_go};
use crate::output::print_json;
use crate::port::memif::MemifSpec;

/// How long the two ends may take to find each other.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The socket of this end: it has to live as long as the link.
enum Endpoint {
    Server(Box<Server>),
    Client(Box<Client>),
}

impl Endpoint {
    /// Listens or begins to connect.
    fn open(spec: &MemifSpec) -> anyhow::Result<Self> {
        Ok(match spec.role {
            Role::Client => Self::Client(Box::new(Client::new(&spec.address, spec.options())?)),
            Role::Server => {
                let mut server = Server::bind(&spec.address)?;
                server.add(spec.options())?;
                Self::Server(Box::new(server))
            }
        })
    }

    fn wait(&mut self, timeout: Duration) -> Result<Option<Event>, memif::Error> {
        match self {
            Self::Server(server) => server.wait(Some(timeout)),
            Self::Client(client) => client.wait(Some(timeout)),
        }
    }

    /// Waits for the peer.
    fn link(&mut self) -> anyhow::Result<Link> {
        let begin = Instant::now();
        let mut refused = None;
        while let Some(left) = CONNECT_TIMEOUT.checked_sub(begin.elapsed()) {
            match self.wait(left)? {
                Some(Event::Connected { link, .. }) => return Ok(link),
                Some(Event::Refused { reason, .. }) => refused = Some(reason),
                _ => {}
            }
        }
        match refused {
            Some(reason) => Err(reason).context("no memif peer"),
            None => bail!("no memif peer came"),
        }
    }
}

pub(super) fn send(spec: &str, load: Load) -> anyhow::Result<()> {
    let mut endpoint = Endpoint::open(&spec.parse()?)?;
    let mut link = endpoint.link()?;
    let queue = link.tx.first_mut().context("a memif peer without a queue to send on")?;
    wait_for_go()?;
    let mut source = Source::new(load);
    let mut patience = Patience::default();
    while let Some(frames) = source.next_burst() {
        let mut burst = queue.burst()?;
        for frame in frames {
            if !burst.push(frame) {
                break;
            }
        }
        let sent = burst.publish();
        source.sent(sent);
        patience.note(sent);
    }
    print_json(&source.result())?;
    // The peer may still be reading from this end's memory.
    wait_for_end()
}

pub(super) fn receive(spec: &str, load: Load) -> anyhow::Result<()> {
    let mut endpoint = Endpoint::open(&spec.parse()?)?;
    let mut link = endpoint.link()?;
    let queue = link.rx.first_mut().context("a memif peer without a queue to receive on")?;
    let mut frame = vec![0; load.frame];
    let mut tally = Tally::default();
    wait_for_go()?;
    let mut until = Until::stdin_closes();
    let mut patience = Patience::default();
    loop {
        let burst = queue.burst(load.burst)?;
        for packet in &burst {
            let len = packet.copy_to(&mut frame);
            tally.count(&frame[..len]);
        }
        let frames = burst.len();
        drop(burst);
        patience.note(frames);
        if until.over(frames, &mut tally) {
            return Ok(print_json(&tally)?);
        }
    }
}

/// Waits until the parent has no more use for this process.
fn wait_for_end() -> anyhow::Result<()> {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).context("cannot read from the parent")?;
    Ok(())
}
