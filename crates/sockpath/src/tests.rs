use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Barrier;

use super::*;

fn make(kind: SockType) -> OwnedFd {
    socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).expect("a socket")
}

fn listens(path: &Path, kind: SockType) -> Result<(OwnedFd, SocketFile), Error> {
    let socket = make(kind);
    listen(&socket, path, Some(0o600)).map(|file| (socket, file))
}

fn bound(path: &Path) -> Result<(OwnedFd, SocketFile), Error> {
    let socket = make(SockType::Datagram);
    bind_datagram(&socket, path, 0o600).map(|file| (socket, file))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    let (live, file) = listens(&path, SockType::Stream).expect("the one there is dead");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for kind in [SockType::Stream, SockType::SeqPacket] {
        let error = listens(&path, kind).expect_err("one listens");
        assert!(matches!(error, Error::InUse), "{error}");
    }
    assert!(matches!(bound(&path), Err(Error::InUse)));
    assert_eq!(names(folder.path()), ["s"], "no temporary file stays");
    drop((live, file));
    assert!(names(folder.path()).is_empty());

    drop(UnixDatagram::bind(&path).unwrap());
    let (live, file) = bound(&path).expect("the one there is dead");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = bound(&path).expect_err("one is bound");
    assert!(matches!(error, Error::InUse), "{error}");
    drop((live, file));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_file_that_is_no_socket_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    fs::write(&path, "precious").unwrap();
    let error = listens(&path, SockType::Stream).expect_err("a file is there");
    assert!(matches!(error, Error::NotASocket), "{error}");
    assert!(matches!(bound(&path), Err(Error::NotASocket)));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    // Nor does a link to a socket lead this one elsewhere.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("target"), &link).unwrap();
    assert!(matches!(listens(&link, SockType::Stream), Err(Error::NotASocket)));
    assert!(!folder.path().join("target").exists());
}

#[test]
fn a_file_that_was_replaced_or_left_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (_live, file) = listens(&path, SockType::Stream).expect("free");
    fs::remove_file(&path).unwrap();
    let (_other, other) = listens(&path, SockType::Stream).expect("free");
    drop(file);
    assert!(path.exists());
    other.leave();
    assert_eq!(names(folder.path()), ["s"]);
}

#[test]
fn paths_that_cannot_be_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    for error in [listens(&missing.join("s"), SockType::Stream), bound(&missing.join("s"))] {
        let error = error.expect_err("no folder");
        assert!(matches!(&error, Error::NoFolder(named) if *named == missing), "{error}");
    }
    let long = folder.path().join("x".repeat(108));
    assert!(matches!(bound(&long), Err(Error::TooLong)));
    let long = folder.path().join("x".repeat(100));
    fs::create_dir(&long).unwrap();
    assert!(matches!(listens(&long.join("s"), SockType::Stream), Err(Error::TooLong)));
}

/// Strangers may lock the folder, and they may put a file in the place of the lock. Neither is
/// waited for.
#[test]
fn a_lock_that_a_stranger_can_hold_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let place = folder.path().join(format!(".sockpath-{}", geteuid()));
    let lock = |path: &Path| {
        let file = fs::File::open(path).expect("it exists");
        nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).expect("free")
    };
    let _folder_lock = lock(folder.path());
    drop(listens(&path, SockType::Stream).expect("free"));
    // Others can open this one, as a stranger's.
    fs::write(&place, "").unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o644)).unwrap();
    let _place_lock = lock(&place);
    let start = std::time::Instant::now();
    drop(listens(&path, SockType::Stream).expect("free"));
    drop(bound(&path).expect("free"));
    assert!(start.elapsed() < std::time::Duration::from_secs(1));
    assert_eq!(names(folder.path()).len(), 1, "the stranger's file stays");
}

#[test]
fn of_many_that_find_a_dead_socket_one_replaces_it() {
    for round in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let takes =
            |datagrams| if datagrams { bound(&path) } else { listens(&path, SockType::Stream) };
        drop(UnixListener::bind(&path).unwrap());
        let start = Barrier::new(8);
        let results: Vec<_> = std::thread::scope(|scope| {
            let take = || {
                start.wait();
                takes(round % 2 == 0)
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(winners.len(), 1, "{losers:?}");
        assert!(losers.iter().all(|lost| matches!(lost, Err(Error::InUse))), "{losers:?}");
        drop(winners);
        assert!(names(folder.path()).is_empty());
    }
}
