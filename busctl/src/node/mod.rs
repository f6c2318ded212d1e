//! The node: moves frames between ports and a bus.
//!
//! Every port has a station of its own on the bus, which hears everything but what it sent itself. So what one peer sends
//! reaches every other peer and every other station, and nothing comes back to where it came from.
//!
//! One thread serves all ports in turn, a burst at a time in each direction. It polls while there is traffic and a little
//! longer; then it arms the descriptors of everything that can bring something, and sleeps.

mod member;
mod sleep;

use std::time::{Duration, Instant};

use shmbus::Interface;

use self::member::Member;
use crate::output;
use crate::port::{Patience, Port};
use crate::stop::Stop;

/// How long an adaptive node polls after the last frame: longer than the pauses in steady traffic, much shorter than
/// anybody would notice in the processor's load.
const LINGER: Duration = Duration::from_micros(50);
/// How often connections are looked after while there is traffic.
const TEND: Duration = Duration::from_millis(1);

/// Ports on a bus, and what keeps them going.
pub(crate) struct Node {
    members: Vec<Member>,
}

impl Node {
    /// A node for ports, each with its station.
    pub(crate) fn new(ports: impl IntoIterator<Item = (Box<dyn Port>, Interface)>) -> Self {
        Self { members: ports.into_iter().map(|(port, station)| Member::new(port, station)).collect() }
    }

    /// Moves frames until it is asked to stop.
    ///
    /// # Errors
    /// When the bus is gone, or waiting for descriptors fails.
    pub(crate) fn run(&mut self, stop: &Stop) -> anyhow::Result<()> {
        let linger = match self.members.iter().map(Member::patience).min() {
            Some(Patience::Polling) => None,
            Some(Patience::Adaptive) | None => Some(LINGER),
            Some(Patience::Interrupt) => Some(Duration::ZERO),
        };
        self.tend()?;
        let (mut busy, mut tended) = (Instant::now(), Instant::now());
        while !stop.requested() {
            let moved = self.turn();
            let now = Instant::now();
            if now - tended >= TEND {
                self.tend()?;
                tended = now;
            }
            if moved {
                busy = now;
            } else if linger.is_some_and(|linger| now - busy >= linger) {
                self.sleep(stop)?;
                self.tend()?;
                tended = Instant::now();
                busy = tended;
            } else {
                // On a machine with few processors the peer may be waiting for this one.
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Gives every port its turn; whether anything moved.
    fn turn(&mut self) -> bool {
        let mut moved = false;
        for member in &mut self.members {
            moved |= member.turn();
        }
        moved
    }

    fn tend(&mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            member.tend(&mut output::note)?;
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for member in &self.members {
            member.log_counters();
        }
    }
}
