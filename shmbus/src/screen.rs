//! What a station hears, chosen by its user frame by frame: beyond what addresses and groups can say.

use std::fmt;

use crate::format::MIN_FRAME;

/// Chooses what a station hears by the Ethernet headers of frames (both addresses and the type, [`MIN_FRAME`] bytes), and is
/// shown those of what the station sends. A switch's learning of addresses is one.
///
/// It is asked after the station's own filter, and on the data path: it should be quick.
pub trait ReceiveFilter: fmt::Debug + Send {
    /// Whether a frame is to be received. Nothing should be learnt from its header before it is [settled](Self::settled)
    /// that it is whole, and it may be asked about again.
    fn wants(&mut self, header: [u8; MIN_FRAME]) -> bool;

    /// Whether the headers of those that were asked about since the last call are whole. Otherwise they may never have been
    /// sent: forget them.
    fn settled(&mut self, whole: bool);

    /// The station has sent frames with this header, one or several with the same source. Never called with the bus locked.
    fn sent(&mut self, header: [u8; MIN_FRAME]);
}
