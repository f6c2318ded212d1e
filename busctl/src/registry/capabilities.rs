//! Offload flags as a record keeps them: the number that `RUMP_SHMIF_CAPENABLE` would hold.

use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
use shmbus::offload::{Capabilities, ParseCapabilitiesError};

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
pub(super) fn serialize<S: Serializer>(flags: &Capabilities, serializer: S) -> Result<S::Ok, S::Error> {
    flags.bits().serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Capabilities, D::Error> {
    u32::deserialize(deserializer).map(Capabilities::from)
}

/// For a name that comes close to one that exists.
pub(super) fn hint(error: &ParseCapabilitiesError) -> String {
    match error {
        ParseCapabilitiesError::Name(name) => port::suggest::hint(name, Capabilities::ALL.names()),
        _ => String::new(),
    }
}
