//! The detector alone, and rings of ports that all run it, with made-up time.

use super::*;

const SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MS: Duration = Duration::from_millis(1);

/// A detector that came up at `begin` as `identity`.
fn listening(begin: Instant, identity: Identity) -> Detector {
    let mut detector = Detector::new(SOURCE);
    detector.up(begin, identity, false);
    detector
}

/// Returns the probe that is due now.
fn due(detector: &mut Detector, now: Instant) -> Option<Probe> {
    detector.is_probe_due(now).then(|| detector.probe(now))
}

#[test]
fn a_port_without_a_loop_is_open_after_three_probes() {
    let begin = Instant::now();
    let mut detector = listening(begin, 7);
    let mut probes = 0;
    for ms in 0..=150 {
        assert!(detector.keeps_frames() && detector.state() == LinkState::Listening, "{ms} ms");
        probes += u32::from(due(&mut detector, begin + ms * MS).is_some());
    }
    assert_eq!((probes, detector.state()), (3, LinkState::Up));
    assert_eq!(detector.take_change(), None, "nothing to report");
}

/// Returns the prints of one frame, so many from other stations and so many from the peer.
fn copies([others, own]: [usize; 2]) -> Vec<Print> {
    let of = |is_own, count| std::iter::repeat_n(Print { is_own, hash: 1 }, count);
    of(false, others).chain(of(true, own)).collect()
}

#[test]
fn a_port_that_is_alone_on_its_bus_is_open_at_once_and_silent() {
    let begin = Instant::now();
    let mut detector = Detector::new(SOURCE);
    detector.up(begin, 7, true);
    assert_eq!(detector.state(), LinkState::Up);
    for ms in 0..1_000 {
        assert_eq!(due(&mut detector, begin + ms * MS), None);
    }
}

/// Counts the probes and the samples of an open port in 10 s, in which so many frames come from
/// its peer in a millisecond, and the bus has these.
fn in_ten_seconds(frames: usize, heard: &[Print]) -> (u32, u32) {
    let now = Instant::now();
    let mut detector = Detector::new(SOURCE);
    detector.up(now, 7, true);
    let (mut probes, mut samples) = (0, 0);
    for ms in 0..10_000 {
        detector.note_frames(frames);
        let was_sampling = detector.is_sampling();
        probes += u32::from(due(&mut detector, now + ms * MS).is_some());
        samples += u32::from(detector.is_sampling() && !was_sampling);
        detector.hear_frames(heard);
    }
    (probes, samples)
}

#[test]
fn an_open_port_takes_samples_seldom_and_probes_only_when_frames_seem_to_go_round() {
    assert_eq!(in_ten_seconds(0, &copies([5, 5])), (0, 0));
    for harmless in [copies([0, 90]), copies([90, 0]), copies([90, 3])] {
        let mut harmless = harmless;
        // Each sample ends with its first frames.
        harmless.extend((2..1_100).map(|hash| Print { is_own: true, hash }));
        let (probes, samples) = in_ten_seconds(1_000, &harmless);
        assert!(probes == 0 && (10..=14).contains(&samples), "{probes}, {samples}");
    }
    let (probes, samples) = in_ten_seconds(1_000, &copies([5, 5]));
    assert!(probes == samples && (10..=14).contains(&probes), "{probes}, {samples}");
}

#[test]
fn a_blocked_port_is_reported_once_tries_again_and_heals() {
    let begin = Instant::now();
    let mut detector = listening(begin, 7);
    let probe = due(&mut detector, begin).expect("a first probe");
    assert_eq!(detector.hear_on_bus(probe, begin), None);
    assert_eq!(detector.take_change(), Some(Change::Blocked));
    let mut now = begin;
    for _ in 0..3 {
        assert_eq!(detector.state(), LinkState::Blocked);
        assert_eq!(detector.pause(now), BLOCKED);
        now += BLOCKED;
        let probe = due(&mut detector, now).expect("it tries again");
        assert!(detector.state() == LinkState::Listening && !detector.keeps_frames());
        detector.hear_on_bus(probe, now);
        assert_eq!(detector.take_change(), None, "the same loop");
    }
    now += BLOCKED;
    assert!(due(&mut detector, now).is_some());
    assert_eq!(due(&mut detector, now + LISTEN), None);
    assert_eq!((detector.state(), detector.take_change()), (LinkState::Up, Some(Change::Healed)));
}

