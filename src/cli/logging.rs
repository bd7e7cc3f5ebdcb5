//! The form of the log.
//!
//! Owns how a line looks. Never chooses what is logged. `serve` calls it once.

use std::io::Write;

use env_logger::{Builder, Env};

/// Sends the log to standard error, one line a record: time, level, message.
///
/// `RUST_LOG` says how much; without it, `info`, and nothing of the store's engine, whose errors
/// are told by who asked it.
pub fn start() {
    let mut builder =
        Builder::from_env(Env::default().default_filter_or("info,fjall=off,lsm_tree=off"));
    builder.format(|line, record| {
        writeln!(line, "{} {:<5} {}", line.timestamp_seconds(), record.level(), record.args())
    });
    // A second start in one process, which tests may do, keeps the first one's logger.
    let _ = builder.try_init();
}
