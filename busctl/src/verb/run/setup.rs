//! The process that makes the namespaces: its interfaces, its files, and its init. It ends when
//! init runs.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;

use std::ffi::OsString;
use std::fs::{self, File};

use anyhow::Context as _;
use netif::{Interfaces, NetNamespace, NetifError};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, setgid, setuid};
use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
};
use tapdev::{Form, OpenError, TapDevice};

use super::channel::Channel;
use super::messages::{Failure, FromInside, Plan, Space, Step, ToSetup};
use super::{files, stage};

/// The most interfaces a namespace is searched for a free name.
const MAX_NAMES: usize = 1_000;

/// Does what `run` asks for, and reports what cannot be done to it.
pub(super) fn run(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let channel = Channel::of_stdin().context("cannot reach busctl run")?;
    match prepare(&channel, command) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failure) => {
            // When 'run' is gone, no process is left to tell.
            let _ = channel.send(&FromInside::Failed(failure), &[]);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn prepare(channel: &Channel, command: &[OsString]) -> Result<(), Failure> {
    let (plan, _) = channel.receive::<Plan>().map_err(Failure::channel)?;
    enter(&plan.space)?;
    say(channel, &FromInside::Entered, &[])?;
    let (ToSetup::Mapped, _) = channel.receive().map_err(Failure::channel)? else {
        return Err(Failure::channel(io::ErrorKind::InvalidData.into()));
    };
    files::make_private().map_err(|errno| Failure::of("make the mounts private", errno.into()))?;
    let mut interfaces = Interfaces::open().map_err(Failure::netif)?;
    let taps = taps(&mut interfaces, plan.interfaces.len())?;
    let names: Vec<String> = taps.iter().map(|(name, _)| name.clone()).collect();
    let descriptors: Vec<_> = taps.iter().map(|(_, tap)| tap.as_fd()).collect();
    say(channel, &FromInside::Taps(names.clone()), &descriptors)?;
    // The interfaces live as long as the descriptors of 'run'.
    drop(taps);
    let (ToSetup::Configure(mtus), _) = channel.receive().map_err(Failure::channel)? else {
        return Err(Failure::channel(io::ErrorKind::InvalidData.into()));
    };
    configure(&mut interfaces, &plan, &names, &mtus).map_err(Failure::netif)?;
    files::write(&plan).map_err(|(what, error)| Failure::of(&what, error))?;
    if plan.user {
        keep_the_right_to_mount().map_err(|error| Failure::of("keep the right to mount", error))?;
    }
    let socket = channel.share().map_err(Failure::channel)?;
    let init = stage::command(stage::Stage::Init, command, socket)
        .spawn()
        .map_err(|error| Failure::of("start the first process of the namespace", error))?;
    let pid = i32::try_from(init.id()).unwrap_or_default();
    say(channel, &FromInside::Init(pid), &[])
}

fn say(
    channel: &Channel,
    message: &FromInside,
    descriptors: &[std::os::fd::BorrowedFd<'_>],
) -> Result<(), Failure> {
    channel.send(message, descriptors).map_err(Failure::channel)
}

/// Enters the namespaces. The processes that this one starts are in a new pid namespace as well, so
/// that all of them end with the first.
fn enter(space: &Space) -> Result<(), Failure> {
    let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWPID;
    let namespace = match space {
        Space::New => {
            let all = own | CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET;
            return unshare(all).map_err(|errno| Failure {
                step: Step::Namespaces,
                ..Failure::of("make a user and network namespace", errno.into())
            });
        }
        Space::Named(name) => NetNamespace::named(name),
        Space::Process(pid) => {
            // Its rights over its network are in its user namespace.
            enter_user_namespace(*pid).map_err(|error| Failure {
                step: Step::Namespaces,
                ..Failure::of(&format!("enter the user namespace of process {pid}"), error)
            })?;
            NetNamespace::of_process(*pid)
        }
    };
    let namespaces = |failure: Failure| Failure { step: Step::Namespaces, ..failure };
    namespace
        .and_then(|namespace| namespace.enter())
        .map_err(|error| namespaces(Failure::netif(error)))?;
    unshare(own)
        .map_err(|errno| namespaces(Failure::of("make a pid and mount namespace", errno.into())))
}

/// Enters the user namespace of a process, unless this process is in it.
fn enter_user_namespace(pid: u32) -> io::Result<()> {
    let theirs = File::open(format!("/proc/{pid}/ns/user"))?;
    let (here, there) = (fs::metadata("/proc/self/ns/user")?, theirs.metadata()?);
    if (here.dev(), here.ino()) == (there.dev(), there.ino()) {
        return Ok(());
    }
    setns(theirs, CloneFlags::CLONE_NEWUSER)?;
    // Where the namespace has no such ids, the rights are the same.
    let _ = setgid(Gid::from_raw(0));
    let _ = setuid(Uid::from_raw(0));
    Ok(())
}

/// Makes TAP interfaces with the lowest free names of `eth0`, `eth1` and so on.
fn taps(interfaces: &mut Interfaces, count: usize) -> Result<Vec<(String, OwnedFd)>, Failure> {
    let mut taps = Vec::new();
    for number in 0..MAX_NAMES {
        if taps.len() == count {
            break;
        }
        let name = format!("eth{number}");
        match interfaces.get(&name) {
            Ok(_) => continue,
            Err(NetifError::NoInterface(_)) => {}
            Err(error) => return Err(Failure::netif(error)),
        }
        let tap = TapDevice::open(&name, Form::Virtio).map_err(|error| Failure {
            step: Step::Device,
            text: match error {
                OpenError::NotAllowed { .. } => {
                    "not allowed to open /dev/net/tun, which makes interfaces".to_owned()
                }
                other => other.to_string(),
            },
            errno: None,
        })?;
        taps.push((name, tap.into()));
    }
    Ok(taps)
}

/// Gives the interfaces what the plan says, and sets them up.
fn configure(
    interfaces: &mut Interfaces,
    plan: &Plan,
    names: &[String],
    mtus: &[u32],
) -> Result<(), NetifError> {
    if plan.space == Space::New {
        interfaces.set_up("lo")?;
    }
    for ((name, mtu), interface) in names.iter().zip(mtus).zip(&plan.interfaces) {
        if let Some(mac) = interface.mac {
            interfaces.set_mac(name, mac)?;
        }
        interfaces.set_mtu(name, *mtu)?;
        for address in &interface.addresses {
            interfaces.add_address(name, *address)?;
        }
        interfaces.set_up(name)?;
    }
    for route in &plan.routes {
        interfaces.add_route(route.network, route.via)?;
    }
    Ok(())
}

/// Lets init mount `/proc`, although it is started without the rights of root.
fn keep_the_right_to_mount() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.inheritable |= CapabilitySet::SYS_ADMIN;
    set_capabilities(None, sets)?;
    Ok(configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, true)?)
}

impl Failure {
    #[expect(clippy::needless_pass_by_value, reason = "errors of the system are made on the spot")]
    fn of(what: &str, error: io::Error) -> Self {
        Self {
            step: Step::Later,
            text: format!("cannot {what}: {error}"),
            errno: error.raw_os_error(),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    fn netif(error: NetifError) -> Self {
        let errno = error.is_not_allowed().then_some(nix::libc::EPERM);
        Self { step: Step::Later, text: error.to_string(), errno }
    }

    fn channel(error: io::Error) -> Self {
        Self::of("reach busctl run", error)
    }
}
