//! What is finished is right by another's judgement, what cannot be finished is refused, and what
//! is received is judged as promised.

use proptest::prelude::*;

use super::headers::Family::{V4, V6};
use super::testing::{Sample, assert_sound, finish, finish_with, samples};
use super::{Capabilities, Header, Offload, OffloadError, RxVerdict, Verdict, verify};
use crate::format::MAX_FRAME;

fn judge(frame: &[u8]) -> (Verdict, Verdict) {
    let RxVerdict { ip, l4 } = verify(frame, Capabilities::ALL);
    (ip, l4)
}

/// The fields of a TCP segment that differ from segment to segment.
#[derive(Debug, PartialEq)]
struct Fields {
    id: Option<u16>,
    sequence: u32,
    flags: u8,
    urgent: u16,
}

fn fields(sample: &Sample, segment: &[u8]) -> Fields {
    let get16 = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
    let tcp = sample.l4();
    Fields {
        id: (sample.family == V4).then(|| get16(sample.ip() + 4)),
        sequence: u32::from(get16(tcp + 4)) << 16 | u32::from(get16(tcp + 6)),
        flags: segment[tcp + 13],
        urgent: get16(tcp + 18),
    }
}

/// The headers with zeros where segments differ.
fn constant(sample: &Sample, segment: &[u8]) -> Vec<u8> {
    let mut headers = segment[..sample.headers()].to_vec();
    let (ip, tcp) = (sample.ip(), sample.l4());
    match sample.family {
        V4 => {
            headers[ip + 2..ip + 6].fill(0);
            headers[ip + 10..ip + 12].fill(0);
        }
        V6 => headers[ip + 4..ip + 6].fill(0),
    }
    headers[tcp + 4..tcp + 8].fill(0);
    headers[tcp + 13] = 0;
    headers[tcp + 16..tcp + 20].fill(0);
    headers
}

/// Cuts `sample` and checks every segment against what it must be.
fn check_cut(sample: &Sample, segment: u16) {
    let mss = usize::from(segment);
    let frame = sample.frame();
    let cut = finish(&frame, Offload::new().segments(segment));
    let len = sample.headers() + mss.min(sample.payload.len());
    if len > MAX_FRAME {
        assert_eq!(cut, Err(OffloadError::TooLong { len, max: MAX_FRAME }));
        return;
    }
    let cut = cut.unwrap();
    assert_eq!(cut.len(), sample.payload.len().div_ceil(mss).max(1));
    let mut payload: Vec<u8> = Vec::new();
    for (number, piece) in cut.iter().enumerate() {
        let last = number + 1 == cut.len();
        let start = number * mss;
        assert_sound(piece);
        assert!(piece.len() <= MAX_FRAME);
        assert!(last || piece.len() == sample.headers() + mss);
        assert_eq!(constant(sample, piece), constant(sample, &frame));

        let mut flags = sample.flags;
        if !last {
            flags &= !0x09;
        }
        let mut urgent = sample.urgent;
        if number > 0 {
            flags &= !0x80;
            urgent = u16::try_from(usize::from(urgent).saturating_sub(start)).unwrap();
            if flags & 0x20 == 0 || urgent == 0 {
                flags &= !0x20;
                urgent = 0;
            }
        }
        let id =
            (sample.family == V4).then(|| sample.id.wrapping_add(u16::try_from(number).unwrap()));
        let sequence = sample.sequence.wrapping_add(u32::try_from(start).unwrap());
        assert_eq!(fields(sample, piece), Fields { id, sequence, flags, urgent });
        payload.extend(&piece[sample.headers()..]);
    }
    assert!(payload == sample.payload, "the payload is another");
}

