//! smoltcp on a [`Nic`]: its addresses, its clock, its rounds and its sleep.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use shmbus::SendError;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv6Address, Ipv6Cidr};

use super::address::HostAddress;
use super::nic::{Closed, Nic, SleepError};
use super::services::Services;
use super::transfer::Transfer;

/// Frames taken in before the stack has its say: whoever floods us is not to keep us from it.
const FRAMES_PER_ROUND: usize = 256;
/// The longest sleep: there is always something to be looked after now and then.
const MAX_SLEEP: Duration = Duration::from_millis(100);

/// Where connections of a host's own begin.
const EPHEMERAL_PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// Why a TCP connection cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address of the host suits the one that is called.
    #[error("cannot call {to}: the host has no address for that")]
    NoAddress {
        /// The address that is called.
        to: SocketAddr,
    },
    /// The TCP stack refuses the call.
    #[error("cannot call {to}: {source}")]
    Refused {
        /// The address that is called.
        to: SocketAddr,
        /// What is wrong with it.
        source: tcp::ConnectError,
    },
}

/// A host.
pub struct Stack<N> {
    nic: N,
    addresses: Vec<HostAddress>,
    interface: Interface,
    sockets: SocketSet<'static>,
    begin: Instant,
    /// When frames last went out.
    flushed: Instant,
    /// When a frame last came in.
    heard: Option<Instant>,
}

impl<N: Nic> Stack<N> {
    /// A host with these addresses, of which there are not too many. One that has an IPv6 address has a link-local one, too.
    pub fn new(mut nic: N, addresses: &[HostAddress]) -> Self {
        let begin = Instant::now();
        let interface = interface(&mut nic, addresses, StackInstant::ZERO);
        let sockets = SocketSet::new(Vec::new());
        Self { nic, addresses: addresses.to_vec(), interface, sockets, begin, flushed: begin, heard: None }
    }

    pub fn is_up(&self) -> bool {
        self.nic.is_up()
    }

    /// Whether the interface of the registry it is on, if it is on one, still exists.
    ///
    /// # Errors
    /// When it was destroyed.
    pub fn check(&self) -> Result<(), Closed> {
        self.nic.check()
    }

    pub fn sockets(&mut self) -> &mut SocketSet<'static> {
        &mut self.sockets
    }

    /// Lets the services do their work, after a round. `done` hears of transfers that are over.
    pub fn serve(&mut self, services: &mut Services, done: &mut dyn FnMut(Transfer)) {
        let own = self.interface.ip_addrs();
        let is_own = |address| own.iter().any(|cidr| cidr.address() == address);
        services.serve(&mut self.sockets, is_own, done);
    }

    /// Begins a TCP connection; the socket, and the address it calls from.
    ///
    /// # Errors
    /// When the host has no address for that.
    pub fn connect(
        &mut self,
        mut socket: tcp::Socket<'static>,
        to: SocketAddr,
    ) -> Result<(SocketHandle, SocketAddr), ConnectError> {
        let port = fastrand::u16(EPHEMERAL_PORTS);
        let from = self.interface.get_source_address(&to.ip().into());
        let from = from.ok_or(ConnectError::NoAddress { to })?;
        socket
            .connect(self.interface.context(), to, (from, port))
            .map_err(|source| ConnectError::Refused { to, source })?;
        Ok((self.sockets.add(socket), SocketAddr::new(from.into(), port)))
    }

    /// When frames last went out.
    pub fn flushed(&self) -> Instant {
        self.flushed
    }

    /// Whether a frame came in not longer ago than this.
    pub fn heard_within(&self, time: Duration) -> bool {
        self.heard.is_some_and(|heard| heard.elapsed() < time)
    }

    /// Whether there may be a frame to be taken in.
    pub fn look(&mut self) -> bool {
        self.nic.look()
    }

    /// Forgets who has which Ethernet address, to ask anew.
    pub fn forget_neighbors(&mut self) {
        self.interface.update_ip_addrs(|_| {});
    }

    /// One round: takes frames in, lets the sockets have their say, sends it. After every frame `accept` may look at the
    /// sockets, to keep somebody listening.
    ///
    /// # Errors
    /// When the bus cannot be written to at the moment.
    pub fn poll(&mut self, accept: &mut dyn FnMut(&mut SocketSet<'static>)) -> Result<(), SendError> {
        let changed = self.nic.service();
        let now = self.now();
        if changed || self.interface.hardware_addr() != self.nic.mac().into() {
            self.interface = interface(&mut self.nic, &self.addresses, now);
        }
        self.interface.poll_maintenance(now);
        let mut taken = 0;
        while taken < FRAMES_PER_ROUND {
            let done = self.interface.poll_ingress_single(now, &mut self.nic, &mut self.sockets);
            if matches!(done, PollIngressSingleResult::None) {
                break;
            }
            taken += 1;
            accept(&mut self.sockets);
        }
        // As many times as there are sockets with more than one thing to say; more is said in the next round.
        for _ in 0..FRAMES_PER_ROUND {
            let said = self.interface.poll_egress(now, &mut self.nic, &mut self.sockets);
            if said == PollResult::None {
                break;
            }
        }
        self.flushed = Instant::now();
        if taken > 0 {
            self.heard = Some(self.flushed);
        }
        self.nic.flush()
    }

    /// Sleeps until there is something to do, `other` is readable, the process is asked to stop, or the time is over.
    ///
    /// # Errors
    /// When the system does not let us sleep.
    pub fn sleep(
        &mut self,
        stop: BorrowedFd<'_>,
        other: Option<BorrowedFd<'_>>,
        time: Duration,
    ) -> Result<(), SleepError> {
        let time = time.min(self.pause());
        if time.is_zero() {
            return Ok(());
        }
        self.sleep_for(&mut || false, stop, other, time)
    }

    /// The same for several hosts on one bus, which have nothing to do by themselves so long: one watch serves all.
    ///
    /// # Errors
    /// When the system does not let us sleep.
    pub fn sleep_for(
        &mut self,
        look: &mut dyn FnMut() -> bool,
        stop: BorrowedFd<'_>,
        other: Option<BorrowedFd<'_>>,
        time: Duration,
    ) -> Result<(), SleepError> {
        match other {
            Some(other) => self.nic.sleep(&[stop, other], time, look),
            None => self.nic.sleep(&[stop], time, look),
        }
    }

    /// How long until the stack has something to do by itself.
    pub fn pause(&mut self) -> Duration {
        // What is to be said waits until somebody is there.
        if !self.nic.is_up() {
            return MAX_SLEEP;
        }
        let now = self.now();
        let delay = self.interface.poll_delay(now, &self.sockets);
        delay.map_or(MAX_SLEEP, |delay| Duration::from_micros(delay.total_micros()).min(MAX_SLEEP))
    }

    fn now(&self) -> StackInstant {
        StackInstant::from_micros(i64::try_from(self.begin.elapsed().as_micros()).unwrap_or(i64::MAX))
    }
}

