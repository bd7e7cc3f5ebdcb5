//! What a run of the load generator is asked to do.
//!
//! Owns the scenarios, their defaults and the checks between settings. Never reads a command line,
//! a clock or the machine: the command line fills a [`LoadConfig`] in, and the
//! [plan](super::plan) follows from it.

use std::fmt;

use super::body;
use crate::base::limits::READ_CHUNK;
use crate::wire::http::Subprotocol;

/// A second, in the unit of every instant of a run.
pub const SECOND_NS: u64 = 1_000_000_000;
/// Connections that one source address has ports for, in Linux's usual range of 28,232.
pub const PORTS_OF_AN_ADDRESS: u32 = 28_000;
/// Connections that a source address is given where there are others: Linux looks for a free port
/// among the even ones first, and when those are taken it walks past all of them each time.
pub const CONNECTIONS_PER_SOURCE: u32 = PORTS_OF_AN_ADDRESS / 2;
/// The most connections of one run.
pub const CONNECTIONS_MAX: u32 = 16 << 20;
/// The most messages in flight of one publisher.
pub const IN_FLIGHT_MAX: u32 = 1_024;

/// What the connections of a run do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// They are there, joined and silent.
    Idle,
    /// Some members of each room publish, all others receive.
    Broadcast,
    /// Each sends bytes and gets them back.
    Echo,
    /// A chatting population, and others that come and go.
    Churn,
    /// All are dropped and come back at once.
    Storm,
    /// A chatting population of which a share stops reading.
    Slow,
    /// Rooms, echo, comings and goings and slow readers together.
    Mixed,
}

impl Scenario {
    /// Every scenario, in the order of the help.
    pub const ALL: [Scenario; 7] = [
        Scenario::Idle,
        Scenario::Broadcast,
        Scenario::Echo,
        Scenario::Churn,
        Scenario::Storm,
        Scenario::Slow,
        Scenario::Mixed,
    ];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Idle => "idle",
            Scenario::Broadcast => "broadcast",
            Scenario::Echo => "echo",
            Scenario::Churn => "churn",
            Scenario::Storm => "storm",
            Scenario::Slow => "slow",
            Scenario::Mixed => "mixed",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the connections speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Native frames.
    Native,
    /// Native frames with checksums, both ways.
    NativeCrc,
    /// Text lines.
    Text,
    /// JSON over a WebSocket.
    WebSocketJson,
    /// Native frames over a WebSocket.
    WebSocketBin,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Dialect; 5] = [
        Dialect::Native,
        Dialect::NativeCrc,
        Dialect::Text,
        Dialect::WebSocketJson,
        Dialect::WebSocketBin,
    ];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Native => "native",
            Dialect::NativeCrc => "native-crc",
            Dialect::Text => "text",
            Dialect::WebSocketJson => "ws-json",
            Dialect::WebSocketBin => "ws-bin",
        }
    }

    /// Whether a session outlives its connection.
    pub fn has_sessions(self) -> bool {
        self != Dialect::Text
    }

    /// Whether a room's messages carry their place in the room's order.
    pub fn numbers_messages(self) -> bool {
        self != Dialect::Text
    }

    /// What is asked for in the opening handshake, where there is one.
    pub fn subprotocol(self) -> Option<Subprotocol> {
        match self {
            Dialect::WebSocketJson => Some(Subprotocol::Json),
            Dialect::WebSocketBin => Some(Subprotocol::Bin),
            Dialect::Native | Dialect::NativeCrc | Dialect::Text => None,
        }
    }
}

/// How the instants of an open loop are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly.
    Steady,
    /// As independent people do: with exponentially distributed pauses.
    Poisson,
}

