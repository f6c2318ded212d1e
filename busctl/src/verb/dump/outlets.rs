//! Where a dump goes: text in `shmif_dumpbus`'s form, and a pcap file beside it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use shmbus::{BusState, Frame};

use crate::capture::PcapWriter;
use crate::exit::misuse;
use crate::{bus_file, output};

/// Bytes kept back for the sake of larger writes, while frames keep coming.
const BUFFER: usize = 1 << 16;

type Buffered = BufWriter<Box<dyn Write>>;

/// Text, and perhaps a pcap.
pub(super) struct Outlets {
    text: Buffered,
    pcap: Option<PcapWriter<Buffered>>,
    /// What to say when the pcap cannot be written; stdout says it by itself.
    about_pcap: Option<String>,
    /// Frames so far.
    frames: u64,
}

impl Outlets {
    /// Text to stdout, and a pcap to `file`, if there is one. When that is `-`, the pcap goes to stdout and the text to stderr.
    pub(super) fn open(file: Option<&Path>, bus: &Path) -> anyhow::Result<Self> {
        let stdout = || -> Box<dyn Write> { Box::new(output::stdout()) };
        let (text, pcap, about_pcap): (Box<dyn Write>, _, _) = match file {
            None => (stdout(), None, None),
            Some(file) if file == Path::new("-") => (Box::new(io::stderr()), Some(stdout()), None),
            Some(file) => {
                let pcap: Box<dyn Write> = Box::new(create(file, bus)?);
                (stdout(), Some(pcap), Some(cannot_write(file)))
            }
        };
        let text = BufWriter::with_capacity(BUFFER, text);
        let pcap = pcap.map(|pcap| PcapWriter::new(BufWriter::with_capacity(BUFFER, pcap)));
        Ok(Self { text, pcap: pcap.transpose()?, about_pcap, frames: 0 })
    }

    /// Prints what the bus says of itself.
    pub(super) fn header(&mut self, state: &BusState) -> io::Result<()> {
        writeln!(self.text, "{}", header_line(state))
    }

    /// Prints and saves a frame.
    pub(super) fn frame(&mut self, frame: &Frame<'_>) -> anyhow::Result<()> {
        if let Some(pcap) = &mut self.pcap {
            // On a damaged bus the microseconds may be anything; they are not to spoil the seconds.
            let micros = frame.info.microseconds.min(999_999);
            let time = Duration::new(frame.info.seconds.into(), micros * 1000);
            let written = pcap.write(time, frame.bytes);
            self.in_pcap(written)?;
        }
        write_packet_line(&mut self.text, self.frames, frame)?;
        self.frames += 1;
        Ok(())
    }

    /// Hands on what was kept back.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        let text = self.text.flush();
        let pcap = self.pcap.as_mut().map_or(Ok(()), PcapWriter::flush);
        // A capture that is not whole is the greater trouble.
        self.in_pcap(pcap)?;
        Ok(text?)
    }

    fn in_pcap(&self, result: io::Result<()>) -> anyhow::Result<()> {
        match &self.about_pcap {
            Some(about) => result.with_context(|| about.clone()),
            None => Ok(result?),
        }
    }
}

fn cannot_write(file: &Path) -> String {
    format!("cannot write to {}", file.display())
}

/// Makes the file, or empties it, but not when it is the bus itself: whoever has that mapped would die of it.
fn create(file: &Path, bus: &Path) -> anyhow::Result<File> {
    let identity = |path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    if identity(file).is_some_and(|found| Some(found) == identity(bus)) {
        return Err(misuse(anyhow!("{}: it is the bus itself", cannot_write(file))));
    }
    File::create(file).map_err(|error| {
        let passing = bus_file::is_passing(&error);
        let error = anyhow::Error::new(error).context(cannot_write(file));
        if passing { error } else { misuse(error) }
    })
}

fn header_line(state: &BusState) -> String {
    format!(
        "bus version {}, lock: {}, generation: {}, firstoff: {:#06x}, lastoff: {:#06x}",
        state.version,
        u8::from(state.locked),
        state.generation,
        state.first,
        state.last
    )
}

fn write_packet_line(text: &mut impl Write, number: u64, frame: &Frame<'_>) -> io::Result<()> {
    let info = frame.info;
    writeln!(
        text,
        "packet {number}, offset {:#06x}, length {:#06x}, ts {}/{:06}",
        info.offset,
        frame.bytes.len(),
        info.seconds,
        info.microseconds
    )
}
