//! Verbs that run in the background: `--detach`.
//!
//! The process that the user starts claims a name, starts this program again, and waits until that
//! one is ready or has failed. Both keep their files in the state folder:
//!
//! ```text
//! STATE/detached/NAME    what runs: locked while the process lives
//! STATE/logs/NAME.log    what it prints; NAME.log.1 is what came before
//! ```
//!
//! The record is locked before the new process exists, and that process inherits the lock. So it is
//! never unlocked while the process lives, and the kernel unlocks it however the process ends.

mod child;
mod log;
mod name;
mod record;
mod start;

pub(crate) use child::Detached;
pub(crate) use log::drain as drain_log;
pub(crate) use name::DetachedName;
pub(crate) use record::{Records, Running};
pub(crate) use start::start;

use std::path::Path;
use std::str::FromStr;

/// The flag `--detach`, to be flattened into a verb's own.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Detach {
    /// Run in the background: return when it is ready, and print its NAME, for 'busctl stop' and
    /// 'busctl list' [default: the verb and the bus]
    #[arg(short = 'd', long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    detach: Option<Choice>,
}

/// The name of a detached process as the user wants it.
#[derive(Debug, Clone)]
enum Choice {
    /// One that says what it does.
    Default,
    Name(DetachedName),
}

/// What is to run detached.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The verb.
    verb: &'static str,
    /// The bus as it was typed, if the verb has one.
    bus: Option<String>,
    /// The name that the user chose.
    name: Option<DetachedName>,
    /// Whether the user reads JSON.
    json: bool,
}

impl Detach {
    /// Returns the request for `verb` on `bus`, a path or another word, if the flag was given.
    pub(crate) fn request(&self, verb: &'static str, bus: Option<String>) -> Option<Request> {
        let name = match self.detach.clone()? {
            Choice::Default => None,
            Choice::Name(name) => Some(name),
        };
        Some(Request { verb, bus, name, json: false })
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(Self::Default) } else { text.parse().map(Self::Name) }
    }
}

impl Request {
    /// Sets whether what is printed is JSON.
    pub(crate) fn json(self, json: bool) -> Self {
        Self { json, ..self }
    }

    /// Returns the name to begin with when the user chose none: the verb and the bus.
    fn default_name(&self) -> DetachedName {
        let bus = self.bus.as_deref().map(|bus| match Path::new(bus).file_stem() {
            // A path has no name to speak of when it ends with `..`.
            Some(stem) if bus.starts_with(['/', '.']) => stem.to_string_lossy().into_owned(),
            _ => bus.to_owned(),
        });
        DetachedName::derived(self.verb, bus.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default_name(verb: &'static str, bus: Option<&str>) -> String {
        let detach = Detach { detach: Some(Choice::Default) };
        let request = detach.request(verb, bus.map(str::to_owned)).expect("it was asked for");
        request.default_name().to_string()
    }

    #[test]
    fn the_default_name_is_the_verb_and_the_bus() {
        assert_eq!(default_name("node", None), "node");
        assert_eq!(default_name("host", Some("/dev/shm/lan.bus")), "host-lan");
        assert_eq!(default_name("attach", Some("shmif0")), "attach-shmif0");
        assert_eq!(default_name("attach", Some("memif0/1")), "attach-memif0-1");
        assert_eq!(default_name("host", Some("/tmp/Büro LAN")), "host-B-ro-LAN");
    }
}
