//! The device between a host's stack and its network device: what the stack does not do itself.
//!
//! On the way in it answers ARP and neighbor discovery, puts fragments together, and drops what no
//! host is to answer ([`inbound`](crate::inbound)). On the way out it cuts packets that are too long
//! for a frame: for the stack, packets have up to 64 KiB. A frame that needs none of this passes in
//! both directions without a copy, and so do the super-frames that the device cuts.

use std::cell::Cell;
use std::time::Instant;

use shmbus::SendError;
use smoltcp::phy::{Device, DeviceCapabilities, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{IpCidr, IpProtocol};

use crate::configuration::Configuration;
use crate::dhcp::{self, DhcpReplies};
use crate::echo_watch::{EchoEvent, EchoWatch, V4_REQUEST, V6_REPLY, V6_REQUEST};
use crate::fragment;
use crate::icmp_error::PingError;
use crate::inbound::Inbound;
use crate::mss;
use crate::neighbors::Outgoing;
use crate::nic::Nic;
use crate::resolver::Resolver;
use neighbor::AddressConflict;
use neighbor::Identity;
use neighbor::frame::{self, ETHERNET_HEADER, IPV6_HEADER, MAX_PACKET, fill_icmp_checksum};

/// The hop limit of the stack's packets.
const HOP_LIMIT: u8 = 64;

/// A network device with what the stack needs above it.
pub(crate) struct Link<N> {
    nic: N,
    inbound: Inbound,
    outbound: Outbound,
    /// The stack is about to hear a frame that was for a group.
    for_group: Cell<bool>,
    /// Whether the device is connected, as of the latest round.
    is_up: bool,
    /// It has been connected anew.
    is_anew: bool,
    /// The latest connection.
    connection: Option<u64>,
}

/// The way out.
struct Outbound {
    /// Bytes of the longest packet that fits a frame.
    mtu: usize,
    /// The stack leaves checksums of UDP to the device.
    fills_udp: bool,
    identification: u32,
    /// The hop limit of IPv6 packets.
    hop_limit: u8,
    /// Packets of the stack that are too long for a frame.
    long: Vec<Vec<u8>>,
    /// Frames in which the stack asks for hosts.
    questions: Vec<Vec<u8>>,
    /// The stack has a DHCP client. The number of its latest message, until that is passed on.
    uses_dhcp: bool,
    transaction: Option<u32>,
}

impl<N: Nic> Link<N> {
    pub(crate) fn new(nic: N, addresses: Vec<IpCidr>, now: Instant) -> Self {
        let capabilities = nic.capabilities();
        let mtu = capabilities.max_transmission_unit - ETHERNET_HEADER;
        let identity = identity(&nic, addresses);
        let outbound = Outbound {
            mtu,
            fills_udp: !capabilities.checksum.udp.tx(),
            identification: fastrand::u32(..),
            hop_limit: HOP_LIMIT,
            long: Vec::new(),
            questions: Vec::new(),
            uses_dhcp: false,
            transaction: None,
        };
        Self {
            nic,
            inbound: Inbound::new(Resolver::new(identity), mtu, now),
            outbound,
            for_group: Cell::new(false),
            is_up: false,
            is_anew: false,
            connection: None,
        }
    }

    pub(crate) fn nic(&self) -> &N {
        &self.nic
    }

    pub(crate) fn nic_mut(&mut self) -> &mut N {
        &mut self.nic
    }

    /// Sets the host's addresses, after the device has changed. The stack has been made anew.
    pub(crate) fn set_addresses(&mut self, addresses: Vec<IpCidr>, now: Instant) {
        let identity = identity(&self.nic, addresses);
        self.inbound.resolver.set_identity(identity, now);
        let capabilities = self.nic.capabilities();
        self.outbound.fills_udp = !capabilities.checksum.udp.tx();
        self.outbound.mtu = capabilities.max_transmission_unit - ETHERNET_HEADER;
        self.inbound.set_mtu(self.outbound.mtu);
    }

    /// Begins a round at `now`. Returns whether the device has been connected to another network, so
    /// that the stack is to forget the hosts that it knows.
    pub(crate) fn begin_round(&mut self, now: Instant) -> bool {
        let connection = self.nic.connection();
        self.is_up = connection.is_some();
        if !self.is_up {
            return false;
        }
        let before = std::mem::replace(&mut self.connection, connection);
        let is_other = before.is_some() && before != connection;
        if is_other {
            self.inbound.resolver.forget_network(now);
        }
        if before != connection {
            self.is_anew = true;
            self.inbound.resolver.link_up(now);
        }
        self.inbound.service(now);
        self.outbound.hop_limit = self.configuration().hop_limit().unwrap_or(HOP_LIMIT);
        is_other
    }

    /// Returns whether the device has been connected anew since the last call.
    pub(crate) fn take_anew(&mut self) -> bool {
        std::mem::take(&mut self.is_anew)
    }

    /// Returns how the host is configured.
    pub(crate) fn configuration(&self) -> &Configuration {
        &self.inbound.resolver.configuration
    }

    /// Returns how the host is configured, to change it.
    pub(crate) fn configuration_mut(&mut self) -> &mut Configuration {
        &mut self.inbound.resolver.configuration
    }

    /// Notes that the stack has forgotten the hosts that it knew.
    pub(crate) fn stack_forgets(&mut self) {
        self.inbound.resolver.stack_forgets();
    }

    /// Begins to let replies of DHCP servers pass.
    pub(crate) fn use_dhcp(&mut self) {
        self.inbound.dhcp.get_or_insert_default();
        self.outbound.uses_dhcp = true;
        self.configuration_mut().expect_lease();
    }

    /// Lets a DHCP client use the replies, and sends the frame that it makes.
    pub(crate) fn with_dhcp(
        &mut self,
        step: impl FnOnce(&mut Configuration, &mut DhcpReplies) -> Option<Vec<u8>>,
    ) {
        if let Some(replies) = &mut self.inbound.dhcp {
            replies.sent(self.outbound.transaction.take());
            let resolver = &mut self.inbound.resolver;
            let frame = step(&mut resolver.configuration, replies);
            resolver.answers.extend(frame);
        }
    }

    /// Returns whether there is a frame for the stack, or an error of the device that a round finds.
    pub(crate) fn poll_rx(&mut self) -> bool {
        !self.inbound.resolver.for_stack.is_empty() || self.nic.poll_rx()
    }

    /// Returns when the link next has something to do, if no frame comes before.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.is_up.then(|| self.inbound.due()).flatten()
    }

    /// Sends all that waits, and ends the round.
    pub(crate) fn flush(&mut self, now: Instant) -> Result<(), SendError> {
        self.send_waiting(now);
        self.nic.flush()
    }

    /// Writes what waits to the device: answers, packets whose destination is known now, and long
    /// packets of the stack in fragments.
    #[inline]
    pub(crate) fn send_waiting(&mut self, now: Instant) {
        // Called for every frame, and hardly ever needed.
        let outbound = &self.outbound;
        if !outbound.questions.is_empty()
            || !outbound.long.is_empty()
            || self.inbound.resolver.has_waiting()
        {
            self.send_all(now);
        }
    }

    #[cold]
    fn send_all(&mut self, now: Instant) {
        let resolver = &mut self.inbound.resolver;
        for question in self.outbound.questions.drain(..) {
            resolver.stack_sends(&question, now);
        }
        for answer in resolver.answers.drain(..) {
            write(&mut self.nic, &answer);
        }
        for mut packet in self.outbound.long.drain(..) {
            if self.outbound.fills_udp {
                fragment::fill_udp_checksum(&mut packet);
            }
            self.outbound.identification = self.outbound.identification.wrapping_add(1);
            for fragment in fragment::cut(&packet, self.outbound.mtu, self.outbound.identification)
            {
                write(&mut self.nic, &fragment);
            }
        }
        let watches = &mut self.inbound.watches;
        for Outgoing { frame, tag, .. } in resolver.resolved.drain(..) {
            if frame.len() <= ETHERNET_HEADER + self.outbound.mtu {
                write(&mut self.nic, &frame);
            } else {
                self.outbound.identification = self.outbound.identification.wrapping_add(1);
                for fragment in
                    fragment::cut(&frame, self.outbound.mtu, self.outbound.identification)
                {
                    write(&mut self.nic, &fragment);
                }
            }
            note(watches, tag, |sequence| EchoEvent::Left { sequence });
        }
        for Outgoing { frame, tag, .. } in std::mem::take(&mut resolver.unreachable) {
            let v6 = frame[12..14] == frame::IPV6;
            let target = watches.iter().find(|watch| watch.ident == ident(tag));
            let from =
                target.and_then(|watch| resolver.configuration.source_for(watch.target, now));
            if let Some(from) = from {
                let error = PingError::AddressUnreachable { v6 };
                note(watches, tag, |sequence| EchoEvent::Error { sequence, from, error });
            }
        }
    }

    /// Begins to claim the host's addresses.
    pub(crate) fn claim(&mut self) {
        self.inbound.resolver.claim();
    }

    /// Returns whether the host still asks whether its addresses are free.
    pub(crate) fn is_tentative(&self) -> bool {
        self.inbound.resolver.is_tentative()
    }

    /// Returns the next conflict about an address.
    pub(crate) fn next_conflict(&mut self) -> Option<AddressConflict> {
        self.inbound.resolver.next_conflict()
    }

    /// Begins to watch what comes of requests.
    pub(crate) fn watch(&mut self, watch: EchoWatch) {
        self.inbound.watches.push(watch);
    }

    /// Ends to watch the requests with an identifier.
    pub(crate) fn unwatch(&mut self, ident: u16) {
        self.inbound.watches.retain(|watch| watch.ident != ident);
    }

    /// Returns the next event of the requests with an identifier.
    pub(crate) fn next_event(&mut self, ident: u16) -> Option<EchoEvent> {
        self.watched(ident)?.next_event()
    }

    /// Asks whether the target of the requests is still where it was.
    pub(crate) fn doubt_target(&mut self, ident: u16, now: Instant) {
        if let Some(target) = self.watched(ident).map(|watch| watch.target) {
            self.inbound.resolver.doubt(target, now);
        }
    }

    /// Sends the request of a number, with a hop limit of its own or the usual one. It leaves when its
    /// target is known, or the router to it, in this round or a later, and waits for that until
    /// `until` at least.
    pub(crate) fn send_request(
        &mut self,
        (ident, sequence): (u16, u16),
        hop_limit: Option<u8>,
        until: Instant,
        now: Instant,
    ) {
        let Some(watch) = self.inbound.watches.iter().find(|watch| watch.ident == ident) else {
            return;
        };
        let configuration = &self.inbound.resolver.configuration;
        let identity = configuration.identity();
        let Some(own) = configuration.source_for(watch.target, now) else { return };
        let (kind, protocol, usual) = if own.is_ipv4() {
            (V4_REQUEST, IpProtocol::Icmp, HOP_LIMIT)
        } else {
            (V6_REQUEST, IpProtocol::Icmpv6, self.outbound.hop_limit)
        };
        let len = 8 + watch.data.len();
        let macs = (identity.mac, identity.mac);
        let hop_limit = hop_limit.unwrap_or(usual);
        let mut frame = frame::ip(macs, (own, watch.target), protocol, hop_limit, len);
        let start = frame.len() - len;
        let message = &mut frame[start..];
        message[0] = kind;
        message[4..6].copy_from_slice(&ident.to_be_bytes());
        message[6..8].copy_from_slice(&sequence.to_be_bytes());
        message[8..].copy_from_slice(&watch.data);
        fill_icmp_checksum(message, own, watch.target);
        let (target, tag) = (watch.target, u64::from(ident) << 16 | u64::from(sequence));
        self.inbound.resolver.send(target, Outgoing { frame, tag, until }, now);
    }

    fn watched(&mut self, ident: u16) -> Option<&mut EchoWatch> {
        self.inbound.watches.iter_mut().find(|watch| watch.ident == ident)
    }
}

