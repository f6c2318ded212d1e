//! A peer that can break every rule: raw messages on a real socket, raw stores into real memory.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part of this")]

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use memif::{
    Client, ClientOptions, Event, InterfaceOptions, Link, Server, SocketAddr, SocketOptions,
};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr, accept4, bind, connect, listen, recvmsg, sendmsg, socket,
};

/// No test takes nearly as long; it only keeps a broken test from hanging.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns a name that no other test uses.
pub fn unique(test: &str) -> SocketAddr {
    SocketAddr::abstract_name(format!("memif-test-{}-{test}", std::process::id())).unwrap()
}

/// Calls `step` until it returns something.
pub fn until<T>(what: &str, mut step: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(done) = step() {
            return done;
        }
        assert!(start.elapsed() < WAIT_TIMEOUT, "waited in vain for: {what}");
        std::thread::yield_now();
    }
}

/// A message of `kind` with these fields.
pub fn message(kind: u16, fields: &[&[u8]]) -> Vec<u8> {
    let mut message = kind.to_ne_bytes().to_vec();
    for field in fields {
        message.extend_from_slice(field);
    }
    message.resize(128, 0);
    message
}

pub fn init(id: u32, mode: u8, secret: &[u8]) -> Vec<u8> {
    let mut field = [0; 24];
    field[..secret.len()].copy_from_slice(secret);
    message(3, &[&0x0200u16.to_ne_bytes(), &id.to_ne_bytes(), &[mode], &field, b"mock app"])
}

pub fn add_region(index: u16, size: u64) -> Vec<u8> {
    message(4, &[&index.to_ne_bytes(), &size.to_ne_bytes()])
}

pub fn add_ring(s2m: bool, index: u16, region: u16, offset: u32, log2: u8) -> Vec<u8> {
    let flags = u16::from(s2m).to_ne_bytes();
    message(
        5,
        &[&flags, &index.to_ne_bytes(), &region.to_ne_bytes(), &offset.to_ne_bytes(), &[log2]],
    )
}

pub fn connect_message() -> Vec<u8> {
    message(6, &[b"mock0"])
}

/// HELLO of a server that allows this much.
pub fn hello(min: u16, max: u16, rings: u16, log2: u8) -> Vec<u8> {
    let (min, max, rings) = (min.to_ne_bytes(), max.to_ne_bytes(), rings.to_ne_bytes());
    message(2, &[&[b'm'; 32], &min, &max, &255u16.to_ne_bytes(), &rings, &rings, &[log2]])
}

pub fn connected() -> Vec<u8> {
    message(7, &[b"mock server"])
}

pub fn ack() -> Vec<u8> {
    message(1, &[])
}

/// Rings of 8, buffers of 128 bytes.
pub const LOG2: u8 = 3;
pub const S2M: u32 = 0;
pub const M2S: u32 = 256;
pub const S2M_BUFFERS: u32 = 512;
pub const M2S_BUFFERS: u32 = 1_536;
pub const SIZE: u64 = 4_096;

/// A memory file with two proper, empty rings.
pub fn memory() -> File {
    let file = File::from(
        memfd_create("mock", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap(),
    );
    file.set_len(SIZE).unwrap();
    for ring in [S2M, M2S] {
        file.write_all_at(&0x03E3_1F20u32.to_ne_bytes(), ring.into()).unwrap();
    }
    file
}

/// A descriptor's bytes.
pub fn descriptor(flags: u16, region: u16, length: u32, offset: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&flags.to_ne_bytes());
    bytes[2..4].copy_from_slice(&region.to_ne_bytes());
    bytes[4..8].copy_from_slice(&length.to_ne_bytes());
    bytes[8..12].copy_from_slice(&offset.to_ne_bytes());
    bytes
}

/// Stores into a ring of a memory file.
pub fn set_descriptor(memory: &File, ring: u32, slot: u32, descriptor: [u8; 16]) {
    memory.write_all_at(&descriptor, u64::from(ring + 128 + 16 * slot)).unwrap();
}

