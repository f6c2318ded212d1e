//! The listening side: one socket, many interfaces told apart by id.

mod options;

use std::collections::{BTreeMap, HashMap, btree_map};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::options::ServerOptions;
use super::details::Details;
use super::end::End;
use super::event::Event;
use super::event_loop::{self, News, Worker};
use super::history::{History, Tally};
use super::link::{LinkHandle, Parts, Ring, build};
use super::options::{Options, Role};
use super::waker::Waker;
use crate::error::{BindError, Error, OptionsError, ProtocolError, Rejection};
use crate::format::MAX_QUEUES;
use crate::format::message::{Init, Message, Name};
use crate::format::secret::Secret;
use crate::mechanism::Side;
use crate::mechanism::server::{self as machine, Host, Limits, Setup, Step};
use crate::memory::region::{Region, Regions};
use crate::system::addr::SocketAddr;
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
/// Connections taken, and messages read of each, in one go: a flood on one leaves time for the others.
const BATCH: usize = 32;
/// How long to leave the listener alone when there is no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket and the interfaces behind it, which may [come](Self::add) and [go](Self::remove) while others are
/// connected.
///
/// It does its work in [`ready`](Self::ready), which never blocks; its descriptor ([`AsFd`]) is readable when there is
/// work. Dropping it takes its links down and removes the socket's file.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    listener: Listener,
    options: ServerOptions,
    poller: Poller,
    wake: Arc<EventFd>,
    canceller: Waker,
    interfaces: HashMap<u32, Interface>,
    /// By token, which is also by age.
    connections: BTreeMap<u64, Connection>,
    next_token: u64,
    accept_again: Option<Instant>,
    news: News,
    tally: Tally,
}

#[derive(Debug)]
struct Interface {
    options: Options,
    history: History,
    /// The connection that has it.
    holder: Option<u64>,
}

#[derive(Debug)]
struct Connection {
    token: u64,
    socket: Socket,
    machine: machine::Server<UntrustedFd, Region>,
    /// When it must be up; none once it is.
    deadline: Option<Instant>,
    /// The interface it asked for.
    asked: Option<u32>,
    /// Bytes mapped for it.
    mapped: u64,
    link: Option<LinkHandle>,
}

impl Server {
    /// Listens at `addr` with default options.
    ///
    /// # Errors
    /// As [`bind_with`](Self::bind_with).
    pub fn bind(addr: &SocketAddr) -> Result<Self, BindError> {
        Self::bind_with(addr, ServerOptions::default())
    }

    /// Listens at `addr`. The file of a dead server is replaced, that of a live one never.
    ///
    /// # Errors
    /// [`BindError`]: in use, not a socket, no such directory, or a failing system call.
    pub fn bind_with(addr: &SocketAddr, options: ServerOptions) -> Result<Self, BindError> {
        Self::listen(addr, options, |mode| Listener::bind(addr, mode))
    }

    /// Serves a socket that listens already, such as one handed over by a service manager or by
    /// [`into_listener`](Self::into_listener). It must be a `SOCK_SEQPACKET` socket of the unix kind; `addr` is what it
    /// is called in details and errors. Its file, if it has one, is left to whoever made it.
    ///
    /// # Errors
    /// [`BindError::NotListening`] when it is something else, or a failing system call.
    pub fn from_listener(
        listener: OwnedFd,
        addr: &SocketAddr,
        options: ServerOptions,
    ) -> Result<Self, BindError> {
        Self::listen(addr, options, |_| Listener::adopt(listener, addr))
    }

    /// Hands the listening socket out, whose file stays: whoever gets it goes on serving at the same address, and clients that
    /// try in between wait. All links of this server go down.
    ///
    /// # Errors
    /// When no descriptor is to be had; the socket is closed and its file removed then.
    pub fn into_listener(mut self) -> std::io::Result<OwnedFd> {
        self.listener.hand_out()
    }

