//! What a burst asks of its source, what it returns, and what happens to a wake-up that fails.

use std::cell::Cell;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use shmbus::{Burst, Bus, FrameSlot, FrameSource, SendError, Station, StationOptions, Tap};

const BUS: &str = "SEND_BURST_TEST_BUS";

fn station(path: &Path) -> Station {
    let bus = Bus::open_or_create(path, 0o600).expect("a bus");
    Station::join(bus, StationOptions::new().lock_timeout(Duration::from_millis(5)))
        .expect("joined")
}

/// How often a source was asked for something.
#[derive(Debug, Default)]
struct Asked {
    next: Cell<usize>,
    len: Cell<usize>,
    bytes: Cell<usize>,
}

fn count(counter: &Cell<usize>) {
    counter.set(counter.get() + 1);
}

/// Frames of given lengths, each filled with its number.
#[derive(Clone)]
struct Frames<'a> {
    lens: std::iter::Enumerate<std::slice::Iter<'a, usize>>,
    asked: &'a Asked,
}

struct Frame<'a> {
    number: usize,
    len: usize,
    asked: &'a Asked,
}

impl<'a> Frames<'a> {
    fn new(lens: &'a [usize], asked: &'a Asked) -> Self {
        Self { lens: lens.iter().enumerate(), asked }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        count(&self.asked.next);
        let (number, len) = self.lens.next()?;
        Some(Frame { number, len: *len, asked: self.asked })
    }
}

impl FrameSource for Frame<'_> {
    fn frame_len(&self) -> usize {
        count(&self.asked.len);
        self.len
    }

    fn write_to(&self, slot: &mut FrameSlot<'_>) {
        count(&self.asked.bytes);
        slot.write(&vec![self.number.to_le_bytes()[0]; self.len]);
    }
}

/// One pass for the lengths, one for the bytes: also where a burst takes several holds of the lock.
#[test]
fn each_frame_is_asked_once_for_its_length_and_once_for_its_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (mut alice, mut bob) = (station(&path), station(&path));
    bob.set_promiscuous(true);
    for lens in [&[60][..], &[14, 1_514, 60], &[1_514; 200], &[60; 1_000]] {
        let asked = Asked::default();
        assert_eq!(alice.send_burst(Frames::new(lens, &asked)).expect("sent"), lens.len());
        assert_eq!((asked.len.get(), asked.bytes.get()), (lens.len(), lens.len()));
        assert_eq!(asked.next.get(), 2 * lens.len() + 1, "the end is met once");

        let mut burst = Burst::new(1_000);
        assert_eq!(bob.recv_burst(&mut burst), lens.len());
        for (number, (frame, len)) in burst.iter().zip(lens).enumerate() {
            assert_eq!(frame.bytes, vec![number.to_le_bytes()[0]; *len], "frame {number}");
        }
    }
    let asked = Asked::default();
    assert_eq!(alice.send_burst(Frames::new(&[], &asked)).expect("nothing to send"), 0);
    assert_eq!(alice.stats().wakeups, 4, "one for each burst");
}

#[test]
fn a_refused_burst_is_asked_for_no_bytes_and_counted_in_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut alice = station(&folder.path().join("bus"));
    let asked = Asked::default();
    let refused = alice.send_burst(Frames::new(&[60, 60, 1_515, 60, 13], &asked));
    assert!(
        matches!(refused, Err(SendError::TooLong { index: 2, len: 1_515, max: 1_514 })),
        "{refused:?}"
    );
    let refused = alice.send_burst(Frames::new(&[60, 13], &asked));
    assert!(matches!(refused, Err(SendError::TooShort { index: 1, len: 13 })), "{refused:?}");
    assert_eq!((asked.len.get(), asked.bytes.get()), (5, 0));
    let stats = alice.stats();
    assert_eq!((stats.tx_refused, stats.tx_packets, stats.wakeups), (7, 0, 0));

    alice.set_link_up(false);
    assert_eq!(alice.send_burst([[0xff; 60]; 3]).expect("accepted"), 3);
    assert_eq!((alice.stats().tx_link_down, alice.stats().tx_packets), (3, 0));
}

