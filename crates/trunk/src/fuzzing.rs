//! The body of the fuzz target for trunks, and the test that replays its seeds: an end among others that
//! say anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use port::trunk::Via;
use port::vxlan::{Overlay as _, Remotes};

use crate::batch;
use crate::ends::Ends;
use crate::exchange::Exchange;
use crate::probe::Probe;
use crate::token::{EndId, Token, sender_of};

/// The longest frame of the bus.
const LONGEST: usize = 1_514;

/// Pieces of the input, each with a byte in front that says what it is and one with its length, are
/// keys of tokens that come or go, datagrams of other ends or strangers, messages, and frames of the
/// bus; meanwhile time passes.
///
/// What is read reads back as it is written, frames lie within their message, and no probe is longer
/// than the longest frame.
///
/// # Panics
/// When that does not hold, or without descriptors.
pub fn ends(data: &[u8]) {
    let (exchange, outgoing, messages) = Exchange::new().expect("a descriptor");
    let exchange = Arc::new(exchange);
    let mut now = Instant::now();
    let mut remotes = Remotes::of_overlay(Some(1_000));
    let mut ends = Ends::new(EndId(1), 42, Via::Auto, false, Arc::clone(&exchange), outgoing);
    ends.attach(LONGEST);
    ends.set_local(Ok(Some(SocketAddr::from(([10, 0, 0, 1], 4_789)))));
    let mut rest = data;
    while let [what, len, more @ ..] = rest {
        let (bytes, after) = more.split_at(more.len().min(usize::from(*len)));
        rest = after;
        let other = EndId(u64::from(what >> 4));
        match what % 8 {
            0 | 1 => {
                let key = String::from_utf8_lossy(bytes);
                sender_of(&key);
                if let Some(token) = Token::parse(&key, "lab") {
                    assert_eq!(Token::parse(&token.key("lab"), "lab"), Some(token.clone()));
                    if what % 8 == 0 {
                        exchange.came(token);
                    } else {
                        exchange.went(&token);
                    }
                }
            }
            2 | 3 => {
                if let Some(probe) = Probe::parse(bytes) {
                    assert_eq!(Probe::parse(&probe.to_datagram(bytes.len())), Some(probe));
                }
                let sender = [10, 0, 0, what >> 4].into();
                ends.take_datagram(bytes, sender, now, &mut remotes);
            }
            4 => {
                let mut ranges = Vec::new();
                if batch::read(bytes, &mut ranges).is_ok() {
                    assert!(
                        ranges.iter().all(|range| range.end <= bytes.len() && range.len() >= 14)
                    );
                }
                exchange.received(other, bytes.to_vec());
                if ends.take_batch(&mut remotes).is_some() {
                    let (message, ranges) = ends.batch();
                    assert!(ranges.iter().all(|range| message.get(range.clone()).is_some()));
                }
            }
            5 => {
                ends.relay(usize::from(what >> 4), bytes, now);
            }
            6 => ends.release(&mut |_, frame| assert!(frame.len() >= 14)),
            _ => now += Duration::from_millis(u64::from(*len)),
        }
        ends.advance(now, &mut remotes, &mut |_, datagram| {
            assert!(datagram.len() <= (8 + LONGEST).max(u8::MAX.into()));
        });
        while let Ok(message) = messages.try_recv() {
            assert!(batch::read(&message.bytes, &mut Vec::new()).is_ok());
        }
    }
    ends.report(&mut |_| {});
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seeds: a token that comes, a probe of it, a message, a frame, and time between.
    #[test]
    fn seeds_and_what_is_near_them() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../port/fuzz/seeds/trunk");
        let mut random = fastrand::Rng::with_seed(17);
        let mut count = 0;
        for entry in std::fs::read_dir(folder).expect("seeds") {
            let seed = std::fs::read(entry.expect("an entry").path()).expect("a seed");
            count += 1;
            ends(&seed);
            for _ in 0..200 {
                let mut near = seed.clone();
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(..near.len());
                    near[at] = random.u8(..);
                }
                near.truncate(random.usize(near.len() / 2..=near.len()));
                ends(&near);
            }
        }
        assert_eq!(count, 3);
    }
}
