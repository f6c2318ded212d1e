//! Distinguishable test frames, and pcap files of them.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The destination of every test frame, so that any station accepts it.
pub const BROADCAST: Mac = [0xff; 6];

/// The `EtherType` of test frames: for local experiments, so that no host answers.
pub const EXPERIMENTAL: u16 = 0x88b5;

/// The shortest frame that can carry a number.
pub const NUMBERED: usize = 14 + 8;

/// Returns a frame of `len` bytes that `len` and `seed` determine, so that a received frame can be
/// compared with the expected one.
///
/// # Panics
/// When `len` is less than an Ethernet header.
#[must_use]
pub fn patterned(len: usize, seed: u64) -> Vec<u8> {
    assert!(len >= 14, "an Ethernet header is 14 bytes");
    let mut bytes = fastrand::Rng::with_seed(seed ^ (len as u64) << 32);
    let mut frame: Vec<u8> = std::iter::repeat_with(|| bytes.u8(..)).take(len).collect();
    frame[..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 0x77]);
    frame[12..14].copy_from_slice(&EXPERIMENTAL.to_be_bytes());
    frame
}

/// Returns a frame like [`patterned`] does, with `number` after its header.
///
/// # Panics
/// When `len` is less than [`NUMBERED`].
#[must_use]
pub fn numbered(len: usize, number: u64) -> Vec<u8> {
    let mut frame = patterned(len, number);
    frame[14..NUMBERED].copy_from_slice(&number.to_be_bytes());
    frame
}

/// Returns the number in a frame that [`numbered`] made, or `None` for any other frame.
///
/// # Panics
/// When the frame is one of ours but damaged: no test sent these bytes.
#[must_use]
pub fn number_of(frame: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(frame.get(14..NUMBERED)?.try_into().ok()?);
    if frame[12..14] != EXPERIMENTAL.to_be_bytes() {
        return None;
    }
    assert!(frame == numbered(frame.len(), number), "frame {number} was damaged: {frame:02x?}");
    Some(number)
}

/// Writes `frames` as a pcap file.
///
/// # Panics
/// When it cannot be written.
pub fn write_pcap<F: AsRef<[u8]>>(path: &Path, frames: impl IntoIterator<Item = F>) {
    let file = File::create(path).expect("create the pcap");
    let mut pcap = PcapWriter::new(std::io::BufWriter::new(file)).expect("write the pcap's header");
    for frame in frames {
        let frame = frame.as_ref();
        let len = u32::try_from(frame.len()).expect("a frame is short");
        pcap.write_packet(&PcapPacket::new(Duration::ZERO, len, frame)).expect("write a frame");
    }
}

/// Returns the frames in a pcap file.
///
/// # Panics
/// When it cannot be read, is damaged, or holds no Ethernet frames.
#[must_use]
pub fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let file = File::open(path).unwrap_or_else(|why| panic!("open {}: {why}", path.display()));
    let mut pcap = PcapReader::new(std::io::BufReader::new(file)).expect("a pcap header");
    assert_eq!(pcap.header().datalink, pcap_file::DataLink::ETHERNET);
    let mut frames = Vec::new();
    while let Some(packet) = pcap.next_packet() {
        frames.push(packet.expect("a whole packet").data.into_owned());
    }
    frames
}
