//! Many stations that one thread serves, and one descriptor to poll for all of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::inotify::WatchDescriptor;

use super::doorbell::Doorbell;
use super::inotify::{Instance, poll_readable, report_once};
use super::sleeper::Sleeper;
use super::watch_table::{FileId, WaiterId, WatchTable};
use super::{MAX_SLEEP, POLL_PAUSE};
use crate::mechanism::reading::Reading;
use crate::mechanism::sleepers::table::Awake;

/// Sleeps for any number of stations and taps, on any buses, with one descriptor.
///
/// A station is woken by frames for it. Frames for others wake a station only while it watches the
/// bus file for all of them, on a bus that rump kernels can share, or where it finds no other way to
/// be woken.
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
/// loop {
///     for token in awake.drain(..) {
///         // True as long as there is something to read: then it is not armed.
///         while stations[token].arm()? {
///             received += stations[token].recv_burst(&mut burst);
///         }
///     }
///     if received >= 50 {
///         break;
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
/// Where a station can only be woken by inotify and no instance or watch is available (128 instances
/// for each user is a usual limit), the timeout is a millisecond, and it is woken that often. This
/// is logged once.
#[derive(Debug)]
pub struct WaitSet(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    /// Becomes readable when a member is woken: it polls the doorbells and the inotify instance.
    epoll: Option<Epoll>,
    state: Mutex<State>,
    readings: Mutex<Readings>,
}

/// What the stations on one bus share, for as long as there are any. The size of the ring is part
/// of the key: places on rings of different sizes cannot be compared.
type Readings = BTreeMap<(FileId, u32), Weak<Mutex<Reading>>>;

#[derive(Debug)]
struct State {
    members: Vec<Option<Member>>,
    doorbells: Vec<SharedDoorbell>,
    /// Made when a member needs it.
    instance: Instance,
    /// The members that watch a bus file: because nothing else wakes them, or for the others.
    watches: WatchTable<WatchDescriptor, MemberId>,
    /// A member is armed that nothing wakes.
    unwatched: bool,
    /// Senders may not know yet that a member sleeps on the bus file itself.
    unnoticed_until: Option<Instant>,
    /// How many members are armed.
    armed: usize,
    /// When all armed members last looked.
    all_looked: Instant,
}

/// After as many writes to the bus file in a row that were for nothing, a listener resigns.
const MAX_VAIN_EVENTS: u32 = 8;

/// A place in the list of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemberId(usize);

/// A station or tap.
#[derive(Debug)]
struct Member {
    token: usize,
    file: FileId,
    watch: WaiterId,
    /// Its slot in the table of sleepers; without one it sleeps on the bus file itself.
    sleeper: Option<Arc<Sleeper>>,
    armed: bool,
    /// Writes to the bus file, which it watches for the others, that were not for any of them: in a
    /// row.
    vain_events: u32,
}

/// A doorbell for all members on one bus.
#[derive(Debug)]
struct SharedDoorbell {
    file: FileId,
    doorbell: Doorbell,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .inspect_err(|errno| report_once(&(*errno).into()))
            .ok();
        let state = State {
            members: Vec::new(),
            doorbells: Vec::new(),
            instance: Instance::unmade(),
            watches: WatchTable::new(),
            unwatched: false,
            unnoticed_until: None,
            armed: 0,
            all_looked: Instant::now(),
        };
        Arc::new(Self { epoll, state: Mutex::new(state), readings: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.epoll.as_ref().map(|epoll| epoll.0.as_fd())
    }

    pub(super) fn join(
        &self,
        file: FileId,
        token: usize,
        sleeper: Option<Arc<Sleeper>>,
    ) -> MemberId {
        let state = &mut *self.state();
        let free = state.members.iter().position(Option::is_none).unwrap_or_else(|| {
            state.members.push(None);
            state.members.len() - 1
        });
        let id = MemberId(free);
        let watch = state.watches.join(file, id);
        state.members[free] =
            Some(Member { token, file, watch, sleeper, armed: false, vain_events: 0 });
        id
    }

    pub(super) fn leave(&self, id: MemberId) {
        let state = &mut *self.state();
        state.disarm(id);
        let Some(member) = state.members[id.0].take() else { return };
        state.watches.leave(&state.instance, member.watch);
        if state.members.iter().flatten().all(|other| other.file != member.file) {
            // The descriptor leaves the epoll instance when it is closed.
            state.doorbells.retain(|shared| shared.file != member.file);
        }
    }

    /// The member is woken from now on. The caller must look at the ring after this and before it
    /// sleeps.
    pub(super) fn arm(&self, id: MemberId, file: &File) -> io::Result<()> {
        let state = &mut *self.state();
        if state.armed == 0 {
            state.all_looked = Instant::now();
        }
        state.arm(self.epoll.as_ref(), id, file)
    }

    /// As [`arm`](Self::arm), where no watch is available: only the timeout wakes the member.
    pub(super) fn arm_unwatched(&self, id: MemberId) {
        let state = &mut *self.state();
        if let Some(member) = &state.members[id.0] {
            state.watches.arm_unwatched(member.watch);
            state.unwatched = true;
        }
        state.set_armed(id, true);
    }

    /// The member looks often until senders know that it sleeps on the bus file itself.
    pub(super) fn set_unnoticed(&self, until: Instant) {
        self.state().unnoticed_until = Some(until);
    }

    /// Ends the member's sleep. `None`: it sleeps on the bus file itself.
    pub(super) fn disarm(&self, id: MemberId) -> Option<Awake> {
        self.state().disarm(id)
    }

    /// As [`disarm`](Self::disarm), for a set with no other member: its descriptor is not readable
    /// afterwards.
    pub(super) fn disarm_only(&self, id: MemberId) -> Option<Awake> {
        let state = &mut *self.state();
        let awake = state.disarm(id);
        state.drain_doorbells();
        awake
    }

    /// Whether the member is armed, and was not woken since.
    pub(super) fn is_armed(&self, id: MemberId) -> bool {
        self.state().member(id).is_some_and(|member| member.armed)
    }

    /// Returns the tokens of those that are woken, and whether they were found by a look.
    pub(super) fn ready(&self) -> (Vec<usize>, bool) {
        self.state().ready()
    }

    pub(super) fn timeout(&self) -> Duration {
        self.state().timeout()
    }

    /// Sleeps until the descriptor is readable, for `time` at most. It may end early.
    pub(super) fn sleep(&self, time: Duration) -> io::Result<()> {
        poll_readable(self.descriptor(), time)
    }
}

impl State {
    fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(id.0)?.as_ref()
    }