/// A burst that needs several holds of the lock, and does not get the next one, says how many
/// frames are on the bus.
#[test]
fn a_burst_that_stops_half_way_says_how_much_was_sent() {
    /// Takes the lock away from its own burst, as soon as that has come to frame `at`.
    struct Thief<'p> {
        path: &'p Path,
        at: usize,
        number: usize,
    }

    impl FrameSource for Thief<'_> {
        fn frame_len(&self) -> usize {
            1_000
        }

        fn write_to(&self, _slot: &mut FrameSlot<'_>) {
            if self.number == self.at {
                // As a rump kernel that breaks the lock would leave it: when the burst lets go, it
                // is not its own.
                let file = std::fs::File::options().write(true).open(self.path).expect("the bus");
                std::os::unix::fs::FileExt::write_all_at(&file, &[1, 0, 0, 0, 0, 0, 0, 0], 24)
                    .expect("written");
            }
        }
    }

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let mut alice = station(&path);
    let mut tap = Tap::new(Bus::open_read_only(&path).expect("a bus")).expect("a tap");
    let frames = (0..200).map(|number| Thief { path: &path, at: 70, number });
    let result = alice.send_burst(frames);
    let Err(SendError::Busy { sent, .. }) = result else { panic!("{result:?}") };
    assert!((70..200).contains(&sent), "{sent}");
    let stats = alice.stats();
    assert_eq!((stats.tx_packets, stats.tx_busy), (sent as u64, 200 - sent as u64));
    assert_eq!(stats.wakeups, 1, "the others hear of the part that was sent");
    let mut burst = Burst::new(200);
    let mut received = 0;
    // It looks past a lock that stays.
    while received < sent {
        received += tap.recv_burst(&mut burst);
    }
    assert_eq!(received, sent);
}

/// In a process of its own: it may not write files there, as far as the kernel goes, but the
/// mapping knows no such limit.
#[test]
fn a_wake_up_that_fails_is_no_error_and_is_repeated() {
    if let Some(path) = std::env::var_os(BUS) {
        let path = Path::new(&path);
        let (mut alice, mut bob) = (station(path), station(path));
        let mut too_large = SigSet::empty();
        too_large.add(Signal::SIGXFSZ);
        too_large.thread_block().expect("blocked");
        let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
        let limit = |bytes| setrlimit(Resource::RLIMIT_FSIZE, bytes, hard).expect("set");

        limit(0);
        assert_eq!(alice.send_burst([[0xff; 60]; 3]).expect("sent"), 3);
        assert_eq!((alice.stats().wakeups, alice.stats().wakeups_failed), (0, 1));
        assert_eq!(bob.recv_burst(&mut Burst::new(10)), 3, "the frames are on the bus");
        let error = alice.flush().expect_err("the limit stands");
        assert!(error.to_string().contains("cannot wake the other stations on bus"), "{error}");
        alice
            .wait(Some(Duration::ZERO))
            .expect("a wait tries as well, and is not kept from waiting");
        assert_eq!((alice.stats().wakeups, alice.stats().wakeups_failed), (0, 3));
        limit(soft);
        alice.flush().expect("woken");
        alice.flush().expect("nothing is pending");
        assert_eq!((alice.stats().wakeups, alice.stats().wakeups_failed), (1, 3));

        limit(0);
        alice.send(&[0xff; 60]).expect("sent");
        limit(soft);
        std::thread::sleep(Duration::from_millis(2));
        alice.recv_burst(&mut Burst::new(1));
        assert_eq!(
            (alice.stats().wakeups, alice.stats().wakeups_failed),
            (2, 4),
            "whatever it does next"
        );

        limit(0);
        alice.send(&[0xff; 60]).expect("sent");
        limit(soft);
        alice.send(&[0xff; 60]).expect("sent");
        assert_eq!(
            (alice.stats().wakeups, alice.stats().wakeups_failed),
            (3, 5),
            "one wake-up for both"
        );
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_wake_up_that_fails_is_no_error_and_is_repeated"])
        .env(BUS, folder.path().join("bus"))
        .output()
        .expect("started");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
}
