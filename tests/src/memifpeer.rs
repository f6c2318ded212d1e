//! A memif peer inside the test: the crate `memif` with one interface and one queue each way, as
//! simple to use as a pipe.

use std::path::Path;
use std::time::Duration;

use memif::{
    Client, ClientOptions, Details, DisconnectReason, Event, InterfaceOptions, Link, Rejection,
    Server, SocketAddr, SocketOptions,
};

use crate::{WAIT_TIMEOUT, frames, privilege, wait};

/// How often a ring is polled. Rings change faster than the other things that tests wait for.
const POLL_INTERVAL: Duration = Duration::from_micros(50);

/// A connected memif interface.
pub struct MemifPeer {
    link: Link,
    /// The queue in use, in both directions.
    queue: usize,
    // The link lives as long as its endpoint.
    endpoint: Endpoint,
}

enum Endpoint {
    // Boxed, because each takes some hundred bytes.
    Client(Box<Client>),
    Server(Box<Server>),
}

impl Endpoint {
    fn calling(address: &SocketAddr, options: ClientOptions) -> Self {
        Self::Client(Box::new(Client::new(address, options).expect("valid options")))
    }

    fn ready(&mut self) -> Option<Event> {
        match self {
            Self::Client(client) => client.ready(),
            Self::Server(server) => server.ready(),
        }
        .expect("the endpoint's own descriptors work")
    }

    fn next_link(&mut self) -> Link {
        let mut events = Vec::new();
        let link = wait::poll(WAIT_TIMEOUT, || match self.ready()? {
            Event::Connected { link, .. } => Some(link),
            other => {
                events.push(other);
                None
            }
        });
        let Some((link, _)) = link else { panic!("no memif connection: {events:?}") };
        link
    }

    fn refusal(&mut self) -> Rejection {
        let refusal = wait::poll(WAIT_TIMEOUT, || match self.ready()? {
            Event::Rejected { reason, .. } => Some(reason),
            _ => None,
        });
        refusal.expect("a client is refused").0
    }
}

/// A memif server that waits for its first client.
pub struct Listening(Endpoint);

impl Listening {
    /// Listens on `socket`, to which the children can connect.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn on(socket: &Path, options: InterfaceOptions) -> Self {
        let listening = Self::at(&address(socket), options);
        privilege::hand_over(socket);
        listening
    }

    /// Listens at any address.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn at(address: &SocketAddr, options: InterfaceOptions) -> Self {
        let mut server =
            Server::bind(address, SocketOptions::new()).expect("bind the memif socket");
        server.add(options).expect("valid options");
        Self(Endpoint::Server(Box::new(server)))
    }

    /// Waits for a client and returns the connected peer.
    ///
    /// # Panics
    /// When none comes within [`WAIT_TIMEOUT`].
    #[must_use]
    pub fn accept(mut self) -> MemifPeer {
        let link = self.0.next_link();
        MemifPeer { link, queue: 0, endpoint: self.0 }
    }

    /// Waits until a client is refused, and returns the reason.
    ///
    /// # Panics
    /// When no client is refused within [`WAIT_TIMEOUT`].
    #[must_use]
    pub fn refuse(&mut self) -> Rejection {
        self.0.refusal()
    }
}

impl MemifPeer {
    /// Connects to the server on `socket`, and waits for the link.
    ///
    /// # Panics
    /// When this takes longer than [`WAIT_TIMEOUT`].
    #[must_use]
    pub fn client(socket: &Path, options: ClientOptions) -> Self {
        Self::client_at(&address(socket), options)
    }

    /// Connects to the server at any address, and waits for the link.
    ///
    /// # Panics
    /// When it does not connect within [`WAIT_TIMEOUT`].
    #[must_use]
    pub fn client_at(address: &SocketAddr, options: ClientOptions) -> Self {
        let mut endpoint = Endpoint::calling(address, options);
        let link = endpoint.next_link();
        Self { link, queue: 0, endpoint }
    }

    /// Connects to a server that refuses it, and returns the reason.
    ///
    /// # Panics
    /// When it is not refused within [`WAIT_TIMEOUT`].
    #[must_use]
    pub fn turned_away(socket: &Path, options: ClientOptions) -> Rejection {
        Endpoint::calling(&address(socket), options).refusal()
    }

    /// Returns the link, for operations that this type does not offer.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Returns the details of the interface.
    ///
    /// # Panics
    /// Never: the interface exists as long as this peer.
    #[must_use]
    pub fn details(&self) -> Details {
        match &self.endpoint {
            Endpoint::Client(client) => client.details(),
            Endpoint::Server(server) => {
                server.details(server.ids()[0]).expect("its only interface")
            }
        }
    }

    /// Uses this queue from now on, in both directions.
    pub fn use_queue(&mut self, queue: usize) {
        self.queue = queue;
    }

