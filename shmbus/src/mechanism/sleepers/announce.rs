//! What the holder of the lock does for those that sleep: it announces the frames that were put on
//! the ring since the last announcement, its own and those of stations that know no table.

use std::sync::atomic::Ordering;

use super::table::{Slot, Table, address_count};
use crate::format::sleepers::{
    ANNOUNCED, ASLEEP, BUCKET, GROUPS, MAP_WORDS, PROMISCUOUS, UNKNOWN, announced_word, bucket_of,
    group_bit, number_of, seen_place, slot,
};
use crate::format::{MIN_FRAME, PACKET_HEADER_SIZE};
use crate::mechanism::ring::lock::LockGuard;
use crate::mechanism::ring::position::Position;
use crate::memory::{Memory, Words};

/// The most packets that are looked into, so that the lock is not held for long. If there are more,
/// all sleepers are woken.
const MAX_PACKETS: usize = 512;
/// The lowest bit of an address's first byte marks a group.
const GROUP: u64 = 1 << 40;
const BROADCAST: u64 = (1 << 48) - 1;
/// Seconds are counted in steps of 2 to this power; sixteen bits of them are kept.
const SEEN_STEP: u32 = 6;
/// An address that was silent for this many steps, some five minutes, is unknown again.
const SEEN_AGE: u16 = 4;

/// Announces frames, under the lock, before it is released. Collects the doorbells to ring in
/// `doorbells`; stations that share one may add it several times.
///
/// `end` is the end of the ring, and `seconds` the time.
#[inline]
pub(crate) fn announce<M: Memory, W: Words>(
    held: &LockGuard<'_, M>,
    table: &Table<W>,
    end: Position,
    seconds: u32,
    doorbells: &mut Vec<u32>,
) {
    // SeqCst: pairs with the fence in `Table::arm`. We see the bit of a sleeper, or it sees what
    // was committed before.
    table.words.fence(Ordering::SeqCst);
    if table.any_asleep() {
        Announcement { table, seconds, doorbells }.scan(held, end);
    }
    // Release: pairs with the acquire in `Table::disarm`. A sleeper that sees it sees what became
    // of its bit.
    table.words.store(ANNOUNCED, announced_word(end.as_word(held.ring.size())), Ordering::Release);
}

struct Announcement<'a, W> {
    table: &'a Table<W>,
    seconds: u32,
    doorbells: &'a mut Vec<u32>,
}

