//! The options of how a server ends, and of how it takes the place of another.
//!
//! Owns the pace of the drain, where clients are sent, and whose place is taken. Called by
//! [`options`](super::options).

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::units;
use crate::engine::config::{DrainConfig, TakeOver};

const STOPPING: &str = "Stopping";
const RESTARTING: &str = "Restarting";
/// What `--take-over` says for a server that may or may not be there.
const AUTO: &str = "auto";
/// What it says without a value.
const USUAL: &str = "";
/// Longest address that clients are sent to.
const ADDRESS_BYTES_MAX: usize = 255;

/// How a server ends.
#[derive(Args, Clone, Debug)]
pub struct StoppingOptions {
    /// How long a stop may take before connections are cut
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "10s")]
    #[arg(env = "COREBEAT_DRAIN", hide_env = true, help_heading = STOPPING)]
    pub drain: Duration,

    /// Connections that a stop sends on in a second, in all; 0 sends on all at once. It gives way
    /// where --drain would be over first
    #[arg(long, value_name = "COUNT", default_value_t = DrainConfig::default().rate_per_s)]
    #[arg(env = "COREBEAT_DRAIN_RATE", hide_env = true, help_heading = STOPPING)]
    pub drain_rate: u32,

    /// How long a stop lets all go on as before while /readyz tells load balancers to send clients
    /// elsewhere
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "0")]
    #[arg(env = "COREBEAT_DRAIN_DELAY", hide_env = true, help_heading = STOPPING)]
    pub drain_delay: Duration,

    /// Where a stop sends clients, as HOST:PORT or as a URL [default: back to where they are]
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    #[arg(env = "COREBEAT_DRAIN_ADDRESS", hide_env = true, help_heading = STOPPING)]
    pub drain_address: String,

    /// Take the place of the server that runs: its listeners are taken over, and it drains. PATH is
    /// where it takes commands, if not where this one would; auto starts afresh where none runs
    #[arg(long, value_name = "PATH|auto", num_args = 0..=1)]
    #[arg(default_missing_value = USUAL, value_parser = path())]
    #[arg(env = "COREBEAT_TAKE_OVER", hide_env = true, help_heading = RESTARTING)]
    pub take_over: Option<PathBuf>,
}

/// A path, which may be empty.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl StoppingOptions {
    /// How it ends.
    ///
    /// # Errors
    /// One line that names the option at fault and the remedy.
    pub fn drain(&self) -> Result<DrainConfig, String> {
        let address = self.drain_address.trim();
        let is_one = !address.contains(|c: char| c.is_whitespace() || c.is_control());
        if !is_one || address.len() > ADDRESS_BYTES_MAX {
            return Err(format!(
                "--drain-address {} is no address; write it like chat.example.org:8080, or leave \
                 it out to have clients come back here",
                address.escape_debug()
            ));
        }
        Ok(DrainConfig {
            within: self.drain,
            rate_per_s: self.drain_rate,
            delay: self.drain_delay,
            address: address.to_owned(),
        })
    }

    /// Whose place is taken.
    pub fn take_over(&self) -> TakeOver {
        match self.take_over.as_deref() {
            None => TakeOver::Never,
            Some(path) if path == Path::new(USUAL) => TakeOver::Usual,
            Some(path) if path == Path::new(AUTO) => TakeOver::IfAny,
            Some(path) => TakeOver::From(path.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        stopping: StoppingOptions,
    }

    fn parse(arguments: &[&str]) -> StoppingOptions {
        let line = std::iter::once("corebeat").chain(arguments.iter().copied());
        Line::try_parse_from(line).unwrap().stopping
    }

    #[test]
    fn a_place_is_taken_where_it_is_said_to_be() {
        for (arguments, expected) in [
            (&[][..], TakeOver::Never),
            (&["--take-over"], TakeOver::Usual),
            (&["--take-over", "--drain", "1s"], TakeOver::Usual),
            (&["--take-over=auto"], TakeOver::IfAny),
            (&["--take-over", "/run/a.sock"], TakeOver::From("/run/a.sock".into())),
        ] {
            assert_eq!(parse(arguments).take_over(), expected, "{arguments:?}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_engine_and_nonsense_is_refused() {
        assert_eq!(parse(&[]).drain().unwrap(), DrainConfig::default());
        let refusal = parse(&["--drain-address", "over there"]).drain().unwrap_err();
        assert!(refusal.starts_with("--drain-address over there is no address; "), "{refusal}");
    }
}
