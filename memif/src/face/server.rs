//! The listening side: one socket, many interfaces told apart by id.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, btree_map};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::details::Details;
use super::event_loop::{self, Event, EventQueue, Waker, Worker};
use super::history::{End, FailureCounts, History};
use super::link::{LinkHandle, Parts, RingParts, build};
use super::options::{DEFAULT_APP_NAME, InterfaceConfig, InterfaceOptions, Role, SocketOptions};
use crate::error::{BindError, Error, OptionsError, ProtocolError, Rejection};
use crate::format::MAX_QUEUES;
use crate::format::message::{Init, Message, Name};
use crate::format::secret::Secret;
use crate::mechanism::Side;
use crate::mechanism::server_handshake::{self, Host, Limits, ServerHandshake, Setup, Step};
use crate::memory::region::{Region, Regions};
use crate::system::addr::SocketAddr;
use crate::system::closers;
use crate::system::event_fd::EventFd;
use crate::system::listen::Listener;
use crate::system::memfd;
use crate::system::poller::{Interest, Poller, deadline_in};
use crate::system::scm_rights;
use crate::system::socket::{Received, Socket};
use crate::system::untrusted_fd::UntrustedFd;

const WAKE: u64 = 1;
const LISTENER: u64 = 2;
const FIRST_CONNECTION: u64 = 3;
/// Connections accepted, and messages read of each, in one round: a flood on one leaves time for
/// the others.
const BATCH: usize = 32;
/// How long to leave the listener alone when there is no descriptor left for a connection, or too
/// many wait to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket and its interfaces, which can be [added](Self::add) and
/// [removed](Self::remove) while others are connected.
///
/// [`ready`](Self::ready) does the work and never blocks; the descriptor ([`AsFd`]) is readable
/// when there is work. Dropping the server takes its links down and removes the socket's file.
///
/// ```no_run
/// use memif::{Event, InterfaceOptions, Server, SocketOptions};
///
/// let mut server = Server::bind(&"/run/memif.sock".parse()?, SocketOptions::new().mode(0o660))?;
/// server.add(InterfaceOptions::new(0).name("first"))?;
/// while let Some(event) = server.wait(None)? {
///     if let Event::Connected { id, link } = event {
///         println!("interface {id}: {} has connected", link.peer.app_name);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    listener: Listener,
    options: SocketOptions,
    poller: Poller,
    wake: Arc<EventFd>,
    waker: Waker,
    interfaces: HashMap<u32, Interface>,
    /// By token, which is also by age.
    connections: BTreeMap<u64, Connection>,
    next_token: u64,
    accept_again: Option<Instant>,
    events: EventQueue,
    failures: FailureCounts,
}

#[derive(Debug)]
struct Interface {
    config: InterfaceConfig,
    any_mode: bool,
    history: History,
    /// The token of the connection that has the interface.
    owner: Option<u64>,
}

#[derive(Debug)]
struct Connection {
    token: u64,
    socket: Socket,
    handshake: ServerHandshake<UntrustedFd, Region>,
    /// When the link must be up; none once it is.
    deadline: Option<Instant>,
    /// The interface that the client has asked for.
    requested: Option<u32>,
    /// Bytes mapped for the client.
    mapped: u64,
    link: Option<LinkHandle>,
}

impl Server {
    /// Listens at `addr`. The socket file of a dead server is replaced, that of a live one never.
    ///
    /// # Errors
    /// [`BindError`]: the address is in use or no socket, the directory is missing, or a system
    /// call failed.
    pub fn bind(addr: &SocketAddr, options: SocketOptions) -> Result<Self, BindError> {
        Self::listen(addr, options, |mode| Listener::bind(addr, mode))
    }

    /// Serves a socket that listens already, such as one from a service manager or from
    /// [`into_listener`](Self::into_listener). It must be a `SOCK_SEQPACKET` unix socket; details
    /// and errors call it `addr`. The server never removes the socket's file.
    ///
    /// # Errors
    /// [`BindError::NotListening`] when it is something else, or a failing system call.
    pub fn from_listener(
        listener: OwnedFd,
        addr: &SocketAddr,
        options: SocketOptions,
    ) -> Result<Self, BindError> {
        Self::listen(addr, options, |_| Listener::adopt(listener, addr))
    }

