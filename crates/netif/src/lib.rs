//! Sets up the kernel's network interfaces, in this network namespace or in another.
//!
//! [`Interfaces`] speaks to the kernel over netlink, as `ip`(8) does: it sets interfaces up, gives
//! them addresses, and adds routes. [`NetNamespace`] runs a closure in another network namespace,
//! and what the closure opens there keeps working outside.
//!
//! ```no_run
//! use netif::{Interfaces, NetNamespace};
//!
//! # fn main() -> Result<(), netif::NetifError> {
//! let mut interfaces = NetNamespace::named("blue")?.run(Interfaces::open)??;
//! interfaces.add_address("eth0", "10.0.0.1/24".parse().expect("valid"))?;
//! interfaces.set_up("eth0")?;
//! interfaces.add_route("0.0.0.0/0".parse().expect("valid"), "10.0.0.254".parse().expect("valid"))?;
//! # Ok(())
//! # }
//! ```
//!
//! Changes take the capability `CAP_NET_ADMIN` in the user namespace that the network namespace
//! belongs to.

#![forbid(unsafe_code)]

mod error;
mod interfaces;
mod namespace;
mod netlink;

pub use ipnet::IpNet;

pub use self::error::NetifError;
pub use self::interfaces::{Interface, Interfaces};
pub use self::namespace::NetNamespace;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
