//! What an input says: a bus file, told in few bytes, and what happens to it afterwards.
//!
//! ```text
//!   size         1 byte     0: a bus's, 1: one more, 2: the header's, 3 to 9: that many MiB, more: that many pages
//!   header      32 bytes    as it stands in the file
//!   patches      1 byte     how many follow
//!     at         4 bytes    little-endian, like all numbers here: a ring offset, modulo the ring's size
//!     stride     2 bytes    how far apart the copies lie
//!     copies     2 bytes
//!     len        1 byte
//!     bytes
//!   the rest                see `script`
//! ```
//!
//! What is missing at the end is zero, so that every input says something. Seeds are told in the
//! same terms by [`Recipe`].

/// Bytes of an ordinary bus file.
pub(crate) const FILE: usize = 1 << 20;

pub(crate) const HEADER: usize = 32;
pub(crate) const PACKET_HEADER: u32 = 24;
pub(crate) const RING: u32 = 1_048_544;

/// More copies of a patch than fit the ring with nothing but packet headers are of no use.
const MAX_COPIES: u16 = 2_000;

/// An input, taken apart from front to back.
pub(crate) struct Input<'i>(&'i [u8]);

impl<'i> Input<'i> {
    pub(crate) fn new(bytes: &'i [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.bytes(N);
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
}

/// A bus file as an input tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) size: u8,
    pub(crate) header: [u8; HEADER],
    pub(crate) patches: Vec<Patch>,
    /// What comes after.
    pub(crate) script: Vec<u8>,
}

/// Bytes on the ring, once or in many copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) at: u32,
    pub(crate) stride: u16,
    pub(crate) copies: u16,
    pub(crate) bytes: Vec<u8>,
}

impl Recipe {
    pub(crate) fn read(input: &mut Input<'_>) -> Self {
        let (size, header) = (input.u8(), input.array());
        let count = input.u8();
        let mut patches = Vec::new();
        for _ in 0..count {
            let (at, stride, copies) = (input.u32(), input.u16(), input.u16());
            let len = input.u8();
            let bytes = input.bytes(len.into()).to_vec();
            patches.push(Patch { at, stride, copies, bytes });
            if input.is_empty() {
                break;
            }
        }
        Self { size, header, patches, script: input.0.to_vec() }
    }

    /// The input that says this.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.size];
        bytes.extend(self.header);
        bytes.push(u8::try_from(self.patches.len()).expect("a recipe has few patches"));
        for patch in &self.patches {
            bytes.extend(patch.at.to_le_bytes());
            bytes.extend(patch.stride.to_le_bytes());
            bytes.extend(patch.copies.to_le_bytes());
            bytes.push(u8::try_from(patch.bytes.len()).expect("a patch is short"));
            bytes.extend(&patch.bytes);
        }
        bytes.extend(&self.script);
        bytes
    }

    /// The file.
    pub(crate) fn bake(&self) -> Vec<u8> {
        let size = match self.size {
            0 => FILE,
            1 => FILE + 1,
            2 => HEADER,
            mebibytes @ 3..10 => usize::from(mebibytes) << 20,
            pages => usize::from(pages) << 12,
        };
        let mut file = vec![0; size.max(FILE)];
        file[..HEADER].copy_from_slice(&self.header);
        let ring = u32::try_from(file.len() - HEADER).expect("some MiB");
        for patch in &self.patches {
            let mut at = patch.at % ring;
            for _ in 0..patch.copies.min(MAX_COPIES) {
                put(&mut file[HEADER..], at, &patch.bytes);
                at = (at + u32::from(patch.stride)) % ring;
            }
        }
        file.truncate(size);
        file
    }
}

/// Puts bytes onto a ring, around its end if need be.
fn put(ring: &mut [u8], at: u32, bytes: &[u8]) {
    let at = at as usize;
    let (head, tail) = bytes.split_at(bytes.len().min(ring.len() - at));
    ring[at..][..head.len()].copy_from_slice(head);
    ring[..tail.len()].copy_from_slice(tail);
}
