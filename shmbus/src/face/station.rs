//! A station on the bus.

mod offload;
mod options;
mod send;
mod wakeups;

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use macaddr::MacAddr6;

use self::options::program_name;
pub use self::options::{StationOptions, random_mac};
use self::wakeups::Wakeups;
use crate::error::{OpenError, WaitError};
use crate::face::burst::Burst;
use crate::face::bus::Bus;
use crate::face::flow_queue::FlowQueue;
use crate::face::membership::Membership;
use crate::face::reader::{Addressed, Reader};
use crate::face::stats::Stats;
use crate::format::sleepers::SLOT_ADDRESSES;
use crate::format::{MIN_FRAME, MIN_MTU};
use crate::mechanism::filter::AddressFilter;
use crate::mechanism::frame::{FrameSink, InVlan, RingFrame, VlanStage};
use crate::mechanism::offload::{Capabilities, Finisher};
use crate::mechanism::reading::Reading;
use crate::mechanism::ring::cursor::Cursor;
use crate::mechanism::ring::lock::Owner;
use crate::mechanism::ring::position::Position;
use crate::mechanism::ring::snapshot::NoSnapshot;
use crate::mechanism::sleepers::Interest;
use crate::mechanism::vlan::{TAG_LEN, Vlan};
use crate::system::acquire::{acquire, take_over_dead};
use crate::system::liveness::{self, random_number};
use crate::system::members;
use crate::system::stuck_lock::StuckLock;
use crate::system::wake::sleeper::Sleeper;
use crate::system::wake::wait_set::WaitSet;
use crate::system::wake::waking::Waking;
use crate::system::wake::{MAX_SLEEP, write_file};

/// How long a receive call waits for a lock that keeps the ring unsettled.
const SETTLE_WAIT: Duration = Duration::from_millis(2);
/// How long it then leaves that lock alone. The pause doubles each time, since a thread may serve
/// many stations, up to a limit, so that a dead owner is noticed in time.
const SETTLE_PAUSE: Duration = Duration::from_millis(20);
const MAX_SETTLE_PAUSE: Duration = Duration::from_millis(80);

/// Empty reads between two checks whether the owner of the lock is dead.
const EMPTY_READS: u32 = 256;
/// After as many reads that met packets, or as many that met none after one that did, the listener
/// looks whether frames were not announced: some microseconds.
const MAX_UNANNOUNCED_READS: u32 = 64;

/// A station: it sends frames to all others on its bus and receives those that are meant for it.
///
/// One thread at a time uses a station. It receives what is sent after it joined.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("bus");
/// use std::time::Duration;
/// use shmbus::{Burst, Bus, Station, StationOptions};
///
/// let mut alice = Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new())?;
/// let mut bob = Station::join(Bus::open(&path)?, StationOptions::new())?;
///
/// alice.send(b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5hello, all")?;
///
/// let mut burst = Burst::new(32);
/// bob.wait(Some(Duration::from_secs(1)))?;
/// assert_eq!(bob.recv_burst(&mut burst), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Station {
    bus: Bus,
    me: Owner,
    /// The name in its note on the bus.
    name: String,
    sender: u64,
    filter: AddressFilter,
    /// Whether its note says that it joins the bus to another network.
    joins: bool,
    /// Whether it learns which addresses are behind it.
    learning: bool,
    /// Headers of frames just sent, to learn from.
    sent: Vec<[u8; MIN_FRAME]>,
    /// Lengths of the frames of a burst. The memory is kept from burst to burst.
    lengths: Vec<u32>,
    link_up: bool,
    /// The VLAN of its user, if the station has one.
    vlan: Option<Vlan>,
    /// Which flows it receives, if it is one of several for its user.
    queue: Option<FlowQueue>,
    /// A burst that changes on its way to the bus.
    stage: VlanStage,
    /// The longest frame this station puts on the bus, in bytes.
    longest: usize,
    lock_timeout: Duration,
    capabilities: Capabilities,
    finisher: Finisher,
    /// What it may share with others: that of its wait set, or one of its own that it learns with.
    reading: Option<Arc<Mutex<Reading>>>,
    /// There is none while it receives every frame.
    membership: Option<Membership>,
    reader: Reader,
    waking: Arc<Waking>,
    wakeups: Wakeups,
    /// The addresses behind the station that the table of sleepers shows, by their revision.
    registered: Option<u64>,
    /// When it last sent, in milliseconds.
    sent_at: u64,
    /// Reads that met packets, since it last looked for frames to announce.
    unannounced_reads: u32,
    /// Reads since the last that met packets.
    idle_reads: u32,
    settle_backoff: Option<SettleBackoff>,
    stuck_lock: StuckLock,
    /// The end of the ring behind what it last sent, or where it joined.
    newest_end: Position,
    /// Empty reads since the last frame or check.
    empty_reads: u32,
}

