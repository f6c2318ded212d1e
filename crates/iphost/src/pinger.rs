//! Pings a host: sends ICMP echo requests and measures when the replies arrive.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress, Ipv6Address};

use crate::nic::Nic;
use crate::stack::Stack;
use crate::statistics::Statistics;

/// The length of an ICMP echo's header, in bytes.
const ECHO_HEADER: usize = 8;
/// The longest time between requests for an interval of 0. Otherwise the next request follows the
/// reply.
const FLOOD_INTERVAL: Duration = Duration::from_millis(10);
/// How long a reply may be missing before the target's Ethernet address is resolved anew, and how
/// often that happens at most. To forget a target that is merely slow would do harm: its own
/// requests could not be answered then.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);
/// How many replies are buffered between two rounds.
const REPLIES: usize = 64;

/// Returns how many bytes a request to `target` can carry at most, so that it fits an Ethernet
/// frame of 1,500 bytes of payload.
///
/// ```
/// assert_eq!(iphost::largest_payload([10, 0, 0, 1].into()), 1_472);
/// ```
#[must_use]
pub fn largest_payload(target: IpAddr) -> usize {
    let ip_header = if target.is_ipv4() { 20 } else { 40 };
    1_500 - ip_header - ECHO_HEADER
}

/// What a [`Pinger`] sends, and how often.
#[derive(Debug, Clone)]
pub struct PingPlan {
    /// The host to ping. It is not one of the pinging host's own addresses.
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
    /// The round-trip time; `None` when the request had been answered or given up before.
    pub rtt: Option<Duration>,
}

/// A running ping. The [crate's documentation](crate) has an example.
#[derive(Debug)]
pub struct Pinger {
    plan: PingPlan,
    socket: SocketHandle,
    ident: u16,
    payload: Vec<u8>,
    /// The number of the latest request.
    sequence: u16,
    /// Requests without a reply, oldest first.
    waiting: VecDeque<Request>,
    /// When the next request is due.
    next: Instant,
    /// Whether the target's Ethernet address was ever resolved.
    resolved: bool,
    /// When the resolved addresses were last forgotten.
    forgot: Instant,
    statistics: Statistics,
}

#[derive(Debug)]
struct Request {
    sequence: u16,
    asked: Instant,
    /// When it left; none while the target's Ethernet address is not resolved.
    sent: Option<Instant>,
}

impl Pinger {
    /// Starts a ping. Nothing is sent before the first [`step`](Self::step).
    pub fn start<N: Nic>(stack: &mut Stack<N>, plan: PingPlan) -> Self {
        let ident = fastrand::u16(..);
        let socket = stack.sockets().add(new_socket(ident));
        // Bytes that count up are easy to check in a capture. The usual ping sends the same.
        let payload = (0..=u8::MAX).cycle().take(plan.size).collect();
        let now = Instant::now();
        Self {
            plan,
            socket,
            ident,
            payload,
            sequence: 0,
            waiting: VecDeque::new(),
            next: now,
            resolved: false,
            forgot: now,
            statistics: Statistics::new(),
        }
    }

    /// Returns the statistics so far.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Ends the ping and returns its statistics.
    pub fn finish<N: Nic>(self, stack: &mut Stack<N>) -> Statistics {
        stack.sockets().remove(self.socket);
        self.statistics
    }

    /// Takes replies and writes the request that is due, after a [`Stack::poll`]. Returns whether
    /// the ping is complete: all requests were sent, and answered or given up. A request leaves
    /// with the next poll.
    pub fn step<N: Nic>(&mut self, stack: &mut Stack<N>, mut on_reply: impl FnMut(Reply)) -> bool {
        let now = Instant::now();
        let flushed = stack.flushed();
        let socket = stack.sockets().get_mut::<icmp::Socket<'_>>(self.socket);
        if socket.send_queue() == 0
            && let Some(request) = self.waiting.back_mut()
            && request.sent.is_none()
        {
            request.sent = Some(flushed);
            self.resolved = true;
        }
        while let Ok((bytes, from)) = socket.recv() {
            if IpAddr::from(from) == self.plan.target
                && let Some((sequence, len)) = self.read_reply(bytes, from)
            {
                on_reply(self.take_reply(sequence, len, now));
            }
        }
        let timeout = self.plan.timeout;
        while self.waiting.front().is_some_and(|request| request.asked + timeout <= now) {
            self.waiting.pop_front();
        }

        let all_sent = self.plan.count.is_some_and(|count| self.statistics.sent() >= count);
        if all_sent {
            return self.waiting.is_empty();
        }
        // While the target's address is resolved for the first time, the first request waits and no
        // other is sent. Later the target is known, so a request that waits means that the target
        // is away, and each request that it misses counts.
        let first_is_stuck = !self.resolved && !self.waiting.is_empty();
        if now >= self.next && !first_is_stuck {
            self.send_request(stack, now);
        }
        false
    }

    /// Returns when the next [`step`](Self::step) is due if no frame arrives before that.
    #[must_use]
    pub fn due(&self) -> Instant {
        let timeout = self.waiting.front().map(|request| request.asked + self.plan.timeout);
        let all_sent = self.plan.count.is_some_and(|count| self.statistics.sent() >= count);
        let first_is_stuck = !self.resolved && !self.waiting.is_empty();
        let next = (!all_sent && !first_is_stuck).then_some(self.next);
        timeout.into_iter().chain(next).min().unwrap_or(self.next)
    }

