//! Files that can be dumped and not joined: of an older version, or of another kind of machine. Nothing comes any more.

use std::path::Path;

use shmbus::{LegacyDump, OpenError};

use super::Args;
use super::outlets::Outlets;
use crate::output;

/// Dumps the file that a station was refused for `refusal`.
pub(super) fn dump(args: &Args, path: &Path, refusal: OpenError) -> anyhow::Result<()> {
    if args.follow {
        return Err(anyhow::Error::new(refusal).context("cannot go on with what comes (-f)"));
    }
    let dump = LegacyDump::open(path)?;
    let mut outlets = Outlets::open(args.write.as_deref(), path)?;
    outlets.header(&dump.state())?;
    if args.header {
        return outlets.flush();
    }
    let wanted = usize::try_from(args.count.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    for frame in dump.frames().take(wanted) {
        outlets.frame(&frame)?;
    }
    if dump.is_corrupt() && dump.frames().len() < wanted {
        output::warn(format_args!("behind these frames is something that is no packet"));
    }
    outlets.flush()
}
