//! The ends of a trunk, as the overlay of a VXLAN port: who is there, which way frames take to each,
//! and which way they come.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use port::ReportOnce;
use port::trunk::Via;
use port::vxlan::{Overlay, Remotes};

use crate::batch::{self, Batch, MAX_MESSAGE, Place};
use crate::exchange::{Exchange, Message, offer};
use crate::probe::{Kind, Probe};
use crate::token::{EndId, Token};
use crate::way::{Eras, Incoming, Outgoing, State};

/// A message leaves when it has so many frames or bytes, or is so old.
const FULL_FRAMES: usize = 64;
const FULL_BYTES: usize = 48 << 10;
const MAX_AGE: Duration = Duration::from_millis(1);
/// The most bytes that are held back for an end. An outbox has room for them.
const MAX_HELD: usize = MAX_MESSAGE;
/// The most answers that wait to be sent.
const MAX_ANSWERS: usize = 256;
/// The bytes of VXLAN's header: as much longer than a frame is its datagram.
const VXLAN_HEADER: usize = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ends {
    id: EndId,
    vni: u32,
    via: Via,
    exchange: Arc<Exchange>,
    outgoing: SyncSender<Message>,
    /// The version of the ends that are known here.
    version: u64,
    /// By the number of their remote.
    all: Vec<Option<End>>,
    numbers: HashMap<EndId, usize>,
    eras: Eras,
    /// Where datagrams are received.
    local: Option<SocketAddr>,
    /// Whether the usual UDP port was in use, so that any will do.
    takes_any_port: bool,
    has_fixed_port: bool,
    /// Whether that has changed since the ends were looked at.
    has_moved: bool,
    longest: usize,
    answers: Vec<(SocketAddr, Vec<u8>)>,
    /// The messages of one turn.
    batch: Vec<u8>,
    frames: Vec<Range<usize>>,
    dropped: usize,
    /// When the next end wants its turn.
    due: Option<Instant>,
    said: ReportOnce,
    lines: Vec<String>,
}

/// Another end.
#[derive(Debug)]
struct End {
    id: EndId,
    host: String,
    /// Where it receives datagrams, if it may be reached by them.
    address: Option<SocketAddr>,
    /// Whether its token is there. Without it, it stays for as long as it answers.
    has_token: bool,
    way: Outgoing,
    incoming: Incoming,
    /// Frames for one message, or held back.
    batch: Batch,
    /// When the first of them came.
    since: Instant,
    /// Frames and bytes that were sent in messages, and frames that were dropped, until they are
    /// counted.
    sent: (usize, usize),
    unsent: usize,
}

impl Ends {
    pub(crate) fn new(
        id: EndId,
        vni: u32,
        via: Via,
        has_fixed_port: bool,
        exchange: Arc<Exchange>,
        outgoing: SyncSender<Message>,
    ) -> Self {
        Self {
            id,
            vni,
            via,
            exchange,
            outgoing,
            version: 0,
            all: Vec::new(),
            numbers: HashMap::new(),
            eras: Eras::default(),
            local: None,
            takes_any_port: false,
            has_fixed_port,
            has_moved: false,
            longest: 0,
            answers: Vec::new(),
            batch: Vec::new(),
            frames: Vec::new(),
            dropped: 0,
            due: None,
            said: ReportOnce::default(),
            lines: Vec::new(),
        }
    }

    fn say(&mut self, line: String) {
        if self.said.is_new(&line) {
            self.lines.push(line);
        }
    }

