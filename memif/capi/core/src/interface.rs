//! One interface: its connection attempts, its link, and the program's callbacks.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memif::{
    Client, ClientOptions, Details, DisconnectReason, Event, InterfaceOptions, Layout, Link,
    LinkRegion, Mode, Rejection, RingDetails, RxMode, SocketAddr,
};

use crate::abi::{ConnArgs, ConnectionUpdate, OnInterrupt};
use crate::allocator::Record;
use crate::code::Code;
use crate::context::{Api, Context, Watch, text};
use crate::ends::{Bases, Offsets, RxEnd, TxEnd};
use crate::external::{ExternalRegion, ExternalRegions, pointer};
use crate::registry::{Registry, lock};
use crate::slots;

/// The program's functions for an interface.
#[derive(Debug, Clone, Copy)]
pub struct Callbacks {
    /// The link has come up.
    pub on_connect: Option<ConnectionUpdate>,
    /// The link, or an attempt to connect, has ended; or the interface is being deleted.
    pub on_disconnect: Option<ConnectionUpdate>,
    /// A queue's eventfd is readable.
    pub on_interrupt: Option<OnInterrupt>,
    /// What they get.
    pub private_ctx: *mut c_void,
}

// SAFETY: the functions are called from any thread, as the API says; the context is theirs.
unsafe impl Send for Callbacks {}
// SAFETY: as above.
unsafe impl Sync for Callbacks {}

/// What the program has asked for, with defaults filled in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) secret: [u8; 24],
    pub(crate) s2m_rings: u8,
    pub(crate) m2s_rings: u8,
    pub(crate) buffer_size: u16,
    pub(crate) log2_ring_size: u8,
    pub(crate) is_master: bool,
    pub(crate) id: u32,
    pub(crate) name: [u8; 32],
    pub(crate) mode: u8,
}

impl Settings {
    /// Fills the defaults in, also in the program's arguments.
    pub(crate) fn read(args: &mut ConnArgs) -> Result<Self, Code> {
        const MAX_LOG2_RING_SIZE: u8 = 14;
        let default = |value: &mut u8, default: u8| {
            *value = if *value == 0 { default } else { *value };
        };
        default(&mut args.log2_ring_size, 10);
        if args.log2_ring_size > MAX_LOG2_RING_SIZE {
            return Err(Code::RingSize);
        }
        if args.buffer_size == 0 {
            args.buffer_size = 2_048;
        }
        default(&mut args.num_s2m_rings, 1);
        default(&mut args.num_m2s_rings, 1);
        let (mut secret, mut name) = (args.secret, args.interface_name);
        // Both end with a NUL, as in libmemif: 23 and 31 bytes count.
        (secret[23], name[31]) = (0, 0);
        Ok(Self {
            secret,
            s2m_rings: args.num_s2m_rings,
            m2s_rings: args.num_m2s_rings,
            buffer_size: args.buffer_size,
            log2_ring_size: args.log2_ring_size,
            is_master: args.is_master != 0,
            id: args.interface_id,
            name,
            mode: args.mode,
        })
    }

    /// Returns the queues to receive on and to send on.
    pub(crate) fn queues(&self) -> (u8, u8) {
        let (s2m, m2s) = (self.s2m_rings, self.m2s_rings);
        if self.is_master { (s2m, m2s) } else { (m2s, s2m) }
    }

    fn secret(&self) -> Option<&[u8]> {
        let end = self.secret.iter().position(|byte| *byte == 0).unwrap_or(self.secret.len());
        (end != 0).then_some(&self.secret[..end])
    }

    fn mode(&self) -> Result<Mode, Code> {
        match self.mode {
            0 => Ok(Mode::Ethernet),
            1 => Ok(Mode::Ip),
            2 => Ok(Mode::PuntInject),
            _ => Err(Code::InvalArg),
        }
    }

    /// Returns the options of a server's interface. libmemif's server looks at no client's mode.
    pub(crate) fn server_options(&self, app_name: String) -> Result<InterfaceOptions, Code> {
        let mut options = InterfaceOptions::new(self.id)
            .name(text(&self.name))
            .app_name(app_name)
            .mode(self.mode()?)
            .any_mode(true)
            .rx_queues(self.s2m_rings)
            .tx_queues(self.m2s_rings)
            .rx_mode(RxMode::Interrupt);
        if let Some(secret) = self.secret() {
            options = options.secret(secret)?;
        }
        Ok(options)
    }

