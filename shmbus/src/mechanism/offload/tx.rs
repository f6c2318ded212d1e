//! Does the work that a sender leaves to the station: fills in checksums and cuts TCP super-frames.
//!
//! A finished frame is made of headers of its own and payload from the frame that was handed over,
//! so that the payload is copied once: onto the bus. The sums are taken before that, outside the
//! lock of the bus.

use std::iter::FusedIterator;
use std::ops::Range;
use std::slice;

use super::capabilities::Capabilities;
use super::checksum::Checksum;
use super::error::{Header, OffloadError};
use super::headers::{Family, LengthRule, Packet, Segment, Transport, get16, get32, put16, put32};
use super::request::{Offload, Sum, TxRequest};
use crate::format::MIN_FRAME;
use crate::mechanism::frame::{FrameSlot, FrameSource};

/// Where TCP has what differs between the segments of a super-frame, from the start of its header
/// on.
const TCP_SEQUENCE: usize = 4;
const TCP_FLAGS: usize = 13;
const TCP_URGENT: usize = 18;

/// The longest payload of a super-frame, in bytes.
const LONGEST_PAYLOAD: usize = 1 << 16;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

/// Where IPv4 and IPv6 have what differs, likewise.
const IPV4_TOTAL_LENGTH: usize = 2;
const IPV4_ID: usize = 4;
const IPV4_CHECKSUM: usize = 10;
const IPV6_PAYLOAD_LENGTH: usize = 4;

/// Finishes frames. It keeps its memory from burst to burst, so it allocates nothing for each
/// frame.
#[derive(Debug, Default)]
pub(crate) struct Finisher {
    /// The headers of all pieces.
    headers: Vec<u8>,
    pieces: Vec<Piece>,
}

/// A finished frame.
#[derive(Clone, Debug)]
struct Piece {
    /// The request it was made of.
    request: usize,
    /// Its beginning, in [`Finisher::headers`].
    headers: Range<usize>,
    /// The rest, in the frame that was handed over.
    payload: Range<usize>,
}

impl Finisher {
    /// Removes the finished frames.
    pub(crate) fn clear(&mut self) {
        self.headers.clear();
        self.pieces.clear();
    }

    /// How many frames are finished.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Finishes the frame of request number `index`, which is not below that of the call before. A
    /// refused frame adds nothing.
    pub(crate) fn finish(
        &mut self,
        index: usize,
        request: TxRequest<'_>,
        enabled: Capabilities,
        longest: usize,
    ) -> Result<(), OffloadError> {
        let TxRequest { frame, offload } = request;
        if frame.len() < MIN_FRAME {
            return Err(OffloadError::Truncated(Header::Ethernet));
        }
        if offload.segment.is_none() {
            check_length(frame.len(), longest)?;
        }
        if offload.is_nothing() {
            self.push(index, &[], 0..frame.len());
            return Ok(());
        }
        let packet = Packet::parse(frame)?;
        if offload.ipv4_header && packet.family == Family::V6 {
            return Err(OffloadError::NoHeaderChecksum);
        }
        match offload.segment {
            Some(payload) => {
                let cut = Cut::new(frame, &packet, offload, payload, enabled, longest)?;
                self.push_segments(index, frame, &packet, &cut);
            }
            None => self.push_filled(index, frame, &packet, offload, enabled)?,
        }
        Ok(())
    }

    fn push(&mut self, request: usize, headers: &[u8], payload: Range<usize>) -> &mut [u8] {
        let start = self.headers.len();
        self.headers.extend_from_slice(headers);
        self.pieces.push(Piece { request, headers: start..self.headers.len(), payload });
        &mut self.headers[start..]
    }

    /// Fills in checksums of a frame that is not cut.
    fn push_filled(
        &mut self,
        index: usize,
        frame: &[u8],
        packet: &Packet,
        offload: Offload,
        enabled: Capabilities,
    ) -> Result<(), OffloadError> {
        packet.end(frame, LengthRule::AsStated)?;
        let segment = asked_segment(frame, packet, offload)?;
        check_enabled(
            offload.needs(packet.family, segment.map(|segment| segment.transport)),
            enabled,
        )?;

        let headers_end = segment.map_or(packet.ip_end, |segment| segment.header_end);
        let headers = self.push(index, &frame[..headers_end], headers_end..frame.len());
        if offload.ipv4_header {
            fill_ipv4_header(headers, packet);
        }
        if let Some(segment) = segment {
            let payload = &frame[segment.header_end..segment.end];
            fill_segment(headers, payload, packet, &segment, offload.sum);
        }
        Ok(())
    }

