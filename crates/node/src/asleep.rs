//! The ports of a thread that sleep, in the order in which they are polled next.
//!
//! A round of the thread looks at the first of them only, so that ports which sleep cost nothing
//! beside those that are awake, however many they are.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::attached_port::{AttachedPort, PortId};

/// Ports that are due within this time are polled together, so that one wake-up of the thread
/// serves many.
const POLL_SLACK: Duration = Duration::from_millis(2);

/// The ports that sleep.
#[derive(Default)]
pub(crate) struct Asleep {
    ports: HashMap<PortId, Box<AttachedPort>>,
    /// When each of them is polled next.
    due: BTreeSet<(Instant, PortId)>,
    /// When frames that wait in them are due, which are not to be late.
    frames: BTreeSet<(Instant, PortId)>,
}

impl Asleep {
    pub(crate) fn insert(&mut self, port: Box<AttachedPort>) {
        self.due.insert((port.poll_at(), port.id));
        self.frames.extend(port.due().map(|due| (due, port.id)));
        self.ports.insert(port.id, port);
    }

    pub(crate) fn remove(&mut self, id: PortId) -> Option<Box<AttachedPort>> {
        let port = self.ports.remove(&id)?;
        self.due.remove(&(port.poll_at(), id));
        self.forget_frames(&port);
        Some(port)
    }

    /// Returns when the first port is polled.
    pub(crate) fn first_poll(&self) -> Option<Instant> {
        self.due.first().map(|(first, _)| *first)
    }

    /// Returns when the first frame that waits in a port is due.
    pub(crate) fn first_frame(&self) -> Option<Instant> {
        self.frames.first().map(|(first, _)| *first)
    }

    fn forget_frames(&mut self, port: &AttachedPort) {
        if let Some(due) = port.due() {
            self.frames.remove(&(due, port.id));
        }
    }

    /// Polls the ports that are due, and takes out those that have something to do.
    #[expect(clippy::vec_box, reason = "ports move between here and the awake ones all the time")]
    pub(crate) fn poll_due(&mut self, now: Instant) -> Vec<Box<AttachedPort>> {
        let mut woken = Vec::new();
        if self.first_poll().is_none_or(|first| first > now) {
            return woken;
        }
        // Each once: the next poll of a port may be as near.
        let later = self.due.split_off(&(now + POLL_SLACK, PortId::MAX));
        for (_, id) in std::mem::replace(&mut self.due, later) {
            let Some(mut port) = self.ports.remove(&id) else { continue };
            self.forget_frames(&port);
            if port.poll(now) {
                woken.push(port);
            } else {
                self.insert(port);
            }
        }
        woken
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &AttachedPort> {
        self.ports.values().map(|port| &**port)
    }

    /// Takes out all ports.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Box<AttachedPort>> {
        self.due.clear();
        self.frames.clear();
        self.ports.drain().map(|(_, port)| port)
    }
}
