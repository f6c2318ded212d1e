//! `pcap:key=value,...` as it is written.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::keys::{Keys, refused};
use crate::parse::ParsePortError;

const KEYS: [&str; 5] = ["in", "out", "file", "pps", "learn"];

/// Captures as a port: one that is played, one that is written, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcapSpec {
    /// What is played onto the bus.
    pub input: Option<Place>,
    /// Where what is on the bus is written, as pcapng when its name ends in that, else as pcap. It is begun anew.
    pub output: Option<Place>,
    /// Whether what is to be written must not be there yet.
    pub new: bool,
    /// How many frames are played in a second; as fast as the bus takes them when this is none.
    pub pps: Option<u64>,
    /// Whether only what is not known to be for others is written.
    pub learn: bool,
}

/// Where a capture is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Standard input or output.
    Standard,
    /// A file or a named pipe.
    Path(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => formatter.write_str("-"),
            Self::Path(path) => path.display().fmt(formatter),
        }
    }
}

impl Place {
    fn read(key: &str, text: &str) -> Result<Self, ParsePortError> {
        match text {
            "" => Err(refused(key, text, &"it is the name of a file, or - for a pipe")),
            "-" => Ok(Self::Standard),
            path => Ok(Self::Path(Path::new(path).to_owned())),
        }
    }
}

impl FromStr for PcapSpec {
    type Err = ParsePortError;

    /// Reads what follows `pcap:`.
    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        let keys = Keys::parse("pcap", &KEYS, text)?;
        let place = |key| keys.get(key).map(|text| Place::read(key, text)).transpose();
        let (input, output, file) = (place("in")?, place("out")?, place("file")?);
        let new = file.is_some();
        if file == Some(Place::Standard) {
            return Err(refused("file", "-", &"say in=- for standard input, out=- for standard output"));
        }
        if let (Some(file), Some(_)) = (&file, &output) {
            return Err(refused("file", &file.to_string(), &"out= is given, too, and they mean the same"));
        }
        let output = output.or(file);
        if input.is_none() && output.is_none() {
            return Err(ParsePortError::Missing {
                kind: "pcap",
                what: "in=FILE, which is played, or out=FILE, which is written",
            });
        }
        let pps = match keys.number("pps", 0, 1..=u64::MAX)? {
            0 => None,
            pps => Some(pps),
        };
        if pps.is_some() && input.is_none() {
            return Err(refused(
                "pps",
                keys.get("pps").unwrap_or_default(),
                &"it is a pace for in=, which is not given",
            ));
        }
        Ok(Self { input, output, new, pps, learn: keys.learn()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PcapSpec, String> {
        text.parse().map_err(|error: ParsePortError| error.to_string())
    }

    #[test]
    fn each_key_says_its_direction() {
        let path = |path: &str| Some(Place::Path(path.into()));
        let spec = parse("in=a.pcap,out=-,pps=10").expect("valid");
        assert_eq!((spec.input, spec.output, spec.pps), (path("a.pcap"), Some(Place::Standard), Some(10)));
        let spec = parse("file=b.pcap").expect("valid");
        assert_eq!((spec.input, spec.output, spec.new), (None, path("b.pcap"), true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("", "a pcap port needs in=FILE, which is played, or out=FILE"),
            ("b.pcap", "'b.pcap' is not key=value"),
            ("fiel=b", "a pcap port has no key 'fiel' (did you mean 'file'?)"),
            ("file=-", "say in=- for standard input, out=- for standard output"),
            ("file=a,out=b", "file=a: out= is given, too"),
            ("in=", "in=: it is the name of a file"),
            ("in=a,pps=0", "pps=0: it is a number from 1"),
            ("out=a,pps=5", "it is a pace for in="),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
