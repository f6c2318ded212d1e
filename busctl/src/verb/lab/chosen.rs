//! Which of the labs that are up is meant.

use ::lab::Folder;
use anyhow::anyhow;

use crate::context::Context;
use crate::misuse::misuse;

/// The flag `--lab`, to be flattened into the arguments of an action.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Chosen {
    /// The name of the lab [default: the one that is up]
    #[arg(long = "lab", value_name = "NAME")]
    name: Option<String>,
}

impl Chosen {
    /// Chooses the lab of that name, or the only one.
    pub(super) fn named(name: Option<String>) -> Self {
        Self { name }
    }

    /// Returns the folder of the lab.
    ///
    /// # Errors
    /// When none was named, and there is not exactly one.
    pub(super) fn folder(&self, context: &Context) -> anyhow::Result<Folder> {
        let state = context.state_folder()?;
        if let Some(name) = &self.name {
            let folder = Folder::new(&state, name)?;
            // What a killed one has left is removed here.
            folder.is_up()?;
            return Ok(folder);
        }
        let mut labs = Folder::all(&state)?;
        if labs.len() > 1 {
            let names: Vec<_> = labs.iter().map(Folder::name).collect();
            return Err(misuse(anyhow!(
                "several labs are up: {}; say which one",
                names.join(", ")
            )));
        }
        labs.pop().ok_or_else(|| misuse(anyhow!("no lab is up; 'busctl lab up FILE' starts one")))
    }
}
