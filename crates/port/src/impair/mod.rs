//! Impairments: links that misbehave on purpose, in the words of netem.
//!
//! An [`ImpairedLink`] is given frames and says which are due. Each direction has a lane, which
//! decides over each frame and keeps copies of those that are to come later. The decisions are a
//! function of the settings, the seed and the traffic, so a test can be repeated.
//!
//! The impairments can be changed at any time, with an [`ImpairHandle`]. [`Impaired`] wraps a port
//! with such a link.
//!
//! [`Impaired`]: crate::Impaired

mod handle;
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
pub use self::impairments::Impairments;
pub use self::link::ImpairedLink;
pub use self::quantity::{Percent, Rate};
pub use self::settings::{Distribution, Flap, GilbertElliott, LossState, OneWay};