proptest! {
    #[test]
    fn a_filled_frame_is_right_and_otherwise_the_same(mut sample in samples(1_360), padding in 0..10_usize) {
        sample.flags |= 0x02;
        let mut frame = sample.frame();
        let mut expected = sample.finished();
        frame.resize(frame.len() + padding, 0xee);
        expected.resize(frame.len(), 0xee);
        prop_assert_eq!(finish(&frame, sample.offload()), Ok(vec![expected.clone()]));
        assert_sound(&expected[..expected.len() - padding]);

        let at = sample.l4_checksum();
        frame[at..at + 2].copy_from_slice(&sample.pseudo_sum().to_be_bytes());
        let place = |number: usize| u16::try_from(number).unwrap();
        let mut partial = Offload::new().partial(place(sample.l4()), place(at - sample.l4()));
        if sample.family == V4 {
            partial = partial.ipv4_header();
        }
        prop_assert_eq!(finish(&frame, partial), Ok(vec![expected.clone()]));
        let (ip, l4) = judge(&expected);
        prop_assert_eq!(ip, if sample.family == V4 { Verdict::Good } else { Verdict::NotChecked });
        prop_assert_eq!(l4, Verdict::Good);
    }

    #[test]
    fn segments_make_up_the_super_frame(mut sample in samples(8_000), mss in 100..1_600_u16) {
        sample.udp = false;
        check_cut(&sample, mss);
    }

    #[test]
    fn segments_may_be_small(mut sample in samples(300), mss in 1..40_u16) {
        sample.udp = false;
        check_cut(&sample, mss);
    }

    #[test]
    fn one_wrong_bit_is_found(mut sample in samples(200), bit: prop::sample::Index) {
        sample.ip_options = 0;
        let mut frame = sample.finished();
        let checked = match sample.family {
            V4 => sample.ip(),
            V6 => sample.l4(),
        };
        let bit = 8 * checked + bit.index(8 * (frame.len() - checked));
        frame[bit / 8] ^= 0x80 >> (bit % 8);
        let (ip, l4) = judge(&frame);
        if bit / 8 < sample.l4() {
            // With another version or header length it is not IPv4 that can be checked.
            let first = bit / 8 == sample.ip();
            prop_assert!(ip == Verdict::Bad || first && ip == Verdict::NotChecked);
        } else {
            let length = sample.udp && (sample.l4() + 4..sample.l4() + 6).contains(&(bit / 8));
            let none = sample.udp && sample.family == V4 && frame[sample.l4_checksum()..][..2] == [0, 0];
            prop_assert!(l4 == Verdict::Bad || (length || none) && l4 == Verdict::NotChecked);
        }
    }

    #[test]
    fn any_bytes_are_borne(
        frame in prop::collection::vec(any::<u8>(), 0..200), kind in 0..5_usize, offload in offloads(), bits: u32,
    ) {
        bear(frame, kind, offload, bits.into());
    }

    #[test]
    fn damaged_packets_are_borne(
        sample in samples(100), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut: prop::sample::Index, offload in offloads(), bits: u32,
    ) {
        let mut frame = sample.frame();
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame.truncate(cut.index(frame.len() + 1));
        bear(frame, 0, offload, bits.into());
    }
}

fn offloads() -> impl Strategy<Value = Offload> {
    let segments =
        prop_oneof![Just(None), any::<u16>().prop_map(Some), (0..100_u16).prop_map(Some)];
    (any::<[bool; 3]>(), 0..80_u16, 0..20_u16, segments).prop_map(
        |([header, transport, partial], start, offset, segments)| {
            let mut offload = Offload::new();
            if header {
                offload = offload.ipv4_header();
            }
            if transport {
                offload = offload.transport();
            }
            if partial {
                offload = offload.partial(start, offset);
            }
            segments.map_or(offload, |payload| offload.segments(payload))
        },
    )
}

/// Nothing panics, and nothing too long comes out. `kind` makes the bytes look like IP, so that
/// more of the code is met.
fn bear(mut frame: Vec<u8>, kind: usize, offload: Offload, enabled: Capabilities) {
    let looks: [&[u8]; 5] = [
        b"",
        b"\x08\0\x45",
        b"\x86\xdd\x60",
        b"\x81\0\0\x01\x08\0\x46",
        b"\x81\0\0\x01\x86\xdd\x60",
    ];
    if frame.len() >= 20 {
        frame[12..12 + looks[kind].len()].copy_from_slice(looks[kind]);
    }
    let _ = verify(&frame, enabled);
    for enabled in [enabled, Capabilities::ALL] {
        for finished in finish_with(&frame, offload, enabled, MAX_FRAME).unwrap_or_default() {
            assert!((14..=MAX_FRAME).contains(&finished.len()));
        }
    }
    #[cfg(feature = "smoltcp")]
    super::fill_in_place(&mut frame, enabled);
}

