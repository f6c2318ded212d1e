//! Programs that need nothing but a socket: QEMU's machines, passt, and `vde_plug`.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use system_tests::vm::Image;
use system_tests::{Lab, Process, lab, require, wait};

/// How long two machines may take to boot on a loaded machine, without KVM.
const BOOT: Duration = Duration::from_mins(3);

fn stream(lab: &Lab, socket: &str) -> String {
    format!("stream,server=off,addr.type=unix,addr.path={}", lab.arg(socket))
}

/// Waits until a machine prints a line with `text`.
fn prints(machine: &Process, text: &str) {
    machine.wait_for(0, BOOT, text, |line| line.text.contains(text));
}

/// Two machines on one listening socket reach each other, a host on the bus, and a memif peer. One
/// of them gets an address from passt by DHCP on a second bus, and what a server on this machine's
/// 127.0.0.1 has to say. The other reaches a host on a third bus by datagrams.
#[test]
fn machines_reach_each_other_and_the_world() {
    require!("qemu-system-x86_64", "passt", "busybox");
    let lab = lab!();
    let Some(image) = Image::new(&lab) else { return };
    let (lan, wan) = (lab.arg("lan.bus"), lab.arg("wan.bus"));
    let vms = format!("socket:path={},clients=2", lab.arg("vm.sock"));
    let memif = format!("memif:role=server,socket={}", lab.arg("m.sock"));
    let attached = lab.ready(["attach", &lan, &vms, &memif]);
    let _host = lab.ready(["host", &lan, "10.9.0.3/24"]);
    let responder = lab.reach(env!("CARGO_BIN_EXE_example-icmp-responder").as_ref());
    let mut responder = lab.command(responder);
    responder.arg("client").arg(lab.path("m.sock")).arg("10.9.0.4");
    let _responder = Process::spawn("icmp_responder", &mut responder);

    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = server.local_addr().expect("bound").port();
    let mut passt = lab.command("passt");
    let addresses = "-4 -a 10.0.2.15 -n 24 -g 10.0.2.2 -t none -u none -f".split(' ');
    passt.args(addresses).arg("--socket").arg(lab.path("passt.sock"));
    let _passt = Process::spawn("passt", &mut passt);
    let guest = format!("socket:path={}", lab.arg("wan.sock"));
    let outside = format!("socket:path={},role=client", lab.arg("passt.sock"));
    let _wan = lab.ready(["attach", &wan, &guest, &outside]);

    let words =
        format!("address=10.9.0.1/24 ping=10.9.0.2 ping=10.9.0.3 ping=10.9.0.4 fetch={port}");
    let networks = [stream(&lab, "vm.sock"), stream(&lab, "wan.sock")];
    let one = image.boot(&lab, 1, &words, &networks);
    let (ours, theirs) = (lab.arg("ours.sock"), lab.arg("theirs.sock"));
    let datagrams = lab.arg("datagrams.bus");
    let port = format!("socket:framing=dgram,path={ours},peer={theirs}");
    let _datagrams = lab.ready(["attach", &datagrams, &port]);
    let _other_host = lab.ready(["host", &datagrams, "10.8.0.3/24"]);
    let ends =
        format!("dgram,local.type=unix,local.path={theirs},remote.type=unix,remote.path={ours}");
    let words = "address=10.9.0.2/24 second=10.8.0.2/24 \
                 ping=10.9.0.1 ping=10.9.0.3 ping=10.9.0.4 ping=10.8.0.3";
    let two = image.boot(&lab, 2, words, &[networks[0].clone(), ends]);
    for (machine, others) in [(&one, [2, 3, 4]), (&two, [1, 3, 4])] {
        for other in others {
            prints(machine, &format!("has an answer of 10.9.0.{other}"));
        }
    }
    prints(&two, "has an answer of 10.8.0.3");
    prints(&one, "DHCP gave 10.0.2.15");
    let (mut guest, from) = server.accept().expect("the machine connects");
    assert!(from.ip().is_loopback(), "passt speaks for it: {from}");
    guest.write_all(b"what the server has to say\n").expect("sent");
    drop(guest);
    prints(&one, "what the server has to say");
    drop((one, two));
    // A machine that is gone leaves room for another.
    lab.shows(&lan, "both clients are gone", |show| {
        let ports = show["ports"].as_array().expect("ports");
        let sockets = ports
            .iter()
            .filter(|port| port["name"].as_str().is_some_and(|name| name.starts_with("socket")));
        sockets.filter(|port| port["link"] == "down").count() == 2
    });
    let end = attached.interrupt();
    end.succeeds();
    assert!(!lab.path("vm.sock").exists(), "the socket is removed");
}

