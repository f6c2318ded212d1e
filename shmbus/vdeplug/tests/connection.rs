//! A connection as `libvdeplug` and its programs use it: through the table of functions.

use std::ffi::{CString, c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::MSG_DONTWAIT;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shmbus::{Burst, Bus, Station, StationOptions};
use tempfile::TempDir;
use vdeplug_shmif::{Connection, MODULE, OpenArgs};

/// Longer than any wait that ends.
const DEADLINE: Duration = Duration::from_secs(20);
/// What no frame comes within: longer than a station sleeps without a look.
const QUIET: Duration = Duration::from_millis(250);

fn folder() -> (TempDir, PathBuf) {
    let folder =
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let bus = folder.path().join("bus");
    (folder, bus)
}

fn station(path: &Path) -> Station {
    let bus = Bus::open_or_create(path, 0o600).expect("a bus");
    Station::join(bus, StationOptions::new().promiscuous(true)).expect("joined")
}

/// A broadcast with a number.
fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![0xff; len];
    frame[14..18].copy_from_slice(&number.to_be_bytes());
    frame
}

fn number(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[14..18].try_into().expect("four bytes"))
}

/// A connection, closed when it is dropped.
struct Vde(*mut Connection);

// SAFETY: programs may use a connection from any thread.
unsafe impl Send for Vde {}
// SAFETY: and from several.
unsafe impl Sync for Vde {}

fn open(url: &str, version: c_int, args: *const OpenArgs) -> Result<Vde, Errno> {
    let url = CString::new(url).expect("no NUL");
    // SAFETY: strings, and arguments that are NULL or valid.
    let opened = unsafe { (MODULE.open)(url.as_ptr(), c"test: user=1".as_ptr(), version, args) };
    if opened.is_null() { Err(Errno::last()) } else { Ok(Vde(opened)) }
}

fn plug(path: &Path) -> Vde {
    open(path.to_str().expect("text"), 1, ptr::null()).expect("joined")
}

impl Vde {
    fn recv(&self, flags: c_int) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![0; 9234];
        let room = buffer.as_mut_ptr().cast::<c_void>();
        // SAFETY: NULL or open, and a buffer of that length.
        let len = unsafe { (MODULE.recv)(self.0, room, buffer.len(), flags) };
        buffer.truncate(usize::try_from(len).map_err(|_negative| Errno::last())?);
        Ok(buffer)
    }

    fn send(&self, frame: &[u8]) -> Result<usize, Errno> {
        // SAFETY: NULL or open, and a frame of that length.
        let len = unsafe { (MODULE.send)(self.0, frame.as_ptr().cast(), frame.len(), 0) };
        usize::try_from(len).map_err(|_negative| Errno::last())
    }

    /// Whether a descriptor is readable within a time.
    fn polls(fd: c_int, time: Duration) -> bool {
        assert!(fd >= 0, "a descriptor");
        // SAFETY: open as long as the connection.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let time = PollTimeout::try_from(time).expect("a short time");
        poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], time).expect("polled") == 1
    }

    fn datafd(&self) -> c_int {
        // SAFETY: NULL or open.
        unsafe { (MODULE.datafd)(self.0) }
    }

    fn ctlfd(&self) -> c_int {
        // SAFETY: NULL or open.
        unsafe { (MODULE.ctlfd)(self.0) }
    }

    fn close(&self) -> c_int {
        // SAFETY: NULL or open, and not used again.
        unsafe { (MODULE.close)(self.0) }
    }

    fn has_frame(&self, time: Duration) -> bool {
        Self::polls(self.datafd(), time)
    }

    fn is_gone(&self, time: Duration) -> bool {
        Self::polls(self.ctlfd(), time)
    }
}

impl Drop for Vde {
    fn drop(&mut self) {
        assert_eq!(self.close(), 0);
    }
}

/// One frame for each time the descriptor is readable, as programs read them; and readable while
/// frames are left, and no longer.
#[test]
fn the_descriptor_is_readable_exactly_while_there_are_frames() {
    let (_folder, path) = folder();
    let mut sender = station(&path);
    let vde = plug(&path);
    assert!(!vde.has_frame(QUIET));
    let mut next = 0;
    // One, a few, and more than are read ahead at once.
    for count in [1, 3, 64, 65, 500] {
        let burst: Vec<_> = (next..next + count).map(|number| frame(number, 60)).collect();
        sender.send_burst(&burst).expect("sent");
        for _ in 0..count {
            assert!(vde.has_frame(DEADLINE), "frame {next} of {count}");
            assert_eq!(number(&vde.recv(0).expect("a frame")), next);
            next += 1;
        }
        assert!(!vde.has_frame(QUIET), "all {count} are taken");
        assert_eq!(vde.recv(MSG_DONTWAIT), Err(Errno::EAGAIN));
    }
    // What the program itself sends is no frame for it.
    for number in 0..10 {
        assert_eq!(vde.send(&frame(number, 60)), Ok(60));
        assert!(!vde.has_frame(Duration::from_millis(20)));
    }
}

