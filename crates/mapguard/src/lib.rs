//! What it takes to share a mapping with a process that may lie or die: surviving `SIGBUS`, and
//! copying bytes that change.
//!
//! # Survival
//! A program that maps a file that another process may truncate lives with a signal: touching a
//! page beyond the new end raises `SIGBUS`, which kills. A program that [`install`]s the handler of
//! this crate survives it for the mappings that were [`Guard`]ed, and for no others: the mapping is
//! replaced, where it stands, by zeros of the process's own, and marked as lost. The access that
//! failed continues with zeros; its code asks [`Guard::is_lost`] before it believes them.
//!
//! ```
//! # use std::error::Error;
//! # fn main() -> Result<(), Box<dyn Error>> {
//! mapguard::install()?;
//! let file = tempfile::tempfile()?;
//! file.set_len(8192)?;
//! let map = memmap2::MmapOptions::new().map_raw(&file)?;
//! // SAFETY: the range is a whole mapping, which outlives the guard.
//! let guard = unsafe { mapguard::Guard::new(map.as_ptr(), map.len()) };
//! file.set_len(0)?;
//! // SAFETY: inside the mapping.
//! assert_eq!(unsafe { map.as_ptr().read_volatile() }, 0);
//! assert!(guard.is_lost());
//! # Ok(())
//! # }
//! ```
//!
//! Libraries guard their mappings; the program decides whether the handler is installed. Other
//! handlers of the signal still work: what is not ours, such as a signal that a process sends, does
//! what it did before.
//!
//! # Racing copies
//! [`racing_copy`] copies bytes that other threads or processes write at the same time, and
//! [`racing_load`] and [`racing_store`] move a few of them from and to registers. To the language
//! that is no data race.

mod handler;
mod racing_copy;
mod ranges;

pub use handler::install;
pub use racing_copy::{racing_copy, racing_load, racing_store};
pub use ranges::Guard;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
