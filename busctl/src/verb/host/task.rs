//! What a host was started for, beside being there for others.

use std::io::Stdin;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::anyhow;
use iphost::{HostAddress, Nic, Source, Stack, Transfer};

use super::commands::Commands;
use crate::misuse::misuse;
use crate::quantity;

/// One of these, or nothing.
pub(super) enum Errand {
    None,
    Commands(Box<Commands>),
    Delivery(Delivery),
}

impl Errand {
    /// Does what is due, after a round of the stack; `true` when it is done.
    pub(super) fn step<N: Nic>(&mut self, stack: &mut Stack<N>) -> anyhow::Result<bool> {
        match self {
            Self::None => Ok(false),
            Self::Commands(commands) => Ok(commands.step(stack)?),
            Self::Delivery(delivery) => delivery.step(stack),
        }
    }

    /// What to poll for more to do.
    pub(super) fn input(&self) -> Option<Stdin> {
        match self {
            Self::Commands(commands) => commands.input(),
            Self::None | Self::Delivery(_) => None,
        }
    }

    /// When there is something to do, if nothing comes before that.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Commands(commands) => commands.due(),
            Self::None | Self::Delivery(_) => None,
        }
    }
}

/// Bytes to be sent to somebody.
pub(super) struct Delivery {
    to: SocketAddr,
    bytes: u64,
    source: Option<Source>,
}

impl Delivery {
    /// `ADDR:PORT BYTES`, to be sent by a host with these addresses.
    pub(super) fn parse(words: &[String], addresses: &[HostAddress]) -> anyhow::Result<Self> {
        let [to, bytes] = words else {
            return Err(misuse(anyhow!("--tcp-source takes ADDR:PORT and BYTES")));
        };
        let to: SocketAddr = to.parse().map_err(|_| {
            misuse(anyhow!("cannot send to '{to}': it takes an address and a port, such as 10.0.0.1:5001 or [fd00::1]:5001"))
        })?;
        let bytes =
            quantity::bytes(bytes).map_err(|why| misuse(anyhow!("cannot send '{bytes}' bytes: {why}")))?;
        let target = to.ip();
        if to.port() == 0 {
            return Err(misuse(anyhow!("cannot send to {to}: there is no port 0")));
        }
        if addresses.iter().any(|own| own.address() == target) {
            return Err(misuse(anyhow!("cannot send to {to}: it is this host's own address")));
        }
        if !addresses.iter().any(|own| own.reaches(target)) || target.is_multicast() {
            return Err(misuse(anyhow!("cannot send to {to}: it is not on a network of this host")));
        }
        Ok(Self { to, bytes, source: None })
    }

    fn step<N: Nic>(&mut self, stack: &mut Stack<N>) -> anyhow::Result<bool> {
        match &mut self.source {
            Some(source) => Ok(source.step(stack)),
            None if stack.is_up() => {
                self.source = Some(Source::call(stack, self.to, self.bytes)?);
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// How far it came, and why no further; nothing when it has not begun.
    pub(super) fn result<N: Nic>(&self, stack: &mut Stack<N>) -> Option<(Transfer, Option<String>)> {
        Some(self.source.as_ref()?.result(stack))
    }
}
