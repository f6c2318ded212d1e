//! One reading of a ring for many stations.
//!
//! Stations that one process serves together would each walk over every packet on the ring, to find
//! those for themselves. The members of a [`Reading`] share that walk: whichever of them reads first
//! looks up for whom each frame is, once, and notes its place in the inboxes of those stations. Work
//! for a unicast frame does not grow with the members.
//!
//! # The argument
//!
//! A shared walk is a read of the shared cursor like any other (see [`ring`](super::ring)): the
//! addresses and lengths that it copied count only after its second snapshot. A station copies the
//! bytes of its frames later, from the places in its inbox, and confirms them by a snapshot of its
//! own: if `first` has not passed the oldest of those places, none of them was overwritten. What
//! was overwritten meanwhile is an overrun of that station alone.
//!
//! A station in another thread than the one that walked finds the bytes complete: the walk loaded
//! `last` with acquire before it read the packet, and the lock around the reading orders that
//! before the copy.
//!
//! # Which members share
//!
//! A member is *shared* while the shared walk delivers to it. Otherwise it is *apart*, and reads the
//! ring with its own cursor, as a station without others does:
//!
//! - It sleeps. It costs the others nothing, and its cursor stays where it fell asleep.
//! - It is the only one that is awake.
//! - Its inbox was full, or it was overrun: it is slow. It holds up no other, the ring is its queue,
//!   and it loses only what it would have lost alone.
//!
//! A station that receives every frame (the port of a hub) is no member: for it there is nothing to
//! look up.
//!
//! A member that is apart and reads joins the walk where the two cursors meet. Hence each member
//! sees the ring in order, nothing twice, and misses nothing.
//!
//! # Learning
//!
//! The walk sees all frames in the order of the ring, those of the members included, so one
//! [`ForwardingTable`] serves all that learn. A member that is apart asks the same table. It adds to
//! the table only while no walk does.

mod forwarding_table;
mod inbox;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::ops::ControlFlow;
use std::time::Instant;

use self::forwarding_table::{Address, ForwardingTable, Place, Stamp, is_station};
pub(crate) use self::inbox::Inbox;
use self::inbox::{MAX_WAITING, Waiting};
use crate::format::MIN_FRAME;
use crate::mechanism::filter::AddressFilter;
use crate::mechanism::ring::Ring;
use crate::mechanism::ring::cursor::{Cursor, Outcome};
use crate::mechanism::ring::position::Position;
use crate::memory::Memory;

/// The most frames between two snapshots of a walk: their addresses stay in the nearest cache. Few
/// in tests, whose rings are small.
const BATCH: usize = if cfg!(test) { 5 } else { 128 };
/// The most batches in one call, so that a call ends although others keep sending.
const MAX_BATCHES: usize = 64;
/// The most source addresses that a member which reads apart learns in one read; a later one learns
/// the others.
const MAX_PENDING: usize = 256;

/// Names a member of a reading, until it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberId(usize);

/// What the walk counted for a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Frames of others that were not for it.
    pub(crate) filtered: u64,
    pub(crate) overruns: u64,
    pub(crate) overrun_bytes: u64,
    pub(crate) corrupt: u64,
    pub(crate) stray_wakeups: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.filtered += other.filtered;
        self.overruns += other.overruns;
        self.overrun_bytes = self.overrun_bytes.saturating_add(other.overrun_bytes);
        self.corrupt += other.corrupt;
        self.stray_wakeups += other.stray_wakeups;
    }
}

/// How a member reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From its inbox, which holds what there is.
    Inbox,
    /// With its own cursor. `learns`: no other member learns from what it reads.
    Apart { learns: bool },
    /// Not now: the ring is unsettled.
    Unsettled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Shared,
    /// The walk delivered up to here. The member continues alone when it has read its inbox.
    Overflowed(Position),
    Apart,
}

#[derive(Debug)]
struct Member {
    /// The random identity in the packets it sends.
    sender: u64,
    filter: AddressFilter,
    state: State,
    sleeps: bool,
    /// The shared half of its inbox.
    waiting: VecDeque<Waiting>,
    /// It has not yet read all of the other half.
    holds: bool,
    /// Up to which frame of the walk `filtered` is counted.
    counted: u64,
    /// Its own frames after that.
    own: u64,
    /// What it has not yet taken.
    counts: Counts,
    /// What happened after the oldest frame of either half. If that frame is overrun, this is part
    /// of it.
    after_inbox: Counts,
    after_waiting: Counts,
}

