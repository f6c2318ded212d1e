//! Memory files: makes those of this process, and checks and maps those of a peer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

use crate::error::ProtocolError;
use crate::memory::region::{MAX_REACH, Region};

/// The default limit of the bytes mapped for one link, so that no peer can use up the address
/// space: 64 GiB.
pub(crate) const MAX_MAPPED: u64 = 1 << 36;

/// Makes a memory file of `size` bytes that can neither shrink nor grow, and maps it. The memory is
/// reserved now: a lack of memory is an error here, and no signal later.
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

/// Frees the content of a file, even if other processes still have it open.
pub(crate) fn discard(file: &OwnedFd) -> io::Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    // Only whole pages are freed, and the last one must be included: pages are at most this large
    // here.
    let length = size(file)?.next_multiple_of(1 << 16);
    Ok(fallocate(file, flags, 0, i64::try_from(length).map_err(io::Error::other)?)?)
}

/// Returns the number of bytes in a file.
pub(crate) fn size(file: &OwnedFd) -> io::Result<u64> {
    Ok(u64::try_from(fstat(file.as_fd())?.st_size).unwrap_or(0))
}

/// Maps the file that a client announced as region `index`. Returns the region and the number of
/// its bytes that descriptors reach, at most `max`. `allow_unsealed` says whether the file may be
/// able to shrink.
pub(crate) fn map(
    index: u16,
    file: BorrowedFd<'_>,
    size: u64,
    max: u64,
    allow_unsealed: bool,
) -> Result<(Region, u64), ProtocolError> {
    // First, since this call alone cannot block: a file of a network or user-space file system may
    // answer the others late or never.
    let Ok(seals) = fcntl(file, FcntlArg::F_GET_SEALS) else {
        return Err(ProtocolError::RegionNotMemory { index });
    };
    let sealed = SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK);
    if !sealed && !allow_unsealed {
        return Err(ProtocolError::RegionUnsealed { index });
    }
    // Bytes that no descriptor can reach need not be mapped.
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
    // On hugetlbfs the block size is the page size, and mappings are unmapped in whole pages.
    let page = u64::try_from(stat.st_blksize).unwrap_or(1);
    Ok((Region::map(file, reach, page, sealed).map_err(system)?, reach))
}
