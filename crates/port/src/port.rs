//! What a port is: bursts of frames come out of it and go into it.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use memif::RxMode;
use shmbus::{MAX_SLEEP, SendError, Station};

/// The most frames a port moves at once in one direction: enough to share the cost of a lock and a wake-up, few enough
/// that the other ports wait only some microseconds.
pub const BURST: usize = 256;

/// How long a port waits for a bus's lock before it drops a burst: the other ports wait with it.
pub const LOCK_TIMEOUT: Duration = Duration::from_millis(20);
/// A lock that was not to be had may be so for long: its holder is stopped, or a rump kernel that is dead. For so long the bus is
/// left alone, and then the lock is waited for only a little (but long enough to find out that its owner is dead), until it is
/// there again. The thread's other ports, on other buses perhaps, go on nearly as before.
pub const HOLD_OFF: Duration = Duration::from_millis(100);
pub const SHORT_LOCK_TIMEOUT: Duration = Duration::from_millis(2);

/// What a port did with frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Frames moved.
    pub frames: usize,
    /// Frames that were taken and went nowhere: the other side cannot carry them.
    pub dropped: usize,
    /// There is more, but the other side has no room at the moment.
    pub blocked: bool,
}

/// The bus did not take a burst, or not all of it.
#[derive(Debug)]
pub struct NotSent {
    /// What became of the burst.
    pub moved: Moved,
    /// Why.
    pub source: SendError,
}

/// Something that bursts of frames come out of and go into. One call is one burst.
pub trait Port: Send {
    /// What the user calls it.
    fn name(&self) -> &str;

    /// Whether there is a peer to move frames from and to.
    fn is_up(&self) -> bool;

    /// Whether there is something to [service](Self::service). Asked often, so it should be cheap.
    fn wants_service(&self) -> bool {
        true
    }

    /// Does what is due beside moving frames: connections come and go here, and its descriptors change nowhere else. What
    /// the user should know is told in one line each.
    fn service(&mut self, report: &mut dyn FnMut(&str));

    /// Why it is of no use any more, once that is so: what it is a port of has gone for good. Asked when it was tended.
    fn closed(&self) -> Option<String> {
        None
    }

    /// Prepares `station`, which the port uses from now on. A wrapper sets its filters here.
    fn attach(&mut self, _station: &mut Station) {}

    /// Moves a burst from the peer to the bus. Frames that the bus did not take are dropped: the peer's buffers are not
    /// kept waiting for it. (A file may wait.)
    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent>;

    /// Moves a burst from the bus to the peer.
    fn egress(&mut self, station: &mut Station) -> Moved;

    /// Whether the node may sleep while nothing comes from this port, and how readily.
    fn rx_mode(&self) -> RxMode;

    /// Prepares for a sleep: from now on its descriptors tell when it is worth asking. `true`: there is something
    /// already, do not sleep.
    fn arm(&mut self) -> bool;

    /// Ends a sleep.
    fn disarm(&mut self);

    /// How long to sleep at most before it is asked without having said anything.
    fn max_sleep(&self) -> Duration {
        MAX_SLEEP
    }

    /// The same for the first time after [`arm`](Self::arm): what comes just then may be missed, where what comes later is not.
    fn first_poll(&self) -> Duration {
        self.max_sleep()
    }

    /// Gives `watch` the descriptors that become readable when the port wants to be asked or tended. There are others only
    /// after [`service`](Self::service). What cannot be waited for, a regular file, is none.
    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>));
}

/// A box forwards to the port in it, so that a wrapper can hold any kind.
impl<P: Port + ?Sized> Port for Box<P> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn is_up(&self) -> bool {
        (**self).is_up()
    }

    fn wants_service(&self) -> bool {
        (**self).wants_service()
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        (**self).service(report);
    }

    fn closed(&self) -> Option<String> {
        (**self).closed()
    }

    fn attach(&mut self, station: &mut Station) {
        (**self).attach(station);
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        (**self).ingress(station)
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        (**self).egress(station)
    }

    fn rx_mode(&self) -> RxMode {
        (**self).rx_mode()
    }

    fn arm(&mut self) -> bool {
        (**self).arm()
    }

    fn disarm(&mut self) {
        (**self).disarm();
    }

    fn max_sleep(&self) -> Duration {
        (**self).max_sleep()
    }

    fn first_poll(&self) -> Duration {
        (**self).first_poll()
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        (**self).descriptors(watch);
    }
}
