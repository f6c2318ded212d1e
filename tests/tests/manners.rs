//! How the program behaves in a shell: broken pipes, `^C`, wrong use, and what it writes for
//! machines.

use std::time::Duration;

use nix::sys::signal::Signal;
use system_tests::reference::RumpPeer;
use system_tests::{Lab, WAIT_TIMEOUT, frames, lab, require, wait};

fn bus_with_frames(lab: &Lab, count: u64) -> RumpPeer {
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 1]);
    rump.send((0..count).map(|number| frames::numbered(60, number)));
    rump
}

/// Runs `script` in a shell with `$BUSCTL` and `$BUS` set.
fn shell(lab: &Lab, script: &str) -> system_tests::Finished {
    let busctl = lab.busctl([""; 0]);
    let mut command = lab.command("bash");
    command
        .args(["-c", script])
        .env("BUSCTL", busctl.get_program())
        .env("BUS", lab.path("lan.bus"));
    lab.run_program(&mut command)
}

#[test]
fn a_broken_pipe_ends_a_dump_quietly() {
    let lab = lab!();
    let _rump = bus_with_frames(&lab, 5000);
    for dump in ["dump $BUS", "dump $BUS -f", "dump $BUS -w -", "dump $BUS -f -w -"] {
        let run = shell(
            &lab,
            &format!("$BUSCTL {dump} | head -c 100 >/dev/null; echo ${{PIPESTATUS[0]}}"),
        );
        // With the pcap on standard output, the text goes to standard error.
        let text =
            |line: &&str| !line.starts_with("bus version 3, ") && !line.starts_with("packet ");
        assert_eq!(
            run.stderr.lines().filter(text).collect::<Vec<_>>(),
            [""; 0],
            "busctl {dump}: {run}"
        );
        let status = run.succeeds().trim();
        assert!(["0", "141"].contains(&status), "busctl {dump}: {run}");
    }
}

/// A live dump that has nothing to write must still notice that its reader is gone.
#[test]
fn a_live_dump_of_a_silent_bus_ends_when_its_reader_does() {
    let lab = lab!();
    let mut rump = bus_with_frames(&lab, 1);
    let mut run = system_tests::Process::spawn("dump | head", &mut {
        let busctl = lab.busctl([""; 0]);
        let mut command = lab.command("bash");
        let script = "$BUSCTL dump $BUS -f | head -n 1; echo ended";
        command
            .args(["-c", script])
            .env("BUSCTL", busctl.get_program())
            .env("BUS", lab.path("lan.bus"));
        command
    });
    run.wait_for_line("bus version");
    // The next line that the dump writes has no reader.
    let ended = wait::poll(WAIT_TIMEOUT, || {
        rump.send([frames::numbered(60, 1)]);
        (!run.is_running()).then_some(())
    });
    assert!(ended.is_some(), "{}", run.transcript());
    assert_eq!(run.finish(WAIT_TIMEOUT).stderr, "");
}

#[test]
fn an_interrupted_capture_is_a_whole_pcap() {
    let lab = lab!();
    let mut rump = bus_with_frames(&lab, 10);
    let capture = lab.spawn(["dump", &lab.arg("lan.bus"), "-f", "-w", &lab.arg("live.pcap")]);
    // Captured frames reach the disk soon, not only at the end.
    wait::until("the first frames are in the pcap", WAIT_TIMEOUT, || {
        std::fs::metadata(lab.path("live.pcap")).is_ok_and(|meta| meta.len() >= 24 + 10 * (16 + 60))
    });
    rump.send([frames::numbered(60, 10)]);
    wait::until("the eleventh frame is in the pcap", WAIT_TIMEOUT, || {
        std::fs::metadata(lab.path("live.pcap")).is_ok_and(|meta| meta.len() >= 24 + 11 * (16 + 60))
    });
    let _ = capture.interrupt();
    let captured: Vec<_> = frames::read_pcap(&lab.path("live.pcap"));
    assert!(captured == (0..11).map(|number| frames::numbered(60, number)).collect::<Vec<_>>());
}

#[test]
fn a_pcap_on_standard_output_is_a_pcap_and_nothing_else() {
    let lab = lab!();
    let _rump = bus_with_frames(&lab, 10);
    let run = shell(&lab, "$BUSCTL dump $BUS -w - > out.pcap");
    run.succeeds();
    assert_eq!(frames::read_pcap(&lab.path("out.pcap")).len(), 10);
}

