//! What happens to a frame of one direction: a function of the settings, the seed, and the frames
//! before it with their times. It reads no clock and moves no bytes.
//!
//! Each kind of impairment draws from a stream of random numbers of its own, so that a change of
//! one does not change what the others decide.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::jitter::deviation;
use super::loss::LossProcess;
use super::settings::OneWay;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Model {
    losses: Rng,
    duplicates: Rng,
    corruption: Rng,
    jitter: Rng,
    reordering: Rng,
    loss: LossProcess,
    /// When the link began to come and go.
    flaps_since: Option<Instant>,
    /// How many frames were delayed since one was sent past them.
    since_reordered: u32,
    /// When the frames before have been sent, at the rate.
    sent_at: Option<Instant>,
    /// When the last delayed frame is due: none is due before it.
    last_due: Option<Instant>,
}

/// Whether a frame arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) is_lost: bool,
    pub(super) is_duplicated: bool,
}

impl Arrival {
    /// Returns how many frames become of it. As for netem, one of two is lost.
    pub(super) fn copies(self) -> usize {
        1 + usize::from(self.is_duplicated) - usize::from(self.is_lost)
    }
}

/// When and how a frame that arrives does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// The bit that is flipped.
    pub(super) flipped: Option<usize>,
    /// When it is sent past the delayed ones, it is due at once.
    pub(super) is_reordered: bool,
    pub(super) due: Instant,
}

impl Model {
    /// Makes a model that begins at `seed`. Models with different seeds decide differently.
    pub(super) fn new(seed: u64) -> Self {
        let mut seeds = Rng::with_seed(seed);
        let mut stream = || Rng::with_seed(seeds.u64(..));
        Self {
            losses: stream(),
            duplicates: stream(),
            corruption: stream(),
            jitter: stream(),
            reordering: stream(),
            loss: LossProcess::default(),
            flaps_since: None,
            since_reordered: 0,
            sent_at: None,
            last_due: None,
        }
    }

    /// Begins the times of the link anew, when it comes and goes at other times than before.
    pub(super) fn restart_flaps(&mut self) {
        self.flaps_since = None;
    }

    /// Returns whether the link is cut.
    #[inline]
    pub(super) fn is_cut(&mut self, settings: &OneWay, now: Instant) -> bool {
        let Some(flap) = settings.flap else { return settings.partition };
        let since = *self.flaps_since.get_or_insert(now);
        let round = (flap.up + flap.down).as_nanos().max(1);
        let is_down = now.saturating_duration_since(since).as_nanos() % round >= flap.up.as_nanos();
        settings.partition || is_down
    }

    /// Decides whether a frame arrives, on a link that is not cut.
    #[inline]
    pub(super) fn arrival(&mut self, settings: &OneWay) -> Arrival {
        let duplicate = settings.duplicate;
        Arrival {
            is_duplicated: !duplicate.is_zero() && duplicate.hits(self.duplicates.u64(..)),
            is_lost: self.loss.loses(settings, &mut self.losses),
        }
    }

    /// Decides when and how a frame of `len` bytes that has come at `now` arrives.
    #[inline]
    pub(super) fn delivery(&mut self, settings: &OneWay, len: usize, now: Instant) -> Delivery {
        let corrupt = settings.corrupt;
        let flipped = (!corrupt.is_zero() && corrupt.hits(self.corruption.u64(..)))
            .then(|| self.corruption.usize(..len.max(1) * 8));
        if self.is_reordered(settings) {
            self.since_reordered = 0;
            return Delivery { flipped, is_reordered: true, due: now };
        }
        self.since_reordered = self.since_reordered.saturating_add(1);
        let mut sent = now;
        if let Some(rate) = settings.rate {
            let bytes = i64::try_from(len).unwrap_or(i64::MAX) + i64::from(settings.overhead);
            let begin = self.sent_at.map_or(now, |before| before.max(now));
            sent = begin + rate.time_of(u64::try_from(bytes).unwrap_or(0));
            self.sent_at = Some(sent);
        }
        let due = sent + self.delay(settings);
        let due = self.last_due.map_or(due, |last| last.max(due));
        self.last_due = Some(due);
        Delivery { flipped, is_reordered: false, due }
    }

    fn is_reordered(&mut self, settings: &OneWay) -> bool {
        !settings.reorder.is_zero()
            && self.since_reordered >= settings.gap - 1
            && settings.reorder.hits(self.reordering.u64(..))
    }

