//! Many hosts in one thread: each is woken by what concerns it, and by nothing else.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use iphost::{
    Attachment, BusNic, Closed, HostSet, LinkChange, LinkSource, MemifNic, Nic, PingPlan, Pinger,
    Stack,
};
use memif::{
    Client, ClientOptions, Event, InterfaceOptions, Link, Server, SocketAddr, SocketOptions,
};
use shmbus::phy::{Bursts, OutFrames};
use shmbus::{
    Burst, Bus, MAX_SLEEP, MacAddr6, SendError, Station, StationOptions, WaitSet, random_mac,
};
use tempfile::TempDir;

const COUNT: u8 = 64;
/// Longer than any test runs.
const LONG: Duration = Duration::from_mins(10);
const LIMIT: Duration = Duration::from_mins(1);

struct Lab {
    folder: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, bus: &str) -> PathBuf {
        self.folder.path().join(bus)
    }

    fn station(&self, bus: &str) -> Station {
        let bus = Bus::open_or_create(self.path(bus), 0o600).unwrap();
        Station::join(bus, StationOptions::new()).unwrap()
    }

    /// 10.0.0.1 to 10.0.0.64 on one bus.
    fn hosts(&self) -> HostSet<BusNic<Station>> {
        let mut hosts = HostSet::new();
        for number in 1..=COUNT {
            hosts.push(stack(BusNic::new(self.station("bus")), number));
        }
        hosts
    }
}

fn stack<N: Nic>(nic: N, number: u8) -> Stack<N> {
    Stack::new(nic, &[format!("10.0.0.{number}/24").parse().unwrap()])
}

fn ping(number: u8, count: u64) -> PingPlan {
    PingPlan {
        target: [10, 0, 0, number].into(),
        count: Some(count),
        interval: Duration::ZERO,
        size: 56,
        timeout: LIMIT,
    }
}

/// Waits, and gives rounds to the hosts that have something to do; returns which these are.
fn turn<N: Nic>(hosts: &mut HostSet<N>, time: Duration) -> Vec<usize> {
    let concerned = hosts.wait(&[], time).unwrap();
    for &index in &concerned {
        hosts[index].poll(&mut |_| {}).unwrap();
    }
    concerned
}

/// Gives turns until all hosts sleep.
fn settle<N: Nic>(hosts: &mut HostSet<N>) {
    while !turn(hosts, Duration::from_millis(1)).is_empty() {}
}

/// Pings a host from another of the set; returns how many replies come.
fn ping_within<N: Nic>(hosts: &mut HostSet<N>, from: usize, to: u8, count: u64) -> u64 {
    let mut pinger = Pinger::start(&mut hosts[from], ping(to, count));
    let begin = Instant::now();
    while !pinger.step(&mut hosts[from], |_| {}) && begin.elapsed() < LIMIT {
        turn(hosts, pinger.due().saturating_duration_since(Instant::now()));
    }
    pinger.finish(&mut hosts[from]).received()
}

/// Pings a host from a thread of its own while the set sleeps and answers. Returns how many turns
/// each host of the set had, and how long it took.
fn ping_from_outside<N: Nic>(
    hosts: &mut HostSet<N>,
    station: Station,
    to: u8,
    count: u64,
) -> (Vec<u32>, Duration) {
    let begin = Instant::now();
    let pinging = thread::spawn(move || {
        let mut hosts = HostSet::new();
        hosts.push(stack(BusNic::new(station), 200));
        // Requests that wait until the host is found arrive together.
        assert_eq!(ping_within(&mut hosts, 0, to, 1), 1);
        ping_within(&mut hosts, 0, to, count)
    });
    let mut turns = vec![0; hosts.iter().count()];
    while !pinging.is_finished() {
        for index in turn(hosts, Duration::from_millis(20)) {
            turns[index] += 1;
        }
    }
    assert_eq!(pinging.join().unwrap(), count);
    (turns, begin.elapsed())
}

/// How many turns a host has without a frame in a time, or a few more.
fn turns_by_itself(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / MAX_SLEEP.as_millis() * 2).unwrap() + 4
}

#[test]
fn every_one_of_64_hosts_answers() {
    let lab = Lab::new();
    let mut hosts = lab.hosts();
    let me = hosts.push(stack(BusNic::new(lab.station("bus")), 200));
    for number in 1..=COUNT {
        assert_eq!(ping_within(&mut hosts, me, number, 2), 2, "10.0.0.{number}");
    }
}

