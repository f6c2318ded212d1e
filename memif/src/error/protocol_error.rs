//! What a peer can do wrong.

/// Something the peer did that the protocol does not allow. The link is closed, and this text is the reason sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A packet on the control channel that is no message.
    #[error("message of {bytes} bytes, not 128")]
    MessageLength {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A message of a type that does not exist.
    #[error("unknown message type {kind}")]
    MessageType {
        /// The type sent.
        kind: u16,
    },
    /// A message that does not belong at this point of the conversation.
    #[error("{message} out of turn, {state}")]
    OutOfTurn {
        /// The message's name in the protocol.
        message: &'static str,
        /// Where the conversation is.
        state: &'static str,
    },
    /// A message with too many or too few file descriptors.
    #[error("{message} with {got} file descriptors, not {want}")]
    FdCount {
        /// The message's name in the protocol.
        message: &'static str,
        /// Descriptors that came with it.
        got: usize,
        /// Descriptors it needs.
        want: usize,
    },
    /// Another protocol version, as `0xMMmm`.
    #[error("version {min:#06x} to {max:#06x}, not 0x0200")]
    Version {
        /// Lowest version the peer speaks.
        min: u16,
        /// Highest version the peer speaks.
        max: u16,
    },
    /// Regions must be announced as 0, 1, 2, ...
    #[error("region index {got}, not {want}")]
    RegionIndex {
        /// The index announced.
        got: u16,
        /// The one that was due.
        want: u16,
    },
    /// More regions than a link may have.
    #[error("more than {max} regions")]
    RegionCount {
        /// How many are allowed.
        max: u16,
    },
    /// A region of no bytes, or beyond what is mapped for one link.
    #[error("region {index}: size of {size} bytes is not in 1..={max}")]
    RegionSize {
        /// The region.
        index: u16,
        /// The size announced, in bytes.
        size: u64,
        /// The most that was possible, in bytes.
        max: u64,
    },
    /// A region's file that is neither a memfd nor on tmpfs or hugetlbfs: its page faults could block for ever.
    #[error("region {index}: its file is not memory (no answer to F_GET_SEALS)")]
    RegionNotMemory {
        /// The region.
        index: u16,
    },
    /// A region announced larger than its file.
    #[error("region {index}: {size} bytes announced, but the file has {file}")]
    RegionBeyondFile {
        /// The region.
        index: u16,
        /// The size announced, in bytes.
        size: u64,
        /// The file's size, in bytes.
        file: u64,
    },
    /// A region whose file could not be mapped for reading and writing.
    #[error("region {index}: mapping it failed: {errno}")]
    RegionMap {
        /// The region.
        index: u16,
        /// The system's words for it.
        errno: String,
    },
    /// A region whose file can still shrink, on a server that refuses such.
    #[error("region {index}: its file is not sealed against shrinking")]
    RegionUnsealed {
        /// The region.
        index: u16,
    },
    /// A region whose file was cut short while it was in use, or whose pages could not be had. It is known after they
    /// were touched, and only in a program that [survives it](crate::survive_truncation).
    #[error("region {index}: its memory was taken away while in use")]
    RegionLost {
        /// The region.
        index: u16,
    },
    /// A link without a ring in one direction.
    #[error("no {direction} ring")]
    NoRing {
        /// `"S2M"` (client to server) or `"M2S"`.
        direction: &'static str,
    },
    /// Something wrong with one ring or what lies in it.
    #[error("{direction} ring {index}: {cause}")]
    Ring {
        /// `"S2M"` (client to server) or `"M2S"`.
        direction: &'static str,
        /// The ring's index in that direction.
        index: u16,
        /// What is wrong.
        cause: RingFault,
    },
}