    fn client_options(&self, app_name: String) -> Result<ClientOptions, Code> {
        let mut options = ClientOptions::new(self.id)
            .name(text(&self.name))
            .app_name(app_name)
            .mode(self.mode()?)
            .rx_queues(self.m2s_rings)
            .tx_queues(self.s2m_rings)
            .log2_ring_size(self.log2_ring_size)
            .buffer_size(self.buffer_size.into())
            .layout(Layout::TwoRegions)
            .rx_mode(RxMode::Interrupt)
            .manual_refill(true)
            // The program's timer, or the program, decides when to try again, and how long a
            // program takes until it polls is its own affair.
            .reconnect(None)
            .connect_timeout(Duration::MAX);
        if let Some(secret) = self.secret() {
            options = options.secret(secret)?;
        }
        Ok(options)
    }
}

/// What is known of a link, for `memif_get_details`.
#[derive(Debug, Default)]
pub(crate) struct LinkInfo {
    pub(crate) up: bool,
    pub(crate) peer_name: String,
    pub(crate) peer_app_name: String,
    /// The reason that the peer sent last, kept when the link is over.
    pub(crate) error: String,
    pub(crate) regions: Vec<RegionInfo>,
    pub(crate) rx: Vec<u16>,
    pub(crate) tx: Vec<u16>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct RegionInfo {
    pub(crate) address: usize,
    pub(crate) size: u64,
    pub(crate) fd: c_int,
    pub(crate) is_external: bool,
}

pub(crate) struct Interface {
    pub(crate) handle: usize,
    /// The handle of its socket.
    pub(crate) socket: usize,
    pub(crate) settings: Record<Settings>,
    pub(crate) path: [u8; 108],
    pub(crate) context: Arc<Context>,
    addr: SocketAddr,
    callbacks: Callbacks,
    external: Arc<Mutex<ExternalRegions>>,
    /// A client's connection, from the attempt to its end.
    connection: Mutex<Option<(Watch, Client)>>,
    pub(crate) link: Mutex<LinkInfo>,
    interrupts: Mutex<Vec<Watch>>,
    /// The regions that the program has made or mapped for the link.
    program_regions: Arc<Mutex<Vec<Option<ExternalRegion>>>>,
    /// Whether the end of a link is being handled: the program's callback may call back.
    ending: AtomicBool,
}

pub(crate) static INTERFACES: Registry<Interface> = Registry::new();

/// Where an interface belongs.
pub(crate) struct Place {
    pub(crate) socket: usize,
    pub(crate) path: [u8; 108],
    pub(crate) addr: SocketAddr,
    pub(crate) context: Arc<Context>,
    pub(crate) external: Arc<Mutex<ExternalRegions>>,
}

impl Interface {
    pub(crate) fn new(
        place: Place,
        settings: Settings,
        callbacks: Callbacks,
    ) -> Result<Arc<Self>, Code> {
        settings.mode()?;
        let (rx, tx) = settings.queues();
        let settings = place.context.allocator.place(settings)?;
        let handle = slots::acquire(rx, tx)?;
        let interface = Arc::new(Self {
            handle,
            socket: place.socket,
            settings,
            path: place.path,
            context: place.context,
            addr: place.addr,
            callbacks,
            external: place.external,
            connection: Mutex::default(),
            link: Mutex::default(),
            interrupts: Mutex::default(),
            program_regions: Arc::default(),
            ending: AtomicBool::new(false),
        });
        INTERFACES.insert(handle, Arc::clone(&interface));
        Ok(interface)
    }

    /// Takes the interface out of the tables: its handle finds nothing any more.
    pub(crate) fn forget(&self) {
        INTERFACES.remove(self.handle);
        slots::release(self.handle);
    }

    /// Returns whether a client has no connection.
    pub(crate) fn is_alone(&self) -> bool {
        !self.settings.is_master && lock(&self.connection).is_none()
    }

    pub(crate) fn is_up(&self) -> bool {
        lock(&self.link).up
    }

    fn call(&self, callback: Option<ConnectionUpdate>) {
        if let Some(callback) = callback {
            let handle = std::ptr::without_provenance_mut(self.handle);
            // SAFETY: the program's callback, with its own context. What it returns has no meaning.
            unsafe { callback(handle, self.callbacks.private_ctx) };
        }
    }

