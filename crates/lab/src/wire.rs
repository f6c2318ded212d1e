//! Messages on the control socket of a lab: a line of JSON each, with descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most descriptors beside a message.
const MAX_DESCRIPTORS: usize = 8;
/// The longest message, in bytes: the plan of a large lab.
const MAX_LEN: usize = 64 << 20;

/// An end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: UnixStream,
    /// What has arrived and is no whole line yet.
    arrived: Vec<u8>,
    /// How much of that has been searched for the end of a line.
    searched: usize,
    descriptors: Vec<OwnedFd>,
    /// Whether the other end has closed.
    is_over: bool,
}

impl Wire {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, arrived: Vec::new(), searched: 0, descriptors: Vec::new(), is_over: false }
    }

    /// Sends a message, with descriptors that the receiver then has as well. Waits for a receiver
    /// that is slow as long as the socket's timeout allows.
    ///
    /// # Errors
    /// When the other end is gone or does not read.
    pub(crate) fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut text = serde_json::to_vec(message)?;
        text.push(b'\n');
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        let mut rest = &text[..];
        while !rest.is_empty() {
            // A receiver that is gone is an error, and no signal.
            let sent = rustix::io::retry_on_intr(|| {
                sendmsg(&self.socket, &[IoSlice::new(rest)], &mut beside, SendFlags::NOSIGNAL)
            })?;
            rest = &rest[sent..];
            beside.clear();
        }
        Ok(())
    }

    /// Waits for a message and the descriptors beside it.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end is gone; when what arrives is no such message.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<(T, Vec<OwnedFd>)> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(message);
            }
            if self.is_over {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.fill(RecvFlags::empty())?;
        }
    }

    /// Takes in what has arrived, without waiting. Returns whether the other end may send more.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn fill_now(&mut self) -> io::Result<bool> {
        match self.fill(RecvFlags::DONTWAIT) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            filled => filled.map(|()| !self.is_over),
        }
    }

    /// Returns the next message that has arrived whole.
    ///
    /// # Errors
    /// When it is no message of type `T`, or too long.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let end = self.arrived[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| end + self.searched) else {
            self.searched = self.arrived.len();
            if self.arrived.len() > MAX_LEN {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
            }
            return Ok(None);
        };
        let line: Vec<u8> = self.arrived.drain(..=end).collect();
        self.searched = 0;
        Ok(Some((serde_json::from_slice(&line)?, std::mem::take(&mut self.descriptors))))
    }

    fn fill(&mut self, flags: RecvFlags) -> io::Result<()> {
        let mut bytes = vec![0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut bytes)];
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(&self.socket, into, &mut beside, flags | RecvFlags::CMSG_CLOEXEC)
        })?;
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                // What comes beside no message of ours is closed.
                self.descriptors.extend(rights.take(MAX_DESCRIPTORS));
                self.descriptors.truncate(MAX_DESCRIPTORS);
            }
        }
        self.is_over = received.bytes == 0;
        self.arrived.extend_from_slice(&bytes[..received.bytes]);
        Ok(())
    }
}

/// Polls readable when something has arrived, or the other end is closed.
impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_message_comes_whole_with_its_descriptors() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (ours, mut theirs) = (Wire::new(ours), Wire::new(theirs));
        let (mut reader, writer) = io::pipe().unwrap();
        let text = "x\n".repeat(1 << 20);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                ours.send(&text, &[writer.as_fd()]).unwrap();
                ours.send(&7, &[]).unwrap();
            });
            let (received, mut descriptors) = theirs.receive::<String>().unwrap();
            assert!(received == text);
            std::fs::File::from(descriptors.remove(0)).write_all(b"hello").unwrap();
        });
        drop(writer);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "hello");
        assert_eq!(theirs.receive::<u32>().unwrap().0, 7);
        assert!(theirs.fill_now().unwrap(), "nothing yet");
        drop(ours);
        let gone = theirs.receive::<u32>().unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
        assert!(!theirs.fill_now().unwrap());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut theirs = Wire::new(theirs);
        ours.write_all(b"{\xff}\n").unwrap();
        assert!(theirs.receive::<u32>().is_err());
    }
}
