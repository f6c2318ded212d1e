//! Priority tags: VLAN tags of VLAN 0, which give a frame a priority and put it on no VLAN.

use std::borrow::Cow;

/// `EtherTypes` of tags: of a customer's VLAN and of a service provider's.
const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
/// Bytes of the two Ethernet addresses, and of a tag.
const ADDRESSES: usize = 12;
const TAG: usize = 4;

/// Removes the priority tags of a frame (IEEE 802.1Q: a host accepts such a frame as an untagged
/// one). Returns `None` for a frame of a VLAN, which is not for this host.
pub(crate) fn untagged(frame: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut rest = frame.get(ADDRESSES..)?;
    while let Some(after) = rest.strip_prefix(&TAGS[0]).or(rest.strip_prefix(&TAGS[1])) {
        let control = u16::from_be_bytes([*after.first()?, *after.get(1)?]);
        if control & 0x0fff != 0 {
            return None;
        }
        rest = &rest[TAG..];
    }
    Some(if rest.len() == frame.len() - ADDRESSES {
        Cow::Borrowed(frame)
    } else {
        Cow::Owned([&frame[..ADDRESSES], rest].concat())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tags: &[u8]) -> Vec<u8> {
        [&[7; ADDRESSES][..], tags, b"\x08\x00payload"].concat()
    }

    #[test]
    fn a_priority_tag_is_removed_and_other_tags_are_not_for_us() {
        let plain = frame(b"");
        assert!(matches!(untagged(&plain), Some(Cow::Borrowed(same)) if same == plain));
        for tags in [&b"\x81\x00\xa0\x00"[..], b"\x88\xa8\x00\x00\x81\x00\xf0\x00"] {
            assert_eq!(untagged(&frame(tags)).as_deref(), Some(&plain[..]));
        }
        for tags in [&b"\x81\x00\xa0\x05"[..], b"\x81\x00\x00\x00\x81\x00\x00\x01"] {
            assert_eq!(untagged(&frame(tags)), None);
        }
        assert_eq!(untagged(&frame(b"")[..13]).map(|frame| frame.len()), Some(13));
        assert_eq!(untagged(b"short"), None);
        assert_eq!(untagged(&frame(b"\x81\x00")[..15]), None, "a tag that is cut off");
    }
}
