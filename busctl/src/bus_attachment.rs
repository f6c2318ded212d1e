//! The attachment of a verb to a bus: an interface of the registry, or a temporary station.
//!
//! An attachment to an interface runs it: it follows the record (up and down, bus, MAC address,
//! flags, media) and publishes the counters for `show`. A verb just sends, receives, and calls
//! `follow` in its loop.

use std::path::Path;
use std::time::Instant;

use iphost::{Attachment, Closed};
use node::Counters;
use port::{BusRemoval, overrun_warning};
use shmbus::offload::{Capabilities, TxRequest};
use shmbus::phy::{Bursts, OutFrames};
use shmbus::{
    BUS_SIZE, Burst, Bus, BusOptions, FrameSource, MAX_BIG_FRAME, MAX_FRAME, MIN_FRAME, MacAddr6,
    OpenError, SendError, Station, StationOptions, Stats,
};

use crate::bus_argument::BusArgument;
use crate::context::Context;
use crate::misuse::trouble;
use crate::output;
use crate::process::called::called_as;
use crate::registry::runner::{Destroyed, RecordChange, RunningInterface};
use crate::registry::{Media, Record};

/// A station on a bus, until it is dropped.
#[derive(Debug)]
pub(crate) struct BusAttachment {
    /// None while the interface is down or its link is.
    station: Option<Station>,
    mac: MacAddr6,
    up: bool,
    /// What `station` does not count: the counters of earlier stations, and frames that were never
    /// on the bus.
    counted: Counters,
    /// The interface of the registry, if it is one.
    interface: Option<RunningInterface>,
    destroyed: Option<Destroyed>,
    removal: BusRemoval,
}

impl BusAttachment {
    /// Joins the bus, and claims the interface if BUS is one.
    ///
    /// # Errors
    /// When the bus cannot be joined; when the interface does not exist, has no bus, is down, or is
    /// run by another process.
    pub(crate) fn join(bus: &BusArgument, context: &Context) -> anyhow::Result<Self> {
        Self::join_as(bus, StationOptions::new().name(called_as()), context)
    }

