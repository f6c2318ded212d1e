//! How a station sends.
//!
//! A send passes over its burst twice: once for the lengths of its frames, before anything is
//! locked or written, and once for their bytes. A source may have to walk a chain of buffers for
//! either, so each frame is asked once.

use std::mem;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Station;
use crate::error::{Busy, SendError, WakeError};
use crate::format::{Field32, MIN_FRAME, PACKET_HEADER_SIZE, PacketHeader};
use crate::mechanism::frame::{FrameSlot, FrameSource, VlanStage};
use crate::mechanism::ring::append::burst_limit;
use crate::mechanism::sleepers::announce::announce;
use crate::mechanism::vlan::{TAG_LEN, Vlan};
use crate::memory::Memory as _;
use crate::system::acquire::acquire;

/// Where a frame has its source address.
const SOURCE: Range<usize> = 6..12;

/// Why a part of a burst was not appended.
enum NotAppended {
    Busy(Busy),
    Lost,
}

impl Station {
    /// Sends one frame. A burst costs less for each frame: see [`send_burst`](Self::send_burst).
    ///
    /// # Errors
    /// As for [`send_burst`](Self::send_burst).
    pub fn send(&mut self, frame: &[u8]) -> Result<(), SendError> {
        self.send_burst([frame]).map(|_one| ())
    }

    /// Sends frames, in order, and wakes the other stations once. Returns how many were sent: all
    /// of them. With the link down it returns the same, and the frames are dropped.
    ///
    /// The iterator is cloned once: one pass asks each frame for its length, the other for its
    /// bytes.
    ///
    /// A wake-up that fails is no error, since the frames are on the bus and other stations look by
    /// themselves within [`MAX_SLEEP`](crate::MAX_SLEEP). It is counted in
    /// [`Stats::wakeups_failed`](crate::Stats::wakeups_failed) and repeated by the next call that
    /// sends, flushes or waits, and when the station is dropped.
    ///
    /// # Errors
    /// [`SendError::TooLong`] and [`SendError::TooShort`] before anything is sent;
    /// [`SendError::Busy`] when the lock was not free in time, perhaps after a part, whose length
    /// it holds; [`SendError::Lost`] when the bus is gone.
    #[inline]
    pub fn send_burst<I>(&mut self, frames: I) -> Result<usize, SendError>
    where
        I: IntoIterator,
        I::Item: FrameSource,
        I::IntoIter: Clone,
    {
        let frames = frames.into_iter();
        match self.vlan.take() {
            None => self.send_as_they_are(frames),
            Some(vlan) => {
                let sent = self.send_in_vlan(&vlan, frames);
                self.vlan = Some(vlan);
                sent
            }
        }
    }

    #[inline]
    fn send_as_they_are<F: FrameSource>(
        &mut self,
        frames: impl Iterator<Item = F> + Clone,
    ) -> Result<usize, SendError> {
        let mut lengths = mem::take(&mut self.lengths);
        let sent = self
            .measure(frames.clone(), &mut lengths)
            .and_then(|()| self.send_measured(frames, &lengths));
        self.lengths = lengths;
        sent
    }

    /// Sends frames of a user in `vlan`. Those that are not in it count as sent and are dropped.
    #[cold]
    fn send_in_vlan<F: FrameSource>(
        &mut self,
        vlan: &Vlan,
        frames: impl Iterator<Item = F>,
    ) -> Result<usize, SendError> {
        let mut stage = mem::take(&mut self.stage);
        let result = self.stage_all(vlan, &mut stage, frames);
        let result = result.and_then(|()| match self.send_as_they_are(stage.frames().iter()) {
            Ok(sent) => Ok(sent + self.count_refused(&stage, sent)),
            // The caller continues behind those that are dropped.
            Err(SendError::Busy { sent, source }) => {
                let sent = sent + self.count_refused(&stage, sent);
                Err(SendError::Busy { sent, source })
            }
            Err(error) => Err(error),
        });
        self.stage = stage;
        result
    }

    /// Counts the frames that are dropped before the staged frame number `sent`; returns how many.
    fn count_refused(&mut self, stage: &VlanStage, sent: usize) -> usize {
        let refused = stage.refused_before(sent);
        self.reader.stats.tx_vlan_refused += refused as u64;
        refused
    }

    /// Stages frames as they look on the bus.
    fn stage_all<F: FrameSource>(
        &mut self,
        vlan: &Vlan,
        stage: &mut VlanStage,
        mut frames: impl Iterator<Item = F>,
    ) -> Result<(), SendError> {
        stage.clear();
        for index in 0.. {
            let Some(frame) = frames.next() else { break };
            let len = frame.frame_len();
            // A tag that is removed may make room for as much.
            let is_possible = (MIN_FRAME..=self.longest + TAG_LEN).contains(&len);
            let growth = is_possible.then(|| stage.add(vlan, &frame, len));
            let max = match growth {
                Some(None) => continue,
                Some(Some(growth)) => self.longest.saturating_add_signed(-growth),
                None => self.longest,
            };
            if !(MIN_FRAME..=max).contains(&len) {
                self.reader.stats.tx_refused += (index + 1 + frames.count()) as u64;
                return Err(if len < MIN_FRAME {
                    SendError::TooShort { index, len }
                } else {
                    SendError::TooLong { index, len, max }
                });
            }
        }
        Ok(())
    }

