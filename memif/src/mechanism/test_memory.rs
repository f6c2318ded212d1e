//! The memory of a client, for tests of the rings in it.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::Side;
use super::layout::{Layout, Plan};
use super::ring_buffers::{FixedBuffers, RingBuffers};
use super::rx::RxRing;
use super::tx::TxRing;
use crate::memory::pool::Pool;
use crate::memory::region::{Region, Regions};
use crate::memory::ring::RingMemory;

/// One client's memory, over which any end of its two rings can be made.
pub(super) struct Memory {
    pub(super) plan: Plan,
    pub(super) regions: Arc<Regions>,
    pub(super) pool: Arc<Pool>,
}

impl Memory {
    pub(super) fn new(log2_size: u8, buffer_size: u32) -> Self {
        let plan = Plan::new(1, 1, log2_size, buffer_size, Layout::OneRegion).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(plan.sizes[0]).unwrap();
        let region = Arc::new(Region::map(file.as_fd(), plan.sizes[0], 1, false).unwrap());
        let pool = Pool::private(Arc::clone(&region), buffer_size);
        Self { plan, regions: Arc::new(Regions::new(vec![region])), pool }
    }

    /// 0 is S2M, 1 is M2S.
    pub(super) fn ring(&self, n: usize) -> RingMemory {
        let place = self.plan.rings[n];
        RingMemory::new(&self.regions, place.region, place.offset, place.log2_size).unwrap()
    }

    pub(super) fn client(&self, n: usize) -> Side {
        let (first, stride, pool) =
            (self.plan.buffers[n], self.plan.stride, Arc::clone(&self.pool));
        let size = pool.buffer_size();
        Side::Client(RingBuffers::Fixed(FixedBuffers { pool, region: 0, first, stride, size }))
    }

    pub(super) fn s2m(&self) -> (TxRing, RxRing) {
        (
            TxRing::new(self.ring(0), self.client(0), 0),
            RxRing::new(self.ring(0), Side::Server, 0, true, 0, false),
        )
    }

    pub(super) fn m2s(&self) -> (TxRing, RxRing) {
        let rx = RxRing::new(self.ring(1), self.client(1), 0, true, 0, false);
        (TxRing::new(self.ring(1), Side::Server, 0), rx)
    }
}
