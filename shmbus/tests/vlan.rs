//! Stations in VLANs, on a bus with others.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use shmbus::offload::{Capabilities, Offload};
use shmbus::{
    Burst, Bus, FrameSink, FrameSlot, FrameSource, RingFrame, SendError, Station, StationOptions,
    Vlan, WaitSet,
};

struct Lan {
    path: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Lan {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { path: folder.path().join("bus"), _folder: folder }
    }

    fn join(&self, vlan: Option<Vlan>) -> Station {
        let bus = Bus::open_or_create(&self.path, 0o600).expect("a bus");
        let options = StationOptions::new().promiscuous(true).capabilities(Capabilities::ALL);
        let mut station = Station::join(bus, options).expect("joined");
        station.set_vlan(vlan);
        station
    }

    /// Stores the 32 bits of the lock that rump kernels know.
    fn write_lock(&self, lock: u32) {
        let file = OpenOptions::new().write(true).open(&self.path).expect("the bus");
        file.write_all_at(&lock.to_ne_bytes(), 24).expect("written");
    }
}

fn access(id: u16) -> Vlan {
    Vlan::access(id).expect("valid")
}

fn frame(tag: &[u8], number: u8, len: usize) -> Vec<u8> {
    let mut frame = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01".to_vec();
    frame.extend(tag);
    frame.extend([0x88, 0xb5]);
    frame.resize(len + tag.len(), number);
    frame
}

const TEN: &[u8] = &[0x81, 0, 0, 10];
const TWENTY: &[u8] = &[0x81, 0, 0, 20];

fn received(station: &mut Station) -> Vec<Vec<u8>> {
    let mut burst = Burst::new(2_000);
    station.recv_burst(&mut burst);
    burst.iter().map(|frame| frame.bytes.to_vec()).collect()
}

/// Many bursts, so that frames lie across the end of the ring at every byte.
#[test]
fn users_of_one_vlan_hear_each_other_and_no_other_station_does() {
    let lan = Lan::new();
    let (mut ten, mut peer, mut twenty) =
        (lan.join(Some(access(10))), lan.join(Some(access(10))), lan.join(Some(access(20))));
    let mut trunk = lan.join(Some(Vlan::trunk([0, 20], None).expect("valid")));
    let mut plain = lan.join(None);
    for round in 0..=255 {
        let sent: Vec<_> = (60..90).map(|len| frame(b"", round, len * 16)).collect();
        assert_eq!(ten.send_burst(&sent).expect("sent"), sent.len());
        assert_eq!(received(&mut peer), sent);
        assert!(received(&mut twenty).is_empty() && received(&mut trunk).is_empty());
        let on_bus: Vec<_> = (60..90).map(|len| frame(TEN, round, len * 16)).collect();
        assert_eq!(received(&mut plain), on_bus);
        plain.send(&frame(TWENTY, round, 70)).expect("sent");
        plain.send(&frame(b"", round, 70)).expect("sent");
        assert_eq!(received(&mut trunk), [frame(TWENTY, round, 70), frame(b"", round, 70)]);
        assert_eq!(received(&mut twenty), [frame(b"", round, 70)]);
        assert!(received(&mut peer).is_empty() && received(&mut ten).is_empty());
    }
    assert_eq!(twenty.stats().filtered, 256 * 31);
}

#[test]
fn frames_outside_the_vlan_are_dropped_and_counted() {
    let lan = Lan::new();
    let (mut ten, mut plain) = (lan.join(Some(access(10))), lan.join(None));
    let sent = [frame(TEN, 1, 60), frame(b"", 2, 60), frame(&[0x81, 0, 0xe0, 0], 3, 60)];
    assert_eq!(ten.send_burst(&sent).expect("sent"), 3);
    let urgent = frame(&[0x81, 0, 0xe0, 10], 3, 60);
    assert_eq!(received(&mut plain), [frame(TEN, 2, 60), urgent]);
    assert_eq!((ten.stats().tx_packets, ten.stats().tx_vlan_refused), (2, 1));
}

#[test]
fn the_tag_is_part_of_what_the_bus_carries() {
    let lan = Lan::new();
    let (mut ten, mut plain) = (lan.join(Some(access(10))), lan.join(None));
    assert_eq!((ten.max_frame(), ten.mtu()), (1_510, 1_496));
    ten.send(&frame(b"", 1, 1_510)).expect("sent");
    assert_eq!(received(&mut plain)[0].len(), 1_514);
    let refused = ten.send_burst([frame(b"", 1, 60), frame(b"", 1, 1_511)]).unwrap_err();
    assert!(matches!(refused, SendError::TooLong { index: 1, len: 1_511, max: 1_510 }));
    assert_eq!(ten.stats().tx_refused, 2);
    assert!(received(&mut plain).is_empty());
    assert!(!ten.set_mtu(1_497) && ten.set_mtu(1_400));
    assert_eq!((ten.max_frame(), ten.mtu()), (1_414, 1_400));
    let mut trunk = lan.join(Some(Vlan::trunk([10], None).expect("valid")));
    assert_eq!((trunk.max_frame(), trunk.mtu()), (1_514, 1_496));
    trunk.send(&frame(TEN, 1, 1_510)).expect("sent");
}

