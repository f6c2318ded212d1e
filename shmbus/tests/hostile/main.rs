//! Bus files that are broken or hostile: every seed of the fuzzers, and many a file not far from
//! one, is opened, read, sent into and repaired.
//!
//! The fuzzers in `shmbus/fuzz` drive the library through the same code; see `docs/TESTING.md`.

mod drive;
mod replay;
mod seeds;
