//! Requests to the kernel over a netlink socket, one at a time.

use std::io;

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::error::NetifError;

/// The attribute of a refusal that holds the kernel's words (`linux/netlink.h`).
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The length of the header that a refusal repeats, in bytes.
const HEADER: usize = 16;

/// A socket for requests about the network namespace it was opened in.
pub(crate) struct Netlink {
    socket: Socket,
    /// The number of the last request.
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the network namespace of this thread.
    pub(crate) fn open() -> Result<Self, NetifError> {
        let opened = Socket::new(NETLINK_ROUTE).and_then(|mut socket| {
            socket.bind_auto()?;
            // Refusals then have words, and do not repeat the request.
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            Ok(socket)
        });
        let socket = opened.map_err(NetifError::system("open a netlink socket"))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request, and returns what the kernel answers before it acknowledges the request.
    /// `what` describes the request in an error.
    pub(crate) fn request(
        &mut self,
        what: impl FnOnce() -> String,
        flags: u16,
        request: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetifError> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), request.into());
        self.sequence = self.sequence.wrapping_add(1);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(NetifError::system("send a netlink request"))?;
        let mut answers = Vec::new();
        loop {
            match self.next_answer()? {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(NetifError::Refused {
                        what: what(),
                        detail: detail(&error),
                        source: error.to_io(),
                    });
                }
                NetlinkPayload::Error(_) => return Ok(answers),
                _ => {}
            }
        }
    }

    /// Returns the next answer to the last request. The kernel answers at once.
    fn next_answer(&self) -> Result<NetlinkPayload<RouteNetlinkMessage>, NetifError> {
        loop {
            let (bytes, _) = self
                .socket
                .recv_from_full()
                .map_err(NetifError::system("receive a netlink answer"))?;
            // The answers to requests about one thing are one to a datagram.
            let message = NetlinkMessage::deserialize(&bytes).map_err(|error| {
                NetifError::system("read a netlink answer")(io::Error::other(error))
            })?;
            if message.header.sequence_number == self.sequence {
                return Ok(message.payload);
            }
        }
    }
}

/// Returns the kernel's words in a refusal.
fn detail(error: &ErrorMessage) -> Option<String> {
    let attributes = NlasIterator::new(error.header.get(HEADER..)?);
    let text = attributes
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| String::from_utf8_lossy(attribute.value()).into_owned())?;
    Some(text.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_follow_the_header_that_a_refusal_repeats() {
        let mut error = ErrorMessage::default();
        assert_eq!(detail(&error), None);
        error.header = vec![0; HEADER];
        assert_eq!(detail(&error), None);
        let attribute = |kind: u16, text: &[u8]| {
            let length = u16::try_from(4 + text.len()).expect("short");
            let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
            bytes.extend_from_slice(text);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        error.header.extend(attribute(2, &[0; 4]));
        assert_eq!(detail(&error), None);
        error.header.extend(attribute(NLMSGERR_ATTR_MSG, b"Invalid gateway\0"));
        assert_eq!(detail(&error).as_deref(), Some("Invalid gateway"));
        // An attribute that is cut is none.
        error.header.truncate(error.header.len() - 4);
        assert_eq!(detail(&error), None);
    }
}
