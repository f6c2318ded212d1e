//! `--detach`: a verb runs in the background, and `list` and `stop` know it by a name.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use system_tests::{Lab, Process, WAIT_TIMEOUT, lab, namespace, proc_files, wait};

/// A lab whose detached processes end with it, also when the test fails.
struct Background {
    lab: Lab,
}

impl Background {
    fn new(lab: Lab) -> Self {
        Self { lab }
    }

    /// Starts something detached; returns its name.
    fn start(&self, words: &str) -> String {
        self.lab.does(words).trim_end().to_owned()
    }

    /// What runs detached.
    fn running(&self) -> Vec<Value> {
        let list = self.lab.run(["list", "--json"]).json();
        list["detached"].as_array().expect("a list").clone()
    }

    fn names(&self) -> Vec<String> {
        let name = |process: &Value| process["name"].as_str().expect("a name").to_owned();
        self.running().iter().map(name).collect()
    }

    fn pid(&self, name: &str) -> Pid {
        let running = self.running();
        let process = running.iter().find(|process| process["name"] == name).expect("it runs");
        Pid::from_raw(i32::try_from(process["pid"].as_i64().expect("a number")).expect("a pid"))
    }

    fn log(&self, name: &str) -> String {
        let path = self.lab.state().join("logs").join(format!("{name}.log"));
        fs::read_to_string(path).expect("a log")
    }

    fn answers(&self, address: &str) -> bool {
        let words = [
            "ping",
            "./lan.bus",
            address,
            "--from",
            "10.0.0.99/24",
            "-c",
            "1",
            "-W",
            "1",
            "--json",
        ];
        self.lab.run(words).report()["received"] == 1
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.lab.busctl(["stop", "--all"]).output();
    }
}

/// Whether it runs: init need not have reaped it.
fn is_alive(pid: Pid) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| !words.is_empty())
}

#[test]
fn every_verb_is_ready_when_it_returns_and_stop_waits_for_its_end() {
    let background = Background::new(lab!());
    let lab = &background.lab;
    let host = background.start("host ./lan.bus 10.0.0.1/24 -d");
    assert_eq!(host, "host-lan");
    assert!(background.answers("10.0.0.1"));
    assert_eq!(background.start("host -d ./lan.bus 10.0.0.2/24"), "host-lan-2");
    let attach = background.start("attach -d=vpp ./lan.bus memif:id=0,socket=./memif.sock");
    assert_eq!(attach, "vpp");
    assert!(lab.path("memif.sock").exists());
    assert_eq!(background.start("node --detach"), "node");

    assert_eq!(background.names(), ["host-lan", "host-lan-2", "node", "vpp"]);
    let list = lab.run(["list", "--json"]).json();
    let vpp = &list["detached"][3];
    assert_eq!((&vpp["verb"], &vpp["bus"]), (&"attach".into(), &lab.arg("lan.bus").into()));
    assert!(vpp["since"].as_u64().is_some_and(|since| since > 1_700_000_000));
    let is_ours = |bus: &&Value| bus["path"] == lab.arg("lan.bus");
    let bus = list["buses"].as_array().expect("a list").iter().find(is_ours);
    assert_eq!(bus.expect("the bus is listed")["stations"], 3);

    let pid = background.pid("vpp");
    lab.does("stop vpp host-lan-2");
    assert!(!is_alive(pid), "stop waits for the end");
    assert!(!lab.path("memif.sock").exists(), "and it ends in good order");
    assert_eq!(background.names(), ["host-lan", "node"]);
    let wrong = lab.run(["stop", "hots-lan", "node"]);
    wrong.fails_with(1, &["'hots-lan'", "did you mean 'host-lan'?"]);
    assert_eq!(background.names(), ["host-lan"], "the other one is stopped all the same");
    lab.does("stop --all");
    lab.does("stop --all");
    assert_eq!(background.names(), [] as [&str; 0]);
}

#[test]
fn a_start_that_fails_is_that_of_the_foreground() {
    let background = Background::new(lab!());
    let lab = &background.lab;
    background.start("host -d ./lan.bus 10.0.0.1/24");
    for (words, code, why) in [
        ("host ./lan.bus 10.0.0.1/24", 1, "the address is taken"),
        ("host ./none/lan.bus 10.0.0.1/24", 2, "there is no folder ./none"),
        ("attach ./lan.bus tap:nmae=x", 2, "did you mean 'name'?"),
        ("attach ./lan.bus pcap:in=./none.pcap", 2, "none.pcap"),
    ] {
        for detach in [None, Some("-d=failed")] {
            let finished = lab.run(words.split(' ').chain(detach));
            finished.fails_with(code, &[why]);
        }
    }
    lab.run(["attach", "-d", "./lan.bus", "pcap:in=-"]).fails_with(2, &["stdin"]);
    lab.run(["node", "-d=host-lan"]).fails_with(2, &["already", "busctl stop host-lan"]);
    lab.run(["node", "-d=../x"]).fails_with(2, &["a name has"]);
    lab.run(["--detached-as=x", "node", "-d"]).fails_with(2, &["--detach"]);
    assert_eq!(background.names(), ["host-lan"]);
    assert_eq!(Lab::list(&lab.state().join("logs")), ["host-lan.log"]);
}

