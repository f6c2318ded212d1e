//! One socket: its interfaces, and the server that the masters among them share.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use memif::{DisconnectReason, Event, Rejection, Server, SocketAddr, SocketOptions};

use crate::allocator::Record;
use crate::code::Code;
use crate::context::{Api, Context, Member, Watch};
use crate::external::ExternalRegions;
use crate::interface::{Callbacks, Interface, Place, Settings, find, rings};
use crate::registry::{Registry, lock, new_handle};

/// How long a client may take from its connection until its link is up. libmemif's clients handle
/// a message in each turn of their program's loop, which may be slow.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Where the socket is when the program says nothing.
const DEFAULT_PATH: &[u8] = b"/run/vpp/memif.sock";

/// A socket of the program.
pub struct Socket {
    handle: usize,
    context: Arc<Context>,
    path: Record<[u8; 108]>,
    addr: SocketAddr,
    server: Mutex<Option<Listening>>,
    interfaces: Mutex<Vec<Arc<Interface>>>,
    external: Arc<Mutex<ExternalRegions>>,
}

struct Listening {
    /// First, so that it is dropped first.
    _watch: Watch,
    server: Server,
    /// The listening socket that the program has passed in.
    given: Option<RawFd>,
    /// Ids of interfaces that were deleted while they had a peer: what is reported of them, up to
    /// the end of that, does not concern a new interface with the same id.
    deleted: Vec<u32>,
}

static SOCKETS: Registry<Socket> = Registry::new();

/// The functions for external regions that all sockets of a context share.
pub type SharedExternal = Arc<Mutex<ExternalRegions>>;

impl Socket {
    /// Makes a socket at `path`, which ends at a NUL or with the array; one that begins with `@` or
    /// a NUL is an abstract name, and an empty one is libmemif's default. Nothing is bound before
    /// the first master.
    ///
    /// # Errors
    /// [`Code::InvalArg`] when the path is none, [`Code::NoMem`].
    pub fn new(
        context: &Arc<Context>,
        path: [u8; 108],
        external: SharedExternal,
    ) -> Result<Arc<Self>, Code> {
        let addr = address(&path)?;
        let record = context.allocator.place(path)?;
        let socket = Arc::new(Self {
            handle: new_handle(),
            context: Arc::clone(context),
            path: record,
            addr,
            server: Mutex::default(),
            interfaces: Mutex::default(),
            external,
        });
        SOCKETS.insert(socket.handle, Arc::clone(&socket));
        let member: Weak<Self> = Arc::downgrade(&socket);
        context.add_socket(member);
        Ok(socket)
    }

    /// Returns the socket with this handle.
    #[must_use]
    pub fn get(handle: *mut c_void) -> Option<Arc<Self>> {
        SOCKETS.get(handle.addr())
    }

