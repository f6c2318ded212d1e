//! The messages of the control channel: 128 bytes each, packed, a `u16` type first.

use super::secret::{SECRET_LEN, Secret};
use super::text::Text;
use crate::error::ProtocolError;

/// Bytes of every message.
pub(crate) const MESSAGE_LEN: usize = 128;

/// Name fields: interface and application.
pub(crate) type Name = Text<32>;
/// The reason in a DISCONNECT.
pub(crate) type Reason = Text<96>;

/// One message. Bytes behind the fields are ignored on reading and written as zeros.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Ack,
    Hello(Hello),
    Init(Init),
    AddRegion { index: u16, size: u64 },
    AddRing(AddRing),
    Connect { name: Name },
    Connected { name: Name },
    Disconnect { code: u32, reason: Reason },
}

/// The server's bounds: each is the highest value allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hello {
    pub(crate) app_name: Name,
    pub(crate) min_version: u16,
    pub(crate) max_version: u16,
    pub(crate) max_region: u16,
    pub(crate) max_m2s_ring: u16,
    pub(crate) max_s2m_ring: u16,
    pub(crate) max_log2_ring_size: u8,
}

/// The client's request for one interface of the server.
#[derive(Debug, Clone)]
pub(crate) struct Init {
    pub(crate) version: u16,
    pub(crate) id: u32,
    pub(crate) mode: u8,
    pub(crate) secret: Secret,
    pub(crate) app_name: Name,
}

/// One ring in the client's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddRing {
    pub(crate) s2m: bool,
    pub(crate) index: u16,
    pub(crate) region: u16,
    pub(crate) offset: u32,
    pub(crate) log2_size: u8,
    pub(crate) private_header: u16,
}

/// Reads fields one after the other. The message's length is checked already, and the fields of
/// every type fit into it.
struct Fields<'a>(&'a [u8; MESSAGE_LEN], usize);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.0[self.1..self.1 + N]);
        self.1 += N;
        field
    }
    fn u8(&mut self) -> u8 {
        u8::from_ne_bytes(self.bytes())
    }
    fn u16(&mut self) -> u16 {
        u16::from_ne_bytes(self.bytes())
    }
    fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.bytes())
    }
    fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.bytes())
    }
    fn text<const N: usize>(&mut self) -> Text<N> {
        Text::from_wire(self.bytes())
    }
}

/// Writes fields one after the other into a zeroed message.
struct Writer([u8; MESSAGE_LEN], usize);

impl Writer {
    fn put(mut self, field: &[u8]) -> Self {
        self.0[self.1..self.1 + field.len()].copy_from_slice(field);
        self.1 += field.len();
        self
    }
    fn u8(self, value: u8) -> Self {
        self.put(&[value])
    }
    fn u16(self, value: u16) -> Self {
        self.put(&value.to_ne_bytes())
    }
    fn u32(self, value: u32) -> Self {
        self.put(&value.to_ne_bytes())
    }
    fn u64(self, value: u64) -> Self {
        self.put(&value.to_ne_bytes())
    }
}

impl Message {
    /// Decodes a packet of the socket.
    pub(crate) fn decode(packet: &[u8]) -> Result<Self, ProtocolError> {
        let whole: &[u8; MESSAGE_LEN] =
            packet.try_into().map_err(|_| ProtocolError::MessageLength { bytes: packet.len() })?;
        let mut f = Fields(whole, 0);
        Ok(match f.u16() {
            1 => Self::Ack,
            2 => Self::Hello(Hello {
                app_name: f.text(),
                min_version: f.u16(),
                max_version: f.u16(),
                max_region: f.u16(),
                max_m2s_ring: f.u16(),
                max_s2m_ring: f.u16(),
                max_log2_ring_size: f.u8(),
            }),
            3 => Self::Init(Init {
                version: f.u16(),
                id: f.u32(),
                mode: f.u8(),
                secret: Secret::from_wire(f.bytes::<SECRET_LEN>()),
                app_name: f.text(),
            }),
            4 => Self::AddRegion { index: f.u16(), size: f.u64() },
            5 => Self::AddRing(AddRing {
                s2m: f.u16() & 1 != 0,
                index: f.u16(),
                region: f.u16(),
                offset: f.u32(),
                log2_size: f.u8(),
                private_header: f.u16(),
            }),
            6 => Self::Connect { name: f.text() },
            7 => Self::Connected { name: f.text() },
            8 => Self::Disconnect { code: f.u32(), reason: f.text() },
            unknown => return Err(ProtocolError::MessageType { kind: unknown }),
        })
    }

