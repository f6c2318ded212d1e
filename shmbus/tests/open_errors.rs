//! Places where no bus can be, or not as one wishes: each says why, and nothing is left behind or
//! changed.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use shmbus::{BUS_SIZE, Burst, Bus, OpenError, RepairError, Station, StationOptions, Tap, repair};
use tempfile::TempDir;

const FRAME: [u8; 60] = [0xff; 60];
/// Tells a test that it runs in a process of its own, and where.
const PLACE: &str = "BAD_PLACES_TEST";

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn station(path: &Path) -> Station {
    Station::join(Bus::open_or_create(path, 0o600).expect("a bus"), StationOptions::new())
        .expect("joined")
}

/// What every way of opening a bus for writing says.
fn refusals(path: &Path) -> [OpenError; 3] {
    let repaired = match repair(path, false) {
        Err(RepairError::Open(error)) => error,
        other => panic!("{other:?}"),
    };
    [
        Bus::open(path).expect_err("refused"),
        Bus::open_or_create(path, 0o600).expect_err("refused"),
        repaired,
    ]
}

/// Each in one line that has the path and the reason in it.
fn say(errors: impl IntoIterator<Item = OpenError>, path: &Path, reason: &str) {
    for error in errors {
        let line = error.to_string();
        assert!(
            line.contains(path.to_str().expect("a plain path")) && line.contains(reason),
            "{line}"
        );
        assert!(!line.contains('\n'), "{line}");
    }
}

/// The place that this process was made for, if it was.
fn place() -> Option<PathBuf> {
    std::env::var_os(PLACE).map(PathBuf::from)
}

/// Runs the test `name` again in a process of its own, after `script`, in which `$PLACE` is the
/// folder.
fn again(name: &str, folder: &Path, shell: &[&str], script: &str) {
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .arg(format!("{script}; exec \"$0\" --exact {name} --nocapture"))
        .arg(std::env::current_exe().expect("this program"))
        .env(PLACE, folder)
        .env("PLACE", folder)
        .output()
        .expect("started");
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && said[0].contains("1 passed"), "{}", said.join("\n"));
}

/// The same on a file system of its own, which goes with it. `false` where that is not permitted.
fn again_on_tmpfs(name: &str, folder: &Path, options: &str) -> bool {
    const SHELL: [&str; 4] = ["unshare", "-Urm", "sh", "-ec"];
    let mount = format!("mount -t tmpfs -o {options} tmpfs \"$PLACE\"");
    let mut probe = Command::new(SHELL[0]);
    probe
        .args(&SHELL[1..])
        .arg(&mount)
        .env("PLACE", folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("skipped: no separate namespaces are available here");
        return false;
    }
    again(name, folder, &SHELL, &mount);
    true
}

#[test]
fn a_full_file_system_has_no_room_for_a_new_bus() {
    let Some(place) = place() else {
        again_on_tmpfs(
            "a_full_file_system_has_no_room_for_a_new_bus",
            folder().path(),
            "size=512k",
        );
        return;
    };
    let path = place.join("bus");
    let error = Bus::open_or_create(&path, 0o600).expect_err("no room");
    assert!(matches!(error, OpenError::NoRoom { .. }), "{error:?}");
    say([error], &path, "no space left on device");
    assert!(!path.exists(), "what was made is removed");

    fs::write(&path, "").expect("no bytes need no room");
    let error = Bus::open_or_create(&path, 0o600).expect_err("no room");
    assert!(matches!(error, OpenError::NoRoom { .. }), "{error:?}");
    let left = path.metadata().expect("left where it was");
    assert_eq!(left.len(), 0, "and as it was");
}