/// Returns who a host with these addresses is at a device.
fn identity<N: Nic>(nic: &N, addresses: Vec<IpCidr>) -> Identity {
    let mut identity = Identity::new(nic.mac(), addresses);
    identity.far_end = nic.far_end();
    identity
}

fn ident(tag: u64) -> u16 {
    ((tag >> 16) & 0xffff) as u16
}

fn note(watches: &mut [EchoWatch], tag: u64, event: impl FnOnce(u16) -> EchoEvent) {
    if let Some(watch) = watches.iter_mut().find(|watch| watch.ident == ident(tag)) {
        watch.note(event((tag & 0xffff) as u16));
    }
}

/// Writes a frame to the device. One that is not connected loses it.
fn write<N: Nic>(nic: &mut N, frame: &[u8]) {
    if let Some(token) = nic.transmit(StackInstant::ZERO) {
        token.consume(frame.len(), |room| room.copy_from_slice(frame));
    }
}

impl<N: Nic> Device for Link<N> {
    type RxToken<'a>
        = LinkRx<'a, N::RxToken<'a>>
    where
        Self: 'a;
    type TxToken<'a>
        = LinkTx<'a, N::TxToken<'a>>
    where
        Self: 'a;

    fn receive(&mut self, now: StackInstant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let Self { nic, inbound, outbound, for_group, .. } = self;
        for_group.set(false);
        if let Some(frame) = inbound.resolver.for_stack.pop_front() {
            let tx = LinkTx::new(nic.transmit(now)?, outbound, for_group);
            return Some((LinkRx::Waited(frame), tx));
        }
        let (rx, tx) = nic.receive(now)?;
        Some((LinkRx::New(rx, inbound, for_group), LinkTx::new(tx, outbound, for_group)))
    }

