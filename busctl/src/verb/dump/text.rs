//! Frames as text: in the format of `shmif_dumpbus`, with a summary of each frame, or as JSON.

use std::io::{self, Write};

use capture::{LinkDetails, LinkSummary, LinkType};
use serde::Serialize;
use shmbus::BusState;

use super::hex::Hex;
use super::source::Dumped;
use super::stamp::{Clock, Stamp, StampForm};
use crate::quantity::counted;
use crate::style::Palette;

/// The format of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextFormat {
    /// As `shmif_dumpbus`.
    Plain,
    /// A line for each frame, with a summary.
    Summary(SummaryForm),
    /// A JSON object for each frame.
    Json { summary: bool },
}

/// What a line with a summary holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag on the command line")]
pub(super) struct SummaryForm {
    /// The Ethernet addresses.
    pub(super) ethernet: bool,
    /// The fields of the IP header.
    pub(super) details: bool,
    /// Addresses and protocol only.
    pub(super) short: bool,
    pub(super) stamp: StampForm,
    /// The bytes, in lines below it.
    pub(super) hex: Option<Hex>,
}

/// What frames come from, as the text shows it.
pub(super) struct TextSource {
    pub(super) name: String,
    /// What its frames begin with.
    pub(super) link: LinkType,
}

/// Writes the headers and frames of buses as text.
pub(super) struct TextWriter<W> {
    form: TextFormat,
    /// Their names are printed where there are several.
    sources: Vec<TextSource>,
    palette: Palette,
    clock: Clock,
    file: W,
}

impl<W: Write> TextWriter<W> {
    /// Writes to `file` about these `sources`.
    pub(super) fn new(
        form: TextFormat,
        sources: Vec<TextSource>,
        palette: Palette,
        file: W,
    ) -> Self {
        let clock = Clock::new(match form {
            TextFormat::Summary(form) => form.stamp,
            TextFormat::Plain | TextFormat::Json { .. } => StampForm::Seconds,
        });
        Self { form, sources, palette, clock, file }
    }

    pub(super) fn file_mut(&mut self) -> &mut W {
        &mut self.file
    }

    /// Writes the header of a bus.
    pub(super) fn header(&mut self, bus: usize, state: &BusState) -> io::Result<()> {
        if let TextFormat::Json { .. } = self.form {
            let header = Header {
                bus: &self.sources[bus].name,
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
        stamp: Stamp,
        frame: &Dumped<'_>,
        snaplen: usize,
    ) -> io::Result<()> {
        let Stamp { seconds, microseconds } = stamp;
        let link_type = self.sources[bus].link;
        let Palette { name, faint, .. } = self.palette;
        match self.form {
            TextFormat::Json { summary } => {
                let line = Line {
                    bus: &self.sources[bus].name,
                    packet: number,
                    offset: frame.offset,
                    length: frame.bytes.len(),
                    seconds,
                    microseconds,
                    // In hexadecimal, because few readers of JSON keep 64 bits of a number.
                    sender: (frame.sender != 0).then(|| format!("{:016x}", frame.sender)),
                    summary: summary.then(|| LinkSummary(link_type, frame.bytes).to_string()),
                };
                json(&mut self.file, &line)
            }
            TextFormat::Summary(form) => {
                self.name(bus)?;
                write!(self.file, "{faint}{number} ")?;
                self.clock.write(&mut self.file, stamp)?;
                let summary = form.summary(link_type, frame.bytes);
                let len = frame.bytes.len();
                write!(self.file, "{faint:#}{summary}, {}", counted(len as u64, "byte"))?;
                if form.details {
                    write!(self.file, "{}", LinkDetails(link_type, frame.bytes))?;
                }
                self.file.write_all(b"\n")?;
                let kept = &frame.bytes[..len.min(snaplen)];
                form.hex
                    .map_or(Ok(()), |hex| hex.write(&mut self.file, kept, link_type.header_len()))
            }
            TextFormat::Plain => {
                self.name(bus)?;
                writeln!(
                    self.file,
                    "{name}packet {number}{name:#}, offset {:#06x}, length {:#06x}, {faint}ts {seconds}/{microseconds:06}{faint:#}",
                    frame.offset.unwrap_or_default(),
                    frame.bytes.len(),
                )
            }
        }
    }

    fn name(&mut self, bus: usize) -> io::Result<()> {
        let bold = self.palette.name;
        if self.sources.len() > 1 {
            write!(self.file, "{bold}{}{bold:#}: ", self.sources[bus].name)
        } else {
            Ok(())
        }
    }
}

impl SummaryForm {
    fn summary(self, link_type: LinkType, frame: &[u8]) -> String {
        let summary = LinkSummary(link_type, frame);
        let line = if self.ethernet { summary.to_string() } else { format!("{summary:#}") };
        if !self.short {
            return line;
        }
        // What follows the protocol's name.
        let protocol = line.find(": ").map_or(0, |colon| colon + 2);
        let end = line[protocol..].find([',', '[']).map_or(line.len(), |end| protocol + end);
        line[..end].trim_end().to_owned()
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
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u32>,
    length: usize,
    seconds: u64,
    microseconds: u32,
    sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
}
