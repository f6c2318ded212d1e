//! Who sums: `capenable` decides between a host and its interface, and on the bus all is right
//! either way.

use shmbus::{Bus, Station, StationOptions};

use crate::{Lab, Running};

const STATE: &str = "--state ./state";

/// A host on `shmif0`, with this `capenable` and a TCP sink.
fn host(lab: &Lab, capenable: &str) -> Running {
    lab.prints(&format!("{STATE} create shmif0 capenable={capenable}"));
    lab.prints(&format!("{STATE} linkstr shmif0 ./lan.bus"));
    lab.prints(&format!("{STATE} up shmif0"));
    lab.ready(&format!("{STATE} host shmif0 10.0.0.1/24 fd00::1/64 --tcp-sink 5001"))
}

/// The sum of RFC 1071, in its own words: 0xffff when the checksum that is in it is right.
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Whether the frame is an IP packet with TCP, UDP or ICMP in it; each of its checksums must be
/// right.
fn checked(frame: &[u8]) -> bool {
    assert!(frame.len() <= 1514, "{} bytes", frame.len());
    let ip = &frame[14..];
    let (protocol, payload, addresses) = match frame[12..14] {
        [8, 0] => {
            assert_eq!(sum(&[&ip[..20]]), 0xffff, "IPv4 header: {frame:02x?}");
            let end = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            (ip[9], &ip[20..end], &ip[12..20])
        }
        [0x86, 0xdd] => {
            let end = 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            (ip[6], &ip[40..end], &ip[8..40])
        }
        _ => return false,
    };
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let pseudo: &[u8] =
        if protocol == 1 { &[] } else { &[addresses, &length, &[0, 0, 0, protocol]].concat() };
    assert_eq!(sum(&[pseudo, payload]), 0xffff, "protocol {protocol}: {frame:02x?}");
    true
}

#[test]
fn what_is_on_the_bus_is_right_whoever_sums() {
    for capenable in ["none", "all", "tso4,tcp4csum,tcp6csum", "ip4csum,udp4csum"] {
        let lab = Lab::new();
        let _host = host(&lab, capenable);
        // The other end is on an interface as well, so that both sides of it are seen.
        lab.prints(&format!("{STATE} create shmif1 capenable={capenable}"));
        lab.prints(&format!("{STATE} linkstr shmif1 ./lan.bus"));
        lab.prints(&format!("{STATE} up shmif1"));
        let mut frames = 0;
        for words in [
            "host shmif1 10.0.0.2/24 --tcp-source 10.0.0.1:5001 200k",
            "host shmif1 fd00::2/64 --tcp-source [fd00::1]:5001 200k",
            "ping shmif1 10.0.0.1 --from 10.0.0.2/24 -c 3 -i 0.01",
            "ping shmif1 fd00::1 --from fd00::2/64 -c 3 -i 0.01",
        ] {
            lab.prints(&format!("{STATE} {words}"));
        }
        lab.prints("dump ./lan.bus -w lan.pcap");
        for frame in lab.read_pcap("lan.pcap") {
            frames += usize::from(checked(&frame));
        }
        // So many are needed for the data, and all of it is still on the ring.
        assert!(frames > 2 * 200 * 1024 / 1460, "{capenable}: {frames}");
        let show = lab.json(&format!("{STATE} show shmif1 --json"));
        assert_eq!((&show["rx_errors"], &show["tx_errors"]), (&0.into(), &0.into()), "{show}");
    }
}

#[test]
fn what_is_wrong_is_dropped_and_counted_once_that_is_the_interfaces_part() {
    let lab = Lab::new();
    let mut host = host(&lab, "none");
    let show = || lab.json(&format!("{STATE} show shmif0 --json"));
    let mac = show()["mac"].as_str().unwrap().to_owned();
    let mac: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let mut station =
        Station::join(Bus::open(lab.path("lan.bus")).unwrap(), StationOptions::new()).unwrap();
    // A datagram to the echo service with a wrong checksum. No host answers it in either case.
    let mut frame = [&mac[..], &station.mac().into_array()].concat();
    frame.extend(b"\x08\0\x45\0\0\x21\0\0\x40\0\x40\x11\x26\xca\x0a\0\0\x02\x0a\0\0\x01");
    frame.extend(b"\x30\x39\0\x07\0\x0d\xba\xadhello");
    let mut send = || station.send_burst([&frame, &frame, &frame]).unwrap();
    let received = |count: u64| while show()["rx_packets"].as_u64().unwrap() < count {};
    send();
    received(3);
    assert_eq!(show()["rx_errors"], 0);
    // The host that runs follows.
    lab.prints(&format!("{STATE} set shmif0 capenable=all"));
    send();
    received(6);
    assert_eq!(show()["rx_errors"], 3);
    // And is still there.
    lab.prints("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -c 1 -W 20");
    lab.prints("host ./lan.bus 10.0.0.2/24 --tcp-source 10.0.0.1:5001 100k");
    assert!(host.line().contains(" 102400 bytes in "));
    assert_eq!(host.interrupt(), Some(0));
}
