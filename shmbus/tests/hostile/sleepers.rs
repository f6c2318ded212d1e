//! What stations sleep by, spoiled while they talk: the table of sleepers, the folder beside the
//! bus, the doorbells. They hear each other all the same, within the time after which each looks by
//! itself.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::stat::Mode;
use nix::sys::time::TimeValLike as _;
use nix::unistd::mkfifo;
use shmbus::{Burst, Bus, BusOptions, Station, StationOptions, WaitSet};
use tempfile::TempDir;

/// The longest an answer may take: two sleeps of 100 ms end by themselves on the way, and the
/// machine runs other tests. A sleep without end is longer.
const LONGEST: Duration = Duration::from_secs(3);
/// A station looks by itself more than once in this time.
const QUIET: Duration = Duration::from_millis(250);
/// Where the table lies in a bus of our own format.
const TABLE_AT: u64 = 4_096;
const TABLE_SIZE: u64 = 143_360;
/// Its first two words.
const HEADER: u64 = 16;
/// Where the slots begin in the table, in bytes, and what each has.
const SLOTS_AT: u64 = 1_408 * 8;
const SLOT_SIZE: u64 = 16 * 8;
const SLOTS: u64 = 1_024;

fn mac(host: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, host]
}

fn frame(to: u8, round: u64) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&mac(to));
    frame[6..12].copy_from_slice(&mac(9));
    frame[14..22].copy_from_slice(&round.to_be_bytes());
    frame
}

fn round_of(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[14..22].try_into().expect("eight bytes"))
}

struct Lab {
    folder: TempDir,
    shmif: bool,
}

impl Lab {
    fn new(shmif: bool) -> Self {
        let folder =
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let lab = Self { folder, shmif };
        drop(BusOptions::new().shmif(shmif).open_or_create(lab.bus()).expect("made"));
        lab
    }

    fn bus(&self) -> PathBuf {
        self.folder.path().join("bus")
    }

    fn beside(&self) -> PathBuf {
        self.folder.path().join(".bus.wake")
    }

    fn join(&self, host: u8) -> Station {
        let bus = Bus::open(self.bus()).expect("a bus");
        Station::join(bus, StationOptions::new().mac(mac(host).into())).expect("joined")
    }

    /// The file that holds the table, and where it begins. In a bus of our own format the first two
    /// words are part of the file's header: they say what it is and how large.
    fn table(&self) -> (File, u64) {
        let path = if self.shmif { self.beside().join("table") } else { self.bus() };
        let file = File::options().read(true).write(true).open(path).expect("a table");
        (file, if self.shmif { 0 } else { TABLE_AT })
    }

    /// The doorbells that are there.
    fn doorbells(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.beside()).into_iter().flatten().flatten();
        files.map(|file| file.path()).filter(|path| !path.ends_with("table")).collect()
    }
}

/// How an exchange went.
#[derive(Debug)]
struct Talk {
    rounds: u64,
    /// Questions that were asked again.
    lost: u64,
    longest: Duration,
}

/// Two stations ask and answer while `spoil` is at work and for some time after it. One waits
/// alone, the other shares a wait set with a bystander. With `may_lose` a question is asked again.
fn talk_while(lab: &Lab, may_lose: bool, spoil: impl FnOnce()) -> Talk {
    let (done, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (asking, answering) = (lab.join(1), lab.join(2));
        let bystander = lab.join(3);
        let asking = scope.spawn(|| ask(asking, may_lose, &done, &rounds));
        let answering = scope.spawn(|| answer(answering, bystander, &over));
        let wait_for = |count: u64| {
            let end = rounds.load(Ordering::Relaxed) + count;
            while rounds.load(Ordering::Relaxed) < end && !asking.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        wait_for(5);
        spoil();
        std::thread::sleep(QUIET);
        wait_for(20);
        done.store(true, Ordering::Release);
        let talk = asking.join();
        over.store(true, Ordering::Release);
        let talk = talk.expect("all was answered");
        answering.join().expect("no panic");
        talk
    })
}

