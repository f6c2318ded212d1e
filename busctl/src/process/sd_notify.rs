//! Notifies a supervisor (systemd, or another with its protocol) that this process is ready, alive,
//! and about to end.
//!
//! A notification is a datagram of `KEY=value` to the socket that `$NOTIFY_SOCKET` names: too
//! little to need a library.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The supervisor, if there is one.
#[derive(Debug, Default)]
pub(crate) struct SdNotify {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
}

/// The watchdog of a supervisor: it kills a process that sends nothing for some time.
#[derive(Debug)]
struct Watchdog {
    /// How often to send: twice in that time.
    interval: Duration,
    sent: Instant,
    beats: Vec<u64>,
}

impl SdNotify {
    /// Connects to the supervisor that the environment names. One that cannot be reached counts as
    /// none: it notices by itself.
    pub(crate) fn from_environment() -> Self {
        Self::new(|name| std::env::var_os(name))
    }

    fn new(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        let Some(socket) = variable("NOTIFY_SOCKET").and_then(|name| {
            let bytes = name.as_bytes();
            let address = match bytes.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&name),
            };
            let socket = UnixDatagram::unbound().ok()?;
            socket.connect_addr(&address.ok()?).ok()?;
            // A supervisor that does not read must not block this process.
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        }) else {
            return Self::default();
        };
        // Without a pid the watchdog is for this process.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog =
            number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0).map(|micros| Watchdog {
                interval: Duration::from_micros(micros) / 2,
                sent: Instant::now(),
                beats: Vec::new(),
            });
        Self { socket: Some(socket), watchdog }
    }

    fn send(&self, what: &str) {
        if let Some(socket) = &self.socket {
            // There is no other place to report a failure.
            let _ = socket.send(what.as_bytes());
        }
    }

    /// Reports that this process can be used.
    pub(crate) fn ready(&self) {
        self.send("READY=1");
    }

    /// Reports that process `pid` can be used and takes the place of this one, which ends.
    pub(crate) fn successor_ready(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}\nREADY=1"));
    }

    /// Reports that this process is about to end.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Returns in what time the next report that this process is [alive](Self::alive) is due, if a
    /// watchdog wants that.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        self.watchdog
            .as_ref()
            .map(|watchdog| watchdog.interval.saturating_sub(watchdog.sent.elapsed()))
    }

    /// Reports that this process is alive, if each of `beats` has changed since the last report.
    /// Call it often.
    pub(crate) fn alive(&mut self, beats: impl FnOnce() -> Vec<u64>) {
        let Some(watchdog) = &mut self.watchdog else { return };
        if watchdog.sent.elapsed() < watchdog.interval {
            return;
        }
        let beats = beats();
        let stuck = beats.iter().zip(&watchdog.beats).any(|(now, before)| now == before);
        if !stuck {
            watchdog.sent = Instant::now();
            watchdog.beats = beats;
            self.send("WATCHDOG=1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(folder: &tempfile::TempDir) -> (UnixDatagram, std::path::PathBuf) {
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket, path)
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut text = [0; 64];
        let len = socket.recv(&mut text).unwrap_or(0);
        String::from_utf8(text[..len].to_vec()).unwrap()
    }

    #[test]
    fn ready_and_stopping_are_sent() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, path) = listen(&folder);
        let supervisor =
            SdNotify::new(|name| (name == "NOTIFY_SOCKET").then(|| path.clone().into()));
        supervisor.ready();
        assert_eq!(received(&socket), "READY=1");
        supervisor.stopping();
        assert_eq!(received(&socket), "STOPPING=1");
    }

    #[test]
    fn a_supervisor_with_an_abstract_name_is_reached() {
        let name = format!("busctl-sd-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let path = format!("@{name}");
        let supervisor =
            SdNotify::new(|name| (name == "NOTIFY_SOCKET").then(|| path.clone().into()));
        supervisor.successor_ready(7);
        assert_eq!(received(&socket), "MAINPID=7\nREADY=1");
    }

    #[test]
    fn alive_is_sent_only_while_every_thread_makes_progress() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, path) = listen(&folder);
        let mut supervisor = SdNotify::new(|name| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into()),
            "WATCHDOG_USEC" => Some("2".into()),
            _ => None,
        });
        let mut alive = |beats: [u64; 2]| {
            std::thread::sleep(Duration::from_micros(10));
            supervisor.alive(|| beats.to_vec());
            received(&socket)
        };
        assert_eq!(alive([1, 1]), "WATCHDOG=1");
        assert_eq!(alive([2, 1]), "", "the second thread is stuck");
        assert_eq!(alive([3, 2]), "WATCHDOG=1");
    }

    #[test]
    fn without_a_supervisor_nothing_happens() {
        let mut supervisor =
            SdNotify::new(|name| (name == "NOTIFY_SOCKET").then(|| "/no/such".into()));
        supervisor.ready();
        supervisor.alive(|| unreachable!("not evaluated without a watchdog"));
    }
}
