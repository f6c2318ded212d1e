//! smoltcp on a [`Nic`]: its addresses, its clock, its rounds and its sleep.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use shmbus::SendError;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketSet};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv6Address, Ipv6Cidr};

use super::address::HostAddress;
use super::echo::EchoServices;
use super::nic::Nic;
use crate::stop::Stop;

/// Frames taken in before the stack has its say: whoever floods us is not to keep us from it.
const FRAMES_PER_ROUND: usize = 256;
/// The longest sleep: there is always something to be looked after now and then.
const SLEEP_BOUND: Duration = Duration::from_millis(100);

/// A host.
pub(crate) struct Stack<N> {
    nic: N,
    interface: Interface,
    sockets: SocketSet<'static>,
    begin: Instant,
    /// When frames last went out.
    flushed: Instant,
}

impl<N: Nic> Stack<N> {
    /// A host with these addresses, of which there are not too many. One that has an IPv6 address has a link-local one, too.
    pub(crate) fn new(mut nic: N, addresses: &[HostAddress]) -> Self {
        let begin = Instant::now();
        let mac = nic.mac();
        let mut config = Config::new(mac.into());
        config.random_seed = fastrand::u64(..);
        let mut interface = Interface::new(config, &mut nic, StackInstant::ZERO);
        interface.update_ip_addrs(|list| {
            let link_local = needs_link_local(addresses).then(|| link_local(mac));
            for cidr in addresses.iter().map(|address| address.cidr()).chain(link_local) {
                // They were counted.
                let _ = list.push(cidr);
            }
        });
        Self { nic, interface, sockets: SocketSet::new(Vec::new()), begin, flushed: begin }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.nic.is_up()
    }

    pub(crate) fn sockets(&mut self) -> &mut SocketSet<'static> {
        &mut self.sockets
    }

    /// Lets the services do their work, after a round.
    pub(crate) fn serve(&mut self, services: &mut EchoServices) {
        let own = self.interface.ip_addrs();
        services.serve(&mut self.sockets, |address| own.iter().any(|cidr| cidr.address() == address));
    }

    /// When frames last went out.
    pub(crate) fn flushed(&self) -> Instant {
        self.flushed
    }

    /// Forgets who has which Ethernet address, to ask anew.
    pub(crate) fn forget_neighbors(&mut self) {
        self.interface.update_ip_addrs(|_| {});
    }

    /// One round: takes frames in, lets the sockets have their say, sends it.
    ///
    /// # Errors
    /// When the bus cannot be written to at the moment.
    pub(crate) fn poll(&mut self) -> Result<(), SendError> {
        self.nic.tend();
        let mac = self.nic.mac().into();
        if self.interface.hardware_addr() != mac {
            self.interface.set_hardware_addr(mac);
        }
        let now = self.now();
        self.interface.poll_maintenance(now);
        for _ in 0..FRAMES_PER_ROUND {
            let taken = self.interface.poll_ingress_single(now, &mut self.nic, &mut self.sockets);
            if matches!(taken, PollIngressSingleResult::None) {
                break;
            }
        }
        // As many times as there are sockets with more than one thing to say; more is said in the next round.
        for _ in 0..FRAMES_PER_ROUND {
            let said = self.interface.poll_egress(now, &mut self.nic, &mut self.sockets);
            if said == PollResult::None {
                break;
            }
        }
        self.flushed = Instant::now();
        self.nic.flush()
    }

    /// Sleeps until there is something to do, `other` is readable, the process is asked to stop, or the time is over.
    ///
    /// # Errors
    /// When the system does not let us sleep.
    pub(crate) fn sleep(
        &mut self,
        stop: &Stop,
        other: Option<BorrowedFd<'_>>,
        time: Duration,
    ) -> anyhow::Result<()> {
        let time = time.min(self.pause());
        if time.is_zero() {
            return Ok(());
        }
        let stop = stop.as_fd();
        match other {
            Some(other) => self.nic.sleep(&[stop, other], time),
            None => self.nic.sleep(&[stop], time),
        }
    }

    /// How long until the stack has something to do by itself.
    fn pause(&mut self) -> Duration {
        // What is to be said waits until somebody is there.
        if !self.nic.is_up() {
            return SLEEP_BOUND;
        }
        let now = self.now();
        let delay = self.interface.poll_delay(now, &self.sockets);
        delay.map_or(SLEEP_BOUND, |delay| Duration::from_micros(delay.total_micros()).min(SLEEP_BOUND))
    }

    fn now(&self) -> StackInstant {
        StackInstant::from_micros(i64::try_from(self.begin.elapsed().as_micros()).unwrap_or(i64::MAX))
    }
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
