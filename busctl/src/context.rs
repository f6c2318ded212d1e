//! What a verb may need beside its own arguments.

use std::path::PathBuf;

use crate::registry::{Registry, RegistryError, state_folder};

/// The global flags of the command line that verbs use.
#[derive(Debug)]
pub(crate) struct Context {
    state: Option<PathBuf>,
}

impl Context {
    /// Makes a context with the state folder of `--state`, if it was given.
    #[must_use]
    pub(crate) fn new(state: Option<PathBuf>) -> Self {
        Self { state }
    }

    /// Returns the registry in the state folder. A verb that is given the path of a bus must not
    /// call this: it has to work where no state folder can be made.
    ///
    /// # Errors
    /// When the state folder is not safe to use.
    pub(crate) fn registry(&self) -> Result<Registry, RegistryError> {
        Ok(Registry::new(state_folder(self.state.as_deref())?))
    }
}
