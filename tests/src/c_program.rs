//! C programs of the tests, compiled with `cc` against a library of this workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Finished, Lab, Process, WAIT_TIMEOUT, built, privilege};

/// How a C program gets the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linkage {
    /// From the shared library, when it starts.
    Shared,
    /// From the archive, when it is linked.
    Static,
}

impl Linkage {
    fn ending(self) -> &'static str {
        match self {
            Self::Shared => "so",
            Self::Static => "a",
        }
    }
}

/// A library for C programs: its name as cargo builds it, and its name in C.
#[derive(Debug, Clone, Copy)]
pub struct CLibrary {
    /// The name of the library's target.
    pub target: &'static str,
    /// What follows `-l`.
    pub name: &'static str,
    /// The folder of its headers.
    pub include: &'static str,
}

/// A compiled C program, in a lab.
#[derive(Debug)]
pub struct CProgram {
    program: PathBuf,
    libraries: PathBuf,
}

impl CLibrary {
    /// Returns what cargo has built.
    fn artifact(&self, ending: &str) -> PathBuf {
        built::library(&format!("lib{}.{ending}", self.target))
    }

    /// Copies the library into the folder `lib` of the lab, under its name in C, and returns the folder.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[must_use]
    pub fn install(&self, lab: &Lab, linkage: Linkage) -> PathBuf {
        let libraries = lab.path("lib");
        std::fs::create_dir_all(&libraries).expect("a folder in the lab");
        let ending = linkage.ending();
        let library = libraries.join(format!("lib{}.{ending}", self.name));
        std::fs::copy(self.artifact(ending), &library).expect("the library");
        for path in [&libraries, &library] {
            privilege::hand_over(path);
        }
        libraries
    }

    /// Compiles a program in the lab. All warnings are errors.
    ///
    /// # Panics
    /// When it does not compile.
    #[must_use]
    pub fn compile(&self, lab: &Lab, source: &Path, linkage: Linkage) -> CProgram {
        let libraries = self.install(lab, linkage);
        let library = libraries.join(format!("lib{}.{}", self.name, linkage.ending()));
        let how = if linkage == Linkage::Shared { "shared" } else { "static" };
        let name = source.file_stem().expect("a file").to_str().expect("a name that is text");
        let program = lab.path(&format!("{name}-{how}"));
        let mut cc = Command::new("cc");
        cc.args(["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"]);
        cc.arg(self.include).arg("-o").arg(&program).arg(source).arg(&library);
        // What the standard library of the archive needs.
        cc.args(["-pthread", "-lm", "-ldl", "-lgcc_s"]);
        Process::spawn("cc", &mut cc).finish(WAIT_TIMEOUT).succeeds();
        if linkage == Linkage::Static {
            // Its debug information makes it large, and it is linked.
            std::fs::remove_file(&library).expect("remove the archive");
        }
        privilege::hand_over(&program);
        CProgram { program, libraries }
    }

    /// Compiles the header alone, as C++.
    ///
    /// # Panics
    /// When there is a warning.
    pub fn compiles_as_cpp(&self, lab: &Lab, header: &str) {
        let source = lab.path("header.cpp");
        std::fs::write(&source, format!("#include <{header}>\n")).expect("a file in the lab");
        let mut cpp = Command::new("c++");
        cpp.args(["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", self.include]).arg(&source);
        Process::spawn("c++", &mut cpp).finish(WAIT_TIMEOUT).succeeds();
    }
}

impl CProgram {
    fn command(&self, lab: &Lab, program: &Path) -> Command {
        let mut command = lab.command(program);
        command.env("LD_LIBRARY_PATH", &self.libraries);
        command
    }

    /// Starts it.
    #[must_use]
    pub fn start(&self, lab: &Lab, arguments: &[&str]) -> Process {
        let mut command = self.command(lab, &self.program);
        Process::spawn(arguments.first().unwrap_or(&"c program"), command.args(arguments))
    }

    /// Runs it under valgrind, where errors and leaks make it fail.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn run_under_valgrind(&self, lab: &Lab, arguments: &[&str]) -> Finished {
        let mut command = self.command(lab, Path::new("valgrind"));
        let leaks = "definite,indirect";
        // Fair: a thread that polls must not keep the others from running.
        command.args(["-q", "--error-exitcode=99", "--leak-check=full", "--fair-sched=yes"]);
        command.args([
            format!("--show-leak-kinds={leaks}"),
            format!("--errors-for-leak-kinds={leaks}"),
        ]);
        command.arg(&self.program).args(arguments);
        Process::spawn("valgrind", &mut command).finish(WAIT_TIMEOUT * 3)
    }
}
