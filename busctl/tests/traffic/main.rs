//! The verbs that put frames on a bus and take them off, as a user meets them: dump, replay, host,
//! ping, demo.

mod demo;
mod dump;
mod extcap;
mod host;
mod many_hosts;
mod offload;
mod ping;
mod ports;
mod replay;
#[path = "../terminal/mod.rs"]
mod terminal;
mod watch;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use predicates::str::contains;
use tempfile::TempDir;

/// A folder for buses and captures, gone with the test.
struct Lab {
    folder: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, with a clean environment and in the folder; `words` are its arguments with
    /// blanks between.
    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_busctl"));
        command.env_clear().env("TMPDIR", self.folder.path()).current_dir(self.folder.path());
        command.args(words.split_whitespace());
        command
    }

    fn busctl(&self, words: &str) -> assert_cmd::Command {
        self.command(words).into()
    }

    /// What it prints when it succeeds.
    fn prints(&self, words: &str) -> String {
        let output = self.busctl(words).assert().success().get_output().stdout.clone();
        String::from_utf8(output).unwrap()
    }

    fn json(&self, words: &str) -> serde_json::Value {
        serde_json::from_str(&self.prints(words)).unwrap()
    }

    /// It fails with `code`, prints nothing, and says `why` in one line.
    fn fails(&self, words: &str, code: i32, why: &str) {
        let assert = self.busctl(words).assert().code(code).stdout("").stderr(contains(why));
        let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert!(stderr.starts_with("busctl: ") && stderr.matches('\n').count() == 1, "{stderr:?}");
    }

    /// An empty bus.
    fn with_bus(self) -> Self {
        drop(shmbus::Bus::open_or_create(self.path("lan.bus"), 0o600).unwrap());
        self
    }

    fn write_pcap<F: AsRef<[u8]>>(&self, name: &str, frames: impl IntoIterator<Item = F>) {
        let file = std::fs::File::create(self.path(name)).unwrap();
        let mut pcap = PcapWriter::new(file).unwrap();
        for frame in frames {
            let frame = frame.as_ref();
            let len = u32::try_from(frame.len()).unwrap();
            pcap.write_packet(&PcapPacket::new(Duration::ZERO, len, frame)).unwrap();
        }
    }

    fn read_pcap(&self, name: &str) -> Vec<Vec<u8>> {
        read_pcap(&self.path(name))
    }

    /// Starts it in the background.
    fn start(&self, words: &str) -> Running {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { stdin: child.stdin.take(), stdout, child }
    }

    /// Starts it, and waits until it says that it is ready.
    fn ready(&self, words: &str) -> Running {
        let mut running = self.start(words);
        let ready = if words.contains("--json") { "{\"ready\":true}" } else { "ready" };
        assert_eq!(running.line(), ready);
        running
    }
}

fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let mut pcap = PcapReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = pcap.next_packet() {
        frames.push(packet.unwrap().data.into_owned());
    }
    frames
}

/// A frame to everybody that no host answers, with `payload`.
fn frame(payload: &[u8]) -> Vec<u8> {
    [b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5", payload].concat()
}

/// A process in the background, killed with the test.
struct Running {
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    child: Child,
}

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits until SIGTERM does not kill it any more.
    fn until_it_catches_sigterm(&self) {
        let status = format!("/proc/{}/status", self.child.id());
        let catches = |status: String| {
            let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap() & (1 << (Signal::SIGTERM as u64 - 1)) != 0
        };
        while !catches(std::fs::read_to_string(&status).unwrap()) {}
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Asks it to stop as `^C` does; its exit code.
    fn interrupt(mut self) -> Option<i32> {
        self.signal(Signal::SIGINT);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
