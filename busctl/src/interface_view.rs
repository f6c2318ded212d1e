//! An interface as `show` shows it: its record, who runs it, and what it has counted.

use std::fmt;

use serde::Serialize;
use shmbus::offload::Capabilities;

use crate::registry::{Counters, InterfaceName, Record, Registry, RegistryError, format_mac};

/// No jumbo frames on a bus.
const MTU: u32 = 1500;

/// The flags of NetBSD's `<net/if.h>` that a shmif interface can have.
const FLAGS: [(u32, &str); 6] = [
    (0x0001, "up"),
    (0x0002, "broadcast"),
    (0x0040, "running"),
    (0x0100, "promisc"),
    (0x0800, "simplex"),
    (0x8000, "multicast"),
];

/// One interface at one moment. The fields are the keys of `show --json`.
#[derive(Debug, Serialize)]
pub(crate) struct InterfaceView {
    name: InterfaceName,
    kind: &'static str,
    linkstr: Option<String>,
    mac: String,
    flags: Vec<&'static str>,
    mtu: u32,
    link: &'static str,
    media: &'static str,
    capenable: u32,
    /// Whether a process runs it, and which, if that can be read.
    running: bool,
    pid: Option<u32>,
    /// Why the process that runs it could not do as the record says.
    trouble: Option<String>,
    #[serde(flatten)]
    counters: Counters,
}

impl InterfaceView {
    /// What there is to see of the interface now.
    ///
    /// # Errors
    /// When it cannot be found out who runs it.
    pub(crate) fn new(registry: &Registry, record: &Record) -> Result<Self, RegistryError> {
        let runner = registry.runner(record.name)?;
        let report = registry.report(record.name);
        let has = |flag| match flag {
            "up" => record.up,
            "running" => runner.is_some(),
            "promisc" => record.shmif.promisc,
            _ => true,
        };
        Ok(Self {
            name: record.name,
            kind: record.name.kind().word(),
            linkstr: record.linkstr.as_ref().map(|path| path.display().to_string()),
            mac: format_mac(record.shmif.mac),
            flags: FLAGS.iter().map(|(_, flag)| *flag).filter(|flag| has(flag)).collect(),
            mtu: MTU,
            link: match record.link() {
                None => "unknown",
                Some(true) => "up",
                Some(false) => "down",
            },
            media: record.shmif.media.word(),
            capenable: record.shmif.capenable.bits(),
            running: runner.is_some(),
            pid: runner.and_then(|runner| runner.pid),
            trouble: runner.and(report.trouble),
            counters: report.counters,
        })
    }

    fn flag_bits(&self) -> u32 {
        FLAGS.iter().filter(|(_, flag)| self.flags.contains(flag)).fold(0, |bits, (bit, _)| bits | bit)
    }
}

/// In the layout of `ifconfig`.
impl fmt::Display for InterfaceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = self.flags.join(",").to_uppercase();
        writeln!(f, "{}: flags={:#x}<{flags}> mtu {}", self.name, self.flag_bits(), self.mtu)?;
        writeln!(f, "\tcapabilities={}", Capabilities::ALL)?;
        writeln!(f, "\tenabled={}", Capabilities::from(self.capenable))?;
        writeln!(f, "\taddress: {}", self.mac)?;
        writeln!(f, "\tlinkstr: {}", self.linkstr.as_deref().unwrap_or("none"))?;
        writeln!(f, "\tmedia: {}, link {}", self.media, self.link)?;
        match (self.running, self.pid) {
            (false, _) => writeln!(f, "\trun by: nobody")?,
            (true, None) => writeln!(f, "\trun by: another process")?,
            (true, Some(pid)) => writeln!(f, "\trun by: process {pid}")?,
        }
        if let Some(trouble) = &self.trouble {
            writeln!(f, "\ttrouble: {trouble}")?;
        }
        let c = &self.counters;
        writeln!(
            f,
            "\tinput: {} packets, {} bytes, {} dropped, {} errors",
            c.rx_packets, c.rx_bytes, c.rx_dropped, c.rx_errors
        )?;
        writeln!(
            f,
            "\toutput: {} packets, {} bytes, {} dropped, {} errors",
            c.tx_packets, c.tx_bytes, c.tx_dropped, c.tx_errors
        )
    }
}
