//! Another bus as a port: the two become one LAN.
//!
//! Frames on a loop of buses would go round for ever, so a port that would close a loop is refused
//! at once where a record shows the loop. [`JoinedBuses`] knows the buses of its own node, by
//! identity and not by name, and finds ports of other processes between the same two buses among
//! the members of both. A [loop guard](crate::LoopGuard) finds all other loops.

use std::fmt;
use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use memif::RxMode;
use shmbus::offload::{Offload, TxRequest};
use shmbus::{
    Burst, Bus, BusOptions, MAX_SLEEP, MIN_FRAME, Member, SendError, Station, StationOptions,
    WaitError, WaitSet,
};

use crate::error::{ParsePortError, PortError};
use crate::file_identity::Identity;
use crate::frame_rules::FrameRules;
use crate::impair::Impairments;
use crate::keys::{Keys, is_nearly_common, refused};
use crate::port::{
    BURST, HOLD_OFF, LOCK_TIMEOUT, Moved, NotSent, Port, SHORT_LOCK_TIMEOUT, fits_untagged,
};
use crate::report_once::ReportOnce;

/// The prefix of the name of such a port and of its stations, before the name of the other bus. It
/// tells which members of a bus are nodes.
const NAME_PREFIX: &str = "bus ";

/// The longest sleep while the other bus cannot be watched.
const UNWATCHED_MAX_SLEEP: Duration = Duration::from_millis(1);

/// Another bus as it is written: `bus:PATH`, with `key=value` pairs such as `learn=on` behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BusSpec {
    /// The file of the other bus. It is made when it does not exist.
    pub(crate) path: PathBuf,
    /// Whether the other bus receives only what it needs, as from a switch.
    pub(crate) learn: bool,
    /// Which frames pass to and from the other bus.
    pub(crate) rules: FrameRules,
    /// What its link does to frames on purpose.
    pub(crate) impairments: Impairments,
}

impl FromStr for BusSpec {
    type Err = ParsePortError;

    /// Parses what follows `bus:`.
    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        // A path may have commas, but none before one of the keys, or before a typing error.
        let mut commas = text.match_indices(',').map(|(place, _)| place);
        let keys = commas.find(|place| {
            text[place + 1..]
                .split(',')
                .next()
                .and_then(|pair| pair.split_once('='))
                .is_some_and(|(key, _)| is_nearly_common(key))
        });
        let (text, keys) = text.split_at(keys.unwrap_or(text.len()));
        let keys = Keys::parse("bus", &[], keys)?;
        let (learn, rules) = (keys.learn()?, keys.frame_rules()?);
        let impairments = keys.impairments()?;
        if text.contains('/') {
            return Ok(Self { path: text.into(), learn, rules, impairments });
        }
        let problem = if text.is_empty() {
            "it is the path of the other bus, such as bus:./other.bus".to_owned()
        } else {
            format!("the path of a bus has a '/' in it; for a file in this folder say bus:./{text}")
        };
        Err(refused("bus", text, &problem))
    }
}

impl fmt::Display for BusSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(formatter)
    }
}

/// The buses that are one LAN in this node: its own and those of its ports.
pub(super) struct JoinedBuses {
    path: PathBuf,
    buses: Vec<Identity>,
    /// The process whose ports are open already and move to this bus: its own stations are no sign
    /// of a loop.
    own: Option<u32>,
}

impl JoinedBuses {
    /// Begins with the node's own bus, which need not exist yet.
    pub(super) fn new(bus: &Path) -> Self {
        Self { path: bus.to_owned(), buses: vec![Identity::of(bus)], own: None }
    }

    /// Begins with a bus that open ports of this process move to.
    pub(super) fn of_open_ports(bus: &Path) -> Self {
        Self { own: Some(std::process::id()), ..Self::new(bus) }
    }