#[test]
fn long_running_verbs_end_on_interrupt_and_terminate_without_a_trace() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    frames::write_pcap(&lab.path("in.pcap"), [frames::numbered(60, 1)]);
    let _host = lab.ready(["host", &bus, "10.0.0.2/24"]);
    let stations =
        || lab.run(["show", &bus, "--json"]).json()["stations"].as_u64().expect("stations");
    wait::until("the host is on the bus", WAIT_TIMEOUT, || stations() == 1);
    let verbs: [&[&str]; 4] = [
        &["host", &bus, "10.0.0.3/24"],
        &["ping", &bus, "10.0.0.2", "--from", "10.0.0.1/24", "-c", "100000", "-i", "0.01"],
        &["dump", &bus, "-f"],
        &["replay", &lab.arg("in.pcap"), &bus, "--loop", "1000000000", "--pps", "1000"],
    ];
    for args in verbs {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let verb = lab.spawn(args);
            // A verb is at work once it has a station on the bus or has printed a line.
            let works = || stations() == 2 || verb.mark() > 0;
            wait::until(&format!("busctl {} is at work", args[0]), WAIT_TIMEOUT, works);
            verb.signal(signal);
            let end = verb.finish(WAIT_TIMEOUT);
            assert!(!end.stderr.contains("panicked"), "{signal}: {end}");
            wait::until("its station is gone", WAIT_TIMEOUT, || stations() == 1);
            let show = lab.run(["show", &bus, "--json"]).json();
            assert_eq!(show["locked"], false, "{signal} to busctl {}: {show}", args[0]);
        }
    }
}

#[test]
fn wrong_use_is_reported_in_one_line_that_says_what_to_do() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let wrong: [&[&str]; 12] = [
        &["frobnicate"],
        &["ping", &bus, "10.0.0.2"],
        &["ping", &bus, "10.0.0.999", "--from", "10.0.0.1/24"],
        &["ping", &bus, "10.0.0.2", "--from", "10.0.0.1/99"],
        &["host", &bus],
        &["attach", &bus],
        &["attach", &bus, "carrier-pigeon:name=x"],
        &["attach", &bus, "memif:role=butler,socket=./m.sock"],
        &["attach", &bus, "memif:role=server,socket=./m.sock,rsize=15"],
        &["attach", &bus, "memif:role=server,socket=./m.sock,colour=blue"],
        &["dump", "lan.bus"],
        &["dump", &bus, "-c", "many"],
    ];
    for args in wrong {
        lab.run(args).fails_with(2, &[]);
        assert!(
            !lab.path("lan.bus").exists() && !lab.path("m.sock").exists(),
            "nothing was created: {args:?}"
        );
    }
}

#[test]
fn an_unanswered_ping_fails_with_1() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let _nobody = bus_with_frames(&lab, 0);
    let ping = lab.run([
        "ping",
        &bus,
        "10.0.0.2",
        "--from",
        "10.0.0.1/24",
        "-c",
        "2",
        "-i",
        "0.01",
        "--json",
    ]);
    assert_eq!(ping.status.code(), Some(1), "{ping}");
    let answer = ping.report();
    assert_eq!(
        (answer["sent"].as_u64(), answer["received"].as_u64()),
        (Some(2), Some(0)),
        "{ping}"
    );
    assert_eq!(answer["loss"].as_f64(), Some(1.0), "{ping}");
}

#[test]
fn a_ping_reports_its_times_in_microseconds_in_json() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let _host = lab.ready(["host", &bus, "10.0.0.2/24"]);
    let answer = lab
        .run([
            "ping",
            &bus,
            "10.0.0.2",
            "--from",
            "10.0.0.1/24",
            "-c",
            "20",
            "-i",
            "0.01",
            "--json",
        ])
        .json();
    assert_eq!(answer["received"].as_u64(), Some(20), "{answer}");
    let rtt = ["rtt_min_us", "rtt_p50_us", "rtt_max_us"]
        .map(|key| answer[key].as_f64().unwrap_or_else(|| panic!("{key}")));
    assert!(0.0 < rtt[0] && rtt[0] <= rtt[1] && rtt[1] <= rtt[2], "{answer}");
    assert!(rtt[2] < 30e6, "microseconds: {answer}");
    let average = answer["rtt_avg_us"].as_f64().expect("rtt_avg_us");
    assert!(rtt[0] <= average && average <= rtt[2], "{answer}");
}

