//! The options for what rooms keep.
//!
//! Owns how much of what is said is kept, and for how long. Called by [`options`](super::options).

use std::time::Duration;

use clap::Args;

use crate::base::limits::Limits;

use super::units;

const HISTORY: &str = "History";
/// A message's age is measured in four bytes of milliseconds, which wrap after 49 days.
const AGE_MAX: Duration = Duration::from_secs(30 * 86_400);

/// How much of what is said is kept.
#[derive(Args, Clone, Debug)]
pub struct HistoryOptions {
    /// Messages that each room keeps, for those who come back or ask; 0 keeps none
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().history_count)]
    #[arg(env = "COREBEAT_HISTORY_COUNT", hide_env = true, help_heading = HISTORY)]
    pub history_count: usize,

    /// Bytes of messages that each room keeps
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "256KiB")]
    #[arg(env = "COREBEAT_HISTORY_BYTES", hide_env = true, help_heading = HISTORY)]
    pub history_bytes: usize,

    /// How long a message is kept
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "1d")]
    #[arg(env = "COREBEAT_HISTORY_AGE", hide_env = true, help_heading = HISTORY)]
    pub history_age: Duration,

    /// Memory for what all rooms keep together; rooms that were quiet for longest give way
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "256MiB")]
    #[arg(env = "COREBEAT_HISTORY_MEMORY", hide_env = true, help_heading = HISTORY)]
    pub history_memory: usize,
}

impl HistoryOptions {
    /// Puts them into `limits`.
    ///
    /// # Errors
    /// One line that names the option at fault and the remedy.
    pub fn apply(&self, limits: &mut Limits) -> Result<(), String> {
        if self.history_age < Duration::from_secs(1) || self.history_age > AGE_MAX {
            return Err(format!(
                "--history-age {} must lie between 1s and 30d; to keep nothing, try \
                 --history-count 0",
                units::show_duration(self.history_age)
            ));
        }
        // Places in a ring are counted in four bytes.
        if u32::try_from(self.history_bytes).is_err() {
            return Err(format!(
                "--history-bytes {} must be less than 4GiB",
                units::show_size(self.history_bytes)
            ));
        }
        limits.history_count = self.history_count;
        limits.history_bytes = self.history_bytes;
        limits.history_age_ms = self.history_age.as_millis() as u64;
        limits.history_memory = self.history_memory;
        Ok(())
    }
}
