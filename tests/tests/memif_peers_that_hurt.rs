//! A memif peer can hurt its own link only: whatever it sends or keeps, peers on other ids connect,
//! and SIGTERM ends the process.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use memif::ClientOptions;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use system_tests::memifpeer::MemifPeer;
use system_tests::proc_files::cpu_time;
use system_tests::rawmemif::{Answer, Init, MESSAGE, RawClient, add_ring};
use system_tests::{Lab, Process, WAIT_TIMEOUT, frames, lab, port, privilege, wait};

/// Two interfaces on one socket: 0 for the hostile peer, 1 for honest ones.
fn two_ports(lab: &Lab) -> [String; 4] {
    let socket = lab.path("m.sock");
    let ports = [port::server(&socket, 0, ""), port::server(&socket, 1, "")];
    let [evil, honest] = ports;
    ["attach".to_owned(), lab.arg("lan.bus"), evil, honest]
}

fn an_honest_peer_connects(lab: &Lab) {
    let _ = MemifPeer::client(&lab.path("m.sock"), ClientOptions::new(1));
}

fn open_files(node: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.id())).expect("it runs").count()
}

fn init(id: u32) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    message[0..2].copy_from_slice(&3u16.to_ne_bytes());
    message[2..4].copy_from_slice(&0x0200u16.to_ne_bytes());
    message[4..8].copy_from_slice(&id.to_ne_bytes());
    message
}

#[test]
fn a_flood_of_descriptors_takes_none_of_the_process() {
    let lab = lab!();
    let node = lab.ready(two_ports(&lab));
    let (reader, _writer) = nix::unistd::pipe().expect("a pipe");
    let many = vec![reader.as_fd(); 250];
    let before = open_files(&node);
    for round in 0..100 {
        let client = RawClient::connect(&lab.path("m.sock"));
        client.send_with(&init(0), &many).expect("sent");
        let reason = "INIT with 250 file descriptors, not 0".to_owned();
        assert_eq!(client.answer(), Answer::DisconnectReason(reason));
        let open = open_files(&node);
        assert!(open < before + 64, "{open} open files in round {round}, {before} before");
        if round % 10 == 0 {
            an_honest_peer_connects(&lab);
        }
    }
    // Many messages on one connection.
    let client = RawClient::connect(&lab.path("m.sock"));
    while client.send_with(&init(0), &many).is_ok() {}
    an_honest_peer_connects(&lab);
    wait::until("the descriptors are closed", WAIT_TIMEOUT, || open_files(&node) <= before + 8);
    node.signal(Signal::SIGTERM);
    assert!(node.finish(WAIT_TIMEOUT).status.success());
}

#[test]
fn what_is_no_eventfd_is_refused_when_it_comes() {
    let lab = lab!();
    let _node = lab.ready(two_ports(&lab));
    let client = RawClient::connect(&lab.path("m.sock"));
    assert_eq!(client.init(&Init::default()), Answer::Message(1));
    let (reader, _writer) = nix::unistd::pipe().expect("a pipe");
    client.send_with(&add_ring(true, 0, 0), &[reader.as_fd()]).expect("sent");
    let reason = "S2M ring 0: its descriptor is no eventfd".to_owned();
    assert_eq!(client.answer(), Answer::DisconnectReason(reason));
}

#[test]
fn a_port_takes_as_many_queues_as_it_was_configured_with() {
    for (keys, allowed) in [("", 2), (",rx-queues=1", 1), (",rx-queues=3", 3)] {
        let lab = lab!();
        let port = port::server(&lab.path("m.sock"), 0, "") + keys;
        let _node = lab.ready(["attach", &lab.arg("lan.bus"), &port]);
        let client = RawClient::connect(&lab.path("m.sock"));
        assert_eq!(client.init(&Init::default()), Answer::Message(1));
        let event_fd = EventFd::new().expect("an eventfd");
        for index in 0..allowed {
            client.send_with(&add_ring(true, index, 0), &[event_fd.as_fd()]).expect("sent");
            assert_eq!(client.answer(), Answer::Message(1));
        }
        client.send_with(&add_ring(true, allowed, 0), &[event_fd.as_fd()]).expect("sent");
        let reason = format!("S2M ring {allowed}: only {allowed} are allowed here");
        assert_eq!(client.answer(), Answer::DisconnectReason(reason));
    }
}

