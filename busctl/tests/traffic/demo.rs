//! `busctl demo`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Lab, Running, read_pcap};

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn everybody_reaches_everybody_and_only_the_pcap_stays() {
    let lab = Lab::new();
    let report = lab.json("demo --json");
    let pings = report["pings"].as_array().unwrap();
    assert_eq!(pings.len(), 6);
    for ping in pings {
        assert_eq!(ping["sent"], ping["received"], "{ping}");
    }
    assert_eq!(report["pings_sent"], report["pings_answered"]);
    let pcap = Path::new(report["pcap"].as_str().unwrap());
    assert_eq!(report["frames_on_bus"].as_u64(), Some(read_pcap(pcap).len() as u64));
    assert_eq!(names(lab.folder.path()), [pcap.file_name().unwrap().to_str().unwrap()]);
}

/// The part of a running demo with this word on its command line.
fn part(demo: &mut Running, word: &str) -> Pid {
    loop {
        assert_eq!(demo.child.try_wait().unwrap(), None, "the demo is over");
        let children = format!("/proc/{0}/task/{0}/children", demo.child.id());
        // It may be just over.
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let found = children.split_whitespace().find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| {
                words.split(|byte| *byte == 0).any(|other| other == word.as_bytes())
            })
        });
        if let Some(pid) = found {
            return Pid::from_raw(pid.parse().unwrap());
        }
    }
}

/// What is in the folder beside captures.
fn left(folder: &Path) -> Vec<String> {
    let is_capture =
        |name: &String| Path::new(name).extension().is_some_and(|extension| extension == "pcap");
    names(folder).into_iter().filter(|name| !is_capture(name)).collect()
}

/// The error names the node that failed, and not the process that waited for it in vain.
#[test]
fn a_part_that_dies_is_named_and_takes_the_others_with_it() {
    for step in
        ["starting a node", "starting memif host A", "starting memif host B", "memif host A pings"]
    {
        let lab = Lab::new();
        let mut demo = lab.start("demo");
        let mut stderr = BufReader::new(demo.child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(step) {
            assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "{said}");
        }
        kill(part(&mut demo, "attach"), Signal::SIGKILL).unwrap();
        assert_eq!(demo.child.wait().unwrap().code(), Some(1));
        stderr.read_to_string(&mut said).unwrap();
        assert!(said.contains("the node has failed: signal: 9"), "{said}");
        assert_eq!(left(lab.folder.path()), [""; 0]);
    }
}

#[test]
fn a_demo_that_is_killed_leaves_nothing_but_its_pcap() {
    let lab = Lab::new();
    let mut demo = lab.start("demo");
    part(&mut demo, "host");
    demo.signal(Signal::SIGKILL);
    demo.child.wait().unwrap();
    // Its parts go one after the other.
    while !left(lab.folder.path()).is_empty() {}
}

#[test]
fn it_says_when_it_has_no_place_for_its_files() {
    let lab = Lab::new();
    let mut demo = lab.command("demo");
    demo.env("TMPDIR", lab.path("nowhere"));
    assert_cmd::Command::from(demo)
        .assert()
        .code(2)
        .stdout("")
        .stderr(predicates::str::contains("nowhere"));
}
