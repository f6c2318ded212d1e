//! Which stations are alive: numbers that the kernel forgets with their process.
//!
//! Every station picks a number and locks the byte of that number, far beyond the end of the bus
//! file, through its own open file description (`F_OFD_SETLK`). The kernel drops such a lock when
//! the last copy of the descriptor is closed, however the process ends; any process with the file
//! can ask whether the lock is held. Unlike a process id, the number means the same in every pid
//! namespace, and no other process reuses it.
//!
//! Stations lock for writing, which takes permission to write the bus, and ask for locks of that kind
//! alone. So a process that may only read the bus cannot pass for a station. It can deny, though: its
//! own locks for reading keep every number from being taken, and the kernel has no lock that it
//! could not take. Members that have their numbers already go on beside such a process.
//!
//! The lock lives on in children that inherit the descriptor. It is closed on exec; a process that
//! forks without exec must drop its stations first.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::mechanism::ring::lock::Owner;

/// File offset of the byte that stands for number 0.
const BASE: i64 = 1 << 40;
/// The number of a process that makes the bus.
const MAKER: i64 = 0;
/// The byte that those share who sleep on the bus file itself, on a bus where that is the exception.
const WATCHERS: i64 = -1;
/// The byte of the process that makes or removes what lies beside the bus.
const FOLDER: i64 = -2;
/// How many numbers are tried before giving up; a single one is taken with a probability of one in
/// a thousand million.
const MAX_ATTEMPTS: usize = 100;
/// The most stations that are counted. A process that may write the file can hold any number of
/// locks on it.
const MAX_COUNTED: usize = 1 << 16;
/// How long a count takes at most. The kernel walks all locks of the file for each question, so the
/// time grows with the square of their number: a thousand stations take a tenth of a second.
const COUNT_TIMEOUT: Duration = Duration::from_millis(250);

#[expect(
    clippy::cast_possible_truncation,
    reason = "the constants are small; the fields are C's shorts"
)]
fn range(kind: i32, first: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: BASE + first,
        l_len: len,
        l_pid: 0,
    }
}

/// Returns a random number that no other station picks.
///
/// A forked process inherits the state of its parent's generator, so the process id and the clock
/// go into the number as well: two stations with the same number would take each other's frames for
/// their own.
pub(crate) fn random_number() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let this = u64::from(std::process::id()) << 32 ^ u64::from(now.subsec_nanos());
    fastrand::Rng::with_seed(fastrand::u64(..) ^ this).u64(..)
}

/// Picks a number and holds it for as long as `file`'s description is open. It does not pick
/// `taken`, the number in the lock word: perhaps a dead station left it there.
pub(crate) fn claim(file: &File, taken: Option<Owner>) -> io::Result<Owner> {
    let mut last = MAKER + 1;
    for _ in 0..MAX_ATTEMPTS {
        #[expect(clippy::cast_possible_truncation, reason = "any part of it is as good")]
        let Some(owner) = Owner::new(random_number() as u32) else { continue };
        if Some(owner) == taken {
            continue;
        }
        last = owner.number().into();
        match fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, last, 1))) {
            Ok(_) => return Ok(owner),
            Err(Errno::EAGAIN | Errno::EACCES) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(locked_for_reading(file, last)
        .unwrap_or_else(|| io::Error::other("another process has locked all numbers of stations")))
}

/// The error where a process has locked this byte for reading, which no station does to the bytes
/// that stations lock for writing.
fn locked_for_reading(file: &File, byte: i64) -> Option<io::Error> {
    let mut lock = range(libc::F_WRLCK, byte, 1);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).ok()?;
    if i32::from(lock.l_type) != libc::F_RDLCK {
        return None;
    }
    // The kernel numbers the owners of locks of the older kind only.
    let reader = match lock.l_pid {
        pid @ 1.. => format!("process {pid}"),
        _ => "a process".to_owned(),
    };
    Some(io::Error::other(format!(
        "{reader} holds locks for reading on it, which keep all stations from joining: end that \
         process, or let it not read the bus"
    )))
}

/// Releases a number.
pub(crate) fn release(file: &File, owner: Owner) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, owner.number().into(), 1)))?;
    Ok(())
}

/// Whether the number is held through another description than `file`'s.
pub(crate) fn is_alive(file: &File, owner: Owner) -> io::Result<bool> {
    Ok(held_in(file, owner.number().into(), 1)?.is_some())
}

