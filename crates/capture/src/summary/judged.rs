//! Summaries beside `tshark`: what its fields say of a frame, the line says, too.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::Summary;
use crate::{CaptureWriter, CapturedInterface, Format, specimens};

/// What is compared, with what a line has before the value.
const FIELDS: [(&str, &str); 28] = [
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
    ("arp.src.proto_ipv4", " "),
    ("tcp.seq_raw", "seq "),
    ("tcp.options.wscale.shift", "wscale "),
    ("tcp.options.timestamp.tsval", "TS val "),
    ("tcp.options.timestamp.tsecr", "ecr "),
    ("sctp.srcport", ":"),
    ("sctp.dstport", ":"),
    ("stp.root.hw", "."),
    ("stp.bridge.hw", "."),
    ("lldp.tlv.system.name", "name "),
    ("lacp.actor.sysid", "actor "),
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
    command.arg("-r").arg(&path).args(["-n", "-T", "fields", "-E", "aggregator=\x01"]);
    for preference in
        ["ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.relative_sequence_numbers:FALSE"]
    {
        command.args(["-o", preference]);
    }
    // A message is known by its ports, and not by what it looks like.
    command.args(["--disable-heuristic", "dns_udp"]);
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
        // Both kinds have the same field.
        let summary = Summary(frame).to_string().replace("VXLAN-GPE", "VXLAN");
        let values: Vec<&str> = line.split('\t').collect();
        // The packet that an error of ICMP is about is not in the line.
        let is_icmp = values[FIELDS.len()..].iter().any(|kind| !kind.is_empty());
        for ((field, before), values) in FIELDS.iter().zip(&values) {
            let most = if is_icmp { 1 } else { usize::MAX };
            let values = values.split('\x01').filter(|value| !value.is_empty());
            for (index, value) in values.take(most).enumerate() {
                // The header of a packet that is cut is not read beyond its ports.
                let is_cut = ["fragment", ", damaged"].iter().any(|word| summary.contains(word))
                    && ["tcp.", "dns.", "lldp."].iter().any(|protocol| field.starts_with(protocol))
                    && before != &":";
                // A line has 16 labels at most.
                let is_beyond = field == &"mpls.label" && index >= 16;
                // Nothing in MPLS says whether a frame comes at once or after a control word. tshark
                // guesses by the manufacturers of addresses.
                let is_guessed = index > 0 && field.starts_with("eth.") && summary.contains("MPLS");
                // A line has `.` in place of what is not printable. tshark says in several ways that a
                // name is none, and writes the root of all names as `<Root>`.
                let is_no_text = !value.chars().all(|char| matches!(char, ' '..='~'))
                    || value.contains(['\\', '<']);
                // Of RARP only the name is shown.
                let is_rarp = field.starts_with("arp.") && summary.contains("RARP");
                // The ports of a packet that an error is about are those of that packet.
                let is_quoted = is_icmp && before == &":";
                // tshark reads on behind a header of AH that is shorter than any, or than its packet.
                let is_behind = before == &":" && summary.contains("AH, damaged");
                if is_cut
                    || is_behind
                    || is_beyond
                    || is_guessed
                    || is_no_text
                    || is_rarp
                    || is_quoted
                {
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

/// As [`differences`]; without a `tshark`, fails or says that the test is skipped.
fn differences_or_skipped(frames: &[Vec<u8>]) -> Option<Vec<String>> {
    let differences = differences(frames);
    if differences.is_none() {
        assert!(std::env::var_os("BUSCTL_REQUIRE_PEERS").is_none(), "tshark is not installed");
        eprintln!("skipped: tshark is not installed");
    }
    differences
}

#[test]
fn a_line_has_what_tshark_finds() {
    let frames: Vec<_> =
        specimens::frames().into_iter().filter(|frame| frame.len() >= 40).collect();
    let Some(differences) = differences_or_skipped(&frames) else { return };
    assert!(differences.is_empty(), "{differences:#?}");
}

/// The same over 30,000 frames with other addresses, ports and lengths, and 15,000 with damage
/// anywhere.
#[test]
fn a_line_has_what_tshark_finds_in_many_frames() {
    let mut random = fastrand::Rng::with_seed(8);
    let specimens: Vec<_> =
        specimens::frames().into_iter().filter(|frame| frame.len() >= 40).collect();
    let frames: Vec<_> = (0..45_000)
        .map(|index| {
            let mut frame = specimens[index % specimens.len()].clone();
            if index >= 30_000 {
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(..frame.len());
                    frame[at] = random.u8(..);
                }
                return frame;
            }
            // Addresses, and what follows a header without options.
            for at in [4, 5, 10, 11, 26, 27, 30, 31, 34, 35, 36, 37, 48, 49] {
                if at < frame.len() && random.u8(..3) == 0 {
                    frame[at] = random.u8(..);
                }
            }
            frame
        })
        .collect();
    let Some(differences) = differences_or_skipped(&frames) else { return };
    assert!(
        differences.is_empty(),
        "{}: {:#?}",
        differences.len(),
        &differences[..60.min(differences.len())]
    );
}
