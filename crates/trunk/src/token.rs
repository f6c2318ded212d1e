//! What an end says of itself: the key of its liveliness token, and the keys that frames are sent to.
//!
//! ```text
//! busctl/trunk/1/lab/end/00c0ffee00c0ffee/42/192.0.2.1:4789/host-a
//!                NAME    ID               VNI ADDRESS       HOST      ADDRESS may be -
//! busctl/trunk/1/lab/to/00c0ffee00c0ffee/from/0123456789abcdef
//! ```
//!
//! Anything that the network lets in may write such keys.

use std::net::SocketAddr;

/// What all keys begin with; the number is that of this format.
const ROOT: &str = "busctl/trunk/1";
/// A longer key is none of ours.
const MAX_KEY: usize = 320;
/// The most bytes of a host's name.
const MAX_HOST: usize = 63;

/// Which end it is. Random, and new whenever a port is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EndId(pub(crate) u64);

/// One end, as its token describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: EndId,
    pub(crate) vni: u32,
    /// Where it receives datagrams.
    pub(crate) address: Option<SocketAddr>,
    /// What its machine calls itself.
    pub(crate) host: String,
}

/// Returns the key that matches the tokens of all ends of a trunk.
pub(crate) fn all_ends(trunk: &str) -> String {
    format!("{ROOT}/{trunk}/end/**")
}

/// Returns the key that frames are sent to.
pub(crate) fn frames(trunk: &str, to: EndId, from: EndId) -> String {
    format!("{ROOT}/{trunk}/to/{:016x}/from/{:016x}", to.0, from.0)
}

/// Returns the key that matches the frames of all ends for one.
pub(crate) fn frames_for(trunk: &str, to: EndId) -> String {
    format!("{ROOT}/{trunk}/to/{:016x}/from/*", to.0)
}

/// Returns which end frames with this key are from.
pub(crate) fn sender_of(key: &str) -> Option<EndId> {
    let (_, id) = key.rsplit_once("/from/")?;
    parse_id(id)
}

/// Returns a host's name as far as a key may hold it.
pub(crate) fn plain_host(name: &str) -> String {
    let plain: String = name.chars().filter(|c| is_plain(*c)).take(MAX_HOST).collect();
    if plain.is_empty() { "host".to_owned() } else { plain }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

fn parse_id(text: &str) -> Option<EndId> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(text, 16).ok().map(EndId)).flatten()
}

impl Token {
    /// Returns the key of the token.
    pub(crate) fn key(&self, trunk: &str) -> String {
        let Self { id: EndId(id), vni, address, host } = self;
        let address = address.map_or("-".to_owned(), |address| address.to_string());
        format!("{ROOT}/{trunk}/end/{id:016x}/{vni}/{address}/{host}")
    }

    /// Reads the key of a token.
    pub(crate) fn parse(key: &str, trunk: &str) -> Option<Self> {
        if key.len() > MAX_KEY {
            return None;
        }
        let rest = key.strip_prefix(ROOT)?.strip_prefix('/')?.strip_prefix(trunk)?;
        let mut parts = rest.strip_prefix("/end/")?.split('/');
        let mut next = || parts.next();
        let id = parse_id(next()?)?;
        let vni = next()?.parse().ok().filter(|vni| *vni < 1 << 24)?;
        let address = match next()? {
            "-" => None,
            text => Some(text.parse().ok().filter(is_of_one)?),
        };
        let host = next()
            .filter(|host| (1..=MAX_HOST).contains(&host.len()) && host.chars().all(is_plain))?;
        next().is_none().then(|| Self { id, vni, address, host: host.to_owned() })
    }
}

/// Returns whether an address can be that of one end.
fn is_of_one(address: &SocketAddr) -> bool {
    let ip = address.ip();
    let is_broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || is_broadcast) && address.port() != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(address: &str) -> Token {
        let address = address.parse().ok();
        Token { id: EndId(0x00c0_ffee), vni: 42, address, host: "host-a".to_owned() }
    }

    #[test]
    fn a_token_is_read_as_it_is_written() {
        for address in ["192.0.2.1:4789", "[fd00::1]:4790", ""] {
            let token = token(address);
            assert_eq!(Token::parse(&token.key("lab"), "lab"), Some(token));
        }
        let key = token("192.0.2.1:4789").key("lab");
        assert_eq!(key, "busctl/trunk/1/lab/end/0000000000c0ffee/42/192.0.2.1:4789/host-a");
        assert_eq!(Token::parse(&key, "la"), None);
        assert_eq!(
            all_ends("lab"),
            key.split_once("0000").map(|(root, _)| format!("{root}**")).unwrap()
        );
        let key = frames("lab", EndId(1), EndId(2));
        assert_eq!(sender_of(&key), Some(EndId(2)));
        assert_eq!(frames_for("lab", EndId(1)), key.replace("0000000000000002", "*"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = token("192.0.2.1:4789").key("lab");
        for (part, bad) in [
            ("/42/", "/16777216/"),
            ("/42/", "/x/"),
            ("192.0.2.1", "0.0.0.0"),
            ("192.0.2.1", "255.255.255.255"),
            ("192.0.2.1", "224.0.0.1"),
            (":4789", ":0"),
            (":4789", ""),
            ("host-a", ""),
            ("host-a", "host/a"),
            ("host-a", "host a"),
            ("c0ffee", "+c0ffee"),
            ("0000000000c0ffee", "c0ffee"),
        ] {
            let key = good.replace(part, bad);
            assert_eq!(Token::parse(&key, "lab"), None, "{key}");
        }
        assert_eq!(Token::parse(&format!("{good}{}", "x".repeat(400)), "lab"), None);
        assert_eq!(plain_host("my host/é\n.lan"), "myhost.lan");
        assert_eq!(plain_host("/"), "host");
    }

    proptest! {
        #[test]
        fn any_key_is_a_token_or_none(key in "(busctl/trunk/1/lab/end/)?[0-9a-f/:.*-]{0,80}") {
            if let Some(token) = Token::parse(&key, "lab") {
                prop_assert_eq!(Token::parse(&token.key("lab"), "lab"), Some(token));
            }
            sender_of(&key);
        }
    }
}