    fn transmit(&mut self, now: StackInstant) -> Option<Self::TxToken<'_>> {
        self.for_group.set(false);
        Some(LinkTx::new(self.nic.transmit(now)?, &mut self.outbound, &self.for_group))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = self.nic.capabilities();
        // The length of an IPv6 packet does not count its header.
        capabilities.max_transmission_unit = ETHERNET_HEADER + IPV6_HEADER + MAX_PACKET;
        capabilities
    }
}

/// A frame for the stack.
pub(crate) enum LinkRx<'a, R> {
    /// It has come from the device, and is looked at before the stack gets it.
    New(R, &'a mut Inbound, &'a Cell<bool>),
    /// It was looked at before.
    Waited(Vec<u8>),
}

impl<R: RxToken> RxToken for LinkRx<'_, R> {
    fn consume<T, F: FnOnce(&[u8]) -> T>(self, read: F) -> T {
        match self {
            Self::Waited(frame) => read(&frame),
            Self::New(rx, inbound, for_group) => rx.consume(|frame| match inbound.take(frame) {
                Some(passed) => {
                    for_group.set(passed.is_for_group);
                    read(passed.instead.as_deref().unwrap_or(frame))
                }
                // The stack does nothing about an empty frame.
                None => read(&[]),
            }),
        }
    }
}

