//! One direction of an impaired link: its settings, its decisions, and the frames that wait.

use std::time::Instant;

use super::handle::Tally;
use super::model::Model;
use super::queue::Queue;
use super::settings::OneWay;

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    settings: OneWay,
    model: Model,
    queue: Queue,
}

impl Lane {
    pub(super) fn new(settings: OneWay, seed: u64) -> Self {
        Self { settings, model: Model::new(seed), queue: Queue::default() }
    }

    /// Changes the settings for frames that come from now on. With a seed, the decisions begin
    /// anew.
    pub(super) fn change(&mut self, settings: OneWay, seed: Option<u64>) {
        if let Some(seed) = seed {
            self.model = Model::new(seed);
        }
        if settings.flap != self.settings.flap {
            self.model.restart_flaps();
        }
        self.settings = settings;
    }

    /// Returns whether frames pass as they are, and none waits.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.settings.is_none()
    }

    /// Decides over a frame that has come at `now`, and keeps a copy of what arrives.
    pub(super) fn offer(&mut self, frame: &[u8], now: Instant, tally: &Tally) {
        let Self { settings, model, queue } = self;
        if model.is_cut(settings, now) {
            return Tally::add(&tally.lost, 1);
        }
        let arrival = model.arrival(settings);
        Tally::add(&tally.lost, arrival.is_lost.into());
        Tally::add(&tally.duplicated, arrival.is_duplicated.into());
        for _ in 0..arrival.copies() {
            if !queue.has_room(frame.len(), settings.limit) {
                Tally::add(&tally.queue_drops, 1);
                continue;
            }
            let delivery = model.delivery(settings, frame.len(), now);
            Tally::add(&tally.reordered, delivery.is_reordered.into());
            let copy = queue.push(frame, delivery.due, delivery.is_reordered);
            if let Some(bit) = delivery.flipped
                && let Some(byte) = copy.get_mut(bit / 8)
            {
                *byte ^= 1 << (bit % 8);
                Tally::add(&tally.corrupted, 1);
            }
        }
    }

    /// Returns the frames that are due, in order.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = &[u8]> + Clone {
        self.queue.due(now)
    }

    /// Returns when the next frame is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    /// Removes the first `count` frames.
    pub(super) fn remove(&mut self, count: usize) {
        self.queue.remove(count);
    }

    /// Removes all frames.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::impair::{ImpairHandle, Impairments};

    /// Offers numbered frames each 10 µs, and returns those that arrive by then, and the counters.
    fn run(text: &str, frames: u32) -> (Vec<Vec<u8>>, super::super::OneWayCounters) {
        let settings = text.parse::<Impairments>().expect(text).ingress;
        let (mut lane, handle) = (Lane::new(settings, 5), ImpairHandle::default());
        let mut now = Instant::now();
        let mut arrived = Vec::new();
        let mut collect = |lane: &mut Lane, now| {
            let due: Vec<Vec<u8>> = lane.due(now).map(<[u8]>::to_vec).collect();
            lane.remove(due.len());
            arrived.extend(due);
        };
        for number in 0..frames {
            let frame = [&number.to_be_bytes()[..], &[0; 56]].concat();
            lane.offer(&frame, now, handle.ingress());
            now += Duration::from_micros(10);
            collect(&mut lane, now);
        }
        collect(&mut lane, now + Duration::from_secs(3_600));
        assert!(lane.queue.is_empty());
        (arrived, handle.counters().ingress)
    }

    #[test]
    fn every_frame_is_accounted_for() {
        for text in [
            "delay=10ms",
            "loss=10%",
            "duplicate=20%,loss=10%",
            "delay=5ms,limit=100",
            "rate=1mbit,limit=50,duplicate=5%",
            "flap=1ms/1ms",
            "partition=on",
            "delay=1ms/1ms,reorder=10%,corrupt=5%,gemodel=1%/10%,duplicate=1%,rate=50mbit,limit=70",
        ] {
            let (arrived, counters) = run(text, 20_000);
            let expected = 20_000 + counters.duplicated - counters.lost - counters.queue_drops;
            assert_eq!(arrived.len() as u64, expected, "{text}: {counters:?}");
            assert_eq!(arrived, run(text, 20_000).0, "{text} is repeatable");
        }
        assert_eq!(run("partition=on", 100).1.lost, 100);
        assert_eq!(run("flap=1ms/1ms", 20_000).1.lost, 10_000);
    }

    #[test]
    fn only_reorder_reorders() {
        let (arrived, _) = run("delay=1ms/900us,rate=200mbit,limit=100000", 20_000);
        assert!(arrived.len() == 20_000 && arrived.is_sorted());
        let (arrived, counters) = run("delay=1ms,reorder=10%", 20_000);
        let passed = arrived.windows(2).filter(|pair| pair[0] > pair[1]).count() as u64;
        assert!(passed > 1_000 && passed <= counters.reordered, "{passed} {counters:?}");
    }

    #[test]
    fn a_corrupted_frame_differs_in_one_bit() {
        let (arrived, counters) = run("corrupt=100%", 1_000);
        assert_eq!((arrived.len(), counters.corrupted), (1_000, 1_000));
        for (number, frame) in (0_u32..).zip(&arrived) {
            let sent = [&number.to_be_bytes()[..], &[0; 56]].concat();
            let bits: u32 =
                sent.iter().zip(frame).map(|(sent, got)| (sent ^ got).count_ones()).sum();
            assert_eq!(bits, 1, "{number}");
        }
    }

    #[test]
    fn the_queue_drops_what_comes_last() {
        let (arrived, counters) = run("delay=1s,limit=100", 1_000);
        assert_eq!((arrived.len(), counters.queue_drops), (100, 900));
        let first: Vec<u8> = arrived.iter().map(|frame| frame[3]).collect();
        assert!(first.iter().copied().eq(0..100));
    }

    #[test]
    fn a_change_keeps_what_waits_and_the_order() {
        let handle = ImpairHandle::default();
        let set = |text: &str| text.parse::<Impairments>().expect(text).ingress;
        let (mut lane, now) = (Lane::new(set("delay=1s"), 1), Instant::now());
        lane.offer(&[1; 60], now, handle.ingress());
        lane.change(set("delay=1ms"), None);
        lane.offer(&[2; 60], now, handle.ingress());
        assert_eq!(lane.due(now + Duration::from_millis(999)).count(), 0);
        let due: Vec<u8> = lane.due(now + Duration::from_secs(1)).map(|frame| frame[0]).collect();
        assert_eq!(due, [1, 2]);
        lane.change(set(""), None);
        assert!(!lane.is_idle());
        lane.remove(2);
        assert!(lane.is_idle());
    }
}