    /// Joins the bus as [`join`](Self::join) does. A temporary station is made as `station` says.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub(crate) fn join_as(
        bus: &BusArgument,
        station: StationOptions,
        context: &Context,
    ) -> anyhow::Result<Self> {
        if let BusArgument::Path(path) = bus {
            // No other station is on a missing bus: more likely the path is wrong.
            Bus::open(path)?;
        }
        Self::join_or_make(bus, &BusOptions::new(), station, context)
    }

    /// Joins the bus as [`join`](Self::join) does, but makes a missing one as `new` says. This is
    /// for verbs that wait there for others. A temporary station is made as `station` says.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub(crate) fn join_or_make(
        bus: &BusArgument,
        new: &BusOptions,
        station: StationOptions,
        context: &Context,
    ) -> anyhow::Result<Self> {
        match bus {
            BusArgument::Path(path) => {
                let station = Station::join(new.open_or_create(path)?, station)?;
                let mut attachment = Self::detached(None);
                attachment.mac = station.mac();
                attachment.station = Some(station);
                Ok(attachment)
            }
            BusArgument::Interface(name) => {
                let interface = RunningInterface::claim_station(
                    &context.registry()?,
                    *name,
                    output::reporter(),
                )?;
                let record = interface.record().clone();
                let mut station = Self::detached(Some(interface));
                station.apply_record(&record)?;
                Ok(station)
            }
        }
    }

    /// Makes an attachment that is on no bus yet.
    fn detached(interface: Option<RunningInterface>) -> Self {
        Self {
            station: None,
            mac: MacAddr6::nil(),
            up: true,
            counted: Counters::default(),
            interface,
            destroyed: None,
            removal: BusRemoval::new(),
        }
    }

    /// Returns the offload that the station does; none while the interface or its link is down.
    #[must_use]
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.station.as_ref().map_or(Capabilities::NONE, Station::capabilities)
    }

    /// Returns the longest frame that can be sent, in bytes; that of any bus while the interface
    /// or its link is down.
    #[must_use]
    pub(crate) fn max_frame(&self) -> usize {
        self.station.as_ref().map_or(MAX_BIG_FRAME, Station::max_frame)
    }

    /// Returns the size of the bus in bytes; the usual one while the interface or its link is down.
    #[must_use]
    pub(crate) fn bus_size(&self) -> u64 {
        self.station.as_ref().map_or(BUS_SIZE, |station| station.bus().size())
    }

    /// Sends frames as [`Station::send_burst`] does. While the link is down they are counted as
    /// sent and go nowhere; while the interface is down they are dropped.
    ///
    /// # Errors
    /// As for [`Station::send_burst`]. What was not sent is counted.
    pub(crate) fn send_burst<I>(&mut self, frames: I) -> Result<usize, SendError>
    where
        I: IntoIterator,
        I::Item: FrameSource,
        I::IntoIter: Clone,
    {
        let frames = frames.into_iter();
        let Some(station) = &mut self.station else {
            return Ok(frames.inspect(|frame| self.count_unsent(frame.frame_len())).count());
        };
        let result = station.send_burst(frames.clone());
        match &result {
            Err(SendError::Busy { sent, .. }) => {
                self.counted.tx_dropped += frames.count().saturating_sub(*sent) as u64;
            }
            Err(SendError::TooLong { .. } | SendError::TooShort { .. }) => {
                self.counted.tx_errors += frames.count() as u64;
            }
            _ => {}
        }
        result
    }

    /// Finishes frames and sends them as [`Station::send_offload_burst`] does. This counts as
    /// [`send_burst`](Self::send_burst) does, except that a frame that is to be segmented and
    /// cannot be sent counts once.
    ///
    /// # Errors
    /// As for [`Station::send_offload_burst`]. What was not sent is counted.
    pub(crate) fn send_offload_burst<'f, I>(&mut self, requests: I) -> Result<usize, SendError>
    where
        I: IntoIterator<Item = TxRequest<'f>>,
        I::IntoIter: Clone,
    {
        let requests = requests.into_iter();
        let Some(station) = &mut self.station else {
            return Ok(requests.inspect(|request| self.count_unsent(request.frame.len())).count());
        };
        let before = station.stats();
        let result = station.send_offload_burst(requests);
        let stats = station.stats();
        self.counted.tx_dropped += stats.tx_busy - before.tx_busy;
        self.counted.tx_errors += stats.tx_offload_refused - before.tx_offload_refused;
        self.counted.tx_errors += stats.tx_refused - before.tx_refused;
        result
    }

    /// Counts a frame that does not go onto a bus, because there is none.
    fn count_unsent(&mut self, bytes: usize) {
        if self.up {
            self.counted.tx_packets += 1;
            self.counted.tx_bytes += bytes as u64;
        } else {
            self.counted.tx_dropped += 1;
        }
    }

    /// Fills `burst` with the frames for this station, without waiting; returns how many there are.
    pub(crate) fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        if let Some(station) = &mut self.station {
            return station.recv_burst(burst);
        }
        burst.clear();
        0
    }

    /// Does what the record says, and publishes the counters. Call it in every round of a loop: it
    /// polls the record ten times a second at most. What cannot be done is reported to the process
    /// that changed the record, and the attachment continues.
    ///
    /// # Errors
    /// When the interface was destroyed; the attachment then continues without a bus.
    pub(crate) fn follow(&mut self) -> Result<(), Destroyed> {
        let counters = self.counters();
        let Some(interface) = &mut self.interface else {
            return self.destroyed.map_or(Ok(()), Err);
        };
        match interface.poll(counters) {
            RecordChange::Unchanged => {}
            RecordChange::Destroyed => return self.give_up(),
            RecordChange::Changed => {
                let record = interface.record().clone();
                let done = self.apply_record(&record).map_err(Into::into);
                if let Some(interface) = &mut self.interface {
                    interface.acknowledge(done.err().as_ref().map(trouble));
                }
            }
        }
        Ok(())
    }

    /// Leaves the bus and gives up the destroyed interface.
    fn give_up(&mut self) -> Result<(), Destroyed> {
        (self.station, self.up) = (None, false);
        let Some(interface) = self.interface.take() else { return Ok(()) };
        let destroyed = Destroyed(interface.record().name);
        interface.discard();
        self.destroyed = Some(destroyed);
        Err(destroyed)
    }

    /// Returns what was counted since this process runs the interface.
    #[must_use]
    pub(crate) fn counters(&self) -> Counters {
        self.counted
            .plus(self.station.as_ref().map(|station| of(station.stats())).unwrap_or_default())
    }

    /// Does what the record says. When it joins the bus again, it begins with new frames.
    fn apply_record(&mut self, record: &Record) -> Result<(), OpenError> {
        let Some(shmif) = record.shmif() else { return Ok(()) };
        self.mac = shmif.mac;
        self.up = record.up;
        let bus = record.linkstr.as_deref().filter(|_| record.up && shmif.media == Media::Auto);
        if bus != self.station.as_ref().map(|station| station.bus().path()) {
            self.counted = self.counters();
            self.station = None;
        }
        match (&mut self.station, bus) {
            (Some(station), _) => {
                station.set_mac(self.mac);
                station.set_promiscuous(shmif.promisc);
                station.set_capabilities(shmif.capenable);
                limit(station, shmif.mtu);
            }
            (None, Some(bus)) => {
                let options = StationOptions::new()
                    .name(record.name.to_string())
                    .mac(self.mac)
                    .promiscuous(shmif.promisc)
                    .capabilities(shmif.capenable);
                let station = self.station.insert(join(bus, options)?);
                limit(station, shmif.mtu);
            }
            (None, None) => {}
        }
        Ok(())
    }
}

