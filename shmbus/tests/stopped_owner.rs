//! Members that are stopped (SIGSTOP): with the lock they are named in the errors of stations that
//! wait for it, and without it they delay no other station.
//!
//! The members are processes: this test again, with a bus's path in the environment.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use shmbus::{
    Burst, Bus, Busy, FrameSlot, FrameSource, MIN_FRAME, MacAddr6, SendError, Station,
    StationOptions, Tap,
};
use tempfile::TempDir;

const BUS: &str = "STOPPED_TEST_BUS";
/// Which of the two the process is.
const STOPS_ITSELF: &str = "STOPPED_TEST_STOPS_ITSELF";
const NAME: &str = "sleepyhead";

/// A folder whose files can have extended attributes, if there is one: without, members have no
/// names.
fn folder() -> (TempDir, bool) {
    for folder in [tempfile::tempdir_in("/dev/shm"), tempfile::tempdir()].into_iter().flatten() {
        let file = folder.path().join("probe");
        if std::fs::write(&file, "").is_ok() && xattr::set(&file, "user.probe", b"").is_ok() {
            return (folder, true);
        }
    }
    println!(
        "not looked at: names, for no extended attributes in /dev/shm or the temporary folder"
    );
    (tempfile::tempdir().expect("a folder"), false)
}

fn station(path: &Path, lock_timeout: Option<Duration>) -> Station {
    let mut options = StationOptions::new().name(NAME).mac(MacAddr6::new(2, 0, 0, 0, 0, 1));
    if let Some(timeout) = lock_timeout {
        options = options.lock_timeout(timeout);
    }
    Station::join(Bus::open_or_create(path, 0o600).expect("a bus"), options).expect("joined")
}

/// A frame whose sender stops in the middle of writing it, with the lock.
#[derive(Clone)]
struct Stopping;

impl FrameSource for Stopping {
    fn frame_len(&self) -> usize {
        1_000
    }

    fn write_to(&self, slot: &mut FrameSlot<'_>) {
        slot.write(&[0xff; 500]);
        raise(Signal::SIGSTOP).expect("stopped, and continued");
        slot.write(&[0xff; 500]);
    }
}

/// The body of the other process.
fn be_a_member(path: &Path) {
    let mut station = station(path, None);
    if std::env::var_os(STOPS_ITSELF).is_some() {
        station.send_burst([Stopping]).expect("sent in the end");
        return;
    }
    let frames = vec![[0xff; 200]; 30];
    loop {
        station.send_burst(&frames).expect("sent");
    }
}

struct Member(Child);

impl Member {
    fn start(path: &Path, test: &str, stops_itself: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", test]).env(BUS, path).stdout(Stdio::null()).stderr(Stdio::null());
        if stops_itself {
            command.env(STOPS_ITSELF, "1");
        }
        Self(command.spawn().expect("started"))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"))
    }

    /// Returns when it is stopped.
    fn wait_until_stopped(&self) {
        let status = waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).expect("a child");
        assert!(matches!(status, WaitStatus::Stopped(_, Signal::SIGSTOP)), "{status:?}");
    }

    fn stop(&self) {
        kill(self.pid(), Signal::SIGSTOP).expect("stopped");
        self.wait_until_stopped();
    }

    fn go_on(&self) {
        kill(self.pid(), Signal::SIGCONT).expect("continued");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Also when it is stopped.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stopped_lock_owner_is_named_after_two_seconds() {
    if let Some(path) = std::env::var_os(BUS) {
        return be_a_member(Path::new(&path));
    }
    let (folder, has_names) = folder();
    let path = folder.path().join("bus");
    let mut alice = station(&path, None);
    let mut tap = Tap::new(Bus::open_read_only(&path).expect("a bus")).expect("sound");
    let mut burst = Burst::new(10);
    alice.send(&[0xff; 60]).expect("sent");
    let mut member = Member::start(&path, "a_stopped_lock_owner_is_named_after_two_seconds", true);
    member.wait_until_stopped();
    assert!(alice.bus().state().locked);

    // What was sent before can be read, and its unfinished frame is not seen.
    assert_eq!(tap.recv_burst(&mut burst), 1);
    let begin = Instant::now();
    let error = alice.send(&[0xff; 61]).expect_err("it has the lock");
    assert!(begin.elapsed() >= Duration::from_secs(2), "no verdict before its time");
    let SendError::Busy { sent: 0, source: Busy::Station { member: named, .. } } = &error else {
        panic!("{error:?}");
    };
    assert!(error.to_string().ends_with("is alive; is it stopped?"), "{error}");
    if has_names {
        let words =
            format!("the bus is busy: {NAME} (process {}) has held the lock for", member.0.id());
        assert!(error.to_string().starts_with(&words), "{error}");
        assert_eq!(named.as_ref().map(|named| named.pid), Some(member.0.id()));
    }
    // It is not taken for dead, however long it takes.
    assert!(alice.send(&[0xff; 61]).is_err());
    assert_eq!(tap.recv_burst(&mut burst), 0);

    member.go_on();
    assert!(member.0.wait().expect("reaped").success(), "it ends its burst as if nothing had been");
    alice.send(&[0xff; 62]).expect("the bus still works");
    tap.recv_burst(&mut burst);
    let lens: Vec<usize> = burst.iter().map(|frame| frame.bytes.len()).collect();
    assert_eq!(lens, [1_000, 62]);
    assert!(burst.iter().all(|frame| frame.bytes.iter().all(|byte| *byte == 0xff)));
}

/// Stopped at any moment until both were seen often enough.
#[test]
fn a_station_stopped_without_the_lock_delays_no_other() {
    const EACH: usize = 10;
    if let Some(path) = std::env::var_os(BUS) {
        return be_a_member(Path::new(&path));
    }
    let (folder, _) = folder();
    let path = folder.path().join("bus");
    // Shorter than it need be for a lock that is free: then it is had at the first look.
    let mut alice = station(&path, Some(Duration::from_millis(1)));
    let mut reader = station(&path, None);
    let member = Member::start(&path, "a_station_stopped_without_the_lock_delays_no_other", false);
    while reader.recv_burst(&mut Burst::new(100)) == 0 {
        reader.wait(None).expect("watched");
    }
    let (mut with, mut without) = (0, 0);
    let begin = Instant::now();
    while with < EACH || without < EACH {
        std::thread::sleep(Duration::from_micros(fastrand::u64(..500)));
        member.stop();
        let locked = alice.bus().state().locked;
        let sent = alice.send(&[0xff; MIN_FRAME]);
        if locked {
            assert!(matches!(sent, Err(SendError::Busy { .. })), "taken from the living: {sent:?}");
            with += 1;
        } else {
            sent.expect("the lock is free");
            // It is read as well.
            reader.discard_pending();
            alice.send(&[0xff; MIN_FRAME]).expect("the lock is free");
            assert_eq!(reader.recv_burst(&mut Burst::new(10)), 1);
            without += 1;
        }
        member.go_on();
        assert!(
            begin.elapsed() < Duration::from_secs(2 * 60),
            "{with} with the lock, {without} without"
        );
    }
    println!("stopped {with} times with the lock, {without} times without");
}
