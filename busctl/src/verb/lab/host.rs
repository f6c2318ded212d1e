//! Which host of a lab this machine is.

use std::path::Path;

use ::lab::{HostError, Plan};
use anyhow::anyhow;

use crate::misuse::misuse;
use crate::output;

/// The flag `--host`, to be flattened into the arguments of an action.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Host {
    /// The host of the lab file whose part is meant, where the file has hosts [default: the one with
    /// this machine's name]
    #[arg(long = "host", value_name = "NAME")]
    name: Option<String>,
}

impl Host {
    /// Reads a lab file, and chooses the part of this machine.
    ///
    /// # Errors
    /// When the file cannot be read, with all that is wrong in it, and when it has hosts and none is
    /// this machine.
    pub(super) fn read(&self, file: &Path) -> anyhow::Result<Plan> {
        self.choose(read(file)?, None)
    }

    /// As [`read`](Self::read), for a lab that is up as that of the host `up`.
    pub(super) fn read_as(
        &self,
        file: &Path,
        up: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Plan> {
        let plan = read(file)?;
        let up = up(&plan.name);
        self.choose(plan, up.as_deref())
    }

    fn choose(&self, plan: Plan, up: Option<&str>) -> anyhow::Result<Plan> {
        let wrong = |error: HostError| misuse(anyhow!(error));
        if let Some(name) = self.name.as_deref().or(up) {
            return plan.on(name).map_err(wrong);
        }
        if plan.machines.is_empty() {
            return Ok(plan);
        }
        let own = nix::unistd::gethostname().unwrap_or_default();
        let own = own.to_string_lossy();
        let short = own.split('.').next().unwrap_or_default();
        let names = || plan.machines.iter().map(|machine| machine.name.as_str());
        let Some(name) = names().find(|name| [&*own, short].contains(name)).map(str::to_owned)
        else {
            let all: Vec<&str> = names().collect();
            return Err(misuse(anyhow!(
                "the lab {} is of several hosts, and none has the name of this machine, {own}: say which \
                 one it is with --host: {}",
                plan.name,
                all.join(", ")
            )));
        };
        output::note(&format!("this machine is the host {name} of the lab {}", plan.name));
        plan.on(&name).map_err(wrong)
    }
}

/// Reads a lab file.
///
/// # Errors
/// When it cannot be read, or with all that is wrong in it.
pub(super) fn read(file: &Path) -> anyhow::Result<Plan> {
    Plan::from_file(file).map_err(|error| misuse(anyhow!(error)))
}
