//! Which IP address is at which Ethernet address: what a station says about it over ARP (IPv4) and
//! over neighbor discovery (IPv6).
//!
//! - [`arp`] and [`ndisc`] read and make the messages; [`frame`] says where things are in a frame.
//! - [`icmp_error`] makes what a station says about a packet that it cannot use.
//! - An [`Identity`] is who a station is: its Ethernet address and its IP addresses.
//! - [`Claims`] asks whether another station has these addresses, announces and defends them, and
//!   answers those that ask for them.
//!
//! Nothing here does I/O or looks at a clock: the caller passes frames and times. Frames are
//! untrusted input; what no honest station sends is ignored.
//!
//! ```
//! use std::time::Instant;
//! use neighbor::{Claims, Identity, arp::{self, Arp}};
//! use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};
//!
//! let mac = EthernetAddress([2, 0, 0, 0, 0, 1]);
//! let own = Ipv4Address::new(10, 0, 0, 1);
//! let identity = Identity::new(mac, vec![IpCidr::new(own.into(), 24)]);
//! let other = (Ipv4Address::new(10, 0, 0, 2), EthernetAddress([2, 0, 0, 0, 0, 2]));
//!
//! let question = Arp::read(&arp::request(other, own)).expect("a request");
//! let (mut claims, mut answers) = (Claims::default(), Vec::new());
//! let heard = claims.take_arp(&identity, &question, Instant::now(), &mut answers);
//! assert_eq!(heard.map(|heard| heard.mac), Some(other.1));
//! assert_eq!(answers, [arp::reply((own, mac), other)]);
//! ```

#![forbid(unsafe_code)]

pub mod arp;
mod claims;
pub mod frame;
pub mod icmp_error;
mod identity;
pub mod ndisc;

pub use self::claims::{AddressConflict, Claims, Heard, NO_HOST, Statement};
pub use self::identity::{Destination, Identity, link_local};

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
