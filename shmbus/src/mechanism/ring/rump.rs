//! A rump kernel's side of a model ring: its rules, its known faults and its assertions, from the
//! format's description alone. It shares no arithmetic with the ring it judges.

use std::sync::atomic::Ordering;

use crate::format::{Field32, Field64};
use crate::memory::Memory;

const HEADER: u32 = 24;
/// Shorter packets are passed over.
const SHORTEST: usize = 14;

/// A packet that was handed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mechanism) struct Heard {
    pub(in crate::mechanism) number: u32,
    pub(in crate::mechanism) frame: Vec<u8>,
}

/// An interface that is attached to the ring and up.
#[derive(Clone, Copy, Debug)]
pub(in crate::mechanism) struct Rump {
    generation: u64,
    next: u32,
    max_frame: u32,
}

impl Rump {
    /// Goes up: it looks at two fields without the lock, and begins with the newest packet.
    pub(in crate::mechanism) fn up(memory: &impl Memory, max_frame: u32) -> Self {
        let (next, generation) = (last(memory), generation(memory));
        Self { generation, next, max_frame }
    }

    /// One that has read up to this place.
    pub(in crate::mechanism) fn at(generation: u64, next: u32, max_frame: u32) -> Self {
        Self { generation, next, max_frame }
    }

    pub(in crate::mechanism) fn is_at(&self, offset: u32) -> bool {
        self.next == offset
    }

    /// Sends a packet.
    pub(in crate::mechanism) fn send(self, memory: &impl Memory, number: u32, frame: &[u8]) {
        assert!(frame.len() <= self.max_frame as usize, "pktsize <= ETHERMTU + ETHER_HDR_LEN");
        put(memory, number, frame);
        unlock(memory);
    }

    /// What there is, each packet under a hold of the lock of its own.
    pub(in crate::mechanism) fn receive(&mut self, memory: &impl Memory) -> Vec<Heard> {
        let mut heard = Vec::new();
        // Once around the ring in the smallest packets, and once more for a reader that is overrun.
        for _ in 0..2 * memory.data_size() / HEADER {
            let Some(packet) = self.receive_one(memory) else { return heard };
            heard.extend(Some(packet).filter(|packet| packet.frame.len() >= SHORTEST));
        }
        panic!("it reads for ever: {self:?} {}", describe(memory));
    }

    fn receive_one(&mut self, memory: &impl Memory) -> Option<Heard> {
        lock(memory);
        let (now, first, last) = (generation(memory), first(memory), last(memory));
        assert!(now >= self.generation, "shm_gen >= sc_devgen: {self:?} {}", describe(memory));
        if now == self.generation && next_of(memory, last) == self.next {
            unlock(memory);
            return None;
        }
        let mut at = self.next;
        if !self.is_still_valid(memory) {
            assert!(now > 0, "shm_gen > 0: {self:?} {}", describe(memory));
            at = first;
            self.generation = if first > last { now - 1 } else { now };
        }
        let ahead = at > last && self.generation == now;
        assert!(
            !ahead,
            "nextpkt > shm_last && sc_devgen == shm_gen: {at} {self:?} {}",
            describe(memory)
        );
        let mut reached_end = false;
        let mut header = [0; HEADER as usize];
        let body = read(memory, at, &mut header, &mut reached_end);
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().expect("four"));
        let (len, number) = (word(0), word(4));
        assert!(
            len <= self.max_frame,
            "sp_len <= ETHERMTU + ETHER_HDR_LEN: {len} at {at} {}",
            describe(memory)
        );
        let mut frame = vec![0; len as usize];
        self.next = read(memory, body, &mut frame, &mut reached_end);
        unlock(memory);
        self.generation += u64::from(reached_end);
        Some(Heard { number, frame })
    }

    fn is_still_valid(&self, memory: &impl Memory) -> bool {
        let (first, last) = (first(memory), last(memory));
        assert_ne!(first, last, "shm_first != shm_last: {}", describe(memory));
        let behind = generation(memory) - self.generation;
        let (mut position, mut end) = (self.next, next_of(memory, last));
        if behind > 1 {
            return false;
        }
        if first >= end {
            end += memory.data_size();
            if behind == 0 {
                position += memory.data_size();
            }
        } else if behind > 0 {
            return false;
        }
        first <= position && position <= end
    }
}

/// Goes over the ring as `shmif_dumpbus` does. The numbers of what it prints.
pub(in crate::mechanism) fn dump(memory: &impl Memory) -> Vec<u32> {
    let (mut at, last) = (first(memory) % memory.data_size(), last(memory));
    let mut around = last < at;
    let mut printed = Vec::new();
    for _ in 0..2 * memory.data_size() / HEADER {
        if at > last && !around {
            return printed;
        }
        let mut reached_end = false;
        let mut header = [0; HEADER as usize];
        at = read(memory, at, &mut header, &mut reached_end);
        around &= !reached_end;
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().expect("four"));
        if word(0) == 0 {
            continue;
        }
        printed.push(word(4));
        reached_end = false;
        at = read(memory, at, &mut vec![0; word(0) as usize], &mut reached_end);
        around &= !reached_end;
    }
    panic!("it dumps for ever: {}", describe(memory));
}