/// smoltcp's interface, as the device and the addresses are now.
fn interface<N: Nic>(nic: &mut N, addresses: &[HostAddress], now: StackInstant) -> Interface {
    let mac = nic.mac();
    let mut config = Config::new(mac.into());
    config.random_seed = fastrand::u64(..);
    let mut interface = Interface::new(config, nic, now);
    interface.update_ip_addrs(|list| {
        let link_local = needs_link_local(addresses).then(|| link_local(mac));
        for cidr in addresses.iter().map(|address| address.cidr()).chain(link_local) {
            // They were counted.
            let _ = list.push(cidr);
        }
    });
    interface
}

fn needs_link_local(addresses: &[HostAddress]) -> bool {
    let mut v6 = addresses.iter().filter_map(|address| match address.cidr() {
        IpCidr::Ipv6(cidr) => Some(cidr.address()),
        IpCidr::Ipv4(_) => None,
    });
    let first = v6.next();
    first.is_some() && !first.into_iter().chain(v6).any(|address| address.is_unicast_link_local())
}

/// The address that follows from the Ethernet address, as RFC 4291 has it.
fn link_local(mac: EthernetAddress) -> IpCidr {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&[0xfe, 0x80]);
    address[8..11].copy_from_slice(&mac.0[..3]);
    address[11..13].copy_from_slice(&[0xff, 0xfe]);
    address[13..].copy_from_slice(&mac.0[3..]);
    // Ones there mark addresses that are unique in the world; for Ethernet it is the other way round.
    address[8] ^= 2;
    Ipv6Cidr::new(Ipv6Address::from(address), 64).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_has_a_link_local_address() {
        let parse =
            |texts: &[&str]| -> Vec<HostAddress> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        assert!(!needs_link_local(&parse(&["10.0.0.1/24"])));
        assert!(needs_link_local(&parse(&["10.0.0.1/24", "fd00::1/64"])));
        assert!(!needs_link_local(&parse(&["fd00::1/64", "fe80::1/64"])));
        let mac = EthernetAddress([0xb2, 0xa0, 1, 2, 3, 4]);
        assert_eq!(link_local(mac).to_string(), "fe80::b0a0:1ff:fe02:304/64");
    }
}
