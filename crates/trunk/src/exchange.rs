//! What passes between the thread that serves a port and the one that speaks Zenoh. All of it has
//! bounds: other machines fill it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use port::WakeFd;

use crate::batch::MAX_MESSAGE;
use crate::token::{EndId, Token};

/// The most ends: what [`port::vxlan::Remotes`] has room for.
const MAX_ENDS: usize = 1_024;
/// The most bytes of messages that have come and wait, from one end and from all.
const MAX_FROM_ONE: usize = 1 << 20;
const MAX_FROM_ALL: usize = 16 << 20;
/// The most messages that wait to be sent.
const MAX_OUTGOING: usize = 256;

/// A message to an end.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) to: EndId,
    pub(crate) bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Exchange {
    state: Mutex<State>,
    wake: WakeFd,
}

#[derive(Debug, Default)]
struct State {
    /// The other ends, and a number that changes with them.
    ends: HashMap<EndId, Token>,
    version: u64,
    messages: VecDeque<(EndId, Vec<u8>)>,
    waiting: HashMap<EndId, usize>,
    waiting_in_all: usize,
    dropped: usize,
    /// Where the port is to receive datagrams, and where it does.
    wanted: Option<SocketAddr>,
    local: Option<SocketAddr>,
    /// What the user should know.
    line: Option<String>,
}

impl Exchange {
    /// Makes an exchange, and the way for messages to other ends.
    ///
    /// # Errors
    /// The system's error when no descriptor is available.
    pub(crate) fn new() -> io::Result<(Self, SyncSender<Message>, Receiver<Message>)> {
        let (sender, receiver) = sync_channel(MAX_OUTGOING);
        Ok((Self { state: Mutex::default(), wake: WakeFd::new()? }, sender, receiver))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an end is there, or that it is elsewhere now. Returns `false` when there are too many.
    pub(crate) fn came(&self, token: Token) -> bool {
        let mut state = self.state();
        if state.ends.len() >= MAX_ENDS && !state.ends.contains_key(&token.id) {
            return false;
        }
        let id = token.id;
        if state.ends.get(&id) != Some(&token) {
            state.ends.insert(id, token);
            state.version += 1;
            self.wake.wake();
        }
        true
    }

    /// Notes that a token is gone. The end may have another by now.
    pub(crate) fn went(&self, token: &Token) {
        let mut state = self.state();
        if state.ends.get(&token.id) == Some(token) {
            state.ends.remove(&token.id);
            state.version += 1;
            self.wake.wake();
        }
    }

    /// Notes that no end is known any longer.
    pub(crate) fn all_went(&self) {
        let mut state = self.state();
        state.ends.clear();
        state.version += 1;
        self.wake.wake();
    }

    /// Returns the ends and the version of them, if that is not `known`.
    pub(crate) fn ends(&self, known: u64) -> Option<(u64, HashMap<EndId, Token>)> {
        let state = self.state();
        (state.version != known).then(|| (state.version, state.ends.clone()))
    }

    /// Adds a message that has come. Drops it when it is of no known end, too long, or one too many.
    pub(crate) fn received(&self, from: EndId, bytes: Vec<u8>) {
        let mut state = self.state();
        let len = bytes.len();
        let of_one = state.waiting.get(&from).copied().unwrap_or_default() + len;
        let has_room = of_one <= MAX_FROM_ONE && state.waiting_in_all + len <= MAX_FROM_ALL;
        if len > MAX_MESSAGE || !has_room || !state.ends.contains_key(&from) {
            state.dropped += 1;
            return;
        }
        state.waiting.insert(from, of_one);
        state.waiting_in_all += len;
        state.messages.push_back((from, bytes));
        if state.messages.len() == 1 {
            self.wake.wake();
        }
    }

    /// Returns the next message that has come.
    pub(crate) fn next_message(&self) -> Option<(EndId, Vec<u8>)> {
        let mut state = self.state();
        let (from, bytes) = state.messages.pop_front()?;
        state.waiting_in_all -= bytes.len();
        if let Some(waiting) = state.waiting.get_mut(&from) {
            *waiting -= bytes.len();
            if *waiting == 0 {
                state.waiting.remove(&from);
            }
        }
        Some((from, bytes))
    }

    /// Returns whether the ends are no longer those of the version `known`.
    pub(crate) fn has_news(&self, known: u64) -> bool {
        self.state().version != known
    }

    /// Makes the descriptor quiet.
    pub(crate) fn drain(&self) {
        self.wake.drain();
    }

    /// Makes the descriptor quiet. Returns whether something waits already.
    pub(crate) fn arm(&self, known: u64) -> bool {
        self.wake.drain();
        let state = self.state();
        !state.messages.is_empty() || state.version != known
    }

    /// Returns, once, how many messages were dropped.
    pub(crate) fn take_dropped(&self) -> usize {
        std::mem::take(&mut self.state().dropped)
    }

    /// Sets where the port is to receive datagrams.
    pub(crate) fn want(&self, wanted: Option<SocketAddr>) {
        let mut state = self.state();
        if state.wanted != wanted {
            state.wanted = wanted;
            state.version += 1;
            self.wake.wake();
        }
    }

    pub(crate) fn wanted(&self) -> Option<SocketAddr> {
        self.state().wanted
    }

    /// Sets where the port receives datagrams.
    pub(crate) fn set_local(&self, local: Option<SocketAddr>) {
        self.state().local = local;
    }

    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.state().local
    }