impl Drop for BusAttachment {
    /// Publishes the last counters.
    fn drop(&mut self) {
        let counters = self.counters();
        if let Some(interface) = &mut self.interface {
            interface.count(counters);
        }
    }
}

/// Sets the largest payload of the interface; what the bus carries without one, or where that is
/// less.
fn limit(station: &mut Station, mtu: Option<usize>) {
    let carried = station.bus().max_frame() - MIN_FRAME;
    let is_set = station.set_mtu(mtu.map_or(carried, |mtu| mtu.min(carried)));
    debug_assert!(is_set, "an MTU is checked when it is set");
}

impl Bursts for BusAttachment {
    fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        Self::recv_burst(self, burst)
    }

    fn send_burst(&mut self, frames: OutFrames<'_>) -> Result<usize, SendError> {
        self.send_offload_burst(frames)
    }

    fn capabilities(&self) -> Capabilities {
        Self::capabilities(self)
    }

    fn max_frame(&self) -> usize {
        // A stack that sends meanwhile reaches no other station.
        self.station.as_ref().map_or(MAX_FRAME, Station::max_frame)
    }

    fn count_bad_checksum(&mut self) {
        if let Some(station) = self.station() {
            station.count_bad_checksum();
        }
    }
}

impl Attachment for BusAttachment {
    fn mac(&self) -> MacAddr6 {
        self.mac
    }

    fn station(&mut self) -> Option<&mut Station> {
        self.station.as_mut()
    }

    fn service(&mut self) -> Result<(), Closed> {
        if self.removal.is_due(Instant::now())
            && let Some(station) = &self.station
            && let Some(warning) = BusRemoval::report_once(station.bus())
        {
            output::warn(warning);
        }
        if let Some(station) = &self.station
            && let Some(warning) = overrun_warning(station)
        {
            output::warn(warning);
        }
        self.follow().map_err(|destroyed| Closed(destroyed.to_string()))
    }
}

fn join(bus: &Path, options: StationOptions) -> Result<Station, OpenError> {
    Station::join(BusOptions::new().open_or_create(bus)?, options)
}

