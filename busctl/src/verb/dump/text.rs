//! Frames as text: in the format of `shmif_dumpbus`, with a summary of each frame, or as JSON.

use std::io::{self, Write};

use capture::Summary;
use serde::Serialize;
use shmbus::{BusState, Frame};

use crate::style::Palette;

/// The format of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextFormat {
    /// As `shmif_dumpbus`.
    Plain,
    /// A line for each frame, with a summary.
    Summary,
    /// A JSON object for each frame.
    Json { summary: bool },
}

/// When a frame was sent or arrived, since 1970 or the start of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) seconds: u64,
    pub(super) microseconds: u32,
}

/// Writes the headers and frames of buses as text.
pub(super) struct TextWriter<W> {
    form: TextFormat,
    /// The name of each bus, printed where there are several.
    names: Vec<String>,
    palette: Palette,
    file: W,
}

impl<W: Write> TextWriter<W> {
    /// Writes to `file` about the buses with these `names`.
    pub(super) fn new(form: TextFormat, names: Vec<String>, palette: Palette, file: W) -> Self {
        Self { form, names, palette, file }
    }

    pub(super) fn file_mut(&mut self) -> &mut W {
        &mut self.file
    }

    /// Writes the header of a bus.
    pub(super) fn header(&mut self, bus: usize, state: &BusState) -> io::Result<()> {
        if let TextFormat::Json { .. } = self.form {
            let header = Header {
                bus: &self.names[bus],
                version: state.version,
                locked: state.locked,
                generation: state.generation,
                first: state.first,
                last: state.last,
            };
            return json(&mut self.file, &header);
        }
        self.name(bus)?;
        let bold = self.palette.name;
        writeln!(
            self.file,
            "{bold}bus version {}{bold:#}, lock: {}, generation: {}, firstoff: {:#06x}, lastoff: {:#06x}",
            state.version,
            u8::from(state.locked),
            state.generation,
            state.first,
            state.last
        )
    }

    /// Writes frame number `number` of a bus.
    pub(super) fn frame(
        &mut self,
        bus: usize,
        number: u64,
        Stamp { seconds, microseconds }: Stamp,
        frame: &Frame<'_>,
    ) -> io::Result<()> {
        let info = frame.info;
        let Palette { name, faint, .. } = self.palette;
        match self.form {
            TextFormat::Json { summary } => {
                let line = Line {
                    bus: &self.names[bus],
                    packet: number,
                    offset: info.offset,
                    length: frame.bytes.len(),
                    seconds,
                    microseconds,
                    // In hexadecimal, because few readers of JSON keep 64 bits of a number.
                    sender: (info.sender != 0).then(|| format!("{:016x}", info.sender)),
                    summary: summary.then(|| Summary(frame.bytes).to_string()),
                };
                json(&mut self.file, &line)
            }
            TextFormat::Summary => {
                self.name(bus)?;
                writeln!(
                    self.file,
                    "{faint}{number} {seconds}.{microseconds:06}{faint:#} {}, {} bytes",
                    Summary(frame.bytes),
                    frame.bytes.len()
                )
            }
            TextFormat::Plain => {
                self.name(bus)?;
                writeln!(
                    self.file,
                    "{name}packet {number}{name:#}, offset {:#06x}, length {:#06x}, {faint}ts {seconds}/{microseconds:06}{faint:#}",
                    info.offset,
                    frame.bytes.len(),
                )
            }
        }
    }

    fn name(&mut self, bus: usize) -> io::Result<()> {
        let bold = self.palette.name;
        if self.names.len() > 1 {
            write!(self.file, "{bold}{}{bold:#}: ", self.names[bus])
        } else {
            Ok(())
        }
    }
}

fn json(file: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

/// The keys of a bus's first line in JSON.
#[derive(Serialize)]
struct Header<'a> {
    bus: &'a str,
    version: u32,
    locked: bool,
    generation: u64,
    first: u32,
    last: u32,
}

/// The keys of a frame's line in JSON.
#[derive(Serialize)]
struct Line<'a> {
    bus: &'a str,
    packet: u64,
    offset: u32,
    length: usize,
    seconds: u64,
    microseconds: u32,
    sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
}