impl Arrivals {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Arrivals::Steady => "steady",
            Arrivals::Poisson => "poisson",
        }
    }
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Traffic {
    /// Not at all, until one message per room proves at the end that everybody is still there.
    Silent,
    /// At planned instants, whatever the server does.
    Open {
        /// Messages a second, all publishers together.
        rate: f64,
        /// How they are spread.
        arrivals: Arrivals,
    },
    /// As soon as an earlier one has reached everybody.
    Closed {
        /// Messages of one publisher that are under way at any time.
        in_flight: u32,
    },
}

/// Connections that come and go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// Connections a second.
    pub rate: f64,
    /// How long each stays.
    pub lifetime_ns: u64,
}

/// A run.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// What is done.
    pub scenario: Scenario,
    /// What is spoken.
    pub dialect: Dialect,
    /// What all that is random follows from.
    pub seed: u64,
    /// Tells the names and bodies of this run from those of others at the same server.
    pub run: u32,
    /// Connections that stay: members and echoers.
    pub connections: u32,
    /// Rooms over which members are dealt; 0 for none.
    pub rooms: u32,
    /// Members of each room that publish.
    pub publishers: u32,
    /// When messages are sent.
    pub traffic: Traffic,
    /// Bytes of a body.
    pub size: usize,
    /// The heartbeat wished for in HELLO, in seconds; 0 for the server's.
    pub heartbeat_s: u16,
    /// Connections opened a second before the measurement.
    pub ramp_rate: f64,
    /// Connections that may be half open at a time during the ramp.
    pub ramp_window: u32,
    /// How long is measured.
    pub duration_ns: u64,
    /// How long messages flow before it is measured.
    pub warm_up_ns: u64,
    /// Rest before the first and after the last connection is opened, so that memory comes to rest.
    pub rest_ns: u64,
    /// How long the last deliveries, and each connection, may take.
    pub patience_ns: u64,
    /// Connections that come and go.
    pub churn: Option<Churn>,
    /// The share of members that stops reading.
    pub slow_share: f64,
    /// The share of connections that echo.
    pub echo_share: f64,
    /// Whether those that a storm cut off resume their sessions.
    pub resume: bool,
}

impl LoadConfig {
    /// The defaults of a scenario.
    pub fn of(scenario: Scenario) -> LoadConfig {
        let (connections, rooms, rate, duration_s) = match scenario {
            Scenario::Idle => (10_000, 100, 0.0, 30),
            Scenario::Broadcast => (1_000, 10, 500.0, 12),
            Scenario::Echo => (1_000, 0, 10_000.0, 12),
            Scenario::Churn => (1_000, 10, 200.0, 12),
            Scenario::Storm => (5_000, 50, 0.0, 0),
            Scenario::Slow => (200, 2, 200.0, 15),
            Scenario::Mixed => (2_000, 20, 400.0, 15),
        };
        let churn = match scenario {
            Scenario::Churn => Some(200.0),
            Scenario::Mixed => Some(50.0),
            _ => None,
        };
        let traffic = match rate {
            0.0 => Traffic::Silent,
            rate => Traffic::Open { rate, arrivals: Arrivals::Steady },
        };
        LoadConfig {
            scenario,
            dialect: Dialect::Native,
            seed: 1,
            run: 1,
            connections,
            rooms,
            publishers: 1,
            traffic,
            size: if scenario == Scenario::Slow { 4_096 } else { 64 },
            heartbeat_s: 0,
            ramp_rate: 5_000.0,
            ramp_window: 256,
            duration_ns: duration_s * SECOND_NS,
            warm_up_ns: if traffic == Traffic::Silent { 0 } else { 3 * SECOND_NS },
            rest_ns: SECOND_NS / 2,
            patience_ns: 10 * SECOND_NS,
            churn: churn.map(|rate| Churn { rate, lifetime_ns: 2 * SECOND_NS }),
            slow_share: match scenario {
                Scenario::Slow => 0.1,
                Scenario::Mixed => 0.02,
                _ => 0.0,
            },
            echo_share: match scenario {
                Scenario::Echo => 1.0,
                Scenario::Mixed => 0.2,
                _ => 0.0,
            },
            resume: scenario == Scenario::Storm,
        }
    }

