//! What wrappers forward to the port inside.

use std::time::Duration;

use memif::RxMode;
use shmbus::{Bus, Station, StationOptions};

use crate::frame_rules::{FrameRules, Ruled};
use crate::impair::{ImpairHandle, Impaired};
use crate::learning::Learning;
use crate::port::{LinkState, Port};
use crate::recorder::Recorder;

/// Calls every method of a wrapper once; each is forwarded, and no other is called.
fn check<P: Port>(wrap: impl FnOnce(Recorder) -> P) {
    check_calls(wrap, |calls, expected| assert_eq!(calls, expected));
}

/// Calls every method of a wrapper once. `compare` is given which were forwarded, and which are to
/// be.
fn check_calls<P: Port>(
    wrap: impl FnOnce(Recorder) -> P,
    compare: impl FnOnce(&[&'static str], &[&'static str]),
) {
    let folder = tempfile::tempdir().expect("a folder");
    let bus = Bus::open_or_create(folder.path().join("bus"), 0o600).expect("a bus");
    let mut station = Station::join(bus, StationOptions::new()).expect("joined");
    let recorder = Recorder::new(&[0xff; 60]);
    let calls = recorder.calls();
    let mut port = wrap(recorder);
    port.attach(&mut station);
    assert_eq!(port.name(), "recorder");
    assert!(port.is_up() && !port.wants_service() && port.arm());
    let mut lines = Vec::new();
    port.service(&mut |line| lines.push(line.to_owned()));
    assert_eq!(lines, ["a line"]);
    assert_eq!(port.refusals(), 5);
    assert_eq!(port.closed().as_deref(), Some("it is closed"));
    assert_eq!(port.ingress(&mut station).expect("sent").frames, 1);
    assert_eq!(port.egress(&mut station).frames, 0);
    assert_eq!(port.link_state(), LinkState::Blocked);
    assert!(port.put(b"put"));
    assert_eq!(port.put_burst(&mut [&b"a"[..], b"b"].into_iter()), 5);
    let mut taken = Vec::new();
    assert_eq!(port.take(&mut |request| taken.push(request.frame.to_vec())), 7);
    assert_eq!(taken, [b"taken"]);
    assert_eq!(port.dropped().dropped, 2);
    assert_eq!(port.rx_mode(), RxMode::Polling);
    port.disarm();
    let sleeps = (port.max_sleep(), port.first_poll());
    assert_eq!(sleeps, (Duration::from_millis(7), Duration::from_millis(3)));
    assert!(port.due().is_some() && port.impair_handle().is_some());
    let mut descriptors = 0;
    port.descriptors(&mut |_| descriptors += 1);
    assert_eq!(descriptors, 1);
    let expected = [
        "attach",
        "name",
        "is_up",
        "wants_service",
        "arm",
        "service",
        "refusals",
        "closed",
        "ingress",
        "egress",
        "link_state",
        "put",
        "put_burst",
        "take",
        "dropped",
        "rx_mode",
        "disarm",
        "max_sleep",
        "first_poll",
        "due",
        "impair_handle",
        "descriptors",
    ];
    compare(&calls.lock().expect("no panic"), &expected);
}

#[test]
fn wrappers_forward_what_they_do_not_change() {
    check(Learning::new);
    check(|port| Ruled::new(port, FrameRules::default()));
    // It asks more of the port, and has a handle of its own.
    check_calls(
        |port| Impaired::new(port, ImpairHandle::default()),
        |calls, expected| {
            let all = expected.iter().filter(|call| **call != "impair_handle");
            assert!(all.into_iter().all(|call| calls.contains(call)), "{calls:?}");
        },
    );
    check(Box::new);
}
