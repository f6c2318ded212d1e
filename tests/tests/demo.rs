//! The README's first command runs everything at once, unprivileged, and leaves nothing but the
//! pcap.

use std::path::{Path, PathBuf};

use system_tests::process::Stream;
use system_tests::{CpuLock, Finished, Lab, WAIT_TIMEOUT, frames, lab};

fn demo(lab: &Lab, args: &[&str]) -> Finished {
    lab.run(["demo"].iter().chain(args))
}

/// Returns everything in the lab except its own folders.
fn left_in(lab: &Lab) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for name in Lab::list(folder) {
            let path = folder.join(name);
            if path.is_dir() && !path.is_symlink() {
                walk(&path, found);
            }
            found.push(path);
        }
    }
    let mut found = Vec::new();
    walk(&lab.path(""), &mut found);
    let own = [lab.tmp(), lab.runtime(), lab.state(), lab.path("busctl")];
    found.retain(|path| !own.contains(path));
    found
}

/// The pcap of a demo, which chooses its place. It is removed with the test.
struct Pcap(PathBuf);

impl Drop for Pcap {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        // This removes the folder only if it is empty.
        let _ = self.0.parent().map(std::fs::remove_dir);
    }
}

#[test]
fn the_demo_succeeds_without_privileges_and_leaves_nothing_but_the_pcap() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let run = demo(&lab, &["--json"]);
    let report = run.json();
    let pcap = Pcap(PathBuf::from(report["pcap"].as_str().expect("the pcap's path")));
    let sent = report["pings_sent"].as_u64().expect("pings_sent");
    assert!(sent >= 6, "three hosts ping each other: {run}");
    assert_eq!(report["pings_answered"].as_u64(), Some(sent), "{run}");

    let frames = frames::read_pcap(&pcap.0);
    assert_eq!(
        report["frames_on_bus"].as_u64(),
        Some(frames.len() as u64),
        "the pcap has all of it: {run}"
    );
    assert!(
        frames.len() as u64 >= 2 * sent,
        "each ping is a request and an answer: {}",
        frames.len()
    );

    let own = |path: &PathBuf| *path != pcap.0 && !pcap.0.starts_with(path);
    let left: Vec<_> = left_in(&lab).into_iter().filter(own).collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
    let beside = Lab::list(pcap.0.parent().expect("a folder"));
    let shared = [std::env::temp_dir(), PathBuf::from("/dev/shm"), lab.tmp()]
        .contains(&pcap.0.parent().unwrap().into());
    assert!(shared || beside.len() == 1, "beside the pcap: {beside:?}");
}

#[test]
fn the_demo_prints_who_reached_whom_and_where_the_pcap_is() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let run = demo(&lab, &[]);
    let table = run.succeeds();
    let path = table
        .split_whitespace()
        .find(|word| word.contains(".pcap"))
        .unwrap_or_else(|| panic!("{run}"));
    let path = Pcap(PathBuf::from(path.trim_end_matches(['.', ',', ':', ')'])));
    assert!(path.0.is_file(), "{}", path.0.display());
    assert!(
        table.contains("ms") || table.contains("us") || table.contains("µs"),
        "round-trip times: {run}"
    );
}

#[test]
fn two_demos_at_once_do_not_disturb_each_other() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let demos = [lab.spawn(["demo", "--json"]), lab.spawn(["demo", "--json"])];
    let reports = demos.map(|demo| demo.finish(2 * WAIT_TIMEOUT).json());
    let pcaps = reports
        .each_ref()
        .map(|report| Pcap(PathBuf::from(report["pcap"].as_str().expect("a path"))));
    assert_ne!(pcaps[0].0, pcaps[1].0);
    for report in &reports {
        assert_eq!(report["pings_sent"], report["pings_answered"], "{report}");
    }
}

#[test]
fn an_interrupted_demo_leaves_no_process_and_no_socket() {
    let lab = lab!();
    let run = lab.spawn(["demo"]);
    // It reports its progress while it runs.
    run.wait_for(0, WAIT_TIMEOUT, "a sign of progress", |line| {
        matches!(line.stream, Stream::Out | Stream::Err)
    });
    let _ = run.interrupt();
    let left: Vec<_> = left_in(&lab)
        .into_iter()
        .filter(|path| {
            !path.is_dir() && path.extension().is_none_or(|extension| extension != "pcap")
        })
        .collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
    // The lab asserts on drop that no process is left.
}
