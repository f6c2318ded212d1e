//! A terminal to run the program on: some things are for people only.

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, ExitStatus};

use nix::pty::{Winsize, openpty};

/// Runs it on a terminal of 80 columns; how it ended, and what the terminal showed, errors too.
pub(crate) fn run(command: &mut Command) -> (ExitStatus, String) {
    let size = Winsize { ws_row: 25, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).unwrap();
    let end = || terminal.slave.try_clone().unwrap();
    let mut child =
        command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    // The command keeps its ends as long as it lives, and then reading would not end.
    for stream in [Command::stdin, Command::stdout, Command::stderr] {
        stream(command, std::process::Stdio::null());
    }
    drop(terminal.slave);
    let mut shown = Vec::new();
    // Reading a terminal that no process has open any more ends with an error.
    let _ = File::from(terminal.master).read_to_end(&mut shown);
    (child.wait().unwrap(), String::from_utf8_lossy(&shown).into_owned())
}
