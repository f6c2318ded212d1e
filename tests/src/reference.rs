//! A rump kernel's side of the bus, as a test peer. It writes, reads, locks, sleeps and asserts
//! like the shmif driver of NetBSD's rump kernels, known faults included. It shares no code with
//! the crate under test.
//!
//! It is faithful to the driver where our implementation must cope with it:
//! - the lock is a compare-and-swap on the 32-bit word alone, one hold for each frame sent or read,
//!   never held asleep; only the value 1 keeps it out, and it panics when it then unlocks another;
//! - `last` is stored before the bytes are written, and all work happens under the lock;
//! - a burst is announced once, by writing the version over itself with `pwrite`, and a sleeper
//!   relies on that alone: it reads nothing until inotify reports a write, so the tests notice a
//!   station of ours that misses a wake-up;
//! - it starts at the newest packet itself;
//! - attached or overrun while the newest packet wraps around the ring's end, it is off by a
//!   generation, and reads the whole ring again;
//! - two of its threads that wake at once write the version over `generation`
//!   ([`RumpPeer::wake_twice_at_once`]);
//! - it panics where the driver has an assertion, with the lock held if the test asks for that
//!   ([`RumpPeer::panicking_with_the_lock`]).

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::frames::Mac;
use crate::privilege;

/// The size of a bus file.
pub const FILE_SIZE: usize = 1_048_576;
/// The size of the ring in it.
pub const DATA_SIZE: u32 = 1_048_544;
/// The first word of a bus file.
pub const MAGIC: u32 = 0xca11_d054;
/// The format version.
pub const VERSION: u32 = 3;
/// The longest frame.
pub const MAX_FRAME: usize = 1514;

const HEADER: u32 = 24;
const DATA: usize = FILE_SIZE - DATA_SIZE as usize;

/// Byte offsets of the file header's 32-bit fields.
mod field {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 4;
    pub(super) const GEN: usize = 8;
    pub(super) const FIRST: usize = 16;
    pub(super) const LAST: usize = 20;
    pub(super) const LOCK: usize = 24;
}

/// An interface of a rump kernel, attached to a bus and up.
pub struct RumpPeer {
    bus: Bus,
    file: File,
    watch: Inotify,
    started: Instant,
    me: u64,
    mac: Mac,
    promiscuous: bool,
    seen_gen: u64,
    next: u32,
    overruns: u64,
    misled_by: Option<u64>,
    panics_with_lock: bool,
}

impl RumpPeer {
    /// Attaches to the bus at `path`, and creates it if it does not exist.
    ///
    /// # Panics
    /// When that fails, or when a rump kernel would refuse the bus.
    #[must_use]
    pub fn attach(path: &Path, mac: Mac) -> Self {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.unwrap_or_else(|why| panic!("open {}: {why}", path.display()));
        // If we have just created it, the processes of the test must be able to open it.
        privilege::hand_over(path);
        // The driver does this before it reads anything.
        file.set_len(FILE_SIZE as u64).expect("truncate the bus");
        let map = MmapOptions::new().len(FILE_SIZE).map_raw(&file).expect("map the bus");
        let bus = Bus { map };
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).expect("inotify");
        let behind = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .expect("the path behind the fd");
        watch.add_watch(&behind, AddWatchFlags::IN_MODIFY).expect("watch the bus");