impl ProtocolError {
    /// A short name for the check that failed, to count by. Names stay as they are when texts change.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::MessageLength { .. } => "message-length",
            Self::MessageType { .. } => "message-type",
            Self::OutOfTurn { .. } => "out-of-turn",
            Self::FdCount { .. } => "fd-count",
            Self::Version { .. } => "version",
            Self::RegionIndex { .. } => "region-index",
            Self::RegionCount { .. } => "region-count",
            Self::RegionSize { .. } => "region-size",
            Self::RegionNotMemory { .. } => "region-not-memory",
            Self::RegionBeyondFile { .. } => "region-beyond-file",
            Self::RegionMap { .. } => "region-map",
            Self::RegionUnsealed { .. } => "region-unsealed",
            Self::RegionLost { .. } => "region-lost",
            Self::NoRing { .. } => "no-ring",
            Self::Ring { cause, .. } => cause.name(),
        }
    }
}

impl RingFault {
    fn name(&self) -> &'static str {
        match self {
            Self::Index { .. } => "ring-order",
            Self::Count { .. } => "ring-count",
            Self::Size { .. } => "ring-size",
            Self::PrivateHeader { .. } => "ring-private-header",
            Self::Region { .. } => "ring-region",
            Self::Outside => "ring-outside",
            Self::Unaligned { .. } => "ring-unaligned",
            Self::Overlap => "ring-overlap",
            Self::Cookie { .. } => "ring-cookie",
            Self::NotEventFd => "ring-not-eventfd",
            Self::Jump { .. } => "ring-jump",
            Self::BufferOutside { .. } => "buffer-outside",
            Self::Empty { .. } => "buffer-empty",
            Self::Overlong { .. } => "buffer-overlong",
            Self::OpenChain { .. } => "chain-open",
        }
    }
}

/// What a peer can do wrong with a ring; part of [`ProtocolError::Ring`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingFault {
    /// Rings must be announced as 0, 1, 2, ... in each direction.
    #[error("not in turn, {want} was due")]
    Index {
        /// The index that was due.
        want: u16,
    },
    /// More rings than this interface was made for.
    #[error("only {max} are allowed here")]
    Count {
        /// How many are allowed in this direction.
        max: u16,
    },
    /// A ring larger than any.
    #[error("log2 size {log2_size} is too large")]
    Size {
        /// The size announced, as a power of two.
        log2_size: u8,
    },
    /// Private headers are part of the format but of no implementation.
    #[error("private header of {bytes} bytes")]
    PrivateHeader {
        /// Its size.
        bytes: u16,
    },
    /// The ring's region was not announced.
    #[error("region {region} does not exist")]
    Region {
        /// The region named.
        region: u16,
    },
    /// The ring does not lie wholly in its region.
    #[error("outside its region")]
    Outside,
    /// The ring is not on a 16-byte border.
    #[error("offset {offset} is not a multiple of 16")]
    Unaligned {
        /// The offset announced.
        offset: u32,
    },
    /// The ring shares memory with another.
    #[error("overlaps another ring")]
    Overlap,
    /// The ring's memory does not begin with the cookie.
    #[error("cookie {cookie:#x} is wrong")]
    Cookie {
        /// What was there.
        cookie: u32,
    },
    /// The ring's file descriptor is no eventfd.
    #[error("its descriptor is no eventfd")]
    NotEventFd,
    /// The peer's index went back, or beyond the ring.
    #[error("index jumped to {index}")]
    Jump {
        /// Its new value.
        index: u16,
    },
    /// A descriptor points outside the link's regions.
    #[error("slot {slot}: buffer outside its region")]
    BufferOutside {
        /// The descriptor's place in the ring.
        slot: u16,
    },
    /// A descriptor holds no bytes, or offers no room.
    #[error("slot {slot}: length 0")]
    Empty {
        /// The descriptor's place in the ring.
        slot: u16,
    },
    /// A packet longer than the buffer it was to be written to.
    #[error("slot {slot}: {length} bytes in a buffer of {room}")]
    Overlong {
        /// The descriptor's place in the ring.
        slot: u16,
        /// The length claimed, in bytes.
        length: u32,
        /// The buffer's size, in bytes.
        room: u32,
    },
    /// A chained packet that goes on behind the last filled descriptor.
    #[error("slot {slot}: the packet goes on, but nothing follows")]
    OpenChain {
        /// The last filled descriptor's place in the ring.
        slot: u16,
    },
}