    /// Returns the listening socket, whose file stays, so that another server can continue at the
    /// same address; clients that connect in between wait. All links of this server go down.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated; the socket is then closed and its file removed.
    pub fn into_listener(mut self) -> std::io::Result<OwnedFd> {
        self.listener.hand_over()
    }

    fn listen(
        addr: &SocketAddr,
        options: SocketOptions,
        listener: impl FnOnce(Option<u32>) -> Result<Listener, BindError>,
    ) -> Result<Self, BindError> {
        let fail =
            |step| move |source| BindError::System { socket: addr.to_string(), step, source };
        let poller = Poller::new().map_err(fail("epoll"))?;
        let wake = Arc::new(EventFd::new().map_err(fail("eventfd"))?);
        poller.add(&*wake, WAKE).map_err(fail("epoll"))?;
        let listener = listener(options.mode)?;
        poller.add(&listener, LISTENER).map_err(fail("epoll"))?;
        Ok(Self {
            addr: addr.clone(),
            listener,
            options,
            poller,
            waker: Waker::new(&wake),
            wake,
            interfaces: HashMap::new(),
            connections: BTreeMap::new(),
            next_token: FIRST_CONNECTION,
            accept_again: None,
            events: EventQueue::default(),
            failures: FailureCounts::default(),
        })
    }

    /// Returns the listening socket, for its number. Do not accept on it.
    #[must_use]
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Adds an interface for one client. Links of other interfaces are not affected, and clients
    /// that were rejected because it was missing succeed when they try again.
    ///
    /// # Errors
    /// [`OptionsError`] when an option is out of its range or the id is taken.
    pub fn add(&mut self, options: InterfaceOptions) -> Result<(), OptionsError> {
        options.check()?;
        let (config, any_mode) = (options.interface, options.any_mode);
        match self.interfaces.entry(config.id) {
            Entry::Occupied(_) => Err(OptionsError::Duplicate(config.id)),
            Entry::Vacant(vacant) => {
                let history = History::default();
                vacant.insert(Interface { config, any_mode, history, owner: None });
                Ok(())
            }
        }
    }

    /// Removes an interface and sends `reason` (up to 95 bytes) to its peer, if it has one; other
    /// links are not affected. Past events of the interface are still reported, before any of a new
    /// interface with the same id. Returns whether there was such an interface.
    pub fn remove(&mut self, id: u32, reason: &str) -> bool {
        self.disconnect(id, reason);
        self.interfaces.remove(&id).is_some()
    }

    /// Disconnects an interface's peer and sends it `reason` (up to 95 bytes). The interface stays
    /// and accepts the next client, which may be the same. Returns whether there was a peer.
    pub fn disconnect(&mut self, id: u32, reason: &str) -> bool {
        let owner = self.interfaces.get(&id).and_then(|interface| interface.owner);
        let Some(connection) = owner.and_then(|token| self.connections.remove(&token)) else {
            return false;
        };
        self.end(connection, End::Local(reason.to_owned()));
        // `ready` hands the event out: this makes a poll loop call it.
        self.wake.notify();
        true
    }

    /// Returns the ids of all interfaces, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.interfaces.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Returns a snapshot of interface `id`, without its rings' descriptors.
    #[must_use]
    pub fn details(&self, id: u32) -> Option<Details> {
        self.gather(id, false)
    }

    /// Returns a snapshot of interface `id`, with the descriptors of all rings.
    #[must_use]
    pub fn details_with_descriptors(&self, id: u32) -> Option<Details> {
        self.gather(id, true)
    }

    fn gather(&self, id: u32, descriptors: bool) -> Option<Details> {
        let Interface { config, history, owner, .. } = self.interfaces.get(&id)?;
        let connection = owner.and_then(|token| self.connections.get(&token));
        let link = connection.and_then(|connection| connection.link.as_ref());
        let socket = self.addr.to_string();
        Some(Details::gather(Role::Server, socket, config, history, link, descriptors))
    }

