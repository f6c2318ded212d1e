//! Where rings and buffers lie: what a client plans for its memory, and what a server accepts from
//! a client.

use crate::error::{OptionsError, ProtocolError, RingError};
use crate::format::message::AddRing;
use crate::format::ring::{RING_ALIGN, ring_bytes};

/// Returns the direction's name in the protocol.
pub(crate) fn direction(s2m: bool) -> &'static str {
    if s2m { "S2M" } else { "M2S" }
}

/// Checks that every ring lies wholly in an announced region, on a descriptor's boundary, and
/// overlaps no other ring. `regions` holds the regions' sizes.
pub(crate) fn check_rings(regions: &[u64], rings: &[AddRing]) -> Result<(), ProtocolError> {
    let error = |ring: &AddRing, cause| ProtocolError::Ring {
        direction: direction(ring.s2m),
        index: ring.index,
        cause,
    };
    let mut taken = Vec::with_capacity(rings.len());
    for ring in rings {
        let Some(size) = regions.get(usize::from(ring.region)) else {
            return Err(error(ring, RingError::Region { region: ring.region }));
        };
        let start = u64::from(ring.offset);
        if !start.is_multiple_of(RING_ALIGN) {
            return Err(error(ring, RingError::Unaligned { offset: ring.offset }));
        }
        let end = start + ring_bytes(ring.log2_size);
        if end > *size {
            return Err(error(ring, RingError::Outside));
        }
        taken.push((ring.region, start, end, ring));
    }
    taken.sort_unstable_by_key(|(region, start, ..)| (*region, *start));
    match taken.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].2 > pair[1].1) {
        Some(pair) => Err(error(pair[1].3, RingError::Overlap)),
        None => Ok(()),
    }
}

/// How many regions a client makes of its memory. Every server accepts both layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Layout {
    /// Rings and buffers in one region, as DPDK lays them out.
    #[default]
    OneRegion,
    /// Rings in region 0 and buffers in region 1, as libmemif lays them out: a program that may see
    /// packets needs no access to the rings, and the other way round.
    TwoRegions,
}

/// A client's memory: S2M rings, M2S rings, then a buffer for every descriptor, in one region or
/// two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The size of each region in bytes.
    pub(crate) sizes: Vec<u64>,
    /// The region of the buffers.
    pub(crate) buffer_region: u16,
    /// S2M rings first, then M2S rings.
    pub(crate) rings: Vec<AddRing>,
    /// For each ring, where its first buffer begins.
    pub(crate) buffers: Vec<u32>,
    /// The distance from one buffer to the next, in bytes.
    pub(crate) stride: u32,
}

/// Buffers begin on cache lines, an odd number of lines apart: at a distance of 2,048 bytes, the
/// first lines of all buffers would share two sets of a first-level cache. With small packets this
/// triples the rate (110 instead of 33 million packets/s of 64 bytes, two processes on two cores).
const CACHE_LINE: u64 = 64;

impl Plan {
    /// Plans `s2m` and `m2s` rings of `1 << log2_size` descriptors, and a buffer of `buffer_size`
    /// bytes for each descriptor.
    pub(crate) fn new(
        s2m: u16,
        m2s: u16,
        log2_size: u8,
        buffer_size: u32,
        layout: Layout,
    ) -> Result<Self, OptionsError> {
        let rings_end = (u64::from(s2m) + u64::from(m2s)) * ring_bytes(log2_size);
        let lines = u64::from(buffer_size).div_ceil(CACHE_LINE);
        let stride = (lines | 1) * CACHE_LINE;
        let (sizes, first) = match layout {
            Layout::OneRegion => (vec![], rings_end.next_multiple_of(CACHE_LINE)),
            Layout::TwoRegions => (vec![rings_end], 0),
        };
        let per_ring = stride << log2_size;
        let size = first + (u64::from(s2m) + u64::from(m2s)) * per_ring;
        let buffer_region = u16::try_from(sizes.len()).unwrap_or(0);
        let sizes = [sizes, vec![size]].concat();
        let too_large = |_| OptionsError::Memory { bytes: size };
        // With the whole region below 4 GiB, every offset in it fits its 32 bits.
        u32::try_from(size).map_err(too_large)?;
        let rings = place_rings(s2m, m2s, log2_size)?;
        let first_of = |n| u32::try_from(first + n * per_ring).map_err(too_large);
        let buffers = (0..rings.len() as u64).map(first_of).collect::<Result<_, _>>()?;
        Ok(Self {
            sizes,
            buffer_region,
            rings,
            buffers,
            stride: u32::try_from(stride).map_err(too_large)?,
        })
    }

    /// Plans rings in region 0, and a buffer of `buffer_size` bytes for each descriptor back to back
    /// in region 1, which is not made here.
    pub(crate) fn packed(
        s2m: u16,
        m2s: u16,
        log2_size: u8,
        buffer_size: u32,
    ) -> Result<Self, OptionsError> {
        let rings = Self::rings(s2m, m2s, log2_size)?;
        let per_ring = u64::from(buffer_size) << log2_size;
        let bytes = rings.rings.len() as u64 * per_ring;
        let too_large = |_| OptionsError::Memory { bytes };
        u32::try_from(bytes).map_err(too_large)?;
        let first_of = |n| u32::try_from(n * per_ring).map_err(too_large);
        let buffers = (0..rings.rings.len() as u64).map(first_of).collect::<Result<_, _>>()?;
        Ok(Self { sizes: vec![rings.sizes[0], bytes], buffers, stride: buffer_size, ..rings })
    }