pub fn set_head(memory: &File, ring: u32, head: u16) {
    memory.write_all_at(&head.to_ne_bytes(), u64::from(ring + 6)).unwrap();
}

pub fn set_tail(memory: &File, ring: u32, tail: u16) {
    memory.write_all_at(&tail.to_ne_bytes(), u64::from(ring + 64)).unwrap();
}

pub fn tail(memory: &File, ring: u32) -> u16 {
    let mut bytes = [0; 2];
    memory.read_exact_at(&mut bytes, u64::from(ring + 64)).unwrap();
    u16::from_ne_bytes(bytes)
}

pub fn event_fd() -> EventFd {
    EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).unwrap()
}

/// What the mock has received.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    Ack,
    Hello,
    Connected,
    Disconnect(String),
    Other(u16),
    Closed,
}

/// One end of a control channel.
pub struct Mock {
    pub fd: OwnedFd,
}

fn mock_socket() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap()
}

fn unix(addr: &SocketAddr) -> UnixAddr {
    match addr.as_path() {
        Some(path) => UnixAddr::new(path).unwrap(),
        None => UnixAddr::new_abstract(&addr.to_string().as_bytes()[1..]).unwrap(),
    }
}

/// A listening socket that speaks only when the test does.
pub fn mock_listener(addr: &SocketAddr) -> OwnedFd {
    let fd = mock_socket();
    bind(fd.as_raw_fd(), &unix(addr)).unwrap();
    listen(&fd, Backlog::new(8).unwrap()).unwrap();
    fd
}

impl Mock {
    pub fn connect(addr: &SocketAddr) -> Self {
        Self::try_connect(addr).unwrap()
    }

    pub fn try_connect(addr: &SocketAddr) -> nix::Result<Self> {
        let fd = mock_socket();
        connect(fd.as_raw_fd(), &unix(addr))?;
        Ok(Self { fd })
    }

    pub fn accept(listener: &OwnedFd) -> Option<Self> {
        let number =
            accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK).ok()?;
        Some(Self { fd: own(number) })
    }

    pub fn try_send(&self, bytes: &[u8], fds: &[RawFd]) -> nix::Result<()> {
        let rights = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.fd.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None).map(drop)
    }

    /// Sends a message. The peer may have closed already: the next receive shows that.
    pub fn send(&self, bytes: &[u8], fds: &[RawFd]) {
        let _ = self.try_send(bytes, fds);
    }

    /// What came, byte for byte, with its descriptors; no bytes at the end.
    pub fn receive_packet(&self) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
        let mut packet = [0; 128];
        let mut control = nix::cmsg_space!([RawFd; 4]);
        let mut iov = [IoSliceMut::new(&mut packet)];
        let received = recvmsg::<()>(
            self.fd.as_raw_fd(),
            &mut iov,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        );
        let (bytes, fds) = match received {
            Err(nix::Error::EAGAIN) => return None,
            Err(_) => (0, Vec::new()),
            Ok(received) => {
                let rights = received.cmsgs().unwrap().flat_map(|control| match control {
                    ControlMessageOwned::ScmRights(numbers) => numbers,
                    _ => Vec::new(),
                });
                (received.bytes, rights.map(own).collect())
            }
        };
        Some((packet[..bytes].to_vec(), fds))
    }

    /// What came, with its descriptors.
    pub fn receive_with_fds(&self) -> Option<(Received, Vec<OwnedFd>)> {
        let (packet, fds) = self.receive_packet()?;
        let Some(&[low, high]) = packet.first_chunk() else { return Some((Received::Closed, fds)) };
        let received = match u16::from_ne_bytes([low, high]) {
            1 => Received::Ack,
            2 => Received::Hello,
            7 => Received::Connected,
            8 => {
                let text = packet[6..102].split(|byte| *byte == 0).next().unwrap();
                Received::Disconnect(String::from_utf8(text.to_vec()).unwrap())
            }
            kind => Received::Other(kind),
        };
        Some((received, fds))
    }

    pub fn receive(&self) -> Option<Received> {
        self.receive_with_fds().map(|(received, _)| received)
    }
}

