//! How a bus is to be made for want of one: the flags of every verb that may have to.

use shmbus::{BUS_SIZE, BusOptions};

use crate::size;

/// Flags to be flattened into a verb's own.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NewBus {
    /// Permissions of the bus, in octal, when it is made
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = parse_mode)]
    pub mode: u32,

    /// Bytes of the bus, when it is made, such as 16M; other than 1M, rump kernels cannot share it
    #[arg(long, value_name = "BYTES", default_value_t = BUS_SIZE, hide_default_value = true, value_parser = size::parse)]
    pub size: u64,
}

impl NewBus {
    /// The same for the library.
    #[must_use]
    pub(crate) fn options(&self) -> BusOptions {
        BusOptions::new().mode(self.mode).size(self.size)
    }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| "permissions are an octal number up to 0777".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal_and_has_no_special_bits() {
        assert_eq!(parse_mode("0660"), Ok(0o660));
        assert_eq!(parse_mode("600"), Ok(0o600));
        for text in ["", "8", "1777", "+600", "0x1", "rw"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }
}
