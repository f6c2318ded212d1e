//! The VLAN of a station, by the rules of 802.1Q: which frames pass between the bus and the user of
//! the station, and which tag they lose or gain on the way.
//!
//! A tag is that of customer VLANs (`0x8100`), behind the source address. A frame without a tag, or
//! with a priority tag (VLAN 0), belongs to no VLAN by itself. A service tag (`0x88a8`) is like any
//! other `EtherType` here. Of several tags only the first counts.

/// Where the tag begins: behind the two addresses.
pub(crate) const TAG_AT: usize = 12;
/// The bytes of a tag.
pub(crate) const TAG_LEN: usize = 4;
/// As many bytes of a frame show its tag.
pub(crate) const HEAD: usize = TAG_AT + TAG_LEN;

/// The `EtherType` of a tag.
const TPID: [u8; 2] = [0x81, 0x00];
/// The bits of a tag's second half that are the VLAN. The others are the priority.
const VLAN_BITS: u16 = 0x0fff;
/// The greatest VLAN. 0 is none, and 4095 is reserved.
const MAX_VLAN: u16 = 4_094;

/// The part of a station in the VLANs of its bus: see [`Station::set_vlan`].
///
/// The user of an [access](Self::access) station is in one VLAN and knows nothing of it, as behind
/// the access port of a switch: its frames have no tag, and those on the bus have one. The user of
/// a [trunk](Self::trunk) station is in several, and its frames have the same tags as on the bus.
///
/// ```
/// use shmbus::Vlan;
///
/// assert!(Vlan::access(10).is_some());
/// assert!(Vlan::access(4_095).is_none(), "it is reserved");
/// assert!(Vlan::trunk([10, 20], None).is_some());
/// ```
///
/// [`Station::set_vlan`]: crate::Station::set_vlan
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Access(u16),
    Trunk {
        /// Sorted.
        vlans: Vec<u16>,
        native: Option<u16>,
    },
}

/// What the first bytes of a frame say of its VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Untagged,
    /// The second half of the tag.
    Tagged(u16),
    /// The frame ends within the tag, or with it.
    Cut,
}

impl Tag {
    /// Reads the tag of a frame of `len` bytes that begins with `head`.
    fn of(head: [u8; HEAD], len: usize) -> Self {
        let [.., a, b, c, d] = head;
        match [a, b] {
            TPID if len < HEAD + 2 => Self::Cut,
            TPID => Self::Tagged(u16::from_be_bytes([c, d])),
            _ => Self::Untagged,
        }
    }
}

/// How a frame changes between the bus and the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Whether its tag is removed.
    pub(crate) cut: bool,
    /// The tag that it gains.
    pub(crate) insert: Option<[u8; TAG_LEN]>,
}

impl Edit {
    /// The frame stays as it is.
    pub(crate) const KEEP: Self = Self { cut: false, insert: None };

    fn insert(vlan: u16) -> Self {
        Self { cut: false, insert: Some(tag(vlan)) }
    }

    const CUT: Self = Self { cut: true, insert: None };

    /// Puts a frame with a priority tag into `vlan`; it keeps its priority.
    fn join(priority: u16, vlan: u16) -> Self {
        Self { cut: true, insert: Some(tag(priority & !VLAN_BITS | vlan)) }
    }

    /// Returns the length of a frame of `len` bytes after it.
    pub(crate) fn len(self, len: usize) -> usize {
        len + self.gained() - self.lost()
    }

    /// How many bytes of the frame are removed.
    pub(crate) fn lost(self) -> usize {
        if self.cut { TAG_LEN } else { 0 }
    }

    /// How many bytes the frame gains.
    pub(crate) fn gained(self) -> usize {
        if self.insert.is_some() { TAG_LEN } else { 0 }
    }
}

/// Returns the tag with this second half.
fn tag(control: u16) -> [u8; TAG_LEN] {
    let ([a, b], [c, d]) = (TPID, control.to_be_bytes());
    [a, b, c, d]
}

impl Vlan {
    /// Returns the VLAN `id` for a user whose frames have no tag; `None` unless `id` is from 1 to
    /// 4094.
    ///
    /// Frames from the user gain the tag, and a priority tag becomes it. Frames from the user that
    /// have a tag are dropped, also one of this VLAN. The user receives what has this tag on the
    /// bus, without it.
    #[must_use]
    pub fn access(id: u16) -> Option<Self> {
        (1..=MAX_VLAN).contains(&id).then_some(Self(Kind::Access(id)))
    }