impl Member {
    fn is_shared(&self) -> bool {
        self.state == State::Shared
    }

    /// Returns how many frames for others the walk passed since this was last asked.
    fn pass(&mut self, walked: u64) -> u64 {
        let passed = walked.saturating_sub(self.counted).saturating_sub(self.own);
        (self.counted, self.own) = (walked, 0);
        passed
    }

    /// Counts what happened to the walk.
    fn count(&mut self, counts: Counts) {
        let to = if !self.waiting.is_empty() {
            &mut self.after_waiting
        } else if self.holds {
            &mut self.after_inbox
        } else {
            &mut self.counts
        };
        to.add(counts);
    }

    /// Counts what happened after the frames that it has read.
    fn count_read(&mut self) {
        if !self.holds {
            self.counts.add(mem::take(&mut self.after_inbox));
            if self.waiting.is_empty() {
                self.counts.add(mem::take(&mut self.after_waiting));
            }
        }
    }
}

/// A frame that a walk met.
#[derive(Clone, Copy, Debug)]
struct Met {
    at: Position,
    len: u32,
    sender: u64,
    destination: Address,
    source: Address,
}

/// For whom the latest frame was. Frames come in runs.
#[derive(Debug, Default)]
struct Route {
    destination: Address,
    from: Option<usize>,
    /// Of the members and of the table, when it was looked up; `None`: never.
    changes: Option<(u64, u64)>,
    receivers: Vec<usize>,
}

/// Source addresses that a member which reads apart has met. They are learned when the frames are
/// known to be whole.
#[derive(Debug, Default)]
struct Pending {
    sources: Vec<(Address, u64, Stamp)>,
    /// When that read began.
    now: Option<Instant>,
    /// The latest destination, and whether its frames are wanted: frames come in runs.
    latest: Option<(Address, bool)>,
}

/// What the members share. See the [module](self).
#[derive(Debug)]
pub(crate) struct Reading {
    members: Vec<Option<Member>>,
    /// There is one while a member is shared.
    cursor: Option<Cursor>,
    shared: usize,
    awake: usize,
    /// Frames that walks have met.
    walked: u64,
    /// The shared members that receive what the table says.
    learners: Vec<usize>,
    /// The members that are not promiscuous, in whatever state.
    stations: HashMap<Address, Vec<usize>>,
    senders: HashMap<u64, usize>,
    table: ForwardingTable,
    learning: usize,
    ring_size: u32,
    /// Changes of the members that may change a route.
    changes: u64,
    route: Route,
    batch: Vec<Met>,
    overflowed: Vec<usize>,
    pending: Pending,
}

impl Reading {
    /// Makes a reading without members, of a ring of `ring_size` bytes.
    pub(crate) fn new(ring_size: u32) -> Self {
        Self {
            members: Vec::new(),
            cursor: None,
            shared: 0,
            awake: 0,
            walked: 0,
            learners: Vec::new(),
            stations: HashMap::new(),
            senders: HashMap::new(),
            table: ForwardingTable::new(ring_size),
            learning: 0,
            ring_size,
            changes: 0,
            route: Route::default(),
            batch: Vec::with_capacity(BATCH),
            overflowed: Vec::new(),
            pending: Pending::default(),
        }
    }

    /// Adds a station. It is apart, and awake. One that receives every frame has nothing to look up:
    /// it does not join.
    pub(crate) fn join(
        &mut self,
        sender: u64,
        filter: AddressFilter,
        learning: bool,
        cursor: &Cursor,
    ) -> MemberId {
        let free = self.members.iter().position(Option::is_none).unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        self.members[free] = Some(Member {
            sender,
            filter,
            state: State::Apart,
            sleeps: false,
            waiting: VecDeque::new(),
            holds: false,
            counted: 0,
            own: 0,
            counts: Counts::default(),
            after_inbox: Counts::default(),
            after_waiting: Counts::default(),
        });
        self.awake += 1;
        self.senders.insert(sender, free);
        self.changes += 1;
        let id = MemberId(free);
        self.list_address(id);
        self.set_learning(id, learning, cursor);
        id
    }

    pub(crate) fn leave(&mut self, id: MemberId) {
        self.unshare(id);
        if self.table.learns(id.0) {
            self.forget(id);
        }
        self.unlist_address(id);
        if let Some(member) = self.members[id.0].take() {
            self.awake -= usize::from(!member.sleeps);
            self.senders.remove(&member.sender);
        }
        self.changes += 1;
    }

