//! Which address of this machine other ends reach.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// How long the address of a name holds.
const NAME_AGE: Duration = Duration::from_secs(10);
/// An address that only a default route leads to (RFC 5737). Nothing is sent there.
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), 9);

/// Finds the address from which this machine reaches its routers, again and again: it may change.
#[derive(Debug)]
pub(crate) struct LocalAddress {
    connect: Vec<String>,
    listen: Vec<String>,
    /// What the names of `connect` were last found to be.
    found: Option<(Instant, Vec<SocketAddr>)>,
}

impl LocalAddress {
    /// Looks from the endpoints that this end connects to, or those that it listens at.
    pub(crate) fn new(connect: Vec<String>, listen: Vec<String>) -> Self {
        Self { connect, listen, found: None }
    }

    /// Returns the address. May wait for the system to find an address by its name.
    pub(crate) fn get(&mut self) -> Option<IpAddr> {
        let is_old = self.found.as_ref().is_none_or(|(at, _)| at.elapsed() >= NAME_AGE);
        if is_old {
            let addresses = self
                .connect
                .iter()
                .filter_map(|endpoint| place(endpoint).to_socket_addrs().ok()?.next());
            self.found = Some((Instant::now(), addresses.collect()));
        }
        let routers = self.found.iter().flat_map(|(_, addresses)| addresses);
        let listened = self.listen.iter().filter_map(|endpoint| {
            let address: SocketAddr = place(endpoint).parse().ok()?;
            (!address.ip().is_unspecified()).then(|| address.ip())
        });
        let towards = routers.filter_map(|router| source_towards(*router));
        towards.chain(listened).next().or_else(|| source_towards(ELSEWHERE)).or_else(first_of_all)
    }
}

/// Returns the host and port of an endpoint such as `tcp/192.0.2.1:7447#iface=eth0`.
fn place(endpoint: &str) -> &str {
    let place = endpoint.split_once('/').map_or(endpoint, |(_, place)| place);
    place.split(['#', '?']).next().unwrap_or_default()
}

/// Returns the address that datagrams to `there` are sent from.
fn source_towards(there: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if there.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Nothing is sent.
    socket.connect(there).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// Returns the first IPv4 address of an interface that is up.
fn first_of_all() -> Option<IpAddr> {
    let is_up = |flags: InterfaceFlags| {
        flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
    };
    let interfaces = getifaddrs().ok()?.filter(|interface| is_up(interface.flags));
    let mut addresses = interfaces.filter_map(|interface| {
        Some(IpAddr::from(interface.address.as_ref()?.as_sockaddr_in()?.ip()))
    });
    addresses.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_that_leads_to_a_router() {
        let of = |connect: &[&str], listen: &[&str]| {
            let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            LocalAddress::new(own(connect), own(listen)).get()
        };
        assert_eq!(of(&["tcp/127.0.0.9:7447"], &[]), Some([127, 0, 0, 1].into()));
        assert_eq!(of(&[], &["tls/127.0.0.9:7447#a=b"]), Some([127, 0, 0, 9].into()));
        assert_eq!(place("tcp/[::1]:7447?x=y"), "[::1]:7447");
    }
}
