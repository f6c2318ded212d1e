//! What can go wrong, by who can do something about it.

use std::io;
use std::path::PathBuf;

use crate::face::options::Mode;

/// Something the peer did that the protocol does not allow. The link is closed, and this text is the reason sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
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

/// What a peer can do wrong with a ring; part of [`Fault::Ring`].
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

/// Why a peer was turned away, or why a client could not get a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer broke the protocol.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Server: no interface has this id.
    #[error("no interface with id {id} on this socket")]
    UnknownId {
        /// The id asked for.
        id: u32,
    },
    /// Server: the interface has a peer already.
    #[error("interface {id} is already connected")]
    Busy {
        /// The id asked for.
        id: u32,
    },
    /// Server: the peer's mode is not the interface's.
    #[error("interface mode {got} does not match, {want} is wanted")]
    ModeMismatch {
        /// What the peer sent: 0 Ethernet, 1 IP, 2 punt/inject.
        got: u8,
        /// The interface's mode.
        want: Mode,
    },
    /// Server: the peer's secret is not the interface's.
    #[error("wrong secret")]
    WrongSecret,
    /// The other side did not finish connecting in time.
    #[error("not connected in time")]
    Timeout,
    /// Server: the connection made way for newer ones, having asked for no interface yet.
    #[error("too many connections without INIT")]
    Crowded,
    /// The other side said no, in these words.
    #[error("the other side refused: {reason}")]
    Peer {
        /// What it said, made printable.
        reason: String,
    },
    /// The other side closed the connection without a word.
    #[error("the other side closed the connection before it was up")]
    Closed,
    /// This side changed its mind, in these words.
    #[error("given up here: {reason}")]
    Local {
        /// The reason that was sent to the peer.
        reason: String,
    },
    /// Client: there was nobody to connect to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// This side could not do its part.
    #[error("out of resources: {0}")]
    System(#[from] io::Error),
}

/// Why no server was reached. A client with a reconnect period tries again by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The socket's directory does not exist.
    #[error("cannot connect to {socket}: there is no directory {}", directory.display())]
    NoDirectory {
        /// The address tried.
        socket: String,
        /// The directory that is missing.
        directory: PathBuf,
    },
    /// There is no such socket.
    #[error("cannot connect to {socket}: there is no such socket, is the server running?")]
    NoSocket {
        /// The address tried.
        socket: String,
    },
    /// The socket's file is there, but nobody listens.
    #[error("cannot connect to {socket}: nobody listens, has the server died?")]
    NobodyListens {
        /// The address tried.
        socket: String,
    },
    /// This user may not connect there.
    #[error("cannot connect to {socket}: permission denied, check the socket's owner and mode")]
    Denied {
        /// The address tried.
        socket: String,
    },
    /// There is something at this address, but it is no memif socket (`SOCK_SEQPACKET`).
    #[error("cannot connect to {socket}: it is not a memif socket")]
    NotMemif {
        /// The address tried.
        socket: String,
    },
    /// More connections wait there than the server takes.
    #[error("cannot connect to {socket}: the server is too busy to answer")]
    Overrun {
        /// The address tried.
        socket: String,
    },
    /// Anything else.
    #[error("cannot connect to {socket}")]
    Other {
        /// The address tried.
        socket: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Disconnect {
    /// The peer said so, in these words.
    #[error("the peer disconnected: {reason}")]
    Peer {
        /// What it said, made printable.
        reason: String,
    },
    /// The peer closed the connection without a word, or died.
    #[error("the peer is gone")]
    Closed,
    /// The peer broke the protocol, in a message or in shared memory.
    #[error("the peer broke the protocol: {0}")]
    Fault(#[from] Fault),
    /// This side ended it, in these words.
    #[error("disconnected here: {reason}")]
    Local {
        /// The reason that was sent to the peer.
        reason: String,
    },
}

/// Why a queue cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The peer broke the protocol; the endpoint's next `ready()` closes the link and tells it why.
    #[error("the peer broke the protocol: {0}")]
    Peer(#[from] Fault),
    /// The link is closed; a new one comes with the next `Connected` event.
    #[error("the link is down")]
    Down,
}

/// Why a server could not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A live server listens there.
    #[error("{socket} is in use by a running server; stop it or choose another path")]
    InUse {
        /// The address asked for.
        socket: String,
    },
    /// There is a file, and it is not a socket.
    #[error("{} exists and is not a socket; remove it or choose another path", path.display())]
    NotASocket {
        /// The path asked for.
        path: PathBuf,
    },
    /// The directory is missing.
    #[error("cannot create {}: there is no directory {}", path.display(), directory.display())]
    NoDirectory {
        /// The path asked for.
        path: PathBuf,
        /// The directory to create first.
        directory: PathBuf,
    },
    /// The path does not fit into a socket address, together with the short temporary name the socket is made under.
    #[error("{} is too long for a socket; choose a shorter path", path.display())]
    TooLong {
        /// The path asked for.
        path: PathBuf,
    },
    /// Another process has held the directory's lock for seconds.
    #[error("cannot replace sockets in {}: another process keeps the directory locked (flock)", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// A system call failed.
    #[error("cannot listen on {socket}: {step} failed")]
    System {
        /// The address asked for.
        socket: String,
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Options that do not go together, or a name in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// A secret has 1 to 24 bytes and no NUL.
    #[error("a secret has 1 to 24 bytes and no NUL byte; this one has {len} bytes")]
    Secret {
        /// Its length in bytes.
        len: usize,
    },
    /// Ring sizes are 2^1 to 2^14.
    #[error("log2 of the ring size must be in 1..=14, not {0}")]
    RingSize(u8),
    /// Buffers have 64 to 65,535 bytes.
    #[error("the buffer size must be in 64..=65535 bytes, not {0}")]
    BufferSize(u32),
    /// There are 1 to 255 queues each way.
    #[error("the number of {direction} queues must be in 1..=255, not 0")]
    Queues {
        /// `"rx"` or `"tx"`.
        direction: &'static str,
    },
    /// One region cannot hold this: descriptors reach 4 GiB.
    #[error(
        "queues, ring size and buffer size need {bytes} bytes, and 4 GiB is the most; reduce one of them"
    )]
    Memory {
        /// What the options ask for, in bytes.
        bytes: u64,
    },
    /// The server has an interface with this id.
    #[error("this socket already has an interface with id {0}")]
    Duplicate(u32),
    /// A socket address that is empty, too long, or holds a NUL.
    #[error("bad socket address {address:?}: {problem}")]
    Address {
        /// The address given.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A failure of this side's own event handling; the endpoint is of no more use.
#[derive(Debug, thiserror::Error)]
#[error("memif endpoint: {step} failed")]
pub struct Error {
    /// What was being done.
    step: &'static str,
    /// What the system said.
    source: io::Error,
}

impl Error {
    /// For `map_err`: keeps the cause and names the step.
    pub(crate) fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self { step, source: source.into() }
    }
}
