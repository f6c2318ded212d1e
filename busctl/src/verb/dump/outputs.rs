//! Where a dump goes: text on stdout, and a capture beside it.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use capture::{Account, CaptureWriter, CapturedInterface, Format};
use shmbus::{BusState, Frame};

use super::Args;
use super::files::{Files, Turns};
use super::source::Subject;
use super::text::{Form, Text};
use super::write_behind::{Behind, Sink};
use crate::misuse::misuse;
use crate::output;
use crate::style::Palette;

/// Text, a capture, or both.
pub(super) struct Outlets {
    text: Option<Text<Behind>>,
    capture: Option<CaptureWriter<Behind>>,
    turns: Option<Turns>,
    /// For each bus.
    accounts: Vec<Account>,
}

impl Outlets {
    /// Text to stdout, and a capture to the file that was asked for. When that is `-`, the capture goes to stdout and the
    /// text to stderr.
    pub(super) fn open(args: &Args, subjects: &[Subject]) -> anyhow::Result<Self> {
        let turns = args.turns();
        let capture = match args.write.as_deref() {
            None => None,
            Some(file) => Some(open_capture(args, file, turns, subjects)?),
        };
        let stdout_is_taken = args.write.as_deref().is_some_and(is_stdout);
        let text = match (args.quiet, stdout_is_taken) {
            (true, _) => None,
            (false, false) => Some((Behind::new(Stream(output::stdout()))?, Palette::of(&io::stdout()))),
            (false, true) => Some((Behind::new(Stream(io::stderr()))?, Palette::of(&io::stderr()))),
        };
        let form = match (args.json, args.verbose) {
            (true, summary) => Form::Json { summary },
            (false, true) => Form::Summary,
            (false, false) => Form::Plain,
        };
        let names = subjects.iter().map(|subject| subject.name.clone()).collect();
        let text = text.map(|(file, palette)| Text::new(form, names, palette, file));
        Ok(Self { text, capture, turns, accounts: vec![Account::default(); subjects.len()] })
    }

    /// Shows what a bus says of itself.
    pub(super) fn header(&mut self, bus: usize, state: &BusState) -> io::Result<()> {
        self.text.as_mut().map_or(Ok(()), |text| text.header(bus, state))
    }

    /// Shows and saves a frame.
    #[inline]
    pub(super) fn frame(&mut self, bus: usize, frame: &Frame<'_>) -> io::Result<()> {
        // On a damaged bus the microseconds may be anything; they are not to spoil the seconds.
        let time = Duration::new(frame.info.seconds.into(), frame.info.microseconds.min(999_999) * 1000);
        if let Some(capture) = &mut self.capture {
            if let Some(turns) = self.turns
                && capture.file_mut().in_file() > turns.size
            {
                write_accounts(capture, &self.accounts)?;
                capture.file_mut().turn();
                capture.begin_again()?;
            }
            let interface = u32::try_from(bus).unwrap_or(u32::MAX);
            capture.frame(interface, time, frame.info.sender, frame.bytes)?;
        }
        let account = &mut self.accounts[bus];
        if let Some(text) = &mut self.text {
            text.frame(bus, account.frames, frame)?;
        }
        account.frames += 1;
        account.latest = time;
        Ok(())
    }

    /// Frames so far.
    pub(super) fn frames(&self) -> u64 {
        self.accounts.iter().map(|account| account.frames).sum()
    }

    /// Notes in the capture what went wrong with a bus.
    pub(super) fn comment(&mut self, bus: usize, comment: Option<String>) {
        self.accounts[bus].comment = comment;
    }

    /// Hands on what was kept back.
    pub(super) fn pass_on(&mut self) {
        self.behind().for_each(Behind::pass_on);
    }

    /// Whether all could be written so far.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.behind().try_for_each(Behind::check)
    }

    /// Waits until all is written. A capture that is not whole is the greater trouble.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        if let Some(capture) = &mut self.capture {
            write_accounts(capture, &self.accounts)?;
        }
        let mut results = self.behind().map(Behind::finish).collect::<Vec<_>>().into_iter();
        results.try_for_each(|result| result)
    }

    /// The capture first.
    fn behind(&mut self) -> impl Iterator<Item = &mut Behind> {
        let capture = self.capture.as_mut().map(CaptureWriter::file_mut);
        capture.into_iter().chain(self.text.as_mut().map(Text::file_mut))
    }
}

fn write_accounts(capture: &mut CaptureWriter<Behind>, accounts: &[Account]) -> io::Result<()> {
    (0..).zip(accounts).try_for_each(|(interface, account)| capture.account(interface, account))
}

fn open_capture(
    args: &Args,
    file: &Path,
    turns: Option<Turns>,
    subjects: &[Subject],
) -> anyhow::Result<CaptureWriter<Behind>> {
    let format = args.format.map_or_else(|| format_of(file), Format::from);
    if format == Format::Pcap && subjects.len() > 1 {
        return Err(misuse(anyhow!(
            "a pcap cannot hold several buses: write a pcapng, with --format pcapng or a FILE that ends in .pcapng"
        )));
    }
    let interfaces = subjects
        .iter()
        .map(|subject| CapturedInterface { name: subject.name.clone(), longest: subject.longest })
        .collect();
    let behind = if !is_stdout(file) {
        let buses: Vec<&Path> = subjects.iter().map(|subject| subject.path.as_path()).collect();
        Behind::new(Files::create(file, turns, &buses)?)?
    } else if turns.is_some() {
        return Err(misuse(anyhow!("stdout is one file: -C takes a FILE to number")));
    } else if io::stdout().is_terminal() {
        return Err(misuse(anyhow!(
            "a terminal cannot show a capture: redirect stdout, or say which FILE to write"
        )));
    } else {
        Behind::new(Stream(output::stdout()))?
    };
    Ok(CaptureWriter::new(format, interfaces, behind)?)
}

/// What the name of a file says; everybody reads pcap.
fn format_of(file: &Path) -> Format {
    match file.extension() {
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
    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(bytes)?;
        Ok(self.0.flush()?)
    }

    /// A stream goes on and on.
    fn turn(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}
