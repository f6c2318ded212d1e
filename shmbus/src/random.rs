//! Numbers that no other station picks.

use std::time::{SystemTime, UNIX_EPOCH};

/// A random number. A process that was forked goes on with its parent's generator, so that is not all it comes from: two that join
/// with the same numbers would take each other's frames for their own.
pub(crate) fn number() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let this = u64::from(std::process::id()) << 32 ^ u64::from(now.subsec_nanos());
    fastrand::Rng::with_seed(fastrand::u64(..) ^ this).u64(..)
}
