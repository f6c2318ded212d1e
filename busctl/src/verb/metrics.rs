//! `busctl metrics`: counters for Prometheus.

mod exposition;
mod http;
mod listener;

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use self::exposition::Format;
use self::http::Response;
use self::listener::{Address, Listener};
use crate::context::Context;
use crate::output;
use crate::process::shutdown::Shutdown;
use crate::registry::Registry;
use crate::survey::{Survey, Surveyor};

/// A survey answers all requests for this long.
const SURVEY_AGE: Duration = Duration::from_millis(250);

/// Serve the counters of all buses to Prometheus, until stopped
///
/// Answers GET /metrics over HTTP, in Prometheus' text format, or in 'application/openmetrics-text'
/// for a client that accepts it. The counters are those of 'busctl top': of the buses, stations and ports of this user.
/// They are labelled with 'bus' (its path), 'kind' (station, memif, tap and so on), 'station' (its
/// name) and 'interface' (the MAC address of a station, the name of a port).
///
/// It listens on the given address only, and prints 'ready' when it does. There is no password:
/// every process that reaches the address reads the counters.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl metrics --listen 127.0.0.1:9435\n  \
                        busctl metrics --listen unix:$XDG_RUNTIME_DIR/busctl-metrics.sock\n  \
                        curl -s http://127.0.0.1:9435/metrics\n  \
                        curl -s --unix-socket ./m.sock http://localhost/metrics")]
pub(crate) struct Args {
    /// Where to listen: an address with a port (0: any free one), or unix: and the path of a socket
    #[arg(long, value_name = "ADDRESS:PORT|unix:PATH")]
    listen: Address,
}

/// Serves until the process is asked to stop.
///
/// # Errors
/// When the address cannot be listened on; when the state folder cannot be read.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let registry = context.registry()?;
    let stop = Shutdown::on_signals().context("cannot handle signals")?;
    let listener = Listener::bind(&args.listen)?;
    let surveys = Mutex::new(Surveys::default());
    output::note(&format!("metrics are at {listener}"));
    let service = context.service();
    service.ready()?;
    writeln!(output::stdout(), "ready")?;
    output::stdout().flush()?;
    listener.serve(&stop, &|request| {
        let format = Format::accepted(request.accept.as_deref());
        let mut surveys = surveys.lock().unwrap_or_else(PoisonError::into_inner);
        match surveys.latest(&registry) {
            Ok(survey) => Response::metrics(format, exposition::text(survey, format)),
            Err(error) => Response::failed(&error.to_string()),
        }
    });
    service.stopping();
    Ok(())
}

/// The latest survey.
#[derive(Default)]
struct Surveys {
    surveyor: Surveyor,
    latest: Option<(Instant, Survey)>,
}

impl Surveys {
    fn latest(&mut self, registry: &Registry) -> Result<&Survey, crate::registry::RegistryError> {
        let is_old = self.latest.as_ref().is_none_or(|(taken, _)| taken.elapsed() >= SURVEY_AGE);
        let survey = match self.latest.take() {
            Some(latest) if !is_old => latest,
            _ => (Instant::now(), self.surveyor.look(registry)?),
        };
        Ok(&self.latest.insert(survey).1)
    }
}