    /// Connects a client.
    pub(crate) fn connect(self: &Arc<Self>) -> Result<(), Code> {
        let mut connection = lock(&self.connection);
        if connection.is_some() {
            return Err(Code::AlrConn);
        }
        let mut options = self.settings.client_options(self.context.app_name())?;
        let external = *lock(&self.external);
        if external.add.is_some() {
            let (regions, context) =
                (Arc::clone(&self.program_regions), self.callbacks.private_ctx.expose_provenance());
            options = options.buffer_files(move |bytes| {
                let (region, file) = external.make(bytes, context)?;
                *lock(&regions) = vec![None, Some(region)];
                Ok(file)
            });
        }
        let client = Client::new(&self.addr, options)?;
        if !client.has_connection() {
            return Err(Code::ConnRefused);
        }
        drop(connection);
        let interface = Arc::downgrade(self);
        let watch = self.context.watch(client.as_fd().as_raw_fd(), move || {
            interface.upgrade().map_or(0, |interface| interface.service())
        })?;
        connection = lock(&self.connection);
        if connection.is_some() {
            // Another thread was faster.
            drop(connection);
            drop(watch);
            return Err(Code::AlrConn);
        }
        *connection = Some((watch, client));
        Ok(())
    }

    /// Handles what came on a client's connection.
    fn service(self: &Arc<Self>) -> i32 {
        loop {
            let mut connection = lock(&self.connection);
            let Some((_, client)) = connection.as_mut() else { return 0 };
            let event = client.ready();
            let details =
                matches!(event, Ok(Some(Event::Connected { .. }))).then(|| client.details());
            drop(connection);
            match event {
                Ok(None) => return 0,
                Ok(Some(Event::Connected { link, .. })) => self.came_up(link, rings(details)),
                Ok(Some(Event::Disconnected { reason, .. })) => self.lost(&reason),
                Ok(Some(Event::Rejected { reason, .. })) => self.rejected(&reason),
                Ok(Some(_)) => {}
                Err(error) => return Code::from(error).number(),
            }
        }
    }

    /// The link is up: its queues can be used, and the program learns of it. `rings` holds the
    /// regions of the rings to receive on, and of those to send on.
    pub(crate) fn came_up(self: &Arc<Self>, link: Link, rings: (Vec<u16>, Vec<u16>)) {
        let rx: Vec<_> = link.rx.into_iter().map(memif::RxQueue::manual).collect();
        let tx: Vec<_> = link.tx.into_iter().map(memif::TxQueue::manual).collect();
        let external = *lock(&self.external);
        let context = self.callbacks.private_ctx.expose_provenance();
        let regions = rx.first().map(memif::ManualRx::regions).unwrap_or_default();
        let (bases, infos) = self.map_regions(&regions, &external, context);
        drop(regions);
        let is_client = !self.settings.is_master;
        let choose = external.offset.filter(|_| is_client);
        let offsets = choose.map(|choose| Offsets { choose, context });
        let watched = self.callbacks.on_interrupt.is_some();
        let event_fds: Vec<_> = rx.iter().map(|queue| queue.as_fd().as_raw_fd()).collect();
        {
            let mut info = lock(&self.link);
            let error = std::mem::take(&mut info.error);
            let (rx, tx) = rings;
            let (peer_name, peer_app_name) = (link.peer.name, link.peer.app_name);
            *info = LinkInfo { up: true, peer_name, peer_app_name, error, regions: infos, rx, tx };
        }
        let rx_end = |queue| RxEnd { queue, bases: bases.clone(), offsets, watched };
        let tx_end = |queue| TxEnd { queue, bases: bases.clone(), offsets, is_client };
        let (rx, tx) = (rx.into_iter().map(rx_end), tx.into_iter().map(tx_end));
        slots::install(self.handle, rx.collect(), tx.collect());
        slots::set_up(self.handle, true);
        self.watch_interrupts(&event_fds);
        self.call(self.callbacks.on_connect);
    }

