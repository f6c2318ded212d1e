//! The program under the name that packages install it by.

use std::fs;
use std::os::unix::fs::symlink;

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::{contains, starts_with};

use crate::Lab;

/// The program under another name, with a clean environment.
fn called(lab: &Lab, name: &str) -> Command {
    let link = lab.path(name);
    if !link.is_symlink() {
        symlink(env!("CARGO_BIN_EXE_busctl"), &link).unwrap();
    }
    let mut command = Command::new(link);
    command.env_clear().current_dir(lab.path("")).arg("--state").arg(lab.path("state"));
    command
}

#[test]
fn messages_have_the_name_that_was_called() {
    let lab = Lab::new();
    lab.prints("create shmif0");
    let packaged = |words: &str| {
        let mut command = called(&lab, "shmbusctl");
        command.args(words.split_whitespace());
        command
    };
    packaged("--version").assert().success().stdout(starts_with("shmbusctl "));
    // Of this program, of a library, and of the parser of the command line.
    let unknown = "no interface shmif7 (did you mean 'shmif0'?); 'shmbusctl show' lists them";
    let unknown = contains(unknown).and(contains("'shmbusctl create shmif7' makes it"));
    packaged("show shmif7").assert().code(2).stderr(starts_with("shmbusctl: ").and(unknown));
    packaged("attach ./lan.bus socket:fd=3,path=x")
        .assert()
        .code(2)
        .stderr(starts_with("shmbusctl: "));
    packaged("show --jsn").assert().code(2).stderr(contains("see 'shmbusctl show --help'"));
    packaged("ls").assert().code(2).stderr(contains("did you mean 'shmbusctl list'"));
    // Another process of the program speaks for it.
    packaged("host -d=web ./lan.bus nonsense").assert().code(2).stderr(starts_with("shmbusctl: "));
    // What lies in files keeps its place under either name.
    packaged("show shmif0").assert().success().stdout(contains("shmif0: "));
    packaged("lab down").assert().code(2).stderr(contains("'shmbusctl lab up FILE'"));
    called(&lab, "any-other")
        .arg("show")
        .arg("shmif7")
        .assert()
        .code(2)
        .stderr(starts_with("busctl: "));
}

#[test]
fn man_pages_and_completions_have_the_name_that_was_called() {
    let lab = Lab::new();
    called(&lab, "shmbusctl").args(["man", "./pages"]).assert().success();
    let pages: Vec<_> = fs::read_dir(lab.path("pages")).unwrap().map(Result::unwrap).collect();
    assert!(pages.len() > 20);
    for page in &pages {
        let name = page.file_name().into_string().unwrap();
        assert!(name.starts_with("shmbusctl"), "{name}");
        let text = fs::read_to_string(page.path()).unwrap();
        let others = text
            .replace("shmshm", "busctl")
            .replace("shmbusctl", "")
            .replace("$XDG_RUNTIME_DIR/busctl", "");
        let others: Vec<&str> = others.lines().filter(|line| line.contains("busctl")).collect();
        assert!(others.is_empty(), "{name}: {others:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = called(&lab, "shmbusctl").args(["completions", shell]).assert().success();
        let script = String::from_utf8(output.get_output().stdout.clone()).unwrap();
        let of_program = match shell {
            "bash" => "-o default shmbusctl\n",
            "zsh" => "#compdef shmbusctl\n",
            _ => "complete -c shmbusctl ",
        };
        assert!(script.contains(of_program), "{script}");
    }
}

#[test]
fn the_link_for_wireshark_has_either_name() {
    let lab = Lab::new();
    for name in ["busctl", "shmbusctl"] {
        let link = format!("{name}-extcap\n");
        let install = |how: &str| {
            called(&lab, name).args(["extcap", how, "--folder", "./extcap"]).assert().success()
        };
        install("--install").stdout(predicates::str::ends_with(link.clone()));
        let mut device = Command::new(lab.path("extcap").join(link.trim_end()));
        let device = device.env_clear().env("BUSCTL_STATE", lab.path("state"));
        let display = format!("{{display={name}}}");
        device.arg("--extcap-interfaces").assert().success().stdout(contains(display));
        install("--uninstall").stdout(predicates::str::ends_with(link));
    }
}
