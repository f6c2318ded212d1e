//! pcap ports. The peer is a process at the other end of two pipes: it writes one capture and reads
//! another.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{Cable, Peer, conforms, here};

/// The size in bytes of the header of a capture.
const HEADER: usize = 24;
/// The size in bytes of the header of each frame.
const FRAME_HEADER: usize = 16;

struct Pipes {
    to_port: Option<File>,
    /// The bytes that the pipe has not taken yet.
    unsent: Vec<u8>,
    from_port: Option<File>,
    bytes: Vec<u8>,
    has_header: bool,
}

impl Pipes {
    /// Writes what the pipe takes. Returns whether that was all.
    fn push(&mut self) -> bool {
        while let Some(pipe) = self.to_port.as_mut().filter(|_| !self.unsent.is_empty()) {
            match pipe.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{error}"),
            }
        }
        true
    }
}

impl Peer for Pipes {
    fn send(&mut self, frame: &[u8]) -> bool {
        if !self.push() {
            return false;
        }
        let len = u32::try_from(frame.len()).expect("short").to_ne_bytes();
        self.unsent = [&[0; 8][..], &len, &len, frame].concat();
        self.push();
        true
    }

    fn receive(&mut self, frames: &mut Vec<Vec<u8>>) {
        self.push();
        let Some(pipe) = &mut self.from_port else { return };
        if let Err(error) = pipe.read_to_end(&mut self.bytes) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        }
        if !self.has_header && self.bytes.len() >= HEADER {
            self.bytes.drain(..HEADER);
            self.has_header = true;
        }
        while self.has_header && self.bytes.len() >= FRAME_HEADER {
            let mut len = [0; 4];
            len.copy_from_slice(&self.bytes[8..12]);
            let end = FRAME_HEADER + u32::from_ne_bytes(len) as usize;
            if self.bytes.len() < end {
                break;
            }
            frames.push(self.bytes[FRAME_HEADER..end].to_vec());
            self.bytes.drain(..end);
        }
    }

    fn vanish(&mut self) {
        (self.to_port, self.from_port) = (None, None);
    }

    fn come_back(&mut self) -> bool {
        false
    }
}

fn kind(folder: &Path) -> Cable {
    let (input, output) = (folder.join("in.pcap"), folder.join("out.pcap"));
    for pipe in [&input, &output] {
        mkfifo(pipe, Mode::S_IRWXU).expect("a pipe");
    }
    let spec = format!("pcap:in={},out={}", input.display(), output.display());
    let peer = move || -> Box<dyn Peer> {
        let mut from_port = OpenOptions::new();
        let from_port =
            from_port.read(true).custom_flags(libc::O_NONBLOCK).open(&output).expect("a pipe");
        // This call blocks until the port has opened the other end.
        let to_port = OpenOptions::new().write(true).open(&input).expect("a pipe");
        fcntl(&to_port, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("its flags");
        let mut header = 0xa1b2_c3d4_u32.to_ne_bytes().to_vec();
        header.extend([2_u16.to_ne_bytes(), 4_u16.to_ne_bytes()].concat());
        header.extend([0; 8]);
        header.extend([65_535_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat());
        Box::new(Pipes {
            to_port: Some(to_port),
            unsent: header,
            from_port: Some(from_port),
            bytes: Vec::new(),
            has_header: false,
        })
    };
    (spec, Box::new(peer))
}

conforms!(kind, here);
