//! Where on the ring, and in which turn of it.
//!
//! An offset alone does not tell a frame from the one that lay there a turn earlier. A [`Position`]
//! is an offset and the generation it belongs to; it only ever grows, and distances between
//! positions are plain byte counts. A position whose packet reaches the end of the ring is followed
//! by one in the next generation.
//!
//! All arithmetic wraps: a hostile generation gives a nonsensical distance, which no comparison
//! accepts, and no overflow.

/// A place in the endless stream of bytes of which the ring holds the newest part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) generation: u64,
    /// Below the size of the ring.
    pub(crate) offset: u32,
}

impl Position {
    /// The position `bytes` further on; `bytes` is at most the ring's size.
    #[inline]
    pub(crate) fn advance(self, bytes: u32, ring_size: u32) -> Self {
        // At most twice a ring of at most 2^30 bytes: no overflow.
        let offset = self.offset + bytes;
        if offset >= ring_size {
            Self { generation: self.generation.wrapping_add(1), offset: offset - ring_size }
        } else {
            Self { generation: self.generation, offset }
        }
    }

    /// This position as one number: the bytes before it in the stream, modulo 2^64.
    #[inline]
    pub(crate) fn as_word(self, ring_size: u32) -> u64 {
        self.generation.wrapping_mul(u64::from(ring_size)).wrapping_add(u64::from(self.offset))
    }

    /// The position with the number `word`.
    #[inline]
    pub(crate) fn from_word(word: u64, ring_size: u32) -> Self {
        let size = u64::from(ring_size);
        #[expect(clippy::cast_possible_truncation, reason = "less than the ring's size")]
        let offset = (word % size) as u32;
        Self { generation: word / size, offset }
    }

    /// The position with the number `word` if it lies at most a ring's size before this one.
    pub(crate) fn at_word(self, word: u64, ring_size: u32) -> Option<Self> {
        let behind = self.as_word(ring_size).wrapping_sub(word);
        let behind = u32::try_from(behind).ok().filter(|behind| *behind <= ring_size)?;
        // A turn back, and on by what is missing to a whole turn.
        let turn_back = Self { generation: self.generation.wrapping_sub(1), ..self };
        Some(turn_back.advance(ring_size - behind, ring_size))
    }

    /// Bytes from `older` to here; a huge number when `older` is in fact the newer.
    #[inline]
    pub(crate) fn since(self, older: Self, ring_size: u32) -> u64 {
        self.generation
            .wrapping_sub(older.generation)
            .wrapping_mul(u64::from(ring_size))
            .wrapping_add(u64::from(self.offset))
            .wrapping_sub(u64::from(older.offset))
    }

    /// Whether `older` lies before here.
    pub(crate) fn is_after(self, older: Self, ring_size: u32) -> bool {
        (1..=i64::MAX.unsigned_abs()).contains(&self.since(older, ring_size))
    }
}

/// The stretch of the ring that holds whole packets: what the header's `generation`, `first` and
/// `last` say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The oldest packet that is still whole.
    pub(crate) first: Position,
    /// Behind the newest packet: where the next one will lie.
    pub(crate) end: Position,
}

impl Extent {
    /// Reads the header's values, `last_len` being the length that the packet at `last` claims.
    /// `None` when they cannot belong to a ring of this size.
    #[inline]
    pub(crate) fn new(
        generation: u64,
        first: u32,
        last: u32,
        last_len: u32,
        packet_header: u32,
        max_frame: u32,
        ring_size: u32,
    ) -> Option<Self> {
        // `first` alone may equal the size: that is its initial value and stands for 0.
        if first > ring_size || last >= ring_size || last_len > max_frame {
            return None;
        }
        // The generation has already grown if the packet at `last` reaches the end, so `end`
        // belongs to it either way.
        let end = Position { generation: 0, offset: last }
            .advance(packet_header + last_len, ring_size)
            .offset;
        let end = Position { generation, offset: end };
        // The oldest packet lies at most one turn back, so `first` belongs to this generation only
        // if it lies before the end. The comparison is with the raw value: an initial `first` is a
        // turn back at the size, that is, here at 0.
        let turn_back = u64::from(first >= end.offset);
        let first = Position { generation: generation.wrapping_sub(turn_back), offset: 0 }
            .advance(first, ring_size);
        Some(Self { first, end })
    }