    /// Returns the handle.
    #[must_use]
    pub fn handle(&self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.handle)
    }

    /// Returns the event loop that the socket is in.
    #[must_use]
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Returns the path as the program has passed it in.
    #[must_use]
    pub fn path(&self) -> &[u8; 108] {
        &self.path
    }

    /// Sets the functions for external regions, for connections from now on.
    pub fn set_external(&self, external: ExternalRegions) {
        *lock(&self.external) = external;
    }

    /// Returns whether the socket has no interfaces.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        lock(&self.interfaces).is_empty()
    }

    /// Ends the socket: it listens no more, and its handle finds nothing.
    ///
    /// # Errors
    /// [`Code::InvalArg`] when it has interfaces.
    pub fn close(&self) -> Result<(), Code> {
        if !self.is_unused() {
            return Err(Code::InvalArg);
        }
        let server = lock(&self.server).take();
        drop(server);
        SOCKETS.remove(self.handle);
        Ok(())
    }

    /// Returns the listening socket, or -1.
    #[must_use]
    pub fn listener(&self) -> RawFd {
        let server = lock(&self.server);
        server.as_ref().map_or(-1, |listening| {
            listening.given.unwrap_or_else(|| listening.server.listener().as_raw_fd())
        })
    }

    /// Serves a socket that listens already; the program keeps its descriptor. Links of the one
    /// before end.
    ///
    /// # Errors
    /// When it is not a listening socket.
    pub fn set_listener(self: &Arc<Self>, fd: c_int) -> Result<(), Code> {
        if fd < 0 {
            return Err(Code::InvalArg);
        }
        // SAFETY: the program says that it is open; it is only duplicated here.
        let listener = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
        let listener = listener.map_err(|error| Code::from(&error))?;
        let mut server = Server::from_listener(listener, &self.addr, options())?;
        let before = lock(&self.server).take();
        drop(before);
        for interface in self.masters() {
            if interface.is_up() {
                interface.end(None, true);
            }
            server.add(interface.settings.server_options(self.context.app_name())?)?;
        }
        self.serve(server, Some(fd))
    }

    fn masters(&self) -> Vec<Arc<Interface>> {
        let interfaces = lock(&self.interfaces);
        interfaces.iter().filter(|interface| interface.settings.is_master).cloned().collect()
    }

    /// Listens, unless the socket does already.
    fn listen(self: &Arc<Self>) -> Result<(), Code> {
        if lock(&self.server).is_some() {
            return Ok(());
        }
        self.serve(Server::bind(&self.addr, options())?, None)
    }

    fn serve(self: &Arc<Self>, server: Server, given: Option<RawFd>) -> Result<(), Code> {
        let socket = Arc::downgrade(self);
        let fd = server.as_fd().as_raw_fd();
        let watch = self
            .context
            .watch(fd, move || socket.upgrade().map_or(0, |socket| socket.service()))?;
        let listening = Listening { _watch: watch, server, given, deleted: Vec::new() };
        let before = lock(&self.server).replace(listening);
        drop(before);
        Ok(())
    }

    /// Handles what came on the listening socket and on the connections of its clients.
    fn service(&self) -> i32 {
        loop {
            let mut server = lock(&self.server);
            let Some(listening) = server.as_mut() else { return 0 };
            let event = listening.server.ready();
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => return 0,
                Err(error) => return Code::from(error).number(),
            };
            let Some(id) = id_of(&event) else { continue };
            if listening.concerns_deleted(id, &event) {
                continue;
            }
            let up = matches!(event, Event::Connected { .. });
            let details = if up { listening.server.details(id) } else { None };
            drop(server);
            let interface = self.masters().into_iter().find(|it| it.settings.id == id);
            let Some(interface) = interface else { continue };
            match event {
                Event::Connected { link, .. } => interface.came_up(link, rings(details)),
                Event::Disconnected { reason, .. } => interface.lost(&reason),
                Event::Rejected { reason, .. } => interface.rejected(&reason),
                _ => {}
            }
        }
    }

    /// Makes an interface. A client that reaches no server is made all the same.
    fn create(
        self: &Arc<Self>,
        settings: Settings,
        callbacks: Callbacks,
    ) -> Result<Arc<Interface>, Code> {
        let (socket, path, addr) = (self.handle, *self.path, self.addr.clone());
        let (context, external) = (Arc::clone(&self.context), Arc::clone(&self.external));
        if settings.is_master {
            let options = settings.server_options(context.app_name())?;
            self.listen()?;
            if let Some(listening) = lock(&self.server).as_mut() {
                listening.server.add(options)?;
            }
        }
        let place = Place { socket, path, addr, context, external };
        let made = Interface::new(place, settings, callbacks).inspect_err(|_| {
            if settings.is_master {
                self.remove(settings.id);
            }
        })?;
        lock(&self.interfaces).push(Arc::clone(&made));
        if !settings.is_master {
            match made.connect() {
                Ok(()) => {}
                Err(Code::ConnRefused) => self.context.arm(),
                Err(code) => {
                    lock(&self.interfaces).retain(|interface| !Arc::ptr_eq(interface, &made));
                    made.forget();
                    return Err(code);
                }
            }
        }
        Ok(made)
    }

    fn remove(&self, id: u32) {
        if let Some(listening) = lock(&self.server).as_mut() {
            if listening.server.disconnect(id, "the interface was deleted") {
                listening.deleted.push(id);
            }
            listening.server.remove(id, "the interface was deleted");
        }
    }

    fn delete(&self, interface: &Arc<Interface>) {
        // In 4.0 the program learns of it even if there was no link.
        self.remove_interface(interface, self.context.api() == Api::V4 || interface.is_up());
        if self.context.api() == Api::V3 && self.masters().is_empty() {
            let server = lock(&self.server).take();
            drop(server);
        }
    }

    fn remove_interface(&self, interface: &Arc<Interface>, report: bool) {
        interface.end(None, report);
        if interface.settings.is_master {
            self.remove(interface.settings.id);
        }
        lock(&self.interfaces).retain(|other| !Arc::ptr_eq(other, interface));
        interface.forget();
    }

    /// Returns whether the socket has interfaces of the other role, which 3.1 does not allow.
    #[must_use]
    pub fn has_other_role(&self, is_master: bool) -> bool {
        lock(&self.interfaces).iter().any(|interface| interface.settings.is_master != is_master)
    }
}

