//! `key=value` pairs separated by commas: the syntax that all kinds of port share.

use std::collections::HashMap;

use netif::IpNet;
use shmbus::{MIN_MTU, MacAddr6, Vlan};

use crate::error::ParsePortError;
use crate::frame_rules::FrameRules;
use crate::impair::Impairments;
use crate::suggest;

/// The keys that every kind of port has besides its own.
const COMMON_KEYS: [&str; 5] = ["learn", "mtu", "vlan", "trunk", "native"];

/// The greatest MTU that the field of an IP packet has room for.
const MAX_MTU: u64 = 65_535;
/// The greatest VLAN.
const MAX_VLAN: u16 = 4_094;

/// The keys whose value is a list: a part without `=` that follows one continues it, and the key may
/// be given several times.
const LIST_KEYS: [&str; 7] = ["trunk", "ip", "gateway", "peers", "hosts", "connect", "listen"];

/// Returns whether every kind of port has `key` or, if not, one that resembles it.
pub(super) fn is_nearly_common(key: &str) -> bool {
    let common = COMMON_KEYS.map(str::to_owned).into_iter().chain(Impairments::keys_like(key));
    is_common(key) || !suggest::hint(key, common).is_empty()
}

/// Returns whether every kind of port has `key`.
fn is_common(key: &str) -> bool {
    COMMON_KEYS.contains(&key) || Impairments::is_key(key)
}

/// Returns whether the value of `key` is a list.
fn is_list(key: &str) -> bool {
    LIST_KEYS.contains(&key) || Impairments::is_list(key)
}

/// The pairs of one port, by key.
#[derive(Debug)]
pub(super) struct Keys<'t>(HashMap<&'t str, Vec<&'t str>>);

impl<'t> Keys<'t> {
    /// Parses what follows the colon of a port of `kind`, which has the keys `known`.
    pub(super) fn parse(
        kind: &'static str,
        known: &[&str],
        text: &'t str,
    ) -> Result<Self, ParsePortError> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let pair = match (part.split_once('='), pairs.last()) {
                (Some(pair), _) => pair,
                (None, Some((key, _))) if is_list(key) => (*key, part),
                (None, _) => return Err(ParsePortError::NoValue(part.to_owned())),
            };
            pairs.push(pair);
        }
        Self::new(kind, known, pairs)
    }

    /// Takes pairs that are split already.
    pub(super) fn new(
        kind: &'static str,
        known: &[&str],
        pairs: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Result<Self, ParsePortError> {
        let mut keys: HashMap<&str, Vec<&str>> = HashMap::new();
        for (key, value) in pairs {
            if !known.contains(&key) && !is_common(key) {
                let known = known.iter().chain(&COMMON_KEYS).map(|key| (*key).to_owned());
                let hint = suggest::hint(key, known.chain(Impairments::keys_like(key)));
                return Err(ParsePortError::Key { kind, key: key.to_owned(), hint });
            }
            let values = keys.entry(key).or_default();
            if !values.is_empty() && !is_list(key) {
                return Err(ParsePortError::Twice(key.to_owned()));
            }
            values.push(value);
        }
        Ok(Self(keys))
    }

    /// Returns the value of a key, if it is given.
    pub(super) fn get(&self, key: &str) -> Option<&'t str> {
        self.0.get(key).and_then(|values| values.first()).copied()
    }

    /// Returns the parts of the list that is the value of a key; none when it is not given.
    pub(super) fn list(&self, key: &str) -> impl Iterator<Item = &'t str> {
        self.0.get(key).into_iter().flatten().flat_map(|values| values.split(','))
    }

    /// Returns the parts of the list that is the value of a key, as addresses with their networks.
    pub(super) fn networks(&self, key: &str) -> Result<Vec<IpNet>, ParsePortError> {
        let network = |text: &str| {
            text.parse().map_err(|_| {
                let problem = "it is an address with its network, such as 10.0.0.1/24 or fd00::1/64; \
                               several have commas between them";
                refused(key, text, &problem)
            })
        };
        self.list(key).map(network).collect()
    }

    /// Returns the choice of one of several words. The first is the default.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
    ) -> Result<T, ParsePortError> {
        let Some(word) = self.get(key) else { return Ok(words[0].1) };
        words.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
            refused(
                key,
                word,
                &format!("it is one of {}{}", known.join(", "), suggest::hint(word, known)),
            )
        })
    }

    /// Returns the value of a key as a number within `range`.
    pub(super) fn number<T>(
        &self,
        key: &str,
        default: T,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<T, ParsePortError>
    where
        T: TryFrom<u64>,
    {
        let Some(text) = self.get(key) else { return Ok(default) };
        text.parse()
            .ok()
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| {
                refused(
                    key,
                    text,
                    &format!("it is a number from {} to {}", range.start(), range.end()),
                )
            })
    }

    /// Returns the value of a key that limits something in a second; `None` for no limit, which is 0.
    pub(super) fn limit(&self, key: &str) -> Result<Option<u32>, ParsePortError> {
        let most = self.number(key, 0, 0..=1_000_000_000)?;
        Ok(Some(most).filter(|most| *most > 0))
    }

    /// Returns the value of `learn`, which every kind of port has: whether its peer receives only
    /// what it needs.
    pub(super) fn learn(&self) -> Result<bool, ParsePortError> {
        self.choice("learn", &[("off", false), ("on", true)])
    }

    /// Returns the values of `mtu`, `vlan`, `trunk` and `native`, which every kind of port has: which
    /// frames pass between it and the bus.
    pub(super) fn frame_rules(&self) -> Result<FrameRules, ParsePortError> {
        let mtu = match self.get("mtu") {
            None => None,
            Some(_) => Some(self.number("mtu", 0, u64::from(MIN_MTU)..=MAX_MTU)?),
        };
        Ok(FrameRules { mtu, vlan: self.vlan()? })
    }

    /// Returns the impairments, which every kind of port can have. Whether they go together is left
    /// to [`Impairments::check`].
    pub(super) fn impairments(&self) -> Result<Impairments, ParsePortError> {
        let ours = self.0.iter().filter(|(key, _)| Impairments::is_key(key));
        Impairments::from_pairs(ours.map(|(key, values)| (*key, values.join("/"))))
    }

    fn vlan(&self) -> Result<Option<Vlan>, ParsePortError> {
        let id = |key: &str, text: &str, least: u16| -> Result<u16, ParsePortError> {
            text.parse().ok().filter(|id| (least..=MAX_VLAN).contains(id)).ok_or_else(|| {
                refused(key, text, &format!("a VLAN is a number from {least} to {MAX_VLAN}"))
            })
        };
        let Some(trunk) = self.get("trunk") else {
            if let Some(native) = self.get("native") {
                return Err(refused("native", native, &"it is one of the VLANs of trunk=LIST"));
            }
            let access = self.get("vlan").map(|text| id("vlan", text, 1)).transpose()?;
            return Ok(access.and_then(Vlan::access));
        };
        if let Some(vlan) = self.get("vlan") {
            let problem = "the port is in one VLAN, or a trunk for those of trunk=LIST";
            return Err(refused("vlan", vlan, &problem));
        }
        let mut ids = Vec::new();
        for part in self.list("trunk") {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (id("trunk", first, 0)?, id("trunk", last, 0)?);
            if first > last {
                return Err(refused("trunk", part, &"the first of a range is the lower one"));
            }
            ids.extend(first..=last);
        }
        let native = self.get("native").map(|text| id("native", text, 1)).transpose()?;
        Vlan::trunk(ids, native).map(Some).ok_or_else(|| match native {
            Some(native) => refused(
                "native",
                &native.to_string(),
                &"it is one of the VLANs of trunk=LIST, and 0 is not among them",
            ),
            None => refused("trunk", trunk, &"it is a list of VLANs, such as trunk=10,20-29"),
        })
    }

    /// Returns the value of a key as the address of a station.
    pub(super) fn mac(&self, key: &str) -> Result<Option<MacAddr6>, ParsePortError> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let mac: MacAddr6 = text.parse().map_err(|error| refused(key, text, &error))?;
        if mac.is_multicast() || mac.is_nil() {
            return Err(refused(key, text, &"it is no station's address: make the first byte 02"));
        }
        Ok(Some(mac))
    }
}

