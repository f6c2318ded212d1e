//! The connecting side: one interface that owns its memory and reconnects by itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::buffer_pool::BufferPool;
use super::details::Details;
use super::end::End;
use super::event::Event;
use super::event_loop::{self, News, Worker};
use super::history::{History, Tally};
use super::link::{LinkHandle, Parts, Ring, build};
use super::options::{Options, Role};
use super::waker::Waker;
use crate::error::{Error, OptionsError, Rejection};
use crate::format::VERSION;
use crate::format::message::{AddRing, Init, Message, Name};
use crate::format::ring::COOKIE;
use crate::format::secret::{SECRET_LEN, Secret};
use crate::mechanism::Side;
use crate::mechanism::client::{self as machine, Bounds, Host, Offer, Step};
use crate::mechanism::layout::{Layout, Plan};
use crate::mechanism::ring_buffers::{Buffers, RingBuffers};
use crate::memory::pool::Pool;
use crate::memory::region::{Region, Regions};
use crate::memory::ring::RingMemory;
use crate::system::addr::SocketAddr;
use crate::system::event_fd::{EventFd, eventfd};
use crate::system::memfd;
use crate::system::poller::{Interest, Poller, deadline_in};
use crate::system::socket::{Received, Socket};

const WAKE: u64 = 1;
const FIRST_CONNECTION: u64 = 2;
/// Messages read in one go.
const BATCH: usize = 32;

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// An option is out of its range.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A system call failed.
    #[error(transparent)]
    System(#[from] Error),
}

/// An interface that connects to a server, and connects again when the link is lost.
///
/// It does its work in [`ready`](Self::ready), which never blocks; its descriptor ([`AsFd`]) is readable when there is
/// work. Dropping it takes its link down.
#[derive(Debug)]
pub struct Client {
    addr: SocketAddr,
    options: Options,
    poller: Poller,
    wake: Arc<EventFd>,
    canceller: Waker,
    connection: Option<Connection>,
    /// Of connections that are over.
    past: Vec<Shared>,
    next_token: u64,
    /// When to connect again.
    retry: Option<Instant>,
    news: News,
    history: History,
    tally: Tally,
}

#[derive(Debug)]
struct Connection {
    token: u64,
    socket: Socket,
    machine: machine::Client<Arc<OwnedFd>>,
    workshop: Workshop,
    /// When it must be up; none once it is.
    deadline: Option<Instant>,
    link: Option<LinkHandle>,
}

impl Client {
    /// Begins to connect to the server at `addr`. How that went is an event: no server, for one, is
    /// [`Event::Refused`], and tried again after [`Options::reconnect`].
    ///
    /// # Errors
    /// [`ClientError`] when an option is out of its range or the client's own descriptors could not be made.
    pub fn new(addr: &SocketAddr, options: Options) -> Result<Self, ClientError> {
        options.check()?;
        // The server can only make it smaller.
        Workshop::new(&options).plan(wishes(&options))?;
        let poller = Poller::new().map_err(Error::at("epoll_create"))?;
        let wake = Arc::new(EventFd::new().map_err(Error::at("eventfd"))?);
        poller.add(&*wake, WAKE).map_err(Error::at("epoll_ctl"))?;
        let mut client = Self {
            addr: addr.clone(),
            options,
            poller,
            canceller: Waker::new(&wake),
            wake,
            connection: None,
            past: Vec::new(),
            next_token: FIRST_CONNECTION,
            retry: None,
            news: News::default(),
            history: History::default(),
            tally: Tally::default(),
        };
        client.connect();
        Ok(client)
    }

    /// Connects now instead of at the next period, unless there is a connection already.
    pub fn connect(&mut self) {
        if self.connection.is_none() {
            self.retry = None;
            if let Err(refusal) = self.attempt() {
                self.tell(End::Refused(refusal), None);
                self.schedule();
            }
        }
        // Deadlines are set, and events handed out, in `ready`: let a poll loop call it.
        self.wake.ring();
    }

    /// Disconnects and tells the server `reason` (up to 95 bytes). The client stays disconnected until
    /// [`connect`](Self::connect). Whether there was a link.
    pub fn disconnect(&mut self, reason: &str) -> bool {
        let connection = self.connection.take();
        let linked = connection.as_ref().is_some_and(|connection| connection.link.is_some());
        if let Some(connection) = connection {
            self.end(connection, End::Local(reason.to_owned()));
        }
        self.retry = None;
        self.wake.ring();
        linked
    }

