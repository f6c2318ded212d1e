//! A station as a device of smoltcp, so that an IP stack in a library can be a host on a bus.
//! (Feature `smoltcp`.)
//!
//! smoltcp takes and makes frames one by one. The device reads them in bursts, and collects those
//! that the stack makes; [`Phy::flush`] sends them together, with one lock and one wake-up. Call it
//! after each poll of the stack.
//!
//! Checksums follow the [`Capabilities`] that the station has when the device is made, or when it
//! last adopted them ([`Phy::adopt_capabilities`]). The stack leaves the enabled classes to the
//! device, which fills in checksums and drops bad frames. The stack does not tell TCP or UDP over
//! IPv4 from the same over IPv6, so it leaves a class to the device when it is enabled for both.
//! Nothing then checks what a receiver cannot check: fragments, and packets with IPv6 extension
//! headers.
//!
//! TCP segmentation over IPv4 is left to the device likewise, where the checksums of TCP are: the
//! stack hands over super-frames of up to 64 KiB, which are cut on their way onto the bus. Over
//! IPv6 the stack always cuts by itself: smoltcp 0.14 drops the super-frames that it makes there,
//! as packets too long for the device.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("bus");
//! use shmbus::{Bus, Station, StationOptions, phy::Phy};
//! use smoltcp::iface::{Config, Interface as Stack, SocketSet};
//! use smoltcp::time::Instant;
//! use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};
//!
//! let station = Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new())?;
//! let mac = EthernetAddress(station.mac().into_array());
//! let mut phy = Phy::new(station);
//! let mut stack = Stack::new(Config::new(mac.into()), &mut phy, Instant::now());
//! stack.update_ip_addrs(|addresses| {
//!     let _ = addresses.push(IpCidr::new(Ipv4Address::new(10, 0, 0, 1).into(), 24));
//! });
//! let mut sockets = SocketSet::new(vec![]);
//! # for _ in 0..1 {
//! // In a loop:
//! stack.poll(Instant::now(), &mut phy, &mut sockets);
//! phy.flush()?;
//! let pause = stack.poll_delay(Instant::now(), &sockets);
//! # let pause = Some(smoltcp::time::Duration::ZERO);
//! phy.station_mut().wait(pause.map(Into::into))?;
//! # }
//! # Ok(())
//! # }
//! ```

use std::num::{NonZeroU16, NonZeroUsize};
use std::ops::Range;
use std::slice;

use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta,
};
use smoltcp::time::Instant;

use crate::error::SendError;
use crate::face::burst::Burst;
use crate::face::station::Station;
use crate::format::{MAX_FRAME, MIN_FRAME};
use crate::mechanism::offload::{Capabilities, Offload, TxRequest, fill_in_place, verify};

/// Frames read, and frames collected, at a time.
const BURST: usize = 64;
/// Bytes of the longest super-frame: a packet's length is a number of 16 bits.
const SUPER_FRAME: NonZeroUsize = NonZeroUsize::new(MIN_FRAME + u16::MAX as usize).unwrap();
/// Bytes collected at a time.
const ROOM: usize = BURST * MAX_FRAME;
const _: () = assert!(ROOM >= SUPER_FRAME.get());

/// What a [`Phy`] is made of: a station, or a type that stands for one.
pub trait Bursts {
    /// Fills `burst` with the frames on the bus, without waiting; returns how many.
    fn recv_burst(&mut self, burst: &mut Burst) -> usize;

    /// Finishes frames and sends them, in order; returns how many went onto the bus.
    ///
    /// # Errors
    /// As for [`Station::send_offload_burst`].
    fn send_burst(&mut self, frames: OutFrames<'_>) -> Result<usize, SendError>;

    /// Returns which checksums and segmentations the stack leaves to the device; none by default.
    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    /// Returns the longest frame that can be sent, in bytes with its Ethernet header; that of a
    /// usual bus by default.
    fn max_frame(&self) -> usize {
        MAX_FRAME
    }

    /// Counts a received frame that the device dropped because a checksum was wrong.
    fn count_bad_checksum(&mut self) {}
}

impl Bursts for Station {
    fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        Self::recv_burst(self, burst)
    }

    fn send_burst(&mut self, frames: OutFrames<'_>) -> Result<usize, SendError> {
        self.send_offload_burst(frames)
    }

