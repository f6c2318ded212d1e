//! The server's half of the handshake: messages and descriptors in, answers out.
//!
//! It answers each message at once, so it serves clients that wait for every answer as well as
//! those that send ahead. It does no I/O: a [`Host`] decides who may connect, and maps the memory.

use super::layout::{check_rings, direction};
use crate::error::{ProtocolError, Rejection, RingError};
use crate::format::message::{AddRing, Hello, Init, Message, Name};
use crate::format::{MAX_LOG2_RING_SIZE_ACCEPTED, MAX_REGIONS, VERSION};

/// What the handshake needs from its endpoint.
pub(crate) trait Host {
    /// A file descriptor.
    type Fd;
    /// A mapped region.
    type Region;

    /// Reserves the interface that an INIT asks for, or rejects it. The version is checked already.
    fn admit(&mut self, init: &Init) -> Result<Limits, Rejection>;

    /// Maps a region; returns it and the number of its bytes that descriptors reach.
    fn map(
        &mut self,
        index: u16,
        fd: Self::Fd,
        size: u64,
    ) -> Result<(Self::Region, u64), ProtocolError>;

    /// Returns whether the descriptor can wake a peer. What cannot is not kept.
    fn can_interrupt(&self, fd: &Self::Fd) -> bool;
}

/// The most rings in each direction for one interface.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) s2m: u16,
    pub(crate) m2s: u16,
}

/// The complete setup of a client, checked as far as its messages go.
#[derive(Debug)]
pub(crate) struct Setup<F, R> {
    pub(crate) id: u32,
    pub(crate) app_name: Name,
    pub(crate) name: Name,
    pub(crate) regions: Vec<R>,
    /// S2M rings first, each direction by index.
    pub(crate) rings: Vec<(AddRing, F)>,
}

/// What to do after a message.
#[derive(Debug)]
pub(crate) enum Step<F, R> {
    /// Send this.
    Answer(Message),
    /// Build the link, and then send CONNECTED.
    Establish(Setup<F, R>),
    /// End the connection: the client sent DISCONNECT with this reason.
    Disconnected(String),
}

/// The server's half of one handshake.
#[derive(Debug)]
pub(crate) struct ServerHandshake<F, R> {
    state: State<F, R>,
}

#[derive(Debug)]
enum State<F, R> {
    Hello,
    Building(Box<Building<F, R>>),
    Up,
}

#[derive(Debug)]
struct Building<F, R> {
    id: u32,
    app_name: Name,
    limits: Limits,
    regions: Vec<R>,
    sizes: Vec<u64>,
    s2m: Vec<(AddRing, F)>,
    m2s: Vec<(AddRing, F)>,
}

/// Returns the first message to any client.
pub(crate) fn hello(app_name: &str, limits: Limits) -> Message {
    Message::Hello(Hello {
        app_name: Name::new(app_name),
        min_version: VERSION,
        max_version: VERSION,
        max_region: MAX_REGIONS - 1,
        max_m2s_ring: limits.m2s.saturating_sub(1),
        max_s2m_ring: limits.s2m.saturating_sub(1),
        // VPP lays its rings out by this number, and announces what it was configured with: one less
        // here would make rings of 2^15 lie elsewhere than it says.
        max_log2_ring_size: MAX_LOG2_RING_SIZE_ACCEPTED,
    })
}

impl<F, R> ServerHandshake<F, R> {
    /// Starts the handshake of a connection on which HELLO was sent.
    pub(crate) fn new() -> Self {
        Self { state: State::Hello }
    }