    /// Follows the tokens.
    fn follow(&mut self, now: Instant, remotes: &mut Remotes) {
        let Some((version, mut tokens)) = self.exchange.ends(self.version) else { return };
        self.version = version;
        self.exchange.drain();
        tokens.remove(&self.id);
        let has_moved = std::mem::take(&mut self.has_moved);
        for end in self.all.iter_mut().flatten() {
            end.has_token = tokens.contains_key(&end.id);
        }
        for (id, token) in tokens {
            let address = self.reachable(&token);
            let known = self.numbers.get(&id).copied();
            let Some(number) = known.or_else(|| remotes.join(&token.host, now)) else {
                self.say("there are more ends than this one can reach".to_owned());
                continue;
            };
            if known.is_none() {
                self.insert(number, token, now);
            }
            let Some(end) = self.all[number].as_mut() else { continue };
            if end.address != address || has_moved {
                // Before, no datagram has left.
                if end.address.is_some() {
                    end.way.reset(&mut self.eras, now);
                }
                end.address = address;
                end.incoming.refuse_datagrams();
                remotes.accept_from(number, None);
                remotes.set_direct(number, false);
                remotes.set_address(number, address);
            }
        }
        // Each is looked at again.
        self.due = Some(now);
    }

    fn insert(&mut self, number: usize, token: Token, now: Instant) {
        let end = End {
            id: token.id,
            host: token.host,
            address: None,
            has_token: true,
            way: Outgoing::new(&mut self.eras, self.via != Via::Vxlan, now),
            incoming: Incoming::default(),
            batch: Batch::default(),
            since: now,
            sent: (0, 0),
            unsent: 0,
        };
        if self.all.len() <= number {
            self.all.resize_with(number + 1, || None);
        }
        self.numbers.insert(end.id, number);
        self.all[number] = Some(end);
    }

    /// Returns where an end may receive datagrams.
    fn reachable(&mut self, token: &Token) -> Option<SocketAddr> {
        if self.via == Via::Zenoh {
            return None;
        }
        let (address, local) = (token.address?, self.local?);
        if token.vni != self.vni {
            self.say(format!(
                "the end on {} has vni={} and this one vni={}: frames go by Zenoh between them; give \
                 all ends one vni=",
                token.host, token.vni, self.vni
            ));
            return None;
        }
        (address.is_ipv4() == local.is_ipv4() && address.ip() != local.ip()).then_some(address)
    }

    /// Has an end do what is due. Returns the question for it, and `false` when the end is gone.
    fn advance_end(
        &mut self,
        number: usize,
        now: Instant,
        remotes: &mut Remotes,
    ) -> (Option<(SocketAddr, Vec<u8>)>, bool) {
        let Some(end) = self.all[number].as_mut() else { return (None, true) };
        let was_direct = end.way.state() == State::Direct;
        let is_there = end.has_token || was_direct && end.way.is_heard(now);
        if !is_there {
            return (None, false);
        }
        let mut datagram = None;
        if let Some(address) = end.address
            && let Some(question) = end.way.advance(&mut self.eras, now)
        {
            let probe = Probe {
                vni: self.vni,
                kind: Kind::Question,
                from: self.id,
                to: end.id,
                stamp: question.stamp,
                era: question.era,
                after: question.after,
                forced: question.forced,
            };
            let len = if question.is_long { VXLAN_HEADER + self.longest } else { 0 };
            datagram = Some((address, probe.to_datagram(len)));
        }
        if was_direct && end.way.state() != State::Direct {
            remotes.set_direct(number, false);
        }
        if !end.batch.is_empty()
            && end.way.state() == State::Relayed
            && now.saturating_duration_since(end.since) >= MAX_AGE
        {
            end.send(self.via, &self.outgoing);
        }
        let (frames, bytes) = std::mem::take(&mut end.sent);
        remotes.count_sent(number, frames, bytes);
        remotes.count_unsent(number, std::mem::take(&mut end.unsent));
        (datagram, true)
    }

    /// Returns when an end wants its turn.
    fn next_due(&self) -> Option<Instant> {
        let each = self.all.iter().flatten().map(|end| {
            let probe = end.address.map(|_| end.way.due());
            let batch = (!end.batch.is_empty() && end.way.state() == State::Relayed)
                .then(|| end.since + MAX_AGE);
            [probe, batch].into_iter().flatten().min()
        });
        each.flatten().min()
    }

