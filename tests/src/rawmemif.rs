//! The bare memif control channel: a client that sends any message, and a server that refuses every
//! client. They share no code with the crate under test, and show what its peers receive.

use std::ffi::CStr;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind,
    connect, listen, recv, send, sendmsg, socket,
};

use crate::{WAIT_TIMEOUT, privilege};

/// Every message is exactly this long.
pub const MESSAGE: usize = 128;
const ACK: u16 = 1;
const HELLO: u16 = 2;
const INIT: u16 = 3;
const ADD_REGION: u16 = 4;
const ADD_RING: u16 = 5;
const CONNECT: u16 = 6;
const CONNECTED: u16 = 7;
const DISCONNECT: u16 = 8;
/// The mark of a ring, and the memory of a link: more than two rings of 2^10 need.
const COOKIE: u32 = 0x3E3_1F20;
const MEMORY: u64 = 1 << 16;
const VERSION: u16 = 0x0200;

/// The request of a client in INIT.
#[derive(Clone, Copy, Debug)]
pub struct Init<'a> {
    /// The protocol version.
    pub version: u16,
    /// The id of one of the server's interfaces.
    pub id: u32,
    /// 0 Ethernet, 1 IP, 2 punt/inject.
    pub mode: u8,
    /// Up to 24 bytes.
    pub secret: &'a str,
}

impl Default for Init<'_> {
    fn default() -> Self {
        Self { version: VERSION, id: 0, mode: 0, secret: "" }
    }
}

/// The answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A message of this type.
    Message(u16),
    /// A disconnect, with its reason.
    DisconnectReason(String),
    /// The socket was closed without a message.
    Closed,
}

/// Returns an `ADD_REGION`.
#[must_use]
pub fn add_region(index: u16, bytes: u64) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    message[0..2].copy_from_slice(&ADD_REGION.to_ne_bytes());
    message[2..4].copy_from_slice(&index.to_ne_bytes());
    message[4..12].copy_from_slice(&bytes.to_ne_bytes());
    message
}

/// Returns an `ADD_RING` for a ring of 2^10 descriptors in region 0.
#[must_use]
pub fn add_ring(s2m: bool, index: u16, offset: u64) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    let offset = u32::try_from(offset).expect("in the region");
    message[0..2].copy_from_slice(&ADD_RING.to_ne_bytes());
    message[2..4].copy_from_slice(&u16::from(s2m).to_ne_bytes());
    message[4..6].copy_from_slice(&index.to_ne_bytes());
    message[8..12].copy_from_slice(&offset.to_ne_bytes());
    message[12] = 10;
    message
}

/// A connection to a memif server.
pub struct RawClient {
    socket: OwnedFd,
}

impl RawClient {
    /// Connects, and receives the server's HELLO.
    ///
    /// # Panics
    /// When no server listens, or its first message is not HELLO.
    #[must_use]
    pub fn connect(path: &Path) -> Self {
        let client =
            Self::dial(path).unwrap_or_else(|why| panic!("connect {}: {why}", path.display()));
        assert_eq!(client.answer(), Answer::Message(HELLO), "a server sends HELLO at once");
        client
    }

    /// Connects and receives the server's HELLO. Returns `None` when the server does not accept, or
    /// answers anything else.
    ///
    /// # Panics
    /// When the server neither sends a message nor closes within [`WAIT_TIMEOUT`].
    #[must_use]
    pub fn try_connect(path: &Path) -> Option<Self> {
        let client = Self::dial(path).ok()?;
        (client.answer() == Answer::Message(HELLO)).then_some(client)
    }

