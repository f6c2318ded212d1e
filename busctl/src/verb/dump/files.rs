//! The files of a capture: one, or several in rotation, numbered as `tcpdump` does it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use capture::{Compression, Compressor};
use chrono::Local;
use chrono::format::{Item, StrftimeItems};

use super::write_behind::Sink;
use crate::misuse::misuse;
use crate::process::shutdown::Shutdown;

/// How often a named pipe without a reader is tried again.
const OPEN_INTERVAL: Duration = Duration::from_millis(20);

/// How a capture is spread over files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rotation {
    /// Size in bytes after which the next file begins.
    pub(super) size: Option<u64>,
    /// How many files there are at most: after the last one, the first is overwritten, or with a
    /// `period` the dump ends.
    pub(super) files: Option<u32>,
    /// Time after which the next file begins. The name of each is the time at which it begins, in the
    /// form of strftime(3).
    pub(super) period: Option<Duration>,
}

impl Rotation {
    /// Returns the name of file number `number`: `FILE`, `FILE1`, `FILE2`, or with a ring of ten
    /// `FILE0` to `FILE9`, with as many digits as the last one needs.
    fn name(self, base: &Path, number: u32) -> PathBuf {
        if self.period.is_some() {
            return Local::now().format(&base.to_string_lossy()).to_string().into();
        }
        let digits = match self.files.unwrap_or(1) - 1 {
            0 => 0,
            last => last.to_string().len(),
        };
        let mut name = OsString::from(base);
        if number > 0 || digits > 0 {
            name.push(format!("{number:0digits$}"));
        }
        name.into()
    }

    fn after(self, number: u32) -> u32 {
        let next = number.saturating_add(1);
        if self.files.is_some_and(|files| next >= files) { 0 } else { next }
    }
}

/// The file that is being written, and where the next one goes.
pub(super) struct Files {
    base: PathBuf,
    rotation: Option<Rotation>,
    number: u32,
    path: PathBuf,
    file: File,
    compressor: Compressor,
    /// Device and inode of every bus, none of which must be overwritten.
    buses: Vec<(u64, u64)>,
}

impl Files {
    /// Makes the first file, or empties it. A named pipe is opened once it has a reader; returns
    /// `None` when this process is asked to `stop` before.
    ///
    /// # Errors
    /// When the file cannot be made, or is one of `buses`.
    pub(super) fn create(
        base: &Path,
        rotation: Option<Rotation>,
        buses: &[&Path],
        stop: &Shutdown,
    ) -> anyhow::Result<Option<Self>> {
        if rotation.is_some_and(|rotation| rotation.period.is_some()) {
            check_time(base)?;
        }
        let path = rotation.map_or_else(|| base.to_owned(), |rotation| rotation.name(base, 0));
        let buses: Vec<_> = buses.iter().filter_map(|bus| identity(bus)).collect();
        let file = loop {
            match create(&path, &buses)? {
                Some(file) => break file,
                None if stop.sleep(OPEN_INTERVAL) => return Ok(None),
                None => {}
            }
        };
        let compressor = Compressor::new(Compression::of(base).0)?;
        Ok(Some(Self { base: base.to_owned(), rotation, number: 0, path, file, compressor, buses }))
    }
}

impl Sink for Files {
    fn write_chunk(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let bytes = self.compressor.compress(bytes)?;
        self.file.write_all(&bytes).with_context(|| cannot_write(&self.path))
    }

    fn rotate(&mut self) -> anyhow::Result<()> {
        if let Some(rotation) = self.rotation {
            self.finish()?;
            self.number = rotation.after(self.number);
            self.path = rotation.name(&self.base, self.number);
            self.file = loop {
                match create(&self.path, &self.buses)? {
                    Some(file) => break file,
                    None => thread::sleep(OPEN_INTERVAL),
                }
            };
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let end = self.compressor.finish()?;
        self.file.write_all(&end).with_context(|| cannot_write(&self.path))
    }
}

/// Refuses a name that has no time in it, or none that strftime(3) knows.
fn check_time(base: &Path) -> anyhow::Result<()> {
    let text = base.to_string_lossy();
    let items = || StrftimeItems::new(&text);
    if items().any(|item| item == Item::Error) {
        return Err(misuse(anyhow!("{text}: strftime(3) does not know such a time")));
    }
    let is_text = |item| matches!(item, Item::Literal(_) | Item::Space(_));
    if items().all(is_text) {
        return Err(misuse(anyhow!(
            "{text} is one file: -G takes a FILE with a time in it, such as lan-%H%M%S.pcap"
        )));
    }
    Ok(())
}

fn cannot_write(file: &Path) -> String {
    format!("cannot write to {}", file.display())
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Makes the file, or empties it; returns `None` for a pipe without a reader. A bus is refused:
/// emptying it would kill every process that has it mapped.
fn create(path: &Path, buses: &[(u64, u64)]) -> anyhow::Result<Option<File>> {
    let failed = |error: io::Error| {
        let passing = port::is_passing(&error);
        let error = anyhow::Error::new(error).context(cannot_write(path));
        if passing { error } else { misuse(error) }
    };
    let Some(file) = port::open_output(path).map_err(failed)? else { return Ok(None) };
    let found = file.metadata().map_err(failed)?;
    if buses.contains(&(found.dev(), found.ino())) {
        return Err(misuse(anyhow!("{}: it is the bus itself", cannot_write(path))));
    }
    if found.is_file() {
        file.set_len(0).map_err(failed)?;
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_numbered_as_tcpdump_does_it() {
        let names = |files, numbers: &[u32]| -> Vec<String> {
            let rotation = Rotation { size: Some(1), files, period: None };
            numbers
                .iter()
                .map(|number| rotation.name("f".as_ref(), *number).display().to_string())
                .collect()
        };
        assert_eq!(names(None, &[0, 1, 10]), ["f", "f1", "f10"]);
        assert_eq!(names(Some(1), &[0]), ["f"]);
        assert_eq!(names(Some(10), &[0, 9]), ["f0", "f9"]);
        assert_eq!(names(Some(11), &[0, 9, 10]), ["f00", "f09", "f10"]);
    }

    #[test]
    fn a_ring_goes_round() {
        let rotation = |files| Rotation { size: Some(1), files, period: None };
        assert_eq!((rotation(None).after(0), rotation(None).after(7)), (1, 8));
        assert_eq!((rotation(Some(3)).after(1), rotation(Some(3)).after(2)), (2, 0));
        assert_eq!(rotation(Some(1)).after(0), 0);
    }
}
