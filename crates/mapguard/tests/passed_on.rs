//! What is not a fault in a guarded mapping ends as without us: signals that processes send, and
//! faults elsewhere. And it leaves the guard in place. Each case is a process of its own.

use std::env;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mapguard::Guard;
use memmap2::{MmapOptions, MmapRaw};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

const SIZE: usize = 4 * 4096;
/// A fault that neither ends nor kills comes again and again.
const DEADLINE: Duration = Duration::from_secs(20);
const SIGBUS: i32 = Signal::SIGBUS as i32;

/// What a program may have done about the signal before it installs our handler.
const PREVIOUS: [&str; 6] =
    ["untouched", "default", "ignored", "handler", "simple handler", "once"];

/// Calls of the previous handler, where it is one of these.
static CALLS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: nix::libc::c_int) {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn count_with_info(
    _: nix::libc::c_int,
    info: *mut nix::libc::siginfo_t,
    _: *mut nix::libc::c_void,
) {
    assert!(!info.is_null());
    CALLS.fetch_add(1, Ordering::Relaxed);
}

fn prepare(previous: &str) {
    let (handler, flags) = match previous {
        // The handler of the standard library.
        "untouched" => return,
        "default" => (SigHandler::SigDfl, SaFlags::empty()),
        "ignored" => (SigHandler::SigIgn, SaFlags::empty()),
        "handler" => (SigHandler::SigAction(count_with_info), SaFlags::SA_SIGINFO),
        "simple handler" => (SigHandler::Handler(count), SaFlags::SA_RESTART),
        "once" => (SigHandler::Handler(count), SaFlags::SA_RESETHAND),
        other => panic!("{other}"),
    };
    // SAFETY: the handlers only count.
    unsafe { sigaction(Signal::SIGBUS, &SigAction::new(handler, flags, SigSet::empty())) }
        .expect("set");
}

fn mapping() -> (File, MmapRaw) {
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(SIZE as u64).expect("room");
    let map = MmapOptions::new().map_raw(&file).expect("mapped");
    (file, map)
}

fn read(map: &MmapRaw) -> u8 {
    // SAFETY: the first byte of a mapping.
    unsafe { map.as_ptr().read_volatile() }
}

/// Cuts a guarded mapping short and reads there.
fn survive_a_cut() {
    let (file, map) = mapping();
    // SAFETY: a whole mapping that outlives the guard.
    let guard = unsafe { Guard::new(map.as_ptr(), SIZE) };
    file.set_len(0).expect("cut");
    assert_eq!(read(&map), 0);
    assert!(guard.is_lost());
}

/// Runs one test of this program again, as a process of its own that knows its `part`.
fn child(test: &str, part: &str) -> ExitStatus {
    let program = env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args(["--exact", test])
        .env("PART", part)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if begin.elapsed() > DEADLINE {
            child.kill().expect("killed");
            child.wait().expect("a child");
            panic!("{test} with {part} does not end");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn part() -> Option<String> {
    env::var("PART").ok()
}

/// How a process ends that is sent `signals` after it had `previous` set; and, if `guarded`,
/// installed our handler.
fn outcome(previous: &str, signals: u32, guarded: bool) -> ExitStatus {
    child(
        "signals_that_are_sent_do_what_they_do_without_us",
        &format!("{previous},{signals},{guarded}"),
    )
}

#[test]
fn signals_that_are_sent_do_what_they_do_without_us() {
    if let Some(part) = part() {
        let [previous, signals, guarded] = part.split(',').collect::<Vec<_>>()[..] else {
            panic!("{part}")
        };
        prepare(previous);
        let guarded = guarded == "true";
        if guarded {
            mapguard::install().expect("a handler");
        }
        for sent in 1..=signals.parse().expect("a number") {
            raise(Signal::SIGBUS).expect("sent");
            if matches!(previous, "handler" | "simple handler" | "once") {
                assert_eq!(CALLS.load(Ordering::Relaxed), sent, "each is handled once");
            }
            if guarded {
                survive_a_cut();
            }
        }
        return;
    }
    for previous in PREVIOUS {
        for signals in 1..=3 {
            let without = outcome(previous, signals, false);
            assert_eq!(outcome(previous, signals, true), without, "{previous}, {signals} signals");
        }
    }
    assert_eq!(outcome("default", 1, true).signal(), Some(SIGBUS));
    assert!(outcome("ignored", 3, true).success());
    assert!(outcome("handler", 3, true).success());
    assert_eq!(outcome("once", 2, true).signal(), Some(SIGBUS));
}

#[test]
fn faults_elsewhere_kill_whatever_was_set_before() {
    if let Some(previous) = part() {
        prepare(&previous);
        mapguard::install().expect("a handler");
        let (file, map) = mapping();
        file.set_len(0).expect("cut");
        read(&map);
        return;
    }
    for previous in ["untouched", "default", "ignored", "once"] {
        let ended = child("faults_elsewhere_kill_whatever_was_set_before", previous);
        assert_eq!(ended.signal(), Some(SIGBUS), "{previous}: {ended}");
    }
}

/// The signal of another process, while mappings are cut short.
#[test]
fn another_process_cannot_disarm_the_guard() {
    if let Some(previous) = part() {
        prepare(&previous);
        mapguard::install().expect("a handler");
        for _ in 0..3 {
            let kill =
                Command::new("sh").args(["-c", "kill -BUS $PPID"]).status().expect("a shell");
            assert!(kill.success());
            survive_a_cut();
        }
        return;
    }
    for previous in ["ignored", "handler", "simple handler"] {
        let ended = child("another_process_cannot_disarm_the_guard", previous);
        assert!(ended.success(), "{previous}: {ended}");
    }
    let ended = child("another_process_cannot_disarm_the_guard", "default");
    assert_eq!(ended.signal(), Some(SIGBUS), "{ended}");
}
