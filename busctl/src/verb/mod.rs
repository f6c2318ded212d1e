//! One module for each verb: its `Args` (what the command line takes, and the help) and `run` (what
//! it does).

pub(crate) mod attach;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod create;
pub(crate) mod demo;
pub(crate) mod destroy;
pub(crate) mod down;
pub(crate) mod dump;
pub(crate) mod host;
pub(crate) mod lab;
pub(crate) mod linkstr;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod metrics;
pub(crate) mod node;
pub(crate) mod ping;
pub(crate) mod repair;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod set;
pub(crate) mod show;
pub(crate) mod socket;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod up;
