//! What every verb may ask for beside its own arguments.

use std::path::PathBuf;

use crate::registry::{Registry, RegistryError, state_folder};

/// The part of the command line that belongs to no single verb.
#[derive(Debug)]
pub(crate) struct Context {
    state: Option<PathBuf>,
}

impl Context {
    /// A context with the state folder of `--state`, if it was given.
    #[must_use]
    pub(crate) fn new(state: Option<PathBuf>) -> Self {
        Self { state }
    }

    /// The interfaces this command line is about. A verb that is given the path of a bus has no need of them, and so must
    /// not ask: it shall work where there is no place for a state folder.
    ///
    /// # Errors
    /// When the state folder is not safe to use.
    pub(crate) fn registry(&self) -> Result<Registry, RegistryError> {
        Ok(Registry::new(state_folder(self.state.as_deref())?))
    }
}
