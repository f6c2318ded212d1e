//! The namespace of a `run` node: its network, its mounts and its host name.
//!
//! It needs no process: descriptors keep it. Threads of the supervisor enter it to set it up, and
//! to start the commands of the node.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;

use netif::{Interfaces, NetifError};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::sethostname;
use tapdev::{Form, TapDevice};

use super::strays;
use crate::error::{LabError, at, system};
use crate::plan::{Node, Run};

const NONE: Option<&str> = None;

/// The namespaces of a node, which live as long as this value and the processes in them.
#[derive(Debug)]
pub(super) struct Space {
    net: File,
    uts: File,
    mounts: File,
}

/// What a new namespace is to have beside what the plan of its node says.
pub(super) struct Surroundings<'a> {
    /// The longest packet of each interface, in bytes.
    pub(super) mtus: Vec<u32>,
    /// `/etc/hosts`, without what it has here.
    pub(super) hosts: String,
    /// A folder for the files that the node sees below `/etc`.
    pub(super) etc: &'a Path,
}

/// What cannot be had in a new namespace, though it can be used.
pub(super) type Complaints = Vec<String>;

impl Space {
    /// Makes the namespace of `node`, with a TAP for each of its interfaces, set up as the plan
    /// says. Returns it with the TAPs.
    pub(super) fn make(
        node: &Node,
        run: &Run,
        surroundings: &Surroundings<'_>,
    ) -> Result<(Self, Vec<OwnedFd>, Complaints), LabError> {
        in_a_thread(|| {
            let all = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
            unshare(all).map_err(|errno| LabError::Namespaces { source: errno.into() })?;
            mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)
                .map_err(system("make the mounts private"))?;
            // The interfaces under /sys are those of the namespace that it was mounted in. Where a
            // container hides parts of it the old one stays, and few programs look there.
            let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), quiet, NONE);
            sethostname(&node.name).map_err(system("set the host name"))?;
            let mut complaints = Complaints::new();
            set_kernel(run, &mut complaints)?;
            let taps = interfaces(node, run, &surroundings.mtus)?;
            replace_files(node, run, surroundings, &mut complaints)?;
            let open = |kind: &str| {
                let path = format!("/proc/thread-self/ns/{kind}");
                File::open(&path).map_err(at("open", Path::new(&path)))
            };
            let space = Self { net: open("net")?, uts: open("uts")?, mounts: open("mnt")? };
            Ok((space, taps, complaints))
        })
    }

    /// Starts a process in the namespace.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        in_a_thread(|| {
            // A thread that shares its root folder with others cannot change its mounts.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.mounts, CloneFlags::CLONE_NEWNS)?;
            setns(&self.net, CloneFlags::CLONE_NEWNET)?;
            setns(&self.uts, CloneFlags::CLONE_NEWUTS)?;
            command.spawn()
        })
    }

    /// Runs a closure in the network of the namespace.
    pub(super) fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        in_a_thread(|| {
            setns(&self.net, CloneFlags::CLONE_NEWNET).map_err(system("enter a namespace"))?;
            Ok(inside())
        })
    }

    /// Kills all processes in the network of the namespace.
    pub(super) fn kill_all(&self) {
        let Ok(net) = self.net.metadata() else { return };
        strays::kill_where(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|found| (found.dev(), found.ino()) == (net.dev(), net.ino()))
        });
    }

    /// Returns what another process enters: the network, the host name, and the mounts.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.net.as_fd(), self.uts.as_fd(), self.mounts.as_fd()]
    }
}

/// Runs a closure in a thread of its own, whose namespaces end with it.
fn in_a_thread<T: Send, E: Send + From<LabError>>(
    inside: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".to_owned());
        let thread = thread.spawn_scoped(scope, inside).map_err(system("start a thread"))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl From<LabError> for io::Error {
    fn from(error: LabError) -> Self {
        match error {
            LabError::System { source, .. } => source,
            other => Self::other(other),
        }
    }
}

/// Writes the kernel settings of the namespace.
fn set_kernel(run: &Run, complaints: &mut Complaints) -> Result<(), LabError> {
    if run.forward {
        for name in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            match write_setting(name, "1") {
                // A kernel without IPv6 has no such file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                written => written.map_err(system(format!("set {name}")))?,
            }
        }
    }
    for (name, value) in &run.sysctl {
        if let Err(error) = write_setting(name, value) {
            complaints.push(format!("cannot set {name} to {value}: {error}"));
        }
    }
    Ok(())
}

fn write_setting(name: &str, value: &str) -> io::Result<()> {
    // In the names of sysctl(8) a dot stands for a slash, and a slash for a dot.
    let swapped = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let name: String = name.chars().map(swapped).collect();
    if name.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a setting"));
    }
    fs::write(Path::new("/proc/sys").join(name), value)
}

/// Makes the interfaces, with what the plan says.
fn interfaces(node: &Node, run: &Run, mtus: &[u32]) -> Result<Vec<OwnedFd>, LabError> {
    let refused = |error: NetifError| LabError::Refused(error.to_string());
    let mut interfaces = Interfaces::open().map_err(refused)?;
    interfaces.set_up("lo").map_err(refused)?;
    let mut taps = Vec::new();
    for (interface, mtu) in node.interfaces.iter().zip(mtus) {
        let tap = TapDevice::open(&interface.name, Form::Virtio)
            .map_err(|error| LabError::Refused(error.to_string()))?;
        interfaces.set_mac(&interface.name, interface.mac).map_err(refused)?;
        interfaces.set_mtu(&interface.name, *mtu).map_err(refused)?;
        for address in &interface.addresses {
            interfaces.add_address(&interface.name, *address).map_err(refused)?;
        }
        interfaces.set_up(&interface.name).map_err(refused)?;
        taps.push(tap.into());
    }
    for route in &run.routes {
        interfaces.add_route(route.network, route.via).map_err(refused)?;
    }
    Ok(taps)
}

/// Mounts files of the node over those below `/etc`.
fn replace_files(
    node: &Node,
    run: &Run,
    surroundings: &Surroundings<'_>,
    complaints: &mut Complaints,
) -> Result<(), LabError> {
    let before = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let mut files = vec![("hosts", format!("{}{before}", surroundings.hosts))];
    files.push(("hostname", format!("{}\n", node.name)));
    if !run.dns.is_empty() {
        files.push(("resolv.conf", name_servers(&run.dns)));
    }
    fs::create_dir_all(surroundings.etc).map_err(at("make", surroundings.etc))?;
    for (name, text) in files {
        let (new, old) = (surroundings.etc.join(name), Path::new("/etc").join(name));
        fs::write(&new, text).map_err(at("write", &new))?;
        // A link is followed: what it leads to may be anywhere.
        let old = fs::canonicalize(&old).unwrap_or(old);
        if let Err(errno) = mount(Some(&new), &old, NONE, MsFlags::MS_BIND, NONE) {
            complaints.push(format!("cannot replace {}: {errno}", old.display()));
        }
    }
    Ok(())
}

fn name_servers(servers: &[IpAddr]) -> String {
    servers.iter().fold(String::new(), |mut text, server| {
        let _ = writeln!(text, "nameserver {server}");
        text
    })
}
