//! The options that bound what one address, one user, one connection and all of them may do.
//!
//! Owns counts, rates and the time that a peer has in the midst of something; 0 stands for no limit
//! everywhere. Called by [`options`](super::options).

use std::time::Duration;

use clap::Args;

use crate::base::limits::Limits;
use crate::net::addresses::AddressBlock;

use super::options::{LIMITS, some_time};
use super::units;

const RATES: &str = "Rates and patience";

/// What one address, one user and one connection may do.
#[derive(Args, Clone, Debug)]
pub struct LimitOptions {
    /// Connections of one address, or of one /64 of IPv6; loopback is exempt, 0 is no limit
    #[arg(long, value_name = "COUNT", default_value_t = limits().max_connections_per_address)]
    #[arg(env = "COREBEAT_MAX_CONNECTIONS_PER_ADDRESS", hide_env = true, help_heading = LIMITS)]
    pub max_connections_per_address: usize,

    /// Exempt these addresses too, as in `10.0.0.0/8`: a proxy, whose clients all come from there.
    /// Can be given several times, or with commas [default: only this machine's own]
    #[arg(long, value_name = "ADDRESS[/BITS]", value_delimiter = ',')]
    #[arg(env = "COREBEAT_EXEMPT_ADDRESS", hide_env = true, help_heading = LIMITS)]
    pub exempt_address: Vec<String>,

    /// Live sessions of one user; 0 is no limit, 1 makes names exclusive
    #[arg(long, value_name = "COUNT", default_value_t = limits().max_sessions_per_user)]
    #[arg(env = "COREBEAT_MAX_SESSIONS_PER_USER", hide_env = true, help_heading = LIMITS)]
    pub max_sessions_per_user: usize,

    /// Rooms that one connection may be in; 0 is no limit
    #[arg(long, value_name = "COUNT", default_value_t = limits().max_rooms_per_connection)]
    #[arg(env = "COREBEAT_MAX_ROOMS_PER_CONNECTION", hide_env = true, help_heading = LIMITS)]
    pub max_rooms_per_connection: usize,

    /// Members of one room; 0 is no limit
    #[arg(long, value_name = "COUNT", default_value_t = limits().max_members_per_room)]
    #[arg(env = "COREBEAT_MAX_MEMBERS_PER_ROOM", hide_env = true, help_heading = LIMITS)]
    pub max_members_per_room: usize,

    /// Memberships of all connections in all rooms; 0 is no limit
    #[arg(long, value_name = "COUNT", default_value_t = limits().max_subscriptions)]
    #[arg(env = "COREBEAT_MAX_SUBSCRIPTIONS", hide_env = true, help_heading = LIMITS)]
    pub max_subscriptions: usize,

    /// Connections that one worker accepts in a second; the others wait, 0 is no limit
    #[arg(long, value_name = "COUNT", default_value_t = limits().accept_rate)]
    #[arg(env = "COREBEAT_ACCEPT_RATE", hide_env = true, help_heading = RATES)]
    pub accept_rate: u64,

    /// Messages that one connection may send in a second; 0 is no limit
    #[arg(long, value_name = "COUNT", default_value_t = limits().message_rate)]
    #[arg(env = "COREBEAT_MESSAGE_RATE", hide_env = true, help_heading = RATES)]
    pub message_rate: u64,

    /// Messages that it may send at once
    #[arg(long, value_name = "COUNT", default_value_t = limits().message_burst)]
    #[arg(env = "COREBEAT_MESSAGE_BURST", hide_env = true, help_heading = RATES)]
    pub message_burst: u64,

    /// Bytes that one connection may send in a second before it is read more slowly; 0 is no limit
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "32MiB")]
    #[arg(env = "COREBEAT_BYTE_RATE", hide_env = true, help_heading = RATES)]
    pub byte_rate: usize,

    /// Bytes that it may send at once
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "128MiB")]
    #[arg(env = "COREBEAT_BYTE_BURST", hide_env = true, help_heading = RATES)]
    pub byte_burst: usize,

    /// Close a connection whose frame has begun and does not complete; 0 waits for ever
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "2m")]
    #[arg(env = "COREBEAT_FRAME_TIMEOUT", hide_env = true, help_heading = RATES)]
    pub frame_timeout: Duration,

    /// Close a reader that takes no byte while data waits for it; 0 waits for ever
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "2m")]
    #[arg(env = "COREBEAT_WRITE_TIMEOUT", hide_env = true, help_heading = RATES)]
    pub write_timeout: Duration,
}

impl LimitOptions {
    /// Puts them into `limits`.
    ///
    /// # Errors
    /// One line that names the option at fault and the remedy.
    pub fn apply(&self, limits: &mut Limits) -> Result<(), String> {
        let some_burst = |name: &str, rate: u64, burst: u64| {
            if rate > 0 && burst == 0 {
                return Err(format!(
                    "--{name}-burst 0 would let nothing through; try --{name}-burst {rate}, or \
                     --{name}-rate 0 for no limit"
                ));
            }
            Ok(())
        };
        some_burst("message", self.message_rate, self.message_burst)?;
        some_burst("byte", self.byte_rate as u64, self.byte_burst as u64)?;
        limits.frame_timeout_ms = some_time_or_none("--frame-timeout", self.frame_timeout)?;
        limits.write_timeout_ms = some_time_or_none("--write-timeout", self.write_timeout)?;
        let frame_ms = (limits.max_frame as u64).saturating_mul(1_000);
        if self.byte_rate > 0 && limits.frame_timeout_ms > 0 {
            let takes_ms = frame_ms / self.byte_rate as u64;
            if takes_ms > limits.frame_timeout_ms {
                return Err(format!(
                    "--byte-rate {} gives a frame of --max-frame {} more than --frame-timeout {}; \
                     raise the rate or the time, or lower --max-frame",
                    units::show_size(self.byte_rate),
                    units::show_size(limits.max_frame),
                    units::show_duration(self.frame_timeout)
                ));
            }
        }
        limits.max_connections_per_address = self.max_connections_per_address;
        limits.max_sessions_per_user = self.max_sessions_per_user;
        limits.max_rooms_per_connection = self.max_rooms_per_connection;
        limits.max_members_per_room = self.max_members_per_room;
        limits.max_subscriptions = self.max_subscriptions;
        limits.accept_rate = self.accept_rate;
        limits.message_rate = self.message_rate;
        limits.message_burst = self.message_burst;
        limits.byte_rate = self.byte_rate;
        limits.byte_burst = self.byte_burst;
        Ok(())
    }

    /// The addresses whose connections are not counted.
    ///
    /// # Errors
    /// One line that names the option at fault and the remedy.
    pub fn exempt(&self) -> Result<Vec<AddressBlock>, String> {
        if self.max_connections_per_address == 0 && !self.exempt_address.is_empty() {
            return Err("--exempt-address exempts nobody from --max-connections-per-address 0; \
                        leave one of the two out"
                .to_owned());
        }
        let block = |text: &String| {
            text.parse().map_err(|error| format!("--exempt-address {text} {error}"))
        };
        let own = AddressBlock::LOOPBACK.into_iter().map(Ok);
        own.chain(self.exempt_address.iter().map(block)).collect()
    }
}

fn limits() -> Limits {
    Limits::default()
}

fn some_time_or_none(option: &str, duration: Duration) -> Result<u64, String> {
    if duration.is_zero() { Ok(0) } else { some_time(option, duration) }
}
