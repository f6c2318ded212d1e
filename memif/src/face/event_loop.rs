//! Taking turns: what [`Client`](super::client::Client) and [`Server`](super::server::Server) do to hand out events one by one, and
//! to wait for them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::event::Event;
use super::waker::Waker;
use crate::error::Error;
use crate::system::poller::{Poller, deadline_in};

/// What happened and has not been handed out.
#[derive(Debug, Default)]
pub(super) struct News {
    events: VecDeque<Event>,
    /// Some of what the latest work brought was handed out, and its end not yet.
    in_round: bool,
}

impl News {
    pub(super) fn push(&mut self, event: Event) {
        self.events.push_back(event);
    }
}

/// An end that works when its descriptors say so.
pub(super) trait Worker {
    /// Does what is due without blocking.
    fn work(&mut self) -> Result<(), Error>;
    fn news(&mut self) -> &mut News;
    fn poller(&self) -> &Poller;
    fn canceller(&self) -> &Waker;
}

/// The next event; `None` at the end of all that one round of work brought, so that a flood does not keep the caller.
pub(super) fn ready(worker: &mut impl Worker) -> Result<Option<Event>, Error> {
    if worker.news().events.is_empty() {
        if std::mem::take(&mut worker.news().in_round) {
            return Ok(None);
        }
        worker.work()?;
        let news = worker.news();
        news.in_round = !news.events.is_empty();
    }
    Ok(worker.news().events.pop_front())
}

/// Waits for the next event; `None` when the time is over, a signal came, or it was cancelled.
pub(super) fn wait(worker: &mut impl Worker, timeout: Option<Duration>) -> Result<Option<Event>, Error> {
    let end = timeout.map(deadline_in);
    loop {
        if let Some(event) = ready(worker)? {
            return Ok(Some(event));
        }
        if worker.canceller().take() {
            return Ok(None);
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let more = worker.poller().wait(left).map_err(Error::at("poll"))?;
        // There may always be more to do that is nobody's news.
        if !more || left == Some(Duration::ZERO) {
            return ready(worker);
        }
    }
}
