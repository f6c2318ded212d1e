//! Waiting for the other process without keeping it from the processor.

/// Looks in vain before the processor is offered to others.
const SPINS: u32 = 100;

/// Counts looks in vain.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// Notes whether there was something to do, and waits a moment if there was nothing for a while.
    #[inline]
    pub(super) fn note(&mut self, frames: usize) {
        if frames > 0 {
            self.0 = 0;
        } else if self.0 < SPINS {
            self.0 += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}
