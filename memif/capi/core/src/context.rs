//! What sockets share: the descriptors to watch, the timer that connects again, and who watches
//! them: the program, through its callback, or the library in [`Context::poll`].

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, Weak};

use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;

use crate::abi::{FD_DEL, FD_READ, FdEvent, FdUpdate3, FdUpdate4, Timer};
use crate::allocator::{Allocator, Record};
use crate::code::Code;
use crate::external::pointer;
use crate::registry::{Registry, lock, new_handle};

/// The version of the API, where behaviour differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// 3.1: the timer runs only while a client is disconnected, a lost link is reported only if it
    /// was up, what `on_interrupt` returns has no meaning, and a socket without masters listens no
    /// more.
    V3,
    /// 4.0.
    V4,
}

/// How the program learns which descriptors to watch.
#[derive(Debug, Clone, Copy)]
pub enum FdUpdate {
    /// It does not: the library watches them in [`Context::poll`].
    Library,
    /// By the callback of 4.0.
    V4(FdUpdate4),
    /// By the callback of 3.1.
    V3(FdUpdate3),
}

/// A socket, as its context sees it.
pub(crate) trait Member: Send + Sync {
    /// Connects what is disconnected, and returns whether something still is.
    fn redial(&self) -> bool;
    /// Deletes all interfaces, without a callback, and the socket.
    fn shut(&self);
}

/// A descriptor that is being watched. Dropping it ends that, before the descriptor is closed: the
/// program's callback is called, so no lock may be held.
pub(crate) struct Watch {
    id: usize,
    context: Arc<Shared>,
}

/// What is called when a watched descriptor is ready.
struct Watched {
    fd: RawFd,
    context: usize,
    ready: Box<dyn Fn() -> i32 + Send + Sync>,
}

static WATCHED: Registry<Watched> = Registry::new();
static CONTEXTS: Registry<Context> = Registry::new();

/// The part of a context that its watches use.
struct Shared {
    handle: usize,
    update: FdUpdate,
    private_ctx: usize,
    /// With [`FdUpdate::Library`].
    epoll: Option<Epoll>,
}

impl Shared {
    fn watch(
        self: &Arc<Self>,
        fd: RawFd,
        ready: impl Fn() -> i32 + Send + Sync + 'static,
    ) -> Result<Watch, Code> {
        let id = new_handle();
        let watched = Watched { fd, context: self.handle, ready: Box::new(ready) };
        WATCHED.insert(id, Arc::new(watched));
        let watch = Watch { id, context: Arc::clone(self) };
        if self.update(id, fd, FD_READ)? < 0 && matches!(self.update, FdUpdate::V3(_)) {
            // As in 3.1; 4.0 ignores what its callback returns.
            return Err(Code::CbFdUpdate);
        }
        Ok(watch)
    }

    /// Tells the one who watches; returns what the program's callback does.
    fn update(&self, id: usize, fd: RawFd, kind: c_int) -> Result<c_int, Code> {
        let context = pointer(self.private_ctx);
        match self.update {
            FdUpdate::Library => {
                let Some(epoll) = &self.epoll else { return Err(Code::BadFd) };
                // SAFETY: the owner of the descriptor keeps it open for as long as it is watched.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                if kind == FD_DEL {
                    epoll.delete(fd)?;
                } else {
                    epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, id as u64))?;
                }
                Ok(0)
            }
            FdUpdate::V4(callback) => {
                let private_ctx = std::ptr::without_provenance_mut::<c_void>(id);
                // SAFETY: the program's callback, with the context that it goes with.
                Ok(unsafe { callback(FdEvent { fd, kind, private_ctx }, context) })
            }
            FdUpdate::V3(callback) => {
                // The events have 5 bits.
                let events = u8::try_from(kind).unwrap_or(0);
                // SAFETY: as above.
                Ok(unsafe { callback(fd, events, context) })
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(watched) = WATCHED.remove(self.id) {
            // A descriptor that is not watched any more is what is wanted.
            let _ = self.context.update(self.id, watched.fd, FD_DEL);
        }
    }
}

/// The event loop of one socket in 4.0, and of all sockets of a "main" in 3.1.
pub struct Context {
    shared: Arc<Shared>,
    pub(crate) allocator: Allocator,
    app_name: Record<[u8; 32]>,
    /// With [`FdUpdate::Library`]: written by [`cancel`](Self::cancel).
    cancel: Option<(Watch, Arc<EventFd>)>,
    timer: Mutex<Option<ConnectionTimer>>,
    sockets: Mutex<Vec<Weak<dyn Member>>>,
    api: Api,
}

