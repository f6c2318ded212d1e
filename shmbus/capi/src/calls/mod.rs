//! The functions that `include/shmbus.h` declares.
//!
//! Each has the contract of its comment there, which its `# Safety` section repeats for Rust: the
//! caller's pointers are checked for NULL and alignment, and are otherwise valid. Handles have no
//! such contract: any value will do.

pub(crate) mod describe;
pub(crate) mod library;
pub(crate) mod open;
pub(crate) mod sleep;
pub(crate) mod transfer;

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::failure::Failure;

/// Runs what a function does, and returns its result, or the code of its failure. A panic ends here:
/// the handle that was in use can only be closed then.
#[inline]
fn call(body: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(result)) => result,
        Ok(Err(failure)) => failure.report(),
        Err(_panic) => Failure::internal().report(),
    }
}

/// Returns whether a pointer may be read or written through, as far as that can be seen.
fn is_usable<T>(pointer: *const T) -> bool {
    !pointer.is_null() && pointer.is_aligned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    #[test]
    fn a_panic_is_a_code() {
        assert_eq!(call(|| panic!("a fault")), Code::Internal as c_int);
        assert_eq!(call(|| Ok(7)), 7);
    }
}
