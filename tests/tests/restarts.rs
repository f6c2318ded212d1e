//! Two nodes joined by memif, of which one is killed with `kill -9`. Frames flow again within 3 s
//! of its restart, whichever role it had, and nothing is removed by hand.
//!
//! A sender on one bus numbers its frames and sends one every few milliseconds. A reader of the
//! other bus sees from the numbers and the clock what was lost and when traffic resumed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use system_tests::reference::RumpPeer;
use system_tests::{CpuLock, Lab, Process, WAIT_TIMEOUT, frames, lab, port};

/// The promised time from a restart to traffic.
const RESUMES: Duration = Duration::from_secs(3);

#[derive(Clone, Copy)]
enum Kill {
    Server,
    Client,
}

/// Two buses, a node on each, and memif between them.
struct TwoLans<'a> {
    lab: &'a Lab,
    server: Process,
    client: Process,
}

impl<'a> TwoLans<'a> {
    fn join(lab: &'a Lab) -> Self {
        Self { lab, server: Self::start_server(lab), client: Self::start_client(lab) }
    }

    fn start_server(lab: &Lab) -> Process {
        lab.ready(["attach", &lab.arg("left.bus"), &port::server(&lab.path("m.sock"), 0, "")])
    }

    fn start_client(lab: &Lab) -> Process {
        lab.ready(["attach", &lab.arg("right.bus"), &port::client(&lab.path("m.sock"), 0, "")])
    }

    /// Kills and restarts one node, and returns when the new one was started.
    fn kill_and_restart(&mut self, which: Kill) -> Instant {
        let restarted;
        match which {
            Kill::Server => {
                self.server.kill();
                restarted = Instant::now();
                self.server = Self::start_server(self.lab);
            }
            Kill::Client => {
                self.client.kill();
                restarted = Instant::now();
                self.client = Self::start_client(self.lab);
            }
        }
        restarted
    }
}

/// A sender of numbered frames, one every 2 ms, and what it has sent.
#[derive(Default)]
struct Speaker {
    stop: AtomicBool,
    next: AtomicU64,
}

impl Speaker {
    fn speak(&self, mut station: RumpPeer) {
        while !self.stop.load(Ordering::Relaxed) {
            station.send([frames::numbered(200, self.next.fetch_add(1, Ordering::Relaxed))]);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Stops the sender when dropped, also when the test fails, because the scope waits for it.
struct StopOnDrop<'a>(&'a Speaker);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Waits for a frame with a number no less than `from`.
fn hear(station: &mut RumpPeer, from: u64) {
    let end = Instant::now() + WAIT_TIMEOUT;
    loop {
        let frame =
            station.wait(end.saturating_duration_since(Instant::now())).expect("traffic resumes");
        if frames::number_of(&frame).expect("no other station sends") >= from {
            return;
        }
    }
}

fn traffic_resumes_after(which: Kill) {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let mut lans = TwoLans::join(&lab);
    let mut listener = RumpPeer::attach(&lab.path("right.bus"), [0xb2, 0xa0, 0, 0, 0, 1]);
    let station = RumpPeer::attach(&lab.path("left.bus"), [0xb2, 0xa0, 0, 0, 0, 2]);
    let speaker = Speaker::default();
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&speaker);
        scope.spawn(|| speaker.speak(station));
        hear(&mut listener, 0);
        for round in 0..3 {
            let restarted = lans.kill_and_restart(which);
            // Only frames sent after the restart count, not those that lay in a ring.
            hear(&mut listener, speaker.next.load(Ordering::Relaxed));
            let took = restarted.elapsed();
            eprintln!("round {round}: traffic resumed {took:?} after the restart");
            assert!(took <= RESUMES, "traffic resumed {took:?} after the restart");
        }
    });
}

#[test]
fn traffic_resumes_when_the_listening_node_is_killed_and_restarted() {
    traffic_resumes_after(Kill::Server);
}

#[test]
fn traffic_resumes_when_the_calling_node_is_killed_and_restarted() {
    traffic_resumes_after(Kill::Client);
}

/// A ping needs both directions at once: it crosses both nodes after each of them was killed.
#[test]
fn a_ping_crosses_both_nodes_after_each_was_killed() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let mut lans = TwoLans::join(&lab);
    let _host = lab.ready(["host", &lab.arg("right.bus"), "10.0.0.2/24"]);
    let left = lab.arg("left.bus");
    let ping =
        ["ping", &left, "10.0.0.2", "--from", "10.0.0.1/24", "-i", "0.05", "-c", "100", "--json"];
    for which in [Kill::Server, Kill::Client] {
        lans.kill_and_restart(which);
        // 5 s of pings, of which those of the first 3 s may be lost.
        let pinged = lab.run(ping);
        let answer = pinged.report();
        assert!(answer["received"].as_u64() >= Some(35), "{pinged}");
    }
}

/// A bus outlives its writer: killed at any moment, a writer leaves a bus that the next one can
/// use.
#[test]
fn a_bus_is_usable_after_its_writers_were_killed() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    frames::write_pcap(
        &lab.path("in.pcap"),
        (0..1000).map(|number| frames::numbered(1000, number)),
    );
    let _host = lab.ready(["host", &bus, "10.0.0.2/24"]);
    for _ in 0..20 {
        // Unpaced and endless, so that the kill hits a write, often while it holds the lock.
        let mut replay = lab.spawn(["replay", &lab.arg("in.pcap"), &bus, "--loop", "1000000"]);
        let mut watcher = RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 1]);
        let replayed = |watcher: &mut RumpPeer| {
            frames::number_of(&watcher.wait(WAIT_TIMEOUT).expect("the replay writes"))
        };
        while replayed(&mut watcher).is_none() {}
        replay.kill();
        let ping = ["ping", &bus, "10.0.0.2", "--from", "10.0.0.1/24", "-c", "3", "-i", "0.01"];
        lab.run(ping).succeeds();
    }
}
