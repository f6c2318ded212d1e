//! Sends to and receives from a memif peer, each queue in a thread of its own.

use std::os::fd::AsFd as _;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use memif::{Client, Event, Link, RxQueue, Server, SocketOptions, TxQueue};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use port::memif::{MemifOptions, MemifSpec};

use super::cpu::Backoff;
use super::frame_pool::FramePool;
use super::frames::{Generator, MIN_FRAME, Sent, Tally};
use super::protocol::Reported;
use super::reception::Reception;
use super::start_stop::StartStop;
use super::{EndOptions, Load, RxMode, cpu};

/// How long the two ends may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the peer before checking for a request to stop.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The longest sleep of a receiver, in milliseconds: a peer may publish just as the interrupt is
/// armed, and not see that.
const MAX_SLEEP: u8 = 10;
/// How long a peer may take to empty the ring.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The socket of this end, which must live as long as the link.
pub(super) enum Endpoint {
    Server(Box<Server>),
    Client(Box<Client>),
}

impl Endpoint {
    /// Listens or begins to connect.
    fn open(spec: &MemifSpec) -> anyhow::Result<Self> {
        Ok(match spec.options(crate::PROGRAM) {
            MemifOptions::Client(options) => {
                Self::Client(Box::new(Client::new(&spec.address, options)?))
            }
            MemifOptions::Interface(options) => {
                let mut server = Server::bind(&spec.address, SocketOptions::new())?;
                server.add(options)?;
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
    fn link(&mut self, start_stop: &StartStop) -> anyhow::Result<Link> {
        let begin = Instant::now();
        let mut refused = None;
        while !start_stop.is_stopped()
            && (start_stop.time().is_some() || begin.elapsed() < CONNECT_TIMEOUT)
        {
            match self.wait(CHECK_INTERVAL)? {
                Some(Event::Connected { link, .. }) => return Ok(link),
                Some(Event::Rejected { reason, .. }) => refused = Some(reason),
                _ => {}
            }
        }
        match refused {
            Some(reason) => Err(reason).context("no memif peer"),
            None => bail!("no memif peer has connected"),
        }
    }
}

/// Opens the socket and waits for the peer.
pub(super) fn connect(spec: &str, start_stop: &StartStop) -> anyhow::Result<(Endpoint, Link)> {
    let mut endpoint = Endpoint::open(&spec.parse()?)?;
    let link = endpoint.link(start_stop)?;
    Ok((endpoint, link))
}

/// Sends on all queues. The peer may read from this end's memory until the returned [`PendingTx`]
/// is drained.
pub(super) fn send(
    spec: &str,
    load: Load,
    options: EndOptions,
    start_stop: &StartStop,
) -> anyhow::Result<(Reported<Sent>, PendingTx)> {
    let (endpoint, mut link) = connect(spec, start_stop)?;
    let meter = start_stop.wait_for_start()?;
    let results = on_threads(&mut link.tx, 0, |queue| send_on(queue, load, options, start_stop))?;
    let usage = start_stop.usage(&meter);
    Ok((Reported { results, usage }, PendingTx { link, _endpoint: endpoint }))
}

/// The link of a sender, kept until the peer has read all packets.
pub(super) struct PendingTx {
    link: Link,
    _endpoint: Endpoint,
}

impl PendingTx {
    /// Waits until the peer has read all packets, or the measurement is stopped.
    pub(super) fn drain(mut self, start_stop: &StartStop) {
        let begin = Instant::now();
        let drained = |queue: &mut TxQueue| {
            // Without a link there is no peer to read anything.
            queue.free_slots().map_or(true, |free| free == queue.ring_size())
        };
        while start_stop.time().is_some()
            && begin.elapsed() < DRAIN_TIMEOUT
            && !self.link.tx.iter_mut().all(drained)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        start_stop.wait();
    }
}

fn send_on(
    queue: &mut TxQueue,
    load: Load,
    options: EndOptions,
    start_stop: &StartStop,
) -> anyhow::Result<Sent> {
    let mut generator = Generator::new(load, start_stop);
    let mut backoff = Backoff::default();
    let mut was_empty = false;
    while let Some(frames) = generator.next_burst() {
        let mut burst = queue.burst()?;
        let mut is_refused = false;
        for frame in frames {
            let taken = if options.memif.zero_copy {
                // As in a program that makes its frames in place: what is in the buffer already is
                // the payload.
                burst.reserve(frame.len()).map(|mut slot| slot.write(&frame[..MIN_FRAME])).is_some()
            } else {
                burst.push(frame)
            };
            if !taken {
                is_refused = true;
                break;
            }
        }
        let sent = burst.publish();
        generator.sent(sent);
        if sent == 0 && is_refused {
            if was_empty {
                // The whole ring has no room for one frame.
                break;
            }
            // Perhaps only since the receiver has read it.
            was_empty = queue.free_slots()? == queue.ring_size();
        } else {
            was_empty = false;
        }
        if sent == 0 {
            generator.rest();
        }
        backoff.note(sent);
    }
    Ok(generator.result())
}

pub(super) fn receive(
    spec: &str,
    load: Load,
    options: EndOptions,
    start_stop: &StartStop,
) -> anyhow::Result<Reported<Tally>> {
    let (_endpoint, mut link) = connect(spec, start_stop)?;
    let meter = start_stop.wait_for_start()?;
    let results =
        on_threads(&mut link.rx, 1, |queue| receive_on(queue, load, options, start_stop))?;
    Ok(Reported { results, usage: start_stop.usage(&meter) })
}

/// Does the work for each queue, with several queues in a thread for each. Senders (`side` 0) and
/// receivers (1) stay on different CPUs.
fn on_threads<Q: Send, T: Send>(
    queues: &mut [Q],
    side: usize,
    work: impl Fn(&mut Q) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    match queues {
        [] => bail!("a memif peer without queues"),
        [only] => Ok(vec![work(only)?]),
        many => std::thread::scope(|scope| {
            let spawn = |(nth, queue)| {
                let work = &work;
                scope.spawn(move || {
                    cpu::pin(2 * nth + side);
                    work(queue)
                })
            };
            let threads: Vec<_> = many.iter_mut().enumerate().map(spawn).collect();
            let results = threads.into_iter().map(ScopedJoinHandle::join);
            results
                .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        }),
    }
}

fn receive_on(
    queue: &mut RxQueue,
    load: Load,
    options: EndOptions,
    start_stop: &StartStop,
) -> anyhow::Result<Tally> {
    // In place, only the header and the number are read.
    let len = if options.memif.zero_copy { MIN_FRAME } else { load.frame.max(MIN_FRAME) };
    let mut pool = FramePool::new(&vec![0; len], 1);
    let frame = pool.frames_mut(1).next().context("a pool of one frame")?;
    let mut tally = Tally::default();
    let mut reception = Reception::new(start_stop);
    let mut backoff = Backoff::default();
    loop {
        let burst = queue.burst(load.burst)?;
        for packet in &burst {
            let len = packet.copy_to(frame);
            tally.count(&frame[..len]);
        }
        let frames = burst.len();
        drop(burst);
        if reception.is_over(frames, &mut tally) {
            return Ok(tally);
        }
        match options.rx_mode {
            RxMode::Polling => backoff.note(frames),
            RxMode::Interrupt if frames == 0 => sleep(queue)?,
            RxMode::Interrupt => {}
        }
    }
}

/// Sleeps until a packet may have come.
pub(super) fn sleep(queue: &mut RxQueue) -> anyhow::Result<()> {
    if !queue.arm()? {
        match poll(
            &mut [PollFd::new(queue.as_fd(), PollFlags::POLLIN)],
            PollTimeout::from(MAX_SLEEP),
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for packets"),
        }
    }
    queue.disarm();
    Ok(())
}
