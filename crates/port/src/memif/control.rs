//! The connections behind memif ports: who connects, who goes, and who was turned away.
//!
//! All sockets are looked after by one thread of their own, so that peers who connect, lie, or come ever anew cost those
//! nothing who move frames. A port hears through its mailbox that its link is there or gone.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use memif::{Client, Details, Event, Server, SocketAddr, SocketOptions};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::mailbox::{Change, Mailbox};
use super::{MemifOptions, MemifPort, MemifSpec};
use crate::error::PortError;
use crate::report_once::ReportOnce;
use crate::reporter::Reporter;
use crate::wake_fd::WakeFd;

/// How many events are taken at once from a socket: nobody who connects ever anew keeps the other sockets waiting.
const MAX_EVENTS: usize = 64;
/// The bell's place among the endpoints' tokens.
const BELL: u64 = 0;

/// The memif sockets of a process. Several server ports can share one: this is where they find it. Clones are the same.
#[derive(Clone)]
pub struct Sockets(Arc<Front>);

/// Goes with the last of those who need it, and the thread with it.
struct Front {
    office: Arc<Office>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread shares with those who open and close ports.
struct Office {
    epoll: Epoll,
    bell: WakeFd,
    closed: AtomicBool,
    /// Peers are told that the whole program ends.
    farewell: AtomicBool,
    table: Mutex<Table>,
    /// The program's name, for peers.
    program: String,
    reporter: Reporter,
}

#[derive(Default)]
struct Table {
    /// The token that was given last.
    last: u64,
    endpoints: BTreeMap<u64, Endpoint>,
    /// Who was told what asking for zero-copy changes: a port that is in trouble is opened again and again.
    remarked: BTreeSet<String>,
}

/// A socket, and the ports behind it by their ids.
struct Endpoint {
    face: Face,
    address: SocketAddr,
    ports: BTreeMap<u32, Subscriber>,
    /// Of what concerns no port.
    told: ReportOnce,
}

enum Face {
    // Boxed: each is some hundred bytes.
    Server(Box<Server>),
    Client(Box<Client>),
}

struct Subscriber {
    name: String,
    mailbox: Arc<Mailbox>,
    told: ReportOnce,
    /// Why somebody was turned away last. A server does not count that as the interface's own history.
    refused: Option<String>,
}

impl Sockets {
    /// Starts the thread that serves sockets. Peers see `program` as the program's name; `reporter` hears of peers that go or
    /// are turned away.
    ///
    /// # Errors
    /// [`PortError::System`] when no descriptor or thread is available.
    pub fn start(program: &str, reporter: &Reporter) -> Result<Self, PortError> {
        let front = || -> std::io::Result<Front> {
            let office = Arc::new(Office::new(program.to_owned(), reporter.clone())?);
            let here = Arc::clone(&office);
            let thread = std::thread::Builder::new().name("memif".to_owned()).spawn(move || here.work())?;
            Ok(Front { office, thread: Some(thread) })
        };
        let front = front().map_err(|error| PortError::system("cannot look after memif sockets", error))?;
        Ok(Self(Arc::new(front)))
    }

    /// Opens a port, which the user calls `name`.
    ///
    /// # Errors
    /// When it cannot listen, its id is taken, or its options do not go together.
    pub fn open(&self, spec: &MemifSpec, name: String) -> Result<MemifPort, PortError> {
        let control = self.control(spec, &name)?;
        Ok(MemifPort::new(name, control, spec.rx_mode))
    }

