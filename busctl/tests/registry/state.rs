//! Where the records are kept.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use assert_cmd::Command;
use predicates::str::contains;

use crate::{Lab, mode, refused};

fn busctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_busctl"));
    command.env_clear();
    command
}

#[test]
fn the_option_wins_over_the_variables() {
    let lab = Lab::new();
    fs::create_dir(lab.path("run")).unwrap();
    let with_both = || {
        let mut command = busctl();
        command.env("BUSCTL_STATE", lab.path("chosen")).env("XDG_RUNTIME_DIR", lab.path("run"));
        command
    };
    with_both().arg("create").assert().success();
    assert!(lab.path("chosen/interfaces/shmif0.toml").exists());
    busctl().env("XDG_RUNTIME_DIR", lab.path("run")).args(["create", "shmif1"]).assert().success();
    assert!(lab.path("run/busctl/interfaces/shmif1.toml").exists());
    with_both().args(["create", "shmif2", "--state"]).arg(lab.path("state")).assert().success();
    assert!(lab.path("state/interfaces/shmif2.toml").exists());
}

#[test]
fn records_are_for_their_owner_alone() {
    let lab = Lab::new();
    lab.prints("create");
    assert_eq!(mode(&lab.path("state")), 0o700);
    assert_eq!(mode(&lab.path("state/interfaces/shmif0.toml")), 0o600);
}

#[test]
fn looking_makes_nothing() {
    let lab = Lab::new();
    assert_eq!(lab.prints("show"), "");
    assert!(!lab.path("state").exists());
}

#[test]
fn a_folder_that_cannot_be_used_is_refused() {
    let lab = Lab::new();
    fs::write(lab.path("state"), "a file").unwrap();
    lab.refuses("create", "the state folder is chosen with --state");
}

#[test]
fn a_lock_that_is_held_makes_others_wait() {
    let lab = Lab::new();
    lab.prints("create");
    let lock = fs::File::open(lab.path("state/lock")).unwrap();
    lock.lock().unwrap();
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| lab.prints("create"));
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!waiting.is_finished());
        lock.unlock().unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(waiting, "shmif1\n");
}

#[test]
fn what_a_killed_process_left_behind_is_in_nobodys_way() {
    let lab = Lab::new();
    lab.prints("create");
    let folder = lab.path("state/interfaces");
    fs::write(folder.join(".shmif0.toml.new"), "half a rec").unwrap();
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    fs::set_permissions(folder.join("notes.txt"), fs::Permissions::from_mode(0o000)).unwrap();
    lab.busctl("show").assert().success().stdout(contains("shmif0")).stderr("");
    lab.prints("set shmif0 promisc=on");
    refused(&mut lab.busctl("show shmif1"), 2, "there is no interface shmif1");
}
