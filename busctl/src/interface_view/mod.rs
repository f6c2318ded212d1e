//! An interface as `show` shows it: its record, its runner, and its counters.

mod memif;
mod tunnel;

use std::fmt;

use ::memif::Role;
use node::Counters;
use serde::Serialize;
use shmbus::offload::Capabilities;
use shmbus::{Bus, MAX_FRAME, MacAddr6};

use self::memif::MemifView;
use self::tunnel::TunnelView;
use crate::port_view::Impaired;
use crate::process::name::renamed;
use crate::registry::{
    InterfaceName, Kind, Media, Record, Registry, RegistryError, Settings, format_mac,
};
use crate::style::Palette;

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
    pub(crate) name: InterfaceName,
    kind: &'static str,
    pub(crate) linkstr: Option<String>,
    /// None when the kernel chooses it, or the process that runs the interface.
    pub(crate) mac: Option<String>,
    pub(crate) flags: Vec<&'static str>,
    mtu: usize,
    pub(crate) link: &'static str,
    capenable: u32,
    /// Whether a process runs it, and its pid, if that can be read.
    running: bool,
    pid: Option<u32>,
    /// Whether it has a peer and no frame passes, because it would close a loop.
    blocked: bool,
    /// What its link does to frames on purpose; empty for nothing.
    impairments: String,
    /// Why the process that runs it could not do what the record says.
    trouble: Option<String>,
    #[serde(flatten)]
    own: KindView,
    #[serde(flatten)]
    counters: Counters,
    #[serde(skip)]
    palette: Palette,
}

/// What only interfaces of its kind have.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum KindView {
    Shmif(ShmifView),
    Memif(Box<MemifView>),
    Tap(TapView),
    Socket(SocketView),
    Tunnel(TunnelView),
}

impl InterfaceView {
    /// Reads what is known of the interface now.
    ///
    /// # Errors
    /// When its claim cannot be read.
    pub(crate) fn new(registry: &Registry, record: &Record) -> Result<Self, RegistryError> {
        let runner = registry.runner(record.name)?;
        let report = registry.report(record.name);
        let promisc = record.shmif().is_some_and(|shmif| shmif.promisc);
        let has = |flag| match flag {
            "up" => record.up,
            "running" => runner.is_some(),
            "promisc" => promisc,
            _ => true,
        };
        let link = match &record.settings {
            Settings::Shmif(_) => record.link(),
            // Without a runner there is no peer.
            Settings::Port(_) => Some(runner.is_some() && report.link == Some(true)),
        };
        let live = runner.map(|_| &report);
        let (own, mac, capenable) = match record.name.kind() {
            Kind::Shmif => ShmifView::of(record),
            Kind::Memif => MemifView::of(registry, record, live.is_some(), report.memif.as_ref()),
            Kind::Tap => TapView::of(record),
            Kind::Sock => SocketView::of(record),
            Kind::Vxlan | Kind::Trunk => {
                TunnelView::of(record, runner.and_then(|runner| runner.pid))
            }
        };
        Ok(Self {
            name: record.name,
            kind: record.name.kind().word(),
            linkstr: record.linkstr.as_ref().map(|path| path.display().to_string()),
            mac: mac.map(format_mac),
            flags: FLAGS.iter().map(|(_, flag)| *flag).filter(|flag| has(flag)).collect(),
            mtu: mtu(record),
            link: match link {
                None => "unknown",
                Some(true) => "up",
                Some(false) => "down",
            },
            capenable: capenable.bits(),
            running: runner.is_some(),
            pid: runner.and_then(|runner| runner.pid),
            blocked: live.is_some_and(|report| report.blocked),
            impairments: record.impairments().to_string(),
            trouble: live
                .and_then(|report| report.trouble.as_deref())
                .map(|trouble| renamed(trouble).into()),
            own,
            counters: report.counters,
            palette: Palette::default(),
        })
    }

    /// Sets the styles of the text.
    pub(crate) fn with_palette(self, palette: Palette) -> Self {
        Self { palette, ..self }
    }

    fn flag_bits(&self) -> u32 {
        FLAGS
            .iter()
            .filter(|(_, flag)| self.flags.contains(flag))
            .fold(0, |bits, (bit, _)| bits | bit)
    }
}

/// Returns the largest payload of its frames on its bus; on one that rump kernels can share while
/// there is none that can be read.
fn mtu(record: &Record) -> usize {
    let bus = record.linkstr.as_deref().and_then(|path| Bus::open_read_only(path).ok());
    record.mtu(bus.map_or(MAX_FRAME, |bus| bus.max_frame()))
}

