//! The one wrapper around every call from C.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::code::Code;

/// Runs a call, so that no panic unwinds into C: it becomes `MEMIF_ERR_SYSCALL`.
#[inline]
pub fn guard(call: impl FnOnce() -> Result<(), Code>) -> i32 {
    // Unwind safety: a lock that a panic has left is taken all the same, and what it guards is
    // checked whenever it is used.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code.number(),
        Err(_) => Code::Syscall.number(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_number() {
        assert_eq!(guard(|| Ok(())), 0);
        assert_eq!(guard(|| Err(Code::Qid)), 23);
        assert_eq!(guard(|| panic!("caught")), 1);
    }
}
