//! The lab file.

mod problem;
pub(crate) mod shape;
mod syntax;
mod template;

pub use self::problem::{Problem, Problems};
