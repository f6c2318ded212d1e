//! A station on the bus.

mod offload;
mod options;
mod wakeups;

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use macaddr::MacAddr6;

use self::options::program_name;
pub use self::options::{StationOptions, random_mac};
use self::wakeups::Wakeups;
use crate::error::{Busy, OpenError, SendError, WaitError};
use crate::face::burst::Burst;
use crate::face::bus::Bus;
use crate::face::reader::Reader;
use crate::face::stats::Stats;
use crate::format::{Field32, MIN_FRAME, PACKET_HEADER_SIZE, PacketHeader};
use crate::mechanism::filter::{AddressFilter, ReceiveFilter};
use crate::mechanism::frame::{FrameSink, FrameSlot, FrameSource, RingFrame};
use crate::mechanism::offload::{Capabilities, Finisher};
use crate::mechanism::ring::append::burst_limit;
use crate::mechanism::ring::cursor::Cursor;
use crate::mechanism::ring::lock::Owner;
use crate::mechanism::ring::snapshot::NoSnapshot;
use crate::memory::Memory as _;
use crate::system::acquire::{acquire, take_over_dead};
use crate::system::liveness::random_number;
use crate::system::members;
use crate::system::wake::wait_set::WaitSet;
use crate::system::wake::{MAX_SLEEP, wake};

/// How long a receive call may look after a lock that keeps the ring unsettled, and how long it then leaves it alone: ever
/// longer while that is in empty_reads, since a thread may serve many stations, but not so long that a dead owner goes unnoticed.
const SETTLE_WAIT: Duration = Duration::from_millis(2);
const SETTLE_PAUSE: Duration = Duration::from_millis(20);
const MAX_SETTLE_PAUSE: Duration = Duration::from_millis(80);

/// Looks in empty_reads between two looks at who has the lock.
const EMPTY_READS: u32 = 256;

/// Where a frame has its source address.
const SOURCE: Range<usize> = 6..12;

/// A station: it sends frames to all others on its bus and receives those that are meant for it.
///
/// One station belongs to one thread at a time. It begins with what is sent after it joined.
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
/// alice.send(b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5hello, everybody")?;
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
    /// What it says that it is called.
    name: String,
    sender: u64,
    filter: AddressFilter,
    receive_filter: Option<Box<dyn ReceiveFilter>>,
    /// Headers of what was just sent, for the receive_filter.
    sent: Vec<[u8; MIN_FRAME]>,
    link_up: bool,
    /// The longest frame this station sends, in bytes.
    longest: usize,
    lock_timeout: Duration,
    capabilities: Capabilities,
    finisher: Finisher,
    reader: Reader,
    wakeups: Wakeups,
    settle_backoff: Option<SettleBackoff>,
    /// Looks at the ring since there was something on it.
    empty_reads: u32,
}

/// A lock that keeps the ring unsettled was looked after in empty_reads.
#[derive(Debug)]
struct SettleBackoff {
    at: Instant,
    /// How long it is left alone.
    pause: Duration,
}

impl Drop for Station {
    fn drop(&mut self) {
        // There is nobody left to tell; the others look by themselves.
        let _ = self.wakeups.pay(&self.bus);
        members::leave(&self.bus.file, self.me);
    }
}

/// Why a part of a burst was not appended.
enum Refused {
    Busy(Busy),
    Lost,
}

