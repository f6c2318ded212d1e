//! Network namespaces.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::error::NetifError;

/// The folder where `ip netns add` leaves its namespaces.
const NAMED: &str = "/run/netns";

/// A network namespace. It exists at least as long as this value.
#[derive(Debug)]
pub struct NetNamespace {
    file: File,
    name: String,
}

impl NetNamespace {
    /// Opens the namespace that `ip netns add` made under this name. With a `/` in it, `name` is
    /// the path of a namespace that another program has made.
    ///
    /// # Errors
    /// When there is none, or it is not for this user to open.
    pub fn named(name: &str) -> Result<Self, NetifError> {
        let path =
            if name.contains('/') { PathBuf::from(name) } else { Path::new(NAMED).join(name) };
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => {
                NetifError::NotAllowed { name: name.to_owned(), source }
            }
            _ => NetifError::NoNamespace { name: name.to_owned(), source },
        })?;
        Ok(Self { file, name: name.to_owned() })
    }

    /// Opens the namespace of a process.
    ///
    /// # Errors
    /// When there is no process of this id, or its namespaces are not for this user to open.
    pub fn of_process(pid: u32) -> Result<Self, NetifError> {
        let file = File::open(format!("/proc/{pid}/ns/net"));
        let file = file.map_err(|source| NetifError::NoProcess { pid, source })?;
        Ok(Self { file, name: format!("of process {pid}") })
    }

    /// Moves this thread into the namespace. Threads that it starts later are there as well.
    ///
    /// # Errors
    /// When the process may not enter the namespace.
    pub fn enter(&self) -> Result<(), NetifError> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
            Errno::EINVAL => NetifError::NotANamespace(self.name.clone()),
            _ => NetifError::NotAllowed { name: self.name.clone(), source: errno.into() },
        })
    }

    /// Runs a closure in the namespace, in a thread of its own, and returns what it returns.
    /// Sockets and devices that it opens belong to the namespace for good.
    ///
    /// # Errors
    /// When the process may not enter the namespace, or no thread is available. The closure does
    /// not run then.
    ///
    /// # Panics
    /// When the closure does.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T, NetifError> {
        thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name("netns".to_owned())
                .spawn_scoped(scope, || {
                    self.enter()?;
                    Ok(inside())
                })
                .map_err(NetifError::system("start a thread for a network namespace"))?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}
