//! The connecting side: one interface that owns its memory and reconnects by itself.

mod memory;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::memory::{MemoryBuilder, SharedMemory, requested_bounds};
use super::details::Details;
use super::event_loop::{self, Event, EventQueue, Waker, Worker};
use super::history::{End, FailureCounts, History};
use super::link::{LinkHandle, Parts, RingParts, build};
use super::options::{ClientOptions, Role};
use crate::error::{Error, OptionsError, Rejection};
use crate::format::VERSION;
use crate::format::message::{Init, Message, Name};
use crate::format::secret::{SECRET_LEN, Secret};
use crate::mechanism::Side;
use crate::mechanism::client_handshake::{ClientHandshake, Step};
use crate::system::addr::SocketAddr;
use crate::system::event_fd::EventFd;
use crate::system::poller::{Interest, Poller, deadline_in};
use crate::system::socket::{Received, Socket};

const WAKE: u64 = 1;
const FIRST_CONNECTION: u64 = 2;
/// Messages read in one round.
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
/// [`ready`](Self::ready) does the work and never blocks; the descriptor ([`AsFd`]) is readable
/// when there is work. Dropping the client takes its link down.
#[derive(Debug)]
pub struct Client {
    addr: SocketAddr,
    options: ClientOptions,
    poller: Poller,
    wake: Arc<EventFd>,
    waker: Waker,
    connection: Option<Connection>,
    /// The memory of connections that are over.
    past: Vec<SharedMemory>,
    next_token: u64,
    /// When to connect again.
    retry: Option<Instant>,
    events: EventQueue,
    history: History,
    failures: FailureCounts,
}

#[derive(Debug)]
struct Connection {
    token: u64,
    socket: Socket,
    handshake: ClientHandshake<Arc<OwnedFd>>,
    memory: MemoryBuilder,
    /// When the link must be up; none once it is.
    deadline: Option<Instant>,
    link: Option<LinkHandle>,
}

impl Client {
    /// Starts to connect to the server at `addr`. The outcome is an event: without a server, for
    /// example, [`Event::Rejected`] comes, and the client tries again after
    /// [`ClientOptions::reconnect`].
    ///
    /// # Errors
    /// [`ClientError`] when an option is out of its range or the client's own descriptors could not
    /// be made.
    pub fn new(addr: &SocketAddr, options: ClientOptions) -> Result<Self, ClientError> {
        options.check()?;
        // The server can only make it smaller.
        MemoryBuilder::new(&options).plan(requested_bounds(&options))?;
        let poller = Poller::new().map_err(Error::at("epoll_create"))?;
        let wake = Arc::new(EventFd::new().map_err(Error::at("eventfd"))?);
        poller.add(&*wake, WAKE).map_err(Error::at("epoll_ctl"))?;
        let mut client = Self {
            addr: addr.clone(),
            options,
            poller,
            waker: Waker::new(&wake),
            wake,
            connection: None,
            past: Vec::new(),
            next_token: FIRST_CONNECTION,
            retry: None,
            events: EventQueue::default(),
            history: History::default(),
            failures: FailureCounts::default(),
        };
        client.connect();
        Ok(client)
    }

    /// Connects now instead of after the pause, unless there is a connection already.
    pub fn connect(&mut self) {
        if self.connection.is_none() {
            self.retry = None;
            if let Err(rejection) = self.attempt() {
                self.report(End::Rejected(rejection), None);
                self.schedule();
            }
        }
        // `ready` sets deadlines and hands out events: this makes a poll loop call it.
        self.wake.notify();
    }

    /// Returns whether there is a connection to the server: a link, or a handshake under way.
    #[must_use]
    pub fn has_connection(&self) -> bool {
        self.connection.is_some()
    }

    /// Disconnects and sends `reason` (up to 95 bytes) to the server. The client stays disconnected
    /// until [`connect`](Self::connect). Returns whether there was a link.
    pub fn disconnect(&mut self, reason: &str) -> bool {
        let connection = self.connection.take();
        let linked = connection.as_ref().is_some_and(|connection| connection.link.is_some());
        if let Some(connection) = connection {
            self.end(connection, End::Local(reason.to_owned()));
        }
        self.retry = None;
        self.wake.notify();
        linked
    }

    /// Returns a snapshot of the interface, without its rings' descriptors.
    #[must_use]
    pub fn details(&self) -> Details {
        self.gather(false)
    }

