//! Why namespaces are denied, and what works without them.

use std::fs;
use std::path::Path;

use nix::errno::Errno;

/// What needs no namespace.
const WITHOUT: &str = "without namespaces there are 'busctl host', and 'socket:' ports of \
                       'busctl attach' for virtual machines";
/// How many namespaces of each kind a user may have.
const LIMITS: [&str; 5] = [
    "user/max_user_namespaces",
    "user/max_net_namespaces",
    "user/max_mnt_namespaces",
    "user/max_pid_namespaces",
    "user/max_uts_namespaces",
];

/// Returns what follows an error about a new namespace: the setting that denies it, if one is
/// found, and what works instead.
pub(crate) fn explain(errno: Option<i32>) -> String {
    match cause(errno, Path::new("/proc")) {
        Some(cause) => format!("{cause}; {WITHOUT}"),
        None => WITHOUT.to_owned(),
    }
}

/// Returns what follows an error about the TAP device.
pub(crate) fn without_device() -> &'static str {
    WITHOUT
}

/// Returns whether a system call failed because it is denied.
pub(crate) fn is_denial(errno: Option<i32>) -> bool {
    errno.map(Errno::from_raw).is_some_and(|errno| matches!(errno, Errno::EPERM | Errno::EACCES))
}

/// Returns the setting that denies new namespaces, and how an administrator changes it.
fn cause(errno: Option<i32>, proc: &Path) -> Option<String> {
    let errno = Errno::from_raw(errno?);
    let setting = |name: &str| {
        let text = fs::read_to_string(proc.join("sys").join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let dotted = |name: &str| name.replace('/', ".");
    let is = |name: &str, value: u64, cure: u64| {
        let name = (setting(name) == Some(value)).then(|| dotted(name))?;
        Some(format!("{name} is {value} ('sysctl {name}={cure}' as root allows it)"))
    };
    match errno {
        Errno::ENOSPC | Errno::EUSERS => {
            let zero = LIMITS.into_iter().find_map(|name| is(name, 0, 10_000));
            zero.or_else(|| {
                Some("there are as many namespaces as user.max_*_namespaces allow".to_owned())
            })
        }
        Errno::EPERM | Errno::EACCES => is("kernel/unprivileged_userns_clone", 0, 1)
            .or_else(|| is("kernel/apparmor_restrict_unprivileged_userns", 1, 0))
            .or_else(|| {
                let status = fs::read_to_string(proc.join("self/status")).ok()?;
                status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])).then(
                    || {
                        "a seccomp filter is on, as in most containers (Docker: '--security-opt \
                     seccomp=unconfined' allows it)"
                            .to_owned()
                    },
                )
            }),
        Errno::EINVAL | Errno::ENOSYS => Some(
            "the kernel is built without one of user, network, mount, UTS and pid namespaces"
                .to_owned(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the cause in a system with these files below `/proc`.
    fn found(errno: Errno, files: &[(&str, &str)]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        cause(Some(errno as i32), folder.path())
    }

    #[test]
    fn the_setting_is_named() {
        let ubuntu = [
            ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
            ("sys/kernel/unprivileged_userns_clone", "1\n"),
        ];
        let said = found(Errno::EPERM, &ubuntu).unwrap();
        assert!(said.starts_with("kernel.apparmor_restrict_unprivileged_userns is 1"), "{said}");
        assert!(said.contains("'sysctl kernel.apparmor_restrict_unprivileged_userns=0'"), "{said}");
        let debian = [("sys/kernel/unprivileged_userns_clone", "0\n")];
        let said = found(Errno::EPERM, &debian).unwrap();
        assert!(said.starts_with("kernel.unprivileged_userns_clone is 0"), "{said}");
        let limited =
            [("sys/user/max_user_namespaces", "96365\n"), ("sys/user/max_net_namespaces", "0\n")];
        let said = found(Errno::ENOSPC, &limited).unwrap();
        assert!(said.starts_with("user.max_net_namespaces is 0"), "{said}");
        let said = found(Errno::ENOSPC, &limited[..1]).unwrap();
        assert!(said.contains("user.max_*_namespaces"), "{said}");
        let docker = [("self/status", "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n")];
        assert!(found(Errno::EPERM, &docker).unwrap().starts_with("a seccomp filter"));
        let open = [("self/status", "Name:\tx\nSeccomp:\t0\n")];
        assert_eq!(found(Errno::EPERM, &open), None);
        assert_eq!(found(Errno::EIO, &docker), None);
    }

    #[test]
    fn what_works_instead_is_always_said() {
        for errno in [None, Some(Errno::EPERM as i32), Some(Errno::ENOSPC as i32)] {
            let said = explain(errno);
            assert!(said.contains("busctl host") && said.contains("socket:"), "{said}");
        }
    }
}
