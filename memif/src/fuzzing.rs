//! The bodies of the fuzz targets, and the tests that replay their seeds: arbitrary bytes for the
//! floors that read a peer's bytes. Each function panics when a promise is broken.
//!
//! `fuzz/` is a workspace of its own; its README says how to run it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crate::error::{ProtocolError, Rejection};
use crate::format::message::{Init, MESSAGE_LEN, Message, Name};
use crate::format::ring::Descriptor;
use crate::format::secret::Secret;
use crate::format::{MAX_LOG2_RING_SIZE_ACCEPTED, VERSION};
use crate::mechanism::Side;
use crate::mechanism::client_handshake::{self, Bounds, ClientHandshake, Offer};
use crate::mechanism::layout::{Layout, Plan, check_rings};
use crate::mechanism::ring_buffers::{FixedBuffers, RingBuffers};
use crate::mechanism::rx::{BurstLimit, RxRing};
use crate::mechanism::server_handshake::{self, Limits, ServerHandshake};
use crate::mechanism::tx::TxRing;
use crate::memory::pool::Pool;
use crate::memory::region::Regions;
use crate::memory::ring::RingMemory;
use crate::system::memfd;

/// Decodes one message: a message that decodes must encode and decode to the same again.
pub fn message(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        let again = Message::decode(&message.encode()).expect("an encoded message decodes");
        assert_eq!(format!("{message:?}"), format!("{again:?}"));
    }
}

struct Anyone;

impl server_handshake::Host for Anyone {
    type Fd = ();
    type Region = u64;
    fn admit(&mut self, init: &Init) -> Result<Limits, Rejection> {
        if init.id == 9 {
            Err(Rejection::UnknownId { id: 9 })
        } else {
            Ok(Limits { s2m: 3, m2s: 2 })
        }
    }
    fn map(&mut self, _: u16, (): (), size: u64) -> Result<(u64, u64), ProtocolError> {
        Ok((size, size))
    }

    fn can_interrupt(&self, (): &()) -> bool {
        true
    }
}

impl client_handshake::Host for Anyone {
    type Fd = ();
    fn build(&mut self, bounds: Bounds) -> Result<Offer<()>, Rejection> {
        assert!(
            (1..=3).contains(&bounds.s2m)
                && (1..=2).contains(&bounds.m2s)
                && bounds.log2_ring_size <= 9
        );
        let plan = Plan::new(bounds.s2m, bounds.m2s, bounds.log2_ring_size, 64, Layout::OneRegion);
        let plan = plan.expect("these bounds fit");
        let rings = plan.rings.iter().map(|ring| (*ring, ())).collect();
        Ok(Offer { regions: vec![(plan.sizes[0], ())], rings })
    }
}

/// Runs a handshake with either half. Each step is a byte, whose low bits are the number of
/// descriptors, and a message.
pub fn handshake(data: &[u8]) {
    let steps = || {
        data.chunks(1 + MESSAGE_LEN).map_while(|step| {
            Some((usize::from(*step.first()? & 3), Message::decode(&step[1..]).ok()?))
        })
    };
    let mut server = ServerHandshake::new();
    let mut up = false;
    for (fds, message) in steps() {
        match server.receive(message, vec![(); fds], &mut Anyone) {
            Ok(server_handshake::Step::Establish(setup)) => {
                assert!(!up, "connected twice");
                up = true;
                let places: Vec<_> = setup.rings.iter().map(|(ring, ())| *ring).collect();
                assert_eq!(check_rings(&setup.regions, &places), Ok(()));
                let s2m = places.iter().filter(|ring| ring.s2m).count();
                assert!((1..=3).contains(&s2m) && (1..=2).contains(&(places.len() - s2m)));
                assert!(places.iter().all(|ring| ring.log2_size <= MAX_LOG2_RING_SIZE_ACCEPTED));
            }
            Ok(_) => {}
            Err(rejection) => {
                assert!(!rejection.name().is_empty());
                break;
            }
        }
    }
    let secret = Secret::from_wire([0; 24]);
    let init = Init { version: VERSION, id: 0, mode: 0, secret, app_name: Name::new("app") };
    let mut client =
        ClientHandshake::new(Bounds { s2m: 3, m2s: 2, log2_ring_size: 9 }, init, Name::new("if"));
    for (fds, message) in steps() {
        if client.receive(message, fds, &mut Anyone).is_err() {
            break;
        }
    }
}