    /// Returns how often each check failed and each rejection was sent, by [`Rejection::name`]: for
    /// all interfaces of the socket, and for peers that never asked for one.
    #[must_use]
    pub fn failures(&self) -> Vec<(&'static str, u64)> {
        self.failures.all()
    }

    /// Does what is due without blocking, and returns the next event. When the descriptor polls
    /// readable, call this until it returns `None`. Under load it may return `None` early; the
    /// descriptor then stays readable.
    ///
    /// # Errors
    /// [`Error`] when the server's own descriptors fail; peers cause none.
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

    fn accept(&mut self) -> Result<(), Error> {
        for _ in 0..BATCH {
            if closers::are_overloaded() {
                tracing::warn!("descriptors of peers cannot be closed; no connection is accepted");
                return self.pause_accepting();
            }
            match scm_rights::accept(self.listener.as_fd()) {
                Ok(fd) => self.start_handshake(Socket::accepted(fd)),
                Err(nix::Error::EAGAIN) => return Ok(()),
                // The client has closed the connection before it was accepted.
                Err(nix::Error::ECONNABORTED | nix::Error::EINTR) => {}
                Err(errno) => {
                    tracing::warn!(%errno, "cannot accept connections for now; raise the limit of open files?");
                    return self.pause_accepting();
                }
            }
        }
        Ok(())
    }

    fn pause_accepting(&mut self) -> Result<(), Error> {
        self.poller.remove(&self.listener).map_err(Error::at("epoll_ctl"))?;
        self.accept_again = Some(deadline_in(ACCEPT_PAUSE));
        Ok(())
    }

    /// Sends HELLO on a new connection, unless its user is not allowed.
    fn start_handshake(&mut self, mut socket: Socket) {
        if let Some(allowed) = &self.options.allowed_uids
            && let uid = socket.peer_uid()
            && !uid.is_some_and(|uid| allowed.contains(&uid))
        {
            let end = End::Rejected(Rejection::UidNotAllowed { uid });
            socket.disconnect(&end.to_string());
            self.failures.count(&end);
            self.events.push(Event::Rejected { id: None, reason: end.into_rejection() });
            return;
        }
        let configs = || self.interfaces.values().map(|interface| &interface.config);
        let most = |queues: fn(&InterfaceConfig) -> u8| {
            configs().map(queues).max().map_or(MAX_QUEUES, u16::from)
        };
        let limits =
            Limits { s2m: most(|config| config.rx_queues), m2s: most(|config| config.tx_queues) };
        let first = configs().min_by_key(|config| config.id);
        let app_name = first.map_or(DEFAULT_APP_NAME, InterfaceConfig::app_name);
        if socket.send(&server_handshake::hello(app_name, limits), None).is_err() {
            return;
        }
        let token = self.next_token;
        self.next_token += 1;
        if let Err(error) = self.poller.add(&socket, token) {
            tracing::warn!(%error, "cannot watch a new connection");
            return;
        }
        let connection = Connection {
            token,
            socket,
            handshake: ServerHandshake::new(),
            deadline: Some(deadline_in(self.options.connect_timeout)),
            requested: None,
            mapped: 0,
            link: None,
        };
        self.connections.insert(token, connection);
        self.limit_pending();
    }

    /// Closes the oldest connection that has not asked for an interface, if there are too many of
    /// them.
    fn limit_pending(&mut self) {
        let pending =
            || self.connections.iter().filter(|(_, connection)| connection.requested.is_none());
        if pending().count() <= self.options.max_pending {
            return;
        }
        let oldest =
            pending().next().map(|(token, connection)| (*token, connection.socket.has_input()));
        let Some((oldest, has_input)) = oldest else { return };
        // Its INIT may be here, unread: then the connection stays.
        if has_input {
            self.service(oldest);
        }
        if let btree_map::Entry::Occupied(silent) = self.connections.entry(oldest)
            && silent.get().requested.is_none()
        {
            let connection = silent.remove();
            self.end(connection, Rejection::Crowded.into());
        }
    }

