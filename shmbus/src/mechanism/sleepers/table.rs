//! The slots: how a station takes one, says what it wants, falls asleep, and learns how its sleep
//! ended.

use std::sync::atomic::Ordering;

use super::Interest;
use crate::format::sleepers::{
    ANNOUNCED, ASLEEP, BUCKET, BUCKETS, BUS, FILE_SIZE, GROUPS, LISTENER, MAGIC, MAP_WORDS,
    POSITION_CHECK, PROMISCUOUS, SEEN, SEEN_ADDRESS, SLOT, SLOT_ADDRESSES, SLOT_WORDS, SLOTS,
    TABLE_MAGIC, UNKNOWN, announced_position, bucket_of, slot,
};
use crate::mechanism::ring::lock::Owner;
use crate::memory::{MappedWords, Words};

const FLAG_PROMISCUOUS: u64 = 1;
const FLAG_UNKNOWN: u64 = 2;
/// From this bit of the flags on stands the number of addresses.
const COUNT_SHIFT: u32 = 8;

/// A station's slot: its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(super) usize);

impl Slot {
    pub(super) fn word(self, word: usize) -> usize {
        SLOT + self.0 * SLOT_WORDS + word
    }

    /// The slot's word in a map, and its bit there.
    pub(super) fn bit(self, map: usize) -> (usize, u64) {
        (map + self.0 / 64, 1 << (self.0 % 64))
    }
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Awake {
    /// A frame for the station was announced.
    pub(crate) notified: bool,
    /// What lies before this position is not for the station. `None`: unknown.
    pub(crate) position: Option<u64>,
}

/// The table, in some memory.
#[derive(Clone, Debug)]
pub(crate) struct Table<W> {
    pub(super) words: W,
}

impl Table<MappedWords> {
    /// Whether the file was cut short under the mapping.
    pub(crate) fn is_lost(&self) -> bool {
        self.words.is_lost()
    }
}

impl<W: Words> Table<W> {
    pub(crate) fn new(words: W) -> Self {
        Self { words }
    }

    /// Whether there is a table in this memory.
    pub(crate) fn is_made(&self) -> bool {
        self.words.load(MAGIC, Ordering::Acquire) == TABLE_MAGIC
    }

    /// The bus that the table belongs to, if it lies beside it.
    pub(crate) fn bus(&self) -> [u64; 2] {
        BUS.map(|word| self.words.load(word, Ordering::Relaxed))
    }

    /// Makes a table of zeros: for a bus file of this many bytes if it lies in one, or for a bus
    /// with these numbers if it lies beside it.
    pub(crate) fn make(&self, file_size: u64, bus: [u64; 2]) {
        self.words.store(FILE_SIZE, file_size, Ordering::Relaxed);
        for (word, number) in BUS.into_iter().zip(bus) {
            self.words.store(word, number, Ordering::Relaxed);
        }
        // Release: pairs with the acquire in `is_made`.
        self.words.store(MAGIC, TABLE_MAGIC, Ordering::Release);
    }

    /// Takes a slot for a station. Slots of stations that `is_alive` denies are freed on the way.
    /// `None` when all slots are taken.
    pub(crate) fn claim(&self, owner: Owner, is_alive: impl Fn(Owner) -> bool) -> Option<Slot> {
        let mut free = None;
        for slot in (0..SLOTS).map(Slot) {
            let word = self.words.load(slot.word(slot::OWNER), Ordering::Relaxed);
            let taken = Owner::new((word >> 32) as u32);
            if taken.is_some_and(&is_alive) {
                continue;
            }
            if free.is_some() && word == 0 {
                continue;
            }
            // Of two that want the slot, one succeeds, and only that one clears its bits.
            let mine = u64::from(owner.number()) << 32;
            if self.words.cas(slot.word(slot::OWNER), word, mine).is_err() {
                continue;
            }
            self.forget(slot);
            if free.is_none() {
                free = Some(slot);
            } else {
                let _ = self.words.cas(slot.word(slot::OWNER), mine, 0);
            }
        }
        free
    }

    /// Gives the slot back.
    pub(crate) fn free(&self, slot: Slot, owner: Owner) {
        let word = self.words.load(slot.word(slot::OWNER), Ordering::Relaxed);
        // Another station may have taken this one for dead.
        if word >> 32 == u64::from(owner.number()) {
            self.forget(slot);
            let _ = self.words.cas(slot.word(slot::OWNER), word, 0);
        }
        // Likewise its role.
        let _ = self.words.cas(LISTENER, owner.number().into(), 0);
    }

