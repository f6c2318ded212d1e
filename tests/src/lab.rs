//! The scratch folder of a test, and `busctl` run inside it without privileges.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use serde_json::Value;

use crate::{Finished, Process, WAIT_TIMEOUT, privilege, wait};

/// How long a command that ends by itself may take. The longest are full-size transfers in a debug
/// build on shared cores.
const COMMAND: Duration = Duration::from_mins(2);

/// An empty scratch folder, owned by the user that the test's processes run as. State, sockets and
/// temporary files of the processes all go into it, so that leftovers are visible.
///
/// Declare it before the processes of the test. Dropped last, it asserts that no process is left
/// and removes the folder.
pub struct Lab {
    folder: TempDir,
    busctl: PathBuf,
}

impl Lab {
    /// Creates a lab around the program `busctl`. Tests write `lab!()`.
    ///
    /// # Panics
    /// When the folder cannot be created.
    #[must_use]
    pub fn new(busctl: &Path) -> Self {
        // A bus belongs in memory, and a short path leaves room in the 108 bytes of a socket's
        // address.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new()
            .prefix("bt")
            .tempdir_in(&parent)
            .or_else(|_| tempfile::Builder::new().prefix("bt").tempdir())
            .expect("a scratch folder");
        privilege::hand_over(folder.path());
        let lab = Self { busctl: reachable(busctl, folder.path()), folder };
        for private in [lab.tmp(), lab.runtime(), lab.state()] {
            std::fs::create_dir(&private).expect("a folder in the lab");
            std::fs::set_permissions(&private, PermissionsExt::from_mode(0o700)).expect("its mode");
            privilege::hand_over(&private);
        }
        lab
    }

    /// Returns the path of `busctl`, in a place that the children's user can reach.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.busctl
    }

    /// Returns the path of `name` in the lab.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the same path as text, for arguments.
    #[must_use]
    pub fn arg(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().expect("the lab's path is text")
    }

    /// Returns the folder where the processes of this lab put temporary files (`$TMPDIR`).
    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.path("tmp")
    }

    /// Returns their `$XDG_RUNTIME_DIR`.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.path("run")
    }

    /// Returns their `$BUSCTL_STATE`.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a file into the lab that its processes may read and write.
    ///
    /// # Panics
    /// When that fails.
    #[allow(
        clippy::must_use_candidate,
        reason = "the file is the point; its path is known from the name"
    )]
    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("write into the lab");
        privilege::hand_over(&path);
        path
    }

    /// Returns the sorted names of all entries of `folder`.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn list(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder)
            .unwrap_or_else(|why| panic!("list {}: {why}", folder.display()));
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Prepares any program to run in this lab, unprivileged and with all its files in the lab.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env("TMPDIR", self.tmp())
            .env("XDG_RUNTIME_DIR", self.runtime())
            .env("BUSCTL_STATE", self.state())
            .env("HOME", self.tmp())
            .env_remove("BUSCTL_LOG")
            .env_remove("RUMP_SHMIF_CAPENABLE");
        privilege::drop_root(&mut command);
        command
    }

    /// Prepares `busctl` with these arguments without starting it.
    pub fn busctl<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.command(&self.busctl);
        command.args(args);
        command
    }

    /// Returns the path of another `program` of this build, in a place that the children's user can
    /// reach.
    #[must_use]
    pub fn reach(&self, program: &Path) -> PathBuf {
        reachable(program, self.folder.path())
    }

    /// Starts `busctl` with these arguments and leaves it running.
    #[must_use]
    pub fn spawn<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Process {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Process::spawn(&name_of(&args), &mut self.busctl(&args))
    }

    /// Starts `busctl` with these arguments and waits until it prints `ready`, as text or as JSON.
    #[must_use]
    pub fn ready<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Process {
        let process = self.spawn(args);
        process.wait_for(0, WAIT_TIMEOUT, "the line `ready`", |line| {
            ["ready", r#"{"ready":true}"#].contains(&line.text.as_str())
        });
        process
    }

    /// Runs `busctl` with these arguments to its end.
    #[must_use]
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Finished {
        self.spawn(args).finish(COMMAND)
    }

    /// Runs `busctl`, asserts that it succeeds with nothing on standard error, and returns what it
    /// prints. `words` are its arguments, separated by blanks.
    ///
    /// # Panics
    /// When it fails or writes to standard error.
    #[allow(
        clippy::must_use_candidate,
        reason = "most callers want the effect; the output is a convenience"
    )]
    pub fn does(&self, words: &str) -> String {
        let finished = self.run(words.split_whitespace());
        assert_eq!(finished.stderr, "", "{finished}");
        finished.succeeds().to_owned()
    }

    /// Returns what `show` reports about an interface, or about the bus at a path.
    ///
    /// # Panics
    /// When `show` fails, because there is no such interface or bus.
    #[must_use]
    pub fn show(&self, subject: &str) -> Value {
        self.run(["show", subject, "--json"]).json()
    }

    /// Waits until what `show` reports about an interface or bus satisfies `holds`.
    ///
    /// # Panics
    /// When it does not within [`WAIT_TIMEOUT`]. The message contains `what` and the last report.
    pub fn shows(&self, subject: &str, what: &str, holds: impl Fn(&Value) -> bool) {
        let mut last = Value::Null;
        let shown = wait::poll(WAIT_TIMEOUT, || {
            last = self.show(subject);
            holds(&last).then_some(())
        });
        assert!(shown.is_some(), "{subject} should show {what}: {last}");
    }

    /// Runs any program to its end, in this lab.
    #[must_use]
    pub fn run_program(&self, command: &mut Command) -> Finished {
        let name = command.get_program().to_string_lossy().into_owned();
        Process::spawn(&name, command).finish(COMMAND)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Grandchildren are killed with their process group, but init reaps them. This takes a
            // moment.
            let gone = || processes_in(self.folder.path()).is_empty().then_some(());
            let orphans = || processes_in(self.folder.path());
            assert!(
                wait::poll(WAIT_TIMEOUT, gone).is_some(),
                "processes outlived their test: {:#?}",
                orphans()
            );
        }
    }
}

fn name_of(args: &[OsString]) -> String {
    let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    format!("busctl {}", args.join(" "))
}

/// Returns `program` itself if the children's user can reach it. Otherwise, for example in a
/// checkout below `/root`, returns a copy of it in the lab.
fn reachable(program: &Path, folder: &Path) -> PathBuf {
    let open_to_all = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0)
    };
    if !privilege::are_root() || program.ancestors().all(open_to_all) {
        return program.to_owned();
    }
    let copy = folder.join(program.file_name().expect("a program has a name"));
    if copy.exists() {
        return copy;
    }
    std::fs::copy(program, &copy).expect("copy the program into the lab");
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).expect("its mode");
    copy
}

/// Returns the command lines of running processes whose working folder is in `folder` or whose
/// arguments name it. One of the two holds for every process of a lab.
fn processes_in(folder: &Path) -> Vec<String> {
    let name = folder.to_string_lossy();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let of_the_lab = |process: PathBuf| {
        let cmdline = std::fs::read(process.join("cmdline")).ok()?;
        let cmdline = String::from_utf8_lossy(&cmdline).replace('\0', " ");
        // A zombie has neither a command line nor a working folder.
        let works_here =
            std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        (works_here || cmdline.contains(&*name)).then_some(cmdline)
    };
    processes.filter_map(|entry| of_the_lab(entry.ok()?.path())).collect()
}
