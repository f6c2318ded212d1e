//! What makes the program pleasant in a shell: completions, manual pages, logs.

use std::process::Command;

use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;

use crate::{Lab, terminal};

#[test]
fn bash_completes_verbs_and_flags() {
    let lab = Lab::new();
    std::fs::write(lab.path("busctl.bash"), lab.prints("completions bash")).unwrap();
    let complete = |words: &str, index: u32| {
        // The arguments are the command, the word, and the one before it.
        let script = format!(
            ". ./busctl.bash; COMP_WORDS=({words}); COMP_CWORD={index}; _busctl busctl \
             \"${{COMP_WORDS[{index}]}}\" \"${{COMP_WORDS[{index}-1]}}\"; echo \"${{COMPREPLY[@]}}\""
        );
        let output =
            Command::new("bash").args(["-c", &script]).current_dir(lab.path("")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    assert_eq!(complete("busctl rep", 1), "replay repair");
    assert_eq!(complete("busctl dump --fol", 2), "--follow");
    assert_eq!(complete("busctl completions z", 2), "zsh");
}

#[test]
fn there_are_completions_for_every_shell_and_no_other() {
    let lab = Lab::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = lab.prints(&format!("completions {shell}"));
        assert!(lab.verbs().iter().all(|verb| script.contains(verb.as_str())), "{shell}");
    }
    lab.refuses("completions bsh", "a similar value exists: 'bash'");
    lab.refuses("completions", "busctl completions --help");
}

#[test]
fn every_verb_has_a_manual_page() {
    let lab = Lab::new();
    assert_eq!(lab.prints("man share/man1"), "");
    let page = |name: &str| std::fs::read_to_string(lab.path("share/man1").join(name)).unwrap();
    for verb in lab.verbs() {
        assert!(page("busctl.1").contains(&verb), "{verb}");
        let page = page(&format!("busctl-{verb}.1"));
        assert!(
            page.starts_with(".ie") && page.contains(".SH OPTIONS") && page.contains("Examples:"),
            "{page}"
        );
    }
    assert!(!lab.path("share/man1/busctl-help.1").exists());
    // Again, over the old ones.
    lab.prints("man share/man1");
    std::fs::write(lab.path("notes"), "").unwrap();
    lab.refuses("man notes", "cannot write manual pages to notes: File exists");
    lab.refuses("man notes/man1", "cannot write manual pages to notes/man1: Not a directory");
}

#[test]
fn logs_are_asked_for_before_the_verb_or_behind_it() {
    let lab = Lab::new();
    for words in ["-v show", "show -v", "show --verbose"] {
        lab.busctl(words)
            .assert()
            .success()
            .stdout("")
            .stderr(contains("INFO busctl: busctl version="));
    }
    lab.busctl("show").assert().success().stderr("");
    let filtered = |filter: &str, words: &str| lab.busctl(words).env("BUSCTL_LOG", filter).assert();
    filtered("info", "show").success().stderr(contains("INFO"));
    filtered("memif=debug", "show -vvv").success().stderr("");
    filtered("busctl=loud", "show")
        .code(2)
        .stderr(contains("$BUSCTL_LOG is no filter").and(contains("\n").count(1)));
}

/// Help is coloured for people only, and not for those who do not want it.
#[test]
fn colours_are_for_terminals() {
    let lab = Lab::new();
    for words in ["--help", "dump --help", "show --jsn", "show shmif9"] {
        let output = lab.busctl(words).output().unwrap();
        assert!(
            !output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b),
            "{words}: {output:?}"
        );
    }
    let on_a_terminal = |no_color: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_busctl"));
        let (status, shown) = terminal::run(command.env("NO_COLOR", no_color).arg("--help"));
        assert!(status.success() && shown.contains("Commands:"), "{shown}");
        shown
    };
    assert!(on_a_terminal("").contains('\x1b'));
    assert!(!on_a_terminal("1").contains('\x1b'));
}

#[test]
fn the_version_names_the_commit() {
    let lab = Lab::new();
    let git = |args: &[&str]| {
        let output =
            Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let number = env!("CARGO_PKG_VERSION");
    let expected = match git(&["ls-files", "--error-unmatch", "build.rs"]) {
        Some(_) => {
            format!("busctl {number} ({})\n", git(&["log", "-1", "--format=%h %cs"]).unwrap())
        }
        None => format!("busctl {number}\n"),
    };
    assert_eq!(lab.prints("--version"), expected);
    assert_eq!(lab.prints("-V"), expected);
}

#[test]
fn words_of_other_programs_are_answered_with_the_verb() {
    let lab = Lab::new();
    for (words, meant) in [
        ("ls", "did you mean 'busctl list'"),
        ("rm shmif0", "did you mean 'busctl destroy IFNAME'?"),
        ("delete shmif0", "did you mean 'busctl destroy IFNAME'?"),
        ("status", "did you mean 'busctl show'?"),
        ("start shmif0", "did you mean 'busctl up IFNAME'?"),
        ("ip link", "did you mean 'busctl show'?"),
        ("shmif0 up", "did you mean 'busctl up shmif0'?"),
        ("shmif0", "did you mean 'busctl show shmif0'?"),
        ("shmif0 linkstr ./lan.bus", "did you mean 'busctl linkstr shmif0 ./lan.bus'?"),
    ] {
        lab.refuses(words, meant);
    }
}
