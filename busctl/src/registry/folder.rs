//! Where the registry is: `--state`, else `$BUSCTL_STATE`, else `$XDG_RUNTIME_DIR/busctl`, else a
//! folder of the user's own under `/tmp`, which carries the number of the user outside of a user
//! namespace.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::error::RegistryError;

/// Returns the state folder as an absolute path. `option` is the value of `--state`.
///
/// # Errors
/// When it is the folder under `/tmp`, and that is not the user's own.
pub(crate) fn state_folder(option: Option<&Path>) -> Result<PathBuf, RegistryError> {
    if let Some(path) = chosen(option, |name| std::env::var_os(name)) {
        return std::path::absolute(&path)
            .map_err(|error| RegistryError::file("use", &path, error));
    }
    let user = geteuid().as_raw();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let name = outer_user(user, &map);
    own_folder(PathBuf::from(format!("/tmp/busctl-{name}")), user)
}

/// Returns what the user is called outside of the user namespace that has this map of users. Root of
/// such a namespace is no other user than the one who made it, and shares `/tmp` with root.
fn outer_user(user: u32, map: &str) -> u32 {
    let outside = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let mut number = || numbers.next()?.ok();
        let (inside, outside, len) = (number()?, number()?, number()?);
        let nth = user.checked_sub(inside).filter(|nth| *nth < len)?;
        outside.checked_add(nth)
    };
    map.lines().find_map(outside).unwrap_or(user)
}

fn chosen(option: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path_in = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    option
        .map(Path::to_path_buf)
        .or_else(|| path_in("BUSCTL_STATE"))
        // The XDG specification says to ignore relative paths.
        .or_else(|| {
            path_in("XDG_RUNTIME_DIR")
                .filter(|path| path.is_absolute())
                .map(|path| path.join("busctl"))
        })
}

/// Makes a folder under `/tmp`, or checks that only this user can have made it: any user may make
/// one there first. Its name cannot be taken away later, because `/tmp` is sticky.
fn own_folder(path: PathBuf, user: u32) -> Result<PathBuf, RegistryError> {
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(RegistryError::file("make", &path, error));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(&path)
        .map_err(|error| RegistryError::file("look at", &path, error))?;
    let why = if !found.is_dir() {
        "it is not a folder".to_owned()
    } else if found.uid() != user {
        format!("it belongs to user {}, not to {user}", found.uid())
    } else if found.mode() & 0o077 != 0 {
        format!("others may use it (mode {:04o})", found.mode() & 0o7777)
    } else {
        return Ok(path);
    };
    Err(RegistryError::UnsafeFolder { path, why })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn the_first_that_is_given_counts() {
        let both = |name: &str| {
            Some(OsString::from(if name == "BUSCTL_STATE" { "/state" } else { "/run" }))
        };
        let only_xdg = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| OsString::from("/run"));
        assert_eq!(chosen(Some(Path::new("x")), both), Some("x".into()));
        assert_eq!(chosen(None, both), Some("/state".into()));
        assert_eq!(chosen(None, only_xdg), Some("/run/busctl".into()));
        assert_eq!(chosen(None, |_| Some("".into())), None);
        assert_eq!(chosen(None, |name| (name == "XDG_RUNTIME_DIR").then(|| "run".into())), None);
    }

    #[test]
    fn root_of_a_user_namespace_is_the_user_outside() {
        assert_eq!(outer_user(0, "         0       1000          1\n"), 1_000);
        assert_eq!(outer_user(7, "0 1000 1\n1 100000 65536\n"), 100_006);
        assert_eq!(outer_user(1_000, "1000 1000 1"), 1_000);
        // Outside of all namespaces, for a user that is not mapped, and without a map.
        assert_eq!(outer_user(42, "0 0 4294967295"), 42);
        assert_eq!(outer_user(65_534, "0 1000 1"), 65_534);
        assert_eq!(outer_user(9, ""), 9);
        assert_eq!(outer_user(9, "0 4294967290 100"), 9);
    }

    #[test]
    fn a_folder_that_others_may_use_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let user = geteuid().as_raw();
        let own = |name: &str, user| {
            own_folder(temporary.path().join(name), user).map_err(|error| error.to_string())
        };

        assert!(own("mine", user).is_ok());
        assert!(own("mine", user).is_ok(), "a second time");
        assert!(own("mine", user + 1).unwrap_err().contains("belongs to user"));

        symlink(temporary.path().join("mine"), temporary.path().join("link")).unwrap();
        assert!(own("link", user).unwrap_err().contains("not a folder"));

        fs::set_permissions(temporary.path().join("mine"), fs::Permissions::from_mode(0o770))
            .unwrap();
        assert!(own("mine", user).unwrap_err().contains("mode 0770"));
    }
}
