//! What a client is told before it starts.
//!
//! Owns where the server is, who the client is, and how patient it is. Pure. Never opens anything:
//! [`Core`](super::core::Core) decides by it and the shells carry it out.

use std::error;
use std::fmt;
use std::time::Duration;

use crate::base::limits::{CLIENT_QUEUE_LIMIT_MAX, REF_WINDOW};
use crate::base::name::{self, NameError};

/// The port of a server that names none.
pub const DEFAULT_PORT: u16 = 8080;

/// Where a server is: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Reads `host`, `host:port` or `corebeat://host:port`. A host is a name, an IPv4 address, or
    /// an IPv6 address in brackets; without a port it is [`DEFAULT_PORT`].
    ///
    /// # Errors
    /// [`ConfigError::Address`], where that is not what it says.
    pub fn parse(text: &str) -> Result<Endpoint, ConfigError> {
        let refused = || ConfigError::Address(text.to_owned());
        let rest = text.strip_prefix("corebeat://").unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (host, port) = inner.split_once(']').ok_or_else(refused)?;
                (host, port.strip_prefix(':').or_else(|| port.is_empty().then_some("")))
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, Some("")),
            },
        };
        let port = match port.ok_or_else(refused)? {
            "" if rest.ends_with(':') => return Err(refused()),
            "" => DEFAULT_PORT,
            port => port.parse().ok().filter(|&port| port != 0).ok_or_else(refused)?,
        };
        let is_host = |c: char| c.is_alphanumeric() || ".-_:%".contains(c);
        if host.is_empty() || !host.chars().all(is_host) {
            return Err(refused());
        }
        Ok(Endpoint { host: host.to_owned(), port })
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What becomes of a message whose answer was lost together with its session.
///
/// Within a session that the server resumes, an unanswered message is repeated with its ref and
/// never delivered twice. This is about a session that is gone, as after a restart of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resend {
    /// It is told as [`RequestError::Uncertain`](super::event::RequestError::Uncertain).
    #[default]
    WithinSession,
    /// It is sent again, and may be delivered twice.
    Always,
}

/// Who tells the server that a direct message has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// The client does, once the message was taken from it.
    #[default]
    WhenTaken,
    /// The program does, by `acknowledge`, for instance after it has stored the message.
    ByHand,
}

/// All that a client is told before it starts. [`Config::new`] has what suits most. No duration may
/// be 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where servers are: the next one is tried where one fails. Never empty.
    pub endpoints: Vec<Endpoint>,
    /// The name to go by; empty lets the server name a guest.
    pub user: String,
    /// What proves the user, where the server asks for that.
    pub token: String,
    /// The heartbeat one wishes for, in seconds; 0 leaves it to the server.
    pub heartbeat_s: u16,
    /// Ask for a checksum on every frame, and send them.
    pub crc: bool,
    /// Requests that may wait for an answer, offline ones included: 1 to 1,000.
    pub queue_limit: usize,
    /// What becomes of messages whose session is lost.
    pub resend: Resend,
    /// Who acknowledges direct messages.
    pub acknowledge: Acknowledge,
    /// A connection without a welcome after so long is given up.
    pub connect_timeout: Duration,
    /// From one answered ping to the next.
    pub ping_every: Duration,
    /// A connection on which nothing comes for so long after a ping is dead.
    pub pong_timeout: Duration,
    /// Bound of the first wait before a new try; it doubles with each.
    pub backoff_first: Duration,
    /// Bound of the longest wait.
    pub backoff_longest: Duration,
    /// Tries, after which there is a quiet period.
    pub backoff_tries: u32,
    /// The quiet period, after which the tries begin anew.
    pub quiet: Duration,
}

impl Config {
    /// A client of the servers at `addresses` (see [`Endpoint::parse`]; with commas between them)
    /// that goes by the name of `user`.
    ///
    /// # Errors
    /// [`ConfigError::Address`] for the first that is none.
    pub fn new(addresses: &str, user: &str) -> Result<Config, ConfigError> {
        let endpoints: Result<Vec<Endpoint>, ConfigError> =
            addresses.split(',').map(|address| Endpoint::parse(address.trim())).collect();
        Ok(Config {
            endpoints: endpoints?,
            user: user.to_owned(),
            token: String::new(),
            heartbeat_s: 0,
            crc: false,
            queue_limit: 256,
            resend: Resend::WithinSession,
            acknowledge: Acknowledge::WhenTaken,
            connect_timeout: Duration::from_secs(10),
            ping_every: Duration::from_secs(10),
            pong_timeout: Duration::from_secs(10),
            backoff_first: Duration::from_secs(1),
            backoff_longest: Duration::from_secs(32),
            backoff_tries: 10,
            quiet: Duration::from_secs(300),
        })
    }

