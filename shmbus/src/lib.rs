//! Ethernet LANs in one shared file.
//!
//! A bus is a regular file of 1 MiB that every station maps. Any process that may open the file is
//! on the LAN: no daemon, no root, no global names. The format is that of NetBSD's `shmif(4)`, so
//! rump kernels can share a bus with stations of this crate.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("bus");
//! use shmbus::{Burst, Bus, Station, StationOptions};
//!
//! let mut alice = Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new())?;
//! let mut bob = Station::join(Bus::open(&path)?, StationOptions::new())?;
//!
//! let mut frame = Vec::new();
//! frame.extend(bob.mac().into_array());
//! frame.extend(alice.mac().into_array());
//! frame.extend(b"\x88\xb5hello, Bob");
//! alice.send(&frame)?;
//!
//! let mut burst = Burst::new(32);
//! bob.wait(None)?;
//! bob.recv_burst(&mut burst);
//! assert_eq!(burst.iter().next().map(|received| received.bytes.to_vec()), Some(frame));
//! # Ok(())
//! # }
//! ```
//!
//! - [`Bus`] is the file: opened, checked, made.
//! - [`Station`] sends and receives.
//! - [`Tap`] sees every frame and changes nothing.
//! - [`LegacyDump`] reads files that cannot be joined: older ones, and those of the other byte
//!   order.
//! - [`offload`] lets a station act as a card that computes checksums and cuts TCP segments.
//! - With the feature `smoltcp`, `phy` makes a station a device of that IP stack; with `tokio`, a
//!   task awaits frames.
//!
//! # What is promised
//!
//! Any process that may write the file can forge frames and deny service. Against that, a process
//! that uses this crate stays memory-safe, does not hang, and does not hand up a frame that no
//! station wrote. A station that dies, even with the lock, takes at most its unfinished burst with
//! it.
//!
//! The file should keep its size while it is mapped: access beyond the end of a file that was cut
//! short raises `SIGBUS`. A program that calls [`survive_truncation`] once gets an error instead.
//!
//! # Floors
//!
//! Lower modules know nothing of upper ones; `error` belongs to all: `format` (what lies in the
//! file), `memory` (the mapping: all `unsafe` is there), `mechanism` (the ring, frames, filters,
//! offload; no I/O), `system` (files, file locks, inotify), `face` (what is exported here).

mod error;
mod face;
mod format;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod mechanism;
mod memory;
mod system;

pub use error::{Busy, LockFound, OpenError, SendError, WaitError, WakeError};
pub use face::burst::{Burst, Frame, Frames};
pub use face::bus::{Bus, BusOptions, BusState};
pub use face::flow_queue::FlowQueue;
pub use face::legacy::LegacyDump;
#[cfg(feature = "smoltcp")]
pub use face::phy;
pub use face::repair::{Repair, RepairError, RingFound, repair};
pub use face::station::{Station, StationOptions, random_mac};
pub use face::stats::Stats;
pub use face::tap::Tap;
#[cfg(feature = "tokio")]
pub use face::tokio;
pub use format::member::{MAX_MEMBER_NAME, Member};
pub use format::{
    BIG_BUS_SIZE, BUS_SIZE, MAX_BIG_FRAME, MAX_BUS_SIZE, MAX_FRAME, MIN_FRAME, MIN_MTU,
};
pub use macaddr::MacAddr6;
pub use mapguard::install as survive_truncation;
pub use mechanism::frame::{FrameInfo, FrameSink, FrameSlot, FrameSource, RingFrame};
pub use mechanism::offload;
pub use mechanism::vlan::Vlan;
pub use system::wake::MAX_SLEEP;
pub use system::wake::busy_poll::WaitMode;
pub use system::wake::wait_set::WaitSet;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
