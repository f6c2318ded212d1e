//! memif 2.0: packets between processes through shared memory, as VPP, DPDK (`net_memif`) and
//! libmemif speak it.
//!
//! A [`Server`] listens on a socket and has any number of interfaces, told apart by id; a
//! [`Client`] connects and owns the memory. When a peer has connected, both hand out a [`Link`]
//! with queues. Queues move packets in bursts, without system calls or allocation, and each can run
//! on its own thread.
//!
//! ```no_run
//! use memif::{Client, ClientOptions, Event};
//!
//! let mut client = Client::new(&"/run/vpp/memif.sock".parse()?, ClientOptions::new(0).name("first"))?;
//! loop {
//!     match client.wait(None)? {
//!         Some(Event::Connected { mut link, .. }) => {
//!             println!("connected to {}", link.peer.app_name);
//!             let mut burst = link.tx[0].burst()?;
//!             burst.push(&[0xff; 60]);
//!             burst.publish();
//!         }
//!         Some(other) => println!("{other:?}"),
//!         None => {}
//!     }
//! }
//! # #[expect(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the feature `smoltcp`, `phy` makes a link a device of that IP stack; with `tokio`, events
//! and packets are futures of that runtime.
//!
//! # The peer is not trusted
//! Every number in a message or in shared memory is read once and checked, and the checked copy is
//! used. A peer that breaks the protocol loses its link and is sent the reason; nothing else is
//! disturbed. The crate does not judge the bytes of a packet: it hands them out as atomics or
//! copies them, since the peer may change them at any moment.
//!
//! A peer can also take memory away while it is in use, which raises `SIGBUS`. In a program that
//! has called [`survive_truncation`] only the link ends, with [`ProtocolError::RegionLost`].
//!
//! # Floors
//! A module uses only its own floor and lower ones; `error` belongs to all. From the bottom:
//!
//! | floor | what it holds | `unsafe` |
//! |---|---|---|
//! | `format` | what lies on the wire and in shared memory | none |
//! | `memory` | mapped memory, with checked access and copies; its only system call is `mmap` | raw pointers into mappings |
//! | `mechanism` | handshakes and rings, without I/O | none (one test shows a race to the model checker) |
//! | `system` | sockets, descriptors and timers | descriptors from the kernel (`scm_rights`), a child process (`closers`), system calls that `nix` lacks (`untrusted_eventfd`) |
//! | `face` | what is exported here | none |

#![deny(unsafe_code)]

mod error;
mod face;
mod format;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod mechanism;
#[expect(unsafe_code, reason = "shared memory is reached through raw pointers, and only here")]
mod memory;
mod system;

pub use error::{
    BindError, BufferPoolError, ConnectError, DisconnectReason, Error, LinkError, OptionsError,
    ProtocolError, Rejection, RingError,
};
pub use face::buffer_pool::{Buffer, BufferPool};
pub use face::client::{Client, ClientError};
pub use face::details::{DescriptorDetails, Details, RegionDetails, RingDetails};
pub use face::event_loop::{Event, Waker};
pub use face::link::{Link, Peer};
pub use face::manual::{
    LinkRegion, ManualBuffer, ManualQueue, ManualRx, ManualTx, PlaceError, RingState, exchange,
};
pub use face::options::{ClientOptions, InterfaceOptions, Role, SocketOptions};
#[cfg(feature = "smoltcp")]
pub use face::phy;
pub use face::rx::{Packet, Packets, RxBurst, RxQueue};
pub use face::rx_mode::RxMode;
pub use face::server::Server;
#[cfg(feature = "tokio")]
pub use face::tokio;
pub use face::tx::{TxBurst, TxQueue, TxSlot};
pub use format::Mode;
pub use mapguard::install as survive_truncation;
pub use mechanism::layout::Layout;
pub use mechanism::manual::{Piece, Reserved};
pub use mechanism::rx::BurstLimit;
pub use mechanism::stats::QueueStats;
pub use system::addr::SocketAddr;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
