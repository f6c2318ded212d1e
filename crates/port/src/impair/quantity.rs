//! Percentages, times and rates as tc(8) writes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::suggest;

/// The parts of one percent that a [`Percent`] counts.
const PARTS: u64 = 1_000_000_000;

/// The longest time of an impairment.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The units of a time, in nanoseconds.
const TIMES: [(&str, f64); 13] = [
    ("s", 1e9),
    ("sec", 1e9),
    ("secs", 1e9),
    ("ms", 1e6),
    ("msec", 1e6),
    ("msecs", 1e6),
    ("us", 1e3),
    ("µs", 1e3),
    ("usec", 1e3),
    ("usecs", 1e3),
    ("ns", 1.0),
    ("nsec", 1.0),
    ("nsecs", 1.0),
];

/// The units of a rate, in bits per second. As for tc, `bps` counts bytes.
const RATES: [(&str, f64); 18] = [
    ("bit", 1.0),
    ("kbit", 1e3),
    ("mbit", 1e6),
    ("gbit", 1e9),
    ("tbit", 1e12),
    ("kibit", 1_024.0),
    ("mibit", 1_048_576.0),
    ("gibit", 1_073_741_824.0),
    ("tibit", 1_099_511_627_776.0),
    ("bps", 8.0),
    ("kbps", 8e3),
    ("mbps", 8e6),
    ("gbps", 8e9),
    ("tbps", 8e12),
    ("kibps", 8_192.0),
    ("mibps", 8_388_608.0),
    ("gibps", 8_589_934_592.0),
    ("tibps", 8_796_093_022_208.0),
];

/// A probability in percent, with up to nine decimals.
///
/// ```
/// use port::Percent;
///
/// let loss: Percent = "0.5%".parse().unwrap();
/// assert_eq!(Percent::new(0.5), Some(loss));
/// assert_eq!(loss.to_string(), "0.5%");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u64);

impl Percent {
    /// Never.
    pub const ZERO: Self = Self(0);
    /// Always.
    pub const HUNDRED: Self = Self(100 * PARTS);

    /// Makes a percentage, rounded to nine decimals. Returns `None` for one below 0 or above 100.
    #[must_use]
    pub fn new(percent: f64) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range is checked"
        )]
        (0.0..=100.0).contains(&percent).then(|| Self((percent * PARTS as f64).round() as u64))
    }

    /// Returns whether it is 0 %.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Returns the probability, from 0 to 1.
    #[must_use]
    pub fn probability(self) -> f64 {
        self.0 as f64 / Self::HUNDRED.0 as f64
    }

    /// Returns 100 % less this.
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(Self::HUNDRED.0 - self.0)
    }

    /// Returns the sum; `None` above 100 %.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        Some(Self(self.0 + other.0)).filter(|sum| *sum <= Self::HUNDRED)
    }

    /// Returns whether an event of this probability happens when `random` is drawn.
    #[inline]
    pub(super) fn hits(self, random: u64) -> bool {
        let drawn = (u128::from(random) * u128::from(Self::HUNDRED.0)) >> 64;
        drawn < u128::from(self.0)
    }
}

/// Writes all decimals that are not 0, and `%`.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:09}", self.0 % PARTS);
        let decimals = decimals.trim_end_matches('0');
        let point = if decimals.is_empty() { "" } else { "." };
        write!(f, "{}{point}{decimals}%", self.0 / PARTS)
    }
}

impl FromStr for Percent {
    type Err = String;

    /// Parses a number from 0 to 100; `%` may follow.
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text);
        number
            .filter(|_| ["", "%"].contains(&unit))
            .and_then(|number| Self::new(number).filter(|percent| percent.0 > 0 || number == 0.0))
            .ok_or_else(|| {
                "it is a percentage from 0% to 100%, such as 1% or 0.25%, with nine decimals at most"
                    .to_owned()
            })
    }
}

/// A speed in bits per second.
///
/// ```
/// let rate: port::Rate = "1.5mbit".parse().unwrap();
/// assert_eq!(rate.bits_per_second(), 1_500_000);
/// assert_eq!(rate.to_string(), "1500kbit");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// Makes a rate. Returns `None` for one of 0, or above a terabit per second.
    #[must_use]
    pub const fn new(bits_per_second: u64) -> Option<Self> {
        if 0 < bits_per_second && bits_per_second <= 1_000_000_000_000 {
            Some(Self(bits_per_second))
        } else {
            None
        }
    }

    /// Returns the bits per second.
    #[must_use]
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }

    /// Returns how long `bytes` take.
    pub(super) fn time_of(self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes.saturating_mul(8_000_000_000) / self.0)
    }
}

/// Writes it in the largest unit that needs no decimals.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("tbit", 1_000_000_000_000), ("gbit", 1_000_000_000), ("mbit", 1_000_000)];
        let units = units.into_iter().chain([("kbit", 1_000), ("bit", 1)]);
        for (unit, size) in units {
            if self.0.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        Ok(())
    }
}

impl FromStr for Rate {
    type Err = String;