#[test]
fn a_full_file_system_has_no_room_for_the_holes_of_a_bus() {
    let Some(place) = place() else {
        again_on_tmpfs(
            "a_full_file_system_has_no_room_for_the_holes_of_a_bus",
            folder().path(),
            "size=1280k",
        );
        return;
    };
    let path = place.join("bus");
    drop(station(&path));
    let header = &fs::read(&path).expect("a bus")[..32];
    fs::remove_file(&path).expect("removed");
    // As a rump kernel makes it: without any blocks but the first.
    let file = File::create(&path).expect("a file");
    file.set_len(BUS_SIZE).and_then(|()| file.write_all_at(header, 0)).expect("a sparse bus");
    fs::write(place.join("filler"), vec![1; 1 << 20]).expect("there is that much room");

    let error = Bus::open(&path).expect_err("no room");
    assert!(matches!(error, OpenError::NoRoom { .. }), "{error:?}");
    Tap::oldest(Bus::open_read_only(&path).expect("looking takes no room")).expect("a sound bus");
    fs::remove_file(place.join("filler")).expect("removed");
    station(&path).send(&FRAME).expect("there is room now");
}

#[test]
fn on_a_read_only_file_system_a_bus_can_be_looked_at() {
    let Some(place) = place() else {
        again_on_tmpfs(
            "on_a_read_only_file_system_a_bus_can_be_looked_at",
            folder().path(),
            "size=8m",
        );
        return;
    };
    let path = place.join("bus");
    station(&path).send(&FRAME).expect("sent");
    let mut mount = Command::new("mount");
    assert!(mount.args(["-o", "remount,bind,ro"]).arg(&place).status().expect("started").success());

    say(refusals(&path), &path, "read-only file system");
    let new = place.join("new");
    say([Bus::open_or_create(&new, 0o600).expect_err("refused")], &new, "read-only file system");
    let bus = Bus::open_read_only(&path).expect("a bus");
    assert_eq!(bus.stations().expect("asked"), 0);
    let mut tap = Tap::oldest(bus).expect("sound");
    assert_eq!(tap.recv_burst(&mut Burst::new(4)), 1);
    let error = Station::join(Bus::open_read_only(&path).expect("a bus"), StationOptions::new());
    say([error.expect_err("refused")], &path, "reading only");
}

#[test]
fn a_read_only_file_can_be_looked_at() {
    if geteuid().is_root() {
        println!("skipped: root may write it");
        return;
    }
    let folder = folder();
    let path = folder.path().join("bus");
    station(&path).send(&FRAME).expect("sent");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).expect("permitted");
    say(refusals(&path), &path, "permission denied");
    Tap::oldest(Bus::open_read_only(&path).expect("a bus")).expect("sound");
}

/// The kernel does not fail a write beyond the limit: it kills.
#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_death() {
    let Some(place) = place() else {
        let folder = folder();
        station(&folder.path().join("bus")).send(&FRAME).expect("sent");
        for blocks in ["0", "100"] {
            let script = format!("ulimit -f {blocks}");
            again(
                "a_limit_on_the_size_of_files_is_an_error_and_no_death",
                folder.path(),
                &["sh", "-ec"],
                &script,
            );
        }
        return;
    };
    let path = place.join("bus");
    for error in refusals(&path) {
        assert!(matches!(error, OpenError::FileSizeLimit { .. }), "{error:?}");
        say([error], &path, "ulimit -f");
    }
    let new = place.join("new");
    say([Bus::open_or_create(&new, 0o600).expect_err("refused")], &new, "ulimit -f");
    assert!(!new.exists());
    let mut tap = Tap::oldest(Bus::open_read_only(&path).expect("a bus")).expect("sound");
    assert_eq!(tap.recv_burst(&mut Burst::new(4)), 1);
}

#[test]
fn what_is_no_regular_file_is_called_by_its_name() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    mkfifo(&at("fifo"), Mode::S_IRWXU).expect("a pipe");
    let _socket = UnixListener::bind(at("socket")).expect("a socket");
    fs::create_dir(at("folder")).expect("a folder");
    let kinds = [
        (at("fifo"), "a pipe"),
        (at("socket"), "a socket"),
        (at("folder"), "a directory"),
        ("/dev/null".into(), "a device"),
        ("/dev/zero".into(), "a device"),
    ];
    for (path, kind) in kinds {
        say(refusals(&path), &path, kind);
        say([Bus::open_read_only(&path).expect_err("refused")], &path, kind);
        // It is what the link leads to that counts.
        let link = at("link");
        symlink(&path, &link).expect("a link");
        say(refusals(&link), &link, kind);
        fs::remove_file(&link).expect("removed");
    }
}