    /// Has the program map a client's regions, if it wants to: all but the first, which holds the
    /// rings. Returns where the program sees all regions.
    fn map_regions(
        &self,
        regions: &[LinkRegion<'_>],
        external: &ExternalRegions,
        context: usize,
    ) -> (Bases, Vec<RegionInfo>) {
        let mut program = lock(&self.program_regions);
        if self.settings.is_master {
            let map = |(index, region): (usize, &LinkRegion<'_>)| {
                let file = region.file.filter(|_| index != 0)?;
                external.map(region.size, file.as_raw_fd(), context)
            };
            *program = regions.iter().enumerate().map(map).collect();
        }
        let of = |index: usize| program.get(index).copied().flatten();
        let bases = Bases::new(regions.len(), |index| of(index).map(|region| region.address));
        let info = |(index, region): (usize, &LinkRegion<'_>)| RegionInfo {
            // All regions have an index of 16 bits.
            address: of(index)
                .map_or_else(|| region.start.as_ptr().expose_provenance(), |mapped| mapped.address),
            size: region.size,
            fd: region.file.map_or(-1, AsRawFd::as_raw_fd),
            is_external: of(index).is_some(),
        };
        let infos = regions.iter().enumerate().map(info).collect();
        (bases, infos)
    }

    fn watch_interrupts(self: &Arc<Self>, event_fds: &[c_int]) {
        let Some(on_interrupt) = self.callbacks.on_interrupt else { return };
        for (qid, fd) in (0u16..).zip(event_fds) {
            let interface = Arc::downgrade(self);
            let watch = self.context.watch(*fd, move || {
                let Some(interface) = interface.upgrade() else { return 0 };
                let handle = std::ptr::without_provenance_mut(interface.handle);
                // SAFETY: the program's callback, with its own context.
                let result = unsafe { on_interrupt(handle, interface.callbacks.private_ctx, qid) };
                if interface.context.api() == Api::V4 { result } else { 0 }
            });
            // Without it the program polls the queue, or gets its packets late.
            if let Ok(watch) = watch {
                lock(&self.interrupts).push(watch);
            }
        }
    }

    /// The link was lost.
    pub(crate) fn lost(&self, reason: &DisconnectReason) {
        let reason =
            if let DisconnectReason::Peer { reason } = reason { Some(reason) } else { None };
        self.end(reason.map(String::as_str), true);
    }

    /// An attempt to connect has failed. As in libmemif, the program learns of it as of a lost link.
    pub(crate) fn rejected(&self, reason: &Rejection) {
        let reason = if let Rejection::Peer { reason } = reason { Some(reason) } else { None };
        self.end(reason.map(String::as_str), true);
    }

    /// Ends the link or the attempt to connect. With `report`, the program learns of it first, and
    /// may still use the queues then.
    pub(crate) fn end(&self, reason: Option<&str>, report: bool) {
        if self.ending.swap(true, Ordering::AcqRel) {
            // The program's callback deletes the interface whose end it is called for.
            return;
        }
        if let Some(reason) = reason {
            reason.clone_into(&mut lock(&self.link).error);
        }
        if report {
            self.call(self.callbacks.on_disconnect);
        }
        let connection = lock(&self.connection).take();
        drop(connection);
        let interrupts = std::mem::take(&mut *lock(&self.interrupts));
        drop(interrupts);
        slots::set_up(self.handle, false);
        slots::clear(self.handle);
        let error = std::mem::take(&mut lock(&self.link).error);
        *lock(&self.link) = LinkInfo { error, ..LinkInfo::default() };
        let program = std::mem::take(&mut *lock(&self.program_regions));
        let external = *lock(&self.external);
        let context = self.callbacks.private_ctx.expose_provenance();
        program.iter().flatten().for_each(|region| external.end(region, context));
        self.ending.store(false, Ordering::Release);
        if !self.settings.is_master {
            self.context.arm();
        }
    }
}

/// Returns the regions of the rings to receive on, and of those to send on.
pub(crate) fn rings(details: Option<Details>) -> (Vec<u16>, Vec<u16>) {
    let of = |rings: &[RingDetails]| rings.iter().map(|ring| ring.region).collect();
    details.map(|details| (of(&details.rx), of(&details.tx))).unwrap_or_default()
}

pub(crate) fn find(handle: *mut c_void) -> Result<Arc<Interface>, Code> {
    INTERFACES.get(handle.addr()).ok_or(Code::NoConn)
}

/// Asks the peer for interrupts on a queue, or not.
///
/// # Errors
/// [`Code::NoConn`], and [`Code::Qid`] without a link.
pub fn set_rx_mode(conn: *mut c_void, interrupts: bool, qid: u16) -> Result<(), Code> {
    let end = slots::rx(conn.addr(), qid).map_err(|code| match code {
        // An interface without a link has no queues.
        Code::Disconnected => Code::Qid,
        code => code,
    })?;
    end.queue.request_interrupts(interrupts);
    Ok(())
}

/// Returns the eventfd of a queue to receive on. From then on it is made unreadable when the queue
/// is empty.
///
/// # Errors
/// [`Code::NoConn`], [`Code::Disconnected`], [`Code::Qid`].
pub fn queue_event_fd(conn: *mut c_void, qid: u16) -> Result<c_int, Code> {
    let mut end = slots::rx(conn.addr(), qid)?;
    end.watched = true;
    Ok(end.queue.as_fd().as_raw_fd())
}

/// Returns the handle of an interface's socket, or NULL.
#[must_use]
pub fn socket_of(conn: *mut c_void) -> *mut c_void {
    find(conn).map_or(std::ptr::null_mut(), |interface| pointer(interface.socket))
}
