//! Changes interfaces, and waits for the processes that run them to follow.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::registry::{InterfaceName, Record, Registry};

/// How long a runner may take to follow.
const RUNNER_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes `change` to the records of `names`: to all of them or, when it is refused for one, to
/// none. Then waits for the processes that run them, also for those whose record did not change.
///
/// # Errors
/// When `change` refuses, or a record cannot be read or written; when a runner does not follow.
pub(crate) fn change(
    registry: &Registry,
    names: &[InterfaceName],
    change: impl Fn(&mut Record) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let edit = registry.edit()?;
    let mut records = Vec::new();
    for &name in names {
        let old = edit.load(name)?;
        let mut new = old.clone();
        change(&mut new)?;
        let changed = new != old;
        records.push((new, changed));
    }
    for (record, _) in records.iter_mut().filter(|(_, changed)| *changed) {
        edit.store(record)?;
    }
    // The runners need the lock, to claim what they run.
    drop(edit);
    let results: Vec<_> = records
        .iter()
        .map(|(record, changed)| wait_for_runner(registry, record, *changed))
        .collect();
    results.into_iter().collect()
}

/// Waits until the process that runs the interface, if there is one, has acted on `record`.
fn wait_for_runner(registry: &Registry, record: &Record, changed: bool) -> anyhow::Result<()> {
    let name = record.name;
    let state = if changed { "is changed" } else { "is set so already" };
    let start = Instant::now();
    while let Some(runner) = registry.runner(name)? {
        let report = registry.report(name);
        if report.revision >= record.revision {
            match report.trouble {
                Some(trouble) => {
                    bail!("{name} {state}, but {runner} that runs it is in trouble: {trouble}")
                }
                None => return Ok(()),
            }
        }
        if start.elapsed() >= RUNNER_TIMEOUT {
            bail!(
                "{name} {state}, but {runner} that runs it has not followed within 1 s; restart that process"
            );
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Waits until the process that runs a destroyed interface, if there is one, has released it.
///
/// # Errors
/// When it does not within 1 s.
pub(crate) fn wait_until_released(registry: &Registry, name: InterfaceName) -> anyhow::Result<()> {
    let start = Instant::now();
    while let Some(runner) = registry.runner(name)? {
        if registry.load(name).is_ok() {
            // Another interface of the same name was made meanwhile, and is run.
            return Ok(());
        }
        if start.elapsed() >= RUNNER_TIMEOUT {
            bail!(
                "{name} is destroyed, but {runner} that ran it has not let go of it within 1 s; restart that process"
            );
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
