//! Many stations that one thread serves, and one descriptor to poll for all of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::sys::inotify::WatchDescriptor;

use super::inotify::{Instance, report_once};
use super::watch_table::{FileId, Notify as _, WaiterId, WatchTable};
use super::{MAX_SLEEP, POLL_PAUSE};
use crate::mechanism::reading::Reading;

/// Sleeps for any number of stations and taps, on any buses, with one inotify instance and one
/// descriptor.
///
/// Each station joins the set once, with a token of your choice:
/// [`Station::join_wait_set`](crate::Station::join_wait_set),
/// [`Tap::join_wait_set`](crate::Tap::join_wait_set). From then on, before you sleep,
/// [`arm`](crate::Station::arm) those that are not armed. A wake-up returns the tokens of those to
/// look at, which are no longer armed. A station that is dropped leaves the set.
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
/// In a poll loop of your own, instead of [`wait`](Self::wait): poll [`poll_fd`](Self::poll_fd) for
/// reading, together with all else, for [`timeout`](Self::timeout) at most; then look at the
/// stations that [`ready`](Self::ready) names.
///
/// Where no inotify instance or watch is available (128 instances for each user is a usual limit),
/// the timeout is a millisecond, and every armed station is woken that often. This is logged once.
/// A wait set that was made without an instance stays without.
#[derive(Debug)]
pub struct WaitSet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    instance: Instance,
    state: Mutex<State>,
    readings: Mutex<Readings>,
}

/// What the stations on one bus share, for as long as there are any. The size of the ring is part
/// of the key: places on rings of different sizes cannot be compared.
type Readings = BTreeMap<(FileId, u32), Weak<Mutex<Reading>>>;

#[derive(Debug)]
struct State {
    table: WatchTable<WatchDescriptor, usize>,
    /// A waiter is armed whose file is not watched.
    unwatched: bool,
    /// When all armed waiters were last woken.
    all_woken: Instant,
}

impl Shared {
    fn new(instance: Instance) -> Arc<Self> {
        let state = State { table: WatchTable::new(), unwatched: false, all_woken: Instant::now() };
        Arc::new(Self { instance, state: Mutex::new(state), readings: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn timeout(&self) -> Duration {
        if self.unwatched { POLL_PAUSE } else { MAX_SLEEP }
    }
}

impl Default for WaitSet {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitSet {
    /// Makes a wait set without members.
    #[must_use]
    pub fn new() -> Self {
        let instance = Instance::new();
        if let Some(error) = instance.error() {
            report_once(&error);
        }
        Self(Shared::new(instance))
    }

    /// Returns the descriptor to poll for reading; it is the same for the life of the wait set.
    /// `None` where no inotify instance was available: then the [`timeout`](Self::timeout) alone
    /// ends a sleep.
    #[must_use]
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.instance.descriptor()
    }

    /// Returns how long to sleep from now on at most, even if no station sends: [`MAX_SLEEP`] after
    /// all members were last looked at. Round it up to what the system can sleep.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let state = self.0.state();
        if state.table.is_idle() {
            return MAX_SLEEP;
        }
        state.timeout().saturating_sub(state.all_woken.elapsed())
    }

    /// Returns the tokens of the members to look at, in no order: those whose bus was written to,
    /// and when the [`timeout`](Self::timeout) is over all that are armed. They are no longer
    /// armed.
    #[must_use = "those that are not looked at are not woken again"]
    pub fn ready(&self) -> Vec<usize> {
        let mut tokens = Vec::new();
        let mut state = self.0.state();
        if state.table.is_idle() {
            return tokens;
        }
        state.table.dispatch(&self.0.instance, |token| tokens.push(*token));
        if state.all_woken.elapsed() >= state.timeout() {
            state.table.wake_all(&self.0.instance, |token| tokens.push(*token));
            state.unwatched = false;
            state.all_woken = Instant::now();
        }
        tokens
    }

    /// Returns the reading that the stations of this set share on one bus.
    pub(crate) fn reading(&self, file: FileId, ring_size: u32) -> Arc<Mutex<Reading>> {
        let mut readings = self.0.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.retain(|_, reading| reading.strong_count() > 0);
        let known = readings.get(&(file, ring_size)).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let reading = Arc::new(Mutex::new(Reading::new(ring_size)));
            readings.insert((file, ring_size), Arc::downgrade(&reading));
            reading
        })
    }

    /// Sleeps until there is something to look at, at most for `timeout` (`None`: without limit).
    /// Returns the tokens as [`ready`](Self::ready) does; none when the time is over.
    ///
    /// # Errors
    /// When the system refuses to wait.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<usize>> {
        let begin = Instant::now();
        loop {
            let tokens = self.ready();
            let left =
                timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(begin.elapsed()));
            if !tokens.is_empty() || left.is_zero() {
                return Ok(tokens);
            }
            self.0.instance.sleep(left.min(self.timeout()))?;
        }
    }
}

/// A station's membership in a wait set, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Registration {
    shared: Arc<Shared>,
    id: WaiterId,
    /// It is the only member: the wait set is its own.
    exclusive: bool,
}

impl Registration {
    /// Registers in a wait set that may have other members.
    pub(crate) fn shared(wait_set: &WaitSet, file: FileId, token: usize) -> Self {
        let shared = Arc::clone(&wait_set.0);
        let id = shared.state().table.join(file, token);
        Self { shared, id, exclusive: false }
    }

    /// Whether it is armed, and was not woken since.
    pub(crate) fn is_armed(&self) -> bool {
        self.shared.state().table.is_armed(self.id)
    }

    /// Registers in a wait set of its own.
    pub(crate) fn exclusive(file: FileId) -> io::Result<Self> {
        let instance = Instance::new();
        if let Some(error) = instance.error() {
            return Err(error);
        }
        let shared = Shared::new(instance);
        let id = shared.state().table.join(file, 0);
        Ok(Self { shared, id, exclusive: true })
    }

    /// Watches the file from now on. The caller must look at the ring after this and before it
    /// sleeps.
    pub(crate) fn arm(&self, file: &File) -> io::Result<()> {
        let state = &mut *self.shared.state();
        if state.table.is_idle() {
            state.all_woken = Instant::now();
        } else if self.exclusive {
            // Armed twice: it may have been woken in between, and no call of `ready` took the
            // event.
            state.table.dispatch(&self.shared.instance, |_| {});
        }
        if let Err(error) = state.table.arm(&self.shared.instance, self.id, file) {
            if self.exclusive {
                return Err(error);
            }
            report_once(&error);
            state.table.arm_unwatched(self.id);
            state.unwatched = true;
        }
        // SeqCst: pairs with the fence in a sender's wake-up. It meets our watch, or we meet its
        // frames.
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Ends the watch.
    pub(crate) fn disarm(&self) {
        self.shared.state().table.disarm(&self.shared.instance, self.id);
    }

    pub(crate) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.shared.instance.descriptor()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.state().table.leave(&self.shared.instance, self.id);
    }
}