    /// Returns a snapshot of the interface, with the descriptors of all rings.
    #[must_use]
    pub fn details_with_descriptors(&self) -> Details {
        self.gather(true)
    }

    fn gather(&self, descriptors: bool) -> Details {
        let link = self.connection.as_ref().and_then(|connection| connection.link.as_ref());
        let socket = self.addr.to_string();
        let interface = &self.options.interface;
        Details::gather(Role::Client, socket, interface, &self.history, link, descriptors)
    }

    /// Returns how often each check failed and each rejection came, by [`Rejection::name`].
    #[must_use]
    pub fn failures(&self) -> Vec<(&'static str, u64)> {
        self.failures.all()
    }

    /// Does what is due without blocking, and returns the next event. When the descriptor polls
    /// readable, call this until it returns `None`. Under load it may return `None` early; the
    /// descriptor then stays readable.
    ///
    /// # Errors
    /// [`Error`] when the client's own descriptors fail; the server causes none.
    pub fn ready(&mut self) -> Result<Option<Event>, Error> {
        event_loop::ready(self)
    }

    /// Returns whether the descriptor is readable.
    #[cfg(feature = "tokio")]
    pub(super) fn has_work(&self) -> Result<bool, Error> {
        self.poller.wait(Some(Duration::ZERO)).map_err(Error::at("poll"))
    }

    /// Waits for the next event; returns `None` when `timeout` is over, a signal came, or another
    /// thread [woke](Self::waker) it.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, Error> {
        event_loop::wait(self, timeout)
    }

    /// Returns a handle that ends a [`wait`](Self::wait) from another thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn schedule(&mut self) {
        self.retry = self.options.reconnect.map(deadline_in);
    }

    fn attempt(&mut self) -> Result<(), Rejection> {
        // By now servers had time to notice that their links are over.
        self.past.retain(|memory| !memory.discard_if_unused());
        let socket = Socket::connect(&self.addr)?;
        let token = self.next_token;
        self.poller.add(&socket, token)?;
        self.next_token += 1;
        let interface = &self.options.interface;
        let secret = interface.secret.clone();
        let init = Init {
            version: VERSION,
            id: interface.id,
            mode: interface.mode.wire(),
            secret: secret.unwrap_or_else(|| Secret::from_wire([0; SECRET_LEN])),
            app_name: Name::new(interface.app_name()),
        };
        let name = Name::new(&interface.name());
        self.connection = Some(Connection {
            token,
            socket,
            handshake: ClientHandshake::new(requested_bounds(&self.options), init, name),
            memory: MemoryBuilder::new(&self.options),
            deadline: Some(deadline_in(self.options.connect_timeout)),
            link: None,
        });
        Ok(())
    }

    /// Handles what came on the connection, and keeps or ends it.
    fn service(&mut self, mut connection: Connection) {
        let was_stuck = connection.socket.is_stuck();
        match self.exchange_messages(&mut connection) {
            Ok(()) => {
                let stuck = connection.socket.is_stuck();
                let interest = if stuck { Interest::Write } else { Interest::Read };
                if stuck != was_stuck
                    && let Err(error) =
                        self.poller.watch(&connection.socket, connection.token, interest)
                {
                    self.end(connection, End::Rejected(error.into()));
                    return;
                }
                self.connection = Some(connection);
            }
            Err(end) => self.end(connection, end),
        }
    }

    fn exchange_messages(&mut self, connection: &mut Connection) -> Result<(), End> {
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
            match connection.handshake.receive(message, fds.len(), &mut connection.memory)? {
                Step::Send(message, fd) => {
                    // A server that rejects may close before it has read all: its reason can still
                    // be read.
                    if connection.socket.send(&message, fd).is_err() {
                        return Err(last_message(&connection.socket));
                    }
                }
                Step::Up { app_name, name } => self.establish(connection, app_name, name)?,
                Step::Disconnected(reason) => return Err(End::Peer(reason)),
            }
        }
        Ok(())
    }

    fn establish(
        &mut self,
        connection: &mut Connection,
        app_name: Name,
        name: Name,
    ) -> Result<(), End> {
        // The handshake asks for memory before it connects, so there is some.
        let Some(built) = connection.memory.built.take() else { return Err(End::Closed) };
        let ring = |(place, buffers, event_fd)| {
            // All messages are sent by now, so this is the only owner.
            let event_fd =
                Arc::try_unwrap(event_fd).or_else(|event_fd: Arc<OwnedFd>| event_fd.try_clone())?;
            Ok::<_, std::io::Error>(RingParts {
                place,
                side: Side::Client(buffers),
                event_fd: event_fd.into(),
            })
        };
        let rings = built.rings.into_iter().map(ring).collect::<Result<_, _>>()?;
        let (link, handle) = build(Parts {
            interface: &self.options.interface,
            headroom: self.options.headroom,
            manual: self.options.manual,
            name,
            app_name,
            regions: built.regions,
            rings,
            wake: Arc::clone(&self.wake),
        })?;
        connection.deadline = None;
        connection.link = Some(handle);
        self.history.links += 1;
        self.events.push(Event::Connected { id: self.options.interface.id, link });
        Ok(())
    }

    /// Closes the link if a queue has found a violation of the protocol.
    fn close_failed(&mut self) {
        let error =
            |connection: &Connection| connection.link.as_ref().and_then(LinkHandle::error).cloned();
        if let Some(error) = self.connection.as_ref().and_then(error)
            && let Some(connection) = self.connection.take()
        {
            self.end(connection, error.into());
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let late = |connection: &mut Connection| {
            connection.deadline.is_some_and(|deadline| deadline <= now)
        };
        if let Some(connection) = self.connection.take_if(late) {
            self.end(connection, Rejection::Timeout.into());
        }
        if self.retry.is_some_and(|time| time <= now) {
            self.connect();
        }
    }

    /// Sends the reason to the server, reports the end, and sets the time to try again.
    fn end(&mut self, mut connection: Connection, end: End) {
        let end = match (end, &connection.link, connection.handshake.unanswered()) {
            (End::Closed, None, Some(message)) => Rejection::Unanswered { message }.into(),
            (end, ..) => end,
        };
        if let Some(reason) = end.reason_to_send() {
            connection.socket.disconnect(&reason);
            self.history.last_reason_sent = Some(reason);
        }
        tracing::debug!(id = self.options.interface.id, %end, "connection over");
        self.past.extend(connection.memory.shared.take());
        self.report(end, connection.link.as_ref());
        self.schedule();
    }

    /// Reports and records the end of an attempt or of a link.
    fn report(&mut self, end: End, link: Option<&LinkHandle>) {
        let id = self.options.interface.id;
        self.failures.count(&end);
        self.history.ended(&end, link.map(LinkHandle::stats));
        self.events.push(if link.is_some() {
            let reason = end.into_disconnect();
            self.history.last_disconnect = Some(reason.clone());
            Event::Disconnected { id, reason }
        } else {
            let reason = end.into_rejection();
            self.history.last_rejection = Some(reason.to_string());
            Event::Rejected { id: Some(id), reason }
        });
    }
}