    /// Returns when the latest request left, if it is still without a reply.
    #[must_use]
    pub fn last_sent(&self) -> Option<Instant> {
        self.waiting.back().and_then(|request| request.sent)
    }

    /// Returns whether a reply is long overdue.
    fn is_unanswered(&self) -> bool {
        let oldest = self.waiting.iter().find_map(|request| request.sent);
        oldest.is_some_and(|sent| sent.elapsed() >= FORGET_INTERVAL)
    }

    fn send_request<N: Nic>(&mut self, stack: &mut Stack<N>, now: Instant) {
        let interval =
            if self.plan.interval.is_zero() { FLOOD_INTERVAL } else { self.plan.interval };
        // A ping that is behind schedule does not make up for the requests that it missed.
        self.next = Some(self.next + interval).filter(|next| *next > now).unwrap_or(now + interval);
        if self.is_unanswered() && self.forgot.elapsed() >= FORGET_INTERVAL {
            // Another host may have taken over the target's IP address.
            self.forgot = now;
            stack.forget_neighbors();
        }
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let ident = self.ident;
        let socket = stack.sockets().get_mut::<icmp::Socket<'_>>(self.socket);
        if socket.send_queue() > 0 {
            // The request before never left. It is lost; sent now it would be much too late.
            *socket = new_socket(ident);
        }
        write_request(socket, ident, sequence, &self.payload, self.plan.target.into());
        self.statistics.count_sent();
        self.waiting.push_back(Request { sequence, asked: now, sent: None });
    }

    fn take_reply(&mut self, sequence: u16, len: usize, now: Instant) -> Reply {
        let index = self.waiting.iter().position(|request| request.sequence == sequence);
        let sent =
            index.and_then(|index| self.waiting.remove(index)).and_then(|request| request.sent);
        let rtt = sent.map(|sent| now.saturating_duration_since(sent));
        match rtt {
            Some(rtt) => {
                let later = self.sequence.wrapping_sub(sequence);
                self.statistics.count_reply(rtt, u64::from(later));
            }
            None => self.statistics.count_duplicate(),
        }
        if self.plan.interval.is_zero() {
            self.next = now;
        }
        Reply { len, sequence, rtt }
    }

    /// Returns the sequence number and length of a reply to this ping, and `None` for other
    /// messages.
    fn read_reply(&self, bytes: &[u8], from: IpAddress) -> Option<(u16, usize)> {
        let checksums = ChecksumCapabilities::ignored();
        let (ident, sequence, data) = match from {
            IpAddress::Ipv4(_) => {
                let packet = Icmpv4Packet::new_checked(bytes).ok()?;
                match Icmpv4Repr::parse(&packet, &checksums).ok()? {
                    Icmpv4Repr::EchoReply { ident, seq_no, data } => (ident, seq_no, data),
                    _ => return None,
                }
            }
            IpAddress::Ipv6(from) => {
                let packet = Icmpv6Packet::new_checked(bytes).ok()?;
                match Icmpv6Repr::parse(&from, &Ipv6Address::UNSPECIFIED, &packet, &checksums)
                    .ok()?
                {
                    Icmpv6Repr::EchoReply { ident, seq_no, data } => (ident, seq_no, data),
                    _ => return None,
                }
            }
        };
        (ident == self.ident && data == self.payload)
            .then_some((sequence, ECHO_HEADER + data.len()))
    }
}

fn new_socket(ident: u16) -> icmp::Socket<'static> {
    let buffer = |packets| {
        let bytes = packets * largest_payload(IpAddr::from([0, 0, 0, 0])).next_power_of_two();
        icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; packets], vec![0; bytes])
    };
    let mut socket = icmp::Socket::new(buffer(REPLIES), buffer(1));
    // It fails only for a socket that is bound already.
    let _ = socket.bind(icmp::Endpoint::Ident(ident));
    socket
}

/// Writes an echo request into the socket's empty queue, which has room for whatever fits a frame.
/// The socket adds the source address and the checksum when it sends.
fn write_request(
    socket: &mut icmp::Socket<'_>,
    ident: u16,
    seq_no: u16,
    data: &[u8],
    target: IpAddress,
) {
    let checksums = ChecksumCapabilities::ignored();
    match target {
        IpAddress::Ipv4(_) => {
            let request = Icmpv4Repr::EchoRequest { ident, seq_no, data };
            if let Ok(room) = socket.send(request.buffer_len(), target) {
                request.emit(&mut Icmpv4Packet::new_unchecked(room), &checksums);
            }
        }
        IpAddress::Ipv6(to) => {
            let request = Icmpv6Repr::EchoRequest { ident, seq_no, data };
            if let Ok(room) = socket.send(request.buffer_len(), target) {
                request.emit(
                    &Ipv6Address::UNSPECIFIED,
                    &to,
                    &mut Icmpv6Packet::new_unchecked(room),
                    &checksums,
                );
            }
        }
    }
}
