//! The times of a pcapng, in units that an interface chooses.

use std::time::Duration;

use crate::input::Order;

const NANOS: u128 = 1_000_000_000;

/// The option that ends the options.
const END: u16 = 0;
/// `if_tsresol`: the unit, one byte.
const RESOLUTION: u16 = 9;
/// `if_tsoffset`: seconds to add, 8 bytes.
const OFFSET: u16 = 14;

/// What the numbers in the time fields of an interface's frames stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolution {
    unit: Unit,
    /// Seconds to add.
    offset: i64,
}

/// A unit of time, as a negative power of a base in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// 10 to the minus n.
    Decimal(u8),
    /// 2 to the minus n.
    Binary(u8),
}

impl Resolution {
    /// Reads the options of an interface as far as they are in order. Without any, times are in
    /// microseconds.
    pub(crate) fn of_options(order: Order, mut options: &[u8]) -> Self {
        let mut resolution = Self { unit: Unit::Decimal(6), offset: 0 };
        while let Some((head, rest)) = options.split_at_checked(4) {
            let (code, length) = (order.u16(head, 0), usize::from(order.u16(head, 2)));
            let Some(value) = rest.get(..length) else { break };
            match (code, value) {
                (END, _) => break,
                (RESOLUTION, &[unit]) => resolution.unit = Unit::of_byte(unit),
                (OFFSET, &[_, _, _, _, _, _, _, _]) => {
                    let halves = [0, 4].map(|at| u64::from(order.u32(value, at)));
                    let [first, second] = halves;
                    let offset = match order {
                        Order::Little => second << 32 | first,
                        Order::Big => first << 32 | second,
                    };
                    resolution.offset = offset.cast_signed();
                }
                _ => {}
            }
            options = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        resolution
    }

    /// Returns the time that `ticks` stand for, since 1970.
    pub(crate) fn time(self, ticks: u64) -> Duration {
        let ticks = u128::from(ticks);
        let nanos = match self.unit {
            Unit::Decimal(digits @ ..=9) => ticks * 10_u128.pow(u32::from(9 - digits)),
            Unit::Decimal(digits) => {
                10_u128.checked_pow(u32::from(digits - 9)).map_or(0, |unit| ticks / unit)
            }
            Unit::Binary(bits) => (ticks * NANOS).checked_shr(bits.into()).unwrap_or(0),
        };
        let seconds = u64::try_from(nanos / NANOS).unwrap_or(u64::MAX);
        let seconds = seconds.saturating_add_signed(self.offset);
        // Below 10^9, so it fits.
        Duration::new(seconds, u32::try_from(nanos % NANOS).unwrap_or(0))
    }
}

impl Unit {
    fn of_byte(byte: u8) -> Self {
        let exponent = byte & 0x7f;
        if byte & 0x80 == 0 { Self::Decimal(exponent) } else { Self::Binary(exponent) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(options: &[u8], ticks: u64) -> Duration {
        Resolution::of_options(Order::Little, options).time(ticks)
    }

    #[test]
    fn times_are_in_microseconds_unless_an_option_says_otherwise() {
        assert_eq!(time(&[], 1_500_000), Duration::from_millis(1500));
        assert_eq!(time(&[9, 0, 1, 0, 9, 0, 0, 0], 1_500_000_000), Duration::from_millis(1500));
        assert_eq!(time(&[9, 0, 1, 0, 0, 0, 0, 0], 7), Duration::from_secs(7));
        assert_eq!(time(&[9, 0, 1, 0, 12, 0, 0, 0], 5_000), Duration::from_nanos(5));
        assert_eq!(time(&[9, 0, 1, 0, 0x81, 0, 0, 0], 3), Duration::from_millis(1500));
        let other_first = [2, 0, 3, 0, b'l', b'a', b'n', 0, 9, 0, 1, 0, 3, 0, 0, 0];
        assert_eq!(time(&other_first, 1500), Duration::from_millis(1500));
    }

    #[test]
    fn an_offset_is_added() {
        let options = [14, 0, 8, 0, 10, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(time(&options, 1), Duration::new(10, 1000));
        let back = [14, 0, 8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(time(&back, 2_000_000), Duration::from_secs(1));
        assert_eq!(time(&back, 0), Duration::ZERO);
    }

    #[test]
    fn odd_options_and_units_do_no_harm() {
        let odd: [&[u8]; 4] = [&[9], &[9, 0, 9, 0, 1], &[0, 0, 0, 0, 9, 0, 1, 0, 9], &[9, 0, 0, 0]];
        for options in odd {
            assert_eq!(time(options, 1_000_000), Duration::from_secs(1), "{options:?}");
        }
        for byte in 0..=0xff {
            for ticks in [0, 1, u64::MAX] {
                time(&[9, 0, 1, 0, byte], ticks);
            }
        }
    }
}