/// Prints the layout of `ifconfig`; the lines of memif follow VPP's `show memif`.
impl fmt::Display for InterfaceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Palette { name, bad, .. } = self.palette;
        let flags = self.flags.join(",").to_uppercase();
        writeln!(
            f,
            "{name}{}{name:#}: flags={:#x}<{flags}> mtu {}",
            self.name,
            self.flag_bits(),
            self.mtu
        )?;
        if !matches!(self.own, KindView::Memif(_) | KindView::Socket(_) | KindView::Tunnel(_)) {
            writeln!(f, "\tcapabilities={}", Capabilities::ALL)?;
            writeln!(f, "\tenabled={}", Capabilities::from(self.capenable))?;
        }
        let chosen = match &self.own {
            KindView::Tap(_) => "chosen by the kernel",
            _ => "chosen when it runs",
        };
        writeln!(f, "\taddress: {}", self.mac.as_deref().unwrap_or(chosen))?;
        writeln!(f, "\tlinkstr: {}", self.linkstr.as_deref().unwrap_or("none"))?;
        let state = |word: &str| {
            let style = self.palette.state(word);
            format!("{style}{word}{style:#}")
        };
        let admin = state(if self.flags.contains(&"up") { "up" } else { "down" });
        let link = state(self.link);
        match &self.own {
            KindView::Shmif(shmif) => writeln!(f, "\tmedia: {}, link {link}", shmif.media)?,
            KindView::Memif(_) => writeln!(f, "\tadmin {admin}, link {link}")?,
            KindView::Tap(tap) => {
                writeln!(f, "\tdevice: {}, admin {admin}, link {link}", tap.device)?;
            }
            KindView::Socket(socket) => {
                let place = socket.place.as_deref().unwrap_or("none yet: set path= or tcp=");
                writeln!(f, "\tsocket: {place}, admin {admin}, link {link}")?;
            }
            KindView::Tunnel(tunnel) => {
                writeln!(f, "\ttunnel: {tunnel}, admin {admin}, link {link}")?;
            }
        }
        match (self.running, self.pid) {
            (false, _) => writeln!(f, "\trun by: no process")?,
            (true, None) => writeln!(f, "\trun by: another process")?,
            (true, Some(pid)) => writeln!(f, "\trun by: process {pid}")?,
        }
        if self.blocked {
            writeln!(
                f,
                "\t{bad}blocked: it would close a loop; it is tried again every 5 s{bad:#}"
            )?;
        }
        if let Some(trouble) = &self.trouble {
            writeln!(f, "\t{bad}trouble: {trouble}{bad:#}")?;
        }
        if let KindView::Memif(memif) = &self.own {
            memif.fmt(f)?;
        }
        if !self.impairments.is_empty() {
            writeln!(f, "\timpairments: {}", self.impairments)?;
        }
        let c = &self.counters;
        writeln!(
            f,
            "\tinput: {} packets, {} bytes, {} dropped, {} errors{}",
            c.rx_packets,
            c.rx_bytes,
            c.rx_dropped,
            c.rx_errors,
            Impaired::input(c)
        )?;
        if c.rx_oversize > 0 {
            writeln!(f, "\t{} packets were longer than the bus carries", c.rx_oversize)?;
        }
        if c.peers_refused > 0 {
            writeln!(f, "\t{} further clients were turned away", c.peers_refused)?;
        }
        writeln!(
            f,
            "\toutput: {} packets, {} bytes, {} dropped, {} errors{}",
            c.tx_packets,
            c.tx_bytes,
            c.tx_dropped,
            c.tx_errors,
            Impaired::output(c)
        )?;
        match &self.own {
            KindView::Tunnel(tunnel) => tunnel.write_remotes(f),
            _ => Ok(()),
        }
    }
}

/// What only a shmif interface has.
#[derive(Debug, Serialize)]
struct ShmifView {
    media: &'static str,
}

impl ShmifView {
    fn of(record: &Record) -> (KindView, Option<MacAddr6>, Capabilities) {
        let shmif = record.shmif();
        let media = shmif.map_or(Media::Auto, |shmif| shmif.media).word();
        let capenable = shmif.map_or(Capabilities::NONE, |shmif| shmif.capenable);
        (KindView::Shmif(Self { media }), shmif.map(|shmif| shmif.mac), capenable)
    }
}

/// What only a tap interface has.
#[derive(Debug, Serialize)]
struct TapView {
    /// Its name in the kernel.
    device: String,
    offload: bool,
}

impl TapView {
    fn of(record: &Record) -> (KindView, Option<MacAddr6>, Capabilities) {
        let tap = record.tap();
        let offload = tap.as_ref().is_some_and(|tap| tap.offload);
        let mac = tap.as_ref().and_then(|tap| tap.mac);
        let device = tap.map_or_else(|| record.name.to_string(), |tap| tap.name);
        let capenable = if offload { Capabilities::ALL } else { Capabilities::NONE };
        (KindView::Tap(Self { device, offload }), mac, capenable)
    }
}

/// What only a sock interface has.
#[derive(Debug, Serialize)]
struct SocketView {
    /// Where its socket is; none until that is set.
    place: Option<String>,
    framing: Option<&'static str>,
    role: Option<&'static str>,
}

impl SocketView {
    fn of(record: &Record) -> (KindView, Option<MacAddr6>, Capabilities) {
        // Without a place it cannot be opened, which is its trouble then.
        let socket = record.socket().ok().flatten();
        let mac = socket.as_ref().and_then(|socket| socket.mac);
        let view = Self {
            place: socket.as_ref().map(|socket| socket.place.to_string()),
            framing: socket.as_ref().map(|socket| socket.framing.word()),
            role: socket.and_then(|socket| socket.place.role()).map(|role| match role {
                Role::Server => "server",
                Role::Client => "client",
            }),
        };
        (KindView::Socket(view), mac, Capabilities::NONE)
    }
}
