//! Logs on stderr, when they are asked for.

use std::env::{self, VarError};

use anyhow::{Context as _, anyhow};
use tracing_subscriber::EnvFilter;

use crate::misuse::OrMisuse as _;
use crate::stderr::Lines;

/// The environment variable with a filter such as `memif=debug,node=info`; it wins over `-v`.
const FILTER_VARIABLE: &str = "BUSCTL_LOG";

/// Starts logging when `-v` was given (`verbosity` times) or `$BUSCTL_LOG` is set. Otherwise
/// nothing is logged: the verbs themselves print what a user must know.
///
/// # Errors
/// When the filter is not valid.
pub(crate) fn start(verbosity: u8) -> anyhow::Result<()> {
    let directives = match (env::var(FILTER_VARIABLE), verbosity) {
        (Ok(directives), _) => directives,
        (Err(VarError::NotUnicode(_)), _) => {
            return Err(anyhow!("${FILTER_VARIABLE} is not UTF-8")).misuse();
        }
        (Err(VarError::NotPresent), 0) => return Ok(()),
        (Err(VarError::NotPresent), 1) => "info".to_owned(),
        (Err(VarError::NotPresent), 2) => "debug".to_owned(),
        (Err(VarError::NotPresent), _) => "trace".to_owned(),
    };
    let filter = EnvFilter::builder()
        .parse(&directives)
        .with_context(|| {
            format!(
                "${FILTER_VARIABLE} is no filter such as memif=debug,busctl=info: '{directives}'"
            )
        })
        .misuse()?;
    // Colours would also go into files and pipes when another crate of the build enables that
    // feature.
    tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).with_writer(|| Lines).init();
    Ok(())
}
