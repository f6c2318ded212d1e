//! Pings a host: sends ICMP echo requests and measures when the replies arrive.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::echo_watch::{Damage, ECHO_HEADER, EchoEvent, EchoWatch};
use crate::icmp_error::PingError;
use crate::nic::Nic;
use crate::stack::Stack;
use crate::statistics::Statistics;
use neighbor::frame::{IPV4_HEADER, MAX_PACKET};

/// The longest time between requests for an interval of 0. Otherwise the next request follows the
/// reply.
const FLOOD_INTERVAL: Duration = Duration::from_millis(10);
/// How long a reply may be missing before the target is asked whether it is still at its Ethernet
/// address, and how often that happens at most.
const DOUBT_INTERVAL: Duration = Duration::from_secs(1);
/// How long before its timeout a request is lost whose target is not there.
const ERROR_MARGIN: Duration = Duration::from_millis(500);
/// Requests that are remembered after they were answered or given up, to tell duplicates and late
/// replies.
const MAX_REMEMBERED: usize = 4_096;

/// Returns how many bytes a request to `target` can carry at most, so that it fits an IP packet.
/// Requests that do not fit an Ethernet frame are sent in fragments.
///
/// ```
/// assert_eq!(iphost::largest_payload([10, 0, 0, 1].into()), 65_507);
/// ```
#[must_use]
pub fn largest_payload(target: IpAddr) -> usize {
    // The length of an IPv6 packet does not count its header.
    let ip_header = if target.is_ipv4() { IPV4_HEADER } else { 0 };
    MAX_PACKET - ip_header - ECHO_HEADER
}

/// What a [`Pinger`] sends, and how often.
#[derive(Debug, Clone)]
pub struct PingPlan {
    /// The host to ping. It is not one of the pinging host's own addresses, and on one of its
    /// networks or behind a router.
    pub target: IpAddr,
    /// How many requests to send; without a limit when this is `None`.
    pub count: Option<u64>,
    /// The time between requests. With 0 the next request follows the reply, or after 10 ms.
    pub interval: Duration,
    /// Bytes after the echo header, at most [`largest_payload`].
    pub size: usize,
    /// How long to wait for a reply.
    pub timeout: Duration,
}

/// A reply to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The reply's length in bytes, with the echo header.
    pub len: usize,
    /// The number of the request that it answers, counted from 1. After 65,535 follows 0.
    pub sequence: u16,
    /// The hop limit (IPv4: time to live) that was left.
    pub hop_limit: u8,
    /// The round-trip time; `None` when no request of this number is remembered.
    pub rtt: Option<Duration>,
    /// Whether the request had been answered before.
    pub is_duplicate: bool,
    /// What is wrong with it.
    pub damage: Option<Damage>,
}

/// What has come of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PingEvent {
    /// A reply, good or damaged.
    Reply(Reply),
    /// An ICMP error.
    Error {
        /// The number of the request.
        sequence: u16,
        /// The host that says so. It is the pinging host itself when no host has the target's
        /// address.
        from: IpAddr,
        /// What it says.
        error: PingError,
    },
}

/// A running ping. The [crate's documentation](crate) has an example.
#[derive(Debug)]
pub struct Pinger {
    plan: PingPlan,
    hop_limit: Option<u8>,
    ident: u16,
    /// The number of the latest request.
    sequence: u16,
    /// Requests without a reply, oldest first.
    waiting: VecDeque<Request>,
    /// The latest requests that were answered or given up, in the order of that.
    settled: VecDeque<Settled>,
    /// When the next request is due.
    next: Instant,
    /// When the target was last doubted.
    doubted: Instant,
    statistics: Statistics,
}

#[derive(Debug)]
struct Request {
    sequence: u16,
    asked: Instant,
    /// When it left; none while the target's Ethernet address is not resolved.
    sent: Option<Instant>,
}

/// A request that is answered, or given up: no reply came in time, or an error.
#[derive(Debug)]
struct Settled {
    request: Request,
    answered: bool,
}

impl Pinger {
    /// Starts a ping. Nothing is sent before the first [`step`](Self::step).
    pub fn start<N: Nic>(stack: &mut Stack<N>, plan: PingPlan) -> Self {
        let ident = fastrand::u16(..);
        // Bytes that count up are easy to check in a capture. The usual ping sends the same.
        let data = (0..=u8::MAX).cycle().take(plan.size).collect();
        stack.link().watch(EchoWatch::new(ident, plan.target, data));
        let now = Instant::now();
        Self {
            plan,
            hop_limit: None,
            ident,
            sequence: 0,
            waiting: VecDeque::new(),
            settled: VecDeque::new(),
            next: now,
            doubted: now,
            statistics: Statistics::new(),
        }
    }

    /// Sets the hop limit of the requests (IPv4: time to live). Otherwise it is 64, or what IPv6
    /// routers advertise.
    #[must_use]
    pub fn hop_limit(mut self, hop_limit: u8) -> Self {
        self.hop_limit = Some(hop_limit);
        self
    }

    /// Returns the statistics so far.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Ends the ping and returns its statistics.
    pub fn finish<N: Nic>(self, stack: &mut Stack<N>) -> Statistics {
        stack.link().unwatch(self.ident);
        self.statistics
    }

