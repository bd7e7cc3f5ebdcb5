//! The `corebeat` program.

use std::process::ExitCode;

/// Connection state and short-lived buffers live side by side for weeks; this allocator gives
/// memory back after a rush, and it is the one that memory figures are published with.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    corebeat::cli::main(std::env::args_os())
}