    /// Begins to listen or to connect for whom the user calls `name`.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn control(&self, spec: &MemifSpec, name: &str) -> Result<Control, PortError> {
        let (office, options) = (&self.0.office, spec.options(&self.0.office.program));
        let id = options.id();
        let mailbox = Arc::new(Mailbox::new().map_err(|error| PortError::system(name, error))?);
        let subscriber = Subscriber {
            name: name.to_owned(),
            mailbox: Arc::clone(&mailbox),
            told: ReportOnce::default(),
            refused: None,
        };
        let refused = |source| PortError::Options { port: name.to_owned(), source };
        let system = |error| PortError::system(name, error);
        let mut table = office.lock();
        let token = match options {
            MemifOptions::Interface(options) => {
                if let Some((token, server)) = table.server_at(&spec.address) {
                    server.add(options).map_err(refused)?;
                    token
                } else {
                    let mut server = Server::bind(&spec.address, SocketOptions::new())?;
                    server.add(options).map_err(refused)?;
                    let face = Face::Server(Box::new(server));
                    office.admit(&mut table, face, &spec.address).map_err(system)?
                }
            }
            MemifOptions::Client(options) => {
                let face = Face::Client(Box::new(Client::new(&spec.address, options)?));
                office.admit(&mut table, face, &spec.address).map_err(system)?
            }
        };
        if let Some(endpoint) = table.endpoints.get_mut(&token) {
            endpoint.ports.insert(id, subscriber);
        }
        let new = spec.zero_copy && table.remarked.insert(name.to_owned());
        // Whoever reads it may be slow, and others need the table.
        drop(table);
        if new {
            office.reporter.note(&format!(
                "{name}: zero-copy=yes changes nothing: this end always copies, once; the peer need not"
            ));
        }
        Ok(Control { front: Arc::clone(&self.0), token, id, mailbox })
    }

    /// From now on a peer whose port is closed hears that the whole program ends.
    pub fn farewell(&self) {
        // Relaxed: the flag orders nothing.
        self.0.office.farewell.store(true, Ordering::Relaxed);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.office.closed.store(true, Ordering::Relaxed);
        self.office.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported as such.
            let _ = thread.join();
        }
    }
}

impl Office {
    fn new(program: String, reporter: Reporter) -> std::io::Result<Self> {
        let (epoll, bell) = (Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, WakeFd::new()?);
        epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        Ok(Self {
            epoll,
            bell,
            closed: AtomicBool::new(false),
            farewell: AtomicBool::new(false),
            table: Mutex::default(),
            program,
            reporter,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves nothing half done in it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after a new endpoint from now on.
    fn admit(&self, table: &mut Table, face: Face, address: &SocketAddr) -> std::io::Result<u64> {
        table.last += 1;
        let token = table.last;
        self.epoll.add(&face, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        let address = address.clone();
        table
            .endpoints
            .insert(token, Endpoint { face, address, ports: BTreeMap::new(), told: ReportOnce::default() });
        Ok(token)
    }

    /// What the thread does.
    fn work(&self) {
        let mut events = [EpollEvent::empty(); 64];
        while !self.closed.load(Ordering::Relaxed) {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    return self.reporter.note(&format!("memif sockets are not served any more: {error}"));
                }
            };
            for event in &events[..count] {
                if event.data() == BELL {
                    self.bell.drain();
                } else {
                    self.serve(event.data());
                }
            }
        }
    }

    fn serve(&self, token: u64) {
        let mut lines = Vec::new();
        {
            let mut table = self.lock();
            // It may have been closed since.
            let Some(endpoint) = table.endpoints.get_mut(&token) else { return };
            if endpoint.serve(&mut |line| lines.push(line)).is_err() {
                // It was told. What it is to be asked for would stay for ever.
                let _ = self.epoll.delete(&endpoint.face);
            }
        }
        // Whoever reads them may be slow, and others need the table.
        for line in lines {
            self.reporter.note(&line);
        }
    }

    /// Closes a port, and its socket with the last one there.
    fn close(&self, token: u64, id: u32) {
        let leaving = if self.farewell.load(Ordering::Relaxed) {
            "the program that ran this interface ends"
        } else {
            "this interface was taken down"
        };
        let mut table = self.lock();
        let Some(endpoint) = table.endpoints.get_mut(&token) else { return };
        endpoint.ports.remove(&id);
        match &mut endpoint.face {
            Face::Server(server) => drop(server.remove(id, leaving)),
            Face::Client(client) => drop(client.disconnect(leaving)),
        }
        if endpoint.ports.is_empty() {
            // When it fails there is nothing to be served either.
            let _ = self.epoll.delete(&endpoint.face);
            let gone = table.endpoints.remove(&token);
            drop(table);
            drop(gone);
        } else {
            // Its end is nobody's news: not that of a port that may get the same id next.
            let _ = endpoint.serve(&mut |line| tracing::debug!(line, "while a port was closed"));
        }
    }

    fn details(&self, token: u64, id: u32) -> Option<Details> {
        let table = self.lock();
        let endpoint = table.endpoints.get(&token)?;
        let mut details = match &endpoint.face {
            Face::Server(server) => server.details(id)?,
            Face::Client(client) => client.details(),
        };
        details.last_rejection.clone_from(&endpoint.ports.get(&id)?.refused);
        Some(details)
    }
}

impl Table {
    fn server_at(&mut self, address: &SocketAddr) -> Option<(u64, &mut Server)> {
        self.endpoints.iter_mut().find_map(|(token, endpoint)| match &mut endpoint.face {
            Face::Server(server) if endpoint.address == *address => Some((*token, &mut **server)),
            _ => None,
        })
    }
}

impl AsFd for Face {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Server(server) => server.as_fd(),
            Self::Client(client) => client.as_fd(),
        }
    }
}

