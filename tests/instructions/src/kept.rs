//! The counts that are kept in the tree, for each architecture.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

/// How far a count may be from the kept one, in percent of that.
pub(crate) const TOLERANCE: u64 = 15;

/// The first lines of the file.
const HEAD: &str = "\
# Instructions of the data path for one burst: see main.rs. Lines are made by
# cargo run --release -p instruction-counts -- --write
";

/// What one burst of a scenario takes.
pub(crate) struct Count {
    pub(crate) name: String,
    pub(crate) instructions: u64,
}

/// What a count is beside the kept one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    New,
    Same,
    Faster,
    Slower,
}

impl Verdict {
    pub(crate) fn of(now: u64, kept: Option<u64>) -> Self {
        let Some(kept) = kept else { return Self::New };
        // In percent of the kept one, without rounding.
        if now * 100 > kept * (100 + TOLERANCE) {
            Self::Slower
        } else if now * 100 < kept * (100 - TOLERANCE) {
            Self::Faster
        } else {
            Self::Same
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Same => "",
            Self::Faster => "fewer",
            Self::Slower => "MORE",
        })
    }
}

/// The file: `ARCHITECTURE NAME INSTRUCTIONS` in each line, and a line `ARCHITECTURE: COMPILER` for
/// each architecture.
pub(crate) struct Kept {
    compilers: BTreeMap<String, String>,
    counts: BTreeMap<(String, String), u64>,
}

impl Kept {
    fn path() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/counts.txt"))
    }

    pub(crate) fn read() -> anyhow::Result<Self> {
        let path = Self::path();
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut kept = Self { compilers: BTreeMap::new(), counts: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            if let Some((architecture, compiler)) = line.split_once(": ") {
                kept.compilers.insert(architecture.to_owned(), compiler.to_owned());
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let [architecture, name, instructions] = words[..] else {
                anyhow::bail!("not an architecture, a name and a count: {line}");
            };
            let instructions = instructions.parse().with_context(|| format!("no count: {line}"))?;
            kept.counts.insert((architecture.to_owned(), name.to_owned()), instructions);
        }
        Ok(kept)
    }

    /// Whether there is none for this architecture.
    pub(crate) fn is_empty(&self) -> bool {
        !self.counts.keys().any(|(architecture, _)| architecture == std::env::consts::ARCH)
    }

    /// Returns the compiler that made the counts of this architecture.
    pub(crate) fn compiler(&self) -> Option<&str> {
        self.compilers.get(std::env::consts::ARCH).map(String::as_str)
    }

    /// Returns the count of a scenario on this architecture.
    pub(crate) fn get(&self, name: &str) -> Option<u64> {
        self.counts.get(&(std::env::consts::ARCH.to_owned(), name.to_owned())).copied()
    }

    /// Writes the file with other counts for this architecture, made by `compiler`.
    pub(crate) fn replace(mut self, counts: &[Count], compiler: String) -> anyhow::Result<()> {
        let here = std::env::consts::ARCH;
        self.counts.retain(|(architecture, _), _| architecture != here);
        for count in counts {
            self.counts.insert((here.to_owned(), count.name.clone()), count.instructions);
        }
        self.compilers.insert(here.to_owned(), compiler);
        let mut text = HEAD.to_owned();
        for (architecture, compiler) in &self.compilers {
            writeln!(text, "{architecture}: {compiler}")?;
        }
        for ((architecture, name), instructions) in &self.counts {
            writeln!(text, "{architecture} {name} {instructions}")?;
        }
        let path = Self::path();
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_far_above_is_a_slowdown() {
        assert_eq!(Verdict::of(1_151, Some(1_000)), Verdict::Slower);
        assert_eq!(Verdict::of(1_150, Some(1_000)), Verdict::Same);
        assert_eq!(Verdict::of(850, Some(1_000)), Verdict::Same);
        assert_eq!(Verdict::of(849, Some(1_000)), Verdict::Faster);
        assert_eq!(Verdict::of(1, None), Verdict::New);
    }

    #[test]
    fn the_file_is_sound() {
        Kept::read().expect("counts");
        for damaged in ["x86_64 bus-send-1", "x86_64 bus-send-1 many", "x86_64 bus send 1 5"] {
            assert!(Kept::parse(damaged).is_err(), "{damaged}");
        }
    }
}
