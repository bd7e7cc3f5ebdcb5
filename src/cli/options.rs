//! The options of `corebeat serve`.
//!
//! Owns each option once: its name, its default, its help, its place in [`ServerConfig`], and what
//! must hold between two of them. Never prints or starts anything.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

use super::admin::AdminOption;
use super::history::HistoryOptions;
use super::limits::LimitOptions;
use super::offline::OfflineOptions;
use super::overflow::OverflowOptions;
use super::overload::OverloadOptions;
use super::sessions::SessionOptions;
use super::stopping::StoppingOptions;
use super::storage::StorageOptions;
use super::units;
use crate::base::ids::{NodeId, SHARDS_MAX};
use crate::base::limits::{Limits, MAX_FRAME_RANGE};
use crate::chat::config::WebConfig;
use crate::chat::heartbeat::HeartbeatPolicy;
use crate::engine::config::ServerConfig;
use crate::engine::server::default_workers;
use crate::web::ASSETS;
use crate::wire::http::Origins;

const LISTENING: &str = "Listening";
const WEB: &str = "Browsers";
const HEARTBEAT: &str = "Heartbeat";
pub(super) const LIMITS: &str = "Limits";
const BUDGETS: &str = "Budgets of one turn of a worker";

/// Heartbeats for the kinds of network that clients sit on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HeartbeatProfile {
    /// Ping after 15s of silence, give up after 45s.
    Realtime,
    /// Ping after 30s of silence, give up after 90s.
    Standard,
    /// Ping after 60s of silence, give up after 180s: spares the batteries of phones.
    Mobile,
    /// Ping after 5s of silence, give up after 10s: for networks that lose connections silently.
    Weak,
}

impl HeartbeatProfile {
    /// Interval and timeout in seconds.
    fn seconds(self) -> (u16, u16) {
        match self {
            HeartbeatProfile::Realtime => (15, 45),
            HeartbeatProfile::Standard => (30, 90),
            HeartbeatProfile::Mobile => (60, 180),
            HeartbeatProfile::Weak => (5, 10),
        }
    }
}

/// Yes or no, as an operator writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// What `corebeat serve` takes.
#[derive(Args, Clone, Debug)]
pub struct ServeOptions {
    /// Where to listen.
    #[arg(help = "Where to listen. Port 0 lets the system choose; [::]:8080 serves IPv4 and IPv6")]
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    #[arg(default_value = "127.0.0.1:8080")]
    #[arg(env = "COREBEAT_LISTEN", hide_env = true, help_heading = LISTENING)]
    pub listen: SocketAddr,