impl<W: Words> Announcement<'_, W> {
    #[cold]
    fn scan<M: Memory>(&mut self, held: &LockGuard<'_, M>, end: Position) {
        let ring = held.ring;
        let size = ring.size();
        let begin = held.extent().and_then(|extent| {
            let begin = end.at_word(self.table.announced(), size)?;
            extent.holds(begin, size).then_some(begin)
        });
        let Some(mut at) = begin else {
            // Writers that know no table came around the ring since the last announcement.
            return self.notify_all(held.extent().map_or(end, |extent| extent.first), size);
        };
        let mut ahead = end.since(at, size);
        let mut last = None;
        for _ in 0..MAX_PACKETS {
            if ahead == 0 {
                return;
            }
            let len = ring.packet_len(at.offset);
            let step = PACKET_HEADER_SIZE.saturating_add(len);
            if len > ring.max_frame || u64::from(step) > ahead {
                break;
            }
            if len as usize >= MIN_FRAME {
                let mut addresses = [[0; 6]; 2];
                ring.copy_out(
                    at.advance(PACKET_HEADER_SIZE, size).offset,
                    addresses.as_flattened_mut(),
                );
                let addresses = addresses.map(number_of);
                // Those that want frames to an address are woken at the first of them.
                if last != Some(addresses) {
                    let [destination, source] = addresses;
                    self.note_seen(source);
                    self.notify_for(destination, at.as_word(size));
                    last = Some(addresses);
                }
            }
            at = at.advance(step, size);
            ahead -= u64::from(step);
        }
        if ahead > 0 {
            self.notify_all(at, size);
        }
    }

    /// Notifies the sleepers that want frames to an address.
    fn notify_for(&mut self, destination: u64, position: u64) {
        if destination & GROUP != 0 {
            let (is_broadcast, group) = (destination == BROADCAST, group_bit(destination));
            for map_word in 0..MAP_WORDS {
                let promiscuous = self.load(PROMISCUOUS + map_word);
                let listening = promiscuous | self.load(GROUPS + map_word);
                self.notify_bits(map_word, listening, position, |table, slot| {
                    let (_, bit) = slot.bit(PROMISCUOUS);
                    is_broadcast
                        || promiscuous & bit != 0
                        || table.words.load(slot.word(slot::GROUPS), Ordering::Relaxed) & group != 0
                });
            }
            return;
        }
        let mut known = self.is_seen(destination);
        for map_word in 0..MAP_WORDS {
            let mut bits = self.load(BUCKET + bucket_of(destination) * MAP_WORDS + map_word);
            while bits != 0 {
                let slot = Slot(map_word * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
                if self.table.has_address(slot, destination) {
                    known = true;
                    self.notify(slot, position);
                }
            }
            let promiscuous = self.load(PROMISCUOUS + map_word);
            self.notify_bits(map_word, promiscuous, position, |_, _| true);
        }
        if !known {
            for map_word in 0..MAP_WORDS {
                let unknown = self.load(UNKNOWN + map_word);
                self.notify_bits(map_word, unknown, position, |_, _| true);
            }
        }
    }

    fn notify_all(&mut self, at: Position, size: u32) {
        for map_word in 0..MAP_WORDS {
            self.notify_bits(map_word, u64::MAX, at.as_word(size), |_, _| true);
        }
    }

    /// Notifies the sleepers among the slots of a word of a map.
    fn notify_bits(
        &mut self,
        map_word: usize,
        slots: u64,
        position: u64,
        wants: impl Fn(&Table<W>, Slot) -> bool,
    ) {
        let mut bits = slots & self.load(ASLEEP + map_word);
        while bits != 0 {
            let slot = Slot(map_word * 64 + bits.trailing_zeros() as usize);
            bits &= bits - 1;
            if wants(self.table, slot) {
                self.notify(slot, position);
            }
        }
    }

    fn notify(&mut self, slot: Slot, position: u64) {
        if self.table.is_bit_set(slot)
            && let Some(doorbell @ 1..) = self.table.notify(slot, position)
            && self.doorbells.last() != Some(&doorbell)
        {
            self.doorbells.push(doorbell);
        }
    }

    /// Keeps the source address of a frame: it is on the bus, and frames to it need not be given to
    /// those that want unknown ones.
    fn note_seen(&self, source: u64) {
        if source & GROUP == 0 && source != 0 {
            let (place, value) = (seen_place(source), source << 16 | u64::from(self.now()));
            if self.load(place) != value {
                self.table.words.store(place, value, Ordering::Relaxed);
            }
        }
    }

    fn is_seen(&self, address: u64) -> bool {
        let seen = self.load(seen_place(address));
        #[expect(clippy::cast_possible_truncation, reason = "the time is the lower 16 bits")]
        let age = self.now().wrapping_sub(seen as u16);
        address != 0 && seen >> 16 == address && age <= SEEN_AGE
    }

    #[expect(clippy::cast_possible_truncation, reason = "ages are told by 16 bits")]
    fn now(&self) -> u16 {
        (self.seconds >> SEEN_STEP) as u16
    }

    fn load(&self, at: usize) -> u64 {
        self.table.words.load(at, Ordering::Relaxed)
    }
}

impl<W: Words> Table<W> {
    /// Whether any station sleeps.
    #[inline]
    fn any_asleep(&self) -> bool {
        (ASLEEP..ASLEEP + MAP_WORDS)
            .fold(0, |bits, word| bits | self.words.load(word, Ordering::Relaxed))
            != 0
    }

    fn has_address(&self, slot: Slot, address: u64) -> bool {
        let count = address_count(self.words.load(slot.word(slot::FLAGS), Ordering::Relaxed));
        (0..count).any(|nth| {
            self.words.load(slot.word(slot::ADDRESSES + nth), Ordering::Relaxed) == address
        })
    }
}
