//! The npm package `memif`, which is made for libmemif, on this library. `BUSCTL_TEST_NODE_MODULES` names
//! a folder into which npm has put the package, without its native half: the test compiles that.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use memif::{ClientOptions, InterfaceOptions};
use system_tests::c_program::Linkage;
use system_tests::memifpeer::{Listening, MemifPeer};
use system_tests::{Lab, Process, WAIT_TIMEOUT, frames, require};

use super::LIBRARY;

const ID: u32 = 3;

/// Returns the folder with the package. Says so if there is none.
fn modules() -> Option<PathBuf> {
    let folder = std::env::var_os("BUSCTL_TEST_NODE_MODULES").map(PathBuf::from);
    let folder = folder.filter(|folder| folder.join("memif").is_dir());
    let required = std::env::var("BUSCTL_REQUIRE_PEERS").as_deref() == Ok("1");
    let name = "the npm package memif in $BUSCTL_TEST_NODE_MODULES";
    if let Some(skipped) = require::skips(folder.is_some(), name, required) {
        eprintln!("{skipped}");
    }
    folder
}

/// Compiles the package in the lab, and returns what starts a program of it.
fn build(lab: &Lab, modules: &Path) -> impl Fn(&[&str]) -> Process {
    let libraries = LIBRARY.install(lab, Linkage::Shared);
    let copy = |from: &Path, to: &str| {
        let mut cp = Command::new("cp");
        cp.arg("-r").arg(from).arg(lab.path(to));
        Process::spawn("cp", &mut cp).finish(WAIT_TIMEOUT).succeeds();
    };
    copy(modules, "node_modules");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/echo.mjs"), "echo.mjs");
    // The compilation writes into both packages.
    let mut chown = Command::new("chown");
    chown.arg("-R").arg("--reference").arg(lab.path(".")).arg(lab.path("node_modules"));
    Process::spawn("chown", &mut chown).finish(WAIT_TIMEOUT).succeeds();
    let package = lab.path("node_modules/memif");
    let mut compile = lab.command("npm");
    compile.args(["run", "install"]).current_dir(&package);
    // Headers of Node.js as packages install them, and not from the network.
    compile.env("npm_config_nodedir", "/usr").env("npm_config_update_notifier", "false");
    compile.env("CPATH", LIBRARY.include).env("LIBRARY_PATH", &libraries);
    Process::spawn("npm", &mut compile).finish(WAIT_TIMEOUT * 2).succeeds();
    move |arguments| {
        let mut node = lab.command("node");
        node.arg("echo.mjs").args(arguments).env("LD_LIBRARY_PATH", &libraries);
        Process::spawn("node", &mut node)
    }
}

/// Exchanges packets that fit a buffer, and some that take two.
fn is_echoed(mut peer: MemifPeer) {
    for burst in 0..100u64 {
        let packets: Vec<Vec<u8>> = (0..16)
            .map(|n| frames::numbered(if n == 7 { 3_000 } else { 60 + 90 * n }, burst))
            .collect();
        peer.send_all(&packets);
        assert_eq!(peer.receive_exactly(packets.len()), packets);
    }
}

#[test]
fn packets_come_back_from_node_in_both_roles() {
    let Some(modules) = modules() else { return };
    require!("node", "npm", "c++", "make");
    let lab = Lab::new(&require::find("node").expect("found above"));
    let start = build(&lab, &modules);
    let id = ID.to_string();

    let socket = lab.path("node.sock");
    let server = start(&["node.sock", "server", &id]);
    let retry = ClientOptions::new(ID).reconnect(Some(Duration::from_millis(20)));
    is_echoed(MemifPeer::client(&socket, retry));
    server.wait_for_line("down 1600");

    let listening = Listening::on(&lab.path("rust.sock"), InterfaceOptions::new(ID));
    let client = start(&["rust.sock", "client", &id]);
    is_echoed(listening.accept());
    client.wait_for_line("down 1600");
}
