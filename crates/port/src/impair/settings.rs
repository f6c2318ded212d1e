//! What happens to frames in one direction, in the words of netem.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::quantity::{Percent, Rate, parse_time, time_text};
use crate::suggest;

/// How many frames wait in a direction at most, unless it is set.
const LIMIT: usize = 1_000;
/// The range of `limit`.
const LIMITS: std::ops::RangeInclusive<usize> = 1..=10_000_000;
/// The range of `gap`.
const GAPS: std::ops::RangeInclusive<u32> = 1..=1_000_000;
/// The range of `overhead`, in bytes.
const OVERHEADS: std::ops::RangeInclusive<i32> = -64..=10_000;

/// The keys of a direction, in the order in which they are written.
pub(super) const KEYS: [&str; 15] = [
    "delay",
    "jitter",
    "distribution",
    "loss",
    "loss-state",
    "gemodel",
    "corrupt",
    "duplicate",
    "reorder",
    "gap",
    "rate",
    "overhead",
    "limit",
    "flap",
    "partition",
];

/// The impairments of one direction. By default there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OneWay {
    /// How late frames are.
    pub delay: Duration,
    /// By how much the delay varies.
    pub jitter: Duration,
    /// How it varies.
    pub distribution: Distribution,
    /// How many frames are lost, each independent of the others.
    pub loss: Percent,
    /// How frames are lost in a Markov chain of four states.
    pub loss_state: Option<LossState>,
    /// How frames are lost in the model of Gilbert and Elliott.
    pub gemodel: Option<GilbertElliott>,
    /// In how many frames a bit is flipped.
    pub corrupt: Percent,
    /// How many frames arrive twice.
    pub duplicate: Percent,
    /// How many frames are sent at once, past the delayed ones.
    pub reorder: Percent,
    /// Only each `gap`-th frame can be sent past the delayed ones.
    pub gap: u32,
    /// How fast frames are sent; `None`: as fast as they come.
    pub rate: Option<Rate>,
    /// The bytes that the rate counts for each frame besides its own; they may be negative.
    pub overhead: i32,
    /// How many frames wait at most. Further ones are dropped.
    pub limit: usize,
    /// How long frames pass, and how long they do not, in turn.
    pub flap: Option<Flap>,
    /// Whether no frame passes.
    pub partition: bool,
}

impl Default for OneWay {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            distribution: Distribution::default(),
            loss: Percent::ZERO,
            loss_state: None,
            gemodel: None,
            corrupt: Percent::ZERO,
            duplicate: Percent::ZERO,
            reorder: Percent::ZERO,
            gap: 1,
            rate: None,
            overhead: 0,
            limit: LIMIT,
            flap: None,
            partition: false,
        }
    }
}

/// How a delay varies around its mean, for a jitter of 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distribution {
    /// From -1 to 1, each as likely.
    #[default]
    Uniform,
    /// A normal distribution with a standard deviation of 1, from -4 to 4.
    Normal,
    /// A Pareto distribution with a mean of 0, from -2/3 to 4.
    Pareto,
    /// A quarter of the normal and three quarters of the Pareto distribution.
    ParetoNormal,
}

const DISTRIBUTIONS: [(&str, Distribution); 4] = [
    ("uniform", Distribution::Uniform),
    ("normal", Distribution::Normal),
    ("pareto", Distribution::Pareto),
    ("paretonormal", Distribution::ParetoNormal),
];

/// A Markov chain with four states: 1, frames arrive; 2, frames arrive in a burst of losses; 3,
/// frames are lost in a burst; 4, one frame is lost. `p13` is the probability of going from state 1
/// to state 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossState {
    /// How likely a burst of losses begins.
    pub p13: Percent,
    /// How likely a burst of losses ends.
    pub p31: Percent,
    /// How likely a frame arrives in a burst of losses.
    pub p32: Percent,
    /// How likely the burst of losses then continues.
    pub p23: Percent,
    /// How likely a single frame is lost.
    pub p14: Percent,
}

/// A link that is good or bad: it becomes bad with the probability `p` and good with `r`, and loses
/// frames with `bad_loss` (1-h) while it is bad, and with `good_loss` (1-k) while it is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GilbertElliott {
    /// How likely the good link becomes bad, for each frame.
    pub p: Percent,
    /// How likely the bad link becomes good.
    pub r: Percent,
    /// How likely the bad link loses a frame.
    pub bad_loss: Percent,
    /// How likely the good link loses a frame.
    pub good_loss: Percent,
}