/// Makes the error of a key that does not take a value.
pub(super) fn refused(key: &str, value: &str, problem: &impl ToString) -> ParsePortError {
    ParsePortError::Value {
        key: key.to_owned(),
        value: value.to_owned(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<FrameRules, String> {
        Keys::parse("test", &["ip"], text)
            .and_then(|keys| keys.frame_rules())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn commas_continue_a_list() {
        let keys = Keys::parse("test", &["ip"], "ip=a,b,mtu=70,ip=c").expect("valid");
        assert_eq!(keys.list("ip").collect::<Vec<_>>(), ["a", "b", "c"]);
        // As a setting of the registry.
        let keys = Keys::new("test", &["ip"], [("ip", "a,b")]).expect("valid");
        assert_eq!(keys.list("ip").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn vlans_are_read() {
        let vlan = |text: &str| rules(text).expect(text).vlan;
        assert_eq!(vlan(""), None);
        assert_eq!(vlan("vlan=4094"), Vlan::access(4_094));
        for text in ["trunk=10,20,21", "trunk=10,trunk=20-21", "trunk=20-21,10,20"] {
            assert_eq!(vlan(text), Vlan::trunk([10, 20, 21], None), "{text}");
        }
        assert_eq!(vlan("trunk=0,10"), Vlan::trunk([0, 10], None));
        assert_eq!(vlan("native=10,trunk=10"), Vlan::trunk([10], Some(10)));
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        for (text, words) in [
            ("vlan=0", "vlan=0: a VLAN is a number from 1 to 4094"),
            ("vlan=4095", "a VLAN is a number from 1 to 4094"),
            ("vlan=10,20", "'20' is not key=value"),
            ("vlan=10,trunk=10", "the port is in one VLAN, or a trunk"),
            ("trunk=", "trunk=: a VLAN is a number from 0 to 4094"),
            ("trunk=10,x", "trunk=x: a VLAN is a number"),
            ("trunk=20-10", "trunk=20-10: the first of a range is the lower one"),
            ("trunk=0-4095", "a VLAN is a number from 0 to 4094"),
            ("native=10", "native=10: it is one of the VLANs of trunk=LIST"),
            ("trunk=10,native=20", "native=20: it is one of the VLANs of trunk=LIST"),
            ("trunk=0,10,native=10", "0 is not among them"),
            ("mtu=67", "mtu=67: it is a number from 68 to 65535"),
            ("vlna=10", "a test port has no key 'vlna' (did you mean 'vlan'?)"),
        ] {
            let error = rules(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
