//! DPDK's `dpdk-testpmd` as a memif peer, an independent implementation.
//!
//! It runs without hugepages and without privileges and writes only into the lab, so killing it
//! leaves nothing elsewhere. It polls: in any forward mode it keeps one core busy, so tests with it
//! take a [`CpuLock`](crate::CpuLock).

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::process::Finished;
use crate::{Lab, Process, WAIT_TIMEOUT, require, wait};

/// Frames in one burst of `start tx_first`, testpmd's default.
pub const BURST: u64 = 32;

/// How often its counters are polled. Each poll is a dozen lines of output, all kept for a failure
/// message.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How to start a testpmd with one memif port.
#[derive(Clone, Debug)]
pub struct Setup {
    role: &'static str,
    socket: String,
    abstract_socket: &'static str,
    id: u32,
    forward: &'static str,
    keys: String,
    auto_start: bool,
    frame_bytes: u32,
    queues: u8,
    zero_copy: bool,
    log_level: &'static str,
    /// The processor for its forwarding, when it runs at full speed.
    cpu: Option<usize>,
}

/// The counters of testpmd's port. It resets them when the link goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received from the link.
    pub rx_packets: u64,
    /// Frames sent to the link.
    pub tx_packets: u64,
}

/// A running testpmd.
pub struct Testpmd {
    process: Process,
    asked: u32,
}

impl Setup {
    fn new(role: &'static str, socket: &Path, id: u32) -> Self {
        let socket = socket.to_str().expect("the lab's path is text").to_owned();
        Self {
            role,
            socket,
            abstract_socket: "no",
            id,
            forward: "rxonly",
            keys: String::new(),
            auto_start: false,
            frame_bytes: 64,
            queues: 1,
            zero_copy: false,
            log_level: "lib.eal:info",
            cpu: None,
        }
    }

    /// Enters this forward mode (`rxonly`, `txonly`, `icmpecho`, ...) as soon as it runs.
    #[must_use]
    pub fn forwards(mut self, mode: &'static str) -> Self {
        self.forward = mode;
        self.auto_start = true;
        self
    }

    /// Enters this forward mode on the command `start`. Send the command when the link is up: the
    /// driver does not always cope with a link that comes up while it polls.
    #[must_use]
    pub fn forwards_on_demand(mut self, mode: &'static str) -> Self {
        self.forward = mode;
        self
    }

    /// Forwards on this processor and does all else on others, with plenty of buffers, for
    /// measurements.
    #[must_use]
    pub fn at_full_speed_on(mut self, cpu: usize) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// Adds a key of the memif device: `rsize=8`, `bsize=256`, `mac=02:00:00:00:00:07`,
    /// `secret=...`.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.keys.push(',');
        self.keys.push_str(key);
        self
    }

    /// Uses its socket as an abstract name, which is DPDK's default.
    #[must_use]
    pub fn abstract_socket(mut self) -> Self {
        self.abstract_socket = "yes";
        self
    }

    /// Sets the length of the frames it generates (in `txonly` and `start tx_first`).
    #[must_use]
    pub fn frame_bytes(mut self, bytes: u32) -> Self {
        self.frame_bytes = bytes;
        self
    }

    /// Sets the number of queues each way. What it receives on one queue it sends on the same.
    #[must_use]
    pub fn queues(mut self, queues: u8) -> Self {
        self.queues = queues;
        self
    }

    /// Makes a client share the memory of its packets, instead of copying to and from separate
    /// memory.
    #[must_use]
    pub fn zero_copy(mut self) -> Self {
        self.zero_copy = true;
        self.key("zero-copy=yes")
    }

    /// Makes its memif driver log what it does.
    #[must_use]
    pub fn verbose(mut self) -> Self {
        self.log_level = "pmd.net.memif:debug";
        self
    }

    /// Starts it, and waits until its port is set up (its link need not be up).
    ///
    /// # Panics
    /// When it does not come up. The message contains all its output.
    #[must_use]
    pub fn start(&self, lab: &Lab) -> Testpmd {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let program =
            require::find("dpdk-testpmd").expect("the test asked for dpdk-testpmd with require!");
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let Self { role, socket, abstract_socket, id, keys, .. } = self;
        // Through a pipe its output comes in blocks. stdbuf makes it come line by line.
        let mut command = lab.command("stdbuf");
        command.arg("-oL").arg(program);
        // It requires two lcores. They may run on any core.
        let cores = std::thread::available_parallelism().map_or(1, usize::from) - 1;
        let forwarding = self.cpu.map_or(format!("(0-{cores})"), |cpu| cpu.to_string());
        command.args(["--lcores", &format!("0@(0-{cores}),1@{forwarding}"), "--main-lcore", "0"]);
        let (megabytes, buffers) =
            if self.cpu.is_some() { ("256", "16384") } else { ("64", "4096") };
        command.args(["--no-huge", "-m", megabytes, "--no-pci", "--no-telemetry"]);
        if self.zero_copy {
            // Shared memory must be files, and no more of them than a link has regions.
            command.arg("--single-file-segments");
        }
        command.arg(format!("--log-level={}", self.log_level));
        command.args(["--file-prefix", &format!("bt{}-{number}", std::process::id())]);
        command.arg(format!(
            "--vdev=net_memif0,role={role},socket={socket},socket-abstract={abstract_socket},id={id}{keys}"
        ));
        command.args(["--", "-i", "--no-mlockall", "--nb-cores=1"]);
        command.arg(format!("--total-num-mbufs={buffers}"));
        command.args([format!("--rxq={}", self.queues), format!("--txq={}", self.queues)]);
        command.arg(format!("--forward-mode={}", self.forward));
        command.arg(format!("--txpkts={}", self.frame_bytes));
        if self.auto_start {
            command.arg("--auto-start");
        }
        let process =
            Process::spawn(&format!("dpdk-testpmd {role} id={id} {}", self.forward), &mut command);
        process.wait_for_line("Checking link statuses...");
        let mut testpmd = Testpmd { process, asked: 0 };
        // An answer proves that it accepts commands.
        testpmd.command("show port summary 0");
        testpmd
    }
}

