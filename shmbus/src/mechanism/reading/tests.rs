//! Members of a reading against a naive model, in which each walks over the whole ring for itself.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::format::{Field32, Field64, PACKET_HEADER_SIZE, PacketHeader};
use crate::mechanism::ring::append::burst_limit;
use crate::mechanism::ring::cursor::RingPacket;
use crate::mechanism::ring::lock::Owner;
use crate::memory::model::ModelMemory;

const RING: u32 = 3_000;
/// Bytes of every frame: both addresses, a type, and a number.
const FRAME: u32 = 18;
const PACKET: u32 = PACKET_HEADER_SIZE + FRAME;
const BROADCAST: Address = [0xff; 6];
const GROUP: Address = [1, 0, 0, 0, 0, 9];
/// Sends, and is no member.
const FOREIGN: u64 = 1_000;

fn mac(number: u8) -> Address {
    [2, 0, 0, 0, 0, number]
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A host, which listens to all groups.
    Host,
    /// A host that listens to another group.
    Deaf,
    Switch,
}

impl Kind {
    fn filter(self, number: u8) -> AddressFilter {
        let promiscuous = self == Self::Switch;
        let mut filter = AddressFilter::new(mac(number).into(), promiscuous);
        if self == Self::Deaf {
            filter.set_groups([[1, 0, 0, 0, 0, 8].into()]);
        }
        filter
    }
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    sender: u64,
    destination: Address,
    source: Address,
}

struct Station {
    id: MemberId,
    kind: Kind,
    number: u8,
    sender: u64,
    inbox: Inbox,
    cursor: Cursor,
    counts: Counts,
    received: u64,
    /// The model: the next frame to read; unknown after an overrun.
    next: Option<usize>,
    /// Frames it missed without an overrun: those it discarded, and those before it joined.
    skipped: u64,
    /// Frames it had read when it was last asked.
    read: usize,
    /// The first frame that it learned from.
    begun: usize,
}

/// A ring, its stations, and all that was ever sent.
struct Lab {
    ring: Ring<ModelMemory>,
    reading: Reading,
    stations: Vec<Station>,
    sent: Vec<Sent>,
    next_sender: u64,
    /// Frames were overrun, or a walk ended and another began later: nothing may have been learned
    /// from what lies between.
    gaps: bool,
}

impl Lab {
    fn new(kinds: &[Kind]) -> Self {
        let ring = Ring::new(ModelMemory::new(RING), 100);
        let mut lab = Self {
            ring,
            reading: Reading::new(RING),
            stations: Vec::new(),
            sent: Vec::new(),
            next_sender: 1,
            gaps: false,
        };
        for (kind, number) in kinds.iter().zip(0..) {
            let station = lab.joined(*kind, number);
            lab.stations.push(station);
        }
        lab
    }

    fn joined(&mut self, kind: Kind, number: u8) -> Station {
        let sender = self.next_sender;
        self.next_sender += 1;
        let cursor = Cursor::at_end(&self.ring.snapshot().expect("sound"));
        let id = self.reading.join(sender, kind.filter(number), kind == Kind::Switch, &cursor);
        Station {
            id,
            kind,
            number,
            sender,
            inbox: Inbox::new(),
            cursor,
            counts: Counts::default(),
            received: 0,
            next: Some(self.sent.len()),
            skipped: self.sent.len() as u64,
            read: self.sent.len(),
            begun: self.sent.len(),
        }
    }

    /// Leaves, and joins as a new station.
    fn replace(&mut self, index: usize) {
        let Station { id, kind, number, .. } = self.stations[index];
        self.reading.leave(id);
        self.stations[index] = self.joined(kind, number);
    }

    fn send_as(&mut self, sender: u64, destination: Address, source: Address) {
        let number = u32::try_from(self.sent.len()).expect("few");
        let bytes = [&destination[..], &source, &[0x88, 0xb5], &number.to_ne_bytes()].concat();
        let headers = [PacketHeader { len: FRAME, sec: 1, usec: 2, sender }].into_iter();
        let me = Owner::new(1).expect("not 0");
        self.ring.try_lock(me).expect("free").append(headers, |_, at| {
            self.ring.copy_in(at, &bytes);
        });
        self.sent.push(Sent { sender, destination, source });
    }

    fn send(&mut self, index: usize, destination: Address, source: Address) {
        let Station { id, kind, sender, .. } = self.stations[index];
        self.send_as(sender, destination, source);
        if kind == Kind::Switch {
            self.reading.learn_sent(id, source, Instant::now());
        }
    }