#[test]
fn a_forged_higher_identity_does_not_keep_a_loop_open() {
    let begin = Instant::now();
    let mut detector = listening(begin, 7);
    let mut now = begin;
    while detector.state() == LinkState::Listening {
        assert!(now - begin <= MAX_CONTEST, "a port on a loop never opens");
        if let Some(probe) = due(&mut detector, now) {
            detector.hear_on_bus(Probe { highest: Identity::MAX, ..probe }, now);
        }
        now += MS;
    }
    assert_eq!(detector.state(), LinkState::Blocked);
}

#[test]
fn forged_probes_cost_an_open_port_a_moment() {
    let begin = Instant::now();
    let mut detector = listening(begin, 7);
    assert_eq!(due(&mut detector, begin + LISTEN), None);
    let forged = Probe { source: SOURCE, origin: 7, highest: 9, count: 1, hops: 0 };
    assert_eq!(detector.hear_on_bus(forged, begin + LISTEN), None);
    assert_eq!(detector.state(), LinkState::Listening);
    due(&mut detector, begin + 2 * LISTEN);
    assert_eq!((detector.state(), detector.take_change()), (LinkState::Up, None));
}

#[test]
fn a_probe_is_relayed_once_in_each_direction_and_only_while_listening() {
    let begin = Instant::now();
    let mut detector = listening(begin, 7);
    let probe = Probe { source: SOURCE, origin: 5, highest: 5, count: 1, hops: 0 };
    let relayed = detector.hear_on_bus(probe, begin).expect("relayed");
    assert_eq!((relayed.origin, relayed.highest, relayed.hops), (5, 7, 1));
    assert_eq!(detector.hear_on_bus(probe, begin), None);
    assert!(detector.hear_from_peer(probe).is_some());
    assert_eq!(detector.hear_from_peer(probe), None);
    for count in 0..10 * u32::try_from(MAX_REMEMBERED).expect("small") {
        detector.hear_from_peer(Probe { count, ..probe });
    }
    assert!(detector.relayed.len() <= MAX_REMEMBERED);
    due(&mut detector, begin + LISTEN);
    assert_eq!(detector.hear_on_bus(Probe { count: 99_999, ..probe }, begin + LISTEN), None);
}

/// Buses in a ring. Port `n` is on bus `n`, and its peer is bus `n + 1`.
struct Ring {
    ports: Vec<Detector>,
    begins: Vec<u32>,
    /// Probes under way: when they arrive (in ms), at which bus, put there by which port.
    under_way: Vec<(u32, usize, usize, Probe)>,
    random: fastrand::Rng,
    max_delay: u32,
    start: Instant,
    /// Milliseconds in which all ports were open.
    open_for: u32,
}

impl Ring {
    fn new(begins: &[u32], max_delay: u32, seed: u64) -> Self {
        Self {
            ports: begins.iter().map(|_| Detector::new(SOURCE)).collect(),
            begins: begins.to_owned(),
            under_way: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            max_delay,
            start: Instant::now(),
            open_for: 0,
        }
    }

    fn send(&mut self, ms: u32, bus: usize, port: usize, probe: Probe) {
        // A frame on an open ring goes round for ever: here it gives up.
        if probe.hops < 60 {
            let arrives = ms + self.random.u32(1..=self.max_delay);
            self.under_way.push((arrives, bus, port, probe));
        }
    }

