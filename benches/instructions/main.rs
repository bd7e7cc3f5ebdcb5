//! The work whose instructions `scripts/instructions.sh` counts under callgrind.
//!
//! Owns the list of cases and the one function that callgrind counts in. Run as
//! `instructions CASE`, it prepares and warms up one case, hands the work that counts to
//! [`measured`], and prints how many operations that was; without a case it prints the names of
//! all. Counts repeat exactly, because everything here is seeded and nothing waits, sleeps or reads
//! a clock. Never measures time.
//!
//! To add a case, write a function that returns how often it did what its doc comment says, put it
//! into [`CASES`], and run `scripts/instructions.sh --record`.

mod chat;
mod hall;
mod websocket;
mod wheel;

use std::hint::black_box;
use std::process::ExitCode;

/// A name, and the function that runs the case and returns its number of operations.
type Case = (&'static str, fn() -> usize);

const CASES: &[Case] = &[
    ("wheel_arm", wheel::arm),
    ("wheel_fire", wheel::fire),
    ("receive", chat::receive),
    ("keep", chat::keep),
    ("publish_1000", chat::publish_1000),
    ("deliver", chat::deliver),
    ("heartbeat", chat::heartbeat),
    ("websocket_unmask_kib", websocket::unmask_kib),
    ("websocket_read_text_kib", websocket::read_text_kib),
    ("websocket_read_message", websocket::read_message),
    ("websocket_write_message", websocket::write_message),
];

fn main() -> ExitCode {
    // Cargo adds options of its own when it runs this itself.
    let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with("--"));
    let Some(wanted) = wanted else {
        CASES.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, run)) = CASES.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("no case is named {wanted}");
        return ExitCode::FAILURE;
    };
    println!("{}", run());
    ExitCode::SUCCESS
}

/// Callgrind counts from the entry of this function to its return, which it knows by its name. A
/// case may call it many times and prepare in between, but never within itself.
#[inline(never)]
fn measured<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}