/// Reads the reason that a server sent before it closed the connection.
fn last_message(socket: &Socket) -> End {
    for _ in 0..BATCH {
        match socket.receive() {
            Received::Packet(Ok(Message::Disconnect { reason, .. }), _) => {
                return End::Peer(reason.to_string());
            }
            Received::Packet(..) => {}
            Received::Nothing | Received::Closed => break,
        }
    }
    End::Closed
}

impl Worker for Client {
    fn work(&mut self) -> Result<(), Error> {
        for token in self.poller.ready().map_err(Error::at("epoll_wait"))? {
            if token == WAKE {
                self.wake.drain();
                self.close_failed();
            } else if let Some(connection) =
                self.connection.take_if(|connection| connection.token == token)
            {
                self.service(connection);
            }
        }
        self.expire();
        if self.connection.as_ref().is_some_and(|connection| connection.link.is_some()) {
            // The server has accepted a new link, so it knows that those before are over.
            self.past.retain(|memory| !memory.discard_if_unused());
        }
        let deadline = self.connection.as_ref().and_then(|connection| connection.deadline);
        let next = deadline.into_iter().chain(self.retry).min();
        self.poller.set_deadline(next).map_err(Error::at("timerfd_settime"))
    }

    fn events(&mut self) -> &mut EventQueue {
        &mut self.events
    }

    fn poller(&self) -> &Poller {
        &self.poller
    }

    fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.socket.disconnect("the client is shutting down");
        }
    }
}

/// The descriptor is readable when there is work for [`Client::ready`]: it covers the connection,
/// the timer, and protocol violations that queues have found.
impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}