    /// Returns the VLANs `ids` for a user whose frames have tags; 0 stands for frames without one.
    /// All other frames are dropped in both directions. Returns `None` when there is no id, one is
    /// above 4094, or `native` is not among them or is 0, or both `native` and 0 are.
    ///
    /// Frames of the VLAN `native` have a tag at the user and none on the bus.
    #[must_use]
    pub fn trunk(ids: impl IntoIterator<Item = u16>, native: Option<u16>) -> Option<Self> {
        let mut vlans: Vec<u16> = ids.into_iter().collect();
        vlans.sort_unstable();
        vlans.dedup();
        let is_native_known =
            native.is_none_or(|native| native > 0 && vlans.contains(&native) && vlans[0] > 0);
        let is_valid = vlans.last().is_some_and(|last| *last <= MAX_VLAN) && is_native_known;
        is_valid.then_some(Self(Kind::Trunk { vlans, native }))
    }

    /// Returns the VLANs of the user's frames, in the form that the user sends and receives:
    /// without a tag, or with the tag of a VLAN.
    pub fn tags(&self) -> impl Iterator<Item = Option<u16>> {
        let (untagged, vlans) = match &self.0 {
            Kind::Access(_) => (true, &[][..]),
            Kind::Trunk { vlans, .. } => (vlans[0] == 0, vlans.as_slice()),
        };
        let tagged = vlans.iter().copied().filter(|vlan| *vlan > 0).map(Some);
        untagged.then_some(None).into_iter().chain(tagged)
    }

    /// Returns the bytes that each frame of the user without a tag gains on the bus.
    pub(crate) fn growth(&self) -> usize {
        match self.0 {
            Kind::Access(_) => TAG_LEN,
            Kind::Trunk { .. } => 0,
        }
    }

    /// Returns how a frame changes on its way to the bus; `None`: it is dropped. The frame has
    /// `len` bytes and begins with `head`.
    pub(crate) fn to_bus(&self, head: [u8; HEAD], len: usize) -> Option<Edit> {
        match (&self.0, Tag::of(head, len)) {
            (_, Tag::Cut) => None,
            (Kind::Access(id), Tag::Untagged) => Some(Edit::insert(*id)),
            (Kind::Access(id), Tag::Tagged(control)) => {
                (control & VLAN_BITS == 0).then(|| Edit::join(control, *id))
            }
            (Kind::Trunk { vlans, .. }, Tag::Untagged) => (vlans[0] == 0).then_some(Edit::KEEP),
            (Kind::Trunk { vlans, native }, Tag::Tagged(control)) => {
                let vlan = control & VLAN_BITS;
                vlans.binary_search(&vlan).ok()?;
                Some(if Some(vlan) == *native { Edit::CUT } else { Edit::KEEP })
            }
        }
    }

    /// Returns how a frame changes on its way from the bus; `None`: it is not for the user. The
    /// frame has `len` bytes and begins with `head`.
    pub(crate) fn to_user(&self, head: [u8; HEAD], len: usize) -> Option<Edit> {
        match (&self.0, Tag::of(head, len)) {
            (_, Tag::Cut) | (Kind::Access(_), Tag::Untagged) => None,
            (Kind::Access(id), Tag::Tagged(control)) => {
                (control & VLAN_BITS == *id).then_some(Edit::CUT)
            }
            (Kind::Trunk { native: Some(native), .. }, Tag::Untagged) => {
                Some(Edit::insert(*native))
            }
            (Kind::Trunk { vlans, .. }, Tag::Untagged) => (vlans[0] == 0).then_some(Edit::KEEP),
            (Kind::Trunk { vlans, native }, Tag::Tagged(control)) => {
                match (control & VLAN_BITS, native) {
                    (0, Some(native)) => Some(Edit::join(control, *native)),
                    (vlan, _) => vlans.binary_search(&vlan).ok().map(|_| Edit::KEEP),
                }
            }
        }
    }
}

/// Applies an edit to a frame in memory of its own. A frame whose tag is cut has one.
pub(crate) fn apply(edit: Edit, frame: &mut Vec<u8>) {
    let inserted = edit.insert.as_ref().map_or(&[][..], |tag| tag);
    frame.splice(TAG_AT..TAG_AT + edit.lost(), inserted.iter().copied());
}

