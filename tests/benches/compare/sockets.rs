//! Frames from one bus to another with a port at either end: `busctl attach` with QEMU's framing, and
//! as a VXLAN.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shmbus::{Burst, Bus, MacAddr6, Station, StationOptions};
use system_tests::{Lab, Process, WAIT_TIMEOUT, wait};

use crate::comparison::{Table, Target};
use crate::ours;

/// The size of either bus.
const BUS_SIZE: &str = "16M";
/// The most bytes of frames on the way: a port that is behind is not overrun.
const WINDOW: usize = 2 << 20;
/// The same where the kernel drops what does not fit into a receive buffer.
const UDP_WINDOW: usize = 128 << 10;
/// Frames that have not arrived after this time are lost.
const LOST_AFTER: Duration = Duration::from_millis(20);
/// Frames in a burst.
const BURST: usize = 64;

/// Measures short frames by their number, and the longest ones of a big bus by their bytes.
pub(crate) fn between_two_ports(table: &mut Table<'_>) {
    let (lab, time) = (ours::lab(), table.time());
    table.heading("bus, socket, bus", "frames received", "-");
    let socket = lab.arg("frames.sock");
    let port = |role: &str| format!("socket:path={socket},role={role}");
    let mut path = Path::open(&lab, [port("server"), port("client")], WINDOW);
    table.alone("64 bytes", "million frames/s", Some(Target::AtLeast(1.0)), &mut || {
        path.rate(64, time) / 1e6
    });
    table.alone("1514 bytes", "million frames/s", None, &mut || path.rate(1_514, time) / 1e6);
    let longest = path.sender.max_frame();
    table.alone(&format!("{longest} bytes"), "GB/s", Some(Target::AtLeast(3.0)), &mut || {
        path.rate(longest, time) * longest as f64 / 1e9
    });
}

/// Measures frames through two VXLAN ports of one machine. A network card is not in the way, and the
/// kernel's part is on the same processors.
pub(crate) fn between_two_machines(table: &mut Table<'_>) {
    let (lab, time) = (ours::lab(), table.time());
    table.heading("bus, VXLAN over loopback, bus", "frames received", "-");
    let [near, far] = [(); 2].map(|()| format!("127.{}.1.1", fastrand::u8(1..=254)));
    let port = |local: &str, peer: &str| format!("vxlan:vni=1,local={local},peers={peer}");
    let mut path = Path::open(&lab, [port(&near, &far), port(&far, &near)], UDP_WINDOW);
    table.alone("64 bytes", "million frames/s", Some(Target::AtLeast(1.0)), &mut || {
        path.rate(64, time) / 1e6
    });
    table.alone("1514 bytes", "million frames/s", None, &mut || path.rate(1_514, time) / 1e6);
}

/// Both buses, and the ports between them.
struct Path {
    sender: Station,
    receiver: Station,
    /// The most bytes on the way.
    window: usize,
    _ports: [Process; 2],
}

impl Path {
    fn open(lab: &Lab, [near, far]: [String; 2], window: usize) -> Self {
        let port = |bus: &str, port: &str| {
            let new_bus = ["--own-format", "--size", BUS_SIZE];
            lab.ready(["attach"].into_iter().chain(new_bus).chain([&lab.arg(bus)[..], port]))
        };
        // The program may run as another user than this one, so it makes the buses.
        let ports = [port("near.bus", &near), port("far.bus", &far)];
        let station = |bus: &str| {
            let bus = Bus::open(lab.path(bus)).expect("a bus");
            Station::join(bus, StationOptions::new()).expect("joined")
        };
        let (mut sender, mut receiver) = (station("near.bus"), station("far.bus"));
        let (first, mut burst) = (frame(receiver.mac(), sender.mac(), 64), Burst::new(1 << 16));
        wait::until("a frame comes through", WAIT_TIMEOUT, || {
            sender.send(&first).expect("sent");
            receiver.recv_burst(&mut burst) > 0
        });
        // Both ports learn where the two are.
        wait::until("a frame comes back", WAIT_TIMEOUT, || {
            receiver.send(&frame(sender.mac(), receiver.mac(), 64)).expect("sent");
            sender.recv_burst(&mut burst) > 0
        });
        Self { sender, receiver, window, _ports: ports }
    }

    /// Returns how many frames of `len` bytes come through in a second.
    fn rate(&mut self, len: usize, time: Duration) -> f64 {
        let Self { sender, receiver, window, .. } = self;
        let frame = frame(receiver.mac(), sender.mac(), len);
        let window = (*window / len) as u64;
        let received = &AtomicU64::new(0);
        let begin = Instant::now();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut burst = Burst::new(1 << 20);
                while begin.elapsed() < time {
                    match receiver.recv_burst(&mut burst) {
                        0 => thread::yield_now(),
                        count => drop(received.fetch_add(count as u64, Ordering::Relaxed)),
                    }
                }
            });
            let (mut sent, mut last) = (0, (0, Instant::now()));
            while begin.elapsed() < time {
                let now = received.load(Ordering::Relaxed);
                if now != last.0 {
                    last = (now, Instant::now());
                }
                if sent < now + window {
                    sent += sender.send_burst([&frame[..]; BURST]).expect("sent") as u64;
                } else if last.1.elapsed() > LOST_AFTER {
                    // The network has lost what was on the way.
                    (sent, last.1) = (now, Instant::now());
                } else {
                    thread::yield_now();
                }
            }
        });
        received.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
    }
}

fn frame(to: MacAddr6, from: MacAddr6, len: usize) -> Vec<u8> {
    let mut frame = [to.into_array(), from.into_array()].concat();
    // An EtherType for experiments.
    frame.extend([0x88, 0xb5]);
    frame.resize(len, 0);
    frame
}
