//! Address learning (`learn=on`): a wrapper around any port that forwards to the peer only what the
//! peer needs, as a switch does. The port's station learns; its stations on one bus and in one
//! thread learn together.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use memif::RxMode;
use shmbus::Station;
use shmbus::offload::TxRequest;

use crate::port::{LinkState, Moved, NotSent, Port};

/// A port around a port whose peer receives only what it needs: frames to itself, to groups, and to
/// unknown addresses.
///
/// The wrapper makes each station that the port is [attached](Port::attach) to
/// [learn](Station::set_learning), and forwards everything else.
#[derive(Debug)]
pub struct Learning<P>(P);

impl<P: Port> Learning<P> {
    /// Wraps `port`.
    #[must_use]
    pub fn new(port: P) -> Self {
        Self(port)
    }
}

impl<P: Port> Port for Learning<P> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn is_up(&self) -> bool {
        self.0.is_up()
    }

    fn link_state(&self) -> LinkState {
        self.0.link_state()
    }

    fn wants_service(&self) -> bool {
        self.0.wants_service()
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        self.0.service(report);
    }

    fn refusals(&self) -> u64 {
        self.0.refusals()
    }

    fn closed(&self) -> Option<String> {
        self.0.closed()
    }

    /// The new station begins without addresses: it may be on another bus than the one before.
    fn attach(&mut self, station: &mut Station) {
        self.0.attach(station);
        station.set_learning(true);
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        self.0.ingress(station)
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        self.0.egress(station)
    }

    fn put(&mut self, frame: &[u8]) -> bool {
        self.0.put(frame)
    }

    fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        self.0.take(frame)
    }

    fn rx_mode(&self) -> RxMode {
        self.0.rx_mode()
    }

    fn arm(&mut self) -> bool {
        self.0.arm()
    }

    fn disarm(&mut self) {
        self.0.disarm();
    }

    fn max_sleep(&self) -> Duration {
        self.0.max_sleep()
    }

    fn first_poll(&self) -> Duration {
        self.0.first_poll()
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        self.0.descriptors(watch);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::fd::AsFd as _;

    use shmbus::offload::Offload;
    use shmbus::{Burst, Bus, StationOptions};

    use super::*;
    use crate::wake_fd::WakeFd;

    /// A port that records which of its methods are called, and answers each with a value that no
    /// default has.
    struct Recorder {
        calls: RefCell<Vec<&'static str>>,
        wake_fd: WakeFd,
    }

    impl Recorder {
        fn record(&self, call: &'static str) {
            self.calls.borrow_mut().push(call);
        }
    }

    impl Port for Recorder {
        fn name(&self) -> &'static str {
            self.record("name");
            "recorder"
        }

        fn is_up(&self) -> bool {
            self.record("is_up");
            true
        }

        fn link_state(&self) -> LinkState {
            self.record("link_state");
            LinkState::Blocked
        }

        fn wants_service(&self) -> bool {
            self.record("wants_service");
            false
        }

        fn service(&mut self, report: &mut dyn FnMut(&str)) {
            self.record("service");
            report("a line");
        }

        fn closed(&self) -> Option<String> {
            self.record("closed");
            Some("it is closed".to_owned())
        }

        fn attach(&mut self, _station: &mut Station) {
            self.record("attach");
        }

        fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
            self.record("ingress");
            let sent = station.send(&frame(HOST, PEER)).is_ok();
            Ok(Moved { frames: usize::from(sent), ..Moved::default() })
        }

        fn egress(&mut self, station: &mut Station) -> Moved {
            self.record("egress");
            Moved { frames: station.recv_burst(&mut Burst::new(10)), ..Moved::default() }
        }

        fn put(&mut self, frame: &[u8]) -> bool {
            self.record("put");
            frame == b"put"
        }

        fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
            self.record("take");
            frame(TxRequest::new(b"taken", Offload::new()));
            7
        }

        fn rx_mode(&self) -> RxMode {
            self.record("rx_mode");
            RxMode::Polling
        }

        fn arm(&mut self) -> bool {
            self.record("arm");
            true
        }

        fn disarm(&mut self) {
            self.record("disarm");
        }

        fn max_sleep(&self) -> Duration {
            self.record("max_sleep");
            Duration::from_millis(7)
        }

        fn first_poll(&self) -> Duration {
            self.record("first_poll");
            Duration::from_millis(3)
        }

        fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
            self.record("descriptors");
            watch(self.wake_fd.as_fd());
        }
    }

    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
    const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0xc];

    fn frame(destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
        [&destination[..], &source, &[0x88, 0xb5], &[0; 46]].concat()
    }

    #[test]
    fn everything_is_forwarded_and_the_station_learns() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bus");
        let join = || {
            let bus = Bus::open_or_create(&path, 0o600).expect("a bus");
            Station::join(bus, StationOptions::new().promiscuous(true)).expect("joined")
        };
        let (mut station, mut host) = (join(), join());
        let wake_fd = WakeFd::new().expect("a descriptor");
        let mut port = Learning::new(Recorder { calls: RefCell::default(), wake_fd });

        port.attach(&mut station);
        assert!(station.is_learning());
        assert_eq!(port.name(), "recorder");
        assert!(port.is_up() && !port.wants_service() && port.arm());
        let mut lines = Vec::new();
        port.service(&mut |line| lines.push(line.to_owned()));
        assert_eq!(lines, ["a line"]);
        assert_eq!(port.closed().as_deref(), Some("it is closed"));
        assert_eq!(port.ingress(&mut station).expect("sent").frames, 1);
        // The station learns where OTHER is. Then the peer needs what is for itself, and not what is
        // for OTHER.
        host.send(&frame([0xff; 6], OTHER)).expect("sent");
        assert_eq!(port.egress(&mut station).frames, 1);
        for destination in [OTHER, PEER] {
            host.send(&frame(destination, HOST)).expect("sent");
        }
        assert_eq!(port.egress(&mut station).frames, 1);
        assert_eq!(port.link_state(), LinkState::Blocked);
        assert!(port.put(b"put"));
        let mut taken = Vec::new();
        assert_eq!(port.take(&mut |request| taken.push(request.frame.to_vec())), 7);
        assert_eq!(taken, [b"taken"]);
        assert_eq!(port.rx_mode(), RxMode::Polling);
        port.disarm();
        assert_eq!(
            (port.max_sleep(), port.first_poll()),
            (Duration::from_millis(7), Duration::from_millis(3))
        );
        let mut descriptors = 0;
        port.descriptors(&mut |_| descriptors += 1);
        assert_eq!(descriptors, 1);

        let calls = port.0.calls.into_inner();
        let expected = [
            "attach",
            "name",
            "is_up",
            "wants_service",
            "arm",
            "service",
            "closed",
            "ingress",
            "egress",
            "egress",
            "link_state",
            "put",
            "take",
            "rx_mode",
            "disarm",
            "max_sleep",
            "first_poll",
            "descriptors",
        ];
        assert_eq!(calls, expected);
    }
}
