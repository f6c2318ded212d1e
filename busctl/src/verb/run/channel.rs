//! Messages between `run` and the processes it starts, with descriptors beside them.
//!
//! Each message is one packet on a pair of sockets. When a process ends, however that happens, the
//! others find its end of the channel closed.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most descriptors beside a message.
pub(super) const MAX_DESCRIPTORS: usize = 32;
/// The longest message, in bytes.
const MAX_LEN: usize = 128 << 10;

/// One end of a channel.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Makes both ends.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self { socket: ours }, theirs))
    }

    /// Returns the end that this process was started with as its stdin.
    pub(super) fn of_stdin() -> io::Result<Self> {
        Ok(Self { socket: io::stdin().as_fd().try_clone_to_owned()? })
    }

    /// Returns another descriptor of this end, for the stdin of a process.
    pub(super) fn share(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Sends a message, with descriptors that the receiver then has as well.
    pub(super) fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        // A receiver that is gone is an error, and no signal.
        sendmsg(&self.socket, &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for a message and the descriptors beside it.
    ///
    /// # Errors
    /// `UnexpectedEof` when the sender is gone.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<(T, Vec<OwnedFd>)> {
        let mut text = vec![0; MAX_LEN];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut text)];
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(&self.socket, into, &mut beside, RecvFlags::CMSG_CLOEXEC)
        })?;
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((serde_json::from_slice(&text[..received.bytes])?, descriptors))
    }
}

/// Polls readable when there is a message, or the other end is closed.
impl AsFd for Channel {
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
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel { socket: theirs };
        let (mut reader, writer) = io::pipe().unwrap();
        let text = "x".repeat(MAX_LEN / 2);
        ours.send(&text, &[writer.as_fd(), writer.as_fd()]).unwrap();
        ours.send(&7, &[]).unwrap();
        drop(writer);
        let (received, mut descriptors) = theirs.receive::<String>().unwrap();
        assert_eq!((received, descriptors.len()), (text, 2));
        std::fs::File::from(descriptors.remove(0)).write_all(b"hello").unwrap();
        drop(descriptors);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "hello");
        assert_eq!(theirs.receive::<u32>().unwrap().0, 7);
        drop(ours);
        let gone = theirs.receive::<u32>().unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
        assert!(theirs.send(&1, &[]).is_err());
    }
}
