//! Trunks: buses of many machines as one LAN, where the machines find each other.
//!
//! Each end joins a network of [Zenoh](https://zenoh.io) and says there who it is and where it receives
//! datagrams. Between ends that reach each other frames are VXLAN's datagrams, as those of a `vxlan:`
//! port. Where no datagram passes (NAT, firewalls) they are messages of Zenoh. The way changes while
//! frames flow, and each flow stays in order.
//!
//! ```text
//! bus ── station ── VxlanPort ──── UDP ─────────────────────────── other ends
//!                       │ Overlay
//!                      Ends ── Exchange ── thread ── Zenoh ── router ── other ends
//!                       └─ Outgoing, Incoming: the way to and from each end (way.rs)
//! ```
//!
//! What decides is without I/O and without Zenoh; the feature `zenoh` adds the network.

#![deny(unsafe_code)]

#[cfg(any(feature = "zenoh", test, fuzzing))]
mod batch;
#[cfg(feature = "zenoh")]
mod config;
#[cfg(any(feature = "zenoh", test, fuzzing))]
mod ends;
#[cfg(any(feature = "zenoh", test, fuzzing))]
mod exchange;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "zenoh")]
mod local_address;
#[cfg(feature = "zenoh")]
mod open;
#[cfg(any(feature = "zenoh", test, fuzzing))]
mod probe;
#[cfg(feature = "zenoh")]
mod session;
#[cfg(any(feature = "zenoh", test, fuzzing))]
mod token;
#[cfg(any(feature = "zenoh", test, fuzzing))]
mod way;

#[cfg(feature = "zenoh")]
pub use self::open::open;
