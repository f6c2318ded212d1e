//! A port for tests of wrappers, which shows what reaches it.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use memif::RxMode;
use shmbus::offload::{Offload, TxRequest};
use shmbus::{Burst, Station};

use crate::impair::ImpairHandle;
use crate::port::{LinkState, Moved, NotSent, Port};
use crate::wake_fd::WakeFd;

/// A port that records which of its methods are called, and answers each with a value that no
/// default has.
pub(crate) struct Recorder {
    calls: Arc<Mutex<Vec<&'static str>>>,
    /// What its peer sends.
    frame: Vec<u8>,
    due: Instant,
    impair_handle: ImpairHandle,
    wake_fd: WakeFd,
}

impl Recorder {
    pub(crate) fn new(frame: &[u8]) -> Self {
        let wake_fd = WakeFd::new().expect("a descriptor");
        Self {
            calls: Arc::default(),
            frame: frame.to_vec(),
            due: Instant::now() + Duration::from_secs(3_600),
            impair_handle: ImpairHandle::default(),
            wake_fd,
        }
    }

    /// Returns the names of the methods that were called, which grow with each call.
    pub(crate) fn calls(&self) -> Arc<Mutex<Vec<&'static str>>> {
        Arc::clone(&self.calls)
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

    fn put_burst<'f>(&mut self, frames: &mut dyn Iterator<Item = &'f [u8]>) -> usize {
        self.record("put_burst");
        frames.count() + 3
    }

    fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        self.record("take");
        frame(TxRequest::new(b"taken", Offload::new()));
        7
    }

    fn dropped(&mut self) -> Moved {
        self.record("dropped");
        Moved { dropped: 2, ..Moved::default() }
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

    fn due(&self) -> Option<Instant> {
        self.record("due");
        Some(self.due)
    }

    fn impair_handle(&self) -> Option<ImpairHandle> {
        self.record("impair_handle");
        Some(self.impair_handle.clone())
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        self.record("descriptors");
        watch(self.wake_fd.as_fd());
    }
}