#[test]
fn a_program_without_a_poll_loop_waits_in_recv() {
    let (_folder, path) = folder();
    let vde = plug(&path);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| (0..100).map(|_| vde.recv(0).expect("a frame")).collect());
        let mut sender = station(&path);
        for number in 0..100 {
            sender.send(&frame(number, 60)).expect("sent");
            std::thread::yield_now();
        }
        let frames: Vec<Vec<u8>> = receiver.join().expect("received");
        assert!(frames.iter().map(|frame| number(frame)).eq(0..100));
    });
}

/// Two threads for the two directions, as `VirtualBox` has them.
#[test]
fn both_directions_at_once_lose_nothing() {
    const FRAMES: u32 = 20_000;
    /// So many fit on the bus: no frame is overwritten before it is read.
    const WINDOW: u32 = 256;
    let (_folder, path) = folder();
    let vde = plug(&path);
    let mut station = station(&path);
    let mut received = Burst::new(64);
    let (mut sent, mut back) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for expected in 0..FRAMES {
                assert!(vde.has_frame(DEADLINE));
                let frame = vde.recv(0).expect("a frame");
                assert_eq!(number(&frame), expected);
                assert_eq!(vde.send(&frame), Ok(frame.len()));
            }
        });
        let begin = Instant::now();
        while back < FRAMES {
            while sent < FRAMES && sent - back < WINDOW {
                let len = 60 + sent as usize % 1_455;
                station.send(&frame(sent, len)).expect("sent");
                sent += 1;
            }
            assert!(begin.elapsed() < 3 * DEADLINE, "{back} of {FRAMES} came back");
            station.wait(Some(Duration::from_millis(100))).expect("watched");
            station.recv_burst(&mut received);
            for reflected in &received {
                assert_eq!(reflected.bytes, frame(back, 60 + back as usize % 1_455));
                back += 1;
            }
        }
    });
    assert_eq!(station.stats().overruns, 0);
}

#[test]
fn frames_that_no_bus_carries_are_refused() {
    let (_folder, path) = folder();
    let vde = plug(&path);
    let mut receiver = station(&path);
    for len in [0, 13, 1_515, 9_234] {
        assert_eq!(vde.send(&vec![0xff; len]), Err(Errno::EMSGSIZE), "{len}");
    }
    for len in [14, 1_514] {
        assert_eq!(vde.send(&vec![0xff; len]), Ok(len));
    }
    let mut burst = Burst::new(4);
    assert_eq!(receiver.recv_burst(&mut burst), 2);
    // A long frame in a short buffer is cut, as a datagram is.
    receiver.send(&frame(7, 100)).expect("sent");
    let mut short = [0_u8; 20];
    // SAFETY: open, and a buffer of that length.
    let len = unsafe { (MODULE.recv)(vde.0, short.as_mut_ptr().cast(), short.len(), 0) };
    assert_eq!((len, number(&short)), (20, 7));
}

#[test]
fn a_url_has_options() {
    let (_folder, path) = folder();
    let url = format!("{}[size=2M/mode=0640/name=web/learn=on]", path.display());
    let vde = open(&url, 1, ptr::null()).expect("joined");
    let file = std::fs::metadata(&path).expect("made");
    assert_eq!((file.len(), file.permissions().mode() & 0o777), (2 << 20, 0o640));
    let mut station = station(&path);
    let members = station.bus().members();
    let member = members.iter().find(|member| member.name == "web").expect("its note");
    assert!(member.joins, "there may be a network behind it");
    // A big bus carries all that VDE does.
    assert_eq!(vde.send(&[0xff; 9_216]), Ok(9_216));
    // It learns: a frame for an address that is elsewhere does not reach it.
    let (ours, theirs) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let to = |to: [u8; 6], from: [u8; 6]| [&to[..], &from[..], &[0x88, 0xb5, 1, 2, 3, 4]].concat();
    let broadcast = [0xff; 6];
    assert_eq!(vde.send(&to(broadcast, ours)), Ok(18));
    station.send(&to(broadcast, theirs)).expect("sent");
    assert_eq!(vde.recv(0).expect("for all"), to(broadcast, theirs));
    station.send(&to(theirs, theirs)).expect("sent");
    station.send(&to(ours, theirs)).expect("sent");
    assert_eq!(vde.recv(0).expect("for it"), to(ours, theirs));
}