    /// Handles the next message. After an error the connection is over: the error's text is the
    /// reason to send.
    pub(crate) fn receive<H>(
        &mut self,
        message: Message,
        fds: Vec<F>,
        host: &mut H,
    ) -> Result<Step<F, R>, Rejection>
    where
        H: Host<Fd = F, Region = R>,
    {
        let kind = message.kind();
        let fd = take_fd(&message, fds)?;
        match (&mut self.state, message, fd) {
            (_, Message::Disconnect { reason, .. }, _) => {
                Ok(Step::Disconnected(reason.to_string()))
            }
            (State::Hello, Message::Init(init), _) => {
                if init.version != VERSION {
                    return Err(
                        ProtocolError::Version { min: init.version, max: init.version }.into()
                    );
                }
                let limits = host.admit(&init)?;
                self.state = State::Building(Box::new(Building::new(&init, limits)));
                Ok(Step::Answer(Message::Ack))
            }
            (State::Building(building), Message::AddRegion { index, size }, Some(fd)) => {
                building.add_region(index, size, fd, host)?;
                Ok(Step::Answer(Message::Ack))
            }
            (State::Building(building), Message::AddRing(ring), Some(fd)) => {
                building.add_ring(ring, fd, host)?;
                Ok(Step::Answer(Message::Ack))
            }
            (State::Building(building), Message::Connect { name }, _) => {
                let setup = building.finish(name)?;
                self.state = State::Up;
                Ok(Step::Establish(setup))
            }
            (state, ..) => {
                Err(ProtocolError::OutOfTurn { message: kind, state: state.name() }.into())
            }
        }
    }
}

/// Returns the descriptor of a message that carries one; any other number of descriptors is an
/// error.
fn take_fd<F>(message: &Message, mut fds: Vec<F>) -> Result<Option<F>, ProtocolError> {
    if fds.len() == message.fds() { Ok(fds.pop()) } else { Err(message.fd_count(fds.len())) }
}

impl<F, R> State<F, R> {
    fn name(&self) -> &'static str {
        match self {
            Self::Hello => "expected INIT",
            Self::Building(_) => "after INIT",
            Self::Up => "after CONNECTED",
        }
    }
}

impl<F, R> Building<F, R> {
    fn new(init: &Init, limits: Limits) -> Self {
        let app_name = init.app_name;
        let (regions, sizes) = (Vec::new(), Vec::new());
        Self { id: init.id, app_name, limits, regions, sizes, s2m: Vec::new(), m2s: Vec::new() }
    }

    fn add_region<H>(
        &mut self,
        index: u16,
        size: u64,
        fd: F,
        host: &mut H,
    ) -> Result<(), ProtocolError>
    where
        H: Host<Fd = F, Region = R>,
    {
        let want = u16::try_from(self.regions.len()).unwrap_or(u16::MAX);
        if want >= MAX_REGIONS {
            return Err(ProtocolError::RegionCount { max: MAX_REGIONS });
        }
        if index != want {
            return Err(ProtocolError::RegionIndex { got: index, want });
        }
        let (region, reach) = host.map(index, fd, size)?;
        self.regions.push(region);
        self.sizes.push(reach);
        Ok(())
    }

    fn add_ring<H>(&mut self, ring: AddRing, fd: F, host: &H) -> Result<(), ProtocolError>
    where
        H: Host<Fd = F, Region = R>,
    {
        let (rings, max) = if ring.s2m {
            (&mut self.s2m, self.limits.s2m)
        } else {
            (&mut self.m2s, self.limits.m2s)
        };
        let want = u16::try_from(rings.len()).unwrap_or(u16::MAX);
        let cause = if want >= max {
            RingError::Count { max }
        } else if ring.index != want {
            RingError::Index { want }
        } else if ring.log2_size > MAX_LOG2_RING_SIZE_ACCEPTED {
            RingError::Size { log2_size: ring.log2_size }
        } else if ring.private_header != 0 {
            RingError::PrivateHeader { bytes: ring.private_header }
        } else if !host.can_interrupt(&fd) {
            RingError::NotEventFd
        } else {
            rings.push((ring, fd));
            return Ok(());
        };
        Err(ProtocolError::Ring { direction: direction(ring.s2m), index: ring.index, cause })
    }