#[test]
fn nothing_of_a_killed_process_remains_and_its_name_is_free() {
    let background = Background::new(lab!());
    background.start("host -d=web ./lan.bus 10.0.0.1/24");
    let pid = background.pid("web");
    kill(pid, Signal::SIGKILL).expect("it runs");
    wait::until("it is dead", WAIT_TIMEOUT, || background.names().is_empty());
    assert_eq!(Lab::list(&background.lab.state().join("detached")), [] as [&str; 0]);
    background.lab.run(["stop", "web"]).fails_with(1, &["'web'"]);
    assert_eq!(background.start("host -d=web ./lan.bus 10.0.0.1/24"), "web");
    assert_eq!(background.log("web"), "ready\n");

    // A process that does not react is killed, and one that is stopped reacts to nothing.
    let pid = background.pid("web");
    kill(pid, Signal::SIGSTOP).expect("it runs");
    let stopped = background.lab.run(["stop", "web", "--timeout", "0.1"]);
    stopped.succeeds();
    assert!(stopped.stderr.contains("it is killed"), "{stopped}");
    assert!(!is_alive(pid));
}

#[test]
fn a_start_that_is_interrupted_or_killed_leaves_nothing() {
    let background = Background::new(lab!());
    // It waits for a server that never comes.
    let words = ["host", "-d=web", "memif:role=client,socket=./none.sock", "10.0.0.1/24"];
    let child = |start: &Process| {
        let children = || proc_files::children(start.id()).first().copied();
        wait::poll(WAIT_TIMEOUT, || children().filter(|_| background.names() == ["web"]))
            .map(|(child, _)| Pid::from_raw(i32::try_from(child).expect("a pid")))
            .expect("it has started a process")
    };
    let ends = |child: Pid| {
        wait::until("the process ends", WAIT_TIMEOUT, || !is_alive(child));
        assert_eq!(background.names(), [] as [&str; 0]);
    };
    let start = background.lab.spawn(words);
    let web = child(&start);
    start.interrupt().succeeds();
    ends(web);
    let mut start = background.lab.spawn(words);
    let web = child(&start);
    start.kill();
    ends(web);
}

#[test]
fn it_belongs_to_no_terminal_and_keeps_a_log_of_limited_size() {
    let background = Background::new(lab!());
    let lab = &background.lab;
    let socket = UnixDatagram::bind_addr(
        &SocketAddr::from_abstract_name(lab.arg("notify")).expect("a short name"),
    )
    .expect("a socket");
    let mut command = lab.busctl(["-vvv", "host", "-d=web", "./lan.bus", "10.0.0.1/24"]);
    command.env("NOTIFY_SOCKET", format!("@{}", lab.arg("notify")));
    lab.run_program(&mut command).succeeds();
    let pid = background.pid("web");
    let mut message = [0; 64];
    let len = socket.recv(&mut message).expect("a message");
    assert_eq!(message[..len], *format!("MAINPID={pid}\nREADY=1").as_bytes());

    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    assert_eq!((fields[3], fields[4]), (&*pid.to_string(), "0"), "session and terminal");
    let stdin = fs::read_link(format!("/proc/{pid}/fd/0")).expect("a link");
    assert_eq!(stdin, Path::new("/dev/null"));

    // What it prints itself comes into the log; so does all that is written to its streams.
    assert!(background.log("web").contains("ready\n"));
    let script =
        format!("head -c 5000000 /dev/zero >/proc/{pid}/fd/2; echo last >/proc/{pid}/fd/1");
    lab.run_program(lab.command("sh").args(["-c", &script])).succeeds();
    wait::until("the log has it", WAIT_TIMEOUT, || background.log("web").ends_with("last\n"));
    let logs = lab.state().join("logs");
    assert_eq!(Lab::list(&logs), ["web.log", "web.log.1"]);
    for log in Lab::list(&logs) {
        assert!(fs::metadata(logs.join(log)).expect("a log").len() <= 1 << 20);
    }
    lab.does("stop web");
    let len = socket.recv(&mut message).expect("a message");
    assert_eq!(message[..len], *b"STOPPING=1");
}

#[test]
fn a_command_in_a_namespace_runs_on_and_ends_with_all_it_has() {
    if !namespace::available() {
        return;
    }
    let background = Background::new(lab!());
    let lab = &background.lab;
    let run = |words: &[&str]| {
        lab.run(["run", "-d", "./lan.bus", "10.0.0.1/24", "--"].iter().chain(words))
    };
    assert_eq!(run(&["sh", "-c", "echo hello; exec sleep 1000"]).succeeds(), "run-lan\n");
    assert!(background.answers("10.0.0.1"));
    wait::until("its output is in the log", WAIT_TIMEOUT, || {
        background.log("run-lan") == "hello\n"
    });
    lab.does("stop run-lan");
    assert_eq!(background.names(), [] as [&str; 0]);
    run(&[]).fails_with(2, &["after '--'"]);
    // As in the foreground.
    run(&["./missing"]).fails_with(127, &["cannot run ./missing"]);
    run(&["/"]).fails_with(126, &["cannot run /"]);
}
