//! What stations and taps share: a place on the ring, a way to wait, and counters.

use std::io;
use std::mem;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::WaitError;
use crate::face::bus::Bus;
use crate::face::flow_queue::FlowQueue;
use crate::face::stats::Stats;
use crate::format::MIN_FRAME;
use crate::mechanism::filter::AddressFilter;
use crate::mechanism::frame::{FrameSink, RingFrame};
use crate::mechanism::reading::Inbox;
use crate::mechanism::ring::Ring;
use crate::mechanism::ring::cursor::{Cursor, Outcome, RingPacket};
use crate::mechanism::ring::snapshot::NoSnapshot;
use crate::mechanism::sleepers::table::Awake;
use crate::mechanism::vlan::Vlan;
use crate::memory::{Mapping, Memory as _};
use crate::system::liveness::note_watcher;
use crate::system::wake::busy_poll::{BusyPoll, WaitMode};
use crate::system::wake::inotify::{Instance, process_shared_wait, report_once};
use crate::system::wake::registration::Registration;
use crate::system::wake::shared_wait::{SharedWaiter, Sleep};
use crate::system::wake::sleeper::Sleeper;
use crate::system::wake::wait_set::WaitSet;
use crate::system::wake::{MAX_SLEEP, POLL_PAUSE};

/// How long senders may not know that a reader sleeps on the bus file itself.
const UNNOTICED: Duration = Duration::from_millis(100);
/// The most reads of a reader that falls asleep. A read ends where the ring ended at an earlier one,
/// so two are the rule.
const MAX_READS_TO_SLEEP: u32 = 4;
/// Looks between two yields of the CPU.
const LOOKS: u32 = 50;
/// A read of fewer packets than this found few.
const FEW: u64 = 8;
/// How long after such a read the next look comes at the earliest: about as long as a cache line
/// takes from one processor to another and back.
const LOOK_PAUSE: Duration = Duration::from_nanos(200);

/// Chooses among the frames on the ring.
pub(crate) trait Choice {
    /// Returns whether to offer a frame to the sink. The frame may be torn.
    fn wants(&mut self, frame: &RingFrame<'_>) -> bool;

    /// Reports, before the sink gets its frames, whether the frames asked about were whole. If not,
    /// perhaps no station sent them.
    fn settled(&mut self, _whole: bool) {}
}

/// Every frame.
pub(crate) struct All;

impl Choice for All {
    #[inline]
    fn wants(&mut self, _frame: &RingFrame<'_>) -> bool {
        true
    }
}

/// The frames of others for a station's addresses.
pub(crate) struct Addressed<'s> {
    pub(crate) sender: u64,
    pub(crate) filter: &'s AddressFilter,
    pub(crate) vlan: Option<&'s Vlan>,
    pub(crate) queue: Option<FlowQueue>,
}

impl Choice for Addressed<'_> {
    #[inline]
    fn wants(&mut self, frame: &RingFrame<'_>) -> bool {
        if frame.info().sender == self.sender {
            return false;
        }
        if !self.filter.promiscuous && !self.filter.wants(frame.destination()) {
            return false;
        }
        self.is_in_its_part(frame)
    }
}

impl Addressed<'_> {
    /// Returns whether the frame is in the station's VLAN, and in a flow of its queue.
    #[inline]
    fn is_in_its_part(&self, frame: &RingFrame<'_>) -> bool {
        self.vlan.is_none_or(|vlan| frame.in_vlan(vlan).is_some())
            && self.queue.is_none_or(|queue| queue.wants(frame))
    }
}

/// The frames for a station's addresses that others have chosen for it.
struct Chosen<'s>(Addressed<'s>);

impl Choice for Chosen<'_> {
    #[inline]
    fn wants(&mut self, frame: &RingFrame<'_>) -> bool {
        self.0.is_in_its_part(frame)
    }
}

#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) cursor: Cursor,
    pub(crate) stats: Stats,
    /// Bytes of the shortest packet that is handed up.
    pub(crate) shortest: usize,
    /// When it last found few packets, if the next look is to come a little later.
    found_few: Option<Instant>,
    busy_poll: BusyPoll,
    /// Where it waits if only a write to the bus file wakes it, since it first did.
    shared_waiter: Option<SharedWaiter<Instance>>,
    /// Its slot in the table of sleepers, if it has one.
    sleeper: Option<Arc<Sleeper>>,
    /// Where it sleeps between `arm` and `disarm`.
    registration: Option<Registration>,
    /// Until when senders may not know that it sleeps on the bus file itself, on a bus where that is
    /// the exception. `None`: they were not told.
    unnoticed_until: Option<Instant>,
    /// It fell asleep at the end of the ring, and has not yet learned how that ended.
    is_asleep: bool,
}