    /// Clears all bits of a slot.
    fn forget(&self, slot: Slot) {
        let maps = [ASLEEP, PROMISCUOUS, GROUPS, UNKNOWN];
        let buckets = (0..BUCKETS).map(|bucket| BUCKET + bucket * MAP_WORDS);
        for map in maps.into_iter().chain(buckets) {
            self.put_bit(slot, map, false);
        }
    }

    /// Sets or clears a bit, unless it is so already.
    fn put_bit(&self, slot: Slot, map: usize, on: bool) {
        let (word, bit) = slot.bit(map);
        let is_on = self.words.load(word, Ordering::Relaxed) & bit != 0;
        if on && !is_on {
            self.words.set_bits(word, bit, Ordering::Release);
        } else if !on && is_on {
            self.words.clear_bits(word, bit, Ordering::Release);
        }
    }

    /// Writes what the slot's station wants, and its doorbell.
    pub(crate) fn write(&self, slot: Slot, owner: Owner, doorbell: u32, interest: &Interest) {
        if !self.is_made() {
            // It was scribbled over.
            self.words.store(MAGIC, TABLE_MAGIC, Ordering::Release);
        }
        for (word, value) in contents(owner, doorbell, interest) {
            if self.words.load(slot.word(word), Ordering::Relaxed) != value {
                self.words.store(slot.word(word), value, Ordering::Relaxed);
            }
        }
        self.put_bit(slot, PROMISCUOUS, interest.promiscuous);
        let (word, bit) = slot.bit(UNKNOWN);
        if interest.unknown && self.words.load(word, Ordering::Relaxed) & bit == 0 {
            // A station that has just begun to learn knows of no address where it is.
            (SEEN_ADDRESS..SEEN_ADDRESS + SEEN)
                .for_each(|place| self.words.store(place, 0, Ordering::Relaxed));
        }
        self.put_bit(slot, UNKNOWN, interest.unknown);
        self.put_bit(slot, GROUPS, true);
        for bucket in 0..BUCKETS {
            let on = interest.addresses().iter().any(|address| bucket_of(*address) == bucket);
            self.put_bit(slot, BUCKET + bucket * MAP_WORDS, on);
        }
    }

    /// Whether the slot is as [`write`](Self::write) left it.
    pub(crate) fn is_intact(
        &self,
        slot: Slot,
        owner: Owner,
        doorbell: u32,
        interest: &Interest,
    ) -> bool {
        let has = |map| {
            let (word, bit) = slot.bit(map);
            self.words.load(word, Ordering::Relaxed) & bit != 0
        };
        self.is_made()
            && contents(owner, doorbell, interest)
                .all(|(word, value)| self.words.load(slot.word(word), Ordering::Relaxed) == value)
            && has(PROMISCUOUS) == interest.promiscuous
            && has(UNKNOWN) == interest.unknown
            && has(GROUPS)
            && interest
                .addresses()
                .iter()
                .all(|address| has(BUCKET + bucket_of(*address) * MAP_WORDS))
    }

    /// The slot's station sleeps from now on. The caller must look at the ring after this and
    /// before it sleeps: what is there already was announced to others only.
    pub(crate) fn arm(&self, slot: Slot) {
        // No position: a bit that a vandal sets again does not hide that one was stored.
        for word in [slot::POSITION, slot::CHECK] {
            self.words.store(slot.word(word), 0, Ordering::Relaxed);
        }
        let (word, bit) = slot.bit(ASLEEP);
        // Release: pairs with the acquire in `is_bit_set`. A position that is stored because this bit
        // was seen comes after the zeros.
        self.words.set_bits(word, bit, Ordering::AcqRel);
        // SeqCst: pairs with the fence in `announce`. The sender sees the bit, or the caller sees
        // the sender's frames.
        self.words.fence(Ordering::SeqCst);
    }

    /// Whether no frame was announced to the slot's station since it fell asleep.
    pub(crate) fn is_asleep(&self, slot: Slot) -> bool {
        self.is_bit_set(slot) && self.notified_at(slot).is_none()
    }

    pub(super) fn is_bit_set(&self, slot: Slot) -> bool {
        let (word, bit) = slot.bit(ASLEEP);
        // Acquire: pairs with the release in `arm`.
        self.words.load(word, Ordering::Acquire) & bit != 0
    }