/// `dpipe` connects a port's standard streams to `vde_plug`, and so to a `vde_switch`.
#[test]
fn vde_plug_is_reached_through_a_pipe() {
    require!("vde_switch", "vde_plug", "dpipe");
    let lab = lab!();
    let control = lab.arg("ctl");
    let _switch =
        Process::spawn("vde_switch", lab.command("vde_switch").args(["--sock", &control]));
    wait::until("the switch is there", Duration::from_secs(10), || lab.path("ctl/ctl").exists());
    let plugged = |bus: &str| {
        let mut dpipe = lab.command("dpipe");
        dpipe.args(["vde_plug", &control, "="]).arg(lab.program());
        dpipe.args(["attach", bus, "socket:framing=vde,fd=0"]);
        let plugged = Process::spawn("dpipe", &mut dpipe);
        plugged.wait_for_line("ready");
        plugged
    };
    let (one, two) = (lab.arg("one.bus"), lab.arg("two.bus"));
    let _plugged = [plugged(&one), plugged(&two)];
    let _host = lab.ready(["host", &one, "10.0.0.1/24"]);
    let ping =
        ["ping", &two, "10.0.0.1", "--from", "10.0.0.2/24", "-c", "20", "-i", "0.05", "--json"];
    let run = lab.run(ping);
    assert!(run.report()["received"].as_u64() >= Some(18), "{run}");
}

/// A wrong framing, a further client, a path of another kind and a client without a server: each is
/// one line, counted, and the others continue.
#[test]
fn bad_peers_cost_a_line_each() {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    let lab = lab!();
    let (bus, path) = (lab.arg("lan.bus"), lab.path("s"));
    let server = lab.ready(["attach", &bus, &format!("socket:path={}", path.display())]);
    let connect = || UnixStream::connect(&path).expect("it listens");
    for (bytes, line) in [
        (&b"\0\x01\0\x12"[..], "announces a frame of 65554 bytes"),
        (b"\0\0\0\x40abc", "closed the connection within a frame"),
    ] {
        let mut peer = connect();
        let mark = server.mark();
        peer.write_all(bytes).expect("sent");
        peer.shutdown(std::net::Shutdown::Write).expect("the end");
        server.wait_after(mark, line);
        assert!(matches!(peer.read(&mut [0]), Ok(0) | Err(_)), "the connection has ended");
    }
    let first = connect();
    lab.shows(&bus, "the first is connected", |show| show["ports"][0]["link"] != "down");
    let mut second = connect();
    assert!(matches!(second.read(&mut [0]), Ok(0)), "it is closed at once");
    server.wait_for_line("a further client was turned away");
    lab.shows(&bus, "it is counted", |show| show["ports"][0]["peers_refused"] == 1);
    drop(first);

    let taken = lab.run(["attach", &bus, &format!("socket:path={}", path.display())]);
    taken.fails_with(2, &["cannot listen on", "another process uses it"]);
    let file = lab.write("file", b"precious");
    let taken = lab.run(["attach", &bus, &format!("socket:path={}", file.display())]);
    taken.fails_with(2, &["cannot listen on", "a file that is no socket"]);
    assert!(server.interrupt().stderr.lines().count() < 8);
    assert!(!path.exists());
}
