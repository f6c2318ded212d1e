//! The thread that speaks Zenoh: it declares this end, hears of the others, and sends and receives
//! messages.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use port::ReportOnce;
use port::trunk::{TrunkSpec, Via};
use zenoh::Wait as _;
use zenoh::bytes::ZBytes;
use zenoh::liveliness::LivelinessToken;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::sample::{Sample, SampleKind};

use crate::config::{Settings, reason};
use crate::exchange::{Exchange, Message};
use crate::local_address::LocalAddress;
use crate::token::{self, EndId, Token};

/// VXLAN's UDP port.
const VXLAN_PORT: u16 = 4_789;
/// How often this machine's address is looked at.
const ADDRESS_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is looked whether the port receives elsewhere now.
const TOKEN_INTERVAL: Duration = Duration::from_millis(50);
/// A client without a router for this time begins anew.
const MAX_ALONE: Duration = Duration::from_secs(1);
/// The pause between two attempts to join the network.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct Session {
    id: EndId,
    trunk: String,
    vni: u32,
    via: Via,
    fixed: Option<IpAddr>,
    port: u16,
    host: String,
    settings: Settings,
    local_address: LocalAddress,
    exchange: Arc<Exchange>,
    messages: Receiver<Message>,
    said: ReportOnce,
}

/// The port is gone.
struct Closed;

impl Session {
    pub(crate) fn new(
        id: EndId,
        spec: &TrunkSpec,
        settings: Settings,
        exchange: Arc<Exchange>,
        messages: Receiver<Message>,
    ) -> Self {
        let host = spec.host.clone().unwrap_or_else(|| {
            nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
        });
        let endpoints = |key| settings.endpoints(key);
        let local_address =
            LocalAddress::new(endpoints("connect/endpoints"), endpoints("listen/endpoints"));
        Self {
            id,
            trunk: spec.name.clone(),
            vni: spec.vni,
            via: spec.via,
            fixed: spec.local,
            port: spec.port.unwrap_or(VXLAN_PORT),
            host: token::plain_host(&host),
            settings,
            local_address,
            exchange,
            messages,
            said: ReportOnce::default(),
        }
    }

    /// Joins the network until the port is gone.
    pub(crate) fn run(mut self) {
        for attempt in 0.. {
            let local = self.find_address();
            let result = match zenoh::open(self.settings.config(local, attempt)).wait() {
                Ok(session) => {
                    self.said.clear();
                    let result = self.serve(&session, local);
                    self.exchange.all_went();
                    if let Err(error) = session.close().wait() {
                        tracing::debug!(%error, "cannot close Zenoh's session");
                    }
                    result
                }
                Err(error) => Ok(Some(error)),
            };
            match result {
                Err(Closed) => return,
                Ok(None) => {}
                Ok(Some(error)) => {
                    let what = if self.settings.is_client() {
                        "no router answers"
                    } else {
                        "cannot join the network"
                    };
                    let line = format!("{what}: {}; tried again until it works", reason(&error));
                    if self.said.is_new(&line) {
                        self.exchange.say(line);
                    }
                    if self.pause().is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Finds out where datagrams can be received, and passes it to the port.
    fn find_address(&mut self) -> Option<IpAddr> {
        let local = self.fixed.or_else(|| self.local_address.get());
        let wanted = local.filter(|_| self.via != Via::Zenoh);
        self.exchange.want(wanted.map(|ip| SocketAddr::new(ip, self.port)));
        local
    }

    /// Drops messages until the next attempt.
    fn pause(&self) -> Result<(), Closed> {
        let end = Instant::now() + RETRY_INTERVAL;
        loop {
            match self.messages.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Closed),
            }
        }
    }

    /// Takes part in the network. Returns when the session has failed, with the reason, or has to be
    /// another one.
    fn serve(
        &mut self,
        session: &zenoh::Session,
        begun_at: Option<IpAddr>,
    ) -> Result<Option<zenoh::Error>, Closed> {
        let subscribers = (self.hear_frames(session), self.hear_ends(session));
        let (Ok(_frames), Ok(_ends)) = &subscribers else {
            return Ok(subscribers.0.err().or(subscribers.1.err()));
        };
        let mut declared: Option<(Token, LivelinessToken)> = None;
        let (mut next_address, mut next_token) = (Instant::now(), Instant::now());
        let mut connected = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next_address {
                next_address = now + ADDRESS_INTERVAL;
                if self.find_address() != begun_at && self.settings.scouts {
                    // It listens at an address that is gone.
                    return Ok(None);
                }
                if !self.settings.is_client() || has_router(session) {
                    connected = now;
                } else if now.saturating_duration_since(connected) >= MAX_ALONE {
                    return Ok(None);
                }
            }
            if now >= next_token {
                next_token = now + TOKEN_INTERVAL;
                if let Err(error) = self.declare(session, &mut declared) {
                    return Ok(Some(error));
                }
            }
            match self.messages.recv_timeout(next_token.saturating_duration_since(now)) {
                Ok(message) => {
                    if let Err(error) = self.send(session, message) {
                        return Ok(Some(error));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Closed),
            }
        }
    }

    /// Declares this end as it is now, before it takes back what was declared before.
    fn declare(
        &self,
        session: &zenoh::Session,
        declared: &mut Option<(Token, LivelinessToken)>,
    ) -> Result<(), zenoh::Error> {
        let token = Token {
            id: self.id,
            vni: self.vni,
            address: self.exchange.local(),
            host: self.host.clone(),
        };
        if declared.as_ref().is_some_and(|(old, _)| *old == token) {
            return Ok(());
        }
        let new = session.liveliness().declare_token(token.key(&self.trunk)).wait()?;
        if let Some((_, old)) = declared.replace((token, new)) {
            old.undeclare().wait()?;
        }
        Ok(())
    }

    fn send(&self, session: &zenoh::Session, message: Message) -> Result<(), zenoh::Error> {
        session
            .put(token::frames(&self.trunk, message.to, self.id), ZBytes::from(message.bytes))
            .congestion_control(CongestionControl::Block)
            .priority(Priority::DataHigh)
            .express(true)
            .wait()
    }

    fn hear_frames(
        &self,
        session: &zenoh::Session,
    ) -> Result<zenoh::pubsub::Subscriber<()>, zenoh::Error> {
        let exchange = Arc::clone(&self.exchange);
        session
            .declare_subscriber(token::frames_for(&self.trunk, self.id))
            .callback(move |sample: Sample| {
                if let Some(from) = token::sender_of(sample.key_expr().as_str()) {
                    exchange.received(from, sample.payload().to_bytes().into_owned());
                }
            })
            .wait()
    }

    fn hear_ends(
        &self,
        session: &zenoh::Session,
    ) -> Result<zenoh::pubsub::Subscriber<()>, zenoh::Error> {
        let (exchange, trunk) = (Arc::clone(&self.exchange), self.trunk.clone());
        session
            .liveliness()
            .declare_subscriber(token::all_ends(&self.trunk))
            .history(true)
            .callback(move |sample: Sample| {
                let Some(token) = Token::parse(sample.key_expr().as_str(), &trunk) else {
                    return;
                };
                match sample.kind() {
                    SampleKind::Put => {
                        if !exchange.came(token) {
                            exchange.say("there are too many ends".to_owned());
                        }
                    }
                    SampleKind::Delete => exchange.went(&token),
                }
            })
            .wait()
    }
}

/// Returns whether the session has a router, or a peer in the place of one.
fn has_router(session: &zenoh::Session) -> bool {
    let info = session.info();
    info.routers_zid().wait().next().is_some() || info.peers_zid().wait().next().is_some()
}
