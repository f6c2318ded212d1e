//! A frame wakes those that it is for, and leaves the others asleep: on buses of both formats, with
//! a folder beside the bus and without.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shmbus::{
    BUS_SIZE, Burst, Bus, BusOptions, MAX_SLEEP, MacAddr6, Station, StationOptions, Tap, WaitSet,
};
use tempfile::TempDir;

const GROUP: MacAddr6 = MacAddr6::new(1, 0, 0x5e, 0, 0, 7);
const OTHER_GROUP: MacAddr6 = MacAddr6::new(0x33, 0x33, 0, 0, 0, 9);
const BROADCAST: MacAddr6 = MacAddr6::broadcast();
/// Longer than any sleep that ends by itself.
const LONG: Duration = Duration::from_secs(30);

/// A bus of one of the formats.
struct Lan {
    folder: TempDir,
    options: BusOptions,
}

impl Lan {
    fn new(shmif: bool) -> Self {
        let folder =
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        Self { folder, options: BusOptions::new().shmif(shmif) }
    }

    fn both() -> [Self; 2] {
        [Self::new(true), Self::new(false)]
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("bus")
    }

    fn bus(&self) -> Bus {
        self.options.open_or_create(self.path()).expect("a bus")
    }

    fn join(&self, options: StationOptions) -> Station {
        Station::join(self.bus(), options).expect("joined")
    }

    fn station(&self) -> Station {
        self.join(StationOptions::new())
    }

    fn names(&self) -> BTreeSet<String> {
        names(self.folder.path())
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect()
}

fn frame(to: MacAddr6, from: MacAddr6) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(to.as_bytes());
    frame[6..12].copy_from_slice(from.as_bytes());
    frame
}

fn received(station: &mut Station) -> usize {
    station.recv_burst(&mut Burst::new(64))
}

/// Sends single frames between two stations: more than the ring holds.
fn talk(alice: &mut Station, bob: &mut Station) {
    let count = 3 * BUS_SIZE / 84;
    for _ in 0..count {
        alice.send(&frame(bob.mac(), alice.mac())).expect("sent");
        assert_eq!(received(bob), 1);
    }
}

#[test]
fn a_bystander_sleeps_through_what_is_for_others() {
    for lan in Lan::both() {
        let (mut alice, mut bob, mut bystander) = (lan.station(), lan.station(), lan.station());
        let wait_set = WaitSet::new();
        bystander.join_wait_set(&wait_set, 7);
        assert!(!bystander.arm().expect("armed"));
        // On a bus that rump kernels share, the first write tells the listener that it is not
        // needed.
        alice.send(&frame(bob.mac(), alice.mac())).expect("sent");
        assert_eq!(received(&mut bob), 1);
        assert_eq!(wait_set.ready(), []);
        for _ in 0..3 {
            talk(&mut alice, &mut bob);
            assert_eq!(wait_set.wait(Some(Duration::ZERO)).expect("waited"), []);
        }
        // It is woken for its own frame, and finds it without reading the others.
        alice.send(&frame(bystander.mac(), alice.mac())).expect("sent");
        assert_eq!(wait_set.wait(Some(LONG)).expect("waited"), [7]);
        assert_eq!(received(&mut bystander), 1);
        let stats = bystander.stats();
        assert_eq!((stats.rx_packets, stats.filtered, stats.overruns), (1, 0, 0));
    }
}

#[test]
fn a_station_falls_asleep_while_others_talk() {
    for lan in Lan::both() {
        let (mut alice, mut bob) = (lan.station(), lan.station());
        let wait_set = WaitSet::new();
        let mut bystanders = [(); 3].map(|()| lan.station());
        for (token, bystander) in bystanders.iter_mut().enumerate() {
            bystander.join_wait_set(&wait_set, token);
        }
        for round in 0..20 {
            // What others send is on the ring, unread, when each of them falls asleep.
            for bystander in &mut bystanders {
                alice.send(&frame(bob.mac(), alice.mac())).expect("sent");
                assert!(!bystander.arm().expect("armed"), "round {round}");
            }
            assert_eq!(received(&mut bob), bystanders.len());
            // A frame for it keeps it awake, whatever lies before that.
            let [first, ..] = &mut bystanders;
            first.disarm();
            alice.send(&frame(bob.mac(), alice.mac())).expect("sent");
            alice.send(&frame(first.mac(), alice.mac())).expect("sent");
            assert!(first.arm().expect("not armed"));
            assert_eq!((received(first), received(first), received(&mut bob)), (1, 0, 1));
        }
    }
}

