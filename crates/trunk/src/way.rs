//! Which way frames take between two ends, and how it changes without a frame that comes twice or out
//! of order. No I/O.
//!
//! Time at a sender is cut into *eras*. In one era all frames for an end leave as Zenoh's messages, in
//! another all leave in datagrams. Eras are numbered, and no number is used twice.
//!
//! - Messages carry their era, and their number in it. Datagrams carry neither: they are VXLAN.
//! - So a receiver takes frames from one way at a time. It takes datagrams from the moment at which it
//!   has agreed to the era that the sender has asked for, until a message of a later era comes.
//! - It agrees when it has all messages of before, or when the sender has waited for too long. A message
//!   of an era that is over is dropped.
//! - Until the receiver has agreed, the sender holds its frames back.
//!
//! A sender without answers goes back to messages, in a new era. It asks for datagrams again after a
//! pause that is longer than any datagram is on its way.

use std::time::{Duration, Instant};

/// How often an end is asked whether it is there.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// An end that has not answered for this time is not reached: three questions.
const MAX_SILENCE: Duration = Duration::from_millis(1_600);
/// How long frames are messages at least: datagrams of before have arrived by then, or never will.
const MIN_RELAYED: Duration = Duration::from_secs(1);
/// While frames are held: how often the end is asked to agree, when it is to wait for messages no
/// longer, and when it is given up.
const AGREE_INTERVAL: Duration = Duration::from_millis(20);
const FORCE_AFTER: Duration = Duration::from_millis(200);
const GIVE_UP_AFTER: Duration = Duration::from_millis(500);
/// How many questions may still be answered: all of those that ask to agree.
const STAMPS: usize = 25;
const _: () = assert!(STAMPS as u128 * AGREE_INTERVAL.as_millis() >= GIVE_UP_AFTER.as_millis());

/// The numbers of eras: each is used once by one port.
#[derive(Debug, Default)]
pub(crate) struct Eras(u64);

impl Eras {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// How frames leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// As messages.
    Relayed,
    /// They are held back until the end agrees to datagrams.
    Held,
    /// In datagrams.
    Direct,
}

/// The way to an end.
#[derive(Debug)]
pub(crate) struct Outgoing {
    state: State,
    since: Instant,
    era: u64,
    /// Messages in this era, if it is one of messages.
    messages: u64,
    /// The last era with messages, and how many.
    last_messages: (u64, u64),
    /// Whether messages carry frames: then datagrams of before may be overtaken.
    relays: bool,
    next_probe: Instant,
    /// The stamps of the latest questions.
    stamps: [u64; STAMPS],
    answered: Option<Instant>,
}

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) stamp: u64,
    pub(crate) era: u64,
    pub(crate) after: (u64, u64),
    pub(crate) forced: bool,
    /// Whether it has to be as long as the longest frame: a way that loses those is none.
    pub(crate) is_long: bool,
}

impl Outgoing {
    /// Begins with messages. With `relays`, these carry frames.
    pub(crate) fn new(eras: &mut Eras, relays: bool, now: Instant) -> Self {
        Self {
            state: State::Relayed,
            // No datagram is on its way.
            since: now.checked_sub(MIN_RELAYED).unwrap_or(now),
            era: eras.next(),
            messages: 0,
            last_messages: (0, 0),
            relays,
            next_probe: now,
            stamps: [0; STAMPS],
            answered: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Returns the place of the next message.
    pub(crate) fn next_message(&mut self) -> (u64, u64) {
        self.messages += 1;
        self.last_messages = (self.era, self.messages);
        self.last_messages
    }

    /// Returns whether the end has answered lately.
    pub(crate) fn is_heard(&self, now: Instant) -> bool {
        self.answered.is_some_and(|at| now.saturating_duration_since(at) < MAX_SILENCE)
    }

    /// Goes back to messages: the end may have lost its state, or is somewhere else.
    pub(crate) fn reset(&mut self, eras: &mut Eras, now: Instant) {
        (self.state, self.since, self.era, self.messages) = (State::Relayed, now, eras.next(), 0);
        (self.answered, self.stamps) = (None, [0; STAMPS]);
        self.next_probe = now;
    }

    /// Returns when [`advance`](Self::advance) is to be called at the latest.
    pub(crate) fn due(&self) -> Instant {
        self.next_probe
    }

    /// Does what time asks for, and returns the question that is due.
    pub(crate) fn advance(&mut self, eras: &mut Eras, now: Instant) -> Option<Question> {
        let waited = now.saturating_duration_since(self.since);
        let is_over = match self.state {
            State::Relayed => false,
            State::Held => waited >= GIVE_UP_AFTER,
            State::Direct => !self.is_heard(now),
        };
        if is_over {
            self.reset(eras, now);
        }
        if now < self.next_probe {
            return None;
        }
        self.next_probe =
            now + if self.state == State::Held { AGREE_INTERVAL } else { PROBE_INTERVAL };
        self.stamps.rotate_right(1);
        // 0 is the stamp of no question.
        self.stamps[0] = fastrand::u64(1..);
        Some(Question {
            stamp: self.stamps[0],
            era: if self.state == State::Relayed { 0 } else { self.era },
            after: self.last_messages,
            forced: self.state == State::Held && waited >= FORCE_AFTER,
            is_long: self.state != State::Direct,
        })
    }

    /// Notes an answer: the end takes datagrams as frames in the era `agreed`; 0: in none.
    pub(crate) fn answer(&mut self, stamp: u64, agreed: u64, eras: &mut Eras, now: Instant) {
        if stamp == 0 || !self.stamps.contains(&stamp) {
            return;
        }
        self.answered = Some(now);
        match self.state {
            State::Relayed => {
                let waited = now.saturating_duration_since(self.since);
                if !self.relays || waited >= MIN_RELAYED {
                    (self.state, self.since) = (State::Held, now);
                    (self.era, self.messages, self.next_probe) = (eras.next(), 0, now);
                }
            }
            State::Held if agreed == self.era => (self.state, self.since) = (State::Direct, now),
            State::Direct if agreed != self.era && stamp == self.stamps[0] => {
                self.reset(eras, now);
                self.answered = Some(now);
            }
            State::Held | State::Direct => {}
        }
    }
}

/// What is taken from an end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Incoming {
    era: u64,
    /// Whether datagrams are taken, and no messages.
    is_direct: bool,
    /// The latest message of the era.
    latest: u64,
}

impl Incoming {
    /// Returns whether datagrams of the end are frames.
    pub(crate) fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// Takes a message. Returns `false` when it comes too late.
    pub(crate) fn message(&mut self, era: u64, number: u64) -> bool {
        let is_late =
            era < self.era || era == self.era && (self.is_direct || number <= self.latest);
        if !is_late {
            *self = Self { era, is_direct: false, latest: number };
        }
        !is_late
    }

    /// Returns the era in which datagrams are taken, after a question; 0: in none.
    pub(crate) fn question(&mut self, era: u64, after: (u64, u64), forced: bool) -> u64 {
        if era > self.era {
            let (last, count) = after;
            let has_all =
                last < self.era || last == self.era && (self.is_direct || self.latest >= count);
            if has_all || forced || count == 0 {
                *self = Self { era, is_direct: true, latest: 0 };
            }
        }
        if self.is_direct { self.era } else { 0 }
    }

    /// Takes no datagrams any longer.
    pub(crate) fn refuse_datagrams(&mut self) {
        self.is_direct = false;
    }
}

#[cfg(test)]
mod tests;
