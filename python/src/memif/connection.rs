//! The thread that serves a connection: a program of Python need not call anything for its peer to
//! connect, or to connect again.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use ::memif::{Client, Event, Server, Waker};

use super::mailbox::Mailbox;

/// The library's end of a socket. Boxed: each has some hundred bytes.
pub(super) enum Endpoint {
    Client(Box<Client>),
    Server(Box<Server>),
}

impl Endpoint {
    fn wait(&mut self) -> Result<Option<Event>, ::memif::Error> {
        match self {
            Self::Client(client) => client.wait(None),
            Self::Server(server) => server.wait(None),
        }
    }

    fn waker(&self) -> Waker {
        match self {
            Self::Client(client) => client.waker(),
            Self::Server(server) => server.waker(),
        }
    }
}

/// A connection that is served. The thread ends when it is dropped, and the link with it.
pub(super) struct Connection {
    mailbox: Arc<Mailbox>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Connection {
    /// Starts the thread.
    pub(super) fn serve(endpoint: Endpoint) -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox::new()?);
        let (theirs, waker) = (Arc::clone(&mailbox), endpoint.waker());
        let thread = std::thread::Builder::new()
            .name("memif".to_owned())
            .spawn(move || serve(endpoint, &theirs))?;
        Ok(Self { mailbox, waker, thread: Some(thread) })
    }

    /// Where the link comes from.
    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.mailbox.stop();
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // It has panicked at worst, and is over.
            let _ = thread.join();
        }
    }
}

fn serve(mut endpoint: Endpoint, mailbox: &Mailbox) {
    while !mailbox.is_stopped() {
        match endpoint.wait() {
            Ok(Some(Event::Connected { link, .. })) => mailbox.up(link),
            Ok(Some(Event::Disconnected { reason, .. })) => mailbox.down(reason.to_string()),
            Ok(Some(Event::Rejected { reason, .. })) => mailbox.rejected(reason.to_string()),
            Ok(_) => {}
            Err(error) => {
                mailbox.fail(super::explained(&error));
                return;
            }
        }
    }
}
