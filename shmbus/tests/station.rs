//! A station's settings: link, MTU, groups, counters, and sleeping where nothing can be watched.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use shmbus::{Burst, Bus, FlowQueue, MacAddr6, SendError, Station, StationOptions};

const BUS: &str = "STATION_TEST_BUS";

fn station(path: &Path) -> Station {
    let bus = Bus::open_or_create(path, 0o600).expect("a bus");
    Station::join(bus, StationOptions::new().lock_timeout(Duration::from_millis(5)))
        .expect("joined")
}

fn pair() -> (tempfile::TempDir, Station, Station) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (alice, bob) = (station(&path), station(&path));
    (folder, alice, bob)
}

fn to(destination: [u8; 6]) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&destination);
    frame
}

fn received(station: &mut Station) -> usize {
    station.recv_burst(&mut Burst::new(100))
}

#[test]
fn frames_sent_while_the_link_is_down_go_nowhere() {
    let (_folder, mut alice, mut bob) = pair();
    alice.set_link_up(false);
    alice.send_burst([to([0xff; 6]); 3]).expect("accepted");
    assert_eq!(received(&mut bob), 0);
    assert_eq!((alice.stats().tx_link_down, alice.stats().tx_packets), (3, 0));
    bob.send(&to([0xff; 6])).expect("sent");
    assert_eq!(received(&mut alice), 0, "nothing is received either");
    alice.set_link_up(true);
    assert_eq!(received(&mut alice), 0, "nothing old is delivered");
    alice.send(&to([0xff; 6])).expect("sent");
    bob.send(&to([0xff; 6])).expect("sent");
    assert_eq!((received(&mut alice), received(&mut bob)), (1, 1));
}

#[test]
fn the_mtu_bounds_what_is_sent() {
    let (_folder, mut alice, mut bob) = pair();
    assert_eq!(alice.mtu(), 1_500);
    assert!(alice.set_mtu(600) && !alice.set_mtu(67) && !alice.set_mtu(1_501));
    assert!(matches!(alice.send(&[0xff; 615]), Err(SendError::TooLong { max: 614, .. })));
    alice.send(&[0xff; 614]).expect("sent");
    bob.send(&[0xff; 1_514]).expect("sent");
    assert_eq!((received(&mut alice), received(&mut bob)), (1, 1), "others may send longer ones");
    assert_eq!(alice.stats().tx_refused, 1);
}

#[test]
fn groups_are_heard_when_listed_or_all() {
    let (_folder, mut alice, mut bob) = pair();
    let (group, other) = ([1, 0, 0x5e, 0, 0, 1], [1, 0, 0x5e, 0, 0, 2]);
    let send = |alice: &mut Station| {
        alice.send_burst([to(group), to(other), to([0xff; 6])]).expect("sent")
    };
    send(&mut alice);
    assert_eq!(received(&mut bob), 3);
    bob.set_groups([MacAddr6::from(group)]);
    send(&mut alice);
    assert_eq!(received(&mut bob), 2);
    assert_eq!(bob.stats().filtered, 1);
}

#[test]
fn the_counters_say_why() {
    let (folder, mut alice, mut bob) = pair();
    alice.send_burst([to([0xff; 6]); 200]).expect("sent");
    assert_eq!(
        (alice.stats().wakeups, alice.stats().tx_packets, alice.stats().lock_waits),
        (1, 200, 0)
    );
    assert_eq!(bob.wait(Some(Duration::ZERO)).ok(), Some(true));
    assert_eq!(bob.stats().sleeps, 0, "there was something to read");
    received(&mut bob);
    received(&mut bob);
    assert_eq!(bob.wait(Some(Duration::from_millis(1))).ok(), Some(false));
    assert!(bob.stats().sleeps > 0);
    // A rump kernel has the lock.
    let file = std::fs::File::options().write(true).open(folder.path().join("bus")).expect("a bus");
    std::os::unix::fs::FileExt::write_all_at(&file, &1_u32.to_ne_bytes(), 24).expect("locked");
    assert!(matches!(alice.send_burst([to([0xff; 6]); 7]), Err(SendError::Busy { sent: 0, .. })));
    assert_eq!((alice.stats().tx_busy, alice.stats().lock_waits), (7, 1));
}

