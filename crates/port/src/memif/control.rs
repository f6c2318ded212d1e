//! The memif sockets of a process: connections that come and go, and peers that are rejected.
//!
//! One thread of its own serves all sockets, so a peer that connects, misbehaves or reconnects
//! costs the threads that move frames nothing. A port learns through its mailbox that its link is
//! up or down.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use memif::{Client, Details, Event, Server, SocketAddr, SocketOptions};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::mailbox::{Change, Mailbox};
use super::spec::{MemifOptions, MemifSpec};
use crate::error::PortError;
use crate::report_once::ReportOnce;
use crate::reporter::Reporter;
use crate::wake_fd::WakeFd;

/// The most events taken from one socket in a turn: a peer that keeps reconnecting does not keep
/// the other sockets waiting.
const MAX_EVENTS: usize = 64;
/// The epoll token of the thread's wake descriptor. Sockets have tokens from 1 on.
const WAKE_TOKEN: u64 = 0;

/// The memif sockets of a process, and the thread that serves them.
///
/// Server ports with one address share one socket. Clones share the thread, which ends with the
/// last clone and the last port.
#[derive(Clone, Debug)]
pub struct Sockets(Arc<Handle>);

/// Ends the thread when it is dropped.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread shares with those that open and close ports.
#[derive(Debug)]
struct Shared {
    epoll: Epoll,
    wake_fd: WakeFd,
    closed: AtomicBool,
    /// Whether a peer whose port closes is given the end of the program as the reason.
    shutting_down: AtomicBool,
    state: Mutex<State>,
    /// Held while a port is opened.
    opening: Mutex<()>,
    /// The program's name, for peers.
    program: String,
    reporter: Reporter,
}

#[derive(Debug, Default)]
struct State {
    /// The latest token.
    last_token: u64,
    sockets: BTreeMap<u64, Socket>,
    /// The warnings about settings that were reported. A port in trouble is opened repeatedly.
    warned: BTreeSet<String>,
}

/// One socket and its ports, by interface id.
#[derive(Debug)]
struct Socket {
    endpoint: Endpoint,
    address: SocketAddr,
    ports: BTreeMap<u32, PortEntry>,
    /// The reports that concern the socket and no port.
    reported: ReportOnce,
}

/// The library's end of a socket. Boxed: each has some hundred bytes.
#[derive(Debug)]
enum Endpoint {
    Server(Box<Server>),
    Client(Box<Client>),
}

/// One port of a socket.
#[derive(Debug)]
struct PortEntry {
    name: String,
    mailbox: Arc<Mailbox>,
    reported: ReportOnce,
    /// Why a peer was last rejected. A server does not count that as the interface's own history.
    last_rejection: Option<String>,
}

impl Sockets {
    /// Starts the thread that serves the sockets.
    ///
    /// Peers see `program` as the program's name, unless it is empty. `reporter` receives a line
    /// when a peer goes or is rejected.
    ///
    /// # Errors
    /// [`PortError::System`] when no descriptor or thread is available.
    pub fn start(program: &str, reporter: &Reporter) -> Result<Self, PortError> {
        let start = || -> std::io::Result<Handle> {
            let shared = Arc::new(Shared::new(program.to_owned(), reporter.clone())?);
            let theirs = Arc::clone(&shared);
            let thread =
                std::thread::Builder::new().name("memif".to_owned()).spawn(move || theirs.run())?;
            Ok(Handle { shared, thread: Some(thread) })
        };
        let handle =
            start().map_err(|error| PortError::system("cannot serve memif sockets", error))?;
        Ok(Self(Arc::new(handle)))
    }

