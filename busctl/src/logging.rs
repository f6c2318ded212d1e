//! Logs on stderr, for whoever asked for them.

use tracing_subscriber::EnvFilter;

/// The environment variable with a filter such as `memif=debug,busctl=info`; it wins over `-v`.
const FILTER_VARIABLE: &str = "BUSCTL_LOG";

/// Starts logging when `-v` was given `verbosity` times or `$BUSCTL_LOG` is set, and stays silent otherwise: what a user must
/// know is printed by the verbs themselves.
pub(crate) fn start(verbosity: u8) {
    let filter = match (std::env::var(FILTER_VARIABLE), verbosity) {
        (Ok(directives), _) => EnvFilter::new(directives),
        (Err(_), 0) => return,
        (Err(_), 1) => EnvFilter::new("info"),
        (Err(_), 2) => EnvFilter::new("debug"),
        (Err(_), _) => EnvFilter::new("trace"),
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
