//! The program `busctl`: all of it is in the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    busctl::main()
}
