//! Asking a host for echoes.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress, Ipv6Address};

use super::nic::Nic;
use super::stack::Stack;
use super::statistics::Statistics;

/// Bytes of an ICMP echo's header.
pub const ECHO_HEADER: usize = 8;
/// A pause for an interval of 0: the next request goes out with the reply, but at the latest after this.
const FLOOD_PAUSE: Duration = Duration::from_millis(10);
/// After how long without a reply, and how often at most, the target's Ethernet address is asked for anew. A target that is
/// merely slow is not to be forgotten: what it asks of us could not be answered then.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);
/// Room for replies that come between two rounds.
const REPLIES: usize = 64;

/// The most bytes a request to `target` can carry: what fits a frame.
pub fn largest_payload(target: IpAddr) -> usize {
    let ip_header = if target.is_ipv4() { 20 } else { 40 };
    1_500 - ip_header - ECHO_HEADER
}

/// What to ask, and how often.
#[derive(Debug, Clone)]
pub struct PingPlan {
    pub target: IpAddr,
    /// Requests; none for as many as there is time for.
    pub count: Option<u64>,
    pub interval: Duration,
    /// Bytes behind the echo header, at most [`largest_payload`].
    pub size: usize,
    /// How long a reply is waited for.
    pub timeout: Duration,
}

/// A reply, as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Bytes, the echo header included.
    pub len: usize,
    /// Which request it answers, counted from 1.
    pub sequence: u16,
    /// None for one that had been answered, or given up, before.
    pub rtt: Option<Duration>,
}

/// A ping that is going on.
pub struct Pinger {
    plan: PingPlan,
    socket: SocketHandle,
    ident: u16,
    payload: Vec<u8>,
    /// Of the latest request.
    sequence: u16,
    waiting: VecDeque<Request>,
    next: Instant,
    /// Whether the target's Ethernet address has ever been found out.
    resolved: bool,
    forgot: Instant,
    statistics: Statistics,
}

struct Request {
    sequence: u16,
    asked: Instant,
    /// None while the target's Ethernet address is not known.
    sent: Option<Instant>,
}

impl Pinger {
    /// Begins. Nothing is sent before the first [`step`](Self::step).
    pub fn start<N: Nic>(stack: &mut Stack<N>, plan: PingPlan) -> Self {
        let ident = fastrand::u16(..);
        let socket = stack.sockets().add(new_socket(ident));
        // Telling bytes, as ping has them, for whoever looks at them in a capture.
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

    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Ends it.
    pub fn finish<N: Nic>(self, stack: &mut Stack<N>) -> Statistics {
        stack.sockets().remove(self.socket);
        self.statistics
    }

    /// Does what is due, after a round of the stack; `true` when there is nothing left to do. What it has to say goes out with
    /// the next round.
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
        // The first request waits for its answer to the question who the target is. Later ones do not: the target is away
        // then, and each that it misses is to be counted.
        let first_is_stuck = !self.resolved && !self.waiting.is_empty();
        if now >= self.next && !first_is_stuck {
            self.ask(stack, now);
        }
        false
    }

    /// When the next [`step`](Self::step) has something to do, if nothing comes before that.
    pub fn due(&self) -> Instant {
        let timeout = self.waiting.front().map(|request| request.asked + self.plan.timeout);
        let all_sent = self.plan.count.is_some_and(|count| self.statistics.sent() >= count);
        let first_is_stuck = !self.resolved && !self.waiting.is_empty();
        let next = (!all_sent && !first_is_stuck).then_some(self.next);
        timeout.into_iter().chain(next).min().unwrap_or(self.next)
    }

    /// When a request last went out that is not answered yet.
    pub fn last_sent(&self) -> Option<Instant> {
        self.waiting.back().and_then(|request| request.sent)
    }

    /// Whether a reply is long overdue.
    fn is_unheard(&self) -> bool {
        let oldest = self.waiting.iter().find_map(|request| request.sent);
        oldest.is_some_and(|sent| sent.elapsed() >= FORGET_INTERVAL)
    }

    fn ask<N: Nic>(&mut self, stack: &mut Stack<N>, now: Instant) {
        let interval = if self.plan.interval.is_zero() { FLOOD_PAUSE } else { self.plan.interval };
        // Behind schedule, the pings that were missed are not made up for.
        self.next = Some(self.next + interval).filter(|next| *next > now).unwrap_or(now + interval);
        if self.is_unheard() && self.forgot.elapsed() >= FORGET_INTERVAL {
            // Perhaps the target was replaced by another with the same IP address.
            self.forgot = now;
            stack.forget_neighbors();
        }
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let ident = self.ident;
        let socket = stack.sockets().get_mut::<icmp::Socket<'_>>(self.socket);
        if socket.send_queue() > 0 {
            // The one before never left. It is lost, and not to be sent much too late.
            *socket = new_socket(ident);
        }
        write_request(socket, ident, sequence, &self.payload, self.plan.target.into());
        self.statistics.count_sent();
        self.waiting.push_back(Request { sequence, asked: now, sent: None });
    }

    fn take_reply(&mut self, sequence: u16, len: usize, now: Instant) -> Reply {
        let place = self.waiting.iter().position(|request| request.sequence == sequence);
        let sent = place.and_then(|place| self.waiting.remove(place)).and_then(|request| request.sent);
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

    /// The sequence number and length of a reply to this ping.
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
                match Icmpv6Repr::parse(&from, &Ipv6Address::UNSPECIFIED, &packet, &checksums).ok()? {
                    Icmpv6Repr::EchoReply { ident, seq_no, data } => (ident, seq_no, data),
                    _ => return None,
                }
            }
        };
        (ident == self.ident && data == self.payload).then_some((sequence, ECHO_HEADER + data.len()))
    }
}

fn new_socket(ident: u16) -> icmp::Socket<'static> {
    let buffer = |packets| {
        let bytes = packets * largest_payload(IpAddr::from([0, 0, 0, 0])).next_power_of_two();
        icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; packets], vec![0; bytes])
    };
    let mut socket = icmp::Socket::new(buffer(REPLIES), buffer(1));
    // It fails for a socket that is bound already.
    let _ = socket.bind(icmp::Endpoint::Ident(ident));
    socket
}

/// Writes an echo request into the socket's empty queue, which has room for what fits a frame. The socket adds source and
/// checksum when it sends.
fn write_request(socket: &mut icmp::Socket<'_>, ident: u16, seq_no: u16, data: &[u8], target: IpAddress) {
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