/// A sink that looks whether there is a frame, and leaves it where it is.
struct Look {
    found: bool,
}

impl FrameSink for Look {
    fn take(&mut self, _frame: &RingFrame<'_>) -> bool {
        self.found = true;
        false
    }

    fn commit(&mut self) {}

    fn discard(&mut self) {}
}

/// A station waited in vain for a lock that keeps the ring unsettled.
#[derive(Debug)]
struct SettleBackoff {
    since: Instant,
    /// How long the lock is left alone.
    pause: Duration,
}

impl Drop for Station {
    fn drop(&mut self) {
        self.wakeups.retry(&self.bus, &self.waking);
        members::leave(&self.bus.file, self.me);
        self.reader.leave();
        // Of several that leave at once, the last must find itself alone. Should it fail, the number
        // ends with the description, and the next station that leaves tidies up.
        let _ = liveness::release(&self.bus.file, self.me);
        self.waking.leave(&self.bus.file);
    }
}

impl Station {
    /// Joins a bus.
    ///
    /// # Errors
    /// When the bus was opened for reading only; when the ring is unsettled and its lock is not
    /// free in time.
    pub fn join(bus: Bus, options: StationOptions) -> Result<Self, OpenError> {
        let me = bus.claim()?;
        bus.ring.clear_spare();
        let extent = match bus.ring.snapshot() {
            Ok(extent) => extent,
            // With the lock there is no doubt.
            Err(NoSnapshot::Unsettled | NoSnapshot::Corrupt) => {
                let mut guard = acquire(&bus.ring, &bus.file, me, options.lock_timeout)
                    .map_err(|source| OpenError::Busy { path: bus.path().to_owned(), source })?;
                guard.mended_extent()
            }
        };
        let cursor = Cursor::at_end(&extent);
        let mac = options.mac.unwrap_or_else(random_mac);
        let name = options.name.unwrap_or_else(program_name);
        members::enter(&bus.file, me, mac, &name);
        let longest = bus.max_frame();
        let filter = AddressFilter::new(mac, options.promiscuous);
        let mut reader = Reader::new(cursor);
        reader.set_wait_mode(options.wait_mode);
        let waking = Waking::of(&bus.file, bus.id(), bus.table_in_file());
        reader.set_sleeper(Sleeper::new(&waking, &bus.ring, &bus.file, me, filter.interest()));
        Ok(Self {
            bus,
            me,
            name,
            sender: random_number(),
            filter,
            joins: false,
            learning: false,
            sent: Vec::new(),
            lengths: Vec::new(),
            link_up: true,
            vlan: None,
            queue: None,
            stage: VlanStage::default(),
            longest,
            lock_timeout: options.lock_timeout,
            capabilities: options.capabilities,
            finisher: Finisher::default(),
            reading: None,
            membership: None,
            reader,
            waking,
            wakeups: Wakeups::new(options.wake_interval),
            registered: Some(0),
            sent_at: 0,
            unannounced_reads: 0,
            idle_reads: 0,
            settle_backoff: None,
            stuck_lock: StuckLock::default(),
            newest_end: extent.end,
            empty_reads: 0,
        })
    }

    /// Returns the bus.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Returns the station's address.
    #[must_use]
    pub fn mac(&self) -> MacAddr6 {
        self.filter.mac.into()
    }

