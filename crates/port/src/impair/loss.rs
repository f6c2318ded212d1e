//! Which frames are lost: independent losses, the 4-state Markov chain, and the model of Gilbert and
//! Elliott, as netem has them.

use fastrand::Rng;

use super::settings::{GilbertElliott, LossState, OneWay};

/// The states of both models. Settings may change while a model is in any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LossProcess {
    markov: Markov,
    is_bad: bool,
}

/// The states of the Markov chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Markov {
    /// 1: frames arrive.
    #[default]
    Received,
    /// 2: frames arrive in a burst of losses.
    ReceivedInBurst,
    /// 3: frames are lost in a burst.
    LostInBurst,
    /// 4: one frame was lost.
    Lost,
}

impl LossProcess {
    /// Returns whether the next frame is lost.
    #[inline]
    pub(super) fn loses(&mut self, settings: &OneWay, random: &mut Rng) -> bool {
        if let Some(model) = &settings.loss_state {
            self.markov_loses(model, random)
        } else if let Some(model) = &settings.gemodel {
            self.gilbert_elliott_loses(model, random)
        } else {
            !settings.loss.is_zero() && settings.loss.hits(random.u64(..))
        }
    }

    /// Goes to the next state of the chain, which says whether the frame is lost.
    fn markov_loses(&mut self, model: &LossState, random: &mut Rng) -> bool {
        let LossState { p13, p31, p32, p23, p14 } = *model;
        let drawn = random.u64(..);
        // The ways out of one state lie side by side from 0 on.
        let first_or_second = |first, second| match () {
            () if super::quantity::Percent::hits(first, drawn) => 1,
            () if first.plus(second).is_none_or(|both| both.hits(drawn)) => 2,
            () => 0,
        };
        self.markov = match (self.markov, drawn) {
            (Markov::Received, _) => match first_or_second(p14, p13) {
                1 => Markov::Lost,
                2 => Markov::LostInBurst,
                _ => Markov::Received,
            },
            (Markov::ReceivedInBurst, drawn) if p23.hits(drawn) => Markov::LostInBurst,
            (Markov::ReceivedInBurst, _) => Markov::ReceivedInBurst,
            (Markov::LostInBurst, _) => match first_or_second(p32, p31) {
                1 => Markov::ReceivedInBurst,
                2 => Markov::Received,
                _ => Markov::LostInBurst,
            },
            (Markov::Lost, _) => Markov::Received,
        };
        matches!(self.markov, Markov::LostInBurst | Markov::Lost)
    }