    fn capabilities(&self) -> Capabilities {
        Self::capabilities(self)
    }

    fn max_frame(&self) -> usize {
        Self::max_frame(self)
    }

    fn count_bad_checksum(&mut self) {
        self.count_bad_checksum();
    }
}

/// Frames that the stack has made, in order.
#[derive(Clone, Debug)]
pub struct OutFrames<'a> {
    bytes: &'a [u8],
    frames: slice::Iter<'a, OutFrame>,
}

impl<'a> Iterator for OutFrames<'a> {
    type Item = TxRequest<'a>;

    fn next(&mut self) -> Option<TxRequest<'a>> {
        let OutFrame { place, offload } = self.frames.next()?;
        Some(TxRequest::new(&self.bytes[place.clone()], *offload))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.frames.size_hint()
    }
}

impl ExactSizeIterator for OutFrames<'_> {}

/// One of them, in the bytes of an [`Outbox`].
#[derive(Clone, Debug)]
struct OutFrame {
    place: Range<usize>,
    offload: Offload,
}

/// A station as a smoltcp [`Device`]. It allocates nothing after it was made.
#[derive(Debug)]
pub struct Phy<S = Station> {
    station: S,
    received: Burst,
    /// Frames of `received` that the stack has taken.
    taken: usize,
    out: Outbox,
    /// What the stack asked for when it was made, and relies on.
    capabilities: Capabilities,
}

/// Frames on their way to the bus.
#[derive(Debug)]
struct Outbox {
    bytes: Box<[u8]>,
    frames: Vec<OutFrame>,
    /// Why an earlier burst was not sent: the next flush returns it.
    error: Option<SendError>,
}

impl<S: Bursts> Phy<S> {
    /// Makes a device of a station.
    #[must_use]
    pub fn new(station: S) -> Self {
        let bytes = vec![0; ROOM].into_boxed_slice();
        let out = Outbox { bytes, frames: Vec::with_capacity(BURST), error: None };
        let capabilities = station.capabilities();
        Self { station, received: Burst::new(BURST), taken: 0, out, capabilities }
    }

    /// Adopts the station's present capabilities; returns whether they changed. If so, make the
    /// stack anew, since it asks for a device's capabilities only then. Its sockets may stay.
    pub fn adopt_capabilities(&mut self) -> bool {
        let before = std::mem::replace(&mut self.capabilities, self.station.capabilities());
        self.capabilities != before
    }

    /// Returns the station.
    #[must_use]
    pub fn station(&self) -> &S {
        &self.station
    }

    /// Returns the station, to wait for it or to change it. The stack does not see frames received
    /// through this.
    #[must_use]
    pub fn station_mut(&mut self) -> &mut S {
        &mut self.station
    }

    /// Returns whether the stack has not yet taken all frames that were read: do not sleep then.
    #[must_use]
    pub fn has_received(&self) -> bool {
        self.taken < self.received.len()
    }

    /// Reads frames if the stack has taken all that were read; returns whether there are any for it
    /// now.
    pub fn receive_ahead(&mut self) -> bool {
        if !self.has_received() {
            self.taken = 0;
            self.station.recv_burst(&mut self.received);
        }
        self.has_received()
    }

    /// Sends the frames that the stack made since the last flush.
    ///
    /// # Errors
    /// As for [`Station::send_offload_burst`], for this burst or an earlier one that was sent
    /// because the device was full. Frames that were not sent are lost, as on any Ethernet; the
    /// stack's protocols repeat what matters.
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.out.flush(&mut self.station);
        self.out.error.take().map_or(Ok(()), Err)
    }

    /// Takes the next frame for the stack: its place in `received`.
    fn next_received(&mut self) -> Option<usize> {
        while self.receive_ahead() {
            let frame = self.received.get(self.taken)?;
            self.taken += 1;
            if !verify(frame.bytes, self.capabilities).is_bad() {
                return Some(self.taken - 1);
            }
            self.station.count_bad_checksum();
        }
        None
    }
}

impl Outbox {
    /// Makes room for a frame of `len` bytes, after a flush if there is none.
    fn push(&mut self, len: usize, offload: Offload, station: &mut impl Bursts) -> &mut [u8] {
        let end = |frames: &[OutFrame]| frames.last().map_or(0, |frame| frame.place.end);
        if self.frames.len() == BURST || end(&self.frames) + len > self.bytes.len() {
            self.flush(station);
        }
        let start = end(&self.frames);
        let place = start..start + len;
        self.frames.push(OutFrame { place: place.clone(), offload });
        &mut self.bytes[place]
    }

