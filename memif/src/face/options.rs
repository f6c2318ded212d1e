//! The options of clients, of a server's interfaces and of its socket: a type each, so that every
//! option has an effect.

mod client;
mod interface;
mod socket;

pub use self::client::ClientOptions;
pub(crate) use self::client::FileSource;
pub use self::interface::InterfaceOptions;
pub use self::socket::SocketOptions;

use std::fmt;

use super::rx_mode::RxMode;
use crate::error::OptionsError;
use crate::format::Mode;
use crate::format::secret::{SECRET_LEN, Secret};

/// Which side of the protocol an interface speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Listens on the socket, and uses the client's memory. Older texts say master.
    Server,
    /// Connects to the socket, and owns the memory. Older texts say slave.
    Client,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// The options that an interface has in either role.
#[derive(Debug, Clone)]
pub(crate) struct InterfaceConfig {
    pub(crate) id: u32,
    pub(crate) name: Option<String>,
    pub(crate) app_name: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) secret: Option<Secret>,
    /// Queues to receive on: those a client asks for, or the most that a server allows.
    pub(crate) rx_queues: u8,
    /// Queues to send on, likewise.
    pub(crate) tx_queues: u8,
    pub(crate) rx_mode: RxMode,
}

impl InterfaceConfig {
    fn new(id: u32, queues: u8) -> Self {
        Self {
            id,
            name: None,
            app_name: None,
            mode: Mode::default(),
            secret: None,
            rx_queues: queues,
            tx_queues: queues,
            rx_mode: RxMode::default(),
        }
    }

    fn set_secret(&mut self, secret: &[u8]) -> Result<(), OptionsError> {
        self.secret = Some(Secret::new(secret).ok_or(OptionsError::Secret { len: secret.len() })?);
        if secret.len() == SECRET_LEN {
            tracing::warn!(
                id = self.id,
                "a secret of 24 bytes matches neither libmemif nor a VPP client; use 23 or less"
            );
        }
        Ok(())
    }

    /// Returns the interface's name as shown to the peer.
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("memif{}", self.id))
    }

    /// Returns the program's name as shown to the peer.
    pub(crate) fn app_name(&self) -> &str {
        self.app_name.as_deref().unwrap_or(DEFAULT_APP_NAME)
    }

    fn check(&self) -> Result<(), OptionsError> {
        for (direction, queues) in [("rx", self.rx_queues), ("tx", self.tx_queues)] {
            if queues == 0 {
                return Err(OptionsError::Queues { direction });
            }
        }
        Ok(())
    }
}

/// What peers see of a program that has set no name.
pub(crate) const DEFAULT_APP_NAME: &str = concat!("memif-rs ", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let new = || ClientOptions::new(0);
        let check = |options: ClientOptions| options.check();
        assert_eq!(check(new()), Ok(()));
        assert_eq!(check(new().log2_ring_size(0)), Err(OptionsError::RingSize(0)));
        assert_eq!(check(new().log2_ring_size(15)), Err(OptionsError::RingSize(15)));
        assert_eq!(check(new().buffer_size(63)), Err(OptionsError::BufferSize(63)));
        assert_eq!(check(new().buffer_size(65_536)), Err(OptionsError::BufferSize(65_536)));
        assert_eq!(check(new().rx_queues(0)), Err(OptionsError::Queues { direction: "rx" }));
        assert_eq!(check(new().tx_queues(0)), Err(OptionsError::Queues { direction: "tx" }));
        let interface = InterfaceOptions::new(0).tx_queues(0);
        assert_eq!(interface.check(), Err(OptionsError::Queues { direction: "tx" }));
    }

    #[test]
    fn secrets_are_checked_and_never_shown() {
        let new = || ClientOptions::new(0);
        assert!(new().secret("").is_err());
        assert!(new().secret("0123456789012345678901234").is_err());
        let options = new().secret("hunter2").unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
        let options = InterfaceOptions::new(0).secret("hunter2").unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
