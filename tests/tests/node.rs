//! `busctl node` runs the registry's interfaces, follows the registry while it changes, and is
//! replaced without manual work.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use memif::ClientOptions;
use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::memifpeer::MemifPeer;
use system_tests::namespace::{self, Namespace};
use system_tests::rawmemif::RawClient;
use system_tests::reference::RumpPeer;
use system_tests::testpmd::BURST;
use system_tests::{
    CpuLock, Lab, Process, Testpmd, WAIT_TIMEOUT, frames, lab, privilege, require, wait,
};

/// A lab with socket 1.
struct Registry {
    lab: Lab,
}

impl Registry {
    fn new(lab: Lab) -> Self {
        let registry = Self { lab };
        registry.does(&["socket", "add", "1", "./m.sock"]);
        registry
    }

    fn does(&self, words: &[&str]) -> String {
        self.lab.run(words).succeeds().to_owned()
    }

    /// Creates an interface that is up on `bus`.
    fn up(&self, name: &str, bus: &str) {
        self.does(&["create", name]);
        self.does(&["linkstr", name, bus]);
        self.does(&["up", name]);
    }

    fn socket(&self) -> PathBuf {
        self.lab.path("m.sock")
    }

    fn show(&self, name: &str) -> Value {
        self.lab.show(name)
    }

    fn shows(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) {
        self.lab.shows(name, what, holds);
    }

    fn node(&self) -> Process {
        self.lab.ready(["node"])
    }

    /// Connects a peer to the interface `id` on socket 1.
    fn peer(&self, id: u32) -> MemifPeer {
        MemifPeer::client(&self.socket(), ClientOptions::new(id))
    }

    /// Starts an IP host behind the interface `id`, which connects whenever it can.
    fn host(&self, id: u32, address: &str) -> Process {
        let port =
            format!("memif:role=client,id={id},reconnect=50,socket={}", self.socket().display());
        self.lab.spawn(["host", &port, address])
    }

    /// Waits until a ping from the bus is answered.
    fn answers(&self, bus: &str, address: &str) {
        let answered = wait::poll(WAIT_TIMEOUT, || {
            let ping =
                self.lab.run(["ping", bus, address, "--from", "10.0.0.99/24", "-c", "1", "--json"]);
            (ping.report()["received"] == 1).then_some(())
        });
        assert!(answered.is_some(), "{address} answers on {bus}");
    }
}

#[test]
fn interfaces_are_run_as_they_are_made_changed_and_destroyed() {
    let registry = Registry::new(lab!());
    let node = registry.node();
    registry.up("memif1/0", "./lan.bus");
    registry.up("memif1/1", "./lan.bus");
    let (mut alice, mut bob) = (registry.peer(0), registry.peer(1));
    alice.reach(&mut bob);
    bob.reach(&mut alice);
    registry.shows("memif1/0", "its peer", |shown| {
        shown["link"] == "up"
            && shown["connected"] == true
            && shown["pid"] == node.id()
            && shown["rings"].as_array().is_some_and(|rings| rings.len() == 2)
            && shown["rx_packets"].as_u64() > Some(0)
            && shown["tx_packets"].as_u64() > Some(0)
    });

    // Down, it has no peer and accepts none.
    registry.does(&["down", "memif1/0"]);
    registry.shows("memif1/0", "no peer", |shown| {
        shown["link"] == "down" && shown["connected"] == false
    });
    let before = registry.show("memif1/0")["rx_packets"].clone();
    registry.does(&["set", "memif1/0", "secret=hunter2"]);
    registry.does(&["linkstr", "memif1/0", "--unset"]);
    registry.does(&["linkstr", "memif1/0", "./other.bus"]);
    registry.does(&["up", "memif1/0"]);

    // Up on another bus, and with a secret.
    let options = ClientOptions::new(0).secret("hunter2").expect("a secret");
    let mut alice = MemifPeer::client(&registry.socket(), options);
    registry.up("memif1/2", "./other.bus");
    let mut carol = registry.peer(2);
    alice.reach(&mut carol);
    registry.shows("memif1/0", "all that it ever counted", |shown| {
        shown["rx_packets"].as_u64() > before.as_u64() && shown["connections"] == 2
    });

    registry.does(&["destroy", "memif1/0", "memif1/1", "memif1/2"]);
    assert_eq!(registry.does(&["show"]), "");
    assert!(!registry.socket().exists(), "a socket goes with its last interface");
    for folder in ["interfaces", "running", "reports"] {
        assert_eq!(Lab::list(&registry.lab.state().join(folder)), [""; 0], "{folder}");
    }
    assert_eq!(node.interrupt().status.code(), Some(0));
}