    /// Worker threads, each with its own share of the connections [default: one per core]
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=SHARDS_MAX as i64))]
    #[arg(env = "COREBEAT_WORKERS", hide_env = true, help_heading = LISTENING)]
    pub workers: Option<u16>,

    /// Let the system move workers between cores
    #[arg(long, value_parser = FalseyValueParser::new())]
    #[arg(env = "COREBEAT_NO_PIN", hide_env = true, help_heading = LISTENING)]
    pub no_pin: bool,

    /// The number of this process in WELCOME and in heartbeats
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    #[arg(env = "COREBEAT_NODE", hide_env = true, help_heading = LISTENING)]
    pub node: u32,

    /// Whether clients may publish to the room `*`, which is everybody
    #[arg(long, value_name = "on|off", default_value = "on", hide_possible_values = true)]
    #[arg(env = "COREBEAT_PUBLISH_EVERYONE", hide_env = true, help_heading = LISTENING)]
    pub publish_everyone: Switch,

    /// Whether `/` serves the chat page and `/corebeat.js` the client script
    #[arg(long, value_name = "on|off", default_value = "on", hide_possible_values = true)]
    #[arg(env = "COREBEAT_PAGE", hide_env = true, help_heading = WEB)]
    pub page: Switch,

    /// Whether `/stats` tells the server's numbers, which the page's dashboard draws
    #[arg(long, value_name = "on|off", default_value = "on", hide_possible_values = true)]
    #[arg(env = "COREBEAT_DASHBOARD", hide_env = true, help_heading = WEB)]
    pub dashboard: Switch,

    /// Let pages of this origin open WebSockets too, as in `https://example.org`; `*` is any. Can
    /// be given several times, or with commas [default: only the server's own]
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    #[arg(env = "COREBEAT_ALLOW_ORIGIN", hide_env = true, help_heading = WEB)]
    pub allow_origin: Vec<String>,

    /// Whether WebSockets may agree on compression (permessage-deflate)
    #[arg(long, value_name = "on|off", default_value = "off", hide_possible_values = true)]
    #[arg(env = "COREBEAT_DEFLATE", hide_env = true, help_heading = WEB)]
    pub deflate: Switch,

    /// Heartbeat and timeout for a kind of network: realtime 15s/45s, standard 30s/90s, mobile
    /// 60s/180s (spares the batteries of phones), weak 5s/10s
    #[arg(long, value_name = "PROFILE", default_value = "standard", hide_possible_values = true)]
    #[arg(env = "COREBEAT_HEARTBEAT_PROFILE", hide_env = true, help_heading = HEARTBEAT)]
    pub heartbeat_profile: HeartbeatProfile,

    /// Ping a connection that was silent for so long [default: by the profile]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    #[arg(env = "COREBEAT_HEARTBEAT", hide_env = true, help_heading = HEARTBEAT)]
    pub heartbeat: Option<Duration>,

    /// Close a connection that was silent for so long [default: by the profile]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    #[arg(env = "COREBEAT_TIMEOUT", hide_env = true, help_heading = HEARTBEAT)]
    pub timeout: Option<Duration>,

    /// Shortest heartbeat that a client may wish for
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "5s")]
    #[arg(env = "COREBEAT_HEARTBEAT_SHORTEST", hide_env = true, help_heading = HEARTBEAT)]
    pub heartbeat_shortest: Duration,

    /// Longest heartbeat that a client may wish for
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "10m")]
    #[arg(env = "COREBEAT_HEARTBEAT_LONGEST", hide_env = true, help_heading = HEARTBEAT)]
    pub heartbeat_longest: Duration,

    /// Whether the heartbeat of each connection adapts to its network: longer while silence is
    /// survived, shorter while PINGs are lost. Off, every interval is what was granted
    #[arg(long, value_name = "on|off", default_value = "off", hide_possible_values = true)]
    #[arg(env = "COREBEAT_HEARTBEAT_ADAPTIVE", hide_env = true, help_heading = HEARTBEAT)]
    pub heartbeat_adaptive: Switch,

    /// How many times the granted heartbeat an adaptive one may become, up to --heartbeat-longest
    #[arg(long, value_name = "TIMES", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u16).range(2..=120))]
    #[arg(env = "COREBEAT_HEARTBEAT_STRETCH", hide_env = true, help_heading = HEARTBEAT)]
    pub heartbeat_stretch: u16,

    /// Close a connection that has not said hello after so long
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "10s")]
    #[arg(env = "COREBEAT_HANDSHAKE_TIMEOUT", hide_env = true, help_heading = HEARTBEAT)]
    pub handshake_timeout: Duration,

    /// Close a text client that has not written a line for so long
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "5m")]
    #[arg(env = "COREBEAT_TEXT_IDLE_TIMEOUT", hide_env = true, help_heading = HEARTBEAT)]
    pub text_idle_timeout: Duration,

    /// Connections in all; 0 is as many as the limit on open files allows, and so is the default
    #[arg(long, value_name = "COUNT")]
    #[arg(env = "COREBEAT_MAX_CONNECTIONS", hide_env = true, help_heading = LIMITS)]
    pub max_connections: Option<usize>,

    /// Largest payload of a frame, and longest text line
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "64KiB")]
    #[arg(env = "COREBEAT_MAX_FRAME", hide_env = true, help_heading = LIMITS)]
    pub max_frame: usize,

    /// Bytes that may wait for one connection; see --overflow
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "1MiB")]
    #[arg(env = "COREBEAT_MAX_OUTBOUND", hide_env = true, help_heading = LIMITS)]
    pub max_outbound: usize,

    /// What one address, one user and one connection may do.
    #[command(flatten)]
    pub bounds: LimitOptions,

    /// Rooms that one worker keeps the order of
    #[arg(long, value_name = "COUNT", value_parser = count)]
    #[arg(default_value_t = limits().max_rooms)]
    #[arg(env = "COREBEAT_MAX_ROOMS", hide_env = true, help_heading = LIMITS)]
    pub max_rooms: usize,

    /// Members of a room above which only their number is told, not who came and went
    #[arg(long, value_name = "COUNT", value_parser = count)]
    #[arg(default_value_t = limits().presence_max)]
    #[arg(env = "COREBEAT_PRESENCE_MAX", hide_env = true, help_heading = LIMITS)]
    pub presence_max: usize,

    /// Messages that may wait to be delivered in one room of one worker, in batches
    #[arg(long, value_name = "COUNT", value_parser = count)]
    #[arg(default_value_t = limits().max_room_queue)]
    #[arg(env = "COREBEAT_MAX_ROOM_QUEUE", hide_env = true, help_heading = LIMITS)]
    pub max_room_queue: usize,

    /// Letters that may wait for another worker whose mailbox is full
    #[arg(long, value_name = "COUNT", value_parser = count)]
    #[arg(default_value_t = limits().max_mail_staged)]
    #[arg(env = "COREBEAT_MAX_MAIL_STAGED", hide_env = true, help_heading = LIMITS)]
    pub max_mail_staged: usize,

    /// What gives way where a member does not read.
    #[command(flatten)]
    pub overflow: OverflowOptions,

    /// When it has more to do than it can.
    #[command(flatten)]
    pub overload: OverloadOptions,

    /// How much of what is said is kept.
    #[command(flatten)]
    pub history: HistoryOptions,

    /// How much of what is said to users who are offline is kept.
    #[command(flatten)]
    pub offline: OfflineOptions,
    /// What becomes of sessions that lose their connections.
    #[command(flatten)]
    pub sessions: SessionOptions,

    /// Sockets that are read
    #[arg(long, value_name = "COUNT", value_parser = count)]
    #[arg(default_value_t = limits().read_budget)]
    #[arg(env = "COREBEAT_READ_BUDGET", hide_env = true, help_heading = BUDGETS)]
    pub read_budget: usize,

    /// Members to whom a batch of messages is handed
    #[arg(long, value_name = "COUNT", value_parser = count)]
    #[arg(default_value_t = limits().fan_out_budget)]
    #[arg(env = "COREBEAT_FAN_OUT_BUDGET", hide_env = true, help_heading = BUDGETS)]
    pub fan_out_budget: usize,

    /// Connections that are written to
    #[arg(long, value_name = "COUNT", value_parser = count)]
    #[arg(default_value_t = limits().write_budget)]
    #[arg(env = "COREBEAT_WRITE_BUDGET", hide_env = true, help_heading = BUDGETS)]
    pub write_budget: usize,

    /// Timers that are handled
    #[arg(long, value_name = "COUNT", value_parser = count)]
    #[arg(default_value_t = limits().timer_budget)]
    #[arg(env = "COREBEAT_TIMER_BUDGET", hide_env = true, help_heading = BUDGETS)]
    pub timer_budget: usize,

    /// What is kept where.
    #[command(flatten)]
    pub storage: StorageOptions,

    /// Where commands are taken.
    #[command(flatten)]
    pub admin: AdminOption,

    /// How it ends.
    #[command(flatten)]
    pub stopping: StoppingOptions,
}

