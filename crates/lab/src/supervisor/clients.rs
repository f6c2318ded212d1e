//! The clients of a supervisor, on its control socket.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::error::{LabError, at};
use crate::folder::{Folder, short};
use crate::protocol::{Reply, Request};
use crate::wire::Wire;

/// The most clients at a time. A further one waits until another has gone.
const MAX_CLIENTS: usize = 256;
/// How long a client that does not read may keep the lab from its work.
const SEND_TIMEOUT: Duration = Duration::from_millis(200);

/// A client, also when it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientId(u64);

/// See the module.
pub(super) struct Clients {
    listener: Option<UnixListener>,
    connected: Vec<Client>,
    last_id: u64,
}

struct Client {
    id: ClientId,
    wire: Wire,
    follows: Follows,
}

/// Whether a client hears of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    No,
    /// It has heard nothing yet.
    New,
    Yes,
}

impl Clients {
    /// Makes the socket.
    pub(super) fn listen(folder: &Folder) -> Result<Self, LabError> {
        let path = folder.control();
        let (_folder, short) = short(&path).map_err(at("open", folder.path()))?;
        let listener = UnixListener::bind(short).map_err(at("listen on", &path))?;
        listener.set_nonblocking(true).map_err(at("listen on", &path))?;
        Ok(Self { listener: Some(listener), connected: Vec::new(), last_id: 0 })
    }

    /// Takes no further clients.
    pub(super) fn close(&mut self) {
        self.listener = None;
    }

    /// Returns what polls readable when a client has come, has sent something, or is gone.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listener = self.listener.as_ref().filter(|_| self.connected.len() < MAX_CLIENTS);
        let clients = self.connected.iter().map(|client| client.wire.as_fd());
        clients.chain(listener.map(|listener| listener.as_fd()))
    }

    /// Returns the requests that have arrived.
    pub(super) fn requests(&mut self) -> Vec<(ClientId, Request)> {
        self.accept();
        let mut requests = Vec::new();
        self.connected.retain_mut(|client| {
            let is_there = matches!(client.wire.fill_now(), Ok(true));
            loop {
                match client.wire.next() {
                    Ok(Some((request, _))) => requests.push((client.id, request)),
                    Ok(None) => return is_there,
                    // One that speaks another protocol.
                    Err(_) => return false,
                }
            }
        });
        requests
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        while self.connected.len() < MAX_CLIENTS
            && let Ok((socket, _)) = listener.accept()
        {
            let is_set = socket.set_write_timeout(Some(SEND_TIMEOUT));
            if is_set.is_ok() {
                self.last_id += 1;
                let id = ClientId(self.last_id);
                self.connected.push(Client { id, wire: Wire::new(socket), follows: Follows::No });
            }
        }
    }

    /// Answers a client. One that does not read is dropped.
    pub(super) fn answer(&mut self, id: ClientId, reply: &Reply, beside: &[BorrowedFd<'_>]) {
        self.connected
            .retain_mut(|client| client.id != id || client.wire.send(reply, beside).is_ok());
    }

    /// Lets a client hear of changes from now on.
    pub(super) fn follow(&mut self, id: ClientId) {
        for client in self.connected.iter_mut().filter(|client| client.id == id) {
            client.follows = Follows::New;
        }
    }

    pub(super) fn has_followers(&self) -> bool {
        self.connected.iter().any(|client| client.follows != Follows::No)
    }

    pub(super) fn has_new_followers(&self) -> bool {
        self.connected.iter().any(|client| client.follows == Follows::New)
    }

    /// Sends to all that hear of changes. Those that do not read are dropped.
    pub(super) fn tell(&mut self, reply: &Reply) {
        self.connected.retain_mut(|client| {
            if client.follows == Follows::No {
                return true;
            }
            client.follows = Follows::Yes;
            let sent: io::Result<()> = client.wire.send(reply, &[]);
            sent.is_ok()
        });
    }
}