    /// Returns the 128 bytes to send.
    pub(crate) fn encode(&self) -> [u8; MESSAGE_LEN] {
        let w = Writer([0; MESSAGE_LEN], 0);
        let w = match self {
            Self::Ack => w.u16(1),
            Self::Hello(hello) => w
                .u16(2)
                .put(hello.app_name.wire())
                .u16(hello.min_version)
                .u16(hello.max_version)
                .u16(hello.max_region)
                .u16(hello.max_m2s_ring)
                .u16(hello.max_s2m_ring)
                .u8(hello.max_log2_ring_size),
            Self::Init(init) => w
                .u16(3)
                .u16(init.version)
                .u32(init.id)
                .u8(init.mode)
                .put(init.secret.wire())
                .put(init.app_name.wire()),
            Self::AddRegion { index, size } => w.u16(4).u16(*index).u64(*size),
            Self::AddRing(ring) => w
                .u16(5)
                .u16(u16::from(ring.s2m))
                .u16(ring.index)
                .u16(ring.region)
                .u32(ring.offset)
                .u8(ring.log2_size)
                .u16(ring.private_header),
            Self::Connect { name } => w.u16(6).put(name.wire()),
            Self::Connected { name } => w.u16(7).put(name.wire()),
            Self::Disconnect { code, reason } => w.u16(8).u32(*code).put(reason.wire()),
        };
        w.0
    }

    /// Returns the message's name in the protocol.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Ack => "ACK",
            Self::Hello(_) => "HELLO",
            Self::Init(_) => "INIT",
            Self::AddRegion { .. } => "ADD_REGION",
            Self::AddRing(_) => "ADD_RING",
            Self::Connect { .. } => "CONNECT",
            Self::Connected { .. } => "CONNECTED",
            Self::Disconnect { .. } => "DISCONNECT",
        }
    }

    /// Returns the number of file descriptors that the message carries: 0 or 1.
    pub(crate) fn fds(&self) -> usize {
        usize::from(matches!(self, Self::AddRegion { .. } | Self::AddRing(_)))
    }

    /// Returns the error of a message that came with `got` descriptors.
    pub(crate) fn fd_count(&self, got: usize) -> ProtocolError {
        ProtocolError::FdCount { message: self.kind(), got, want: self.fds() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_lie_where_other_implementations_put_them() {
        let ring = AddRing {
            s2m: true,
            index: 2,
            region: 3,
            offset: 16_512,
            log2_size: 10,
            private_header: 0,
        };
        let wire = Message::AddRing(ring).encode();
        assert_eq!(wire[..2], 5u16.to_ne_bytes());
        assert_eq!(wire[2..4], 1u16.to_ne_bytes());
        assert_eq!(wire[4..6], 2u16.to_ne_bytes());
        assert_eq!(wire[6..8], 3u16.to_ne_bytes());
        assert_eq!(wire[8..12], 16_512u32.to_ne_bytes());
        assert_eq!(wire[12], 10);
        assert!(wire[13..].iter().all(|byte| *byte == 0));

        let wire = Message::AddRegion { index: 1, size: 1 << 33 }.encode();
        assert_eq!(wire[4..12], (1u64 << 33).to_ne_bytes());

        let secret = Secret::new("s3cret").unwrap();
        let init = Init { version: 0x0200, id: 7, mode: 0, secret, app_name: Name::new("app") };
        let wire = Message::Init(init).encode();
        assert_eq!(wire[4..8], 7u32.to_ne_bytes());
        assert_eq!(&wire[9..15], b"s3cret");
        assert_eq!(&wire[33..36], b"app");
    }

    #[test]
    fn wrong_lengths_and_types_are_named() {
        for bytes in [0, 1, 127, 129] {
            let decoded = Message::decode(&vec![0; bytes]);
            assert!(
                matches!(decoded, Err(ProtocolError::MessageLength { bytes: b }) if b == bytes)
            );
        }
        for kind in [0u16, 9, 0xFFFF] {
            let mut wire = [0; MESSAGE_LEN];
            wire[..2].copy_from_slice(&kind.to_ne_bytes());
            assert!(
                matches!(Message::decode(&wire), Err(ProtocolError::MessageType { kind: k }) if k == kind)
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_and_decoding_is_stable(
            kind in 0u16..12, mut wire in proptest::collection::vec(any::<u8>(), MESSAGE_LEN)
        ) {
            wire[..2].copy_from_slice(&kind.to_ne_bytes());
            if let Ok(message) = Message::decode(&wire) {
                let again = Message::decode(&message.encode()).unwrap();
                prop_assert_eq!(again.encode(), message.encode());
            }
        }
    }
}
