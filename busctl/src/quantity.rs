//! Sizes and times on the command line.

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
}