#[test]
fn a_super_frame_of_64_kib_is_cut() {
    for (family, longest) in [(V4, 65_535 - 20 - 20), (V6, 65_535 - 20)] {
        for vlan in [false, true] {
            let payload: Vec<u8> = (0..=250).cycle().take(longest).collect();
            let mut sample = Sample::new(family, &payload);
            sample.vlan = vlan;
            sample.id = 0xffff;
            sample.sequence = u32::MAX - 1_000;
            sample.flags = 0xb9;
            sample.urgent = 3_000;
            check_cut(&sample, 1_428);
            check_cut(&sample, 1);
        }
    }
}

#[test]
fn a_length_of_0_means_all_of_a_super_frame() {
    for family in [V4, V6] {
        let mut sample = Sample::new(family, &vec![7; 60_000]);
        let mut frame = sample.frame();
        let length = sample.ip() + if family == V4 { 2 } else { 4 };
        frame[length..length + 2].fill(0);
        let offload = Offload::new().segments(1_000);
        assert_eq!(finish(&frame, offload), finish(&sample.frame(), offload));

        frame.resize(sample.headers() + 65_536, 7);
        assert_eq!(finish(&frame, offload).unwrap().len(), 66);
        frame.push(7);
        assert_eq!(finish(&frame, offload), Err(OffloadError::SuperFrame { payload: 65_537 }));

        // Without segmentation it is a length like any other.
        sample.payload.truncate(100);
        let mut frame = sample.frame();
        frame[length..length + 2].fill(0);
        assert!(finish(&frame, sample.offload()).is_err());
    }
}

#[test]
fn what_follows_a_super_frame_is_dropped() {
    let sample = Sample::new(V4, &[7; 3_000]);
    let mut frame = sample.frame();
    let offload = Offload::new().segments(1_000);
    let cut = finish(&frame, offload);
    frame.extend([0xee; 20]);
    assert_eq!(finish(&frame, offload), cut);
}

/// Finds two bytes of payload with which the datagram's sum is 0.
#[test]
fn a_udp_sum_of_0_goes_out_as_ffff() {
    for family in [V4, V6] {
        let mut sample = Sample::new(family, &[0; 2]).udp();
        let frame = sample.finished();
        let at = sample.l4_checksum();
        sample.payload = frame[at..at + 2].to_vec();
        let frame = finish(&sample.frame(), sample.offload()).unwrap().remove(0);
        assert_eq!(frame[at..at + 2], [0xff, 0xff]);
        assert_sound(&frame);
        assert_eq!(judge(&frame).1, Verdict::Good);
    }
}

#[test]
fn the_vlan_tag_counts_for_the_limit() {
    let mut sample = Sample::new(V4, &[7; 5_000]);
    assert_eq!(finish(&sample.frame(), Offload::new().segments(1_460)).unwrap()[0].len(), 1_514);
    sample.vlan = true;
    let too_long = OffloadError::TooLong { len: 1_518, max: 1_514 };
    assert_eq!(finish(&sample.frame(), Offload::new().segments(1_460)), Err(too_long));
    assert_eq!(finish(&sample.frame(), Offload::new().segments(1_456)).unwrap()[0].len(), 1_514);
    assert_eq!(
        finish(&sample.frame(), sample.offload()),
        Err(OffloadError::TooLong { len: sample.frame().len(), max: 1_514 })
    );
    assert_eq!(
        finish_with(&sample.frame(), sample.offload(), Capabilities::ALL, 9_216).unwrap().len(),
        1,
        "big buses have a limit of their own"
    );
}