    /// Plays one millisecond.
    fn play(&mut self, ms: u32) {
        let (count, now) = (self.ports.len(), self.start + ms * MS);
        for index in 0..count {
            if self.begins[index] == ms {
                let identity = Identity::from(ms) << 64 | Identity::from(self.random.u64(..));
                self.ports[index].up(now, identity, false);
            }
            if let Some(probe) = due(&mut self.ports[index], now) {
                self.send(ms, (index + 1) % count, index, probe);
            }
        }
        let (arrived, rest): (Vec<_>, _) =
            std::mem::take(&mut self.under_way).into_iter().partition(|(at, ..)| *at <= ms);
        self.under_way = rest;
        for (_, bus, from, probe) in arrived {
            self.arrive(ms, bus, from, probe);
        }
        let all_open = self.ports.iter().all(|port| port.state() == LinkState::Up);
        self.open_for += u32::from(all_open);
        if all_open {
            // Frames go round.
            for port in &mut self.ports {
                port.note_frames(10);
                port.hear_frames(&copies([5, 5]));
            }
        }
    }

    /// A probe arrives on a bus. The two ports there pass it on as their states say.
    fn arrive(&mut self, ms: u32, bus: usize, from: usize, probe: Probe) {
        let (count, now) = (self.ports.len(), self.start + ms * MS);
        let before = (bus + count - 1) % count;
        if from != bus {
            // For the port of this bus: towards its peer.
            let is_open = self.ports[bus].state() == LinkState::Up;
            let heard = self.ports[bus].is_hearing();
            let relayed = heard.then(|| self.ports[bus].hear_on_bus(probe, now)).flatten();
            let forwarded = Probe { hops: probe.hops + 1, ..probe };
            if let Some(passed) = relayed.or(is_open.then_some(forwarded)) {
                self.send(ms, (bus + 1) % count, bus, passed);
            }
        }
        if from != before {
            // For the port whose peer this bus is: towards its own bus.
            let forwarded = Probe { hops: probe.hops + 1, ..probe };
            let passed = match self.ports[before].state() {
                LinkState::Up => Some(forwarded),
                LinkState::Listening => self.ports[before].hear_from_peer(probe),
                LinkState::Down | LinkState::Blocked => None,
            };
            if let Some(passed) = passed {
                self.send(ms, before, before, passed);
            }
        }
    }

    fn blocked(&self) -> Vec<usize> {
        let is_blocked = |index: &usize| self.ports[*index].state() == LinkState::Blocked;
        (0..self.ports.len()).filter(is_blocked).collect()
    }
}

#[test]
fn exactly_one_port_of_a_ring_is_blocked_and_no_frame_goes_round() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(2..=6);
        let spread = [1, 5, 100, 1_000][random.usize(..4)];
        let begins: Vec<u32> = (0..count).map(|_| random.u32(0..spread)).collect();
        let mut ring = Ring::new(&begins, 8, seed);
        for ms in 0..2_000 {
            ring.play(ms);
        }
        let what = format!("seed {seed}: {begins:?}");
        assert_eq!(ring.blocked().len(), 1, "{what}");
        assert_eq!(ring.open_for, 0, "{what}");
    }
}

#[test]
fn the_port_that_comes_last_is_blocked() {
    for seed in 0..50 {
        let mut ring = Ring::new(&[0, 700, 300], 8, seed);
        for ms in 0..2_000 {
            ring.play(ms);
        }
        assert_eq!(ring.blocked(), [1], "seed {seed}");
    }
}

/// Where a probe needs longer than a port listens, the loop is open for a while, and then found.
#[test]
fn a_slow_ring_is_found_within_seconds() {
    for seed in 0..50 {
        let mut ring = Ring::new(&[0, 3, 400], 45, seed);
        for ms in 0..4_900 {
            ring.play(ms);
        }
        assert!(!ring.blocked().is_empty(), "seed {seed}");
        assert!(ring.open_for < 2_000, "seed {seed}: open for {} ms", ring.open_for);
    }
}

#[test]
fn a_ring_that_is_cut_heals() {
    for seed in 0..50 {
        let mut ring = Ring::new(&[0, 700, 300], 8, seed);
        for ms in 0..8_000 {
            if ms == 2_000 {
                ring.ports[0].down();
            }
            ring.play(ms);
        }
        let open = ring.ports.iter().filter(|port| port.state() == LinkState::Up).count();
        assert_eq!((open, ring.ports[1].take_change()), (2, Some(Change::Healed)), "seed {seed}");
    }
}
