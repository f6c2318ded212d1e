//! `busctl` itself, once more: cargo builds a package's own programs before its integration tests and tells those where they
//! lie, so that no test ever runs a stale `busctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    busctl::main()
}
