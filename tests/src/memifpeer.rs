//! A memif peer of our own make, in the test itself: the crate `memif` with one interface and one queue each way, as simple to
//! use as a pipe.

use std::path::Path;
use std::time::Duration;

use memif::{Client, Event, Link, Options, Server, SocketAddr};

use crate::{PATIENCE, frames, privilege, wait};

/// How often a ring is looked at: it comes round faster than other things that are waited for.
const LOOK: Duration = Duration::from_micros(50);

/// A connected memif interface.
pub struct MemifPeer {
    link: Link,
    // The link lives as long as its endpoint.
    _endpoint: Endpoint,
}

enum Endpoint {
    // Boxed: each is some hundred bytes.
    Client(Box<Client>),
    Server(Box<Server>),
}

impl Endpoint {
    fn ready(&mut self) -> Option<Event> {
        match self {
            Self::Client(client) => client.ready(),
            Self::Server(server) => server.ready(),
        }
        .expect("the endpoint's own descriptors work")
    }
}

/// A memif server that waits for its first client.
pub struct Listening(Endpoint);

impl Listening {
    /// Listens on `socket`, which the children may call.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn on(socket: &Path, options: Options) -> Self {
        let mut server = Server::bind(&address(socket)).expect("bind the memif socket");
        privilege::hand_over(socket);
        server.add(options).expect("valid options");
        Self(Endpoint::Server(Box::new(server)))
    }

    /// Waits for a client.
    ///
    /// # Panics
    /// When none comes.
    #[must_use]
    pub fn accept(self) -> MemifPeer {
        MemifPeer::connected(self.0)
    }
}

impl MemifPeer {
    /// Calls the server on `socket`, and waits until it is connected.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn client(socket: &Path, options: Options) -> Self {
        let client = Client::new(&address(socket), options).expect("valid options");
        Self::connected(Endpoint::Client(Box::new(client)))
    }

    fn connected(mut endpoint: Endpoint) -> Self {
        let mut told = Vec::new();
        let link = wait::poll(PATIENCE, || match endpoint.ready()? {
            Event::Connected { link, .. } => Some(link),
            other => {
                told.push(other);
                None
            }
        });
        match link {
            Some((link, _)) => Self { link, _endpoint: endpoint },
            None => panic!("no memif connection: {told:?}"),
        }
    }

    /// Sends the first of `frames`, as many as there is room for, and returns how many that were.
    ///
    /// # Panics
    /// When the link is down.
    pub fn send_some<F: AsRef<[u8]>>(&mut self, frames: impl IntoIterator<Item = F>) -> usize {
        let mut burst = self.link.tx[0].burst().expect("the link is up");
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
    /// When the link goes down, or there is no room within [`PATIENCE`].
    pub fn send_all<F: AsRef<[u8]>>(&mut self, frames: &[F]) {
        let mut sent = 0;
        let all = wait::poll_every(LOOK, PATIENCE, || {
            sent += self.send_some(&frames[sent..]);
            (sent == frames.len()).then_some(())
        });
        assert!(all.is_some(), "room for {sent} of {} frames", frames.len());
    }

    /// Waits until frames get through to `other`, and everything sent for that has arrived.
    ///
    /// A peer knows that it is connected a moment before or after the node it is connected to does, and a frame for a port whose
    /// link is not up yet is lost, as on a cable that is not plugged in.
    ///
    /// # Panics
    /// When no frame gets through.
    pub fn reach(&mut self, other: &mut Self) {
        let mut number = 0;
        let mut seen = None;
        let through = wait::poll(PATIENCE, || {
            self.send_some([frames::numbered(60, number)]);
            number += 1;
            other.receive(|frame| seen = frames::number_of(frame));
            seen
        });
        assert!(through.is_some(), "no frame gets through");
        // Behind the last one nothing is on its way any more.
        self.send_all(&[frames::numbered(60, number)]);
        let last = wait::poll(PATIENCE, || {
            other.receive(|frame| seen = frames::number_of(frame));
            (seen == Some(number)).then_some(())
        });
        assert!(last.is_some(), "frame {number} does not get through, after {seen:?} did");
    }

    /// Hands every frame that has come to `take`; returns how many there were.
    ///
    /// # Panics
    /// When the link is down.
    pub fn receive(&mut self, mut take: impl FnMut(&[u8])) -> usize {
        let mut frame = [0; 2048];
        let burst = self.link.rx[0].burst(256).expect("the link is up");
        for packet in &burst {
            assert!(packet.len() <= frame.len(), "a packet of {} bytes", packet.len());
            let len = packet.copy_to(&mut frame);
            take(&frame[..len]);
        }
        burst.len()
    }

    /// The next `count` frames.
    ///
    /// # Panics
    /// When they do not come within [`PATIENCE`].
    #[must_use]
    pub fn receive_exactly(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        let all = wait::poll_every(LOOK, PATIENCE, || {
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
