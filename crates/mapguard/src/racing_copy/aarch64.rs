//! The racing copy in moves of 16 bytes, two at a time.
//!
//! A short copy is made as the first and the last block of a size, which may overlap. Up to 128
//! bytes this is done in place: a call costs as much as the copy itself.

use std::arch::asm;

/// # Safety
/// As for [`racing_copy`](super::racing_copy).
#[inline]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    let (from_end, to_end) = (from.wrapping_add(len), to.wrapping_add(len));
    match len {
        // SAFETY: two blocks of 32 bytes, of 32 to 64.
        32..=64 => unsafe {
            asm!(
                "ldp {a:q}, {b:q}, [{from}]",
                "ldp {c:q}, {d:q}, [{from_end}, #-32]",
                "stp {a:q}, {b:q}, [{to}]",
                "stp {c:q}, {d:q}, [{to_end}, #-32]",
                from = in(reg) from, from_end = in(reg) from_end, to = in(reg) to, to_end = in(reg) to_end,
                a = out(vreg) _, b = out(vreg) _, c = out(vreg) _, d = out(vreg) _,
                options(nostack, preserves_flags)
            );
        },
        // SAFETY: two blocks of 64 bytes, of 65 to 128.
        65..=128 => unsafe {
            asm!(
                "ldp {a:q}, {b:q}, [{from}]",
                "ldp {c:q}, {d:q}, [{from}, #32]",
                "ldp {e:q}, {f:q}, [{from_end}, #-64]",
                "ldp {g:q}, {h:q}, [{from_end}, #-32]",
                "stp {a:q}, {b:q}, [{to}]",
                "stp {c:q}, {d:q}, [{to}, #32]",
                "stp {e:q}, {f:q}, [{to_end}, #-64]",
                "stp {g:q}, {h:q}, [{to_end}, #-32]",
                from = in(reg) from, from_end = in(reg) from_end, to = in(reg) to, to_end = in(reg) to_end,
                a = out(vreg) _, b = out(vreg) _, c = out(vreg) _, d = out(vreg) _,
                e = out(vreg) _, f = out(vreg) _, g = out(vreg) _, h = out(vreg) _,
                options(nostack, preserves_flags)
            );
        },
        // SAFETY: two blocks of 16 bytes, of 16 to 31.
        16..32 => unsafe {
            asm!(
                "ldr {a:q}, [{from}]",
                "ldur {b:q}, [{from_end}, #-16]",
                "str {a:q}, [{to}]",
                "stur {b:q}, [{to_end}, #-16]",
                from = in(reg) from, from_end = in(reg) from_end, to = in(reg) to, to_end = in(reg) to_end,
                a = out(vreg) _, b = out(vreg) _,
                options(nostack, preserves_flags)
            );
        },
        // SAFETY: two blocks of 8 bytes, of 8 to 15.
        8..16 => unsafe {
            asm!(
                "ldr {a}, [{from}]",
                "ldur {b}, [{from_end}, #-8]",
                "str {a}, [{to}]",
                "stur {b}, [{to_end}, #-8]",
                from = in(reg) from, from_end = in(reg) from_end, to = in(reg) to, to_end = in(reg) to_end,
                a = out(reg) _, b = out(reg) _,
                options(nostack, preserves_flags)
            );
        },
        // SAFETY: the caller's promise, and the length is in the range that is asked for.
        129.. => unsafe { long(from, to, len) },
        // SAFETY: as above; single bytes.
        0..8 => unsafe { super::portable(from, to, len) },
    }
}

/// # Safety
/// As for [`racing_load`](super::racing_load), of one word.
#[inline]
pub(super) unsafe fn load(from: *const u8) -> u64 {
    let word;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "ldr {word}, [{from}]",
            from = in(reg) from, word = out(reg) word,
            options(nostack, preserves_flags)
        );
    }
    word
}

/// # Safety
/// As for [`racing_store`](super::racing_store), of one word.
#[inline]
pub(super) unsafe fn store(word: u64, to: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "str {word}, [{to}]",
            to = in(reg) to, word = in(reg) word,
            options(nostack, preserves_flags)
        );
    }
}

/// Copies more than 128 bytes: the first 16; then 64 at a time, on borders of the destination; and
/// the last 64.
///
/// # Safety
/// As for [`copy`].
#[inline(never)]
unsafe fn long(from: *const u8, to: *mut u8, len: usize) {
    // To the destination's next border, at least 1 byte.
    let first = 16 - (to.addr() & 15);
    // SAFETY: the loop ends before the last 64 bytes, and all moves are inside.
    unsafe {
        asm!(
            "ldr {i:q}, [{from}]",
            "ldp {e:q}, {f:q}, [{from_end}, #-64]",
            "ldp {g:q}, {h:q}, [{from_end}, #-32]",
            "cmp {to_at}, {last}",
            "b.hs 3f",
            "2:",
            "ldp {a:q}, {b:q}, [{from_at}]",
            "ldp {c:q}, {d:q}, [{from_at}, #32]",
            "add {from_at}, {from_at}, #64",
            "stp {a:q}, {b:q}, [{to_at}]",
            "stp {c:q}, {d:q}, [{to_at}, #32]",
            "add {to_at}, {to_at}, #64",
            "cmp {to_at}, {last}",
            "b.lo 2b",
            "3:",
            "stp {e:q}, {f:q}, [{last}]",
            "stp {g:q}, {h:q}, [{last}, #32]",
            "str {i:q}, [{to}]",
            from = in(reg) from,
            from_end = in(reg) from.wrapping_add(len),
            from_at = inout(reg) from.wrapping_add(first) => _,
            to = in(reg) to,
            to_at = inout(reg) to.wrapping_add(first) => _,
            last = in(reg) to.wrapping_add(len - 64),
            a = out(vreg) _, b = out(vreg) _, c = out(vreg) _, d = out(vreg) _,
            e = out(vreg) _, f = out(vreg) _, g = out(vreg) _, h = out(vreg) _, i = out(vreg) _,
            options(nostack)
        );
    }
}