impl Face {
    fn next(&mut self) -> Result<Option<Event>, memif::Error> {
        match self {
            Self::Server(server) => server.ready(),
            Self::Client(client) => client.ready(),
        }
    }
}

impl Endpoint {
    /// Does what is due and tells the ports.
    ///
    /// # Errors
    /// When the socket's own descriptors fail, which was told.
    fn serve(&mut self, tell: &mut dyn FnMut(String)) -> Result<(), memif::Error> {
        for _ in 0..MAX_EVENTS {
            match self.face.next() {
                Ok(None) => break,
                Ok(Some(event)) => self.deliver(event, tell),
                Err(error) => {
                    self.told.report(&format!("memif {}", self.address), &error, tell);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn deliver(&mut self, event: Event, tell: &mut dyn FnMut(String)) {
        match event {
            Event::Connected { id, link } => {
                let Some(port) = self.ports.get_mut(&id) else { return };
                tracing::info!(port = port.name, peer = ?link.peer, "connected");
                port.told.clear();
                port.mailbox.post(Change::Up(link));
            }
            Event::Disconnected { id, reason } => {
                let Some(port) = self.ports.get_mut(&id) else { return };
                port.told.report(&port.name, &reason, tell);
                port.mailbox.post(Change::Down);
            }
            Event::Rejected { id, reason } => match id.and_then(|id| self.ports.get_mut(&id)) {
                Some(port) => {
                    port.told.report(&port.name, &reason, tell);
                    port.refused = Some(reason.to_string());
                }
                // Of an id that no port has, no port is to blame.
                None => self.told.report(&format!("memif {}", self.address), &reason, tell),
            },
            other => tracing::debug!(address = %self.address, ?other, "not understood"),
        }
    }
}

/// A port's own part of it. Dropping it closes the port.
pub struct Control {
    front: Arc<Front>,
    token: u64,
    id: u32,
    mailbox: Arc<Mailbox>,
}

impl Control {
    /// What has happened since the last call, if anything.
    pub fn next(&self) -> Option<Change> {
        self.mailbox.take()
    }

    /// Whether something has happened.
    pub fn has_news(&self) -> bool {
        self.mailbox.has_mail()
    }

    /// For those who want to know how the connection is, wherever the port is.
    pub fn view(&self) -> View {
        View { front: Arc::clone(&self.front), token: self.token, id: self.id }
    }
}

/// Readable while there is news.
impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mailbox.as_fd()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.front.office.close(self.token, self.id);
    }
}

/// A look at a port's connection.
pub struct View {
    front: Arc<Front>,
    token: u64,
    id: u32,
}

impl View {
    /// All there is to know about it; none when the port is closed.
    pub fn details(&self) -> Option<Details> {
        self.front.office.details(self.token, self.id)
    }
}
