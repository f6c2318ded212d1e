//! Frames that arrive as packets, a whole batch of them with two system calls.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recv, recvmmsg};
use shmbus::MAX_BIG_FRAME;

use super::batch::Batch;

/// The most packets in a batch.
const MAX_PACKETS: usize = 64;
/// The room for each packet in bytes: one more than the longest frame of any bus, which the port may
/// join while it has a connection.
const SLOT: usize = MAX_BIG_FRAME + 1;

/// See the module.
#[derive(Debug)]
pub(super) struct Packets {
    /// The packets that arrived. One that was too long is a byte longer than the longest.
    batch: Batch,
}

/// What became of a look at the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// There may be packets.
    Packets,
    /// An empty packet came first: the end, on a socket with connections.
    Empty,
}

impl Packets {
    /// Makes a buffer for packets as long as any bus carries. Longer ones arrive cut, and are a byte
    /// too long then as well.
    pub(super) fn new() -> Self {
        Self { batch: Batch::new(MAX_PACKETS * SLOT, MAX_PACKETS) }
    }

    pub(super) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Receives what has arrived, in place of the last batch.
    ///
    /// # Errors
    /// The system's error; `EAGAIN` when there is nothing.
    pub(super) fn fill(&mut self, socket: BorrowedFd<'_>) -> nix::Result<Received> {
        self.batch.clear();
        let (slot, flags) = (SLOT, MsgFlags::MSG_DONTWAIT);
        // Most calls find nothing, and this one needs no preparation.
        let first = recv(socket.as_raw_fd(), &mut self.batch.bytes[..slot], flags)?;
        if first == 0 {
            return Ok(Received::Empty);
        }
        self.batch.push(0..first);
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.batch.bytes[slot..].chunks_mut(slot).map(|slot| [IoSliceMut::new(slot)]).collect();
        let mut headers = MultiHeaders::<()>::preallocate(slices.len(), None);
        let lengths: Vec<usize> =
            match recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None) {
                Ok(packets) => packets.map(|packet| packet.bytes).collect(),
                // The next call finds it again.
                Err(_) => Vec::new(),
            };
        // After the end of a socket with connections all are empty, and the next call finds that.
        for (number, len) in (1..).zip(lengths).filter(|(_, len)| *len > 0) {
            self.batch.push(number * slot..number * slot + len);
        }
        Ok(Received::Packets)
    }
}

/// Returns whether the error says only that there is nothing, or no room, at the moment.
pub(super) fn is_for_now(error: Errno) -> bool {
    matches!(error, Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ENOMEM)
}