    /// Ends the sleep of the slot's station.
    pub(crate) fn disarm(&self, slot: Slot) -> Awake {
        // Acquire, and before the bit is read: pairs with the release in `announce`. If the bit is
        // still set, nothing before this position was for the station.
        let announced = self.announced();
        let (word, bit) = slot.bit(ASLEEP);
        // Acquire: pairs with the release in `notify`.
        let was_set = self.words.clear_bits(word, bit, Ordering::AcqRel) & bit != 0;
        self.awake(slot, was_set, announced)
    }

    /// As [`disarm`](Self::disarm), but the station sleeps on.
    pub(crate) fn peek(&self, slot: Slot) -> Awake {
        let announced = self.announced();
        let (word, bit) = slot.bit(ASLEEP);
        let is_set = self.words.load(word, Ordering::Acquire) & bit != 0;
        self.awake(slot, is_set, announced)
    }

    /// How a sleep ended or would end, by the bit and by what is stored beside it.
    fn awake(&self, slot: Slot, is_set: bool, announced: u64) -> Awake {
        match self.notified_at(slot) {
            None if is_set => Awake { notified: false, position: Some(announced) },
            // It was cleared, but by no sender.
            None => Awake { notified: true, position: None },
            Some(position) => Awake { notified: true, position },
        }
    }

    /// Where a frame was announced to the slot's station since it fell asleep. `None`: nowhere.
    /// `Some(None)`: the position is not sound.
    #[expect(clippy::option_option, reason = "no position is not an unsound one")]
    fn notified_at(&self, slot: Slot) -> Option<Option<u64>> {
        let position = self.words.load(slot.word(slot::POSITION), Ordering::Relaxed);
        let check = self.words.load(slot.word(slot::CHECK), Ordering::Relaxed);
        let is_sound = position ^ check == POSITION_CHECK;
        (position != 0 || check != 0).then(|| is_sound.then_some(position))
    }

    /// Announces to the slot's station a frame at `position`. Returns its doorbell if it slept.
    pub(super) fn notify(&self, slot: Slot, position: u64) -> Option<u32> {
        self.words.store(slot.word(slot::POSITION), position, Ordering::Relaxed);
        self.words.store(slot.word(slot::CHECK), position ^ POSITION_CHECK, Ordering::Relaxed);
        let (word, bit) = slot.bit(ASLEEP);
        // Release: pairs with the acquire in `disarm`.
        let slept = self.words.clear_bits(word, bit, Ordering::Release) & bit != 0;
        #[expect(clippy::cast_possible_truncation, reason = "the doorbell is the lower half")]
        let doorbell = self.words.load(slot.word(slot::OWNER), Ordering::Relaxed) as u32;
        slept.then_some(doorbell)
    }

    /// The position up to which frames were announced.
    pub(crate) fn announced(&self) -> u64 {
        announced_position(self.words.load(ANNOUNCED, Ordering::Acquire))
    }

    /// The number of the station that listens to the bus file for the others; 0: none.
    pub(crate) fn listener(&self) -> u64 {
        self.words.load(LISTENER, Ordering::Relaxed)
    }

    /// Makes `owner` the listener instead of `before`. Of several stations that try, one succeeds.
    pub(crate) fn become_listener(&self, before: u64, owner: Owner) -> bool {
        self.words.cas(LISTENER, before, owner.number().into()).is_ok()
    }

    /// `owner` is the listener no longer, if it was.
    pub(crate) fn resign(&self, owner: Owner) {
        let _ = self.words.cas(LISTENER, owner.number().into(), 0);
    }
}

/// The words of a slot, as its station writes them.
fn contents(
    owner: Owner,
    doorbell: u32,
    interest: &Interest,
) -> impl Iterator<Item = (usize, u64)> + '_ {
    let flags = u64::from(interest.promiscuous) * FLAG_PROMISCUOUS
        + u64::from(interest.unknown) * FLAG_UNKNOWN
        + ((interest.count as u64) << COUNT_SHIFT);
    let head = [
        (slot::OWNER, u64::from(owner.number()) << 32 | u64::from(doorbell)),
        (slot::FLAGS, flags),
        (slot::GROUPS, interest.groups),
    ];
    let addresses = interest.addresses().iter().copied().enumerate();
    head.into_iter().chain(addresses.map(|(nth, address)| (slot::ADDRESSES + nth, address)))
}

/// How many addresses a slot has, by its flags; anything may stand there.
#[inline]
pub(super) fn address_count(flags: u64) -> usize {
    usize::try_from(flags >> COUNT_SHIFT).unwrap_or(usize::MAX).min(SLOT_ADDRESSES)
}
