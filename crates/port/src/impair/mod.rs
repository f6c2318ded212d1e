//! Impairments: links that misbehave on purpose, in the words of netem.
//!
//! [`Impaired`] is a wrapper around any port. Each direction has a lane, which decides over each
//! frame and keeps copies of those that are to come later. The decisions are a function of the
//! settings, the seed and the traffic, so a test can be repeated.
//!
//! The impairments can be changed while the port runs, with an [`ImpairHandle`]. Without any, the
//! wrapper forwards bursts to the port, and costs a load for each.

mod handle;
mod impaired;
mod impairments;
mod jitter;
mod lane;
mod link;
mod loss;
mod model;
mod quantity;
mod queue;
mod settings;

pub use self::handle::{ImpairCounters, ImpairHandle, OneWayCounters};
pub use self::impaired::Impaired;
pub use self::impairments::Impairments;
pub use self::link::ImpairedLink;
pub use self::quantity::{Percent, Rate};
pub use self::settings::{Distribution, Flap, GilbertElliott, LossState, OneWay};