        bus.lock();
        match bus.load(field::MAGIC) {
            0 => {
                bus.store(field::MAGIC, MAGIC);
                bus.store(field::FIRST, DATA_SIZE);
            }
            magic => assert_eq!(magic, MAGIC, "a rump kernel refuses this bus"),
        }
        let (next, seen_gen) = (bus.load(field::LAST), bus.generation());
        let misled_by = bus.sender_around_the_end();
        bus.unlock();
        let me = fastrand::u64(1..);
        Self {
            bus,
            file,
            watch,
            started: Instant::now(),
            me,
            mac,
            promiscuous: true,
            seen_gen,
            next,
            overruns: 0,
            misled_by,
            panics_with_lock: false,
        }
    }

    /// Turns promiscuous mode off, which is on at first. Then it receives only frames to its MAC
    /// and to groups.
    #[must_use]
    pub fn choosy(mut self) -> Self {
        self.promiscuous = false;
        self
    }

    /// Leaves the lock held when an assertion fails while it reads, as a rump kernel does.
    #[must_use]
    pub fn panicking_with_the_lock(mut self) -> Self {
        self.panics_with_lock = true;
        self
    }

    /// Returns how often the ring has been filled to its end.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.bus.generation()
    }

    /// Returns how often it was overrun while reading.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Returns the identity that its packets carry.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.me
    }

    /// Returns whose packet has misled it, if it was attached or overrun while the newest packet was
    /// one that reaches or crosses the ring's end. From then on it reads old packets again, and
    /// asserts when it comes upon the newest one.
    #[must_use]
    pub fn misled_by(&self) -> Option<u64> {
        self.misled_by
    }

    /// Sends a burst: takes the lock for each frame, and wakes the readers once at the end.
    ///
    /// # Panics
    /// On a frame that no rump kernel would send, and when an assertion of the driver fails.
    pub fn send<F: AsRef<[u8]>>(&mut self, frames: impl IntoIterator<Item = F>) {
        for frame in frames {
            self.send_one(frame.as_ref());
        }
        self.wake();
    }

    fn send_one(&self, frame: &[u8]) {
        assert!(frame.len() <= MAX_FRAME, "rump: KASSERT(pktsize <= ETHERMTU + ETHER_HDR_LEN)");
        let header = self.header(frame.len());
        let bus = &self.bus;
        bus.lock();
        bus.check_magic();
        let last = bus.next_of(bus.load(field::LAST));
        bus.store(field::LAST, last);
        let mut filled = false;
        let body = bus.write(last, &header, &mut filled);
        bus.write(body, frame, &mut filled);
        if filled {
            bus.set_generation(bus.generation() + 1);
        }
        bus.unlock();
    }

    fn header(&self, len: usize) -> [u8; HEADER as usize] {
        // A rump kernel's clock is its uptime and runs in steps of 10 ms. The padding holds
        // arbitrary bytes.
        let uptime = self.started.elapsed();
        let sec = u32::try_from(uptime.as_secs()).expect("a test is short");
        let usec = uptime.subsec_millis() / 10 * 10_000;
        let mut header = [0xa5; HEADER as usize];
        header[0..4].copy_from_slice(&u32::try_from(len).expect("a frame is short").to_ne_bytes());
        header[4..8].copy_from_slice(&sec.to_ne_bytes());
        header[8..12].copy_from_slice(&usec.to_ne_bytes());
        header[16..24].copy_from_slice(&self.me.to_ne_bytes());
        header
    }

    /// Wakes all stations, as after a burst or when going down.
    ///
    /// # Panics
    /// When the bus cannot be written.
    pub fn wake(&self) {
        self.file
            .write_all_at(&VERSION.to_ne_bytes(), field::VERSION as u64)
            .expect("wake the bus");
    }

    /// Wakes all stations as two threads of a rump kernel do at the same moment: both seek, then both
    /// write, so that one version lands behind the other, on the low half of `generation`.
    ///
    /// # Panics
    /// When the bus cannot be written.
    pub fn wake_twice_at_once(&self) {
        let twice = [VERSION, VERSION].map(u32::to_ne_bytes).concat();
        self.file.write_all_at(&twice, field::VERSION as u64).expect("wake the bus");
    }

    /// Returns the next frame for this station, if there is one now.
    ///
    /// # Panics
    /// When an assertion of the driver fails.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        while let Some((sender, frame)) = self.read_one() {
            let mine = sender == self.me;
            if !mine && frame.len() >= 14 && self.wants(&frame) {
                return Some(frame);
            }
        }
        None
    }

    /// Returns the next frame for this station. Sleeps for up to `timeout` until the bus is
    /// written.
    ///
    /// # Panics
    /// When an assertion of the driver fails.
    pub fn wait(&mut self, timeout: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(frame) = self.receive() {
                return Some(frame);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let nap = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let woken =
                poll(&mut [PollFd::new(self.watch.as_fd(), PollFlags::POLLIN)], nap).expect("poll");
            if woken > 0 {
                let _ = self.watch.read_events();
            }
        }
    }

    fn wants(&self, frame: &[u8]) -> bool {
        self.promiscuous || frame[0] & 1 == 1 || frame[..6] == self.mac
    }

    /// Reads one packet, whatever its destination, under the lock.
    fn read_one(&mut self) -> Option<(u64, Vec<u8>)> {
        let bus = &self.bus;
        bus.lock();
        // If an assertion fails, this guard usually unlocks, so that other threads of the process do
        // not wait forever.
        let held = HeldLock { bus, stays_on_panic: self.panics_with_lock };
        bus.check_magic();
        let (generation, first, last) =
            (bus.generation(), bus.load(field::FIRST), bus.load(field::LAST));
        assert!(
            generation >= self.seen_gen,
            "rump: KASSERT(shm_gen >= sc_devgen): {generation} {}",
            self.seen_gen
        );
        if self.seen_gen == generation && bus.next_of(last) == self.next {
            return None;
        }
        assert_ne!(first, last, "rump: KASSERT(shm_first != shm_last)");
        if !is_still_valid(first, bus.next_of(last), generation - self.seen_gen, self.next) {
            assert!(generation > 0, "rump: KASSERT(shm_gen > 0) when overrun");
            self.next = first;
            // The driver's fault: this is right only while the newest packet does not wrap around
            // the ring's end.
            self.seen_gen = if first > last { generation - 1 } else { generation };
            self.overruns += 1;
            self.misled_by = bus.sender_around_the_end();
        }
        assert!(
            !(self.next > last && self.seen_gen == generation),
            "rump: KASSERT(!(nextpkt > shm_last && sc_devgen == shm_gen)): {} {last}",
            self.next
        );
        let mut filled = false;
        let mut header = [0; HEADER as usize];
        let body = bus.read(self.next, &mut header, &mut filled);
        let len = u32::from_ne_bytes(header[0..4].try_into().expect("4 bytes")) as usize;
        assert!(
            len <= MAX_FRAME,
            "rump: KASSERT(sp_len <= ETHERMTU + ETHER_HDR_LEN): {len} at {}",
            self.next
        );
        let mut frame = vec![0; len];
        self.next = bus.read(body, &mut frame, &mut filled);
        drop(held);
        self.seen_gen += u64::from(filled);
        Some((u64::from_ne_bytes(header[16..24].try_into().expect("8 bytes")), frame))
    }

    /// Takes the lock as if to write, and keeps it until the guard is dropped, like a rump kernel
    /// that stopped or died there.
    #[must_use]
    pub fn hold_lock(&self) -> HeldLock<'_> {
        self.bus.lock();
        HeldLock { bus: &self.bus, stays_on_panic: false }
    }
}