    /// Changes which frames a member receives. It is apart.
    pub(crate) fn set_filter(&mut self, id: MemberId, filter: AddressFilter) {
        self.unlist_address(id);
        self.member(id).filter = filter;
        self.list_address(id);
        self.changes += 1;
    }

    /// Changes whether a member learns, from `cursor` on. It is apart.
    pub(crate) fn set_learning(&mut self, id: MemberId, on: bool, cursor: &Cursor) {
        match (self.table.learns(id.0), on) {
            (true, false) => self.forget(id),
            (false, true) => {
                self.table.add(id.0, Stamp::new(cursor.position(), self.ring_size));
                self.learning += 1;
                self.pending.sources.reserve(MAX_PENDING);
            }
            (true, true) | (false, false) => {}
        }
    }

    fn forget(&mut self, id: MemberId) {
        self.table.remove(id.0);
        self.learning -= 1;
    }

    /// Ends the sleep of a member.
    pub(crate) fn wake(&mut self, id: MemberId) {
        if mem::take(&mut self.member(id).sleeps) {
            self.awake += 1;
        }
    }

    /// Takes a member out of the walk before it falls asleep: from then on `cursor` is its place.
    /// Returns `false`, and changes nothing, while frames wait for it.
    pub(crate) fn fall_asleep(
        &mut self,
        id: MemberId,
        inbox: &mut Inbox,
        cursor: &mut Cursor,
    ) -> bool {
        if !inbox.is_empty() || !self.member(id).waiting.is_empty() {
            return false;
        }
        self.withdraw(id, inbox, cursor);
        if !mem::replace(&mut self.member(id).sleeps, true) {
            self.awake -= 1;
        }
        true
    }

    /// Takes a member out of the walk: from then on `cursor` is its place, which is that of the
    /// oldest frame that waits for it.
    pub(crate) fn withdraw(&mut self, id: MemberId, inbox: &mut Inbox, cursor: &mut Cursor) {
        let (walked, shared_cursor) = (self.walked, self.cursor);
        let member = self.member(id);
        member.holds = !inbox.is_empty();
        member.count_read();
        let oldest = inbox.waiting.front().or_else(|| member.waiting.front()).copied();
        match (oldest, member.state) {
            (_, State::Apart) => {}
            (Some(oldest), _) => {
                // What lies before it was passed; the rest will be met again.
                member.counts.filtered += u64::from(oldest.filtered);
                *cursor = Cursor::at(oldest.at);
            }
            (None, State::Overflowed(at)) => {
                *cursor = Cursor::at(at);
            }
            (None, State::Shared) => {
                member.counts.filtered += member.pass(walked);
                if let Some(shared) = shared_cursor {
                    *cursor = shared;
                }
            }
        }
        inbox.clear();
        self.unshare(id);
    }

    /// A member was overrun: its own cursor is its place from now on.
    pub(crate) fn overrun(&mut self, id: MemberId) {
        self.unshare(id);
    }

    /// Returns what the walk counted for a member since the last call.
    pub(crate) fn take_counts(&mut self, id: MemberId) -> Counts {
        mem::take(&mut self.member(id).counts)
    }

    /// Says how a member reads next, and walks on until its inbox has `max` frames for it, or there
    /// are no more.
    pub(crate) fn fetch<M: Memory>(
        &mut self,
        ring: &Ring<M>,
        id: MemberId,
        inbox: &mut Inbox,
        cursor: &mut Cursor,
        max: usize,
    ) -> Way {
        let is_alone = self.awake == 1;
        let member = self.member(id);
        member.holds = !inbox.is_empty();
        member.count_read();
        if member.waiting.is_empty() && !member.holds {
            // It has caught up with the walk, or needs none.
            let is_shared = member.is_shared();
            if matches!(member.state, State::Overflowed(_)) || is_shared && is_alone {
                self.withdraw(id, inbox, cursor);
            }
        }
        if self.member(id).state == State::Apart && !self.join_walk(ring, id, cursor) {
            return Way::Apart { learns: self.shared == 0 };
        }
        let mut unsettled = false;
        if self.member(id).is_shared() {
            unsettled = self.walk_for(ring, id, inbox, max.min(MAX_WAITING));
        }
        let walked = self.walked;
        let member = self.member(id);
        let is_all = inbox.fill_from(&mut member.waiting);
        if is_all {
            member.after_inbox.add(mem::take(&mut member.after_waiting));
        }
        if is_all && member.is_shared() {
            inbox.tail += member.pass(walked);
        }
        member.holds = !inbox.is_empty();
        if !inbox.is_empty() {
            return Way::Inbox;
        }
        member.counts.filtered += mem::take(&mut inbox.tail);
        if unsettled { Way::Unsettled } else { Way::Inbox }
    }

