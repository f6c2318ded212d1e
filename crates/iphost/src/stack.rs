//! smoltcp on a [`Nic`], with its addresses, its clock, its rounds and its sleep.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use neighbor::{AddressConflict, Identity, link_local};
use shmbus::{SendError, Station};
use smoltcp::iface::{
    Config, Interface, PollIngressSingleResult, PollResult, Route, SocketHandle, SocketSet,
};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Cidr};

use crate::address::HostAddress;
use crate::configuration::Configuration;
use crate::dhcp::DhcpClient;
use crate::link::Link;
use crate::network_change::NetworkChange;
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
    /// The host has an IPv6 address also if it is given none.
    is_v6: bool,
    dhcp: Option<DhcpClient>,
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
        let own = all_addresses(addresses, false, nic.mac());
        let mut link = Link::new(nic, own, begin);
        let interface = interface(&mut link, StackInstant::ZERO);
        let sockets = SocketSet::new(Vec::new());
        Self {
            link,
            addresses: addresses.to_vec(),
            is_v6: false,
            dhcp: None,
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

    /// Returns the host's station on its bus; `None` while it is on none.
    pub fn station(&mut self) -> Option<&Station> {
        self.link.nic_mut().station()
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
        let from = self.source_for(to.ip()).ok_or(ConnectError::NoAddress { to })?;
        socket
            .connect(self.interface.context(), to, (IpAddress::from(from), port))
            .map_err(|source| ConnectError::Refused { to, source })?;
        Ok((self.sockets.add(socket), SocketAddr::new(from, port)))
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

    /// Names the routers to other networks, of either family. The first that answers is used. Each is
    /// on one of the host's networks; one that is not is not used.
    pub fn name_gateways(&mut self, gateways: &[IpAddr]) {
        self.link.configuration_mut().name_gateways(gateways.to_vec());
    }

    /// Listens to IPv6 routers: the host has a link-local address, asks for routers, makes addresses
    /// of the prefixes that they advertise, and sends to other networks through them.
    pub fn accept_router_advertisements(&mut self) {
        let now = Instant::now();
        self.is_v6 = true;
        self.link.configuration_mut().accept_adverts(now);
        self.remake(now);
    }

    /// Asks DHCP servers for an IPv4 address and a router, from the next rounds on, and keeps the
    /// lease. They hear the host's `name`. A host that ends [gives the lease
    /// back](Self::release_lease).
    pub fn use_dhcp(&mut self, name: Option<&str>) {
        self.link.use_dhcp();
        self.dhcp = Some(DhcpClient::open(&mut self.sockets, name));
    }

    /// Gives the lease back, and asks for no other. The message leaves with the next
    /// [`poll`](Self::poll).
    pub fn release_lease(&mut self) {
        if let Some(mut dhcp) = self.dhcp.take() {
            let sockets = &mut self.sockets;
            self.link
                .with_dhcp(|configuration, replies| dhcp.release(sockets, configuration, replies));
        }
    }

    /// Returns whether the host uses an address that a DHCP server has leased to it.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.dhcp.as_ref().is_some_and(DhcpClient::is_leased)
    }

    /// Returns whether the host uses an address that it has made of an advertised prefix.
    #[must_use]
    pub fn has_made_address(&self) -> bool {
        self.link.configuration().has_made_address()
    }

    /// Returns the addresses that the host uses, with their networks: those that it was given, its
    /// link-local one, and those that it has from its network.
    pub fn addresses(&self) -> impl Iterator<Item = HostAddress> {
        let own = &self.link.configuration().identity().addresses;
        own.iter().filter_map(|cidr| HostAddress::of(*cidr).ok())
    }

    /// Returns the default routers that the host uses: at most one of each family.
    pub fn default_routers(&self) -> impl Iterator<Item = IpAddr> {
        [false, true].into_iter().filter_map(|v6| self.link.configuration().default_router(v6))
    }

    /// Returns the address that the host sends from to `target`; none when there is no way to it.
    #[must_use]
    pub fn source_for(&self, target: IpAddr) -> Option<IpAddr> {
        self.link.configuration().source_for(target, Instant::now())
    }

    /// Returns the host's Ethernet address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.link.nic().mac().0
    }

    /// Returns the next change of what the host has from its network.
    pub fn next_change(&mut self) -> Option<NetworkChange> {
        self.link.configuration_mut().next_change()
    }

    /// Makes smoltcp's interface anew, for the device as it is now.
    fn remake(&mut self, now: Instant) {
        let own = all_addresses(&self.addresses, self.is_v6, self.link.nic().mac());
        self.link.set_addresses(own, now);
        self.link.configuration_mut().take_changed();
        let now = self.time_at(now);
        self.interface = interface(&mut self.link, now);
    }

    /// Gives smoltcp's interface other addresses and routers, if they have changed.
    fn reconfigure(&mut self) {
        if self.link.configuration_mut().take_changed() {
            configure(&mut self.interface, self.link.configuration());
            self.link.stack_forgets();
        }
    }

    fn step_dhcp(&mut self, now: Instant) {
        if let Some(dhcp) = &mut self.dhcp {
            let sockets = &mut self.sockets;
            self.link.with_dhcp(|configuration, replies| {
                dhcp.step(sockets, configuration, replies, now)
            });
        }
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
        let is_other = self.interface.hardware_addr() != self.link.nic().mac().into();
        if (self.link.take_anew() || is_other)
            && let Some(dhcp) = &mut self.dhcp
        {
            dhcp.restart(&mut self.sockets);
        }
        if changed || is_other {
            self.remake(begin);
        }
        self.reconfigure();
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
        self.step_dhcp(begin);
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
        let dhcp_due = self.dhcp.as_ref().and_then(DhcpClient::due);
        let others = self.link.due().into_iter().chain(dhcp_due).min();
        let service_due = others.map_or(self.service_due, |due| due.min(self.service_due));
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
fn interface<N: Nic>(link: &mut Link<N>, now: StackInstant) -> Interface {
    let mut config = Config::new(link.nic().mac().into());
    config.random_seed = fastrand::u64(..);
    let mut interface = Interface::new(config, link, now);
    configure(&mut interface, link.configuration());
    interface
}

/// Gives smoltcp's interface the addresses and the default routers of the host.
fn configure(interface: &mut Interface, configuration: &Configuration) {
    let identity = configuration.identity();
    interface.update_ip_addrs(|list| {
        list.clear();
        for cidr in identity.addresses.iter().copied().chain(beside_far_end(identity)) {
            // It fails only for more addresses than the interface holds.
            let _ = list.push(cidr);
        }
    });
    let routers = [false, true].map(|v6| configuration.default_router(v6));
    interface.routes_mut().update(|routes| {
        routes.clear();
        for router in routers.into_iter().flatten() {
            // There is room for one of each family.
            let _ = routes.push(match router {
                IpAddr::V4(router) => Route::new_ipv4_gateway(router),
                IpAddr::V6(router) => Route::new_ipv6_gateway(router),
            });
        }
    });
}

/// Returns an address on the network of the far end of a link, which no packet gets: smoltcp enters a
/// neighbor only if it is on a network of its own.
fn beside_far_end(identity: &Identity) -> Option<IpCidr> {
    identity.far_end.iter().find_map(|far| match far {
        IpAddr::V4(far) => Some(Ipv4Cidr::new(Ipv4Addr::from_bits(far.to_bits() + 1), 30).into()),
        // The host has a link-local address, too.
        IpAddr::V6(_) => None,
    })
}

/// Returns the addresses of a host at `mac`: those that it was given, and its link-local one if it
/// `is_v6` or was given IPv6 addresses.
fn all_addresses(addresses: &[HostAddress], is_v6: bool, mac: EthernetAddress) -> Vec<IpCidr> {
    let link_local = needs_link_local(addresses, is_v6).then(|| link_local(mac));
    addresses.iter().map(|address| address.cidr()).chain(link_local).collect()
}

/// Returns whether there are IPv6 addresses, or are to be, and none of them is link-local.
fn needs_link_local(addresses: &[HostAddress], is_v6: bool) -> bool {
    let mut v6 = addresses.iter().filter_map(|address| match address.cidr() {
        IpCidr::Ipv6(cidr) => Some(cidr.address()),
        IpCidr::Ipv4(_) => None,
    });
    let first = v6.next();
    (is_v6 || first.is_some())
        && !first.into_iter().chain(v6).any(|address| address.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_has_a_link_local_address() {
        let parse = |texts: &[&str]| -> Vec<HostAddress> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert!(!needs_link_local(&parse(&["10.0.0.1/24"]), false));
        assert!(needs_link_local(&parse(&["10.0.0.1/24"]), true));
        assert!(needs_link_local(&parse(&["10.0.0.1/24", "fd00::1/64"]), false));
        assert!(!needs_link_local(&parse(&["fd00::1/64", "fe80::1/64"]), true));
    }
}