    /// Changes the station's address, from the next frame on, and in the list of the bus's
    /// [members](Bus::members).
    pub fn set_mac(&mut self, mac: MacAddr6) {
        if mac != self.mac() {
            self.filter.mac = mac.into_array();
            self.share_filter();
            self.write_note();
        }
    }

    /// Says in the list of the bus's [members](Bus::members) whether the station joins the bus to
    /// another network. At first none does. Ports that look for loops go by that.
    pub fn set_joins(&mut self, joins: bool) {
        if joins != self.joins {
            self.joins = joins;
            self.write_note();
        }
    }

    fn write_note(&self) {
        members::note(&self.bus.file, self.me, self.mac(), &self.name, self.joins);
    }

    /// Returns the random identity by which the station knows its own frames; others see it in
    /// [`FrameInfo`](crate::FrameInfo).
    #[must_use]
    pub fn sender(&self) -> u64 {
        self.sender
    }

    /// Returns whether the station receives frames for others as well.
    #[must_use]
    pub fn is_promiscuous(&self) -> bool {
        self.filter.promiscuous
    }

    /// Changes whether the station receives frames for others as well, from the next frame on.
    pub fn set_promiscuous(&mut self, on: bool) {
        self.filter.promiscuous = on;
        self.share_filter();
    }

    /// Returns the multicast addresses the station listens to; none stands for all of them.
    pub fn groups(&self) -> impl Iterator<Item = MacAddr6> {
        self.filter.groups()
    }

    /// Changes which multicast addresses the station listens to, from the next frame on; none
    /// stands for all of them. The station always receives broadcasts. Addresses that are not
    /// multicast are ignored.
    pub fn set_groups(&mut self, groups: impl IntoIterator<Item = MacAddr6>) {
        self.filter.set_groups(groups);
        self.share_filter();
    }

    /// Tells the reading what the station receives from now on.
    fn share_filter(&mut self) {
        let receives_all = self.filter.promiscuous && !self.learning;
        let reading = self.reading.as_ref().filter(|_| !receives_all);
        match (&mut self.membership, reading) {
            (Some(membership), Some(_)) => {
                membership.set_filter(&mut self.reader, self.filter.clone(), self.learning);
            }
            (Some(membership), None) => {
                membership.withdraw(&mut self.reader);
                self.membership = None;
            }
            (None, Some(reading)) => {
                let (reading, filter) = (Arc::clone(reading), self.filter.clone());
                let (sender, learning) = (self.sender, self.learning);
                let membership = Membership::new(reading, sender, filter, learning, &self.reader);
                self.membership = Some(membership);
            }
            (None, None) => {}
        }
        self.registered = None;
        self.register_interest();
    }

    /// Says in the table of sleepers what the station is woken for, if that has changed.
    fn register_interest(&mut self) {
        let Some(sleeper) = self.reader.sleeper() else { return };
        let membership = self.membership.as_ref().filter(|_| self.learning);
        let revision = membership.map_or(0, Membership::revision);
        if self.registered.replace(revision) == Some(revision) {
            return;
        }
        let interest = match membership {
            // What is behind one queue of a set is behind them all. Another may learn an address
            // while this one sleeps, so this one is woken for all frames.
            Some(membership) if self.filter.promiscuous && self.queue.is_none() => {
                let mut addresses = vec![self.filter.mac];
                // One more than there is room for: then it is woken for all.
                membership.for_each_address(SLOT_ADDRESSES, |address| addresses.push(address));
                Interest::new(addresses).unknown(true).groups([])
            }
            _ => self.filter.interest(),
        };
        sleeper.set_interest(interest);
    }

    /// Returns whether the station learns addresses.
    #[must_use]
    pub fn is_learning(&self) -> bool {
        self.learning
    }

    /// Changes whether the station learns addresses, from the next frame on. It does not by
    /// default.
    ///
    /// A learning station is the port of a switch. The source addresses of the frames that it sends
    /// are behind it, and those of other frames are not. Of the frames that its own addresses let
    /// through (set it [promiscuous](Self::set_promiscuous)), it receives those to addresses behind
    /// it, to unknown ones and to groups. It forgets an address that was silent for five minutes,
    /// knows up to 2,048 behind it and as many elsewhere, and treats others as unknown. It forgets
    /// all of them when it stops learning, and when it joins a wait set.
    pub fn set_learning(&mut self, on: bool) {
        if on == self.learning {
            return;
        }
        self.learning = on;
        if on {
            // Alone it has a table of its own.
            let ring_size = self.bus.ring.size();
            self.reading.get_or_insert_with(|| Arc::new(Mutex::new(Reading::new(ring_size))));
        }
        self.share_filter();
    }

