//! The crate `shmbus` against the reference peer, without a program in between. Both write and read
//! one ring over many generations, in every mixture of senders, with every assertion of the rump
//! kernel's driver in force.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shmbus::{Burst, Bus, Station, StationOptions, Tap};
use system_tests::reference::RumpPeer;
use system_tests::{CpuLock, WAIT_TIMEOUT, frames, lab};

const RUMP: frames::Mac = [0xb2, 0xa0, 0, 0, 0, 1];

fn station(path: &Path) -> Station {
    Station::join(
        Bus::open_or_create(path, 0o600).unwrap(),
        StationOptions::new().promiscuous(true),
    )
    .unwrap()
}

/// Waits for the next `count` frames for `station`, and returns them.
fn received(station: &mut Station, count: usize) -> Vec<Vec<u8>> {
    let mut burst = Burst::new(64);
    let mut got = Vec::new();
    let end = Instant::now() + WAIT_TIMEOUT;
    while got.len() < count && Instant::now() < end {
        if station.recv_burst(&mut burst) == 0 {
            station.wait(Some(Duration::from_millis(100))).unwrap();
        }
        got.extend(burst.iter().map(|frame| frame.bytes.to_vec()));
        burst.clear();
    }
    got
}

/// Returns bursts of one to forty frames of every size, mixed so that packets end everywhere around
/// the ring's end.
fn bursts(seed: u64, count: usize) -> impl Iterator<Item = Vec<Vec<u8>>> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(move |_| {
        let len = random.usize(1..=40);
        (0..len).map(|_| frames::patterned(random.usize(14..=1514), random.u64(..))).collect()
    })
}

#[test]
fn a_rump_kernel_reads_whatever_we_send() {
    let lab = lab!();
    let mut ours = station(&lab.path("lan.bus"));
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), RUMP);
    for burst in bursts(1, 2000) {
        ours.send_burst(burst.iter().map(Vec::as_slice)).unwrap();
        for frame in &burst {
            assert!(rump.wait(WAIT_TIMEOUT).as_ref() == Some(frame), "in order and whole");
        }
        assert_eq!(rump.receive(), None);
    }
    assert!(rump.generation() > 25, "{}", rump.generation());
    assert_eq!(rump.overruns(), 0);
}

/// A reader of ours puts the generation right before the other rump kernel looks.
#[test]
fn a_generation_that_a_wake_up_overwrote_is_put_right() {
    let lab = lab!();
    let mut ours = station(&lab.path("lan.bus"));
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), RUMP);
    let mut other = RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 2]);
    for burst in bursts(3, 500) {
        rump.send(&burst);
        assert!(received(&mut ours, burst.len()) == burst, "in order and whole");
        while other.receive().is_some() {}
    }
    let generation = rump.generation();
    assert!(generation > 5, "{generation}");
    for number in 0..5 {
        let frame = frames::numbered(60, number);
        rump.send([&frame]);
        rump.wake_twice_at_once();
        assert_eq!(received(&mut ours, 1), std::slice::from_ref(&frame));
        assert_eq!(rump.generation(), generation);
        assert_eq!(other.receive(), Some(frame));
    }
    assert_eq!(ours.stats().stray_wakeups, 5);
    assert_eq!((ours.stats().corrupt, ours.stats().overruns), (0, 0));
}

/// The fault, which takes the LAN down: the rump kernel panics with the lock.
#[test]
fn a_rump_kernel_that_finds_an_overwritten_generation_panics_with_the_lock() {
    let lab = lab!();
    let mut ours = station(&lab.path("lan.bus"));
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), RUMP).panicking_with_the_lock();
    for burst in bursts(3, 500) {
        ours.send_burst(burst.iter().map(Vec::as_slice)).unwrap();
        while rump.receive().is_some() {}
    }
    rump.wake_twice_at_once();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rump.receive()));
    assert!(panic.is_err());
    assert_eq!(ours.bus().lock().unwrap(), shmbus::LockFound::Unknown);
}

/// With the packet of a rump kernel newest across the end of the ring, a rump kernel that is overrun
/// asserts. A station of ours that reads closes the turn before that.
#[test]
fn a_station_of_ours_closes_the_turns_of_rump_kernels() {
    let lab = lab!();
    let mut ours = station(&lab.path("lan.bus"));
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), RUMP);
    let mut slow = RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 2]);
    let mut burst = Burst::new(64);
    let mut generation = rump.generation();
    let mut overruns = 0;
    for number in 0..40_000_u64 {
        rump.send([frames::numbered(200 + usize::try_from(number % 700).unwrap(), number)]);
        ours.recv_burst(&mut burst);
        if rump.generation() != generation {
            generation = rump.generation();
            // It looks only right behind the end of the ring, and every second time.
            if generation.is_multiple_of(2) {
                while slow.receive().is_some() {}
                overruns = slow.overruns();
            }
        }
    }
    assert!(overruns > 3, "{overruns}");
}