    /// All there is to know about the interface at this moment, without its rings' descriptors.
    #[must_use]
    pub fn details(&self) -> Details {
        self.gather(false)
    }

    /// As [`details`](Self::details), with the descriptors of all rings.
    #[must_use]
    pub fn details_with_descriptors(&self) -> Details {
        self.gather(true)
    }

    fn gather(&self, descriptors: bool) -> Details {
        let link = self.connection.as_ref().and_then(|connection| connection.link.as_ref());
        let socket = self.addr.to_string();
        Details::gather(Role::Client, socket, &self.options, &self.history, link, descriptors)
    }

    /// How often which check failed or refusal came, by [`Rejection::name`].
    #[must_use]
    pub fn failures(&self) -> Vec<(&'static str, u64)> {
        self.tally.all()
    }

    /// Does what is due without blocking, and returns what happened. Call it until it returns `None`, whenever the
    /// descriptor is readable: that it stays while there is more to do. `None` comes also in a flood, as a caller may have others
    /// to look after.
    ///
    /// # Errors
    /// [`Error`] when the client's own descriptors fail; the server causes none.
    pub fn ready(&mut self) -> Result<Option<Event>, Error> {
        event_loop::ready(self)
    }

    /// Whether the descriptor is readable.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_work(&self) -> Result<bool, Error> {
        self.poller.wait(Some(Duration::ZERO)).map_err(Error::at("poll"))
    }

    /// Waits for the next event; `None` when `timeout` is over, a signal came, or it was
    /// [cancelled](Self::canceller).
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, Error> {
        event_loop::wait(self, timeout)
    }

    /// What ends a [`wait`](Self::wait) from another thread.
    #[must_use]
    pub fn canceller(&self) -> Waker {
        self.canceller.clone()
    }

    fn schedule(&mut self) {
        self.retry = self.options.reconnect.map(deadline_in);
    }

    fn attempt(&mut self) -> Result<(), Rejection> {
        // Servers had time to notice that they are over.
        self.past.retain(|shared| !shared.take_back());
        let socket = Socket::connect(&self.addr)?;
        let token = self.next_token;
        self.poller.add(&socket, token)?;
        self.next_token += 1;
        let secret = self.options.secret.clone();
        let init = Init {
            version: VERSION,
            id: self.options.id,
            mode: self.options.mode.wire(),
            secret: secret.unwrap_or_else(|| Secret::from_wire([0; SECRET_LEN])),
            app_name: Name::new(self.options.application()),
        };
        let name = Name::new(&self.options.interface_name());
        self.connection = Some(Connection {
            token,
            socket,
            machine: machine::Client::new(wishes(&self.options), init, name),
            workshop: Workshop::new(&self.options),
            deadline: Some(deadline_in(self.options.connect_timeout)),
            link: None,
        });
        Ok(())
    }

    fn serve(&mut self, mut connection: Connection) {
        let was_stuck = connection.socket.is_stuck();
        match self.converse(&mut connection) {
            Ok(()) => {
                let stuck = connection.socket.is_stuck();
                let interest = if stuck { Interest::Write } else { Interest::Read };
                if stuck != was_stuck
                    && let Err(error) = self.poller.watch(&connection.socket, connection.token, interest)
                {
                    self.end(connection, End::Refused(error.into()));
                    return;
                }
                self.connection = Some(connection);
            }
            Err(end) => self.end(connection, end),
        }
    }

    fn converse(&mut self, connection: &mut Connection) -> Result<(), End> {
        connection.socket.flush().map_err(|_| End::Closed)?;
        for _ in 0..BATCH {
            if connection.socket.is_stuck() {
                break;
            }
            let (message, fds) = match connection.socket.receive() {
                Received::Nothing => break,
                Received::Closed => return Err(End::Closed),
                Received::Packet(message, fds) => (message?, fds),
            };
            match connection.machine.receive(message, fds.len(), &mut connection.workshop)? {
                Step::Send(message, fd) => {
                    // A server that refuses may close before it has read all: its reason is still there to be read.
                    if connection.socket.send(&message, fd).is_err() {
                        return Err(last_words(&connection.socket));
                    }
                }
                Step::Up { app_name, name } => self.establish(connection, app_name, name)?,
                Step::Bye(reason) => return Err(End::Bye(reason)),
            }
        }
        Ok(())
    }

    fn establish(&mut self, connection: &mut Connection, app_name: Name, name: Name) -> Result<(), End> {
        // There is one, as the machine asked for it before anything could be connected.
        let Some(made) = connection.workshop.made.take() else { return Err(End::Closed) };
        let ring = |(place, slots, bell)| {
            // All was sent by now, so it is ours alone.
            let bell = Arc::try_unwrap(bell).or_else(|bell: Arc<OwnedFd>| bell.try_clone())?;
            Ok::<_, std::io::Error>(Ring { place, side: Side::Client(slots), bell: bell.into() })
        };
        let rings = made.rings.into_iter().map(ring).collect::<Result<_, _>>()?;
        let (link, handle) = build(Parts {
            options: &self.options,
            name,
            app_name,
            regions: made.regions,
            rings,
            wake: Arc::clone(&self.wake),
        })?;
        connection.deadline = None;
        connection.link = Some(handle);
        self.history.links += 1;
        self.news.push(Event::Connected { id: self.options.id, link });
        Ok(())
    }

    fn close_faulted(&mut self) {
        let fault = |connection: &Connection| connection.link.as_ref().and_then(LinkHandle::fault).cloned();
        if let Some(fault) = self.connection.as_ref().and_then(fault)
            && let Some(connection) = self.connection.take()
        {
            self.end(connection, fault.into());
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let late = |connection: &mut Connection| connection.deadline.is_some_and(|deadline| deadline <= now);
        if let Some(connection) = self.connection.take_if(late) {
            self.end(connection, Rejection::Timeout.into());
        }
        if self.retry.is_some_and(|time| time <= now) {
            self.connect();
        }
    }

    /// Tells the server, reports, and sets the time to try again.
    fn end(&mut self, mut connection: Connection, end: End) {
        if let Some(reason) = end.farewell() {
            connection.socket.bye(&reason);
        }
        tracing::debug!(id = self.options.id, %end, "connection over");
        self.past.extend(connection.workshop.shared.take());
        self.tell(end, connection.link.as_ref());
        self.schedule();
    }

    /// Reports and remembers the end of an attempt or of a link.
    fn tell(&mut self, end: End, link: Option<&LinkHandle>) {
        let id = self.options.id;
        self.tally.count(&end);
        self.history.ended(&end, link.map(LinkHandle::stats));
        self.news.push(if link.is_some() {
            let reason = end.into_disconnect();
            self.history.last = Some(reason.clone());
            Event::Disconnected { id, reason }
        } else {
            let reason = end.into_refusal();
            self.history.refused = Some(reason.to_string());
            Event::Refused { id: Some(id), reason }
        });
    }
}

