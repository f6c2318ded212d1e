//! Opens, checks and makes the bus file.
//!
//! All checks come before the first change: a file that is not a bus stays as it was.

use std::fs::{self, File, FileType};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, fallocate};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{self, FsType, fstatfs};
use nix::unistd::linkat;

use crate::error::OpenError;
use crate::format::sleepers::FILE_SIZE;
use crate::format::{
    BIG_MAGIC, BUS_SIZE, Field32, HEADER_SIZE, MAGIC, OWN_MAGIC, Shape, TABLE_AT, VERSION,
};
use crate::system::{links, liveness};

/// Where a bus of our own format says how long it is.
const SIZE_AT: u64 = (TABLE_AT + FILE_SIZE * 8) as u64;

/// What a file that may be a bus turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An initialised bus.
    Bus(Shape),
    /// An empty or zero file: a bus to be made.
    Blank,
}

/// Opens an existing file and checks what it is.
pub(crate) fn open(path: &Path, writable: bool) -> Result<(File, Found), OpenError> {
    let file = open_regular(path, writable)?;
    let found = check(path, &file)?;
    Ok((file, found))
}

/// As [`open`], for reading and writing, and whatever stands where the version should.
pub(crate) fn open_of_any_version(path: &Path) -> Result<(File, Found), OpenError> {
    let file = open_regular(path, true)?;
    let found = check_shape(path, &file)?;
    Ok((file, found))
}

/// All of an existing file that is `size` bytes long.
pub(crate) fn read_whole(path: &Path, size: u64) -> Result<Vec<u8>, OpenError> {
    let mut bytes = Vec::new();
    let mut file = open_regular(path, false)?.take(size + 1);
    file.read_to_end(&mut bytes).map_err(|error| OpenError::io(path, error))?;
    if bytes.len() as u64 == size {
        return Ok(bytes);
    }
    let size = file.into_inner().metadata().map_err(|error| OpenError::io(path, error))?.len();
    Err(OpenError::WrongSize { path: path.to_owned(), size })
}

/// Opens a regular file, and refuses all else.
fn open_regular(path: &Path, writable: bool) -> Result<File, OpenError> {
    // Opening a folder, pipe or socket gives errors that do not say what is wrong, so the kind is
    // looked at first ...
    let target = links::follow(path)?;
    let kind =
        std::fs::metadata(&target.path).map_err(|error| OpenError::io(path, error))?.file_type();
    check_kind(path, kind)?;
    let file = File::options()
        .read(true)
        .write(writable)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | target.flags)
        .open(&target.path)
        .map_err(|error| OpenError::io(path, error))?;
    // ... and again, of what was really opened.
    let kind = file.metadata().map_err(|error| OpenError::io(path, error))?.file_type();
    check_kind(path, kind)?;
    Ok(file)
}

/// Makes a new, empty file without a name in the folder of `path`: a process that fails to make a
/// bus of it leaves nothing behind, even when it is killed. `None` where the file system has no
/// such files.
pub(crate) fn create_unnamed(path: &Path, mode: u32) -> io::Result<Option<File>> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let file = match File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(mode)
        .open(folder)
    {
        Ok(file) => file,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    set_mode(&file, mode)?;
    Ok(Some(file))
}

/// Gives an unnamed file its name. Fails with [`io::ErrorKind::AlreadyExists`] when that is taken.
pub(crate) fn name(file: &File, path: &Path) -> io::Result<()> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(AT_FDCWD, unnamed.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?)
}

/// Makes a new, empty file. Fails with [`io::ErrorKind::AlreadyExists`] when there is one.
pub(crate) fn create(path: &Path, mode: u32) -> io::Result<File> {
    let file = File::options().read(true).write(true).create_new(true).mode(mode).open(path)?;
    set_mode(&file, mode).inspect_err(|_| discard(&file, path))?;
    Ok(file)
}

/// Exactly the mode asked for, whatever the umask.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(PermissionsExt::from_mode(mode))
}

/// Removes a file that did not become a bus, if the name still leads to it, and no other process
/// has made it a bus.
pub(crate) fn discard(file: &File, path: &Path) {
    if matches!(word(file, Field32::Magic as u64), Ok(0)) && leads_to(path, file) {
        // The error that is returned says more than a failure to tidy up.
        let _ = fs::remove_file(path);
    }
}

/// Whether a path still leads to an open file.
pub(crate) fn leads_to(path: &Path, file: &File) -> bool {
    let there = fs::metadata(path).and_then(|there| Ok((there, file.metadata()?)));
    there.is_ok_and(|(there, file)| there.dev() == file.dev() && there.ino() == file.ino())
}

/// Makes sure that the file has `size` bytes and that all its blocks are reserved, so that a disk
/// that fills up later cannot kill the processes that map it.
pub(crate) fn reserve(path: &Path, file: &File, size: u64) -> Result<(), OpenError> {
    let metadata = file.metadata().map_err(|error| OpenError::io(path, error))?;
    // Waking the others is a write as well.
    if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_FSIZE)
        && limit < size
    {
        return Err(OpenError::FileSizeLimit { path: path.to_owned(), size, limit });
    }
    if metadata.len() == size && metadata.blocks() * 512 >= size {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, size.cast_signed()) {
        // A file system that cannot reserve: the best it can do is the size.
        Err(Errno::EOPNOTSUPP) if metadata.len() < size => file
            .set_len(size)
            .map_err(|source| OpenError::NoRoom { path: path.to_owned(), size, source }),
        Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
        Err(error) => Err(OpenError::NoRoom { path: path.to_owned(), size, source: error.into() }),
    }
}