#[test]
fn a_host_in_the_middle_is_woken_and_the_others_are_not() {
    let lab = Lab::new();
    let mut hosts = lab.hosts();
    settle(&mut hosts);
    let (turns, time) = ping_from_outside(&mut hosts, lab.station("bus"), 32, 200);
    for (index, turns) in turns.into_iter().enumerate() {
        if index == 31 {
            // An echo that comes while the host still has its turn needs no other.
            assert!(turns >= 150, "{turns}");
        } else {
            // The ARP request is for all of them.
            assert!(turns <= 1 + turns_by_itself(time), "{index}: {turns} in {time:?}");
        }
    }
}

#[test]
fn while_one_host_is_busy_another_is_woken() {
    let lab = Lab::new();
    let mut hosts = lab.hosts().busy_poll(LONG);
    // From now on the first and the last are polled.
    assert_eq!(ping_within(&mut hosts, usize::from(COUNT) - 1, 1, 1), 1);
    ping_from_outside(&mut hosts, lab.station("bus"), 32, 3);
}

#[test]
fn another_descriptor_and_the_time_end_a_wait() {
    let lab = Lab::new();
    let mut hosts = lab.hosts();
    settle(&mut hosts);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"x").unwrap();
    let begin = Instant::now();
    hosts.wait(&[ours.as_fd()], LONG).unwrap();
    hosts.wait(&[ours.as_fd()], Duration::ZERO).unwrap();
    hosts.wait(&[], Duration::from_millis(1)).unwrap();
    HostSet::<BusNic<Station>>::new().wait(&[ours.as_fd()], LONG).unwrap();
    assert!(begin.elapsed() < LIMIT);
}

#[test]
fn every_host_has_turns_by_itself() {
    let lab = Lab::new();
    let mut hosts = lab.hosts();
    let begin = Instant::now();
    let mut turns = vec![0; usize::from(COUNT)];
    while turns.iter().any(|turns| *turns < 4) {
        for index in turn(&mut hosts, LONG) {
            turns[index] += 1;
        }
        assert!(begin.elapsed() < LIMIT, "{turns:?}");
    }
    let most = turns_by_itself(begin.elapsed());
    assert!(turns.iter().all(|turns| *turns <= most), "{turns:?} in {:?}", begin.elapsed());
}

#[test]
fn a_host_that_is_used_while_it_sleeps_has_its_turn() {
    let lab = Lab::new();
    let mut hosts = lab.hosts();
    settle(&mut hosts);
    assert_eq!(ping_within(&mut hosts, 40, 1, 1), 1);
}

/// A station that is replaced with the next service.
struct Moving {
    station: Option<Station>,
    next: Next,
    mac: MacAddr6,
}

enum Next {
    Same,
    Station(Box<Station>),
    None,
}

impl Moving {
    fn new(station: Option<Station>, next: Next) -> BusNic<Self> {
        let mac = station.as_ref().map_or_else(random_mac, Station::mac);
        BusNic::new(Self { station, next, mac })
    }
}

impl Bursts for Moving {
    fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        burst.clear();
        self.station.as_mut().map_or(0, |station| station.recv_burst(burst))
    }

    fn send_burst(&mut self, frames: OutFrames<'_>) -> Result<usize, SendError> {
        self.station.as_mut().map_or(Ok(0), |station| station.send_offload_burst(frames))
    }
}

impl Attachment for Moving {
    fn mac(&self) -> MacAddr6 {
        self.mac
    }

    fn station(&mut self) -> Option<&mut Station> {
        self.station.as_mut()
    }

    fn service(&mut self) -> Result<(), Closed> {
        match std::mem::replace(&mut self.next, Next::Same) {
            Next::Same => {}
            Next::Station(mut station) => {
                station.set_mac(self.mac);
                self.station = Some(*station);
            }
            Next::None => self.station = None,
        }
        Ok(())
    }
}

#[test]
fn a_host_whose_station_was_replaced_is_woken() {
    let lab = Lab::new();
    for first in ["bus", "other", ""] {
        let station = |bus: &str| (!bus.is_empty()).then(|| lab.station(bus));
        let mut hosts = HostSet::new();
        for number in 1..=3 {
            let next = if number == 2 {
                Next::Station(Box::new(lab.station("other")))
            } else {
                Next::Same
            };
            hosts.push(stack(Moving::new(station(first), next), number));
        }
        // Its first turn replaces the station, and it sleeps with the next one.
        settle(&mut hosts);
        let (turns, time) = ping_from_outside(&mut hosts, lab.station("other"), 2, 200);
        // An echo that comes while the host still has its turn needs no other.
        assert!(turns[1] >= 150, "{turns:?} in {time:?}");
    }
}