/// A link that comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flap {
    /// How long frames pass.
    pub up: Duration,
    /// How long they do not.
    pub down: Duration,
}

impl OneWay {
    /// Makes settings that change nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how late frames are.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Sets by how much the delay varies. Frames stay in order.
    #[must_use]
    pub fn jitter(self, jitter: Duration, distribution: Distribution) -> Self {
        Self { jitter, distribution, ..self }
    }

    /// Sets how many frames are lost.
    #[must_use]
    pub fn loss(self, loss: Percent) -> Self {
        Self { loss, ..self }
    }

    /// Sets how fast frames are sent.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        Self { rate: Some(rate), ..self }
    }

    /// Sets how many frames wait at most.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Sets whether no frame passes.
    #[must_use]
    pub fn partition(self, on: bool) -> Self {
        Self { partition: on, ..self }
    }

    /// Returns whether frames pass as they are. `distribution`, `gap`, `overhead` and `limit` alone
    /// change nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        let passive = Self {
            distribution: self.distribution,
            gap: self.gap,
            overhead: self.overhead,
            limit: self.limit,
            ..Self::default()
        };
        *self == passive
    }

    /// Sets what `key` names.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "delay" => {
                // As for netem, the jitter may follow.
                let times = parts(value).map(parse_time).collect::<Result<Vec<_>, _>>()?;
                match times[..] {
                    [delay] => self.delay = delay,
                    [delay, jitter] => (self.delay, self.jitter) = (delay, jitter),
                    _ => return Err("it is a time, such as 20ms".to_owned()),
                }
            }
            "jitter" => self.jitter = parse_time(value)?,
            "distribution" => self.distribution = word(value, &DISTRIBUTIONS)?,
            "loss" => self.loss = alone(value)?,
            "loss-state" => self.loss_state = LossState::parse(value)?,
            "gemodel" => self.gemodel = GilbertElliott::parse(value)?,
            "corrupt" => self.corrupt = alone(value)?,
            "duplicate" => self.duplicate = alone(value)?,
            "reorder" => self.reorder = alone(value)?,
            "gap" => self.gap = number(value, GAPS)?,
            "rate" => self.rate = if value == "0" { None } else { Some(value.parse()?) },
            "overhead" => self.overhead = number(value, OVERHEADS)?,
            "limit" => self.limit = number(value, LIMITS)?,
            "flap" => self.flap = Flap::parse(value)?,
            "partition" => self.partition = word(value, &[("on", true), ("off", false)])?,
            _ => return Err("there is no such impairment".to_owned()),
        }
        Ok(())
    }

    /// Returns the value of what `key` names; `None` where it is the default.
    pub(super) fn get(&self, key: &str) -> Option<String> {
        let default = Self::default();
        let time = |time: Duration| Some(time).filter(|time| !time.is_zero()).map(time_text);
        let percent = |percent: Percent| {
            Some(percent).filter(|percent| !percent.is_zero()).map(|percent| percent.to_string())
        };
        match key {
            "delay" => time(self.delay),
            "jitter" => time(self.jitter),
            "distribution" => DISTRIBUTIONS
                .iter()
                .find(|(_, known)| *known == self.distribution && *known != default.distribution)
                .map(|(word, _)| (*word).to_owned()),
            "loss" => percent(self.loss),
            "loss-state" => self.loss_state.map(|model| model.to_string()),
            "gemodel" => self.gemodel.map(|model| model.to_string()),
            "corrupt" => percent(self.corrupt),
            "duplicate" => percent(self.duplicate),
            "reorder" => percent(self.reorder),
            "gap" => (self.gap != default.gap).then(|| self.gap.to_string()),
            "rate" => self.rate.map(|rate| rate.to_string()),
            "overhead" => (self.overhead != 0).then(|| self.overhead.to_string()),
            "limit" => (self.limit != default.limit).then(|| self.limit.to_string()),
            "flap" => self.flap.map(|flap| flap.to_string()),
            "partition" => self.partition.then(|| "on".to_owned()),
            _ => None,
        }
    }

    /// Returns what does not go together, as a key and what is wrong with it.
    pub(super) fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        let losses = [
            ("loss", !self.loss.is_zero()),
            ("loss-state", self.loss_state.is_some()),
            ("gemodel", self.gemodel.is_some()),
        ];
        let mut losses = losses.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key);
        losses.next();
        if let Some(second) = losses.next() {
            return Some((
                second,
                "frames are lost by one of loss, loss-state and gemodel: set the others to 0",
            ));
        }
        let is_delayed = !self.delay.is_zero() || !self.jitter.is_zero() || self.rate.is_some();
        if !self.reorder.is_zero() && !is_delayed {
            return Some((
                "reorder",
                "such frames pass those that are delayed, and none is: add a delay, such as delay=10ms",
            ));
        }
        None
    }
}

