//! The stretch of a ring that is ours at the moment, in free-running 16-bit indexes.
//!
//! Each ring has one index that we write and one that the peer writes. Which is head and which is
//! tail depends on the role, but all four cases are the same walk: from `next` up to `end`, where
//! `end` follows the peer's index. They differ in a constant only, because the client's head runs a
//! whole ring ahead of what it has got back:
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

    /// Takes in a new value of the peer's index: it may only have advanced, and never beyond the
    /// ring.
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
        /// An honest pair never sees a jump, through many turns of the 16 bits, and the two sides'
        /// stretches always add up to the ring.
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

    const INDEXES: i64 = 1 << 16;

    /// A stretch in numbers that never wrap, of which the ring shows the low 16 bits.
    #[derive(Clone, Copy)]
    struct Unbounded {
        next: i64,
        end: i64,
        size: i64,
        lead: i64,
        ahead: i64,
    }

    impl Unbounded {
        fn low(number: i64) -> u16 {
            u16::try_from(number.rem_euclid(INDEXES)).unwrap()
        }

        /// The same, as it is kept.
        fn window(self) -> RingIndex {
            let size = u16::try_from(self.size).unwrap();
            let (lead, ahead) = (Self::low(self.lead), Self::low(self.ahead));
            RingIndex { next: Self::low(self.next), end: Self::low(self.end), size, lead, ahead }
        }

        /// The end that the peer's index stands for: the first one, from the last one on, that has
        /// its low bits. None when that is beyond the ring.
        fn end_by(self, theirs: u16) -> Option<i64> {
            let further = (i64::from(theirs) + self.lead - self.end).rem_euclid(INDEXES);
            Some(self.end + further).filter(|end| *end <= self.next + self.size)
        }

        fn check(self, theirs: u16) {
            let mut window = self.window();
            let before = self.end - self.next;
            assert_eq!(i64::from(window.available()), before);
            match self.end_by(theirs) {
                None => {
                    assert_eq!(window.observe(theirs), Err(Jump));
                    assert_eq!(i64::from(window.available()), before, "a jump changes nothing");
                }
                Some(end) => {
                    assert_eq!(window.observe(theirs), Ok(()));
                    assert_eq!(i64::from(window.available()), end - self.next);
                }
            }
        }

        /// Hands over every number there is, or some of many.
        fn check_advances(self) {
            let available = self.end - self.next;
            let step = usize::try_from(available / 64).unwrap().max(1);
            for count in (0..=available).step_by(step).chain([available]) {
                let mut window = self.window();
                let ours = window.advance(u16::try_from(count).unwrap());
                let next = self.next + count;
                assert_eq!(ours, Self::low(next + self.ahead));
                assert_eq!((window.next(), window.ours()), (Self::low(next), ours));
                assert_eq!(i64::from(window.available()), available - count);
                assert_eq!(i64::from(window.slot(window.next())), next.rem_euclid(self.size));
            }
        }

        /// Every role's stretch of `available` from `next` on.
        fn roles(size: i64, next: i64, available: i64) -> [Self; 3] {
            [(0, 0), (0, size), (size, 0)].map(|(lead, ahead)| Self {
                next,
                end: next + available,
                size,
                lead,
                ahead,
            })
        }
    }

    /// Small rings: every place of the 16 bits, every number of slots, and every index of the
    /// peer's that is near, or far.
    #[test]
    fn small_rings_count_like_numbers_that_never_wrap() {
        for size in [1, 2, 4, 8] {
            for next in 0..INDEXES {
                for available in 0..=size {
                    for stretch in Unbounded::roles(size, next, available) {
                        stretch.check_advances();
                        let far = [-(INDEXES / 2), INDEXES / 2 - 1, 1_000];
                        for offset in (-2 * size - 1..=2 * size + 1).chain(far) {
                            stretch.check(Unbounded::low(next + offset));
                        }
                    }
                }
            }
        }
    }

    /// Rings of all sizes, around the places where 16 bits wrap or change their sign, with every
    /// index the peer can store.
    #[test]
    fn rings_of_all_sizes_refuse_every_jump() {
        for log2 in 0..=15 {
            let size = 1 << log2;
            for next in [0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF] {
                for available in [0, 1, size / 2, size - 1, size] {
                    for stretch in Unbounded::roles(size, next, available.min(size)) {
                        stretch.check_advances();
                        (0..=u16::MAX).for_each(|theirs| stretch.check(theirs));
                    }
                }
            }
        }
    }
}
