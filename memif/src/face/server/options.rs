//! How a server's socket is to be.

use std::time::Duration;

use crate::system::memfd;

/// Options of a server's socket.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub(super) mode: Option<u32>,
    pub(super) max_pending: usize,
    pub(super) connect_timeout: Duration,
    pub(super) unsealed: bool,
    pub(super) max_memory: u64,
    pub(super) allowed_uids: Option<Vec<u32>>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        let connect_timeout = Duration::from_secs(5);
        let max_memory = memfd::MAX_MAPPED;
        Self { mode: None, max_pending: 64, connect_timeout, unsealed: true, max_memory, allowed_uids: None }
    }
}

impl ServerOptions {
    /// The umask decides about the file's mode, 64 connections may be without INIT, and a client has 5 s to connect.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The permission bits of the socket's file, such as `0o660`. It never has any others.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o777);
        self
    }

    /// How many connections may be open that have not asked for an interface, at least 1. One more makes the oldest go.
    #[must_use]
    pub fn max_pending(mut self, connections: usize) -> Self {
        self.max_pending = connections.max(1);
        self
    }

    /// How long a client may take from its connection until its link is up.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Only clients of these users are served, as the kernel tells who connected; given again, these as well. An abstract socket
    /// has no file with a mode, so this is what protects it.
    #[must_use]
    pub fn allow_uids(mut self, uids: impl IntoIterator<Item = u32>) -> Self {
        self.allowed_uids.get_or_insert_default().extend(uids);
        self
    }

    /// Whether to turn clients away whose memory is not sealed against shrinking. By default they are taken: VPP's
    /// huge pages and the packet memory of a zero-copy DPDK carry no seal.
    #[must_use]
    pub fn refuse_unsealed(mut self, refuse: bool) -> Self {
        self.unsealed = !refuse;
        self
    }

    /// How many bytes of memory one client may share, 64 GiB by default; more than 8 GiB of a region are out of any descriptor's
    /// reach and neither mapped nor counted. A client can have us touch each page of it first: then it is allocated at the
    /// expense of this process, or of its control group.
    #[must_use]
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = bytes;
        self
    }
}
