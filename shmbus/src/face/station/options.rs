//! The options of a station.

use std::path::Path;
use std::time::Duration;

use macaddr::MacAddr6;

use crate::mechanism::offload::Capabilities;
use crate::system::liveness::random_number;
use crate::system::wake::busy_poll::WaitMode;

/// How long a send waits for the lock by default.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The options of a station, passed to [`Station::join`](crate::Station::join).
///
/// ```
/// use shmbus::{StationOptions, WaitMode};
/// use std::time::Duration;
///
/// let options = StationOptions::new().name("probe").wait_mode(WaitMode::Poll(Duration::from_micros(50)));
/// ```
#[derive(Clone, Debug)]
pub struct StationOptions {
    pub(super) mac: Option<MacAddr6>,
    pub(super) promiscuous: bool,
    pub(super) lock_timeout: Duration,
    pub(super) name: Option<String>,
    pub(super) capabilities: Capabilities,
    pub(super) wait_mode: WaitMode,
    pub(super) wake_interval: Duration,
}

impl Default for StationOptions {
    fn default() -> Self {
        Self {
            mac: None,
            promiscuous: false,
            lock_timeout: LOCK_TIMEOUT,
            name: None,
            capabilities: Capabilities::NONE,
            wait_mode: WaitMode::Sleep,
            wake_interval: Duration::ZERO,
        }
    }
}

impl StationOptions {
    /// Returns the default options: a random address, not promiscuous, no offload, and two seconds
    /// for the lock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the station's address, instead of a random one.
    #[must_use]
    pub fn mac(mut self, mac: MacAddr6) -> Self {
        self.mac = Some(mac);
        self
    }

    /// Sets whether the station receives frames for others as well.
    #[must_use]
    pub fn promiscuous(mut self, on: bool) -> Self {
        self.promiscuous = on;
        self
    }

    /// Sets the station's name in the list of the bus's [members](crate::Bus::members); by default
    /// the program's name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets which checksums and segmentations the station does for its user (`capenable`); none by
    /// default.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Sets what the station does while it [waits](crate::Station::wait); by default it sleeps.
    #[must_use]
    pub fn wait_mode(mut self, mode: WaitMode) -> Self {
        self.wait_mode = mode;
        self
    }

    /// Sets the least time between two wake-ups of the other stations, so that one wake-up serves
    /// several bursts; 0 by default. For senders that sustain a rate in small bursts: a wake-up
    /// costs several times what a frame does.
    ///
    /// A wake-up that was put off is sent by whatever the station does next once the interval is
    /// over, sending or receiving, and at once when it waits, is armed or dropped. A sender that
    /// has no more to send and continues with other work calls [`flush`](crate::Station::flush):
    /// until then other stations may find the last frames only when they look by themselves, after
    /// [`MAX_SLEEP`](crate::MAX_SLEEP), and rump kernels not at all.
    #[must_use]
    pub fn wake_interval(mut self, interval: Duration) -> Self {
        self.wake_interval = interval;
        self
    }

    /// Sets how long a send waits for the lock before it fails with
    /// [`SendError::Busy`](crate::SendError::Busy); 2 s by default.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }
}

/// The name of a station without a name of its own.
pub(super) fn program_name() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns a random address of the kind that shmif interfaces have: `b2:a0:` and four random bytes.
#[must_use]
pub fn random_mac() -> MacAddr6 {
    let [a, b, c, d, ..] = random_number().to_be_bytes();
    MacAddr6::new(0xb2, 0xa0, a, b, c, d)
}