    /// Reads as a station does, `max` frames at most. Returns the numbers of the frames.
    fn read(&mut self, index: usize, max: usize) -> Vec<usize> {
        let Self { ring, reading, stations, sent, .. } = self;
        let station = &mut stations[index];
        let (id, sender) = (station.id, station.sender);
        let filter = station.kind.filter(station.number);
        let way = reading.fetch(ring, id, &mut station.inbox, &mut station.cursor, max);
        let mut taken = Vec::new();
        let mut filtered = 0;
        let mut visit =
            |packet: RingPacket, wants: &mut dyn FnMut([Address; 2], u64, Position) -> bool| {
                if packet.header.len == 0 {
                    return ControlFlow::Continue(());
                }
                if taken.len() == max {
                    return ControlFlow::Break(());
                }
                let mut bytes = [0; FRAME as usize];
                ring.copy_out(packet.offset, &mut bytes);
                let [destination, source] =
                    [0, 6].map(|at| bytes[at..at + 6].try_into().expect("6"));
                let from = packet.header.sender;
                if from == sender {
                } else if wants([destination, source], from, packet.at) {
                    let number = u32::from_ne_bytes(bytes[14..].try_into().expect("4"));
                    taken.push(number as usize);
                } else {
                    filtered += 1;
                }
                ControlFlow::Continue(())
            };
        let outcome = match way {
            Way::Inbox => station.inbox.read(ring, |packet| visit(packet, &mut |_, _, _| true)),
            Way::Apart { learns } => {
                let is_switch = reading.learns(id);
                let mut wants = |addresses: [Address; 2], from, at| {
                    filter.wants(addresses[0])
                        && (!is_switch || reading.wants_apart(id, addresses, from, at, learns))
                };
                let outcome = station.cursor.read(ring, |packet| visit(packet, &mut wants));
                reading.settle(outcome == Outcome::Whole);
                if !learns {
                    // The walk learns from these frames, and may not have come to them.
                    station.begun = sent.len();
                    reading.rejoin(id, &station.cursor);
                }
                outcome
            }
            Way::Unsettled => panic!("no writer is at work"),
        };
        if let Some(cursor) = station.inbox.take_overrun() {
            station.cursor = cursor;
            reading.overrun(id);
        }
        let mut counts = reading.take_counts(id);
        counts.filtered += station.inbox.take_filtered();
        match outcome {
            Outcome::Whole => counts.filtered += filtered,
            Outcome::Overrun(bytes) => {
                counts.overruns += 1;
                counts.overrun_bytes += bytes;
                taken.clear();
            }
            other => panic!("{other:?}"),
        }
        let was_overrun = counts.overruns > 0;
        station.counts.add(counts);
        station.received += taken.len() as u64;
        self.gaps |= was_overrun;
        if was_overrun {
            self.check_overrun(index);
        }
        taken
    }

    /// Reads from a ring that may hold anything. Returns how many packets that were.
    fn read_anything(&mut self, index: usize) -> usize {
        let Self { ring, reading, stations, .. } = self;
        let Station { id, inbox, cursor, .. } = &mut stations[index];
        let mut packets = 0;
        let mut visit = |packet: RingPacket| {
            packets += usize::from(packet.header.len > 0);
            ControlFlow::Continue(())
        };
        let way = reading.fetch(ring, *id, inbox, cursor, 100);
        let outcome = match way {
            Way::Inbox => inbox.read(ring, &mut visit),
            Way::Apart { .. } => cursor.read(ring, &mut visit),
            Way::Unsettled => Outcome::Unsettled,
        };
        if let Some(overrun) = inbox.take_overrun() {
            *cursor = overrun;
            reading.overrun(*id);
        }
        if way == (Way::Apart { learns: false }) {
            reading.rejoin(*id, cursor);
        }
        if outcome == Outcome::Whole { packets } else { 0 }
    }

    /// Takes a station out of the walk, as for a change of its filter.
    fn withdraw(&mut self, index: usize) {
        let station = &mut self.stations[index];
        self.reading.withdraw(station.id, &mut station.inbox, &mut station.cursor);
        self.take_counts(index);
    }

    fn take_counts(&mut self, index: usize) {
        let station = &mut self.stations[index];
        let counts = self.reading.take_counts(station.id);
        station.counts.add(counts);
        if counts.overruns > 0 {
            self.gaps = true;
            self.check_overrun(index);
        }
    }

    /// Writers really came around the ring.
    fn check_overrun(&mut self, index: usize) {
        if let Some(next) = self.stations[index].next.take() {
            let unread = u32::try_from(self.sent.len() - next).expect("few") * PACKET;
            let slack = burst_limit(RING) + 3 * (PACKET_HEADER_SIZE + 100);
            assert!(unread > RING - slack, "overrun without need: {unread} bytes");
        }
    }

    /// Whether a frame is one of others that the station's own addresses let through.
    fn is_addressed(&self, index: usize, sent: &Sent) -> bool {
        let station = &self.stations[index];
        sent.sender != station.sender && station.kind.filter(station.number).wants(sent.destination)
    }

