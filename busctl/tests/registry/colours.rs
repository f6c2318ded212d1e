//! Colours are for people at a terminal.

use std::process::Command;

use crate::{Lab, terminal};

/// The program on a terminal that can show colours.
fn at_a_terminal(lab: &Lab, words: &str, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_busctl"));
    command.env_clear().envs(environment.iter().copied()).current_dir(lab.path(""));
    command.arg("--state").arg(lab.path("state")).args(words.split_whitespace());
    terminal::run(&mut command).1
}

/// What the program prints on the bus, as an interface and as a mistake.
const WORDS: [&str; 6] =
    ["show shmif0", "show ./lan.bus", "dump ./lan.bus", "dump ./lan.bus -v", "show shmif7", "shwo"];

#[test]
fn a_terminal_shows_colours_and_the_same_words() {
    let lab = Lab::new().with_interface_up();
    for words in WORDS {
        let shown = at_a_terminal(&lab, words, &[]);
        assert!(shown.contains('\u{1b}'), "{words}: {shown:?}");
        let plain = at_a_terminal(&lab, words, &[("NO_COLOR", "1")]);
        assert!(!plain.contains('\u{1b}'), "{words}: {plain:?}");
        assert_eq!(without_escapes(&shown), plain, "{words}");
    }
    let shown = at_a_terminal(&lab, "show shmif0", &[]);
    assert!(shown.contains("link \u{1b}[32mup\u{1b}[0m"), "{shown:?}");
    let shown = at_a_terminal(&lab, "show shmif7", &[]);
    assert!(shown.starts_with("\u{1b}[1m\u{1b}[31mbusctl:\u{1b}[0m there is no"), "{shown:?}");
}

#[test]
fn programs_get_no_colours() {
    let lab = Lab::new().with_interface_up();
    for words in
        ["show shmif0 --json", "show --json", "show ./lan.bus --json", "dump ./lan.bus --json"]
    {
        let shown = at_a_terminal(&lab, words, &[]);
        assert!(!shown.contains('\u{1b}'), "{words}: {shown:?}");
    }
    for words in WORDS {
        let mut command = lab.busctl(words);
        let output =
            command.env("TERM", "xterm").env("CLICOLOR_FORCE", "1").assert().get_output().clone();
        assert!(![output.stdout, output.stderr].concat().contains(&0x1b), "{words}");
    }
}

fn without_escapes(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or(part, |(_, rest)| rest))
}
