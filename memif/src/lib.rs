//! memif
