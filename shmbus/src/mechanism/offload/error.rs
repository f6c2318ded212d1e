//! Why a frame was not finished.

use std::fmt;

use super::capabilities::Capabilities;

/// Why a frame could not be finished. The frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OffloadError {
    /// The work is not enabled.
    #[error("the interface does not do this: {missing} is not enabled")]
    NotEnabled {
        /// The flags that would have to be enabled.
        missing: Capabilities,
    },
    /// The frame is neither IPv4 nor IPv6 in Ethernet II, or has more than one tag.
    #[error(
        "nothing can be done for frames of type {0:#06x}: IPv4 and IPv6 are understood, behind one 802.1Q tag at most"
    )]
    EtherType(u16),
    /// The frame ends inside a header, or a header is shorter than any of its kind.
    #[error("the frame ends within its {0} header")]
    Truncated(Header),
    /// A header contradicts the frame's type or itself.
    #[error("the frame's {0} header is malformed")]
    Malformed(Header),
    /// The length in a header does not fit the frame.
    #[error("the {header} header speaks of {claimed} bytes, and there are {found}")]
    Length {
        /// The header.
        header: Header,
        /// The length in it, in bytes.
        claimed: usize,
        /// The bytes that are in the frame.
        found: usize,
    },
    /// The checksum of an IPv4 header was requested, and the packet is IPv6.
    #[error("IPv6 headers have no checksum")]
    NoHeaderChecksum,
    /// Work on TCP or UDP was requested for a fragment, which has only a part of it.
    #[error("the packet is a fragment: checksums of TCP and UDP cover whole packets")]
    Fragment,
    /// The packet has IPv6 extension headers: only partial checksums are finished after them.
    #[error(
        "the packet has IPv6 extension headers (the first is {0}): only partial checksums are finished there"
    )]
    ExtensionHeader(u8),
    /// The packet is neither TCP nor UDP, or is to be cut and is not TCP.
    #[error(
        "the packet's protocol is {0}: checksums are filled in for TCP and UDP, and only TCP is cut"
    )]
    Protocol(u8),
    /// A partial checksum is not where TCP or UDP have theirs.
    #[error(
        "a partial checksum from {start} on, to be put at {start}+{offset}, is not that of the packet's TCP or UDP"
    )]
    Partial {
        /// The requested start, in bytes from the start of the frame.
        start: usize,
        /// The requested place of the checksum, in bytes from there.
        offset: usize,
    },
    /// Segments of 0 bytes were requested.
    #[error("TCP cannot be cut into segments of 0 bytes")]
    EmptySegments,
    /// The packet has more payload than a super-frame may have.
    #[error("a packet with {payload} bytes of payload is not cut: it may have 65536")]
    SuperFrame {
        /// Bytes of payload.
        payload: usize,
    },
    /// A packet with SYN or RST is to be cut, and these flags may be sent only once.
    #[error("a TCP packet with SYN or RST cannot be cut into segments")]
    Uncuttable,
    /// The finished frame, or each segment, would be too long.
    #[error("the finished frame has {len} bytes: the interface sends at most {max}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The longest frame the station sends, in bytes.
        max: usize,
    },
}

/// A header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Header {
    /// Ethernet II.
    Ethernet,
    /// The tag of a virtual LAN.
    Vlan,
    /// IPv4, with its options.
    Ipv4,
    /// IPv6, its extension headers included.
    Ipv6,
    /// TCP, with its options.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Header {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ethernet => "Ethernet",
            Self::Vlan => "802.1Q",
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}