#[test]
fn each_thing_needs_its_own_capability() {
    let cases = [
        (Sample::new(V4, b"tcp"), Capabilities::TCP_V4_TX),
        (Sample::new(V6, b"tcp"), Capabilities::TCP_V6_TX),
        (Sample::new(V4, b"udp").udp(), Capabilities::UDP_V4_TX),
        (Sample::new(V6, b"udp").udp(), Capabilities::UDP_V6_TX),
    ];
    for (sample, needed) in cases {
        let frame = sample.frame();
        let (offload, at) = (Offload::new(), u16::try_from(sample.l4()).unwrap());
        for offload in [offload.transport(), offload.partial(at, if sample.udp { 6 } else { 16 })] {
            assert!(finish_with(&frame, offload, needed, MAX_FRAME).is_ok());
            let others = Capabilities::ALL - needed;
            let missing = OffloadError::NotEnabled { missing: needed };
            assert_eq!(finish_with(&frame, offload, others, MAX_FRAME), Err(missing));
        }
        if !sample.udp {
            let needed =
                if sample.family == V4 { Capabilities::TSO_V4 } else { Capabilities::TSO_V6 };
            let offload = offload.partial(at, 16).segments(2);
            assert_eq!(finish_with(&frame, offload, needed, MAX_FRAME).unwrap().len(), 2);
            let missing = OffloadError::NotEnabled { missing: needed };
            assert_eq!(
                finish_with(&frame, offload, Capabilities::ALL - needed, MAX_FRAME),
                Err(missing)
            );
        }
        if sample.family == V4 {
            let both = Capabilities::NONE | needed | Capabilities::IPV4_TX;
            let missing = OffloadError::NotEnabled { missing: both };
            assert_eq!(
                finish_with(&frame, sample.offload(), Capabilities::NONE, MAX_FRAME),
                Err(missing),
                "all that is missing is named"
            );
            assert!(
                finish_with(&frame, offload.ipv4_header(), Capabilities::IPV4_TX, MAX_FRAME)
                    .is_ok()
            );
        }
        assert_eq!(finish_with(&frame, offload, Capabilities::NONE, MAX_FRAME), Ok(vec![frame]));
    }
}

