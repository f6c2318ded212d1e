//! What the commands of a node have printed.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::misuse::misuse;
use crate::output;
use crate::process::shutdown::Shutdown;

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
    let changes = if follow { Some(watch(log.parent().unwrap_or(Path::new(".")))?) } else { None };
    loop {
        io::copy(&mut file, &mut output::stdout())?;
        output::stdout().flush()?;
        let Some(changes) = &changes else { return Ok(()) };
        if stop.wait([changes.as_fd()], None) {
            return Ok(());
        }
        // What has changed is seen below; there may be nothing any more.
        let _ = changes.read_events();
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

/// Returns what polls readable when a log in `folder` grows, is begun anew, or is removed.
fn watch(folder: &Path) -> anyhow::Result<Inotify> {
    let flags = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF;
    let watched = || {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(folder, flags)?;
        Ok::<_, nix::errno::Errno>(inotify)
    };
    watched().with_context(|| format!("cannot watch {}", folder.display()))
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
