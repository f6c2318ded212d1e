//! `busctl lab`: labs of a file, without privileges. They do what the file says, end whole however
//! they end, and the shipped ones pass their own checks.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use system_tests::proc_files::children;
use system_tests::vm::Image;
use system_tests::{Lab, Process, WAIT_TIMEOUT, lab, namespace, require, wait};

const TWO_NETWORKS: &str = r#"
[lan.left]
prefix = "10.1.0.0/24"

[link.right]
prefix = "10.2.0.0/30"
ends = ["router", "far"]

[node.router]
lans = "left"
addresses = ["10.1.0.1/24", "10.2.0.1/30"]
forward = true
exec = "echo the router starts; grep ^SigBlk /proc/self/status"

[node.near]
lans = "left"
after = "router"
gateway = "10.1.0.1"
services = { name = "web", run = "exec busybox httpd -f -p 80 -h .", restart = "always" }
files."index.html" = "hello from {{ name }}"
ready = { tcp = 80 }

[node.far]
kind = "host"
gateway = "10.2.0.1"

[[check]]
name = "across the router"
node = "near"
exec = "ping -c 1 -W 1 far"
output = "1 received"

[[check]]
name = "and back"
node = "far"
ping = "near"
"#;

/// How long the checks of a shipped lab may take, on a loaded machine.
const LAB_TIMEOUT: Duration = Duration::from_mins(5);

/// Starts the lab of a text, and waits until it is ready.
fn up(lab: &Lab, text: &str) -> Process {
    lab.write("net.toml", text.as_bytes());
    let process = lab.spawn(["lab", "up", "net.toml"]);
    process.wait_for_line("lab net: ready");
    process
}

/// Returns whether a test of labs can run here.
fn available() -> bool {
    namespace::available()
}