#[test]
fn we_read_whatever_a_rump_kernel_sends() {
    let lab = lab!();
    let mut ours = station(&lab.path("lan.bus"));
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), RUMP);
    for burst in bursts(2, 2000) {
        rump.send(&burst);
        assert!(received(&mut ours, burst.len()) == burst, "in order and whole");
    }
    assert_eq!(ours.recv_burst(&mut Burst::new(1)), 0);
    assert!(rump.generation() > 25, "{}", rump.generation());
}

/// The frames' lengths make packets end on the ring's last byte, and up to 30 bytes before and
/// after it.
#[test]
fn packets_that_end_around_the_end_of_the_ring_are_read_by_both() {
    let lab = lab!();
    for ours_sends in [true, false] {
        for beyond in -30_i64..=30 {
            let path = lab.path(&format!("{ours_sends}{beyond}.bus"));
            let mut ours = station(&path);
            let mut rump = RumpPeer::attach(&path, RUMP);
            // From 24 on, packets of 1,024 bytes up to 488 before the end, then one that ends at
            // the place under test.
            let before = (1_048_544 - 24) / 1024;
            let rest = 1_048_544 - 24 - before * 1024;
            let last = usize::try_from(rest + beyond - 24).unwrap();
            let lengths =
                std::iter::repeat_n(1000, usize::try_from(before).unwrap()).chain([last, 60, 14]);
            for (number, len) in lengths.enumerate() {
                let frame = frames::patterned(len, number as u64);
                if ours_sends {
                    ours.send(&frame).unwrap();
                    assert!(
                        rump.wait(WAIT_TIMEOUT) == Some(frame),
                        "{len} bytes, frame {number}, {beyond} beyond the end"
                    );
                } else {
                    rump.send([&frame]);
                    assert!(
                        received(&mut ours, 1) == [frame],
                        "{len} bytes, frame {number}, {beyond} beyond the end"
                    );
                }
            }
            assert_eq!(rump.generation(), 1, "{beyond} beyond the end");
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// In the state in which a rump kernel that attaches reads the whole ring again, our writer leaves
/// it nothing to misread: it reads at most the newest frame.
#[test]
fn a_rump_kernel_may_attach_right_after_we_wrote_around_the_end() {
    let lab = lab!();
    let path = lab.path("lan.bus");
    let mut ours = station(&path);
    let mut generation = 0;
    let mut crossings = 0;
    for (number, len) in (0..4000).zip((600..=1514).cycle().step_by(13)) {
        ours.send(&frames::numbered(len, number)).unwrap();
        if ours.bus().state().generation == generation {
            continue;
        }
        generation += 1;
        crossings += 1;
        let mut rump = RumpPeer::attach(&path, RUMP);
        let seen: Vec<_> = std::iter::from_fn(|| rump.receive()).take(3).collect();
        assert!(seen.len() <= 1, "it reads old frames again: {}", seen.len());
        let next = frames::numbered(100, number);
        ours.send(&next).unwrap();
        assert!(rump.receive() == Some(next));
    }
    assert!(crossings >= 3, "{crossings}");
}

const SENDERS: usize = 4;
const EACH: u64 = 20_000;

/// Two rump kernels and two stations of ours send into the same ring at full speed. Readers of ours
/// receive no frame damaged, out of order or twice. A rump kernel's assertions hold unless another
/// rump kernel misled it: no station of ours can prevent that, as it may read before they close the
/// other's turn.
#[test]
fn all_kinds_of_writers_and_readers_share_a_ring_at_once() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let path = lab.path("lan.bus");
    let mut reader = station(&path);
    let mut tap = Tap::new(Bus::open_read_only(&path).unwrap()).unwrap();
    let mut rump = RumpPeer::attach(&path, RUMP);
    let rump_senders = [(); 2].map(|()| RumpPeer::attach(&path, [0xb2, 0xa0, 0, 0, 1, 0]));
    let of_rump = rump_senders.each_ref().map(RumpPeer::identity);
    let numbered = |sender: u64, number: u64| {
        let len = 22 + usize::try_from(number * 31 % 1400).unwrap();
        frames::numbered(len, sender << 32 | number)
    };
    let check = |newest: &mut [Option<u64>; SENDERS], bytes: &[u8]| {
        let number = frames::number_of(bytes).expect("a frame of a known sender");
        let (sender, number) = ((number >> 32) as usize, number & 0xffff_ffff);
        assert!(
            newest[sender] < Some(number),
            "sender {sender}: {number} after {:?}",
            newest[sender]
        );
        newest[sender] = Some(number);
    };
    std::thread::scope(|scope| {
        let batches: Vec<u64> = (0..EACH).collect();
        for (sender, mut rump) in (0..).zip(rump_senders) {
            let batches = batches.clone();
            scope.spawn(move || {
                for batch in batches.chunks(16) {
                    rump.send(batch.iter().map(|&number| numbered(sender, number)));
                }
            });
        }
        for sender in 2..SENDERS as u64 {
            let (path, batches) = (&path, batches.clone());
            scope.spawn(move || {
                let mut ours = station(path);
                for batch in batches.chunks(16) {
                    let batch: Vec<_> =
                        batch.iter().map(|&number| numbered(sender, number)).collect();
                    ours.send_burst(batch.iter().map(Vec::as_slice)).unwrap();
                }
            });
        }
        let mut by_reader = [None; SENDERS];
        let mut by_tap = [None; SENDERS];
        let mut burst = Burst::new(256);
        let end = Instant::now() + 4 * WAIT_TIMEOUT;
        // The last frame on the bus is never overwritten, so every reader sees the last frame of
        // one sender.
        let done = |newest: &[Option<u64>; SENDERS]| newest.contains(&Some(EACH - 1));
        while !(done(&by_reader) && done(&by_tap)) {
            assert!(Instant::now() < end, "{by_reader:?} {by_tap:?}");
            if reader.recv_burst(&mut burst) == 0 {
                reader.wait(Some(Duration::from_millis(10))).unwrap();
            }
            burst.iter().for_each(|frame| check(&mut by_reader, frame.bytes));
            burst.clear();
            tap.recv_burst(&mut burst);
            burst.iter().for_each(|frame| check(&mut by_tap, frame.bytes));
            burst.clear();
            // A rump kernel that was misled is started anew, as its user would do.
            for _ in 0..64 {
                if let Some(sender) = rump.misled_by() {
                    assert!(of_rump.contains(&sender), "a station of ours misled a rump kernel");
                    rump = RumpPeer::attach(&path, RUMP);
                    break;
                }
                let Some(frame) = rump.receive() else { break };
                assert!(frames::number_of(&frame).is_some());
            }
        }
    });
    assert!(rump.generation() > 50, "{}", rump.generation());
}

/// Stops the listener when dropped, also by a failed assertion, so that the scope does not wait in
/// vain.
struct StopOnDrop<'o>(&'o AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        // Pairs with the Acquire in the loop of the listener.
        self.0.store(true, Ordering::Release);
    }
}