/// Returns the first bytes of a frame, with zeros behind its end.
pub(crate) fn head(frame: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let len = frame.len().min(HEAD);
    head[..len].copy_from_slice(&frame[..len]);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as people think of it: its tags, outermost first, and what follows them.
    #[derive(Clone, Debug, PartialEq)]
    struct Model {
        tags: Vec<(u16, u16)>,
        rest: Vec<u8>,
    }

    impl Model {
        fn bytes(&self) -> Vec<u8> {
            let tags = self.tags.iter().flat_map(|(priority, vlan)| tag(priority << 12 | vlan));
            [7; 12].into_iter().chain(tags).chain(self.rest.iter().copied()).collect()
        }

        fn random(random: &mut fastrand::Rng) -> Self {
            let vlans = [0, 1, 10, 20, 4_094, 4_095];
            let tags: Vec<(u16, u16)> = (0..random.usize(..3))
                .map(|_| (random.u16(..16), vlans[random.usize(..vlans.len())]))
                .collect();
            let ethertype = [[0x08, 0x00], [0x88, 0xa8], [0x91, 0x00]][random.usize(..3)];
            let rest = ethertype.into_iter().chain(0..random.u8(..60)).collect();
            Self { tags, rest }
        }

        /// Returns the VLAN that its first tag names, 0 for none.
        fn vlan(&self) -> u16 {
            self.tags.first().map_or(0, |(_, vlan)| *vlan)
        }

        /// Returns the frame without the tag it has, or with a tag of this VLAN.
        fn with(&self, vlan: Option<u16>) -> Self {
            let mut changed = self.clone();
            let priority = if changed.tags.is_empty() { 0 } else { changed.tags.remove(0).0 };
            if let Some(vlan) = vlan {
                changed.tags.insert(0, (priority, vlan));
            }
            changed
        }
    }

    fn edited(edit: Option<Edit>, model: &Model) -> Option<Vec<u8>> {
        let (mut frame, edit) = (model.bytes(), edit?);
        let len = edit.len(frame.len());
        apply(edit, &mut frame);
        assert_eq!(frame.len(), len);
        Some(frame)
    }

    fn both(vlan: &Vlan, model: &Model) -> [Option<Vec<u8>>; 2] {
        let frame = model.bytes();
        let (head, len) = (head(&frame), frame.len());
        [vlan.to_bus(head, len), vlan.to_user(head, len)].map(|edit| edited(edit, model))
    }

    #[test]
    fn an_access_station_is_as_a_switch_has_it() {
        let mut random = fastrand::Rng::with_seed(1);
        let vlan = Vlan::access(10).expect("valid");
        for _ in 0..20_000 {
            let model = Model::random(&mut random);
            let to_bus = (model.vlan() == 0).then(|| model.with(Some(10)).bytes());
            let to_user = (model.vlan() == 10).then(|| model.with(None).bytes());
            assert_eq!(both(&vlan, &model), [to_bus, to_user], "{model:?}");
        }
    }

    #[test]
    fn a_trunk_passes_what_is_in_its_list() {
        let mut random = fastrand::Rng::with_seed(2);
        for ids in [&[10, 20][..], &[0, 10], &[0], &[4_094]] {
            let vlan = Vlan::trunk(ids.iter().copied(), None).expect("valid");
            for _ in 0..5_000 {
                let model = Model::random(&mut random);
                let passed = ids.contains(&model.vlan()).then(|| model.bytes());
                assert_eq!(both(&vlan, &model), [passed.clone(), passed], "{ids:?} {model:?}");
            }
        }
    }

    #[test]
    fn a_native_vlan_has_no_tag_on_the_bus() {
        let mut random = fastrand::Rng::with_seed(3);
        let vlan = Vlan::trunk([20, 10], Some(10)).expect("valid");
        for _ in 0..20_000 {
            let model = Model::random(&mut random);
            let [to_bus, to_user] = match model.vlan() {
                0 => [None, Some(model.with(Some(10)))],
                10 => [Some(model.with(None)), Some(model.clone())],
                20 => [Some(model.clone()), Some(model.clone())],
                _ => [None, None],
            };
            let bytes = |model: Option<Model>| model.as_ref().map(Model::bytes);
            assert_eq!(both(&vlan, &model), [bytes(to_bus), bytes(to_user)], "{model:?}");
        }
    }

    #[test]
    fn a_frame_that_ends_within_its_tag_is_dropped() {
        let frame = Model { tags: vec![(0, 10)], rest: vec![8, 0] }.bytes();
        for vlan in [Vlan::access(10), Vlan::trunk([0, 10], None)].map(Option::unwrap) {
            for len in 14..frame.len() {
                let head = head(&frame[..len]);
                assert_eq!((vlan.to_bus(head, len), vlan.to_user(head, len)), (None, None));
            }
            assert!(vlan.to_user(head(&frame), frame.len()).is_some());
        }
    }

    #[test]
    fn only_vlans_that_exist_are_taken() {
        for id in [0, 4_095, u16::MAX] {
            assert_eq!(Vlan::access(id), None);
        }
        for (ids, native) in [
            (&[][..], None),
            (&[4_095], None),
            (&[10], Some(20)),
            (&[0, 10], Some(10)),
            (&[0], Some(0)),
        ] {
            assert_eq!(Vlan::trunk(ids.iter().copied(), native), None, "{ids:?}");
        }
        let tags = |vlan: Option<Vlan>| vlan.unwrap().tags().collect::<Vec<_>>();
        assert_eq!(tags(Vlan::access(10)), [None]);
        assert_eq!(tags(Vlan::trunk([10, 0, 20, 10], None)), [None, Some(10), Some(20)]);
    }
}
