//! `linkstr`: into a bus, out of it, and which.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command as StdCommand;

use crate::{Lab, mode, refused};

#[test]
fn a_bus_is_made_when_missing_and_joined_when_there() {
    let lab = Lab::new();
    lab.prints("create");
    lab.prints("create");
    lab.prints("linkstr shmif0 ./lan.bus");
    let bus = lab.path("lan.bus");
    assert_eq!(fs::metadata(&bus).unwrap().len(), 1 << 20);
    assert_eq!(mode(&bus), 0o600);
    lab.prints("linkstr shmif1 lan.bus --mode 0666");
    assert_eq!(mode(&bus), 0o600, "the mode is for a bus that is made");
    let absolute = format!("{}\n", bus.display());
    assert_eq!(lab.prints("linkstr shmif0"), absolute);
    assert_eq!(lab.prints("linkstr shmif1"), absolute);
    assert_eq!(lab.json("show shmif0 --json")["link"], "up");
}

#[test]
fn the_mode_of_a_new_bus_can_be_chosen() {
    let lab = Lab::new();
    lab.prints("create");
    lab.refuses("linkstr shmif0 ./lan.bus --mode 888", "octal");
    lab.prints("linkstr shmif0 ./lan.bus --mode 0660");
    assert_eq!(mode(&lab.path("lan.bus")), 0o660);
}

#[test]
fn the_bus_is_not_changed_while_it_is_in_use() {
    let lab = Lab::new().with_interface_up();
    lab.refuses("linkstr shmif0 ./other.bus", "shmif0 is up: take it down before changing its bus");
    lab.refuses("linkstr shmif0 --unset", "shmif0 is up: take it down before changing its bus");
    lab.prints("down shmif0");
    lab.refuses("linkstr shmif0 ./other.bus", "busctl linkstr shmif0 --unset");
    assert!(!lab.path("other.bus").exists());
    lab.prints("linkstr shmif0 --unset");
    lab.prints("linkstr shmif0 ./other.bus");
}

#[test]
fn without_a_bus_there_is_nothing_to_print_or_to_unplug() {
    let lab = Lab::new();
    lab.prints("create");
    lab.refuses("linkstr shmif0", "shmif0 has no bus");
    lab.refuses("linkstr shmif0 --unset", "shmif0 has no bus");
    lab.refuses("linkstr shmif1", "there is no interface shmif1");
    lab.refuses("linkstr shmif0 ./lan.bus --unset", "cannot be used with");
}

#[test]
fn a_path_that_cannot_be_kept_is_refused() {
    let lab = Lab::new();
    lab.prints("create");
    let linkstr = |path: OsString, why| refused(lab.busctl("linkstr shmif0").arg(path), 2, why);
    linkstr("".into(), "empty");
    linkstr(format!("./{}", "x/".repeat(512)).into(), "too long: 1026 bytes, and at most 1024");
    linkstr("x".repeat(1024).into(), "at most 1024");
    linkstr(OsString::from_vec(b"./\xff".to_vec()), "not UTF-8");
    linkstr("./no/such/folder".into(), "no such file or directory");
    lab.refuses("linkstr shmif0", "has no bus");
}

#[test]
fn what_is_not_a_bus_is_refused_and_left_alone() {
    let lab = Lab::new();
    lab.prints("create");
    fs::write(lab.path("text"), "not a bus\n").unwrap();
    fs::write(lab.path("large"), vec![0; (1 << 20) + 1]).unwrap();
    fs::create_dir(lab.path("folder")).unwrap();
    StdCommand::new("mkfifo").arg(lab.path("pipe")).status().unwrap();
    for name in ["text", "large", "folder", "pipe"] {
        lab.refuses(&format!("linkstr shmif0 ./{name}"), name);
    }
    assert_eq!(fs::read(lab.path("text")).unwrap(), b"not a bus\n");
    assert_eq!(fs::metadata(lab.path("large")).unwrap().len(), (1 << 20) + 1);
    lab.refuses("linkstr shmif0", "has no bus");
}

/// Runs as a user without root rights, so that permissions count: the same user or, when that is
/// root, an unprivileged one.
#[test]
fn a_bus_one_may_not_open_is_refused() {
    use std::os::unix::process::CommandExt as _;

    let lab = Lab::new();
    let program = lab.path("busctl");
    // Copied to where any user may run it; by a process of its own, since a file that a child of
    // another test's still has open for writing cannot be run.
    StdCommand::new("cp").arg(env!("CARGO_BIN_EXE_busctl")).arg(&program).status().unwrap();
    fs::set_permissions(lab.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(lab.path("forbidden"), "").unwrap();
    fs::set_permissions(lab.path("forbidden"), fs::Permissions::from_mode(0o000)).unwrap();

    let run = |words: &str| {
        let mut command = StdCommand::new(&program);
        command
            .env_clear()
            .current_dir(lab.folder.path())
            .args(["--state", "./state"])
            .args(words.split(' '));
        if nix::unistd::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run("create"), (Some(0), String::new()));
    assert_eq!(mode(&lab.path("state")), 0o700);
    let (code, line) = run("linkstr shmif0 ./forbidden");
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("permission denied"), "{line}");
    assert_eq!(run("linkstr shmif0 ./allowed"), (Some(0), String::new()));
    assert_eq!(run("up shmif0"), (Some(0), String::new()));
}