impl Testpmd {
    /// Sets up a testpmd whose port is a memif client of `socket`.
    #[must_use]
    pub fn client(socket: &Path, id: u32) -> Setup {
        Setup::new("client", socket, id)
    }

    /// Sets up a testpmd whose port listens on `socket`.
    #[must_use]
    pub fn server(socket: &Path, id: u32) -> Setup {
        Setup::new("server", socket, id)
    }

    /// Types a command and returns the lines of its answer.
    ///
    /// # Panics
    /// When no answer comes. The message contains all its output.
    pub fn command(&mut self, command: &str) -> Vec<String> {
        // Testpmd echoes its input and does not mark the end of an answer. The echo of a second,
        // unknown command shows that the first answer is complete.
        let marker = format!("marker{}", self.asked);
        self.asked += 1;
        let mark = self.process.mark();
        self.process.type_line(command);
        self.process.type_line(&marker);
        self.process.wait_after(mark, &marker);
        let lines = self.process.lines_after(mark);
        let answer = lines.into_iter().map(|line| line.text);
        answer
            .skip_while(|line| !line.contains(command))
            .skip(1)
            .take_while(|line| !line.contains(&marker))
            .collect()
    }

    /// Returns the counters of its port.
    ///
    /// # Panics
    /// When it does not answer with statistics.
    pub fn stats(&mut self) -> PortStats {
        let answer = self.command("show port stats 0");
        let count = |name: &str| -> u64 {
            let after = answer
                .iter()
                .find_map(|line| line.split_once(name))
                .map(|(_, after)| after.trim_start());
            after
                .and_then(|after| after.split_whitespace().next()?.parse().ok())
                .unwrap_or_else(|| panic!("no {name} in {answer:#?}"))
        };
        PortStats { rx_packets: count("RX-packets:"), tx_packets: count("TX-packets:") }
    }

    /// Returns the frames per second that it received since the last call, by its own clock.
    ///
    /// # Panics
    /// When it does not answer with statistics.
    #[allow(
        clippy::must_use_candidate,
        reason = "the first call only starts the interval of the second"
    )]
    pub fn rx_rate(&mut self) -> f64 {
        let answer = self.command("show port stats 0");
        let rate = answer.iter().find_map(|line| line.trim_start().strip_prefix("Rx-pps:"));
        rate.and_then(|after| after.split_whitespace().next()?.parse().ok())
            .unwrap_or_else(|| panic!("no Rx-pps in {answer:#?}"))
    }

    /// Returns whether its link is up.
    pub fn link_is_up(&mut self) -> bool {
        self.command("show port info 0").iter().any(|line| line.contains("Link status: up"))
    }

    /// Waits until its link is up.
    ///
    /// # Panics
    /// When it stays down. The message contains all its output.
    pub fn wait_for_link(&mut self) {
        let up = wait::poll_every(POLL_INTERVAL, WAIT_TIMEOUT, || self.link_is_up().then_some(()))
            .is_some();
        assert!(up, "testpmd's link stays down\n{}", self.process.transcript());
    }

    /// Waits until it has noticed that its link is down. Its driver does this in a thread of its
    /// own, and fails if the port is restarted meanwhile.
    ///
    /// # Panics
    /// When it does not notice. The message contains all its output.
    pub fn wait_for_link_loss(&mut self) {
        let down =
            wait::poll_every(POLL_INTERVAL, WAIT_TIMEOUT, || (!self.link_is_up()).then_some(()))
                .is_some();
        assert!(down, "testpmd's link stays up\n{}", self.process.transcript());
    }

    /// Waits until it has received `frames` frames from its link.
    ///
    /// # Panics
    /// When it does not. The message contains all its output.
    pub fn wait_for_rx(&mut self, frames: u64) {
        let got = wait::poll_every(POLL_INTERVAL, WAIT_TIMEOUT, || {
            (self.stats().rx_packets >= frames).then_some(())
        })
        .is_some();
        assert!(got, "testpmd did not get {frames} frames\n{}", self.process.transcript());
    }

    /// Sends `bursts` bursts of [`BURST`] frames of its own, then continues in its forward mode.
    pub fn start_with_bursts(&mut self, bursts: u32) {
        self.command(&format!("start tx_first {bursts}"));
    }

    /// Takes its port down and up again, which is the only way to make its client reconnect.
    ///
    /// # Panics
    /// When it does not answer a command.
    pub fn restart_port(&mut self) {
        // It refuses to stop a port that is forwarding.
        for command in ["stop", "port stop 0", "port start 0", "start"] {
            self.command(command);
        }
    }

    /// Kills it with `SIGKILL`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Suspends it at any point of its work, or resumes it.
    pub fn suspend(&self, suspend: bool) {
        self.process.signal(if suspend { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    /// Returns the process, for output that is no answer.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Types `quit` and waits for its end.
    ///
    /// # Panics
    /// When it does not end within [`WAIT_TIMEOUT`].
    #[must_use]
    pub fn quit(mut self) -> Finished {
        self.process.type_line("quit");
        self.process.finish(WAIT_TIMEOUT)
    }
}