    /// Parses a number with a unit of tc(8): `10mbit`, `1gbit`, `100kbit`; `bps` and `kbps` count
    /// bytes, and a bare number counts bits per second.
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text);
        let unit = unit.to_ascii_lowercase();
        let unit = unit.strip_suffix("/s").unwrap_or(&unit);
        let wrong = || {
            let hint = suggest::hint(unit, RATES.map(|(name, _)| name));
            format!("it is a rate up to 1tbit, such as 100kbit, 10mbit or 1gbit{hint}")
        };
        let factor = factor(unit, &RATES, 1.0).ok_or_else(wrong)?;
        let bits = number.map(|number| number * factor).filter(|bits| *bits < 1e13);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range is checked"
        )]
        bits.and_then(|bits| Self::new(bits.round() as u64)).ok_or_else(wrong)
    }
}

/// Parses a time as tc(8) does: a number with a unit, or bare, in microseconds.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text);
    let unit = unit.to_lowercase();
    let wrong = || {
        let hint = suggest::hint(&unit, TIMES.map(|(name, _)| name));
        format!("it is a time up to an hour, such as 20ms, 1.5s or 100us{hint}")
    };
    let factor = factor(&unit, &TIMES, 1e3).ok_or_else(wrong)?;
    let nanos = number.map(|number| (number * factor).round());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    nanos
        .filter(|nanos| *nanos < 1e15)
        .map(|nanos| Duration::from_nanos(nanos as u64))
        .filter(|time| *time <= LONGEST)
        .ok_or_else(wrong)
}

/// Returns a time as [`parse_time`] reads it.
pub(super) fn time_text(time: Duration) -> String {
    format!("{time:?}").replace('µ', "u")
}

/// Splits a number, which has no sign, from what follows it.
fn number_and_unit(text: &str) -> (Option<f64>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number.parse().ok(), unit.trim())
}

fn factor(unit: &str, units: &[(&str, f64)], bare: f64) -> Option<f64> {
    if unit.is_empty() {
        return Some(bare);
    }
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_read_back() {
        for (text, shown) in [
            ("1%", "1%"),
            ("1", "1%"),
            ("0.5%", "0.5%"),
            (".25", "0.25%"),
            ("100%", "100%"),
            ("0", "0%"),
            ("33.333333333%", "33.333333333%"),
            ("0.000000001%", "0.000000001%"),
        ] {
            let percent: Percent = text.parse().expect(text);
            assert_eq!(percent.to_string(), shown);
            assert_eq!(shown.parse(), Ok(percent));
        }
        for text in ["", "%", "-1%", "101%", "1%%", "1 pct", "nan", "inf", "0.0000000001%", "1,5%"]
        {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_ends_of_a_percentage_are_never_and_always() {
        for random in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            assert!(!Percent::ZERO.hits(random) && Percent::HUNDRED.hits(random), "{random}");
        }
        let half = Percent::new(50.0).expect("valid");
        assert!(half.hits(u64::MAX / 2 - 1) && !half.hits(u64::MAX / 2 + 1));
    }

    #[test]
    fn times_are_those_of_tc() {
        for (text, nanos, shown) in [
            ("20ms", 20_000_000, "20ms"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("100us", 100_000, "100us"),
            ("100", 100_000, "100us"),
            ("250µs", 250_000, "250us"),
            ("7ns", 7, "7ns"),
            ("0", 0, "0ns"),
            ("2Secs", 2_000_000_000, "2s"),
            ("3.25 msec", 3_250_000, "3.25ms"),
            ("3600s", 3_600_000_000_000, "3600s"),
        ] {
            let time = parse_time(text).expect(text);
            assert_eq!(time, Duration::from_nanos(nanos), "{text}");
            assert_eq!(time_text(time), shown);
            assert_eq!(parse_time(shown), Ok(time));
        }
        for text in ["", "ms", "-1ms", "3601s", "1h", "1e9s", "1..5s"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        let error = parse_time("20msc").expect_err("no unit");
        assert!(error.ends_with("(did you mean 'msec'?)"), "{error}");
    }

    #[test]
    fn rates_are_those_of_tc() {
        for (text, bits, shown) in [
            ("10mbit", 10_000_000, "10mbit"),
            ("1Gbit", 1_000_000_000, "1gbit"),
            ("100kbit", 100_000, "100kbit"),
            ("9600", 9_600, "9600bit"),
            ("1.5mbit", 1_500_000, "1500kbit"),
            ("1kbps", 8_000, "8kbit"),
            ("10mbit/s", 10_000_000, "10mbit"),
            ("1kibit", 1_024, "1024bit"),
        ] {
            let rate: Rate = text.parse().expect(text);
            assert_eq!((rate.bits_per_second(), rate.to_string().as_str()), (bits, shown));
            assert_eq!(shown.parse(), Ok(rate));
        }
        for text in ["0", "", "mbit", "-1mbit", "2tbit", "10m", "0.1bit"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        let error = "10mbti".parse::<Rate>().expect_err("no unit");
        assert!(error.ends_with("(did you mean 'mbit'?)"), "{error}");
    }
}