    /// Makes a member that is apart a shared one, if it has reached the walk. Returns whether it
    /// has.
    fn join_walk<M: Memory>(&mut self, ring: &Ring<M>, id: MemberId, cursor: &mut Cursor) -> bool {
        let (awake, member) = (self.awake, self.member(id));
        if member.sleeps || awake == 1 {
            return false;
        }
        let (place, size) = (cursor.position(), ring.size());
        match self.cursor {
            None => self.cursor = Some(*cursor),
            // The walk is behind: others have not read for a while. It continues to here for them.
            Some(shared) if place.is_after(shared.position(), size) => {
                for _ in 0..MAX_BATCHES {
                    let before = self.position();
                    let outcome = self.walk(ring, BATCH, Some(place));
                    let after = self.position();
                    if outcome == Outcome::Unsettled || after == Some(place) || after == before {
                        break;
                    }
                }
            }
            Some(_) => {}
        }
        if let Some(shared) = self.cursor.filter(|shared| shared.position().is_after(place, size)) {
            // The walk is ahead. The member reads that far, if it can.
            cursor.reach(&shared);
        }
        self.rejoin(id, cursor)
    }

    /// Makes a member that has read apart a shared one, if it has reached the walk. Returns whether
    /// it has.
    pub(crate) fn rejoin(&mut self, id: MemberId, cursor: &Cursor) -> bool {
        let reached = self.position() == Some(cursor.position()) && !self.member(id).sleeps;
        if reached {
            self.share(id);
        }
        reached
    }

    fn position(&self) -> Option<Position> {
        self.cursor.as_ref().map(Cursor::position)
    }

    /// Walks on until `wanted` frames wait for a shared member, or there are no more. Returns
    /// whether the ring was unsettled.
    fn walk_for<M: Memory>(
        &mut self,
        ring: &Ring<M>,
        id: MemberId,
        inbox: &Inbox,
        wanted: usize,
    ) -> bool {
        for _ in 0..MAX_BATCHES {
            let waiting = self.member(id).waiting.len();
            if inbox.waiting.len() + waiting >= wanted {
                break;
            }
            let before = self.position();
            // So that its own inbox does not overflow.
            let outcome = self.walk(ring, BATCH.min(MAX_WAITING - waiting), None);
            if outcome == Outcome::Unsettled {
                return true;
            }
            if self.position() == before {
                break;
            }
        }
        false
    }

    /// Walks over the next `room` frames at most, and not beyond `until`.
    fn walk<M: Memory>(&mut self, ring: &Ring<M>, room: usize, until: Option<Position>) -> Outcome {
        let Some(cursor) = &mut self.cursor else { return Outcome::Whole };
        let mut batch = mem::take(&mut self.batch);
        batch.clear();
        let outcome = cursor.read(ring, |packet| {
            if Some(packet.at) == until || batch.len() == room {
                return ControlFlow::Break(());
            }
            if packet.header.len as usize >= MIN_FRAME {
                let [destination, source] = ring.addresses(packet.offset);
                let (len, sender) = (packet.header.len, packet.header.sender);
                batch.push(Met { at: packet.at, len, sender, destination, source });
            }
            ControlFlow::Continue(())
        });
        let lost = ring.memory().is_lost();
        match outcome {
            // Zeros that no station wrote may be among it.
            _ if lost => {}
            Outcome::Whole => self.deliver(&batch),
            Outcome::Corrupt => {
                self.deliver(&batch);
                self.count_for_all(Counts { corrupt: 1, ..Counts::default() }, true);
            }
            Outcome::Scribbled => {
                self.count_for_all(Counts { corrupt: 1, ..Counts::default() }, true);
            }
            Outcome::StrayWakeup => {
                self.count_for_all(Counts { stray_wakeups: 1, ..Counts::default() }, true);
            }
            Outcome::Overrun(missed) => {
                let counts = Counts { overruns: 1, overrun_bytes: missed, ..Counts::default() };
                self.count_for_all(counts, false);
            }
            Outcome::Unsettled => {}
        }
        self.batch = batch;
        if lost { Outcome::Unsettled } else { outcome }
    }

