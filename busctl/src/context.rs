//! What a verb may need beside its own arguments.

use std::path::PathBuf;

use crate::detached::{Detached, DetachedName, Records, Request};
use crate::registry::{Registry, RegistryError, state_folder};
use crate::service::Service;

/// The global flags of the command line that verbs use.
#[derive(Debug)]
pub(crate) struct Context {
    state: Option<PathBuf>,
    /// What makes this process a detached one.
    detached: Option<Detached>,
}

impl Context {
    /// Makes a context with the state folder of `--state`, if it was given.
    #[must_use]
    pub(crate) fn new(state: Option<PathBuf>) -> Self {
        Self { state, detached: None }
    }

    /// Returns the registry in the state folder. A verb that is given the path of a bus must not
    /// call this: it has to work where no state folder can be made.
    ///
    /// # Errors
    /// When the state folder is not safe to use.
    pub(crate) fn registry(&self) -> Result<Registry, RegistryError> {
        Ok(Registry::new(state_folder(self.state.as_deref())?))
    }

    /// Returns the records of detached processes in the state folder.
    ///
    /// # Errors
    /// When the state folder is not safe to use.
    pub(crate) fn detached_records(&self) -> Result<Records, RegistryError> {
        Ok(Records::new(state_folder(self.state.as_deref())?))
    }

    /// Returns the state folder.
    ///
    /// # Errors
    /// When it is not safe to use.
    pub(crate) fn state_folder(&self) -> Result<PathBuf, RegistryError> {
        state_folder(self.state.as_deref())
    }

    /// Makes this process the detached one of that name.
    ///
    /// # Errors
    /// When it was not started to be that, or the state folder cannot be written.
    pub(crate) fn detach(&mut self, name: &DetachedName, request: &Request) -> anyhow::Result<()> {
        self.detached = Some(Detached::begin(name, &self.detached_records()?, request)?);
        Ok(())
    }

    /// Returns what a verb that serves until it is stopped reports to.
    pub(crate) fn service(&self) -> Service<'_> {
        Service::begin(self.detached.as_ref())
    }
}
