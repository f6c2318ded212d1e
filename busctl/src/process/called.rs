//! What this process was called as, for lists of programs.

use std::ffi::OsString;
use std::path::Path;

use shmbus::MAX_MEMBER_NAME;

/// Returns the program with its verb and the argument that is a path, such as `busctl host
/// ./lan.bus`.
pub(crate) fn called_as() -> String {
    words(std::env::args_os())
}

fn words(mut arguments: impl Iterator<Item = OsString>) -> String {
    let program = arguments.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
    let mut words = arguments.map(|word| word.to_string_lossy().into_owned());
    let mut verb = None;
    while let Some(word) = words.next() {
        if word == "--state" {
            words.next();
        } else if !word.starts_with('-') {
            verb = Some(word);
            break;
        }
    }
    let Some(verb) = verb else { return program.into_owned() };
    let subject = words.take_while(|word| word != "--").find(|word| is_subject(word));
    let Some(subject) = subject else { return format!("{program} {verb}") };
    let name = format!("{program} {verb} {subject}");
    if name.chars().count() <= MAX_MEMBER_NAME {
        return name;
    }
    let last = Path::new(&subject).file_name().unwrap_or_default().to_string_lossy();
    format!("{program} {verb} .../{last}")
}

/// Returns whether a word is a path or the name of an interface.
fn is_subject(word: &str) -> bool {
    !word.starts_with('-') && (word.contains('/') || word.ends_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_with_its_verb_and_argument() {
        let long = format!("/tmp/{}/lan.bus", "x".repeat(80));
        for (line, name) in [
            ("/bin/busctl host ./lan 10.0.0.1/24", "busctl host ./lan"),
            ("busctl --state /s -v ping shmif0 10.0.0.1", "busctl ping shmif0"),
            ("busctl --state=/s host --dhcp ./lan", "busctl host ./lan"),
            ("busctl node", "busctl node"),
            ("busctl", "busctl"),
            ("busctl run -- ls /", "busctl run"),
            (&format!("busctl host {long}"), "busctl host .../lan.bus"),
        ] {
            assert_eq!(words(line.split(' ').map(OsString::from)), name);
        }
    }
}