/// A wake-up as two threads of a rump kernel make it that wake at the same moment: the version lands
/// on `generation`, on its low half (`word` 0) or its high one (1).
pub(in crate::mechanism) fn stray_wakeup(memory: &impl Memory, word: usize) {
    let mut bytes = generation(memory).to_ne_bytes();
    bytes[4 * word..][..4].copy_from_slice(&3_u32.to_ne_bytes());
    memory.store64(Field64::Generation, u64::from_ne_bytes(bytes), Ordering::Relaxed);
}

/// Takes the lock and writes a packet, without releasing the lock.
pub(in crate::mechanism) fn put(memory: &impl Memory, number: u32, frame: &[u8]) {
    lock(memory);
    let at = next_of(memory, last(memory));
    memory.store32(Field32::Last, at, Ordering::Relaxed);
    let mut reached_end = false;
    let len = u32::try_from(frame.len()).expect("short");
    let mut header = [0xa5; HEADER as usize];
    header[0..4].copy_from_slice(&len.to_ne_bytes());
    header[4..8].copy_from_slice(&number.to_ne_bytes());
    let body = write(memory, at, &header, &mut reached_end);
    write(memory, body, frame, &mut reached_end);
    if reached_end {
        memory.store64(Field64::Generation, generation(memory) + 1, Ordering::Relaxed);
    }
}

fn first(memory: &impl Memory) -> u32 {
    memory.load32(Field32::First, Ordering::Relaxed)
}

fn last(memory: &impl Memory) -> u32 {
    memory.load32(Field32::Last, Ordering::Relaxed)
}

fn generation(memory: &impl Memory) -> u64 {
    memory.load64(Field64::Generation, Ordering::Relaxed)
}

fn describe(memory: &impl Memory) -> String {
    format!("generation {} first {} last {}", generation(memory), first(memory), last(memory))
}

/// The lock is the first half of the word, and the other half is not looked at.
fn halves(memory: &impl Memory) -> [u8; 8] {
    memory.load64(Field64::Lock, Ordering::Relaxed).to_ne_bytes()
}

fn set_lock(memory: &impl Memory, value: u32) {
    let mut word = halves(memory);
    word[..4].copy_from_slice(&value.to_ne_bytes());
    memory.store64(Field64::Lock, u64::from_ne_bytes(word), Ordering::Relaxed);
}

fn lock(memory: &impl Memory) {
    assert_eq!(halves(memory)[..4], [0; 4], "it waits for the lock for ever");
    set_lock(memory, 1);
}

fn unlock(memory: &impl Memory) {
    assert_eq!(halves(memory)[..4], 1_u32.to_ne_bytes(), "old == LOCK_LOCKED");
    set_lock(memory, 0);
}

fn next_of(memory: &impl Memory, at: u32) -> u32 {
    let size = memory.data_size();
    let mut len = [0; 4];
    read(memory, at, &mut len, &mut false);
    let len = u32::from_ne_bytes(len);
    assert!(len < size, "sp_len < BUSMEM_DATASIZE");
    let next = at + HEADER + len;
    if next >= size { next - size } else { next }
}

fn read(memory: &impl Memory, at: u32, bytes: &mut [u8], reached_end: &mut bool) -> u32 {
    let size = memory.data_size();
    assert!(at <= size, "off <= BUSMEM_DATASIZE");
    let (ahead, around) = bytes.split_at_mut(bytes.len().min((size - at) as usize));
    let end = at + u32::try_from(ahead.len()).expect("short");
    if !ahead.is_empty() {
        memory.copy_out(at, ahead);
    }
    *reached_end |= end == size;
    if around.is_empty() {
        return end % size;
    }
    memory.copy_out(0, around);
    u32::try_from(around.len()).expect("short")
}

fn write(memory: &impl Memory, at: u32, bytes: &[u8], reached_end: &mut bool) -> u32 {
    let size = memory.data_size();
    let (ahead, around) = bytes.split_at(bytes.len().min((size - at) as usize));
    let end = at + u32::try_from(ahead.len()).expect("short");
    advance_first(memory, at, end + u32::from(end == size));
    memory.copy_in(at, ahead);
    *reached_end |= end == size;
    if around.is_empty() {
        return end % size;
    }
    let end = u32::try_from(around.len()).expect("short");
    advance_first(memory, 0, end);
    memory.copy_in(0, around);
    end
}

fn advance_first(memory: &impl Memory, from: u32, to: u32) {
    let mut first = first(memory);
    while from <= first + HEADER && to > first {
        first = next_of(memory, first);
        memory.store32(Field32::First, first, Ordering::Relaxed);
    }
}
