//! Paths that are no usable bus. Every verb refuses them with one line that names the cause, ends
//! with 2, and changes nothing on disk.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use system_tests::reference::{FILE_SIZE, MAGIC, RumpPeer};
use system_tests::{Lab, frames, lab, port, privilege};

/// Everything about a file that a program could have changed.
#[derive(Debug, PartialEq, Eq)]
struct Fingerprint {
    content: Option<Vec<u8>>,
    size: u64,
    blocks: u64,
    mode: u32,
    modified: (i64, i64),
}

impl Fingerprint {
    fn of(path: &Path) -> Self {
        let meta = std::fs::symlink_metadata(path)
            .unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        Self {
            content: std::fs::read(path).ok(),
            size: meta.size(),
            blocks: meta.blocks(),
            mode: meta.mode(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// Returns every path below `folder`, so that a created file is noticed, too.
fn everything_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in Lab::list(folder) {
        let path = folder.join(name);
        if path.is_dir() {
            found.extend(everything_in(&path));
        }
        found.push(path);
    }
    found
}

/// Returns a command line for each verb that uses a bus, with `bus` in its place.
fn verbs(lab: &Lab, bus: &str) -> Vec<Vec<String>> {
    let socket = port::server(&lab.path("m.sock"), 0, "");
    let pcap = lab.arg("in.pcap");
    [
        vec!["attach", bus, &socket],
        vec!["host", bus, "10.0.0.2/24"],
        vec!["ping", bus, "10.0.0.2", "--from", "10.0.0.1/24", "-c", "1"],
        vec!["replay", &pcap, bus],
        vec!["linkstr", "shmif0", bus],
        vec!["dump", bus],
        vec!["show", bus],
    ]
    .map(|args| args.into_iter().map(str::to_owned).collect())
    .to_vec()
}

/// Asserts that every verb refuses the file `name`, names each of `causes` and the path, and
/// changes nothing.
fn every_verb_refuses(lab: &Lab, name: &str, causes: &[&str]) {
    refuses(lab, name, causes, |_| true);
}

fn refuses(lab: &Lab, name: &str, causes: &[&str], which: impl Fn(&str) -> bool) {
    let bus = lab.arg(name);
    frames::write_pcap(&lab.path("in.pcap"), [frames::numbered(60, 1)]);
    lab.run(["create", "shmif0"]).succeeds();
    let before = (Fingerprint::of(Path::new(&bus)), everything_in(&lab.path("")));
    for args in verbs(lab, &bus).into_iter().filter(|args| which(&args[0])) {
        let line = lab.run(&args).fails_with(2, causes).to_owned();
        assert!(line.contains(name), "the line names the file: {line}");
        let after = (Fingerprint::of(Path::new(&bus)), everything_in(&lab.path("")));
        assert!(after == before, "`busctl {}` changed something on disk", args.join(" "));
    }
}

#[test]
fn a_file_with_another_magic_is_refused() {
    let lab = lab!();
    let mut file = vec![0; FILE_SIZE];
    file[..4].copy_from_slice(&0xdead_beef_u32.to_ne_bytes());
    lab.write("lan.bus", &file);
    every_verb_refuses(&lab, "lan.bus", &["0xdeadbeef", "0xca11d054"]);
}

#[test]
fn a_short_file_with_something_in_it_is_refused() {
    let lab = lab!();
    lab.write("notes.txt", b"These are my notes, and not a bus.\n");
    every_verb_refuses(&lab, "notes.txt", &["not a bus", "0xca11d054"]);
}

#[test]
fn a_file_of_another_size_is_refused() {
    let lab = lab!();
    for size in [FILE_SIZE + 1, 2 * FILE_SIZE] {
        drop(RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 1]));
        let mut file = std::fs::read(lab.path("lan.bus")).unwrap();
        assert_eq!(file[..4], MAGIC.to_ne_bytes());
        file.resize(size, 0);
        lab.write("lan.bus", &file);
        every_verb_refuses(&lab, "lan.bus", &["1048576", &size.to_string()]);
        std::fs::remove_file(lab.path("lan.bus")).unwrap();
        lab.run(["destroy", "shmif0"]).succeeds();
    }
}

#[test]
fn a_directory_is_refused() {
    let lab = lab!();
    std::fs::create_dir(lab.path("folder")).unwrap();
    privilege::hand_over(&lab.path("folder"));
    every_verb_refuses(&lab, "folder", &["directory"]);
}

#[test]
fn a_device_is_refused() {
    let lab = lab!();
    let zero = lab.path("zero");
    std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
    let line = lab.run(["dump", &lab.arg("zero")]).fails_with(2, &["device"]).to_owned();
    assert!(line.contains("zero"), "{line}");
    lab.run(["host", &lab.arg("zero"), "10.0.0.2/24"]).fails_with(2, &["device"]);
}

#[test]
fn a_file_without_permission_is_refused() {
    let lab = lab!();
    drop(RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 1]));
    privilege::take_away(&lab.path("lan.bus"));
    every_verb_refuses(&lab, "lan.bus", &["permission denied"]);
}

#[test]
fn a_file_that_may_only_be_read_can_be_dumped_but_not_joined() {
    use std::os::unix::fs::PermissionsExt;
    let lab = lab!();
    drop(RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 1]));
    std::fs::set_permissions(lab.path("lan.bus"), PermissionsExt::from_mode(0o444)).unwrap();
    refuses(&lab, "lan.bus", &["permission denied"], |verb| {
        !["dump", "show", "linkstr"].contains(&verb)
    });
    lab.run(["dump", &lab.arg("lan.bus")]).succeeds();
    lab.run(["show", &lab.arg("lan.bus")]).succeeds();
}

#[test]
fn a_bus_in_a_folder_that_is_not_there_is_refused() {
    let lab = lab!();
    frames::write_pcap(&lab.path("in.pcap"), [frames::numbered(60, 1)]);
    lab.run(["create", "shmif0"]).succeeds();
    let before = everything_in(&lab.path(""));
    for args in verbs(&lab, &lab.arg("nowhere/lan.bus")) {
        lab.run(&args).fails_with(2, &["nowhere", "no"]);
        assert_eq!(
            everything_in(&lab.path("")),
            before,
            "`busctl {}` created something",
            args.join(" ")
        );
    }
}

#[test]
fn looking_at_a_bus_that_is_not_there_does_not_make_it() {
    let lab = lab!();
    for verb in ["dump", "show"] {
        lab.run([verb, &lab.arg("lan.bus")]).fails_with(2, &["lan.bus", "no such file"]);
        assert!(!lab.path("lan.bus").exists());
    }
}

/// A file that is shorter than a bus and has magic 0 becomes a bus: it is empty, or a rump kernel
/// was just creating it.
#[test]
fn an_empty_file_is_a_bus_to_be_made() {
    let lab = lab!();
    for size in [0, 100, FILE_SIZE] {
        lab.write("lan.bus", &vec![0; size]);
        let _host = lab.ready(["host", &lab.arg("lan.bus"), "10.0.0.2/24"]);
        let ping = ["ping", &lab.arg("lan.bus"), "10.0.0.2", "--from", "10.0.0.1/24", "-c", "1"];
        lab.run(ping).succeeds();
        assert_eq!(std::fs::metadata(lab.path("lan.bus")).unwrap().len(), FILE_SIZE as u64);
    }
}
