//! A thread that connects to a server, or finds the peer of a datagram socket, again and again with
//! longer and longer pauses.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr as InetAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use memif::SocketAddr;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, UnixAddr, connect, getsockopt,
    recv, recvmsg, socket, sockopt,
};

use super::connection::Wire;
use super::mailbox::Mailbox;
use super::unix::{unix_addr, unix_socket};

/// The pause before the second attempt. Each one after that is twice as long, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lasts for less than this is an attempt that failed: passt, for one, accepts a
/// second client and closes it at once.
const LASTING: Duration = Duration::from_secs(1);
/// How long a TCP connection may take to be made.
const TCP_TIMEOUT: Duration = Duration::from_secs(2);

/// Who is called.
#[derive(Debug)]
pub(super) enum Target {
    /// A server on a Unix socket.
    Unix(SocketAddr, SockType),
    /// A server on a TCP socket.
    Tcp(InetAddr),
    /// A datagram socket, from this one of our own.
    Datagrams(OwnedFd, SocketAddr),
    /// The sender of the first datagram that arrives at this socket.
    AnySender(OwnedFd),
}

/// An attempt that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {target}: {source}; it is tried again and again")]
struct NotConnected {
    target: String,
    source: io::Error,
}

/// See the module. Dropping it ends the attempts, and waits for the thread, which is woken wherever it
/// waits.
#[derive(Debug)]
pub(super) struct Dialer {
    mailbox: Arc<Mailbox>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dialer {
    /// Starts to call for the port of `mailbox`.
    pub(super) fn start(target: Target, mailbox: &Arc<Mailbox>) -> io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("socket client".to_owned()).spawn({
            let (mailbox, stopped) = (Arc::clone(mailbox), Arc::clone(&stopped));
            move || run(&target, &mailbox, &stopped)
        })?;
        Ok(Self { mailbox: Arc::clone(mailbox), stopped, thread: Some(thread) })
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        // Relaxed: the flag orders nothing, and the thread is woken after it is set.
        self.stopped.store(true, Ordering::Relaxed);
        self.mailbox.freed.wake();
        if let Some(thread) = self.thread.take() {
            // A panic was printed by the thread itself.
            let _ = thread.join();
        }
    }
}

fn run(target: &Target, mailbox: &Mailbox, stopped: &AtomicBool) {
    let mut pause = FIRST_PAUSE;
    let mut connected: Option<Instant> = None;
    // Relaxed: see where it is set.
    while !stopped.load(Ordering::Relaxed) {
        if !mailbox.is_free() {
            wait(mailbox, PollTimeout::NONE);
            continue;
        }
        if let Some(since) = connected.take() {
            if since.elapsed() >= LASTING {
                pause = FIRST_PAUSE;
            } else {
                pause_for(mailbox, &mut pause, stopped);
                continue;
            }
        }
        if let Target::AnySender(socket) = target {
            let mut watched = [
                PollFd::new(socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(mailbox.freed.as_fd(), PollFlags::POLLIN),
            ];
            // An interrupted call is repeated.
            let _ = poll(&mut watched, PollTimeout::NONE);
            mailbox.freed.drain();
        }
        match target.call(mailbox) {
            Ok(Some(wire)) => {
                mailbox.offer(wire);
                connected = Some(Instant::now());
            }
            Ok(None) => {}
            Err(error) => {
                mailbox.report(&NotConnected { target: target.to_string(), source: error });
                pause_for(mailbox, &mut pause, stopped);
            }
        }
    }
}

/// Waits for the port to be free, or for the end.
fn wait(mailbox: &Mailbox, timeout: PollTimeout) {
    let mut watched = [PollFd::new(mailbox.freed.as_fd(), PollFlags::POLLIN)];
    // An interrupted call is repeated.
    let _ = poll(&mut watched, timeout);
    mailbox.freed.drain();
}

fn pause_for(mailbox: &Mailbox, pause: &mut Duration, stopped: &AtomicBool) {
    let end = Instant::now() + *pause;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // Relaxed: see where it is set.
        if left.is_zero() || stopped.load(Ordering::Relaxed) {
            break;
        }
        wait(mailbox, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    }
    *pause = (*pause * 2).min(LAST_PAUSE);
}

/// Connects to a TCP server. Returns `None` when the port ends meanwhile.
fn connect_tcp(address: InetAddr, mailbox: &Mailbox) -> io::Result<Option<TcpStream>> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) => return Ok(Some(socket.into())),
        Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut watched = [
        PollFd::new(socket.as_fd(), PollFlags::POLLOUT),
        PollFd::new(mailbox.freed.as_fd(), PollFlags::POLLIN),
    ];
    let timeout = PollTimeout::try_from(TCP_TIMEOUT).unwrap_or(PollTimeout::MAX);
    match poll(&mut watched, timeout) {
        Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
        // While the port has no connection, only its end frees it.
        Ok(_) if !watched[0].any().unwrap_or(true) => {
            mailbox.freed.drain();
            return Ok(None);
        }
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    match getsockopt(&socket, sockopt::SocketError)? {
        0 => Ok(Some(socket.into())),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(address, _) | Self::Datagrams(_, address) => address.fmt(f),
            Self::Tcp(address) => address.fmt(f),
            Self::AnySender(_) => f.write_str("the peer"),
        }
    }
}

