//! One module for each verb: its `Args` (what the command line takes, and the help) and `run` (what it does).

pub mod attach;
pub mod bench;
pub mod completions;
pub mod create;
pub mod demo;
pub mod destroy;
pub mod down;
pub mod dump;
pub mod host;
pub mod linkstr;
pub mod man;
pub mod node;
pub mod ping;
pub mod repair;
pub mod replay;
pub mod set;
pub mod show;
pub mod socket;
pub mod up;
