//! Feeds arbitrary bytes to the library, in four ways. Whoever calls these, a fuzzer or a test, sees to it that they end in
//! time; that they do not panic is all else there is to see, as what must hold is asserted here.

pub(crate) mod input;

mod bus_file;
mod open;
mod read;
mod repair;
mod script;
mod send;
mod watch;

pub(crate) use open::open;
pub(crate) use read::read;
pub(crate) use repair::repair;
pub(crate) use send::send;
