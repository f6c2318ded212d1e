//! The client's half of the handshake, in lock-step: each message is sent after the last one was
//! answered.
//!
//! It does no I/O: a [`Host`] builds the memory once the server's bounds are known.

use std::collections::VecDeque;

use crate::error::{ProtocolError, Rejection};
use crate::format::message::{AddRing, Hello, Init, Message, Name};
use crate::format::{MAX_LOG2_RING_SIZE, VERSION};

/// What the handshake needs from its endpoint.
pub(crate) trait Host {
    /// A file descriptor to send.
    type Fd;

    /// Builds memory within these bounds.
    fn build(&mut self, bounds: Bounds) -> Result<Offer<Self::Fd>, Rejection>;
}

/// How many rings of which size: those a client asks for, or the lesser of that and the server's
/// bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// S2M rings, at least 1.
    pub(crate) s2m: u16,
    /// M2S rings, at least 1.
    pub(crate) m2s: u16,
    pub(crate) log2_ring_size: u8,
}

/// Memory to announce to the server.
#[derive(Debug)]
pub(crate) struct Offer<F> {
    /// Size in bytes and file of each region.
    pub(crate) regions: Vec<(u64, F)>,
    /// S2M rings first, each direction by index.
    pub(crate) rings: Vec<(AddRing, F)>,
}

/// What to do after a message.
#[derive(Debug)]
pub(crate) enum Step<F> {
    /// Send this.
    Send(Message, Option<F>),
    /// Bring the link up: the server has checked and mapped everything.
    Up { app_name: Name, name: Name },
    /// End the connection: the server sent DISCONNECT with this reason.
    Disconnected(String),
}

/// The client's half of one handshake.
#[derive(Debug)]
pub(crate) struct ClientHandshake<F> {
    requested: Bounds,
    init: Init,
    name: Name,
    state: State<F>,
    unanswered: Option<&'static str>,
}

#[derive(Debug)]
enum State<F> {
    Hello,
    /// The messages still to be sent, each after the last one is answered; `app_name` is the
    /// server's.
    Building {
        app_name: Name,
        outbox: VecDeque<(Message, Option<F>)>,
    },
    Connecting {
        app_name: Name,
    },
    Up,
}

impl<F> ClientHandshake<F> {
    /// Starts the handshake of a new connection: `requested` is the most the client wants, `name`
    /// its interface's name.
    pub(crate) fn new(requested: Bounds, init: Init, name: Name) -> Self {
        Self { requested, init, name, state: State::Hello, unanswered: None }
    }

    /// Handles the next message. After an error the connection is over: the error's text is the
    /// reason to send.
    pub(crate) fn receive<H: Host<Fd = F>>(
        &mut self,
        message: Message,
        fds: usize,
        host: &mut H,
    ) -> Result<Step<F>, Rejection> {
        let step = self.step(message, fds, host);
        if let Ok(Step::Send(message, _)) = &step {
            self.unanswered = Some(message.kind());
        }
        step
    }

