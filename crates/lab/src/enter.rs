//! Entering a node of a lab from another process.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use nix::sched::{CloneFlags, setns};

use crate::client::Client;
use crate::error::{LabError, system};
use crate::protocol::Namespace;

/// Puts this process into the namespaces of a node, and prepares `command` to run there: with the
/// node's environment, in its scratch folder. What this process starts from now on is in the lab,
/// and ends with it at the latest.
///
/// This process has only one thread, as the kernel asks for.
///
/// # Errors
/// When there is no such node, or the process may not enter it.
pub fn enter(client: &mut Client, node: &str, command: &mut Command) -> Result<(), LabError> {
    let (entry, descriptors) = client.entry(node)?;
    for (namespace, descriptor) in entry.namespaces.iter().zip(descriptors) {
        enter_one(*namespace, descriptor).map_err(system(format!("enter the node {node}")))?;
    }
    command.envs(&entry.env).current_dir(&entry.folder);
    Ok(())
}

fn enter_one(namespace: Namespace, descriptor: OwnedFd) -> io::Result<()> {
    let (kind, flag) = match namespace {
        Namespace::User => ("user", CloneFlags::CLONE_NEWUSER),
        Namespace::Pid => ("pid", CloneFlags::CLONE_NEWPID),
        Namespace::Net => ("net", CloneFlags::CLONE_NEWNET),
        Namespace::Uts => ("uts", CloneFlags::CLONE_NEWUTS),
        Namespace::Mount => ("mnt", CloneFlags::CLONE_NEWNS),
    };
    let there = fs::File::from(descriptor);
    if namespace == Namespace::User {
        // The kernel refuses the namespace that the process is in, as root's is.
        let (here, there) = (fs::metadata(format!("/proc/self/ns/{kind}"))?, there.metadata()?);
        if (here.dev(), here.ino()) == (there.dev(), there.ino()) {
            return Ok(());
        }
    }
    Ok(setns(there, flag)?)
}
