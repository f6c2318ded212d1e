//! Stations of one wait set share their reading of a bus: each receives what it would alone.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shmbus::{Burst, Bus, FrameSink, MacAddr6, RingFrame, Station, StationOptions, WaitSet};
use tempfile::TempDir;

const BROADCAST: [u8; 6] = [0xff; 6];

fn lab() -> (TempDir, PathBuf) {
    let folder =
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let path = folder.path().join("bus");
    (folder, path)
}

fn mac(number: usize) -> [u8; 6] {
    let [high, low] = u16::try_from(number).expect("few").to_be_bytes();
    [2, 0, 0, 0, high, low]
}

fn station(path: &Path, number: usize) -> Station {
    let bus = Bus::open_or_create(path, 0o600).expect("a bus");
    let options = StationOptions::new().mac(MacAddr6::from(mac(number)));
    Station::join(bus, options).expect("joined")
}

/// So many stations in a wait set, with their numbers as tokens.
fn members(path: &Path, wait_set: &WaitSet, count: usize) -> Vec<Station> {
    let member = |number| {
        let mut member = station(path, number);
        member.join_wait_set(wait_set, number);
        member
    };
    (0..count).map(member).collect()
}

/// A frame that carries a number, of up to a thousand bytes.
fn frame(destination: [u8; 6], source: [u8; 6], number: u32) -> Vec<u8> {
    let mut frame = [&destination[..], &source, &[0x88, 0xb5], &number.to_be_bytes()].concat();
    frame.resize(60 + number as usize % 940, number.to_le_bytes()[0]);
    frame
}

/// The number in a frame, all of which is as it was sent.
fn number(bytes: &[u8]) -> u32 {
    let number = u32::from_be_bytes(bytes[14..18].try_into().expect("4 bytes"));
    assert_eq!(bytes.len(), 60 + number as usize % 940);
    assert!(bytes[18..].iter().all(|byte| *byte == number.to_le_bytes()[0]), "torn");
    number
}

fn received(station: &mut Station) -> usize {
    station.recv_burst(&mut Burst::new(100))
}

fn numbers(station: &mut Station) -> Vec<u32> {
    let mut burst = Burst::new(1_000);
    station.recv_burst(&mut burst);
    burst.iter().map(|frame| number(frame.bytes)).collect()
}

#[test]
fn each_station_receives_its_own_frames_in_order() {
    let (_folder, path) = lab();
    let wait_set = WaitSet::new();
    let mut stations = members(&path, &wait_set, 20);
    let mut sender = station(&path, 100);
    for round in 0..50 {
        let burst: Vec<_> = (0..40)
            .map(|index| frame(mac(index as usize % 20), mac(100), round * 1_000 + index))
            .chain([frame(BROADCAST, mac(100), round * 1_000 + 900)])
            .collect();
        sender.send_burst(&burst).expect("sent");
        for (index, station) in (0..).zip(&mut stations) {
            let mine = [index, index + 20, 900].map(|number| round * 1_000 + number);
            assert_eq!(numbers(station), mine);
        }
    }
    for station in &stations {
        let stats = station.stats();
        assert_eq!((stats.rx_packets, stats.filtered, stats.overruns), (150, 50 * 38, 0));
    }
}

/// A station that does not read holds up no other, and is overrun as if it were alone.
#[test]
fn a_slow_station_loses_only_its_own_frames() {
    let (_folder, path) = lab();
    let wait_set = WaitSet::new();
    let mut stations = members(&path, &wait_set, 3);
    let mut alone = station(&path, 2);
    let mut sender = station(&path, 100);
    // All share.
    sender.send(&frame(BROADCAST, mac(100), 0)).expect("sent");
    for station in stations.iter_mut().chain([&mut alone]) {
        assert_eq!(received(station), 1);
    }
    // More than wait for a station, and less than the ring holds: it reads them all later.
    for number in 0..700 {
        sender.send(&frame(mac(2), mac(100), number)).expect("sent");
        sender.send(&frame(mac(0), mac(100), number)).expect("sent");
        assert_eq!((received(&mut stations[0]), received(&mut stations[1])), (1, 0));
    }
    let mut late = Vec::new();
    loop {
        let some = numbers(&mut stations[2]);
        if some.is_empty() {
            break;
        }
        late.extend(some);
    }
    assert_eq!(late, (0..700).collect::<Vec<_>>());
    assert_eq!(stations[2].stats().filtered, 700);
    while received(&mut alone) > 0 {}
    assert_eq!(stations[2].stats(), alone.stats());

    // More than the ring holds.
    for number in 0..10_000 {
        sender.send(&frame(mac(2), mac(100), number)).expect("sent");
        sender.send(&frame(mac(0), mac(100), number)).expect("sent");
        assert_eq!((received(&mut stations[0]), received(&mut stations[1])), (1, 0));
    }
    let mut late = numbers(&mut stations[2]);
    while late.last() != Some(&9_999) {
        late.extend(numbers(&mut stations[2]));
    }
    assert!(late.is_sorted_by(|one, next| one + 1 == *next));
    let overruns = |station: &Station| station.stats().overruns;
    assert_eq!([0, 1, 2].map(|index| overruns(&stations[index])), [0, 0, 1]);
    // Afterwards it shares again.
    sender.send(&frame(mac(2), mac(100), 5)).expect("sent");
    assert_eq!((received(&mut stations[0]), numbers(&mut stations[2])), (0, vec![5]));
}