/// Returns the folder of the labs that are up.
fn labs(lab: &Lab) -> PathBuf {
    lab.state().join("labs")
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn a_lab_does_what_its_file_says() {
    require!("ping", "busybox");
    if !available() {
        return;
    }
    let lab = lab!();
    let up = up(&lab, TWO_NETWORKS);
    let shown = lab.does("lab show");
    for words in ["near", "10.1.0.2/24", "router", "10.2.0.1/30", "host  ready"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let ping = lab.does("lab exec near -- ping -c 1 -W 5 far");
    assert!(ping.contains("ttl=63"), "{ping}");
    let page = lab.does("lab exec router -- busybox wget -q -O - http://near/");
    assert_eq!(page.trim_end(), "hello from near");
    assert!(lab.does("lab logs router").contains("the router starts"));
    let status = lab.run(["lab", "exec", "near", "--", "sh", "-c", "hostname; exit 7"]);
    assert_eq!((status.status.code(), &*status.stdout), (Some(7), "near\n"), "{status}");
    // Commands are deaf to no signal.
    let blocked = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    for words in
        [vec!["lab", "exec", "near", "--", "sh", "-c", blocked], vec!["lab", "logs", "router"]]
    {
        let said = lab.run(&words);
        let masks: Vec<_> = said.stdout.lines().filter(|line| line.starts_with("SigBlk")).collect();
        assert!(
            !masks.is_empty() && masks.iter().all(|mask| mask.ends_with("\t0000000000000000")),
            "{said}"
        );
    }
    // A service that is killed is started again.
    lab.run(["lab", "exec", "near", "--", "pkill", "-9", "busybox"]).succeeds();
    wait::until("the web server is back", WAIT_TIMEOUT, || {
        let words = ["lab", "exec", "router", "--", "busybox", "wget", "-q", "-O", "-", "near"];
        lab.run(words).stdout.trim_end() == "hello from near"
    });
    // A link is cut and heals.
    let far = ["lab", "exec", "near", "--", "ping", "-c", "1", "-W", "1", "far"];
    lab.does("lab set right partition=on");
    assert_eq!(lab.run(far).status.code(), Some(1));
    lab.does("lab set right partition=off");
    wait::until("the link has healed", WAIT_TIMEOUT, || lab.run(far).status.code() == Some(0));
    lab.run(["lab", "down"]).succeeds();
    up.finish(WAIT_TIMEOUT).succeeds();
    assert!(is_empty(&labs(&lab)));
}

/// The daemon holds a lock, as a `rump_server` holds its socket.
const DAEMONS: &str = r#"
[lan.office]
[group.daemons]
lans = "office"
exec = ["flock -n lock true", "setsid -f flock lock sleep 1000", "until ! flock -n lock true; do :; done"]
[node.plain]
kind = "process"
group = "daemons"
[node.space]
group = "daemons"
[node.other]
kind = "process"
group = "daemons"
"#;

/// A process that leaves the session of its command is the node's all the same.
#[test]
fn daemons_end_with_their_node() {
    require!("setsid", "flock");
    if !available() {
        return;
    }
    let lab = lab!();
    let up = up(&lab, DAEMONS);
    for node in ["plain", "space"] {
        lab.run(["lab", "restart", node]).succeeds();
        wait::until("the daemon is started again", WAIT_TIMEOUT, || {
            let shown = lab.does("lab show");
            assert!(!shown.contains("failed"), "{shown}");
            shown.contains("lab net: ready")
        });
    }
    // Those of other nodes live.
    let held = ["lab", "exec", "other", "--", "flock", "-n", "lock", "true"];
    assert_eq!(lab.run(held).status.code(), Some(1));
    lab.run(["lab", "down"]).succeeds();
    up.finish(WAIT_TIMEOUT).succeeds();
}

/// The process that started a lab is late to notice its end: by then another lab has the name.
#[test]
fn a_lab_is_not_taken_down_in_place_of_another_of_its_name() {
    if !available() {
        return;
    }
    let lab = lab!();
    let text = "[lan.office]\n[node.pc]\nkind = \"process\"\nlans = \"office\"\nservices = \"sleep 1000\"\n";
    let first = up(&lab, text);
    first.signal(Signal::SIGSTOP);
    lab.run(["lab", "down"]).succeeds();
    let second = up(&lab, text);
    first.signal(Signal::SIGCONT);
    first.finish(WAIT_TIMEOUT).succeeds();
    lab.run(["lab", "exec", "pc", "--", "true"]).succeeds();
    lab.run(["lab", "down"]).succeeds();
    second.finish(WAIT_TIMEOUT).succeeds();
}

/// Hosts alone, on a link and on a LAN: what is between two of them passes nothing else.
const HOSTS: &str = r#"
[lan.office]
prefix = "10.1.0.0/24"
delay = "20ms"

[link.wire]
prefix = "10.2.0.0/30"
ends = ["a", "b"]

[node.a]
kind = "host"
[node.b]
kind = "host"
[node.c]
kind = "host"
lans = "office"
[node.d]
kind = "host"
lans = "office"

[[check]]
node = "c"
ping = "d"
[[check]]
node = "a"
ping = "b"
[[check]]
set = "wire"
partition = true
[[check]]
node = "a"
ping = "b"
fails = true
[[check]]
set = "wire"
partition = false
[[check]]
node = "a"
ping = "b"
[[check]]
set = "b:eth0"
"out.loss" = "100%"
[[check]]
node = "a"
ping = "b"
fails = true
[[check]]
set = "b:eth0"
"out.loss" = "0"
[[check]]
node = "b"
ping = "a"
"#;

#[test]
fn the_links_of_hosts_misbehave() {
    if !available() {
        return;
    }
    let lab = lab!();
    lab.write("hosts.toml", HOSTS.as_bytes());
    let report = lab.run(["lab", "test", "hosts.toml", "--json"]).report();
    assert_eq!(report["passed"], true, "{report}");
    // Each is late where it enters the LAN: a reply has two of the delays behind it. The time of a
    // ping begins when the request has left the host.
    let took = |check: usize| {
        let took = &report["checks"][check]["took"];
        let nanos = Duration::from_nanos(took["nanos"].as_u64().unwrap());
        Duration::from_secs(took["secs"].as_u64().unwrap()) + nanos
    };
    assert!(took(0) >= Duration::from_millis(40), "{report}");
}

#[test]
fn what_differs_is_started_again_and_nothing_else() {
    require!("ping");
    if !available() {
        return;
    }
    let lab = lab!();
    let _up = up(&lab, TWO_NETWORKS);
    lab.does("lab exec near -- touch here");
    lab.write(
        "net.toml",
        TWO_NETWORKS
            .replace("echo the router starts;", "ip address add 10.9.0.1/32 dev lo;")
            .as_bytes(),
    );
    lab.does("lab apply net.toml");
    wait::until("the router is started again", WAIT_TIMEOUT, || {
        let address = lab.run(["lab", "exec", "router", "--", "ip", "address"]);
        address.stdout.contains("10.9.0.1") && lab.does("lab show").contains("lab net: ready")
    });
    lab.does("lab exec near -- test -e here");
    lab.run(["lab", "exec", "near", "--", "ping", "-c", "1", "-W", "5", "10.9.0.1"]).succeeds();
    // What only changes a link starts nothing again.
    lab.does("lab exec router -- touch here");
    let cut = TWO_NETWORKS
        .replace("echo the router starts;", "ip address add 10.9.0.1/32 dev lo;")
        .replace("prefix = \"10.2.0.0/30\"", "prefix = \"10.2.0.0/30\"\npartition = true");
    lab.write("net.toml", cut.as_bytes());
    lab.does("lab apply net.toml");
    let far = ["lab", "exec", "near", "--", "ping", "-c", "1", "-W", "1", "far"];
    assert_eq!(lab.run(far).status.code(), Some(1));
    lab.does("lab exec router -- test -e here");
}

#[test]
fn nothing_is_left_when_a_process_of_a_lab_is_killed() {
    require!("busybox");
    if !available() {
        return;
    }
    let lab = lab!();
    // The process that the user started, the one that makes the namespaces, the supervisor.
    for generation in 0..3 {
        let mut up = up(&lab, TWO_NETWORKS);
        let child = |pid: u32| children(pid)[0];
        let pids = [up.id(), child(up.id()), child(child(up.id()))];
        let supervisor = pids[2];
        kill(Pid::from_raw(pids[generation].try_into().unwrap()), Signal::SIGKILL).unwrap();
        wait::until("the command ends", WAIT_TIMEOUT, || !up.is_running());
        wait::until("the supervisor has ended", WAIT_TIMEOUT, || {
            !Path::new(&format!("/proc/{supervisor}/root")).exists()
        });
        // It is down, or any process that looks removes what is left.
        wait::until("no lab is up", WAIT_TIMEOUT, || {
            let _ = lab.run(["lab", "down", "net"]);
            is_empty(&labs(&lab))
        });
    }
}

/// What failed is there to look at without another run: the logs, and the frames that the buses
/// still have.
#[test]
fn what_a_failed_check_saw_is_kept() {
    if !available() {
        return;
    }
    let lab = lab!();
    let (hosts, _) = HOSTS.split_once("[[check]]").unwrap();
    let check = "[[check]]\nnode = \"c\"\nping = \"d\"\nfails = true\nwithin = \"100ms\"\n";
    lab.write("kept.toml", format!("{hosts}{check}{check}").as_bytes());
    let finished = lab.run(["lab", "test", "kept.toml", "--json"]);
    assert_eq!(finished.status.code(), Some(1), "{finished}");
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    let kept: Vec<_> = report["captures"].as_array().unwrap().iter().collect();
    assert_eq!(kept, ["kept-failed/office.pcapng", "kept-failed/wire.pcapng"], "{report}");
    let frames = fs::read(lab.path("kept-failed/office.pcapng")).unwrap();
    let mut reader = pcap_file::pcapng::PcapNgReader::new(&frames[..]).unwrap();
    let mut requests = 0;
    while let Some(block) = reader.next_block() {
        let block = block.unwrap();
        let Some(frame) = block.into_enhanced_packet() else { continue };
        // IPv4, ICMP, an echo request.
        let is_request = frame.data.get(12..14) == Some(&[8, 0][..])
            && (frame.data.get(23), frame.data.get(34)) == (Some(&1), Some(&8));
        requests += usize::from(is_request);
    }
    assert!(requests >= 1, "{report}");
}

/// The same in Rust, in the process of the test: all of it goes with the value.
#[test]
fn a_lab_is_a_value() {
    use ::lab::{Lab as NetworkLab, Section};
    use shmbus::StationOptions;

    require!("ping");
    if !available() {
        return;
    }
    let network = NetworkLab::builder("value")
        .link("wire", ["near", "far"], Section::new().set("prefix", "10.1.0.0/30"))
        .lan("quiet", Section::new().set("prefix", "10.2.0.0/24"))
        .node("near", Section::new().set("files", Section::new().set("name", "{{ name }}")))
        .node("far", Section::new().set("kind", "host"))
        .start_by(lab!().program())
        .unwrap();
    network.wait_ready(WAIT_TIMEOUT).unwrap();
    let near = network.node("near");
    assert_eq!(near.exec("cat name").unwrap().stdout, "near");
    assert_eq!(near.state().unwrap().interfaces[0].addresses, ["10.1.0.1/30"]);
    let mut frames = network.capture("wire").unwrap();
    assert!(near.exec("ping -c 1 -W 5 far").unwrap().is_success());
    let mut has_reply = false;
    while let Some(frame) = frames.next_within(Duration::ZERO).unwrap() {
        has_reply |= frame.bytes.get(23) == Some(&1) && frame.bytes.get(34) == Some(&0);
    }
    assert!(has_reply);
    network.set("wire", "partition=on").unwrap();
    assert!(!near.exec("ping -c 1 -W 1 far").unwrap().is_success());
    // The test itself is on a LAN.
    let mut frames = network.capture("quiet").unwrap();
    network.station("quiet", StationOptions::new()).unwrap().send(&[0xff; 60]).unwrap();
    assert_eq!(frames.next_within(WAIT_TIMEOUT).unwrap().unwrap().bytes, [0xff; 60]);
    let bus = network.bus("wire");
    near.restart().unwrap();
    near.wait_ready(WAIT_TIMEOUT).unwrap();
    // As when a test panics.
    drop(network);
    assert!(!bus.exists());
}

/// A machine of this lab reaches what listens on this host, by passt.
#[test]
fn passt_is_the_internet_of_a_lab() {
    require!("passt", "busybox");
    if !available() {
        return;
    }
    let lab = lab!();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    lab.write("script", LEASED.as_bytes());
    let text = format!(
        "[lan.wan]\n[node.internet]\nkind = \"internet\"\nlans = \"wan\"\n[node.pc]\nlans = \"wan\"\n\
         after = \"internet\"\nfiles.script = {{ copy = \"script\", mode = \"755\" }}\n\
         exec = \"busybox udhcpc -q -n -f -i eth0 -s $PWD/script\"\n\
         [[check]]\nnode = \"pc\"\nexec = \"busybox wget -q -O - http://$(cat router):{port}/\"\n\
         output = \"hello\"\n"
    );
    lab.write("world.toml", text.as_bytes());
    let checked = lab.spawn(["lab", "test", "world.toml"]);
    server.set_nonblocking(true).unwrap();
    let mut accepted = None;
    wait::until("the namespace connects", WAIT_TIMEOUT, || {
        accepted = server.accept().ok();
        accepted.is_some()
    });
    let (mut guest, from) = accepted.unwrap();
    assert!(from.ip().is_loopback(), "passt speaks for it: {from}");
    let mut request = [0; 1024];
    assert!(guest.read(&mut request).unwrap() > 0);
    guest.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n").unwrap();
    drop(guest);
    checked.finish(WAIT_TIMEOUT).succeeds();
}

/// What udhcpc calls with an answer.
const LEASED: &str = r#"#!/bin/sh
[ "$1" = bound ] || exit 0
busybox ip address add $ip/${mask:-24} dev $interface
echo $router >router
"#;

#[test]
fn a_lab_that_cannot_start_says_why_and_leaves_nothing() {
    if !available() {
        return;
    }
    let lab = lab!();
    let failing = "[lan.a]\nprefix = \"10.0.0.0/24\"\n[node.x]\nlans = \"a\"\nexec = \"exit 3\"\n";
    lab.write("failing.toml", failing.as_bytes());
    let finished = lab.run(["lab", "test", "failing.toml", "--json"]);
    assert_eq!(finished.status.code(), Some(1), "{finished}");
    let report = finished.stdout.clone();
    assert!(report.contains("'exit 3' has ended with exit code 3"), "{report}");
    assert!(lab.path("failing-failed").join("x.log").exists());
    lab.write("wrong.toml", b"[lan.a]\nprefx = \"10.0.0.0/24\"\n[node.x]\nlans = \"b\"\n");
    let finished = lab.run(["lab", "up", "wrong.toml"]);
    assert_eq!(finished.status.code(), Some(2), "{finished}");
    for words in ["wrong.toml:2:1:", "did you mean 'prefix'?", "wrong.toml:4:"] {
        assert!(finished.stderr.contains(words), "{words}: {finished}");
    }
    assert!(is_empty(&labs(&lab)));
}

/// Runs the checks of a shipped lab.
fn passes(name: &str) {
    passes_with(&lab!(), name, &[]);
}

/// As [`passes`], with variables of the environment.
fn passes_with(lab: &Lab, name: &str, vars: &[(&str, &Path)]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/labs/{name}.toml"));
    lab.write(&format!("{name}.toml"), &fs::read(file).unwrap());
    let mut command = lab.command(lab.program());
    command.args(["lab", "test", &format!("{name}.toml")]).envs(vars.iter().copied());
    let finished = Process::spawn("lab test", &mut command).finish(LAB_TIMEOUT);
    let logs = lab.path(&format!("{name}-failed"));
    let mut texts = String::new();
    for log in fs::read_dir(logs).into_iter().flatten().flatten() {
        texts += &log.path().display().to_string();
        texts += ":\n";
        texts += &fs::read_to_string(log.path()).unwrap();
    }
    assert_eq!(finished.status.code(), Some(0), "{finished}\n{texts}");
    assert!(is_empty(&labs(lab)));
}

#[test]
fn the_first_lab_passes_its_checks() {
    require!("ping", "busybox");
    if available() {
        passes("first-lan");
    }
}

#[test]
fn two_routers_speak_bgp() {
    require!("ping", "bird");
    if available() {
        passes("bgp");
    }
}

#[test]
fn thirty_routers_find_another_way() {
    require!("ping", "bird");
    if available() {
        passes("ospf-grid");
    }
}

#[test]
fn leases_and_names_are_given() {
    require!("ping", "busybox", "dnsmasq");
    if available() {
        passes("dhcp-dns");
    }
}

#[test]
fn loss_slows_tcp_down() {
    require!("ping", "iperf3");
    if available() {
        passes("lossy-wan");
    }
}

#[test]
fn a_blocked_link_takes_over() {
    require!("ping");
    if available() {
        passes("failover");
    }
}

#[test]
fn machines_ping_each_other_and_have_the_internet() {
    require!("ping", "qemu-system-x86_64", "passt", "busybox");
    if !available() {
        return;
    }
    let lab = lab!();
    let Some(image) = Image::new(&lab) else { return };
    passes_with(&lab, "vms", &[("KERNEL", image.kernel()), ("INITRD", image.initramfs())]);
}

#[test]
fn testpmd_joins_two_lans() {
    require!("ping", "dpdk-testpmd");
    if available() {
        passes("testpmd");
    }
}
