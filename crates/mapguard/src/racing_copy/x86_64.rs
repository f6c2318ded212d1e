//! The racing copy in moves of up to 32 bytes.
//!
//! A short copy is made as the first and the last block of a size, which may overlap. Up to 128
//! bytes this is done in place: a call costs as much as the copy itself. Longer copies are the loop
//! that the C library's `memcpy` has for these lengths.

use std::arch::{asm, is_x86_feature_detected};

/// # Safety
/// As for [`racing_copy`](super::racing_copy).
#[inline]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    match len {
        // SAFETY: two blocks of 32 bytes, of 32 to 64.
        32..=64 => unsafe {
            asm!(
                "movups {a}, [{from}]",
                "movups {b}, [{from} + 16]",
                "movups [{to} + 16], {b}",
                "movups [{to}], {a}",
                "movups {a}, [{from} + {len} - 32]",
                "movups {b}, [{from} + {len} - 16]",
                "movups [{to} + {len} - 16], {b}",
                "movups [{to} + {len} - 32], {a}",
                from = in(reg) from, to = in(reg) to, len = in(reg) len,
                a = out(xmm_reg) _, b = out(xmm_reg) _,
                options(nostack, preserves_flags)
            );
        },
        // SAFETY: two blocks of 64 bytes, of 65 to 128.
        65..=128 => unsafe {
            asm!(
                "movups {a}, [{from}]",
                "movups {b}, [{from} + 16]",
                "movups {c}, [{from} + 32]",
                "movups {d}, [{from} + 48]",
                "movups [{to} + 48], {d}",
                "movups [{to} + 32], {c}",
                "movups [{to} + 16], {b}",
                "movups [{to}], {a}",
                "movups {a}, [{from} + {len} - 64]",
                "movups {b}, [{from} + {len} - 48]",
                "movups {c}, [{from} + {len} - 32]",
                "movups {d}, [{from} + {len} - 16]",
                "movups [{to} + {len} - 16], {d}",
                "movups [{to} + {len} - 32], {c}",
                "movups [{to} + {len} - 48], {b}",
                "movups [{to} + {len} - 64], {a}",
                from = in(reg) from, to = in(reg) to, len = in(reg) len,
                a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                options(nostack, preserves_flags)
            );
        },
        // SAFETY: two blocks of 16 bytes, of 16 to 31.
        16..32 => unsafe {
            asm!(
                "movups {a}, [{from}]",
                "movups [{to}], {a}",
                "movups {a}, [{from} + {len} - 16]",
                "movups [{to} + {len} - 16], {a}",
                from = in(reg) from, to = in(reg) to, len = in(reg) len,
                a = out(xmm_reg) _,
                options(nostack, preserves_flags)
            );
        },
        // SAFETY: two blocks of 8 bytes, of 8 to 15.
        8..16 => unsafe {
            asm!(
                "mov {a}, [{from}]",
                "mov [{to}], {a}",
                "mov {a}, [{from} + {len} - 8]",
                "mov [{to} + {len} - 8], {a}",
                from = in(reg) from, to = in(reg) to, len = in(reg) len,
                a = out(reg) _,
                options(nostack, preserves_flags)
            );
        },
        // SAFETY: the caller's promise, and the length is in the range that is asked for.
        129.. => unsafe { long(from, to, len) },
        // SAFETY: as above.
        0..8 => unsafe { tiny(from, to, len) },
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
            "mov {word}, [{from}]",
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
            "mov [{to}], {word}",
            to = in(reg) to, word = in(reg) word,
            options(nostack, preserves_flags)
        );
    }
}

/// Copies 0 to 7 bytes.
///
/// # Safety
/// As for [`copy`].
#[inline(never)]
unsafe fn tiny(from: *const u8, to: *mut u8, len: usize) {
    match len {
        0 => {}
        // SAFETY: one byte.
        1 => unsafe {
            asm!(
                "mov {a}, [{from}]",
                "mov [{to}], {a}",
                from = in(reg) from, to = in(reg) to,
                a = out(reg_byte) _,
                options(nostack, preserves_flags)
            );
        },
        // SAFETY: two blocks of 2 bytes, of 2 or 3.
        2..4 => unsafe {
            asm!(
                "mov {a:x}, [{from}]",
                "mov [{to}], {a:x}",
                "mov {a:x}, [{from} + {len} - 2]",
                "mov [{to} + {len} - 2], {a:x}",
                from = in(reg) from, to = in(reg) to, len = in(reg) len,
                a = out(reg) _,
                options(nostack, preserves_flags)
            );
        },
        // SAFETY: two blocks of 4 bytes, of 4 to 7.
        _ => unsafe {
            asm!(
                "mov {a:e}, [{from}]",
                "mov [{to}], {a:e}",
                "mov {a:e}, [{from} + {len} - 4]",
                "mov [{to} + {len} - 4], {a:e}",
                from = in(reg) from, to = in(reg) to, len = in(reg) len,
                a = out(reg) _,
                options(nostack, preserves_flags)
            );
        },
    }
}

