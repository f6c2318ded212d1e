//! A host's IPv4 address by DHCP (RFC 2131): smoltcp's client, and what it leaves to others. An
//! address that another host has is declined, and a lease is given back when the host ends.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4::{Config, Event, RetryConfig, Socket};
use smoltcp::wire::{
    DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress, IpProtocol, Ipv4Cidr,
    Ipv4Packet, UdpPacket,
};

use crate::address::HostAddress;
use crate::configuration::Configuration;
use crate::network_change::NetworkChange;
use neighbor::frame::{self, ETHERNET_HEADER};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const UDP_HEADER: usize = 8;
/// The option that names the client.
const HOST_NAME: u8 = 12;
/// The longest such name.
const MAX_NAME: usize = 63;
/// How long a server has to answer. Some look for other hosts with the address for three seconds.
const ANSWER_TIMEOUT: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(4);
/// How long a host waits that has declined an address, or got one that no host can have (RFC 2131,
/// 3.1). The time doubles from one such lease to the next, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(320);

/// The client of a host.
pub(crate) struct DhcpClient {
    /// None while it waits after it has got an address that it cannot use.
    socket: Option<SocketHandle>,
    reopen_at: Option<Instant>,
    /// How long it waits the next time.
    pause: Duration,
    /// What all its messages say of the host.
    options: &'static [DhcpOption<'static>],
    lease: Option<Lease>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    address: HostAddress,
    cidr: Ipv4Cidr,
    router: Option<Ipv4Addr>,
    /// Where the server is, and its name in messages.
    server: (Ipv4Addr, Ipv4Addr),
    seconds: Option<u32>,
    /// No other host has the address, and this one uses it.
    is_used: bool,
}

/// What has come from servers.
#[derive(Debug, Default)]
pub(crate) struct DhcpReplies {
    /// The number of the host's latest message. Replies have the same.
    transaction: Option<u32>,
    /// Where the latest came from.
    source: Option<EthernetAddress>,
    /// The latest lease that a server acknowledged, and its time.
    acknowledged: Option<(Ipv4Addr, Option<u32>)>,
}

impl DhcpReplies {
    /// Notes the number of a message that the host has sent, if it has sent one.
    pub(crate) fn sent(&mut self, transaction: Option<u32>) {
        self.transaction = transaction.or(self.transaction);
    }

    /// Takes a frame of IPv4 for the host at `mac`. Returns whether it is a reply of a server, which
    /// may be for an address that the host does not have yet.
    pub(crate) fn take(&mut self, frame: &[u8], mac: EthernetAddress) -> bool {
        let Some(message) = message(frame, (SERVER_PORT, CLIENT_PORT)) else { return false };
        let packet = DhcpPacket::new_unchecked(message);
        let Ok(reply) = DhcpRepr::parse(&packet) else { return false };
        // Any station can send one, but only those that hear the host know the number.
        let is_ours =
            reply.client_hardware_address == mac && self.transaction == Some(reply.transaction_id);
        if !is_ours {
            return false;
        }
        self.source = Some(frame::source(frame));
        if reply.message_type == DhcpMessageType::Ack {
            self.acknowledged = Some((reply.your_ip, reply.lease_duration));
        }
        true
    }
}

/// Returns the number of a client's message that a frame of IPv4 carries.
pub(crate) fn transaction(frame: &[u8]) -> Option<u32> {
    if frame[12..14] != frame::IPV4 {
        return None;
    }
    let message = message(frame, (CLIENT_PORT, SERVER_PORT))?;
    Some(DhcpPacket::new_unchecked(message).transaction_id())
}