    fn flush(&mut self, station: &mut impl Bursts) {
        let frames = OutFrames { bytes: &self.bytes, frames: self.frames.iter() };
        if frames.len() > 0
            && let Err(error) = station.send_burst(frames)
        {
            self.error.get_or_insert(error);
        }
        self.frames.clear();
    }
}

impl<S: Bursts> Device for Phy<S> {
    type RxToken<'a>
        = RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = TxToken<'a, S>
    where
        Self: 'a;

    fn receive(&mut self, _timestamp: Instant) -> Option<(RxToken<'_>, TxToken<'_, S>)> {
        let index = self.next_received()?;
        let frame = self.received.get(index)?;
        Some((
            RxToken(frame.bytes),
            TxToken::new(&mut self.out, &mut self.station, self.capabilities),
        ))
    }

    fn transmit(&mut self, _timestamp: Instant) -> Option<TxToken<'_, S>> {
        Some(TxToken::new(&mut self.out, &mut self.station, self.capabilities))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.station.max_frame();
        capabilities.checksum = checksums(self.capabilities);
        // The device sums what it cuts.
        let cut =
            !capabilities.checksum.tcp.tx() && self.capabilities.contains(Capabilities::TSO_V4);
        capabilities.segmentation.tcpv4 = cut.then_some(SUPER_FRAME);
        capabilities
    }
}

/// The checksums that are left to the stack.
fn checksums(ours: Capabilities) -> ChecksumCapabilities {
    let left = |rx: Capabilities, tx: Capabilities| match (ours.contains(rx), ours.contains(tx)) {
        (false, false) => Checksum::Both,
        (false, true) => Checksum::Rx,
        (true, false) => Checksum::Tx,
        (true, true) => Checksum::None,
    };
    let mut checksums = ChecksumCapabilities::default();
    checksums.ipv4 = left(Capabilities::IPV4_RX, Capabilities::IPV4_TX);
    checksums.tcp = left(
        Capabilities::TCP_V4_RX | Capabilities::TCP_V6_RX,
        Capabilities::TCP_V4_TX | Capabilities::TCP_V6_TX,
    );
    checksums.udp = left(
        Capabilities::UDP_V4_RX | Capabilities::UDP_V6_RX,
        Capabilities::UDP_V4_TX | Capabilities::UDP_V6_TX,
    );
    checksums
}

/// A frame for the stack.
#[derive(Debug)]
pub struct RxToken<'a>(&'a [u8]);

impl smoltcp::phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for a frame of the stack.
#[derive(Debug)]
pub struct TxToken<'a, S> {
    out: &'a mut Outbox,
    station: &'a mut S,
    capabilities: Capabilities,
    /// Bytes of payload to cut it into.
    segment: Option<NonZeroU16>,
}

impl<'a, S> TxToken<'a, S> {
    fn new(out: &'a mut Outbox, station: &'a mut S, capabilities: Capabilities) -> Self {
        Self { out, station, capabilities, segment: None }
    }
}

