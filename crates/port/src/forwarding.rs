//! Forwarding, of which a wrapper around a port mostly consists.

/// Implements methods of [`Port`](crate::Port), given by their names, for a wrapper: they call those
/// of the port in its field `port`.
///
/// Name all that the wrapper does not change. The trait's defaults are for ports without a port
/// inside.
macro_rules! forward {
    ($($method:ident)*) => {
        $($crate::forwarding::forward!(@ $method);)*
    };
    (@ name) => {
        fn name(&self) -> &str {
            self.port.name()
        }
    };
    (@ is_up) => {
        fn is_up(&self) -> bool {
            self.port.is_up()
        }
    };
    (@ link_state) => {
        fn link_state(&self) -> $crate::port::LinkState {
            self.port.link_state()
        }
    };
    (@ wants_service) => {
        fn wants_service(&self) -> bool {
            self.port.wants_service()
        }
    };
    (@ service) => {
        fn service(&mut self, report: &mut dyn FnMut(&str)) {
            self.port.service(report);
        }
    };
    (@ refusals) => {
        fn refusals(&self) -> u64 {
            self.port.refusals()
        }
    };
    (@ closed) => {
        fn closed(&self) -> Option<String> {
            self.port.closed()
        }
    };
    (@ ingress) => {
        fn ingress(&mut self, station: &mut shmbus::Station) -> Result<$crate::port::Moved, $crate::port::NotSent> {
            self.port.ingress(station)
        }
    };
    (@ egress) => {
        fn egress(&mut self, station: &mut shmbus::Station) -> $crate::port::Moved {
            self.port.egress(station)
        }
    };
    (@ put) => {
        fn put(&mut self, frame: &[u8]) -> bool {
            self.port.put(frame)
        }
    };
    (@ take) => {
        fn take(&mut self, frame: &mut dyn FnMut(shmbus::offload::TxRequest<'_>)) -> usize {
            self.port.take(frame)
        }
    };
    (@ rx_mode) => {
        fn rx_mode(&self) -> memif::RxMode {
            self.port.rx_mode()
        }
    };
    (@ arm) => {
        fn arm(&mut self) -> bool {
            self.port.arm()
        }
    };
    (@ disarm) => {
        fn disarm(&mut self) {
            self.port.disarm();
        }
    };
    (@ max_sleep) => {
        fn max_sleep(&self) -> std::time::Duration {
            self.port.max_sleep()
        }
    };
    (@ first_poll) => {
        fn first_poll(&self) -> std::time::Duration {
            self.port.first_poll()
        }
    };
    (@ descriptors) => {
        fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(std::os::fd::BorrowedFd<'p>)) {
            self.port.descriptors(watch);
        }
    };
}

pub(crate) use forward;

#[cfg(test)]
pub(crate) mod tests {
    use std::os::fd::{AsFd as _, BorrowedFd};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use memif::RxMode;
    use shmbus::offload::{Offload, TxRequest};
    use shmbus::{Burst, Bus, Station, StationOptions};

    use crate::frame_rules::{FrameRules, Ruled};
    use crate::learning::Learning;
    use crate::port::{LinkState, Moved, NotSent, Port};
    use crate::wake_fd::WakeFd;

    /// A port that records which of its methods are called, and answers each with a value that no
    /// default has.
    pub(crate) struct Recorder {
        calls: Arc<Mutex<Vec<&'static str>>>,
        /// What its peer sends.
        frame: Vec<u8>,
        wake_fd: WakeFd,
    }

    impl Recorder {
        pub(crate) fn new(frame: &[u8]) -> Self {
            let wake_fd = WakeFd::new().expect("a descriptor");
            Self { calls: Arc::default(), frame: frame.to_vec(), wake_fd }
        }

        fn record(&self, call: &'static str) {
            self.calls.lock().expect("no panic").push(call);
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

        fn refusals(&self) -> u64 {
            self.record("refusals");
            5
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
            let sent = station.send(&self.frame).is_ok();
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

    /// Calls every method of a wrapper once; each is forwarded.
    fn check<P: Port>(wrap: impl FnOnce(Recorder) -> P) {
        let folder = tempfile::tempdir().expect("a folder");
        let bus = Bus::open_or_create(folder.path().join("bus"), 0o600).expect("a bus");
        let mut station = Station::join(bus, StationOptions::new()).expect("joined");
        let recorder = Recorder::new(&[0xff; 60]);
        let calls = Arc::clone(&recorder.calls);
        let mut port = wrap(recorder);
        port.attach(&mut station);
        assert_eq!(port.name(), "recorder");
        assert!(port.is_up() && !port.wants_service() && port.arm());
        let mut lines = Vec::new();
        port.service(&mut |line| lines.push(line.to_owned()));
        assert_eq!(lines, ["a line"]);
        assert_eq!(port.refusals(), 5);
        assert_eq!(port.closed().as_deref(), Some("it is closed"));
        assert_eq!(port.ingress(&mut station).expect("sent").frames, 1);
        assert_eq!(port.egress(&mut station).frames, 0);
        assert_eq!(port.link_state(), LinkState::Blocked);
        assert!(port.put(b"put"));
        let mut taken = Vec::new();
        assert_eq!(port.take(&mut |request| taken.push(request.frame.to_vec())), 7);
        assert_eq!(taken, [b"taken"]);
        assert_eq!(port.rx_mode(), RxMode::Polling);
        port.disarm();
        let sleeps = (port.max_sleep(), port.first_poll());
        assert_eq!(sleeps, (Duration::from_millis(7), Duration::from_millis(3)));
        let mut descriptors = 0;
        port.descriptors(&mut |_| descriptors += 1);
        assert_eq!(descriptors, 1);
        let expected = [
            "attach",
            "name",
            "is_up",
            "wants_service",
            "arm",
            "service",
            "refusals",
            "closed",
            "ingress",
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
        assert_eq!(*calls.lock().expect("no panic"), expected);
    }

    #[test]
    fn wrappers_forward_what_they_do_not_change() {
        check(Learning::new);
        check(|port| Ruled::new(port, FrameRules::default()));
        check(Box::new);
    }
}
