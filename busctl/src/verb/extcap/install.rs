//! The link by which Wireshark finds the program.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use nix::unistd::Uid;

use crate::misuse::{OrMisuse as _, misuse};
use crate::output;
use crate::process::name::{EXTCAP, NAMES, program};

/// Returns whether a program was called by the name of a link: a program of such a name is the verb.
pub(super) fn is_link(program: &OsStr) -> bool {
    let file = Path::new(program).file_name().and_then(OsStr::to_str);
    file.and_then(|file| file.strip_suffix(EXTCAP)).is_some_and(|name| NAMES.contains(&name))
}

/// Returns the name of the link to make or remove.
fn link() -> String {
    format!("{}{EXTCAP}", program())
}

/// Makes the links, and their folders, and prints them.
///
/// # Errors
/// When a folder or link cannot be made, or something else has the link's name.
pub(super) fn install(folder: Option<&Path>) -> anyhow::Result<()> {
    let program = env::current_exe().context("cannot find this program")?;
    for folder in folders(folder)? {
        let link = folder.join(link());
        let about = || format!("cannot make {}", link.display());
        fs::create_dir_all(&folder).with_context(about).misuse()?;
        remove(&link).with_context(about).misuse()?;
        symlink(&program, &link).with_context(about).misuse()?;
        writeln!(output::stdout(), "{}", link.display())?;
    }
    Ok(())
}

/// Removes the links, and prints those that were there.
///
/// # Errors
/// When a link cannot be removed, or something else has its name.
pub(super) fn uninstall(folder: Option<&Path>) -> anyhow::Result<()> {
    for folder in folders(folder)? {
        let link = folder.join(link());
        let removed = remove(&link).with_context(|| format!("cannot remove {}", link.display()));
        if removed.misuse()? {
            writeln!(output::stdout(), "{}", link.display())?;
        }
    }
    Ok(())
}

/// Removes a link; returns `false` when there is none.
fn remove(link: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(link) {
        Ok(found) if found.is_symlink() => fs::remove_file(link).map(|()| true),
        Ok(_) => Err(io::Error::new(ErrorKind::AlreadyExists, "it is a file and no link")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the folders in which the versions of Wireshark look. Of a user who is not root it takes
/// `$WIRESHARK_EXTCAP_DIR` for all.
fn folders(chosen: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
    if let Some(folder) = chosen {
        return Ok(vec![folder.to_owned()]);
    }
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("WIRESHARK_EXTCAP_DIR").filter(|_| !Uid::effective().is_root()) {
        return Ok(vec![folder]);
    }
    let Some(home) = variable("HOME") else {
        return Err(misuse(anyhow!("$HOME is not set; say --folder DIR")));
    };
    let config = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    // Since 4.2, and before.
    Ok(vec![home.join(".local/lib/wireshark/extcap"), config.join("wireshark/extcap")])
}
