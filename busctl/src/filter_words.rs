//! FILTER on the command line: words in the language of `tcpdump`, or a file of them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use capture::{Filter, LinkType};

use crate::bus_argument::BusArgument;
use crate::misuse::{OrMisuse as _, misuse};

/// Splits words into the buses that come first and the filter behind them.
///
/// A bus is the name of an interface or a path. The filter may begin with a network, or be one word
/// with spaces and networks in it: these have a `/`, too.
pub(crate) fn split(words: &[OsString]) -> (Vec<BusArgument>, &[OsString]) {
    let is_bus = |word: &OsString| is_interface(word) || is_path(word);
    let count = words.iter().take_while(|word| is_bus(word)).count();
    let (buses, filter) = words.split_at(count);
    (buses.iter().filter_map(|word| BusArgument::try_from(word.clone()).ok()).collect(), filter)
}

fn is_interface(word: &OsStr) -> bool {
    matches!(BusArgument::try_from(word.to_owned()), Ok(BusArgument::Interface(_)))
}

fn is_path(word: &OsStr) -> bool {
    let text = word.to_string_lossy();
    let is_network = || text.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':' || c == '(');
    text.contains('/')
        && (text.starts_with(['/', '.', '~'])
            || Path::new(word).exists()
            || !(text.contains([' ', '(', '!']) || is_network() && is_prefix(&text)))
}

/// Returns whether a text is `ADDRESS/LENGTH`, where the address may be cut: `10/8`.
fn is_prefix(text: &str) -> bool {
    let is_address = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit() || ".:".contains(c));
    text.split_once('/').is_some_and(|(address, length)| {
        is_address(address) && length.chars().all(|c| c.is_ascii_digit())
    })
}

/// Compiles the filter for frames of a link type that words make, joined as `tcpdump` joins them, or
/// that `file` holds: there `#` begins a comment. Returns `None` when there is neither.
///
/// # Errors
/// When both are given, the file cannot be read, or the filter is wrong.
pub(crate) fn compile(
    words: &[OsString],
    file: Option<&PathBuf>,
    link: LinkType,
) -> anyhow::Result<Option<Filter>> {
    if let Some(word) = words.first()
        && word.to_string_lossy().contains('.')
        && Path::new(word).is_file()
    {
        // A bus without its folder is not the name of a host.
        BusArgument::try_from(word.clone())
            .map_err(|error| anyhow!("'{}': {error}", word.display()))
            .misuse()?;
    }
    let expression = match (words, file) {
        ([], None) => return Ok(None),
        ([], Some(file)) => {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read the filter in {}", file.display()))
                .misuse()?;
            let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
            lines.collect::<Vec<_>>().join(" ")
        }
        (words, None) => {
            let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
            words.join(" ")
        }
        (_, Some(_)) => {
            return Err(misuse(anyhow!("a filter is given in words and by -F: use one of them")));
        }
    };
    Ok(Some(Filter::compile_for(link, &expression)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buses_come_before_the_filter() {
        let check = |words: &[&str], count: usize| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let (buses, filter) = split(&words);
            assert_eq!((buses.len(), filter.len()), (count, words.len() - count), "{words:?}");
        };
        check(&[], 0);
        check(&["./two.bus", "tcp", "port", "80"], 1);
        check(&["memif0/1", "shmif0", "lans/two.bus", "net", "10.0.0.0/8"], 3);
        check(&["net 10.0.0.0/8 and tcp"], 0);
        check(&["10.0.0.0/8"], 0);
        check(&["10/8"], 0);
        check(&["fd00::/8"], 0);
        check(&["(net", "10.0.0.0/8)"], 0);
        check(&["arp"], 0);
    }
}