    /// Listens or connects as `spec` says, and returns the handle of the connection. Reports call
    /// it `name`.
    ///
    /// # Errors
    /// [`PortError`] when the socket cannot listen, the id is taken, or the options contradict each
    /// other.
    pub fn control(&self, spec: &MemifSpec, name: &str) -> Result<Control, PortError> {
        let (shared, options) = (&self.0.shared, spec.options(&self.0.shared.program));
        let id = options.id();
        let mailbox = Arc::new(Mailbox::new().map_err(|error| PortError::system(name, error))?);
        let port = PortEntry {
            name: name.to_owned(),
            mailbox: Arc::clone(&mailbox),
            reported: ReportOnce::default(),
            last_rejection: None,
        };
        let refused = |source| PortError::Options { port: name.to_owned(), source };
        let system = |error| PortError::system(name, error);
        // Two ports of one new socket must not both make it.
        let opening = shared.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = shared.lock();
        let token = match options {
            MemifOptions::Interface(options) => {
                if let Some((token, server)) = state.server_at(&spec.address) {
                    server.add(options).map_err(refused)?;
                    token
                } else {
                    // Peers of other sockets are served in the meantime.
                    drop(state);
                    let mut server = Server::bind(&spec.address, SocketOptions::new())?;
                    server.add(options).map_err(refused)?;
                    state = shared.lock();
                    let endpoint = Endpoint::Server(Box::new(server));
                    shared.add(&mut state, endpoint, &spec.address).map_err(system)?
                }
            }
            MemifOptions::Client(options) => {
                drop(state);
                let client = Client::new(&spec.address, options)?;
                state = shared.lock();
                let endpoint = Endpoint::Client(Box::new(client));
                shared.add(&mut state, endpoint, &spec.address).map_err(system)?
            }
        };
        if let Some(socket) = state.sockets.get_mut(&token) {
            socket.ports.insert(id, port);
        }
        let warnings: Vec<_> = spec
            .warnings()
            .map(|warning| format!("{name}: {warning}"))
            .filter(|line| state.warned.insert(line.clone()))
            .collect();
        drop(state);
        drop(opening);
        for line in &warnings {
            shared.reporter.note(line);
        }
        Ok(Control { handle: Arc::clone(&self.0), token, id, mailbox })
    }

