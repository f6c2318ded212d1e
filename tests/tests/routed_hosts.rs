//! Hosts in a routed network. A router of the kernel, on a TAP, leads to another network; dnsmasq on
//! it leases IPv4 addresses and advertises an IPv6 prefix.

use system_tests::namespace::{self, Namespace};
use system_tests::{Lab, Process, WAIT_TIMEOUT, lab, require};

/// Addresses of the other network.
const FAR: [&str; 2] = ["192.0.2.1", "2001:db8:7::1"];

/// A namespace whose kernel is the router of `lan.bus`.
struct Router<'l> {
    namespace: Namespace<'l>,
    _node: Process,
}

impl<'l> Router<'l> {
    fn new(lab: &'l Lab) -> Self {
        let namespace = Namespace::new(lab);
        let addresses = ["10.0.0.254/24", "2001:db8:1::fe/64"];
        let node = namespace.attach_tap(&lab.arg("lan.bus"), "offload=on", addresses);
        namespace.ip("link set lo up");
        for address in FAR {
            namespace.ip(&format!("address add {address} dev lo"));
        }
        let mut forward = namespace.command("sysctl");
        forward.args(["-q", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
        lab.run_program(&mut forward).succeeds();
        Self { namespace, _node: node }
    }

    /// Starts dnsmasq, which also writes what it does to the file `dnsmasq.log`.
    fn serve(&self, lab: &Lab) -> Process {
        let leases = format!("--dhcp-leasefile={}", lab.arg("leases"));
        let log = format!("--log-facility={}", lab.arg("dnsmasq.log"));
        let server = self.namespace.spawn(
            require::find("dnsmasq").expect("it is installed"),
            [
                // It cannot become another user in a user namespace, and stays in the foreground.
                "--no-daemon",
                "--conf-file=/dev/null",
                "--port=0",
                "--interface=tap0",
                "--bind-interfaces",
                "--dhcp-range=10.0.0.50,10.0.0.99,2m",
                "--dhcp-authoritative",
                "--no-ping",
                "--enable-ra",
                "--dhcp-range=2001:db8:1::,ra-only,64",
                "--pid-file=",
                &leases,
                &log,
            ],
        );
        let started = || read(lab, "dnsmasq.log").filter(|log| log.contains("RTR-ADVERT"));
        assert!(system_tests::wait::poll(WAIT_TIMEOUT, started).is_some(), "dnsmasq starts");
        server
    }

    /// Pings a host from the other network.
    fn pings(&self, lab: &Lab, from: &str, to: &str) {
        let mut ping = self.namespace.command("ping");
        ping.args(["-c", "1", "-W", "5", "-I", from, to]);
        lab.run_program(&mut ping).succeeds();
    }
}

fn read(lab: &Lab, name: &str) -> Option<String> {
    std::fs::read_to_string(lab.path(name)).ok()
}

#[test]
fn other_networks_are_reached_through_named_routers() {
    if !namespace::available() || !require::program("ping") {
        return;
    }
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let router = Router::new(&lab);
    let own = ["10.0.0.7/24", "2001:db8:1::7/64"];
    let near = ["10.0.0.254", "2001:db8:1::fe"];
    for ((from, gateway), far) in own.iter().zip(near).zip(FAR) {
        let ping = ["ping", &bus, far, "--from", from, "--gateway", gateway];
        let run = lab.run(ping.iter().chain(&["-c", "3", "-i", "0.01", "--json"]));
        assert_eq!(run.json()["received"].as_u64(), Some(3), "{run}");
    }
    // What the router says is printed as ping(8) does.
    let ping =
        ["ping", &bus, "192.0.9.1", "--from", "10.0.0.9/24", "--gateway", near[0], "-c", "1"];
    let run = lab.run(ping);
    assert!(run.stdout.contains("From 10.0.0.254 icmp_seq=1 Destination Net Unreachable"), "{run}");
    // A router that does not answer is passed over.
    let ping =
        ["ping", &bus, FAR[0], "--from", "10.0.0.8/24", "--gateway", "10.0.0.253", "--gateway"];
    let run = lab.run(ping.iter().chain(&[near[0], "-c", "1", "-W", "10", "--json"]));
    assert_eq!(run.json()["received"].as_u64(), Some(1), "{run}");
    // A host answers to the other network.
    let gateways = ["--gateway", near[0], "--gateway", near[1], "--name", "web"];
    let _host = lab.ready(["host", &bus, own[0], own[1]].iter().chain(&gateways));
    router.pings(&lab, FAR[0], "10.0.0.7");
    router.pings(&lab, FAR[1], "2001:db8:1::7");
    let show = lab.run(["show", &bus]);
    assert!(show.stdout.contains(" web pid "), "{show}");
}

#[test]
fn addresses_and_routers_come_from_the_network() {
    if !namespace::available() || !require::program("ping") || !require::program("dnsmasq") {
        return;
    }
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let router = Router::new(&lab);
    let _server = router.serve(&lab);
    let hosts = lab.spawn(["host", &bus, "--dhcp", "--slaac", "--count", "3", "--json"]);
    let ready = hosts.wait_for(0, WAIT_TIMEOUT, "ready", |line| line.text.contains("ready"));
    let ready: serde_json::Value = serde_json::from_str(&ready).expect("JSON");
    let hosts_of = ready["hosts"].as_array().expect("a list");
    let mut leased = Vec::new();
    for host in hosts_of {
        let addresses = host["addresses"].as_array().expect("a list");
        let texts = addresses.iter().filter_map(|address| address.as_str()?.split('/').next());
        for address in texts.filter(|text| !text.starts_with("fe80:")) {
            router.pings(&lab, FAR[usize::from(address.contains(':'))], address);
            leased.push(address.to_owned());
        }
    }
    leased.sort_unstable();
    leased.dedup();
    assert_eq!(leased.len(), 6, "each has its own of both families: {ready}");
    for far in FAR {
        let run = lab.run(["ping", &bus, far, "--dhcp", "-c", "1", "-W", "10", "--json"]);
        assert_eq!(run.json()["received"].as_u64(), Some(1), "{run}");
    }
    // All leases are given back.
    hosts.interrupt().succeeds();
    let empty = || read(&lab, "leases").filter(|leases| !leases.contains(" 10.0.0."));
    assert!(system_tests::wait::poll(WAIT_TIMEOUT, empty).is_some(), "{:?}", read(&lab, "leases"));
}
