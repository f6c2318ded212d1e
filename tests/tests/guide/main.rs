//! The guide's commands, run as written, print what the guide says they print.

mod transcript;

use std::os::unix::fs::symlink;

use system_tests::process::Stream;
use system_tests::{CpuLock, Lab, Process, WAIT_TIMEOUT, lab, namespace, require, wait};

use self::transcript::{Section, Step};

const GUIDE: &str = include_str!("../../../GUIDE.md");

/// Runs a section of the guide by typing its commands into a shell in an empty folder.
fn follow(title: &str) {
    let sections = transcript::sections(GUIDE);
    let section =
        sections.iter().find(|section| section.title == title).expect("the guide has this section");
    let is_there = |need: &String| match need.as_str() {
        "namespaces" => namespace::available(),
        // A program without them says how it is built with them.
        "trunk" => cfg!(feature = "trunk"),
        program => require::program(program),
    };
    if !section.needs.iter().all(is_there) {
        return;
    }
    let _cpus =
        section.needs.iter().any(|program| program == "dpdk-testpmd").then(CpuLock::acquire);
    let lab = lab!();
    let mut reader = Reader::new(&lab);
    for (number, step) in section.steps.iter().enumerate() {
        reader.does(number, step);
    }
}

/// The list at the top leads to every section, in order.
#[test]
fn the_contents_list_every_section() {
    let titles = GUIDE.lines().filter_map(|line| line.strip_prefix("## "));
    let listed = GUIDE.lines().filter_map(|line| line.strip_prefix("- [")?.split_once("](#"));
    assert!(titles.eq(listed.map(|(title, _)| title)));
}

/// A reader of the guide, with a shell.
struct Reader<'lab> {
    lab: &'lab Lab,
    shell: Process,
}

impl<'lab> Reader<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        let programs = lab.path("bin");
        std::fs::create_dir(&programs).expect("a folder in the lab");
        symlink(lab.program(), programs.join("busctl")).expect("a link to the program");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = lab.command("bash");
        command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", programs.display()));
        Self { lab, shell: Process::spawn("the guide's shell", &mut command) }
    }

    fn does(&mut self, number: usize, step: &Step) {
        let output = self.lab.write(&format!("tmp/output-{number}"), b"");
        let output = output.display();
        let printed = || {
            std::fs::read_to_string(self.lab.path(&format!("tmp/output-{number}")))
                .expect("its output")
        };
        let fits =
            |printed: &str| transcript::fits(&step.prints, &printed.lines().collect::<Vec<_>>());
        if let Some(command) = step.background() {
            // The redirection stands before a simple command, so that the command's own
            // redirections win and `kill %1` reaches the command and not a shell around it.
            self.shell.type_line(&if command.contains(" | ") {
                format!("{{ {command}\n}} >{output} 2>&1 &")
            } else {
                format!(">{output} 2>&1 {command} &")
            });
            let came = wait::poll(WAIT_TIMEOUT, || fits(&printed()).then_some(()));
            assert!(
                came.is_some(),
                "$ {}\nshould print\n{}\nand printed\n{}",
                step.command,
                step.prints.join("\n"),
                printed()
            );
            return;
        }
        let mark = self.shell.mark();
        self.shell.type_line(&format!(
            "{{ {}\n}} >{output} 2>&1 </dev/null; echo status $?",
            step.command
        ));
        let status = self.shell.wait_for(mark, WAIT_TIMEOUT, &step.command, |line| {
            line.stream == Stream::Out && line.text.starts_with("status ")
        });
        let printed = printed();
        assert_eq!(
            status != "status 0",
            step.fails,
            "$ {}\nended with {status}\n{printed}",
            step.command
        );
        assert!(
            fits(&printed),
            "$ {}\nshould print\n{}\nand printed\n{printed}",
            step.command,
            step.prints.join("\n")
        );
    }
}

/// Declares a test for each section, so that sections run in parallel and a failure names its
/// section.
macro_rules! sections {
    ($($name:ident: $title:literal,)+) => {
        $(#[test]
        fn $name() {
            follow($title);
        })+

        #[test]
        fn every_section_with_commands_is_run() {
            let titles: Vec<_> = transcript::sections(GUIDE).into_iter().map(|Section { title, .. }| title).collect();
            assert_eq!(titles, [$($title),+]);
        }
    };
}

sections! {
    a_first_lan: "A first LAN",
    what_a_host_does: "What a host does on the LAN",
    interfaces_with_names: "Interfaces with names",
    a_node_that_stays: "A node that stays",
    in_the_background: "In the background",
    watch_it_all: "Watch it all",
    attach_dpdk: "Attach DPDK",
    a_peer_without_ethernet: "A peer without Ethernet",
    a_tap: "A TAP, and the kernel's TCP",
    longer_frames_and_vlans: "Longer frames, and VLANs",
    a_command_on_the_lan: "A command on the LAN",
    links_that_misbehave: "Links that misbehave",
    several_machines: "Several machines",
    machines_that_find_each_other: "Machines that find each other",
    capture_into_wireshark: "Capture into Wireshark",
    machines_by_socket: "Virtual machines and other programs, by socket",
    python: "Python",
    in_ci_without_root: "In CI, without root",
    troubleshooting: "Troubleshooting, by symptom",
}
