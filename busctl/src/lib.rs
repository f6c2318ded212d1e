//! Create, wire and watch virtual Ethernet LANs in shared memory: the library under the program
//! `busctl`.
//!
//! `cli` defines the verbs and flags, `verb` has one module for each verb, `registry` stores
//! the interfaces, `reconciler` runs those that are ports, `bus_argument` reads the bus a user
//! means, `bus_attachment` attaches a verb to it, `lan` attaches ports to it, `detached` runs a verb
//! in the background, `exit` turns an error into one line and an exit code, `output` prints, `stderr`
//! writes its lines.

#![forbid(unsafe_code)]

mod bench;
mod bus_argument;
mod bus_attachment;
mod bus_view;
mod buses;
mod cli;
mod context;
mod denied;
mod detached;
mod exit;
mod filter_words;
mod habits;
mod host_network;
mod interface_view;
mod lan;
mod logging;
mod misuse;
mod nic_argument;
mod node_threads;
mod output;
mod port_view;
mod process;
mod quantity;
mod rates;
mod reconciler;
mod registry;
mod service;
mod stderr;
mod style;
mod survey;
mod verb;

use std::io::Write as _;
use std::process::ExitCode;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use registry::fuzzing;

use crate::cli::Cli;
use crate::context::Context;

/// The name that memif peers see.
const PROGRAM: &str = concat!("busctl ", env!("CARGO_PKG_VERSION"));

/// Runs the command line this process was started with.
///
/// Answers go to stdout; an error is one line on stderr. The exit code is 0 for success, 1 when it
/// did not work, 2 for wrong use or configuration.
#[must_use]
pub fn main() -> ExitCode {
    let _streams = StandardStreams;
    run()
}

/// Writes what was printed when it is dropped, also after a panic, and closes the streams.
struct StandardStreams;

impl Drop for StandardStreams {
    fn drop(&mut self) {
        stderr::flush();
        // What a verb that failed has printed so far; it has reported its own error.
        let _ = output::stdout().flush();
        output::close_standard_streams();
        detached::drain_log();
    }
}

fn run() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => return cli::report_usage(&error),
    };
    let Some(_cleanup) = process::die_with_parent::arm() else {
        return ExitCode::FAILURE;
    };
    if !cli.verb.has_one_thread()
        && let Err(error) = logging::start(cli.verbose)
    {
        return exit::report(&error);
    }
    tracing::info!(version = env!("BUSCTL_VERSION"), "busctl");
    if let Err(error) = process::survive_file_size_limit() {
        tracing::warn!(%error, "a file that grows beyond 'ulimit -f' will kill this process");
    }
    if let Err(error) = shmbus::survive_truncation() {
        tracing::warn!(%error, "a bus file that is truncated will kill this process");
    }
    run_verb(cli).unwrap_or_else(|error| exit::report(&error))
}

/// Runs the verb here, or with `--detach` in a process of its own.
fn run_verb(cli: Cli) -> anyhow::Result<ExitCode> {
    let mut context = Context::new(cli.state);
    if let Some(request) = cli.verb.detached()? {
        match cli.detached_as {
            Some(name) => context.detach(&name, &request)?,
            None => return detached::start(&context.detached_records()?, &request),
        }
    }
    let code = cli.verb.run(&context)?;
    output::stdout().flush()?;
    Ok(code)
}