    fn join_reading(&mut self, reading: Arc<Mutex<Reading>>) {
        if let Some(mut membership) = self.membership.take() {
            membership.withdraw(&mut self.reader);
        }
        self.reading = Some(reading);
        self.share_filter();
    }

    /// Returns whether the link is up.
    #[must_use]
    pub fn is_link_up(&self) -> bool {
        self.link_up
    }

    /// Takes the link down or up (`media none`, `media auto`). While it is down, the station
    /// accepts frames to send, counts them and drops them, and receives none. Up again, it receives
    /// what is sent from then on.
    pub fn set_link_up(&mut self, up: bool) {
        if up && !self.link_up {
            self.discard_pending();
        }
        self.link_up = up;
    }

    /// Returns the VLAN of the station's user, if it has one.
    #[must_use]
    pub fn vlan(&self) -> Option<&Vlan> {
        self.vlan.as_ref()
    }

    /// Puts the station's user into a VLAN, from the next frame on, or into none. The tags of frames
    /// change on their way between the bus and the user; all other methods see frames as the user
    /// does. Frames of the user that are not in the VLAN are dropped, and counted in
    /// [`Stats::tx_vlan_refused`](crate::Stats::tx_vlan_refused). Frames of others that are not in
    /// it count as [`filtered`](crate::Stats::filtered).
    ///
    /// A tag takes 4 bytes of a frame, so the [`mtu`](Self::mtu) is that much lower. A
    /// [learning](Self::set_learning) station learns addresses without their VLAN.
    pub fn set_vlan(&mut self, vlan: Option<Vlan>) {
        self.vlan = vlan;
    }

    /// Makes the station one of several that serve its user together, from the next frame on, or
    /// lets it serve the user alone. It then receives the flows of its queue, and none of the frames
    /// that the others of the set send: all have one [`sender`](Self::sender). Frames of other
    /// queues count as [`filtered`](crate::Stats::filtered).
    ///
    /// A [learning](Self::set_learning) station must not share a [`WaitSet`] with another of its
    /// set. While it sleeps it is woken for all frames, as the others may learn addresses meanwhile.
    pub fn set_flow_queue(&mut self, queue: Option<FlowQueue>) {
        if let Some(mut membership) = self.membership.take() {
            membership.withdraw(&mut self.reader);
        }
        self.sender = queue.map_or_else(random_number, FlowQueue::sender);
        self.queue = queue;
        // The others of its reading know it by its identity.
        self.share_filter();
    }

    /// Returns the longest frame of the station's user, in bytes with its Ethernet header: what the
    /// bus carries, unless a lower [`mtu`](Self::set_mtu) is set. Where the bus has a tag that the
    /// user has not, it is 4 bytes shorter.
    #[must_use]
    pub fn max_frame(&self) -> usize {
        self.longest - self.vlan.as_ref().map_or(0, Vlan::growth)
    }

    /// Returns the largest payload of a frame this station sends, in bytes: 1,500 unless changed
    /// (9,202 on a big bus), and 4 less in a [VLAN](Self::set_vlan).
    #[must_use]
    pub fn mtu(&self) -> usize {
        self.longest - self.overhead()
    }

    /// Changes the largest payload, from the next frame on. The station still receives longer
    /// frames of others. Returns whether the bus can carry it: at least [`MIN_MTU`] bytes,
    /// and no more than the bus's longest frame.
    #[must_use]
    pub fn set_mtu(&mut self, bytes: usize) -> bool {
        let possible =
            (usize::from(MIN_MTU)..=self.bus.max_frame() - self.overhead()).contains(&bytes);
        if possible {
            self.longest = bytes + self.overhead();
        }
        possible
    }

