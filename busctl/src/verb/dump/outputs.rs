//! Where a dump goes: text on stdout, and a capture beside it.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use capture::{Account, CaptureWriter, CapturedInterface, Compression, Format};
use shmbus::BusState;

use super::Args;
use super::files::{Files, Rotation};
use super::source::{Dumped, OpenBus};
use super::stamp::{Stamp, StampForm};
use super::text::{SummaryForm, TextFormat, TextSource, TextWriter};
use super::write_behind::{Sink, WriteBehind};
use crate::misuse::misuse;
use crate::output;
use crate::process::shutdown::Shutdown;
use crate::style::Palette;

/// Text, a capture, or both.
pub(super) struct Outputs {
    text: Option<TextWriter<WriteBehind>>,
    capture: Option<CaptureWriter<WriteBehind>>,
    rotation: Option<Rotation>,
    /// For each bus.
    accounts: Vec<Account>,
    /// When the file that is written was begun.
    begun: Instant,
    /// How many files were begun.
    files: u32,
    /// Bytes of a frame that are kept.
    snaplen: usize,
    /// With `--arrival`, when the latest burst was read, since 1970.
    arrival: Option<Duration>,
}

impl Outputs {
    /// Opens stdout for text, and the capture file that was asked for. When that is `-`, the
    /// capture goes to stdout and the text to stderr. Returns `None` when the file is a pipe without
    /// a reader and this process is asked to `stop` before there is one.
    pub(super) fn open(
        args: &Args,
        buses: &[OpenBus],
        stop: &Shutdown,
    ) -> anyhow::Result<Option<Self>> {
        let rotation = args.rotation();
        let capture = match args.write.as_deref() {
            None => None,
            Some(file) => match open_capture(args, file, rotation, buses, stop)? {
                None => return Ok(None),
                capture => capture,
            },
        };
        let stdout_is_taken = args.write.as_deref().is_some_and(is_stdout);
        let text = match (args.is_silent(), stdout_is_taken) {
            (true, _) => None,
            (false, false) => {
                let file = WriteBehind::new(Stream(output::stdout()), stop)?;
                Some((file, Palette::of(&io::stdout())))
            }
            (false, true) => {
                let file = WriteBehind::new(Stream(io::stderr()), stop)?;
                Some((file, Palette::of(&io::stderr())))
            }
        };
        let form = if args.json {
            TextFormat::Json { summary: args.verbose > 0 }
        } else if args.verbose > 0 || args.quiet || args.habits.any() || args.is_memif() {
            TextFormat::Summary(SummaryForm {
                ethernet: args.verbose > 0 || args.habits.ethernet,
                details: args.verbose > 1,
                short: args.quiet,
                stamp: StampForm::of(args.habits.times),
                hex: args.habits.hex(),
            })
        } else {
            TextFormat::Plain
        };
        let source = |bus: &OpenBus| TextSource { name: bus.name.clone(), link: bus.link };
        let sources: Vec<_> = buses.iter().map(source).collect();
        let text = text.map(|(file, palette)| TextWriter::new(form, sources, palette, file));
        let accounts = vec![Account::default(); buses.len()];
        let arrival = args.arrival.then_some(Duration::ZERO);
        let (begun, snaplen) = (Instant::now(), args.snaplen());
        Ok(Some(Self { text, capture, rotation, accounts, begun, files: 1, snaplen, arrival }))
    }

    /// Prints the header of a bus.
    pub(super) fn header(&mut self, bus: usize, state: &BusState) -> io::Result<()> {
        self.text.as_mut().map_or(Ok(()), |text| text.header(bus, state))
    }

    /// Notes that the next frames have arrived now.
    pub(super) fn note_arrival(&mut self) {
        if let Some(arrival) = &mut self.arrival {
            // A clock before 1970 is not set: any stamp is as good.
            *arrival = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        }
    }

    /// Returns whether the time of the last file is over, where files have a time and a number. On a
    /// silent bus no file begins, and the time of all that are left is waited for.
    pub(super) fn are_complete(&self) -> bool {
        let Some(Rotation { files: Some(files), period: Some(period), .. }) = self.rotation else {
            return false;
        };
        let left = files.saturating_sub(self.files).saturating_add(1);
        self.begun.elapsed() >= period.saturating_mul(left)
    }

