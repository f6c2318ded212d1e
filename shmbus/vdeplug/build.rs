//! The library stays loaded once it is: a handler for `SIGBUS` must not outlive its code.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
