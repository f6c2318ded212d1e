//! Survive `SIGBUS` in mappings of files that others may cut short.
//!
//! Whoever maps a file that another process may truncate lives with a signal: touching a page beyond the new end raises
//! `SIGBUS`, which kills. A program that [`install`]s the handler of this crate survives it for the mappings that were
//! [`Guard`]ed, and for no others: the mapping is replaced, where it stands, by zeros of the process's own, and marked as
//! lost. The access that failed goes on with zeros; whoever made it asks [`Guard::is_lost`] before believing them.
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
//! Libraries guard their mappings; whether the handler is installed is for the program to say. Other handlers of the signal
//! go on working: what is not ours is passed on to the one that was there before.

mod handler;
mod racing_copy;
mod ranges;

pub use handler::install;
pub use racing_copy::racing_copy;
pub use ranges::Guard;