    fn set_armed(&mut self, id: MemberId, armed: bool) {
        if let Some(member) = &mut self.members[id.0]
            && member.armed != armed
        {
            member.armed = armed;
            self.armed = if armed { self.armed + 1 } else { self.armed - 1 };
        }
    }

    fn arm(&mut self, epoll: Option<&Epoll>, id: MemberId, file: &File) -> io::Result<()> {
        if epoll.is_none() {
            return Err(io::Error::other("no descriptor to poll was available"));
        }
        let Some(member) = self.member(id) else { return Ok(()) };
        let (watch, of, sleeper) = (member.watch, member.file, member.sleeper.clone());
        match sleeper {
            None => {
                make(&mut self.instance, epoll)?;
                self.watches.arm(&self.instance, watch, file)?;
                // SeqCst: pairs with the fence in a sender's wake-up. It meets our watch, or we
                // meet its frames.
                fence(Ordering::SeqCst);
            }
            Some(sleeper) => {
                if sleeper.is_lost() {
                    return Err(io::Error::other("the table beside the bus was cut short"));
                }
                let doorbell = doorbell(&mut self.doorbells, epoll, of, &sleeper)?;
                let listens = sleeper.listens_asleep();
                if !listens {
                    self.release_instance();
                } else if let Err(error) = make(&mut self.instance, epoll)
                    .and_then(|()| self.watches.arm(&self.instance, watch, file))
                {
                    report_once(&error);
                    sleeper.resign();
                }
                sleeper.arm(doorbell);
                if listens {
                    // What came before the watch, no event tells of.
                    sleeper.announce_rest();
                }
            }
        }
        self.set_armed(id, true);
        Ok(())
    }

    /// Releases the inotify instance while no member needs it: users may have few.
    fn release_instance(&mut self) {
        if self.instance.is_made()
            && self.watches.is_idle()
            && self.members.iter().flatten().all(|member| member.sleeper.is_some())
        {
            self.instance = Instance::unmade();
        }
    }

    fn disarm(&mut self, id: MemberId) -> Option<Awake> {
        let member = self.member(id)?;
        let (watch, sleeper) = (member.watch, member.sleeper.clone());
        self.watches.disarm(&self.instance, watch);
        self.set_armed(id, false);
        sleeper.map(|sleeper| sleeper.disarm())
    }

    fn timeout(&self) -> Duration {
        if self.armed == 0 {
            return MAX_SLEEP;
        }
        self.look_interval().saturating_sub(self.all_looked.elapsed())
    }

    fn look_interval(&self) -> Duration {
        let is_unnoticed = self.unnoticed_until.is_some_and(|until| Instant::now() < until);
        if self.unwatched || is_unnoticed { POLL_PAUSE } else { MAX_SLEEP }
    }