fn ask(mut station: Station, may_lose: bool, done: &AtomicBool, rounds: &AtomicU64) -> Talk {
    let mut burst = Burst::new(16);
    let mut talk = Talk { rounds: 0, lost: 0, longest: Duration::ZERO };
    while !done.load(Ordering::Acquire) {
        let begin = Instant::now();
        let mut asked = begin;
        station.send(&frame(2, talk.rounds)).expect("sent");
        let mut answered = false;
        while !answered {
            assert!(begin.elapsed() < LONGEST, "no answer to {}: {station:?}", talk.rounds);
            station.wait(Some(QUIET)).expect("watched");
            station.recv_burst(&mut burst);
            answered = burst.iter().any(|frame| round_of(frame.bytes) == talk.rounds);
            if !answered && may_lose && asked.elapsed() > QUIET {
                talk.lost += 1;
                asked = Instant::now();
                station.send(&frame(2, talk.rounds)).expect("sent");
            }
        }
        talk.longest = talk.longest.max(begin.elapsed());
        talk.rounds += 1;
        rounds.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_micros(fastrand::u64(..2_000)));
    }
    assert_eq!(station.stats().overruns, 0);
    talk
}

fn answer(mut station: Station, mut bystander: Station, over: &AtomicBool) {
    let wait_set = WaitSet::new();
    station.join_wait_set(&wait_set, 0);
    bystander.join_wait_set(&wait_set, 1);
    let mut burst = Burst::new(16);
    let mut awake = vec![0, 1];
    while !over.load(Ordering::Acquire) {
        for token in awake {
            let station = if token == 0 { &mut station } else { &mut bystander };
            while station.arm().expect("watched") {
                station.recv_burst(&mut burst);
                for asked in &burst {
                    station.send(&frame(1, round_of(asked.bytes))).expect("sent");
                }
            }
        }
        awake = wait_set.wait(Some(QUIET)).expect("watched");
    }
}

/// The processor's time that this thread has used.
fn used() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("counted");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).expect("not negative"))
}

fn both(test: impl Fn(&Lab)) {
    for shmif in [true, false] {
        test(&Lab::new(shmif));
    }
}

/// Overwrites a random stretch of the table, or flips one bit of it.
fn scribble(table: &(File, u64)) {
    let (file, begin) = table;
    if fastrand::bool() {
        let len = fastrand::u64(8..2_000);
        let at = fastrand::u64(HEADER..TABLE_SIZE - len);
        let bytes: Vec<u8> = (0..len).map(|_| fastrand::u8(..)).collect();
        file.write_all_at(&bytes, begin + at).expect("written");
    } else {
        let at = begin + fastrand::u64(HEADER..SLOTS_AT + 8 * SLOT_SIZE);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("read");
        file.write_all_at(&[byte[0] ^ 1 << fastrand::u32(..8)], at).expect("written");
    }
}

#[test]
fn a_table_that_is_scribbled_on_loses_no_frame() {
    both(|lab| {
        let talk = talk_while(lab, false, || {
            let table = lab.table();
            for _ in 0..12 {
                scribble(&table);
                std::thread::sleep(QUIET);
            }
        });
        println!("{talk:?}");
    });
}

/// Frames may be lost while it lasts, as on a ring that is scribbled on; afterwards all is well.
#[test]
fn a_table_that_is_scribbled_on_without_end_stops_no_station() {
    both(|lab| {
        let talk = talk_while(lab, true, || {
            let table = lab.table();
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(1) {
                scribble(&table);
            }
        });
        println!("{talk:?}");
        let talk = talk_while(lab, false, || {});
        assert_eq!(talk.lost, 0);
    });
}

#[test]
fn a_table_that_is_scribbled_on_keeps_no_sleeper_busy() {
    both(|lab| {
        let mut sleeper = lab.join(1);
        let other = lab.join(2);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let table = lab.table();
                while !done.load(Ordering::Acquire) {
                    scribble(&table);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let (begin, before) = (Instant::now(), used());
            while begin.elapsed() < Duration::from_secs(1) {
                sleeper.wait(Some(Duration::from_secs(1))).expect("watched");
                sleeper.recv_burst(&mut Burst::new(4));
            }
            let share = used().saturating_sub(before).as_secs_f64() / begin.elapsed().as_secs_f64();
            done.store(true, Ordering::Release);
            assert!(share < 0.3, "it was busy for {share} of the time");
        });
        drop(other);
    });
}

