//! Opening a trunk port.

use std::sync::Arc;
use std::thread;

use port::trunk::TrunkSpec;
use port::vxlan::{Remotes, VxlanPort};
use port::{Port, PortError};

use crate::config::Settings;
use crate::ends::Ends;
use crate::exchange::Exchange;
use crate::session::Session;
use crate::token::EndId;

/// Opens the end of a trunk that `spec` describes, as the port `name`.
///
/// It has no peer until another end is there, and finds one whenever that comes.
///
/// # Errors
/// [`PortError`] when the settings are not what Zenoh takes, or the system has no descriptors or
/// threads left.
pub fn open(spec: &TrunkSpec, name: String) -> Result<Box<dyn Port>, PortError> {
    let failed = |source| PortError::System { attempt: format!("cannot open {name}"), source };
    let settings = Settings::new(spec)
        .map_err(|problem| PortError::Trunk { port: name.clone(), problem: problem.to_string() })?;
    let (exchange, outgoing, messages) = Exchange::new().map_err(failed)?;
    let (exchange, id) = (Arc::new(exchange), EndId(random()));
    let session = Session::new(id, spec, settings, Arc::clone(&exchange), messages);
    let thread = thread::Builder::new().name("trunk".to_owned());
    // It ends when the port is dropped.
    thread.spawn(move || session.run()).map_err(failed)?;
    let has_fixed_port = spec.port.is_some();
    let ends = Ends::new(id, spec.vni, spec.via, has_fixed_port, exchange, outgoing);
    let remotes = Remotes::of_overlay(spec.storm);
    let port = VxlanPort::with_overlay(name, spec.vni, spec.suppress, remotes, Box::new(ends))?;
    Ok(Box::new(port))
}

/// Returns a number that other machines cannot guess.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    // Its keys come from the system.
    RandomState::new().hash_one(std::time::SystemTime::now())
}