    /// Wakes the other stations now if a wake-up is pending: it was put off for
    /// [`StationOptions::wake_interval`](crate::StationOptions::wake_interval), or it failed.
    ///
    /// # Errors
    /// When the other stations cannot be woken. The wake-up stays pending.
    pub fn flush(&mut self) -> Result<(), WakeError> {
        let failed = |source| WakeError { path: self.bus.path().to_owned(), source };
        self.wakeups.flush(&self.bus, &self.waking).map_err(failed)
    }

    /// Collects the lengths of `frames`, all of which can be sent.
    #[inline]
    fn measure<F: FrameSource>(
        &mut self,
        mut frames: impl Iterator<Item = F>,
        lengths: &mut Vec<u32>,
    ) -> Result<(), SendError> {
        let max = self.longest;
        lengths.clear();
        while let Some(frame) = frames.next() {
            let (index, len) = (lengths.len(), frame.frame_len());
            match u32::try_from(len) {
                Ok(short) if (MIN_FRAME..=max).contains(&len) => lengths.push(short),
                _ => {
                    self.reader.stats.tx_refused += (index + 1 + frames.count()) as u64;
                    return Err(if len < MIN_FRAME {
                        SendError::TooShort { index, len }
                    } else {
                        SendError::TooLong { index, len, max }
                    });
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn send_measured<F: FrameSource>(
        &mut self,
        mut frames: impl Iterator<Item = F>,
        lengths: &[u32],
    ) -> Result<usize, SendError> {
        if !self.link_up {
            self.reader.stats.tx_link_down += lengths.len() as u64;
            return Ok(lengths.len());
        }
        let mut sent = 0;
        let mut result = Ok(());
        // A hold of the lock is bounded; most bursts fit one.
        while let count @ 1.. = self.fitting(&lengths[sent..]) {
            match self.append(&mut frames, &lengths[sent..sent + count]) {
                Ok(()) => sent += count,
                Err(NotAppended::Busy(source)) => {
                    self.reader.stats.tx_busy += (lengths.len() - sent) as u64;
                    result = Err(SendError::Busy { sent, source });
                    break;
                }
                // What was sent before is gone as well.
                Err(NotAppended::Lost) => {
                    return Err(SendError::Lost { path: self.bus.path().to_owned() });
                }
            }
        }
        if sent > 0 {
            self.wakeups.request(&self.bus, &self.waking, self.sent_at);
        }
        result.map(|()| sent)
    }

    /// How many frames one hold of the lock takes: at least one, if there is one.
    #[inline]
    fn fitting(&self, lengths: &[u32]) -> usize {
        let mut room = burst_limit(self.bus.ring.size());
        let fits = lengths.iter().take_while(|len| {
            let bytes = PACKET_HEADER_SIZE + **len;
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        });
        fits.count()
    }

    /// Appends the next frames of `frames`, as many as there are `lengths`, in one hold of the
    /// lock.
    #[inline]
    fn append<F: FrameSource>(
        &mut self,
        frames: &mut impl Iterator<Item = F>,
        lengths: &[u32],
    ) -> Result<(), NotAppended> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The format has 32 bits for it.
        let sec = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let usec = now.subsec_micros();
        self.sent_at = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let (sender, known) = (self.sender, self.newest_known());
        let headers = lengths.iter().map(|len| PacketHeader { len: *len, sec, usec, sender });
        let ring = &self.bus.ring;
        let (learning, sent) = (self.learning, &mut self.sent);
        let (mut packets, mut bytes) = (0, 0);
        let is_bus = || ring.memory().load32(Field32::Magic, Ordering::Relaxed) == self.bus.magic();
        // A file that is no bus any more has no lock to take, and least of all from a dead owner.
        if !is_bus() {
            return Err(NotAppended::Lost);
        }
        if learning {
            // The sources of these frames are behind this station from now on, and frames to them
            // may follow at once.
            self.reader.doubt();
        }
        let mut guard = match ring.try_lock(self.me) {
            Ok(guard) => guard,
            Err(_taken) => {
                self.reader.stats.lock_waits += 1;
                acquire(ring, &self.bus.file, self.me, self.lock_timeout)
                    .map_err(NotAppended::Busy)?
            }
        };
        // A rump kernel asserts this whenever it has the lock; another process may have begun the
        // file anew meanwhile.
        if !is_bus() {
            return Err(NotAppended::Lost);
        }
        if guard.restore_generation(known) {
            self.reader.stats.stray_wakeups += 1;
        }
        let appended = guard.append(headers, |header, at| {
            let mut slot = FrameSlot::new(ring, at, header.len as usize);
            if let Some(frame) = frames.next() {
                frame.write_to(&mut slot);
            }
            slot.finish();
            if learning {
                let mut header = [0; MIN_FRAME];
                ring.copy_out(at, &mut header);
                if sent.last().is_none_or(|last| last[SOURCE] != header[SOURCE]) {
                    sent.push(header);
                }
            }
            packets += 1;
            bytes += u64::from(header.len);
        });
        if let Some(table) = self.waking.table() {
            announce(&guard, table, appended.end, sec, &mut self.wakeups.doorbells);
        }
        drop(guard);
        self.newest_end = appended.end;
        if let Some(sleeper) = self.reader.sleeper() {
            sleeper.note_sent();
        }
        let lost = ring.memory().is_lost();
        if let Some(membership) = self.membership.as_ref().filter(|_| learning && !lost) {
            membership.learn_sent(sent);
        }
        sent.clear();
        if lost {
            return Err(NotAppended::Lost);
        }
        let stats = &mut self.reader.stats;
        stats.tx_packets += packets;
        stats.tx_bytes += bytes;
        stats.corrupt += u64::from(appended.mended);
        Ok(())
    }
}