    /// Handles what came on a connection, and keeps or ends it.
    fn service(&mut self, token: u64) {
        // It may have ended earlier in this round.
        let Some(mut connection) = self.connections.remove(&token) else { return };
        let was_stuck = connection.socket.is_stuck();
        match self.exchange_messages(token, &mut connection) {
            Ok(()) => {
                let stuck = connection.socket.is_stuck();
                let interest = if stuck { Interest::Write } else { Interest::Read };
                if stuck != was_stuck
                    && let Err(error) = self.poller.watch(&connection.socket, token, interest)
                {
                    self.end(connection, End::Rejected(error.into()));
                    return;
                }
                self.connections.insert(token, connection);
            }
            Err(end) => self.end(connection, end),
        }
    }

    fn exchange_messages(&mut self, token: u64, connection: &mut Connection) -> Result<(), End> {
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
            if let (None, Message::Init(init)) = (connection.requested, &message) {
                connection.requested = Some(init.id);
                self.free_if_dead(init.id);
            }
            let mut host = Admission {
                token,
                interfaces: &mut self.interfaces,
                mapped: &mut connection.mapped,
                options: &self.options,
            };
            match connection.handshake.receive(message, fds, &mut host)? {
                Step::Answer(answer) => {
                    connection.socket.send(&answer, None).map_err(|_| End::Closed)?;
                }
                Step::Establish(setup) => self.establish(connection, setup)?,
                Step::Disconnected(reason) => return Err(End::Peer(reason)),
            }
        }
        Ok(())
    }

    /// Frees an interface whose client has died: the INIT of its successor may be read before the
    /// end of the old connection is.
    fn free_if_dead(&mut self, id: u32) {
        let owner = self.interfaces.get(&id).and_then(|interface| interface.owner);
        if let Some(token) = owner
            && self.connections.get(&token).is_some_and(|connection| connection.socket.is_hung_up())
            && let Some(connection) = self.connections.remove(&token)
        {
            self.end(connection, End::Closed);
        }
    }

    fn establish(
        &mut self,
        connection: &mut Connection,
        setup: Setup<UntrustedFd, Region>,
    ) -> Result<(), End> {
        let id = setup.id;
        let Some(interface) = self.interfaces.get_mut(&id) else {
            return Err(Rejection::UnknownId { id }.into());
        };
        let rings = setup.rings.into_iter();
        let (link, handle) = build(Parts {
            interface: &interface.config,
            headroom: 0,
            manual: false,
            name: setup.name,
            app_name: setup.app_name,
            regions: Arc::new(Regions::new(setup.regions.into_iter().map(Arc::new).collect())),
            rings: rings
                .map(|(place, event_fd)| RingParts { place, side: Side::Server, event_fd })
                .collect(),
            wake: Arc::clone(&self.wake),
        })?;
        let connected = Message::Connected { name: Name::new(&interface.config.name()) };
        connection.socket.send(&connected, None).map_err(|_| End::Closed)?;
        connection.deadline = None;
        connection.link = Some(handle);
        interface.history.links += 1;
        self.events.push(Event::Connected { id, link });
        Ok(())
    }

    /// Closes the links whose queues have found violations of the protocol.
    fn close_failed(&mut self) {
        let error =
            |connection: &Connection| connection.link.as_ref().and_then(LinkHandle::error).cloned();
        let failed: Vec<(u64, ProtocolError)> = self
            .connections
            .iter()
            .filter_map(|(token, connection)| Some((*token, error(connection)?)))
            .collect();
        for (token, error) in failed {
            if let Some(connection) = self.connections.remove(&token) {
                self.end(connection, error.into());
            }
        }
    }

    fn expire(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let late =
            |connection: &Connection| connection.deadline.is_some_and(|deadline| deadline <= now);
        let late: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| late(connection))
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            if let Some(connection) = self.connections.remove(&token) {
                self.end(connection, Rejection::Timeout.into());
            }
        }
        if self.accept_again.is_some_and(|time| time <= now) {
            self.accept_again = None;
            self.poller.add(&self.listener, LISTENER).map_err(Error::at("epoll_ctl"))?;
        }
        Ok(())
    }

    /// Sends the reason to the peer, frees the interface, and reports the end.
    fn end(&mut self, mut connection: Connection, end: End) {
        let reason_sent = end.reason_to_send();
        if let Some(reason) = &reason_sent {
            connection.socket.disconnect(reason);
        }
        let id = connection.requested;
        tracing::debug!(?id, %end, "connection over");
        self.failures.count(&end);
        // A client that never got the interface leaves nothing in its history.
        let mut owned = id.and_then(|id| self.interfaces.get_mut(&id));
        owned = owned.filter(|interface| interface.owner == Some(connection.token));
        if let Some(interface) = &mut owned {
            interface.owner = None;
            if reason_sent.is_some() {
                interface.history.last_reason_sent = reason_sent;
            }
            interface.history.ended(&end, connection.link.as_ref().map(LinkHandle::stats));
        }
        let event = match (id, connection.link) {
            (Some(id), Some(_)) => {
                let reason = end.into_disconnect();
                if let Some(interface) = owned {
                    interface.history.last_disconnect = Some(reason.clone());
                }
                Event::Disconnected { id, reason }
            }
            // A process that only tests whether a server listens here is no client.
            (None, _) if matches!(end, End::Closed) => return,
            (id, _) => {
                let reason = end.into_rejection();
                if let Some(interface) = owned {
                    interface.history.last_rejection = Some(reason.to_string());
                }
                Event::Rejected { id, reason }
            }
        };
        self.events.push(event);
    }
}