    /// Whether the run can be planned.
    ///
    /// # Errors
    /// One line that names the option at fault and the remedy.
    pub fn check(&self) -> Result<(), String> {
        self.check_sizes()?;
        let members = self.members();
        if self.rooms > 0 && members > 0 {
            let least = members / self.rooms;
            if least < 2 {
                return Err(format!(
                    "--rooms {}: {members} members are fewer than two in a room; ask for at most \
                     --rooms {}",
                    self.rooms,
                    (members / 2).max(1)
                ));
            }
            if self.publishers > least {
                return Err(format!(
                    "--publishers {}: a room has {least} members; ask for at most that many",
                    self.publishers
                ));
            }
        }
        if members > 0 && self.rooms == 0 && self.traffic != Traffic::Silent {
            return Err("--rooms 0 leaves nobody to talk to; ask for --rooms 1 or more".into());
        }
        if self.resume && !self.dialect.has_sessions() {
            return Err("--resume on: text clients have no sessions; ask for --resume off".into());
        }
        if self.resume && self.scenario != Scenario::Storm {
            return Err("--resume on: only a storm cuts connections off; choose storm".into());
        }
        if !self.dialect.numbers_messages() && self.publishers > 1 {
            return Err(
                "--publishers: text lines carry no sequence number, so only one publisher \
                        a room can be checked; ask for --publishers 1"
                    .into(),
            );
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), String> {
        let (least, most) = (body::BODY_MIN, READ_CHUNK / 2);
        if !(least..=most).contains(&self.size) {
            return Err(format!(
                "--size {} must lie between {least}, which the checks need, and {most}",
                self.size
            ));
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            return Err(format!(
                "--connections {} must lie between 1 and {CONNECTIONS_MAX}",
                self.connections
            ));
        }
        if let Traffic::Closed { in_flight } = self.traffic
            && !(1..=IN_FLIGHT_MAX).contains(&in_flight)
        {
            return Err(format!("--in-flight {in_flight} must lie between 1 and {IN_FLIGHT_MAX}"));
        }
        if self.duration_ns == 0 && self.scenario != Scenario::Storm {
            return Err("--duration 0s measures nothing; ask for 1s or more".into());
        }
        Ok(())
    }

    /// Connections that echo.
    pub fn echoers(&self) -> u32 {
        (f64::from(self.connections) * self.echo_share).round() as u32
    }

    /// Connections that stay and are members of a room (of none with `rooms` 0).
    pub fn members(&self) -> u32 {
        self.connections - self.echoers().min(self.connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_every_scenario_can_be_planned() {
        for scenario in Scenario::ALL {
            LoadConfig::of(scenario).check().unwrap();
        }
    }

    #[test]
    fn what_cannot_be_planned_is_refused_in_one_line_with_the_remedy() {
        let refuse = |change: fn(&mut LoadConfig)| {
            let mut config = LoadConfig::of(Scenario::Broadcast);
            change(&mut config);
            config.check().unwrap_err()
        };
        for (refusal, words) in [
            (refuse(|c| c.size = 10), "--size 10 must lie between 46"),
            (refuse(|c| c.rooms = 501), "ask for at most --rooms 500"),
            (refuse(|c| c.publishers = 101), "a room has 100 members"),
            (refuse(|c| c.rooms = 0), "--rooms 1 or more"),
            (refuse(|c| c.connections = 0), "--connections 0 must lie"),
            (refuse(|c| c.duration_ns = 0), "--duration 0s"),
            (refuse(|c| c.traffic = Traffic::Closed { in_flight: 0 }), "--in-flight 0"),
            (
                refuse(|c| {
                    c.dialect = Dialect::Text;
                    c.publishers = 2;
                }),
                "--publishers 1",
            ),
        ] {
            assert!(refusal.contains(words), "{refusal}");
            assert_eq!(refusal.lines().count(), 1);
        }
    }
}
