//! The program `busctl`, built once more as part of this package. Cargo builds a package's own
//! programs before its integration tests and passes their paths on, so no test runs a stale
//! `busctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    busctl::main()
}
