//! The format pcapng: blocks, of which some hold frames.
//!
//! The byte order of a section, the link types and limits of its interfaces, and lengths are all
//! that a reader needs. Options and blocks of other types are passed over unread, so nothing in
//! them is wrong.

use std::io::{self, Read};

use crate::error::CaptureError;
use crate::input::{Input, MAX_CAPTURED, Order};
use crate::step::{ETHERNET, IMPLAUSIBLE, MAX_PLAUSIBLE, Step, Why};

/// The type of the block that begins a section: the same in either byte order.
pub(crate) const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Tells the byte order of a section.
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

const INTERFACE: u32 = 1;
/// The older form of the enhanced packet.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Bytes of a block before its body: type and length.
const HEAD: usize = 8;
/// Bytes of a block behind its body: the length once more.
const TAIL: usize = 4;
/// Bytes of a simple packet block beside its frame.
const SIMPLE_OVERHEAD: u32 = 16;
/// Bytes of a section's block that are read: its head, byte order and version.
const SECTION_HEAD: usize = HEAD + 8;

/// The most interfaces that are kept for a section. A packet block cannot name more.
const MAX_INTERFACES: usize = 1 << 16;

/// A capture from its first section on.
#[derive(Debug)]
pub(crate) struct Pcapng {
    order: Order,
    interfaces: Vec<Interface>,
    /// Bytes to drop before the next block.
    left: u64,
    /// The length of the block that is being dropped, when it is no multiple of 4: some writers
    /// leave the padding out of the length, others out of the block.
    odd: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: u16,
    /// The limit of captured bytes; 0 for none.
    snaplen: u32,
}

/// How the beginning of a section was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Begun,
    Truncated,
    Damaged(&'static str),
}

/// Where a packet block has its frame.
struct Packet {
    interface: u32,
    /// Bytes before the frame, from the beginning of the block.
    at: usize,
    captured: u32,
    original: u32,
}

impl Pcapng {
    /// Makes the state before the first section.
    pub(crate) fn new() -> Self {
        Self { order: Order::Little, interfaces: Vec::new(), left: 0, odd: None }
    }

    /// Begins a section, whose block is next in the input.
    pub(crate) fn begin_section<R: Read>(&mut self, input: &mut Input<R>) -> io::Result<Section> {
        if !input.fill(SECTION_HEAD)? {
            return Ok(Section::Truncated);
        }
        let bytes = input.bytes();
        let order = [Order::Little, Order::Big]
            .into_iter()
            .find(|order| order.u32(bytes, HEAD) == BYTE_ORDER_MAGIC);
        let Some(order) = order else {
            return Ok(Section::Damaged("its byte order is unknown"));
        };
        if order.u16(bytes, HEAD + 4) != 1 {
            return Ok(Section::Damaged("its version is not 1"));
        }
        let length = order.u32(bytes, 4);
        if (length as usize) < SECTION_HEAD + 8 + TAIL {
            return Ok(Section::Damaged("a section's block is too short"));
        }
        self.order = order;
        self.interfaces.clear();
        self.drop_block(length);
        Ok(Section::Begun)
    }

