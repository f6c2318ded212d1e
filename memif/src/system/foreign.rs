//! Descriptors that a peer has sent, which may be anything.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::fcntl::{FcntlArg, fcntl, readlink};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

/// A descriptor that a peer may have chosen.
///
/// Closing such a one is not harmless. It can be a connection that is to be closed only when all it has to send has arrived
/// somewhere (`SO_LINGER`): that wish is taken back first. Or a file of a file system whose server is the peer's, and which
/// never answers that the file was closed: a thread of their own waits for those, which no honest peer sends.
#[derive(Debug)]
pub(crate) struct Foreign(Option<OwnedFd>);

impl From<OwnedFd> for Foreign {
    fn from(fd: OwnedFd) -> Self {
        Self(Some(fd))
    }
}

impl AsFd for Foreign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_ref().expect("it is taken out when dropped").as_fd()
    }
}

/// Memory and what is no file (eventfds, sockets, pipes) is closed by the kernel alone.
fn is_of_the_kernel(fd: &OwnedFd) -> bool {
    let link = || readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str());
    // The names of files begin with a slash.
    let no_file =
        |name: &[u8]| [&b"anon_inode:"[..], b"socket:", b"pipe:"].iter().any(|kind| name.starts_with(kind));
    fcntl(fd, FcntlArg::F_GET_SEALS).is_ok() || link().is_ok_and(|name| no_file(name.as_encoded_bytes()))
}

/// To the thread that closes files, which is there from the first of them on.
static CLOSER: LazyLock<Option<Sender<OwnedFd>>> = LazyLock::new(|| {
    let (sender, files) = channel();
    let close = move || files.into_iter().for_each(drop);
    thread::Builder::new().name("memif-close".into()).spawn(close).ok().map(|_| sender)
});

impl Drop for Foreign {
    fn drop(&mut self) {
        let Some(fd) = self.0.take() else { return };
        if is_of_the_kernel(&fd) {
            // Fails for all that is no socket.
            let _ = setsockopt(&fd, sockopt::Linger, &linger { l_onoff: 0, l_linger: 0 });
            return;
        }
        tracing::debug!("a peer has sent a file, which is closed elsewhere");
        let unsent = match CLOSER.as_ref() {
            Some(closer) => closer.send(fd).err().map(|unsent| unsent.0),
            None => Some(fd),
        };
        if let Some(fd) = unsent {
            // Rather open for ever than waited for.
            let _ = fd.into_raw_fd();
        }
    }
}