impl Worker for Server {
    fn work(&mut self) -> Result<(), Error> {
        for token in self.poller.ready().map_err(Error::at("epoll_wait"))? {
            match token {
                WAKE => {
                    self.wake.drain();
                    self.close_failed();
                }
                LISTENER => self.accept()?,
                token => self.service(token),
            }
        }
        self.expire()?;
        let accept_again = self.accept_again.into_iter();
        let deadline = self
            .connections
            .values()
            .filter_map(|connection| connection.deadline)
            .chain(accept_again);
        self.poller.set_deadline(deadline.min()).map_err(Error::at("timerfd_settime"))
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

impl Drop for Server {
    fn drop(&mut self) {
        for connection in self.connections.values_mut() {
            connection.socket.disconnect("the server is shutting down");
        }
    }
}

/// The descriptor is readable when there is work for [`Server::ready`]: it covers the listener, all
/// connections, timers, and protocol violations that queues have found.
impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

/// Decides for one connection whether it gets an interface, and maps its memory.
struct Admission<'a> {
    token: u64,
    interfaces: &'a mut HashMap<u32, Interface>,
    mapped: &'a mut u64,
    options: &'a SocketOptions,
}

impl Host for Admission<'_> {
    type Fd = UntrustedFd;
    type Region = Region;

    fn admit(&mut self, init: &Init) -> Result<Limits, Rejection> {
        let id = init.id;
        let interface = self.interfaces.get_mut(&id).ok_or(Rejection::UnknownId { id })?;
        let config = &interface.config;
        // The secret first: a peer without it learns nothing else about the interface.
        if !config.secret.as_ref().is_none_or(|secret: &Secret| secret.matches(&init.secret)) {
            return Err(Rejection::WrongSecret);
        }
        if init.mode != config.mode.wire() && !interface.any_mode {
            return Err(Rejection::ModeMismatch { got: init.mode, want: config.mode });
        }
        if interface.owner.is_some() {
            return Err(Rejection::Busy { id });
        }
        interface.owner = Some(self.token);
        Ok(Limits { s2m: config.rx_queues.into(), m2s: config.tx_queues.into() })
    }

    fn map(
        &mut self,
        index: u16,
        fd: UntrustedFd,
        size: u64,
    ) -> Result<(Region, u64), ProtocolError> {
        let left = self.options.max_memory.saturating_sub(*self.mapped);
        let (mut region, reach) =
            memfd::map(index, fd.as_fd(), size, left, self.options.allow_unsealed)?;
        if self.options.keep_files {
            let file = fd.as_fd().try_clone_to_owned();
            region.keep(Arc::new(
                file.map_err(|error| ProtocolError::RegionMap { index, errno: error.to_string() })?,
            ));
        }
        *self.mapped += reach;
        Ok((region, reach))
    }

    fn can_interrupt(&self, fd: &UntrustedFd) -> bool {
        fd.may_be_eventfd()
    }
}