/// Takes the byte of number 0, which is no station's: its holder may make a bus of the file, or
/// repair it. `false` when another process holds it.
///
/// # Errors
/// When a process that only reads the file keeps all others from it. That is not waited for.
pub(crate) fn try_lock_making(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, MAKER, 1))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) if is_being_made(file)? => Ok(false),
        Err(Errno::EAGAIN | Errno::EACCES) => {
            locked_for_reading(file, MAKER).map_or(Ok(false), Err)
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes the right to make or remove what lies beside the bus. `false` when another process has it.
///
/// # Errors
/// When a process that only reads the file keeps all others from it. That is not waited for.
pub(crate) fn try_lock_folder(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, FOLDER, 1))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => {
            locked_for_reading(file, FOLDER).map_or(Ok(false), Err)
        }
        Err(error) => Err(error.into()),
    }
}

/// Releases that right.
pub(crate) fn unlock_folder(file: &File) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, FOLDER, 1)))?;
    Ok(())
}

/// Says that a reader sleeps on the bus file itself from now on, until `file`'s description is
/// closed. A file opened for reading will do.
pub(crate) fn note_watcher(file: &File) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, WATCHERS, 1)))?;
    Ok(())
}

/// Whether a reader may be sleeping on the bus file itself, through another description than
/// `file`'s.
pub(crate) fn has_watchers(file: &File) -> io::Result<bool> {
    let mut lock = range(libc::F_WRLCK, WATCHERS, 1);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// Whether no station holds a number, but perhaps the one of `file`'s own description.
pub(crate) fn is_alone(file: &File) -> io::Result<bool> {
    Ok(held_in(file, MAKER + 1, Owner::MAX.into())?.is_none())
}

/// Whether a process makes a bus of the file, through another description than `file`'s.
pub(crate) fn is_being_made(file: &File) -> io::Result<bool> {
    Ok(held_in(file, MAKER, 1)?.is_some())
}

/// Releases the right to make a bus.
pub(crate) fn unlock_making(file: &File) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, MAKER, 1)))?;
    Ok(())
}

/// Where the lock of a station of this kind lies in the file: the first byte of a range that ends
/// at `end`. `None` when no number has that range.
pub(crate) fn number_at(start: i64, end: i64) -> Option<u32> {
    let number = start.checked_sub(BASE).filter(|_| start == end)?;
    u32::try_from(number).ok().filter(|number| (1..=Owner::MAX).contains(number))
}

/// How many stations hold numbers, the one of `file`'s own description not counted. Those beyond
/// [`MAX_COUNTED`] do not count, nor those that are not found within [`COUNT_TIMEOUT`].
pub(crate) fn count(file: &File) -> io::Result<usize> {
    count_until(file, Instant::now() + COUNT_TIMEOUT)
}

/// As [`count`], of those that are found by `deadline`.
fn count_until(file: &File, deadline: Instant) -> io::Result<usize> {
    // The kernel names some lock in a range, not the lowest: continue on both sides of it.
    let mut ranges = vec![(MAKER + 1, i64::from(Owner::MAX))];
    let mut count = 0;
    while let Some((first, len)) = ranges.pop() {
        if count >= MAX_COUNTED || Instant::now() >= deadline {
            break;
        }
        if len > 0
            && let Some(held) = held_in(file, first, len)?
        {
            count += 1;
            ranges.push((first, held.start - first));
            ranges.push((held.end, first + len - held.end));
        }
    }
    Ok(count)
}