/// A word of the header by its offset. Bytes beyond the end of the file count as 0, as they would
/// in a longer file.
pub(crate) fn word(file: &File, at: u64) -> io::Result<u32> {
    Ok(u32::from_ne_bytes(bytes_at(file, at)?))
}

/// As [`word`], of 64 bits.
fn long_word(file: &File, at: u64) -> io::Result<u64> {
    Ok(u64::from_ne_bytes(bytes_at(file, at)?))
}

fn bytes_at<const N: usize>(file: &File, at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Checks an open file: its file system, its size, magic and version.
pub(crate) fn check(path: &Path, file: &File) -> Result<Found, OpenError> {
    let found = check_shape(path, file)?;
    if found == Found::Blank {
        return Ok(found);
    }
    match word(file, Field32::Version as u64).map_err(|error| OpenError::io(path, error))? {
        0 | VERSION => Ok(found),
        version => Err(OpenError::WrongVersion { path: path.to_owned(), version }),
    }
}

/// As [`check`], but for the version.
fn check_shape(path: &Path, file: &File) -> Result<Found, OpenError> {
    if let Some(filesystem) = incoherent(file) {
        return Err(OpenError::Incoherent { path: path.to_owned(), filesystem });
    }
    let word = |field| word(file, field as u64).map_err(|error| OpenError::io(path, error));
    let size = || Ok(file.metadata().map_err(|error| OpenError::io(path, error))?.len());
    let blank = word(Field32::Magic)? == 0
        && size()? <= BUS_SIZE
        && is_blank(file).map_err(|error| OpenError::io(path, error))?;
    // A process that makes a big bus of it makes it long first.
    let being_made = liveness::is_being_made(file).unwrap_or(false);
    // It may have become a bus meanwhile.
    let (magic, size) = (word(Field32::Magic)?, size()?);
    match magic {
        0 if blank || being_made => return Ok(Found::Blank),
        0 if size <= BUS_SIZE => {
            return Err(OpenError::WrongMagic { path: path.to_owned(), magic });
        }
        0 => return Err(OpenError::WrongSize { path: path.to_owned(), size }),
        // A bus of our own format may have any size, so it says which it has.
        OWN_MAGIC => {
            let made = long_word(file, SIZE_AT).map_err(|error| OpenError::io(path, error))?;
            if made != size {
                return Err(wrong_size(path, Shape { magic, size: made }, size));
            }
        }
        BIG_MAGIC if size == BUS_SIZE => {
            return Err(OpenError::CutByRumpKernel { path: path.to_owned() });
        }
        MAGIC | BIG_MAGIC => {}
        _ if magic == MAGIC.swap_bytes() => {
            return Err(OpenError::OtherByteOrder { path: path.to_owned() });
        }
        _ => return Err(OpenError::WrongMagic { path: path.to_owned(), magic }),
    }
    let shape = Shape { magic, size };
    if shape.is_possible() {
        Ok(Found::Bus(shape))
    } else {
        Err(OpenError::WrongSize { path: path.to_owned(), size })
    }
}

/// Why a file that was made as a bus of this shape is none with `size` bytes.
fn wrong_size(path: &Path, made: Shape, size: u64) -> OpenError {
    let path = path.to_owned();
    if size == BUS_SIZE && made.size > size && made.is_possible() {
        OpenError::CutByRumpKernel { path }
    } else {
        OpenError::WrongSize { path, size }
    }
}

/// Whether all bytes after the header are 0. A header without magic was left by a process that died
/// while it made a bus.
fn is_blank(file: &File) -> io::Result<bool> {
    let mut bytes = [0; 8 << 10];
    let mut at = HEADER_SIZE as u64;
    loop {
        match file.read_at(&mut bytes, at)? {
            0 => return Ok(true),
            read if bytes[..read].iter().all(|byte| *byte == 0) => at += read as u64,
            _ => return Ok(false),
        }
    }
}

fn check_kind(path: &Path, kind: FileType) -> Result<(), OpenError> {
    let kind = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(OpenError::NotAFile { path: path.to_owned(), kind })
}

/// The name of the file's system, if mappings of it are known not to be shared between machines.
fn incoherent(file: &File) -> Option<&'static str> {
    const SMB2: FsType = FsType(0xfe53_4d42);
    let kind = fstatfs(file).ok()?.filesystem_type();
    [
        (statfs::NFS_SUPER_MAGIC, "NFS"),
        (FsType(0x0102_1997), "9p"),
        (statfs::SMB_SUPER_MAGIC, "SMB"),
        (SMB2, "SMB"),
    ]
    .into_iter()
    .find_map(|(known, name)| (known == kind).then_some(name))
}