impl ServeOptions {
    /// The server that these options ask for.
    ///
    /// # Errors
    /// One line that names the option at fault and the remedy.
    pub fn into_config(self) -> Result<ServerConfig, String> {
        let heartbeat = self.heartbeat_policy()?;
        let limits = self.limits()?;
        let web = self.web()?;
        Ok(ServerConfig {
            listen: self.listen,
            workers: self.workers.unwrap_or_else(default_workers),
            pin: !self.no_pin,
            limits,
            max_connections: self.max_connections.filter(|most| *most > 0),
            exempt: self.bounds.exempt()?,
            heartbeat,
            drain: self.stopping.drain()?,
            take_over: self.stopping.take_over(),
            node: NodeId(self.node),
            publish_everyone: self.publish_everyone == Switch::On,
            overflow: self.overflow.policies()?,
            data: self.storage.data,
            durability: self.storage.durability.into(),
            web,
            admin: self.admin.place(),
        })
    }

    fn web(&self) -> Result<WebConfig, String> {
        let mut origins = Origins::same();
        for origin in &self.allow_origin {
            origins.allow(origin).map_err(|_| {
                format!(
                    "--allow-origin {origin} is no origin; write it like https://example.org or \
                     http://localhost:3000, without a path, or * for any"
                )
            })?;
        }
        Ok(WebConfig {
            assets: if self.page == Switch::On { ASSETS } else { &[] },
            numbers: self.dashboard == Switch::On,
            origins,
            deflate: self.deflate == Switch::On,
        })
    }

