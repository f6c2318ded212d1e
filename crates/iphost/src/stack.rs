//! smoltcp on a [`Nic`], with its addresses, its clock, its rounds and its sleep.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use shmbus::SendError;
use smoltcp::iface::{
    Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet,
};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv6Address, Ipv6Cidr};

use crate::address::HostAddress;
use crate::claims::AddressConflict;
use crate::link::Link;
use crate::nic::{Closed, Nic};
use crate::services::Services;
use crate::transfer::Transfer;

/// The most frames received in a round, so that a flood does not keep the host from sending.
const FRAMES_PER_ROUND: usize = 256;
/// The longest time between two rounds. Devices rely on being serviced now and then.
const SERVICE_INTERVAL: Duration = Duration::from_millis(100);

/// The ports that a host's own connections come from.
const EPHEMERAL_PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// Why a TCP connection cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host has no address of that kind.
    #[error("cannot connect to {to}: the host has no address for that")]
    NoAddress {
        /// The address to connect to.
        to: SocketAddr,
    },
    /// The TCP stack refuses the address.
    #[error("cannot connect to {to}: {source}")]
    Refused {
        /// The address to connect to.
        to: SocketAddr,
        /// Why.
        source: tcp::ConnectError,
    },
}

/// An IP host on a network device.
///
/// A loop [`poll`](Self::poll)s it, [`serve`](Self::serve)s its services, and sleeps in a
/// [`HostSet`](crate::HostSet) until there is something to do:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("bus");
/// use std::os::fd::AsFd as _;
/// use std::time::Duration;
/// use iphost::{BusNic, HostSet, Services, Stack};
/// use shmbus::{Bus, Station, StationOptions};
///
/// let station = Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new())?;
/// let mut host = Stack::new(BusNic::new(station), &["10.0.0.1/24".parse()?]);
/// let mut services = Services::open(host.sockets(), None);
/// let mut hosts = HostSet::new();
/// hosts.push(host);
/// // The host wakes up when the other end of this socket is written or closed.
/// let (stop, _other_end) = std::os::unix::net::UnixStream::pair()?;
/// # for _ in 0..1 {
/// // In a loop:
/// for index in hosts.wait(&[stop.as_fd()], Duration::from_secs(1))? {
///     let host = &mut hosts[index];
///     host.poll(&mut |sockets| services.accept(sockets))?;
///     host.serve(&mut services, &mut |_| {});
/// }
/// # }
/// # Ok(())
/// # }
/// ```
pub struct Stack<N> {
    link: Link<N>,
    addresses: Vec<HostAddress>,
    interface: Interface,
    sockets: SocketSet<'static>,
    begin: Instant,
    /// When frames were last sent.
    flushed: Instant,
    /// When the device next needs a round, even if no frame comes and no socket has anything to do.
    service_due: Instant,
    /// When a frame was last received.
    heard: Option<Instant>,
}

impl<N: Nic> Stack<N> {
    /// Makes a host with at most 7 addresses. A host with an IPv6 address gets a link-local one,
    /// too, unless one is among them.
    pub fn new(nic: N, addresses: &[HostAddress]) -> Self {
        let begin = Instant::now();
        let own = all_addresses(addresses, nic.mac());
        let mut link = Link::new(nic, own.clone(), begin);
        let interface = interface(&mut link, &own, StackInstant::ZERO);
        let sockets = SocketSet::new(Vec::new());
        Self {
            link,
            addresses: addresses.to_vec(),
            interface,
            sockets,
            begin,
            flushed: begin,
            service_due: begin,
            heard: None,
        }
    }

