//! Which remote the stations are behind, learned from the frames that come from there.
//!
//! A remote may claim any number of addresses, so each has room for a share of them only. An address
//! that no frame has come from for five minutes is forgotten.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The address of a station.
pub(super) type Mac = [u8; 6];

/// After this time without a frame an address is forgotten, as bridges have it.
const MAX_AGE: Duration = Duration::from_mins(5);
/// The most addresses of one remote, and of all.
const MAX_OF_REMOTE: usize = 4_096;
const MAX_OF_ALL: usize = 65_536;

/// See the module. A remote is known by its number.
#[derive(Debug, Default)]
pub(super) struct Table {
    stations: HashMap<Mac, Seen>,
    /// How many addresses each remote has.
    counts: HashMap<usize, usize>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    remote: usize,
    at: Instant,
}

/// Returns whether an address is that of one station.
pub(super) fn is_of_one(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

impl Table {
    /// Notes that a frame from `mac` has come from `remote`. Where that has no room for another
    /// address, nothing is noted, and frames to `mac` go to all.
    pub(super) fn learn(&mut self, mac: Mac, remote: usize, now: Instant) {
        if let Some(seen) = self.stations.get_mut(&mac)
            && seen.remote == remote
        {
            seen.at = now;
            return;
        }
        if !is_of_one(mac) {
            return;
        }
        // It may have moved.
        self.forget(mac);
        let count = self.counts.entry(remote).or_default();
        if *count < MAX_OF_REMOTE && self.stations.len() < MAX_OF_ALL {
            *count += 1;
            self.stations.insert(mac, Seen { remote, at: now });
        }
    }

    /// Returns the remote that `mac` is behind, if that is known.
    pub(super) fn remote_of(&self, mac: Mac, now: Instant) -> Option<usize> {
        let seen = self.stations.get(&mac)?;
        (now.saturating_duration_since(seen.at) < MAX_AGE).then_some(seen.remote)
    }

    /// Forgets an address.
    pub(super) fn forget(&mut self, mac: Mac) {
        if let Some(seen) = self.stations.remove(&mac) {
            self.count_down(seen.remote);
        }
    }

    /// Forgets the addresses that are too old.
    pub(super) fn age(&mut self, now: Instant) {
        self.retain(|seen| now.saturating_duration_since(seen.at) < MAX_AGE);
    }

    /// Forgets the addresses of a remote.
    pub(super) fn forget_remote(&mut self, remote: usize) {
        self.retain(|seen| seen.remote != remote);
    }

    fn retain(&mut self, stays: impl Fn(&Seen) -> bool) {
        let counts = &mut self.counts;
        self.stations.retain(|_, seen| {
            let stays = stays(seen);
            if !stays && let Some(count) = counts.get_mut(&seen.remote) {
                *count -= 1;
            }
            stays
        });
        counts.retain(|_, count| *count > 0);
    }

    fn count_down(&mut self, remote: usize) {
        if let Some(count) = self.counts.get_mut(&remote) {
            *count -= 1;
        }
    }

    /// Returns how many addresses a remote has.
    pub(super) fn count_of(&self, remote: usize) -> usize {
        self.counts.get(&remote).copied().unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stations.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(number: usize) -> Mac {
        let [.., a, b, c, d] = number.to_be_bytes();
        [2, 0, a, b, c, d]
    }

    #[test]
    fn a_station_is_where_it_was_seen_last() {
        let (mut table, now) = (Table::default(), Instant::now());
        table.learn(mac(1), 0, now);
        table.learn(mac(2), 0, now);
        table.learn(mac(1), 7, now);
        assert_eq!(table.remote_of(mac(1), now), Some(7));
        assert_eq!(table.remote_of(mac(2), now), Some(0));
        assert_eq!(table.remote_of(mac(3), now), None);
        assert_eq!((table.count_of(0), table.count_of(7)), (1, 1));
        table.forget_remote(7);
        assert_eq!((table.remote_of(mac(1), now), table.count_of(7)), (None, 0));
        table.learn([0xff; 6], 0, now);
        table.learn([0; 6], 0, now);
        assert_eq!(table.count_of(0), 1, "neither is a station");
    }

    #[test]
    fn silent_stations_are_forgotten() {
        let (mut table, start) = (Table::default(), Instant::now());
        let half = MAX_AGE / 2;
        table.learn(mac(1), 0, start);
        table.learn(mac(2), 0, start);
        table.learn(mac(1), 0, start + half);
        let now = start + MAX_AGE;
        assert_eq!(table.remote_of(mac(1), now), Some(0));
        assert_eq!(table.remote_of(mac(2), now), None);
        table.age(now);
        assert_eq!((table.count_of(0), table.is_empty()), (1, false));
        table.age(start + half + MAX_AGE);
        assert!(table.is_empty());
    }

    #[test]
    fn a_remote_has_a_share_of_the_room() {
        let (mut table, now) = (Table::default(), Instant::now());
        for number in 0..3 * MAX_OF_REMOTE {
            table.learn(mac(number), 0, now);
        }
        assert_eq!(table.count_of(0), MAX_OF_REMOTE);
        table.learn(mac(1 << 20), 1, now);
        assert_eq!(table.remote_of(mac(1 << 20), now), Some(1));
        // What has moved to another remote makes room.
        table.learn(mac(0), 1, now);
        table.learn(mac(1 << 21), 0, now);
        assert_eq!(table.remote_of(mac(1 << 21), now), Some(0));
    }
}