/// Writers of ours are killed at any moment, and only a listener of ours is left. It is enough for
/// the rump kernels to continue, and nothing the writers left makes one assert or receive a frame
/// that was not sent.
#[test]
fn rump_kernels_continue_when_writers_of_ours_are_killed() {
    const ROUNDS: u64 = 60;
    const MORE_THAN_THE_RING_HOLDS: u64 = 100_000;
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let path = lab.path("lan.bus");
    frames::write_pcap(
        &lab.path("in.pcap"),
        (0..2_000).map(|number| {
            frames::numbered(22 + usize::try_from(number * 31 % 1_400).unwrap(), number)
        }),
    );
    let mut listener = station(&path);
    let bus = Bus::open_read_only(&path).unwrap();
    let mut old = RumpPeer::attach(&path, RUMP);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Pairs with the Release in `StopOnDrop`.
            while !over.load(Ordering::Acquire) {
                listener.discard_pending();
                listener.wait(Some(Duration::from_millis(50))).unwrap();
            }
        });
        let _stop = StopOnDrop(&over);
        let mut held = 0;
        let mut round = |round: u64| {
            let mut writer = lab.spawn([
                "replay",
                &lab.arg("in.pcap"),
                &lab.arg("lan.bus"),
                "--loop",
                "1000000",
            ]);
            let frame = old.wait(WAIT_TIMEOUT).expect("the writer is at work");
            assert!(frames::number_of(&frame).is_some());
            std::thread::sleep(Duration::from_micros(round * 7_919 % 3_000));
            writer.kill();
            held += u64::from(bus.state().locked);
            let end = Instant::now() + WAIT_TIMEOUT;
            while bus.state().locked {
                assert!(Instant::now() < end, "the lock of a dead writer is still held");
                std::thread::sleep(Duration::from_millis(1));
            }
            let mut new = RumpPeer::attach(&path, [0xb2, 0xa0, 0, 0, 0, 2]);
            assert!(
                std::iter::from_fn(|| new.receive()).take(9).count() <= 1,
                "a newcomer reads at most the newest frame"
            );
            let mark = 1 << 40 | round;
            new.send([frames::numbered(60, mark)]);
            let mut heard = 0;
            while frames::number_of(&old.receive().expect("the mark comes"))
                .expect("a frame of a known sender")
                != mark
            {
                heard += 1;
                if heard % MORE_THAN_THE_RING_HOLDS == 0 {
                    // Its known fault: it was overrun, and the mark wrapped around the end of the
                    // ring.
                    let state = bus.state();
                    assert!(
                        state.first > state.last && state.last > state.ring_size - 100,
                        "{state:?}"
                    );
                    println!("FAULT {state:?}");
                    new.send([frames::numbered(60, mark)]);
                }
            }
        };
        (0..ROUNDS).for_each(&mut round);
        println!("{held} of {ROUNDS} writers were killed with the lock");
    });
}