    /// Returns whether the host's device is connected.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.link.nic().is_up()
    }

    /// Checks that the host's device can still be used.
    ///
    /// # Errors
    /// [`Closed`] when the other end of the device is closed for good.
    pub fn check(&self) -> Result<(), Closed> {
        self.link.nic().check()
    }

    /// Returns the host's sockets.
    pub fn sockets(&mut self) -> &mut SocketSet<'static> {
        &mut self.sockets
    }

    /// Lets the services receive and answer, after a [`poll`](Self::poll). `done` gets each
    /// transfer that has ended. Answers leave with the next poll.
    pub fn serve(&mut self, services: &mut Services, done: &mut dyn FnMut(Transfer)) {
        let own = self.interface.ip_addrs();
        let is_own = |address| own.iter().any(|cidr| cidr.address() == address);
        services.serve(&mut self.sockets, is_own, done);
    }

    /// Begins a TCP connection. Returns the socket and the address it connects from.
    ///
    /// # Errors
    /// When the host has no address to connect from, or none can connect to `to`.
    pub(crate) fn connect(
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

    /// Returns when frames were last sent.
    pub(crate) fn flushed(&self) -> Instant {
        self.flushed
    }

    /// Returns whether a frame was received less than `time` ago.
    pub(crate) fn heard_within(&self, time: Duration) -> bool {
        self.heard.is_some_and(|heard| heard.elapsed() < time)
    }

    /// Returns whether there is a frame to receive, or an error of the device that a round finds.
    pub(crate) fn poll_rx(&mut self) -> bool {
        self.link.poll_rx()
    }

    /// Returns the link, to send requests and to watch what comes of them.
    pub(crate) fn link(&mut self) -> &mut Link<N> {
        &mut self.link
    }

    /// Claims the host's addresses, from the next rounds on: asks whether another host has one, which
    /// takes a tenth of a second once the device is connected, and then announces them. They are
    /// announced again whenever the device is connected anew or has another Ethernet address, and
    /// defended against others. A host that does not do this answers for its addresses all the same.
    pub fn claim_addresses(&mut self) {
        self.link.claim();
    }

    /// Returns whether the host still asks whether another has its addresses: it does not answer for
    /// them yet.
    #[must_use]
    pub fn is_claiming(&self) -> bool {
        self.link.is_tentative()
    }

    /// Returns the next conflict about an address that the host claims, once for each other host, and
    /// for 16 at most. When the host is still [asking](Self::is_claiming), the address is the other's;
    /// afterwards both continue to use it.
    pub fn next_conflict(&mut self) -> Option<AddressConflict> {
        self.link.next_conflict()
    }

    /// Runs one round: receives frames, lets the sockets answer, and sends what they have written.
    /// It calls `accept` after every frame, so that each port keeps a socket that listens
    /// ([`Services::accept`]).
    ///
    /// # Errors
    /// When the bus cannot be written at the moment. The frames of this round are lost then, as on
    /// any Ethernet, and the host continues with the next round.
    pub fn poll(
        &mut self,
        accept: &mut dyn FnMut(&mut SocketSet<'static>),
    ) -> Result<(), SendError> {
        let mut changed = self.link.nic_mut().service();
        let begin = Instant::now();
        let now = self.time_at(begin);
        changed |= self.link.begin_round(begin);
        let mac = self.link.nic().mac();
        if changed || self.interface.hardware_addr() != mac.into() {
            let own = all_addresses(&self.addresses, mac);
            self.interface = interface(&mut self.link, &own, now);
            self.link.set_addresses(own, begin);
        }
        self.interface.poll_maintenance(now);
        let mut received = 0;
        while received < FRAMES_PER_ROUND {
            let done = self.interface.poll_ingress_single(now, &mut self.link, &mut self.sockets);
            if matches!(done, PollIngressSingleResult::None) {
                break;
            }
            received += 1;
            // Long answers are not collected.
            self.link.send_waiting(begin);
            accept(&mut self.sockets);
        }
        // A socket writes one packet each time. The rest follows in the next round.
        for _ in 0..FRAMES_PER_ROUND {
            let written = self.interface.poll_egress(now, &mut self.link, &mut self.sockets);
            if written == PollResult::None {
                break;
            }
        }
        self.flushed = Instant::now();
        self.service_due = self.flushed + SERVICE_INTERVAL;
        if received > 0 {
            self.heard = Some(self.flushed);
        }
        self.link.flush(begin)
    }

    /// Returns when the host has something to do if no frame arrives before that: at most 100 ms
    /// after its latest round.
    pub(crate) fn due(&mut self) -> Instant {
        // What is to be sent waits until the device is connected.
        if !self.link.nic().is_up() {
            return self.service_due;
        }
        let service_due = self.link.due().map_or(self.service_due, |due| due.min(self.service_due));
        let now = self.time_at(Instant::now());
        let due = self.interface.poll_at(now, &self.sockets).map(|at| {
            self.begin + Duration::from_micros(at.total_micros().try_into().unwrap_or(0))
        });
        due.map_or(service_due, |due| due.min(service_due))
    }

    /// Makes the device's service due, and so the host's next round.
    pub(crate) fn hasten_service(&mut self) {
        self.service_due = Instant::now();
    }

    /// Returns the device, to sleep on it.
    pub(crate) fn nic(&self) -> &N {
        self.link.nic()
    }

    /// Returns the device, to sleep on it.
    pub(crate) fn nic_mut(&mut self) -> &mut N {
        self.link.nic_mut()
    }

    fn time_at(&self, at: Instant) -> StackInstant {
        let since = at.saturating_duration_since(self.begin);
        StackInstant::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Makes smoltcp's interface for the current state of the device, with all addresses of the host.
fn interface<N: Nic>(link: &mut Link<N>, own: &[IpCidr], now: StackInstant) -> Interface {
    let mut config = Config::new(link.nic().mac().into());
    config.random_seed = fastrand::u64(..);
    let mut interface = Interface::new(config, link, now);
    interface.update_ip_addrs(|list| {
        for cidr in own {
            // It fails only for more addresses than the interface holds.
            let _ = list.push(*cidr);
        }
    });
    interface
}

/// Returns the addresses of a host at `mac`: those that it was given, and its link-local one.
fn all_addresses(addresses: &[HostAddress], mac: EthernetAddress) -> Vec<IpCidr> {
    let link_local = needs_link_local(addresses).then(|| link_local(mac));
    addresses.iter().map(|address| address.cidr()).chain(link_local).collect()
}

/// Returns whether there are IPv6 addresses, and none of them is link-local.
fn needs_link_local(addresses: &[HostAddress]) -> bool {
    let mut v6 = addresses.iter().filter_map(|address| match address.cidr() {
        IpCidr::Ipv6(cidr) => Some(cidr.address()),
        IpCidr::Ipv4(_) => None,
    });
    let first = v6.next();
    first.is_some() && !first.into_iter().chain(v6).any(|address| address.is_unicast_link_local())
}

/// Returns the link-local address that RFC 4291 derives from an Ethernet address.
fn link_local(mac: EthernetAddress) -> IpCidr {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&[0xfe, 0x80]);
    address[8..11].copy_from_slice(&mac.0[..3]);
    address[11..13].copy_from_slice(&[0xff, 0xfe]);
    address[13..].copy_from_slice(&mac.0[3..]);
    // The bit is 1 for a globally unique address here, and 0 for one in an Ethernet address.
    address[8] ^= 2;
    Ipv6Cidr::new(Ipv6Address::from(address), 64).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_has_a_link_local_address() {
        let parse = |texts: &[&str]| -> Vec<HostAddress> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert!(!needs_link_local(&parse(&["10.0.0.1/24"])));
        assert!(needs_link_local(&parse(&["10.0.0.1/24", "fd00::1/64"])));
        assert!(!needs_link_local(&parse(&["fd00::1/64", "fe80::1/64"])));
        let mac = EthernetAddress([0xb2, 0xa0, 1, 2, 3, 4]);
        assert_eq!(link_local(mac).to_string(), "fe80::b0a0:1ff:fe02:304/64");
    }
}