impl Target {
    /// Makes a connection, if that is possible now.
    fn call(&self, mailbox: &Mailbox) -> io::Result<Option<Wire>> {
        match self {
            Self::Unix(address, kind) => {
                let socket = unix_socket(*kind)?;
                connect(socket.as_raw_fd(), &unix_addr(address)?)?;
                Ok(Some(Wire::connected(socket)))
            }
            Self::Tcp(address) => {
                let Some(socket) = connect_tcp(*address, mailbox)? else { return Ok(None) };
                Wire::tcp(socket).map(Some)
            }
            Self::Datagrams(socket, peer) => {
                // The peer may be bound anew under its name at any time, so this end is not
                // connected; that a peer is there shows a connection of another socket.
                let to = unix_addr(peer)?;
                match connect(unix_socket(SockType::Datagram)?.as_raw_fd(), &to) {
                    // The peer is connected itself.
                    Ok(()) | Err(Errno::EPERM) => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(Some(Wire { to: Some(to), ..Wire::connected(socket.try_clone()?) }))
            }
            Self::AnySender(socket) => {
                let mut byte = [0];
                let mut slices = [IoSliceMut::new(&mut byte)];
                let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
                let first = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, None, flags);
                let sender = match first {
                    Ok(datagram) => datagram.address,
                    Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                if let Some(to) = sender.filter(|to| to.path_len() > 0) {
                    return Ok(Some(Wire { to: Some(to), ..Wire::connected(socket.try_clone()?) }));
                }
                // No answer can reach a sender without an address.
                recv(socket.as_raw_fd(), &mut [], MsgFlags::MSG_DONTWAIT)?;
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporter::Reporter;

    /// Wherever the thread waits: for a server that does not answer, or before the next attempt.
    #[test]
    fn no_thread_is_left_when_its_port_is_gone() {
        let nowhere = SocketAddr::path("/nonexistent/socket").unwrap();
        for target in [
            Target::Tcp(([192, 0, 2, 1], 9).into()),
            Target::Unix(nowhere, SockType::Stream),
            Target::AnySender(unix_socket(SockType::Datagram).unwrap()),
        ] {
            let mailbox =
                Arc::new(Mailbox::new("socket x".to_owned(), Reporter::default()).unwrap());
            let dialer = Dialer::start(target, &mailbox).unwrap();
            let begin = Instant::now();
            drop(dialer);
            assert_eq!(Arc::strong_count(&mailbox), 1, "the thread has ended");
            assert!(begin.elapsed() < TCP_TIMEOUT);
        }
    }
}