    /// Finds the next frame, which has this number.
    pub(crate) fn next<R: Read>(
        &mut self,
        input: &mut Input<R>,
        number: u64,
    ) -> Result<Step, CaptureError> {
        let truncated = || CaptureError::Truncated(number);
        let damaged = |why| CaptureError::Damaged { frame: number, why };
        loop {
            if !self.finish_block(input)? {
                return Err(truncated());
            }
            if !input.fill(HEAD)? {
                return Ok(Step::End { trailing: input.bytes().len() });
            }
            let bytes = input.bytes();
            if bytes[..4] == SECTION {
                match self.begin_section(input)? {
                    Section::Begun => continue,
                    Section::Truncated => return Err(truncated()),
                    Section::Damaged(why) => return Err(damaged(why)),
                }
            }
            let (kind, length) = (self.order.u32(bytes, 0), self.order.u32(bytes, 4));
            let fields = match kind {
                INTERFACE | SIMPLE_PACKET => HEAD + if kind == INTERFACE { 8 } else { 4 },
                PACKET | ENHANCED_PACKET => HEAD + 20,
                _ => HEAD,
            };
            if (length as usize) < fields + TAIL {
                return Err(damaged("a block is too short"));
            }
            if !input.fill(fields)? {
                return Err(truncated());
            }
            let bytes = input.bytes();
            let packet = match kind {
                INTERFACE => {
                    let interface = Interface {
                        link: self.order.u16(bytes, HEAD),
                        snaplen: self.order.u32(bytes, HEAD + 4),
                    };
                    if self.interfaces.len() < MAX_INTERFACES {
                        self.interfaces.push(interface);
                    }
                    None
                }
                SIMPLE_PACKET => Some(self.simple_packet(bytes, length)),
                PACKET | ENHANCED_PACKET => Some(self.packet(bytes, kind)),
                _ => None,
            };
            let Some(packet) = packet else {
                self.drop_block(length);
                continue;
            };
            if let Some(why) = self.uselessness(&packet) {
                self.drop_block(length);
                return Ok(Step::Skipped(why));
            }
            let Packet { at, captured, original, .. } = packet;
            if captured > MAX_PLAUSIBLE {
                return Err(damaged(IMPLAUSIBLE));
            }
            let end = at + captured as usize;
            if end > length as usize - TAIL {
                return Err(damaged("the frame is longer than its block"));
            }
            if captured as usize > MAX_CAPTURED {
                self.drop_block(length);
                return Ok(Step::Skipped(Why::Giant));
            }
            if !input.fill(end)? {
                return Err(truncated());
            }
            self.drop_block(length);
            return Ok(Step::Frame { at: at..end, original });
        }
    }

    /// Reads the fields of an enhanced packet block, or of its older form.
    fn packet(&self, bytes: &[u8], kind: u32) -> Packet {
        let interface = if kind == PACKET {
            // The next two bytes count drops.
            self.order.u16(bytes, HEAD).into()
        } else {
            self.order.u32(bytes, HEAD)
        };
        Packet {
            interface,
            at: HEAD + 20,
            captured: self.order.u32(bytes, HEAD + 12),
            original: self.order.u32(bytes, HEAD + 16),
        }
    }

    /// Reads the field of a simple packet block. No field tells where its frame ends and its
    /// padding begins, unless the interface has a limit.
    fn simple_packet(&self, bytes: &[u8], length: u32) -> Packet {
        let at = HEAD + 4;
        let original = self.order.u32(bytes, HEAD);
        let limit = match self.interfaces.first() {
            Some(interface) if interface.snaplen > 0 => interface.snaplen,
            _ => u32::MAX,
        };
        let room = length.saturating_sub(SIMPLE_OVERHEAD);
        Packet { interface: 0, at, captured: original.min(limit).min(room), original }
    }

    /// Returns why the frame is of no use, or `None` when it is.
    fn uselessness(&self, packet: &Packet) -> Option<Why> {
        match self.interfaces.get(packet.interface as usize) {
            None => Some(Why::NoInterface),
            Some(interface) if interface.link != ETHERNET => Some(Why::OtherLink(interface.link)),
            Some(_) => None,
        }
    }

    /// Has a block of this length, which is next in the input, dropped before the next one.
    fn drop_block(&mut self, length: u32) {
        if length.is_multiple_of(4) {
            self.left = length.into();
        } else {
            self.left = (length as usize - TAIL) as u64;
            self.odd = Some(length);
        }
    }

    /// Drops the rest of the block before. Returns `false` when the input ends in it.
    fn finish_block<R: Read>(&mut self, input: &mut Input<R>) -> io::Result<bool> {
        if !input.skip(&mut self.left)? {
            return Ok(false);
        }
        let Some(length) = self.odd else { return Ok(true) };
        if !input.fill(TAIL)? {
            return Ok(false);
        }
        // Where the length is repeated, the block ends.
        let padding = if self.order.u32(input.bytes(), 0) == length { 0 } else { 4 - length % 4 };
        self.left = u64::from(padding) + TAIL as u64;
        self.odd = None;
        input.skip(&mut self.left)
    }
}
