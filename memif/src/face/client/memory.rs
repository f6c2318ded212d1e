//! The memory of one connection, which a client makes and shares with its server.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crate::error::{OptionsError, Rejection};
use crate::face::buffer_pool::BufferPool;
use crate::face::options::{ClientOptions, FileSource};
use crate::format::message::AddRing;
use crate::format::ring::COOKIE;
use crate::mechanism::client_handshake::{Bounds, Host, Offer};
use crate::mechanism::layout::{Layout, Plan};
use crate::mechanism::ring_buffers::{FixedBuffers, RingBuffers};
use crate::memory::pool::Pool;
use crate::memory::region::{Region, Regions};
use crate::memory::ring::RingMemory;
use crate::system::event_fd::eventfd;
use crate::system::memfd;

/// Returns the most that the client asks for.
pub(super) fn requested_bounds(options: &ClientOptions) -> Bounds {
    Bounds {
        s2m: options.interface.tx_queues.into(),
        m2s: options.interface.rx_queues.into(),
        log2_ring_size: options.log2_ring_size,
    }
}

/// Makes the memory of one connection.
#[derive(Debug)]
pub(super) struct MemoryBuilder {
    buffer_size: u32,
    layout: Layout,
    /// The source of buffers, if there are any.
    pools: Vec<BufferPool>,
    /// The source of their memory, if it is the caller's.
    files: Option<FileSource>,
    /// What the link is built from.
    pub(super) built: Option<BuiltMemory>,
    /// What the server receives.
    pub(super) shared: Option<SharedMemory>,
}

/// Memory that a server has received, and can keep for as long as it likes, at this process's
/// expense.
#[derive(Debug)]
pub(super) struct SharedMemory {
    /// Gone when no queue uses them any more.
    regions: Weak<Regions>,
    files: Vec<Arc<OwnedFd>>,
}

impl SharedMemory {
    /// Frees the memory if no queue uses it any more, which leaves zeros to the server; returns
    /// whether it did.
    pub(super) fn discard_if_unused(&self) -> bool {
        if self.regions.strong_count() != 0 {
            return false;
        }
        for file in &self.files {
            if let Err(error) = memfd::discard(file) {
                tracing::debug!(%error, "the memory of a closed link stays with its server");
            }
        }
        true
    }
}

pub(super) struct BuiltMemory {
    pub(super) regions: Arc<Regions>,
    /// Each ring with its eventfd, which is not duplicated: their number is limited by that of open
    /// files.
    pub(super) rings: Vec<(AddRing, RingBuffers, Arc<OwnedFd>)>,
}

impl std::fmt::Debug for BuiltMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuiltMemory").field("rings", &self.rings.len()).finish_non_exhaustive()
    }
}

impl MemoryBuilder {
    pub(super) fn new(options: &ClientOptions) -> Self {
        Self {
            buffer_size: options.buffer_size,
            layout: options.layout,
            pools: options.buffer_pools.clone(),
            files: options.buffer_files.clone(),
            built: None,
            shared: None,
        }
    }

    /// Plans the rings, and their buffers unless these come from pools.
    pub(super) fn plan(&self, bounds: Bounds) -> Result<Plan, OptionsError> {
        let Bounds { s2m, m2s, log2_ring_size } = bounds;
        if self.files.is_some() {
            Plan::packed(s2m, m2s, log2_ring_size, self.buffer_size)
        } else if self.pools.is_empty() {
            Plan::new(s2m, m2s, log2_ring_size, self.buffer_size, self.layout)
        } else {
            Plan::rings(s2m, m2s, log2_ring_size)
        }
    }

    /// Returns the buffers of all rings: those in `regions`, made as planned, or some from the
    /// pools.
    fn buffers(&self, plan: &Plan, regions: &[Arc<Region>]) -> Result<Vec<RingBuffers>, Rejection> {
        let (region, stride) = (plan.buffer_region, plan.stride);
        if let Some(memory) = regions.get(usize::from(region)) {
            let pool = Pool::private(Arc::clone(memory), self.buffer_size);
            let size = self.buffer_size;
            let fixed = |first: &u32| FixedBuffers {
                pool: Arc::clone(&pool),
                region,
                first: *first,
                stride,
                size,
            };
            return Ok(plan.buffers.iter().map(fixed).map(RingBuffers::Fixed).collect());
        }
        let size = plan.rings.first().map_or(0, |ring| 1 << ring.log2_size);
        let take = || {
            (region..).zip(&self.pools).find_map(|(index, pool)| {
                let mut buffer = pool.pool().take()?;
                buffer.region_index = index;
                Some(buffer)
            })
        };
        let ring = || (0..size).map(|_| take()).collect::<Option<_>>().map(RingBuffers::Table);
        let all: Option<_> = plan.rings.iter().map(|_| ring()).collect();
        all.ok_or(Rejection::NoBuffers { rings: plan.rings.len(), size })
    }
}

impl Host for MemoryBuilder {
    type Fd = Arc<OwnedFd>;

    fn build(&mut self, bounds: Bounds) -> Result<Offer<Arc<OwnedFd>>, Rejection> {
        let plan = self.plan(bounds).map_err(std::io::Error::other)?;
        let mut offer = Offer { regions: Vec::new(), rings: Vec::new() };
        let (mut regions, mut files) = (Vec::new(), Vec::new());
        for (index, size) in (0..).zip(&plan.sizes) {
            let source = self.files.as_ref().filter(|_| index == plan.buffer_region);
            let (file, mut region) = match source {
                Some(source) => {
                    let file = source.file(*size)?;
                    let (region, _) =
                        memfd::map(index, file.as_fd(), *size, memfd::MAX_MAPPED, true)?;
                    (file, region)
                }
                None => memfd::create(*size)?,
            };
            let file = Arc::new(file);
            region.keep(Arc::clone(&file));
            if source.is_none() {
                files.push(Arc::clone(&file));
            }
            offer.regions.push((*size, file));
            regions.push(Arc::new(region));
        }
        let buffers = self.buffers(&plan, &regions)?;
        for pool in self.pools.iter().map(BufferPool::pool) {
            if let Some(file) = pool.file() {
                offer.regions.push((pool.region().len(), Arc::clone(file)));
                regions.push(Arc::clone(pool.region()));
            }
        }
        let regions = Arc::new(Regions::new(regions));
        let mut rings = Vec::new();
        for (place, buffers) in plan.rings.iter().zip(buffers) {
            let memory = RingMemory::new(&regions, place.region, place.offset, place.log2_size)
                .ok_or_else(|| std::io::Error::other("the plan does not fit its region"))?;
            // Relaxed: the server reads it after the message that announces the ring.
            memory.header().cookie.store(COOKIE, Ordering::Relaxed);
            let event_fd = Arc::new(eventfd()?);
            offer.rings.push((*place, Arc::clone(&event_fd)));
            rings.push((*place, buffers, event_fd));
        }
        self.shared = Some(SharedMemory { regions: Arc::downgrade(&regions), files });
        self.built = Some(BuiltMemory { regions, rings });
        Ok(offer)
    }
}