    /// Counts what befell the walk for every shared member. `surely`: also if the frames that wait
    /// for it turn out to be overrun.
    #[cold]
    fn count_for_all(&mut self, counts: Counts, surely: bool) {
        for member in self.members.iter_mut().flatten().filter(|member| member.is_shared()) {
            if surely {
                member.counts.add(counts);
            } else {
                member.count(counts);
            }
        }
    }

    /// Delivers frames that are whole, and learns from them.
    fn deliver(&mut self, batch: &[Met]) {
        if batch.is_empty() {
            return;
        }
        let learns = self.learning > 0;
        let now = learns.then(Instant::now);
        if learns {
            // An address may have become too old.
            self.route.changes = None;
        }
        let (mut last_sender, mut last_learned) = (None, None);
        for met in batch {
            let from = match last_sender {
                Some((sender, from)) if sender == met.sender => from,
                _ => self.senders.get(&met.sender).copied(),
            };
            last_sender = Some((met.sender, from));
            if let Some(member) = from.and_then(|from| self.members[from].as_mut()) {
                member.own += 1;
            }
            self.look_up(met.destination, from, now);
            self.hand_out(met);
            self.walked += 1;
            if let Some(now) = now {
                let learned = Some((met.source, from, self.table.changes()));
                if last_learned != learned {
                    let stamp = Stamp::new(met.at, self.ring_size);
                    self.table.learn(met.source, place_of(from), stamp, now);
                    last_learned = Some((met.source, from, self.table.changes()));
                }
            }
        }
    }

    /// Notes a frame in the inboxes of those on the route.
    #[inline]
    fn hand_out(&mut self, met: &Met) {
        for receiver in &self.route.receivers {
            let Some(member) = &mut self.members[*receiver] else { continue };
            let filtered = member.pass(self.walked);
            if member.waiting.len() == MAX_WAITING {
                member.after_waiting.filtered += filtered;
                self.overflowed.push(*receiver);
                continue;
            }
            let filtered = u32::try_from(filtered).unwrap_or(u32::MAX);
            member.waiting.push_back(Waiting { at: met.at, len: met.len, filtered });
            // This one.
            member.counted += 1;
        }
        while let Some(slow) = self.overflowed.pop() {
            self.unlist(MemberId(slow));
            self.member(MemberId(slow)).state = State::Overflowed(met.at);
        }
    }

    /// Finds out for whom a frame is.
    #[inline]
    fn look_up(&mut self, destination: Address, from: Option<usize>, now: Option<Instant>) {
        let changes = Some((self.changes, self.table.changes()));
        let route = &self.route;
        if route.changes == changes && route.destination == destination && route.from == from {
            return;
        }
        let mut receivers = mem::take(&mut self.route.receivers);
        receivers.clear();
        self.find_receivers(destination, now, &mut receivers);
        receivers.retain(|receiver| Some(*receiver) != from);
        self.route = Route { destination, from, changes, receivers };
    }

    fn find_receivers(
        &self,
        destination: Address,
        now: Option<Instant>,
        receivers: &mut Vec<usize>,
    ) {
        if destination[0] & 1 == 1 {
            let wanting = self.members.iter().enumerate().filter(|(_, member)| {
                member
                    .as_ref()
                    .is_some_and(|member| member.is_shared() && member.filter.wants(destination))
            });
            receivers.extend(wanting.map(|(number, _)| number));
            return;
        }
        let is_shared =
            |number: usize| self.members[number].as_ref().is_some_and(Member::is_shared);
        let listed = self.stations.get(&destination).map_or(&[][..], Vec::as_slice);
        receivers.extend(listed.iter().copied().filter(|number| {
            is_shared(*number)
                && (!self.table.learns(*number) || self.table_wants(*number, destination, now))
        }));
        let known = now.filter(|_| is_station(destination));
        match known.and_then(|now| self.table.place(destination, now)) {
            Some((place, stamp)) if self.table.counts_for_all(stamp) => {
                if let Place::Behind(station) = place
                    && self.learners.contains(&station)
                {
                    receivers.push(station);
                }
            }
            Some(_) => receivers.extend(
                self.learners
                    .iter()
                    .copied()
                    .filter(|learner| self.table_wants(*learner, destination, now)),
            ),
            None => receivers.extend_from_slice(&self.learners),
        }
    }