    /// The bytes of a frame before its payload.
    fn overhead(&self) -> usize {
        MIN_FRAME + self.vlan.as_ref().map_or(0, |_| TAG_LEN)
    }

    /// Changes how long a send waits for the lock, from the next one on.
    pub fn set_lock_timeout(&mut self, timeout: Duration) {
        self.lock_timeout = timeout;
    }

    /// Returns the counters since the station joined.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            wakeups: self.wakeups.sent(),
            wakeups_failed: self.wakeups.failed(),
            ..self.reader.stats
        }
    }

    /// Skips what is on the bus: the station receives what is sent from now on.
    pub fn discard_pending(&mut self) {
        // A caller that does only this touches no page that may be missing, and would never notice
        // a lost bus.
        self.bus.check_size();
        if let Some(membership) = &mut self.membership {
            membership.withdraw(&mut self.reader);
            // Until it reads again, it costs the others nothing.
            membership.fall_asleep(&mut self.reader);
        }
        self.reader.discard_pending(&self.bus.ring);
    }

    /// Fills `burst` with the frames on the bus for this station, without waiting; returns how
    /// many.
    pub fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        burst.clear();
        self.recv_into(burst, usize::MAX)
    }

    /// Offers the frames on the bus for this station to `sink`, at most `max`, without waiting;
    /// returns how many were committed.
    #[inline]
    pub fn recv_into(&mut self, sink: &mut impl FrameSink, max: usize) -> usize {
        if !self.link_up {
            // Frames of others are no reason to wake up, either.
            self.discard_pending();
            return 0;
        }
        self.wakeups.retry_if_due(&self.bus, &self.waking);
        self.reader.skip_others(&self.bus.ring);
        let met = self.reader.packets_met();
        let stray_wakeups = self.reader.stats.stray_wakeups;
        let received = match self.vlan.take() {
            None => self.read(max, sink, None),
            Some(vlan) => {
                let mut sink = InVlan { vlan: &vlan, sink };
                let received = self.read(max, &mut sink, Some(&vlan));
                self.vlan = Some(vlan);
                received
            }
        };
        match received {
            None => self.settle(),
            Some(0) => {
                self.empty_reads += 1;
                if self.empty_reads >= EMPTY_READS {
                    self.empty_reads = 0;
                    self.free_dead_lock();
                }
            }
            Some(_) => self.empty_reads = 0,
        }
        if self.waking.may_have_foreign_stations() {
            let has_met_packets = self.reader.packets_met() != met;
            self.announce_for_foreign(has_met_packets);
            if has_met_packets && self.bus.ring.may_be_open_turn() {
                self.close_turn();
            }
            if self.reader.stats.stray_wakeups != stray_wakeups {
                self.restore_generation();
            }
        }
        received.unwrap_or(0)
    }

    /// Offers frames in `vlan` to `sink`; otherwise as [`Reader::read`].
    #[inline]
    fn read(
        &mut self,
        max: usize,
        sink: &mut impl FrameSink,
        vlan: Option<&Vlan>,
    ) -> Option<usize> {
        let addressed =
            Addressed { sender: self.sender, filter: &self.filter, vlan, queue: self.queue };
        let (reader, ring) = (&mut self.reader, &self.bus.ring);
        match &mut self.membership {
            None => reader.read(ring, max, sink, addressed),
            Some(membership) => membership.read(reader, ring, max, sink, addressed),
        }
    }

    /// Waits until there is something to read, at most for `timeout` (`None`: without limit).
    /// Returns `false` when the time is over. What there is to read need not be for this station.
    /// [`StationOptions::wait_mode`] says whether the station sleeps at once or polls for a while.
    ///
    /// A station that can only be woken by inotify, because nothing can lie beside its bus, shares a
    /// few instances with the others of the process. Where none is available (128 for each user is
    /// a usual limit), it looks every millisecond instead; this is logged once.
    ///
    /// # Errors
    /// When the bus is gone, or the system refuses to wait.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, WaitError> {
        let begin = Instant::now();
        loop {
            self.wakeups.retry(&self.bus, &self.waking);
            self.free_dead_lock();
            if self.has_frame() {
                return Ok(true);
            }
            self.register_interest();
            let left =
                timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(begin.elapsed()));
            let is_looked_after = self.reader.is_looked_after() && !self.wakeups.is_pending();
            let time = if is_looked_after { left } else { left.min(MAX_SLEEP) };
            if self.with_look(|reader, bus, read| reader.wait(bus, Some(time), read))? {
                return Ok(true);
            }
            if left <= time {
                return Ok(false);
            }
        }
    }

    /// Makes the station sleep in `wait_set` from now on when [armed](Self::arm), under the name
    /// `token`. For processes that serve many stations with one poll loop.
    ///
    /// From then on the station also shares its reading with the stations of the set that are on
    /// the same bus: a frame's addresses are looked up once for all of them, by whichever reads
    /// first. Each receives what it would receive alone, and a slow one still loses only its own
    /// frames.
    pub fn join_wait_set(&mut self, wait_set: &WaitSet, token: usize) {
        self.reader.join_wait_set(&self.bus, wait_set, token);
        self.join_reading(wait_set.reading(self.bus.id(), self.bus.ring.size()));
    }

    /// Returns the descriptor to poll for reading after [`arm`](Self::arm). There is none before
    /// the first time; then it stays the same for the life of the station. It is one of its
    /// own, or that of its [`WaitSet`].
    #[must_use]
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.reader.poll_fd()
    }

    /// Prepares for a sleep on [`poll_fd`](Self::poll_fd). Returns `true` when there is something
    /// to read already: do not sleep then; the station is not armed. Otherwise sleep at most
    /// [`MAX_SLEEP`](crate::MAX_SLEEP), and call [`disarm`](Self::disarm) after it. In a
    /// [`WaitSet`], its timeout and its tokens say when to look.
    ///
    /// # Errors
    /// When the bus is gone. Outside of a [`WaitSet`] also when no descriptor is
    /// available to wake it.
    pub fn arm(&mut self) -> Result<bool, WaitError> {
        self.wakeups.retry(&self.bus, &self.waking);
        self.free_dead_lock();
        self.reader.disarm(&self.bus);
        self.reader.register(&self.bus);
        if self.has_frame() {
            return Ok(true);
        }
        self.register_interest();
        self.with_look(|reader, bus, read| reader.arm(bus, read))
    }

    /// Whether there is a frame for the station. If not, its own cursor is its place from now on,
    /// until it reads.
    fn has_frame(&mut self) -> bool {
        // Where any packet keeps the station awake, the reader looks.
        let is_there = self.reader.sleeper().is_some()
            && !self.bus.is_lost()
            && self.with_look(|reader, _, read| read(reader));
        is_there || self.has_frames_waiting()
    }

    /// Lets the reader look or sleep. `read` passes over frames that are not for this station, and
    /// says whether one is.
    fn with_look<T>(
        &mut self,
        act: impl FnOnce(&mut Reader, &Bus, &mut dyn FnMut(&mut Reader) -> bool) -> T,
    ) -> T {
        let Self { reader, bus, membership, filter, sender, vlan, queue, .. } = self;
        let mut read = |reader: &mut Reader| {
            let (mut look, ring) = (Look { found: false }, &bus.ring);
            let addressed =
                Addressed { sender: *sender, filter, vlan: vlan.as_ref(), queue: *queue };
            // On an unsettled ring it finds nothing, and gets no further.
            let _received = match membership {
                None => reader.read(ring, 1, &mut look, addressed),
                Some(membership) => membership.read(reader, ring, 1, &mut look, addressed),
            };
            look.found
        };
        act(reader, bus, &mut read)
    }

    /// Whether a walk of others found frames for the station that it has not read. If not, its own
    /// cursor is its place from now on, until it reads.
    fn has_frames_waiting(&mut self) -> bool {
        match &mut self.membership {
            Some(membership) => {
                // The reader finds out that the bus is gone.
                if self.bus.is_lost() {
                    membership.withdraw(&mut self.reader);
                }
                !membership.fall_asleep(&mut self.reader)
            }
            None => false,
        }
    }

    /// Ends a sleep: the station no longer watches the bus. A station whose token a [`WaitSet`]
    /// returned is disarmed already.
    pub fn disarm(&mut self) {
        self.reader.disarm(&self.bus);
    }

    /// Frees the lock if its owner died with it. Stations do without the lock until they send; rump
    /// kernels hang meanwhile.
    #[inline]
    fn free_dead_lock(&mut self) {
        if !self.bus.ring.lock_word().is_free() {
            self.free_held_lock();
        }
    }

    #[cold]
    fn free_held_lock(&mut self) {
        if self.bus.is_lost() {
            return;
        }
        let Self { bus, waking, me, stuck_lock, .. } = self;
        // The dead station may have put frames there without waking others.
        let announce = |guard| waking.announce(&bus.file, guard);
        let freed = if bus.ring.lock_word().owner().is_some() {
            take_over_dead(&bus.ring, &bus.file, *me).map(announce).is_some()
        } else {
            stuck_lock.free(&bus.ring, &bus.file, announce)
        };
        if freed {
            // Stations look by themselves.
            let _ = write_file(&bus.file);
        }
    }

    /// Announces frames of stations that know no table to those that sleep. All that read may do
    /// it; one that is awake, the listener, does.
    #[inline]
    fn announce_for_foreign(&mut self, has_met_packets: bool) {
        if has_met_packets {
            self.unannounced_reads += 1;
            self.idle_reads = 0;
        } else {
            self.idle_reads += 1;
        }
        // Not after each read: to look costs a cache line that senders write.
        if self.unannounced_reads >= MAX_UNANNOUNCED_READS
            || self.unannounced_reads > 0 && self.idle_reads >= MAX_UNANNOUNCED_READS
        {
            self.unannounced_reads = 0;
            if let Some(sleeper) = self.reader.sleeper().filter(|sleeper| sleeper.listens()) {
                sleeper.announce_rest();
            }
        }
    }

    /// The newest place on the ring that the station knows of.
    fn newest_known(&self) -> Position {
        let read = self.reader.cursor.newest_known();
        if read.generation > self.newest_end.generation { read } else { self.newest_end }
    }

    /// Puts a generation right that a wake-up of a rump kernel has overwritten, before another rump
    /// kernel sees it. A station that finds the lock held leaves that to the next look, or burst.
    #[cold]
    fn restore_generation(&mut self) {
        if !self.bus.is_lost()
            && let Ok(mut guard) = self.bus.ring.try_lock(self.me)
        {
            guard.restore_generation(self.newest_known());
        }
    }

    /// Appends the empty packet behind a packet of a rump kernel that ends the turn: a rump kernel
    /// that is overrun before the next packet asserts, and panics with the lock.
    #[cold]
    fn close_turn(&mut self) {
        if !self.bus.is_lost()
            && let Ok(mut guard) = self.bus.ring.try_lock(self.me)
        {
            guard.close_turn();
            self.waking.announce(&self.bus.file, guard);
        }
    }

    /// The ring is unsettled: a writer was at work at every look, or one died at it. Waiting for
    /// the lock tells which, and puts right what a dead one left.
    #[cold]
    fn settle(&mut self) {
        let pauses = |backoff: &SettleBackoff| backoff.since.elapsed() < backoff.pause;
        if self.bus.is_lost() || self.settle_backoff.as_ref().is_some_and(pauses) {
            return;
        }
        let last = self.settle_backoff.as_ref();
        let pause = last.map_or(SETTLE_PAUSE, |last| (last.pause * 2).min(MAX_SETTLE_PAUSE));
        // An unknown owner is gone only after a time that no receive call waits for.
        self.free_dead_lock();
        let is_known = self.bus.ring.lock_word().owner().is_some();
        let timeout = if is_known { SETTLE_WAIT } else { Duration::ZERO };
        self.settle_backoff = match acquire(&self.bus.ring, &self.bus.file, self.me, timeout) {
            Ok(settled) => {
                // A dead station may have put frames there without waking others.
                self.waking.announce(&self.bus.file, settled);
                None
            }
            Err(_busy) => Some(SettleBackoff { since: Instant::now(), pause }),
        };
    }
}
