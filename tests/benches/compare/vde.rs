//! `vde_switch` and plugs into it. A plug requests a port on the switch's control socket and names
//! the address of its own datagram socket. The switch answers with the address to send to.

use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use system_tests::{Lab, Process, WAIT_TIMEOUT, privilege, wait};

/// The start of a request for a port, and the version of the protocol.
const MAGIC: u32 = 0xfeed_face;
const VERSION: u32 = 3;
/// The request for any new port.
const NEW_PORT: u32 = 0;
/// The size of a `sockaddr_un`: the family, and a path padded with zeros.
const ADDRESS: usize = 110;

/// A running switch.
pub(crate) struct Switch {
    _process: Process,
    folder: PathBuf,
}

impl Switch {
    /// Starts a switch that takes up to `ports` plugs.
    pub(crate) fn start(lab: &Lab, ports: usize) -> Self {
        let folder = lab.path("switch");
        let mut command = lab.command("vde_switch");
        // It keeps one port for itself.
        command.arg("-s").arg(&folder).args(["-n", &(ports + 1).to_string()]);
        let process = Process::spawn("vde_switch", &mut command);
        wait::until("vde_switch listens", WAIT_TIMEOUT, || folder.join("ctl").exists());
        Self { _process: process, folder }
    }

    /// Returns the folder of the switch, which is its name for other plugs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Plugs something in that sends and receives nothing. `name` is that of its socket in the lab.
    pub(crate) fn idle_plug(&self, lab: &Lab, name: &str) -> Plug {
        Plug::new(&self.folder, &lab.path(name))
    }

    /// Returns the million frames a second from one plug to another.
    pub(crate) fn rate(&self, lab: &Lab, frame: usize, time: Duration) -> f64 {
        let from = Plug::new(&self.folder, &lab.path("from"));
        let to = Plug::new(&self.folder, &lab.path("to"));
        let mut bytes = vec![0; frame];
        // A broadcast from a local address, of the type that IEEE reserves for experiments.
        bytes[..14]
            .copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        let over = std::sync::atomic::AtomicBool::new(false);
        let over = &over;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    // A send waits while queues are full, so no frame is lost: the best case for
                    // the switch.
                    let _ = from.data.send(&bytes);
                }
            });
            let receiving = scope.spawn(move || {
                let mut buffer = [0; 2_048];
                let mut frames = 0_u64;
                to.data.recv(&mut buffer).expect("a frame");
                let begin = Instant::now();
                while begin.elapsed() < time {
                    to.data.recv(&mut buffer).expect("a frame");
                    frames += 1;
                }
                over.store(true, std::sync::atomic::Ordering::Relaxed);
                frames as f64 / begin.elapsed().as_secs_f64() / 1e6
            });
            receiving.join().expect("a thread that only counts")
        })
    }
}

/// A port of a switch, and our end of it.
pub(crate) struct Plug {
    data: UnixDatagram,
    /// The port exists as long as this is open.
    _control: UnixStream,
    path: PathBuf,
}

impl Plug {
    fn new(switch: &Path, path: &Path) -> Self {
        let data = UnixDatagram::bind(path).expect("a socket");
        privilege::hand_over(path);
        data.set_write_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        data.set_read_timeout(Some(WAIT_TIMEOUT)).expect("a timeout");
        let mut control = UnixStream::connect(switch.join("ctl")).expect("the switch");
        control.set_read_timeout(Some(WAIT_TIMEOUT)).expect("a timeout");
        let mut request = Vec::new();
        for word in [MAGIC, VERSION, NEW_PORT] {
            request.extend(word.to_ne_bytes());
        }
        request.extend(address(path));
        request.extend(b"compare\0");
        control.write_all(&request).expect("a request");
        let mut answer = [0; ADDRESS];
        control.read_exact(&mut answer).expect("an answer");
        let end = answer[2..].iter().position(|byte| *byte == 0).map_or(ADDRESS, |len| 2 + len);
        data.connect(Path::new(std::ffi::OsStr::from_bytes(&answer[2..end])))
            .expect("the switch's end");
        Self { data, _control: control, path: path.to_owned() }
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn address(path: &Path) -> [u8; ADDRESS] {
    let mut address = [0; ADDRESS];
    let family = u16::try_from(nix::libc::AF_UNIX).expect("a small number");
    address[..2].copy_from_slice(&family.to_ne_bytes());
    let path = path.as_os_str().as_bytes();
    address[2..2 + path.len()].copy_from_slice(path);
    address
}