/// The bus lock, held by a rump kernel.
pub struct HeldLock<'a> {
    bus: &'a Bus,
    stays_on_panic: bool,
}

impl Drop for HeldLock<'_> {
    fn drop(&mut self) {
        if !(self.stays_on_panic && std::thread::panicking()) {
            self.bus.unlock();
        }
    }
}

/// Returns whether `next` lies between the oldest packet and the `end` of the newest, counted over
/// two rings. `behind` is how many generations the reader is behind.
fn is_still_valid(first: u32, mut end: u32, behind: u64, next: u32) -> bool {
    let mut position = next;
    if behind > 1 {
        return false;
    }
    if first >= end {
        end += DATA_SIZE;
        if behind == 0 {
            position += DATA_SIZE;
        }
    } else if behind > 0 {
        return false;
    }
    first <= position && position <= end
}

/// The mapped file.
struct Bus {
    map: MmapRaw,
}

impl Bus {
    fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at < DATA, "a field of the header");
        // SAFETY: the field lies within the mapping, whose start is page-aligned.
        let field = unsafe { self.map.as_mut_ptr().add(at) };
        // SAFETY: the field is aligned and mapped while `self` exists, and other processes access
        // it as a whole word, too.
        unsafe { AtomicU32::from_ptr(field.cast()) }
    }

    fn load(&self, at: usize) -> u32 {
        self.word(at).load(Ordering::Relaxed)
    }

    fn store(&self, at: usize, value: u32) {
        self.word(at).store(value, Ordering::Relaxed);
    }

    fn generation(&self) -> u64 {
        let halves = [self.load(field::GEN), self.load(field::GEN + 4)].map(u32::to_ne_bytes);
        u64::from_ne_bytes(halves.concat().try_into().expect("8 bytes"))
    }

    fn set_generation(&self, generation: u64) {
        let bytes = generation.to_ne_bytes();
        self.store(field::GEN, u32::from_ne_bytes(bytes[..4].try_into().expect("4 bytes")));
        self.store(field::GEN + 4, u32::from_ne_bytes(bytes[4..].try_into().expect("4 bytes")));
    }

    fn check_magic(&self) {
        assert_eq!(self.load(field::MAGIC), MAGIC, "rump: KASSERT(shm_magic == SHMIF_MAGIC)");
    }

    fn lock(&self) {
        let lock = self.word(field::LOCK);
        let mut tries = 0_u32;
        // Acquire pairs with the Release of the swap in `unlock`, in any process.
        // With any other value than 1 the driver continues, as if it had the lock.
        while lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed) == Err(1) {
            tries += 1;
            if tries >= 1000 {
                std::thread::sleep(Duration::from_millis(1));
                tries = 0;
            } else {
                std::hint::spin_loop();
            }
        }
        // All accesses under the lock stay between this fence and the one in `unlock`.
        fence(Ordering::SeqCst);
    }

    fn unlock(&self) {
        fence(Ordering::SeqCst);
        // Release pairs with the Acquire in `lock`, in any process.
        let old = self.word(field::LOCK).swap(0, Ordering::Release);
        assert_eq!(old, 1, "rump: KASSERT(old == LOCK_LOCKED)");
    }

    /// Returns the offset of the packet after the one at `offset`.
    fn next_of(&self, offset: u32) -> u32 {
        let mut len = [0; 4];
        self.read(offset, &mut len, &mut false);
        let len = u32::from_ne_bytes(len);
        assert!(len < DATA_SIZE, "rump: KASSERT(sp_len < BUSMEM_DATASIZE): {len} at {offset}");
        (offset + HEADER + len) % DATA_SIZE
    }

    /// Returns the sender of the newest packet if that reaches or crosses the ring's end.
    fn sender_around_the_end(&self) -> Option<u64> {
        let last = self.load(field::LAST);
        if self.next_of(last) > last {
            return None;
        }
        let mut header = [0; HEADER as usize];
        self.read(last, &mut header, &mut false);
        Some(u64::from_ne_bytes(header[16..24].try_into().expect("8 bytes")))
    }

    /// Advances `first` until it names no packet in the `len` bytes at `offset`.
    fn advance_first(&self, offset: u32, len: u32) {
        loop {
            let first = self.load(field::FIRST);
            if !(offset <= first + HEADER && offset + len > first) {
                return;
            }
            self.store(field::FIRST, self.next_of(first));
        }
    }

    /// Writes `bytes` at `offset`, around the ring's end, and sets `filled` when it reaches that
    /// end. Returns the offset after them.
    fn write(&self, offset: u32, bytes: &[u8], filled: &mut bool) -> u32 {
        let room = (DATA_SIZE - offset) as usize;
        let (ahead, around) = bytes.split_at(bytes.len().min(room));
        let end = offset + u32::try_from(ahead.len()).expect("short");
        // The driver counts one more byte for a piece that reaches the end.
        self.advance_first(offset, end - offset + u32::from(end == DATA_SIZE));
        self.poke(offset, ahead);
        *filled |= end == DATA_SIZE;
        if around.is_empty() {
            return end % DATA_SIZE;
        }
        let len = u32::try_from(around.len()).expect("short");
        self.advance_first(0, len);
        self.poke(0, around);
        len
    }

    /// Reads `bytes` at `offset`, around the ring's end, and sets `filled` when it reaches that
    /// end. Returns the offset after them.
    fn read(&self, offset: u32, bytes: &mut [u8], filled: &mut bool) -> u32 {
        let room = (DATA_SIZE - offset) as usize;
        let ahead = bytes.len().min(room);
        let (ahead, around) = bytes.split_at_mut(ahead);
        self.peek(offset, ahead);
        let end = offset + u32::try_from(ahead.len()).expect("short");
        *filled |= end == DATA_SIZE;
        if around.is_empty() {
            return end % DATA_SIZE;
        }
        self.peek(0, around);
        u32::try_from(around.len()).expect("short")
    }

    fn poke(&self, offset: u32, bytes: &[u8]) {
        let to = self.data(offset, bytes.len());
        // SAFETY: `data` checked that the range is mapped, and `bytes` is our own memory. We hold
        // the lock, so no other process writes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    }

    fn peek(&self, offset: u32, bytes: &mut [u8]) {
        let from = self.data(offset, bytes.len());
        // SAFETY: `data` checked that the range is mapped, and `bytes` is our own memory. We hold
        // the lock, so no process writes.
        unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) }
    }

    fn data(&self, offset: u32, len: usize) -> *mut u8 {
        let at = DATA + offset as usize;
        assert!(at + len <= FILE_SIZE, "within the ring");
        // SAFETY: the range was just checked to lie within the mapping.
        unsafe { self.map.as_mut_ptr().add(at) }
    }
}
