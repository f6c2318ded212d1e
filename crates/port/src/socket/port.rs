//! One connection, or one after another, as a port.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use memif::RxMode;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use shmbus::offload::{Offload, TxRequest};
use shmbus::{MIN_FRAME, SendError, Station};

use super::connection::{Connection, End, Wire};
use super::connection_source::ConnectionSource;
use super::framing::Framing;
use super::mailbox::Mailbox;
use crate::error::PortError;
use crate::port::{BURST, Moved, NotSent, Port, fits_untagged};

/// How long a peer may leave the socket full before that is reported.
const REPORT_FULL_AFTER: Duration = Duration::from_secs(1);

/// One socket as a port.
#[derive(Debug)]
pub struct SocketPort {
    name: String,
    framing: Framing,
    mailbox: Arc<Mailbox>,
    /// Makes new connections. `None` when there is only the one the port began with.
    connection_source: Option<ConnectionSource>,
    connection: Option<Connection>,
    /// Frames that were lost while no frame could pass, until they are counted.
    lost: usize,
    /// Why the connection ended, until the next service.
    end: Option<End>,
    /// Why no other connection follows.
    closed: Option<String>,
    /// Readable when a connection is offered or the peer has sent something; also when the peer has
    /// made room, while that is waited for.
    epoll: Epoll,
    waits_for_room: bool,
    /// Since when the socket is full, and whether that was reported.
    full: Option<(Instant, bool)>,
    /// The socket was full for long.
    stalled: bool,
}

/// The peer leaves the socket full.
#[derive(Debug, thiserror::Error)]
#[error("the peer does not read; frames for it wait for 1 s, then they are dropped")]
struct DoesNotRead;

impl SocketPort {
    /// Makes a port that gets its connections from `connection_source`, through `mailbox`.
    pub(super) fn new(
        name: String,
        framing: Framing,
        mailbox: Arc<Mailbox>,
        connection_source: Option<ConnectionSource>,
    ) -> Result<Self, PortError> {
        let failed = |error| PortError::system(format!("cannot watch {name}"), error);
        let epoll = Epoll::new(nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        epoll.add(mailbox.wake_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0)).map_err(failed)?;
        Ok(Self {
            name,
            framing,
            mailbox,
            connection_source,
            connection: None,
            lost: 0,
            end: None,
            closed: None,
            epoll,
            waits_for_room: false,
            full: None,
            stalled: false,
        })
    }

    fn connect(&mut self, wire: Wire) {
        match self.epoll.add(&wire.input, input_events(&wire, false)) {
            Ok(()) => {
                tracing::info!(port = self.name, "connected");
                self.connection = Some(Connection::new(wire, self.framing));
                (self.full, self.waits_for_room, self.stalled) = (None, false, false);
            }
            Err(error) => self.end = Some(End::Lost(error)),
        }
    }

    fn disconnect(&mut self, end: &End) {
        tracing::info!(port = self.name, %end, "disconnected");
        if let Some(connection) = self.connection.take() {
            // They may be open elsewhere, and would be watched for ever.
            let wire = connection.wire();
            let _ = self.epoll.delete(&wire.input);
            if let Some(output) = &wire.output {
                let _ = self.epoll.delete(output);
            }
        }
        if matches!(end, End::Closed) {
            self.mailbox.clear_reports();
        } else {
            self.mailbox.report(end);
        }
        if self.connection_source.is_some() {
            self.mailbox.free();
        } else {
            self.closed = Some(end.to_string());
        }
    }

    /// Watches whether the peer makes room, or stops that.
    fn wait_for_room(&mut self, waits: bool) {
        if self.waits_for_room == waits {
            return;
        }
        let Some(connection) = &self.connection else { return };
        self.waits_for_room = waits;
        let wire = connection.wire();
        let watched = match &wire.output {
            None => self.epoll.modify(&wire.input, &mut input_events(wire, waits)),
            // A pipe without a reader polls readable all the time, so it is watched only meanwhile.
            Some(output) if waits => {
                self.epoll.add(output, EpollEvent::new(EpollFlags::EPOLLOUT, 0))
            }
            Some(output) => self.epoll.delete(output),
        };
        if let Err(error) = watched {
            tracing::debug!(port = self.name, %error, "room is found a little late");
        }
    }

    /// Writes what the socket takes.
    fn flush(&mut self) -> Moved {
        let Some(connection) = &mut self.connection else { return Moved::default() };
        match connection.flush() {
            Ok(flushed) => {
                self.note_room(flushed.blocked);
                Moved {
                    dropped: flushed.refused,
                    too_long: flushed.refused,
                    blocked: flushed.blocked,
                    ..Moved::default()
                }
            }
            Err(end) => {
                self.end = Some(end);
                Moved::default()
            }
        }
    }

    #[inline]
    fn note_room(&mut self, blocked: bool) {
        if !blocked {
            self.full = None;
        } else if let Some((since, reported)) = &mut self.full {
            if !*reported && since.elapsed() >= REPORT_FULL_AFTER {
                (*reported, self.stalled) = (true, true);
            }
        } else {
            self.full = Some((Instant::now(), false));
        }
    }
}