/// Copies at least four blocks of `$width` bytes: the first block; then four at a time, on borders
/// of the destination; and the last four.
macro_rules! in_blocks {
    ($from:ident, $to:ident, $len:ident, $width:literal, $move:literal, $register:literal, $end:literal) => {{
        // To the destination's next border, at least 1 byte.
        let first = $width - ($to.addr() & ($width - 1));
        asm!(
            concat!($move, " ", $register, "4, [{from}]"),
            concat!($move, " ", $register, "5, [{from} + {len} - 4*{width}]"),
            concat!($move, " ", $register, "6, [{from} + {len} - 3*{width}]"),
            concat!($move, " ", $register, "7, [{from} + {len} - 2*{width}]"),
            concat!($move, " ", $register, "8, [{from} + {len} - {width}]"),
            "cmp {to_at}, {last}",
            "jae 3f",
            ".p2align 5",
            "2:",
            concat!($move, " ", $register, "0, [{from_at}]"),
            concat!($move, " ", $register, "1, [{from_at} + {width}]"),
            concat!($move, " ", $register, "2, [{from_at} + 2*{width}]"),
            concat!($move, " ", $register, "3, [{from_at} + 3*{width}]"),
            "sub {from_at}, -4*{width}",
            concat!($move, " [{to_at}], ", $register, "0"),
            concat!($move, " [{to_at} + {width}], ", $register, "1"),
            concat!($move, " [{to_at} + 2*{width}], ", $register, "2"),
            concat!($move, " [{to_at} + 3*{width}], ", $register, "3"),
            "sub {to_at}, -4*{width}",
            "cmp {to_at}, {last}",
            "jb 2b",
            "3:",
            concat!($move, " [{last}], ", $register, "5"),
            concat!($move, " [{last} + {width}], ", $register, "6"),
            concat!($move, " [{last} + 2*{width}], ", $register, "7"),
            concat!($move, " [{last} + 3*{width}], ", $register, "8"),
            concat!($move, " [{to}], ", $register, "4"),
            $end,
            from = in(reg) $from,
            len = in(reg) $len,
            from_at = inout(reg) $from.wrapping_add(first) => _,
            to = in(reg) $to,
            to_at = inout(reg) $to.wrapping_add(first) => _,
            last = in(reg) $to.wrapping_add($len - 4 * $width),
            width = const $width,
            // `vzeroupper` changes all.
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack)
        );
    }};
}

/// Copies more than 128 bytes.
///
/// # Safety
/// As for [`copy`].
#[inline(never)]
unsafe fn long(from: *const u8, to: *mut u8, len: usize) {
    // Processors with AVX2 move 32 bytes across any border as fast as two times 16; the first ones
    // with AVX did not.
    match (is_x86_feature_detected!("avx2"), len) {
        // SAFETY: two blocks of 128 bytes, of 129 to 256; the processor has the registers.
        (true, ..=256) => unsafe {
            asm!(
                "vmovdqu ymm0, [{from}]",
                "vmovdqu ymm1, [{from} + 32]",
                "vmovdqu ymm2, [{from} + 64]",
                "vmovdqu ymm3, [{from} + 96]",
                "vmovdqu ymm4, [{from} + {len} - 128]",
                "vmovdqu ymm5, [{from} + {len} - 96]",
                "vmovdqu ymm6, [{from} + {len} - 64]",
                "vmovdqu ymm7, [{from} + {len} - 32]",
                "vmovdqu [{to}], ymm0",
                "vmovdqu [{to} + 32], ymm1",
                "vmovdqu [{to} + 64], ymm2",
                "vmovdqu [{to} + 96], ymm3",
                "vmovdqu [{to} + {len} - 128], ymm4",
                "vmovdqu [{to} + {len} - 96], ymm5",
                "vmovdqu [{to} + {len} - 64], ymm6",
                "vmovdqu [{to} + {len} - 32], ymm7",
                "vzeroupper",
                from = in(reg) from, to = in(reg) to, len = in(reg) len,
                // `vzeroupper` changes all.
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nostack, preserves_flags)
            );
        },
        // SAFETY: the caller's promise, and the processor has the registers.
        (true, _) => unsafe { in_blocks!(from, to, len, 32, "vmovdqu", "ymm", "vzeroupper") },
        // SAFETY: the caller's promise.
        (false, _) => unsafe { long_without_avx2(from, to, len) },
    }
}

/// Copies at least 64 bytes, on processors of any age.
///
/// # Safety
/// As for [`copy`].
unsafe fn long_without_avx2(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { in_blocks!(from, to, len, 16, "movdqu", "xmm", "") }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn processors_without_avx2_copy_the_same() {
        let from: Vec<u8> = (0..1_000_u32).map(|i| (i % 251).to_le_bytes()[0]).collect();
        for len in 64..900 {
            for (skip, lead) in [(0, 0), (1, 0), (0, 1), (13, 15), (16, 16), (63, 63)] {
                let mut to = vec![0xEE_u8; len + 128];
                // SAFETY: both hold `len` bytes from there on, and no other thread knows them.
                unsafe { long_without_avx2(from[skip..].as_ptr(), to[lead..].as_mut_ptr(), len) };
                assert_eq!(to[lead..lead + len], from[skip..skip + len], "{len} bytes");
                to[lead..lead + len].fill(0xEE);
                assert!(to.iter().all(|byte| *byte == 0xEE), "{len} bytes: a store beside");
            }
        }
    }
}
