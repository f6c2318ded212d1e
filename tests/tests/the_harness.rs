//! What the other tests rely on. Children are unprivileged, die with their owner, and report why
//! they fail. A test with a missing peer never counts as passed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use system_tests::{Process, WAIT_TIMEOUT, lab, require, wait};

/// Returns the message of the panic that `code` ends in.
fn panic_of(code: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(code)).expect_err("it should have panicked");
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "?".into())
}

#[test]
fn children_have_no_privileges() {
    let lab = lab!();
    let mut command = lab.command("bash");
    command.args(["-c", "id -u; id -G; grep CapEff /proc/self/status"]);
    let who = lab.run_program(&mut command);
    let lines: Vec<_> = who.succeeds().lines().collect();
    assert_ne!(lines[0], "0");
    assert!(!lines[1].split(' ').any(|group| group == "0"), "{who}");
    assert_eq!(lines[2], "CapEff:\t0000000000000000");
}

#[test]
fn a_dropped_process_takes_its_children_with_it() {
    let lab = lab!();
    let mut command = lab.command("bash");
    command.args(["-c", "sleep 1000 & echo child $!; wait"]);
    let parent = Process::spawn("parent", &mut command);
    let child = parent.wait_for_line("child ").replace("child ", "/proc/");
    let child = std::path::Path::new(&child);
    assert!(child.exists());
    drop(parent);
    // The process that inherits the dead child may reap it late, so it is gone or a zombie with an
    // empty command line.
    wait::until("the grandchild is dead", WAIT_TIMEOUT, || {
        std::fs::read(child.join("cmdline")).map_or(true, |cmdline| cmdline.is_empty())
    });
}

#[test]
fn a_wait_in_vain_reports_all_output() {
    let lab = lab!();
    let mut command = lab.command("bash");
    command.args(["-c", "echo to be; echo or not >&2"]);
    let process = Process::spawn("hamlet", &mut command);
    let message = panic_of(|| _ = process.wait_for_line("that is the question"));
    for part in ["hamlet", "that is the question", "it ended", "out| to be", "err| or not"] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
}

#[test]
fn the_last_output_of_a_child_is_not_lost() {
    let lab = lab!();
    for number in 0..50 {
        let mut command = lab.command("bash");
        command.args(["-c", &format!("echo first; echo last words {number} >&2; exit 3")]);
        let process = Process::spawn("dying", &mut command);
        process.wait_for_line(&format!("last words {number}"));
        let end = process.finish(WAIT_TIMEOUT);
        assert_eq!((end.status.code(), end.stdout.as_str()), (Some(3), "first\n"));
    }
}

#[test]
fn an_error_has_to_be_one_line_of_the_right_form() {
    let lab = lab!();
    let judged = |script: &str| {
        let mut command = lab.command("bash");
        command.args(["-c", script]);
        let end = lab.run_program(&mut command);
        catch_unwind(AssertUnwindSafe(|| _ = end.fails_with(2, &["the cause"]))).is_ok()
    };
    assert!(judged("echo 'busctl: it failed: The Cause; do this' >&2; exit 2"));
    assert!(!judged("echo 'busctl: it failed: the cause' >&2; exit 1"), "another status");
    assert!(!judged("echo 'busctl: it failed' >&2; exit 2"), "no cause");
    assert!(!judged("echo 'error: the cause' >&2; exit 2"), "another form");
    assert!(!judged("echo 'busctl: the cause' >&2; echo more >&2; exit 2"), "two lines");
    assert!(
        !judged("echo 'busctl: the cause' >&2; echo answer; exit 2"),
        "an answer beside the error"
    );
    assert!(!judged("exit 2"), "silence");
}

#[test]
fn a_process_that_hangs_is_given_up() {
    let lab = lab!();
    let mut command = lab.command("sleep");
    command.arg("1000");
    let process = Process::spawn("sleeper", &mut command);
    let message = panic_of(|| _ = process.finish(Duration::from_millis(50)));
    assert!(message.contains("sleeper still runs"), "{message}");
}

#[test]
fn a_missing_peer_skips_a_test_or_fails_it_where_peers_are_required() {
    assert!(require::find("bash").is_some());
    assert!(require::find("no-such-program-anywhere").is_none());
    assert_eq!(
        require::skips(false, "unicorn", false).as_deref(),
        Some("skipped: unicorn not found")
    );
    let message = panic_of(|| _ = require::skips(false, "unicorn", true));
    assert!(message.contains("unicorn not found"), "{message}");
    assert_eq!(require::skips(true, "horse", true), None);
}
