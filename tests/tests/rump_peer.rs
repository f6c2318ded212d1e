//! A bus shared with a rump kernel, played by the reference peer. Each side creates buses that the
//! other accepts, and receives the other's frames undamaged over many generations, with every
//! assertion of the rump kernel's driver in force.

use std::time::{Duration, Instant};

use system_tests::reference::{FILE_SIZE, MAGIC, RumpPeer, VERSION};
use system_tests::{CpuLock, Lab, WAIT_TIMEOUT, frames, lab};

const RUMP: frames::Mac = [0xb2, 0xa0, 0, 0, 0, 1];

#[test]
fn a_bus_of_ours_has_the_format_a_rump_kernel_expects() {
    let lab = lab!();
    lab.run(["create", "shmif0"]).succeeds();
    lab.run(["linkstr", "shmif0", &lab.arg("lan.bus")]).succeeds();
    let file = std::fs::read(lab.path("lan.bus")).unwrap();
    assert_eq!(file.len(), FILE_SIZE);
    assert_eq!(file[0..4], MAGIC.to_ne_bytes());
    assert_eq!(file[4..8], VERSION.to_ne_bytes());
    assert_eq!(file[16..20], 1_048_544_u32.to_ne_bytes(), "first = DATASIZE");
    assert!(file[8..16].iter().chain(&file[20..]).all(|&byte| byte == 0), "everything else is 0");
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), RUMP);
    assert_eq!(rump.receive(), None);
}

#[test]
fn a_bus_of_a_rump_kernel_is_taken_as_it_is() {
    let lab = lab!();
    let rump = RumpPeer::attach(&lab.path("lan.bus"), RUMP);
    let before = std::fs::read(lab.path("lan.bus")).unwrap();
    assert_eq!(before[4..8], [0; 4], "a rump kernel has set no version yet");
    let show = lab.run(["show", &lab.arg("lan.bus"), "--json"]).json();
    assert_eq!(show["version"], 0, "{show}");
    assert_eq!(show["generation"], 0, "{show}");
    lab.run(["dump", &lab.arg("lan.bus")]).succeeds();
    assert!(std::fs::read(lab.path("lan.bus")).unwrap() == before, "looking changes nothing");
    drop(rump);
}

#[test]
fn what_a_rump_kernel_sends_is_dumped_byte_for_byte() {
    let lab = lab!();
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), RUMP);
    let sent: Vec<_> = (14..=1514).map(|len| frames::patterned(len, 1)).collect();
    let count = sent.len().to_string();
    let dump =
        lab.spawn(["dump", &lab.arg("lan.bus"), "-f", "-c", &count, "-w", &lab.arg("rump.pcap")]);
    // Bursts of ten, each sent after the last one has been read: a ring holds 700 of the longest
    // frames.
    let text = lab.spawn(["dump", &lab.arg("lan.bus"), "-f"]);
    for (number, burst) in sent.chunks(10).enumerate() {
        rump.send(burst);
        let newest = number * 10 + burst.len() - 1;
        let line = text.wait_for_line(&format!("packet {newest}, "));
        let length = format!("length 0x{:04x}", burst.last().expect("a burst").len());
        assert!(line.contains(&length), "{length} in {line}");
    }
    dump.finish(WAIT_TIMEOUT).succeeds();
    assert!(frames::read_pcap(&lab.path("rump.pcap")) == sent, "the pcap holds what was sent");
    assert!(rump.generation() >= 1);
}

/// Sends `count` numbered frames of all lengths with `busctl replay`, and returns the numbers of
/// those that arrived.
fn replayed(lab: &Lab, count: u64, pace: Option<u64>) -> (Vec<u64>, RumpPeer) {
    let length = |number: u64| 1000 + usize::try_from(number * 7 % 515).expect("small");
    frames::write_pcap(
        &lab.path("in.pcap"),
        (0..count).map(|number| frames::numbered(length(number), number)),
    );
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), RUMP);
    let (file, bus) = (lab.arg("in.pcap"), lab.arg("lan.bus"));
    let mut args = vec!["replay".to_owned(), file, bus];
    args.extend(pace.into_iter().flat_map(|pps| ["--pps".to_owned(), pps.to_string()]));
    let mut replay = lab.spawn(&args);
    let mut got = Vec::new();
    let end = Instant::now() + Duration::from_mins(1);
    while got.last() != Some(&(count - 1)) && Instant::now() < end {
        // Short waits, to notice a replay that ended without its last frame.
        let running = replay.is_running();
        match rump.wait(Duration::from_millis(500)) {
            Some(frame) => got.push(frames::number_of(&frame).expect("a frame of the replay")),
            None if !running => break,
            None => {}
        }
    }
    replay.finish(WAIT_TIMEOUT).succeeds();
    (got, rump)
}

#[test]
fn a_rump_kernel_gets_every_frame_of_a_paced_replay_over_many_generations() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (got, rump) = replayed(&lab, 10_000, Some(5000));
    assert!(got.iter().copied().eq(0..10_000), "{} frames, in order", got.len());
    assert_eq!(rump.overruns(), 0);
    assert!(rump.generation() >= 10, "{}", rump.generation());
}

