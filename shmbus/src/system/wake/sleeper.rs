//! A station's slot in the table of sleepers, and what it does there.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::waking::Waking;
use super::write_file;
use crate::format::Field32;
use crate::mechanism::ring::Ring;
use crate::mechanism::ring::lock::Owner;
use crate::mechanism::sleepers::Interest;
use crate::mechanism::sleepers::table::{Awake, Slot, Table};
use crate::memory::{MappedWords, Mapping, Memory as _};
use crate::system::acquire::{acquire, take_over_dead};
use crate::system::liveness;

/// How long the lock is waited for to announce what others have not.
const LOCK_TIMEOUT: Duration = Duration::from_millis(2);

/// A station's slot. It is freed when this is dropped.
#[derive(Debug)]
pub(crate) struct Sleeper {
    waking: Arc<Waking>,
    table: Table<MappedWords>,
    ring: Ring<Mapping>,
    file: Arc<File>,
    me: Owner,
    slot: Slot,
    /// The magic of the bus.
    magic: u32,
    /// The station has sent since it last fell asleep.
    has_sent: AtomicBool,
    /// What the slot says.
    written: Mutex<Written>,
    /// It fell asleep without knowing what is on the ring.
    in_doubt: AtomicBool,
}

#[derive(Debug)]
struct Written {
    doorbell: u32,
    interest: Interest,
}