    fn delay(&mut self, settings: &OneWay) -> Duration {
        if settings.jitter.is_zero() {
            return settings.delay;
        }
        let off = deviation(settings.distribution, self.jitter.u64(..));
        let seconds = settings.delay.as_secs_f64() + settings.jitter.as_secs_f64() * off;
        Duration::from_secs_f64(seconds.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impair::Impairments;

    fn settings(text: &str) -> OneWay {
        text.parse::<Impairments>().expect(text).ingress
    }

    /// Decides over frames of 100 bytes that come each `pause`.
    fn deliveries(text: &str, frames: u32, pause: Duration) -> (Instant, Vec<Delivery>) {
        let (settings, mut model, begin) = (settings(text), Model::new(1), Instant::now());
        let all = (0..frames).map(|number| model.delivery(&settings, 100, begin + pause * number));
        (begin, all.collect())
    }

    #[test]
    fn a_delay_is_the_same_for_all_frames() {
        let pause = Duration::from_micros(10);
        let (begin, all) = deliveries("delay=20ms", 1_000, pause);
        for (number, delivery) in (0..).zip(all) {
            assert_eq!(delivery.due, begin + pause * number + Duration::from_millis(20));
        }
    }

    #[test]
    fn jitter_never_reorders_and_is_never_early() {
        for distribution in ["uniform", "normal", "pareto", "paretonormal"] {
            let text = format!("delay=10ms,jitter=20ms,distribution={distribution}");
            let pause = Duration::from_micros(100);
            let (begin, all) = deliveries(&text, 20_000, pause);
            assert!(all.is_sorted_by_key(|delivery| delivery.due), "{distribution}");
            for (number, delivery) in (0..).zip(&all) {
                assert!(delivery.due >= begin + pause * number);
            }
        }
        // Far apart, the delays have the asked mean.
        let pause = Duration::from_secs(1);
        let (begin, all) = deliveries("delay=10ms,jitter=5ms", 20_000, pause);
        let sum: f64 = (0..)
            .zip(&all)
            .map(|(number, delivery)| (delivery.due - begin - pause * number).as_secs_f64())
            .sum();
        assert!((sum / 20_000.0 - 0.010).abs() < 0.000_1, "{sum}");
    }

    #[test]
    fn the_rate_is_kept_on_any_load() {
        for (text, per_frame) in [
            ("rate=8mbit", 100.0),
            ("rate=8mbit,overhead=20", 120.0),
            ("rate=8mbit,overhead=-20", 80.0),
            ("rate=10mbit", 80.0),
        ] {
            let (begin, all) = deliveries(text, 100_000, Duration::ZERO);
            let took = (all[99_999].due - begin).as_secs_f64();
            let expected = per_frame * 100_000.0 / 1e6;
            assert!((took / expected - 1.0).abs() < 0.01, "{text}: {took} for {expected}");
            // A link that is not busy sends at once.
            let (begin, all) = deliveries(text, 10, Duration::from_secs(1));
            let late = all[9].due - begin - Duration::from_secs(9);
            assert!(late < Duration::from_micros(121), "{late:?}");
        }
    }

    #[test]
    fn each_gapth_frame_at_most_is_sent_past_the_others() {
        let pause = Duration::from_micros(10);
        let (_, all) = deliveries("delay=1ms,reorder=100%,gap=5", 1_000, pause);
        for (number, delivery) in all.iter().enumerate() {
            assert_eq!(delivery.is_reordered, number % 5 == 4, "{number}");
        }
        let (_, all) = deliveries("delay=1ms,reorder=25%", 100_000, pause);
        let count = all.iter().filter(|delivery| delivery.is_reordered).count();
        assert!((24_000..26_000).contains(&count), "{count}");
    }

    #[test]
    fn one_bit_is_flipped_anywhere() {
        let (_, all) = deliveries("corrupt=50%", 100_000, Duration::ZERO);
        let bits: Vec<usize> = all.iter().filter_map(|delivery| delivery.flipped).collect();
        assert!((49_000..51_000).contains(&bits.len()), "{}", bits.len());
        let mut seen = [0; 800];
        bits.iter().for_each(|bit| seen[*bit] += 1);
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
    }

    #[test]
    fn a_link_comes_and_goes_at_its_times() {
        let (settings, mut model, begin) = (settings("flap=3s/2s"), Model::new(1), Instant::now());
        for tenths in 0..200 {
            let now = begin + Duration::from_millis(100) * tenths;
            assert_eq!(model.is_cut(&settings, now), tenths % 50 >= 30, "{tenths}");
        }
        assert!(model.is_cut(&self::settings("partition=on"), begin));
    }

    #[test]
    fn one_impairment_does_not_disturb_another() {
        let run = |text: &str| {
            let (settings, mut model, now) = (settings(text), Model::new(3), Instant::now());
            let mut all = Vec::new();
            for _ in 0..10_000 {
                let arrival = model.arrival(&settings);
                let delivery = model.delivery(&settings, 60, now);
                all.push((arrival.is_lost, delivery.flipped.is_some(), delivery.due - now));
            }
            all
        };
        let alone = run("loss=5%");
        let together = run("loss=5%,delay=1ms/1ms,corrupt=10%,duplicate=3%");
        assert!(alone.iter().zip(&together).all(|(one, other)| one.0 == other.0));
        assert_eq!(together, run("loss=5%,delay=1ms/1ms,corrupt=10%,duplicate=3%"));
    }

    #[test]
    fn a_lost_duplicate_is_one_frame() {
        for (is_lost, is_duplicated, copies) in
            [(false, false, 1), (true, false, 0), (false, true, 2), (true, true, 1)]
        {
            assert_eq!(Arrival { is_lost, is_duplicated }.copies(), copies);
        }
    }
}
