//! What the frames of an interface begin with.

use std::fmt;

use pcap_file::DataLink;

use crate::summary::{Details, PacketDetails, PacketSummary, Summary};

/// What frames begin with, which a capture notes for each interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkType {
    /// An Ethernet header.
    #[default]
    Ethernet,
    /// The header of an IP packet, of either version (`LINKTYPE_RAW`).
    Ip,
}

impl LinkType {
    /// Returns the number of bytes before the packet.
    #[must_use]
    pub fn header_len(self) -> usize {
        match self {
            Self::Ethernet => 14,
            Self::Ip => 0,
        }
    }

    /// Returns the type as captures write it.
    pub(crate) fn data_link(self) -> DataLink {
        match self {
            Self::Ethernet => DataLink::ETHERNET,
            Self::Ip => DataLink::RAW,
        }
    }

    /// Returns the type as the compiler of filters takes it (`DLT_`).
    pub(crate) fn dlt(self) -> i32 {
        match self {
            Self::Ethernet => 1,
            Self::Ip => 12,
        }
    }
}

/// Displays a frame of a link type in one line: [`Summary`] or [`PacketSummary`].
#[derive(Debug, Clone, Copy)]
pub struct LinkSummary<'a>(pub LinkType, pub &'a [u8]);

impl fmt::Display for LinkSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            LinkType::Ethernet => Summary(self.1).fmt(f),
            LinkType::Ip => PacketSummary(self.1).fmt(f),
        }
    }
}

/// Displays the fields of a frame's IP header: [`Details`] or [`PacketDetails`].
#[derive(Debug, Clone, Copy)]
pub struct LinkDetails<'a>(pub LinkType, pub &'a [u8]);

impl fmt::Display for LinkDetails<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            LinkType::Ethernet => Details(self.1).fmt(f),
            LinkType::Ip => PacketDetails(self.1).fmt(f),
        }
    }
}
