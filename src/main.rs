//! The `corebeat` program.

fn main() {}