    /// Cuts a super-frame.
    fn push_segments(&mut self, index: usize, frame: &[u8], packet: &Packet, cut: &Cut) {
        let Cut { segment, payload, count } = *cut;
        let template = &frame[..segment.header_end];
        for number in 0..count {
            let start = number * payload;
            let piece =
                segment.header_end + start..segment.end.min(segment.header_end + start + payload);
            let bytes = &frame[piece.clone()];
            let headers = self.push(index, template, piece);
            patch_ip(headers, packet, number, bytes.len());
            patch_tcp(headers, segment.start, start, number + 1 == count);
            fill_segment(headers, bytes, packet, &segment, Sum::Whole);
        }
    }

    /// The finished frames. `requests` are the same requests in the same order, from number 0 on.
    pub(crate) fn frames<'s, 'f, I>(&'s self, requests: I) -> FinishedFrames<'s, 'f, I>
    where
        'f: 's,
        I: Iterator<Item = TxRequest<'f>>,
    {
        FinishedFrames {
            headers: &self.headers,
            pieces: self.pieces.iter(),
            requests,
            current: &[],
            next: 0,
        }
    }
}

/// How a super-frame is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    segment: Segment,
    /// Bytes of payload in each piece but the last.
    payload: usize,
    count: usize,
}

impl Cut {
    fn new(
        frame: &[u8],
        packet: &Packet,
        offload: Offload,
        payload: u16,
        enabled: Capabilities,
        longest: usize,
    ) -> Result<Self, OffloadError> {
        let segment = packet.segment(frame, LengthRule::ZeroMeansAll)?;
        if segment.transport != Transport::Tcp {
            return Err(OffloadError::Protocol(packet.protocol()));
        }
        check_partial(offload, &segment)?;
        check_enabled(offload.needs(packet.family, Some(segment.transport)), enabled)?;
        let payload = usize::from(payload);
        if payload == 0 {
            return Err(OffloadError::EmptySegments);
        }
        let total = segment.end - segment.header_end;
        if total > LONGEST_PAYLOAD {
            return Err(OffloadError::SuperFrame { payload: total });
        }
        check_length(segment.header_end + payload.min(total), longest)?;
        // Without payload there is still the packet.
        let count = total.div_ceil(payload).max(1);
        if count > 1 && frame[segment.start + TCP_FLAGS] & (SYN | RST) != 0 {
            return Err(OffloadError::Uncuttable);
        }
        Ok(Self { segment, payload, count })
    }
}

/// TCP or UDP, where work on them is requested.
fn asked_segment(
    frame: &[u8],
    packet: &Packet,
    offload: Offload,
) -> Result<Option<Segment>, OffloadError> {
    let segment = match offload.sum {
        Sum::Done => return Ok(None),
        Sum::Whole => packet.segment(frame, LengthRule::AsStated)?,
        Sum::Partial { .. } => packet.segment_behind_extensions(frame)?,
    };
    check_partial(offload, &segment)?;
    Ok(Some(segment))
}

fn check_partial(offload: Offload, segment: &Segment) -> Result<(), OffloadError> {
    if let Sum::Partial { start, offset } = offload.sum {
        let (start, offset) = (usize::from(start), usize::from(offset));
        if (start, offset) != (segment.start, segment.transport.checksum_offset()) {
            return Err(OffloadError::Partial { start, offset });
        }
    }
    Ok(())
}

fn check_enabled(needed: Capabilities, enabled: Capabilities) -> Result<(), OffloadError> {
    let missing = needed - enabled;
    if missing.is_empty() { Ok(()) } else { Err(OffloadError::NotEnabled { missing }) }
}

fn check_length(len: usize, max: usize) -> Result<(), OffloadError> {
    if len > max { Err(OffloadError::TooLong { len, max }) } else { Ok(()) }
}

/// Makes the IP header that of the piece `number`, which has `payload` bytes behind all headers.
fn patch_ip(headers: &mut [u8], packet: &Packet, number: usize, payload: usize) {
    let behind_ip = headers.len() - packet.ip_end + payload;
    match packet.family {
        Family::V4 => {
            let total = packet.ip_end - packet.ip + behind_ip;
            put16(headers, packet.ip + IPV4_TOTAL_LENGTH, low16(total));
            let id = get16(headers, packet.ip + IPV4_ID).wrapping_add(low16(number));
            put16(headers, packet.ip + IPV4_ID, id);
            fill_ipv4_header(headers, packet);
        }
        Family::V6 => put16(headers, packet.ip + IPV6_PAYLOAD_LENGTH, low16(behind_ip)),
    }
}