/// Connected peers do not notice that others come and go on their socket.
#[test]
fn a_shared_socket_loses_nothing_while_interfaces_come_and_go() {
    const FRAMES: u64 = 20_000;
    let _cpus = CpuLock::acquire();
    let registry = Registry::new(lab!());
    let _node = registry.node();
    registry.up("memif1/0", "./lan.bus");
    registry.up("memif1/1", "./lan.bus");
    let (mut alice, mut bob) = (registry.peer(0), registry.peer(1));
    alice.reach(&mut bob);
    std::thread::scope(|scope| {
        let coming_and_going = scope.spawn(|| {
            for _ in 0..5 {
                registry.up("memif1/7", "./lan.bus");
                let _carol = registry.peer(7);
                registry.does(&["down", "memif1/7"]);
                registry.does(&["destroy", "memif1/7"]);
            }
        });
        let mut next = 0;
        // Send all frames, and at least as long as others come and go. At most one ring of frames
        // is in flight.
        while next < FRAMES || !coming_and_going.is_finished() {
            let burst: Vec<_> =
                (next..next + 32).map(|number| frames::numbered(60, number)).collect();
            alice.send_all(&burst);
            for frame in bob.receive_exactly(burst.len()) {
                assert_eq!(frames::number_of(&frame), Some(next), "in order, and none missing");
                next += 1;
            }
        }
    });
}

/// Three ports and two threads: each of the others receives a frame once, and the sender does not
/// receive it.
#[test]
fn every_frame_reaches_every_other_port_once() {
    const FRAMES: u64 = 2_000;
    let _cpus = CpuLock::acquire();
    let registry = Registry::new(lab!());
    let _node = registry.lab.ready(["node", "--threads", "2"]);
    for id in 0..3 {
        registry.up(&format!("memif1/{id}"), "./lan.bus");
    }
    let mut peers: Vec<_> = (0..3).map(|id| registry.peer(id)).collect();
    for other in [1, 2] {
        let (first, rest) = peers.split_at_mut(1);
        first[0].reach(&mut rest[other - 1]);
    }
    registry.shows("memif1/2", "a link", |shown| shown["link"] == "up");
    for peer in &mut peers {
        while peer.receive(|_| ()) > 0 {}
    }
    for sender in 0..3 {
        for number in 0..FRAMES {
            peers[sender].send_all(&[frames::numbered(60, number)]);
            for receiver in (0..3).filter(|receiver| *receiver != sender) {
                let got = peers[receiver].receive_exactly(1);
                assert_eq!(got.len(), 1, "one copy");
                assert_eq!(frames::number_of(&got[0]), Some(number));
            }
        }
        assert_eq!(peers[sender].receive(|_| ()), 0, "nothing comes back");
    }
}

/// A thread that waited for the lock at every burst would serve its other ports some dozen times a
/// second.
#[test]
fn a_bus_that_is_locked_for_long_does_not_delay_another() {
    const TURNS: u64 = 5_000;
    let _cpus = CpuLock::acquire();
    let registry = Registry::new(lab!());
    let node = registry.lab.ready(["node", "--threads", "1"]);
    registry.up("memif1/0", "./stuck.bus");
    registry.up("memif1/1", "./lan.bus");
    registry.up("memif1/2", "./lan.bus");
    let (mut alice, mut bob, mut carol) = (registry.peer(0), registry.peer(1), registry.peer(2));
    bob.reach(&mut carol);
    let mut rump = RumpPeer::attach(&registry.lab.path("stuck.bus"), [2, 0, 0, 0, 0, 9]);
    let lock = rump.hold_lock();
    let mark = node.mark();
    let begin = Instant::now();
    for number in 0..TURNS {
        assert!(
            begin.elapsed() < WAIT_TIMEOUT,
            "only {number} turns: the thread waits for the lock"
        );
        // Send as many as fit: the node leaves them in the ring.
        alice.send_some([frames::numbered(60, number)]);
        bob.send_all(&[frames::numbered(60, number)]);
        let got = carol.receive_exactly(1);
        assert_eq!(frames::number_of(&got[0]), Some(number), "after the last one");
    }
    // A lock that lasts is worth a line.
    let locked = wait::poll(WAIT_TIMEOUT, || {
        alice.send_some([frames::numbered(60, 0)]);
        node.lines_after(mark).into_iter().find(|line| line.text.contains("unknown owner"))
    });
    let (line, _) = locked.expect("the node reports that the bus is locked");
    let line = line.text;
    assert!(
        line.contains("memif1/0: ") && line.contains("stuck.bus") && line.contains("busctl repair"),
        "{line}"
    );

    drop(lock);
    let heard = wait::poll(WAIT_TIMEOUT, || {
        alice.send_some([frames::numbered(60, TURNS)]);
        rump.receive()
    });
    assert!(heard.is_some(), "frames get through once the lock is free");
    node.wait_after(mark, "is free again");
    let locked =
        node.lines_after(mark).into_iter().filter(|line| line.text.contains("unknown owner"));
    assert_eq!(locked.count(), 1, "reported once");
}