#[test]
fn a_thread_that_waits_sleeps_through_what_is_for_others() {
    for lan in Lan::both() {
        let (mut alice, mut bob, mut bystander) = (lan.station(), lan.station(), lan.station());
        let address = bystander.mac();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                while received(&mut bystander) == 0 {
                    assert!(bystander.wait(Some(LONG)).expect("waited"));
                }
                bystander.stats()
            });
            for _ in 0..3 {
                talk(&mut alice, &mut bob);
            }
            alice.send(&frame(address, alice.mac())).expect("sent");
            let stats = waiting.join().expect("no panic");
            assert_eq!((stats.rx_packets, stats.overruns), (1, 0));
            // While it falls asleep it reads what comes meanwhile.
            let all = bob.stats().rx_packets;
            assert!(stats.filtered < all / 2, "{} frames of {all}", stats.filtered);
            assert!(stats.sleeps < all / 2, "{} sleeps, {all} frames", stats.sleeps);
        });
    }
}

#[test]
fn those_are_woken_that_want_a_frame() {
    for lan in Lan::both() {
        let mut sender = lan.station();
        let mut sleepers = [
            lan.station(),
            lan.station(),
            lan.join(StationOptions::new().promiscuous(true)),
            lan.station(),
        ];
        sleepers[1].set_groups([GROUP]);
        let moved = MacAddr6::new(2, 0, 0, 0, 0, 0x77);
        sleepers[3].set_mac(moved);
        sleepers[3].set_groups([OTHER_GROUP]);
        let wait_set = WaitSet::new();
        for (token, sleeper) in sleepers.iter_mut().enumerate() {
            sleeper.join_wait_set(&wait_set, token);
        }
        let cases = [
            (sleepers[0].mac(), vec![0, 2]),
            (sleepers[1].mac(), vec![1, 2]),
            (moved, vec![2, 3]),
            (MacAddr6::new(2, 0, 0, 0, 0, 0x66), vec![2]),
            (GROUP, vec![0, 1, 2]),
            (OTHER_GROUP, vec![0, 2, 3]),
            (BROADCAST, vec![0, 1, 2, 3]),
        ];
        // The others' role of listening costs a wake-up that finds nothing, which is not theirs.
        for (to, expected) in cases {
            for sleeper in &mut sleepers {
                while sleeper.arm().expect("armed") {
                    received(sleeper);
                }
            }
            sender.send(&frame(to, sender.mac())).expect("sent");
            let mut woken = wait_set.wait(Some(LONG)).expect("waited");
            woken.sort_unstable();
            assert_eq!(woken, expected, "{to}");
            for token in woken {
                assert_eq!(received(&mut sleepers[token]), 1, "{to}");
            }
        }
    }
}

#[test]
fn sending_to_stations_that_are_awake_wakes_nothing_on_a_bus_of_our_own() {
    let lan = Lan::new(false);
    let (mut alice, mut bob) = (lan.station(), lan.station());
    talk(&mut alice, &mut bob);
    assert_eq!(alice.stats().wakeups, 0);
    // A reader that cannot write the bus sleeps on the file, and senders find out.
    let mut tap = Tap::new(Bus::open_read_only(lan.path()).expect("a bus")).expect("a tap");
    assert!(!tap.wait(Some(2 * MAX_SLEEP)).expect("waited"));
    alice.send(&frame(bob.mac(), alice.mac())).expect("sent");
    assert_eq!(alice.stats().wakeups, 1);
    assert!(tap.wait(Some(LONG)).expect("waited"));
    drop(tap);
    // Senders find out that the reader is gone.
    let begin = Instant::now();
    loop {
        let before = alice.stats().wakeups;
        alice.send(&frame(bob.mac(), alice.mac())).expect("sent");
        if alice.stats().wakeups == before {
            break;
        }
        assert!(begin.elapsed() < LONG, "they wake a reader that is gone");
    }
}