    /// Compares what a station received with the model, in which addresses do not move.
    fn check(&mut self, index: usize, taken: &[usize]) {
        let is_switch = self.stations[index].kind == Kind::Switch;
        assert!(taken.is_sorted_by(|one, next| one < next), "{taken:?}");
        let mut next = self.stations[index].next;
        for number in taken {
            let between = next.map_or(&[][..], |next| &self.sent[next..*number]);
            for missed in between {
                assert!(
                    !self.is_addressed(index, missed) || is_switch && !self.needs(index, missed),
                    "station {index} missed {missed:?} before {number}"
                );
            }
            let sent = self.sent[*number];
            assert!(self.is_addressed(index, &sent));
            assert!(!is_switch || self.may_get(index, &sent), "{index} got {sent:?}");
            next = Some(number + 1);
        }
        self.stations[index].next = next;
    }

    /// Whether a switch surely needs a frame: to a group, to an address behind it, or to one that
    /// has sent nothing.
    fn needs(&self, index: usize, frame: &Sent) -> bool {
        let sender = self.stations[index].sender;
        let is_elsewhere = |sent: &Sent| sent.source == frame.destination && sent.sender != sender;
        frame.destination[0] & 1 == 1 || !self.sent.iter().any(is_elsewhere)
    }

    /// Whether a switch may get a frame: not if it has read a frame of its destination from
    /// elsewhere, in an earlier read. After a gap, anything may be unknown.
    fn may_get(&self, index: usize, frame: &Sent) -> bool {
        let station = &self.stations[index];
        self.gaps
            || self.needs(index, frame)
            || !self.sent[station.begun.min(station.read)..station.read]
                .iter()
                .any(|sent| sent.source == frame.destination && sent.sender != station.sender)
    }

    /// Reads until there is nothing more, and checks the counters.
    fn drain(&mut self, index: usize) {
        // A read may end where the ring ended at the one before.
        let mut empty = 0;
        while empty < 2 {
            let before = self.stations[index].counts.overruns;
            let taken = self.read(index, 100);
            self.check(index, &taken);
            let nothing = taken.is_empty() && self.stations[index].counts.overruns == before;
            empty = if nothing { empty + 1 } else { 0 };
        }
        let rest = self.stations[index].next;
        for missed in rest.map_or(&[][..], |next| &self.sent[next..]) {
            let is_switch = self.stations[index].kind == Kind::Switch;
            assert!(
                !self.is_addressed(index, missed) || is_switch && !self.needs(index, missed),
                "station {index} never got {missed:?}"
            );
        }
        let all = self.sent.len();
        let station = &mut self.stations[index];
        (station.next, station.read) = (Some(all), all);
        let own = self.sent.iter().filter(|sent| sent.sender == station.sender).count() as u64;
        if station.counts.overruns == 0 && station.skipped < u64::MAX {
            assert_eq!(
                station.received + station.counts.filtered + own + station.skipped,
                all as u64,
                "of station {index}"
            );
        }
    }

    fn discard(&mut self, index: usize) {
        self.withdraw(index);
        let all = self.sent.len();
        let station = &mut self.stations[index];
        station.cursor = Cursor::at_end(&self.ring.snapshot().expect("sound"));
        (station.next, station.read) = (Some(all), all);
        // How many it had not read is of no interest.
        station.skipped = u64::MAX;
    }

    fn sleep(&mut self, index: usize) {
        let station = &mut self.stations[index];
        self.reading.fall_asleep(station.id, &mut station.inbox, &mut station.cursor);
        self.take_counts(index);
    }

    fn wake(&mut self, index: usize) {
        let station = &mut self.stations[index];
        self.reading.wake(station.id);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// From a station, or from a foreign one, to an address; so many.
    Send(usize, u8, u8),
    Read(usize, usize),
    Drain(usize),
    Discard(usize),
    Sleep(usize),
    Wake(usize),
    Replace(usize),
    /// Another kind of filter, or the same.
    Filter(usize),
}

fn steps(stations: usize) -> impl Strategy<Value = Vec<Step>> {
    let station = move || 0..stations;
    let step = prop_oneof![
        8 => (0..=stations, 0..9_u8, 1..12_u8).prop_map(|(from, to, count)| Step::Send(from, to, count)),
        8 => (station(), 1..12_usize).prop_map(|(station, max)| Step::Read(station, max)),
        3 => station().prop_map(Step::Drain),
        1 => station().prop_map(Step::Discard),
        2 => station().prop_map(Step::Sleep),
        2 => station().prop_map(Step::Wake),
        1 => station().prop_map(Step::Replace),
        1 => station().prop_map(Step::Filter),
        1 => (0..=stations).prop_map(|from| Step::Send(from, 0, 90)),
    ];
    prop::collection::vec(step, 1..120)
}

const KINDS: [Kind; 6] =
    [Kind::Host, Kind::Switch, Kind::Switch, Kind::Deaf, Kind::Host, Kind::Host];

impl Lab {
    fn step(&mut self, step: Step) {
        self.gaps |= !matches!(step, Step::Send(..) | Step::Read(..) | Step::Drain(_));
        match step {
            Step::Send(from, to, count) => {
                let destination = match to {
                    7 => BROADCAST,
                    8 => GROUP,
                    to => mac(to),
                };
                for _ in 0..count {
                    if from < self.stations.len() {
                        let source = mac(self.stations[from].number);
                        self.send(from, destination, source);
                    } else {
                        self.send_as(FOREIGN, destination, mac(6));
                    }
                }
            }
            Step::Read(index, max) => {
                let taken = self.read(index, max);
                self.check(index, &taken);
            }
            Step::Drain(index) => self.drain(index),
            Step::Discard(index) => self.discard(index),
            Step::Sleep(index) => self.sleep(index),
            Step::Wake(index) => self.wake(index),
            Step::Replace(index) => self.replace(index),
            Step::Filter(index) => {
                self.withdraw(index);
                let station = &self.stations[index];
                self.reading.set_filter(station.id, station.kind.filter(station.number));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 2_000 }, ..ProptestConfig::default() })]