#[test]
fn links_are_followed() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let mut receiver = station(&at("bus"));
    symlink("bus", at("near")).expect("a link");
    symlink(at("near"), at("far")).expect("a link");
    station(&at("far")).send(&FRAME).expect("sent");
    assert_eq!(receiver.recv_burst(&mut Burst::new(4)), 1);

    symlink("nowhere", at("dead")).expect("a link");
    let path = at("dead");
    say(refusals(&path), &path, "nowhere, which does not exist");
    assert!(!at("nowhere").exists(), "no file is made at the end of a link");

    symlink("round", at("round")).expect("a link");
    let path = at("round");
    say(refusals(&path), &path, "symbolic links");
}

/// As `fs.protected_symlinks` has it, also where that is not set.
#[test]
fn links_that_others_have_planted_are_not_followed() {
    const OTHER_USER: u32 = 65_534;
    if !geteuid().is_root() {
        println!("skipped: only root can make links of another user");
        return;
    }
    let folder = folder();
    let (open_to_all, own) = (folder.path().join("open"), folder.path().join("own"));
    drop(station(&folder.path().join("bus")));
    for (place, mode) in [(&open_to_all, 0o1777), (&own, 0o700)] {
        fs::create_dir(place).expect("a folder");
        fs::set_permissions(place, PermissionsExt::from_mode(mode)).expect("ours");
        symlink("../bus", place.join("link")).expect("a link");
    }
    let link = open_to_all.join("link");
    drop(station(&link));
    lchown(&link, Some(OTHER_USER), None).expect("permitted");
    // The kernel may be the first to see it.
    let is_planted = |error: &OpenError| {
        matches!(error, OpenError::PlantedLink { owner: OTHER_USER, .. })
            || error.to_string().contains("permission denied")
    };
    for error in refusals(&link) {
        assert!(is_planted(&error), "{error:?}");
    }
    // Nor by a link of one's own that leads there.
    let mine = folder.path().join("mine");
    symlink(&link, &mine).expect("a link");
    for error in refusals(&mine) {
        assert!(is_planted(&error), "{error:?}");
    }
    // The folder's owner may, and in a folder that is not open to all any user's link is followed.
    chown(&open_to_all, Some(OTHER_USER), None).expect("permitted");
    drop(station(&link));
    let link = own.join("link");
    lchown(&link, Some(OTHER_USER), None).expect("permitted");
    drop(station(&link));
}

#[test]
fn a_removed_bus_stays_usable_for_its_members() {
    let folder = folder();
    let path = folder.path().join("bus");
    let (mut sender, mut receiver) = (station(&path), station(&path));
    assert!(!sender.bus().is_removed());
    fs::remove_file(&path).expect("removed");
    assert!(sender.bus().is_removed() && receiver.bus().is_removed());
    assert!(!sender.bus().is_lost());

    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| receiver.wait(Some(Duration::from_secs(30))));
        sender.send(&FRAME).expect("sent");
        assert!(sleeper.join().expect("no panic").expect("watched"), "frames go on to wake");
    });
    assert_eq!(receiver.recv_burst(&mut Burst::new(4)), 1);
    assert_eq!(sender.bus().stations().expect("asked"), 1);

    let error = Bus::open(&path).expect_err("gone");
    say([error], &path, "no such file or directory");
    let mut other = station(&path);
    sender.send(&FRAME).expect("sent");
    assert_eq!(other.recv_burst(&mut Burst::new(4)), 0, "the name stands for another bus now");
    assert!(!other.bus().is_removed());
}

#[test]
fn a_path_is_shown_in_one_line() {
    let folder = folder();
    let path = folder.path().join("my lan\n\x1b[31m\u{e9}");
    let line = Bus::open(&path).expect_err("not there").to_string();
    assert!(line.ends_with("/my lan\\n\\u{1b}[31m\u{e9}: no such file or directory"), "{line:?}");
    station(&path).send(&FRAME).expect("it is a name like any other");
}