struct ConnectionTimer {
    /// First, so that it is dropped first.
    _watch: Watch,
    fd: Arc<OwnedFd>,
    spec: Timer,
    /// Whether it runs, in 3.1.
    armed: bool,
}

impl ConnectionTimer {
    fn run(&self, spec: &Timer) -> Result<(), Code> {
        let fd = self.fd.as_raw_fd();
        // SAFETY: a time that is only read, and no place for the old one.
        let set = unsafe { libc::timerfd_settime(fd, 0, spec, std::ptr::null_mut()) };
        Ok(Errno::result(set).map(drop)?)
    }
}

const NEVER: Timer = Timer {
    it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
    it_value: libc::timespec { tv_sec: 0, tv_nsec: 0 },
};

impl Context {
    /// Makes a context without sockets. `app_name` ends at a NUL or with the array.
    ///
    /// # Errors
    /// When its descriptors cannot be made, or the allocator has no memory.
    pub fn new(
        api: Api,
        update: FdUpdate,
        private_ctx: *mut c_void,
        app_name: [u8; 32],
        allocator: Allocator,
    ) -> Result<Arc<Self>, Code> {
        // A peer that takes memory away must not end the program. Without the handler it would, as
        // with libmemif.
        let _ = memif::survive_truncation();
        let internal = matches!(update, FdUpdate::Library);
        let epoll =
            if internal { Some(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?) } else { None };
        let (handle, private_ctx) = (new_handle(), private_ctx.expose_provenance());
        let shared = Arc::new(Shared { handle, update, private_ctx, epoll });
        let app_name = allocator.place(app_name)?;
        let cancel = if internal { Some(cancel_watch(&shared)?) } else { None };
        let (timer, sockets) = (Mutex::default(), Mutex::default());
        let context = Arc::new(Self { shared, allocator, app_name, cancel, timer, sockets, api });
        CONTEXTS.insert(handle, Arc::clone(&context));
        Ok(context)
    }

    /// Returns the context with this handle.
    #[must_use]
    pub fn get(handle: *mut c_void) -> Option<Arc<Self>> {
        CONTEXTS.get(handle.addr())
    }

