//! Rump kernels know nothing of the table of sleepers. They wake those that they send to all the
//! same, are woken themselves, and leave the others asleep.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use shmbus::{Burst, Bus, MAX_SLEEP, MacAddr6, Station, StationOptions};
use system_tests::reference::RumpPeer;
use system_tests::{WAIT_TIMEOUT, frames, lab};

const RUMP: frames::Mac = [0xb2, 0xa0, 0, 0, 0, 1];
const OTHER_RUMP: frames::Mac = [0xb2, 0xa0, 0, 0, 0, 2];
const ROUNDS: u32 = 300;
/// Rounds in which a process may lose the processor for as long as a sleeper sleeps by itself.
const EXCUSED: u32 = 10;

fn station(path: &Path) -> Station {
    Station::join(Bus::open_or_create(path, 0o600).unwrap(), StationOptions::new()).unwrap()
}

fn frame(to: frames::Mac, from: frames::Mac, number: u32) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[14..18].copy_from_slice(&number.to_be_bytes());
    frame
}

fn mac(station: &Station) -> frames::Mac {
    MacAddr6::into_array(station.mac())
}

/// Answers each frame for the station, asleep in between, until `stop`. Returns the station.
fn answer(mut station: Station, stop: &AtomicBool) -> Station {
    let mut burst = Burst::new(8);
    while !stop.load(Ordering::Relaxed) {
        if station.recv_burst(&mut burst) == 0 {
            station.wait(Some(MAX_SLEEP)).unwrap();
        }
        for received in &burst {
            let number = u32::from_be_bytes(received.bytes[14..18].try_into().unwrap());
            let from = received.bytes[6..12].try_into().unwrap();
            station.send(&frame(from, mac(&station), number)).unwrap();
        }
        burst.clear();
    }
    station
}

/// Sends a frame to each station in turn and waits for its answer. Returns in how many rounds that
/// took as long as a sleep that ends by itself.
fn ask(rump: &mut RumpPeer, own: frames::Mac, stations: &[frames::Mac]) -> u32 {
    let mut slow = 0;
    for number in 0..ROUNDS {
        let to = stations[number as usize % stations.len()];
        let begin = Instant::now();
        rump.send([frame(to, own, number)]);
        let answer = loop {
            let received = rump.wait(WAIT_TIMEOUT).expect("an answer");
            if received[..6] == own {
                break received;
            }
        };
        assert_eq!(answer, frame(own, to, number));
        slow += u32::from(begin.elapsed() >= MAX_SLEEP / 2);
    }
    slow
}

#[test]
fn each_sleeper_hears_a_rump_kernel_at_once() {
    let lab = lab!();
    let path = lab.path("lan.bus");
    let stations: Vec<Station> = (0..4).map(|_| station(&path)).collect();
    let macs: Vec<_> = stations.iter().map(mac).collect();
    let bystander = station(&path);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sleepers: Vec<_> =
            stations.into_iter().map(|station| scope.spawn(|| answer(station, &stop))).collect();
        let bystander = scope.spawn(|| answer(bystander, &stop));
        let mut rump = RumpPeer::attach(&path, RUMP).choosy();
        let slow = ask(&mut rump, RUMP, &macs);
        stop.store(true, Ordering::Relaxed);
        assert!(slow <= EXCUSED, "{slow} of {ROUNDS} took as long as a sleep");
        for sleeper in sleepers {
            assert!(sleeper.join().unwrap().stats().rx_packets > 0);
        }
        let stats = bystander.join().unwrap().stats();
        assert_eq!((stats.rx_packets, stats.overruns), (0, 0));
    });
}

#[test]
fn two_rump_kernels_and_sleepers_talk_across() {
    let lab = lab!();
    let path = lab.path("lan.bus");
    let stations: Vec<Station> = (0..2).map(|_| station(&path)).collect();
    let macs: Vec<_> = stations.iter().map(mac).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for station in stations {
            scope.spawn(|| answer(station, &stop));
        }
        let asking: Vec<_> = [RUMP, OTHER_RUMP]
            .into_iter()
            .map(|own| {
                let (path, macs) = (&path, &macs);
                scope.spawn(move || ask(&mut RumpPeer::attach(path, own).choosy(), own, macs))
            })
            .collect();
        let slow: Vec<u32> = asking.into_iter().map(|thread| thread.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(slow.iter().all(|slow| *slow <= EXCUSED), "{slow:?} of {ROUNDS}");
    });
}

/// A station that finds no place beside the bus is to the others what a rump kernel is.
#[test]
fn old_and_new_sleepers_share_a_bus() {
    let lab = lab!();
    let path = lab.path("lan.bus");
    // The first makes the bus, and what lies beside it is in the way of the second.
    let beside = path.with_file_name(".lan.bus.wake");
    std::fs::write(&beside, "").unwrap();
    let old = station(&path);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (old_mac, stop) = (mac(&old), &stop);
        scope.spawn(move || answer(old, stop));
        let mut rump = RumpPeer::attach(&path, RUMP).choosy();
        let slow = ask(&mut rump, RUMP, &[old_mac]);
        stop.store(true, Ordering::Relaxed);
        assert!(slow <= EXCUSED, "{slow} of {ROUNDS} took as long as a sleep");
    });
}

#[test]
fn a_rump_kernel_that_sleeps_is_woken_by_each_burst() {
    let lab = lab!();
    let path = lab.path("lan.bus");
    let mut ours = station(&path);
    let mut rump = RumpPeer::attach(&path, RUMP).choosy();
    for number in 0..ROUNDS {
        let sent = frame(RUMP, mac(&ours), number);
        ours.send(&sent).unwrap();
        assert_eq!(rump.wait(WAIT_TIMEOUT), Some(sent));
    }
    assert_eq!(ours.stats().wakeups, u64::from(ROUNDS));
    assert_eq!(ours.stats().wakeups_failed, 0);
}
