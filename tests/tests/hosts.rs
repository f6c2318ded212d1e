//! IP on a bus. Hosts answer pings of both families, to each of their addresses, from stations that
//! found them by ARP or by neighbour discovery, and keep answering while others come and go.

use system_tests::namespace::{self, Namespace};
use system_tests::{Lab, WAIT_TIMEOUT, frames, lab, require, wait};

fn pings(lab: &Lab, from: &str, to: &str) {
    let bus = lab.arg("lan.bus");
    let run = lab.run(["ping", &bus, to, "--from", from, "-c", "10", "-i", "0.01", "--json"]);
    assert_eq!(run.json()["received"].as_u64(), Some(10), "{run}");
}

#[test]
fn a_host_answers_on_each_of_its_addresses() {
    let lab = lab!();
    let _host =
        lab.ready(["host", &lab.arg("lan.bus"), "10.0.0.2/24", "192.168.7.2/16", "fd00::2/64"]);
    pings(&lab, "10.0.0.1/24", "10.0.0.2");
    pings(&lab, "192.168.1.1/16", "192.168.7.2");
    pings(&lab, "fd00::1/64", "fd00::2");
}

#[test]
fn many_hosts_share_a_bus() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let hosts: Vec<_> =
        (10..20).map(|host| lab.ready(["host", &bus, &format!("10.0.0.{host}/24")])).collect();
    let show = lab.run(["show", &bus, "--json"]).json();
    assert_eq!(show["stations"].as_u64(), Some(10), "{show}");
    let pingers: Vec<_> = (10..20)
        .map(|host| {
            let (from, to) = (format!("10.0.0.{}/24", host + 90), format!("10.0.0.{host}"));
            lab.spawn(["ping", &bus, &to, "--from", &from, "-c", "20", "-i", "0.02", "--json"])
        })
        .collect();
    for pinger in pingers {
        let run = pinger.finish(WAIT_TIMEOUT);
        assert_eq!(run.json()["received"].as_u64(), Some(20), "{run}");
    }
    for host in hosts {
        assert!(!host.interrupt().stderr.contains("panicked"));
    }
}

/// Any station may put malformed frames on a bus: none of them brings a host down.
#[test]
fn hosts_survive_nonsense() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let mut host = lab.ready(["host", &bus, "10.0.0.2/24"]);
    let mut random = fastrand::Rng::with_seed(2);
    let nonsense: Vec<Vec<u8>> = (0..5000)
        .map(|_| {
            let mut frame = frames::patterned(random.usize(14..=1514), random.u64(..));
            let ethertype: [u8; 2] = *random
                .choice([[8, 0], [8, 6], [0x86, 0xdd], [0, 14], [0x81, 0]].iter())
                .expect("some");
            frame[12..14].copy_from_slice(&ethertype);
            // Half of them begin like the packet they claim to be.
            if random.bool() && frame.len() > 34 {
                frame[14] = if ethertype == [0x86, 0xdd] { 0x60 } else { 0x45 };
            }
            frame
        })
        .collect();
    frames::write_pcap(&lab.path("nonsense.pcap"), &nonsense);
    lab.run(["replay", &lab.arg("nonsense.pcap"), &bus, "--pps", "20000"]).succeeds();
    pings(&lab, "10.0.0.1/24", "10.0.0.2");
    assert!(host.is_running());
    let said = host.interrupt().stderr;
    assert!(said.starts_with("busctl: the host: input ") && said.lines().count() == 1, "{said}");
}

/// The kernel on a TAP beside a host.
#[test]
fn the_kernel_has_a_good_neighbor() {
    if !namespace::available() || !require::program("ping") {
        return;
    }
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let addresses = ["10.0.0.1/24", "fd00::1/64"];
    let host = lab.ready(["host", &bus, addresses[0], addresses[1]]);
    let kernel = Namespace::new(&lab);
    let _node = kernel.attach_tap(&bus, "offload=on", ["10.0.0.3/24", "fd00::3/64"]);
    let ping = |address: &str, size: &str| {
        let mut ping = kernel.command("ping");
        ping.args(["-c", "1", "-W", "5", "-s", size, address]);
        lab.run_program(&mut ping).succeeds().to_owned()
    };
    for size in ["56", "1472", "1473", "8000", "65507"] {
        ping("10.0.0.1", size);
    }
    for size in ["56", "1453", "4000", "65000"] {
        ping("fd00::1", size);
    }
    // The kernel gives up an address that the host has.
    kernel.ip("-6 address add fd00::1/64 dev tap0");
    let shown = || {
        let mut show = kernel.command("ip");
        show.args(["-6", "address", "show", "dev", "tap0"]);
        lab.run_program(&mut show).succeeds().contains("dadfailed").then_some(())
    };
    assert!(wait::poll(WAIT_TIMEOUT, shown).is_some(), "the kernel should notice the host");
    kernel.ip("-6 address del fd00::1/64 dev tap0");
    // A host with another Ethernet address is reached by the first packet.
    host.interrupt().succeeds();
    let _anew = lab.ready(["host", &bus, addresses[0], addresses[1]]);
    for address in ["10.0.0.1", "fd00::1"] {
        ping(address, "56");
    }
}
