//! Small IP hosts on a shared-memory Ethernet bus or behind memif, made of [smoltcp].
//!
//! - A [`Nic`] is a host's network device: a station on a bus ([`BusNic`]) or a memif interface
//!   ([`MemifNic`]); an [`ImpairedNic`] is around one whose link misbehaves on purpose.
//! - A [`Stack`] is smoltcp on such a device, with its addresses and its clock. It answers ARP,
//!   neighbor discovery and ICMP echo, receives and sends fragments, and claims its addresses if it
//!   is asked to ([`Stack::claim_addresses`]). It reaches other networks through routers, and has
//!   addresses from its network, if it is asked to ([`Stack::use_dhcp`],
//!   [`Stack::accept_router_advertisements`]).
//! - A [`HostSet`] is the hosts that one thread serves. It sleeps for all of them, and says which
//!   have something to do.
//! - [`Services`] answer further requests: UDP and TCP echo, and a TCP sink.
//! - A [`Pinger`] and a [`TcpSource`] measure: round-trip times and throughput. A ping also reports
//!   ICMP errors and damaged replies.
//!
//! Nothing runs in the background. The caller has a loop that polls the stacks, steps what
//! measures, and sleeps. Here two hosts share one loop, and Alice pings Bob:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("bus");
//! use std::time::Duration;
//! use iphost::{BusNic, PingPlan, Pinger, Stack};
//! use shmbus::{Bus, Station, StationOptions};
//!
//! let host = |address: &str| -> Result<_, Box<dyn std::error::Error>> {
//!     let station = Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new())?;
//!     Ok(Stack::new(BusNic::new(station), &[address.parse()?]))
//! };
//! let mut alice = host("10.0.0.1/24")?;
//! let mut bob = host("10.0.0.2/24")?;
//!
//! let plan = PingPlan {
//!     target: "10.0.0.2".parse()?,
//!     count: Some(3),
//!     interval: Duration::from_millis(10),
//!     size: 56,
//!     timeout: Duration::from_secs(10),
//! };
//! let mut pinger = Pinger::start(&mut alice, plan);
//! while !pinger.step(&mut alice, |reply| println!("{reply:?}")) {
//!     alice.poll(&mut |_| {})?;
//!     bob.poll(&mut |_| {})?;
//! }
//! assert_eq!(pinger.finish(&mut alice).received(), 3);
//! # Ok(())
//! # }
//! ```
//!
//! # Many hosts in one thread
//!
//! Hosts that have nothing to do sleep in a [`HostSet`] until a frame for one of them arrives, or
//! its time has come. What a wake-up costs does not grow with the hosts that it does not concern.
//! Here 64 hosts answer a ping, until Alice has the reply of the last:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("bus");
//! use std::time::{Duration, Instant};
//! use iphost::{BusNic, HostSet, PingPlan, Pinger, Stack};
//! use shmbus::{Bus, Station, StationOptions};
//!
//! let host = |address: &str| -> Result<_, Box<dyn std::error::Error>> {
//!     let station = Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new())?;
//!     Ok(Stack::new(BusNic::new(station), &[address.parse()?]))
//! };
//! let mut hosts = HostSet::new();
//! for number in 1..=64 {
//!     hosts.push(host(&format!("10.0.0.{number}/24"))?);
//! }
//! let alice = hosts.push(host("10.0.0.100/24")?);
//!
//! let plan = PingPlan {
//!     target: "10.0.0.64".parse()?,
//!     count: Some(1),
//!     interval: Duration::from_secs(1),
//!     size: 56,
//!     timeout: Duration::from_secs(10),
//! };
//! let mut pinger = Pinger::start(&mut hosts[alice], plan);
//! while !pinger.step(&mut hosts[alice], |reply| println!("{reply:?}")) {
//!     // Descriptors that are to end the sleep, too, would stand in the brackets.
//!     for index in hosts.wait(&[], pinger.due().saturating_duration_since(Instant::now()))? {
//!         hosts[index].poll(&mut |_| {})?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod address;
mod autoconf;
mod bus_nic;
mod configuration;
mod dhcp;
mod echo;
mod echo_watch;
mod extension;
mod flow;
mod fragment;
mod gateways;
mod host_set;
mod icmp_error;
mod impaired_nic;
mod inbound;
mod ip_link;
mod link;
mod memif_nic;
mod mss;
mod neighbors;
mod network_change;
mod newcomers;
mod nic;
mod pinger;
mod reassembly;
mod resolver;
mod router_advert;
mod services;
mod sink;
mod source;
mod stack;
mod statistics;
mod tcp;
mod transfer;
mod vlan;

pub use address::{AddressError, HostAddress, ParseAddressError, count_up};
pub use bus_nic::{Attachment, BusNic};
pub use echo::ECHO_PORT;
pub use echo_watch::Damage;
pub use host_set::HostSet;
pub use icmp_error::PingError;
pub use impaired_nic::ImpairedNic;
pub use memif_nic::{LinkChange, LinkSource, MemifNic, MemifRx, MemifTx};
pub use neighbor::AddressConflict;
pub use network_change::NetworkChange;
pub use nic::{Closed, Nic, SleepError};
pub use pinger::{PingEvent, PingPlan, Pinger, Reply, largest_payload};
pub use services::Services;
pub use source::TcpSource;
pub use stack::{ConnectError, Stack};
pub use statistics::{PingSummary, Report, Statistics};
pub use transfer::{Transfer, TransferError};
