//! memif compared with two of DPDK's testpmd over its `net_memif`, with the same frames, ring and
//! burst, and the same role sending.

use serde_json::Value;
use system_tests::{Lab, Testpmd, WAIT_TIMEOUT, require};

use crate::comparison::{Criterion, Table, Target};
use crate::ours::{self, bench, bench_args, figure, rate};
use crate::plain_ring;

/// The processor of ours where testpmd is the other end. Testpmd forwards on the other processor.
const OUR_CPU: &str = "0";

/// Compares two of ours, and one of each, with two of theirs.
pub(crate) fn beside_testpmd(table: &mut Table<'_>) {
    let (lab, time) = (ours::lab(), table.time());
    let testpmd = require::program("dpdk-testpmd");
    for (frame, faster) in [(64_u32, 1.8), (1_514, 1.2)] {
        let text = frame.to_string();
        let title = format!("memif, {frame} bytes, bursts of 32, ring of 1,024");
        if testpmd {
            table.heading(&title, "million frames/s received", "testpmd pair");
            for sender in ["client", "server"] {
                let receiver = if sender == "client" { "server" } else { "client" };
                let mut theirs = Pair::start(&lab, frame, sender);
                let what = |pair: &str| format!("{pair}, the {sender} sends");
                let args = ["memif", "--frame", &text, "--burst", "32", "--sender", sender];
                table.row(
                    &what("ours to ours"),
                    Criterion::Ratio(Some(faster)),
                    &mut || rate(&bench(&lab, time, &args)),
                    &mut || theirs.rate(time),
                );
                table.row(
                    &what("ours to testpmd"),
                    Criterion::Ratio(Some(1.0)),
                    &mut || send_to_testpmd(&lab, time, frame, sender, receiver),
                    &mut || theirs.rate(time),
                );
                table.row(
                    &what("testpmd to ours"),
                    Criterion::Ratio(Some(1.0)),
                    &mut || receive_from_testpmd(&lab, time, frame, sender, receiver),
                    &mut || theirs.rate(time),
                );
            }
        }
        table.heading(&title, "million frames/s received", "plain ring");
        for sender in ["client", "server"] {
            let args = ["memif", "--frame", &text, "--burst", "32", "--sender", sender];
            table.row(
                &format!("ours to ours, the {sender} sends"),
                Criterion::Ratio((frame == 1_514).then_some(0.9)),
                &mut || rate(&bench(&lab, time, &args)),
                &mut || plain_ring::rate(&lab.path("plain"), 1_514.min(frame as usize), 32, time),
            );
        }
    }
}

/// Measures the processor time of a receiver that sleeps between packets.
pub(crate) fn asleep(table: &mut Table<'_>) {
    let (lab, time) = (ours::lab(), table.time());
    table.heading("memif, 1,000 packets/s, receiver in interrupt mode", "% of a processor", "-");
    for sender in ["client", "server"] {
        let args = [
            "memif",
            "--rx-mode",
            "interrupt",
            "--pps",
            "1000",
            "--burst",
            "1",
            "--sender",
            sender,
        ];
        table.alone(
            &format!("receiver, the {sender} sends"),
            "%",
            Some(Target::AtMost(5.0)),
            &mut || {
                let report = bench(&lab, time, &args);
                figure(&report, "rx_cpu_seconds") / figure(&report, "seconds") * 100.0
            },
        );
    }
}

/// Two testpmds with a link between them, not forwarding.
struct Pair {
    sender: Testpmd,
    receiver: Testpmd,
}

impl Pair {
    fn start(lab: &Lab, frame: u32, sender: &str) -> Self {
        let socket = lab.path(&format!("pair-{sender}-{frame}"));
        let (sends, receives) = ("txonly", "rxonly");
        let [server, client] =
            if sender == "client" { [receives, sends] } else { [sends, receives] };
        let cpu = |mode| usize::from(mode == receives);
        // The server first: the client connects when it starts.
        let mut server_end = Testpmd::server(&socket, 0)
            .forwards_on_demand(server)
            .frame_bytes(frame)
            .at_full_speed_on(cpu(server))
            .start(lab);
        let mut client_end = Testpmd::client(&socket, 0)
            .forwards_on_demand(client)
            .frame_bytes(frame)
            .at_full_speed_on(cpu(client))
            .start(lab);
        server_end.wait_for_link();
        client_end.wait_for_link();
        if sender == "client" {
            Self { sender: client_end, receiver: server_end }
        } else {
            Self { sender: server_end, receiver: client_end }
        }
    }

    /// Returns the million frames a second received, by the receiver's own clock.
    fn rate(&mut self, time: std::time::Duration) -> f64 {
        self.receiver.command("start");
        self.sender.command("start");
        self.receiver.rx_rate();
        std::thread::sleep(time);
        let rate = self.receiver.rx_rate();
        self.sender.command("stop");
        self.receiver.command("stop");
        rate / 1e6
    }
}

fn keys(lab: &Lab, name: &str, role: &str) -> String {
    format!("role={role},id=0,socket={}", lab.arg(name))
}

/// Measures ours as sender in one role, with testpmd as receiver in the other.
fn send_to_testpmd(
    lab: &Lab,
    time: std::time::Duration,
    frame: u32,
    ours: &str,
    theirs: &str,
) -> f64 {
    let (name, text) = ("to-testpmd", frame.to_string());
    let keys = keys(lab, name, ours);
    let args = ["memif", "--frame", &text, "--burst", "32", "--cpu", OUR_CPU, "--send-to", &keys];
    with_testpmd(lab, name, theirs, "rxonly", frame, &bench_args(time, &args))
}

/// Measures ours as receiver in one role, with testpmd as sender in the other.
fn receive_from_testpmd(
    lab: &Lab,
    time: std::time::Duration,
    frame: u32,
    theirs: &str,
    ours: &str,
) -> f64 {
    let (name, text) = ("from-testpmd", frame.to_string());
    let keys = keys(lab, name, ours);
    let args =
        ["memif", "--frame", &text, "--burst", "32", "--cpu", OUR_CPU, "--receive-from", &keys];
    with_testpmd(lab, name, theirs, "txonly", frame, &bench_args(time, &args))
}

/// Runs `busctl` with `args` and a testpmd in `role`. The server of the two starts first.
fn with_testpmd(
    lab: &Lab,
    name: &str,
    role: &str,
    mode: &'static str,
    frame: u32,
    args: &[String],
) -> f64 {
    let socket = lab.path(name);
    let setup =
        if role == "server" { Testpmd::server(&socket, 0) } else { Testpmd::client(&socket, 0) };
    let setup = setup.forwards(mode).frame_bytes(frame).at_full_speed_on(1);
    let report: Value = if role == "server" {
        let testpmd = setup.start(lab);
        let report = lab.run(args).json();
        drop(testpmd);
        report
    } else {
        let ours = lab.spawn(args);
        system_tests::wait::until("our server listens", WAIT_TIMEOUT, || socket.exists());
        let testpmd = setup.start(lab);
        let report = ours.finish(WAIT_TIMEOUT).json();
        drop(testpmd);
        report
    };
    // A killed testpmd leaves its socket.
    let _ = std::fs::remove_file(&socket);
    rate(&report)
}