#[test]
fn interfaces_that_cannot_run_are_reported_and_run_when_they_can() {
    let registry = Registry::new(lab!());
    let node = registry.node();
    registry.does(&["socket", "add", "2", "./later/m.sock"]);
    registry.does(&["create", "memif2/0"]);
    registry.does(&["linkstr", "memif2/0", "./lan.bus"]);
    let up = registry.lab.run(["up", "memif2/0"]);
    up.fails_with(1, &["memif2/0 is changed, but process", "in trouble", "later"]);
    assert!(
        registry.show("memif2/0")["trouble"]
            .as_str()
            .is_some_and(|trouble| trouble.contains("later"))
    );

    // The other interfaces continue.
    registry.up("memif1/0", "./lan.bus");
    let mut alice = registry.peer(0);

    let folder = registry.lab.path("later");
    std::fs::create_dir(&folder).expect("a folder");
    privilege::hand_over(&folder);
    registry.shows("memif2/0", "no trouble", |shown| shown["trouble"] == Value::Null);
    let mut bob = MemifPeer::client(&folder.join("m.sock"), ClientOptions::new(0));
    alice.reach(&mut bob);

    // A bus that is cut short ends the interfaces on it, and no others.
    registry.does(&["down", "memif2/0"]);
    registry.does(&["linkstr", "memif2/0", "--unset"]);
    registry.does(&["linkstr", "memif2/0", "./other.bus"]);
    registry.does(&["up", "memif2/0"]);
    let mut bob = MemifPeer::client(&folder.join("m.sock"), ClientOptions::new(0));
    let bus = registry.lab.path("other.bus");
    std::fs::File::options()
        .write(true)
        .open(&bus)
        .and_then(|file| file.set_len(100))
        .expect("cut the bus");
    bob.send_some([frames::numbered(60, 0)]);
    registry.shows("memif2/0", "trouble", |shown| shown["trouble"].is_string());
    std::fs::remove_file(&bus).expect("remove the bus");
    registry.shows("memif2/0", "no trouble", |shown| shown["trouble"] == Value::Null);
    registry.up("memif1/1", "./lan.bus");
    alice.reach(&mut registry.peer(1));
    assert_eq!(node.interrupt().status.code(), Some(0));
}

#[test]
fn a_killed_node_leaves_nothing_in_the_way_of_the_next() {
    let registry = Registry::new(lab!());
    let mut node = registry.node();
    registry.up("memif1/0", "./lan.bus");
    registry.up("memif1/1", "./lan.bus");
    let _hosts = [registry.host(0, "10.0.0.10/24"), registry.host(1, "10.0.0.11/24")];
    for _ in 0..3 {
        registry.answers("./lan.bus", "10.0.0.10");
        registry.answers("./lan.bus", "10.0.0.11");
        node.kill();
        let shown = registry.show("memif1/0");
        assert_eq!((&shown["running"], &shown["link"]), (&false.into(), &"down".into()), "{shown}");
        // No process runs it, so there is none to wait for.
        registry.does(&["down", "memif1/1"]);
        registry.does(&["up", "memif1/1"]);
        node = registry.node();
    }
    registry.answers("./lan.bus", "10.0.0.11");
}

#[test]
fn a_second_node_waits_for_the_first_to_go() {
    let registry = Registry::new(lab!());
    registry.up("memif1/0", "./lan.bus");
    let mut first = registry.node();
    let second = registry.node();
    second.wait_for_line(&format!("memif1/0 is run by process {}", first.id()));
    let _host = registry.host(0, "10.0.0.10/24");
    registry.answers("./lan.bus", "10.0.0.10");
    first.kill();
    registry.shows("memif1/0", "the second node", |shown| shown["pid"] == second.id());
    registry.answers("./lan.bus", "10.0.0.10");
}

