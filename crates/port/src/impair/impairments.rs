//! The impairments of a link: both directions and the seed, as text and back.

use std::fmt;
use std::str::FromStr;

use super::settings::{KEYS, OneWay};
use crate::error::ParsePortError;
use crate::suggest;

/// The key of the seed, which both directions share.
const SEED: &str = "seed";

/// The keys whose value is a list, which commas may separate.
const LISTS: [&str; 2] = ["loss-state", "gemodel"];

/// What a link does to frames on purpose, in the words of netem. By default, nothing.
///
/// ```
/// use std::time::Duration;
///
/// use port::{Impairments, OneWay, Percent};
///
/// let parsed: Impairments = "delay=20ms,out.loss=1%".parse()?;
/// let way = OneWay::new().delay(Duration::from_millis(20));
/// let loss = Percent::new(1.0).unwrap();
/// assert_eq!(parsed, Impairments::new().both(way.clone()).egress(way.loss(loss)));
/// assert_eq!(parsed.to_string(), "delay=20ms,out.loss=1%");
/// # Ok::<(), port::ParsePortError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Impairments {
    /// From the peer to the bus (`in.`).
    pub ingress: OneWay,
    /// From the bus to the peer (`out.`).
    pub egress: OneWay,
    /// Where the random decisions begin; `None`: somewhere else each time.
    pub seed: Option<u64>,
}

/// Which directions a key is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ways {
    Both,
    Ingress,
    Egress,
}

impl Impairments {
    /// Makes impairments that change nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the impairments of both directions.
    #[must_use]
    pub fn both(self, way: OneWay) -> Self {
        Self { ingress: way.clone(), egress: way, ..self }
    }

    /// Sets the impairments from the peer to the bus.
    #[must_use]
    pub fn ingress(self, way: OneWay) -> Self {
        Self { ingress: way, ..self }
    }

    /// Sets the impairments from the bus to the peer.
    #[must_use]
    pub fn egress(self, way: OneWay) -> Self {
        Self { egress: way, ..self }
    }

    /// Sets where the random decisions begin. The same seed and the same traffic give the same
    /// decisions.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// Makes another seed of the seed, if there is one: links that share their impairments do not
    /// share their luck. The first link, with 0, keeps the seed as it is.
    #[must_use]
    pub fn vary_seed(self, link: u64) -> Self {
        Self { seed: self.seed.map(|seed| seed.wrapping_add(link)), ..self }
    }

    /// Returns whether frames pass as they are.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }

    /// Returns whether `key` is one of an impairment, such as `delay` or `in.loss`.
    #[must_use]
    pub fn is_key(key: &str) -> bool {
        let (ways, name) = split(key);
        KEYS.contains(&name) || ways == Ways::Both && name == SEED
    }

    /// Returns the keys that `key` replaces: `delay` is for both directions, and replaces
    /// `in.delay` and `out.delay`.
    #[must_use]
    pub fn replaced_by(key: &str) -> Vec<String> {
        match split(key) {
            (Ways::Both, name) if KEYS.contains(&name) => {
                vec![format!("in.{name}"), format!("out.{name}")]
            }
            _ => Vec::new(),
        }
    }

    /// Returns the keys that resemble `key`: those of its direction.
    pub(crate) fn keys_like(key: &str) -> Vec<String> {
        let prefix = &key[..key.len() - split(key).1.len()];
        let seed = prefix.is_empty().then(|| SEED.to_owned());
        KEYS.iter().map(|name| format!("{prefix}{name}")).chain(seed).collect()
    }

    /// Returns whether the value of `key` is a list, which commas may separate.
    pub(crate) fn is_list(key: &str) -> bool {
        LISTS.contains(&split(key).1)
    }

    /// Sets what one key names.
    ///
    /// # Errors
    /// [`ParsePortError`] when there is no such key, or it does not take this value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ParsePortError> {
        let refused = |problem: String| ParsePortError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            problem,
        };
        if !Self::is_key(key) {
            let hint = suggest::hint(key, Self::keys_like(key));
            return Err(ParsePortError::Impairment { key: key.to_owned(), hint });
        }
        let (ways, name) = split(key);
        if name == SEED {
            let seed = value
                .parse()
                .map_err(|_| refused(format!("it is a whole number from 0 to {}", u64::MAX)))?;
            self.seed = Some(seed);
            return Ok(());
        }
        if ways != Ways::Egress {
            self.ingress.set(name, value).map_err(refused)?;
        }
        if ways != Ways::Ingress {
            self.egress.set(name, value).map_err(refused)?;
        }
        Ok(())
    }

    /// Checks that the impairments go together.
    ///
    /// # Errors
    /// [`ParsePortError`] that names the one to change.
    pub fn check(&self) -> Result<(), ParsePortError> {
        for way in [&self.ingress, &self.egress] {
            if let Some((key, problem)) = way.contradiction() {
                let (key, value) = (key.to_owned(), way.get(key).unwrap_or_default());
                return Err(ParsePortError::Value { key, value, problem: problem.to_owned() });
            }
        }
        Ok(())
    }

    /// Takes pairs of keys and values, in any order: a key with a direction is stronger than one
    /// without.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub(crate) fn from_pairs<'t>(
        pairs: impl IntoIterator<Item = (&'t str, String)>,
    ) -> Result<Self, ParsePortError> {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        let place = |name| KEYS.iter().position(|known| *known == name);
        // A jitter is stronger than one that follows a delay.
        pairs.sort_by_key(|(key, _)| {
            let (ways, name) = split(key);
            (ways as u8, place(name))
        });
        let mut impairments = Self::default();
        for (key, value) in pairs {
            impairments.set(key, &value)?;
        }
        Ok(impairments)
    }
}