    /// Prints and saves a frame, unless the outputs [are complete](Self::are_complete).
    #[inline]
    pub(super) fn frame(&mut self, bus: usize, frame: &Dumped<'_>) -> io::Result<()> {
        if self.are_complete() {
            return Ok(());
        }
        let stamp = match self.arrival {
            None => frame.stamp,
            Some(arrival) => {
                Stamp { seconds: arrival.as_secs(), microseconds: arrival.subsec_micros() }
            }
        };
        // On a damaged bus the microseconds may have any value; they must not carry into the
        // seconds.
        let time = Duration::new(stamp.seconds, stamp.microseconds.min(999_999) * 1000);
        if let Some(capture) = &mut self.capture {
            if let Some(rotation) = self.rotation
                && (rotation.size.is_some_and(|size| capture.file_mut().in_file() > size)
                    || rotation.period.is_some_and(|period| self.begun.elapsed() >= period))
            {
                write_accounts(capture, &self.accounts)?;
                capture.file_mut().rotate();
                capture.begin_again()?;
                (self.begun, self.files) = (Instant::now(), self.files.saturating_add(1));
            }
            let interface = u32::try_from(bus).unwrap_or(u32::MAX);
            let kept = &frame.bytes[..frame.bytes.len().min(self.snaplen)];
            let len = frame.bytes.len();
            capture.cut_frame(interface, time, frame.sender, kept, len)?;
        }
        let account = &mut self.accounts[bus];
        if let Some(text) = &mut self.text {
            text.frame(bus, account.frames, stamp, frame, self.snaplen)?;
        }
        account.frames += 1;
        account.latest = time;
        Ok(())
    }

    /// Returns the number of frames so far.
    pub(super) fn frames(&self) -> u64 {
        self.accounts.iter().map(|account| account.frames).sum()
    }

    /// Sets the comment on a bus in the capture: what was missed of it.
    pub(super) fn comment(&mut self, bus: usize, comment: Option<String>) {
        self.accounts[bus].comment = comment;
    }

    /// Passes buffered bytes to the writers.
    pub(super) fn flush(&mut self) {
        self.writers().for_each(WriteBehind::flush_chunk);
    }

    /// Fails when an output could not be written.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.writers().try_for_each(WriteBehind::check)
    }

    /// Waits until all is written. The error of the capture comes first: an incomplete capture is
    /// the worse failure.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        if let Some(capture) = &mut self.capture {
            write_accounts(capture, &self.accounts)?;
        }
        let mut results = self.writers().map(WriteBehind::finish).collect::<Vec<_>>().into_iter();
        results.try_for_each(|result| result)
    }

    /// Returns the writers, the capture's first.
    fn writers(&mut self) -> impl Iterator<Item = &mut WriteBehind> {
        let capture = self.capture.as_mut().map(CaptureWriter::file_mut);
        capture.into_iter().chain(self.text.as_mut().map(TextWriter::file_mut))
    }
}

fn write_accounts(
    capture: &mut CaptureWriter<WriteBehind>,
    accounts: &[Account],
) -> io::Result<()> {
    (0..).zip(accounts).try_for_each(|(interface, account)| capture.account(interface, account))
}

fn open_capture(
    args: &Args,
    file: &Path,
    rotation: Option<Rotation>,
    buses: &[OpenBus],
    stop: &Shutdown,
) -> anyhow::Result<Option<CaptureWriter<WriteBehind>>> {
    let format = args.format.map_or_else(|| format_of(file), Format::from);
    if format == Format::Pcap && buses.len() > 1 {
        return Err(misuse(anyhow!(
            "a pcap cannot hold several buses: write a pcapng, with --format pcapng or a FILE that ends in .pcapng"
        )));
    }
    let interfaces = buses
        .iter()
        .map(|bus| {
            let longest = bus.longest.min(u32::try_from(args.snaplen()).unwrap_or(u32::MAX));
            CapturedInterface::new(bus.name.clone(), longest).link(bus.link)
        })
        .collect();
    let writer = if !is_stdout(file) {
        let buses: Vec<&Path> = buses.iter().filter_map(|bus| bus.path.as_deref()).collect();
        let Some(files) = Files::create(file, rotation, &buses, stop)? else { return Ok(None) };
        WriteBehind::new(files, stop)?
    } else if rotation.is_some() {
        return Err(misuse(anyhow!("stdout is one file: -C and -G take a FILE to number")));
    } else if io::stdout().is_terminal() {
        return Err(misuse(anyhow!(
            "a terminal cannot show a capture: redirect stdout, or say which FILE to write"
        )));
    } else {
        WriteBehind::new(Stream(output::stdout()), stop)?
    };
    Ok(Some(CaptureWriter::with_program(format, crate::PROGRAM, interfaces, writer)?))
}

/// Returns the format that the name of the file asks for; without an extension pcap, which every
/// tool reads.
fn format_of(file: &Path) -> Format {
    match Compression::of(file).1.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("pcapng") => Format::Pcapng,
        _ => Format::Pcap,
    }
}

pub(super) fn is_stdout(file: &Path) -> bool {
    file == Path::new("-")
}

/// Stdout or stderr.
struct Stream<W>(W);

impl<W: Write + Send + 'static> Sink for Stream<W> {
    fn write_chunk(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(bytes)?;
        Ok(self.0.flush()?)
    }

    /// Does nothing: a stream is one file.
    fn rotate(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}