    /// Returns the name of the last message sent, which the server has not answered.
    pub(crate) fn unanswered(&self) -> Option<&'static str> {
        self.unanswered
    }

    fn step<H: Host<Fd = F>>(
        &mut self,
        message: Message,
        fds: usize,
        host: &mut H,
    ) -> Result<Step<F>, Rejection> {
        if fds != 0 {
            return Err(
                ProtocolError::FdCount { message: message.kind(), got: fds, want: 0 }.into()
            );
        }
        match (&mut self.state, message) {
            (_, Message::Disconnect { reason, .. }) => Ok(Step::Disconnected(reason.to_string())),
            (State::Hello, Message::Hello(hello)) => {
                let offer = host.build(self.bounds(&hello)?)?;
                let (regions, max) = (offer.regions.len(), usize::from(hello.max_region) + 1);
                if regions > max {
                    return Err(Rejection::TooManyRegions { regions, max });
                }
                let outbox = Self::outbox(offer);
                self.state = State::Building { app_name: hello.app_name, outbox };
                Ok(Step::Send(Message::Init(self.init.clone()), None))
            }
            (State::Building { app_name, outbox }, Message::Ack) => {
                if let Some((message, fd)) = outbox.pop_front() {
                    return Ok(Step::Send(message, fd));
                }
                self.state = State::Connecting { app_name: *app_name };
                Ok(Step::Send(Message::Connect { name: self.name }, None))
            }
            (State::Connecting { app_name }, Message::Connected { name }) => {
                let app_name = *app_name;
                self.state = State::Up;
                Ok(Step::Up { app_name, name })
            }
            (state, message) => {
                Err(ProtocolError::OutOfTurn { message: message.kind(), state: state.name() }
                    .into())
            }
        }
    }

    fn bounds(&self, hello: &Hello) -> Result<Bounds, ProtocolError> {
        let (min, max) = (hello.min_version, hello.max_version);
        if !(min..=max).contains(&VERSION) {
            return Err(ProtocolError::Version { min, max });
        }
        Ok(Bounds {
            s2m: self.requested.s2m.min(hello.max_s2m_ring.saturating_add(1)),
            m2s: self.requested.m2s.min(hello.max_m2s_ring.saturating_add(1)),
            log2_ring_size: self
                .requested
                .log2_ring_size
                .min(hello.max_log2_ring_size)
                .min(MAX_LOG2_RING_SIZE),
        })
    }

    fn outbox(offer: Offer<F>) -> VecDeque<(Message, Option<F>)> {
        let regions = (0..)
            .zip(offer.regions)
            .map(|(index, (size, fd))| (Message::AddRegion { index, size }, Some(fd)));
        let rings = offer.rings.into_iter().map(|(ring, fd)| (Message::AddRing(ring), Some(fd)));
        regions.chain(rings).collect()
    }
}