fn of(stats: Stats) -> Counters {
    Counters {
        rx_packets: stats.rx_packets,
        rx_bytes: stats.rx_bytes,
        rx_dropped: stats.overrun_frames,
        rx_errors: stats.corrupt + stats.rx_csum_errors,
        rx_oversize: 0,
        tx_packets: stats.tx_packets,
        tx_bytes: stats.tx_bytes,
        ..Counters::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::registry::apply;
    use crate::registry::runner::POLL_INTERVAL;
    use crate::registry::{InterfaceName, Registry, Shmif};

    const NAME: InterfaceName = InterfaceName::Shmif(0);
    const FRAME: [u8; 60] = [0xff; 60];

    /// A registry with shmif0 up on a bus, an attachment that runs it, and another station on the
    /// bus.
    struct Lab {
        folder: tempfile::TempDir,
        registry: Registry,
        station: BusAttachment,
        other: BusAttachment,
        burst: Burst,
    }

    fn lab() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let context = Context::new(Some(folder.path().join("state")));
        let registry = context.registry().unwrap();
        let bus = folder.path().join("bus");
        registry.edit().unwrap().create_shmif(None, Shmif::default()).unwrap();
        apply::change(&registry, &[NAME], |record| {
            record.linkstr = Some(bus.clone());
            record.up = true;
            Ok(())
        })
        .unwrap();
        let station = BusAttachment::join(&BusArgument::Interface(NAME), &context).unwrap();
        let other = BusAttachment::join(&BusArgument::Path(bus), &context).unwrap();
        Lab { folder, registry, station, other, burst: Burst::new(8) }
    }

    fn set(record: &mut Record, setting: &str) {
        record.apply(&setting.parse().unwrap()).unwrap();
    }

    impl Lab {
        /// Changes the record while the station's process follows it.
        fn change(&mut self, change: impl Fn(&mut Record) + Sync) {
            self.try_to_change(change).unwrap();
        }

        fn try_to_change(&mut self, change: impl Fn(&mut Record) + Sync) -> anyhow::Result<()> {
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                let changing = scope.spawn(|| {
                    let changed = apply::change(&self.registry, &[NAME], |record| {
                        change(record);
                        Ok(())
                    });
                    done.store(true, Ordering::Relaxed);
                    changed
                });
                while !done.load(Ordering::Relaxed) {
                    self.station.follow().unwrap();
                    thread::sleep(Duration::from_millis(1));
                }
                changing.join().unwrap()
            })
        }

        fn received(&mut self) -> usize {
            self.station.recv_burst(&mut self.burst)
        }
    }

    #[test]
    fn while_down_nothing_is_sent_or_received_and_nothing_old_comes_later() {
        let mut lab = lab();
        lab.other.send_burst([FRAME]).unwrap();
        assert_eq!(lab.received(), 1);

        lab.change(|record| record.up = false);
        lab.other.send_burst([FRAME]).unwrap();
        lab.station.send_burst([FRAME]).unwrap();
        assert_eq!((lab.received(), lab.station.counters().tx_dropped), (0, 1));

        lab.change(|record| record.up = true);
        assert_eq!(lab.received(), 0);
        lab.other.send_burst([FRAME, FRAME]).unwrap();
        assert_eq!(lab.received(), 2);
        assert_eq!(lab.station.counters().rx_packets, 3);
    }

    #[test]
    fn without_a_link_frames_are_counted_and_go_nowhere() {
        let mut lab = lab();
        lab.change(|record| set(record, "media=none"));
        lab.station.send_burst([FRAME, FRAME]).unwrap();
        let counters = lab.station.counters();
        assert_eq!((counters.tx_packets, counters.tx_bytes, counters.tx_dropped), (2, 120, 0));
        assert_eq!(lab.other.recv_burst(&mut lab.burst), 0);
        lab.change(|record| set(record, "media=auto"));
        lab.station.send_burst([FRAME]).unwrap();
        assert_eq!(lab.other.recv_burst(&mut lab.burst), 1);
    }

    #[test]
    fn address_and_filter_follow_the_record() {
        let mut lab = lab();
        let mac = MacAddr6::new(2, 0, 0, 0, 0, 1);
        lab.change(|record| set(record, "mac=02:00:00:00:00:01"));
        assert_eq!(lab.station.mac(), mac);
        let mut frame = FRAME;
        frame[..6].copy_from_slice(mac.as_bytes());
        lab.other.send_burst([frame]).unwrap();
        assert_eq!(lab.received(), 1);
        frame[5] = 2;
        lab.other.send_burst([frame]).unwrap();
        assert_eq!(lab.received(), 0);
        lab.change(|record| set(record, "promisc=on"));
        lab.other.send_burst([frame]).unwrap();
        assert_eq!(lab.received(), 1);
    }

    #[test]
    fn offload_follows_the_record() {
        let mut lab = lab();
        assert_eq!(lab.station.capabilities(), Capabilities::NONE);
        lab.change(|record| set(record, &format!("capenable={}", Capabilities::TX.bits())));
        assert_eq!(lab.station.capabilities(), Capabilities::TX);
        lab.change(|record| record.up = false);
        assert_eq!(lab.station.capabilities(), Capabilities::NONE);
        lab.change(|record| record.up = true);
        assert_eq!(lab.station.capabilities(), Capabilities::TX);
    }

    #[test]
    fn a_bus_that_cannot_be_joined_is_reported_and_tried_again() {
        let mut lab = lab();
        let place = lab.folder.path().join("other");
        std::fs::create_dir(&place).unwrap();
        lab.change(|record| record.up = false);
        let change =
            |record: &mut Record| (record.up, record.linkstr) = (true, Some(place.clone()));
        let trouble = lab.try_to_change(change).unwrap_err().to_string();
        assert!(trouble.contains("directory"), "{trouble}");

        std::fs::remove_dir(&place).unwrap();
        thread::sleep(POLL_INTERVAL);
        lab.station.follow().unwrap();
        assert_eq!(lab.registry.report(NAME).trouble, None);
        assert!(place.is_file());
    }

    #[test]
    fn counters_are_there_while_it_runs_and_afterwards() {
        let mut lab = lab();
        lab.station.send_burst([FRAME]).unwrap();
        thread::sleep(POLL_INTERVAL);
        lab.station.follow().unwrap();
        assert_eq!(lab.registry.report(NAME).counters.tx_packets, 1);
        lab.station.send_burst([FRAME]).unwrap();
        assert!(lab.station.send_burst([[0xff; 2000]]).is_err());
        let Lab { registry, station, .. } = lab;
        drop(station);
        let counters = registry.report(NAME).counters;
        assert_eq!((counters.tx_packets, counters.tx_bytes, counters.tx_errors), (2, 120, 1));
    }

    #[test]
    fn a_destroyed_interface_is_released_and_its_station_leaves_the_bus() {
        let mut lab = lab();
        lab.registry.edit().unwrap().destroy(NAME).unwrap();
        thread::sleep(POLL_INTERVAL);
        assert_eq!(lab.station.follow(), Err(Destroyed(NAME)));
        assert_eq!(lab.station.follow(), Err(Destroyed(NAME)), "for good");
        assert_eq!(lab.registry.runner(NAME).unwrap(), None);
        lab.other.send_burst([FRAME]).unwrap();
        lab.station.send_burst([FRAME]).unwrap();
        assert_eq!((lab.received(), lab.other.recv_burst(&mut lab.burst)), (0, 0));
        let left = |folder| {
            std::fs::read_dir(lab.folder.path().join("state").join(folder)).unwrap().count()
        };
        assert_eq!((left("running"), left("reports")), (0, 0));
    }

    #[test]
    fn an_interface_that_is_down_or_run_elsewhere_is_refused() {
        let mut lab = lab();
        let context = Context::new(Some(lab.folder.path().join("state")));
        let again = || {
            BusAttachment::join(&BusArgument::Interface(NAME), &context)
                .map(drop)
                .unwrap_err()
                .to_string()
        };
        assert!(again().contains(&format!("process {}", std::process::id())));
        lab.change(|record| record.up = false);
        let Lab { station, folder: _folder, .. } = lab;
        drop(station);
        assert!(again().contains("shmif0 is down"));
    }
}