/// Makes the TCP header at `tcp` that of the piece that begins `start` bytes into the payload.
fn patch_tcp(headers: &mut [u8], tcp: usize, start: usize, last: bool) {
    let sequence = get32(headers, tcp + TCP_SEQUENCE).wrapping_add(low32(start));
    put32(headers, tcp + TCP_SEQUENCE, sequence);

    let mut flags = headers[tcp + TCP_FLAGS];
    if !last {
        // Only the last segment has these.
        flags &= !(FIN | PSH);
    }
    if start > 0 {
        // Only the first segment says that the congestion window was reduced.
        flags &= !CWR;
        // Urgent data end at the same byte of the stream, which is nearer from this segment, or
        // before it.
        let urgent = usize::from(get16(headers, tcp + TCP_URGENT));
        let left = if flags & URG == 0 { 0 } else { urgent.saturating_sub(start) };
        if left == 0 {
            flags &= !URG;
        }
        put16(headers, tcp + TCP_URGENT, low16(left));
    }
    headers[tcp + TCP_FLAGS] = flags;
}

/// The lower 16 bits of a number that wraps at 64 KiB.
#[expect(clippy::cast_possible_truncation, reason = "this is what is meant")]
fn low16(number: usize) -> u16 {
    number as u16
}

/// The lower 32 bits of a number that wraps at 4 GiB.
#[expect(clippy::cast_possible_truncation, reason = "this is what is meant")]
fn low32(number: usize) -> u32 {
    number as u32
}

fn fill_ipv4_header(headers: &mut [u8], packet: &Packet) {
    put16(headers, packet.ip + IPV4_CHECKSUM, 0);
    let sum = Checksum::new().with(&headers[packet.ip..packet.ip_end]).value();
    put16(headers, packet.ip + IPV4_CHECKSUM, sum);
}

/// Fills in the checksum of `segment`, whose header ends `headers` and is followed by `payload`.
fn fill_segment(headers: &mut [u8], payload: &[u8], packet: &Packet, segment: &Segment, sum: Sum) {
    let before = match sum {
        // The field holds it.
        Sum::Partial { .. } => Checksum::new(),
        Sum::Whole | Sum::Done => {
            put16(headers, segment.checksum(), 0);
            let len = segment.header_end - segment.start + payload.len();
            packet.pseudo_header(headers, segment.transport, len)
        }
    };
    let header = &headers[segment.start..segment.header_end];
    let value = match before.with(header).with(payload).value() {
        // For UDP 0 means that there is no checksum; what is congruent to it is as good.
        0 if segment.transport == Transport::Udp => 0xffff,
        value => value,
    };
    put16(headers, segment.checksum(), value);
}

/// Fills in the `enabled` checksums of a frame, for makers that request nothing for each frame.
/// What is not understood, such as a fragment, stays as it is.
#[cfg(feature = "smoltcp")]
pub(crate) fn fill_in_place(frame: &mut [u8], enabled: Capabilities) {
    if !enabled.intersects(Capabilities::TX) {
        return;
    }
    let Ok(packet) = Packet::parse(frame) else { return };
    let segment = packet.segment(frame, LengthRule::AsStated);
    if packet.family == Family::V4 && enabled.contains(Capabilities::IPV4_TX) {
        fill_ipv4_header(frame, &packet);
    }
    if let Ok(segment) = segment
        && enabled.contains(segment.transport.tx(packet.family))
    {
        let (headers, rest) = frame.split_at_mut(segment.header_end);
        let payload = &rest[..segment.end - segment.header_end];
        fill_segment(headers, payload, &packet, &segment, Sum::Whole);
    }
}

/// A finished frame: headers, then payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished<'f> {
    headers: &'f [u8],
    payload: &'f [u8],
}

#[cfg(any(test, fuzzing))]
impl Finished<'_> {
    pub(crate) fn to_vec(self) -> Vec<u8> {
        [self.headers, self.payload].concat()
    }
}

impl FrameSource for Finished<'_> {
    fn frame_len(&self) -> usize {
        self.headers.len() + self.payload.len()
    }

    #[inline]
    fn write_to(&self, slot: &mut FrameSlot<'_>) {
        slot.write(self.headers);
        slot.write(self.payload);
    }
}

/// The frames of a [`Finisher`].
#[derive(Clone, Debug)]
pub(crate) struct FinishedFrames<'s, 'f, I> {
    headers: &'s [u8],
    pieces: slice::Iter<'s, Piece>,
    /// Those from `next` on.
    requests: I,
    /// The frame of the one before.
    current: &'f [u8],
    next: usize,
}

impl<'s, 'f: 's, I: Iterator<Item = TxRequest<'f>>> Iterator for FinishedFrames<'s, 'f, I> {
    type Item = Finished<'s>;

    fn next(&mut self) -> Option<Finished<'s>> {
        let piece = self.pieces.next()?;
        if piece.request >= self.next {
            // The requests in between were refused.
            self.current = self.requests.nth(piece.request - self.next)?.frame;
            self.next = piece.request + 1;
        }
        let headers = &self.headers[piece.headers.clone()];
        Some(Finished { headers, payload: &self.current[piece.payload.clone()] })
    }
}

impl<'s, 'f: 's, I: Iterator<Item = TxRequest<'f>>> FusedIterator for FinishedFrames<'s, 'f, I> {}
