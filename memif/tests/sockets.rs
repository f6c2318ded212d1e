//! The socket's file: dead ones are replaced, live ones never, and no server removes another's.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::sync::Barrier;

use common::*;
use memif::{
    BindError, Client, ClientOptions, Event, InterfaceOptions, Server, SocketAddr, SocketOptions,
};

fn addr(folder: &tempfile::TempDir) -> SocketAddr {
    SocketAddr::path(folder.path().join("memif.sock")).unwrap()
}

fn entries(folder: &tempfile::TempDir) -> usize {
    fs::read_dir(folder.path()).unwrap().count()
}

#[test]
fn a_live_server_is_never_replaced_and_a_dead_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let addr = addr(&folder);
    let first = Server::bind(&addr, SocketOptions::new()).unwrap();
    let error = Server::bind(&addr, SocketOptions::new()).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("in use by a running server"), "{error}");
    assert_eq!(entries(&folder), 1, "no temporary files stay");
    drop(first);
    assert_eq!(entries(&folder), 0, "the file goes with its server");

    drop(mock_listener(&addr));
    assert_eq!(entries(&folder), 1, "a dead socket");
    let _second = Server::bind(&addr, SocketOptions::new()).unwrap();
    assert_eq!(entries(&folder), 1);
}

#[test]
fn abstract_names_are_in_use_or_not() {
    let addr = unique("abstract-twice");
    let first = Server::bind(&addr, SocketOptions::new()).unwrap();
    assert!(matches!(Server::bind(&addr, SocketOptions::new()), Err(BindError::InUse { .. })));
    drop(first);
    Server::bind(&addr, SocketOptions::new()).unwrap();
}

#[test]
fn what_is_no_socket_stays() {
    let folder = tempfile::tempdir().unwrap();
    let addr = addr(&folder);
    fs::write(addr.as_path().unwrap(), "precious").unwrap();
    assert!(matches!(Server::bind(&addr, SocketOptions::new()), Err(BindError::NotASocket { .. })));
    assert_eq!(fs::read(addr.as_path().unwrap()).unwrap(), b"precious");
    assert_eq!(entries(&folder), 1);
}

#[test]
fn a_missing_directory_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let addr = SocketAddr::path(folder.path().join("missing/memif.sock")).unwrap();
    let error = Server::bind(&addr, SocketOptions::new()).unwrap_err();
    let named = matches!(&error, BindError::NoDirectory { directory, .. } if directory.ends_with("missing"));
    assert!(named && error.to_string().contains("missing"), "{error}");
}

#[test]
fn a_file_that_is_not_ours_any_more_stays() {
    let folder = tempfile::tempdir().unwrap();
    let addr = addr(&folder);
    let first = Server::bind(&addr, SocketOptions::new()).unwrap();
    // Another process ignores the lock and takes the name over.
    fs::remove_file(addr.as_path().unwrap()).unwrap();
    let second = Server::bind(&addr, SocketOptions::new()).unwrap();
    drop(first);
    assert!(fs::symlink_metadata(addr.as_path().unwrap()).unwrap().file_type().is_socket());
    drop(second);
    assert_eq!(entries(&folder), 0);
}

#[test]
fn the_file_has_the_mode_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let addr = addr(&folder);
    let _server = Server::bind(&addr, SocketOptions::new().mode(0o624)).unwrap();
    let mode = fs::metadata(addr.as_path().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o624);
}

#[test]
fn of_many_servers_that_find_a_dead_socket_one_replaces_it() {
    for _ in 0..30 {
        let folder = tempfile::tempdir().unwrap();
        let addr = addr(&folder);
        drop(mock_listener(&addr));
        let start = Barrier::new(8);
        let bind = || {
            start.wait();
            Server::bind(&addr, SocketOptions::new())
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(bind)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(winners.len(), 1);
        assert!(
            losers.iter().all(|error| matches!(error, Err(BindError::InUse { .. }))),
            "{losers:?}"
        );
        // The one that won is the one that is reached.
        let mut server = winners.into_iter().next().unwrap().unwrap();
        server.add(InterfaceOptions::new(0)).unwrap();
        let mut world = World::new(server);
        let mut client = Client::new(&addr, ClientOptions::new(0)).unwrap();
        until("a link", || {
            world.pump();
            matches!(client.ready().unwrap(), Some(Event::Connected { .. })).then_some(())
        });
    }
}
