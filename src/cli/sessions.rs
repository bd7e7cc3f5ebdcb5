//! The options for sessions that lose their connections.
//!
//! Owns how long and how many of them are kept, and when they count as gone. Called by
//! [`options`](super::options).

use std::time::Duration;

use clap::Args;

use crate::base::limits::Limits;

use super::units;

const SESSIONS: &str = "Sessions";
/// What is kept in memory for longer than this is not about a lost connection.
const WINDOW_MAX: Duration = Duration::from_secs(86_400);

/// What becomes of sessions that lose their connections.
#[derive(Args, Clone, Debug)]
pub struct SessionOptions {
    /// How long a session that lost its connection can be resumed; 0 keeps none
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "2m")]
    #[arg(env = "COREBEAT_RESUME_WINDOW", hide_env = true, help_heading = SESSIONS)]
    pub resume_window: Duration,

    /// Sessions without a connection that are kept in all; the oldest give way
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().max_kept_sessions)]
    #[arg(env = "COREBEAT_MAX_KEPT_SESSIONS", hide_env = true, help_heading = SESSIONS)]
    pub max_kept_sessions: usize,

    /// How long such a session may be away before its rooms are told that it left
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "3s")]
    #[arg(env = "COREBEAT_PRESENCE_GRACE", hide_env = true, help_heading = SESSIONS)]
    pub presence_grace: Duration,
}

impl SessionOptions {
    /// Puts them into `limits`.
    ///
    /// # Errors
    /// One line that names the option at fault and the remedy.
    pub fn apply(&self, limits: &mut Limits) -> Result<(), String> {
        if self.resume_window > WINDOW_MAX {
            return Err(format!(
                "--resume-window {} must be at most 1d; a client that stays away for longer joins \
                 with `since`",
                units::show_duration(self.resume_window)
            ));
        }
        if self.presence_grace > self.resume_window.max(Duration::from_secs(3)) {
            return Err(format!(
                "--presence-grace {} must not be longer than --resume-window {}, after which \
                 nobody can come back",
                units::show_duration(self.presence_grace),
                units::show_duration(self.resume_window)
            ));
        }
        limits.resume_window_ms = self.resume_window.as_millis() as u64;
        limits.max_kept_sessions = self.max_kept_sessions;
        limits.presence_grace_ms = self.presence_grace.as_millis() as u64;
        Ok(())
    }
}
