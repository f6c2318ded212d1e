//! memif interfaces of both roles.

mod connection;
mod linked;
mod mailbox;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::memif::{
    BindError, Client, ClientError, ClientOptions, InterfaceOptions, Mode, Server, SocketAddr,
    SocketOptions,
};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use self::connection::Endpoint;
use self::linked::{Linked, check};
use crate::bus::survive_truncation;
use crate::error::{MemifError, system_error, value_error};
use crate::frames::{Outgoing, frame_bytes};
use crate::owned::Owned;
use crate::receiver::Receiver;
use crate::source::{Source as _, sleep};
use crate::time::{Deadline, span};

/// How long a sender leaves a full ring alone: the protocol has no signal for room.
const ROOM_PAUSE: Duration = Duration::from_micros(100);
/// How many times it does so before it looks for a ^C.
const PAUSES: u32 = 100;
/// What peers see of the program.
const APP_NAME: &str = concat!("shmlan ", env!("CARGO_PKG_VERSION"));

/// A memif interface: the shared-memory link of VPP, DPDK and libmemif programs.
///
/// socket is a path, or an abstract name that begins with "@". As a client it connects, and connects
/// again reconnect seconds after a failure or the end of a link (None: never). As a server it
/// listens, and accepts one client at a time. A thread in the background does both; frames wait in
/// the rings.
///
/// ring_size (a power of two) and buffer_size are the client's choice. queues is how many queues each
/// way a client asks for, or a server allows; it sends on the first and receives on all. In mode "ip"
/// packets have no Ethernet header.
#[pyclass(module = "shmlan", frozen, extends = Receiver)]
pub(crate) struct Memif {
    linked: Arc<Owned<Linked>>,
    socket: PathBuf,
    role: &'static str,
    id: u32,
}

/// The names of a memif peer, which it chooses freely.
#[pyclass(module = "shmlan", frozen, get_all)]
pub(crate) struct Peer {
    /// The name of its interface.
    name: String,
    /// The name of its program.
    app_name: String,
}

#[pymethods]
impl Peer {
    fn __repr__(&self) -> String {
        format!("<shmlan.Peer {:?} of {:?}>", self.name, self.app_name)
    }
}

