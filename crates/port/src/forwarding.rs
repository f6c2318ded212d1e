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
    (@ put_burst) => {
        fn put_burst(&mut self, frames: &mut dyn Iterator<Item = &[u8]>) -> usize {
            self.port.put_burst(frames)
        }
    };
    (@ dropped) => {
        fn dropped(&mut self) -> $crate::port::Moved {
            self.port.dropped()
        }
    };
    (@ due) => {
        fn due(&self) -> Option<std::time::Instant> {
            self.port.due()
        }
    };
    (@ impair_handle) => {
        fn impair_handle(&self) -> Option<$crate::impair::ImpairHandle> {
            self.port.impair_handle()
        }
    };
    (@ remotes) => {
        fn remotes(&self) -> Option<$crate::remote_counters::RemotesHandle> {
            self.port.remotes()
        }
    };
    (@ peer_details) => {
        fn peer_details(&self) -> Option<$crate::peer_details::PeerDetails> {
            self.port.peer_details()
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