/// Returns the events of the descriptor that frames are read from. A datagram socket that is not
/// connected always has room, as far as the kernel says: there the node tries again.
fn input_events(wire: &Wire, waits_for_room: bool) -> EpollEvent {
    let writes_there = wire.output.is_none() && wire.to.is_none() && waits_for_room;
    let out = if writes_there { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
    EpollEvent::new(EpollFlags::EPOLLIN | out, 0)
}

impl Port for SocketPort {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_up(&self) -> bool {
        self.connection.is_some() && self.end.is_none()
    }

    fn wants_service(&self) -> bool {
        self.end.is_some() || self.stalled || self.mailbox.has_offer()
    }

    fn service(&mut self, _report: &mut dyn FnMut(&str)) {
        if let Some(end) = self.end.take() {
            self.disconnect(&end);
        }
        if std::mem::take(&mut self.stalled) {
            self.mailbox.report(&DoesNotRead);
        }
        let offered = self.mailbox.take();
        if self.connection.is_none()
            && let Some(wire) = offered
        {
            self.connect(wire);
        }
    }

    fn closed(&self) -> Option<String> {
        self.closed.clone()
    }

    fn refusals(&self) -> u64 {
        self.mailbox.refusals()
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        let Some(connection) = &mut self.connection else { return Ok(Moved::default()) };
        if let Err(end) = connection.receive() {
            // What a wrong length is about is lost.
            let dropped = std::mem::take(&mut self.lost) + end.frames_lost();
            self.end = Some(end);
            return Ok(Moved { dropped, ..Moved::default() });
        }
        let batch = connection.batch();
        if batch.is_empty() {
            return Ok(Moved::default());
        }
        let longest = station.max_frame();
        let fits = |frame: &&[u8]| (MIN_FRAME..=longest).contains(&frame.len());
        let (sent, error) = match station.send_burst(batch.frames().filter(fits)) {
            Ok(_) => (usize::MAX, None),
            // The rest waits here, and more at the peer.
            Err(SendError::Busy { sent, source }) => (sent, Some(SendError::Busy { sent, source })),
            Err(source) => (0, Some(source)),
        };
        let mut moved = Moved { dropped: std::mem::take(&mut self.lost), ..Moved::default() };
        let waits = matches!(error, Some(SendError::Busy { .. }));
        let mut consumed = 0;
        for frame in batch.frames() {
            if !fits(&frame) {
                moved.dropped += 1;
                moved.too_long += usize::from(frame.len() > longest);
                moved.tagged += usize::from(frame.len() > longest && fits_untagged(frame, longest));
            } else if moved.frames < sent {
                moved.frames += 1;
            } else if waits {
                break;
            } else {
                moved.dropped += 1;
            }
            consumed += 1;
        }
        batch.consume(consumed);
        error.map_or(Ok(moved), |source| Err(NotSent { moved, source }))
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        let Some(connection) = &self.connection else { return Moved::default() };
        let mut moved = Moved::default();
        if !connection.outbox.is_empty() {
            moved = self.flush();
            if moved.blocked || self.end.is_some() {
                return moved;
            }
        }
        let Some(connection) = &mut self.connection else { return moved };
        station.recv_into(&mut connection.outbox, BURST);
        let (frames, too_long) = connection.outbox.counts();
        if frames + too_long == 0 {
            return moved;
        }
        let flushed = self.flush();
        Moved {
            frames: frames - flushed.dropped,
            dropped: moved.dropped + flushed.dropped + too_long,
            too_long: moved.too_long + flushed.too_long + too_long,
            tagged: 0,
            withheld: 0,
            queued: 0,
            blocked: flushed.blocked,
        }
    }

    fn put(&mut self, frame: &[u8]) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        if !connection.outbox.push(frame) {
            return false;
        }
        self.flush();
        self.end.is_none()
    }

    fn put_burst<'f>(&mut self, frames: &mut dyn Iterator<Item = &'f [u8]>) -> usize {
        let Some(connection) = &self.connection else { return 0 };
        if !connection.outbox.is_empty() && (self.flush().blocked || self.end.is_some()) {
            return 0;
        }
        let Some(connection) = &mut self.connection else { return 0 };
        let outbox = &mut connection.outbox;
        let taken = frames.take_while(|frame| outbox.push(frame)).count();
        if taken > 0 {
            self.flush();
        }
        taken
    }

    fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        let Some(connection) = &mut self.connection else { return 0 };
        if let Err(end) = connection.receive() {
            self.lost += end.frames_lost();
            self.end = Some(end);
            return 0;
        }
        let batch = connection.batch();
        let taken =
            batch.frames().map(|taken| frame(TxRequest::new(taken, Offload::new()))).count();
        batch.consume(taken);
        taken
    }

    fn dropped(&mut self) -> Moved {
        Moved { dropped: std::mem::take(&mut self.lost), ..Moved::default() }
    }

    fn rx_mode(&self) -> RxMode {
        RxMode::Adaptive
    }

    fn arm(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let waits = !connection.outbox.is_empty();
        let ready = connection.has_frames();
        self.wait_for_room(waits);
        ready || self.end.is_some()
    }

    fn disarm(&mut self) {
        self.wait_for_room(false);
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        watch(self.epoll.0.as_fd());
    }
}
