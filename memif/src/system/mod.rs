//! Sockets, descriptors and timers.

pub(crate) mod addr;
#[expect(unsafe_code, reason = "the child process that closes a descriptor is made here")]
pub(crate) mod closers;
pub(crate) mod event_fd;
pub(crate) mod listen;
pub(crate) mod memfd;
pub(crate) mod poller;
#[expect(unsafe_code, reason = "descriptors that the kernel has just installed become owned here")]
pub(crate) mod scm_rights;
pub(crate) mod socket;
#[expect(unsafe_code, reason = "`nix` has neither `preadv2` with flags nor asynchronous I/O")]
pub(crate) mod untrusted_eventfd;
pub(crate) mod untrusted_fd;
