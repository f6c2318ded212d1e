//! Where things lie in the table of sleepers: 64-bit words in shared memory.
//!
//! On a bus of our own format the table lies between the header and the ring. On a bus that rump
//! kernels may share it is a file of its own, beside the bus. What it is for, and who writes what
//! when, is in [`crate::mechanism::sleepers`].
//!
//! ```text
//!   word 0 ┌────────────────────────────────┐
//!          │ magic, size or numbers of bus, │
//!          │ announced, listener            │   these two on lines of their own
//!       32 ├────────────────────────────────┤
//!          │ asleep                         │   a bit for each slot
//!       48 ├────────────────────────────────┤
//!          │ promiscuous                    │   a bit for each slot
//!       64 ├────────────────────────────────┤
//!          │ groups                         │   a bit for each slot
//!       80 ├────────────────────────────────┤
//!          │ unknown                        │   a bit for each slot
//!      128 ├────────────────────────────────┤
//!          │ 64 buckets                     │   each a bit for each slot, by a hash of addresses
//!     1152 ├────────────────────────────────┤
//!          │ 256 seen addresses             │   by a hash of the address
//!     1408 ├────────────────────────────────┤
//!          │ 1,024 slots of 16 words        │
//!    17792 └────────────────────────────────┘
//! ```
//!
//! A slot belongs to one station:
//!
//! | word | holds |
//! |---|---|
//! | 0 | upper half: the station's number, 0 in a free slot. Lower half: its doorbell |
//! | 1 | flags, and from bit 8 on how many addresses follow |
//! | 2 | a bit for each group it listens to, by a hash of the address |
//! | 3 | where the first frame for it lies; 0, as word 4, while there is none |
//! | 4 | the same again, with [`POSITION_CHECK`] in it |
//! | 5..16 | its addresses |

/// What stands at [`MAGIC`] in a table.
pub(crate) const TABLE_MAGIC: u64 = 0x3153_5055_5045_4c53;

/// Slots, each for one station.
pub(crate) const SLOTS: usize = 1_024;
/// Words of a bitmap with a bit for each slot.
pub(crate) const MAP_WORDS: usize = SLOTS / 64;
/// Groups of slots by a hash of their addresses.
pub(crate) const BUCKETS: usize = 64;
/// Addresses that were seen on the bus and are no slot's.
pub(crate) const SEEN: usize = 256;
/// Words of a slot.
pub(crate) const SLOT_WORDS: usize = 16;
/// The most addresses of a slot.
pub(crate) const SLOT_ADDRESSES: usize = SLOT_WORDS - slot::ADDRESSES;

/// The place of the magic.
pub(crate) const MAGIC: usize = 0;
/// The place of the size of the bus file, in bytes, on a bus of our own format.
pub(crate) const FILE_SIZE: usize = 1;
/// The places of the device and the inode of the bus file, in a table beside a bus.
pub(crate) const BUS: [usize; 2] = [2, 3];
/// The place of the position up to which frames were announced.
pub(crate) const ANNOUNCED: usize = 8;
/// The place of the number of the station that listens to the bus file.
pub(crate) const LISTENER: usize = 16;
/// Bit set: the slot's station sleeps, and no frame for it was announced since it fell asleep.
pub(crate) const ASLEEP: usize = 32;
/// Bit set: the slot's station wants all frames.
pub(crate) const PROMISCUOUS: usize = ASLEEP + MAP_WORDS;
/// Bit set: the slot's station wants frames to groups.
pub(crate) const GROUPS: usize = PROMISCUOUS + MAP_WORDS;
/// Bit set: the slot's station wants frames to addresses that are no slot's and were not seen.
pub(crate) const UNKNOWN: usize = GROUPS + MAP_WORDS;
/// The first bucket.
pub(crate) const BUCKET: usize = 128;
/// The first seen address.
pub(crate) const SEEN_ADDRESS: usize = BUCKET + BUCKETS * MAP_WORDS;
/// The first slot.
pub(crate) const SLOT: usize = SEEN_ADDRESS + SEEN;
/// Words of a table.
pub(crate) const TABLE_WORDS: usize = SLOT + SLOTS * SLOT_WORDS;
/// Bytes of a table: whole pages.
pub(crate) const TABLE_SIZE: usize = (TABLE_WORDS * 8).next_multiple_of(4_096);

/// The words of a slot.
pub(crate) mod slot {
    pub(crate) const OWNER: usize = 0;
    pub(crate) const FLAGS: usize = 1;
    pub(crate) const GROUPS: usize = 2;
    pub(crate) const POSITION: usize = 3;
    pub(crate) const CHECK: usize = 4;
    pub(crate) const ADDRESSES: usize = 5;
}

/// Makes a scribbled position differ from its check.
pub(crate) const POSITION_CHECK: u64 = 0xa5c3_96e1_5a3c_691e;

/// What a position is multiplied by at [`ANNOUNCED`]; odd, so that it can be undone. A word that
/// differs by some bits stands for a position far from all on the ring.
const ANNOUNCED_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// The factor that undoes it, modulo 2^64.
const ANNOUNCED_INVERSE: u64 = 0xf1de_83e1_9937_733d;

/// What stands at [`ANNOUNCED`] for a position.
#[inline]
pub(crate) fn announced_word(position: u64) -> u64 {
    position.wrapping_mul(ANNOUNCED_FACTOR)
}

/// The position that a word at [`ANNOUNCED`] stands for.
#[inline]
pub(crate) fn announced_position(word: u64) -> u64 {
    word.wrapping_mul(ANNOUNCED_INVERSE)
}

/// The bucket of an address.
#[inline]
pub(crate) fn bucket_of(address: u64) -> usize {
    hash(address) % BUCKETS
}

/// The place of a seen address.
#[inline]
pub(crate) fn seen_place(address: u64) -> usize {
    SEEN_ADDRESS + hash(address) % SEEN
}

/// The bit of a group in a slot's word.
#[inline]
pub(crate) fn group_bit(address: u64) -> u64 {
    1 << (hash(address) % 64)
}

/// An address as a number.
#[inline]
pub(crate) fn number_of(address: [u8; 6]) -> u64 {
    address.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[inline]
fn hash(address: u64) -> usize {
    // Fibonacci hashing: the upper bits depend on all of the address.
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_do_not_overlap() {
        const { assert!(UNKNOWN + MAP_WORDS <= BUCKET) };
        const { assert!(TABLE_WORDS == 17_792 && TABLE_SIZE == 143_360) };
        const { assert!(SLOT_ADDRESSES == 11) };
    }

    #[test]
    fn a_scribbled_position_is_far_from_the_one_that_was_announced() {
        for position in [0, 24, 1_048_543, 1 << 40, u64::MAX] {
            assert_eq!(announced_position(announced_word(position)), position);
            for bit in 0..64 {
                let other = announced_position(announced_word(position) ^ 1 << bit);
                let apart = other.wrapping_sub(position).cast_signed().unsigned_abs();
                assert!(apart > 1 << 30, "bit {bit}: {apart}");
            }
        }
    }

    #[test]
    fn hashes_spread_addresses_that_count_up() {
        let mut used = [0; BUCKETS];
        for last in 0..=255 {
            used[bucket_of(number_of([2, 0, 0, 0, 0, last]))] += 1;
        }
        assert!(used.iter().all(|count| *count <= 12), "{used:?}");
        assert_eq!(number_of([1, 2, 3, 4, 5, 6]), 0x0102_0304_0506);
    }
}