    /// Returns the handle.
    #[must_use]
    pub fn handle(&self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.shared.handle)
    }

    /// Ends the context with all of its sockets, without a callback for their interfaces. Nothing is
    /// watched any more, and its handle finds nothing.
    pub fn close(&self) {
        let sockets = std::mem::take(&mut *lock(&self.sockets));
        sockets.iter().filter_map(Weak::upgrade).for_each(|socket| socket.shut());
        let timer = lock(&self.timer).take();
        drop(timer);
        CONTEXTS.remove(self.shared.handle);
    }

    /// Returns the program's name, as peers see it.
    pub(crate) fn app_name(&self) -> String {
        text(&*self.app_name)
    }

    pub(crate) fn api(&self) -> Api {
        self.api
    }

    /// Calls `ready` whenever the descriptor is readable, until the result is dropped; the caller
    /// keeps it open for so long.
    pub(crate) fn watch(
        &self,
        fd: RawFd,
        ready: impl Fn() -> i32 + Send + Sync + 'static,
    ) -> Result<Watch, Code> {
        self.shared.watch(fd, ready)
    }

    /// Connects what is disconnected on this socket, too, when the timer says so.
    pub(crate) fn add_socket(&self, socket: Weak<dyn Member>) {
        let mut sockets = lock(&self.sockets);
        sockets.retain(|socket| socket.strong_count() != 0);
        sockets.push(socket);
    }

    /// Sets when disconnected clients connect again.
    ///
    /// # Errors
    /// When the timer cannot be made, or the time is none.
    pub fn set_timer(self: &Arc<Self>, spec: &Timer) -> Result<(), Code> {
        let made = lock(&self.timer).is_some();
        if !made {
            let interval = &spec.it_interval;
            if self.api == Api::V4 && interval.tv_sec == 0 && interval.tv_nsec == 0 {
                return Ok(());
            }
            let fd = Arc::new(timer_fd()?);
            let (context, read) = (Arc::downgrade(self), Arc::clone(&fd));
            let watch = self.watch(fd.as_raw_fd(), move || {
                // Level triggered: it must be read.
                let _ = nix::unistd::read(&*read, &mut [0; 8]);
                if let Some(context) = context.upgrade() {
                    context.redial();
                }
                0
            })?;
            let timer = ConnectionTimer { _watch: watch, fd, spec: *spec, armed: false };
            let before = lock(&self.timer).replace(timer);
            drop(before);
        }
        let mut timer = lock(&self.timer);
        let Some(timer) = timer.as_mut() else { return Ok(()) };
        timer.spec = *spec;
        if self.api == Api::V4 || timer.armed { timer.run(spec) } else { Ok(()) }
    }

    /// Has the timer run, in 3.1: a client is disconnected.
    pub(crate) fn arm(&self) {
        if let Some(timer) = lock(&self.timer).as_mut()
            && self.api == Api::V3
            && !timer.armed
        {
            timer.armed = timer.run(&timer.spec).is_ok();
        }
    }

    fn redial(&self) {
        let sockets: Vec<_> = lock(&self.sockets).iter().filter_map(Weak::upgrade).collect();
        // Each of them tries.
        let left = sockets.iter().filter(|socket| socket.redial()).count() != 0;
        if let Some(timer) = lock(&self.timer).as_mut()
            && self.api == Api::V3
            && !left
        {
            timer.armed = timer.run(&NEVER).is_err();
        }
    }

    /// Waits for one event, for `timeout` milliseconds, or without end if that is negative, and
    /// handles it; returns what its handler does. Signals that the thread blocks are delivered
    /// meanwhile, as by `epoll_pwait` with an empty mask.
    ///
    /// # Errors
    /// [`Code::BadFd`] where the program watches; [`Code::Syscall`] when a signal came.
    pub fn poll(&self, timeout: c_int) -> Result<i32, Code> {
        let Some(epoll) = &self.shared.epoll else { return Err(Code::BadFd) };
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let mask = SigSet::empty();
        let fd = epoll.0.as_raw_fd();
        // SAFETY: room for one event, and a mask that is only read.
        let count = unsafe { libc::epoll_pwait(fd, &raw mut event, 1, timeout, mask.as_ref()) };
        if Errno::result(count)? == 0 {
            return Ok(0);
        }
        let id = event.u64;
        Ok(usize::try_from(id).ok().and_then(|id| WATCHED.get(id)).map_or(0, |it| (it.ready)()))
    }

    /// Makes a [`poll`](Self::poll) that waits, or the next one, return [`Code::PollCancel`].
    ///
    /// # Errors
    /// [`Code::InvalArg`] where the program watches.
    pub fn cancel(&self) -> Result<(), Code> {
        let (_, event) = self.cancel.as_ref().ok_or(Code::InvalArg)?;
        event.write(1).map(drop).map_err(|_| Code::IntWrite)
    }

    /// Handles an event on a descriptor of this context. One that it does not watch (any more) is
    /// ignored.
    #[must_use]
    pub fn fd_ready(&self, fd: c_int) -> i32 {
        let found = WATCHED.find(|it| it.fd == fd && it.context == self.shared.handle);
        found.map_or(0, |it| (it.ready)())
    }
}

/// Handles an event on the descriptor that was announced with this number.
///
/// # Errors
/// [`Code::InvalArg`] when it is not watched (any more).
pub fn event_ready(id: *mut c_void) -> Result<i32, Code> {
    Ok((WATCHED.get(id.addr()).ok_or(Code::InvalArg)?.ready)())
}

fn cancel_watch(shared: &Arc<Shared>) -> Result<(Watch, Arc<EventFd>), Code> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let event = Arc::new(EventFd::from_flags(flags)?);
    let read = Arc::clone(&event);
    let watch = shared.watch(event.as_fd().as_raw_fd(), move || {
        // One call cancels one poll.
        let _ = read.read();
        Code::PollCancel.number()
    })?;
    Ok((watch, event))
}

fn timer_fd() -> Result<OwnedFd, Code> {
    // SAFETY: no memory is involved.
    let fd = unsafe {
        libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)
    };
    let fd = Errno::result(fd)?;
    // SAFETY: a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns the text of a field, which ends at a NUL or with the field.
pub(crate) fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}
