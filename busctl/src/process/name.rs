//! The program's two names. `busctl` is its own; packages install it as `shmbusctl`, because systemd
//! has a program of the first name.
//!
//! Texts for people are written with `busctl`, in the libraries, too. Where they leave the program
//! they pass through [`renamed`], which puts the name in its place that the user typed.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::LazyLock;

/// The name in all texts.
pub(crate) const OWN: &str = "busctl";
/// The name that packages install.
pub(crate) const PACKAGED: &str = "shmbusctl";
/// Both.
pub(crate) const NAMES: [&str; 2] = [OWN, PACKAGED];
/// The end of the names of the link by which Wireshark calls the program.
pub(crate) const EXTCAP: &str = "-extcap";

/// Returns the name that this process was called by.
#[must_use]
pub(crate) fn program() -> &'static str {
    static NAME: LazyLock<&str> =
        LazyLock::new(|| std::env::args_os().next().map_or(OWN, |program| name_of(&program)));
    *NAME
}

/// Returns which of the two names a path has. A copy or a link of any other name is `busctl`.
fn name_of(program: &OsStr) -> &'static str {
    let file = Path::new(program).file_name().and_then(OsStr::to_str).unwrap_or_default();
    if file.strip_suffix(EXTCAP).unwrap_or(file) == PACKAGED { PACKAGED } else { OWN }
}

/// Returns a text for people with the name of this process.
pub(crate) fn renamed(text: &str) -> Cow<'_, str> {
    with_name(text, program())
}

/// Returns `text` with `name` wherever `busctl` is a word of its own. In a path, a file name or a
/// setting it stays.
pub(crate) fn with_name<'t>(text: &'t str, name: &str) -> Cow<'t, str> {
    if name == OWN || !text.contains(OWN) {
        return Cow::Borrowed(text);
    }
    let mut result = String::with_capacity(text.len() + PACKAGED.len());
    let mut rest = text;
    while let Some(at) = rest.find(OWN) {
        let (before, behind) = (&rest[..at], &rest[at + OWN.len()..]);
        result.push_str(before);
        result.push_str(if is_word(&result, behind) { name } else { OWN });
        rest = behind;
    }
    result.push_str(rest);
    Cow::Owned(result)
}

/// Returns whether a word is what stands between these two.
fn is_word(before: &str, behind: &str) -> bool {
    let edge = |c: char| c.is_whitespace() || "'\"`();:,".contains(c);
    before.chars().next_back().is_none_or(edge) && behind.chars().next().is_none_or(edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_one_that_was_called() {
        for (program, name) in [
            ("busctl", OWN),
            ("/usr/bin/shmbusctl", PACKAGED),
            ("shmbusctl", PACKAGED),
            ("/usr/lib/wireshark/extcap/shmbusctl-extcap", PACKAGED),
            ("/home/ann/extcap/busctl-extcap", OWN),
            ("/opt/shmbusctl/lan", OWN),
            ("", OWN),
        ] {
            assert_eq!(name_of(OsStr::new(program)), name, "{program}");
        }
    }

    #[test]
    fn words_get_the_name_and_paths_keep_theirs() {
        for (text, renamed) in [
            ("busctl", "shmbusctl"),
            ("no process runs it; 'busctl node' does", "no process runs it; 'shmbusctl node' does"),
            ("jq \"$(busctl list)\" && busctl top", "jq \"$(shmbusctl list)\" && shmbusctl top"),
            (
                "$XDG_RUNTIME_DIR/busctl, /tmp/busctl-ann",
                "$XDG_RUNTIME_DIR/busctl, /tmp/busctl-ann",
            ),
            ("memif=debug,busctl=info", "memif=debug,busctl=info"),
            ("shmbusctl and mybusctl x", "shmbusctl and mybusctl x"),
            ("busctl busctl\nbusctl", "shmbusctl shmbusctl\nshmbusctl"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(with_name(text, PACKAGED), renamed);
            assert_eq!(with_name(text, OWN), text);
        }
    }
}
