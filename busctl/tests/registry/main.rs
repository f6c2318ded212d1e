//! The verbs that keep interfaces, as a user meets them: what they print, what they refuse, and
//! that nothing is lost when many run at once.

mod colours;
mod conveniences;
mod create;
mod linkstr;
mod many;
mod memif;
mod names;
mod output;
mod runner;
mod set;
mod show;
mod sockets;
mod state;
mod stuck_bus;
mod tap;
#[path = "../terminal/mod.rs"]
mod terminal;
mod up_and_down;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::str::contains;
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a registry and room for buses, gone with the test.
struct Lab {
    folder: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, with a clean environment; `words` are its arguments with blanks between.
    fn busctl(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_busctl"));
        command.env_clear().current_dir(self.folder.path()).arg("--state").arg(self.path("state"));
        command.args(words.split_whitespace());
        command
    }

    /// What it prints when it succeeds, and it must not complain.
    fn prints(&self, words: &str) -> String {
        let output = self.busctl(words).assert().success().stderr("").get_output().stdout.clone();
        String::from_utf8(output).unwrap()
    }

    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.prints(words)).unwrap()
    }

    /// The verbs that the help lists.
    fn verbs(&self) -> Vec<String> {
        let help = self.prints("--help");
        let verbs = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty());
        let verbs =
            verbs.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help");
        verbs.map(str::to_owned).collect()
    }

    /// Wrong use: exit code 2, nothing on stdout, and one line that says `why`.
    fn refuses(&self, words: &str, why: &str) {
        refused(&mut self.busctl(words), 2, why);
    }

    /// Success with nothing on stdout, and one line on stderr that says `what`.
    fn notes(&self, words: &str, what: &str) {
        refused(&mut self.busctl(words), 0, what);
    }

    /// An interface that is up on a bus of its own.
    fn with_interface_up(self) -> Self {
        self.prints("create shmif0");
        self.prints("linkstr shmif0 ./lan.bus");
        self.prints("up shmif0");
        self
    }
}

/// The command ends with `code`, and says `why` in one line on stderr.
fn refused(command: &mut Command, code: i32, why: &str) {
    let assert = command.assert().code(code).stdout("").stderr(contains(why));
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(stderr.starts_with("busctl: ") && stderr.matches('\n').count() == 1, "{stderr:?}");
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
