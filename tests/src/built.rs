//! Shared libraries of this build, for programs that are not in Rust.

use std::path::PathBuf;

/// Returns the path of a library that cargo has built beside this test, such as
/// `libshmbus_capi.so`. It lies beside the test's program.
///
/// # Panics
/// When there is no such file.
#[must_use]
pub fn library(name: &str) -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let library = program.with_file_name(name);
    assert!(library.is_file(), "{} was not built", library.display());
    library
}