    /// Whether a client can be made of it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.endpoints.is_empty() {
            return Err(ConfigError::Address(String::new()));
        }
        if !self.user.is_empty() {
            name::check(&self.user).map_err(ConfigError::User)?;
        }
        if self.token.len() > usize::from(u16::MAX) {
            return Err(ConfigError::Token);
        }
        if !(1..=CLIENT_QUEUE_LIMIT_MAX).contains(&self.queue_limit) {
            return Err(ConfigError::QueueLimit);
        }
        let durations = [
            ("connect_timeout", self.connect_timeout),
            ("ping_every", self.ping_every),
            ("pong_timeout", self.pong_timeout),
            ("backoff_first", self.backoff_first),
            ("backoff_longest", self.backoff_longest),
            ("quiet", self.quiet),
        ];
        // Below a microsecond, which the client counts in, is nothing too.
        match durations.iter().find(|(_, duration)| duration.as_micros() == 0) {
            Some((name, _)) => Err(ConfigError::Duration(name)),
            None => Ok(()),
        }
    }
}

const _: () = assert!(CLIENT_QUEUE_LIMIT_MAX < REF_WINDOW, "what waits can be repeated safely");
const _: () = assert!(CLIENT_QUEUE_LIMIT_MAX == 1_000, "texts say 1,000");

/// What no client can be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// This is no address of a server.
    Address(String),
    /// The user's name is none.
    User(NameError),
    /// The token is longer than 65,535 bytes.
    Token,
    /// The queue limit is not from 1 to 1,000.
    QueueLimit,
    /// The duration of this name is 0: nothing could be waited for, or nothing but waited.
    Duration(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Address(text) => write!(
                f,
                "`{text}` is no address of a server; write it like 127.0.0.1:8080 or \
                 corebeat://host:8080"
            ),
            ConfigError::User(error) => write!(f, "the user name {}", error.text()),
            ConfigError::Token => f.write_str("the token is longer than 65535 bytes"),
            ConfigError::QueueLimit => f.write_str("the queue limit must be from 1 to 1000"),
            ConfigError::Duration(name) => write!(f, "`{name}` must be longer than 0"),
        }
    }
}

impl error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_form_that_people_write() {
        for (text, shown) in [
            ("127.0.0.1:7000", "127.0.0.1:7000"),
            ("localhost", "localhost:8080"),
            ("corebeat://chat.example:9", "chat.example:9"),
            ("corebeat://chat.example/", "chat.example:8080"),
            ("[::1]:7000", "[::1]:7000"),
            ("[::1]", "[::1]:8080"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in ["", ":80", "a:", "a:0", "a:b", "a:70000", "http://a", "[::1", "[::1]x", "a b"]
        {
            assert_eq!(Endpoint::parse(text), Err(ConfigError::Address(text.into())), "{text}");
        }
    }

    #[test]
    fn several_addresses_stand_between_commas() {
        let config = Config::new("a:1, b:2", "ann").unwrap();
        let shown: Vec<String> = config.endpoints.iter().map(Endpoint::to_string).collect();
        assert_eq!(shown, ["a:1", "b:2"]);
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_refused_before_it_starts() {
        let good = Config::new("a", "ann").unwrap();
        let bad_user = Config { user: "a b".into(), ..good.clone() };
        assert_eq!(bad_user.check(), Err(ConfigError::User(NameError::BadCharacter)));
        for queue_limit in [0, 1_001] {
            let bad = Config { queue_limit, ..good.clone() };
            assert_eq!(bad.check(), Err(ConfigError::QueueLimit));
        }
        let long = Config { token: "x".repeat(65_536), ..good.clone() };
        assert_eq!(long.check(), Err(ConfigError::Token));
        let hasty = Config { pong_timeout: Duration::ZERO, ..good.clone() };
        assert_eq!(hasty.check(), Err(ConfigError::Duration("pong_timeout")));
        let restless = Config { backoff_first: Duration::from_nanos(999), ..good };
        assert_eq!(restless.check(), Err(ConfigError::Duration("backoff_first")));
    }
}