/// Returns the text of an error with its causes.
fn explained(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn bind_error(error: &BindError) -> PyErr {
    match error {
        BindError::System { source, .. } => system_error(source, explained(error)),
        _ => MemifError::new_err(explained(error)),
    }
}

/// The options as Python gives them.
struct Options {
    id: u32,
    name: Option<String>,
    secret: Option<String>,
    mode: Mode,
    queues: Option<u8>,
    ring_size: Option<u32>,
    buffer_size: Option<u32>,
    reconnect: Option<Duration>,
}

impl Options {
    fn connect(self, address: &SocketAddr) -> PyResult<Endpoint> {
        let mut options = ClientOptions::new(self.id)
            .app_name(APP_NAME)
            .mode(self.mode)
            .reconnect(self.reconnect);
        if let Some(name) = self.name {
            options = options.name(name);
        }
        if let Some(secret) = self.secret {
            options = options.secret(&secret).map_err(|error| value_error(error.to_string()))?;
        }
        if let Some(queues) = self.queues {
            options = options.rx_queues(queues).tx_queues(queues);
        }
        if let Some(size) = self.ring_size {
            // Its logarithm has one digit at most that fits.
            let log2 = u8::try_from(size.trailing_zeros()).ok().filter(|_| size.is_power_of_two());
            let wrong =
                || value_error(format!("a ring of {size} is none: it has 2, 4, 8 ... 16384"));
            options = options.log2_ring_size(log2.ok_or_else(wrong)?);
        }
        if let Some(size) = self.buffer_size {
            options = options.buffer_size(size);
        }
        let client = Client::new(address, options).map_err(|error| match error {
            ClientError::Options(error) => value_error(error.to_string()),
            other => MemifError::new_err(explained(&other)),
        })?;
        Ok(Endpoint::Client(Box::new(client)))
    }

    fn listen(self, address: &SocketAddr) -> PyResult<Endpoint> {
        if self.ring_size.is_some() || self.buffer_size.is_some() {
            return Err(value_error("ring_size and buffer_size are the client's choice"));
        }
        let mut options = InterfaceOptions::new(self.id).app_name(APP_NAME).mode(self.mode);
        if let Some(name) = self.name {
            options = options.name(name);
        }
        if let Some(secret) = self.secret {
            options = options.secret(&secret).map_err(|error| value_error(error.to_string()))?;
        }
        if let Some(queues) = self.queues {
            options = options.rx_queues(queues).tx_queues(queues);
        }
        let mut server =
            Server::bind(address, SocketOptions::new()).map_err(|error| bind_error(&error))?;
        server.add(options).map_err(|error| value_error(error.to_string()))?;
        Ok(Endpoint::Server(Box::new(server)))
    }
}

#[pymethods]
impl Memif {
    #[new]
    #[pyo3(signature = (
        socket, *, role="client", id=0, name=None, secret=None, mode="ethernet", queues=None, ring_size=None,
        buffer_size=None, reconnect=1.0
    ))]
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    fn new(
        py: Python<'_>,
        socket: PathBuf,
        role: &str,
        id: u32,
        name: Option<String>,
        secret: Option<String>,
        mode: &str,
        queues: Option<u8>,
        ring_size: Option<u32>,
        buffer_size: Option<u32>,
        reconnect: Option<f64>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let mode = match mode {
            "ethernet" => Mode::Ethernet,
            "ip" => Mode::Ip,
            other => return Err(value_error(format!("mode {other:?} is none: ethernet or ip"))),
        };
        let reconnect = reconnect.map(span).transpose()?;
        let options = Options { id, name, secret, mode, queues, ring_size, buffer_size, reconnect };
        let address = socket.to_str().map_or_else(|| SocketAddr::path(&socket), str::parse);
        let address = address.map_err(|error| value_error(error.to_string()))?;
        let (role, open): (_, fn(Options, &SocketAddr) -> PyResult<Endpoint>) = match role {
            "client" => ("client", Options::connect),
            "server" => ("server", Options::listen),
            other => return Err(value_error(format!("role {other:?} is none: client or server"))),
        };
        let linked = py.detach(|| {
            survive_truncation()?;
            let linked = Linked::new(open(options, &address)?)?;
            PyResult::Ok(Arc::new(Owned::new("the memif interface", linked)))
        })?;
        let receiver = Receiver::new(Arc::clone(&linked) as _);
        Ok(PyClassInitializer::from(receiver).add_subclass(Self { linked, socket, role, id }))
    }

    /// Waits until there is a peer. Raises TimeoutError, with the reason, when none came in time.
    #[pyo3(signature = (timeout=None))]
    fn wait_connected(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let deadline = Deadline::after(timeout)?;
        loop {
            let is_over = deadline.is_over();
            let why = py.detach(|| {
                let (is_up, why, descriptor, limit) = self.linked.act(|linked| {
                    let is_up = linked.is_up()?;
                    let descriptor = Arc::clone(linked.descriptor());
                    Ok((is_up, linked.why_down(), descriptor, linked.sleep_limit()))
                })?;
                if is_up {
                    return Ok(None);
                }
                sleep(&descriptor, deadline.left(limit))?;
                PyResult::Ok(Some(why.unwrap_or_default()))
            })?;
            match why {
                None => return Ok(()),
                Some(why) if is_over => {
                    return Err(PyTimeoutError::new_err(format!("no peer came in time: {why}")));
                }
                Some(_) => py.check_signals()?,
            }
        }
    }

    /// Sends one frame, and waits until the peer has room for it.
    ///
    /// Raises TimeoutError when it had none in time, LinkDownError when there is no peer.
    #[pyo3(signature = (frame, timeout=None))]
    fn send(&self, py: Python<'_>, frame: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let frame = frame_bytes(frame)?;
        match self.send_all(py, &[frame.as_bytes()], timeout)? {
            0 => Err(PyTimeoutError::new_err("the peer had no room in time")),
            _ => Ok(()),
        }
    }

    /// Sends frames, in order, as many as the peer has room for within the timeout. Returns how
    /// many.
    ///
    /// Raises LinkDownError when there is no peer.
    #[pyo3(signature = (frames, timeout=0.0))]
    fn send_burst(
        &self,
        py: Python<'_>,
        frames: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<usize> {
        let burst = Outgoing::collect(frames)?;
        self.send_all(py, &burst.slices(), timeout)
    }

    /// Whether there is a peer.
    #[getter]
    fn connected(&self, py: Python<'_>) -> PyResult<bool> {
        self.linked.with(py, Linked::is_up)
    }

    /// The names of the peer, while there is one.
    #[getter]
    fn peer(&self, py: Python<'_>) -> PyResult<Option<Peer>> {
        let peer = self.linked.with(py, Linked::peer)?;
        Ok(peer.map(|peer| Peer { name: peer.name, app_name: peer.app_name }))
    }

    /// Why there is no peer: the end of the last link, or of the last attempt. None while there is
    /// one.
    #[getter]
    fn why_down(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.linked.with(py, |linked| Ok(linked.why_down()))
    }

    /// The role, "client" or "server".
    #[getter]
    fn role(&self) -> &'static str {
        self.role
    }

    /// The number of the interface on its socket.
    #[getter]
    fn id(&self) -> u32 {
        self.id
    }

    /// Returns what all links so far have counted.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = self.linked.with(py, Linked::counts)?;
        let counters = [
            ("rx_packets", counts.rx.packets),
            ("rx_bytes", counts.rx.bytes),
            ("rx_interrupts", counts.rx.interrupts),
            ("rx_too_long", counts.rx_too_long),
            ("tx_packets", counts.tx.packets),
            ("tx_bytes", counts.tx.bytes),
            ("tx_interrupts", counts.tx.interrupts),
            ("tx_ring_full", counts.tx.ring_full),
            ("links", counts.links),
        ];
        let dict = PyDict::new(py);
        for (name, count) in counters {
            dict.set_item(name, count)?;
        }
        Ok(dict)
    }

    fn __repr__(&self) -> String {
        format!("<shmlan.Memif {} {} at {}>", self.role, self.id, self.socket.display())
    }
}

impl Memif {
    /// Sends as many of `frames` as the peer has room for within the timeout; returns how many.
    fn send_all(&self, py: Python<'_>, frames: &[&[u8]], timeout: Option<f64>) -> PyResult<usize> {
        let deadline = Deadline::after(timeout)?;
        check(frames)?;
        let mut sent = 0;
        loop {
            let is_done = py.detach(|| {
                for _ in 0..PAUSES {
                    let is_over = deadline.is_over();
                    match self.linked.act(|linked| linked.send(&frames[sent..])) {
                        Ok(now) => sent += now,
                        // What was sent before is with the peer, and counts.
                        Err(_) if sent > 0 => return Ok(true),
                        Err(error) => return Err(error),
                    }
                    if sent == frames.len() || is_over {
                        return Ok(true);
                    }
                    std::thread::sleep(deadline.left(ROOM_PAUSE));
                }
                PyResult::Ok(false)
            })?;
            if is_done {
                return Ok(sent);
            }
            py.check_signals()?;
        }
    }
}