#[test]
fn a_rump_kernel_that_is_overrun_by_a_replay_gets_whole_frames_in_order() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (got, rump) = replayed(&lab, 50_000, None);
    assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice");
    assert_eq!(got.last(), Some(&49_999), "the newest frame is never lost");
    let gaps = got.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() as u64;
    assert!(gaps <= rump.overruns(), "{gaps} gaps in {} overruns", rump.overruns());
    assert!(rump.generation() >= 50, "{}", rump.generation());
}

/// Sends an ARP request for `target` from the rump kernel's host, and returns the address in the
/// answer.
fn resolve(rump: &mut RumpPeer, target: [u8; 4]) -> Option<[u8; 6]> {
    let mut request = vec![0; 42];
    request[..6].copy_from_slice(&frames::BROADCAST);
    request[6..12].copy_from_slice(&RUMP);
    request[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    request[22..28].copy_from_slice(&RUMP);
    request[28..32].copy_from_slice(&[10, 0, 0, 1]);
    request[38..42].copy_from_slice(&target);
    rump.send([&request]);
    let end = Instant::now() + WAIT_TIMEOUT;
    while Instant::now() < end {
        let frame = rump.wait(end.saturating_duration_since(Instant::now()))?;
        if frame.len() >= 42
            && frame[12..14] == [8, 6]
            && frame[20..22] == [0, 2]
            && frame[28..32] == target
        {
            assert_eq!(frame[..6], RUMP, "the answer goes to the sender of the request");
            return Some(frame[6..12].try_into().expect("6 bytes"));
        }
    }
    None
}

#[test]
fn a_host_answers_a_rump_kernel() {
    let lab = lab!();
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), RUMP).choosy();
    let _host = lab.ready(["host", &lab.arg("lan.bus"), "10.0.0.2/24"]);
    let mac = resolve(&mut rump, [10, 0, 0, 2]).expect("an ARP reply");
    assert_eq!(mac[..2], [0xb2, 0xa0], "a shmif address");
    // It sleeps each time, without polling: nothing but the write at offset 4 wakes a rump kernel.
    for _ in 0..100 {
        assert_eq!(resolve(&mut rump, [10, 0, 0, 2]), Some(mac));
    }
}

/// While rump kernels fill the ring again and again, our host still answers our ping.
#[test]
fn a_ping_gets_through_beside_a_busy_rump_kernel() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let bus = lab.path("lan.bus");
    let mut rump = RumpPeer::attach(&bus, RUMP);
    let _host = lab.ready(["host", &lab.arg("lan.bus"), "10.0.0.2/24"]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // 30 MB/s or so: the ring lasts some 30 ms, much longer than a host needs to read it.
            let burst: Vec<_> = (0..20).map(|number| frames::patterned(1500, number)).collect();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                rump.send(&burst);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let ping = lab.run([
            "ping",
            &lab.arg("lan.bus"),
            "10.0.0.2",
            "--from",
            "10.0.0.1/24",
            "-c",
            "50",
            "-i",
            "0.02",
            "--json",
        ]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let answer = ping.json();
        assert!(answer["received"].as_u64() >= Some(45), "{ping}");
    });
    assert!(RumpPeer::attach(&bus, RUMP).generation() >= 10);
}

/// A lock whose holder is no process of ours is never broken: it may be a rump kernel that was
/// stopped for a moment.
#[test]
fn a_lock_held_by_a_rump_kernel_is_respected_and_reported() {
    let lab = lab!();
    let rump = RumpPeer::attach(&lab.path("lan.bus"), RUMP);
    let bus = lab.arg("lan.bus");
    let lock = rump.hold_lock();
    let started = Instant::now();
    let ping = lab.run(["ping", &bus, "10.0.0.2", "--from", "10.0.0.1/24", "-c", "1"]);
    assert!(started.elapsed() >= Duration::from_secs(2), "it is given 2 s");
    ping.fails_with(1, &["lock", "busctl repair"]);
    // Unlocking asserts that the lock still was the rump kernel's.
    drop(lock);
    let _host = lab.ready(["host", &bus, "10.0.0.2/24"]);
    lab.run(["ping", &bus, "10.0.0.2", "--from", "10.0.0.1/24", "-c", "1"]).succeeds();
}

#[test]
fn reading_needs_no_lock() {
    let lab = lab!();
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), RUMP);
    rump.send((0..3).map(|number| frames::numbered(60, number)));
    let dump = lab.spawn(["dump", &lab.arg("lan.bus"), "-f"]);
    dump.wait_for_line("packet 2, ");
    let _lock = rump.hold_lock();
    let show = lab.run(["show", &lab.arg("lan.bus"), "--json"]).json();
    assert_eq!(show["locked"], true, "{show}");
    let header = lab.run(["dump", &lab.arg("lan.bus"), "-H"]);
    assert!(
        header.succeeds().starts_with("bus version 3, lock: 1, generation: 0, firstoff: 0x"),
        "{header}"
    );
}