/// In a process of its own, where no further descriptor is available.
#[test]
fn a_sleeper_without_a_watch_wakes_all_the_same() {
    if let Some(path) = std::env::var_os(BUS) {
        let (mut alice, mut bob) = (station(Path::new(&path)), station(Path::new(&path)));
        let next = std::fs::File::open("/dev/null").expect("a descriptor");
        let used = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&next)).expect("not negative");
        drop(next);
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, used, hard).expect("lowered");
        assert!(bob.arm().is_err(), "an inotify instance was available");
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| bob.wait(Some(Duration::from_secs(60))));
            alice.send(&to([0xff; 6])).expect("sent");
            assert_eq!(sleeper.join().expect("no panic").ok(), Some(true));
        });
        assert_eq!(received(&mut bob), 1);
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_sleeper_without_a_watch_wakes_all_the_same"])
        .env(BUS, folder.path().join("bus"))
        .output()
        .expect("started");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
}

fn from_to(source: u8, destination: u8, kind: u8) -> [u8; 60] {
    let mut frame = [0; 60];
    (frame[5], frame[11], frame[13]) = (destination, source, kind);
    frame
}

#[test]
fn a_learning_station_receives_what_is_for_those_behind_it() {
    let (_folder, mut alice, mut bob) = pair();
    bob.set_promiscuous(true);
    bob.set_learning(true);
    assert!(bob.is_learning() && !alice.is_learning());
    // In one read: the addresses are learned when the frames are known to be whole.
    alice.send_burst([from_to(2, 4, 7), from_to(2, 6, 8), from_to(4, 2, 7)]).expect("sent");
    assert_eq!(received(&mut bob), 3);
    alice.send_burst([from_to(2, 4, 7), from_to(4, 6, 7)]).expect("sent");
    assert_eq!((received(&mut bob), bob.stats().filtered), (1, 1));

    // What it sends is behind it from then on, also where it was elsewhere before.
    bob.send_burst([from_to(4, 2, 0), from_to(6, 2, 0), from_to(8, 2, 0)]).expect("sent");
    assert_eq!(received(&mut bob), 0, "its own are not its own to hear");
    alice.send_burst([4, 6, 8].map(|to| from_to(2, to, 7))).expect("sent");
    assert_eq!(received(&mut bob), 3);

    // Overtaken by more than a ring holds, perhaps while it read: it learns nothing from that.
    bob.set_promiscuous(false);
    alice.send(&from_to(2, 4, 8)).expect("sent");
    assert_eq!(received(&mut bob), 0, "its own addresses come first");
    bob.set_promiscuous(true);
    for _ in 0..1_000 {
        alice
            .send(&[[0xff; 6], [4; 6]].concat().into_iter().chain([0; 1_502]).collect::<Vec<_>>())
            .expect("sent");
    }
    assert_eq!((received(&mut bob), bob.stats().overruns), (0, 1));

    bob.set_learning(false);
    let before = bob.stats().filtered;
    while received(&mut bob) > 0 {}
    alice.send(&from_to(8, 2, 7)).expect("sent");
    assert_eq!((received(&mut bob), bob.stats().filtered), (1, before));
    bob.set_learning(true);
    alice.send(&from_to(8, 4, 7)).expect("sent");
    assert_eq!(received(&mut bob), 1, "it has forgotten what it knew");
}

/// What is behind one queue is behind them all, so a queue that slept while another learned it is
/// woken for its share all the same.
#[test]
fn a_learning_queue_is_woken_for_what_only_another_has_learned() {
    let (folder, mut peer, mut first) = pair();
    let mut second = station(&folder.path().join("bus"));
    for (station, queue) in [&mut first, &mut second].into_iter().zip(FlowQueue::set(2)) {
        station.set_flow_queue(Some(queue));
        station.set_promiscuous(true);
        station.set_learning(true);
    }
    // A sender notes its address while others sleep. Frames to it wake only its station from then on.
    assert!(!second.arm().expect("armed"), "there is nothing to read");
    peer.send(&from_to(4, 6, 7)).expect("sent");
    second.disarm();
    assert_eq!(received(&mut first) + received(&mut second), 1);
    assert!(!second.arm().expect("armed"), "there is nothing more to read");
    first.send(&from_to(2, 4, 7)).expect("sent");
    // Many flows to the address, so that each queue has some.
    let flows = 16;
    peer.send_burst((1..=flows).map(|flow| from_to(flow * 2 + 2, 2, 7))).expect("sent");
    second.disarm();
    let shares = [received(&mut first), received(&mut second)];
    assert!(shares.iter().sum::<usize>() == usize::from(flows) && shares[1] > 0, "{shares:?}");
}
