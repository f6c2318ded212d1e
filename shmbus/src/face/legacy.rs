//! Bus files that cannot be joined, read as they lie: version 2 of the format, and the other byte
//! order.
//!
//! No process writes to such a file: it was copied from elsewhere, or left behind long ago. So it
//! is read once, as a whole, and all of this works on the copy.

use std::path::Path;

use crate::error::OpenError;
use crate::face::burst::Frame;
use crate::face::bus::BusState;
use crate::format::{
    BUS_SIZE, Field32, Field64, HEADER_SIZE, MAGIC, MAX_FRAME, OLD_PACKET_HEADER_SIZE, OLD_VERSION,
    PACKET_HEADER_SIZE, VERSION,
};
use crate::mechanism::frame::FrameInfo;
use crate::system::file;

/// The frames in a bus file that no process uses, of version 2 or 3 and of either byte order.
///
/// It shows what the file held when it was opened. A bus that can be joined is better read with a
/// [`Tap`](crate::Tap), which can read while stations write.
///
/// ```no_run
/// # fn main() -> Result<(), shmbus::OpenError> {
/// use shmbus::LegacyDump;
///
/// for frame in LegacyDump::open("from-a-big-endian-board.bus")?.frames() {
///     println!("{} bytes at {} s", frame.bytes.len(), frame.info.seconds);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LegacyDump {
    state: BusState,
    /// The ring, and its beginning once more, so that a frame around the end lies in one piece.
    ring: Vec<u8>,
    packets: Vec<Packet>,
    corrupt: bool,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    len: usize,
    info: FrameInfo,
}

impl LegacyDump {
    /// Reads a bus file.
    ///
    /// # Errors
    /// When it cannot be opened or is no bus of the usual size and a known version; see
    /// [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        Self::parse(path, &file::read_whole(path, BUS_SIZE)?)
    }

    /// Reads what a file at `path` holds: the header of a bus, and a ring that has room for the
    /// longest packet.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, OpenError> {
        let magic = Order::Ours.u32(bytes, Field32::Magic as usize);
        let order = match magic {
            MAGIC => Order::Ours,
            _ if magic == MAGIC.swap_bytes() => Order::Other,
            _ => return Err(OpenError::WrongMagic { path: path.to_owned(), magic }),
        };
        match order.u32(bytes, Field32::Version as usize) {
            0 | VERSION => Ok(Self::read(bytes, order, PACKET_HEADER_SIZE)),
            OLD_VERSION => Ok(Self::read(bytes, order, OLD_PACKET_HEADER_SIZE)),
            version => Err(OpenError::WrongVersion { path: path.to_owned(), version }),
        }
    }

    fn read(file: &[u8], order: Order, packet_header: u32) -> Self {
        let (header, ring) = file.split_at(HEADER_SIZE);
        let size = ring.len();
        let mut ring = ring.to_vec();
        ring.extend_from_within(..PACKET_HEADER_SIZE as usize + MAX_FRAME);
        let state = BusState {
            version: order.u32(header, Field32::Version as usize),
            generation: order.u64(header, Field64::Generation as usize),
            first: order.u32(header, Field32::First as usize),
            last: order.u32(header, Field32::Last as usize),
            locked: order.u32(header, Field64::Lock as usize) != 0,
            ring_size: u32::try_from(size).unwrap_or(u32::MAX),
        };
        let mut dump = Self { state, ring, packets: Vec::new(), corrupt: false };
        dump.corrupt = dump.walk(order, packet_header as usize, size).is_none();
        dump
    }

    /// Goes from packet to packet up to the newest; `None` when they do not lead there.
    fn walk(&mut self, order: Order, packet_header: usize, size: usize) -> Option<()> {
        let (first, last) = (self.state.first as usize, self.state.last as usize);
        if first > size || last >= size {
            return None;
        }
        // The size itself is the initial value of `first`, and stands for 0.
        let mut at = first % size;
        let mut left = size;
        loop {
            let header = &self.ring[at..][..packet_header];
            let len = order.u32(header, 0) as usize;
            left = left.checked_sub(packet_header + len)?;
            if len > MAX_FRAME {
                return None;
            }
            if len > 0 {
                let offset = u32::try_from((at + packet_header) % size).ok()?;
                let info = FrameInfo {
                    seconds: order.u32(header, 4),
                    microseconds: order.u32(header, 8),
                    sender: if packet_header < 24 { 0 } else { order.u64(header, 16) },
                    offset,
                };
                self.packets.push(Packet { len, info });
            }
            if at == last {
                return Some(());
            }
            at = (at + packet_header + len) % size;
        }
    }

    /// Returns the header's values, in the byte order of this machine.
    #[must_use]
    pub fn state(&self) -> BusState {
        self.state
    }

    /// Returns the frames, oldest first, including those shorter than an Ethernet header. Version 2
    /// has no senders: theirs is 0.
    #[must_use]
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Frame<'_>> {
        self.packets.iter().map(|packet| Frame {
            bytes: &self.ring[packet.info.offset as usize..][..packet.len],
            info: packet.info,
        })
    }

    /// Returns whether the file is damaged: what follows the last of [`frames`](Self::frames) is no
    /// packet, or the header points outside the ring.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        self.corrupt
    }
}

/// The order in which a machine writes the bytes of a number.
#[derive(Clone, Copy, Debug)]
enum Order {
    Ours,
    Other,
}

impl Order {
    /// The number at `at`, which lies inside.
    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let mut number = [0; 4];
        number.copy_from_slice(&bytes[at..at + 4]);
        match self {
            Self::Ours => u32::from_ne_bytes(number),
            Self::Other => u32::from_ne_bytes(number).swap_bytes(),
        }
    }

    fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        match self {
            Self::Ours => u64::from_ne_bytes(number),
            Self::Other => u64::from_ne_bytes(number).swap_bytes(),
        }
    }
}