impl<S: Bursts> smoltcp::phy::TxToken for TxToken<'_, S> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let offload = match self.segment {
            Some(payload) => Offload::new().segments(payload.get()),
            None => Offload::new(),
        };
        let frame = self.out.push(len, offload, self.station);
        let result = write(frame);
        if offload.is_nothing() {
            // This is its only copy, and it is in the cache.
            fill_in_place(frame, self.capabilities);
        }
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment = meta.segmentation_offload_size;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use smoltcp::iface::{Config, Interface as Stack, SocketHandle, SocketSet};
    use smoltcp::socket::tcp;
    use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

    use super::*;
    use crate::mechanism::offload::Verdict;
    use crate::{Bus, StationOptions, Stats, Tap};

    /// A station that remembers the longest frame it was given.
    struct Recorded {
        station: Station,
        longest: usize,
    }

    impl Bursts for Recorded {
        fn recv_burst(&mut self, burst: &mut Burst) -> usize {
            self.station.recv_burst(burst)
        }

        fn send_burst(&mut self, frames: OutFrames<'_>) -> Result<usize, SendError> {
            let longest = frames.clone().map(|request| request.frame.len()).max();
            self.longest = self.longest.max(longest.unwrap_or(0));
            self.station.send_offload_burst(frames)
        }

        fn capabilities(&self) -> Capabilities {
            self.station.capabilities()
        }

        fn count_bad_checksum(&mut self) {
            self.station.count_bad_checksum();
        }
    }

    /// A host on a bus.
    struct Host {
        phy: Phy<Recorded>,
        stack: Stack,
        sockets: SocketSet<'static>,
    }

    impl Host {
        /// Its addresses end with `number`: one in 10.0.0.0/24, one link-local.
        fn new(path: &Path, number: u8, capabilities: Capabilities) -> Self {
            let options = StationOptions::new().capabilities(capabilities);
            let station = Station::join(bus(path), options).unwrap();
            let mut phy = Phy::new(Recorded { station, longest: 0 });
            let stack = Self::stack(&mut phy, number);
            Self { phy, stack, sockets: SocketSet::new(vec![]) }
        }

        fn stack(phy: &mut Phy<Recorded>, number: u8) -> Stack {
            let mac = EthernetAddress(phy.station().station.mac().into_array());
            let mut stack = Stack::new(Config::new(mac.into()), phy, Instant::from_millis(0));
            stack.update_ip_addrs(|addresses| {
                addresses.push(IpCidr::new(v4(number), 24)).unwrap();
                addresses.push(IpCidr::new(v6(number), 64)).unwrap();
            });
            stack
        }

        fn stats(&self) -> Stats {
            self.phy.station().station.stats()
        }

        fn open(&mut self) -> SocketHandle {
            let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 16]);
            self.sockets.add(tcp::Socket::new(buffer(), buffer()))
        }

        fn poll(&mut self, millis: i64) {
            self.stack.poll(Instant::from_millis(millis), &mut self.phy, &mut self.sockets);
            self.phy.flush().unwrap();
        }
    }

    fn bus(path: &Path) -> Bus {
        Bus::open_or_create(path, 0o600).unwrap()
    }

    fn v4(number: u8) -> IpAddress {
        IpAddress::v4(10, 0, 0, number)
    }

    fn v6(number: u8) -> IpAddress {
        IpAddress::v6(0xfe80, 0, 0, 0, 0, 0, 0, number.into())
    }

    /// An ARP request for 10.0.0.1, from 10.0.0.2.
    fn request(mac: [u8; 6]) -> Vec<u8> {
        let mut frame = [[0xff; 6], mac].concat();
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(mac);
        frame.extend([10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
        frame
    }

    #[test]
    fn a_stack_on_the_bus_answers_each_frame_and_in_bursts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let mut asking = Station::join(bus(&path), StationOptions::new()).unwrap();
        let mut host = Host::new(&path, 1, Capabilities::NONE);
        let mac = host.phy.station().station.mac().into_array();

        // More than are read, or sent, at a time.
        let count = 2 * BURST + 1;
        asking.send_burst(vec![request(asking.mac().into_array()); count]).unwrap();
        host.poll(0);
        assert!(!host.phy.has_received());
        assert_eq!(host.stats().tx_packets, count as u64);

        let mut burst = Burst::new(count);
        assert_eq!(asking.recv_burst(&mut burst), count);
        for reply in &burst {
            assert_eq!(&reply.bytes[6..12], &mac);
            assert_eq!(reply.bytes[20..22], [0, 2], "a reply");
        }
    }

    /// Sends 100 kB from `client` to 10.0.0.1 or its IPv6 neighbour. Every TCP packet on the bus is
    /// right.
    fn transfer(path: &Path, server: &mut Host, client: &mut Host, to: IpAddress) {
        let mut tap = Tap::new(Bus::open_read_only(path).unwrap()).unwrap();
        let (listening, calling) = (server.open(), client.open());
        server.sockets.get_mut::<tcp::Socket<'_>>(listening).listen(80).unwrap();
        let caller = client.sockets.get_mut::<tcp::Socket<'_>>(calling);
        caller.connect(client.stack.context(), (to, 80), 50_000).unwrap();

        let data: Vec<u8> = (0..=250).cycle().take(100_000).collect();
        let (mut sent, mut received, mut seen) = (0, Vec::new(), 0);
        let mut burst = Burst::new(1_000);
        for millis in 0..10_000 {
            client.poll(millis);
            server.poll(millis);
            let caller = client.sockets.get_mut::<tcp::Socket<'_>>(calling);
            if caller.can_send() {
                sent += caller.send_slice(&data[sent..]).unwrap();
            }
            let listener = server.sockets.get_mut::<tcp::Socket<'_>>(listening);
            while listener.can_recv() {
                listener.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
            }
            tap.recv_burst(&mut burst);
            for frame in &burst {
                let verdict = verify(frame.bytes, Capabilities::RX);
                assert!(!verdict.is_bad());
                seen += usize::from(verdict.l4 == Verdict::Good);
            }
            if received.len() == data.len() {
                break;
            }
        }
        assert!(received == data, "{} bytes of {} arrived", received.len(), data.len());
        assert!(seen > 100_000 / 1_500, "{seen} packets were seen");
        // The next transfer is another connection.
        client.sockets.remove(calling);
        server.sockets.remove(listening);
    }

    #[test]
    fn a_stack_may_leave_its_checksums_to_the_device() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        for ours in [Capabilities::ALL, Capabilities::TX, Capabilities::RX, Capabilities::TCP_V4_TX]
        {
            let mut server = Host::new(&path, 1, Capabilities::NONE);
            let mut client = Host::new(&path, 2, ours);
            for to in [v4(1), v6(1)] {
                transfer(&path, &mut server, &mut client, to);
            }
            assert_eq!((server.stats().rx_csum_errors, client.stats().rx_csum_errors), (0, 0));
        }
    }

    #[test]
    fn a_stack_may_leave_segmentation_to_the_device_once_it_is_enabled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        for (ours, cuts) in [
            (Capabilities::ALL, true),
            (Capabilities::TX - Capabilities::TSO_V4, false),
            // Nothing is cut that is not summed as well.
            (Capabilities::TSO_V4, false),
            (Capabilities::NONE, false),
        ] {
            let mut server = Host::new(&path, 1, Capabilities::NONE);
            let mut client = Host::new(&path, 2, Capabilities::NONE);
            client.phy.station_mut().station.set_capabilities(ours);
            assert_eq!(client.phy.adopt_capabilities(), ours != Capabilities::NONE);
            assert!(!client.phy.adopt_capabilities());
            client.stack = Host::stack(&mut client.phy, 2);
            for (to, long) in [(v4(1), cuts), (v6(1), false)] {
                client.phy.station_mut().longest = 0;
                transfer(&path, &mut server, &mut client, to);
                let longest = client.phy.station().longest;
                assert_eq!(longest > 10 * MAX_FRAME, long, "{ours}, {to}: {longest}");
            }
        }
    }

    #[test]
    fn what_is_bad_does_not_reach_a_stack_that_does_not_check() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let mut host = Host::new(&path, 1, Capabilities::RX);
        let mut other = Station::join(bus(&path), StationOptions::new()).unwrap();
        // Only the stack checks ICMP; here the IPv4 header is wrong.
        let mut frame =
            [host.phy.station().station.mac().into_array(), other.mac().into_array()].concat();
        frame.extend(b"\x08\0\x45\0\0\x1c\0\0\x40\0\x40\x01\xde\xad\x0a\0\0\x02\x0a\0\0\x01");
        frame.extend(b"\x08\0\xf7\xff\0\0\0\0");
        other.send_burst(vec![frame; BURST + 1]).unwrap();
        host.poll(0);
        assert_eq!((host.stats().rx_csum_errors, host.stats().tx_packets), (BURST as u64 + 1, 0));
    }

    #[test]
    fn a_class_is_left_to_the_device_when_it_has_it_for_both_families() {
        let left = |ours| {
            let left = checksums(ours);
            [left.ipv4, left.tcp, left.udp].map(|class| (class.rx(), class.tx()))
        };
        assert_eq!(left(Capabilities::NONE), [(true, true); 3]);
        assert_eq!(left(Capabilities::ALL), [(false, false); 3]);
        assert_eq!(left(Capabilities::TX), [(true, false); 3]);
        assert_eq!(left(Capabilities::RX), [(false, true); 3]);
        assert_eq!(left(Capabilities::TCP_V4_TX | Capabilities::UDP_V6_RX), [(true, true); 3]);
    }
}