/// Splits the direction from a key.
fn split(key: &str) -> (Ways, &str) {
    if let Some(name) = key.strip_prefix("in.") {
        (Ways::Ingress, name)
    } else if let Some(name) = key.strip_prefix("out.") {
        (Ways::Egress, name)
    } else {
        (Ways::Both, key)
    }
}

/// Writes `key=value` with commas between; nothing when there is no impairment.
impl fmt::Display for Impairments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs = Vec::new();
        for key in KEYS {
            match (self.ingress.get(key), self.egress.get(key)) {
                (Some(ingress), Some(egress)) if ingress == egress => {
                    pairs.push(format!("{key}={ingress}"));
                }
                (ingress, egress) => {
                    pairs.extend(ingress.map(|value| format!("in.{key}={value}")));
                    pairs.extend(egress.map(|value| format!("out.{key}={value}")));
                }
            }
        }
        pairs.extend(self.seed.map(|seed| format!("{SEED}={seed}")));
        f.write_str(&pairs.join(","))
    }
}

impl FromStr for Impairments {
    type Err = ParsePortError;

    /// Parses `key=value` with commas between.
    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match (part.split_once('='), pairs.last_mut()) {
                (Some((key, value)), _) => {
                    if pairs.iter().any(|(known, _)| *known == key) {
                        return Err(ParsePortError::Twice(key.to_owned()));
                    }
                    pairs.push((key, value.to_owned()));
                }
                (None, Some((key, value))) if Self::is_list(key) => {
                    value.push('/');
                    value.push_str(part);
                }
                (None, _) => return Err(ParsePortError::NoValue(part.to_owned())),
            }
        }
        let impairments = Self::from_pairs(pairs)?;
        impairments.check()?;
        Ok(impairments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_impairments_read_back() {
        for (text, shown) in [
            ("", ""),
            ("delay=20ms", "delay=20ms"),
            ("delay=20ms/5ms,distribution=normal", "delay=20ms,jitter=5ms,distribution=normal"),
            ("jitter=1ms,delay=20ms/5ms", "delay=20ms,jitter=1ms"),
            ("in.loss=1%,out.loss=2%,seed=7", "in.loss=1%,out.loss=2%,seed=7"),
            ("in.delay=5ms,delay=20ms", "in.delay=5ms,out.delay=20ms"),
            ("in.delay=1s,out.delay=1s", "delay=1s"),
            ("loss-state=1%", "loss-state=1%/99%/0%/100%/0%"),
            ("loss-state=1%,10%,2,50%,.1%", "loss-state=1%/10%/2%/50%/0.1%"),
            ("gemodel=1%/10%/70%/0.1%", "gemodel=1%/10%/70%/0.1%"),
            ("gemodel=1% 10%", "gemodel=1%/10%/100%/0%"),
            ("corrupt=0.1%,duplicate=1%", "corrupt=0.1%,duplicate=1%"),
            ("delay=10ms,reorder=25%,gap=5", "delay=10ms,reorder=25%,gap=5"),
            ("rate=10mbit,overhead=-14,limit=50", "rate=10mbit,overhead=-14,limit=50"),
            ("flap=10s/2s,out.partition=on", "flap=10s/2s,out.partition=on"),
            ("delay=0,loss=0,rate=0,flap=0,gemodel=0,loss-state=0,partition=off", ""),
        ] {
            let impairments: Impairments = text.parse().expect(text);
            assert_eq!(impairments.to_string(), shown, "{text}");
            assert_eq!(shown.parse::<Impairments>().expect(shown), impairments);
        }
    }

    #[test]
    fn what_changes_nothing_is_none() {
        for text in
            ["", "limit=5", "gap=3", "distribution=pareto", "overhead=4", "seed=1", "loss=0"]
        {
            assert!(text.parse::<Impairments>().expect(text).is_none(), "{text}");
        }
        for text in ["in.delay=1us", "out.partition=on", "rate=1gbit", "flap=1s/1s", "corrupt=1"] {
            assert!(!text.parse::<Impairments>().expect(text).is_none(), "{text}");
        }
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        for (text, words) in [
            ("delya=20ms", "no impairment called 'delya' (did you mean 'delay'?)"),
            ("in.los=1%", "(did you mean 'in.loss'?)"),
            ("in.seed=1", "no impairment called 'in.seed'"),
            ("delay=20mss", "delay=20mss: it is a time up to an hour"),
            ("loss=101%", "loss=101%: it is a percentage from 0% to 100%"),
            ("loss=1%/25%", "a correlation is not possible"),
            ("rate=10mbti", "(did you mean 'mbit'?)"),
            ("distribution=norml", "(did you mean 'normal'?)"),
            ("partition=yes", "partition=yes: it is one of on, off"),
            ("loss-state=60%/1%/0/0/60%", "p13 and p14 lead out of one state"),
            ("gemodel=1/2/3/4/5", "p/r/1-h/1-k"),
            ("flap=10s", "it is UP/DOWN"),
            ("flap=10s/0", "it is UP/DOWN"),
            ("limit=0", "limit=0: it is a whole number from 1 to"),
            ("gap=0,delay=1ms,reorder=1%", "gap=0: it is a whole number from 1"),
            ("reorder=25%", "reorder=25%: such frames pass those that are delayed"),
            ("loss=1%,gemodel=1%", "one of loss, loss-state and gemodel"),
            ("seed=x", "seed=x: it is a whole number"),
            ("delay=1ms,delay=2ms", "'delay' is given twice"),
            ("delay", "'delay' is not key=value"),
        ] {
            let error = text.parse::<Impairments>().expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
