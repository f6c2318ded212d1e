//! How far a ring to receive on has come: what the peer has filled, what the caller holds, and what
//! was given back.
//!
//! Three free-running indexes walk around the ring, one behind the other. The peer fills up to
//! `filled`, the caller has taken up to `taken`, and `ours` is the index that the peer reads:
//!
//! | | `filled` | `ours` | the caller holds |
//! |---|---|---|---|
//! | server (S2M) | the peer's head | tail: given back up to here | from `ours` to `taken` |
//! | client (M2S) | the peer's tail | head: offered up to here | from `ours` - size to `taken` |

use crate::mechanism::ring_index::Jump;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct RxMarks {
    filled: u16,
    taken: u16,
    ours: u16,
    /// At most 2^15.
    size: u16,
    client: bool,
}

impl RxMarks {
    /// All indexes start at 0: a client has offered nothing.
    pub(super) fn new(size: usize, client: bool) -> Self {
        let size = u16::try_from(size).unwrap_or(1 << 15);
        Self { filled: 0, taken: 0, ours: 0, size, client }
    }

    /// Takes in a new value of the peer's index: it may only have advanced, and only over
    /// descriptors that are the peer's.
    #[inline]
    pub(super) fn observe(&mut self, theirs: u16) -> Result<(), Jump> {
        let ahead = theirs.wrapping_sub(self.taken);
        let most = if self.client {
            self.ours.wrapping_sub(self.taken)
        } else {
            self.size - self.taken.wrapping_sub(self.ours)
        };
        if ahead > most || ahead < self.available() {
            return Err(Jump);
        }
        self.filled = theirs;
        Ok(())
    }

    /// How many filled descriptors can be taken, as far as known.
    #[inline]
    pub(super) fn available(&self) -> u16 {
        self.filled.wrapping_sub(self.taken)
    }

    /// The index of the next descriptor to take.
    #[inline]
    pub(super) fn next(&self) -> u16 {
        self.taken
    }

    /// Takes `count`, which must be there.
    #[inline]
    pub(super) fn take(&mut self, count: u16) {
        debug_assert!(count <= self.available());
        self.taken = self.taken.wrapping_add(count);
    }

    /// How many descriptors the caller holds, and can give back.
    #[inline]
    pub(super) fn held(&self) -> u16 {
        if self.client {
            self.size - self.ours.wrapping_sub(self.taken)
        } else {
            self.taken.wrapping_sub(self.ours)
        }
    }

    /// Whether the caller holds the descriptor with this index.
    #[inline]
    pub(super) fn holds(&self, index: u16) -> bool {
        self.taken.wrapping_sub(1).wrapping_sub(index) < self.held()
    }

    /// Our index: the next descriptor to give back.
    #[inline]
    pub(super) fn ours(&self) -> u16 {
        self.ours
    }

    /// Gives `count` back, which the caller holds, and returns our index, to be stored.
    #[inline]
    pub(super) fn give_back(&mut self, count: u16) -> u16 {
        debug_assert!(count <= self.held());
        self.ours = self.ours.wrapping_add(count);
        self.ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_client_holds_all_and_a_server_nothing_at_first() {
        let (client, server) = (RxMarks::new(8, true), RxMarks::new(8, false));
        assert_eq!((client.held(), client.available()), (8, 0));
        assert_eq!((server.held(), server.available()), (0, 0));
        assert!(client.holds(0u16.wrapping_sub(1)) && client.holds(0u16.wrapping_sub(8)));
        assert!(!client.holds(0) && !server.holds(0) && !server.holds(0u16.wrapping_sub(1)));
    }

    #[test]
    fn nothing_that_was_not_offered_is_filled() {
        let mut client = RxMarks::new(8, true);
        assert_eq!(client.observe(1), Err(Jump));
        client.give_back(3);
        assert_eq!(client.observe(4), Err(Jump));
        assert_eq!(client.observe(3), Ok(()));
        assert_eq!(client.observe(2), Err(Jump));
    }

    proptest! {
        /// Against counts that never wrap: what is filled, taken and held is the same, and an index
        /// is refused when no honest peer could have stored it.
        #[test]
        fn marks_count_like_numbers_that_never_wrap(
            log2 in 0u32..=6, client: bool,
            steps in proptest::collection::vec((0u8..4, any::<u16>()), 1..400),
        ) {
            let size = 1u64 << log2;
            let mut marks = RxMarks::new(1 << log2, client);
            let (mut filled, mut taken, mut ours) = (0u64, 0u64, 0u64);
            let low = |number: u64| u16::try_from(number & 0xFFFF).unwrap();
            for (step, n) in steps {
                let end = if client { ours } else { ours + size };
                let held = if client { size - (ours - taken) } else { taken - ours };
                match step {
                    0 => {
                        filled += u64::from(n) % (end - filled + 1);
                        prop_assert_eq!(marks.observe(low(filled)), Ok(()));
                    }
                    1 => {
                        let liar = low(filled + u64::from(n));
                        let honest = u64::from(n) <= end - filled;
                        prop_assert_eq!(marks.clone().observe(liar).is_ok(), honest);
                    }
                    2 => {
                        let count = u64::from(n) % (filled - taken + 1);
                        prop_assert_eq!(marks.next(), low(taken));
                        marks.take(low(count));
                        taken += count;
                    }
                    3 => {
                        let count = u64::from(n) % (held + 1);
                        prop_assert_eq!(marks.ours(), low(ours));
                        ours += count;
                        prop_assert_eq!(marks.give_back(low(count)), low(ours));
                    }
                    _ => {}
                }
                let held = if client { size - (ours - taken) } else { taken - ours };
                prop_assert_eq!(u64::from(marks.available()), filled - taken);
                prop_assert_eq!(u64::from(marks.held()), held);
                let holds = |back: u64| marks.holds(low((taken + (1 << 16)) - back));
                prop_assert!((1..=held).all(holds) && !holds(0) && !holds(held + 1));
            }
        }
    }
}
