//! Publishes the counters of a lab's ports, for programs that look at its buses.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use node::{BusIdentity, PortId, PortStats, Report, Reports, bus_identity};

/// How often counters are published while they change.
const SHORT_PAUSE: Duration = Duration::from_millis(100);
/// How often the thread looks while they do not.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// The thread that publishes. Dropping this ends it.
pub(super) struct PortReports {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    is_over: Condvar,
}

#[derive(Default)]
struct State {
    ports: Vec<Entry>,
    is_over: bool,
}

struct Entry {
    id: PortId,
    bus: BusIdentity,
    name: String,
    stats: Arc<PortStats>,
}

impl PortReports {
    /// Starts the thread, without ports.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("counters".to_owned());
        let thread = thread.spawn(move || publish(&theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Publishes the counters of a port from now on.
    pub(super) fn add(&self, id: PortId, bus: &Path, name: String, stats: Arc<PortStats>) {
        if let Some(bus) = bus_identity(bus) {
            self.change(|state| state.ports.push(Entry { id, bus, name, stats }));
        }
    }

    /// Publishes the counters of a port no more.
    pub(super) fn remove(&self, id: PortId) {
        self.change(|state| state.ports.retain(|port| port.id != id));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn publish(shared: &Shared) {
    let mut reports = Reports::begin();
    let mut pause = SHORT_PAUSE;
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    while !state.is_over {
        let ports = state.ports.iter();
        let is_new =
            reports.publish(ports.map(|port| Report::of_port(&port.name, port.bus, &port.stats)));
        pause = if is_new { SHORT_PAUSE } else { (pause * 2).min(LONG_PAUSE) };
        let waited = shared.is_over.wait_timeout(state, pause);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Drop for PortReports {
    fn drop(&mut self) {
        self.change(|state| state.is_over = true);
        self.shared.is_over.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
