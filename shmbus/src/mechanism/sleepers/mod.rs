//! The table of sleepers: which stations sleep, what they want, and how a sender wakes those and
//! only those.
//!
//! A write to the bus file wakes every station that watches it, whether the burst concerns it or
//! not. With many stations that is most of what a bus costs. So stations of this kind share a table
//! in memory: each has a slot that says which frames it wants, and a bit that says whether it
//! sleeps. A sender reads the bits when it has committed a burst. While no station sleeps, that is
//! all: no system call. Otherwise it wakes the sleepers that a frame of the burst is for.
//!
//! Free of I/O: everything here works on [`Words`](crate::memory::Words), which are mapped memory or a model of it.
//!
//! # The protocol
//!
//! | | sleeper | sender, with the lock |
//! |---|---|---|
//! | 1 | sets its bit | commits the burst |
//! | 2 | full fence | full fence |
//! | 3 | reads the ring up to the end that it sees now: no frame is for it | looks at the bits |
//! | 4 | sleeps | for each sleeper that wants a frame: stores where that frame lies, clears the bit |
//! | 5 | | stores the end of the burst in `announced`, releases the lock |
//! | 6 | | rings the doorbells of those whose bits it cleared |
//!
//! **No frame is missed.** Steps 1 to 3 are the usual pair of fences: the sender sees the bit, or
//! the sleeper sees the burst. The `announced` word counts frames of all kinds: those of rump
//! kernels and older programs, which know no table, lie between `announced` and the end of the ring
//! until a station of this kind announces them ([`announce`]): the next sender, or the *listener*,
//! a station that watches the bus file while the others do not.
//!
//! It need not find the ring at rest: what is sent while it reads was announced to it if it wants it.
//! So a station falls asleep also while others send without pause.
//!
//! **What a sleeper may skip.** Its bit was set from step 1 on, and its place is not before the end of
//! the ring at step 3. Every frame since then was committed later, so its sender saw the bit. Therefore
//! the frames before the position that step 4 stored are not for this station, and neither are
//! those before `announced` as long as the bit is still set ([`Table::disarm`] reads the two in
//! this order). A sleeper continues there, and reads nothing of what was for others.
//!
//! **Deaths.** `announced` is the last store before the lock is released. A sender that dies before
//! it leaves the lock held by a dead owner, whose burst is on the ring and not announced: the next
//! holder of the lock announces it again, and a bit that is cleared twice does no harm. A sender
//! that dies between steps 5 and 6 leaves a bit cleared and a doorbell silent: the sleeper looks at
//! its bit at least every 100 ms. A sleeper that dies leaves a bit that the next
//! sender with a frame for it clears, or the next station that joins.
//!
//! **A ring that is unsettled at step 3** says nothing: a frame for the station may be there whose
//! sender did not see the bit. So the station skips nothing after such a sleep, and looks again
//! within 100 ms.
//!
//! **Scribbles.** Nothing in the table is trusted. A sleeper that looks compares its slot with what
//! it wrote there, and repairs it. A position counts only with its check and if it lies between the
//! station's place and the end of the ring; `announced` is scrambled, so that a changed bit of it
//! is far from the ring. A sleeper clears its position before step 1: one that stands there tells
//! that it was notified, even if its bit was set again. A doorbell is a file name that may lead
//! nowhere.
//!
//! The orderings, by pair:
//!
//! | one side | other side |
//! |---|---|
//! | bit set, full fence, `last` (in our own format the published end) loaded ([`Table::arm`], the caller's look) | the same stored, full fence, bits loaded ([`announce`]) |
//! | position stored, bit cleared with release ([`Table::notify`]) | bit seen cleared with acquire, position loaded ([`Table::disarm`]) |
//! | bits cleared, `announced` stored with release ([`announce`]) | `announced` loaded with acquire, bit read and cleared ([`Table::disarm`]) |
//! | slot written, its bits in the maps set with release ([`Table::write`]) | maps loaded, slot loaded ([`announce`]); a mixture wakes one too many or is repaired at the next look |

pub(crate) mod announce;
#[cfg(test)]
mod deaths;
#[cfg(test)]
mod interleavings;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use crate::format::sleepers::{SLOT_ADDRESSES, group_bit, number_of};

/// Which frames a station wants to be woken for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    /// Its addresses, as numbers; the first `count` of them count.
    addresses: [u64; SLOT_ADDRESSES],
    count: usize,
    /// All frames.
    promiscuous: bool,
    /// Frames to addresses that are unknown.
    unknown: bool,
    /// A bit for each group, by a hash.
    groups: u64,
}

impl Interest {
    /// Broadcasts, and frames to `addresses`. More addresses than a slot has room for make it
    /// promiscuous: the station is woken for too many frames, and for none too few.
    pub(crate) fn new(addresses: impl IntoIterator<Item = [u8; 6]>) -> Self {
        let mut interest = Self::default();
        for address in addresses {
            let Some(place) = interest.addresses.get_mut(interest.count) else {
                interest.promiscuous = true;
                break;
            };
            *place = number_of(address);
            interest.count += 1;
        }
        interest
    }

    /// Whether it also wants all frames.
    pub(crate) fn promiscuous(mut self, on: bool) -> Self {
        self.promiscuous |= on;
        self
    }

    /// Whether it also wants frames to unknown addresses.
    pub(crate) fn unknown(mut self, on: bool) -> Self {
        self.unknown = on;
        self
    }

    /// The groups it listens to; none stands for all.
    pub(crate) fn groups(mut self, groups: impl IntoIterator<Item = [u8; 6]>) -> Self {
        let bits = groups.into_iter().fold(0, |bits, group| bits | group_bit(number_of(group)));
        self.groups = if bits == 0 { u64::MAX } else { bits };
        self
    }

    fn addresses(&self) -> &[u64] {
        &self.addresses[..self.count]
    }
}