    /// Disconnects. Both endpoints stay and can connect again.
    ///
    /// # Panics
    /// When there is no connection.
    pub fn hang_up(&mut self) {
        let hung_up = match &mut self.endpoint {
            Endpoint::Client(client) => client.disconnect("a test hangs up"),
            Endpoint::Server(server) => server.disconnect(server.ids()[0], "a test hangs up"),
        };
        assert!(hung_up, "there was no connection");
        let _ = self.loss();
        if let Endpoint::Client(client) = &mut self.endpoint {
            client.connect();
        }
    }

    /// Waits until the connection is lost, and returns the reason.
    ///
    /// # Panics
    /// When this takes longer than [`WAIT_TIMEOUT`].
    pub fn loss(&mut self) -> DisconnectReason {
        let loss = wait::poll(WAIT_TIMEOUT, || match self.endpoint.ready()? {
            Event::Disconnected { reason, .. } => Some(reason),
            _ => None,
        });
        loss.expect("the connection is lost").0
    }

    /// Waits until there is a connection again.
    ///
    /// # Panics
    /// When none comes within [`WAIT_TIMEOUT`].
    pub fn come_back(&mut self) {
        self.link = self.endpoint.next_link();
        // The previous link is dropped now, so one more pass lets the endpoint release all of it.
        let more = match &mut self.endpoint {
            Endpoint::Client(client) => client.wait(Some(Duration::ZERO)),
            Endpoint::Server(server) => server.wait(Some(Duration::ZERO)),
        };
        assert!(more.expect("the endpoint's own descriptors work").is_none(), "no further event");
    }

    /// Sends as many of `frames` as there is room for, in order, and returns how many it sent.
    ///
    /// # Panics
    /// When the link is down.
    pub fn send_some<F: AsRef<[u8]>>(&mut self, frames: impl IntoIterator<Item = F>) -> usize {
        let mut burst = self.link.tx[self.queue].burst().expect("the link is up");
        for frame in frames {
            if !burst.push(frame.as_ref()) {
                break;
            }
        }
        burst.publish()
    }

    /// Sends all of `frames`, waiting for room.
    ///
    /// # Panics
    /// When the link goes down, or there is no room within [`WAIT_TIMEOUT`].
    pub fn send_all<F: AsRef<[u8]>>(&mut self, frames: &[F]) {
        let mut sent = 0;
        let all = wait::poll_every(POLL_INTERVAL, WAIT_TIMEOUT, || {
            sent += self.send_some(&frames[sent..]);
            (sent == frames.len()).then_some(())
        });
        assert!(all.is_some(), "room for {sent} of {} frames", frames.len());
    }

    /// Waits until frames reach `other` and every frame sent for this has arrived.
    ///
    /// A peer and the node it connects to notice the link at slightly different times. A frame for
    /// a port whose link is not up yet is lost, as on an unplugged cable.
    ///
    /// # Panics
    /// When no frame gets through.
    pub fn reach(&mut self, other: &mut Self) {
        let mut number = 0;
        let mut seen = None;
        let through = wait::poll(WAIT_TIMEOUT, || {
            self.send_some([frames::numbered(60, number)]);
            number += 1;
            other.receive(|frame| seen = frames::number_of(frame));
            seen
        });
        assert!(through.is_some(), "no frame gets through");
        // Frames arrive in order: after the last one, none is in flight.
        self.send_all(&[frames::numbered(60, number)]);
        let last = wait::poll(WAIT_TIMEOUT, || {
            other.receive(|frame| seen = frames::number_of(frame));
            (seen == Some(number)).then_some(())
        });
        assert!(last.is_some(), "frame {number} does not get through, after {seen:?} did");
    }

    /// Passes every received frame to `take`, and returns how many there were.
    ///
    /// # Panics
    /// When the link is down.
    pub fn receive(&mut self, mut take: impl FnMut(&[u8])) -> usize {
        let mut frame = [0; 4_096];
        let burst = self.link.rx[self.queue].burst(256).expect("the link is up");
        for packet in &burst {
            assert!(packet.len() <= frame.len(), "a packet of {} bytes", packet.len());
            let len = packet.copy_to(&mut frame);
            take(&frame[..len]);
        }
        burst.len()
    }

    /// Waits for the next `count` frames and returns them.
    ///
    /// # Panics
    /// When they do not come within [`WAIT_TIMEOUT`].
    #[must_use]
    pub fn receive_exactly(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        let all = wait::poll_every(POLL_INTERVAL, WAIT_TIMEOUT, || {
            self.receive(|frame| got.push(frame.to_vec()));
            (got.len() >= count).then_some(())
        });
        assert!(all.is_some(), "{} of {count} frames came", got.len());
        got
    }
}

fn address(socket: &Path) -> SocketAddr {
    SocketAddr::path(socket).expect("a short path")
}