#[test]
fn a_table_beside_the_bus_that_is_cut_removed_or_replaced_is_done_without() {
    shmbus::survive_truncation().expect("a handler");
    let cut = |len: u64| {
        move |path: &Path| {
            File::options().write(true).open(path).and_then(|file| file.set_len(len)).expect("cut");
        }
    };
    let cut_and_longer = |path: &Path| {
        cut(0)(path);
        cut(TABLE_SIZE)(path);
    };
    let remove = |path: &Path| fs::remove_file(path).expect("removed");
    let link = |path: &Path| {
        remove(path);
        symlink("/dev/full", path).expect("linked");
    };
    let fifo = |path: &Path| {
        remove(path);
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).expect("made");
    };
    let folder = |path: &Path| {
        remove(path);
        fs::create_dir(path).expect("made");
    };
    let other = |path: &Path| {
        remove(path);
        fs::write(path, vec![7; 143_360]).expect("written");
    };
    let ways: [&dyn Fn(&Path); 8] =
        [&cut(0), &cut(8_192), &cut_and_longer, &remove, &link, &fifo, &folder, &other];
    for way in ways {
        let lab = Lab::new(true);
        let talk = talk_while(&lab, true, || way(&lab.beside().join("table")));
        println!("{talk:?}");
        // Those that come later find it so, or make another.
        let early = lab.join(4);
        way_if_there(way, &lab.beside().join("table"));
        talk_while(&lab, false, || {});
        drop(early);
    }
}

/// Spoils the table again, if a station has made one anew.
fn way_if_there(way: &dyn Fn(&Path), table: &Path) {
    if fs::symlink_metadata(table).is_ok_and(|file| file.is_file()) {
        way(table);
    }
}

#[test]
fn a_folder_that_is_removed_while_stations_sleep_is_done_without() {
    both(|lab| {
        let talk = talk_while(lab, false, || {
            for _ in 0..3 {
                let _ = fs::remove_dir_all(lab.beside());
                std::thread::sleep(QUIET);
            }
        });
        println!("{talk:?}");
        // A file in its place, before any station comes.
        let _ = fs::remove_dir_all(lab.beside());
        fs::write(lab.beside(), "none").expect("written");
        talk_while(lab, false, || {});
        fs::remove_file(lab.beside()).expect("it was left alone");
        symlink("/dev", lab.beside()).expect("linked");
        talk_while(lab, false, || {});
        fs::remove_file(lab.beside()).expect("it was left alone");
    });
}

#[test]
fn doorbells_that_are_replaced_are_made_anew() {
    let file = |path: &Path| fs::write(path, "").expect("written");
    let link = |path: &Path| symlink("/dev/full", path).expect("linked");
    let folder = |path: &Path| fs::create_dir(path).expect("made");
    let gone = |_: &Path| {};
    let ways: [&dyn Fn(&Path); 4] = [&file, &link, &folder, &gone];
    both(|lab| {
        for way in ways {
            let talk = talk_while(lab, false, || {
                for doorbell in lab.doorbells() {
                    if fs::remove_file(&doorbell).is_ok() {
                        way(&doorbell);
                    }
                }
            });
            println!("{talk:?}");
        }
    });
}

#[test]
fn a_doorbell_that_is_rung_without_end_keeps_no_station_from_its_frames() {
    both(|lab| {
        let talk = talk_while(lab, false, || {
            let mut rung: Vec<File> = lab
                .doorbells()
                .iter()
                .filter_map(|path| {
                    File::options().read(true).write(true).custom_flags(O_NONBLOCK).open(path).ok()
                })
                .collect();
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(1) {
                for fifo in &mut rung {
                    // A full one is as good.
                    let _ = fifo.write(&[1; 4_096]);
                }
            }
        });
        println!("{talk:?}");
        assert!(talk.rounds > 25, "{talk:?}");
    });
}

#[test]
fn a_table_without_a_free_slot_is_done_without() {
    both(|lab| {
        let living = lab.join(7);
        let (file, begin) = lab.table();
        let owner_of = |slot: u64| {
            let mut word = [0; 8];
            file.read_exact_at(&mut word, begin + SLOTS_AT + slot * SLOT_SIZE).expect("read");
            u64::from_ne_bytes(word)
        };
        let taken = owner_of(0);
        assert_ne!(taken, 0, "it has the first slot");
        for slot in 1..SLOTS {
            file.write_all_at(&taken.to_ne_bytes(), begin + SLOTS_AT + slot * SLOT_SIZE)
                .expect("written");
        }
        let talk = talk_while(lab, false, || {});
        println!("{talk:?}");
        assert_eq!(owner_of(500), taken);
        // So that what lies beside the bus stays.
        let without = lab.join(8);
        drop(living);
        // They are a dead station's now.
        talk_while(lab, false, || {});
        assert_eq!(owner_of(500), 0);
        drop(without);
    });
}