/// What a server that has closed the connection said last.
fn last_words(socket: &Socket) -> End {
    for _ in 0..BATCH {
        match socket.receive() {
            Received::Packet(Ok(Message::DisconnectReason { reason, .. }), _) => {
                return End::Bye(reason.to_string());
            }
            Received::Packet(..) => {}
            Received::Nothing | Received::Closed => break,
        }
    }
    End::Closed
}

fn wishes(options: &Options) -> Bounds {
    Bounds {
        s2m: Options::queues(options.tx_queues, 1),
        m2s: Options::queues(options.rx_queues, 1),
        log2_ring_size: options.log2_ring_size,
    }
}

impl Worker for Client {
    fn work(&mut self) -> Result<(), Error> {
        for token in self.poller.ready().map_err(Error::at("epoll_wait"))? {
            if token == WAKE {
                self.wake.drain();
                self.close_faulted();
            } else if let Some(connection) = self.connection.take_if(|connection| connection.token == token) {
                self.serve(connection);
            }
        }
        self.expire();
        if self.connection.as_ref().is_some_and(|connection| connection.link.is_some()) {
            // It let us come again, so it knows that those before are over.
            self.past.retain(|shared| !shared.take_back());
        }
        let deadline = self.connection.as_ref().and_then(|connection| connection.deadline);
        let next = deadline.into_iter().chain(self.retry).min();
        self.poller.set_deadline(next).map_err(Error::at("timerfd_settime"))
    }

    fn news(&mut self) -> &mut News {
        &mut self.news
    }

    fn poller(&self) -> &Poller {
        &self.poller
    }

    fn canceller(&self) -> &Waker {
        &self.canceller
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.socket.bye("the client is shutting down");
        }
    }
}

/// Readable when there is work for [`Client::ready`]: one descriptor for the connection, the timer, and faults found by
/// queues.
impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

/// Makes the memory of one connection.
#[derive(Debug)]
struct Workshop {
    buffer_size: u32,
    layout: Layout,
    /// Used instead of making buffers.
    memories: Vec<BufferPool>,
    made: Option<Made>,
    /// What the server gets of what was made.
    shared: Option<Shared>,
}

