//! What an end of a VXLAN costs by how many ends there are: it names all others, and a frame for a group
//! goes to each of them.

use std::time::Duration;

use shmbus::{Burst, Bus, Station, StationOptions};
use system_tests::{Lab, Process, WAIT_TIMEOUT, proc_files, wait};

use crate::comparison::Table;
use crate::{idle, ours};

/// How many ends there are in turn.
const ENDS: [usize; 4] = [2, 8, 32, 64];
/// Processor time of an idle end shows after so long.
const IDLE: Duration = Duration::from_secs(3);
/// The frames for all that are sent, a few at a time: none is lost, as each few has to arrive first.
const FRAMES: u32 = 2_000;
const AT_A_TIME: u32 = 8;

/// Measures one machine's share of a mesh in which every end is a process of this machine.
pub(crate) fn by_their_number(table: &mut Table<'_>) {
    let title = "an end of a VXLAN, by the number of ends, all of them on this machine";
    table.heading(title, "of one end: its processor time, and its own memory", "-");
    for count in ENDS {
        let lab = ours::lab();
        let mesh = Mesh::new(&lab, count);
        let row = |what: &str| format!("{count} ends: {what}");
        table.alone(&row("idle"), "% of a processor", None, &mut || mesh.idle());
        let mut receiving = Vec::new();
        table.alone(&row("sends a frame to all"), "us", None, &mut || {
            let (sender, receiver) = mesh.flood();
            receiving.push(receiver);
            sender
        });
        let mut receiving = receiving.into_iter();
        table.alone(&row("receives it"), "us", None, &mut || {
            receiving.next().expect("one for each round")
        });
        table.alone(&row("memory"), "MB", None, &mut || idle::own_memory(mesh.last().id()));
    }
}

/// The ends, each on a bus of its own.
struct Mesh<'l> {
    lab: &'l Lab,
    ends: Vec<Process>,
}

impl<'l> Mesh<'l> {
    fn new(lab: &'l Lab, count: usize) -> Self {
        let address = |number: usize| format!("127.0.9.{number}");
        let end = |number: usize| {
            let others = (1..=count).filter(|other| *other != number).map(address);
            let others = others.collect::<Vec<_>>().join(",");
            let port = format!("vxlan:vni=9,local={}:4797,peers={others}", address(number));
            lab.ready(["attach", &lab.arg(&format!("{number}.bus")), &port])
        };
        Self { lab, ends: (1..=count).map(end).collect() }
    }

    fn last(&self) -> &Process {
        self.ends.last().expect("there are two ends at least")
    }

    /// Returns the share of a processor that an end takes without traffic, in percent.
    fn idle(&self) -> f64 {
        let time = |end: &Process| proc_files::cpu_time(end.id());
        let before: Duration = self.ends.iter().map(time).sum();
        // Not to wait for something: the time is what is measured.
        std::thread::sleep(IDLE);
        let used = self.ends.iter().map(time).sum::<Duration>().saturating_sub(before);
        used.as_secs_f64() / IDLE.as_secs_f64() / self.ends.len() as f64 * 100.0
    }

    /// Sends frames for all from the first bus until they are on the last. Returns the microseconds of
    /// processor time that the end of each has used for one.
    fn flood(&self) -> (f64, f64) {
        let station = |number: usize| {
            let bus = Bus::open_or_create(self.lab.path(&format!("{number}.bus")), 0o600);
            Station::join(bus.expect("a bus"), StationOptions::new()).expect("joined")
        };
        let (mut here, mut there) = (station(1), station(self.ends.len()));
        let mut frame = [0; 60];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&here.mac().into_array());
        // Other frames of this kind are none of these.
        frame[12..14].copy_from_slice(&0x88b5_u16.to_be_bytes());
        let frames = vec![frame; AT_A_TIME as usize];
        let mut burst = Burst::new(256);
        let mut pass = |count: u32| {
            let mut arrived = 0;
            for _ in 0..count / AT_A_TIME {
                let wanted = arrived + AT_A_TIME;
                here.send_burst(&frames).expect("the bus is free");
                wait::until("the frames on the last bus", WAIT_TIMEOUT, || {
                    there.recv_burst(&mut burst);
                    let ours = burst.iter().filter(|received| received.bytes[12..] == frame[12..]);
                    arrived += u32::try_from(ours.count()).unwrap_or(0);
                    arrived >= wanted
                });
            }
        };
        // Ends that have just started listen for loops first.
        wait::until("frames pass", WAIT_TIMEOUT, || {
            self.lab.show("./1.bus")["ports"][0]["link"] == "up"
                && self.lab.show(&format!("./{}.bus", self.ends.len()))["ports"][0]["link"] == "up"
        });
        pass(AT_A_TIME);
        let ends = [&self.ends[0], self.last()].map(Process::id);
        let before = ends.map(proc_files::cpu_time);
        pass(FRAMES);
        let used = [0, 1].map(|end| proc_files::cpu_time(ends[end]).saturating_sub(before[end]));
        let each = used.map(|used| used.as_secs_f64() * 1e6 / f64::from(FRAMES));
        (each[0], each[1])
    }
}
