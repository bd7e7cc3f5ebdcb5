//! The options for direct messages to users who are offline.
//!
//! Owns how much of what is said to them is kept, and for how long. Called by
//! [`options`](super::options).

use std::time::Duration;

use clap::Args;

use crate::base::limits::Limits;

use super::units;

const OFFLINE: &str = "Direct messages";
/// Ages are told by the wall clock; beyond this nobody comes back.
const AGE_MAX: Duration = Duration::from_secs(3_650 * 86_400);

/// How much of what is said to users who are offline is kept.
#[derive(Args, Clone, Debug)]
pub struct OfflineOptions {
    /// Direct messages that are kept for a user who is offline; 0 keeps none, and refuses them
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().offline_count)]
    #[arg(env = "COREBEAT_OFFLINE_COUNT", hide_env = true, help_heading = OFFLINE)]
    pub offline_count: usize,

    /// Bytes of direct messages that are kept for a user who is offline
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "1MiB")]
    #[arg(env = "COREBEAT_OFFLINE_BYTES", hide_env = true, help_heading = OFFLINE)]
    pub offline_bytes: usize,

    /// How long a direct message is kept for a user who is offline
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "7d")]
    #[arg(env = "COREBEAT_OFFLINE_AGE", hide_env = true, help_heading = OFFLINE)]
    pub offline_age: Duration,

    /// Memory for the direct messages of all users; above it, those to users who are offline are
    /// refused
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "256MiB")]
    #[arg(env = "COREBEAT_OFFLINE_MEMORY", hide_env = true, help_heading = OFFLINE)]
    pub offline_memory: usize,
}

impl OfflineOptions {
    /// Puts them into `limits`.
    ///
    /// # Errors
    /// One line that names the option at fault and the remedy.
    pub fn apply(&self, limits: &mut Limits) -> Result<(), String> {
        if self.offline_age < Duration::from_secs(1) || self.offline_age > AGE_MAX {
            return Err(format!(
                "--offline-age {} must lie between 1s and 3650d; to keep nothing, try \
                 --offline-count 0",
                units::show_duration(self.offline_age)
            ));
        }
        limits.offline_count = self.offline_count;
        limits.offline_bytes = self.offline_bytes;
        limits.offline_age_ms = self.offline_age.as_millis() as u64;
        limits.offline_memory = self.offline_memory;
        Ok(())
    }
}