#[test]
fn what_lies_beside_the_bus_goes_with_the_last_station() {
    for (lan, has_table) in Lan::both().into_iter().zip([true, false]) {
        let (mut alice, mut bob) = (lan.station(), lan.station());
        assert!(!alice.arm().expect("armed") && !bob.arm().expect("armed"));
        assert_eq!(lan.names(), BTreeSet::from(["bus".to_owned(), ".bus.wake".to_owned()]));
        let beside = names(&lan.folder.path().join(".bus.wake"));
        assert_eq!(beside.len(), 2 + usize::from(has_table), "{beside:?}");
        drop(alice);
        assert_eq!(names(&lan.folder.path().join(".bus.wake")).len(), 1 + usize::from(has_table));
        drop(bob);
        assert_eq!(lan.names(), BTreeSet::from(["bus".to_owned()]));
    }
}

#[test]
fn where_nothing_can_lie_beside_the_bus_every_burst_wakes() {
    for lan in Lan::both() {
        fs::write(lan.folder.path().join(".bus.wake"), "in the way").expect("a file");
        let (mut alice, mut bob, mut bystander) = (lan.station(), lan.station(), lan.station());
        let wait_set = WaitSet::new();
        for (token, station) in [&mut bob, &mut bystander].into_iter().enumerate() {
            station.join_wait_set(&wait_set, token);
            assert!(!station.arm().expect("armed"));
        }
        // By then senders know that some sleep on the file.
        let mut woken = BTreeSet::new();
        alice.send(&frame(bob.mac(), alice.mac())).expect("sent");
        while !woken.contains(&0) {
            woken.extend(wait_set.wait(Some(LONG)).expect("waited"));
        }
        assert_eq!(received(&mut bob), 1);
        drop((alice, bob, bystander));
        assert_eq!(
            fs::read(lan.folder.path().join(".bus.wake")).expect("untouched"),
            b"in the way"
        );
    }
}

#[test]
fn a_bus_that_lost_its_name_takes_along_what_lies_beside_it() {
    for lan in Lan::both() {
        let mut station = lan.station();
        assert!(!station.arm().expect("armed"));
        fs::remove_file(lan.path()).expect("removed");
        drop(station);
        assert_eq!(lan.names(), BTreeSet::new());
        let mut station = lan.station();
        assert!(!station.arm().expect("armed"));
        fs::rename(lan.path(), lan.folder.path().join("other")).expect("renamed");
        drop(station);
        assert_eq!(lan.names(), BTreeSet::from(["other".to_owned()]));
    }
}

#[test]
fn two_buses_of_one_name_do_not_wake_each_other() {
    for lan in Lan::both() {
        let wait_set = WaitSet::new();
        let mut old = lan.station();
        old.join_wait_set(&wait_set, 1);
        fs::remove_file(lan.path()).expect("removed");
        let mut new = lan.station();
        new.join_wait_set(&wait_set, 2);
        assert!(!old.arm().expect("armed") && !new.arm().expect("armed"));
        let mut sender = lan.station();
        sender.send(&frame(BROADCAST, sender.mac())).expect("sent");
        // On a busy machine the other may look by itself meanwhile.
        while !wait_set.wait(Some(LONG)).expect("waited").contains(&2) {}
        assert_eq!((received(&mut old), received(&mut new)), (0, 1));
        drop(old);
        assert!(!new.arm().expect("armed"));
        sender.send(&frame(new.mac(), sender.mac())).expect("sent");
        assert_eq!(wait_set.wait(Some(LONG)).expect("waited"), [2]);
        drop((new, sender));
        assert_eq!(lan.names(), BTreeSet::from(["bus".to_owned()]));
    }
}
