//! Virtual machines without KVM: QEMU, a kernel of Debian's cloud image, and an initramfs with
//! busybox that is made here.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Lab, Process, require};

/// Names the folder with an unpacked kernel package. Without it, an installed kernel is used.
const FOLDER: &str = "BUSCTL_TEST_KERNEL";

/// The kernel's modules for a virtio network device, each after those it needs.
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
];

/// The first program: the parameters of the kernel say what it does. It reports on the console.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in /mod/*; do $b insmod $module; done
for word in $($b cat /proc/cmdline); do
    case $word in
    address=*) address=${word#address=} ;;
    second=*) second=${word#second=} ;;
    ping=*) others="$others ${word#ping=}" ;;
    fetch=*) port=${word#fetch=} ;;
    esac
done
$b ip link set lo up
$b ip link set eth0 up
$b ip addr add $address dev eth0
if [ -n "$second" ]; then
    $b ip link set eth1 up
    $b ip addr add $second dev eth1
fi
echo "$address is up"
for other in $others; do
    until $b ping -c 1 -W 1 $other >/dev/null; do :; done
    echo "$address has an answer of $other"
done
if [ -n "$port" ]; then
    $b ip link set eth1 up
    until $b udhcpc -q -n -i eth1 -s /dhcp; do :; done
    until $b nc -w 5 $($b cat /router) $port </dev/null; do $b sleep 1; done
fi
$b sleep 1000
"#;

/// What udhcpc calls with an answer.
const DHCP: &str = r#"#!/bin/busybox sh
[ "$1" = bound ] || exit 0
/bin/busybox ip addr add $ip/${mask:-24} dev $interface
echo $router >/router
echo "DHCP gave $ip"
"#;

/// What all machines boot from.
pub struct Image {
    kernel: PathBuf,
    initramfs: PathBuf,
    vde_plugins: Option<PathBuf>,
}

impl Image {
    /// Makes an image in the folder of `lab`. Returns `None`, and reports that, when there is no
    /// kernel.
    ///
    /// # Panics
    /// When a file is missing, or there is no kernel and `BUSCTL_REQUIRE_PEERS=1`.
    #[must_use]
    pub fn new(lab: &Lab) -> Option<Self> {
        let root = std::env::var_os(FOLDER).map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let found = newest(&root.join("boot"), "vmlinuz-").and_then(|kernel| {
            let release = kernel.file_name()?.to_str()?.strip_prefix("vmlinuz-")?.to_owned();
            let modules = root.join("lib/modules").join(release).join("kernel");
            modules.is_dir().then_some((kernel, modules))
        });
        let required = std::env::var("BUSCTL_REQUIRE_PEERS").as_deref() == Ok("1");
        if let Some(skipped) = require::skips(found.is_some(), "a kernel for machines", required) {
            eprintln!("{skipped}");
            return None;
        }
        let (kernel, modules) = found?;
        let mut archive = Archive::default();
        for folder in ["bin", "mod", "proc", "dev"] {
            archive.folder(folder);
        }
        // The one beside the kernel is of the machines' architecture, whatever this one is.
        let beside = Some(root.join("bin/busybox")).filter(|busybox| busybox.is_file());
        let busybox = beside.or_else(|| require::find("busybox")).expect("busybox");
        archive.program("bin/busybox", &std::fs::read(busybox).expect("busybox"));
        for (number, name) in MODULES.iter().enumerate() {
            // One that is built in has no file.
            if let Some(module) = module(&modules, name) {
                let bytes = std::fs::read(&module).expect("a module");
                archive.program(&format!("mod/{number}-{name}"), &bytes);
            }
        }
        archive.program("init", INIT.as_bytes());
        archive.program("dhcp", DHCP.as_bytes());
        let initramfs = lab.write("initramfs", &archive.end());
        let kernel = lab.write("kernel", &std::fs::read(kernel).expect("a kernel"));
        Some(Self { kernel, initramfs, vde_plugins: None })
    }

    /// Sets the folder where machines find plug-ins for `-netdev vde`.
    #[must_use]
    pub fn with_vde_plugins(mut self, folder: &Path) -> Self {
        self.vde_plugins = Some(folder.to_owned());
        self
    }

    /// Returns the kernel.
    #[must_use]
    pub fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// Returns the initial file system, whose first program obeys the words of the command line.
    #[must_use]
    pub fn initramfs(&self) -> &Path {
        &self.initramfs
    }

    /// Boots a machine: `words` are the parameters of the program that the kernel starts first, and
    /// `networks` the values of QEMU's `-netdev`, without ids. What it prints is its standard output.
    #[must_use]
    pub fn boot(&self, lab: &Lab, number: u8, words: &str, networks: &[String]) -> Process {
        let mut command: Command = lab.command("qemu-system-x86_64");
        let quick = "console=ttyS0 no_timer_check nokaslr rodata=off mitigations=off panic=-1";
        command
            .args("-M q35 -accel tcg -m 96 -nodefaults -no-user-config -display none".split(' '))
            .args(["-serial", "stdio", "-append", &format!("{quick} {words}")])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs);
        if let Some(folder) = &self.vde_plugins {
            command.env("VDEPLUGIN_PATH", folder);
        }
        for (index, network) in networks.iter().enumerate() {
            let mac = format!("02:00:00:00:{index:02x}:{number:02x}");
            let device = format!("virtio-net-pci,netdev=n{index},mac={mac},romfile=");
            let (kind, rest) = network.split_once(',').expect("a kind and its settings");
            command.args(["-netdev", &format!("{kind},id=n{index},{rest}"), "-device", &device]);
        }
        Process::spawn(&format!("machine {number}"), &mut command)
    }
}

/// Returns the file in `folder` whose name begins with `prefix`, the last of several.
fn newest(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    entries.filter(named).max()
}

/// Returns the file of a module, somewhere below `folder`.
fn module(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = module(&path, name) {
                return Some(found);
            }
        } else if entry.file_name().to_string_lossy().starts_with(&format!("{name}.ko")) {
            return Some(path);
        }
    }
    None
}

/// A cpio archive in the format "newc", as the kernel unpacks it.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn program(&mut self, name: &str, content: &[u8]) {
        self.entry(name, 0o100_755, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let number = |number: usize| u32::try_from(number).expect("a small file");
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            number(content.len()),
            0,
            0,
            0,
            0,
            number(name.len() + 1),
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