    /// Returns whether another end has the address, and is there.
    fn has_rival(&self, number: usize, address: SocketAddr, now: Instant) -> bool {
        let mut others = self.all.iter().enumerate().filter(|(other, _)| *other != number);
        others.any(|(_, other)| {
            other.as_ref().is_some_and(|other| {
                let is_there = other.has_token && other.way.is_heard(now);
                is_there && other.address.is_some_and(|theirs| theirs.ip() == address.ip())
            })
        })
    }
}

impl End {
    /// Sends the frames that wait as a message.
    fn send(&mut self, via: Via, outgoing: &SyncSender<Message>) {
        let (frames, bytes) = (self.batch.count(), self.batch.len());
        if via == Via::Vxlan {
            self.batch.clear();
            self.unsent += frames;
            return;
        }
        let (era, number) = self.way.next_message();
        let message = Message { to: self.id, bytes: self.batch.finish(Place { era, number }) };
        if offer(outgoing, message) {
            self.sent.0 += frames;
            self.sent.1 += bytes;
        } else {
            self.unsent += frames;
        }
    }
}

impl Overlay for Ends {
    fn attach(&mut self, longest: usize) {
        self.longest = longest;
    }

    fn local(&self) -> Option<SocketAddr> {
        let mut wanted = self.exchange.wanted()?;
        if self.takes_any_port {
            wanted.set_port(0);
        }
        Some(wanted)
    }

    fn set_local(&mut self, local: io::Result<Option<SocketAddr>>) {
        self.local = match local {
            Ok(local) => local,
            Err(error) => {
                if error.kind() == io::ErrorKind::AddrInUse && !self.has_fixed_port {
                    self.takes_any_port = true;
                } else if let Some(wanted) = self.exchange.wanted() {
                    self.say(format!(
                        "cannot receive at {wanted}: {error}; frames go by Zenoh meanwhile"
                    ));
                }
                None
            }
        };
        self.exchange.set_local(self.local);
        // Which ends can be reached has to be looked at again, and all of them see another address.
        (self.version, self.has_moved) = (0, true);
    }

    fn advance(
        &mut self,
        now: Instant,
        remotes: &mut Remotes,
        send: &mut dyn FnMut(SocketAddr, &[u8]),
    ) {
        self.follow(now, remotes);
        for (to, datagram) in self.answers.drain(..) {
            send(to, &datagram);
        }
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        for number in 0..self.all.len() {
            let (datagram, stays) = self.advance_end(number, now, remotes);
            if let Some((to, datagram)) = datagram {
                send(to, &datagram);
            }
            if !stays && let Some(end) = self.all[number].take() {
                self.numbers.remove(&end.id);
                remotes.leave(number);
            }
        }
        self.due = self.next_due();
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }

    fn take_datagram(
        &mut self,
        datagram: &[u8],
        sender: IpAddr,
        now: Instant,
        remotes: &mut Remotes,
    ) -> bool {
        let Some(probe) = Probe::parse(datagram) else { return false };
        if probe.to != self.id || probe.vni != self.vni {
            return false;
        }
        let Some(number) = self.numbers.get(&probe.from).copied() else {
            // Its token may be on its way.
            return true;
        };
        let Some(end) = self.all[number].as_mut() else { return true };
        let Some(address) = end.address.filter(|address| address.ip() == sender) else {
            return false;
        };
        match probe.kind {
            Kind::Question => {
                let has_rival = self.has_rival(number, address, now);
                let Some(end) = self.all[number].as_mut() else { return true };
                let (kind, era) = if has_rival {
                    (Kind::Refusal, 0)
                } else {
                    let was_direct = end.incoming.is_direct();
                    let era = end.incoming.question(probe.era, probe.after, probe.forced);
                    if end.incoming.is_direct() && !was_direct {
                        remotes.accept_from(number, Some(sender));
                    }
                    (Kind::Answer, era)
                };
                let (from, to) = (self.id, probe.from);
                let answer = Probe { kind, from, to, era, after: (0, 0), forced: false, ..probe };
                if self.answers.len() < MAX_ANSWERS {
                    self.answers.push((address, answer.to_datagram(datagram.len())));
                }
            }
            Kind::Answer => {
                let before = end.way.state();
                end.way.answer(probe.stamp, probe.era, &mut self.eras, now);
                let state = end.way.state();
                if state != before {
                    remotes.set_direct(number, state == State::Direct);
                    self.due = Some(now);
                }
            }
            Kind::Refusal => {
                let host = end.host.clone();
                self.say(format!(
                    "the end on {host} knows another end with the address of this one: frames go to \
                     it by Zenoh; give each an address of its own, with local="
                ));
            }
        }
        true
    }

