//! What can go wrong with the registry. Every error is one line that says what to do about it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::name::{InterfaceName, Kind};

/// What can go wrong with the registry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The folder under `/tmp` is not ours alone.
    #[error("the state folder {} is not safe: {why}; choose another with --state", path.display())]
    UnsafeFolder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file or folder of the registry could not be used.
    #[error("cannot {action} {}: {cause}; the state folder is chosen with --state", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system reported.
        cause: io::Error,
    },
    /// Another process has been changing the registry for too long.
    #[error(
        "cannot change the registry: another process has held {} for {} s; find it with 'fuser' and try again",
        path.display(), waited.as_secs()
    )]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long this process waited.
        waited: Duration,
    },
    /// The record of an interface cannot be understood.
    #[error("the record {} is damaged: {why}; repair it or 'busctl destroy {name}'", path.display())]
    Damaged {
        /// The interface.
        name: InterfaceName,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No interface has this name.
    #[error("there is no interface {name}{hint}; 'busctl show' lists them, 'busctl create {name}' makes it",
            hint = port::suggest::hint(&name.to_string(), others.iter().map(ToString::to_string)))]
    NoSuchInterface {
        /// The name.
        name: InterfaceName,
        /// The names there are.
        others: BTreeSet<InterfaceName>,
    },
    /// The record of a socket cannot be understood.
    #[error("the record {} is damaged: {why}; repair it or 'busctl socket del {id}'", path.display())]
    DamagedSocket {
        /// The socket.
        id: u32,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No socket has this number.
    #[error("there is no socket {0}: 'busctl socket add {0} PATH' makes it")]
    NoSuchSocket(u32),
    /// A socket cannot be added or removed.
    #[error("{0}")]
    Socket(String),
    /// An interface would have another role than those on the same socket.
    #[error(
        "socket {socket} has {other}, a {role}: all interfaces on a socket have one role; 'busctl socket add' makes another"
    )]
    Role {
        /// The socket.
        socket: u32,
        /// An interface on it.
        other: InterfaceName,
        /// The role of that interface.
        role: memif::Role,
    },
    /// The name is taken.
    #[error("there is an interface {name} already{}", if name.kind() == Kind::Memif {
            "; 'busctl set' changes it while it is down".to_owned()
        } else {
            format!("; 'busctl create {}' takes the lowest free unit", name.kind())
        })]
    Exists {
        /// The name.
        name: InterfaceName,
    },
    /// Every unit is taken.
    #[error("every unit is taken: destroy an interface first")]
    Full,
    /// Another process runs the interface.
    #[error(
        "{name} is run by {runner}: an interface is run by one process at a time; stop that one first"
    )]
    Running {
        /// The interface.
        name: InterfaceName,
        /// The process that runs it.
        runner: String,
    },
    /// The interface has no bus.
    #[error("{name} has no bus; 'busctl linkstr {name} BUSPATH' plugs it into one")]
    NoBus {
        /// The interface.
        name: InterfaceName,
    },
    /// The interface is down.
    #[error("{name} is down; 'busctl up {name}' sets it up")]
    Down {
        /// The interface.
        name: InterfaceName,
    },
    /// The interface is a port, and only shmif interfaces are stations.
    #[error(
        "{name} is a {} interface, which 'busctl node' runs: give a shmif interface, or the path {}",
        name.kind(), bus.as_ref().map_or("of its bus".into(), |bus| bus.display().to_string())
    )]
    NotAStation {
        /// The interface.
        name: InterfaceName,
        /// Its bus, if it has one.
        bus: Option<PathBuf>,
    },
}

impl RegistryError {
    /// Makes the error of a file or folder that could not be used.
    pub(crate) fn file(action: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), cause }
    }

    /// Returns whether this is wrong use or configuration (exit code 2), which another try would
    /// not help.
    #[must_use]
    pub(crate) fn is_misuse(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Running { .. } => false,
            Self::File { cause, .. } => !port::is_passing(cause),
            Self::UnsafeFolder { .. }
            | Self::Damaged { .. }
            | Self::NoSuchInterface { .. }
            | Self::DamagedSocket { .. }
            | Self::NoSuchSocket(_)
            | Self::Socket(_)
            | Self::Role { .. }
            | Self::Exists { .. }
            | Self::Full
            | Self::NoBus { .. }
            | Self::Down { .. }
            | Self::NotAStation { .. } => true,
        }
    }
}
