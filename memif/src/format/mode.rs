//! The mode of an interface.

use std::fmt;

/// What the packets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Ethernet frames; the only mode DPDK knows.
    #[default]
    Ethernet,
    /// IP packets without a link layer.
    Ip,
    /// VPP's punt and inject.
    PuntInject,
}

impl Mode {
    pub(crate) fn wire(self) -> u8 {
        match self {
            Self::Ethernet => 0,
            Self::Ip => 1,
            Self::PuntInject => 2,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ethernet => "ethernet",
            Self::Ip => "ip",
            Self::PuntInject => "punt-inject",
        })
    }
}
