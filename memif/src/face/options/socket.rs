//! The options of a server's listening socket.

use std::time::Duration;

use crate::system::memfd;

/// Options of a [`Server`](crate::Server)'s listening socket, which hold for all of its interfaces.
///
/// ```
/// use memif::SocketOptions;
/// let options = SocketOptions::new().mode(0o660).max_memory(1 << 30);
/// ```
#[derive(Debug, Clone)]
pub struct SocketOptions {
    pub(crate) mode: Option<u32>,
    pub(crate) max_pending: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) allow_unsealed: bool,
    pub(crate) keep_files: bool,
    pub(crate) max_memory: u64,
    pub(crate) allowed_uids: Option<Vec<u32>>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            mode: None,
            max_pending: 64,
            connect_timeout: Duration::from_secs(5),
            allow_unsealed: true,
            keep_files: false,
            max_memory: memfd::MAX_MAPPED,
            allowed_uids: None,
        }
    }
}

impl SocketOptions {
    /// Returns the default options: the umask decides the file's mode, any user may connect, and a
    /// client has 5 s to bring its link up.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the permission bits of the socket's file, such as `0o660`. The file never has any
    /// others.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o777);
        self
    }

    /// Sets how many connections may be open that have not asked for an interface yet, at least 1,
    /// by default 64. One more closes the oldest of them.
    #[must_use]
    pub fn max_pending(mut self, connections: usize) -> Self {
        self.max_pending = connections.max(1);
        self
    }

    /// Sets how long a client may take from its connection until its link is up, by default 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Allows clients of these users only; further calls add users. The kernel says which user has
    /// connected. An abstract socket has no file with a mode, so this is its only protection.
    #[must_use]
    pub fn allow_uids(mut self, uids: impl IntoIterator<Item = u32>) -> Self {
        self.allowed_uids.get_or_insert_default().extend(uids);
        self
    }

    /// Sets whether to reject clients whose memory is not sealed against shrinking. By default they
    /// are accepted: VPP's huge pages and the packet memory of a zero-copy DPDK carry no seal.
    #[must_use]
    pub fn reject_unsealed(mut self, reject: bool) -> Self {
        self.allow_unsealed = !reject;
        self
    }

    /// Sets whether the files of clients' regions stay open while they are mapped, by default
    /// `false`, so that a program can map them itself ([`LinkRegion::file`](crate::LinkRegion)).
    /// Each takes an open file.
    #[must_use]
    pub fn keep_files(mut self, keep: bool) -> Self {
        self.keep_files = keep;
        self
    }

    /// Sets how many bytes of memory one client may share, by default 64 GiB. Of a region, only the
    /// first 8 GiB count: no descriptor reaches beyond them, and they are all that is mapped. A
    /// client can make this process touch each page first: the page is then charged to this
    /// process, or to its control group.
    #[must_use]
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = bytes;
        self
    }
}
