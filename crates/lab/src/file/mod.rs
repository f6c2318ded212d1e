//! The lab file: TOML with templates, read as a [`Plan`](crate::Plan).
//!
//! All that is wrong in a file is found at once, each with its line and column. A file is read in
//! this order: syntax, keys and types; LANs; nodes with their interfaces; addresses; and then all
//! that may refer to other nodes.

mod addresses;
mod checks;
mod commands;
mod instances;
mod kinds;
mod lans;
mod machines;
mod macs;
mod nodes;
mod order;
mod problem;
mod read;
mod reader;
pub(crate) mod shape;
mod source;
mod syntax;
mod template;
mod values;
mod views;

pub use self::problem::{Problem, Problems};
pub use self::read::{FileError, read_file};
pub use self::source::{ImpairmentRule, Source};

#[cfg(test)]
mod tests;
