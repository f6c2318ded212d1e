//! Which frames a station hands up, by its addresses.

use macaddr::MacAddr6;

use crate::mechanism::sleepers::Interest;

const BROADCAST: [u8; 6] = [0xff; 6];

/// The addresses a station listens to. A station drops its own frames before this is asked.
#[derive(Clone, Debug)]
pub(crate) struct AddressFilter {
    pub(crate) mac: [u8; 6],
    pub(crate) promiscuous: bool,
    /// Multicast addresses; none: all of them, as a shmif has it.
    groups: Vec<[u8; 6]>,
}

impl AddressFilter {
    pub(crate) fn new(mac: MacAddr6, promiscuous: bool) -> Self {
        Self { mac: mac.into_array(), promiscuous, groups: Vec::new() }
    }

    /// Whether a frame to `destination` is for this station.
    #[inline]
    pub(crate) fn wants(&self, destination: [u8; 6]) -> bool {
        if self.promiscuous || destination == self.mac || destination == BROADCAST {
            return true;
        }
        // The lowest bit of the first byte marks a group.
        destination[0] & 1 == 1 && (self.groups.is_empty() || self.groups.contains(&destination))
    }

    /// Replaces the list of groups. Addresses that are not multicast are left out, and so is the
    /// broadcast address, which every station receives.
    pub(crate) fn set_groups(&mut self, groups: impl IntoIterator<Item = MacAddr6>) {
        self.groups.clear();
        self.groups
            .extend(groups.into_iter().filter(MacAddr6::is_multicast).map(MacAddr6::into_array));
        self.groups.retain(|group| *group != BROADCAST);
        self.groups.sort_unstable();
        self.groups.dedup();
    }

    /// What the station is woken for.
    pub(crate) fn interest(&self) -> Interest {
        Interest::new([self.mac]).promiscuous(self.promiscuous).groups(self.listed_groups())
    }

    /// The groups of the list; without any, all groups are wanted.
    pub(crate) fn listed_groups(&self) -> impl Iterator<Item = [u8; 6]> {
        self.groups.iter().copied()
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = MacAddr6> {
        self.groups.iter().map(|group| MacAddr6::from(*group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: MacAddr6 = MacAddr6::new(0xb2, 0xa0, 0, 0, 0, 1);
    const OTHER: [u8; 6] = [0xb2, 0xa0, 0, 0, 0, 2];
    const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
    const OTHER_GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

    #[test]
    fn a_station_receives_its_own_address_groups_and_broadcasts() {
        let mut filter = AddressFilter::new(MINE, false);
        assert!(filter.wants(MINE.into_array()) && filter.wants(BROADCAST));
        assert!(filter.wants(GROUP) && filter.wants(OTHER_GROUP), "no list: all groups");
        assert!(!filter.wants(OTHER));
        filter.promiscuous = true;
        assert!(filter.wants(OTHER));
    }

    #[test]
    fn a_list_of_groups_leaves_the_others_out() {
        let mut filter = AddressFilter::new(MINE, false);
        filter.set_groups([GROUP.into(), GROUP.into(), BROADCAST.into(), OTHER.into()]);
        assert_eq!(filter.groups().collect::<Vec<_>>(), [MacAddr6::from(GROUP)]);
        assert!(filter.wants(GROUP) && !filter.wants(OTHER_GROUP));
        assert!(filter.wants(BROADCAST) && filter.wants(MINE.into_array()));
        filter.set_groups([]);
        assert!(filter.wants(OTHER_GROUP));
    }
}