    /// Opens a port to one more bus.
    ///
    /// # Errors
    /// [`PortError`] when that would close a loop, or the other bus cannot be joined.
    pub(super) fn open(
        &mut self,
        spec: &BusSpec,
        options: &BusOptions,
    ) -> Result<BusPort, PortError> {
        self.check(spec)?;
        let bus = options.open_or_create(&spec.path)?;
        // A file that did not exist before has another identity now.
        self.buses.push(Identity::of(&spec.path));
        let options = StationOptions::new()
            .name(format!("{NAME_PREFIX}{}", file_name(&self.path)))
            .promiscuous(true)
            .lock_timeout(LOCK_TIMEOUT);
        let mut other = Station::join(bus, options)?;
        other.set_joins(true);
        let wait_set = WaitSet::new();
        other.join_wait_set(&wait_set, 0);
        Ok(BusPort {
            name: format!("{NAME_PREFIX}{}", file_name(&spec.path)),
            other,
            wait_set,
            trouble: None,
            reported: ReportOnce::default(),
            locked_until: None,
            burst: Burst::new(BURST),
            lost: false,
        })
    }

    /// Adds one more bus to the joined ones.
    ///
    /// # Errors
    /// [`PortError`] when that would close a loop.
    pub(super) fn check(&mut self, spec: &BusSpec) -> Result<(), PortError> {
        let (ours, theirs) = (self.path.clone(), spec.path.clone());
        let identity = Identity::of(&spec.path);
        if identity == self.buses[0] {
            return Err(PortError::JoinsItself { ours, theirs });
        }
        if self.buses.contains(&identity) {
            return Err(PortError::JoinedTwice { ours, theirs });
        }
        if let Some(port) = joining_port(&self.path, &spec.path, self.own) {
            return Err(PortError::JoinedElsewhere { ours, theirs, pid: port.pid });
        }
        self.buses.push(identity);
        Ok(())
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the station on `one` of a `bus:` port by which the two buses are one LAN already, as far
/// as the notes of stations show it, unless the port is of the process `own`.
///
/// The two stations of a port have one address, which names the port in every pid namespace. A
/// process with ports to both buses joins them as well. Its pid alone does not show that: two nodes
/// in containers may have the same.
fn joining_port(one: &Path, other: &Path, own: Option<u32>) -> Option<Member> {
    let ports = |path: &Path| -> Vec<Member> {
        // A bus that does not exist or cannot be read has no members.
        let members = Bus::open_read_only(path).map(|bus| bus.members()).unwrap_or_default();
        let is_port =
            |member: &Member| member.name.starts_with(NAME_PREFIX) && Some(member.pid) != own;
        members.into_iter().filter(is_port).collect()
    };
    let others = ports(other);
    ports(one).into_iter().find(|port| {
        let is_same_port = |other: &Member| other.mac == port.mac;
        let is_same_process = |other: &Member| other.pid == port.pid;
        others.iter().any(is_same_port)
            || others.iter().any(is_same_process) && maps(port.pid, [one, other])
    })
}

/// Returns whether the process that is `pid` here has these files mapped. A process that cannot be
/// examined is none.
fn maps(pid: u32, files: [&Path; 2]) -> bool {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { return false };
    // The fifth field is the inode. The device is left out: some file systems show two.
    let inodes = || maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(4));
    files.iter().all(|file| {
        fs::metadata(file).is_ok_and(|file| {
            let inode = file.ino().to_string();
            inodes().any(|mapped| mapped == inode)
        })
    })
}

/// Another bus as a port.
pub(crate) struct BusPort {
    name: String,
    /// The station of the port on the other bus.
    other: Station,
    /// Wakes for the other bus, always on the same descriptor.
    wait_set: WaitSet,
    /// The latest trouble with the other bus that is still to be reported.
    trouble: Option<String>,
    reported: ReportOnce,
    /// When to try again for the lock of the other bus, after it was not available.
    locked_until: Option<Instant>,
    lost: bool,
    burst: Burst,
}

/// Returns the frames of a burst that another bus carries: buses differ in their longest frame.
fn fitting(burst: &Burst, longest: usize) -> impl Iterator<Item = &[u8]> + Clone {
    burst
        .iter()
        .map(|frame| frame.bytes)
        .filter(move |frame| (MIN_FRAME..=longest).contains(&frame.len()))
}

/// Moves a burst from one bus to the other.
fn carry(from: &mut Station, to: &mut Station, burst: &mut Burst) -> Result<Moved, NotSent> {
    burst.clear();
    let all = from.recv_into(burst, BURST);
    if all == 0 {
        return Ok(Moved::default());
    }
    let longest = to.max_frame();
    let too_long = burst.iter().filter(|frame| frame.bytes.len() > longest);
    let tagged = too_long.clone().filter(|frame| fits_untagged(frame.bytes, longest)).count();
    let too_long = too_long.count();
    let frames = fitting(burst, longest);
    let (sent, error) = match to.send_burst(frames) {
        Ok(sent) => (sent, None),
        Err(SendError::Busy { sent, source }) => (sent, Some(SendError::Busy { sent, source })),
        Err(source) => (0, Some(source)),
    };
    let moved = Moved { frames: sent, dropped: all - sent, too_long, tagged, ..Moved::default() };
    error.map_or(Ok(moved), |source| Err(NotSent { moved, source }))
}

impl BusPort {
    /// Leaves the other bus alone for a while: its lock was not available.
    fn hold_off(&mut self) {
        self.other.set_lock_timeout(SHORT_LOCK_TIMEOUT);
        self.locked_until = Some(Instant::now() + HOLD_OFF);
    }

