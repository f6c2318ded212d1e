//! Commands on stdin, one per line; the answer to each is a line of JSON.

use std::collections::VecDeque;
use std::io::{self, BufRead as _};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use iphost::{HostAddress, Nic, PingPlan, Pinger, Report, Stack};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use crate::{output, quantity};

/// Requests of a ping, unless the command says how many.
const COUNT: u64 = 3;
const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);
const SIZE: usize = 56;
/// Longest line in bytes; more is cut off.
const LONGEST_LINE: usize = 4096;

/// The commands that wait, and the one that runs.
#[derive(Default)]
pub(super) struct Commands {
    ended: bool,
    /// The beginning of a line that is not complete.
    partial: Vec<u8>,
    lines: VecDeque<String>,
    current: Option<(IpAddr, Pinger)>,
}

/// The answer to a ping.
#[derive(Serialize)]
struct Pinged {
    target: IpAddr,
    #[serde(flatten)]
    report: Report,
}

/// The answer to a command that failed.
#[derive(Serialize)]
struct Failed<'a> {
    command: &'a str,
    error: String,
}

impl Commands {
    /// Returns stdin, until it has ended.
    pub(super) fn input(&self) -> Option<io::Stdin> {
        (!self.ended).then(io::stdin)
    }

    /// Returns when the running command next has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.current.as_ref().map(|(_, pinger)| pinger.due())
    }

    /// Does what is due after a round of the stack. Returns `true` when stdin has ended and all
    /// commands are done.
    pub(super) fn step<N: Nic>(&mut self, stack: &mut Stack<N>) -> io::Result<bool> {
        self.read()?;
        if let Some((target, mut pinger)) = self.current.take() {
            if pinger.step(stack, |_| {}) {
                let report = pinger.finish(stack).report();
                output::print_json(&Pinged { target, report })?;
            } else {
                self.current = Some((target, pinger));
            }
        }
        while self.current.is_none()
            && let Some(line) = self.lines.pop_front()
        {
            match parse(&line, stack) {
                Ok(plan) => {
                    self.current = Some((plan.target, Pinger::start(stack, plan)));
                    // Its first request is due.
                    return Ok(false);
                }
                Err(error) => output::print_json(&Failed { command: &line, error })?,
            }
        }
        Ok(self.ended && self.current.is_none())
    }

    /// Reads the lines that are available.
    fn read(&mut self) -> io::Result<()> {
        while !self.ended && is_readable()? {
            let mut stdin = io::stdin().lock();
            // The buffer is emptied, so that the descriptor shows whether there is more.
            let bytes = stdin.fill_buf()?;
            let count = bytes.len();
            self.ended = count == 0;
            self.partial.extend_from_slice(bytes);
            stdin.consume(count);
            while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                self.lines.push_back(String::from_utf8_lossy(&line).trim().to_owned());
            }
            // No honest command is this long.
            self.partial.truncate(LONGEST_LINE);
        }
        Ok(())
    }
}

fn is_readable() -> io::Result<bool> {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads `ping ADDR [COUNT [SECONDS]]`, for the host with this stack.
fn parse<N: Nic>(line: &str, stack: &Stack<N>) -> Result<PingPlan, String> {
    let addresses: Vec<_> = stack.addresses().collect();
    parse_for(line, &addresses, |target| stack.source_for(target).is_some())
}

/// Reads the command for a host with these addresses, which `reaches` others.
fn parse_for(
    line: &str,
    addresses: &[HostAddress],
    reaches: impl Fn(IpAddr) -> bool,
) -> Result<PingPlan, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (target, options) = match words[..] {
        ["ping", target, ref options @ ..] if options.len() <= 2 => (target, options),
        _ => return Err("the command is: ping ADDR [COUNT [SECONDS]]".to_owned()),
    };
    let target: IpAddr = target.parse().map_err(|_| format!("'{target}' is not an IP address"))?;
    if addresses.iter().any(|own| own.address() == target) {
        return Err(format!("{target} is this host's own address"));
    }
    if !reaches(target) || target.is_multicast() {
        return Err(format!("{target} is not on a network of this host"));
    }
    if let Some(why) = addresses.iter().find_map(|own| own.refuses(target)) {
        return Err(format!("cannot ping {target}: {why}"));
    }
    let count = match options.first() {
        None => COUNT,
        Some(count) => count
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| format!("'{count}' is not a number of requests"))?,
    };
    let interval = match options.get(1) {
        None => INTERVAL,
        Some(seconds) => quantity::seconds(seconds)
            .filter(|interval| *interval <= Duration::from_hours(24))
            .ok_or_else(|| format!("'{seconds}' is not a number of seconds"))?,
    };
    Ok(PingPlan { target, count: Some(count), interval, size: SIZE, timeout: TIMEOUT })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_what_is_none_is_named() {
        let addresses: [HostAddress; 2] =
            ["10.0.0.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap()];
        let parse = |line: &str| {
            let reaches = |target| addresses.iter().any(|own| own.reaches(target));
            parse_for(line, &addresses, reaches)
        };
        let plan = parse("ping 10.0.0.2").unwrap();
        assert_eq!((plan.count, plan.interval), (Some(COUNT), INTERVAL));
        let plan = parse(" ping  fd00::2 5 0.25 ").unwrap();
        assert_eq!((plan.count, plan.interval), (Some(5), Duration::from_millis(250)));
        for (line, word) in [
            ("", "the command is"),
            ("ping", "the command is"),
            ("ping 10.0.0.2 1 1 1", "the command is"),
            ("pong 10.0.0.2", "the command is"),
            ("ping ten", "'ten'"),
            ("ping 10.0.0.1", "own"),
            ("ping 10.0.1.1", "network"),
            ("ping 10.0.0.255", "the broadcast address"),
            ("ping fd00::", "that of the network itself"),
            ("ping 10.0.0.2 0", "'0'"),
            ("ping 10.0.0.2 1 -1", "'-1'"),
            ("ping 10.0.0.2 1 1e300", "'1e300'"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
