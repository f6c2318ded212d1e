//! Socket ports, in every framing. The peer is a program at the other end of the socket.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::{Cable, Peer, conforms, here};

/// Makes the two directions of a new connection; `None` when there can be only one connection.
type Redial = Option<Box<dyn Fn() -> OwnedFd>>;

/// A peer on a stream, with a length of `prefix` bytes before each frame.
struct Stream {
    prefix: usize,
    to_port: Option<File>,
    from_port: Option<File>,
    redial: Redial,
    unsent: Vec<u8>,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(prefix: usize, to_port: OwnedFd, from_port: OwnedFd, redial: Redial) -> Self {
        for end in [&to_port, &from_port] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("its flags");
        }
        let (to_port, from_port) = (Some(to_port.into()), Some(from_port.into()));
        Self { prefix, to_port, from_port, redial, unsent: Vec::new(), bytes: Vec::new() }
    }

    fn dialed(prefix: usize, redial: impl Fn() -> OwnedFd + 'static) -> Box<dyn Peer> {
        let socket = redial();
        let other = socket.try_clone().expect("a duplicate");
        Box::new(Self::new(prefix, socket, other, Some(Box::new(redial))))
    }

    /// Writes what the socket takes. Returns whether that was all.
    fn push(&mut self) -> bool {
        while let Some(socket) = self.to_port.as_mut().filter(|_| !self.unsent.is_empty()) {
            // In pieces of an odd length, so that frames are cut anywhere.
            let piece = self.unsent.len().min(997);
            match socket.write(&self.unsent[..piece]) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                // The port is gone.
                Err(_) => self.unsent.clear(),
            }
        }
        true
    }
}

impl Peer for Stream {
    fn send(&mut self, frame: &[u8]) -> bool {
        if !self.push() {
            return false;
        }
        let len = u32::try_from(frame.len()).expect("short").to_be_bytes();
        self.unsent = [&len[4 - self.prefix..], frame].concat();
        self.push();
        true
    }

    fn receive(&mut self, frames: &mut Vec<Vec<u8>>) {
        self.push();
        let Some(socket) = &mut self.from_port else { return };
        if let Err(error) = socket.read_to_end(&mut self.bytes) {
            let passing = [ErrorKind::WouldBlock, ErrorKind::ConnectionReset];
            assert!(passing.contains(&error.kind()), "{error}");
        }
        while let Some(prefix) = self.bytes.get(..self.prefix) {
            let len = prefix.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            let end = self.prefix + len;
            let Some(frame) = self.bytes.get(self.prefix..end) else { break };
            frames.push(frame.to_vec());
            self.bytes.drain(..end);
        }
    }

    fn vanish(&mut self) {
        (self.to_port, self.from_port) = (None, None);
        self.unsent.clear();
        self.bytes.clear();
    }

    fn come_back(&mut self) -> bool {
        let Some(redial) = self.redial.take() else { return false };
        let socket = redial();
        let other = socket.try_clone().expect("a duplicate");
        *self = Self::new(self.prefix, socket, other, Some(redial));
        true
    }
}

/// A peer whose frames are packets.
struct Packets {
    socket: Option<UnixDatagram>,
    redial: Box<dyn Fn() -> UnixDatagram>,
}

impl Packets {
    fn dialed(redial: impl Fn() -> UnixDatagram + 'static) -> Box<dyn Peer> {
        let mut packets = Self { socket: None, redial: Box::new(redial) };
        packets.come_back();
        Box::new(packets)
    }
}

impl Peer for Packets {
    fn send(&mut self, frame: &[u8]) -> bool {
        match self.socket.as_ref().map(|socket| socket.send(frame)) {
            Some(Err(error)) => {
                let full = error.kind() == ErrorKind::WouldBlock;
                assert!(full || error.kind() == ErrorKind::BrokenPipe, "{error}");
                !full
            }
            _ => true,
        }
    }

    fn receive(&mut self, frames: &mut Vec<Vec<u8>>) {
        let mut bytes = [0; 4_096];
        while let Some(socket) = &self.socket
            && let Ok(len @ 1..) = socket.recv(&mut bytes)
        {
            frames.push(bytes[..len].to_vec());
        }
    }

    fn vanish(&mut self) {
        self.socket = None;
    }

    fn come_back(&mut self) -> bool {
        let socket = (self.redial)();
        socket.set_nonblocking(true).expect("its flags");
        self.socket = Some(socket);
        true
    }
}

fn spec(folder: &Path, keys: &str) -> String {
    format!("socket:path={},{keys}", folder.join("s").display())
}

fn server(folder: &Path) -> Cable {
    let path = folder.join("s");
    let dial = move || UnixStream::connect(&path).expect("the port listens").into();
    (spec(folder, "framing=qemu"), Box::new(|| Stream::dialed(4, dial)))
}

/// The peer listens only until the port has connected.
fn client(folder: &Path) -> Cable {
    let path = folder.join("s");
    let dial = move || {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("free");
        listener.accept().expect("the port connects").0.into()
    };
    (spec(folder, "framing=vde,role=client"), Box::new(|| Stream::dialed(2, dial)))
}

fn packet(folder: &Path) -> Cable {
    let path = folder.join("s");
    let dial = move || {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None);
        let socket = socket.expect("a socket");
        let address = UnixAddr::new(&path).expect("an address");
        connect(socket.as_raw_fd(), &address).expect("the port listens");
        UnixDatagram::from(socket)
    };
    (spec(folder, "framing=packet"), Box::new(|| Packets::dialed(dial)))
}

/// As QEMU does, the peer unlinks its path and binds it.
fn dgram(folder: &Path) -> Cable {
    let (path, peer) = (folder.join("s"), folder.join("peer"));
    let spec = spec(folder, &format!("framing=dgram,peer={}", peer.display()));
    let dial = move || {
        let _ = std::fs::remove_file(&peer);
        let socket = UnixDatagram::bind(&peer).expect("free");
        socket.connect(&path).expect("the port is bound");
        socket
    };
    (spec, Box::new(|| Packets::dialed(dial)))
}

/// Two pipes, as `dpipe` makes them.
fn pipes(_: &Path) -> Cable {
    let (input, to_port) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("a pipe");
    let (from_port, output) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("a pipe");
    for end in [&input, &output] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::empty())).expect("as if inherited");
    }
    let spec = format!("socket:framing=vde,fd={},fd-out={}", input.as_raw_fd(), output.as_raw_fd());
    let peer = move || -> Box<dyn Peer> {
        // The port has duplicates of its ends.
        drop((input, output));
        Box::new(Stream::new(2, to_port, from_port, None))
    };
    (spec, Box::new(peer))
}

mod servers {
    use super::{conforms, here, server};
    conforms!(server, here);
}

mod clients {
    use super::{client, conforms, here};
    conforms!(client, here);
}

mod packets {
    use super::{conforms, here, packet};
    conforms!(packet, here);
}

mod datagrams {
    use super::{conforms, dgram, here};
    conforms!(dgram, here);
}

mod pipes {
    use super::{conforms, here, pipes};
    conforms!(pipes, here);
}
