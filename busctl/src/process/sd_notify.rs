//! Telling a supervisor (systemd, and those who speak as it does) that this process is ready, alive, and about to end.
//!
//! That is a datagram of `KEY=value` to the socket that `$NOTIFY_SOCKET` names: too little to need a library.

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

/// A supervisor that kills what it has not heard of for some time.
#[derive(Debug)]
struct Watchdog {
    /// How often to be heard of: twice in that time.
    interval: Duration,
    heard: Instant,
    beats: Vec<u64>,
}

impl SdNotify {
    /// The one that the environment names. One that cannot be reached is none: it will notice by itself.
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
            // A supervisor that does not read must not hold up what it supervises.
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        }) else {
            return Self::default();
        };
        // Without a pid it is meant for this process.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0).map(|micros| Watchdog {
            interval: Duration::from_micros(micros) / 2,
            heard: Instant::now(),
            beats: Vec::new(),
        });
        Self { socket: Some(socket), watchdog }
    }

    fn tell(&self, what: &str) {
        if let Some(socket) = &self.socket {
            // There is nobody to tell that nobody listens.
            let _ = socket.send(what.as_bytes());
        }
    }

    /// It can be used now.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// It is about to end.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// It is alive, if each of `beats` has grown since this was last told. Call it often.
    pub(crate) fn alive(&mut self, beats: impl FnOnce() -> Vec<u64>) {
        let Some(watchdog) = &mut self.watchdog else { return };
        if watchdog.heard.elapsed() < watchdog.interval {
            return;
        }
        let beats = beats();
        let stuck = beats.iter().zip(&watchdog.beats).any(|(now, before)| now == before);
        if !stuck {
            watchdog.heard = Instant::now();
            watchdog.beats = beats;
            self.tell("WATCHDOG=1");
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

    fn heard(socket: &UnixDatagram) -> String {
        let mut text = [0; 64];
        let len = socket.recv(&mut text).unwrap_or(0);
        String::from_utf8(text[..len].to_vec()).unwrap()
    }

    #[test]
    fn it_is_told_when_the_process_is_ready_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, path) = listen(&folder);
        let supervisor = SdNotify::new(|name| (name == "NOTIFY_SOCKET").then(|| path.clone().into()));
        supervisor.ready();
        assert_eq!(heard(&socket), "READY=1");
        supervisor.stopping();
        assert_eq!(heard(&socket), "STOPPING=1");
    }

    #[test]
    fn it_hears_of_life_only_while_every_thread_goes_on() {
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
            heard(&socket)
        };
        assert_eq!(alive([1, 1]), "WATCHDOG=1");
        assert_eq!(alive([2, 1]), "", "the second thread is stuck");
        assert_eq!(alive([3, 2]), "WATCHDOG=1");
    }

    #[test]
    fn without_one_nothing_happens() {
        let mut supervisor = SdNotify::new(|name| (name == "NOTIFY_SOCKET").then(|| "/no/such".into()));
        supervisor.ready();
        supervisor.alive(|| unreachable!("nobody asks"));
    }
}
