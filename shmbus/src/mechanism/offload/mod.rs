//! Offload in software: a station that acts as a card with checksum and TCP segmentation offload.
//!
//! A user of such a card leaves checksums to it, and hands over TCP segments far longer than a
//! frame for it to cut. The station does this work in the sender's context, before a frame is put
//! on the bus: frames there are always complete.
//!
//! - [`Capabilities`] says what a station does for its user: [`StationOptions::capabilities`] and
//!   [`Station::set_capabilities`].
//! - [`Offload`] says which work on a frame is left to the station: [`Station::send_offload`], or
//!   [`TxRequest`]s for [`Station::send_offload_burst`].
//! - [`RxVerdict`] says which checksums of a received frame are right: [`Station::verify`].
//! - [`Checksum`] is the arithmetic.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("bus");
//! use shmbus::offload::{Capabilities, Offload, RxVerdict, Verdict};
//! use shmbus::{Burst, Bus, Station, StationOptions};
//!
//! let options = StationOptions::new().capabilities("udp4csum,ip4csum".parse()?);
//! let mut alice = Station::join(Bus::open_or_create(&path, 0o600)?, options.clone())?;
//! let mut bob = Station::join(Bus::open(&path)?, options)?;
//!
//! // A datagram from 10.0.0.1 to 10.0.0.2 without checksums.
//! let mut frame = Vec::new();
//! frame.extend(bob.mac().into_array());
//! frame.extend(alice.mac().into_array());
//! frame.extend(b"\x08\x00");
//! frame.extend(b"\x45\0\0\x21\0\0\x40\0\x40\x11\0\0\x0a\0\0\x01\x0a\0\0\x02");
//! frame.extend(b"\x30\x39\x30\x39\0\x0d\0\0hello");
//! alice.send_offload(&frame, Offload::new().ipv4_header().transport())?;
//!
//! let mut burst = Burst::new(32);
//! bob.wait(None)?;
//! bob.recv_burst(&mut burst);
//! let received = burst.get(0).ok_or("nothing")?;
//! let verdict = bob.verify(received.bytes);
//! assert_eq!((verdict.ip, verdict.l4), (Verdict::Good, Verdict::Good));
//! # Ok(())
//! # }
//! ```
//!
//! # What is understood
//!
//! IPv4, with options, and IPv6 in Ethernet II, with at most one 802.1Q tag. Other frames are sent
//! when no work is left on them, and received unchecked.
//!
//! # With a virtio-net header
//!
//! The header before each frame of such a device (a TAP, a virtual machine) maps to an [`Offload`]
//! field by field:
//!
//! | there | here |
//! |---|---|
//! | `VIRTIO_NET_HDR_F_NEEDS_CSUM`, `csum_start`, `csum_offset` | [`Offload::partial`]`(csum_start, csum_offset)` |
//! | `VIRTIO_NET_HDR_GSO_TCPV4` or `_TCPV6` (with or without `_ECN`), `gso_size` | [`Offload::segments`]`(gso_size)` |
//!
//! [`StationOptions::capabilities`]: crate::StationOptions::capabilities
//! [`Station::set_capabilities`]: crate::Station::set_capabilities
//! [`Station::send_offload`]: crate::Station::send_offload
//! [`Station::send_offload_burst`]: crate::Station::send_offload_burst
//! [`Station::verify`]: crate::Station::verify

mod capabilities;
mod checksum;
mod error;
mod headers;
mod request;
mod rx;
mod segmenter;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tx;

pub use capabilities::{Capabilities, ParseCapabilitiesError};
pub use checksum::Checksum;
pub use error::{Header, OffloadError};
pub use request::{Offload, TxRequest};
pub use rx::{RxVerdict, Verdict, verify};
pub use segmenter::Segmenter;
pub(crate) use tx::Finisher;
#[cfg(feature = "smoltcp")]
pub(crate) use tx::fill_in_place;