    fn listen(
        addr: &SocketAddr,
        options: ServerOptions,
        listener: impl FnOnce(Option<u32>) -> Result<Listener, BindError>,
    ) -> Result<Self, BindError> {
        let fail = |step| move |source| BindError::System { socket: addr.to_string(), step, source };
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
            canceller: Waker::new(&wake),
            wake,
            interfaces: HashMap::new(),
            connections: BTreeMap::new(),
            next_token: FIRST_CONNECTION,
            accept_again: None,
            news: News::default(),
            tally: Tally::default(),
        })
    }

    /// Adds an interface for one client. Links of other interfaces take no notice, and clients that were turned away for want of
    /// it get in when they try again.
    ///
    /// # Errors
    /// [`OptionsError`] when an option is out of its range or the id is taken.
    pub fn add(&mut self, options: Options) -> Result<(), OptionsError> {
        options.check()?;
        if self.interfaces.contains_key(&options.id) {
            return Err(OptionsError::Duplicate(options.id));
        }
        self.interfaces.insert(options.id, Interface { options, history: History::default(), holder: None });
        Ok(())
    }

    /// Removes an interface; its peer, if any, is told `reason` (up to 95 bytes), and the others take no notice. What has happened
    /// to it is still reported, before anything of a new interface with the same id. Whether there was such an interface.
    pub fn remove(&mut self, id: u32, reason: &str) -> bool {
        self.disconnect(id, reason);
        self.interfaces.remove(&id).is_some()
    }

    /// Disconnects an interface's peer and tells it `reason` (up to 95 bytes). The interface stays and takes the next
    /// client, which may be the same. Whether there was a peer.
    pub fn disconnect(&mut self, id: u32, reason: &str) -> bool {
        let holder = self.interfaces.get(&id).and_then(|interface| interface.holder);
        let Some(connection) = holder.and_then(|token| self.connections.remove(&token)) else { return false };
        self.end(connection, End::Local(reason.to_owned()));
        // Its event waits for `ready`, so let a poll loop call that.
        self.wake.ring();
        true
    }

    /// The ids of all interfaces, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.interfaces.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// All there is to know about interface `id` at this moment, without its rings' descriptors.
    #[must_use]
    pub fn details(&self, id: u32) -> Option<Details> {
        self.gather(id, false)
    }

    /// As [`details`](Self::details), with the descriptors of all rings.
    #[must_use]
    pub fn details_with_descriptors(&self, id: u32) -> Option<Details> {
        self.gather(id, true)
    }

    fn gather(&self, id: u32, descriptors: bool) -> Option<Details> {
        let Interface { options, history, holder } = self.interfaces.get(&id)?;
        let connection = holder.and_then(|token| self.connections.get(&token));
        let link = connection.and_then(|connection| connection.link.as_ref());
        let socket = self.addr.to_string();
        Some(Details::gather(Role::Server, socket, options, history, link, descriptors))
    }

    /// How often which check failed or peer was refused, by [`Rejection::name`]; for all interfaces of the socket, and peers
    /// that never said which they want.
    #[must_use]
    pub fn failures(&self) -> Vec<(&'static str, u64)> {
        self.tally.all()
    }

    /// Does what is due without blocking, and returns what happened. Call it until it returns `None`, whenever the
    /// descriptor is readable: that it stays while there is more to do. `None` comes also in a flood, as a caller may have others
    /// to look after.
    ///
    /// # Errors
    /// [`Error`] when the server's own descriptors fail; peers cause none.
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

    fn accept(&mut self) -> Result<(), Error> {
        for _ in 0..BATCH {
            match scm_rights::accept(self.listener.as_fd()) {
                Ok(fd) => self.greet(Socket::accepted(fd)),
                Err(nix::Error::EAGAIN) => return Ok(()),
                // Gone before it was taken.
                Err(nix::Error::ECONNABORTED | nix::Error::EINTR) => {}
                Err(errno) => {
                    tracing::warn!(%errno, "cannot take connections for now; raise the limit of open files?");
                    self.poller.remove(&self.listener).map_err(Error::at("epoll_ctl"))?;
                    self.accept_again = Some(deadline_in(ACCEPT_PAUSE));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes a new connection: HELLO goes out at once.
    fn greet(&mut self, mut socket: Socket) {
        if let Some(allowed) = &self.options.allowed_uids
            && let uid = socket.peer_uid()
            && !uid.is_some_and(|uid| allowed.contains(&uid))
        {
            let end = End::Refused(Rejection::UidNotAllowed { uid });
            socket.bye(&end.to_string());
            self.tally.count(&end);
            self.news.push(Event::Refused { id: None, reason: end.into_refusal() });
            return;
        }
        let most = |queues: fn(&Options) -> Option<u8>| {
            let all = self
                .interfaces
                .values()
                .map(|interface| Options::queues(queues(&interface.options), MAX_QUEUES));
            all.max().unwrap_or(MAX_QUEUES)
        };
        let limits =
            Limits { s2m: most(|options| options.rx_queues), m2s: most(|options| options.tx_queues) };
        let first = self.interfaces.values().min_by_key(|interface| interface.options.id);
        let unnamed = Options::new(0);
        let app_name = first.map_or(&unnamed, |interface| &interface.options).application();
        let greeted = socket.send(&machine::hello(app_name, limits), None);
        if greeted.is_err() {
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
            machine: machine::Server::new(),
            deadline: Some(deadline_in(self.options.connect_timeout)),
            asked: None,
            mapped: 0,
            link: None,
        };
        self.connections.insert(token, connection);
        let waiting = || self.connections.iter().filter(|(_, connection)| connection.asked.is_none());
        if waiting().count() > self.options.max_pending
            && let Some((oldest, has_spoken)) =
                waiting().next().map(|(token, connection)| (*token, connection.socket.has_input()))
        {
            // Who has asked meanwhile makes way for nobody.
            if has_spoken {
                self.serve(oldest);
            }
            if let btree_map::Entry::Occupied(silent) = self.connections.entry(oldest)
                && silent.get().asked.is_none()
            {
                let connection = silent.remove();
                self.end(connection, Rejection::Crowded.into());
            }
        }
    }

    fn serve(&mut self, token: u64) {
        // It may have ended earlier in this round.
        let Some(mut connection) = self.connections.remove(&token) else { return };
        let was_stuck = connection.socket.is_stuck();
        match self.converse(token, &mut connection) {
            Ok(()) => {
                let stuck = connection.socket.is_stuck();
                let interest = if stuck { Interest::Write } else { Interest::Read };
                if stuck != was_stuck
                    && let Err(error) = self.poller.watch(&connection.socket, token, interest)
                {
                    self.end(connection, End::Refused(error.into()));
                    return;
                }
                self.connections.insert(token, connection);
            }
            Err(end) => self.end(connection, end),
        }
    }

    fn converse(&mut self, token: u64, connection: &mut Connection) -> Result<(), End> {
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
            if let (None, Message::Init(init)) = (connection.asked, &message) {
                connection.asked = Some(init.id);
                self.free_if_dead(init.id);
            }
            let mut host = Desk {
                token,
                interfaces: &mut self.interfaces,
                mapped: &mut connection.mapped,
                options: &self.options,
            };
            match connection.machine.receive(message, fds, &mut host)? {
                Step::Answer(answer) => connection.socket.send(&answer, None).map_err(|_| End::Closed)?,
                Step::Establish(setup) => self.establish(connection, setup)?,
                Step::Bye(reason) => return Err(End::Bye(reason)),
            }
        }
        Ok(())
    }

    /// A client that died and came back may be heard before its death is.
    fn free_if_dead(&mut self, id: u32) {
        let holder = self.interfaces.get(&id).and_then(|interface| interface.holder);
        if let Some(token) = holder
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
        let rings = setup.rings.into_iter().map(|(place, bell)| Ring { place, side: Side::Server, bell });
        let (link, handle) = build(Parts {
            options: &interface.options,
            name: setup.name,
            app_name: setup.app_name,
            regions: Arc::new(Regions::new(setup.regions.into_iter().map(Arc::new).collect())),
            rings: rings.collect(),
            wake: Arc::clone(&self.wake),
        })?;
        let connected = Message::Connected { name: Name::new(&interface.options.interface_name()) };
        connection.socket.send(&connected, None).map_err(|_| End::Closed)?;
        connection.deadline = None;
        connection.link = Some(handle);
        interface.history.links += 1;
        self.news.push(Event::Connected { id, link });
        Ok(())
    }

    /// Closes the links whose queues have caught their peers lying.
    fn close_faulted(&mut self) {
        let fault = |connection: &Connection| connection.link.as_ref().and_then(LinkHandle::fault).cloned();
        let faulted: Vec<(u64, ProtocolError)> = self
            .connections
            .iter()
            .filter_map(|(token, connection)| Some((*token, fault(connection)?)))
            .collect();
        for (token, fault) in faulted {
            if let Some(connection) = self.connections.remove(&token) {
                self.end(connection, fault.into());
            }
        }
    }

    fn expire(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let late = |connection: &Connection| connection.deadline.is_some_and(|deadline| deadline <= now);
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

    /// Tells the peer, frees the interface, reports.
    fn end(&mut self, mut connection: Connection, end: End) {
        if let Some(reason) = end.farewell() {
            connection.socket.bye(&reason);
        }
        let id = connection.asked;
        tracing::debug!(?id, %end, "connection over");
        self.tally.count(&end);
        // What those go through who ask for an interface in vain is not the interface's history.
        let mut held = id.and_then(|id| self.interfaces.get_mut(&id));
        held = held.filter(|interface| interface.holder == Some(connection.token));
        if let Some(interface) = &mut held {
            interface.holder = None;
            interface.history.ended(&end, connection.link.as_ref().map(LinkHandle::stats));
        }
        let event = match (id, connection.link) {
            (Some(id), Some(_)) => {
                let reason = end.into_disconnect();
                if let Some(interface) = held {
                    interface.history.last = Some(reason.clone());
                }
                Event::Disconnected { id, reason }
            }
            // A look whether anybody listens here is no client.
            (None, _) if matches!(end, End::Closed) => return,
            (id, _) => {
                let reason = end.into_refusal();
                if let Some(interface) = held {
                    interface.history.refused = Some(reason.to_string());
                }
                Event::Refused { id, reason }
            }
        };
        self.news.push(event);
    }
}

impl Worker for Server {
    fn work(&mut self) -> Result<(), Error> {
        for token in self.poller.ready().map_err(Error::at("epoll_wait"))? {
            match token {
                WAKE => {
                    self.wake.drain();
                    self.close_faulted();
                }
                LISTENER => self.accept()?,
                token => self.serve(token),
            }
        }
        self.expire()?;
        let accept_again = self.accept_again.into_iter();
        let deadline =
            self.connections.values().filter_map(|connection| connection.deadline).chain(accept_again);
        self.poller.set_deadline(deadline.min()).map_err(Error::at("timerfd_settime"))
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

impl Drop for Server {
    fn drop(&mut self) {
        for connection in self.connections.values_mut() {
            connection.socket.bye("the server is shutting down");
        }
    }
}

/// Readable when there is work for [`Server::ready`]: one descriptor for the listener, all connections, timers, and
/// faults found by queues.
impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

/// Decides for one connection who may have which interface, and maps its memory.
struct Desk<'a> {
    token: u64,
    interfaces: &'a mut HashMap<u32, Interface>,
    mapped: &'a mut u64,
    options: &'a ServerOptions,
}

impl Host for Desk<'_> {
    type Fd = UntrustedFd;
    type Region = Region;

    fn admit(&mut self, init: &Init) -> Result<Limits, Rejection> {
        let id = init.id;
        let interface = self.interfaces.get_mut(&id).ok_or(Rejection::UnknownId { id })?;
        let options = &interface.options;
        // The secret first: without it nobody learns more about the interface.
        if !options.secret.as_ref().is_none_or(|secret: &Secret| secret.matches(&init.secret)) {
            return Err(Rejection::WrongSecret);
        }
        if init.mode != options.mode.wire() {
            return Err(Rejection::ModeMismatch { got: init.mode, want: options.mode });
        }
        if interface.holder.is_some() {
            return Err(Rejection::Busy { id });
        }
        interface.holder = Some(self.token);
        Ok(Limits {
            s2m: Options::queues(options.rx_queues, MAX_QUEUES),
            m2s: Options::queues(options.tx_queues, MAX_QUEUES),
        })
    }

    fn map(&mut self, index: u16, fd: UntrustedFd, size: u64) -> Result<(Region, u64), ProtocolError> {
        let left = self.options.max_memory.saturating_sub(*self.mapped);
        let (region, reach) = memfd::map(index, fd.as_fd(), size, left, self.options.unsealed)?;
        *self.mapped += reach;
        Ok((region, reach))
    }
}
