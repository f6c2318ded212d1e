//! What every verb may ask for beside its own arguments.

use std::path::PathBuf;

/// The part of the command line that belongs to no single verb.
#[derive(Debug)]
pub struct Context {
    state: Option<PathBuf>,
}

impl Context {
    /// A context with the state folder of `--state`, if it was given.
    #[must_use]
    pub fn new(state: Option<PathBuf>) -> Self {
        Self { state }
    }

    /// The folder given with `--state`, to be handed to child processes that should see the same interfaces.
    #[must_use]
    pub fn state(&self) -> Option<&PathBuf> {
        self.state.as_ref()
    }
}
