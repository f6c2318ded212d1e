//! Many stations that one thread serves, and one descriptor to poll for all of them.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::inotify::WatchDescriptor;

use super::watches::{Notify as _, SeatId, Watches};
use super::{Instance, MAX_SLEEP, NAP, warn_once};
use crate::bus::Bus;

/// Sleeps for any number of stations and taps, on any buses, with a single inotify instance and a single descriptor.
///
/// Each joins it once, with a token of your choice: [`Station::join_wait_set`](crate::Station::join_wait_set),
/// [`Tap::join_wait_set`](crate::Tap::join_wait_set). From then on, before you sleep, [`arm`](crate::Station::arm) those that are not
/// armed. A wake-up gives the tokens of those to look at, which are armed no longer. Whoever is dropped leaves by itself.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let paths = [folder.path().join("one"), folder.path().join("two")];
/// use shmbus::{Burst, Bus, Station, WaitSet, StationOptions};
///
/// let wait_set = WaitSet::new();
/// let mut stations = Vec::new();
/// for token in 0..100 {
///     let bus = Bus::open_or_create(&paths[token % 2], 0o600)?;
///     let mut station = Station::join(bus, StationOptions::new())?;
///     station.join_wait_set(&wait_set, token);
///     stations.push(station);
/// }
/// # std::thread::scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
/// # scope.spawn(|| {
/// #     let bus = Bus::open(&paths[0]).expect("a bus");
/// #     let mut sender = Station::join(bus, StationOptions::new()).expect("joined");
/// #     sender.send(&[0xff; 60]).expect("sent");
/// # });
///
/// let mut burst = Burst::new(32);
/// let mut received = 0;
/// let mut awake: Vec<usize> = (0..stations.len()).collect();
/// while received < 50 {
///     for token in awake.drain(..) {
///         // True as long as there is something to read: then it is not armed.
///         while stations[token].arm()? {
///             received += stations[token].recv_burst(&mut burst);
///         }
///     }
///     awake = wait_set.wait(None)?;
/// }
/// # Ok(())
/// # })
/// # }
/// ```
///
/// In a poll loop of your own, instead of [`wait`](Self::wait): poll [`poll_fd`](Self::poll_fd) for reading, together with all
/// else, for [`bound`](Self::bound) at most; then look at those that [`woken`](Self::woken) names.
///
/// Where no inotify instance or watch is to be had (128 instances for each user is a usual limit), the bound becomes a
/// millisecond, and everybody is woken that often. This is logged once. A wait set that was made without an instance stays without.
#[derive(Debug)]
pub struct WaitSet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    instance: Instance,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    watches: Watches<WatchDescriptor, usize>,
    /// Somebody is armed whose file is not watched.
    unwatched: bool,
    /// When everybody who sleeps had last been looked at.
    looked: Instant,
}

impl Shared {
    fn new(instance: Instance) -> Arc<Self> {
        let state = State { watches: Watches::new(), unwatched: false, looked: Instant::now() };
        Arc::new(Self { instance, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn timeout(&self) -> Duration {
        if self.unwatched { NAP } else { MAX_SLEEP }
    }
}

impl Default for WaitSet {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitSet {
    /// A wait set that nobody has joined yet.
    #[must_use]
    pub fn new() -> Self {
        let instance = Instance::new();
        if let Err(errno) = instance.0 {
            warn_once(&errno.into());
        }
        Self(Shared::new(instance))
    }

    /// The descriptor to poll for reading; the same for the life of the wait set. `None` where no inotify instance was to be
    /// had: then the [`bound`](Self::bound) alone ends a sleep.
    #[must_use]
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.instance.descriptor()
    }

    /// How long to sleep from now on at most, however long nobody sends: [`MAX_SLEEP`] after the last look at everybody. Round
    /// up to what the system can sleep.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let state = self.0.state();
        if state.watches.is_idle() {
            return MAX_SLEEP;
        }
        state.timeout().saturating_sub(state.looked.elapsed())
    }

    /// The tokens of those to look at, in no order: those whose bus was written to, and when the [`bound`](Self::bound) is over
    /// all who are armed. They are armed no longer.
    #[must_use = "those that are not looked at are not woken again"]
    pub fn ready(&self) -> Vec<usize> {
        let mut woken = Vec::new();
        let mut state = self.0.state();
        if state.watches.is_idle() {
            return woken;
        }
        state.watches.told(&self.0.instance, |token| woken.push(*token));
        if state.looked.elapsed() >= state.timeout() {
            state.watches.wake(&self.0.instance, |token| woken.push(*token));
            state.unwatched = false;
            state.looked = Instant::now();
        }
        woken
    }

    /// Sleeps until there is something to look at, at most for `timeout` (`None`: for ever). The tokens are those of
    /// [`woken`](Self::woken); none when the time is over.
    ///
    /// # Errors
    /// When the system refuses to wait.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<usize>> {
        let begin = Instant::now();
        loop {
            let woken = self.ready();
            let left = timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(begin.elapsed()));
            if !woken.is_empty() || left.is_zero() {
                return Ok(woken);
            }
            self.0.instance.sleep(left.min(self.timeout()))?;
        }
    }
}

/// A station's seat in a wait set, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Bed {
    shared: Arc<Shared>,
    seat: SeatId,
    /// It is the only one, its wait set nobody else's.
    own: bool,
}

impl Bed {
    /// In a wait set that others may be in.
    pub(crate) fn shared(wait_set: &WaitSet, bus: &Bus, token: usize) -> Self {
        let shared = Arc::clone(&wait_set.0);
        let seat = shared.state().watches.join(bus.id(), token);
        Self { shared, seat, own: false }
    }

    /// In one of its own.
    pub(crate) fn own(bus: &Bus) -> io::Result<Self> {
        let instance = Instance::new();
        if let Err(errno) = instance.0 {
            return Err(errno.into());
        }
        let shared = Shared::new(instance);
        let seat = shared.state().watches.join(bus.id(), 0);
        Ok(Self { shared, seat, own: true })
    }

    /// Watches the bus file from now on. The caller must look at the ring after this and before it sleeps.
    pub(crate) fn arm(&self, bus: &Bus) -> io::Result<()> {
        let state = &mut *self.shared.state();
        if state.watches.is_idle() {
            state.looked = Instant::now();
        } else if self.own {
            // Armed twice: it may have been woken in between, and nobody asked who.
            state.watches.told(&self.shared.instance, |_| {});
        }
        if let Err(error) = state.watches.arm(&self.shared.instance, self.seat, &bus.file) {
            if self.own {
                return Err(error);
            }
            warn_once(&error);
            state.watches.arm_unwatched(self.seat);
            state.unwatched = true;
        }
        // Pairs with the fence in a sender's wake-up: it meets our watch, or we meet its frames.
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Watches no longer.
    pub(crate) fn disarm(&self) {
        self.shared.state().watches.disarm(&self.shared.instance, self.seat);
    }

    pub(crate) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.shared.instance.descriptor()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.shared.state().watches.leave(&self.shared.instance, self.seat);
    }
}
