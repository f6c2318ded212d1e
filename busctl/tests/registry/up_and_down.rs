//! `up` and `down`, alone and where a process runs the interface.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::runner::Runner;
use crate::{Lab, refused};

fn is_up(lab: &Lab) -> bool {
    lab.json("show shmif0 --json")["flags"].as_array().unwrap().contains(&"up".into())
}

#[test]
fn an_interface_is_up_until_it_is_down() {
    let lab = Lab::new().with_interface_up();
    assert!(is_up(&lab));
    lab.prints("up shmif0");
    assert!(is_up(&lab));
    lab.prints("down shmif0");
    lab.prints("down shmif0");
    assert!(!is_up(&lab));
}

#[test]
fn all_come_up_or_none() {
    let lab = Lab::new().with_interface_up();
    lab.prints("down shmif0");
    lab.prints("create");
    lab.refuses("up shmif0 shmif1", "shmif1 has no bus; 'busctl linkstr shmif1 BUSPATH'");
    lab.refuses("up shmif0 shmif2", "there is no interface shmif2");
    assert!(!is_up(&lab));
}

#[test]
fn the_process_that_runs_the_interface_follows() {
    let lab = Lab::new().with_interface_up();
    let runner = Runner::claim(&lab.path("state"), "shmif0");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let record = runner.record();
                let promiscuous = record["shmif"]["promisc"].as_bool().unwrap();
                runner.report(&record, if promiscuous { "no promiscuity here" } else { "" }, &[]);
                thread::sleep(Duration::from_millis(20));
            }
        });
        lab.prints("down shmif0");
        lab.prints("up shmif0");
        refused(&mut lab.busctl("set shmif0 promisc=on"), 1, "shmif0 is changed, but process");
        // It is no better when it is asked for again.
        refused(&mut lab.busctl("up shmif0"), 1, "in trouble: no promiscuity here");
        refused(
            &mut lab.busctl("set shmif0 promisc=on"),
            1,
            "shmif0 is set so already, but process",
        );
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_process_that_does_not_follow_is_named() {
    let lab = Lab::new().with_interface_up();
    let _runner = Runner::claim(&lab.path("state"), "shmif0");
    let me = format!("process {}", std::process::id());
    refused(&mut lab.busctl("down shmif0"), 1, &format!("{me} that runs it has not followed"));
    assert!(!is_up(&lab), "the wish is recorded");
    refused(
        &mut lab.busctl("destroy shmif0"),
        1,
        &format!("{me} that ran it has not let go of it within 1 s"),
    );
    lab.refuses("show shmif0", "there is no interface shmif0");
}
