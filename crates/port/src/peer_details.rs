//! What a port knows of its peer, for people.

use std::fmt;
use std::sync::Arc;

/// Describes the peer of a port in lines for people, at any moment and from any thread.
#[derive(Clone)]
pub struct PeerDetails(Arc<dyn Fn() -> Vec<String> + Send + Sync>);

impl PeerDetails {
    pub(crate) fn new(describe: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(describe))
    }

    /// Returns the lines. They hold what a peer wrote, such as its name, without control characters.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        (self.0)()
    }
}

impl fmt::Debug for PeerDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lines()).finish()
    }
}
