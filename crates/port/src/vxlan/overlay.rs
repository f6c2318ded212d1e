//! What a VXLAN asks of a network that knows its ends.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::remotes::Remotes;

/// A network that knows which ends a VXLAN has at the moment, and carries frames to those that no
/// datagram reaches.
///
/// A [`VxlanPort`](super::VxlanPort) calls all of this from the thread that serves it. No method may
/// block.
pub trait Overlay: Send + fmt::Debug {
    /// Prepares for a bus whose longest frame has so many bytes.
    fn attach(&mut self, longest: usize);

    /// Returns where datagrams are to be received; `None`: nowhere. UDP port 0 is any that is free.
    fn local(&self) -> Option<SocketAddr>;

    /// Notes where datagrams are received since [`local`](Self::local) has changed, or why they are
    /// not.
    fn set_local(&mut self, local: io::Result<Option<SocketAddr>>);

    /// Does what is due: ends come and go, or are reached another way. Passes datagrams that are no
    /// frames to `send`. Called often.
    fn advance(
        &mut self,
        now: Instant,
        remotes: &mut Remotes,
        send: &mut dyn FnMut(SocketAddr, &[u8]),
    );

    /// Returns when [`advance`](Self::advance) is to be called at the latest.
    fn due(&self) -> Option<Instant>;

    /// Takes a datagram that is no VXLAN. Returns `false` when it is none of the overlay either.
    fn take_datagram(
        &mut self,
        datagram: &[u8],
        sender: IpAddr,
        now: Instant,
        remotes: &mut Remotes,
    ) -> bool;

    /// Takes a frame for a remote. Returns `false` when it was dropped.
    fn relay(&mut self, remote: usize, frame: &[u8], now: Instant) -> bool;

    /// Gives back frames that are to leave in datagrams after all, in order, with their remotes.
    fn release(&mut self, frame: &mut dyn FnMut(usize, &[u8]));

    /// Takes the next frames that have come through the overlay, in place of the [`batch`](Self::batch)
    /// before. Returns the remote that they are from; `None` when there are none.
    fn take_batch(&mut self, remotes: &mut Remotes) -> Option<usize>;

    /// Returns the bytes of the batch, and where in them the frames are. None is shorter than an
    /// Ethernet header.
    fn batch(&self) -> (&[u8], &[Range<usize>]);

    /// Returns, once, how many frames have come that are of no use.
    fn take_dropped(&mut self) -> usize;

    /// Returns whether [`advance`](Self::advance) is to be called, or [`local`](Self::local) has changed,
    /// while there is no end yet.
    fn has_news(&self) -> bool;

    /// Returns whether frames have come already: there will be no signal for them.
    fn arm(&mut self) -> bool;

    /// Returns what polls readable when frames come or ends change.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Passes to `say` what the user should know, a line each.
    fn report(&mut self, say: &mut dyn FnMut(&str));
}
