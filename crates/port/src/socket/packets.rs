//! Frames that arrive as packets, a whole batch of them with two system calls.

use std::array;
use std::cell::RefCell;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recv, recvmmsg};
use shmbus::MAX_BIG_FRAME;

use super::batch::Batch;

/// The most packets in a batch.
pub(super) const MAX_PACKETS: usize = 64;
/// The room for each packet in bytes: one more than the longest frame of any bus, which the port may
/// join while it has a connection.
const SLOT: usize = MAX_BIG_FRAME + 1;

thread_local! {
    /// What the kernel is given to receive packets, in memory that is kept from batch to batch.
    static HEADERS: RefCell<MultiHeaders<()>> =
        RefCell::new(MultiHeaders::preallocate(MAX_PACKETS - 1, None));
}

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
        let mut lengths = [0; MAX_PACKETS - 1];
        HEADERS.with_borrow_mut(|headers| {
            let mut slots = self.batch.bytes[slot..].chunks_mut(slot);
            let mut slices: [[IoSliceMut<'_>; 1]; MAX_PACKETS - 1] =
                array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
            // The next call finds an error again.
            let received = recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), flags, None);
            for (len, packet) in lengths.iter_mut().zip(received.into_iter().flatten()) {
                *len = packet.bytes;
            }
        });
        // After the end of a socket with connections all are empty, and the next call finds that.
        for (number, len) in (1..).zip(lengths).filter(|(_, len)| *len > 0) {
            self.batch.push(number * slot..number * slot + len);
        }
        Ok(Received::Packets)
    }
}

/// Returns whether the error says only that there is nothing, or no room, at the moment.
pub(crate) fn is_for_now(error: Errno) -> bool {
    matches!(error, Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ENOMEM)
}