pub fn accept(listener: &OwnedFd, client: &mut Client) -> Mock {
    until("a connection", || {
        // Rejections of earlier attempts may still come.
        let _ = client.ready().unwrap();
        Mock::accept(listener)
    })
}

/// Lets the client work until the mock hears this kind of message; the descriptors that came with
/// it.
pub fn expect(mock: &Mock, client: &mut Client, kind: u16) -> Vec<OwnedFd> {
    until("a message", || {
        assert!(client.ready().unwrap().is_none());
        let (received, fds) = mock.receive_with_fds()?;
        assert_eq!(received, Received::Other(kind));
        Some(fds)
    })
}

/// Owns a descriptor that was just received.
fn own(number: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just installed it, and it is given here only.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// A server and everything it reported.
pub struct World {
    pub server: Server,
    pub events: Vec<Event>,
}

impl World {
    pub fn new(server: Server) -> Self {
        Self { server, events: Vec::new() }
    }

    pub fn pump(&mut self) {
        while let Some(event) = self.server.ready().unwrap() {
            self.events.push(event);
        }
    }

    /// Lets the server work until the mock hears something other than ACK and HELLO.
    pub fn verdict(&mut self, mock: &Mock) -> Received {
        until("a verdict", || {
            self.pump();
            mock.receive().filter(|received| !matches!(received, Received::Ack | Received::Hello))
        })
    }

    /// Lets the server work until it reports something this picks.
    pub fn event<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        until(what, || {
            self.pump();
            let found =
                self.events.iter().enumerate().find_map(|(n, event)| Some((n, pick(event)?)));
            found.map(|(n, found)| {
                self.events.remove(n);
                found
            })
        })
    }

    pub fn link(&mut self) -> Link {
        until("Connected", || {
            self.pump();
            let n =
                self.events.iter().position(|event| matches!(event, Event::Connected { .. }))?;
            match self.events.remove(n) {
                Event::Connected { link, .. } => Some(link),
                _ => None,
            }
        })
    }

    /// A mock connected properly as client of interface `id`, its memory, and the server's link.
    pub fn connect_mock(&mut self, addr: &SocketAddr, id: u32) -> (Mock, File, Link) {
        let mock = Mock::connect(addr);
        let memory = memory();
        for (message, fd) in proper(id, &memory, &event_fd()) {
            mock.send(&message, fd.as_slice());
        }
        assert_eq!(self.verdict(&mock), Received::Connected);
        (mock, memory, self.link())
    }
}

/// What a proper client of interface `id` sends, each with its descriptor.
pub fn proper(id: u32, memory: &File, event_fd: &EventFd) -> Vec<(Vec<u8>, Option<RawFd>)> {
    let event_fd = std::os::fd::AsFd::as_fd(event_fd).as_raw_fd();
    vec![
        (init(id, 0, b""), None),
        (add_region(0, SIZE), Some(memory.as_raw_fd())),
        (add_ring(true, 0, 0, S2M, LOG2), Some(event_fd)),
        (add_ring(false, 0, 0, M2S, LOG2), Some(event_fd)),
        (connect_message(), None),
    ]
}

/// A real server and a real client, connected.
pub struct Pair {
    pub server: World,
    pub client: Client,
    pub here: Link,
    pub there: Link,
}

pub fn pair(
    addr: &SocketAddr,
    server_options: InterfaceOptions,
    client_options: ClientOptions,
) -> Pair {
    let mut server = Server::bind(addr, SocketOptions::new()).unwrap();
    server.add(server_options).unwrap();
    let mut client = Client::new(addr, client_options).unwrap();
    let mut server = World::new(server);
    let there = until("the client's link", || {
        server.pump();
        match client.ready().unwrap() {
            Some(Event::Connected { link, .. }) => Some(link),
            Some(other) => panic!("{other:?}"),
            None => None,
        }
    });
    let here = server.link();
    Pair { server, client, here, there }
}
