//! The URL of a bus: a path, and options in brackets.
//!
//! `/dev/shm/lan[size=16M/name=probe]`. Options are separated by slashes. As in VDE's other plug-ins,
//! a character behind `\`, those between `'` or `"`, and `%` with two hexadecimal digits stand for
//! themselves: so a path may have brackets, too.
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `size=SIZE` | bytes of a bus that is made, with K, M or G behind the number | 1M, which rump kernels can share |
//! | `mode=MODE` | permission bits of a bus that is made, in octal | what the program asks for, such as `vde_plug -m`; else 0600 |
//! | `name=NAME` | the name in the bus's list of members | what the program calls itself |
//! | `learn=on` | receive only what is for addresses behind the plug, for groups, and for unknown addresses, as from a switch | `off`: receive everything, as from a hub |

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use shmbus::BUS_SIZE;

/// What a URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) mode: Option<u32>,
    pub(crate) name: Option<String>,
    pub(crate) learn: bool,
}

/// Why a URL is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("a URL has the path of a bus, such as shmif:///dev/shm/lan")]
    NoPath,
    #[error("the options of a URL end with a bracket: shmif:///dev/shm/lan[size=16M]")]
    NoEnd,
    #[error("`{0}` is no option: there are size=SIZE, mode=MODE, name=NAME and learn=on|off")]
    Unknown(String),
    #[error("size={0}: a size is a number of bytes, or one with K, M or G behind it, such as 16M")]
    Size(String),
    #[error("mode={0}: a mode is the permission bits of a file in octal, such as 0660")]
    Mode(String),
    #[error("learn={0}: it is on or off")]
    Learn(String),
}

/// A character of a URL, and whether it may end a part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    Plain(u8),
    /// It was quoted, and stands for itself.
    Quoted(u8),
}

impl Byte {
    fn value(self) -> u8 {
        let (Self::Plain(byte) | Self::Quoted(byte)) = self;
        byte
    }
}

impl Url {
    /// Reads what follows `shmif://`.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, UrlError> {
        let bytes = unquote(text);
        let open = bytes.iter().position(|byte| *byte == Byte::Plain(b'['));
        let (path, options) = bytes.split_at(open.unwrap_or(bytes.len()));
        if path.is_empty() {
            return Err(UrlError::NoPath);
        }
        let path = OsString::from_vec(values(path)).into();
        let mut url = Self { path, size: BUS_SIZE, mode: None, name: None, learn: false };
        if let [_, options @ ..] = options {
            let [options @ .., Byte::Plain(b']')] = options else { return Err(UrlError::NoEnd) };
            for option in options.split(|byte| *byte == Byte::Plain(b'/')) {
                url.set(option)?;
            }
        }
        Ok(url)
    }

    /// Obeys one option.
    fn set(&mut self, option: &[Byte]) -> Result<(), UrlError> {
        if option.is_empty() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&values(option)).into_owned();
        let (key, value) = text.split_once('=').unwrap_or((&text, ""));
        match key {
            "size" => self.size = size(value).ok_or_else(|| UrlError::Size(value.into()))?,
            "mode" => self.mode = Some(mode(value).ok_or_else(|| UrlError::Mode(value.into()))?),
            "name" => self.name = Some(value.into()),
            "learn" => {
                self.learn = match value {
                    "on" | "" => true,
                    "off" => false,
                    other => return Err(UrlError::Learn(other.into())),
                }
            }
            _ => return Err(UrlError::Unknown(text)),
        }
        Ok(())
    }
}

fn values(bytes: &[Byte]) -> Vec<u8> {
    bytes.iter().map(|byte| byte.value()).collect()
}

