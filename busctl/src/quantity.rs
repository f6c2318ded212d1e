//! Sizes and times, on the command line and for people.

use std::time::Duration;

/// Reads a size in bytes; K, M or G behind the number multiply it by 1,024, 1,024² or 1,024³.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number(digits).and_then(|bytes| bytes.checked_mul(1 << shift)).ok_or_else(|| {
        "a size is a number of bytes, or one with K, M or G behind it, such as 16M".to_owned()
    })
}

/// Reads the size of a capture file as `tcpdump -C` does: in millions of bytes, unless there is a
/// unit.
pub(crate) fn capture_size(text: &str) -> Result<u64, String> {
    let size = match number(text) {
        Some(millions) => millions.checked_mul(1_000_000),
        None => bytes(text).ok(),
    };
    size.filter(|size| *size > 0).ok_or_else(|| {
        "it takes a number of million bytes above 0, or one with k, m or g behind it, such as 10 or 512k"
            .to_owned()
    })
}

/// Reads a number of seconds, which may be a fraction.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// Reads a number without a sign.
fn number(digits: &str) -> Option<u64> {
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns a number of seconds in the largest unit that it fills, such as `3 min`.
pub(crate) fn short_time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Returns a size in the largest unit that divides it, as [`bytes`] reads it.
pub(crate) fn short_size(bytes: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let unit = units.into_iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Returns a number in at most five letters, such as `12.3k`.
pub(crate) fn short_number(number: f64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let Some((one, unit)) = units.into_iter().find(|(one, _)| number >= *one) else {
        return format!("{number:.0}");
    };
    let scaled = number / one;
    if scaled < 99.95 { format!("{scaled:.1}{unit}") } else { format!("{scaled:.0}{unit}") }
}

/// Returns a count with its noun, which gets an `s` unless there is one.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_may_have_a_unit() {
        assert_eq!(bytes("1048576"), Ok(1 << 20));
        assert_eq!(bytes("16M"), Ok(16 << 20));
        assert_eq!(bytes("64k"), Ok(64 << 10));
        assert_eq!(bytes("1G"), Ok(1 << 30));
        for text in ["", "M", "-1", "+1", "1T", "99999999999G", "1.5M"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_size_of_a_capture_is_in_millions() {
        assert_eq!(capture_size("10"), Ok(10_000_000));
        assert_eq!(capture_size("512k"), Ok(512 << 10));
        for text in ["", "0", "0k", "-1", "k", "1T", "99999999999999"] {
            assert!(capture_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_may_be_a_fraction_and_not_negative() {
        assert_eq!(seconds("0.5"), Some(Duration::from_millis(500)));
        for text in ["", "-1", "x", "1e300", "nan"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_has_one_unit() {
        let times = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 1_000_000];
        let right = ["0 s", "59 s", "1 min", "59 min", "1 h", "23 h", "1 d", "11 d"];
        assert_eq!(times.map(short_time), right);
    }

    #[test]
    fn numbers_for_people_are_short() {
        let sizes = [0, 100, 1 << 10, 1 << 20, 3 << 29, 1 << 30];
        assert_eq!(sizes.map(short_size), ["0", "100", "1K", "1M", "1536M", "1G"]);
        let numbers = [0.0, 999.0, 1e3, 99_940.0, 123_456.0, 1e6, 2.5e9, 999_999.0];
        let right = ["0", "999", "1.0k", "99.9k", "123k", "1.0M", "2.5G", "1000k"];
        assert_eq!(numbers.map(short_number), right);
        assert_eq!([0, 1, 2].map(|n| counted(n, "frame")), ["0 frames", "1 frame", "2 frames"]);
    }
}
