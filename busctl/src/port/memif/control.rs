//! The connections behind memif ports: who connects, who goes, and who was turned away.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use memif::{BindError, Client, Event, Link, Role, Server, SocketAddr};

use super::{MemifPort, MemifSpec};
use crate::exit::{OrMisuse as _, misuse};

/// How many different reasons are told before it is enough.
const MAX_REASONS: usize = 16;
/// How many events are taken at once from a socket.
const MAX_EVENTS: usize = 64;

/// Several server ports can share a socket: this is where they find it.
#[derive(Default)]
pub(crate) struct Sockets(HashMap<SocketAddr, Arc<Mutex<Listener>>>);

impl Sockets {
    /// Opens a port.
    ///
    /// # Errors
    /// When it cannot listen, its id is taken, or its options do not go together.
    pub(crate) fn open(&mut self, spec: &MemifSpec) -> anyhow::Result<MemifPort> {
        let (name, control) = self.control(spec)?;
        Ok(MemifPort::new(name, control, spec.rx_mode))
    }

    /// Begins to listen or to connect; returns also what the user calls it.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub(crate) fn control(&mut self, spec: &MemifSpec) -> anyhow::Result<(String, Control)> {
        let id = spec.options().id();
        let name = format!("memif {} id {id}", spec.address);
        let endpoint = match spec.role {
            Role::Client => Endpoint::Client(Box::new(Client::new(&spec.address, spec.options()).misuse()?)),
            Role::Server => {
                let listener = self.listener(&spec.address, id)?;
                let descriptor = {
                    let mut listener = lock(&listener);
                    listener.server.add(spec.options()).misuse().with_context(|| name.clone())?;
                    listener.mail.entry(id).or_default();
                    listener.server.as_fd().try_clone_to_owned().context("cannot watch a memif socket")?
                };
                Endpoint::Server { id, listener, descriptor }
            }
        };
        Ok((name, Control { endpoint, socket: format!("memif {}", spec.address), told: Vec::new() }))
    }

    /// The listener at an address, which is made for the first interface there.
    fn listener(&mut self, address: &SocketAddr, first: u32) -> anyhow::Result<Arc<Mutex<Listener>>> {
        if let Some(listener) = self.0.get(address) {
            return Ok(Arc::clone(listener));
        }
        let server = Server::bind(address).map_err(|error| match &error {
            // A failing system call may work the next time, unless it is not allowed; the rest stays.
            BindError::System { source, .. } if source.kind() != ErrorKind::PermissionDenied => error.into(),
            _ => misuse(error),
        })?;
        let listener = Arc::new(Mutex::new(Listener { server, first, mail: HashMap::new() }));
        self.0.insert(address.clone(), Arc::clone(&listener));
        Ok(listener)
    }
}

/// A server socket and what has happened to its interfaces.
struct Listener {
    server: Server,
    /// The interface that hears of what concerns none.
    first: u32,
    /// A box for each interface, and none for the ids that callers make up.
    mail: HashMap<u32, VecDeque<Event>>,
}

fn lock(listener: &Mutex<Listener>) -> std::sync::MutexGuard<'_, Listener> {
    // A panic elsewhere leaves nothing half done in it.
    listener.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port's own part of it.
pub(crate) struct Control {
    endpoint: Endpoint,
    /// What the user calls the socket.
    socket: String,
    /// The reasons that were told since a connection was last up.
    told: Vec<String>,
}

enum Endpoint {
    Server { id: u32, listener: Arc<Mutex<Listener>>, descriptor: OwnedFd },
    Client(Box<Client>),
}

/// What became of a port's link.
pub(crate) enum Change {
    Up(Link),
    Down,
}

impl Control {
    /// What has happened since the last call, if anything.
    pub(crate) fn next(&mut self, name: &str, tell: &mut dyn FnMut(&str)) -> Option<Change> {
        loop {
            let event = match self.endpoint.next() {
                Ok(event) => event?,
                Err(error) => {
                    self.tell_once(name, &error, tell);
                    return None;
                }
            };
            match event {
                Event::Connected { link, .. } => {
                    tracing::info!(port = name, peer = ?link.peer, "connected");
                    self.told.clear();
                    return Some(Change::Up(link));
                }
                Event::Disconnected { reason, .. } => {
                    self.tell_once(name, &reason, tell);
                    return Some(Change::Down);
                }
                // Of an id that no port has, no port is to blame.
                Event::Refused { id, reason } if self.endpoint.is_server_but_not_of(id) => {
                    let socket = self.socket.clone();
                    self.tell_once(&socket, &reason, tell);
                }
                Event::Refused { reason, .. } => self.tell_once(name, &reason, tell),
                other => tracing::debug!(port = name, ?other, "not understood"),
            }
        }
    }

    /// Each new reason once: it is told again only after a connection was up in between. Whoever makes up ever new ones is
    /// not listened to for long.
    fn tell_once(&mut self, name: &str, reason: &dyn std::error::Error, tell: &mut dyn FnMut(&str)) {
        let mut text = reason.to_string();
        // Some name their cause in their own words.
        if let Some(cause) =
            reason.source().map(ToString::to_string).filter(|cause| !text.contains(cause.as_str()))
        {
            text = format!("{text}: {cause}");
        }
        if self.told.contains(&text) || self.told.len() > MAX_REASONS {
            tracing::debug!(port = name, text, "not told again");
            return;
        }
        tell(&format!("{name}: {text}"));
        self.told.push(text);
        if self.told.len() > MAX_REASONS {
            tell(&format!("{name}: further reasons are told by -vv only, until somebody has connected"));
        }
    }
}

impl Endpoint {
    /// Whether what happened to `id` is heard of here only because no interface has that id.
    fn is_server_but_not_of(&self, other: Option<u32>) -> bool {
        matches!(self, Self::Server { id, .. } if other != Some(*id))
    }

    fn next(&mut self) -> Result<Option<Event>, memif::Error> {
        match self {
            Self::Client(client) => client.ready(),
            Self::Server { id, listener, .. } => lock(listener).next_for(*id),
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.endpoint {
            Endpoint::Client(client) => client.as_fd(),
            Endpoint::Server { descriptor, .. } => descriptor.as_fd(),
        }
    }
}

impl Listener {
    /// The next event for one of the interfaces; those for others are kept for them.
    fn next_for(&mut self, id: u32) -> Result<Option<Event>, memif::Error> {
        // Bounded, so that nobody who connects ever anew keeps the node from its frames.
        for _ in 0..MAX_EVENTS {
            let Some(event) = self.server.ready()? else { break };
            let concerned = match &event {
                Event::Connected { id, .. } | Event::Disconnected { id, .. } => Some(*id),
                Event::Refused { id, .. } => *id,
                _ => None,
            };
            let concerned = concerned.filter(|id| self.mail.contains_key(id)).unwrap_or(self.first);
            self.mail.entry(concerned).or_default().push_back(event);
        }
        Ok(self.mail.get_mut(&id).and_then(VecDeque::pop_front))
    }
}