/// Whether a file system can be mounted without privileges.
fn can_mount(lab: &Lab) -> bool {
    let mut command = lab.command("unshare");
    command.args(["--user", "--map-root-user", "--mount", "test", "-w", "/dev/fuse"]);
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn files_that_hang_in_close_hold_up_no_peer_and_not_the_end() {
    let lab = lab!();
    if !can_mount(&lab) {
        eprintln!("skipped: FUSE in a user namespace not found");
        return;
    }
    let node = lab.ready(two_ports(&lab));
    let folder = lab.path("files");
    std::fs::create_dir(&folder).expect("a folder");
    privilege::hand_over(&folder);
    let mut command = lab.command("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "--"])
        .arg(lab.reach(Path::new(env!("CARGO_BIN_EXE_hanging-file"))))
        .arg("serve")
        .args([&folder, &lab.path("m.sock")])
        .arg("32");
    let hostile = Process::spawn("hanging-file", &mut command);
    hostile.wait_for(0, WAIT_TIMEOUT, "32 files", |line| line.text == "sent");
    // All threads that close are stuck. Now a flood.
    let (reader, _writer) = nix::unistd::pipe().expect("a pipe");
    for _ in 0..100 {
        let client = RawClient::connect(&lab.path("m.sock"));
        client.send_with(&init(0), &vec![reader.as_fd(); 250]).expect("sent");
    }
    an_honest_peer_connects(&lab);
    assert!(open_files(&node) < 200, "{}", open_files(&node));
    node.signal(Signal::SIGTERM);
    assert!(node.finish(WAIT_TIMEOUT).status.success());
}

/// A child that is killed at the end of the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stderr_that_is_not_read_holds_up_no_peer_and_no_signal() {
    let lab = lab!();
    let (_reader, mut writer) = std::io::pipe().expect("a pipe");
    // The pipe is full before the process prints its first line.
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a flag");
    while writer.write(&[b'x'; 4_096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("a flag");
    let mut command = lab.busctl(two_ports(&lab));
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
    let mut node = Killed(command.spawn().expect("it starts"));
    let mut line = String::new();
    BufReader::new(node.0.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    let event_fd = EventFd::new().expect("an eventfd");
    for number in 0..1_000 {
        RawClient::link(&lab.path("m.sock"), 0, event_fd.as_fd())
            .disconnect(&format!("reason number {number} of very many"));
        if number % 100 == 0 {
            an_honest_peer_connects(&lab);
        }
    }
    kill(Pid::from_raw(node.0.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    let mut status = None;
    wait::until("the end", WAIT_TIMEOUT, || {
        status = node.0.try_wait().expect("a child");
        status.is_some()
    });
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

#[test]
fn the_lines_about_one_interface_are_limited() {
    let lab = lab!();
    let node = lab.ready(two_ports(&lab));
    let event_fd = EventFd::new().expect("an eventfd");
    for number in 0..300 {
        RawClient::link(&lab.path("m.sock"), 0, event_fd.as_fd())
            .disconnect(&format!("reason {number}"));
    }
    node.signal(Signal::SIGTERM);
    let end = node.finish(WAIT_TIMEOUT);
    let lines = end.stderr.lines().count();
    // At most one more every ten seconds.
    assert!((33..=50).contains(&lines), "{lines} lines: {end}");
    assert!(end.stderr.contains("reports come too fast"), "{end}");
}

/// Two kinds of an eventfd that never becomes quiet: a semaphore with a count that outlasts
/// everything, and one that is written over and over.
#[test]
fn wake_ups_for_nothing_cost_next_to_nothing() {
    let lab = lab!();
    let node = lab.ready(two_ports(&lab));
    let flags = EfdFlags::EFD_SEMAPHORE | EfdFlags::EFD_NONBLOCK;
    let semaphore = EventFd::from_flags(flags).expect("an eventfd");
    semaphore.write(1 << 62).expect("room");
    let _link = RawClient::link(&lab.path("m.sock"), 0, semaphore.as_fd());
    let (start, before) = (Instant::now(), cpu_time(node.id()));
    wait::until("two seconds", WAIT_TIMEOUT, || start.elapsed() > Duration::from_secs(2));
    let (took, used) = (start.elapsed(), cpu_time(node.id()).saturating_sub(before));
    assert!(used < took / 5, "{used:?} of CPU time in {took:?}");
    // The link still works, as those of others do.
    an_honest_peer_connects(&lab);
}

#[test]
fn a_lock_on_the_sockets_folder_is_not_waited_for() {
    let lab = lab!();
    let folder = File::open(lab.path("")).expect("a folder");
    let _lock = Flock::lock(folder, FlockArg::LockExclusiveNonblock).expect("not locked");
    for _ in 0..2 {
        let start = Instant::now();
        let mut node = lab.ready(two_ports(&lab));
        an_honest_peer_connects(&lab);
        assert!(start.elapsed() < WAIT_TIMEOUT);
        // Leaves a dead socket for the next.
        node.kill();
    }
}

#[test]
fn frames_longer_than_the_bus_carries_have_a_counter_of_their_own() {
    let lab = lab!();
    lab.does(&format!("socket add 1 {}", lab.path("m.sock").display()));
    lab.does("create memif1/0");
    lab.does(&format!("linkstr memif1/0 {}", lab.path("lan.bus").display()));
    let node = lab.ready(["node"]);
    lab.does("up memif1/0");
    let options = ClientOptions::new(0).buffer_size(16_384);
    let mut peer = MemifPeer::client(&lab.path("m.sock"), options);
    peer.send_all(&[frames::patterned(9_000, 1), frames::patterned(60, 2)]);
    lab.shows("memif1/0", "one frame of each kind", |show| {
        (&show["rx_oversize"], &show["rx_packets"]) == (&1.into(), &1.into())
    });
    assert_eq!(lab.show("memif1/0")["rx_errors"], 0);
    node.wait_for_line("memif1/0: frames from the peer are longer than the 1514 bytes");
}
