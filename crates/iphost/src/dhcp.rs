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
use crate::frame::{self, ETHERNET_HEADER};
use crate::network_change::NetworkChange;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const UDP_HEADER: usize = 8;
/// The option that names the client.
const HOST_NAME: u8 = 12;
/// The longest such name.
const MAX_NAME: usize = 63;
/// How long a server has to answer. Some look for other hosts with the address for three seconds.
const ANSWER_TIMEOUT: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(4);
/// How long a host waits that has declined an address (RFC 2131, 3.1).
const DECLINE_PAUSE: Duration = Duration::from_secs(10);

/// The client of a host.
pub(crate) struct DhcpClient {
    /// None while it waits after it has declined an address.
    socket: Option<SocketHandle>,
    reopen_at: Option<Instant>,
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
    /// Where the latest came from.
    source: Option<EthernetAddress>,
    /// The latest lease that a server acknowledged, and its time.
    acknowledged: Option<(Ipv4Addr, Option<u32>)>,
}

impl DhcpReplies {
    /// Takes a frame of IPv4 for the host at `mac`. Returns whether it is a reply of a server, which
    /// may be for an address that the host does not have yet.
    pub(crate) fn take(&mut self, frame: &[u8], mac: EthernetAddress) -> bool {
        let Some((message, address, seconds)) = read(frame, mac) else { return false };
        self.source = Some(frame::source(frame));
        if message == DhcpMessageType::Ack {
            self.acknowledged = Some((address, seconds));
        }
        true
    }
}

/// Reads a reply of a server: its type, the address, and the time of the lease.
fn read(frame: &[u8], mac: EthernetAddress) -> Option<(DhcpMessageType, Ipv4Addr, Option<u32>)> {
    let packet = Ipv4Packet::new_checked(frame.get(ETHERNET_HEADER..)?).ok()?;
    let is_whole = !packet.more_frags() && packet.frag_offset() == 0;
    if packet.next_header() != IpProtocol::Udp || !is_whole {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    if (datagram.src_port(), datagram.dst_port()) != (SERVER_PORT, CLIENT_PORT) {
        return None;
    }
    let message = DhcpPacket::new_checked(datagram.payload()).ok()?;
    let reply = DhcpRepr::parse(&message).ok()?;
    (reply.client_hardware_address == mac).then_some((
        reply.message_type,
        reply.your_ip,
        reply.lease_duration,
    ))
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
        let mut client = Self { socket: None, reopen_at: None, options, lease: None };
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
                self.configured(&config, configuration, replies, now);
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
            sockets.remove(handle);
            (self.socket, self.reopen_at) = (None, Some(now + DECLINE_PAUSE));
            return frame;
        }
        None
    }

    fn configured(
        &mut self,
        config: &Config<'_>,
        configuration: &mut Configuration,
        replies: &mut DhcpReplies,
        now: Instant,
    ) {
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
                return;
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