#[test]
fn a_new_filter_holds_from_the_next_frame_on() {
    let (_folder, path) = lab();
    let wait_set = WaitSet::new();
    let mut stations = members(&path, &wait_set, 3);
    let mut sender = station(&path, 100);
    let numbered = |to: usize, number| frame(mac(to), mac(100), number);
    for station in &mut stations {
        assert_eq!(received(station), 0);
    }
    sender.send_burst([numbered(1, 1), numbered(7, 2), numbered(2, 3)]).expect("sent");
    assert_eq!(received(&mut stations[0]), 0);
    // What others have looked up meanwhile is looked up again.
    stations[1].set_mac(mac(7).into());
    stations[2].set_promiscuous(true);
    assert_eq!(numbers(&mut stations[1]), [2]);
    assert_eq!(numbers(&mut stations[2]), [3], "what it had passed before was not for it");
    sender.send_burst([numbered(1, 4), numbered(7, 5), numbered(2, 6)]).expect("sent");
    assert_eq!(numbers(&mut stations[1]), [5]);
    assert_eq!(numbers(&mut stations[2]), [4, 5, 6]);
    stations[2].set_promiscuous(false);
    stations[2].set_link_up(false);
    sender.send_burst([numbered(2, 7), numbered(1, 8), numbered(7, 9)]).expect("sent");
    assert_eq!(numbers(&mut stations[1]), [9]);
    assert_eq!(numbers(&mut stations[2]), []);
    stations[2].set_link_up(true);
    sender.send(&numbered(2, 10)).expect("sent");
    assert_eq!(numbers(&mut stations[2]), [10]);
}

#[test]
fn a_sleeper_is_woken_for_what_others_have_looked_up() {
    let (_folder, path) = lab();
    let wait_set = WaitSet::new();
    let mut stations = members(&path, &wait_set, 4);
    let mut sender = station(&path, 100);
    let mut number = 0;
    for _ in 0..20 {
        for sleeper in 0..4 {
            number += 1;
            while stations[sleeper].arm().expect("armed") {
                assert_eq!(received(&mut stations[sleeper]), 0);
            }
            sender.send(&frame(mac(sleeper), mac(100), number)).expect("sent");
            for (index, station) in stations.iter_mut().enumerate() {
                assert!(index == sleeper || received(station) == 0);
            }
            assert!(
                wait_set.wait(Some(Duration::from_secs(10))).expect("woken").contains(&sleeper)
            );
            assert_eq!(numbers(&mut stations[sleeper]), [number]);
            // Frames that others have found for it are a reason to stay awake.
            number += 1;
            sender.send(&frame(mac(sleeper), mac(100), number)).expect("sent");
            assert_eq!(received(&mut stations[(sleeper + 1) % 4]), 0);
            assert!(stations[sleeper].arm().expect("not armed"));
            assert!(stations[sleeper].wait(Some(Duration::ZERO)).expect("frames"));
            assert_eq!(numbers(&mut stations[sleeper]), [number]);
        }
    }
}

/// Sends all that it has received once that is known to be whole.
struct Echo<'s> {
    through: &'s mut Station,
    frames: Vec<Vec<u8>>,
}

impl FrameSink for Echo<'_> {
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        let mut bytes = vec![0; frame.len()];
        frame.copy_to(&mut bytes);
        self.frames.push(bytes);
        true
    }

    fn commit(&mut self) {
        for frame in &mut self.frames {
            frame[..6].copy_from_slice(&BROADCAST);
        }
        self.through.send_burst(&self.frames).expect("sent");
        received(self.through);
        self.frames.clear();
    }

    fn discard(&mut self) {
        self.frames.clear();
    }
}

