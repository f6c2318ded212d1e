//! The reference peer against itself: it reads what it sends, over many generations, before other
//! tests rely on it.

use std::time::Duration;

use system_tests::reference::{FILE_SIZE, RumpPeer};
use system_tests::{WAIT_TIMEOUT, frames, lab};

const ALICE: frames::Mac = [0xb2, 0xa0, 0, 0, 0, 1];
const BOB: frames::Mac = [0xb2, 0xa0, 0, 0, 0, 2];

#[test]
fn a_new_bus_has_the_size_and_the_header_of_the_format() {
    let lab = lab!();
    let bus = lab.path("lan.bus");
    let _alice = RumpPeer::attach(&bus, ALICE);
    let file = std::fs::read(&bus).unwrap();
    assert_eq!(file.len(), FILE_SIZE);
    assert_eq!(file[0..4], 0xca11_d054_u32.to_ne_bytes());
    assert_eq!(file[16..20], 1_048_544_u32.to_ne_bytes(), "first = DATASIZE");
    assert!(file[20..].iter().all(|&byte| byte == 0), "nothing else is set");
}

#[test]
fn frames_of_every_size_arrive_in_order_over_many_generations() {
    let lab = lab!();
    let bus = lab.path("lan.bus");
    let mut alice = RumpPeer::attach(&bus, ALICE);
    let mut bob = RumpPeer::attach(&bus, BOB);
    // A round of every size is 1.2 MB. Bob reads each frame before the next one is sent, so the
    // driver's known fault (reading everything again when overrun at the ring's end) cannot show.
    for number in 0..6 {
        for len in 14..=1514 {
            let frame = frames::patterned(len, number);
            alice.send([&frame]);
            assert!(bob.wait(WAIT_TIMEOUT).as_ref() == Some(&frame), "{len} bytes, round {number}");
        }
    }
    assert!(bob.generation() >= 6, "{}", bob.generation());
    assert_eq!(bob.overruns(), 0);
    assert_eq!(alice.wait(Duration::ZERO), None, "a station does not receive its own frames");
}

#[test]
fn an_overrun_reader_continues_at_the_oldest_whole_frame() {
    let lab = lab!();
    let bus = lab.path("lan.bus");
    let mut alice = RumpPeer::attach(&bus, ALICE);
    let mut bob = RumpPeer::attach(&bus, BOB);
    alice.send((0..5000).map(|number| frames::numbered(1000, number)));
    let got: Vec<u64> = std::iter::from_fn(|| bob.receive())
        .map(|frame| frames::number_of(&frame).unwrap())
        .collect();
    assert_eq!(bob.overruns(), 1);
    assert!(got.len() > 1000, "a ring holds more than a thousand of them: {}", got.len());
    assert!(got.windows(2).all(|pair| pair[1] == pair[0] + 1), "in order and without a gap");
    assert_eq!(got.last(), Some(&4999));
}

#[test]
fn a_station_that_is_not_promiscuous_ignores_frames_for_others() {
    let lab = lab!();
    let bus = lab.path("lan.bus");
    let mut alice = RumpPeer::attach(&bus, ALICE);
    let mut bob = RumpPeer::attach(&bus, BOB).choosy();
    let mut to = |mac: frames::Mac| {
        let mut frame = frames::patterned(60, 0);
        frame[..6].copy_from_slice(&mac);
        alice.send([&frame]);
        bob.wait(Duration::ZERO).is_some()
    };
    assert!(to(BOB));
    assert!(to(frames::BROADCAST));
    assert!(to([0x33, 0x33, 0, 0, 0, 1]));
    assert!(!to([0xb2, 0xa0, 0, 0, 0, 9]));
}
