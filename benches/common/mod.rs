//! What the benches of a running server share.
//!
//! Owns a native client, the server as a child process, what the kernel counts of a process, and
//! the arithmetic of repeated figures. Never judges a figure: the benches do.

#![allow(dead_code, reason = "each bench is a crate of its own and uses its part of this")]

pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod figures;
pub(crate) mod process;
