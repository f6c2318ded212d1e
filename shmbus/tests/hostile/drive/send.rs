//! A station that sends into a bus of arbitrary bytes, while another process scribbles on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use shmbus::{MIN_FRAME, SendError, Station};

use super::bus_file::BusFile;
use super::input::{Input, Recipe};
use super::invariants::{check_text, make_joinable, satisfies_rump_kernels, still_works};
use super::script::{self, Step};

/// How often a vandal repeats itself.
const ROUNDS: usize = 20;
/// Frames in a burst: more than one, so that it may cross the end anywhere in it.
const BURST: usize = 3;

pub(crate) fn send(bytes: &[u8]) {
    shmbus::survive_truncation().expect("a handler");
    let recipe = Recipe::read(&mut Input::new(bytes));
    let mut rest = Input::new(&recipe.script);
    let at_once = rest.u8() % 2 == 1;
    let steps = script::read(&mut rest);
    let file = BusFile::new(&recipe.bake());

    let mut sender = match file.station() {
        Ok(station) => station,
        Err(error) => return check_text(&error),
    };
    if at_once {
        beside(&mut sender, &steps, &file);
    } else {
        for step in &steps {
            step.vandalise(&file);
            send_one(&mut sender, step);
        }
    }
    if steps.iter().any(Step::is_cut) {
        return;
    }
    make_joinable(&file);
    let mut receiver = file.station().expect("a bus that can be joined");
    still_works(&mut sender, &mut |burst| receiver.recv_burst(burst));
    satisfies_rump_kernels(&file);
}

fn send_one(sender: &mut Station, step: &Step<'_>) {
    let len = match *step {
        Step::Send { len } => usize::from(len),
        _ => MIN_FRAME,
    };
    let max = sender.bus().max_frame();
    let frame = vec![0x5a; len];
    match sender.send_burst([&frame; BURST]) {
        Ok(sent) => assert!(sent == BURST && (MIN_FRAME..=max).contains(&len)),
        Err(error) => {
            match error {
                SendError::TooLong { index: 0, .. } => assert!(len > max),
                SendError::TooShort { index: 0, .. } => assert!(len < MIN_FRAME),
                SendError::Busy { sent, .. } => assert_eq!(sent, 0),
                SendError::Lost { .. } => {}
                _ => panic!("{error}"),
            }
            check_text(&error);
        }
    }
}

fn beside(sender: &mut Station, steps: &[Step<'_>], file: &BusFile) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                for step in steps {
                    step.vandalise(file);
                }
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            for step in steps {
                send_one(sender, step);
            }
        }
    });
}