/// A part of the range of numbers that is held, if any is. Other parts may be held as well.
fn held_in(file: &File, first: i64, len: i64) -> io::Result<Option<Range<i64>>> {
    // A shared lock conflicts with the exclusive ones that stations hold, and may be asked for
    // without write access.
    let mut lock = range(libc::F_RDLCK, first, len);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    // No station holds a lock across several numbers, but another process may. A length of 0 means
    // up to the end.
    let start = (lock.l_start - BASE).clamp(first, first + len - 1);
    let end =
        if lock.l_len == 0 { i64::MAX } else { lock.l_start.saturating_add(lock.l_len) - BASE };
    Ok(Some(start..end.clamp(start + 1, first + len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> File {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .expect("a temporary file")
    }

    #[test]
    #[cfg_attr(miri, ignore = "locks of files")]
    fn a_number_lives_as_long_as_its_description() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bus");
        let (one, two) = (open(&path), open(&path));
        let watcher = open(&path);
        let first = claim(&one, None).expect("a number");
        let second = claim(&two, Some(first)).expect("a number");
        assert_ne!(first, second);
        assert!(is_alive(&watcher, first).expect("asked"));
        assert_eq!(count(&watcher).expect("asked"), 2);
        drop(one);
        assert!(!is_alive(&watcher, first).expect("asked"));
        assert!(is_alive(&watcher, second).expect("asked"));
        release(&two, second).expect("released");
        assert_eq!(count(&watcher).expect("asked"), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "locks of files")]
    fn watchers_share_a_byte_and_are_no_stations() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bus");
        let sender = open(&path);
        assert!(!has_watchers(&sender).expect("asked"));
        let read_only = || File::open(&path).expect("there");
        let (one, two) = (read_only(), read_only());
        note_watcher(&one).expect("shared");
        note_watcher(&two).expect("shared");
        drop(one);
        assert!(has_watchers(&sender).expect("asked"));
        assert!(is_alone(&sender).expect("asked"));
        drop(two);
        assert!(!has_watchers(&sender).expect("asked"));
        assert!(try_lock_folder(&sender).expect("asked"));
        assert!(!try_lock_folder(&open(&path)).expect("asked"));
        unlock_folder(&sender).expect("released");
        assert!(try_lock_folder(&open(&path)).expect("asked"));
        let station = open(&path);
        claim(&station, None).expect("a number");
        assert!(!is_alone(&sender).expect("asked") && is_alone(&station).expect("asked"));
    }

    /// Counting them one by one would take long.
    #[test]
    #[cfg_attr(miri, ignore = "locks of files")]
    fn a_lock_across_many_numbers_counts_as_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bus");
        let (one, hog, watcher) = (open(&path), open(&path), open(&path));
        let number = i64::from(claim(&one, None).expect("a number").number());
        // On both sides of the station.
        for (first, end) in [(1, number), (number + 1, i64::from(Owner::MAX) + 1)] {
            fcntl(&hog, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, first, end - first)))
                .expect("free");
        }
        assert_eq!(count(&watcher).expect("asked"), 3);
        drop(one);
        fcntl(&hog, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, 1, 0)))
            .expect("all of them are free");
        assert_eq!(count(&watcher).expect("asked"), 1);
        assert!(is_alive(&watcher, Owner::new(7).expect("not 0")).expect("asked"));
        claim(&open(&path), None).expect_err("none is left");
    }

    /// A process that may write the file can hold thousands of locks on it.
    #[test]
    #[cfg_attr(miri, ignore = "locks of files")]
    fn a_count_among_many_locks_ends_in_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bus");
        let (hog, watcher) = (open(&path), open(&path));
        for number in 0..100 {
            fcntl(&hog, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, 1 + 2 * number, 1)))
                .expect("free");
        }
        let now = Instant::now();
        assert_eq!(count_until(&watcher, now).expect("asked"), 0, "no question is asked any more");
        assert_eq!(count_until(&watcher, now + Duration::from_secs(3_600)).expect("asked"), 100);
    }

    /// Those that have numbers are alive, and no other station can join: the kernel has no way
    /// around such a lock.
    #[test]
    #[cfg_attr(miri, ignore = "locks of files")]
    fn locks_for_reading_keep_stations_off_and_no_process_waits_for_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bus");
        let (member, other) = (open(&path), open(&path));
        let number = claim(&member, None).expect("a number");
        let reader = File::open(&path).expect("there");
        for (first, end) in
            [(FOLDER, i64::from(number.number())), (i64::from(number.number()) + 1, 1 << 31)]
        {
            fcntl(&reader, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, first, end - first)))
                .expect("free");
        }
        assert!(is_alive(&other, number).expect("asked"));
        assert_eq!(count(&other).expect("asked"), 1);
        assert!(!is_alive(&other, Owner::new(7).expect("not 0")).expect("asked"));
        assert!(!is_being_made(&other).expect("asked"));
        for denied in [
            claim(&other, None).map(|_| ()),
            try_lock_making(&other).map(|_| ()),
            try_lock_folder(&other).map(|_| ()),
        ] {
            let error = denied.expect_err("a reader denies it");
            assert!(error.to_string().contains("locks for reading"), "{error}");
        }
    }

    #[test]
    fn the_byte_of_a_number_is_that_of_no_other() {
        assert_eq!(number_at(BASE + 1, BASE + 1), Some(1));
        assert_eq!(
            number_at(BASE + i64::from(Owner::MAX), BASE + i64::from(Owner::MAX)),
            Some(Owner::MAX)
        );
        for (start, end) in [
            (BASE, BASE),
            (BASE + 1, BASE + 2),
            (BASE + (1 << 30), BASE + (1 << 30)),
            (0, 0),
            (i64::MIN, i64::MIN),
        ] {
            assert_eq!(number_at(start, end), None);
        }
    }
}
