//! What a host does beside its services.

use std::io::Stdin;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::anyhow;
use iphost::{HostAddress, Nic, Stack, TcpSource, Transfer, TransferError};

use super::commands::Commands;
use crate::host_network::HostNetwork;
use crate::misuse::misuse;
use crate::nic_argument::NicArgument;
use crate::quantity;

/// The task of a host.
pub(super) enum Task {
    None,
    Commands(Box<Commands>),
    TcpSourceTask(TcpSourceTask),
}

impl Task {
    /// Does what is due after a round of the stack. Returns `true` when the task is done.
    pub(super) fn step<N: Nic>(&mut self, stack: &mut Stack<N>) -> anyhow::Result<bool> {
        match self {
            Self::None => Ok(false),
            Self::Commands(commands) => Ok(commands.step(stack)?),
            Self::TcpSourceTask(tcp_source) => tcp_source.step(stack),
        }
    }

    /// Returns the input to poll for readability.
    pub(super) fn input(&self) -> Option<Stdin> {
        match self {
            Self::Commands(commands) => commands.input(),
            Self::None | Self::TcpSourceTask(_) => None,
        }
    }

    /// Returns when the task next has something to do, if no frame comes before.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Commands(commands) => commands.due(),
            Self::None | Self::TcpSourceTask(_) => None,
        }
    }
}

/// Bytes to be sent over TCP.
pub(super) struct TcpSourceTask {
    to: SocketAddr,
    bytes: u64,
    source: Option<TcpSource>,
}

impl TcpSourceTask {
    /// Reads `ADDR:PORT BYTES`, for a host with these addresses.
    pub(super) fn parse(
        words: &[String],
        addresses: &[HostAddress],
        (bus, network): (&NicArgument, &HostNetwork),
    ) -> anyhow::Result<Self> {
        let [to, bytes] = words else {
            return Err(misuse(anyhow!("--tcp-source takes ADDR:PORT and BYTES")));
        };
        let to: SocketAddr = to.parse().map_err(|_| {
            misuse(anyhow!("cannot send to '{to}': it takes an address and a port, such as 10.0.0.1:5001 or [fd00::1]:5001"))
        })?;
        let bytes = quantity::bytes(bytes)
            .map_err(|why| misuse(anyhow!("cannot send '{bytes}' bytes: {why}")))?;
        let target = to.ip();
        if to.port() == 0 {
            return Err(misuse(anyhow!("cannot send to {to}: there is no port 0")));
        }
        if addresses.iter().any(|own| own.address() == target) {
            return Err(misuse(anyhow!("cannot send to {to}: it is this host's own address")));
        }
        let is_near = addresses.iter().any(|own| own.reaches(target));
        if (!is_near && !network.may_route(bus, addresses, target)) || target.is_multicast() {
            return Err(misuse(anyhow!(
                "cannot send to {to}: it is not on a network of this host"
            )));
        }
        if let Some(why) = addresses.iter().find_map(|own| own.refuses(target)) {
            return Err(misuse(anyhow!("cannot send to {to}: {why}")));
        }
        Ok(Self { to, bytes, source: None })
    }

    fn step<N: Nic>(&mut self, stack: &mut Stack<N>) -> anyhow::Result<bool> {
        match &mut self.source {
            Some(source) => Ok(source.step(stack)),
            None if stack.is_up() && stack.source_for(self.to.ip()).is_some() => {
                self.source = Some(TcpSource::connect(stack, self.to, self.bytes)?);
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// Returns what was sent, and why no more was; none when nothing was sent.
    pub(super) fn result<N: Nic>(
        &self,
        stack: &mut Stack<N>,
    ) -> Option<(Transfer, Option<TransferError>)> {
        Some(self.source.as_ref()?.result(stack))
    }
}