/// Room for a frame of the stack.
pub(crate) struct LinkTx<'a, T> {
    tx: T,
    outbound: &'a mut Outbound,
    for_group: &'a Cell<bool>,
    /// The device cuts the frame.
    is_super: bool,
}

impl<'a, T> LinkTx<'a, T> {
    fn new(tx: T, outbound: &'a mut Outbound, for_group: &'a Cell<bool>) -> Self {
        Self { tx, outbound, for_group, is_super: false }
    }
}

impl<T: TxToken> TxToken for LinkTx<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let Self { tx, outbound, for_group, is_super } = self;
        if !is_super && len > ETHERNET_HEADER + outbound.mtu {
            let mut packet = vec![0; len];
            let result = write(&mut packet);
            outbound.limit_hops(&mut packet);
            outbound.long.push(packet);
            return result;
        }
        if for_group.get() {
            // The stack would also answer with an error, or ask where to send one.
            let mut frame = vec![0; len];
            let result = write(&mut frame);
            if is_echo_reply(&frame) {
                outbound.limit_hops(&mut frame);
                tx.consume(len, |room| room.copy_from_slice(&frame));
            }
            return result;
        }
        let mtu = outbound.mtu;
        tx.consume(len, |frame| {
            let result = write(frame);
            mss::clamp(frame, mtu);
            outbound.limit_hops(frame);
            outbound.note_dhcp(frame);
            if is_question(frame) {
                outbound.questions.push(frame.to_vec());
            }
            result
        })
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.is_super = meta.segmentation_offload_size.is_some();
        self.tx.set_meta(meta);
    }
}

impl Outbound {
    /// Sets the hop limit of an IPv6 packet of the stack, unless it has one for a purpose.
    #[inline]
    fn limit_hops(&self, frame: &mut [u8]) {
        if self.hop_limit == HOP_LIMIT || frame[12..14] != frame::IPV6 {
            return;
        }
        let field = &mut frame[ETHERNET_HEADER + 7];
        if *field == HOP_LIMIT {
            *field = self.hop_limit;
        }
    }

    /// Notes the number of a DHCP client's message: the answers have it, too.
    fn note_dhcp(&mut self, frame: &[u8]) {
        if self.uses_dhcp
            && let Some(number) = dhcp::transaction(frame)
        {
            self.transaction = Some(number);
        }
    }
}

/// Returns whether a frame carries an echo reply of IPv6: the only answer to a frame for a group.
fn is_echo_reply(frame: &[u8]) -> bool {
    frame[12..14] == frame::IPV6
        && IpProtocol::from(frame[ETHERNET_HEADER + 6]) == IpProtocol::Icmpv6
        && frame.get(ETHERNET_HEADER + IPV6_HEADER) == Some(&V6_REPLY)
}

/// Returns whether a frame asks for a host: it is ARP, or goes to the group in which hosts look for
/// the owner of an IPv6 address.
fn is_question(frame: &[u8]) -> bool {
    frame[12..14] == frame::ARP || frame[..3] == [0x33, 0x33, 0xff]
}