    /// Announces that the program ends: from now on that is the reason a peer sees when its port
    /// closes.
    pub fn announce_shutdown(&self) {
        // Relaxed: the flag orders nothing.
        self.0.shared.shutting_down.store(true, Ordering::Relaxed);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Relaxed: the thread reads nothing that was written before; the descriptor only makes it
        // look.
        self.shared.closed.store(true, Ordering::Relaxed);
        self.shared.wake_fd.wake();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported as such.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn new(program: String, reporter: Reporter) -> std::io::Result<Self> {
        let (epoll, wake_fd) = (Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, WakeFd::new()?);
        epoll.add(&wake_fd, EpollEvent::new(EpollFlags::EPOLLIN, WAKE_TOKEN))?;
        Ok(Self {
            epoll,
            wake_fd,
            closed: AtomicBool::new(false),
            shutting_down: AtomicBool::new(false),
            state: Mutex::default(),
            opening: Mutex::default(),
            program,
            reporter,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done in it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a new socket from now on. Returns its token.
    fn add(
        &self,
        state: &mut State,
        endpoint: Endpoint,
        address: &SocketAddr,
    ) -> std::io::Result<u64> {
        state.last_token += 1;
        let token = state.last_token;
        self.epoll.add(&endpoint, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        let (address, reported) = (address.clone(), ReportOnce::default());
        state.sockets.insert(token, Socket { endpoint, address, ports: BTreeMap::new(), reported });
        Ok(token)
    }

    /// Runs the thread.
    fn run(&self) {
        let mut events = [EpollEvent::empty(); 64];
        // Relaxed: see where it is set.
        while !self.closed.load(Ordering::Relaxed) {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    return self
                        .reporter
                        .note(&format!("memif sockets are not served any more: {error}"));
                }
            };
            for event in &events[..count] {
                if event.data() == WAKE_TOKEN {
                    self.wake_fd.drain();
                } else {
                    self.serve(event.data());
                }
            }
        }
    }

    fn serve(&self, token: u64) {
        let mut lines = Vec::new();
        {
            let mut state = self.lock();
            // The socket may have been closed since.
            let Some(socket) = state.sockets.get_mut(&token) else { return };
            if socket.serve(&mut |line| lines.push(line)).is_err() {
                // The failure was reported. Watched further, the socket would stay readable for
                // ever.
                let _ = self.epoll.delete(&socket.endpoint);
            }
        }
        // The reader of a report may be slow, and others need the lock.
        for line in lines {
            self.reporter.note(&line);
        }
    }

    /// Closes a port, and its socket with the last port there.
    fn close(&self, token: u64, id: u32) {
        // Relaxed: the flag orders nothing.
        let reason = if self.shutting_down.load(Ordering::Relaxed) {
            "the program that ran this interface ends"
        } else {
            "this interface was taken down"
        };
        let mut state = self.lock();
        let Some(socket) = state.sockets.get_mut(&token) else { return };
        socket.ports.remove(&id);
        match &mut socket.endpoint {
            Endpoint::Server(server) => drop(server.remove(id, reason)),
            Endpoint::Client(client) => drop(client.disconnect(reason)),
        }
        if socket.ports.is_empty() {
            // A socket that is not watched cannot be removed, and need not be.
            let _ = self.epoll.delete(&socket.endpoint);
            let closed = state.sockets.remove(&token);
            drop(state);
            drop(closed);
        } else {
            // The end of this port is no event for a port that gets the same id next.
            let _ = socket.serve(&mut |line| tracing::debug!(line, "while a port was closed"));
        }
    }

    fn details(&self, token: u64, id: u32) -> Option<Details> {
        let state = self.lock();
        let socket = state.sockets.get(&token)?;
        let mut details = match &socket.endpoint {
            Endpoint::Server(server) => server.details(id)?,
            Endpoint::Client(client) => client.details(),
        };
        details.last_rejection.clone_from(&socket.ports.get(&id)?.last_rejection);
        Some(details)
    }
}

impl State {
    fn server_at(&mut self, address: &SocketAddr) -> Option<(u64, &mut Server)> {
        self.sockets.iter_mut().find_map(|(token, socket)| match &mut socket.endpoint {
            Endpoint::Server(server) if socket.address == *address => Some((*token, &mut **server)),
            _ => None,
        })
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Server(server) => server.as_fd(),
            Self::Client(client) => client.as_fd(),
        }
    }
}

impl Endpoint {
    fn next_event(&mut self) -> Result<Option<Event>, memif::Error> {
        match self {
            Self::Server(server) => server.ready(),
            Self::Client(client) => client.ready(),
        }
    }
}

impl Socket {
    /// Handles the events that are there, and posts what concerns a port to its mailbox.
    ///
    /// # Errors
    /// When the socket's own descriptors fail, which was reported.
    fn serve(&mut self, report: &mut dyn FnMut(String)) -> Result<(), memif::Error> {
        for _ in 0..MAX_EVENTS {
            match self.endpoint.next_event() {
                Ok(None) => break,
                Ok(Some(event)) => self.handle(event, report),
                Err(error) => {
                    self.reported.report(&format!("memif {}", self.address), &error, report);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event, report: &mut dyn FnMut(String)) {
        match event {
            Event::Connected { id, link } => {
                let Some(port) = self.ports.get_mut(&id) else { return };
                tracing::info!(port = port.name, peer = ?link.peer, "connected");
                port.reported.clear();
                port.mailbox.post(Change::Up(link));
            }
            Event::Disconnected { id, reason } => {
                let Some(port) = self.ports.get_mut(&id) else { return };
                port.reported.report(&port.name, &reason, report);
                port.mailbox.post(Change::Down);
            }
            Event::Rejected { id, reason } => match id.and_then(|id| self.ports.get_mut(&id)) {
                Some(port) => {
                    port.reported.report(&port.name, &reason, report);
                    port.last_rejection = Some(reason.to_string());
                }
                // The peer asked for an id that no port has, so the report concerns the socket.
                None => self.reported.report(&format!("memif {}", self.address), &reason, report),
            },
            other => tracing::debug!(address = %self.address, ?other, "unknown event"),
        }
    }
}

/// The connection of one memif interface, apart from its frames. Dropping it closes the interface.
///
/// Its descriptor polls readable while there is a [change](Self::next).
#[derive(Debug)]
pub struct Control {
    handle: Arc<Handle>,
    token: u64,
    id: u32,
    mailbox: Arc<Mailbox>,
}

impl Control {
    /// Returns the next change of the link, oldest first, without waiting.
    #[must_use]
    pub fn next(&self) -> Option<Change> {
        self.mailbox.take()
    }

    /// Returns whether there is a change. Costs one load.
    pub(crate) fn has_changes(&self) -> bool {
        self.mailbox.has_mail()
    }

    /// Returns a handle that reads the state of the connection from anywhere.
    pub(crate) fn view(&self) -> View {
        View { handle: Arc::clone(&self.handle), token: self.token, id: self.id }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mailbox.as_fd()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.handle.shared.close(self.token, self.id);
    }
}

/// Reads the state of a port's connection from anywhere, while a node has the port.
#[derive(Debug)]
pub struct View {
    handle: Arc<Handle>,
    token: u64,
    id: u32,
}

impl View {
    /// Returns the state and the history of the connection, or `None` when the port is closed.
    #[must_use]
    pub fn details(&self) -> Option<Details> {
        self.handle.shared.details(self.token, self.id)
    }
}
