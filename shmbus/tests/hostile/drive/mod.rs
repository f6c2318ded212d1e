//! Feeds arbitrary bytes to the library, in four ways. The caller, a fuzzer or a test, checks that
//! they end in time and do not panic; what else must hold is asserted here.

pub(crate) mod input;

mod bus_file;
mod invariants;
mod open;
mod read;
mod repair;
mod script;
mod send;

pub(crate) use open::open;
pub(crate) use read::read;
pub(crate) use repair::repair;
pub(crate) use send::send;