/// Does one store of the peer, which 16 bytes of the input describe.
fn store(step: &[u8; 16], rings: &[RingMemory; 2]) {
    let [kind, slot, low, high, rest @ ..] = *step;
    let ring = &rings[usize::from(kind & 1)];
    let index = u16::from_le_bytes([low, high]);
    match kind >> 1 & 3 {
        0 => ring.header().head.store(index, Relaxed),
        1 => ring.header().tail.store(index, Relaxed),
        2 => ring.header().flags.store(index, Relaxed),
        _ => {
            let [l0, l1, l2, l3, o0, o1, o2, o3, m0, m1, m2, m3] = rest;
            let descriptor = Descriptor {
                // Mostly nearly valid.
                flags: u16::from(low & 1),
                region: u16::from(high >> 6),
                length: u32::from_le_bytes([l0, l1, l2, l3]),
                offset: u32::from_le_bytes([o0, o1, o2, o3]),
                metadata: u32::from_le_bytes([m0, m1, m2, m3]),
            };
            ring.set_descriptor(slot.into(), descriptor);
        }
    }
}

/// Runs rings of either role while a peer stores arbitrary values on another thread: packets lie
/// within bounds, and counts are right.
pub fn rings(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let plan = Plan::new(1, 1, 3, 64, Layout::OneRegion).expect("small");
    let Ok((_file, region)) = memfd::create(plan.sizes[0]) else { return };
    let region = Arc::new(region);
    let pool = Pool::private(Arc::clone(&region), 64);
    let regions = Arc::new(Regions::new(vec![region]));
    let ring =
        |n: usize| RingMemory::new(&regions, 0, plan.rings[n].offset, 3).expect("as planned");
    let is_server = first & 1 == 0;
    let side = |n: usize| {
        let (pool, first, stride) = (Arc::clone(&pool), plan.buffers[n], plan.stride);
        let ours = RingBuffers::Fixed(FixedBuffers { pool, region: 0, first, stride, size: 64 });
        if is_server { Side::Server } else { Side::Client(ours) }
    };
    let (from, to) = if is_server { (0, 1) } else { (1, 0) };
    let mut rx = RxRing::new(ring(from), side(from), 0, true, 0, false);
    let mut tx = TxRing::new(ring(to), side(to), 0);
    let (steps, _) = data.as_chunks::<16>();
    let peers = [ring(0), ring(1)];
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            while !done.load(Relaxed) {
                for step in steps {
                    store(step, &peers);
                }
                std::thread::yield_now();
            }
        });
        // Some stores are done on this thread, so that their order is known.
        let mine = [ring(0), ring(1)];
        for step in steps.iter().chain(steps) {
            store(step, &mine);
            if let Ok(packets) = rx.collect(BurstLimit::packets(5)) {
                assert!(packets <= 5 && rx.burst().len() <= 8);
                let mut copy = [0; 4_096];
                for descriptor in rx.burst() {
                    assert_eq!(rx.bytes(descriptor).len(), descriptor.length as usize);
                    assert!(rx.copy(descriptor, &mut copy).is_some());
                }
                rx.give_back(rx.burst().len());
            }
            if let Ok(Some(start)) = tx.reserve(usize::from(first)) {
                let room: usize = tx.pending(start).iter().map(|piece| tx.bytes(piece).len()).sum();
                assert_eq!(room, usize::from(first));
                tx.publish();
            }
            let _ = rx.arm();
        }
        done.store(true, Relaxed);
    });
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Runs a target on all of its committed seeds.
    fn replay(target: &str, run: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds").join(target);
        let seeds: Vec<_> = fs::read_dir(&folder)
            .expect("seeds")
            .map(|entry| entry.expect("a seed").path())
            .collect();
        assert!(!seeds.is_empty());
        for seed in seeds {
            run(&fs::read(&seed).expect("a file"));
        }
    }

    #[test]
    fn messages_replay() {
        replay("message", super::message);
    }

    #[test]
    fn handshakes_replay() {
        replay("handshake", super::handshake);
    }

    #[test]
    fn rings_replay() {
        replay("rings", super::rings);
    }
}
