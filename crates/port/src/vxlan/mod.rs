//! VXLAN (RFC 7348): buses of several machines are one LAN, over UDP.
//!
//! Each end sends a frame to the remote that its destination is behind, and to all of them when it is
//! for a group or the remote is not known yet. What comes from a remote goes to the bus and never to
//! another remote, so every end must name every other. Linux' own `vxlan` device, VPP and most switches
//! speak the same. Nothing is encrypted, and no end proves what it is: a remote is known by its
//! address, which a router between the machines can forge.
//!
//! ```text
//! bus ── station ── Outbox ── Sender ──── UDP ──── Receiver ── station ── bus
//!                     └─ Table: which remote a station is behind ─┘
//! ```
//!
//! The remotes are configured, or they are those of an [`Overlay`], which also carries frames where
//! datagrams cannot pass.

mod admission;
mod flow;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod inbox;
mod neighbors;
mod outbox;
mod overlay;
mod port;
mod receiver;
mod remotes;
mod sender;
mod socket_options;
mod spec;
mod table;
mod trouble;
mod udp;

pub use self::header::{MAX_VNI, vni_of};
pub use self::overlay::Overlay;
pub use self::port::VxlanPort;
pub use self::remotes::Remotes;
pub use self::spec::{UDP_PORT, VxlanSpec};
pub(crate) use self::spec::{address, host};