/// Returns the message of DHCP between two ports that a frame of IPv4 carries.
fn message(frame: &[u8], ports: (u16, u16)) -> Option<&[u8]> {
    let packet = Ipv4Packet::new_checked(frame.get(ETHERNET_HEADER..)?).ok()?;
    let is_whole = !packet.more_frags() && packet.frag_offset() == 0;
    if packet.next_header() != IpProtocol::Udp || !is_whole {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    if (datagram.src_port(), datagram.dst_port()) != ports {
        return None;
    }
    let message = datagram.payload();
    DhcpPacket::new_checked(message).ok().map(|_| message)
}

impl DhcpClient {
    /// Makes a client that asks for an address at once. Servers hear the host's name, if it has one.
    pub(crate) fn open(sockets: &mut SocketSet<'static>, name: Option<&str>) -> Self {
        let name = name.filter(|name| !name.is_empty() && name.len() <= MAX_NAME);
        // A host has one name as long as its process runs.
        let options: &'static [_] = match name {
            Some(name) => {
                let data = name.as_bytes().to_vec().leak();
                vec![DhcpOption { kind: HOST_NAME, data }].leak()
            }
            None => &[],
        };
        let mut client =
            Self { socket: None, reopen_at: None, pause: FIRST_PAUSE, options, lease: None };
        client.reopen(sockets);
        client
    }

    fn reopen(&mut self, sockets: &mut SocketSet<'static>) {
        let mut socket = Socket::new();
        let mut retries = RetryConfig::default();
        retries.discover_timeout = ANSWER_TIMEOUT;
        retries.initial_request_timeout = ANSWER_TIMEOUT;
        socket.set_retry_config(retries);
        socket.set_outgoing_options(self.options);
        self.socket = Some(sockets.add(socket));
        self.reopen_at = None;
    }

    /// Begins anew: the host is on another network, or has another Ethernet address.
    pub(crate) fn restart(&mut self, sockets: &mut SocketSet<'static>) {
        match self.socket {
            Some(handle) => sockets.get_mut::<Socket<'_>>(handle).reset(),
            None => self.reopen(sockets),
        }
    }

    /// Returns whether the host uses a leased address.
    pub(crate) fn is_leased(&self) -> bool {
        self.lease.is_some_and(|lease| lease.is_used)
    }

    /// Returns when the client has something to do that its socket does not know of.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.reopen_at
    }

    /// Takes what has come of the requests. Returns a frame for the network.
    pub(crate) fn step(
        &mut self,
        sockets: &mut SocketSet<'static>,
        configuration: &mut Configuration,
        replies: &mut DhcpReplies,
        now: Instant,
    ) -> Option<Vec<u8>> {
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.reopen(sockets);
        }
        let handle = self.socket?;
        match sockets.get_mut::<Socket<'_>>(handle).poll() {
            Some(Event::Configured(config)) => {
                if !self.configured(&config, configuration, replies, now) {
                    self.wait(sockets, now);
                    return None;
                }
            }
            Some(Event::Deconfigured) => self.end(configuration),
            None => {
                let acknowledged = replies.acknowledged.take();
                if let Some(lease) = self.lease.filter(|lease| lease.is_used)
                    && let Some((address, seconds)) = acknowledged
                    && address == lease.cidr.address()
                {
                    let address = lease.address;
                    configuration.note(NetworkChange::Renewed { address, seconds });
                }
            }
        }
        let lease = self.lease.as_mut().filter(|lease| !lease.is_used)?;
        let address = lease.cidr.address();
        if configuration.identity().has(address.into()) {
            lease.is_used = true;
            self.pause = FIRST_PAUSE;
            configuration.note(NetworkChange::Leased {
                address: lease.address,
                server: lease.server.1,
                router: lease.router,
                seconds: lease.seconds,
            });
        } else if !configuration.asks_about(address.into()) {
            // Another host has it.
            let frame = self.message(DhcpMessageType::Decline, configuration, replies);
            self.lease = None;
            configuration.end_lease(address);
            self.wait(sockets, now);
            return frame;
        }
        None
    }

    /// Stops to ask for a while.
    fn wait(&mut self, sockets: &mut SocketSet<'static>, now: Instant) {
        if let Some(handle) = self.socket.take() {
            sockets.remove(handle);
        }
        self.reopen_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Takes a lease. Returns `false` when no host can have the address.
    fn configured(
        &mut self,
        config: &Config<'_>,
        configuration: &mut Configuration,
        replies: &mut DhcpReplies,
        now: Instant,
    ) -> bool {
        let cidr = config.address;
        let server = config.server.identifier;
        if self.lease.is_some_and(|lease| lease.cidr != cidr) {
            self.end(configuration);
        }
        let address = match HostAddress::of(cidr.into()) {
            Ok(address) => address,
            Err(why) => {
                let address = cidr.address();
                configuration.note(NetworkChange::LeaseUnusable { address, server, why });
                return false;
            }
        };
        let router = config.router.filter(|router| {
            HostAddress::of(Ipv4Cidr::new(*router, cidr.prefix_len()).into()).is_ok()
        });
        let seconds = replies.acknowledged.take().and_then(|(_, seconds)| seconds);
        let is_used = self.is_leased();
        if is_used {
            configuration.note(NetworkChange::Renewed { address, seconds });
        }
        let server = (config.server.address, server);
        self.lease = Some(Lease { address, cidr, router, server, seconds, is_used });
        configuration.lease(cidr, router, now);
        true
    }

    fn end(&mut self, configuration: &mut Configuration) {
        if let Some(Lease { address, cidr, is_used, .. }) = self.lease.take() {
            configuration.end_lease(cidr.address());
            if is_used {
                configuration.note(NetworkChange::LeaseLost { address });
            }
        }
    }

    /// Gives the lease back. Returns the frame for the network; nothing when there is no lease.
    pub(crate) fn release(
        &mut self,
        sockets: &mut SocketSet<'static>,
        configuration: &mut Configuration,
        replies: &DhcpReplies,
    ) -> Option<Vec<u8>> {
        let frame = self.message(DhcpMessageType::Release, configuration, replies);
        if let Some(lease) = self.lease.take() {
            configuration.end_lease(lease.cidr.address());
        }
        if let Some(handle) = self.socket.take() {
            sockets.remove(handle);
        }
        frame
    }

    /// Makes the message that ends the lease.
    fn message(
        &self,
        message_type: DhcpMessageType,
        configuration: &Configuration,
        replies: &DhcpReplies,
    ) -> Option<Vec<u8>> {
        let Lease { cidr, server, .. } = self.lease?;
        let own = cidr.address();
        let mac = configuration.identity().mac;
        let is_release = message_type == DhcpMessageType::Release;
        let none = Ipv4Addr::UNSPECIFIED;
        let message = DhcpRepr {
            message_type,
            transaction_id: fastrand::u32(..),
            secs: 0,
            client_hardware_address: mac,
            client_ip: if is_release { own } else { none },
            your_ip: none,
            server_ip: none,
            router: None,
            subnet_mask: None,
            relay_agent_ip: none,
            broadcast: false,
            requested_ip: (!is_release).then_some(own),
            client_identifier: Some(mac),
            server_identifier: Some(server.1),
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        // A host without an address can only broadcast.
        let (from, to, to_mac): (IpAddr, IpAddr, _) = if is_release {
            (own.into(), server.0.into(), replies.source?)
        } else {
            (none.into(), Ipv4Addr::BROADCAST.into(), EthernetAddress::BROADCAST)
        };
        let len = UDP_HEADER + message.buffer_len();
        let mut frame = frame::ip((mac, to_mac), (from, to), IpProtocol::Udp, 64, len);
        let start = frame.len() - len;
        let mut datagram = UdpPacket::new_unchecked(&mut frame[start..]);
        datagram.set_src_port(CLIENT_PORT);
        datagram.set_dst_port(SERVER_PORT);
        datagram.set_len(u16::try_from(len).unwrap_or(u16::MAX));
        message.emit(&mut DhcpPacket::new_unchecked(datagram.payload_mut())).ok()?;
        datagram.fill_checksum(&from.into(), &to.into());
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::socket::dhcpv4::ServerInfo;

    use super::*;
    use neighbor::Identity;

    const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
    const LEASED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 57);

    struct Lab {
        sockets: SocketSet<'static>,
        configuration: Configuration,
        replies: DhcpReplies,
        client: DhcpClient,
    }

    impl Lab {
        fn new() -> Self {
            let mut sockets = SocketSet::new(Vec::new());
            let client = DhcpClient::open(&mut sockets, None);
            let identity = Identity::new(MAC, Vec::new());
            let (configuration, replies) = (Configuration::new(identity), DhcpReplies::default());
            Self { sockets, configuration, replies, client }
        }

        fn step(&mut self, now: Instant) -> Option<Vec<u8>> {
            let Self { sockets, configuration, replies, client } = self;
            client.step(sockets, configuration, replies, now)
        }

        /// A server leases the address.
        fn configured(&mut self, address: Ipv4Addr, now: Instant) -> bool {
            let config = Config {
                server: ServerInfo { address: SERVER, identifier: SERVER },
                address: Ipv4Cidr::new(address, 24),
                router: None,
                dns_servers: [].into_iter().collect(),
                packet: None,
            };
            self.client.configured(&config, &mut self.configuration, &mut self.replies, now)
        }

        /// Checks that the client asks no server for so long, and then does.
        fn assert_waits(&mut self, time: Duration, now: Instant) {
            assert_eq!(self.client.due(), Some(now + time));
            assert_eq!(self.step(now + time / 2), None);
            assert!(self.client.socket.is_none());
            self.step(now + time);
            assert!(self.client.socket.is_some() && self.client.due().is_none());
        }
    }

    #[test]
    fn a_host_asks_again_after_it_has_declined_an_address() {
        let (mut lab, mut now) = (Lab::new(), Instant::now());
        lab.step(now);
        for seconds in [10, 20, 40] {
            assert!(lab.configured(LEASED, now));
            let other = EthernetAddress([2, 0, 0, 0, 0, 9]);
            assert!(lab.configuration.contested(LEASED.into(), other, now));
            lab.configuration.service(now, false);
            assert!(lab.step(now).is_some(), "the server hears it");
            let time = Duration::from_secs(seconds);
            lab.assert_waits(time, now);
            now += time;
        }
        // The next is free. After that the first pause is short again.
        lab.configured(LEASED, now);
        while !lab.client.is_leased() {
            now = lab.configuration.due(false).expect("it asks about the address");
            lab.configuration.service(now, false);
            lab.step(now);
        }
        assert_eq!(lab.client.pause, FIRST_PAUSE);
    }

    #[test]
    fn a_lease_that_no_host_can_have_is_not_the_last() {
        let (mut lab, now) = (Lab::new(), Instant::now());
        lab.step(now);
        assert!(!lab.configured([224, 0, 0, 1].into(), now));
        lab.client.wait(&mut lab.sockets, now);
        lab.assert_waits(FIRST_PAUSE, now);
        for _ in 0..10 {
            lab.client.wait(&mut lab.sockets, now);
        }
        lab.assert_waits(LONGEST_PAUSE, now);
        assert!(lab.configured(LEASED, now));
    }

    #[test]
    fn only_replies_to_the_latest_message_are_believed() {
        let (mut lab, now) = (Lab::new(), Instant::now());
        lab.configured(LEASED, now);
        lab.replies.source = Some(MAC);
        let ask = lab.client.message(DhcpMessageType::Release, &lab.configuration, &lab.replies);
        let frame = ask.expect("a message");
        let number = transaction(&frame).expect("it has a number");
        // The same bytes as an acknowledgement: the ports are the other way round.
        let mut reply = frame;
        let udp = ETHERNET_HEADER + 20;
        reply[udp..udp + 4].copy_from_slice(&[0, 67, 0, 68]);
        reply[udp + 8] = 2;
        let kind = reply.windows(3).position(|bytes| bytes == [53, 1, 7]).expect("its type");
        reply[kind + 2] = 5;
        assert_eq!(transaction(&reply), None);
        let mut replies = DhcpReplies::default();
        assert!(!replies.take(&reply, MAC), "the host has asked for nothing");
        replies.sent(Some(number ^ 1));
        assert!(!replies.take(&reply, MAC), "it is forged");
        replies.sent(Some(number));
        replies.sent(None);
        assert!(replies.take(&reply, MAC));
        assert!(!replies.take(&reply, EthernetAddress([2, 0, 0, 0, 0, 9])), "for another host");
    }
}
