//! Where the records are kept.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use assert_cmd::Command;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
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

/// To open a pipe without another end blocks, and a device has bytes without end.
#[test]
fn a_pipe_or_a_device_as_a_record_is_damage_and_stops_nothing() {
    let lab = Lab::new();
    lab.prints("create shmif0");
    lab.prints("create shmif1");
    let records = lab.path("state/interfaces");
    fs::remove_file(records.join("shmif1.toml")).unwrap();
    mkfifo(&records.join("shmif1.toml"), Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/dev/full", records.join("shmif2.toml")).unwrap();
    fs::File::create(records.join("shmif3.toml")).unwrap().set_len(1 << 40).unwrap();
    mkfifo(&lab.path("state/sockets/7.toml"), Mode::S_IRWXU).unwrap();
    mkfifo(&lab.path("state/reports/shmif0.toml"), Mode::S_IRWXU).unwrap();
    mkfifo(&records.join(".shmif0.toml.new"), Mode::S_IRWXU).unwrap();

    let show = lab.busctl("show").assert().success().stdout(contains("shmif0: "));
    let said = String::from_utf8_lossy(&show.get_output().stderr).into_owned();
    assert_eq!(said.matches("is damaged: it is not a regular file").count(), 2, "{said}");
    assert_eq!(said.matches("is damaged: it is larger than 65,536 bytes").count(), 1, "{said}");
    assert_eq!(lab.prints("create"), "shmif4\n");
    lab.prints("set shmif0 promisc=on");
    lab.prints("down shmif0");
    for name in ["shmif1", "shmif2", "shmif3"] {
        lab.refuses(&format!("down {name}"), "repair it or 'busctl destroy");
        lab.prints(&format!("destroy {name}"));
    }
    lab.busctl("socket list").assert().stderr(contains("7.toml is damaged"));
    lab.prints("socket del 7");
    lab.busctl("show").assert().success().stderr("");

    mkfifo(&lab.path("state/running/shmif0"), Mode::S_IRWXU).unwrap();
    lab.refuses("show shmif0", "running/shmif0: it is not a regular file");
    fs::remove_file(lab.path("state/lock")).unwrap();
    mkfifo(&lab.path("state/lock"), Mode::S_IRWXU).unwrap();
    lab.refuses("create", "lock: it is not a regular file");
}

#[test]
fn a_limit_on_the_size_of_files_is_said() {
    let lab = Lab::new();
    let script = format!("ulimit -f 0; {} create", env!("CARGO_BIN_EXE_busctl"));
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("BUSCTL_STATE", lab.path("state"));
    refused(
        &mut command,
        1,
        "File too large; the state folder is chosen with --state; 'ulimit -f'",
    );
    assert_eq!(fs::read_dir(lab.path("state/interfaces")).unwrap().count(), 0);
}
