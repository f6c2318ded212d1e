//! Output that cannot be written, and the help.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::Lab;

#[test]
fn a_closed_pipe_ends_quietly() {
    let lab = Lab::new();
    lab.prints("create");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_busctl"))
        .arg("--state")
        .arg(lab.path("state"))
        .arg("show")
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_full_disk_is_said() {
    let lab = Lab::new();
    lab.prints("create");
    let output = Command::new(env!("CARGO_BIN_EXE_busctl"))
        .arg("--state")
        .arg(lab.path("state"))
        .arg("show")
        .stdout(File::options().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.contains("cannot write to stdout: No space left on device"), "{line}");
}

#[test]
fn every_verb_has_help_with_an_example() {
    let lab = Lab::new();
    let verbs = lab.verbs();
    assert!(verbs.len() >= 7, "{verbs:?}");
    for verb in verbs {
        let help = lab.prints(&format!("{verb} --help"));
        assert!(help.contains(&format!("busctl {verb}")) && help.contains("Examples:"), "{help}");
    }
}

#[test]
fn an_unknown_verb_or_flag_gets_a_suggestion() {
    let lab = Lab::new();
    lab.refuses("creat", "'create'");
    lab.refuses("show --jsn", "'--json'");
    lab.refuses("", "requires a subcommand");
}
