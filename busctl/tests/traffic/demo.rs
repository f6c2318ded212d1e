//! `busctl demo`.

use std::path::Path;

use crate::{Lab, read_pcap};

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

#[test]
fn a_part_that_dies_is_named_and_takes_the_others_with_it() {
    let lab = Lab::new();
    let demo = lab.start("demo");
    // The node is the process that has the sockets.
    let node = loop {
        let children = format!("/proc/{0}/task/{0}/children", demo.child.id());
        let children = std::fs::read_to_string(children).unwrap();
        let attached = children.split_whitespace().find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|words| words.windows(6).any(|w| w == b"attach"))
        });
        if let Some(pid) = attached {
            break pid.parse().unwrap();
        }
    };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(node), nix::sys::signal::Signal::SIGKILL).unwrap();
    let mut demo = demo;
    assert_eq!(demo.child.wait().unwrap().code(), Some(1));
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut demo.child.stderr.take().unwrap(), &mut stderr).unwrap();
    assert!(stderr.contains("the node has failed: signal: 9"), "{stderr}");
    let left: Vec<_> = names(lab.folder.path())
        .into_iter()
        .filter(|name| Path::new(name).extension().is_none_or(|extension| extension != "pcap"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn it_says_when_it_has_no_place_for_its_files() {
    let lab = Lab::new();
    let mut demo = lab.command("demo");
    demo.env("TMPDIR", lab.path("nowhere"));
    assert_cmd::Command::from(demo).assert().code(2).stdout("").stderr(predicates::str::contains("nowhere"));
}
