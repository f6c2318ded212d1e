//! Captures in gzip and zstd files.

use std::borrow::Cow;
use std::io::{self, BufReader, Read, Write as _};
use std::mem;
use std::path::Path;

use flate2::Compression as Level;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use zstd::stream::{read, write};

/// The first bytes of the formats.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads a source that may be compressed by gzip or zstd: its first bytes tell.
///
/// A compressed source must block: what is not compressed is passed on as it comes, errors such as
/// [`WouldBlock`](io::ErrorKind::WouldBlock) included.
pub struct Decompressed<R: Read>(Option<State<R>>);

enum State<R: Read> {
    /// Too few bytes were read to tell.
    Beginning(Rewound<R>),
    Plain(Rewound<R>),
    Gzip(Box<MultiGzDecoder<Rewound<R>>>),
    Zstd(Box<read::Decoder<'static, BufReader<Rewound<R>>>>),
}

impl<R: Read> Decompressed<R> {
    /// Makes a reader. It reads nothing yet.
    pub fn new(source: R) -> Self {
        Self(Some(State::Beginning(Rewound { head: Vec::new(), source })))
    }

    /// Makes a reader that passes everything on as it is.
    pub fn plain(source: R) -> Self {
        Self(Some(State::Plain(Rewound { head: Vec::new(), source })))
    }
}

impl<R: Read> State<R> {
    /// Starts the decoder for what begins here.
    fn of(source: Rewound<R>) -> io::Result<Self> {
        Ok(if source.head.starts_with(&ZSTD) {
            Self::Zstd(Box::new(read::Decoder::new(source)?))
        } else if source.head.starts_with(&GZIP) {
            Self::Gzip(Box::new(MultiGzDecoder::new(source)))
        } else {
            Self::Plain(source)
        })
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.0 {
                None => return Ok(0),
                Some(State::Plain(source)) => return source.read(buffer),
                Some(State::Gzip(decoder)) => return decoder.read(buffer),
                Some(State::Zstd(decoder)) => return decoder.read(buffer),
                Some(State::Beginning(source)) => source.fill()?,
            }
            if let Some(State::Beginning(source)) = self.0.take() {
                self.0 = Some(State::of(source)?);
            }
        }
    }
}

/// A source of which the first bytes were read ahead.
struct Rewound<R> {
    head: Vec<u8>,
    source: R,
}

impl<R: Read> Rewound<R> {
    /// Reads ahead as many bytes as the longest magic has, or up to the end.
    fn fill(&mut self) -> io::Result<()> {
        while self.head.len() < ZSTD.len() {
            let mut next = [0; ZSTD.len()];
            match self.source.read(&mut next[self.head.len()..]) {
                Ok(0) => break,
                Ok(read) => {
                    let start = self.head.len();
                    self.head.extend(&next[start..start + read]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Rewound<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.head.is_empty() {
            return self.source.read(buffer);
        }
        let count = self.head.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.head[..count]);
        self.head.drain(..count);
        Ok(count)
    }
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// By gzip, `.gz`.
    Gzip,
    /// By zstd, `.zst`.
    Zstd,
}

impl Compression {
    /// Returns the compression that the name of a file asks for, and the name without its suffix.
    #[must_use]
    pub fn of(file: &Path) -> (Self, &Path) {
        let extension = file.extension().and_then(|extension| extension.to_str());
        let compression = match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("gz") => Self::Gzip,
            Some("zst") => Self::Zstd,
            _ => return (Self::None, file),
        };
        (compression, file.file_stem().map_or(file, Path::new))
    }
}

/// Compresses one file after another, in parts.
pub struct Compressor(Method);

enum Method {
    None,
    /// Each part is a member of the file, whole by itself.
    Gzip,
    /// The parts are one frame: Wireshark 4.0 reads files of several wrongly.
    Zstd(write::Encoder<'static, Vec<u8>>),
}

impl Compressor {
    /// Begins a file.
    ///
    /// # Errors
    /// When memory is short.
    pub fn new(compression: Compression) -> io::Result<Self> {
        Ok(Self(match compression {
            Compression::None => Method::None,
            Compression::Gzip => Method::Gzip,
            Compression::Zstd => Method::Zstd(write::Encoder::new(Vec::new(), 1)?),
        }))
    }

    /// Returns the next bytes of the file compressed, all of them.
    ///
    /// # Errors
    /// When memory is short.
    pub fn compress<'b>(&mut self, bytes: &'b [u8]) -> io::Result<Cow<'b, [u8]>> {
        Ok(match &mut self.0 {
            Method::None => Cow::Borrowed(bytes),
            Method::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
                encoder.write_all(bytes)?;
                Cow::Owned(encoder.finish()?)
            }
            Method::Zstd(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Cow::Owned(mem::take(encoder.get_mut()))
            }
        })
    }

    /// Returns what ends the file. The next bytes are those of another one.
    ///
    /// # Errors
    /// When memory is short.
    pub fn finish(&mut self) -> io::Result<Vec<u8>> {
        match &mut self.0 {
            Method::None | Method::Gzip => Ok(Vec::new()),
            Method::Zstd(encoder) => {
                let next = write::Encoder::new(Vec::new(), 1)?;
                mem::replace(encoder, next).finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_in_parts_is_read_as_one() {
        let text: Vec<u8> =
            (0..200_000_u32).flat_map(|number| (number / 7).to_be_bytes()).collect();
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut file = Vec::new();
            let mut compressor = Compressor::new(compression).unwrap();
            for part in [&text[..], &text[..5], &text[..100_000]] {
                file.extend_from_slice(&compressor.compress(part).unwrap());
            }
            file.extend(compressor.finish().unwrap());
            // One file behind another is read as one, too.
            let both = [&file[..], &file].concat();
            let mut twice = Vec::new();
            Decompressed::new(&both[..]).read_to_end(&mut twice).unwrap();
            assert_eq!(twice.len(), 2 * (text.len() + 5 + 100_000));
            let mut read = Vec::new();
            Decompressed::new(&file[..]).read_to_end(&mut read).unwrap();
            assert!(read == [&text[..], &text[..5], &text[..100_000]].concat(), "{compression:?}");
            let mut read = Vec::new();
            Decompressed::plain(&file[..]).read_to_end(&mut read).unwrap();
            assert!(read == file);
            // A file that is cut is an error or ends early, and nothing else.
            for cut in [0, 1, 3, 4, 9, 40, file.len() - 1] {
                let _ = Decompressed::new(&file[..cut]).read_to_end(&mut Vec::new());
            }
        }
    }

    #[test]
    fn the_name_says_how() {
        let of = |name: &'static str| Compression::of(Path::new(name));
        assert_eq!(of("lan.pcapng.gz"), (Compression::Gzip, Path::new("lan.pcapng")));
        assert_eq!(of("a/lan.pcap.ZST"), (Compression::Zstd, Path::new("lan.pcap")));
        assert_eq!(of("gz"), (Compression::None, Path::new("gz")));
    }
}
