//! Sizes on the command line.

/// Bytes, or with a K, M or G behind them 1,024 times as much, and so on.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let bytes = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    bytes
        .and_then(|bytes| bytes.checked_mul(1 << shift))
        .ok_or_else(|| "a size is a number of bytes, or one with K, M or G behind it, such as 16M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_may_have_a_unit() {
        assert_eq!(parse("1048576"), Ok(1 << 20));
        assert_eq!(parse("16M"), Ok(16 << 20));
        assert_eq!(parse("64k"), Ok(64 << 10));
        assert_eq!(parse("1G"), Ok(1 << 30));
        for text in ["", "M", "-1", "+1", "1T", "99999999999G", "1.5M"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