    fn relay(&mut self, remote: usize, frame: &[u8], now: Instant) -> bool {
        let Some(end) = self.all.get_mut(remote).and_then(Option::as_mut) else { return false };
        let is_held = end.way.state() != State::Relayed;
        if self.via == Via::Vxlan && !is_held {
            end.unsent += 1;
            return false;
        }
        if end.batch.is_empty() {
            end.since = now;
        }
        let room = if is_held { MAX_HELD } else { MAX_MESSAGE };
        if !end.batch.push(frame, room) {
            end.unsent += 1;
            return false;
        }
        if is_held {
            return true;
        }
        if end.batch.count() >= FULL_FRAMES || end.batch.len() >= FULL_BYTES {
            end.send(self.via, &self.outgoing);
        } else {
            let due = end.since + MAX_AGE;
            self.due = Some(self.due.map_or(due, |other| other.min(due)));
        }
        true
    }

    fn release(&mut self, frame: &mut dyn FnMut(usize, &[u8])) {
        for (number, end) in self.all.iter_mut().enumerate() {
            if let Some(end) = end
                && end.way.state() == State::Direct
                && !end.batch.is_empty()
            {
                end.batch.drain(|bytes| frame(number, bytes));
            }
        }
    }

    fn take_batch(&mut self, remotes: &mut Remotes) -> Option<usize> {
        self.dropped += self.exchange.take_dropped();
        while let Some((from, bytes)) = self.exchange.next_message() {
            let place = match batch::read(&bytes, &mut self.frames) {
                Ok(place) => place,
                Err(error) => {
                    self.dropped += 1;
                    self.say(format!("messages that are none of a trunk's are dropped: {error}"));
                    continue;
                }
            };
            let number = self.numbers.get(&from).copied();
            let end = number.and_then(|number| self.all[number].as_mut());
            let (Some(number), Some(end)) = (number, end) else {
                self.dropped += self.frames.len();
                continue;
            };
            let was_direct = end.incoming.is_direct();
            if self.via == Via::Vxlan || !end.incoming.message(place.era, place.number) {
                self.dropped += self.frames.len();
                continue;
            }
            if was_direct {
                remotes.accept_from(number, None);
            }
            self.batch = bytes;
            return Some(number);
        }
        None
    }

    fn batch(&self) -> (&[u8], &[Range<usize>]) {
        (&self.batch, &self.frames)
    }

    fn take_dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped)
    }

    fn has_news(&self) -> bool {
        self.exchange.has_news(self.version)
    }

    fn arm(&mut self) -> bool {
        self.exchange.arm(self.version) || !self.answers.is_empty()
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.exchange.as_fd()
    }

    fn report(&mut self, say: &mut dyn FnMut(&str)) {
        if let Some(line) = self.exchange.take_line() {
            self.say(line);
        }
        for line in self.lines.drain(..) {
            say(&line);
        }
    }
}

#[cfg(test)]
mod tests;