/// Memory that a server was given, and may keep for as long as it likes, at our expense.
#[derive(Debug)]
struct Shared {
    /// Gone when no queue uses them any more.
    regions: Weak<Regions>,
    files: Vec<Arc<OwnedFd>>,
}

impl Shared {
    /// Leaves the server nothing of it but zeros, if nobody here uses it any more; whether that was so.
    fn take_back(&self) -> bool {
        if self.regions.strong_count() != 0 {
            return false;
        }
        for file in &self.files {
            if let Err(error) = memfd::discard(file) {
                tracing::debug!(%error, "the memory of a link that is over stays with its server");
            }
        }
        true
    }
}

struct Made {
    regions: Arc<Regions>,
    /// Each with its eventfd, which is not duplicated: there may be as many as a process may open.
    rings: Vec<(AddRing, RingBuffers, Arc<OwnedFd>)>,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Made").field("rings", &self.rings.len()).finish_non_exhaustive()
    }
}

impl Workshop {
    fn new(options: &Options) -> Self {
        let memories = options.memories.clone();
        Self { buffer_size: options.buffer_size, layout: options.layout, memories, made: None, shared: None }
    }

    /// What the rings need, and the buffers of each.
    fn plan(&self, bounds: Bounds) -> Result<Plan, OptionsError> {
        let Bounds { s2m, m2s, log2_ring_size } = bounds;
        if self.memories.is_empty() {
            Plan::new(s2m, m2s, log2_ring_size, self.buffer_size, self.layout)
        } else {
            Plan::rings(s2m, m2s, log2_ring_size)
        }
    }

    /// The buffers of all rings, made or taken. `made` are the regions of the plan.
    fn buffers(&self, plan: &Plan, made: &[Arc<Region>]) -> Result<Vec<RingBuffers>, Rejection> {
        let (region, stride) = (plan.buffer_region, plan.stride);
        if let Some(memory) = made.get(usize::from(region)) {
            let pool = Pool::private(Arc::clone(memory), self.buffer_size);
            let size = self.buffer_size;
            let fixed =
                |first: &u32| Buffers { pool: Arc::clone(&pool), region, first: *first, stride, size };
            return Ok(plan.buffers.iter().map(fixed).map(RingBuffers::Fixed).collect());
        }
        let size = plan.rings.first().map_or(0, |ring| 1 << ring.log2_size);
        let take = || {
            (region..).zip(&self.memories).find_map(|(index, memory)| {
                let mut held = memory.pool().take()?;
                held.index = index;
                Some(held)
            })
        };
        let ring = || (0..size).map(|_| take()).collect::<Option<_>>().map(RingBuffers::Own);
        let all: Option<_> = plan.rings.iter().map(|_| ring()).collect();
        all.ok_or(Rejection::NoBuffers { rings: plan.rings.len(), size })
    }
}

impl Host for Workshop {
    type Fd = Arc<OwnedFd>;

    fn build(&mut self, bounds: Bounds) -> Result<Offer<Arc<OwnedFd>>, Rejection> {
        let plan = self.plan(bounds).map_err(std::io::Error::other)?;
        let mut offer = Offer { regions: Vec::new(), rings: Vec::new() };
        let (mut regions, mut files) = (Vec::new(), Vec::new());
        for size in &plan.sizes {
            let (file, region) = memfd::create(*size)?;
            files.push(Arc::new(file));
            regions.push(Arc::new(region));
        }
        offer.regions.extend(plan.sizes.iter().copied().zip(files.iter().cloned()));
        let buffers = self.buffers(&plan, &regions)?;
        for pool in self.memories.iter().map(BufferPool::pool) {
            if let Some(file) = pool.file() {
                offer.regions.push((pool.region().len(), Arc::clone(file)));
                regions.push(Arc::clone(pool.region()));
            }
        }
        let regions = Arc::new(Regions::new(regions));
        let mut rings = Vec::new();
        for (place, slots) in plan.rings.iter().zip(buffers) {
            let memory = RingMemory::new(&regions, place.region, place.offset, place.log2_size)
                .ok_or_else(|| std::io::Error::other("the plan does not fit its region"))?;
            // Relaxed: the server reads it after the message that announces the ring.
            memory.header().cookie.store(COOKIE, Ordering::Relaxed);
            let bell = Arc::new(eventfd()?);
            offer.rings.push((*place, Arc::clone(&bell)));
            rings.push((*place, slots, bell));
        }
        self.shared = Some(Shared { regions: Arc::downgrade(&regions), files });
        self.made = Some(Made { regions, rings });
        Ok(offer)
    }
}