    fn finish(&mut self, name: Name) -> Result<Setup<F, R>, ProtocolError> {
        for (s2m, rings) in [(true, &self.s2m), (false, &self.m2s)] {
            if rings.is_empty() {
                return Err(ProtocolError::NoRing { direction: direction(s2m) });
            }
        }
        let mut rings = std::mem::take(&mut self.s2m);
        rings.append(&mut self.m2s);
        let places: Vec<AddRing> = rings.iter().map(|(ring, _)| *ring).collect();
        check_rings(&self.sizes, &places)?;
        let regions = std::mem::take(&mut self.regions);
        Ok(Setup { id: self.id, app_name: self.app_name, name, regions, rings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::secret::Secret;
    use proptest::prelude::*;

    struct Anyone;

    impl Host for Anyone {
        type Fd = u32;
        type Region = u64;
        fn admit(&mut self, init: &Init) -> Result<Limits, Rejection> {
            if init.id == 7 {
                Ok(Limits { s2m: 2, m2s: 2 })
            } else {
                Err(Rejection::UnknownId { id: init.id })
            }
        }
        fn map(&mut self, index: u16, _fd: u32, size: u64) -> Result<(u64, u64), ProtocolError> {
            if size == 0 {
                Err(ProtocolError::RegionSize { index, size, max: 1 << 36 })
            } else {
                Ok((size, size))
            }
        }
        fn can_interrupt(&self, _: &u32) -> bool {
            true
        }
    }

    fn init(id: u32) -> Message {
        let secret = Secret::from_wire([0; 24]);
        Message::Init(Init { version: VERSION, id, mode: 0, secret, app_name: Name::new("app") })
    }

    fn ring(s2m: bool, index: u16, offset: u32) -> Message {
        Message::AddRing(AddRing { s2m, index, region: 0, offset, log2_size: 3, private_header: 0 })
    }

    fn region(index: u16) -> Message {
        Message::AddRegion { index, size: 4_096 }
    }

    fn connect() -> Message {
        Message::Connect { name: Name::new("if0") }
    }

    /// Feeds messages, each with its number of descriptors; returns the last step or the
    /// rejection's text.
    fn play(messages: Vec<(Message, usize)>) -> Result<Step<u32, u64>, String> {
        let mut server = ServerHandshake::new();
        let mut last = Err("nothing".into());
        for (message, fds) in messages {
            last = server
                .receive(message, vec![9; fds], &mut Anyone)
                .map_err(|rejection| rejection.to_string());
            if last.is_err() {
                break;
            }
        }
        last
    }

    #[test]
    fn a_proper_client_gets_through() {
        let messages = vec![
            (init(7), 0),
            (region(0), 1),
            (ring(true, 0, 0), 1),
            (ring(false, 0, 256), 1),
            (connect(), 0),
        ];
        let Ok(Step::Establish(setup)) = play(messages) else { panic!("not established") };
        assert_eq!((setup.id, setup.regions.len(), setup.rings.len()), (7, 1, 2));
        assert!(setup.rings[0].0.s2m && !setup.rings[1].0.s2m);
    }

    #[test]
    fn every_invalid_message_is_rejected_by_name() {
        let bad_ring = |change: fn(&mut AddRing)| {
            let mut ring = AddRing {
                s2m: true,
                index: 0,
                region: 0,
                offset: 0,
                log2_size: 3,
                private_header: 0,
            };
            change(&mut ring);
            Message::AddRing(ring)
        };
        let all = |s2m: Message, m2s: Message, with_region: bool| {
            let mut messages =
                vec![(init(7), 0), (region(0), 1), (s2m, 1), (m2s, 1), (connect(), 0)];
            if !with_region {
                messages.remove(1);
            }
            messages
        };
        let up = |late: Message, fds: usize| {
            let mut messages = all(ring(true, 0, 0), ring(false, 0, 256), true);
            messages.push((late, fds));
            messages
        };
        let cases: Vec<(Vec<(Message, usize)>, &str)> = vec![
            (vec![(region(0), 1)], "ADD_REGION out of turn, expected INIT"),
            (vec![(ring(true, 0, 0), 1)], "ADD_RING out of turn, expected INIT"),
            (vec![(connect(), 0)], "CONNECT out of turn, expected INIT"),
            (vec![(Message::Ack, 0)], "ACK out of turn"),
            (vec![(init(7), 0), (init(7), 0)], "INIT out of turn, after INIT"),
            (vec![(init(8), 0)], "no interface with id 8"),
            (vec![(init(7), 1)], "INIT with 1 file descriptors, not 0"),
            (vec![(init(7), 0), (region(0), 0)], "ADD_REGION with 0 file descriptors, not 1"),
            (vec![(init(7), 0), (region(0), 3)], "ADD_REGION with 3 file descriptors, not 1"),
            (vec![(init(7), 0), (ring(true, 0, 0), 0)], "ADD_RING with 0 file descriptors, not 1"),
            (vec![(init(7), 0), (region(1), 1)], "region index 1, not 0"),
            (vec![(init(7), 0), (region(0), 1), (region(0), 1)], "region index 0, not 1"),
            (vec![(init(7), 0), (Message::AddRegion { index: 0, size: 0 }, 1)], "size of 0 bytes"),
            (vec![(init(7), 0), (ring(true, 1, 0), 1)], "S2M ring 1: out of turn, expected 0"),
            (
                vec![(init(7), 0), (ring(false, 0, 0), 1), (ring(false, 0, 0), 1)],
                "M2S ring 0: out of turn, expected 1",
            ),
            (
                vec![
                    (init(7), 0),
                    (ring(true, 0, 0), 1),
                    (ring(true, 1, 0), 1),
                    (ring(true, 2, 0), 1),
                ],
                "S2M ring 2: only 2 are allowed here",
            ),
            (vec![(init(7), 0), (bad_ring(|r| r.log2_size = 16), 1)], "log2 size 16 is too large"),
            (
                vec![(init(7), 0), (bad_ring(|r| r.private_header = 4), 1)],
                "private header of 4 bytes",
            ),
            (vec![(init(7), 0), (connect(), 0)], "no S2M ring"),
            (
                vec![(init(7), 0), (region(0), 1), (ring(true, 0, 0), 1), (connect(), 0)],
                "no M2S ring",
            ),
            (all(ring(true, 0, 0), ring(false, 0, 256), false), "region 0 does not exist"),
            (all(ring(true, 0, 8), ring(false, 0, 256), true), "not a multiple of 16"),
            (all(ring(true, 0, 4_000), ring(false, 0, 256), true), "outside its region"),
            (all(ring(true, 0, 0), ring(false, 0, 16), true), "M2S ring 0: overlaps another ring"),
            (up(connect(), 0), "CONNECT out of turn, after CONNECTED"),
            (up(region(1), 1), "ADD_REGION out of turn, after CONNECTED"),
        ];
        for (messages, text) in cases {
            let rejection = play(messages).expect_err(text);
            assert!(rejection.contains(text), "{rejection:?} should say {text:?}");
            assert!(rejection.len() < 96, "{rejection:?} must fit into a DISCONNECT");
        }
    }

    #[test]
    fn hello_announces_the_largest_ring_that_is_accepted() {
        let Message::Hello(hello) = hello("app", Limits { s2m: 1, m2s: 2 }) else {
            panic!("no HELLO")
        };
        assert_eq!((hello.max_s2m_ring, hello.max_m2s_ring), (0, 1));
        assert_eq!(hello.max_log2_ring_size, 15);
    }

    #[test]
    fn a_disconnect_is_read_at_any_time() {
        let disconnect =
            || Message::Disconnect { code: 0, reason: crate::format::message::Reason::new("done") };
        assert!(
            matches!(play(vec![(disconnect(), 0)]), Ok(Step::Disconnected(reason)) if reason == "done")
        );
        assert!(matches!(play(vec![(init(7), 0), (disconnect(), 0)]), Ok(Step::Disconnected(_))));
    }

    proptest! {
        /// Whatever arrives, the handshake answers or rejects; what it establishes is within
        /// bounds.
        #[test]
        fn any_messages_are_handled(
            packets in proptest::collection::vec((0u16..10, proptest::collection::vec(0u8..4, 126), 0usize..3), 0..20)
        ) {
            let mut server = ServerHandshake::new();
            let _ = server.receive(init(7), Vec::new(), &mut Anyone);
            for (kind, body, fds) in packets {
                let packet = [&kind.to_ne_bytes()[..], &body].concat();
                let Ok(message) = Message::decode(&packet) else { break };
                match server.receive(message, vec![1; fds], &mut Anyone) {
                    Ok(Step::Establish(setup)) => prop_assert!(setup.rings.len() <= 4),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
    }
}
