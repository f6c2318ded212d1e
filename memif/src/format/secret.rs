//! The password of an interface: compared in constant time, never shown.

use std::fmt;

/// The size of the secret's field on the wire, in bytes.
pub(crate) const SECRET_LEN: usize = 24;

/// A secret as it is on the wire: bytes behind the first NUL are zero.
#[derive(Clone)]
pub(crate) struct Secret([u8; SECRET_LEN]);

impl Secret {
    /// Returns `None` when `text` is empty, longer than the field, or holds a NUL: on the wire it
    /// would equal another secret.
    pub(crate) fn new(text: impl AsRef<[u8]>) -> Option<Self> {
        let text = text.as_ref();
        if text.len() > SECRET_LEN || text.is_empty() || text.contains(&0) {
            return None;
        }
        let mut field = [0; SECRET_LEN];
        field[..text.len()].copy_from_slice(text);
        Some(Self(field))
    }

    /// Reads a peer's field: peers leave garbage behind the closing NUL.
    pub(crate) fn from_wire(mut field: [u8; SECRET_LEN]) -> Self {
        if let Some(end) = field.iter().position(|byte| *byte == 0) {
            field[end..].fill(0);
        }
        Self(field)
    }

    pub(crate) fn wire(&self) -> &[u8; SECRET_LEN] {
        &self.0
    }

    /// Returns whether both are equal, in a time that does not depend on where they differ.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        let differences = self.0.iter().zip(&other.0).fold(0, |sum, (a, b)| sum | (a ^ b));
        // The optimiser must not turn the sum back into a loop that stops early.
        std::hint::black_box(differences) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_behind_the_nul_is_ignored() {
        let mut wire = [0xAA; SECRET_LEN];
        wire[..4].copy_from_slice(b"key\0");
        assert!(Secret::new("key").unwrap().matches(&Secret::from_wire(wire)));
        wire[3] = b's';
        assert!(!Secret::new("key").unwrap().matches(&Secret::from_wire(wire)));
    }

    #[test]
    fn all_24_bytes_count_and_no_more_fit() {
        let full = "abcdefghijklmnopqrstuvwx";
        let almost = "abcdefghijklmnopqrstuvwy";
        assert!(!Secret::new(full).unwrap().matches(&Secret::new(almost).unwrap()));
        assert!(Secret::new("abcdefghijklmnopqrstuvwxy").is_none());
        assert!(Secret::new("").is_none());
        assert!(Secret::new("a\0b").is_none());
    }

    #[test]
    fn debug_output_keeps_it() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Some(Secret(..))");
    }
}
