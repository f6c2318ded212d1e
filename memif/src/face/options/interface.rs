//! The options of one interface of a server.

use super::InterfaceConfig;
use crate::error::OptionsError;
use crate::face::rx_mode::RxMode;
use crate::format::Mode;

/// Options of one interface of a [`Server`](crate::Server). The size and place of rings and buffers
/// are the client's choice.
///
/// ```
/// use memif::{InterfaceOptions, RxMode};
/// let options = InterfaceOptions::new(7).name("lan0").rx_queues(4).rx_mode(RxMode::Polling).secret("pass")?;
/// assert_eq!(options.id(), 7);
/// # Ok::<(), memif::OptionsError>(())
/// ```
#[derive(Debug, Clone)]
pub struct InterfaceOptions {
    pub(crate) interface: InterfaceConfig,
    pub(crate) any_mode: bool,
}

impl InterfaceOptions {
    /// Returns the options of interface `id` on its socket: Ethernet, no secret, as many queues as
    /// the client asks for.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self { interface: InterfaceConfig::new(id, u8::MAX), any_mode: false }
    }

    /// Sets the interface's name as shown to the peer, up to 31 bytes; by default `memif` and the
    /// id.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.interface.name = Some(name.into());
        self
    }

    /// Sets the program's name as shown to the client, up to 31 bytes. All clients of a socket see
    /// the name of the interface with the lowest id, as HELLO goes out before the client says which
    /// interface it wants.
    #[must_use]
    pub fn app_name(mut self, name: impl Into<String>) -> Self {
        self.interface.app_name = Some(name.into());
        self
    }

    /// Sets what the packets are, by default Ethernet frames; both sides must agree.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.interface.mode = mode;
        self
    }

    /// Sets whether clients of other modes are accepted, too, as libmemif's server does. By default
    /// they are rejected.
    #[must_use]
    pub fn any_mode(mut self, any: bool) -> Self {
        self.any_mode = any;
        self
    }

    /// Sets the password that both sides must have, 1 to 24 bytes. libmemif and VPP's client use at
    /// most 23 of them: with 24 a warning is logged.
    ///
    /// # Errors
    /// [`OptionsError::Secret`] when it is empty, longer, or holds a NUL byte.
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Result<Self, OptionsError> {
        self.interface.set_secret(secret.as_ref())?;
        Ok(self)
    }

    /// Sets how many queues to receive on a client may have, 1 to 255, by default 255. Each takes
    /// an open file.
    #[must_use]
    pub fn rx_queues(mut self, queues: u8) -> Self {
        self.interface.rx_queues = queues;
        self
    }

    /// Sets how many queues to send on a client may have, 1 to 255, by default 255. Each takes an
    /// open file.
    #[must_use]
    pub fn tx_queues(mut self, queues: u8) -> Self {
        self.interface.tx_queues = queues;
        self
    }

    /// Sets how receive queues start, by default [`RxMode::Adaptive`].
    #[must_use]
    pub fn rx_mode(mut self, mode: RxMode) -> Self {
        self.interface.rx_mode = mode;
        self
    }

    /// Returns the interface's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.interface.id
    }

    /// Checks the ranges that the builder does not.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        self.interface.check()
    }
}