/// The stations of a set may be used while one of them hands up its frames.
#[test]
fn a_sink_may_call_another_station_of_the_set() {
    let (_folder, path) = lab();
    let wait_set = WaitSet::new();
    let mut stations = members(&path, &wait_set, 3);
    for station in &mut stations[..2] {
        station.set_promiscuous(true);
        station.set_learning(true);
    }
    let mut sender = station(&path, 100);
    for number in 0..10 {
        let [one, other, third] = &mut stations[..] else { unreachable!("three") };
        sender.send(&frame(BROADCAST, mac(100), number)).expect("sent");
        let mut echo = Echo { through: other, frames: Vec::new() };
        assert_eq!(one.recv_into(&mut echo, 100), 1);
        assert_eq!(numbers(third), [number, number]);
        while received(one) + received(other) > 0 {}
        while received(&mut sender) > 0 {}
    }
}

fn learner(path: &Path, wait_set: &WaitSet, number: usize) -> Station {
    let mut station = station(path, number);
    station.set_promiscuous(true);
    station.set_learning(true);
    station.join_wait_set(wait_set, number);
    station
}

#[test]
fn learning_stations_of_a_set_learn_together() {
    let (_folder, path) = lab();
    let wait_set = WaitSet::new();
    let mut ports: Vec<_> = (0..3).map(|number| learner(&path, &wait_set, number)).collect();
    let mut host = station(&path, 100);
    let all = |ports: &mut [Station]| -> Vec<usize> { ports.iter_mut().map(received).collect() };
    let (peer, friend) = (mac(50), mac(51));

    assert_eq!(all(&mut ports), [0, 0, 0]);
    ports[1].send(&frame(BROADCAST, peer, 1)).expect("sent");
    assert_eq!(all(&mut ports), [1, 0, 1]);
    host.send(&frame(peer, mac(100), 2)).expect("sent");
    assert_eq!(all(&mut ports), [0, 1, 0]);
    ports[0].send(&frame(mac(100), friend, 3)).expect("sent");
    assert_eq!(all(&mut ports), [0, 0, 0], "the host is not behind a port");
    host.send(&frame(mac(60), mac(100), 4)).expect("sent");
    assert_eq!(all(&mut ports), [1, 1, 1], "it is unknown");

    // From one port to another.
    ports[2].send(&frame(friend, peer, 5)).expect("sent");
    assert_eq!(all(&mut ports), [1, 0, 0]);
    host.send(&frame(peer, mac(100), 6)).expect("sent");
    assert_eq!(all(&mut ports), [0, 0, 1]);
    // And to the bus.
    host.send(&frame(friend, peer, 7)).expect("sent");
    assert_eq!(all(&mut ports), [1, 0, 0]);
    ports[0].send(&frame(peer, friend, 8)).expect("sent");
    assert_eq!(all(&mut ports), [0, 0, 0]);

    // A new station in the place of one knows nothing, and the others know what they knew.
    ports[0] = learner(&path, &wait_set, 0);
    host.send(&frame(friend, mac(100), 9)).expect("sent");
    assert_eq!(all(&mut ports), [1, 0, 0]);
    host.send(&frame(mac(100), peer, 10)).expect("sent");
    assert_eq!(all(&mut ports), [0, 0, 0]);
}

#[test]
fn two_threads_share_a_reading() {
    const FRAMES: u32 = 30_000;
    let (_folder, path) = lab();
    let wait_set = WaitSet::new();
    let mut stations = members(&path, &wait_set, 4);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (index, pair) in stations.chunks_mut(2).enumerate() {
            let done = &done;
            scope.spawn(move || {
                let mut burst = Burst::new(64);
                let mut next = [0; 2];
                loop {
                    let was_done = done.load(Ordering::Acquire);
                    let mut some = false;
                    for (offset, station) in pair.iter_mut().enumerate() {
                        station.recv_burst(&mut burst);
                        for frame in &burst {
                            let number = number(frame.bytes);
                            assert!(
                                number >= next[offset] && number as usize % 4 == index * 2 + offset
                            );
                            next[offset] = number + 1;
                            some = true;
                        }
                    }
                    if was_done
                        && !some
                        && pair.iter_mut().all(|station| !station.arm().expect("a bus"))
                    {
                        break;
                    }
                }
                for (next, station) in next.iter().zip(pair) {
                    let stats = station.stats();
                    assert!(next + 4 > FRAMES, "the newest frames are there: {next}");
                    if stats.overruns == 0 {
                        let mine = u64::from(FRAMES / 4);
                        assert_eq!((stats.rx_packets, stats.filtered), (mine, 3 * mine));
                    }
                }
            });
        }
        let mut sender = station(&path, 100);
        for first in (0..FRAMES).step_by(20) {
            let frames: Vec<_> = (first..first + 20)
                .map(|number| frame(mac(number as usize % 4), mac(100), number))
                .collect();
            sender.send_burst(&frames).expect("sent");
            if first % 200 == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        done.store(true, Ordering::Release);
    });
}