    /// Whether a reader at `position` finds everything from there on still on the ring.
    #[inline]
    pub(crate) fn holds(&self, position: Position, ring_size: u32) -> bool {
        self.end.since(position, ring_size) <= self.end.since(self.first, ring_size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u32 = 1_000;

    fn at(generation: u64, offset: u32) -> Position {
        Position { generation, offset }
    }

    #[test]
    fn a_new_bus_holds_one_empty_packet() {
        let extent = Extent::new(0, SIZE, 0, 0, 24, 100, SIZE).expect("a valid header");
        assert_eq!(extent, Extent { first: at(0, 0), end: at(0, 24) });
    }

    #[test]
    fn a_first_behind_the_end_is_a_turn_back() {
        let extent = Extent::new(7, 300, 200, 20, 24, 100, SIZE).expect("a valid header");
        assert_eq!(extent.first, at(6, 300));
        assert_eq!(extent.end, at(7, 244));
    }

    #[test]
    fn an_exactly_full_ring_is_full_and_not_empty() {
        let extent = Extent::new(7, 0, SIZE - 30, 6, 24, 100, SIZE).expect("a valid header");
        assert_eq!(extent.end, at(7, 0));
        assert_eq!(extent.first, at(6, 0));
    }

    #[test]
    fn values_outside_the_ring_are_refused() {
        assert_eq!(Extent::new(0, SIZE + 1, 0, 0, 24, 100, SIZE), None);
        assert_eq!(Extent::new(0, 0, SIZE, 0, 24, 100, SIZE), None);
        assert_eq!(Extent::new(0, 0, 0, 101, 24, 100, SIZE), None);
    }

    proptest! {
        #[test]
        fn positions_count_like_plain_byte_counts(start in 0..u64::from(SIZE) * 9, steps in prop::collection::vec(0..=SIZE, 0..50)) {
            let turn = |bytes: u64| {
                at(bytes / u64::from(SIZE), u32::try_from(bytes % u64::from(SIZE)).expect("below SIZE"))
            };
            let (mut position, mut bytes) = (turn(start), start);
            for step in steps {
                position = position.advance(step, SIZE);
                bytes += u64::from(step);
                prop_assert_eq!(position, turn(bytes));
                prop_assert_eq!(Position::from_word(position.as_word(SIZE), SIZE), position);
                prop_assert_eq!(position.since(turn(start), SIZE), bytes - start);
                let near = bytes - start <= u64::from(SIZE);
                let begin = position.at_word(turn(start).as_word(SIZE), SIZE);
                prop_assert_eq!(begin, near.then_some(turn(start)));
            }
        }

        #[test]
        fn no_header_makes_arithmetic_overflow(generation: u64, first: u32, last: u32, len: u32, reader: u64, offset in 0..SIZE) {
            if let Some(extent) = Extent::new(generation, first, last, len, 24, 100, SIZE) {
                extent.holds(at(reader, offset), SIZE);
                prop_assert!(extent.end.since(extent.first, SIZE) <= u64::from(SIZE));
                prop_assert!(extent.holds(extent.first, SIZE) && extent.holds(extent.end, SIZE));
            }
        }
    }

    /// Generations around the ends of the number, and some other.
    const GENERATIONS: [u64; 7] = [0, 1, 7, 1 << 32, i64::MAX as u64, u64::MAX - 1, u64::MAX];

    /// The number of bytes from the beginning of generation `base` to `position`, in numbers that
    /// do not wrap.
    fn count(position: Position, base: u64, size: u32) -> i128 {
        let turns = i128::from(position.generation.wrapping_sub(base).cast_signed());
        turns * i128::from(size) + i128::from(position.offset)
    }

    /// Every place, and every step, on rings of a few bytes; and on the largest ones, around their
    /// ends.
    #[test]
    fn steps_of_any_length_count_bytes() {
        let small = (1..=12)
            .map(|size| (size, (0..size).collect::<Vec<_>>(), (0..=size).collect::<Vec<_>>()));
        let large = [1 << 20, (1 << 30) - 1, 1 << 30].map(|size| {
            (size, vec![0, 1, size / 2, size - 2, size - 1], vec![0, 1, size / 2, size - 1, size])
        });
        for (size, offsets, steps) in small.chain(large) {
            for generation in GENERATIONS {
                for &offset in &offsets {
                    for &step in &steps {
                        let (from, to) =
                            (at(generation, offset), at(generation, offset).advance(step, size));
                        assert!(to.offset < size);
                        assert_eq!(
                            count(to, generation, size),
                            count(from, generation, size) + i128::from(step)
                        );
                        assert_eq!(to.since(from, size), u64::from(step));
                        // Backwards it is a huge number, which no comparison accepts.
                        let back = from.since(to, size);
                        assert!(if step == 0 {
                            back == 0
                        } else {
                            back > u64::MAX - 2 * u64::from(size)
                        });
                    }
                }
            }
        }
    }

    /// Every header of rings of a few bytes, and every place a reader may be at near them.
    #[test]
    fn every_header_of_a_small_ring_says_which_places_it_holds() {
        for size in 1..=9_u32 {
            for packet_header in 0..=size.min(3) {
                let max_frame = size - packet_header;
                for generation in GENERATIONS {
                    for (first, last) in
                        (0..=size + 1).flat_map(|first| (0..=size).map(move |last| (first, last)))
                    {
                        for len in 0..=max_frame + 1 {
                            let extent = Extent::new(
                                generation,
                                first,
                                last,
                                len,
                                packet_header,
                                max_frame,
                                size,
                            );
                            let possible = first <= size && last < size && len <= max_frame;
                            assert_eq!(extent.is_some(), possible);
                            if let Some(extent) = extent {
                                check_extent(
                                    &extent,
                                    generation,
                                    first,
                                    last + packet_header + len,
                                    size,
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    /// `end` is where the newest packet ends, from the beginning of the turn it began in.
    fn check_extent(extent: &Extent, generation: u64, first: u32, end: u32, size: u32) {
        // In bytes from the beginning of this generation, which a packet that reaches the ring's
        // end has begun.
        let ends = i128::from(end % size);
        assert_eq!(count(extent.end, generation, size), ends);
        let begins = count(extent.first, generation, size);
        if first == size {
            assert_eq!(begins, 0, "nothing was ever dropped");
        } else {
            // The newest byte before the end that has this offset.
            assert_eq!(begins.rem_euclid(i128::from(size)), i128::from(first));
            assert!((1..=i128::from(size)).contains(&(ends - begins)));
        }
        for turn in -3..=3_i64 {
            for offset in 0..size {
                let position = at(generation.wrapping_add_signed(turn), offset);
                let bytes = count(position, generation, size);
                assert_eq!(extent.holds(position, size), (begins..=ends).contains(&bytes));
            }
        }
    }
}
