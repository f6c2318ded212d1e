//! Captures as people have them: each seed has a trait that a reader of frames does not need, and
//! all of its Ethernet frames are read.

use std::fs;
use std::path::Path;

use capture::{CaptureError, CaptureReader};

/// The seeds with a trait, and the lengths of their Ethernet frames.
const TRAITS: [(&str, &[usize]); 23] = [
    ("pcap/nano.pcap", &[60, 61, 62]),
    ("pcap/nano_be.pcap", &[60, 61, 62]),
    ("pcap/caplen_over_orig.pcap", &[60, 61]),
    ("pcap/caplen_over_snaplen.pcap", &[60, 61, 62]),
    ("pcap/zero_length_frames.pcap", &[0, 60, 0, 61]),
    ("pcap/usec_too_big.pcap", &[60, 61]),
    ("pcap/time_goes_back.pcap", &[60, 61, 62]),
    ("pcap/trailing_garbage.pcap", &[60, 61, 62]),
    ("pcap/modified_magic.pcap", &[60, 61, 62]),
    ("pcapng/shb_no_end_of_options.pcapng", &[60, 61, 62]),
    ("pcapng/idb_no_end_of_options.pcapng", &[60, 61, 62]),
    ("pcapng/idb_tsresol_2_to_the_minus_20.pcapng", &[60, 61, 62]),
    ("pcapng/idb_filter_empty.pcapng", &[60, 61, 62]),
    ("pcapng/idb_unknown_option.pcapng", &[60, 61, 62]),
    ("pcapng/spb_snaplen_0.pcapng", &[61, 62]),
    ("pcapng/two_sections_other_byte_order.pcapng", &[60, 61, 62]),
    ("pcapng/interface_of_other_kind_between.pcapng", &[60, 61, 62]),
    ("pcapng/other_kind_first.pcapng", &[60, 61, 62]),
    ("pcapng/late_interface.pcapng", &[60, 61, 62]),
    ("pcapng/odd_blocks.pcapng", &[60, 61, 62]),
    ("pcapng/epb_options_unterminated.pcapng", &[60, 61, 62]),
    ("pcapng/minor_version_2.pcapng", &[60, 61, 62]),
    ("pcapng/tail_cut_in_block.pcapng", &[60, 61]),
];

/// Returns the frames of a seed, and the error after them.
fn read(seed: &str) -> (Vec<Vec<u8>>, Option<CaptureError>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds").join(seed);
    let mut reader = CaptureReader::new(fs::File::open(path).unwrap());
    let mut frames = Vec::new();
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => frames.push(frame.bytes.to_vec()),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

/// The frames of the seeds, by their lengths.
fn frame(length: usize) -> Vec<u8> {
    let header = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5";
    header.iter().copied().chain(0..=255).take(length).collect()
}

#[test]
fn what_a_reader_does_not_need_neither_refuses_a_file_nor_changes_a_byte() {
    for (seed, lengths) in TRAITS {
        let (frames, error) = read(seed);
        let expected: Vec<_> = lengths.iter().map(|length| frame(*length)).collect();
        assert_eq!(frames, expected, "{seed}");
        let is_cut = matches!(error, Some(CaptureError::Truncated(3)));
        assert_eq!(is_cut, seed.contains("tail_cut"), "{seed}: {error:?}");
        assert!(is_cut || error.is_none(), "{seed}: {error:?}");
    }
}
