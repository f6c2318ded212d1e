//! Bus files that are broken or hostile: every seed of the fuzzers, and many a file not far from
//! one, is opened, read, sent into and repaired.
//!
//! [`sleepers`] is about what lies beside a bus while stations sleep and talk.
//!
//! The fuzzers in `shmbus/fuzz` drive the library through the same code; see `docs/TESTING.md`.

mod drive;
mod replay;
mod seeds;
mod sleepers;
