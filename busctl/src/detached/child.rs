//! The detached process.

use std::fs::{self, File};
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, anyhow};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::name::DetachedName;
use super::record::{Record, Records, is_at};
use super::{Request, log};
use crate::misuse::misuse;
use crate::stderr;

/// What makes this process a detached one. Dropping it gives its name back.
#[derive(Debug)]
pub(crate) struct Detached {
    /// The record, which is locked as long as it is open.
    record: File,
    path: PathBuf,
    log: PathBuf,
    /// Where the process that waits for this one reads; none when it knows that this one is ready.
    starter: Mutex<Option<PipeWriter>>,
}

impl Detached {
    /// Makes this process the detached one of that name. Its standard streams are those that
    /// [`start`](super::start()) gave it: the locked record, the pipe to the process that waits,
    /// and that one's stderr. Afterwards they are the null device and the log.
    ///
    /// Until it is [ready](Self::ready), it ends with the process that waits.
    ///
    /// # Errors
    /// When the streams are not those, or the log cannot be made.
    pub(crate) fn begin(
        name: &DetachedName,
        records: &Records,
        request: &Request,
    ) -> anyhow::Result<Self> {
        let record = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (path, log) = (records.path(name), records.log_path(name));
        if !is_at(&record, &path) {
            return Err(misuse(anyhow!("--detached-as is for this program only; use --detach")));
        }
        // A terminal that is closed, or where the user types ^C, is none of this process's then. It
        // fails where the process leads a session already.
        let _ = setsid();
        // When this fails, the process may outlive the one that waits, as any process does.
        let _ = set_pdeathsig(Signal::SIGTERM);
        let starter = PipeWriter::from(io::stdout().as_fd().try_clone_to_owned()?);
        let terminal = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let output = log::start(&log, terminal)
            .with_context(|| format!("cannot write the log {}", log.display()))?;
        dup2_stdin(File::open("/dev/null")?)?;
        dup2_stdout(&output)?;
        dup2_stderr(&output)?;
        Record::of_this_process(request)
            .and_then(|content| content.write(&record))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { record, path, log, starter: Mutex::new(Some(starter)) })
    }

    fn starter(&self) -> Option<PipeWriter> {
        // A panic elsewhere leaves nothing half done in it.
        self.starter.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Tells the process that waits that this one is ready. From now on they live apart.
    ///
    /// # Errors
    /// When that process is gone, so that no process knows of this one.
    pub(crate) fn ready(&self) -> io::Result<()> {
        let Some(mut starter) = self.starter() else { return Ok(()) };
        stderr::flush();
        log::leave_starter();
        set_pdeathsig(None)?;
        starter.write_all(&[super::start::READY]).map_err(|error| {
            io::Error::new(error.kind(), "the process that started this one is gone")
        })
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        // The user may have removed the folder, and another process may have the name since.
        if is_at(&self.record, &self.path) {
            if self.starter().is_some() {
                // The user has seen all that is in it.
                let _ = fs::remove_file(&self.log);
            }
            let _ = fs::remove_file(&self.path);
        }
    }
}
