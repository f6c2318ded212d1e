//! Output that cannot be written, and the help.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::Lab;

/// Whatever the verb: who reads its output may have seen enough before the first line.
#[test]
fn a_closed_pipe_ends_every_verb_quietly() {
    let lab = Lab::new().with_interface_up();
    lab.prints("dump ./lan.bus -q -w empty.pcap");
    for words in [
        "--help",
        "--version",
        "dump --help",
        "create",
        "create --json",
        "linkstr shmif0",
        "show",
        "show --json",
        "show shmif0",
        "show ./lan.bus",
        "show -w 0.01",
        "show ./lan.bus -w 0.01 --json",
        "socket list",
        "dump ./lan.bus",
        "dump ./lan.bus -v",
        "dump ./lan.bus --json",
        "dump ./lan.bus -q -w -",
        "dump ./lan.bus -f",
        "replay empty.pcap ./lan.bus",
        "repair ./lan.bus",
        "bench bus --seconds 0.01",
        "bench bus --seconds 0.01 --json",
        "completions bash",
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_busctl"));
        command
            .current_dir(lab.path(""))
            .arg("--state")
            .arg(lab.path("state"))
            .args(words.split_whitespace());
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
        assert!(output.stderr.is_empty(), "{words}: {output:?}");
    }
}

#[test]
fn a_full_disk_is_said() {
    let lab = Lab::new().with_interface_up();
    for words in [
        "show",
        "show --json",
        "show ./lan.bus",
        "--help",
        "--version",
        "help dump",
        "dump --help",
        "create",
        "socket list",
        "dump ./lan.bus",
        "dump ./lan.bus -q -w -",
        "completions bash",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_busctl"))
            .current_dir(lab.path(""))
            .arg("--state")
            .arg(lab.path("state"))
            .args(words.split_whitespace())
            .stdout(File::options().write(true).open("/dev/full").unwrap())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}");
        let line = String::from_utf8(output.stderr).unwrap();
        let expected = "busctl: cannot write to stdout: No space left on device\n";
        assert_eq!(line, expected, "{words}");
    }
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
    lab.refuses("dumb", "'dump'");
    lab.refuses("dump ./lan.bus --folow", "'--follow'");
    lab.refuses("create shmf0", "did you mean 'shmif'?");
    lab.refuses("create shmif0 promsic=on", "did you mean 'promisc'?");
    lab.refuses("attach ./lan.bus memfi:id=0", "did you mean 'memif'?");
    lab.refuses("", "requires a subcommand");
}

/// Also where clap does not say which verb it is about.
#[test]
fn a_mistake_points_to_the_help_of_its_verb() {
    let lab = Lab::new();
    lab.refuses("up eth0", "see 'busctl up --help'");
    lab.refuses(
        "socket del x",
        "a socket's number is from 0 to 4294967295; see 'busctl socket del --help'",
    );
    lab.refuses("up shmif", "'shmif' is no interface's name: names are");
}

#[test]
fn who_misses_a_bus_is_told_how_to_make_one() {
    let lab = Lab::new();
    lab.refuses("show ./lan.bus", "no such file or directory; 'busctl linkstr', 'busctl host' and");
    lab.refuses(
        "show ./nowhere/lan.bus",
        "no such file or directory; there is no folder ./nowhere",
    );
}