#[test]
fn frames_without_a_request_are_left_alone() {
    for frame in
        [&[0; 14][..], &[0xff; 60], b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\x06no IP at all"]
    {
        let sent = finish_with(frame, Offload::new(), Capabilities::NONE, MAX_FRAME);
        assert_eq!(sent, Ok(vec![frame.to_vec()]));
    }
    assert_eq!(finish(&[0; 13], Offload::new()), Err(OffloadError::Truncated(Header::Ethernet)));
}

/// The frame of `sample` with these bytes changed.
fn changed(sample: &Sample, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = sample.frame();
    for (at, byte) in changes {
        frame[*at] = *byte;
    }
    frame
}

#[test]
fn what_cannot_be_done_is_refused_by_its_name() {
    use OffloadError as E;

    let tcp4 = Sample::new(V4, &[7; 100]);
    let tcp6 = Sample::new(V6, &[7; 100]);
    let udp4 = Sample::new(V4, &[7; 100]).udp();
    let mut tagged = tcp4.clone();
    tagged.vlan = true;
    let all = tcp4.offload();
    let l4 = Offload::new().transport();
    let tso = Offload::new().segments(10);
    let length = |header, claimed, found| E::Length { header, claimed, found };

    let cases = [
        (changed(&tcp4, &[(12, 0x08), (13, 0x06)]), l4, E::EtherType(0x0806)),
        (changed(&tcp4, &[(12, 0x05), (13, 0xdc)]), l4, E::EtherType(1_500)),
        (changed(&tcp4, &[(12, 0x88), (13, 0xa8)]), l4, E::EtherType(0x88a8)),
        (changed(&tagged, &[(16, 0x81), (17, 0x00)]), l4, E::EtherType(0x8100)),
        (tagged.frame()[..17].to_vec(), l4, E::Truncated(Header::Vlan)),
        (tcp4.frame()[..33].to_vec(), l4, E::Truncated(Header::Ipv4)),
        (tcp6.frame()[..53].to_vec(), l4, E::Truncated(Header::Ipv6)),
        (changed(&tcp4, &[(14, 0x65)]), all, E::Malformed(Header::Ipv4)),
        (changed(&tcp4, &[(14, 0x44)]), all, E::Malformed(Header::Ipv4)),
        (changed(&tcp6, &[(14, 0x40)]), l4, E::Malformed(Header::Ipv6)),
        (tcp4.frame()[..153].to_vec(), all, length(Header::Ipv4, 140, 139)),
        (
            tcp4.frame()[..153].to_vec(),
            Offload::new().ipv4_header(),
            length(Header::Ipv4, 140, 139),
        ),
        (tcp6.frame()[..173].to_vec(), l4, length(Header::Ipv6, 120, 119)),
        (changed(&tcp4, &[(17, 19)]), all, length(Header::Ipv4, 19, 140)),
        (changed(&tcp4, &[(17, 39)]), l4, E::Truncated(Header::Tcp)),
        (changed(&tcp4, &[(46, 0x40)]), l4, E::Malformed(Header::Tcp)),
        (changed(&tcp4, &[(17, 59), (46, 0xf0)]), tso, E::Truncated(Header::Tcp)),
        (changed(&udp4, &[(17, 27)]), l4, E::Truncated(Header::Udp)),
        (changed(&udp4, &[(39, 7)]), l4, length(Header::Udp, 7, 108)),
        (changed(&udp4, &[(39, 109)]), l4, length(Header::Udp, 109, 108)),
        (tcp6.frame(), tcp4.offload(), E::NoHeaderChecksum),
        (tcp6.frame(), tso.ipv4_header(), E::NoHeaderChecksum),
        (changed(&tcp4, &[(20, 0x20)]), all, E::Fragment),
        (changed(&tcp4, &[(21, 0x01)]), tso, E::Fragment),
        (changed(&tcp6, &[(20, 0)]), l4, E::ExtensionHeader(0)),
        (changed(&tcp6, &[(20, 44)]), tso, E::ExtensionHeader(44)),
        (changed(&tcp4, &[(23, 1)]), all, E::Protocol(1)),
        (changed(&tcp6, &[(20, 58)]), l4, E::Protocol(58)),
        (udp4.frame(), tso, E::Protocol(17)),
        (tcp4.frame(), Offload::new().partial(34, 6), E::Partial { start: 34, offset: 6 }),
        (tcp4.frame(), Offload::new().partial(33, 16), E::Partial { start: 33, offset: 16 }),
        (tcp4.frame(), tso.partial(0, 0), E::Partial { start: 0, offset: 0 }),
        (tcp4.frame(), Offload::new().segments(0), E::EmptySegments),
        (changed(&tcp4, &[(47, 0x12)]), tso, E::Uncuttable),
        (changed(&tcp6, &[(67, 0x14)]), tso, E::Uncuttable),
    ];
    for (frame, offload, refusal) in cases {
        assert_eq!(finish(&frame, offload), Err(refusal), "{offload:?} of {frame:02x?}");
    }
    // One segment can be anything.
    assert!(finish(&changed(&tcp4, &[(47, 0x12)]), Offload::new().segments(100)).is_ok());
}

#[test]
fn headers_of_fragments_are_filled_and_checked() {
    let sample = Sample::new(V4, &[7; 100]);
    let frame = changed(&sample, &[(20, 0x20)]);
    let filled = finish(&frame, Offload::new().ipv4_header()).unwrap().remove(0);
    assert_eq!(judge(&filled), (Verdict::Good, Verdict::NotChecked));
    assert_eq!(judge(&frame), (Verdict::Bad, Verdict::NotChecked));
    assert_eq!(filled[26..], frame[26..]);
}

/// A TCP packet behind `extensions`, as partial checksums want it; and where TCP begins.
fn behind(first: u8, extensions: &[u8]) -> (Vec<u8>, u16) {
    let sample = Sample::new(V6, b"hello");
    let mut frame = sample.frame();
    let at = sample.l4_checksum();
    frame[at..at + 2].copy_from_slice(&sample.pseudo_sum().to_be_bytes());
    frame.splice(54..54, extensions.iter().copied());
    frame[20] = first;
    frame[19] += u8::try_from(extensions.len()).unwrap();
    (frame, 54 + u16::try_from(extensions.len()).unwrap())
}

#[test]
fn partial_checksums_are_finished_behind_extension_headers() {
    let hop_by_hop = [6, 0, 1, 4, 0, 0, 0, 0];
    let options_and_route = [43, 0, 1, 4, 0, 0, 0, 0, 6, 0, 4, 0, 0, 0, 0, 0];
    let atomic_fragment = [6, 0, 0, 0, 0, 0, 0, 1];
    let expected = Sample::new(V6, b"hello").finished();
    for (first, extensions) in
        [(0, &hop_by_hop[..]), (60, &options_and_route), (44, &atomic_fragment)]
    {
        let (frame, start) = behind(first, extensions);
        let finished = finish(&frame, Offload::new().partial(start, 16)).unwrap().remove(0);
        assert_eq!(finished[usize::from(start)..], expected[54..]);
        assert_eq!(judge(&finished), (Verdict::NotChecked, Verdict::NotChecked));
    }
    let (fragment, start) = behind(44, &[6, 0, 0, 1, 0, 0, 0, 1]);
    assert_eq!(finish(&fragment, Offload::new().partial(start, 16)), Err(OffloadError::Fragment));
    let (cut_short, start) = behind(0, &[6, 200, 1, 4, 0, 0, 0, 0]);
    assert_eq!(
        finish(&cut_short, Offload::new().partial(start, 16)),
        Err(OffloadError::Truncated(Header::Ipv6))
    );
}

#[test]
fn verdicts_follow_the_classes() {
    use Verdict::{Good, NotChecked};

    let cases = [
        (Sample::new(V4, b"x"), Capabilities::TCP_V4_RX),
        (Sample::new(V4, b"x").udp(), Capabilities::UDP_V4_RX),
        (Sample::new(V6, b"x"), Capabilities::TCP_V6_RX),
        (Sample::new(V6, b"x").udp(), Capabilities::UDP_V6_RX),
    ];
    for (mut sample, class) in cases {
        for vlan in [false, true] {
            sample.vlan = vlan;
            let frame = sample.finished();
            let header = if sample.family == V4 { Good } else { NotChecked };
            let judge = |enabled| {
                let verdict = verify(&frame, enabled);
                (verdict.ip, verdict.l4)
            };
            assert_eq!(judge(Capabilities::RX), (header, Good));
            assert_eq!(judge(class), (NotChecked, Good));
            assert_eq!(judge(Capabilities::RX - class), (header, NotChecked));
            assert_eq!(judge(Capabilities::IPV4_RX), (header, NotChecked));
            assert_eq!(judge(Capabilities::TX), (NotChecked, NotChecked));
        }
    }
}

#[test]
fn verdicts_on_odd_frames() {
    use Verdict::{Bad, Good, NotChecked};

    let finished = |sample: &Sample, changes: &[(usize, u8)]| {
        let mut frame = sample.finished();
        for (at, byte) in changes {
            frame[*at] = *byte;
        }
        // Where IPv4's header is changed, its sum is made to match.
        if sample.family == V4 && sample.l4() == 34 && frame[14] == 0x45 {
            frame[24..26].fill(0);
            let sum = super::testing::naive_checksum(&[&frame[14..34]]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    };
    let tcp4 = Sample::new(V4, b"hello");
    let tcp6 = Sample::new(V6, b"hello");
    let udp4 = Sample::new(V4, b"hello").udp();
    let udp6 = Sample::new(V6, b"hello").udp();
    let mut options = tcp4.clone();
    options.ip_options = 10;
    options.tcp_options = 10;
    let mut padded = finished(&udp4, &[]);
    padded.resize(60, 0xff);
    let mut tagged_twice = tcp4.clone();
    tagged_twice.vlan = true;
    let mut wrong_header = tcp4.finished();
    wrong_header[22] ^= 1;

    let cases: Vec<(&str, Vec<u8>, _)> = vec![
        ("options", options.finished(), (Good, Good)),
        ("padding behind the packet", padded, (Good, Good)),
        ("wrong header, right TCP", wrong_header, (Bad, Good)),
        ("wrong TCP, right header", finished(&tcp4, &[(54, 0)]), (Good, Bad)),
        ("first fragment", finished(&tcp4, &[(20, 0x20)]), (Good, NotChecked)),
        ("last fragment", finished(&tcp4, &[(21, 9)]), (Good, NotChecked)),
        ("neither TCP nor UDP", finished(&tcp4, &[(23, 1)]), (Good, NotChecked)),
        ("UDP over IPv4 without sum", finished(&udp4, &[(40, 0), (41, 0)]), (Good, NotChecked)),
        ("UDP over IPv6 without sum", finished(&udp6, &[(60, 0), (61, 0)]), (NotChecked, Bad)),
        ("frame cut in TCP", tcp4.finished()[..58].to_vec(), (Good, NotChecked)),
        ("frame cut in IPv4", tcp4.finished()[..33].to_vec(), (NotChecked, NotChecked)),
        ("frame cut in TCP over IPv6", tcp6.finished()[..78].to_vec(), (NotChecked, NotChecked)),
        ("total length below the header's", finished(&tcp4, &[(17, 19)]), (Good, NotChecked)),
        ("packet too short for TCP", finished(&tcp4, &[(17, 39)]), (Good, NotChecked)),
        ("packet too short for UDP", finished(&udp4, &[(17, 27)]), (Good, NotChecked)),
        ("UDP longer than its packet", finished(&udp4, &[(39, 14)]), (Good, NotChecked)),
        ("UDP shorter than its header", finished(&udp4, &[(39, 7)]), (Good, NotChecked)),
        ("wrong data offset", finished(&tcp4, &[(46, 0xf0)]), (Good, Bad)),
        ("not the type's version", finished(&tcp4, &[(14, 0x65)]), (NotChecked, NotChecked)),
        ("impossible header length", finished(&tcp4, &[(14, 0x44)]), (NotChecked, NotChecked)),
        ("IPv6 extension header", finished(&tcp6, &[(20, 0)]), (NotChecked, NotChecked)),
        ("IPv6 fragment", finished(&tcp6, &[(20, 44)]), (NotChecked, NotChecked)),
        ("ARP", finished(&tcp6, &[(12, 8), (13, 6)]), (NotChecked, NotChecked)),
        ("two tags", finished(&tagged_twice, &[(16, 0x81), (17, 0)]), (NotChecked, NotChecked)),
        ("nothing but a header", tcp4.finished()[..14].to_vec(), (NotChecked, NotChecked)),
        ("not even that", vec![0; 3], (NotChecked, NotChecked)),
    ];
    for (name, frame, verdict) in cases {
        assert_eq!(judge(&frame), verdict, "{name}: {frame:02x?}");
    }
}

/// Frames that Linux 6.18 sent on a device without offload: UDP and TCP over IPv4, over IPv6, and
/// behind IPv4 options.
const BY_LINUX: [&str; 5] = [
    "02000000000202000000000108004500002ba17540004011854a0a0000010a000002939d000700174a846f6464206c656e677468206865\
     7265",
    "02000000000202000000000108004500003cc6b64000400660030a0000010a000002969e0050cab84d2000000000a002faf0307d000002\
     0405b40402080a8e60cb64000000000103030a",
    "02000000000202000000000186dd600ec91200171140fd000000000000000000000000000001fd000000000000000000000000000002b6\
     f000070017412f6f6464206c656e6774682068657265",
    "02000000000202000000000186dd600549d000280640fd000000000000000000000000000001fd000000000000000000000000000002c8\
     660050d4fcdeb500000000a002fd20f4230000020405a00402080aec93f3ca000000000103030a",
    "020000000002020000000001080048000034a17640004011722b0a0000010a000002070b080a0000010000000000c12f00070014d5f477\
     697468206f7074696f6e73",
];

#[test]
fn what_linux_sends_is_good_and_can_be_restored() {
    for (index, hex) in BY_LINUX.iter().enumerate() {
        let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        let frame: Vec<u8> =
            digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect();
        let v4 = frame[12] == 8;
        let header = if v4 { Verdict::Good } else { Verdict::NotChecked };
        assert_eq!(judge(&frame), (header, Verdict::Good));

        let (l4, protocol) =
            if v4 { (14 + usize::from(frame[14] & 15) * 4, frame[23]) } else { (54, frame[20]) };
        let checksum = l4 + if protocol == 6 { 16 } else { 6 };
        let (mut blank, mut offload) = (frame.clone(), Offload::new().transport());
        blank[checksum..checksum + 2].fill(0);
        if v4 {
            blank[24..26].fill(0);
            offload = offload.ipv4_header();
        }
        assert_eq!(finish(&blank, offload), Ok(vec![frame.clone()]), "frame {index}");
        #[cfg(feature = "smoltcp")]
        {
            super::fill_in_place(&mut blank, Capabilities::TX);
            assert_eq!(blank, frame, "frame {index}, in place");
        }
    }
}