impl Station {
    /// Joins a bus.
    ///
    /// # Errors
    /// When the bus was opened for reading only, or its lock cannot be had although the ring is unsettled without it.
    pub fn join(bus: Bus, options: StationOptions) -> Result<Self, OpenError> {
        let me = bus.claim()?;
        bus.ring.clear_spare();
        let extent = match bus.ring.snapshot() {
            Ok(extent) => extent,
            // With the lock there is no doubt.
            Err(NoSnapshot::Unsettled | NoSnapshot::Corrupt) => {
                let mut held = acquire(&bus.ring, &bus.file, me, options.lock_timeout)
                    .map_err(|source| OpenError::Busy { path: bus.path().to_owned(), source })?;
                held.mended_extent()
            }
        };
        let cursor = Cursor::at_end(&extent);
        let mac = options.mac.unwrap_or_else(random_mac);
        let name = options.name.unwrap_or_else(program_name);
        members::enter(&bus.file, me, mac, &name);
        let longest = bus.max_frame();
        let mut reader = Reader::new(cursor);
        reader.set_wait_mode(options.wait_mode);
        Ok(Self {
            bus,
            me,
            name,
            sender: random_number(),
            filter: AddressFilter::new(mac, options.promiscuous),
            receive_filter: None,
            sent: Vec::new(),
            link_up: true,
            longest,
            lock_timeout: options.lock_timeout,
            capabilities: options.capabilities,
            finisher: Finisher::default(),
            reader,
            wakeups: Wakeups::new(options.wake_interval),
            settle_backoff: None,
            empty_reads: 0,
        })
    }

    /// The bus.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The station's address.
    #[must_use]
    pub fn mac(&self) -> MacAddr6 {
        self.filter.mac.into()
    }

    /// Changes the station's address, from the next frame on, and in the list of the bus's [members](Bus::members).
    pub fn set_mac(&mut self, mac: MacAddr6) {
        if mac != self.mac() {
            self.filter.mac = mac.into_array();
            members::note(&self.bus.file, self.me, mac, &self.name);
        }
    }

    /// The random identity by which the station knows its own frames; others see it in
    /// [`FrameInfo`](crate::FrameInfo).
    #[must_use]
    pub fn sender(&self) -> u64 {
        self.sender
    }

    /// Whether the station receives frames for others as well.
    #[must_use]
    pub fn is_promiscuous(&self) -> bool {
        self.filter.promiscuous
    }

    /// Changes whether the station receives frames for others as well, from the next frame on.
    pub fn set_promiscuous(&mut self, on: bool) {
        self.filter.promiscuous = on;
    }

    /// The multicast addresses the station listens to; none: all of them.
    pub fn groups(&self) -> impl Iterator<Item = MacAddr6> {
        self.filter.groups()
    }

    /// Changes which multicast addresses the station listens to, from the next frame on: none means all of them.
    /// Broadcasts are always heard; addresses that are no group's are left out.
    pub fn set_groups(&mut self, groups: impl IntoIterator<Item = MacAddr6>) {
        self.filter.set_groups(groups);
    }

    /// Has `receive_filter` choose what the station hears of what its filter lets through, from the next frame on; with `None`, that
    /// is all.
    pub fn set_receive_filter(&mut self, receive_filter: Option<Box<dyn ReceiveFilter>>) {
        self.receive_filter = receive_filter;
    }

    /// Whether the link is up.
    #[must_use]
    pub fn is_link_up(&self) -> bool {
        self.link_up
    }

    /// Takes the link down or up (`media none`, `media auto`). While it is down, frames to be sent are accepted, counted,
    /// and go nowhere, and none is received. Up again, the station begins with what is sent from then on.
    pub fn set_link_up(&mut self, up: bool) {
        if up && !self.link_up {
            self.discard_pending();
        }
        self.link_up = up;
    }

    /// The largest payload of a frame this station sends, in bytes: 1,500 unless changed (9,202 on a big bus).
    #[must_use]
    pub fn mtu(&self) -> usize {
        self.longest - MIN_FRAME
    }

    /// Changes the largest payload, from the next frame on. Longer frames of others are received all the same. Returns
    /// whether the bus can carry it: at least 68 bytes, as IPv4 wants, and no more than its longest frame.
    #[must_use]
    pub fn set_mtu(&mut self, bytes: usize) -> bool {
        let possible = (68..=self.bus.max_frame() - MIN_FRAME).contains(&bytes);
        if possible {
            self.longest = bytes + MIN_FRAME;
        }
        possible
    }