impl LossState {
    /// Parses `p13 [p31 [p32 [p23 [p14]]]]`; 0 alone is no loss.
    fn parse(value: &str) -> Result<Option<Self>, String> {
        let given = percents(value, 5, "p13/p31/p32/p23/p14, such as 1%/10%")?;
        if given.len() == 1 && given[0].is_zero() {
            return Ok(None);
        }
        let at = |index: usize, default| given.get(index).copied().unwrap_or(default);
        let p13 = at(0, Percent::ZERO);
        let model = Self {
            p13,
            p31: at(1, p13.complement()),
            p32: at(2, Percent::ZERO),
            p23: at(3, Percent::HUNDRED),
            p14: at(4, Percent::ZERO),
        };
        for (sum, names) in
            [(model.p13.plus(model.p14), "p13 and p14"), (model.p31.plus(model.p32), "p31 and p32")]
        {
            if sum.is_none() {
                return Err(format!("{names} lead out of one state: their sum is at most 100%"));
            }
        }
        Ok(Some(model))
    }
}

impl fmt::Display for LossState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p13, p31, p32, p23, p14 } = self;
        write!(f, "{p13}/{p31}/{p32}/{p23}/{p14}")
    }
}

impl GilbertElliott {
    /// Parses `p [r [1-h [1-k]]]`; 0 alone is no loss.
    fn parse(value: &str) -> Result<Option<Self>, String> {
        let given = percents(value, 4, "p/r/1-h/1-k, such as 1%/10%/70%/0.1%")?;
        if given.len() == 1 && given[0].is_zero() {
            return Ok(None);
        }
        let at = |index: usize, default| given.get(index).copied().unwrap_or(default);
        let p = at(0, Percent::ZERO);
        Ok(Some(Self {
            p,
            r: at(1, p.complement()),
            bad_loss: at(2, Percent::HUNDRED),
            good_loss: at(3, Percent::ZERO),
        }))
    }
}

impl fmt::Display for GilbertElliott {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p, r, bad_loss, good_loss } = self;
        write!(f, "{p}/{r}/{bad_loss}/{good_loss}")
    }
}

impl Flap {
    /// Parses `UP/DOWN`; 0 or `off` alone is a link that stays.
    fn parse(value: &str) -> Result<Option<Self>, String> {
        if ["0", "off"].contains(&value) {
            return Ok(None);
        }
        let times = parts(value).map(parse_time).collect::<Result<Vec<_>, _>>()?;
        match times[..] {
            [up, down] if !up.is_zero() && !down.is_zero() => Ok(Some(Self { up, down })),
            _ => {
                Err("it is UP/DOWN, how long frames pass and how long they do not, such as 10s/2s"
                    .to_owned())
            }
        }
    }
}

impl fmt::Display for Flap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", time_text(self.up), time_text(self.down))
    }
}

/// Splits a value of several parts.
fn parts(value: &str) -> impl Iterator<Item = &str> {
    value.split(['/', ',', ' ']).filter(|part| !part.is_empty())
}

fn percents(value: &str, most: usize, form: &str) -> Result<Vec<Percent>, String> {
    let given = parts(value).map(str::parse).collect::<Result<Vec<Percent>, _>>()?;
    if (1..=most).contains(&given.len()) { Ok(given) } else { Err(format!("it is {form}")) }
}

/// Parses a percentage. In netem a correlation may follow.
fn alone(value: &str) -> Result<Percent, String> {
    let mut parts = parts(value);
    match (parts.next(), parts.next()) {
        (Some(_), Some(_)) => Err("a correlation is not possible, which netem does not keep to; \
             gemodel and loss-state lose frames in bursts"
            .to_owned()),
        _ => value.parse(),
    }
}

fn word<T: Copy>(value: &str, words: &[(&str, T)]) -> Result<T, String> {
    let names = || words.iter().map(|(name, _)| *name);
    words.iter().find(|(name, _)| *name == value).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let all: Vec<&str> = names().collect();
        format!("it is one of {}{}", all.join(", "), suggest::hint(value, names()))
    })
}

fn number<T: FromStr + PartialOrd + fmt::Display>(
    value: &str,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, String> {
    value
        .parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("it is a whole number from {} to {}", range.start(), range.end()))
}
