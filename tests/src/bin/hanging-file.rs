//! A memif client whose regions are files that hang in `close`.
//!
//! - `hanging-file serve FOLDER SOCKET COUNT` serves a file system at FOLDER (FUSE) that never
//!   answers FLUSH, and starts `send` as a child. It runs where it may mount: under `unshare --user
//!   --map-root-user --mount`.
//! - `hanging-file send FOLDER SOCKET COUNT` sends COUNT of its files to the interface 0 on SOCKET,
//!   each on a connection of its own, prints `sent`, and stays.
//!
//! These are two processes: one that has such a file open cannot end before the file system does.

use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use system_tests::rawmemif::{Answer, Init, RawClient, add_region};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
/// The bytes of a request's header.
const HEADER: usize = 40;
const ROOT: u64 = 1;
/// The one file; every name leads to it.
const FILE: u64 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve", folder, socket, count] => {
            let fuse = File::options().read(true).write(true).open("/dev/fuse")?;
            let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", fuse.as_raw_fd());
            mount(Some("hanging"), folder, Some("fuse"), MsFlags::empty(), Some(&*options))?;
            let mut client = Command::new(std::env::current_exe()?);
            let _client = client.args(["send", folder, socket, count]).spawn()?;
            Ok(serve(fuse)?)
        }
        ["send", folder, socket, count] => send(folder, Path::new(socket), count.parse()?),
        _ => Err("say serve or send, FOLDER, SOCKET and COUNT".into()),
    }
}

fn send(folder: &str, socket: &Path, count: usize) -> Result<(), Box<dyn Error>> {
    let file = File::open(Path::new(folder).join("file"))?;
    let mut refused = Vec::new();
    for _ in 0..count {
        let client = RawClient::connect(socket);
        assert_eq!(client.init(&Init::default()), Answer::Message(1));
        client.send_with(&add_region(0, 4_096), &[file.as_fd()])?;
        let Answer::DisconnectReason(reason) = client.answer() else {
            return Err("the file was taken for memory".into());
        };
        refused.push((client, reason));
    }
    println!("sent");
    // Until the test ends.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Answers the kernel's requests, but no FLUSH.
fn serve(mut fuse: File) -> std::io::Result<()> {
    let mut request = vec![0; 1 << 17];
    loop {
        let bytes = fuse.read(&mut request)?;
        let request = &request[..bytes];
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four"));
        let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().expect("eight"));
        let (operation, unique, node) = (word(4), long(8), long(16));
        let answer = match operation {
            FLUSH | FORGET => continue,
            // Version 7.31, and one page for a write.
            INIT => {
                assert!(bytes >= HEADER);
                Ok([
                    &7u32.to_ne_bytes()[..],
                    &31u32.to_ne_bytes(),
                    &[0; 12],
                    &4_096u32.to_ne_bytes(),
                    &[0; 40],
                ]
                .concat())
            }
            LOOKUP => Ok([&FILE.to_ne_bytes()[..], &[0; 32], &attributes(FILE)].concat()),
            GETATTR => Ok([&[0; 16][..], &attributes(node)].concat()),
            OPEN => Ok(vec![0; 16]),
            _ => Err(nix::libc::ENOSYS),
        };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).expect("short");
        let header = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes()];
        fuse.write_all(&[&header.concat()[..], &body].concat())?;
    }
}

/// Returns a `fuse_attr`.
fn attributes(node: u64) -> Vec<u8> {
    let mode: u32 = if node == ROOT { 0o40_755 } else { 0o100_644 };
    let mut attributes = vec![0; 88];
    attributes[0..8].copy_from_slice(&node.to_ne_bytes());
    attributes[60..64].copy_from_slice(&mode.to_ne_bytes());
    attributes[64..68].copy_from_slice(&1u32.to_ne_bytes());
    attributes
}
