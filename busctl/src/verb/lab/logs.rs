//! What the commands of a node have printed.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::misuse::misuse;
use crate::output;
use crate::process::shutdown::Shutdown;

/// How often it is looked for more.
const INTERVAL: Duration = Duration::from_millis(100);

/// Prints a log, with what came before it; with `follow` also what comes, until a request to stop
/// or until the lab is down.
pub(super) fn print(log: &Path, follow: bool) -> anyhow::Result<()> {
    let mut before = log.as_os_str().to_owned();
    before.push(".1");
    if let Ok(mut before) = File::open(before) {
        io::copy(&mut before, &mut output::stdout())?;
    }
    let stop = Shutdown::on_signals()?;
    let mut file = match File::open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let names = log.parent().map(names).unwrap_or_default();
            return Err(misuse(anyhow!("no node of that name has printed anything; {names} have")));
        }
        opened => opened.with_context(|| format!("cannot open {}", log.display()))?,
    };
    loop {
        io::copy(&mut file, &mut output::stdout())?;
        output::stdout().flush()?;
        if !follow || stop.sleep(INTERVAL) {
            return Ok(());
        }
        match std::fs::metadata(log) {
            Ok(now) if now.ino() != file.metadata()?.ino() => {
                // The rest of the old file, which is full, comes first.
                io::copy(&mut file, &mut output::stdout())?;
                file = File::open(log)?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the nodes that have a log.
fn names(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".log")?.to_owned()))
        .collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
