//! What happens to a bus after it was opened: the second half of an input.

use super::bus_file::BusFile;
use super::input::{FILE, Input};

/// One thing that happens.
#[derive(Debug)]
pub(super) enum Step<'i> {
    /// Bytes are written somewhere in the file.
    Scribble { at: u32, bytes: &'i [u8] },
    /// `lock` and its neighbour are written.
    Lock { word: &'i [u8] },
    /// The file gets another size.
    Cut { len: u32 },
    /// A station sends a frame.
    Send { len: u16 },
    /// A reader reads what is there.
    Receive,
}

const LOCK: u32 = 24;
/// More steps than this say nothing new.
const MAX_STEPS: usize = 100;

pub(super) fn read<'i>(input: &mut Input<'i>) -> Vec<Step<'i>> {
    let mut steps = Vec::new();
    while !input.is_empty() && steps.len() < MAX_STEPS {
        steps.push(match input.u8() % 5 {
            0 => {
                let (at, len) = (input.u32(), input.u8());
                Step::Scribble { at, bytes: input.bytes(len.into()) }
            }
            1 => Step::Lock { word: input.bytes(8) },
            2 => Step::Cut { len: input.u32() },
            3 => Step::Send { len: input.u16() },
            _ => Step::Receive,
        });
    }
    steps
}

impl Step<'_> {
    pub(super) fn is_cut(&self) -> bool {
        matches!(self, Self::Cut { .. })
    }

    /// Does what a vandal does; the rest is for the members.
    pub(super) fn vandalise(&self, file: &BusFile) {
        match *self {
            Self::Scribble { at, bytes } => {
                // All within the smallest bus: the file is not to grow by it.
                let room = u32::try_from(FILE - bytes.len()).expect("a small file");
                file.write(at % (room + 1), bytes);
            }
            Self::Lock { word } => file.write(LOCK, word),
            Self::Cut { len } => file.cut(len % (2 << 20)),
            Self::Send { .. } | Self::Receive => {}
        }
    }
}