    fn heartbeat_policy(&self) -> Result<HeartbeatPolicy, String> {
        let (interval_s, timeout_s) = self.heartbeat_profile.seconds();
        let or = |name, given: Option<Duration>, otherwise| {
            given.map_or(Ok(otherwise), |duration| whole_seconds(name, duration))
        };
        let interval_s = or("--heartbeat", self.heartbeat, interval_s)?;
        let timeout_s = or("--timeout", self.timeout, timeout_s)?;
        let shortest_s = whole_seconds("--heartbeat-shortest", self.heartbeat_shortest)?;
        let longest_s = whole_seconds("--heartbeat-longest", self.heartbeat_longest)?;
        if timeout_s <= interval_s {
            let remedy = interval_s.saturating_mul(3);
            return Err(format!(
                "--timeout {timeout_s}s must be longer than --heartbeat {interval_s}s; try \
                 --timeout {remedy}s"
            ));
        }
        if longest_s < shortest_s {
            return Err(format!(
                "--heartbeat-longest {longest_s}s is shorter than --heartbeat-shortest \
                 {shortest_s}s; exchange them"
            ));
        }
        // The server's own interval is always allowed to be wished for.
        let (shortest_s, longest_s) = (shortest_s.min(interval_s), longest_s.max(interval_s));
        let stretch =
            if self.heartbeat_adaptive == Switch::On { self.heartbeat_stretch } else { 1 };
        Ok(HeartbeatPolicy { interval_s, timeout_s, shortest_s, longest_s, stretch })
    }

    fn limits(&self) -> Result<Limits, String> {
        let (least, most) = MAX_FRAME_RANGE;
        if !(least..=most).contains(&self.max_frame) {
            return Err(format!(
                "--max-frame {} must lie between {} and {}",
                units::show_size(self.max_frame),
                units::show_size(least),
                units::show_size(most)
            ));
        }
        if self.max_outbound < 2 * self.max_frame {
            return Err(format!(
                "--max-outbound {} must hold two frames of --max-frame {}; try --max-outbound {}",
                units::show_size(self.max_outbound),
                units::show_size(self.max_frame),
                units::show_size(self.max_frame.saturating_mul(16))
            ));
        }
        let mut limits = Limits {
            max_frame: self.max_frame,
            max_outbound: self.max_outbound,
            max_rooms: self.max_rooms,
            presence_max: self.presence_max,
            handshake_timeout_ms: some_time("--handshake-timeout", self.handshake_timeout)?,
            text_idle_timeout_ms: some_time("--text-idle-timeout", self.text_idle_timeout)?,
            read_budget: self.read_budget,
            fan_out_budget: self.fan_out_budget,
            write_budget: self.write_budget,
            timer_budget: self.timer_budget,
            max_mail_staged: self.max_mail_staged,
            max_room_queue: self.max_room_queue,
            ..Limits::default()
        };
        self.bounds.apply(&mut limits)?;
        self.overload.apply(&mut limits);
        self.history.apply(&mut limits)?;
        self.offline.apply(&mut limits)?;
        self.sessions.apply(&mut limits)?;
        Ok(limits)
    }
}

fn limits() -> Limits {
    Limits::default()
}

/// Reads an address, or a host's name, of which the first address counts.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let resolved = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    resolved.ok_or_else(|| format!("`{text}` is no address; write it like 0.0.0.0:8080"))
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(format!("`{text}` is no count; write a whole number from 1")),
    }
}

pub(super) fn whole_seconds(option: &str, duration: Duration) -> Result<u16, String> {
    let seconds = u16::try_from(duration.as_secs()).unwrap_or(0);
    if seconds == 0 || duration.subsec_nanos() != 0 {
        return Err(format!(
            "{option} {} must be whole seconds, from 1s to 65535s, as frames carry it",
            units::show_duration(duration)
        ));
    }
    Ok(seconds)
}

