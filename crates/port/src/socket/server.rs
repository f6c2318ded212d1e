//! A listening socket, whose clients each get a port of their own.

use std::io;
use std::net::{SocketAddr as InetAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use memif::SocketAddr;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::SockType;
use sockpath::SocketFile;

use super::connection::Wire;
use super::mailbox::{Mailbox, lock};
use super::unix::listen_at;
use crate::error::SocketFileError;
use crate::wake_fd::WakeFd;

/// How long a client waits for a port whose earlier client has just gone.
const FREE_TIMEOUT: Duration = Duration::from_millis(50);
/// The pause after an error that would repeat at once, such as too many open files.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens.
#[derive(Debug)]
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    fn accept(&self) -> io::Result<Wire> {
        match self {
            Self::Unix(listener) => {
                listener.accept().map(|(socket, _)| Wire::connected(socket.into()))
            }
            Self::Tcp(listener) => Wire::tcp(listener.accept()?.0),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// A further client came while each port had one.
#[derive(Debug, thiserror::Error)]
#[error("a further client was turned away: {0}; clients=N makes room for N")]
struct NoFreePort(&'static str);

/// The kernel does not hand over a client.
#[derive(Debug, thiserror::Error)]
#[error("a client cannot be accepted")]
struct NotAccepted(#[source] io::Error);

/// See the module. Dropping it ends the listening, and removes the socket's file.
#[derive(Debug)]
pub(super) struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    _file: Option<SocketFile>,
}

/// What a server shares with its thread.
#[derive(Debug)]
struct Shared {
    listener: Listener,
    mailboxes: Mutex<Vec<Weak<Mailbox>>>,
    stop: WakeFd,
    stopped: AtomicBool,
}

impl Server {
    /// Listens on a Unix socket.
    pub(super) fn unix(address: &SocketAddr, kind: SockType) -> Result<Self, SocketFileError> {
        let (socket, file) = listen_at(address, kind)?;
        Ok(Self::start(Listener::Unix(socket.into()), file)?)
    }

    /// Listens on a TCP socket.
    pub(super) fn tcp(address: InetAddr) -> Result<Self, SocketFileError> {
        let listener = TcpListener::bind(address).map_err(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                SocketFileError::InUse
            } else {
                error.into()
            }
        })?;
        listener.set_nonblocking(true)?;
        Ok(Self::start(Listener::Tcp(listener), None)?)
    }

    fn start(listener: Listener, file: Option<SocketFile>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            listener,
            mailboxes: Mutex::default(),
            stop: WakeFd::new()?,
            stopped: false.into(),
        });
        let thread = thread::Builder::new().name("socket server".to_owned());
        let thread = thread.spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        })?;
        Ok(Self { shared, thread: Some(thread), _file: file })
    }

    /// Adds a port, which gets a client from now on.
    pub(super) fn add(&self, mailbox: &Arc<Mailbox>) {
        let mut mailboxes = lock(&self.shared.mailboxes);
        mailboxes.retain(|mailbox| mailbox.strong_count() > 0);
        mailboxes.push(Arc::downgrade(mailbox));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.stop.wake();
        if let Some(thread) = self.thread.take() {
            // A panic was printed by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_stopped(&self) -> bool {
        // Relaxed: the flag orders nothing, and the thread is woken after it is set.
        self.stopped.load(Ordering::Relaxed)
    }

    fn run(&self) {
        while !self.is_stopped() {
            self.wait(&[self.listener.as_fd()], None);
            match self.listener.accept() {
                Ok(client) => self.hand_over(client),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::Interrupted
                            | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    if let Some(mailbox) = self.mailboxes().first() {
                        mailbox.report(&NotAccepted(error));
                    }
                    self.wait(&[], Some(ERROR_PAUSE));
                }
            }
        }
    }

    /// Waits until one of `descriptors` polls readable, the server is stopped, or the time is over.
    fn wait(&self, descriptors: &[BorrowedFd<'_>], time: Option<Duration>) {
        let all = descriptors.iter().copied().chain([self.stop.as_fd()]);
        let mut watched: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let timeout = time.map_or(PollTimeout::NONE, |time| {
            PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)
        });
        // The callers look again after an interrupted call.
        let _ = poll(&mut watched, timeout);
    }

    fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        lock(&self.mailboxes).iter().filter_map(Weak::upgrade).collect()
    }

    /// Gives a client to a free port, or turns it away.
    fn hand_over(&self, client: Wire) {
        let begin = Instant::now();
        loop {
            let mailboxes = self.mailboxes();
            // In this order: a port that becomes free in between ends the wait.
            for mailbox in &mailboxes {
                mailbox.freed.drain();
            }
            if let Some(mailbox) = mailboxes.iter().find(|mailbox| mailbox.is_free()) {
                return mailbox.offer(client);
            }
            let left = FREE_TIMEOUT.saturating_sub(begin.elapsed());
            if left.is_zero() || self.is_stopped() {
                if let Some(mailbox) = mailboxes.last() {
                    mailbox.count_refusal();
                    let several = mailboxes.len() > 1;
                    mailbox.report(&NoFreePort(if several {
                        "all ports have one"
                    } else {
                        "this port has one"
                    }));
                }
                return;
            }
            let freed: Vec<_> = mailboxes.iter().map(|mailbox| mailbox.freed.as_fd()).collect();
            self.wait(&freed, Some(left));
        }
    }
}