    /// Says something to the user, in place of what was not reported yet.
    pub(crate) fn say(&self, line: String) {
        self.state().line = Some(line);
    }

    pub(crate) fn take_line(&self) -> Option<String> {
        self.state().line.take()
    }
}

impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Passes on a message. Returns `false` when too many wait.
pub(crate) fn offer(sender: &SyncSender<Message>, message: Message) -> bool {
    match sender.try_send(message) {
        Ok(()) => true,
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: u64, address: &str) -> Token {
        Token { id: EndId(id), vni: 1, address: address.parse().ok(), host: "h".to_owned() }
    }

    #[test]
    fn ends_are_bounded_and_known_by_their_latest_token() {
        let (exchange, ..) = Exchange::new().expect("a descriptor");
        assert!(exchange.came(token(1, "10.0.0.1:1")));
        assert!(exchange.came(token(1, "10.0.0.2:1")));
        exchange.went(&token(1, "10.0.0.1:1"));
        let (version, ends) = exchange.ends(0).expect("new");
        assert_eq!(ends[&EndId(1)].address, "10.0.0.2:1".parse().ok());
        assert!(exchange.came(token(1, "10.0.0.2:1")), "nothing new");
        assert!(exchange.ends(version).is_none());
        for id in 0..2_000 {
            exchange.came(token(id, ""));
        }
        assert_eq!(exchange.ends(version).expect("new").1.len(), MAX_ENDS);
        exchange.all_went();
        assert!(exchange.ends(version).expect("new").1.is_empty());
    }

    #[test]
    fn messages_are_bounded_by_end_and_in_all() {
        let (exchange, ..) = Exchange::new().expect("a descriptor");
        exchange.received(EndId(1), vec![0; 100]);
        assert_eq!((exchange.take_dropped(), exchange.take_dropped()), (1, 0), "of no known end");
        for id in 1..=20 {
            exchange.came(token(id, ""));
            for _ in 0..20 {
                exchange.received(EndId(id), vec![0; MAX_MESSAGE]);
            }
        }
        let waiting = std::iter::from_fn(|| exchange.next_message()).count();
        assert_eq!(waiting, MAX_FROM_ALL / MAX_MESSAGE);
        exchange.take_dropped();
        for _ in 0..20 {
            exchange.received(EndId(1), vec![0; MAX_MESSAGE]);
        }
        exchange.received(EndId(1), vec![0; MAX_MESSAGE + 1]);
        assert_eq!(exchange.take_dropped(), 21 - MAX_FROM_ONE / MAX_MESSAGE);
        exchange.received(EndId(2), vec![1]);
        assert!(std::iter::from_fn(|| exchange.next_message()).any(|(from, _)| from == EndId(2)));
        assert!(exchange.state().waiting.is_empty());
    }
}
