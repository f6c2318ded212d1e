//! Who is on the bus.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shmbus::{Bus, Busy, MacAddr6, SendError, Station, StationOptions};
use tempfile::TempDir;

const BUS: &str = "MEMBERS_TEST_BUS";
const MAC: MacAddr6 = MacAddr6::new(0xb2, 0xa0, 1, 2, 3, 4);

fn station(path: &Path, name: &str) -> Station {
    let options = StationOptions::new().name(name).mac(MAC).lock_timeout(Duration::from_millis(20));
    Station::join(Bus::open_or_create(path, 0o600).expect("a bus"), options).expect("joined")
}

/// A folder whose files can have extended attributes.
fn folder() -> Option<TempDir> {
    let folders = [tempfile::tempdir_in("/dev/shm"), tempfile::tempdir()];
    let folder = folders.into_iter().flatten().find(|folder| {
        let file = folder.path().join("probe");
        std::fs::write(&file, "").is_ok() && xattr::set(&file, "user.probe", b"").is_ok()
    });
    if folder.is_none() {
        println!("skipped: no extended attributes in /dev/shm or the temporary folder");
    }
    folder
}

fn names(bus: &Bus) -> Vec<String> {
    let mut names: Vec<String> = bus.members().into_iter().map(|member| member.name).collect();
    names.sort();
    names
}

#[test]
fn members_are_known_while_they_live() {
    let Some(folder) = folder() else { return };
    let path = folder.path().join("bus");
    let (alice, mut bob) = (station(&path, "alice"), station(&path, "bob"));
    let bus = Bus::open_read_only(&path).expect("a bus");
    assert_eq!(names(&bus), ["alice", "bob"]);
    assert_eq!(names(bob.bus()), ["alice"], "the others");
    bob.set_mac(MacAddr6::new(2, 0, 0, 0, 0, 1));
    let macs: Vec<_> = bus.members().into_iter().map(|member| member.mac).collect();
    assert!(macs.contains(&bob.mac()), "as it is now: {macs:?}");
    let member = bus.members().into_iter().find(|member| member.name == "alice").expect("there");
    assert_eq!((member.pid, member.mac), (std::process::id(), MAC));
    assert!(!member.joins);
    bob.set_joins(true);
    let joining = |bus: &Bus| bus.members().into_iter().filter(|member| member.joins).count();
    assert_eq!((joining(&bus), names(&bus)), (1, vec!["alice".to_owned(), "bob".to_owned()]));
    drop(alice);
    assert_eq!(names(&bus), ["bob"]);
    drop(bob);
    assert!(bus.members().is_empty());
    assert_eq!(xattr::list(&path).expect("listed").count(), 0, "nothing is left on the file");
}

#[test]
fn a_member_is_listed_once_under_whatever_names() {
    let Some(folder) = folder() else { return };
    let path = folder.path().join("bus");
    let alice = station(&path, "alice");
    let name = xattr::list(&path).expect("listed").next().expect("a note");
    let note = xattr::get(&path, &name).expect("read").expect("there");
    let name = name.to_str().expect("plain");
    let number = name.strip_prefix("user.shmbus.").expect("ours");
    for forged in [format!("+{number}"), format!("000{number}"), number.to_uppercase() + "0"] {
        xattr::set(&path, format!("user.shmbus.{forged}"), &note).expect("set");
    }
    let bus = Bus::open_read_only(&path).expect("a bus");
    assert_eq!(names(&bus), ["alice"]);
    drop(alice);
}

/// Joins, says so, and takes the lock for as long as it lives: by a frame that is never written to
/// its end.
fn hold_the_lock(path: &Path) {
    #[derive(Clone)]
    struct Endless;
    impl shmbus::FrameSource for Endless {
        fn frame_len(&self) -> usize {
            60
        }
        fn write_to(&self, _slot: &mut shmbus::FrameSlot<'_>) {
            println!("locked");
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        }
    }
    let _ = station(path, "sleepy").send_burst([Endless]);
}

struct Holder(Child);

impl Holder {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "the_lock_owner_is_named_and_a_dead_one_is_cleared_away",
                "--nocapture",
            ])
            .env(BUS, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains("locked"))));
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("reaped");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_lock_owner_is_named_and_a_dead_one_is_cleared_away() {
    if let Some(path) = std::env::var_os(BUS) {
        return hold_the_lock(Path::new(&path));
    }
    let Some(folder) = folder() else { return };
    let path = folder.path().join("bus");
    let mut alice = station(&path, "alice");
    let mut holder = Holder::start(&path);
    match alice.send(&[0xff; 60]) {
        Err(error @ SendError::Busy { source: Busy::Station { .. }, .. }) => {
            let words = format!("sleepy (process {})", holder.0.id());
            assert!(error.to_string().contains(&words), "{error}");
        }
        other => panic!("{other:?}"),
    }
    holder.kill();
    alice.send(&[0xff; 60]).expect("the lock of the dead is taken over");
    assert_eq!(names(alice.bus()), [""; 0]);
    assert_eq!(
        xattr::list(&path).expect("listed").count(),
        2,
        "the note of the dead is still there"
    );
    drop(station(&path, "bob"));
    assert_eq!(xattr::list(&path).expect("listed").count(), 1, "a newcomer cleared it away");
}