    #[test]
    fn each_member_receives_what_it_would_alone(kinds in prop::collection::vec(prop::sample::select(&KINDS[..]), 1..6), steps in steps(6)) {
        let count = kinds.len();
        let mut lab = Lab::new(&kinds);
        for step in steps {
            let fits = match step {
                Step::Send(from, ..) => from == 6 || from < count,
                Step::Read(index, _) | Step::Drain(index) | Step::Discard(index) | Step::Sleep(index)
                | Step::Wake(index) | Step::Replace(index) | Step::Filter(index) => index < count,
            };
            if fits {
                lab.step(if let Step::Send(6, to, count) = step { Step::Send(usize::MAX, to, count) } else { step });
            }
        }
        for index in 0..count {
            lab.drain(index);
        }
    }

    /// A header and a ring of any bytes: everything comes to an end, and afterwards all works.
    #[test]
    fn no_bytes_hang_or_crash(
        generation: u64, first in 0..4_000_u32, last in 0..4_000_u32,
        words in prop::collection::vec(prop_oneof![0..200_u32, any::<u32>()], 70),
        reads in prop::collection::vec(0..6_usize, 1..60),
    ) {
        let mut lab = Lab::new(&KINDS);
        for index in 0..KINDS.len() {
            lab.drain(index);
            lab.send_as(FOREIGN, BROADCAST, mac(6));
        }
        let memory = lab.ring.memory();
        for (at, word) in (0..RING).step_by(44).zip(words) {
            memory.copy_in(at.min(RING - 4), &word.to_ne_bytes());
        }
        memory.store64(Field64::Generation, generation, Ordering::Relaxed);
        memory.store32(Field32::First, first, Ordering::Relaxed);
        memory.store32(Field32::Last, last, Ordering::Relaxed);
        for index in reads {
            lab.read_anything(index);
        }
        for _ in 0..200 {
            lab.send_as(FOREIGN, GROUP, mac(6));
        }
        // Some of the garbage may still be ahead; all get past it.
        for index in (0..KINDS.len()).cycle().take(2_000) {
            lab.read_anything(index);
        }
        lab.send_as(FOREIGN, BROADCAST, mac(6));
        for index in 0..KINDS.len() {
            prop_assert_eq!(lab.read_anything(index), 1, "{}", index);
        }
    }
}

#[test]
fn the_ring_is_walked_once_for_all() {
    let mut lab = Lab::new(&KINDS);
    for round in 0..100_u64 {
        for to in [3, 0, 7, 1] {
            lab.step(Step::Send(usize::MAX, to, 1));
        }
        for index in 0..KINDS.len() {
            lab.drain(index);
        }
        assert_eq!(lab.reading.walked, 4 * (round + 1));
        assert_eq!(lab.reading.shared, KINDS.len());
    }
    // One that slept shares again when it has read what came meanwhile.
    lab.step(Step::Sleep(2));
    lab.step(Step::Send(usize::MAX, 7, 3));
    lab.drain(1);
    lab.drain(2);
    assert_eq!(lab.reading.shared, KINDS.len() - 1);
    lab.step(Step::Wake(2));
    lab.drain(2);
    assert_eq!(lab.reading.shared, KINDS.len());
    // One that is awake alone reads alone.
    lab.drain(0);
    for index in 1..KINDS.len() {
        lab.drain(index);
        lab.step(Step::Sleep(index));
    }
    lab.step(Step::Send(usize::MAX, 7, 3));
    lab.drain(0);
    assert_eq!((lab.reading.shared, lab.reading.walked), (0, 403));
}
