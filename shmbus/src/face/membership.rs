//! A station's part in a reading that it shares with others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::face::reader::{Addressed, Choice, Reader};
use crate::format::MIN_FRAME;
use crate::mechanism::filter::AddressFilter;
use crate::mechanism::frame::{FrameSink, RingFrame};
use crate::mechanism::reading::{Inbox, MemberId, Reading, Way};
use crate::mechanism::ring::Ring;
use crate::memory::Mapping;

/// Makes one station a member of a reading, for as long as it lives.
///
/// While the station is a shared member, the cursor of its [`Reader`] is out of date. Whatever uses
/// that cursor takes the station out first: [`fall_asleep`](Self::fall_asleep) or
/// [`withdraw`](Self::withdraw). The station joins the others again when it reads and is not armed.
#[derive(Debug)]
pub(crate) struct Membership {
    reading: Arc<Mutex<Reading>>,
    id: MemberId,
    inbox: Inbox,
    /// It fell asleep, and may have been woken since.
    asleep: bool,
}

impl Membership {
    pub(crate) fn new(
        reading: Arc<Mutex<Reading>>,
        sender: u64,
        filter: AddressFilter,
        learning: bool,
        reader: &Reader,
    ) -> Self {
        let id = lock(&reading).join(sender, filter, learning, &reader.cursor);
        Self { reading, id, inbox: Inbox::new(), asleep: false }
    }

    /// As [`Reader::read`], for a station that sends as `sender` and receives what `filter` says.
    pub(crate) fn read(
        &mut self,
        reader: &mut Reader,
        ring: &Ring<Mapping>,
        max: usize,
        sink: &mut impl FrameSink,
        addressed: Addressed<'_>,
    ) -> Option<usize> {
        let is_woken = self.asleep && !reader.is_armed();
        // Not locked while the sink gets frames from an inbox: it may call other stations.
        let mut reading = lock(&self.reading);
        if is_woken {
            reading.wake(self.id);
            self.asleep = false;
        }
        let way = reading.fetch(ring, self.id, &mut self.inbox, &mut reader.cursor, max);
        reader.stats.add(reading.take_counts(self.id));
        match way {
            Way::Unsettled => None,
            Way::Inbox => {
                drop(reading);
                let received = reader.read_inbox(ring, &mut self.inbox, max, sink, addressed);
                if let Some(cursor) = self.inbox.take_overrun() {
                    reader.cursor = cursor;
                    lock(&self.reading).overrun(self.id);
                }
                received
            }
            Way::Apart { learns } => {
                let is_learner = reading.learns(self.id);
                let received = if is_learner {
                    let reading = Some(reading);
                    let id = self.id;
                    reader.read(ring, max, sink, Learned { addressed, reading, id, learns })
                } else {
                    drop(reading);
                    reader.read(ring, max, sink, addressed)
                };
                if !learns {
                    lock(&self.reading).rejoin(self.id, &reader.cursor);
                }
                received
            }
        }
    }

    /// Takes the station out before it sleeps with its own cursor. Returns `false`, and changes
    /// nothing, while there are frames for it.
    pub(crate) fn fall_asleep(&mut self, reader: &mut Reader) -> bool {
        let mut reading = lock(&self.reading);
        let falls_asleep = reading.fall_asleep(self.id, &mut self.inbox, &mut reader.cursor);
        reader.stats.add(reading.take_counts(self.id));
        self.asleep |= falls_asleep;
        falls_asleep
    }

    /// Takes the station out: its own cursor is its place, with all that it has not read before it.
    pub(crate) fn withdraw(&mut self, reader: &mut Reader) {
        let mut reading = lock(&self.reading);
        reading.withdraw(self.id, &mut self.inbox, &mut reader.cursor);
        reader.stats.add(reading.take_counts(self.id));
    }

    /// Changes which frames the station receives and whether it learns, from the next frame on.
    pub(crate) fn set_filter(
        &mut self,
        reader: &mut Reader,
        filter: AddressFilter,
        learning: bool,
    ) {
        self.withdraw(reader);
        let mut reading = lock(&self.reading);
        reading.set_filter(self.id, filter);
        reading.set_learning(self.id, learning, &reader.cursor);
    }

    /// The station sent frames with these headers.
    pub(crate) fn learn_sent(&self, headers: &[[u8; MIN_FRAME]]) {
        let now = Instant::now();
        let mut reading = lock(&self.reading);
        for header in headers {
            let [_, source] = addresses(header);
            reading.learn_sent(self.id, source, now);
        }
    }

    /// Returns a number that changes when the addresses behind the station do.
    pub(crate) fn revision(&self) -> u64 {
        lock(&self.reading).revision(self.id)
    }

    /// Passes to `each` the addresses behind the station, in no order, `most` of them at most.
    pub(crate) fn for_each_address(&self, most: usize, each: impl FnMut([u8; 6])) {
        lock(&self.reading).addresses(self.id).iter().copied().take(most).for_each(each);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        lock(&self.reading).leave(self.id);
    }
}

fn lock(reading: &Mutex<Reading>) -> MutexGuard<'_, Reading> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns destination and source.
fn addresses(header: &[u8; MIN_FRAME]) -> [[u8; 6]; 2] {
    let mut addresses = [[0; 6]; 2];
    addresses.as_flattened_mut().copy_from_slice(&header[..12]);
    addresses
}

/// Chooses what a learning station needs while it reads apart.
struct Learned<'r> {
    addressed: Addressed<'r>,
    /// Until the read is settled.
    reading: Option<MutexGuard<'r, Reading>>,
    id: MemberId,
    learns: bool,
}

impl Choice for Learned<'_> {
    #[inline]
    fn wants(&mut self, frame: &RingFrame<'_>) -> bool {
        if !self.addressed.wants(frame) {
            return false;
        }
        let mut header = [0; MIN_FRAME];
        frame.copy_to(&mut header);
        let (id, learns, sender, at) =
            (self.id, self.learns, frame.info().sender, frame.position());
        self.reading
            .as_mut()
            .is_none_or(|reading| reading.wants_apart(id, addresses(&header), sender, at, learns))
    }

    /// Unlocks the reading, too.
    fn settled(&mut self, whole: bool) {
        if let Some(mut reading) = self.reading.take() {
            reading.settle(whole);
        }
    }
}