#[test]
fn connected_peers_learn_why_the_node_ends() {
    let registry = Registry::new(lab!());
    registry.up("memif1/0", "./lan.bus");
    for (signal, what) in [(Signal::SIGTERM, "ends"), (Signal::SIGINT, "ends")] {
        let node = registry.node();
        let host = registry.host(0, "10.0.0.10/24");
        host.wait_for_line("ready");
        node.signal(signal);
        host.wait_for_line(what);
        let ended = node.finish(WAIT_TIMEOUT);
        assert_eq!(ended.succeeds(), "ready\n");
        assert_eq!(ended.stderr, "");
        assert!(!registry.socket().exists());
        assert_eq!(Lab::list(&registry.lab.state().join("running")), [""; 0]);
    }
    let node = registry.node();
    let host = registry.host(0, "10.0.0.10/24");
    host.wait_for_line("ready");
    registry.does(&["down", "memif1/0"]);
    host.wait_for_line("this interface was taken down");
    let _ = node.interrupt();
}

/// A peer with a wrong secret gets the reason, and the user sees it once.
#[test]
fn a_peer_that_is_refused_is_shown() {
    let registry = Registry::new(lab!());
    let node = registry.node();
    registry.up("memif1/0", "./lan.bus");
    registry.does(&["down", "memif1/0"]);
    registry.does(&["set", "memif1/0", "secret=hunter2"]);
    registry.does(&["up", "memif1/0"]);
    let _host = registry.host(0, "10.0.0.10/24");
    let line = node.wait_for_line("memif1/0: ");
    assert!(line.contains("secret") && !line.contains("hunter2"), "{line}");
    registry.shows("memif1/0", "why", |shown| {
        shown["last_refusal"].as_str().is_some_and(|why| why.contains("secret"))
    });
    drop(RawClient::connect(&registry.socket()));
}

#[test]
fn buses_are_kept_apart() {
    let registry = Registry::new(lab!());
    let _node = registry.node();
    for (id, bus) in [(0, "./a.bus"), (1, "./a.bus"), (2, "./b.bus"), (3, "./b.bus")] {
        registry.up(&format!("memif1/{id}"), bus);
    }
    let mut peers: Vec<_> = (0..4).map(|id| registry.peer(id)).collect();
    let (a, b) = peers.split_at_mut(2);
    let (alice, bob) = a.split_at_mut(1);
    alice[0].reach(&mut bob[0]);
    let (carol, dave) = b.split_at_mut(1);
    carol[0].reach(&mut dave[0]);
    for peer in b.iter_mut() {
        while peer.receive(|_| ()) > 0 {}
    }
    // Bob has received the frame, so a copy on the other bus would have arrived, too.
    alice[0].send_all(&[frames::numbered(60, 1 << 40)]);
    let _ = bob[0].receive_exactly(1);
    for peer in b {
        peer.receive(|frame| {
            assert_ne!(frames::number_of(frame), Some(1 << 40), "it is on the other bus");
        });
    }
}

#[test]
fn two_testpmds_on_two_interfaces_see_each_other() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let registry = Registry::new(lab!());
    let _node = registry.node();
    registry.up("memif1/0", "./lan.bus");
    registry.up("memif1/1", "./lan.bus");
    let mut alice = Testpmd::client(&registry.socket(), 0).start(&registry.lab);
    let mut bob = Testpmd::client(&registry.socket(), 1).start(&registry.lab);
    alice.wait_for_link();
    bob.wait_for_link();
    bob.command("start");
    alice.start_with_bursts(2);
    bob.wait_for_rx(2 * BURST);
    bob.command("stop");
    bob.start_with_bursts(3);
    alice.wait_for_rx(3 * BURST);
    assert_eq!(alice.stats().rx_packets, 3 * BURST, "its own frames do not come back");
    registry.shows("memif1/0", "what went through", |shown| {
        shown["rx_packets"].as_u64() >= Some(2 * BURST)
            && shown["tx_packets"].as_u64() >= Some(3 * BURST)
            && shown["remote"]["name"].as_str().is_some_and(|name| name.contains("DPDK"))
    });
}

