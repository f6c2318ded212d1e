//! Captures in gzip and zstd files.

use std::borrow::Cow;
use std::io::{self, Read, Write as _};
use std::path::Path;

use flate2::Compression as Level;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

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
    Zstd(Box<StreamingDecoder<Rewound<R>, FrameDecoder>>),
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
            Self::Zstd(Box::new(StreamingDecoder::new(source).map_err(io::Error::other)?))
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
                Some(State::Zstd(decoder)) => match decoder.read(buffer)? {
                    0 if !buffer.is_empty() => {}
                    read => return Ok(read),
                },
                Some(State::Beginning(source)) => source.fill()?,
            }
            // At the beginning, and behind a frame of zstd, which another may follow.
            self.0 = match self.0.take() {
                Some(State::Zstd(decoder)) => {
                    let mut source = decoder.into_inner();
                    source.fill()?;
                    if source.head.is_empty() { None } else { Some(State::of(source)?) }
                }
                Some(State::Beginning(source)) => Some(State::of(source)?),
                state => state,
            };
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

    /// Returns the bytes compressed, as a whole: what is compressed in parts, one behind the other,
    /// is read as one.
    ///
    /// # Errors
    /// When memory is short.
    pub fn compress(self, bytes: &[u8]) -> io::Result<Cow<'_, [u8]>> {
        Ok(match self {
            Self::None => Cow::Borrowed(bytes),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
                encoder.write_all(bytes)?;
                Cow::Owned(encoder.finish()?)
            }
            Self::Zstd => Cow::Owned(compress_to_vec(bytes, CompressionLevel::Fastest)),
        })
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
            for part in [&text[..], &text[..5], &text[..100_000]] {
                file.extend_from_slice(&compression.compress(part).unwrap());
            }
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
