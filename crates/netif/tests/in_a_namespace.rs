//! Interfaces of real network namespaces, with `ip`(8) as the judge. Each test runs in a process
//! with a network of its own, because a user namespace gives the right to change interfaces. Where
//! none is available, the test is skipped.

use std::io::Write as _;
use std::process::{Command, Stdio};

use netif::{Interfaces, NetNamespace, NetifError};

/// Set in the process that has a network of its own.
const INSIDE: &str = "NETIF_TEST_HAS_A_NETWORK";

/// Runs a test in a process with a network of its own.
fn inside(test: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let unshare = |program: &str, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", program]).args(args).env(INSIDE, "1");
        command.output()
    };
    let trial = unshare("ip", &["link", "add", "dummy0", "type", "bridge"]);
    if !trial.as_ref().is_ok_and(|trial| trial.status.success()) {
        let required = std::env::var("BUSCTL_REQUIRE_PEERS").as_deref() == Ok("1");
        assert!(!required, "no network of its own, and BUSCTL_REQUIRE_PEERS=1: {trial:?}");
        // Past the capture of the test runner: a skipped test must be visible.
        let _ = writeln!(std::io::stderr(), "skipped: no network of its own: {trial:?}");
        return;
    }
    let this = std::env::current_exe().expect("a running program has a path");
    let thread = std::thread::current();
    let name = thread.name().expect("the runner names the thread after the test");
    let done = unshare(
        this.to_str().expect("text"),
        &[name, "--exact", "--nocapture", "--test-threads=1"],
    )
    .expect("unshare starts");
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

/// Runs `ip`(8), and returns what it prints.
fn ip(words: &str) -> String {
    let done = Command::new("ip").args(words.split(' ')).output().expect("ip starts");
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

#[test]
fn what_is_set_is_what_ip_shows() {
    inside(|| {
        ip("link add lan type bridge");
        let mut interfaces = Interfaces::open().expect("netlink");
        let before = interfaces.get("lan").expect("it exists");
        assert_eq!((before.mtu, before.up, before.running), (1_500, false, false));
        assert_eq!(interfaces.get("lo").expect("it exists").mac, Some([0; 6]));

        interfaces.set_mac("lan", [2, 0, 0, 0, 0, 7]).expect("a new address");
        interfaces.set_mtu("lan", 9_000).expect("a new MTU");
        interfaces.set_up("lo").expect("up");
        interfaces.set_up("lan").expect("up");
        let after = interfaces.get("lan").expect("it exists");
        assert_eq!((after.index, after.mtu, after.up), (before.index, 9_000, true));
        assert_eq!(after.mac, Some([2, 0, 0, 0, 0, 7]));
        let shown = ip("link show lan");
        assert!(shown.contains("mtu 9000") && shown.contains("02:00:00:00:00:07"), "{shown}");

        for address in ["10.0.0.1/24", "10.1.0.1/32", "fd00::1/64"] {
            interfaces.add_address("lan", address.parse().expect("valid")).expect("an address");
            assert!(ip("address show lan").contains(address), "{address}");
        }
        let shown = ip("address show lan");
        assert!(shown.contains("10.0.0.1/24 brd 10.0.0.255"), "{shown}");
        assert!(shown.contains("fd00::1/64 scope global nodad"), "{shown}");

        for (network, via, shown) in [
            ("0.0.0.0/0", "10.0.0.254", "default via 10.0.0.254 dev lan"),
            // What is behind the prefix is no part of the network.
            ("192.168.7.9/24", "10.0.0.253", "192.168.7.0/24 via 10.0.0.253 dev lan"),
            ("::/0", "fd00::fe", "default via fd00::fe dev lan"),
        ] {
            let (network, via) = (network.parse().expect("valid"), via.parse().expect("valid"));
            interfaces.add_route(network, via).expect("a route");
            let all = ip("route show") + &ip("-6 route show");
            assert!(all.contains(shown), "{shown}: {all}");
        }
    });
}

#[test]
fn a_refusal_says_what_and_why() {
    inside(|| {
        let mut interfaces = Interfaces::open().expect("netlink");
        let error = interfaces.set_up("lam").expect_err("there is none");
        assert_eq!(
            error.to_string(),
            "there is no interface lam in this network namespace; 'ip link' lists them"
        );
        let addressed = interfaces.add_address("lam", "10.0.0.1/24".parse().expect("valid"));
        assert!(matches!(addressed, Err(NetifError::NoInterface(_))), "{addressed:?}");
        interfaces.set_up("lo").expect("up");
        let mac = interfaces.set_mac("lo", [3, 0, 0, 0, 0, 1]).expect_err("a group");
        assert!(mac.to_string().starts_with("cannot change the Ethernet address of lo: "), "{mac}");
        let route = interfaces
            .add_route("10.2.0.0/16".parse().expect("valid"), "10.0.0.254".parse().expect("valid"))
            .expect_err("no interface reaches the router");
        assert_eq!(
            route.to_string(),
            "cannot add the route to 10.2.0.0/16 by 10.0.0.254: Network is unreachable (os error 101) \
             (Nexthop has invalid gateway)"
        );
        assert!(!route.is_not_allowed());
        let address = "10.0.0.1/24".parse().expect("valid");
        interfaces.add_address("lo", address).expect("an address");
        let twice = interfaces.add_address("lo", address).expect_err("it has it already");
        assert!(twice.to_string().contains("File exists"), "{twice}");
    });
}

#[test]
fn a_closure_runs_in_another_namespace() {
    inside(|| {
        let mut other = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link add there type bridge && echo made; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut made = [0; 5];
        let stdout = other.stdout.as_mut().expect("piped");
        std::io::Read::read_exact(stdout, &mut made).expect("the namespace is made");

        let there = NetNamespace::of_process(other.id()).expect("it lives");
        let mut interfaces = there.run(Interfaces::open).expect("entered").expect("netlink");
        interfaces.set_mtu("there", 1_400).expect("used from outside");
        let here = NetNamespace::of_process(std::process::id()).expect("/proc");
        let mtu = |namespace: &NetNamespace| {
            let inside = || Interfaces::open().and_then(|mut open| open.get("there"));
            namespace.run(inside).expect("entered").map(|interface| interface.mtu)
        };
        assert_eq!(mtu(&there).expect("it is there"), 1_400);
        assert!(matches!(mtu(&here), Err(NetifError::NoInterface(_))));

        let path = format!("/proc/{}/ns/net", other.id());
        let by_path = NetNamespace::named(&path).expect("a path");
        assert_eq!(mtu(&by_path).expect("it is there"), 1_400);
        let wrong = NetNamespace::named("/proc/self/ns/user").expect("it can be opened");
        let error = wrong.run(|| ()).expect_err("another kind");
        assert_eq!(error.to_string(), "/proc/self/ns/user is not a network namespace");
        let absent = NetNamespace::named("no-such-name").expect_err("there is none");
        assert!(matches!(absent, NetifError::NoNamespace { .. }), "{absent}");
        // The namespace lives as long as it is open here.
        drop(other.stdin.take());
        other.wait().expect("it ends");
        assert_eq!(mtu(&there).expect("it is there"), 1_400);
        let gone = NetNamespace::of_process(other.id()).expect_err("it has ended");
        assert!(matches!(gone, NetifError::NoProcess { .. }), "{gone}");
    });
}