#[test]
fn a_tap_interface_is_run_like_the_others() {
    if !namespace::available() {
        return;
    }
    let registry = Registry::new(lab!());
    let inside = Namespace::new(&registry.lab);
    let node = inside.spawn(registry.lab.program(), ["node"]);
    node.wait_for(0, WAIT_TIMEOUT, "the line `ready`", |line| line.text == "ready");
    registry.up("tap0", "./lan.bus");
    registry.shows("tap0", "no link", |shown| shown["link"] == "down" && shown["pid"].is_u64());
    for _ in 0..2 {
        inside.set_up("tap0", ["10.0.0.1/24", "fd00::1/64"]);
        registry.answers("./lan.bus", "10.0.0.1");
        registry.shows("tap0", "a link", |shown| {
            shown["link"] == "up" && shown["tx_packets"].as_u64() > Some(0)
        });
        registry.does(&["down", "tap0"]);
        let gone = registry.lab.run_program(inside.command("ip").args(["link", "show", "tap0"]));
        assert!(!gone.status.success(), "the device goes with the interface: {gone}");
        registry.does(&["set", "tap0", "offload=off"]);
        registry.does(&["up", "tap0"]);
    }
    assert_eq!(node.mark(), 1, "nothing but that it is ready: {}", node.transcript());

    // A device that was deleted is created again.
    for _ in 0..2 {
        let mark = node.mark();
        inside.ip("link delete tap0");
        node.wait_after(mark, "busctl: tap0: the interface was deleted");
        wait::until("it is there again", WAIT_TIMEOUT, || {
            registry
                .lab
                .run_program(inside.command("ip").args(["link", "show", "tap0"]))
                .status
                .success()
        });
        registry.shows("tap0", "no trouble", |shown| shown["trouble"] == Value::Null);
        inside.set_up("tap0", ["10.0.0.1/24", "fd00::1/64"]);
        registry.answers("./lan.bus", "10.0.0.1");
    }
    let before = registry.show("tap0");
    registry.does(&["destroy", "tap0"]);
    assert!(before["rx_packets"].as_u64() > Some(0), "{before}");
    node.signal(Signal::SIGTERM);
    node.finish(WAIT_TIMEOUT).succeeds();
}

/// The supervisor uses systemd's protocol.
#[test]
fn a_supervisor_learns_that_it_is_ready_alive_and_ending() {
    let lab = lab!();
    let path = lab.path("notify");
    let supervisor = UnixDatagram::bind(&path).expect("a socket");
    privilege::hand_over(&path);
    supervisor.set_read_timeout(Some(WAIT_TIMEOUT)).expect("a timeout");
    let hear = || {
        let mut text = [0; 64];
        let len = supervisor.recv(&mut text).expect("a message");
        String::from_utf8_lossy(&text[..len]).into_owned()
    };
    for words in [
        "node",
        "attach ./lan.bus memif:id=0,socket=./supervised.sock",
        "host ./lan.bus 10.0.0.1/24",
    ] {
        let mut command = lab.busctl(words.split(' '));
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
        let process = Process::spawn(words, &mut command);
        // Before it is ready, it may say that it is alive.
        while hear() != "READY=1" {}
        for _ in 0..3 {
            assert_eq!(hear(), "WATCHDOG=1");
        }
        process.signal(Signal::SIGTERM);
        while hear() != "STOPPING=1" {}
        process.finish(WAIT_TIMEOUT).succeeds();
    }
}

/// Returns the processor ticks that a process has used, and its private memory in KiB.
fn cost(process: &Process) -> (u64, u64) {
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/{}/{file}", process.id()))
            .expect("a process of ours")
    };
    let stat = read("stat");
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("a number");
    let status = read("status");
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    let own = own.trim().trim_end_matches(" kB").parse().expect("a number");
    (ticks(11) + ticks(12), own)
}

/// Measures what a hundred idle ports cost, half of them with a peer. The figures are printed. Only
/// a mistake in kind fails: a port that is polled, or memory for frames that never came.
#[test]
fn a_hundred_idle_ports_cost_next_to_nothing() {
    const PORTS: u32 = 100;
    const SECONDS: u64 = 5;
    let _cpus = CpuLock::acquire();
    let registry = Registry::new(lab!());
    let names: Vec<String> = (0..PORTS).map(|id| format!("memif1/{id}")).collect();
    for name in &names {
        registry.does(&["create", name]);
        registry.does(&["linkstr", name, "./lan.bus"]);
    }
    let mut words = vec!["up"];
    words.extend(names.iter().map(String::as_str));
    registry.does(&words);
    let node = registry.node();
    let _peers: Vec<_> = (0..PORTS / 2).map(|id| registry.peer(id)).collect();
    registry.shows("memif1/49", "a link", |shown| shown["link"] == "up");
    let before = cost(&node).0;
    // This measures a rate and waits for no event.
    std::thread::sleep(Duration::from_secs(SECONDS));
    let (after, own) = cost(&node);
    // The kernel counts 100 ticks a second.
    let share = (after - before) as f64 / SECONDS as f64;
    eprintln!(
        "{PORTS} idle ports, half of them connected: {share:.1} % of a core, {own} KiB of its own memory"
    );
    assert!(share < 10.0, "{share:.1} % of a core");
    assert!(own < 30 * 1024, "{own} KiB");
}