/// Takes quotes away, and notes what was quoted.
fn unquote(text: &[u8]) -> Vec<Byte> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut rest, mut quote) = (text, None);
    loop {
        rest = match (quote, rest) {
            (_, []) => return bytes,
            (Some(end), [byte, rest @ ..]) if *byte == end => {
                quote = None;
                rest
            }
            (None, [byte @ (b'\'' | b'"'), rest @ ..]) => {
                quote = Some(*byte);
                rest
            }
            (Some(_), [byte, rest @ ..]) | (None, [b'\\', byte, rest @ ..]) => {
                bytes.push(Byte::Quoted(*byte));
                rest
            }
            (None, [b'%', high, low, rest @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                bytes.push(Byte::Quoted(hex(*high) << 4 | hex(*low)));
                rest
            }
            (None, [byte, rest @ ..]) => {
                bytes.push(Byte::Plain(*byte));
                rest
            }
        }
    }
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

fn size(text: &str) -> Option<u64> {
    let shift = match text.as_bytes().last()? {
        b'K' | b'k' => 10,
        b'M' | b'm' => 20,
        b'G' | b'g' => 30,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(1 << shift)
}

fn mode(text: &str) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    u32::from_str_radix(text, 8).ok().filter(|mode| is_number && *mode <= 0o777)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Url, UrlError> {
        Url::parse(text.as_bytes())
    }

    fn plain(path: &str) -> Url {
        Url { path: path.into(), size: BUS_SIZE, mode: None, name: None, learn: false }
    }

    #[test]
    fn a_path_alone_is_a_url() {
        assert_eq!(parse("/dev/shm/lan"), Ok(plain("/dev/shm/lan")));
        assert_eq!(parse("./lan.bus"), Ok(plain("./lan.bus")));
        assert_eq!(parse("/dev/shm/lan[]"), Ok(plain("/dev/shm/lan")));
    }

    #[test]
    fn options_follow_in_brackets() {
        let expected = Url {
            size: 16 << 20,
            mode: Some(0o660),
            name: Some("web 1".into()),
            learn: true,
            ..plain("/lan")
        };
        assert_eq!(parse("/lan[size=16M/mode=0660/name=web 1/learn=on]"), Ok(expected));
        assert_eq!(parse("/lan[learn]").map(|url| url.learn), Ok(true));
        assert_eq!(parse("/lan[learn=off]").map(|url| url.learn), Ok(false));
        assert_eq!(parse("/lan[size=2097152]").map(|url| url.size), Ok(2 << 20));
    }

    #[test]
    fn what_is_quoted_stands_for_itself() {
        for quoted in [r"/a\[b\]", "/a'[b]'", "/a\"[b]\"", "/a%5Bb%5d"] {
            assert_eq!(parse(quoted), Ok(plain("/a[b]")), "{quoted}");
        }
        assert_eq!(parse("/a%zz%"), Ok(plain("/a%zz%")));
        let name = parse(r"/lan[name='a/b]']").expect("a URL").name;
        assert_eq!(name.as_deref(), Some("a/b]"));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse(""), Err(UrlError::NoPath));
        assert_eq!(parse("[size=1M]"), Err(UrlError::NoPath));
        assert_eq!(parse("/lan[size=1M"), Err(UrlError::NoEnd));
        assert_eq!(parse("/lan[size=1M]x"), Err(UrlError::NoEnd));
        assert_eq!(parse("/lan[3]"), Err(UrlError::Unknown("3".into())));
        for size in ["", "M", "+1", "1T", "99999999999G", "1 M"] {
            assert_eq!(parse(&format!("/lan[size={size}]")), Err(UrlError::Size(size.into())));
        }
        for mode in ["", "rw", "0999", "+7", "1777"] {
            assert_eq!(parse(&format!("/lan[mode={mode}]")), Err(UrlError::Mode(mode.into())));
        }
        assert_eq!(parse("/lan[learn=yes]"), Err(UrlError::Learn("yes".into())));
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Url::parse(&text);
        }

        #[test]
        fn any_path_can_be_quoted(path in proptest::collection::vec(1..=255u8, 1..32)) {
            let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
            let quoted: Vec<u8> =
                path.iter().flat_map(|byte| [b'%', digit(byte >> 4), digit(byte & 15)]).collect();
            let url = Url::parse(&quoted).expect("a URL");
            prop_assert_eq!(url.path.into_os_string().into_vec(), path);
        }
    }
}