    fn dial(path: &Path) -> nix::Result<Self> {
        let socket = seqpacket();
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self { socket })
    }

    /// Sends INIT, and returns the answer.
    ///
    /// # Panics
    /// When it cannot be sent, or no answer comes within [`WAIT_TIMEOUT`].
    #[must_use]
    pub fn init(&self, init: &Init<'_>) -> Answer {
        let mut message = [0; MESSAGE];
        message[0..2].copy_from_slice(&INIT.to_ne_bytes());
        message[2..4].copy_from_slice(&init.version.to_ne_bytes());
        message[4..8].copy_from_slice(&init.id.to_ne_bytes());
        message[8] = init.mode;
        message[9..9 + init.secret.len()].copy_from_slice(init.secret.as_bytes());
        message[33..37].copy_from_slice(b"test");
        self.send(&message);
        self.answer()
    }

    /// Sends any bytes as one message.
    ///
    /// # Panics
    /// When they cannot be sent.
    pub fn send(&self, message: &[u8]) {
        send(self.socket.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL).expect("send");
    }

    /// Sends any bytes as one message, with copies of `fds`.
    ///
    /// # Errors
    /// When the server no longer reads, or its queue is full.
    pub fn send_with(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
        let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let (bytes, flags) = ([IoSlice::new(message)], MsgFlags::MSG_NOSIGNAL);
        sendmsg::<()>(self.socket.as_raw_fd(), &bytes, &rights, flags, None).map(drop)
    }

    /// Brings up a link with one ring each way, both with `event_fd`.
    ///
    /// # Panics
    /// When the server refuses, or does not answer within [`WAIT_TIMEOUT`].
    #[must_use]
    pub fn link(path: &Path, id: u32, event_fd: BorrowedFd<'_>) -> Self {
        Self::link_with_memory(path, id, event_fd).0
    }

    /// Does the same, and returns the file of its memory, which is not sealed.
    ///
    /// # Panics
    /// As [`link`](Self::link).
    #[must_use]
    pub fn link_with_memory(path: &Path, id: u32, event_fd: BorrowedFd<'_>) -> (Self, File) {
        let client = Self::connect(path);
        assert_eq!(client.init(&Init { id, ..Init::default() }), Answer::Message(ACK));
        let memory = memfd_create("raw", MFdFlags::MFD_CLOEXEC).expect("a memory file");
        let memory = File::from(memory);
        memory.set_len(MEMORY).expect("memory");
        client.send_with(&add_region(0, MEMORY), &[memory.as_fd()]).expect("sent");
        assert_eq!(client.answer(), Answer::Message(ACK));
        for (s2m, offset) in [(true, 0), (false, MEMORY / 2)] {
            memory.write_all_at(&COOKIE.to_ne_bytes(), offset).expect("a cookie");
            client.send_with(&add_ring(s2m, 0, offset), &[event_fd]).expect("sent");
            assert_eq!(client.answer(), Answer::Message(ACK));
        }
        let mut connect = [0; MESSAGE];
        connect[0..2].copy_from_slice(&CONNECT.to_ne_bytes());
        client.send(&connect);
        assert_eq!(client.answer(), Answer::Message(CONNECTED));
        (client, memory)
    }

    /// Ends the connection for `reason`.
    pub fn disconnect(self, reason: &str) {
        let mut message = [0; MESSAGE];
        message[0..2].copy_from_slice(&DISCONNECT.to_ne_bytes());
        message[6..6 + reason.len()].copy_from_slice(reason.as_bytes());
        self.send(&message);
    }

    /// Returns the next message from the server.
    ///
    /// # Panics
    /// When none comes within [`WAIT_TIMEOUT`].
    #[must_use]
    pub fn answer(&self) -> Answer {
        assert!(readable(&self.socket), "the server sends nothing");
        let mut message = [0; MESSAGE];
        // A reset counts as a close: the server did not read what we sent.
        match recv(self.socket.as_raw_fd(), &mut message, MsgFlags::empty()).unwrap_or(0) {
            0 => Answer::Closed,
            MESSAGE => match u16::from_ne_bytes([message[0], message[1]]) {
                DISCONNECT => {
                    let reason = CStr::from_bytes_until_nul(&message[6..102])
                        .expect("a reason ends with NUL");
                    Answer::DisconnectReason(reason.to_string_lossy().into_owned())
                }
                other => Answer::Message(other),
            },
            length => panic!("a message of {length} bytes"),
        }
    }
}

/// A memif server that refuses every client.
pub struct Refuser {
    listener: OwnedFd,
}

impl Refuser {
    /// Listens on `path`.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn listen(path: &Path) -> Self {
        let listener = seqpacket();
        bind(listener.as_raw_fd(), &UnixAddr::new(path).expect("a short path")).expect("bind");
        privilege::hand_over(path);
        listen(&listener, Backlog::new(16).expect("a valid backlog")).expect("listen");
        Self { listener }
    }

    /// Accepts the next client, reads its INIT, and refuses it with `reason`. Returns the secret it
    /// sent.
    ///
    /// # Panics
    /// When no client comes within [`WAIT_TIMEOUT`], or its first message is not INIT.
    #[must_use]
    pub fn refuse(&self, reason: &str) -> String {
        assert!(readable(&self.listener), "no client connects");
        let client = accept(self.listener.as_raw_fd()).expect("accept");
        // SAFETY: accept has just created this descriptor, and nothing else owns it.
        let client = unsafe { OwnedFd::from_raw_fd(client) };
        let mut hello = [0; MESSAGE];
        hello[0..2].copy_from_slice(&HELLO.to_ne_bytes());
        for version in [34, 36] {
            hello[version..version + 2].copy_from_slice(&VERSION.to_ne_bytes());
        }
        for maximum in [38, 40, 42] {
            hello[maximum..maximum + 2].copy_from_slice(&255_u16.to_ne_bytes());
        }
        hello[44] = 14;
        send(client.as_raw_fd(), &hello, MsgFlags::MSG_NOSIGNAL).expect("send HELLO");
        assert!(readable(&client), "the client sends nothing");
        let mut init = [0; MESSAGE];
        assert_eq!(recv(client.as_raw_fd(), &mut init, MsgFlags::empty()), Ok(MESSAGE));
        assert_eq!(init[0..2], INIT.to_ne_bytes(), "a client sends INIT first");
        let mut disconnect = [0; MESSAGE];
        disconnect[0..2].copy_from_slice(&DISCONNECT.to_ne_bytes());
        disconnect[6..6 + reason.len()].copy_from_slice(reason.as_bytes());
        send(client.as_raw_fd(), &disconnect, MsgFlags::MSG_NOSIGNAL).expect("refuse");
        let secret = init[9..33].iter().copied().take_while(|&byte| byte != 0).collect();
        String::from_utf8(secret).expect("a secret in ASCII")
    }
}

/// Creates a non-blocking socket, so that a listener that accepts no client is an error and not a
/// hang. Reads wait with `poll`.
fn seqpacket() -> OwnedFd {
    socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
    .expect("a socket")
}

fn readable(socket: &OwnedFd) -> bool {
    let timeout = PollTimeout::try_from(WAIT_TIMEOUT).expect("the timeout fits");
    poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout).expect("poll") > 0
}
