//! The stretch of a ring that is ours at the moment, in free-running 16-bit indexes.
//!
//! Each ring has one index that we write and one that the peer writes. Which is head and which is tail depends on the
//! role, but all four cases are the same walk: from `next` up to `end`, where `end` follows the peer's index. They differ
//! in a constant only, because the client's head runs a whole ring ahead of what it has got back:
//!
//! | | peer's index | end | our index |
//! |---|---|---|---|
//! | server receives (S2M) | head | head | tail = next |
//! | server sends (M2S) | head | head | tail = next |
//! | client receives (M2S) | tail | tail | head = next + size |
//! | client sends (S2M) | tail | tail + size | head = next |

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct RingIndex {
    next: u16,
    end: u16,
    size: u16,
    /// From the peer's index to `end`.
    lead: u16,
    /// From `next` to our index.
    ahead: u16,
}

/// The peer's index went back, or forward by more than the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Jump;

impl RingIndex {
    /// Both indexes start at 0. `size` is the ring's, at most 2^15.
    fn new(size: usize, lead: bool, ahead: bool) -> Self {
        let size = u16::try_from(size).unwrap_or(1 << 15);
        let lead = if lead { size } else { 0 };
        Self { next: 0, end: lead, size, lead, ahead: if ahead { size } else { 0 } }
    }

    /// A server's ring, either direction.
    pub(crate) fn server(size: usize) -> Self {
        Self::new(size, false, false)
    }

    /// A client's M2S ring, from which it receives.
    pub(crate) fn client_rx(size: usize) -> Self {
        Self::new(size, false, true)
    }

    /// A client's S2M ring, on which it sends.
    pub(crate) fn client_tx(size: usize) -> Self {
        Self::new(size, true, false)
    }

    /// The first index that is ours.
    #[inline]
    pub(crate) fn next(&self) -> u16 {
        self.next
    }

    /// How many are ours, as far as known.
    #[inline]
    pub(crate) fn available(&self) -> u16 {
        self.end.wrapping_sub(self.next)
    }

    /// Takes in a new value of the peer's index: it may only have advanced, and never beyond the ring.
    #[inline]
    pub(crate) fn observe(&mut self, theirs: u16) -> Result<(), Jump> {
        let end = theirs.wrapping_add(self.lead);
        let available = end.wrapping_sub(self.next);
        if available > self.size || available < self.available() {
            return Err(Jump);
        }
        self.end = end;
        Ok(())
    }

    /// Hands `count` of ours over to the peer and returns our index, to be stored.
    #[inline]
    pub(crate) fn advance(&mut self, count: u16) -> u16 {
        debug_assert!(count <= self.available());
        self.next = self.next.wrapping_add(count);
        self.ours()
    }

    /// Our index as it stands.
    #[inline]
    pub(crate) fn ours(&self) -> u16 {
        self.next.wrapping_add(self.ahead)
    }

    /// The place in the ring of a free-running index, for messages.
    pub(crate) fn slot(&self, index: u16) -> u16 {
        index & (self.size - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_client_starts_with_all_of_s2m_and_none_of_m2s() {
        assert_eq!(RingIndex::client_tx(8).available(), 8);
        assert_eq!(RingIndex::client_tx(8).ours(), 0);
        assert_eq!(RingIndex::client_rx(8).available(), 0);
        assert_eq!(RingIndex::client_rx(8).ours(), 8, "every buffer is offered");
        assert_eq!(RingIndex::server(8).available(), 0);
    }

    #[test]
    fn jumps_are_seen_in_both_directions() {
        let mut window = RingIndex::server(8);
        assert_eq!(window.observe(9), Err(Jump));
        assert_eq!(window.observe(5), Ok(()));
        assert_eq!(window.observe(4), Err(Jump));
        window.advance(5);
        assert_eq!(window.observe(4), Err(Jump));
        assert_eq!(window.observe(13), Ok(()));
        assert_eq!(window.observe(14), Err(Jump));
    }

    proptest! {
        /// An honest pair never sees a jump, through many turns of the 16 bits, and the two sides' stretches always add
        /// up to the ring.
        #[test]
        fn honest_pairs_agree(log2 in 0u32..=15, steps in proptest::collection::vec((any::<u16>(), any::<u16>()), 1..200)) {
            let size = 1usize << log2;
            let (mut rx, mut tx) = (RingIndex::server(size), RingIndex::client_tx(size));
            let (mut offer, mut fill) = (RingIndex::client_rx(size), RingIndex::server(size));
            for (a, b) in steps {
                let head = tx.advance(a % (tx.available() + 1));
                rx.observe(head).unwrap();
                let tail = rx.advance(b % (rx.available() + 1));
                tx.observe(tail).unwrap();
                prop_assert_eq!(usize::from(rx.available()) + usize::from(tx.available()), size);

                fill.observe(offer.ours()).unwrap();
                let tail = fill.advance(a % (fill.available() + 1));
                offer.observe(tail).unwrap();
                offer.advance(b % (offer.available() + 1));
                prop_assert!(usize::from(offer.available()) + usize::from(fill.available()) <= size);
            }
        }

        #[test]
        fn whatever_the_peer_stores_the_stretch_fits_the_ring(indexes in proptest::collection::vec(any::<u16>(), 0..100)) {
            let mut window = RingIndex::server(64);
            for index in indexes {
                let before = window.available();
                if window.observe(index).is_err() {
                    prop_assert_eq!(window.available(), before);
                }
                prop_assert!(window.available() <= 64);
                window.advance(window.available() / 2);
            }
        }
    }
}