    /// Plans rings alone, in region 0. Their buffers come from pools.
    pub(crate) fn rings(s2m: u16, m2s: u16, log2_size: u8) -> Result<Self, OptionsError> {
        let rings = place_rings(s2m, m2s, log2_size)?;
        let sizes = vec![rings.len() as u64 * ring_bytes(log2_size)];
        Ok(Self { sizes, buffer_region: 1, rings, buffers: Vec::new(), stride: 0 })
    }
}

/// Places S2M rings, then M2S rings, back to back from the beginning of region 0.
fn place_rings(s2m: u16, m2s: u16, log2_size: u8) -> Result<Vec<AddRing>, OptionsError> {
    let directions =
        (0..s2m).map(|index| (true, index)).chain((0..m2s).map(|index| (false, index)));
    let place = |((s2m, index), n): ((bool, u16), u64)| {
        let bytes = n * ring_bytes(log2_size);
        let offset = u32::try_from(bytes).map_err(|_| OptionsError::Memory { bytes })?;
        Ok(AddRing { s2m, index, region: 0, offset, log2_size, private_header: 0 })
    };
    directions.zip(0..).map(place).collect()
}

/// Returns where buffers of `buffer_size` bytes lie in memory of `size` bytes that holds only
/// buffers.
pub(crate) fn carve(size: u64, buffer_size: u32) -> Vec<u32> {
    let stride = (u64::from(buffer_size).div_ceil(CACHE_LINE) | 1) * CACHE_LINE;
    let starts =
        (0..).map(|n| n * stride).take_while(|start| start + u64::from(buffer_size) <= size);
    // A descriptor cannot name a buffer that begins beyond 4 GiB.
    starts.map_while(|start| u32::try_from(start).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(s2m: bool, region: u16, offset: u32, log2_size: u8) -> AddRing {
        AddRing { s2m, index: 0, region, offset, log2_size, private_header: 0 }
    }

    fn cause(regions: &[u64], rings: &[AddRing]) -> Option<RingError> {
        match check_rings(regions, rings) {
            Err(ProtocolError::Ring { cause, .. }) => Some(cause),
            _ => None,
        }
    }

    #[test]
    fn rings_lie_where_other_peers_put_them() {
        let plan = Plan::new(1, 1, 10, 2_048, Layout::OneRegion).unwrap();
        assert_eq!(plan.rings[0].offset, 0);
        assert_eq!(plan.rings[1].offset, 16_512);
        assert!(plan.buffers[0] >= 33_024);
    }

    #[test]
    fn any_legal_layout_is_accepted() {
        let rings = [ring(true, 1, 144, 0), ring(false, 1, 0, 0), ring(false, 0, 4_096, 3)];
        assert_eq!(check_rings(&[4_096 + 256, 288], &rings), Ok(()));
    }

    #[test]
    fn illegal_places_are_named() {
        assert_eq!(
            cause(&[100_000], &[ring(true, 1, 0, 4)]),
            Some(RingError::Region { region: 1 })
        );
        assert_eq!(
            cause(&[100_000], &[ring(true, 0, 8, 4)]),
            Some(RingError::Unaligned { offset: 8 })
        );
        assert_eq!(cause(&[383], &[ring(true, 0, 0, 4)]), Some(RingError::Outside));
        assert_eq!(cause(&[100_000], &[ring(true, 0, u32::MAX - 15, 4)]), Some(RingError::Outside));
        let overlapping = [ring(true, 0, 0, 4), ring(false, 0, 368, 4)];
        assert_eq!(cause(&[100_000], &overlapping), Some(RingError::Overlap));
        assert_eq!(
            cause(&[100_000], &[ring(true, 0, 0, 4), ring(false, 0, 0, 4)]),
            Some(RingError::Overlap)
        );
    }

    #[test]
    fn memory_is_carved_to_its_last_byte() {
        assert_eq!(carve(64 * 7 - 1, 128), [0, 192]);
        assert_eq!(carve(128 + 192, 128), [0, 192]);
        assert_eq!(carve(127, 128), [0; 0]);
        assert!(u64::from(*carve(1 << 34, 65_535).last().unwrap()) < 1 << 32);
    }

    proptest! {
        #[test]
        fn every_plan_passes_the_other_side(s2m in 1u16..=255, m2s in 1u16..=255, log2 in 1u8..=14, buffer in 64u32..=65_535, two: bool) {
            let lines = u64::from(buffer) + 128;
            let rough = u64::from(s2m + m2s) * ((lines + 16) << log2);
            match Plan::new(s2m, m2s, log2, buffer, if two { Layout::TwoRegions } else { Layout::OneRegion }) {
                Ok(plan) => {
                    prop_assert_eq!(check_rings(&plan.sizes, &plan.rings), Ok(()));
                    prop_assert_eq!(plan.sizes.len(), 1 + usize::from(two));
                    prop_assert!(plan.stride >= buffer);
                    let last = u64::from(*plan.buffers.last().unwrap()) + (u64::from(plan.stride) << log2);
                    prop_assert_eq!(last, plan.sizes[usize::from(plan.buffer_region)]);
                }
                Err(_) => prop_assert!(rough >= u64::from(u32::MAX) - (1 << 24)),
            }
        }
    }
}