#[test]
fn show_reports_a_bus_in_json() {
    let lab = lab!();
    let _rump = bus_with_frames(&lab, 10);
    let show = lab.run(["show", &lab.arg("lan.bus"), "--json"]).json();
    assert_eq!(show["path"], lab.arg("lan.bus"), "{show}");
    assert_eq!(
        (show["version"].as_u64(), show["generation"].as_u64()),
        (Some(3), Some(0)),
        "{show}"
    );
    assert_eq!(show["frames"].as_u64(), Some(10), "{show}");
    // The first packet is after the empty header at 0; each takes 24 + 60 bytes.
    assert_eq!(show["last"].as_u64(), Some(24 + 9 * 84), "{show}");
    assert!(show["first"].is_u64() && show["locked"] == false, "{show}");
    assert_eq!(
        show["stations"].as_u64(),
        Some(0),
        "a rump kernel does not register a station: {show}"
    );
}

#[test]
fn every_verb_has_help() {
    let lab = lab!();
    let verbs = "create destroy linkstr up down set show attach host ping dump replay bench demo";
    for verb in verbs.split(' ') {
        let help = lab.run([verb, "--help"]);
        assert!(help.succeeds().contains("Usage:") && help.stderr.is_empty(), "{help}");
    }
    let all = lab.run(["--help"]);
    assert!(verbs.split(' ').all(|verb| all.succeeds().contains(verb)), "{all}");
}

/// An idle node sleeps. Its share of a core is a rate, so this is the one test that lets a fixed
/// time pass.
#[test]
fn an_idle_node_uses_almost_no_time() {
    let lab = lab!();
    let port = system_tests::port::server(&lab.path("m.sock"), 0, "");
    let node = lab.ready(["attach", &lab.arg("lan.bus"), &port]);
    let caller = lab.ready([
        "attach",
        &lab.arg("far.bus"),
        &system_tests::port::client(&lab.path("m.sock"), 0, ""),
    ]);
    let _host = lab.ready(["host", &lab.arg("lan.bus"), "10.0.0.2/24"]);
    let ping = [
        "ping",
        &lab.arg("far.bus"),
        "10.0.0.2",
        "--from",
        "10.0.0.1/24",
        "-c",
        "40",
        "-i",
        "0.1",
        "--json",
    ];
    assert!(lab.run(ping).json()["received"].as_u64() >= Some(1), "the link is up");
    for process in [&node, &caller] {
        let before = cpu_time(process.id());
        std::thread::sleep(Duration::from_secs(5));
        let used = cpu_time(process.id()).saturating_sub(before);
        assert!(used <= Duration::from_millis(50), "{used:?} in 5 s\n{}", process.transcript());
    }
}

/// Returns the user and system time that a process has used.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks: u64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum();
    // Linux reports times to users in hundredths of a second.
    Duration::from_millis(ticks * 10)
}

#[test]
fn a_bus_that_is_removed_under_a_host_or_a_node_is_reported_once() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let socket = lab.arg("m.sock");
    let host = lab.ready(["host", &bus, "10.0.0.1/24"]);
    let hosts = lab.ready(["host", &bus, "10.0.0.2/24", "--count", "3"]);
    let (one, two) = (format!("memif:id=0,socket={socket}"), format!("memif:id=1,socket={socket}"));
    let node = lab.ready(["attach", &bus, &one, &two]);
    std::fs::remove_file(&bus).expect("remove the bus");
    for process in [&host, &hosts, &node] {
        process.wait_for_line("lan.bus was removed");
    }
    // The verbs continue with the stations that are left.
    for process in [host, hosts, node] {
        let ended = process.interrupt();
        ended.succeeds();
        assert_eq!(ended.stderr.matches("was removed").count(), 1, "{ended}");
    }
}

/// A terminal in a tmux server of its own, which ends with it.
struct Tmux<'l> {
    lab: &'l Lab,
    socket: String,
}

impl<'l> Tmux<'l> {
    fn start(lab: &'l Lab, (width, height): (u16, u16), script: &str) -> Self {
        let tmux = Self { lab, socket: lab.arg(&format!("tmux-{width}")) };
        let busctl = lab.busctl([""; 0]);
        let (width, height) = (width.to_string(), height.to_string());
        let mut command =
            tmux.command(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height]);
        command.arg(script).env("BUSCTL", busctl.get_program()).env("BUSCTL_STATE", lab.state());
        lab.run_program(&mut command).succeeds();
        tmux
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = self.lab.command("tmux");
        command
            .arg("-S")
            .arg(&self.socket)
            .args(words)
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm");
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    fn does(&self, words: &[&str]) -> String {
        self.lab.run_program(&mut self.command(words)).succeeds().to_owned()
    }