    /// The state before the frame says how likely it is lost.
    fn gilbert_elliott_loses(&mut self, model: &GilbertElliott, random: &mut Rng) -> bool {
        let GilbertElliott { p, r, bad_loss, good_loss } = *model;
        let (moves, loses) = (random.u64(..), random.u64(..));
        if self.is_bad {
            self.is_bad = !r.hits(moves);
            bad_loss.hits(loses)
        } else {
            self.is_bad = p.hits(moves);
            good_loss.hits(loses)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impair::Impairments;

    const FRAMES: usize = 1_000_000;

    /// Returns which of a million frames are lost.
    fn losses(text: &str, seed: u64) -> Vec<bool> {
        let settings = text.parse::<Impairments>().expect(text).ingress;
        let (mut process, mut random) = (LossProcess::default(), Rng::with_seed(seed));
        (0..FRAMES).map(|_| process.loses(&settings, &mut random)).collect()
    }

    /// Counts how often each pair of neighbours occurs, by (before, after).
    fn pairs(losses: &[bool]) -> [[f64; 2]; 2] {
        let mut counts = [[0.0; 2]; 2];
        for pair in losses.windows(2) {
            counts[usize::from(pair[0])][usize::from(pair[1])] += 1.0;
        }
        counts
    }

    /// Returns chi-square of observed against expected counts.
    fn chi_square(observed: impl IntoIterator<Item = (f64, f64)>) -> f64 {
        observed.into_iter().map(|(seen, expected)| (seen - expected).powi(2) / expected).sum()
    }

    /// Values that chi-square exceeds once in a thousand, for 1 to 12 degrees of freedom.
    const ONE_IN_A_THOUSAND: [f64; 12] =
        [10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12, 27.88, 29.59, 31.26, 32.91];

    #[test]
    fn independent_losses_are_as_many_as_asked_for_and_independent() {
        for (text, probability) in [("loss=1%", 0.01), ("loss=25%", 0.25), ("loss=0.1%", 0.001)] {
            let losses = losses(text, 1);
            let count = FRAMES as f64;
            let lost = losses.iter().filter(|lost| **lost).count() as f64;
            let expected = count * probability;
            let chi = chi_square([(lost, expected), (count - lost, count - expected)]);
            assert!(chi < ONE_IN_A_THOUSAND[0], "{text}: {chi}");
            // Of the frames after a lost one, and after another, the same share is lost.
            let seen = pairs(&losses);
            let chi: f64 = seen
                .iter()
                .map(|row| {
                    let all = row[0] + row[1];
                    let expected = [all * (1.0 - probability), all * probability];
                    chi_square(row.iter().copied().zip(expected))
                })
                .sum();
            assert!(chi < ONE_IN_A_THOUSAND[1], "{text}: {chi}");
        }
    }

    /// Returns how often runs of lost frames have each length up to `longest`; the last counts all
    /// longer ones.
    fn runs(losses: &[bool], longest: usize) -> Vec<f64> {
        let mut counts = vec![0.0; longest + 1];
        for run in losses.split(|lost| !lost).filter(|run| !run.is_empty()) {
            counts[run.len().min(longest + 1) - 1] += 1.0;
        }
        counts
    }

    #[test]
    fn bursts_of_the_markov_chain_are_geometric() {
        // Without states 2 and 4, a burst ends with the probability p31 at each frame.
        let (p13, p31) = (0.02, 0.3);
        let losses = losses("loss-state=2%/30%", 2);
        let seen = runs(&losses, 11);
        let all: f64 = seen.iter().sum();
        let stays: f64 = 1.0 - p31;
        let chi = chi_square(seen.iter().enumerate().map(|(index, count)| {
            let before = stays.powi(i32::try_from(index).expect("short"));
            (*count, all * if index == 11 { before } else { before * p31 })
        }));
        assert!(chi < ONE_IN_A_THOUSAND[10], "{chi}");
        // The share of lost frames is the weight of state 3.
        let lost = losses.iter().filter(|lost| **lost).count() as f64 / FRAMES as f64;
        assert!((lost - p13 / (p13 + p31)).abs() < 0.002, "{lost}");
    }

    #[test]
    fn the_markov_chain_spends_its_time_as_its_theory_says() {
        let (p13, p31, p32, p23, p14) = (0.05, 0.2, 0.3, 0.4, 0.02);
        let losses = losses("loss-state=5%/20%/30%/40%/2%", 3);
        // The weights of the states, from the balance of each.
        let w1 = 1.0;
        let w4 = w1 * p14;
        let w3 = w1 * p13 / p31;
        let w2 = w3 * p32 / p23;
        let sum = w1 + w2 + w3 + w4;
        let lost = losses.iter().filter(|lost| **lost).count() as f64 / FRAMES as f64;
        let expected = (w3 + w4) / sum;
        assert!((lost - expected).abs() < 0.003, "{lost} for {expected}");
        // A lost frame is followed by another one from state 3 only.
        let seen = pairs(&losses);
        let again = seen[1][1] / (seen[1][0] + seen[1][1]);
        let expected = w3 * (1.0 - p31 - p32) / (w3 + w4);
        assert!((again - expected).abs() < 0.005, "{again} for {expected}");
    }

    #[test]
    fn gilbert_elliott_losses_are_as_its_theory_says() {
        let (p, r, bad, good) = (0.02, 0.15, 0.6, 0.01);
        let losses = losses("gemodel=2%/15%/60%/1%", 4);
        let is_bad = p / (p + r);
        let expected = is_bad * bad + (1.0 - is_bad) * good;
        let lost = losses.iter().filter(|lost| **lost).count() as f64 / FRAMES as f64;
        assert!((lost - expected).abs() < 0.003, "{lost} for {expected}");
        // Two in a row: the state is a chain, and each loss depends on its state alone.
        let both = is_bad * bad * ((1.0 - r) * bad + r * good)
            + (1.0 - is_bad) * good * (p * bad + (1.0 - p) * good);
        let seen = pairs(&losses)[1][1] / (FRAMES - 1) as f64;
        assert!((seen - both).abs() < 0.003, "{seen} for {both}");
    }

    #[test]
    fn the_simple_gilbert_model_has_geometric_bursts() {
        // In the bad state all frames are lost, so that a run of losses is a stay there.
        let r = 0.25;
        let losses = losses("gemodel=1%/25%", 5);
        let seen = runs(&losses, 11);
        let all: f64 = seen.iter().sum();
        let chi = chi_square(seen.iter().enumerate().map(|(index, count)| {
            let before = (1.0 - r as f64).powi(i32::try_from(index).expect("short"));
            (*count, all * if index == 11 { before } else { before * r })
        }));
        assert!(chi < ONE_IN_A_THOUSAND[10], "{chi}");
    }

    #[test]
    fn the_same_seed_loses_the_same_frames() {
        for text in ["loss=3%", "loss-state=5%/20%/30%/40%/2%", "gemodel=2%/15%/60%/1%"] {
            let one = losses(text, 9);
            assert!(one == losses(text, 9) && one != losses(text, 10), "{text}");
        }
    }
}
