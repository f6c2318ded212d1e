//! How a node sleeps until there is something to do.

use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shmbus::{SLEEP_BOUND, WaitError};

use super::Node;
use super::member::Member;
use crate::stop::Stop;

/// The longest sleep while a peer is connected: real peers may publish just as the interrupt is armed and not see it.
const PEER_BOUND: Duration = Duration::from_millis(10);
/// The longest sleep when the bus cannot be watched.
const UNWATCHED_BOUND: Duration = Duration::from_millis(1);

impl Node {
    /// Sleeps until there is something to do, or it is time to stop.
    pub(super) fn sleep(&mut self, stop: &Stop) -> anyhow::Result<()> {
        let slept = self.sleep_armed(stop);
        for member in &mut self.members {
            member.disarm();
        }
        slept
    }

    fn sleep_armed(&mut self, stop: &Stop) -> anyhow::Result<()> {
        let mut bound = if self.members.iter().any(Member::is_up) { PEER_BOUND } else { SLEEP_BOUND };
        for member in &mut self.members {
            match member.arm() {
                // A bus that is gone is for whoever tends the members to tell.
                Ok(true) | Err(WaitError::Lost { .. }) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    member.tell_once(&format!("{error}; frames from the bus will be a little late"));
                    bound = bound.min(UNWATCHED_BOUND);
                }
            }
        }
        loop {
            let retry = self.members.iter_mut().filter_map(Member::retry).min();
            if self.poll(stop, retry.map_or(bound, |retry| retry.min(bound)))? {
                return Ok(());
            }
            // The bound is over: a wake-up may have been lost, or a peer may have made room. Everything stays armed, so that
            // an idle node does next to nothing here.
            for member in &mut self.members {
                member.stay_present();
            }
            if self.turn() || self.members.iter().any(Member::is_lost) {
                return Ok(());
            }
        }
    }

    /// `true` when something became readable.
    fn poll(&self, stop: &Stop, timeout: Duration) -> anyhow::Result<bool> {
        let mut descriptors = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        for member in &self.members {
            member
                .descriptors(&mut |descriptor| descriptors.push(PollFd::new(descriptor, PollFlags::POLLIN)));
        }
        // Rounded up: a sleep of 0 ms would be none.
        let timeout =
            PollTimeout::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut descriptors, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(true),
            Err(error) => Err(error).context("cannot wait for ports"),
        }
    }
}
