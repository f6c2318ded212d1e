//! What can go wrong.

use std::io;

/// Why an interface could not be read or changed, or a network namespace not entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetifError {
    /// The kernel refused a request.
    #[error("cannot {what}: {source}{}", .detail.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// What was attempted, such as "set tap0 up".
        what: String,
        /// What the kernel says about it beyond the number, such as "Nexthop has invalid gateway".
        detail: Option<String>,
        /// The system's error.
        source: io::Error,
    },
    /// There is no interface of this name.
    #[error("there is no interface {0} in this network namespace; 'ip link' lists them")]
    NoInterface(String),
    /// There is no network namespace of this name.
    #[error("there is no network namespace {name}: {source}; 'ip netns list' lists them")]
    NoNamespace {
        /// The name, or the path.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// There is no process with this id, or its namespaces are not for this user to see.
    #[error("cannot find the network namespace of process {pid}: {source}")]
    NoProcess {
        /// The id of the process.
        pid: u32,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not a network namespace.
    #[error("{0} is not a network namespace")]
    NotANamespace(String),
    /// The process lacks the permission to enter the network namespace.
    #[error(
        "not allowed to enter the network namespace {name}: {source}; it takes the rights of the user namespace that it \
         belongs to"
    )]
    NotAllowed {
        /// The namespace.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// A system call failed in another way.
    #[error("cannot {what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl NetifError {
    /// Returns a constructor of [`System`](Self::System) errors, for `map_err`.
    pub(crate) fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    /// Returns whether the error is due to a missing right.
    #[must_use]
    pub fn is_not_allowed(&self) -> bool {
        match self {
            Self::NotAllowed { .. } => true,
            Self::Refused { source, .. }
            | Self::NoNamespace { source, .. }
            | Self::NoProcess { source, .. }
            | Self::System { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::NoInterface(_) | Self::NotANamespace(_) => false,
        }
    }
}