/// A timeout in milliseconds. A day is the most that ages of four bytes measure with ease.
pub(super) fn some_time(option: &str, duration: Duration) -> Result<u64, String> {
    const MOST: Duration = Duration::from_secs(86_400);
    if duration < Duration::from_millis(100) || duration > MOST {
        return Err(format!(
            "{option} {} must lie between 100ms and 1d",
            units::show_duration(duration)
        ));
    }
    Ok(duration.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Harness {
        #[command(flatten)]
        serve: ServeOptions,
    }

    fn config(arguments: &[&str]) -> Result<ServerConfig, String> {
        let arguments = std::iter::once(&"corebeat").chain(arguments);
        let harness = Harness::try_parse_from(arguments).map_err(|error| error.to_string())?;
        harness.serve.into_config()
    }

    #[test]
    fn the_defaults_are_those_of_the_limits() {
        let config = config(&[]).unwrap();
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.heartbeat, ServerConfig::default().heartbeat);
        assert_eq!(config.drain, ServerConfig::default().drain);
        assert_eq!(config.node, ServerConfig::default().node);
        assert!(config.pin && config.publish_everyone && config.workers >= 1);
    }

    #[test]
    fn nought_is_no_limit_everywhere() {
        let options = [
            "--max-connections",
            "--max-connections-per-address",
            "--max-sessions-per-user",
            "--max-rooms-per-connection",
            "--max-members-per-room",
            "--max-subscriptions",
            "--accept-rate",
            "--message-rate",
            "--byte-rate",
            "--frame-timeout",
            "--write-timeout",
        ];
        let arguments: Vec<&str> = options.into_iter().flat_map(|option| [option, "0"]).collect();
        let config = config(&arguments).unwrap();
        assert_eq!(config.max_connections, None);
        let limits = Limits {
            max_connections_per_address: 0,
            max_rooms_per_connection: 0,
            max_subscriptions: 0,
            accept_rate: 0,
            message_rate: 0,
            byte_rate: 0,
            frame_timeout_ms: 0,
            write_timeout_ms: 0,
            ..Limits::default()
        };
        assert_eq!(config.limits, limits);
    }

    #[test]
    fn a_profile_gives_way_to_what_is_said_outright() {
        let heartbeat = |arguments: &[&str]| config(arguments).unwrap().heartbeat;
        let mobile = heartbeat(&["--heartbeat-profile", "mobile"]);
        assert_eq!((mobile.interval_s, mobile.timeout_s), (60, 180));
        let mixed = heartbeat(&["--heartbeat-profile", "mobile", "--heartbeat", "20s"]);
        assert_eq!((mixed.interval_s, mixed.timeout_s), (20, 180));
    }

    #[test]
    fn the_servers_own_interval_may_always_be_wished_for() {
        let quick = config(&["--heartbeat", "1s", "--timeout", "3s"]).unwrap().heartbeat;
        assert_eq!((quick.shortest_s, quick.longest_s), (1, 600));
        let slow = config(&["--heartbeat", "15m", "--timeout", "1h"]).unwrap().heartbeat;
        assert_eq!((slow.shortest_s, slow.longest_s), (5, 900));
    }

    #[test]
    fn what_contradicts_itself_is_refused_in_one_line_with_the_remedy() {
        for (arguments, words) in [
            (&["--heartbeat", "2m"][..], "--timeout 90s must be longer than --heartbeat 120s"),
            (&["--heartbeat", "1500ms"], "--heartbeat 1s500ms must be whole seconds"),
            (&["--timeout", "20h"], "--timeout 20h must be whole seconds"),
            (&["--max-frame", "1MiB"], "try --max-outbound 16MiB"),
            (&["--max-frame", "17MiB"], "must lie between 1KiB and 16MiB"),
            (&["--heartbeat-shortest", "20m"], "--heartbeat-longest 600s is shorter"),
            (&["--history-age", "60d"], "--history-age 60d must lie between 1s and 30d"),
            (&["--resume-window", "2d"], "--resume-window 2d must be at most 1d"),
            (&["--presence-grace", "3m"], "must not be longer than --resume-window 2m"),
            (&["--history-age", "0"], "try --history-count 0"),
            (&["--offline-age", "0"], "try --offline-count 0"),
            (&["--history-bytes", "4GiB"], "--history-bytes 4GiB must be less than"),
            (&["--handshake-timeout", "0"], "--handshake-timeout 0s must lie between"),
            (&["--message-burst", "0"], "try --message-burst 5000, or --message-rate 0"),
            (&["--byte-burst", "0"], "--byte-burst 0 would let nothing through"),
            (&["--frame-timeout", "50ms"], "--frame-timeout 50ms must lie between 100ms and 1d"),
            (&["--write-timeout", "2d"], "--write-timeout 2d must lie between 100ms and 1d"),
            (&["--byte-rate", "512"], "more than --frame-timeout 2m; raise the rate or the time"),
            (&["--exempt-address", "10.0.0.0/40"], "write it like 192.0.2.1, 10.0.0.0/8"),
            (
                &["--exempt-address", "::1", "--max-connections-per-address", "0"],
                "leave one of the two out",
            ),
            (&["--allow-origin", "example.org/chat"], "write it like https://example.org"),
        ] {
            let refusal = config(arguments).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
            assert_eq!(refusal.lines().count(), 1);
        }
    }
}
