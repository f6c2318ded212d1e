//! The syntax of a capture port, `pcap:key=value,...`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use capture::Filter;

use crate::error::ParsePortError;
use crate::frame_rules::FrameRules;
use crate::impair::Impairments;
use crate::keys::{Keys, refused};

const KEYS: [&str; 5] = ["in", "out", "file", "pps", "filter"];

/// Captures as a port: one to play, one to write, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PcapSpec {
    /// The capture that is played onto the bus.
    pub(crate) input: Option<Place>,
    /// The capture that is written from the bus: pcapng when its name ends in that, else pcap. An
    /// existing file is overwritten.
    pub(crate) output: Option<Place>,
    /// Whether the capture to write must not exist yet.
    pub(crate) new: bool,
    /// The frames played in a second; `None`: as fast as the bus takes them.
    pub(crate) pps: Option<u64>,
    /// Which frames are played and written; `None`: all.
    pub(crate) filter: Option<Filter>,
    /// Whether frames to addresses known on the bus are left out of the capture.
    pub(crate) learn: bool,
    /// Which frames pass to and from the bus.
    pub(crate) rules: FrameRules,
    /// What its link does to frames on purpose.
    pub(crate) impairments: Impairments,
}

/// Where a capture is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
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
    fn parse(key: &str, text: &str) -> Result<Self, ParsePortError> {
        match text {
            "" => Err(refused(key, text, &"it is the name of a file, or - for a pipe")),
            "-" => Ok(Self::Standard),
            path => Ok(Self::Path(Path::new(path).to_owned())),
        }
    }
}

impl FromStr for PcapSpec {
    type Err = ParsePortError;

    /// Parses what follows `pcap:`.
    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        let keys = Keys::parse("pcap", &KEYS, text)?;
        let place = |key| keys.get(key).map(|text| Place::parse(key, text)).transpose();
        let (input, output, file) = (place("in")?, place("out")?, place("file")?);
        let new = file.is_some();
        if file == Some(Place::Standard) {
            return Err(refused(
                "file",
                "-",
                &"say in=- for standard input, out=- for standard output",
            ));
        }
        if let (Some(file), Some(_)) = (&file, &output) {
            return Err(refused(
                "file",
                &file.to_string(),
                &"out= is given, too, and they mean the same",
            ));
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
        let filter = keys.get("filter").map(parse_filter).transpose()?;
        let (learn, rules) = (keys.learn()?, keys.frame_rules()?);
        let impairments = keys.impairments()?;
        Ok(Self { input, output, new, pps, filter, learn, rules, impairments })
    }
}

/// Compiles a filter, which may be in quotes.
fn parse_filter(text: &str) -> Result<Filter, ParsePortError> {
    let in_quotes = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    let expression = in_quotes('"').or_else(|| in_quotes('\'')).unwrap_or(text);
    Filter::compile(expression).map_err(|error| refused("filter", text, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PcapSpec, String> {
        text.parse().map_err(|error: ParsePortError| error.to_string())
    }

    #[test]
    fn each_key_has_a_direction() {
        let path = |path: &str| Some(Place::Path(path.into()));
        let spec = parse("in=a.pcap,out=-,pps=10").expect("valid");
        assert_eq!(
            (spec.input, spec.output, spec.pps),
            (path("a.pcap"), Some(Place::Standard), Some(10))
        );
        let spec = parse("file=b.pcap").expect("valid");
        assert_eq!((spec.input, spec.output, spec.new), (None, path("b.pcap"), true));
    }

    #[test]
    fn an_error_names_what_is_wrong() {
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
