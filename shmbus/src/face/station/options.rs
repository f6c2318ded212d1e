//! How a station is to be.

use std::path::Path;
use std::time::Duration;

use macaddr::MacAddr6;

use crate::mechanism::offload::Capabilities;
use crate::system::liveness::random_number;
use crate::system::wake::busy_poll::WaitMode;

/// How long a send waits for the lock, unless told otherwise.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How a station is to be: passed to [`Station::join`](crate::Station::join).
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
    /// A random MAC address, not promiscuous, no offload, and two seconds for the lock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The station's address, instead of a random one.
    #[must_use]
    pub fn mac(mut self, mac: MacAddr6) -> Self {
        self.mac = Some(mac);
        self
    }

    /// Whether to receive frames for other stations as well.
    #[must_use]
    pub fn promiscuous(mut self, on: bool) -> Self {
        self.promiscuous = on;
        self
    }

    /// What the station is called when somebody asks who is on the bus; by default the program's name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Which checksums and segmentations the station does for its user (`capenable`); none by default.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// What the station does while it [waits](crate::Station::wait); by default it sleeps.
    #[must_use]
    pub fn wait_mode(mut self, mode: WaitMode) -> Self {
        self.wait_mode = mode;
        self
    }

    /// How long the station may put off to wake the others after it woke them last, to do it once for several bursts; by
    /// default not at all. For senders that sustain a rate in small bursts: a wake-up costs several times what a frame does.
    ///
    /// It is made up for by whatever the station does next once the interval is over, sending or receiving, and at once when it
    /// waits, is armed or dropped. Who has no more to send and goes on to something else calls
    /// [`flush`](crate::Station::flush): until then the others may hear of the last frames no sooner than they look by themselves,
    /// after [`MAX_SLEEP`](crate::MAX_SLEEP), and rump kernels not at all.
    #[must_use]
    pub fn wake_interval(mut self, interval: Duration) -> Self {
        self.wake_interval = interval;
        self
    }

    /// How long a send waits for the lock before it fails with [`SendError::Busy`](crate::SendError::Busy); 2 s by default.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }
}

/// What a station is called that was given no name.
pub(super) fn program_name() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A random address of the kind that shmif interfaces have: `b2:a0:` and four random bytes.
#[must_use]
pub fn random_mac() -> MacAddr6 {
    let [a, b, c, d, ..] = random_number().to_be_bytes();
    MacAddr6::new(0xb2, 0xa0, a, b, c, d)
}
