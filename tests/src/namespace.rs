//! Network namespaces: interfaces, addresses and routes that only the programs of one test see.
//! Each comes with a user namespace, in which an unprivileged process may create interfaces.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::{Lab, Process, WAIT_TIMEOUT, require};

/// A network namespace. It exists until this value is dropped and the last program in it ends.
pub struct Namespace<'l> {
    lab: &'l Lab,
    /// Reads from a pipe of the test, so that it ends with the test even if the test is killed.
    holder: Process,
}

impl<'l> Namespace<'l> {
    /// Creates a namespace that contains only a loopback interface, which is down.
    ///
    /// # Panics
    /// When the system does not allow it; see [`available`].
    #[must_use]
    pub fn new(lab: &'l Lab) -> Self {
        let mut command = lab.command("unshare");
        command.args(["--user", "--map-root-user"]);
        Self::hold(lab, command)
    }

    /// Creates another such namespace in the same user namespace. Interfaces can be moved from one
    /// to the other.
    ///
    /// # Panics
    /// When the system does not allow it.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self::hold(self.lab, self.command("unshare"))
    }

    /// Creates the namespace with `command`, a start of `unshare`(1).
    fn hold(lab: &'l Lab, mut command: Command) -> Self {
        command.args(["--net", "sh", "-c", "echo inside; exec cat"]);
        let holder = Process::spawn("unshare", &mut command);
        holder.wait_for(0, WAIT_TIMEOUT, "its namespace", |line| line.text == "inside");
        Self { lab, holder }
    }

    /// Returns the id of a process in the namespace, which lives as long as it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.holder.id()
    }

    /// Prepares a program to run in the namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.lab.command("nsenter");
        command.args(["--preserve-credentials", "--user", "--net", "--target"]);
        command.arg(self.holder.id().to_string()).arg("--").arg(program);
        // Entering a user namespace clears the parent-death signal. This variable makes busctl set
        // it again.
        command.env("BUSCTL_END_WITH_PARENT", std::process::id().to_string());
        command
    }

    /// Starts a program in the namespace and leaves it running.
    #[must_use]
    pub fn spawn<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
    ) -> Process {
        let name = program.as_ref().to_string_lossy().into_owned();
        Process::spawn(&name, self.command(program).args(args))
    }

    /// Runs `ip`(8) in the namespace. `words` are its arguments, separated by blanks.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, words: &str) {
        self.lab.run_program(self.command("ip").args(words.split_whitespace())).succeeds();
    }

    /// Starts `busctl attach` in the namespace with a TAP interface `tap0` on `bus`, gives the
    /// interface its `addresses` and sets it up.
    ///
    /// # Panics
    /// When any of this fails.
    #[must_use]
    pub fn attach_tap(&self, bus: &str, keys: &str, addresses: [&str; 2]) -> Process {
        let port = format!("tap:name=tap0,{keys}");
        let node = self.spawn(self.lab.program(), ["attach", bus, &port]);
        node.wait_for(0, WAIT_TIMEOUT, "the line `ready`", |line| line.text == "ready");
        self.set_up("tap0", addresses);
        node
    }

    /// Gives an interface its IPv4 and IPv6 addresses and sets it up.
    pub fn set_up(&self, interface: &str, [v4, v6]: [&str; 2]) {
        self.ip(&format!("address add {v4} dev {interface}"));
        self.ip(&format!("address add {v6} dev {interface} nodad"));
        self.ip(&format!("link set {interface} up"));
    }
}

/// Returns whether unprivileged users may create namespaces and TAP interfaces in them. If not,
/// reports that the test is skipped.
///
/// # Panics
/// When they may not and `BUSCTL_REQUIRE_PEERS=1`.
#[must_use]
pub fn available() -> bool {
    if !require::program("unshare") || !require::program("nsenter") || !require::program("ip") {
        return false;
    }
    let mut trial = Command::new("unshare");
    trial.args([
        "--user",
        "--map-root-user",
        "--net",
        "ip",
        "tuntap",
        "add",
        "dev",
        "tap0",
        "mode",
        "tap",
    ]);
    crate::privilege::drop_root(&mut trial);
    let trial = trial.stdin(Stdio::null()).output().expect("unshare starts");
    let required = std::env::var("BUSCTL_REQUIRE_PEERS").as_deref() == Ok("1");
    let what = "the right to make a TAP interface in a namespace (user namespaces, /dev/net/tun)";
    let skipped = require::skips(trial.status.success(), what, required);
    if let Some(skipped) = &skipped {
        let _ = writeln!(
            std::io::stderr(),
            "{skipped}: {}",
            String::from_utf8_lossy(&trial.stderr).trim()
        );
    }
    skipped.is_none()
}