#[test]
fn the_programs_arguments_count() {
    let (folder, _) = folder();
    let args = |group, mode| OpenArgs { port: 3, group, mode };
    for (nth, (mode, made)) in [(0, 0o600), (0o700, 0o600), (0o660, 0o660)].into_iter().enumerate()
    {
        let path = folder.path().join(nth.to_string());
        let _vde = open(path.to_str().expect("text"), 1, &args(ptr::null(), mode)).expect("made");
        let file = std::fs::metadata(&path).expect("made");
        assert_eq!(file.permissions().mode() & 0o777, made);
    }
    let path = folder.path().join("bus");
    let path = path.to_str().expect("text");
    assert_eq!(open(path, 1, &args(c"users".as_ptr(), 0)).err(), Some(Errno::ENOTSUP));
    // Arguments of another version are not looked at.
    let _vde = open(path, 2, &args(c"users".as_ptr(), 0)).expect("joined");
}

#[test]
fn what_cannot_be_joined_says_why() {
    let (folder, path) = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "no bus").expect("written");
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    for (url, errno) in [
        (String::new(), Errno::EINVAL),
        (format!("{}[port=3]", path.display()), Errno::EINVAL),
        (format!("{}[size=3]", path.display()), Errno::EINVAL),
        (text(&file), Errno::EINVAL),
        (text(&folder.path().join("no/folder")), Errno::ENOENT),
    ] {
        assert_eq!(open(&url, 1, ptr::null()).err(), Some(errno), "{url}");
    }
    assert!(!path.exists());
    // NULL is no connection, and each function says so.
    let none = ManuallyDrop::new(Vde(ptr::null_mut()));
    assert_eq!(none.recv(0), Err(Errno::EBADF));
    assert_eq!(none.send(&[0xff; 60]), Err(Errno::EBADF));
    assert_eq!([none.datafd(), none.ctlfd(), none.close()], [-1; 3]);
    assert_eq!(Errno::last(), Errno::EBADF);
}

/// The control descriptor ends programs, as when a switch ends.
#[test]
fn a_bus_that_is_cut_short_is_gone() {
    let (_folder, path) = folder();
    let vde = plug(&path);
    assert!(!vde.has_frame(Duration::ZERO) && !vde.is_gone(Duration::ZERO));
    File::options().write(true).open(&path).and_then(|file| file.set_len(0)).expect("cut");
    assert!(vde.is_gone(DEADLINE), "without a call of the program");
    assert_eq!(vde.recv(0), Err(Errno::ENETDOWN));
    assert_eq!(vde.send(&[0xff; 60]), Err(Errno::ENETDOWN));
}

/// A virtual machine does not stand still because another station does.
#[test]
fn a_locked_bus_costs_frames_and_little_time() {
    let (_folder, path) = folder();
    let vde = plug(&path);
    let file = File::options().write(true).open(&path).expect("a bus");
    // The lock, of an owner that did not say who it is, and that has the file mapped, as any test
    // beside this one may.
    let lock = |value: u32| file.write_all_at(&value.to_ne_bytes(), 24);
    lock(1).expect("locked");
    let begin = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(vde.send(&[0xff; 60]), Err(Errno::EAGAIN));
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    lock(0).expect("free");
    while vde.send(&[0xff; 60]) != Ok(60) {
        assert!(begin.elapsed() < DEADLINE, "it sends again");
    }
}

#[test]
fn a_connection_leaves_nothing() -> io::Result<()> {
    let (folder, path) = folder();
    let open_files = || std::fs::read_dir("/proc/self/fd").map(Iterator::count);
    // What the process makes once, it has made.
    drop(plug(&path));
    let before = open_files()?;
    for _ in 0..50 {
        let vde = plug(&path);
        assert!(!vde.has_frame(Duration::ZERO));
    }
    // Other tests of this process open files, too; fifty connections would be more.
    assert!(open_files()? < before + 50);
    let left: Vec<_> = std::fs::read_dir(folder.path())?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    assert_eq!(left, ["bus"]);
    Ok(())
}