/// A super-frame is cut first, and each piece gets a tag.
#[test]
fn work_is_done_before_the_tag_is_added() {
    let lan = Lan::new();
    let (mut ten, mut peer, mut plain) =
        (lan.join(Some(access(10))), lan.join(Some(access(10))), lan.join(None));
    let mut super_frame = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\0\
        \x45\0\0\0\x12\x34\x40\0\x40\x06\0\0\x0a\0\0\x01\x0a\0\0\x02\
        \x30\x39\0\x50\0\0\0\0\0\0\0\x07\x50\x10\x10\0\0\0\0\0"
        .to_vec();
    super_frame.resize(54 + 10_000, 7);
    let len = u16::try_from(super_frame.len() - 14).expect("short");
    super_frame[16..18].copy_from_slice(&len.to_be_bytes());
    ten.send_offload(&super_frame, Offload::new().segments(1_456)).expect("sent");
    let segments = received(&mut peer);
    assert_eq!(segments.len(), 7);
    assert!(segments.iter().all(|segment| !peer.verify(segment).is_bad()));
    assert_eq!(segments[0].len(), 1_510);
    let tagged = received(&mut plain);
    assert!(tagged.iter().all(|frame| frame[12..16] == *TEN && !plain.verify(frame).is_bad()));
    let too_long = ten.send_offload(&super_frame, Offload::new().segments(1_457)).unwrap_err();
    assert!(matches!(too_long, SendError::Offload { .. }), "{too_long}");
}

/// A sink that copies to shared memory, in pieces of some bytes.
struct Pieces {
    size: usize,
    frames: Vec<Vec<u8>>,
}

impl FrameSink for Pieces {
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        let shared: Vec<AtomicU8> = (0..frame.len()).map(|_| AtomicU8::new(0)).collect();
        let mut done = 0;
        while done < shared.len() {
            let end = shared.len().min(done + self.size);
            done += frame.copy_to_shared(done, &shared[done..end]);
        }
        assert_eq!(frame.copy_to_shared(done, &shared), 0);
        self.frames.push(shared.iter().map(|byte| byte.load(Ordering::Relaxed)).collect());
        true
    }

    fn commit(&mut self) {}

    fn discard(&mut self) {}
}

/// A source that lies in shared memory, in pieces of some bytes.
struct Scattered<'f>(usize, &'f [AtomicU8]);

impl FrameSource for Scattered<'_> {
    fn frame_len(&self) -> usize {
        self.1.len()
    }

    fn write_to(&self, slot: &mut FrameSlot<'_>) {
        self.1.chunks(self.0).for_each(|piece| slot.write_shared(piece));
    }
}

#[test]
fn frames_in_pieces_are_the_same() {
    let lan = Lan::new();
    let native = || Some(Vlan::trunk([10, 20], Some(20)).expect("valid"));
    let (mut ten, mut peer, mut trunk) =
        (lan.join(Some(access(10))), lan.join(Some(access(10))), lan.join(native()));
    let mut plain = lan.join(None);
    for size in 1..40 {
        let sent = frame(b"", 7, 60 + size);
        let shared: Vec<AtomicU8> = sent.iter().map(|byte| AtomicU8::new(*byte)).collect();
        ten.send_burst([Scattered(size, &shared)].iter().map(|s| Scattered(s.0, s.1)))
            .expect("sent");
        plain.send(&frame(b"", 8, 60)).expect("sent");
        let mut pieces = Pieces { size, frames: Vec::new() };
        peer.recv_into(&mut pieces, 10);
        assert_eq!(pieces.frames, [sent]);
        let mut pieces = Pieces { size, frames: Vec::new() };
        trunk.recv_into(&mut pieces, 10);
        assert_eq!(pieces.frames, [frame(TEN, 7, 60 + size), frame(TWENTY, 8, 60)]);
        received(&mut plain);
    }
}

/// Stations that share their reading, and one that learns.
#[test]
fn stations_of_one_wait_set_keep_their_vlans() {
    let lan = Lan::new();
    let wait_set = WaitSet::new();
    let mut stations =
        [lan.join(Some(access(10))), lan.join(Some(access(20))), lan.join(Some(access(10)))];
    for (token, station) in stations.iter_mut().enumerate() {
        station.join_wait_set(&wait_set, token);
        station.set_learning(token != 1);
    }
    let mut plain = lan.join(None);
    for round in 0..50 {
        plain.send_burst([frame(TEN, round, 60), frame(TWENTY, round, 61)]).expect("sent");
        for (station, len) in stations.iter_mut().zip([60, 61, 60]) {
            assert_eq!(received(station), [frame(b"", round, len)]);
        }
    }
    assert!(!stations[0].arm().expect("armed"));
    plain.send(&frame(TWENTY, 1, 60)).expect("sent");
    assert!(received(&mut stations[0]).is_empty());
}

/// A sender that continues where a busy bus stopped it sends each frame once.
#[test]
fn a_busy_bus_stops_behind_the_frames_that_are_dropped() {
    let lan = Lan::new();
    let (mut ten, mut peer) = (lan.join(Some(access(10))), lan.join(Some(access(10))));
    ten.set_lock_timeout(Duration::from_millis(1));
    let frames = [frame(TEN, 1, 60), frame(b"", 2, 60), frame(TWENTY, 3, 60)];
    // The lock of an unknown owner.
    lan.write_lock(1);
    let Err(SendError::Busy { sent, .. }) = ten.send_burst(&frames) else { panic!("it is locked") };
    assert_eq!((sent, ten.stats().tx_vlan_refused), (1, 1));
    lan.write_lock(0);
    assert_eq!(ten.send_burst(&frames[sent..]).expect("free"), 2);
    assert_eq!(ten.stats().tx_vlan_refused, 2);
    assert_eq!(received(&mut peer), [frame(b"", 2, 60)]);
}
