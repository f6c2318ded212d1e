//! Memory files: making ours, judging the peer's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

use crate::error::ProtocolError;
use crate::memory::region::{MAX_REACH, Region};

/// Most bytes mapped for one link if nothing else is said, so that no peer can use up the address space: 64 GiB.
pub(crate) const MAX_MAPPED: u64 = 1 << 36;

/// Makes a memory file of `size` bytes that can neither shrink nor grow, and maps it. The memory is reserved now: running
/// out of it is an error here and no signal later.
pub(crate) fn create(size: u64) -> io::Result<(OwnedFd, Region)> {
    let file = memfd_create("memif", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let length = i64::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
    ftruncate(&file, length)?;
    fallocate(&file, FallocateFlags::empty(), 0, length)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    let region = Region::map(file.as_fd(), size, 1, true)?;
    Ok((file, region))
}

/// Gives up what is in a file of ours, whoever else still has it.
pub(crate) fn discard(file: &OwnedFd) -> io::Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    // Whole pages only are given up, the last one included: none is larger than this.
    let length = size(file)?.next_multiple_of(1 << 16);
    Ok(fallocate(file, flags, 0, i64::try_from(length).map_err(io::Error::other)?)?)
}

/// Bytes in a file.
pub(crate) fn size(file: &OwnedFd) -> io::Result<u64> {
    Ok(u64::try_from(fstat(file.as_fd())?.st_size).unwrap_or(0))
}

/// Maps what a client announced as region `index`: the region and the bytes of it that can be reached. `max` is how many these may
/// be; `unsealed` whether its file may be one that can shrink.
pub(crate) fn map(
    index: u16,
    file: BorrowedFd<'_>,
    size: u64,
    max: u64,
    unsealed: bool,
) -> Result<(Region, u64), ProtocolError> {
    // Asked first, since it alone cannot block: a file of a network or user-space file system may answer the others
    // late or never.
    let Ok(seals) = fcntl(file, FcntlArg::F_GET_SEALS) else {
        return Err(ProtocolError::RegionNotMemory { index });
    };
    let sealed = SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK);
    if !sealed && !unsealed {
        return Err(ProtocolError::RegionUnsealed { index });
    }
    // What no descriptor can reach need not be mapped.
    let reach = size.min(MAX_REACH);
    if reach == 0 || reach > max {
        return Err(ProtocolError::RegionSize { index, size, max });
    }
    let system = |error: io::Error| ProtocolError::RegionMap { index, errno: error.to_string() };
    let stat = fstat(file).map_err(|errno| system(errno.into()))?;
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    if size > length {
        return Err(ProtocolError::RegionBeyondFile { index, size, file: length });
    }
    // On hugetlbfs the block size is that of the pages, and mappings are unmapped in whole ones.
    let page = u64::try_from(stat.st_blksize).unwrap_or(1);
    Ok((Region::map(file, reach, page, sealed).map_err(system)?, reach))
}