    /// Notes that the lock of the other bus was available.
    fn note_free(&mut self) {
        if self.locked_until.take().is_some() {
            self.other.set_lock_timeout(LOCK_TIMEOUT);
            self.reported.clear();
        }
    }

    /// Keeps trouble for the next report, unless it was reported already.
    fn note(&mut self, trouble: String) {
        if self.trouble.is_none() && self.reported.is_new(&trouble) {
            self.trouble = Some(trouble);
        }
    }
}

impl Port for BusPort {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_up(&self) -> bool {
        !self.lost
    }

    fn wants_service(&self) -> bool {
        self.trouble.is_some() || !self.lost && self.other.bus().is_lost()
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        if !self.lost && self.other.bus().is_lost() {
            self.lost = true;
            let path = self.other.bus().path().display();
            self.trouble = Some(format!(
                "bus {path} is gone: its file was cut short or overwritten; the other ports continue"
            ));
        }
        if let Some(trouble) = self.trouble.take() {
            report(&format!("{}: {trouble}", self.name));
        }
    }

    /// Both stations of the port have one address: see [`joining_port`].
    fn attach(&mut self, station: &mut Station) {
        self.other.set_mac(station.mac());
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        carry(&mut self.other, station, &mut self.burst)
    }

    /// While the other bus is locked, frames wait on this one.
    fn egress(&mut self, station: &mut Station) -> Moved {
        if self.locked_until.is_some_and(|until| Instant::now() < until) {
            return Moved { blocked: true, ..Moved::default() };
        }
        match carry(station, &mut self.other, &mut self.burst) {
            Ok(moved) => {
                if moved.frames > 0 {
                    self.note_free();
                }
                moved
            }
            Err(NotSent { moved, source }) => {
                let blocked = matches!(source, SendError::Busy { .. });
                if blocked {
                    self.hold_off();
                }
                if !matches!(source, SendError::Lost { .. }) {
                    self.note(source.to_string());
                }
                Moved { blocked, ..moved }
            }
        }
    }

    fn put(&mut self, frame: &[u8]) -> bool {
        self.locked_until.is_none() && self.other.send(frame).is_ok()
    }

    fn put_burst<'f>(&mut self, frames: &mut dyn Iterator<Item = &'f [u8]>) -> usize {
        if self.locked_until.is_some_and(|until| Instant::now() < until) {
            return 0;
        }
        let frames: Vec<&[u8]> = frames.collect();
        let longest = self.other.max_frame();
        let fits = |frame: &&[u8]| (MIN_FRAME..=longest).contains(&frame.len());
        match self.other.send_burst(frames.iter().copied().filter(fits)) {
            Err(SendError::Busy { sent, .. }) => {
                self.hold_off();
                // Those before the first that should have been sent and was not.
                let refused = frames.iter().enumerate().filter(|(_, frame)| fits(frame)).nth(sent);
                refused.map_or(frames.len(), |(place, _)| place)
            }
            sent => {
                if sent.is_ok_and(|sent| sent > 0) {
                    self.note_free();
                }
                frames.len()
            }
        }
    }

    fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        self.burst.clear();
        self.other.recv_into(&mut self.burst, BURST);
        self.burst.iter().map(|taken| frame(TxRequest::new(taken.bytes, Offload::new()))).count()
    }

    fn rx_mode(&self) -> RxMode {
        RxMode::Adaptive
    }

    fn arm(&mut self) -> bool {
        match self.other.arm() {
            Ok(ready) => ready,
            // The next service reports it.
            Err(WaitError::Lost { .. }) => true,
            Err(error) => {
                self.note(format!("{error}; frames from there arrive a little late"));
                false
            }
        }
    }

    fn disarm(&mut self) {
        // The set has only one station, so which one it woke does not matter.
        let _ = self.wait_set.ready();
        self.other.disarm();
    }

    fn max_sleep(&self) -> Duration {
        if self.wait_set.poll_fd().is_some() { MAX_SLEEP } else { UNWATCHED_MAX_SLEEP }
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        if let Some(descriptor) = self.wait_set.poll_fd() {
            watch(descriptor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn a_path_contains_a_slash() {
        for (text, learn) in
            [("./b.bus", false), ("./b.bus,learn=on", true), ("./b.bus,learn=off", false)]
        {
            let path = "./b.bus".into();
            let (rules, impairments) = (FrameRules::default(), Impairments::default());
            assert_eq!(
                text.parse::<BusSpec>().unwrap(),
                BusSpec { path, learn, rules, impairments }
            );
        }
        let spec: BusSpec = "./a,b.bus,trunk=10,20,learn=on".parse().unwrap();
        assert_eq!((spec.path.to_str(), spec.learn), (Some("./a,b.bus"), true));
        assert_eq!(spec.rules.vlan, shmbus::Vlan::trunk([10, 20], None));
        for (text, words) in [
            ("", "such as bus:./other.bus"),
            ("./b,vlan=0", "a VLAN is a number from 1"),
            ("shmif0", "say bus:./shmif0"),
            ("./b,learn=x", "it is one of off, on"),
        ] {
            let error = text.parse::<BusSpec>().expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn loops_are_refused_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let spec = |name: &str| BusSpec {
            path: folder.path().join(name),
            learn: false,
            rules: FrameRules::default(),
            impairments: Impairments::default(),
        };
        let options = BusOptions::new();
        let refused = |joined: &mut JoinedBuses, name: &str| {
            joined.open(&spec(name), &options).map(drop).expect_err(name).to_string()
        };
        let mut joined = JoinedBuses::new(&spec("a").path);
        // Neither file exists yet.
        assert!(refused(&mut joined, "a").contains("to itself"));
        let port = joined.open(&spec("b"), &options).expect("joined");
        std::fs::hard_link(spec("b").path, spec("c").path).unwrap();
        std::os::unix::fs::symlink(spec("a").path, spec("d").path).unwrap();
        assert!(refused(&mut joined, "b").contains("twice"));
        assert!(refused(&mut joined, "c").contains("twice"));
        drop(options.open_or_create(&spec("a").path).unwrap());
        let mut joined = JoinedBuses::new(&spec("a").path);
        assert!(refused(&mut joined, "a").contains("to itself"));
        assert!(refused(&mut joined, "d").contains("to itself"));
        drop(port);
        drop(joined.open(&spec("c"), &options).expect("joined"));
    }

    /// The port tries for the lock now and then, and not with every burst: a node has other ports.
    #[test]
    fn frames_for_a_locked_bus_wait_on_the_other_bus() {
        const FRAMES: usize = 10;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let options = BusOptions::new();
        let station = || {
            let bus = options.open_or_create(path("a")).unwrap();
            Station::join(bus, StationOptions::new()).unwrap()
        };
        let (mut sender, mut near) = (station(), station());
        let spec = BusSpec {
            path: path("b"),
            learn: false,
            rules: FrameRules::default(),
            impairments: Impairments::default(),
        };
        let mut port = JoinedBuses::new(&path("a")).open(&spec, &options).unwrap();
        let far = File::options().write(true).open(&spec.path).unwrap();
        // Takes the lock as a rump kernel does.
        far.write_all_at(&1_u32.to_ne_bytes(), 24).unwrap();
        let mut all = Moved::default();
        let mut turn = |all: &mut Moved| {
            let moved = port.egress(&mut near);
            (all.frames, all.dropped) = (all.frames + moved.frames, all.dropped + moved.dropped);
            moved.blocked
        };
        for _ in 0..FRAMES {
            sender.send(&[0xff; 60]).unwrap();
            assert!(turn(&mut all));
        }
        assert!(all.frames == 0 && all.dropped < FRAMES, "{all:?}");
        far.write_all_at(&0_u32.to_ne_bytes(), 24).unwrap();
        while turn(&mut all) {
            std::thread::yield_now();
        }
        assert_eq!(all.frames + all.dropped, FRAMES);
    }
}