impl Member for Socket {
    fn redial(&self) -> bool {
        let interfaces = lock(&self.interfaces).clone();
        let alone = interfaces.iter().filter(|interface| interface.is_alone());
        // Each of them tries; the next expiry tries again.
        alone.filter(|interface| interface.connect().is_err()).count() != 0
    }

    fn shut(&self) {
        let interfaces = lock(&self.interfaces).clone();
        for interface in &interfaces {
            self.remove_interface(interface, false);
        }
        // It has no interfaces.
        let _ = self.close();
    }
}

impl Listening {
    /// Returns whether an event is one of an interface that was deleted before it was reported.
    fn concerns_deleted(&mut self, id: u32, event: &Event) -> bool {
        let Some(place) = self.deleted.iter().position(|deleted| *deleted == id) else {
            return false;
        };
        let ended_here = matches!(
            event,
            Event::Disconnected { reason: DisconnectReason::Local { .. }, .. }
                | Event::Rejected { reason: Rejection::Local { .. }, .. }
        );
        if ended_here {
            self.deleted.remove(place);
        }
        true
    }
}

/// Returns the interface that an event concerns. Clients that never got one leave no trace on it.
fn id_of(event: &Event) -> Option<u32> {
    match event {
        Event::Connected { id, .. } | Event::Disconnected { id, .. } => Some(*id),
        Event::Rejected {
            reason:
                Rejection::Busy { .. }
                | Rejection::WrongSecret
                | Rejection::UnknownId { .. }
                | Rejection::ModeMismatch { .. }
                | Rejection::Crowded
                | Rejection::UidNotAllowed { .. },
            ..
        } => None,
        Event::Rejected { id, .. } => *id,
        _ => None,
    }
}

fn options() -> SocketOptions {
    SocketOptions::new().connect_timeout(CONNECT_TIMEOUT).keep_files(true)
}

fn address(path: &[u8; 108]) -> Result<SocketAddr, Code> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let end = |field: &[u8]| field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let made = match path {
        [b'@' | 0, name @ ..] if name[0] != 0 => {
            SocketAddr::abstract_name(OsStr::from_bytes(&name[..end(name)]))
        }
        [0, ..] => SocketAddr::path(OsStr::from_bytes(DEFAULT_PATH)),
        path => SocketAddr::path(OsStr::from_bytes(&path[..end(path)])),
    };
    made.map_err(Code::from)
}

/// Makes an interface on a socket, and returns its handle. Defaults are written back to `args`.
///
/// # Errors
/// [`Code::InvalArg`], [`Code::RingSize`], [`Code::Id`] for an id in use, [`Code::NoMem`], and what
/// listening can fail with.
pub fn create(
    socket: &Arc<Socket>,
    args: &mut crate::abi::ConnArgs,
    callbacks: Callbacks,
) -> Result<*mut c_void, Code> {
    let settings = Settings::read(args)?;
    let interface = socket.create(settings, callbacks)?;
    Ok(std::ptr::without_provenance_mut(interface.handle))
}

/// Deletes an interface: its callback for lost links is called, whether or not it has one.
///
/// # Errors
/// [`Code::NoConn`].
pub fn delete(conn: *mut c_void) -> Result<(), Code> {
    let interface = find(conn)?;
    match SOCKETS.get(interface.socket) {
        Some(socket) => socket.delete(&interface),
        None => interface.forget(),
    }
    Ok(())
}

/// Connects a client, or makes a master listen.
///
/// # Errors
/// [`Code::NoConn`]; [`Code::AlrConn`] when it is connected or connecting; [`Code::ConnRefused`]
/// when no server is reached.
pub fn request_connection(conn: *mut c_void) -> Result<(), Code> {
    let interface = find(conn)?;
    if !interface.settings.is_master {
        return interface.connect();
    }
    if interface.is_up() {
        return Err(Code::AlrConn);
    }
    SOCKETS.get(interface.socket).ok_or(Code::NoConn)?.listen()
}

/// Connects a client.
///
/// # Errors
/// As [`request_connection`]; [`Code::InvalArg`] for a master.
pub fn connect(conn: *mut c_void) -> Result<(), Code> {
    let interface = find(conn)?;
    if interface.settings.is_master { Err(Code::InvalArg) } else { interface.connect() }
}
