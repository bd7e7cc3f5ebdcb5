//! Small libraries that stand before the C library's functions in the program's process.
//!
//! Owns how they are made, by the C compiler that Rust links with. What one of them does is said in
//! its source.

use std::path::Path;
use std::process::Command;

/// Makes a library of `source`, which lies below `tests`.
pub fn make_library(source: &str, library: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([library, &source])
        .status();
    assert!(compiled.expect("a C compiler").success());
}
