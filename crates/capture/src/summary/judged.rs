//! Summaries beside `tshark`: what its fields say of a frame, the line says, too.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::Summary;
use crate::{CaptureWriter, CapturedInterface, Format, specimens};

/// What is compared, with what a line has before the value.
const FIELDS: [(&str, &str); 17] = [
    ("eth.src", ""),
    ("eth.dst", ""),
    ("vlan.id", "VLAN "),
    ("ip.src", ""),
    ("ip.dst", ""),
    ("ipv6.src", ""),
    ("ipv6.dst", ""),
    ("tcp.srcport", ":"),
    ("tcp.dstport", ":"),
    ("udp.srcport", ":"),
    ("udp.dstport", ":"),
    ("tcp.window_size_value", "win "),
    ("tcp.options.mss_val", "mss "),
    ("mpls.label", ""),
    ("vxlan.vni", "VXLAN "),
    ("dns.qry.name", " "),
    ("tcp.len", "length "),
];

/// Returns a line of fields for each frame, as `tshark` finds them.
fn tshark(frames: &[Vec<u8>]) -> Option<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("summaries.pcap");
    let lan = CapturedInterface::new("lan", 9_216);
    let file = fs::File::create(&path).unwrap();
    let mut writer = CaptureWriter::new(Format::Pcap, vec![lan], file).unwrap();
    for frame in frames {
        writer.frame(0, Duration::from_secs(1), 0, frame).unwrap();
    }
    let mut command = Command::new("tshark");
    command.arg("-r").arg(&path).args(["-n", "-T", "fields", "-E", "occurrence=a"]);
    for preference in
        ["ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.relative_sequence_numbers:FALSE"]
    {
        command.args(["-o", preference]);
    }
    for (field, _) in FIELDS.iter().chain(&[("icmp.type", ""), ("icmpv6.type", "")]) {
        command.args(["-e", field]);
    }
    let output = command.output();
    let text = String::from_utf8_lossy(&output.ok()?.stdout).into_owned();
    Some(text.lines().map(str::to_owned).collect())
}

/// Returns what the summaries lack of what `tshark` finds; `None` without a `tshark`.
fn differences(frames: &[Vec<u8>]) -> Option<Vec<String>> {
    let lines = tshark(frames)?;
    assert_eq!(lines.len(), frames.len());
    let mut differences = Vec::new();
    for (number, (frame, line)) in frames.iter().zip(&lines).enumerate() {
        let summary = Summary(frame).to_string();
        let values: Vec<&str> = line.split('\t').collect();
        // The packet that an error of ICMP is about is not in the line.
        let is_icmp = values[FIELDS.len()..].iter().any(|kind| !kind.is_empty());
        for ((field, before), values) in FIELDS.iter().zip(&values) {
            let most = if is_icmp { 1 } else { usize::MAX };
            for value in values.split(',').filter(|value| !value.is_empty()).take(most) {
                // The header of a packet that is cut is not read beyond its ports. tshark knows DNS
                // on other ports by what it has seen before.
                let is_cut = [", fragment", ", damaged"].iter().any(|word| summary.contains(word));
                let is_left_out = is_cut && field.contains("window")
                    || value == "<Root>"
                    || field == &"dns.qry.name"
                        && ![":53 ", ":53:", ":5353"].iter().any(|port| summary.contains(port));
                if is_left_out || is_icmp && before == &":" {
                    continue;
                }
                if !summary.contains(&format!("{before}{value}")) {
                    differences.push(format!("frame {}: {field} {value}: {summary}", number + 1));
                }
            }
        }
    }
    Some(differences)
}

#[test]
fn a_line_has_what_tshark_finds() {
    let frames: Vec<_> =
        specimens::frames().into_iter().filter(|frame| frame.len() >= 40).collect();
    let Some(differences) = differences(&frames) else {
        assert!(std::env::var_os("BUSCTL_REQUIRE_PEERS").is_none(), "tshark is not installed");
        eprintln!("skipped: tshark is not installed");
        return;
    };
    assert!(differences.is_empty(), "{differences:#?}");
}

/// The same over 30,000 frames with other addresses, ports and lengths.
#[test]
#[ignore = "takes a minute"]
fn a_line_has_what_tshark_finds_in_many_frames() {
    let mut random = fastrand::Rng::with_seed(8);
    let specimens: Vec<_> =
        specimens::frames().into_iter().filter(|frame| frame.len() >= 40).collect();
    let frames: Vec<_> = (0..30_000)
        .map(|index| {
            let mut frame = specimens[index % specimens.len()].clone();
            // Addresses, and what follows a header without options.
            for at in [4, 5, 10, 11, 26, 27, 30, 31, 34, 35, 36, 37, 48, 49] {
                if at < frame.len() && random.u8(..3) == 0 {
                    frame[at] = random.u8(..);
                }
            }
            frame
        })
        .collect();
    let differences = differences(&frames).expect("tshark");
    // Those that are about damage, or tunnels on other ports.
    assert!(
        differences.len() < 30,
        "{}: {:#?}",
        differences.len(),
        &differences[..60.min(differences.len())]
    );
}