    /// Takes replies and errors and writes the request that is due, after a [`Stack::poll`]. Returns
    /// whether the ping is complete: all requests were sent, and answered or given up. A request
    /// leaves with the next poll, or when the target has said where it is.
    pub fn step<N: Nic>(
        &mut self,
        stack: &mut Stack<N>,
        mut on_event: impl FnMut(PingEvent),
    ) -> bool {
        let now = Instant::now();
        let flushed = stack.flushed();
        while let Some(event) = stack.link().next_event(self.ident) {
            match event {
                EchoEvent::Left { sequence } => {
                    let mut latest = self.waiting.iter_mut().rev();
                    if let Some(request) = latest.find(|request| request.sequence == sequence) {
                        request.sent = Some(flushed);
                    }
                }
                EchoEvent::Reply { sequence, hop_limit, len, damage } => {
                    let reply =
                        Reply { len, sequence, hop_limit, rtt: None, is_duplicate: false, damage };
                    on_event(PingEvent::Reply(self.take_reply(reply, now)));
                }
                EchoEvent::Error { sequence, from, error } if !error.ends_request() => {
                    on_event(PingEvent::Error { sequence, from, error });
                }
                EchoEvent::Error { sequence, from, error } => {
                    self.statistics.count_error();
                    if let Some(request) = self.take_waiting(sequence) {
                        self.settle(request, false);
                    }
                    self.hasten(now);
                    on_event(PingEvent::Error { sequence, from, error });
                }
            }
        }
        let timeout = self.plan.timeout;
        while self.waiting.front().is_some_and(|request| request.asked + timeout <= now)
            && let Some(late) = self.waiting.pop_front()
        {
            self.settle(late, false);
        }

        if self.all_sent() {
            return self.waiting.is_empty();
        }
        if now >= self.next {
            self.send_request(stack, now);
        }
        false
    }

    /// Returns when the next [`step`](Self::step) is due if no frame arrives before that.
    #[must_use]
    pub fn due(&self) -> Instant {
        let timeout = self.waiting.front().map(|request| request.asked + self.plan.timeout);
        let next = (!self.all_sent()).then_some(self.next);
        timeout.into_iter().chain(next).min().unwrap_or(self.next)
    }

    /// Returns when the latest request left, if it is still without a reply.
    #[must_use]
    pub fn last_sent(&self) -> Option<Instant> {
        self.waiting.back().and_then(|request| request.sent)
    }

    fn all_sent(&self) -> bool {
        self.plan.count.is_some_and(|count| self.statistics.sent() >= count)
    }

    fn take_waiting(&mut self, sequence: u16) -> Option<Request> {
        let index = self.waiting.iter().position(|request| request.sequence == sequence)?;
        self.waiting.remove(index)
    }

    fn settle(&mut self, request: Request, answered: bool) {
        if self.settled.len() == MAX_REMEMBERED {
            self.settled.pop_front();
        }
        self.settled.push_back(Settled { request, answered });
    }

    /// Lets the next request follow at once where there is no interval.
    fn hasten(&mut self, now: Instant) {
        if self.plan.interval.is_zero() {
            self.next = now;
        }
    }

    fn send_request<N: Nic>(&mut self, stack: &mut Stack<N>, now: Instant) {
        let interval =
            if self.plan.interval.is_zero() { FLOOD_INTERVAL } else { self.plan.interval };
        // A ping that is behind schedule does not make up for the requests that it missed.
        self.next = Some(self.next + interval).filter(|next| *next > now).unwrap_or(now + interval);
        let oldest = self.waiting.iter().find_map(|request| request.sent);
        if oldest.is_some_and(|sent| sent.elapsed() >= DOUBT_INTERVAL)
            && self.doubted.elapsed() >= DOUBT_INTERVAL
        {
            // Another host may have taken over the target's IP address.
            self.doubted = now;
            stack.link().doubt_target(self.ident, now);
        }
        self.sequence = self.sequence.wrapping_add(1);
        // An error comes before the request is given up.
        let until = now + self.plan.timeout.saturating_sub(ERROR_MARGIN);
        stack.link().send_request((self.ident, self.sequence), self.hop_limit, until, now);
        self.statistics.count_sent();
        self.waiting.push_back(Request { sequence: self.sequence, asked: now, sent: None });
    }

    fn take_reply(&mut self, mut reply: Reply, now: Instant) -> Reply {
        let later = u64::from(self.sequence.wrapping_sub(reply.sequence));
        let is_good = reply.damage != Some(Damage::Checksum);
        let sent = if let Some(request) = self.take_waiting(reply.sequence) {
            let sent = request.sent;
            self.settle(request, is_good);
            sent
        } else {
            let mut latest = self.settled.iter_mut().rev();
            let settled = latest.find(|settled| settled.request.sequence == reply.sequence);
            reply.is_duplicate = settled.as_ref().is_none_or(|settled| settled.answered);
            settled.and_then(|settled| {
                settled.answered |= is_good;
                settled.request.sent
            })
        };
        reply.rtt = sent.map(|sent| now.saturating_duration_since(sent));
        if !is_good {
            self.statistics.count_bad_checksum();
        } else if reply.is_duplicate {
            self.statistics.count_duplicate();
        } else if let Some(rtt) = reply.rtt {
            self.statistics.count_reply(rtt, later, reply.damage.is_some());
        }
        self.hasten(now);
        reply
    }
}