    fn table_wants(&self, number: usize, destination: Address, now: Option<Instant>) -> bool {
        now.is_none_or(|now| self.table.wants(number, destination, now))
    }

    /// Whether a learning member that reads apart needs a frame with these addresses. They may be
    /// torn; it `learns` from them only when [`settle`](Self::settle) says that they were whole.
    pub(crate) fn wants_apart(
        &mut self,
        id: MemberId,
        [destination, source]: [Address; 2],
        sender: u64,
        at: Position,
        learns: bool,
    ) -> bool {
        let stamp = Stamp::new(at, self.ring_size);
        let now = *self.pending.now.get_or_insert_with(Instant::now);
        let sources = &mut self.pending.sources;
        if learns
            && sources.len() < MAX_PENDING
            && is_station(source)
            && sources.last().is_none_or(|last| (last.0, last.1) != (source, sender))
        {
            sources.push((source, sender, stamp));
        }
        if let Some((latest, wants)) = self.pending.latest
            && latest == destination
        {
            return wants;
        }
        let wants = self.table_wants(id.0, destination, Some(now));
        self.pending.latest = Some((destination, wants));
        wants
    }

    /// Ends a read apart: what was met was whole, or else is forgotten.
    pub(crate) fn settle(&mut self, whole: bool) {
        // Without a time, it met nothing.
        let Some(now) = self.pending.now.take() else { return };
        self.pending.latest = None;
        for (source, sender, stamp) in self.pending.sources.drain(..) {
            if whole {
                let from = self.senders.get(&sender).copied();
                self.table.learn(source, place_of(from), stamp, now);
            }
        }
    }

    /// A member sent frames with this source.
    pub(crate) fn learn_sent(&mut self, id: MemberId, source: Address, now: Instant) {
        self.table.learn_sent(source, id.0, now);
    }

    /// Whether a member learns.
    pub(crate) fn learns(&self, id: MemberId) -> bool {
        self.table.learns(id.0)
    }

    /// Returns a number that changes when the addresses behind a member do.
    pub(crate) fn revision(&self, id: MemberId) -> u64 {
        self.table.revision(id.0)
    }

    /// Returns the addresses behind a member, in no order.
    pub(crate) fn addresses(&self, id: MemberId) -> &[[u8; 6]] {
        self.table.addresses(id.0)
    }

    fn member(&mut self, id: MemberId) -> &mut Member {
        self.members[id.0].as_mut().expect("a member until it leaves")
    }

    fn share(&mut self, id: MemberId) {
        let walked = self.walked;
        let member = self.member(id);
        member.state = State::Shared;
        // Allocated once.
        member.waiting.reserve(MAX_WAITING);
        member.pass(walked);
        let promiscuous = member.filter.promiscuous;
        self.shared += 1;
        self.changes += 1;
        if promiscuous {
            self.learners.push(id.0);
        }
    }

    /// Ends the membership in the walk, and forgets what waits.
    fn unshare(&mut self, id: MemberId) {
        if self.member(id).is_shared() {
            self.unlist(id);
        }
        let member = self.member(id);
        member.state = State::Apart;
        member.waiting.clear();
        member.after_inbox = Counts::default();
        member.after_waiting = Counts::default();
        member.holds = false;
    }

    /// The walk no longer delivers to a shared member.
    fn unlist(&mut self, id: MemberId) {
        if let Some(index) = self.learners.iter().position(|number| *number == id.0) {
            self.learners.swap_remove(index);
        }
        self.shared -= 1;
        self.changes += 1;
        if self.shared == 0 {
            self.cursor = None;
        }
    }

    fn list_address(&mut self, id: MemberId) {
        let member = self.member(id);
        if !member.filter.promiscuous {
            let address = member.filter.mac;
            self.stations.entry(address).or_default().push(id.0);
        }
    }

    fn unlist_address(&mut self, id: MemberId) {
        let address = self.member(id).filter.mac;
        if let Some(stations) = self.stations.get_mut(&address) {
            stations.retain(|number| *number != id.0);
            if stations.is_empty() {
                self.stations.remove(&address);
            }
        }
    }
}

fn place_of(from: Option<usize>) -> Place {
    from.map_or(Place::Elsewhere, Place::Behind)
}