    /// Returns the tokens of those that are woken, and whether they were found by a look.
    fn ready(&mut self) -> (Vec<usize>, bool) {
        if self.armed == 0 {
            self.drain_doorbells();
            return (Vec::new(), false);
        }
        let mut woken = Vec::new();
        let (mut written, mut due) = (Vec::new(), Vec::new());
        self.watches.dispatch(&self.instance, |id| written.push(*id));
        self.drain_doorbells();
        let is_time = self.all_looked.elapsed() >= self.look_interval();
        if is_time {
            self.watches.wake_all(&self.instance, |id| due.push(*id));
            self.unwatched = false;
            self.all_looked = Instant::now();
        }
        let written = written.into_iter().map(|id| (id, true));
        for (id, is_written) in written.chain(due.into_iter().map(|id| (id, false))) {
            let Some(member) = self.member(id) else { continue };
            match member.sleeper.clone() {
                None => woken.push(id),
                Some(sleeper) => self.listen(id, &sleeper, is_written),
            }
        }
        for (nth, member) in self.members.iter().enumerate() {
            if let Some(Member { armed: true, sleeper: Some(sleeper), .. }) = member
                && (!sleeper.is_asleep() || is_time && !sleeper.may_sleep_on())
            {
                woken.push(MemberId(nth));
            }
        }
        if is_time && !woken.is_empty() {
            // Perhaps they were not woken because senders do not find their doorbells. Those are
            // made anew at the next sleep.
            self.doorbells.retain(|shared| shared.doorbell.is_in_place());
        }
        let tokens =
            woken.iter().filter_map(|id| self.member(*id)).map(|member| member.token).collect();
        for id in woken {
            // Its station fetches what became of the sleep.
            self.set_armed(id, false);
            if let Some(watch) = self.member(id).map(|member| member.watch) {
                self.watches.disarm(&self.instance, watch);
            }
        }
        (tokens, is_time)
    }

    /// This member watches the bus file for the others. The file was written, or it is time for
    /// another watch.
    fn listen(&mut self, id: MemberId, sleeper: &Sleeper, is_written: bool) {
        let was_needed = sleeper.announce_rest();
        let Some(member) = &mut self.members[id.0] else { return };
        let watch = member.watch;
        // Stations of this kind talk to each other, and one of them takes the role when it falls
        // asleep or reads. If none does, it is left to them after a while.
        member.vain_events = match (was_needed, is_written) {
            (true, _) => 0,
            (false, true) => member.vain_events + 1,
            (false, false) => member.vain_events,
        };
        let gives_up = member.vain_events >= MAX_VAIN_EVENTS;
        if gives_up {
            member.vain_events = 0;
            sleeper.resign();
        }
        if !sleeper.is_asleep() {
            return;
        }
        if !sleeper.is_listener() {
            self.release_instance();
            return;
        }
        if let Err(error) = self.watches.arm(&self.instance, watch, sleeper.file()) {
            report_once(&error);
            sleeper.resign();
            return;
        }
        // SeqCst: pairs with the fence in a sender's wake-up. It meets our watch, or we meet its
        // frames.
        fence(Ordering::SeqCst);
        sleeper.announce_rest();
    }

    fn drain_doorbells(&self) {
        self.doorbells.iter().for_each(|shared| shared.doorbell.drain());
    }
}

/// Makes the inotify instance, unless that was done.
fn make(instance: &mut Instance, epoll: Option<&Epoll>) -> io::Result<()> {
    if !instance.is_made() {
        let new = Instance::new();
        if let Some(error) = new.error() {
            return Err(error);
        }
        if let (Some(epoll), Some(descriptor)) = (epoll, new.descriptor()) {
            epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        }
        *instance = new;
    }
    Ok(())
}

/// The id of the doorbell of all members on a bus, which is made when it is first needed.
fn doorbell(
    doorbells: &mut Vec<SharedDoorbell>,
    epoll: Option<&Epoll>,
    file: FileId,
    sleeper: &Sleeper,
) -> io::Result<u32> {
    if let Some(shared) = doorbells.iter().find(|shared| shared.file == file) {
        return Ok(shared.doorbell.id());
    }
    let doorbell = sleeper.waking().doorbell(sleeper.file())?;
    if let Some(epoll) = epoll {
        epoll.add(&doorbell, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    }
    let id = doorbell.id();
    doorbells.push(SharedDoorbell { file, doorbell });
    Ok(id)
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
        Self(Shared::new())
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Returns the descriptor to poll for reading; it is the same for the life of the wait set.
    /// `None` where no descriptor was available: then the [`timeout`](Self::timeout) alone ends a
    /// sleep.
    #[must_use]
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.descriptor()
    }

    /// Returns how long to sleep from now on at most, even if no station sends: [`MAX_SLEEP`] after
    /// all members were last looked at. Round it up to what the system can sleep.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.0.timeout()
    }

    /// Returns the tokens of the members to look at, in no order: those that have something to
    /// read, and those that must look for themselves. They are no longer armed.
    #[must_use = "those that are not looked at are not woken again"]
    pub fn ready(&self) -> Vec<usize> {
        self.0.ready().0
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
            self.0.sleep(left.min(self.timeout()))?;
        }
    }
}