impl Sleeper {
    /// Takes a slot. `None` where there is no table, or no slot is free.
    pub(crate) fn new(
        waking: &Arc<Waking>,
        ring: &Ring<Mapping>,
        file: &Arc<File>,
        me: Owner,
        interest: Interest,
    ) -> Option<Self> {
        let table = waking.table()?.clone();
        // In doubt a station is alive: a slot too few does no harm.
        let is_alive = |owner| owner != me && liveness::is_alive(file, owner).unwrap_or(true);
        let slot = table.claim(me, is_alive)?;
        table.write(slot, me, 0, &interest);
        Some(Self {
            waking: Arc::clone(waking),
            table,
            ring: ring.clone(),
            file: Arc::clone(file),
            me,
            slot,
            magic: ring.memory().load32(Field32::Magic, Ordering::Relaxed),
            has_sent: AtomicBool::new(false),
            written: Mutex::new(Written { doorbell: 0, interest }),
            in_doubt: AtomicBool::new(false),
        })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn waking(&self) -> &Arc<Waking> {
        &self.waking
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Changes what the station is woken for.
    pub(crate) fn set_interest(&self, interest: Interest) {
        let written = &mut *self.written();
        if written.interest != interest {
            written.interest = interest;
            self.write(written);
        }
    }

    fn write(&self, written: &Written) {
        self.table.write(self.slot, self.me, written.doorbell, &written.interest);
    }

    /// Whether the table was cut short, so that no other process sees what is written there.
    pub(crate) fn is_lost(&self) -> bool {
        self.table.is_lost()
    }

    /// The station sleeps from now on, at this doorbell. The caller must look at the ring after
    /// this and before it sleeps.
    pub(crate) fn arm(&self, doorbell: u32) {
        let written = &mut *self.written();
        written.doorbell = doorbell;
        if !self.table.is_intact(self.slot, self.me, written.doorbell, &written.interest) {
            self.write(written);
        }
        self.in_doubt.store(false, Ordering::Relaxed);
        self.table.arm(self.slot);
    }

    /// The ring was unsettled when the station looked at it to fall asleep: frames for it may be
    /// there that no station announces to it. So it looks again soon.
    pub(crate) fn doubt(&self) {
        // Relaxed: the thread that arms the station looks for it, or another finds it a look later.
        self.in_doubt.store(true, Ordering::Relaxed);
    }

    fn is_intact(&self) -> bool {
        let Written { doorbell, interest } = &*self.written();
        self.table.is_intact(self.slot, self.me, *doorbell, interest)
    }

    /// Ends the sleep.
    pub(crate) fn disarm(&self) -> Awake {
        self.trusted(self.table.disarm(self.slot))
    }

    /// How the sleep would end now.
    pub(crate) fn peek(&self) -> Awake {
        self.trusted(self.table.peek(self.slot))
    }

    /// A slot that was scribbled on says nothing of what may be skipped.
    fn trusted(&self, awake: Awake) -> Awake {
        if self.is_intact() { awake } else { Awake { position: None, ..awake } }
    }

    /// Whether no frame was announced to the station since it fell asleep.
    pub(crate) fn is_asleep(&self) -> bool {
        self.table.is_asleep(self.slot)
    }

    /// The station has sent, and so is one of those that talk.
    #[inline]
    pub(crate) fn note_sent(&self) {
        // Relaxed: only the station itself looks at it.
        self.has_sent.store(true, Ordering::Relaxed);
    }

    /// Takes the role of the listener if it is free; returns whether the station has it.
    pub(crate) fn listens(&self) -> bool {
        self.takes_role_from(0)
    }

    /// As [`listens`](Self::listens), before the station falls asleep. One that has sent since its
    /// last sleep takes the role from any other: those that talk are woken anyway, so a bystander
    /// need not be.
    pub(crate) fn listens_asleep(&self) -> bool {
        let has_sent = self.has_sent.swap(false, Ordering::Relaxed);
        self.takes_role_from(if has_sent { self.table.listener() } else { 0 })
    }

    fn takes_role_from(&self, before: u64) -> bool {
        if !self.waking.may_have_foreign_stations() {
            return false;
        }
        let (me, listener) = (u64::from(self.me.number()), self.table.listener());
        listener == me || listener == before && self.table.become_listener(before, self.me)
    }

    /// Whether the station has the role of the listener.
    pub(crate) fn is_listener(&self) -> bool {
        self.table.listener() == u64::from(self.me.number())
    }

    /// Leaves the role of the listener to the next station that falls asleep.
    pub(crate) fn resign(&self) {
        self.table.resign(self.me);
    }

    /// Whether the bus file was cut short or overwritten.
    fn is_bus_lost(&self) -> bool {
        let size = self.ring.memory().file_size();
        self.ring.memory().is_lost()
            || self.file.metadata().is_ok_and(|metadata| metadata.len() < size)
            || self.ring.memory().load32(Field32::Magic, Ordering::Relaxed) != self.magic
    }

    /// Whether all frames on the ring were announced. `None`: the ring is unsettled.
    pub(crate) fn all_announced(&self) -> Option<bool> {
        let end = self.ring.snapshot().ok()?.end.as_word(self.ring.size());
        Some(self.table.announced() == end)
    }

    /// Whether there are frames on the ring that no station is about to announce.
    fn has_unannounced(&self) -> bool {
        // A station of this kind that holds the lock announces before it releases it. So what is
        // still unannounced while the lock is not one's is a foreign station's, or a dead one's.
        self.all_announced() == Some(false)
            && self.ring.lock_word().owner().is_none()
            && self.all_announced() == Some(false)
    }

    /// Announces what is on the ring and was not announced: frames of stations that know no table,
    /// and of a station that died. Returns whether there was such a frame.
    pub(crate) fn announce_rest(&self) -> bool {
        if !self.has_unannounced() {
            return false;
        }
        // Who has the lock for long will announce, or cannot be helped.
        let Ok(held) = acquire(&self.ring, &self.file, self.me, LOCK_TIMEOUT) else {
            return false;
        };
        let found = self.all_announced() == Some(false);
        self.waking.announce(&self.file, held);
        found
    }

    /// Looks whether the station may sleep on, as each does now and then: whether senders or the
    /// listener died, and whether the table is sound.
    pub(crate) fn may_sleep_on(&self) -> bool {
        if self.ring.lock_word().owner().is_some()
            && let Some(held) = take_over_dead(&self.ring, &self.file, self.me)
        {
            self.waking.announce(&self.file, held);
            // The dead station may have woken no rump kernel. Stations look by themselves.
            let _ = write_file(&self.file);
        }
        let in_doubt = self.in_doubt.load(Ordering::Relaxed);
        if in_doubt || !self.is_asleep() || !self.is_intact() || self.is_bus_lost() {
            return false;
        }
        if self.announce_rest()
            && self.waking.may_have_foreign_stations()
            && self.table.become_listener(self.table.listener(), self.me)
        {
            // The listener should have done that, and is stopped or dead. The station watches the
            // bus file from its next sleep on.
            return false;
        }
        if self.waking.may_have_foreign_stations() && self.table.listener() == 0 && self.listens() {
            // The listener has left. Likewise.
            return false;
        }
        // A ring that is unsettled for long, or corrupt, the station itself has to see to, and a
        // sender that stopped before it announced.
        self.is_asleep() && self.all_announced() == Some(true)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.table.free(self.slot, self.me);
    }
}
