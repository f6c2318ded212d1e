//! Files that CMD sees differently: `/etc/resolv.conf`, `/etc/hosts`, `/etc/hostname`, `/proc` and
//! `/sys`. They are mounts in a mount namespace of its own, so no shared file is written, and they
//! end with the namespace.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::sethostname;

use super::messages::Plan;

/// Where the new files are until each is mounted on the one it replaces.
const SCRATCH: &str = "/tmp";
const NONE: Option<&str> = None;

/// Keeps mounts of this mount namespace from others. Mounts of others still come.
pub(super) fn make_private() -> Result<(), Errno> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
    // The interfaces under /sys are those of the namespace that it was mounted in. Where a
    // container hides parts of it, the old one stays, and few programs look there.
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), quiet(), NONE);
    Ok(())
}

/// Mounts a `/proc` that shows the processes of this pid namespace.
pub(super) fn mount_proc() -> Result<(), Errno> {
    mount(Some("proc"), "/proc", Some("proc"), quiet(), NONE)
}

fn quiet() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

/// Sets the host name, and replaces the files that the plan names. An error comes with what was
/// attempted.
pub(super) fn write(plan: &Plan) -> Result<(), (String, io::Error)> {
    let attempt = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| (what, error)
    };
    if plan.forward {
        for path in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
            match fs::write(path, "1") {
                // A kernel without IPv6 has no such file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                written => written.map_err(attempt(&format!("write {path}")))?,
            }
        }
    }
    if plan.user {
        // Without the rights of root 'ping' needs this one. Where it cannot be written, ping may
        // have rights of its own.
        let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", own_group());
    }
    if let Some(hostname) = &plan.hostname {
        sethostname(hostname).map_err(io::Error::from).map_err(attempt("set the host name"))?;
    }
    let files = contents(plan);
    if files.is_empty() {
        return Ok(());
    }
    mount(Some("tmpfs"), SCRATCH, Some("tmpfs"), quiet(), Some("mode=0755"))
        .map_err(|errno| attempt("mount a folder for new files")(errno.into()))?;
    let replaced = files.iter().enumerate().try_for_each(|(number, (path, text))| {
        let scratch = Path::new(SCRATCH).join(number.to_string());
        // A system may have no such file, or a link to one that is not there.
        let there = if Path::new(path).exists() { Ok(()) } else { make_missing(Path::new(path)) };
        there
            .and_then(|()| fs::write(&scratch, text))
            .and_then(|()| Ok(mount(Some(&scratch), *path, NONE, MsFlags::MS_BIND, NONE)?))
            .map_err(attempt(&format!("replace {path} for the command")))
    });
    // Files that are mounted elsewhere stay.
    umount2(SCRATCH, MntFlags::MNT_DETACH)
        .map_err(|errno| attempt("unmount the folder of new files")(errno.into()))?;
    replaced
}

/// Makes an empty file in a folder of the system, which only this mount namespace sees. The folder
/// itself may not be written to: so another takes its place, with all that is in it.
fn make_missing(path: &Path) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    // It stays open until the end of this function.
    let open = File::open(folder)?;
    let covered = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
    mount(Some("tmpfs"), folder, Some("tmpfs"), quiet(), Some("mode=0755"))?;
    for entry in entries {
        let (old, new) = (covered.join(entry.file_name()), folder.join(entry.file_name()));
        let kind = entry.file_type()?;
        if new == path {
            continue;
        }
        if kind.is_symlink() {
            symlink(fs::read_link(old)?, new)?;
            continue;
        }
        if kind.is_dir() {
            fs::create_dir(&new)?;
        } else {
            File::create(&new)?;
        }
        mount(Some(&old), &new, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
    }
    File::create(path).map(drop)
}

/// Returns the range of the one group that this process is in.
fn own_group() -> String {
    let group = nix::unistd::getegid();
    format!("{group} {group}")
}

/// Returns the files to be replaced, with their new contents.
fn contents(plan: &Plan) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    if !plan.dns.is_empty() {
        let lines = plan.dns.iter().map(|server| format!("nameserver {server}\n"));
        files.push(("/etc/resolv.conf", lines.collect()));
    }
    if let Some(hostname) = &plan.hostname {
        let path = "/etc/hosts";
        files.push((path, hosts(plan, hostname, &fs::read_to_string(path).unwrap_or_default())));
        let path = "/etc/hostname";
        if Path::new(path).exists() {
            files.push((path, format!("{hostname}\n")));
        }
    }
    files
}

/// Returns `/etc/hosts` with the host's own name before what it had.
fn hosts(plan: &Plan, hostname: &str, before: &str) -> String {
    let mut text = String::new();
    let addresses = plan.interfaces.iter().flat_map(|interface| &interface.addresses);
    for address in addresses {
        let _ = writeln!(text, "{}\t{hostname}", address.addr());
    }
    if text.is_empty() {
        let _ = writeln!(text, "127.0.1.1\t{hostname}");
    }
    text.push_str(before);
    text
}

#[cfg(test)]
mod tests {
    use super::super::messages::{InterfacePlan, Space};
    use super::*;

    #[test]
    fn the_own_name_comes_first_and_the_rest_stays() {
        let mut plan = Plan {
            space: Space::New,
            interfaces: vec![InterfacePlan::default()],
            routes: Vec::new(),
            dns: Vec::new(),
            hostname: None,
            user: false,
            forward: false,
        };
        assert!(contents(&plan).is_empty());
        assert_eq!(hosts(&plan, "a", "::1 localhost\n"), "127.0.1.1\ta\n::1 localhost\n");
        let addresses = ["10.0.0.1/24", "fd00::1/64"].map(|text| text.parse().unwrap());
        plan.interfaces[0].addresses = addresses.to_vec();
        assert_eq!(hosts(&plan, "a", ""), "10.0.0.1\ta\nfd00::1\ta\n");
        plan.dns = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let files = contents(&plan);
        let text = "nameserver 10.0.0.2\nnameserver fd00::2\n".to_owned();
        assert_eq!(files, [("/etc/resolv.conf", text)]);
    }
}