#[test]
fn a_host_that_loses_its_station_continues_without() {
    let lab = Lab::new();
    let mut hosts = HostSet::new();
    hosts.push(stack(Moving::new(Some(lab.station("bus")), Next::Same), 1));
    hosts.push(stack(Moving::new(Some(lab.station("bus")), Next::None), 2));
    settle(&mut hosts);
    let (turns, time) = ping_from_outside(&mut hosts, lab.station("bus"), 1, 20);
    assert!(turns[0] >= 20 && turns[1] <= turns_by_itself(time), "{turns:?} in {time:?}");
}

/// A link that comes up when the other end of its descriptor is written.
struct Links {
    link: Option<Link>,
    begin: UnixStream,
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.begin.as_fd()
    }
}

impl LinkSource for Links {
    fn next_change(&mut self) -> Option<LinkChange> {
        self.begin.read_exact(&mut [0]).ok()?;
        self.link.take().map(LinkChange::Up)
    }
}

fn linked(test: &str) -> (Server, Client, Link, Link) {
    let name = format!("iphost-host-set-{test}-{}", std::process::id());
    let address = SocketAddr::abstract_name(name).unwrap();
    let mut server = Server::bind(&address, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(0)).unwrap();
    let mut client = Client::new(&address, ClientOptions::new(0)).unwrap();
    let (mut ours, mut theirs) = (None, None);
    while ours.is_none() || theirs.is_none() {
        if let Some(Event::Connected { link, .. }) = server.ready().unwrap() {
            ours = Some(link);
        }
        if let Some(Event::Connected { link, .. }) = client.ready().unwrap() {
            theirs = Some(link);
        }
    }
    (server, client, ours.unwrap(), theirs.unwrap())
}

#[test]
fn hosts_behind_memif_are_woken_by_their_links() {
    let (_server, _client, ours, theirs) = linked("woken");
    let mut hosts = HostSet::new();
    let mut begins = Vec::new();
    for (number, link) in [(1, ours), (2, theirs)] {
        let (begin, other_end) = UnixStream::pair().unwrap();
        begin.set_nonblocking(true).unwrap();
        begins.push(other_end);
        hosts.push(stack(MemifNic::new(Links { link: Some(link), begin }, random_mac()), number));
    }
    settle(&mut hosts);
    assert!(!hosts.iter().any(Stack::is_up));
    for begin in &mut begins {
        begin.write_all(b"x").unwrap();
    }
    let begin = Instant::now();
    while !hosts.iter().all(Stack::is_up) {
        turn(&mut hosts, LONG);
        assert!(begin.elapsed() < LIMIT);
    }
    assert_eq!(ping_within(&mut hosts, 0, 2, 100), 100);
    settle(&mut hosts);
    assert_eq!(ping_within(&mut hosts, 1, 1, 100), 100);
}

#[test]
fn an_idle_host_behind_memif_looks_early_once_after_it_was_armed() {
    /// Before the first look, in case the peer missed the request.
    const EARLY: Duration = Duration::from_millis(10);
    let (_server, _client, ours, mut theirs) = linked("idle");
    let (begin, mut other_end) = UnixStream::pair().unwrap();
    begin.set_nonblocking(true).unwrap();
    other_end.write_all(b"x").unwrap();
    let mut nic = MemifNic::new(Links { link: Some(ours), begin }, random_mac());
    nic.service();
    let wait_set = WaitSet::new();
    let arm = |nic: &mut MemifNic<Links>| nic.arm(&wait_set, 0).unwrap();
    for _ in 0..3 {
        assert!(arm(&mut nic) <= EARLY);
        thread::sleep(EARLY);
        // It sleeps on, armed, as long as a host on a bus does.
        for _ in 0..3 {
            assert_eq!(arm(&mut nic), MAX_SLEEP);
        }
        nic.disarm();
    }
    // A frame ends that at once.
    assert!(arm(&mut nic) <= EARLY);
    thread::sleep(EARLY);
    let mut burst = theirs.tx[0].burst().unwrap();
    assert!(burst.push(&[0; 60]));
    assert_eq!(burst.publish(), 1);
    assert_eq!(arm(&mut nic), Duration::ZERO);
    assert!(nic.poll_rx());
}