impl Reader {
    pub(crate) fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            stats: Stats::default(),
            shortest: MIN_FRAME,
            found_few: None,
            busy_poll: BusyPoll::default(),
            shared_waiter: None,
            sleeper: None,
            registration: None,
            unnoticed_until: None,
            is_asleep: false,
        }
    }

    /// Is woken by the table of sleepers from now on.
    pub(crate) fn set_sleeper(&mut self, sleeper: Option<Sleeper>) {
        self.sleeper = sleeper.map(Arc::new);
    }

    pub(crate) fn sleeper(&self) -> Option<&Sleeper> {
        self.sleeper.as_deref()
    }

    /// What it is woken for may just have grown: nothing says that what came since it fell asleep
    /// is for others.
    pub(crate) fn doubt(&mut self) {
        if mem::take(&mut self.is_asleep)
            && let Some(sleeper) = &self.sleeper
        {
            sleeper.doubt();
        }
    }

    /// Gives up its slot, and its place in a wait set.
    pub(crate) fn leave(&mut self) {
        self.registration = None;
        self.sleeper = None;
    }

    pub(crate) fn set_wait_mode(&mut self, mode: WaitMode) {
        self.busy_poll = BusyPoll::new(mode);
    }

    /// Offers the frames that `choice` accepts to `sink`, at most `max`. Returns how many are whole
    /// and committed; `None` when that cannot be known, and a dead owner may hold the lock.
    #[inline]
    pub(crate) fn read(
        &mut self,
        ring: &Ring<Mapping>,
        max: usize,
        sink: &mut impl FrameSink,
        choice: impl Choice,
    ) -> Option<usize> {
        self.pause_between_looks();
        let before = self.packets_met();
        let Self { cursor, stats, shortest, .. } = self;
        let received = receive(cursor, stats, *shortest, ring, max, sink, choice);
        let packets = self.packets_met() - before;
        if (1..FEW).contains(&packets) {
            self.found_few = Some(Instant::now());
        }
        received
    }

    /// After a read that found little, the next look comes a little later. Each look takes a cache
    /// line from the senders, and one that sends single frames would have to fetch it back for each.
    #[inline]
    fn pause_between_looks(&mut self) {
        if let Some(found) = self.found_few.take() {
            while found.elapsed() < LOOK_PAUSE {
                std::hint::spin_loop();
            }
        }
    }

    /// How many packets it has met, wanted or not.
    pub(crate) fn packets_met(&self) -> u64 {
        self.stats.rx_packets + self.stats.filtered
    }

    /// Offers the frames of `inbox` to `sink` that are in the VLAN and the queue of the station;
    /// otherwise as [`read`](Self::read).
    #[inline]
    pub(crate) fn read_inbox(
        &mut self,
        ring: &Ring<Mapping>,
        inbox: &mut Inbox,
        max: usize,
        sink: &mut impl FrameSink,
        addressed: Addressed<'_>,
    ) -> Option<usize> {
        let Self { stats, shortest, .. } = self;
        let received = receive(inbox, stats, *shortest, ring, max, sink, Chosen(addressed));
        self.stats.filtered += inbox.take_filtered();
        received
    }

    /// Skips frames that are known to be for others, because this reader was not woken for them.
    #[inline]
    pub(crate) fn skip_others(&mut self, ring: &Ring<Mapping>) {
        if self.is_asleep {
            self.skip_slept_through(ring);
        }
    }

    #[cold]
    fn skip_slept_through(&mut self, ring: &Ring<Mapping>) {
        let Some(sleeper) = &self.sleeper else { return };
        let Awake { notified, position } = sleeper.peek();
        self.is_asleep =
            !notified && self.registration.as_ref().is_some_and(Registration::is_armed);
        if let Some(position) = position {
            self.cursor.skip_to(ring, position);
        }
    }

    /// Skips what is on the ring. While the ring is unsettled it skips nothing.
    pub(crate) fn discard_pending(&mut self, ring: &Ring<Mapping>) {
        if let Ok(extent) = ring.snapshot() {
            self.cursor = Cursor::at_end(&extent);
        }
    }

    /// Whether there is something to read, wanted or not.
    pub(crate) fn has_packets(&mut self, bus: &Bus) -> Result<bool, NoSnapshot> {
        self.cursor.has_packets(&bus.ring)
    }

    /// Sleeps in `wait_set` from now on when armed.
    pub(crate) fn join_wait_set(&mut self, bus: &Bus, wait_set: &WaitSet, token: usize) {
        self.disarm(bus);
        self.registration =
            Some(Registration::shared(wait_set, bus.id(), token, self.sleeper.as_ref()));
    }

    /// The descriptor that becomes readable when a station sends, while armed.
    pub(crate) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.registration.as_ref().and_then(Registration::poll_fd)
    }

    /// Whether it sleeps: it was armed, and not woken since.
    pub(crate) fn is_armed(&self) -> bool {
        self.registration.as_ref().is_some_and(Registration::is_armed)
    }

    /// Makes sure that there is a descriptor to poll, unless none is available.
    pub(crate) fn register(&mut self, bus: &Bus) -> &mut Registration {
        let sleeper = self.sleeper.as_ref();
        self.registration.get_or_insert_with(|| Registration::exclusive(bus.id(), sleeper))
    }

    /// Prepares to sleep; `true` when there is something to read, and it is not armed.
    ///
    /// `read` reads on until a frame is wanted, and says whether one is. Only a reader with a slot
    /// in the table of sleepers is asked: others are woken by any write, so any packet will do.
    pub(crate) fn arm(
        &mut self,
        bus: &Bus,
        read: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, WaitError> {
        if self.is_asleep {
            self.disarm(bus);
        }
        self.register(bus);
        let ready = self.sleeper.is_none() && self.has_packets(bus).unwrap_or(false);
        check(bus)?;
        if ready {
            self.disarm(bus);
            return Ok(true);
        }
        let registration = self.register(bus);
        registration.arm(&bus.file).map_err(|source| watch_error(bus, source))?;
        let has_slot = registration.has_slot();
        if !has_slot && let Some(until) = note_on_file(&mut self.unnoticed_until, bus)? {
            self.register(bus).set_unnoticed(until);
        }
        bus.check_size();
        if let Err(lost) = check(bus) {
            self.disarm(bus);
            return Err(lost);
        }
        let ready = if has_slot { self.has_frame(bus, read) } else { self.has_packets(bus) };
        match ready {
            Ok(true) => {
                self.disarm(bus);
                return Ok(true);
            }
            Ok(false) => self.is_asleep = true,
            // It may not be at the end of the ring, so it skips nothing.
            Err(NoSnapshot::Unsettled | NoSnapshot::Corrupt) => {
                if let Some(sleeper) = &self.sleeper {
                    sleeper.doubt();
                }
            }
        }
        Ok(false)
    }

    /// Reads all there is on the ring now that its bit is set, up to a frame for it; returns whether
    /// there may be one. What comes later is announced to it if it wants it: so it falls asleep also
    /// while others send without pause.
    fn has_frame(
        &mut self,
        bus: &Bus,
        mut read: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, NoSnapshot> {
        let (end, size) = (bus.ring.snapshot()?.end, bus.ring.size());
        for _ in 0..MAX_READS_TO_SLEEP {
            if !end.is_after(self.cursor.position(), size) {
                return Ok(false);
            }
            if read(self) {
                return Ok(true);
            }
        }
        // The ring was unsettled, or there is more than one look takes.
        Ok(true)
    }

    pub(crate) fn disarm(&mut self, bus: &Bus) {
        let Some(registration) = &self.registration else { return };
        let awake = registration.disarm();
        // Before it fell asleep it had read all there was. What came since then and is not for it
        // need not be read.
        if mem::take(&mut self.is_asleep)
            && let Some(Awake { position: Some(position), .. }) = awake
        {
            self.cursor.skip_to(&bus.ring, position);
        }
    }

    /// Waits until there is something to read or the time is over; `true` for the first. `read` is
    /// that of [`arm`](Self::arm).
    pub(crate) fn wait(
        &mut self,
        bus: &Bus,
        timeout: Option<Duration>,
        read: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, WaitError> {
        let begin = Instant::now();
        let busy = self.busy_poll.time().min(timeout.unwrap_or(Duration::MAX));
        let sleeps_at_once = self.sleeper.is_some() && busy.is_zero();
        let ready = !sleeps_at_once && self.has_packets(bus).unwrap_or(false);
        check(bus)?;
        if ready {
            return Ok(true);
        }
        let ready = if self.poll(bus, begin, busy)? {
            self.stats.polled += 1;
            true
        } else {
            self.sleep_until(bus, begin, timeout, read)?
        };
        self.busy_poll.learn(begin.elapsed());
        Ok(ready)
    }

    /// Polls until there is something to read or the time is over; `true` for the first.
    fn poll(&mut self, bus: &Bus, begin: Instant, time: Duration) -> Result<bool, WaitError> {
        while !time.is_zero() {
            for _ in 0..LOOKS {
                if self.has_packets(bus).unwrap_or(false) {
                    return Ok(true);
                }
                std::hint::spin_loop();
            }
            if begin.elapsed() >= time {
                break;
            }
            check(bus)?;
            // On a machine with few CPUs the sender may be waiting for this one.
            std::thread::yield_now();
        }
        Ok(false)
    }

    /// Sleeps, again and again, until there is something to read or the time is over; `true` for
    /// the first.
    fn sleep_until(
        &mut self,
        bus: &Bus,
        begin: Instant,
        timeout: Option<Duration>,
        mut read: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, WaitError> {
        loop {
            let left =
                timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(begin.elapsed()));
            if left.is_zero() {
                return self.poll_once(bus);
            }
            let time = if self.is_looked_after() { left } else { left.min(MAX_SLEEP) };
            if self.sleep(bus, time, &mut read)? {
                return Ok(true);
            }
        }
    }

    /// Whether its sleep includes the looks that each sleeper has to make.
    pub(crate) fn is_looked_after(&self) -> bool {
        self.registration.as_ref().map_or(self.sleeper.is_some(), Registration::is_woken_alone)
    }

    /// Sleeps once, for `time` at most; `true` when there is something to read.
    fn sleep(
        &mut self,
        bus: &Bus,
        time: Duration,
        read: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, WaitError> {
        if self.sleeper.is_some() {
            self.register(bus);
        }
        if self.registration.as_ref().is_some_and(Registration::is_woken_alone) {
            return self.sleep_alone(bus, time, read);
        }
        let time = match note_on_file(&mut self.unnoticed_until, bus)? {
            Some(until) if Instant::now() < until => time.min(POLL_PAUSE),
            _ => time,
        };
        let mut waiter = match self.shared_waiter.take() {
            Some(waiter) => waiter,
            None => match process_shared_wait() {
                Ok(shared_wait) => SharedWaiter::new(shared_wait, bus.id()),
                Err(error) => return self.sleep_unwatched(bus, time, &error),
            },
        };
        let mut ready = Ok(false);
        let slept = waiter.sleep(&bus.file, time, || {
            ready = self.poll_once(bus);
            !matches!(ready, Ok(false))
        });
        self.shared_waiter = Some(waiter);
        let slept =
            slept.map_err(|source| WaitError::Poll { path: bus.path().to_owned(), source })?;
        match slept {
            Sleep::NotNeeded => return ready,
            Sleep::Unwatched(error) => return self.sleep_unwatched(bus, time, &error),
            Sleep::Woken | Sleep::TimedOut => self.stats.sleeps += 1,
        }
        let ready = self.has_packets(bus).unwrap_or(false);
        self.stats.missed_wakeups += u64::from(ready && matches!(slept, Sleep::TimedOut));
        Ok(ready)
    }

    /// As [`sleep`](Self::sleep), with a doorbell of its own.
    fn sleep_alone(
        &mut self,
        bus: &Bus,
        time: Duration,
        read: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, WaitError> {
        match self.arm(bus, read) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            // From now on it sleeps as those do that have no slot.
            Err(WaitError::Watch { source, .. }) => {
                return self.sleep_unwatched(bus, time, &source);
            }
            Err(error) => return Err(error),
        }
        let Some(registration) = &self.registration else { return Ok(false) };
        let slept = registration.sleep(time);
        self.disarm(bus);
        let woken =
            slept.map_err(|source| WaitError::Poll { path: bus.path().to_owned(), source })?;
        self.stats.sleeps += 1;
        let ready = self.has_packets(bus).unwrap_or(false);
        self.stats.missed_wakeups += u64::from(ready && !woken);
        Ok(ready)
    }

    /// Sleeps where no event can wake it, with a look each millisecond; `true` when there is
    /// something to read.
    fn sleep_unwatched(
        &mut self,
        bus: &Bus,
        time: Duration,
        why: &io::Error,
    ) -> Result<bool, WaitError> {
        report_once(why);
        let begin = Instant::now();
        loop {
            let ready = self.poll_once(bus)?;
            let left = time.saturating_sub(begin.elapsed());
            if ready || left.is_zero() {
                return Ok(ready);
            }
            self.stats.sleeps += 1;
            std::thread::sleep(left.min(POLL_PAUSE));
        }
    }

    /// Whether there is something to read, on a bus that still exists.
    fn poll_once(&mut self, bus: &Bus) -> Result<bool, WaitError> {
        bus.check_size();
        check(bus)?;
        Ok(self.has_packets(bus).unwrap_or(false))
    }
}

/// Lets senders know that a reader sleeps on the bus file itself, on a bus where that is the
/// exception. Returns until when they may not know.
fn note_on_file(until: &mut Option<Instant>, bus: &Bus) -> Result<Option<Instant>, WaitError> {
    if until.is_none() && !bus.shape().may_have_foreign_stations() {
        note_watcher(&bus.file).map_err(|source| watch_error(bus, source))?;
        *until = Some(Instant::now() + UNNOTICED);
    }
    Ok(*until)
}

/// Where packets are read from.
trait Packets {
    /// As [`Cursor::read`].
    fn read(
        &mut self,
        ring: &Ring<Mapping>,
        visit: impl FnMut(RingPacket) -> ControlFlow<()>,
    ) -> Outcome;
}

impl Packets for Cursor {
    #[inline]
    fn read(
        &mut self,
        ring: &Ring<Mapping>,
        visit: impl FnMut(RingPacket) -> ControlFlow<()>,
    ) -> Outcome {
        self.read(ring, visit)
    }
}

impl Packets for Inbox {
    #[inline]
    fn read(
        &mut self,
        ring: &Ring<Mapping>,
        visit: impl FnMut(RingPacket) -> ControlFlow<()>,
    ) -> Outcome {
        self.read(ring, visit)
    }
}

/// Offers the frames of `packets` that `choice` accepts to `sink`, at most `max`, and counts.
#[inline]
fn receive(
    packets: &mut impl Packets,
    stats: &mut Stats,
    shortest: usize,
    ring: &Ring<Mapping>,
    max: usize,
    sink: &mut impl FrameSink,
    mut choice: impl Choice,
) -> Option<usize> {
    let (mut taken, mut bytes, mut filtered) = (0_usize, 0, 0);
    let outcome = packets.read(ring, |packet: RingPacket| {
        // Rump kernels skip these too; the empty packet behind the end of the ring is one.
        if (packet.header.len as usize) < shortest {
            return ControlFlow::Continue(());
        }
        if taken >= max {
            return ControlFlow::Break(());
        }
        let frame = RingFrame::new(ring, packet);
        if !choice.wants(&frame) {
            filtered += 1;
        } else if sink.take(&frame) {
            taken += 1;
            bytes += frame.len() as u64;
        } else {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    let lost = ring.memory().is_lost();
    choice.settled(!lost && matches!(outcome, Outcome::Whole | Outcome::Corrupt));
    match outcome {
        // Zeros that no station wrote may be among what was taken, and nothing vouches for the
        // rest.
        _ if lost => {
            sink.discard();
            Some(0)
        }
        Outcome::Whole | Outcome::Corrupt => {
            if taken > 0 {
                sink.commit();
            }
            stats.rx_packets += taken as u64;
            stats.rx_bytes += bytes;
            stats.filtered += filtered;
            stats.corrupt += u64::from(outcome == Outcome::Corrupt);
            Some(taken)
        }
        Outcome::Overrun(missed) => {
            sink.discard();
            stats.add_overrun(missed);
            Some(0)
        }
        Outcome::Scribbled => {
            sink.discard();
            stats.corrupt += 1;
            Some(0)
        }
        Outcome::StrayWakeup => {
            sink.discard();
            stats.stray_wakeups += 1;
            Some(0)
        }
        Outcome::Unsettled => {
            sink.discard();
            None
        }
    }
}

fn check(bus: &Bus) -> Result<(), WaitError> {
    if bus.is_lost() { Err(WaitError::Lost { path: bus.path().to_owned() }) } else { Ok(()) }
}

fn watch_error(bus: &Bus, source: io::Error) -> WaitError {
    WaitError::Watch { path: bus.path().to_owned(), source }
}
