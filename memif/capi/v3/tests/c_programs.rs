//! C programs on the library of 3.1, as a C compiler and a loader see it.

use std::path::{Path, PathBuf};

use system_tests::c_program::{CLibrary, Linkage};
use system_tests::{Lab, WAIT_TIMEOUT, require};

const LIBRARY: CLibrary = CLibrary {
    target: "memif_capi3",
    name: "memif",
    include: concat!(env!("CARGO_MANIFEST_DIR"), "/include"),
};

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(name)
}

/// A lab for programs of C: they are all that runs in it.
fn lab() -> Lab {
    Lab::new(&require::find("cc").expect("a C compiler"))
}

#[test]
fn the_layout_is_that_of_the_abi() {
    require!("cc", "c++");
    let lab = lab();
    let layout = LIBRARY.compile(&lab, &source("layout3.c"), Linkage::Shared);
    layout.start(&lab, &[]).finish(WAIT_TIMEOUT).succeeds();
    LIBRARY.compiles_as_cpp(&lab, "libmemif.h");
}

#[test]
fn every_call() {
    require!("cc");
    for linkage in [Linkage::Shared, Linkage::Static] {
        let lab = lab();
        let calls =
            LIBRARY.compile(&lab, &source("calls3.c"), linkage).start(&lab, &[&lab.arg("tmp")]);
        assert!(calls.finish(WAIT_TIMEOUT).succeeds().contains("all is as it should be"));
    }
}

#[test]
fn no_call_leaks_or_touches_what_is_not_its_own() {
    require!("cc", "valgrind");
    let lab = lab();
    let calls = LIBRARY.compile(&lab, &source("calls3.c"), Linkage::Shared);
    let finished = calls.run_under_valgrind(&lab, &[&lab.arg("tmp")]);
    assert!(finished.succeeds().contains("all is as it should be"));
}