impl<F> State<F> {
    fn name(&self) -> &'static str {
        match self {
            Self::Hello => "expected HELLO",
            Self::Building { .. } => "expected ACK",
            Self::Connecting { .. } => "expected CONNECTED",
            Self::Up => "after CONNECTED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::message::Reason;
    use crate::format::secret::Secret;
    use crate::mechanism::layout::{Layout, Plan};
    use crate::mechanism::server_handshake::{self, Limits, ServerHandshake};
    use proptest::prelude::*;

    const MOST: Limits = Limits { s2m: 255, m2s: 255 };

    struct Builder;

    impl Host for Builder {
        type Fd = u32;
        fn build(&mut self, bounds: Bounds) -> Result<Offer<u32>, Rejection> {
            let plan =
                Plan::new(bounds.s2m, bounds.m2s, bounds.log2_ring_size, 64, Layout::OneRegion)
                    .unwrap();
            let rings = plan.rings.iter().copied().zip(100..).collect();
            Ok(Offer { regions: vec![(plan.sizes[0], 1)], rings })
        }
    }

    struct Anyone(Limits);

    impl server_handshake::Host for Anyone {
        type Fd = u32;
        type Region = u64;
        fn admit(&mut self, _: &Init) -> Result<Limits, Rejection> {
            Ok(self.0)
        }
        fn map(&mut self, _: u16, _: u32, size: u64) -> Result<(u64, u64), ProtocolError> {
            Ok((size, size))
        }
        fn can_interrupt(&self, _: &u32) -> bool {
            true
        }
    }

    fn client(s2m: u16, m2s: u16, log2_ring_size: u8) -> ClientHandshake<u32> {
        let init = Init {
            version: VERSION,
            id: 7,
            mode: 0,
            secret: Secret::from_wire([0; 24]),
            app_name: Name::new("client app"),
        };
        ClientHandshake::new(Bounds { s2m, m2s, log2_ring_size }, init, Name::new("if0"))
    }

    fn hello(min_version: u16, max_version: u16) -> Message {
        let Message::Hello(hello) = server_handshake::hello("server app", MOST) else {
            panic!("no HELLO")
        };
        Message::Hello(Hello { min_version, max_version, ..hello })
    }

    fn rejected(client: &mut ClientHandshake<u32>, message: Message, fds: usize) -> String {
        client.receive(message, fds, &mut Builder).expect_err("accepted").to_string()
    }

    #[test]
    fn messages_out_of_turn_are_rejected() {
        assert!(
            rejected(&mut client(1, 1, 3), Message::Ack, 0)
                .contains("ACK out of turn, expected HELLO")
        );
        assert!(
            rejected(&mut client(1, 1, 3), hello(0x0200, 0x0200), 1)
                .contains("HELLO with 1 file descriptors")
        );
        assert!(
            rejected(&mut client(1, 1, 3), hello(0x0300, 0x0301), 0)
                .contains("version 0x0300 to 0x0301")
        );
        assert!(rejected(&mut client(1, 1, 3), hello(0x0100, 0x0101), 0).contains("version"));
        let mut early = client(1, 1, 3);
        early.receive(hello(0x0100, 0x0300), 0, &mut Builder).unwrap();
        assert!(
            rejected(&mut early, Message::Connected { name: Name::new("") }, 0)
                .contains("expected ACK")
        );
        let mut twice = client(1, 1, 3);
        twice.receive(hello(0x0200, 0x0200), 0, &mut Builder).unwrap();
        assert!(rejected(&mut twice, hello(0x0200, 0x0200), 0).contains("HELLO out of turn"));
    }

    #[test]
    fn a_rejection_is_read() {
        let disconnect = Message::Disconnect { code: 0, reason: Reason::new("no such interface") };
        let step = client(1, 1, 3).receive(disconnect, 0, &mut Builder);
        assert!(matches!(step, Ok(Step::Disconnected(reason)) if reason == "no such interface"));
    }

    proptest! {
        /// Both machines, joined by two queues that deliver in random chunks, agree on a setup
        /// within both sides' wishes.
        #[test]
        fn both_halves_meet(
            (s2m, m2s, log2) in (1u16..=255, 1u16..=255, 1u8..=4),
            (max_s2m, max_m2s) in (1u16..=255, 1u16..=255),
            chunks in proptest::collection::vec((1usize..8, 1usize..8), 1..50),
        ) {
            let limits = Limits { s2m: max_s2m, m2s: max_m2s };
            let (mut client, mut server) = (client(s2m, m2s, log2), ServerHandshake::new());
            let mut to_client = VecDeque::from([server_handshake::hello("server app", limits)]);
            let mut to_server = VecDeque::new();
            let (mut setup, mut up) = (None, None);
            for (a, b) in chunks.iter().cycle() {
                for message in to_client.drain(..(*a).min(to_client.len())).collect::<Vec<_>>() {
                    match client.receive(message, 0, &mut Builder).unwrap() {
                        Step::Send(message, fd) => to_server.push_back((message, fd)),
                        Step::Up { app_name, name } => up = Some((app_name, name)),
                        Step::Disconnected(reason) => panic!("{reason}"),
                    }
                }
                for (message, fd) in to_server.drain(..(*b).min(to_server.len())).collect::<Vec<_>>() {
                    let message = Message::decode(&message.encode()).unwrap();
                    match server.receive(message, fd.into_iter().collect(), &mut Anyone(limits)).unwrap() {
                        server_handshake::Step::Answer(message) => to_client.push_back(message),
                        server_handshake::Step::Establish(done) => {
                            setup = Some(done);
                            to_client.push_back(Message::Connected { name: Name::new("server if") });
                        }
                        server_handshake::Step::Disconnected(reason) => panic!("{reason}"),
                    }
                }
                if to_client.is_empty() && to_server.is_empty() {
                    break;
                }
            }
            let (setup, (app_name, name)) = (setup.unwrap(), up.unwrap());
            prop_assert_eq!(app_name.to_string(), "server app");
            prop_assert_eq!(name.to_string(), "server if");
            prop_assert_eq!(setup.app_name.to_string(), "client app");
            let count = |s2m| setup.rings.iter().filter(|(ring, _)| ring.s2m == s2m).count();
            prop_assert_eq!(count(true), usize::from(s2m.min(max_s2m)));
            prop_assert_eq!(count(false), usize::from(m2s.min(max_m2s)));
            prop_assert!(setup.rings.iter().zip(100..).all(|((_, fd), n)| *fd == n));
        }

        /// Messages get lost, come twice or out of turn: a side comes up once and only with a
        /// complete setup, and the client never without the server.
        #[test]
        fn loss_and_disorder_leave_no_half_built_link(
            (s2m, m2s) in (1u16..=3, 1u16..=3),
            fates in proptest::collection::vec((any::<bool>(), 0u8..20, any::<prop::sample::Index>()), 1..120),
        ) {
            let (mut client, mut server) = (client(s2m, m2s, 2), ServerHandshake::new());
            let offer = Builder.build(Bounds { s2m, m2s, log2_ring_size: 2 }).unwrap();
            let offered: Vec<AddRing> = offer.rings.iter().map(|(ring, _)| *ring).collect();
            let mut to_client = vec![server_handshake::hello("server app", MOST)];
            let mut to_server: Vec<(Message, Option<u32>)> = Vec::new();
            let (mut client_up, mut server_up) = (false, false);
            for (direction, fate, place) in fates {
                // Mostly the next message; some come twice, some never, some out of order.
                let (lost, twice, early) = (fate == 0, fate == 1, fate == 2);
                if direction && !to_client.is_empty() {
                    let at = if early { place.index(to_client.len()) } else { 0 };
                    let message = if twice { to_client[at].clone() } else { to_client.remove(at) };
                    if lost {
                        continue;
                    }
                    match client.receive(message, 0, &mut Builder) {
                        Ok(Step::Send(message, fd)) => to_server.push((message, fd)),
                        Ok(Step::Up { .. }) => {
                            prop_assert!(server_up && !client_up);
                            client_up = true;
                        }
                        Ok(Step::Disconnected(reason)) => panic!("an unexpected DISCONNECT: {reason}"),
                        Err(_) => break,
                    }
                } else if !direction && !to_server.is_empty() {
                    let at = if early { place.index(to_server.len()) } else { 0 };
                    let (message, fd) = if twice { to_server[at].clone() } else { to_server.remove(at) };
                    if lost {
                        continue;
                    }
                    match server.receive(message, fd.into_iter().collect(), &mut Anyone(MOST)) {
                        Ok(server_handshake::Step::Answer(message)) => to_client.push(message),
                        Ok(server_handshake::Step::Establish(setup)) => {
                            prop_assert!(!server_up);
                            server_up = true;
                            prop_assert_eq!(setup.regions.len(), 1);
                            for s2m in [true, false] {
                                let of = |ring: &&AddRing| ring.s2m == s2m;
                                let had: Vec<_> = setup.rings.iter().map(|(ring, _)| ring).filter(of).collect();
                                let all: Vec<_> = offered.iter().filter(of).collect();
                                prop_assert!(!had.is_empty() && all.starts_with(&had));
                            }
                            to_client.push(Message::Connected { name: Name::new("server if") });
                        }
                        Ok(server_handshake::Step::Disconnected(reason)) => panic!("an unexpected DISCONNECT: {reason}"),
                        Err(_) => break,
                    }
                }
            }
        }

        /// Messages in any order end in a rejection or in waiting, never in a half-built link.
        #[test]
        fn disorder_never_connects(order in proptest::collection::vec(0usize..5, 0..12)) {
            let mut server = ServerHandshake::new();
            let init = Message::Init(client(1, 1, 3).init);
            let offer = Builder.build(Bounds { s2m: 1, m2s: 1, log2_ring_size: 3 }).unwrap();
            let region = Message::AddRegion { index: 0, size: offer.regions[0].0 };
            let rings = [Message::AddRing(offer.rings[0].0), Message::AddRing(offer.rings[1].0)];
            let [s2m, m2s] = rings;
            let all = [(init, 0), (region, 1), (s2m, 1), (m2s, 1), (Message::Connect { name: Name::new("") }, 0)];
            for n in order {
                let (message, fds) = all[n].clone();
                match server.receive(message, vec![5; fds], &mut Anyone(MOST)) {
                    Ok(server_handshake::Step::Establish(setup)) => {
                        // Rings imply their region, or the check would have failed.
                        prop_assert!(setup.rings.is_empty() || setup.regions.len() == 1);
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
    }
}