    /// Changes how long a send waits for the lock, from the next one on.
    pub fn set_lock_timeout(&mut self, timeout: Duration) {
        self.lock_timeout = timeout;
    }

    /// Counters since the station joined.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { wakeups: self.wakeups.sent(), ..self.reader.stats }
    }

    /// Sends one frame. A burst costs less a frame: see [`send_burst`](Self::send_burst).
    ///
    /// # Errors
    /// As for [`send_burst`](Self::send_burst).
    pub fn send(&mut self, frame: &[u8]) -> Result<(), SendError> {
        self.send_burst([frame])
    }

    /// Sends frames, in order, and wakes the other stations once. `frames` is gone over several times: a slice, or an
    /// iterator that is cheap to clone.
    ///
    /// # Errors
    /// [`SendError::TooLong`] and [`SendError::TooShort`] before anything is sent; [`SendError::Busy`] when the lock
    /// was not to be had in time, perhaps after a part.
    #[inline]
    pub fn send_burst<I>(&mut self, frames: I) -> Result<(), SendError>
    where
        I: IntoIterator,
        I::Item: FrameSource,
        I::IntoIter: Clone,
    {
        let max = self.longest;
        let mut rest = frames.into_iter();
        for (index, frame) in rest.clone().enumerate() {
            let refused = match frame.frame_len() {
                len if len > max => SendError::TooLong { index, len, max },
                len if len < MIN_FRAME => SendError::TooShort { index, len },
                _ => continue,
            };
            self.reader.stats.tx_refused += rest.count() as u64;
            return Err(refused);
        }
        if !self.link_up {
            self.reader.stats.tx_link_down += rest.count() as u64;
            return Ok(());
        }
        let mut sent = 0;
        let mut done = Ok(());
        // A hold of the lock is bounded; most bursts fit one.
        while let count @ 1.. = self.fitting(rest.clone()) {
            if let Err(refused) = self.append(rest.clone().take(count)) {
                done = Err(match refused {
                    Refused::Busy(source) => {
                        self.reader.stats.tx_busy += rest.clone().count() as u64;
                        SendError::Busy { sent, source }
                    }
                    // What was sent before is gone as well.
                    Refused::Lost => return Err(SendError::Lost { path: self.bus.path().to_owned() }),
                });
                break;
            }
            sent += count;
            rest.nth(count - 1);
        }
        if sent > 0 {
            self.wakeups.owe(&self.bus).map_err(|source| SendError::Wake { source })?;
        }
        done
    }

    /// Wakes the other stations now if that was put off: see [`StationOptions::wake_interval`]. Without that there is nothing
    /// to be done.
    ///
    /// # Errors
    /// [`SendError::Wake`].
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.wakeups.pay(&self.bus).map_err(|source| SendError::Wake { source })
    }

    /// How many frames one hold of the lock takes.
    #[inline]
    fn fitting<F: FrameSource>(&self, frames: impl Iterator<Item = F>) -> usize {
        let mut room = burst_limit(self.bus.ring.size()) as usize;
        let fits = frames.take_while(|frame| {
            let bytes = PACKET_HEADER_SIZE as usize + frame.frame_len();
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        });
        fits.count()
    }

    #[inline]
    fn append<F: FrameSource>(&mut self, frames: impl Iterator<Item = F> + Clone) -> Result<(), Refused> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The format has 32 bits for it.
        let sec = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let usec = now.subsec_micros();
        let sender = self.sender;
        let max = self.bus.ring.max_frame();
        let headers = frames.clone().map(|frame| {
            // Checked to fit; should a source change its mind, the minimum holds.
            let len = u32::try_from(frame.frame_len()).map_or(max, |len| len.min(max));
            PacketHeader { len, sec, usec, sender }
        });
        let ring = &self.bus.ring;
        let (filtered, sent) = (self.receive_filter.is_some(), &mut self.sent);
        let (mut packets, mut bytes) = (0, 0);
        let mut filling = frames;
        let is_bus = || ring.memory().load32(Field32::Magic, Ordering::Relaxed) == self.bus.magic();
        // On what is no bus any more there is no lock to be taken, from the dead least of all.
        if !is_bus() {
            return Err(Refused::Lost);
        }
        let mut held = match ring.try_lock(self.me) {
            Ok(held) => held,
            Err(_taken) => {
                self.reader.stats.lock_waits += 1;
                acquire(ring, &self.bus.file, self.me, self.lock_timeout).map_err(Refused::Busy)?
            }
        };
        // A rump kernel asserts this whenever it has the lock; somebody may have begun the file anew meanwhile.
        if !is_bus() {
            return Err(Refused::Lost);
        }
        let mended = held.append(headers, |header, at| {
            let mut slot = FrameSlot::new(ring, at, header.len as usize);
            if let Some(frame) = filling.next() {
                frame.write_to(&mut slot);
            }
            slot.finish();
            if filtered {
                let mut header = [0; MIN_FRAME];
                ring.copy_out(at, &mut header);
                if sent.last().is_none_or(|last| last[SOURCE] != header[SOURCE]) {
                    sent.push(header);
                }
            }
            packets += 1;
            bytes += u64::from(header.len);
        });
        drop(held);
        if let Some(receive_filter) = &mut self.receive_filter {
            sent.drain(..).for_each(|header| receive_filter.sent(header));
        }
        if ring.memory().is_lost() {
            return Err(Refused::Lost);
        }
        let stats = &mut self.reader.stats;
        stats.tx_packets += packets;
        stats.tx_bytes += bytes;
        stats.corrupt += u64::from(mended.corrupt);
        Ok(())
    }

    /// Begins anew with what is sent from now on: what is on the bus is not received any more.
    pub fn discard_pending(&mut self) {
        // Who does only this touches no page that may be missing, and would never know.
        self.bus.check_size();
        self.reader.discard_pending(&self.bus.ring);
    }

    /// Fills `burst` with the frames that are there for this station, without waiting; returns how many.
    pub fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        burst.clear();
        self.recv_into(burst, usize::MAX)
    }

    /// Offers the frames that are there for this station to `sink`, at most `max`, without waiting; returns how many were
    /// committed.
    #[inline]
    pub fn recv_into(&mut self, sink: &mut impl FrameSink, max: usize) -> usize {
        if !self.link_up {
            // Nor is what others send a reason to be woken.
            self.discard_pending();
            return 0;
        }
        // Should it fail, it stays owed.
        let _ = self.wakeups.pay_if_due(&self.bus);
        let (sender, filter, receive_filter) = (self.sender, &self.filter, &mut self.receive_filter);
        let wanted = |frame: &RingFrame<'_>| {
            if frame.info().sender == sender {
                return false;
            }
            if !filter.promiscuous {
                let mut destination = [0; 6];
                frame.copy_to(&mut destination);
                if !filter.wants(destination) {
                    return false;
                }
            }
            receive_filter.as_mut().is_none_or(|receive_filter| {
                let mut header = [0; MIN_FRAME];
                frame.copy_to(&mut header);
                receive_filter.wants(header)
            })
        };
        let overruns = self.reader.stats.overruns;
        let received = self.reader.read(&self.bus.ring, max, sink, wanted);
        if let Some(receive_filter) = &mut self.receive_filter {
            let whole = received.is_some() && self.reader.stats.overruns == overruns;
            receive_filter.settled(whole && !self.bus.is_lost());
        }
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
        received.unwrap_or(0)
    }

    /// Waits until there is something to read, at most for `timeout` (`None`: for ever). `false` when the time is over.
    /// What is there need not be for this station. Whether it sleeps at once or looks for a while is for
    /// [`StationOptions::wait_mode`].
    ///
    /// All that wait in a process, however many and on whatever buses, share one inotify instance. Where none is to be had
    /// (128 for each user is a usual limit), they look every millisecond instead; this is logged once.
    ///
    /// # Errors
    /// When the bus is gone, or the system refuses to wait.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, WaitError> {
        self.pay()?;
        let begin = Instant::now();
        loop {
            self.free_dead_lock();
            let left = timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(begin.elapsed()));
            if self.reader.wait(&self.bus, Some(left.min(MAX_SLEEP)))? {
                return Ok(true);
            }
            if left <= MAX_SLEEP {
                return Ok(false);
            }
        }
    }

    /// Sleeps in `wait_set` from now on when [armed](Self::arm), and is called `token` there. For processes that serve many
    /// stations with one poll loop.
    pub fn join_wait_set(&mut self, wait_set: &WaitSet, token: usize) {
        self.reader.join_wait_set(&self.bus, wait_set, token);
    }

    /// The descriptor to poll for reading after [`arm`](Self::arm). There is none before the first time; then it stays the
    /// same for the life of the station. It is an inotify instance of its own, or that of the [`WaitSet`] it sleeps in.
    #[must_use]
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.reader.poll_fd()
    }

    /// Prepares for a sleep on [`poll_fd`](Self::poll_fd). `true`: there is something to read already, do not sleep; it is
    /// not armed. Sleep at most [`MAX_SLEEP`](crate::MAX_SLEEP) at a time, and call [`disarm`](Self::disarm) after it.
    /// In a [`WaitSet`], go by that.
    ///
    /// # Errors
    /// When the bus is gone. Outside of a [`WaitSet`] also when no inotify instance or watch is to be had.
    pub fn arm(&mut self) -> Result<bool, WaitError> {
        self.pay()?;
        self.free_dead_lock();
        self.reader.arm(&self.bus)
    }

    /// Ends a sleep: the bus is watched no longer. There is no need to when a [`WaitSet`] said who is woken.
    pub fn disarm(&mut self) {
        self.reader.disarm();
    }

    fn pay(&mut self) -> Result<(), WaitError> {
        let wake = |source| WaitError::Wake { path: self.bus.path().to_owned(), source };
        self.wakeups.pay(&self.bus).map_err(wake)
    }

    /// Frees the lock if a station of our kind died with it. Ours do without it until they send; rump kernels hang meanwhile.
    #[inline]
    fn free_dead_lock(&self) {
        if self.bus.ring.lock_word().owner().is_some()
            && !self.bus.is_lost()
            && let Some(held) = take_over_dead(&self.bus.ring, &self.bus.file, self.me)
        {
            drop(held);
            // It may have put frames there and not come to wake anybody. Ours look by themselves.
            let _ = wake(&self.bus.file);
        }
    }

    /// The ring is unsettled: a writer is at work with every look, or one died at it. Waiting for our turn tells which,
    /// and puts right what a dead one left.
    #[cold]
    fn settle(&mut self) {
        let rests = |settle_backoff: &SettleBackoff| settle_backoff.at.elapsed() < settle_backoff.pause;
        if self.bus.is_lost() || self.settle_backoff.as_ref().is_some_and(rests) {
            return;
        }
        let next =
            self.settle_backoff.as_ref().map_or(SETTLE_PAUSE, |last| (last.pause * 2).min(MAX_SETTLE_PAUSE));
        // Nobody takes over from an unknown owner, so there is nothing to find out by waiting.
        let is_known = self.bus.ring.lock_word().owner().is_some();
        let timeout = if is_known { SETTLE_WAIT } else { Duration::ZERO };
        self.settle_backoff = match acquire(&self.bus.ring, &self.bus.file, self.me, timeout) {
            Ok(_settled) => None,
            Err(_busy) => Some(SettleBackoff { at: Instant::now(), pause: next }),
        };
    }
}