    /// Waits until the screen has a text, and returns the screen.
    fn shows(&self, text: &str) -> String {
        let screen = || self.does(&["capture-pane", "-p"]);
        wait::until(&format!("'{text}' is on the screen"), WAIT_TIMEOUT, || {
            screen().contains(text)
        });
        screen()
    }

    fn types(&self, keys: &str) {
        self.does(&["send-keys", keys]);
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).output();
    }
}

/// It does not read the end of what is no terminal any longer, again and again.
#[test]
fn top_ends_with_its_terminal() {
    require!("tmux");
    let lab = lab!();
    let _host = lab.ready(["host", &lab.arg("lan.bus"), "10.0.0.1/24"]);
    let ended = lab.path("ended");
    let script = format!("trap '' HUP; \"$BUSCTL\" top -w 0.2; echo > {}", ended.display());
    let tmux = Tmux::start(&lab, (80, 24), &script);
    tmux.shows("lan.bus");
    let server = tmux.does(&["display-message", "-p", "#{pid}"]);
    lab.run_program(lab.command("kill").args(["-9", server.trim()])).succeeds();
    wait::until("top has ended", WAIT_TIMEOUT, || ended.exists());
}

#[test]
fn top_is_one_screen_that_keys_change_and_the_terminal_is_restored() {
    require!("tmux");
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let _host = lab.ready(["host", &bus, "10.0.0.1/24", "--name", "web-host"]);
    let _other = lab.ready(["host", &bus, "10.0.0.3/24", "--name", "other-host"]);
    let script = "echo before; \"$BUSCTL\" top -w 0.2; echo status $?; exec sleep 60";
    let tmux = Tmux::start(&lab, (80, 24), script);
    let screen = tmux.shows("web-host");
    assert!(screen.starts_with("busctl top  ") && !screen.contains("before"), "{screen}");
    assert!(screen.contains("STATION OR PORT") && screen.contains("lan.bus"), "{screen}");
    let ping =
        lab.run(["ping", &bus, "10.0.0.1", "--from", "10.0.0.2/24", "-c", "3", "-i", "0.01"]);
    ping.succeeds();
    tmux.shows("10.0.0.1 > 10.0.0.2: ICMP echo reply");
    tmux.types("/");
    tmux.types("other");
    tmux.types("Enter");
    tmux.shows("filter: other");
    assert!(!tmux.does(&["capture-pane", "-p"]).contains("web-host"));
    tmux.types("?");
    tmux.shows("peers and rings of the memif");
    tmux.types("?");
    tmux.types("s");
    tmux.shows("sort: in/s");
    tmux.does(&["resize-window", "-x", "200", "-y", "50"]);
    tmux.shows("OUT BIT/S");
    tmux.types("C-c");
    let screen = tmux.shows("status 0");
    assert!(screen.contains("before"), "{screen}");
    assert!(!screen.contains("host") && !screen.contains("ICMP"), "{screen}");
}

#[test]
fn top_shows_the_peer_and_the_rings_of_an_attached_memif_port() {
    require!("tmux");
    let lab = lab!();
    let port = |role: &str| format!("memif:socket={},role={role}", lab.arg("lan.sock"));
    let _server = lab.ready(["attach", &lab.arg("lan.bus"), &port("server")]);
    let _client = lab.ready(["attach", &lab.arg("other.bus"), &port("client")]);
    let script = "\"$BUSCTL\" top -w 0.2; echo status $?; exec sleep 60";
    let tmux = Tmux::start(&lab, (80, 24), script);
    tmux.shows("lan.bus");
    tmux.types("m");
    let screen = tmux.shows("rx 0 (S2M): size");
    assert!(screen.contains("tx 0 (M2S): size") && screen.contains("peer \""), "{screen}");
    tmux.types("q");
    tmux.shows("status 0");
}

#[test]
fn a_watched_show_is_drawn_in_place() {
    require!("tmux");
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let _host = lab.ready(["host", &bus, "10.0.0.1/24"]);
    let script = format!("\"$BUSCTL\" show {bus} -w 0.1");
    let tmux = Tmux::start(&lab, (100, 30), &script);
    tmux.shows("rate: 0 packets/s");
    let answer = lab.run(["ping", &bus, "10.0.0.1", "--from", "10.0.0.2/24", "-c", "1"]);
    answer.succeeds();
    // A later drawing, over the first.
    let screen = tmux.shows("input: 2 packets");
    assert_eq!(screen.matches("stations: 1 live").count(), 1, "{screen}");
}
