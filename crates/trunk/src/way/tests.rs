//! One way between two ends, on a network that delays, loses and is cut, against what has to hold.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const STEP: Duration = Duration::from_millis(5);

/// A network with two kinds of ways. Times are steps.
struct Sim {
    random: fastrand::Rng,
    relays: bool,
    start: Instant,
    step: u32,
    eras: Eras,
    way: Outgoing,
    incoming: Incoming,
    held: Vec<u32>,
    next_frame: u32,
    /// Messages arrive in order, datagrams of a flow do, too.
    messages: VecDeque<(u32, u64, u64, Vec<u32>)>,
    datagrams: VecDeque<(u32, u32)>,
    questions: VecDeque<(u32, Question)>,
    answers: VecDeque<(u32, u64, u64)>,
    /// Whether datagrams and messages pass at the moment.
    passes: [bool; 2],
    delivered: Vec<u32>,
}

impl Sim {
    fn new(seed: u64, relays: bool) -> Self {
        let start = Instant::now() + Duration::from_mins(1);
        let mut eras = Eras::default();
        Self {
            random: fastrand::Rng::with_seed(seed),
            relays,
            start,
            step: 0,
            way: Outgoing::new(&mut eras, relays, start),
            eras,
            incoming: Incoming::default(),
            held: Vec::new(),
            next_frame: 0,
            messages: VecDeque::new(),
            datagrams: VecDeque::new(),
            questions: VecDeque::new(),
            answers: VecDeque::new(),
            passes: [true; 2],
            delivered: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        self.start + STEP * self.step
    }

    /// Returns when what leaves now arrives: not before what left earlier.
    fn arrival(&mut self, longest: u32, last: Option<u32>) -> u32 {
        (self.step + self.random.u32(1..=longest)).max(last.unwrap_or_default())
    }

    /// Sends a frame, answers and asks, and delivers what arrives.
    fn turn(&mut self) {
        self.step += 1;
        let now = self.now();
        if let Some(question) = self.way.advance(&mut self.eras, now)
            && self.passes[0]
        {
            let at = self.arrival(20, self.questions.back().map(|(at, _)| *at));
            self.questions.push_back((at, question));
        }
        let frame = self.next_frame;
        self.next_frame += 1;
        match self.way.state() {
            State::Relayed if !self.relays => self.held.clear(),
            State::Relayed => {
                let frames: Vec<u32> = self.held.drain(..).chain([frame]).collect();
                let (era, number) = self.way.next_message();
                if self.passes[1] {
                    let at = self.arrival(100, self.messages.back().map(|(at, ..)| *at));
                    self.messages.push_back((at, era, number, frames));
                }
            }
            State::Held => self.held.push(frame),
            State::Direct => {
                for frame in self.held.drain(..).chain([frame]).collect::<Vec<_>>() {
                    if self.passes[0] && self.random.u8(..) > 10 {
                        // A second at most, which is what the pause is for.
                        let at = self.arrival(100, self.datagrams.back().map(|(at, _)| *at));
                        self.datagrams.push_back((at, frame));
                    }
                }
            }
        }
        let step = self.step;
        while let Some((_, era, number, frames)) =
            self.messages.pop_front_if(|(at, ..)| *at <= step)
        {
            if self.incoming.message(era, number) {
                self.delivered.extend(frames);
            }
        }
        while let Some((_, question)) = self.questions.pop_front_if(|(at, _)| *at <= step) {
            let Question { stamp, era, after, forced, .. } = question;
            let agreed = self.incoming.question(era, after, forced);
            if self.passes[0] {
                let at = self.arrival(20, self.answers.back().map(|(at, ..)| *at));
                self.answers.push_back((at, stamp, agreed));
            }
        }
        while let Some((_, stamp, agreed)) = self.answers.pop_front_if(|(at, ..)| *at <= step) {
            self.way.answer(stamp, agreed, &mut self.eras, now);
        }
        while let Some((_, frame)) = self.datagrams.pop_front_if(|(at, _)| *at <= step) {
            if self.incoming.is_direct() {
                self.delivered.push(frame);
            }
        }
    }

    fn run(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / STEP.as_millis() {
            self.turn();
        }
    }

    /// Returns two frames that were delivered in the wrong order, if there are such.
    fn disorder(&self) -> Option<&[u32]> {
        self.delivered.windows(2).find(|pair| pair[0] >= pair[1])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Ways fail and heal at any time, in any order; the end forgets what it knew. No frame comes twice
    /// or too late, and three seconds after the last event frames arrive.
    #[test]
    fn frames_stay_in_order_and_come_back(seed: u64, relays: bool, events in 0..12) {
        let mut sim = Sim::new(seed, relays);
        for _ in 0..events {
            let time = Duration::from_millis(sim.random.u64(0..4_000));
            sim.run(time);
            match sim.random.u8(..6) {
                0 => sim.incoming = Incoming::default(),
                1 => {
                    let now = sim.now();
                    sim.way.reset(&mut sim.eras, now);
                }
                what => {
                    let way = usize::from(what % 2);
                    sim.passes[way] = !sim.passes[way];
                }
            }
        }
        sim.passes = [true; 2];
        sim.run(Duration::from_secs(3));
        let (seen, sent) = (sim.delivered.len(), sim.next_frame);
        sim.run(Duration::from_secs(2));
        prop_assert_eq!(sim.disorder(), None);
        let since = sim.delivered.iter().skip(seen).filter(|frame| **frame > sent).count();
        prop_assert!(since > 100, "{since} of {}", sim.next_frame - sent);
        prop_assert_eq!(sim.way.state(), State::Direct);
    }

    /// What an end says does no harm: any answers and messages.
    #[test]
    fn lies_are_outlived(seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut eras, mut now) = (Eras::default(), Instant::now());
        let mut way = Outgoing::new(&mut eras, true, now);
        let mut incoming = Incoming::default();
        for _ in 0..500 {
            now += Duration::from_millis(random.u64(0..300));
            let before = way.state();
            let asked = way.advance(&mut eras, now).map(|question| question.stamp);
            let stamp = if random.bool() { asked.unwrap_or(0) } else { random.u64(..) };
            way.answer(stamp, random.u64(..4), &mut eras, now);
            if before == State::Relayed {
                prop_assert_ne!(way.state(), State::Direct, "frames of before may be on their way");
            }
            let era = random.u64(..10);
            incoming.message(era, random.u64(..3));
            let agreed = incoming.question(random.u64(..10), (random.u64(..10), random.u64(..3)), random.bool());
            prop_assert!(agreed == 0 || incoming.is_direct());
        }
    }
}

#[test]
fn a_way_that_answers_is_taken_at_once_and_left_after_three_questions() {
    let mut sim = Sim::new(7, true);
    sim.run(Duration::from_millis(800));
    assert_eq!(sim.way.state(), State::Direct);
    sim.passes[0] = false;
    sim.run(Duration::from_millis(2_200));
    assert_eq!(sim.way.state(), State::Relayed);
    sim.run(Duration::from_secs(1));
    let seen = sim.delivered.len();
    sim.run(Duration::from_secs(1));
    assert!(sim.delivered.len() > seen + 100, "all frames are messages");
    assert_eq!(sim.disorder(), None);
}

#[test]
fn an_answer_to_no_question_counts_for_nothing() {
    let (mut eras, now) = (Eras::default(), Instant::now());
    let mut way = Outgoing::new(&mut eras, true, now);
    way.answer(0, 1, &mut eras, now);
    way.answer(17, 1, &mut eras, now);
    assert!(!way.is_heard(now));
    assert_eq!(way.state(), State::Relayed);
    let question = way.advance(&mut eras, now).expect("the first");
    assert!(question.is_long && question.era == 0);
    way.answer(question.stamp, 0, &mut eras, now);
    assert_eq!(way.state(), State::Held);
    assert!(way.is_heard(now));
}
