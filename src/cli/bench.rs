//! `corebeat bench`.
//!
//! Owns its options, what it prints where, and its exit codes. Never measures:
//! [`load`](crate::load) does.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::options::Switch;
use super::{BROKEN, DONE, complain, units};
use crate::load::conductor::{Order, Trouble, conduct};
use crate::load::config::{Arrivals, Churn, Dialect, LoadConfig, Scenario, Traffic};
use crate::load::perf_control::PerfControl;
use crate::load::report::{Report, Verdict};
use crate::load::server::ServerChoice;
use crate::load::verdict::{Bounds, judge};
use crate::load::{page, table};

/// The generator was the bottleneck: nothing is reported.
const UNFIT: u8 = 3;

const SERVER: &str = "Server";
const LOAD: &str = "Load";
const TIMES: &str = "Times";
const GENERATOR: &str = "Generator";
const REPORT: &str = "Report";

/// What stands behind the options in the help.
pub(super) const HELP: &str = "\
Scenarios:
  idle       connections that are in their rooms and silent: memory, and what a heartbeat costs
  broadcast  some members of each room publish, all others receive (the default)
  echo       each connection sends bytes and gets them back
  churn      a chatting population, and others that come and go
  storm      all members are reset at once and come back
  slow       a chatting population of which a tenth stops reading
  mixed      rooms, echo, comings and goings and slow readers together

Dialects:
  native      native frames (the default); native-crc with checksums, both ways
  text        lines, as people type them; echo asks for pong, and a room has one publisher
  ws-json     WebSockets, subprotocol corebeat.v1.json: an object in each text message
  ws-bin      WebSockets, subprotocol corebeat.v1.bin: native frames in binary messages

Examples:
  corebeat bench                                      20 seconds that show something
  corebeat bench idle --connections 100000 --heartbeat 25s --duration 1m
  corebeat bench idle --dialect ws-json --connections 14000 --rooms 1
  corebeat bench broadcast --rooms 1 --in-flight 16 --spin      deliveries/s at saturation
  corebeat bench broadcast --rate 2000 --arrivals poisson --html report.html
  corebeat bench storm --connections 20000 --json storm.json
  corebeat bench echo --target 127.0.0.1:8080 --server-pid $(pidof corebeat)
  corebeat bench --server-command 'other-server --port 0'

Latency counts from the instant at which something was planned, so a server that stalls is charged
for all that was due meanwhile. Every delivery is checked: order, gaps, duplicates, checksums.

Exit codes: 0 all was well; 1 the server broke the contract; 2 the request was wrong, or the machine
does not allow it; 3 the generator was the bottleneck, and there is nothing to report.";

macro_rules! choices {
    ($kind:ty, $($value:expr),+) => {
        impl ValueEnum for $kind {
            fn value_variants<'a>() -> &'a [Self] {
                &[$($value),+]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(PossibleValue::new(self.name()))
            }
        }
    };
}

choices!(
    Scenario,
    Scenario::Idle,
    Scenario::Broadcast,
    Scenario::Echo,
    Scenario::Churn,
    Scenario::Storm,
    Scenario::Slow,
    Scenario::Mixed
);
choices!(
    Dialect,
    Dialect::Native,
    Dialect::NativeCrc,
    Dialect::Text,
    Dialect::WebSocketJson,
    Dialect::WebSocketBin
);
choices!(Arrivals, Arrivals::Steady, Arrivals::Poisson);

/// What `corebeat bench` takes.
#[derive(Args, Clone, Debug)]
pub struct BenchOptions {
    /// What the connections do; described below
    #[arg(value_name = "SCENARIO", default_value = "broadcast", hide_possible_values = true)]
    scenario: Scenario,

    /// Measure a server that runs already
    #[arg(long, value_name = "HOST:PORT", value_parser = super::options::address)]
    #[arg(conflicts_with_all = ["server_command", "workers", "serve"], help_heading = SERVER)]
    target: Option<SocketAddr>,

    /// The process of that server, to sample its processor time and memory
    #[arg(long, value_name = "PID", requires = "target", help_heading = SERVER)]
    server_pid: Option<u32>,

    /// Start this server instead; it must print a line with `listening on HOST:PORT`
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["workers", "serve"])]
    #[arg(help_heading = SERVER)]
    server_command: Option<String>,

    /// Workers of the server that is started [default: half of the processors]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=4_096))]
    #[arg(help_heading = SERVER)]
    workers: Option<u16>,

    /// Further options of the server that is started, as in --serve "--heartbeat 25s"
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true, help_heading = SERVER)]
    serve: Option<String>,

    /// What is spoken: native, native-crc, text, ws-json or ws-bin
    #[arg(long, value_name = "DIALECT", default_value = "native", hide_possible_values = true)]
    #[arg(help_heading = LOAD)]
    dialect: Dialect,

    /// Connections that stay [default: by the scenario]
    #[arg(short = 'c', long, value_name = "COUNT", help_heading = LOAD)]
    connections: Option<u32>,

    /// Rooms over which they are dealt; 0 for none [default: by the scenario]
    #[arg(long, value_name = "COUNT", help_heading = LOAD)]
    rooms: Option<u32>,

    /// Members of each room that publish
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(default_value_t = 1, help_heading = LOAD)]
    publishers: u32,

    /// Messages a second, all publishers together [default: by the scenario]
    #[arg(short = 'r', long, value_name = "PER_SECOND", value_parser = rate)]
    #[arg(conflicts_with = "in_flight", help_heading = LOAD)]
    rate: Option<f64>,

    /// How they are spread: steady, or poisson as independent people would
    #[arg(long, value_name = "HOW", default_value = "steady", hide_possible_values = true)]
    #[arg(help_heading = LOAD)]
    arrivals: Arrivals,

    /// Closed loop instead: so many messages of each publisher are always under way
    #[arg(short = 'w', long, value_name = "COUNT", help_heading = LOAD)]
    in_flight: Option<u32>,

    /// Bytes of a message's body [default: 64; slow: 4KiB]
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = LOAD)]
    size: Option<usize>,

    /// Heartbeat that the connections wish for [default: the server's]
    #[arg(long, value_name = "DURATION", value_parser = units::duration, help_heading = LOAD)]
    heartbeat: Option<Duration>,

    /// Connections that come and go, a second (churn, mixed)
    #[arg(long, value_name = "PER_SECOND", value_parser = rate, help_heading = LOAD)]
    churn_rate: Option<f64>,

    /// How long each of those stays
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "2s")]
    #[arg(help_heading = LOAD)]
    lifetime: Duration,

    /// The share of members that stops reading, in percent [default: slow 10, mixed 2]
    #[arg(long, value_name = "PERCENT", value_parser = percent, help_heading = LOAD)]
    slow: Option<f64>,

    /// Whether those that a storm cuts off resume their sessions, while the first publisher of
    /// each room stays and speaks [default: on in storm, but for text]
    #[arg(long, value_name = "on|off", hide_possible_values = true, help_heading = LOAD)]
    resume: Option<Switch>,

    /// What all chance follows from: the same seed plans the same run
    #[arg(long, value_name = "NUMBER", default_value_t = 1, help_heading = LOAD)]
    seed: u64,

    /// Measured time [default: by the scenario]
    #[arg(short = 'd', long, value_name = "DURATION", value_parser = units::duration)]
    #[arg(help_heading = TIMES)]
    duration: Option<Duration>,

    /// Time during which messages flow before it is measured [default: 3s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration, help_heading = TIMES)]
    warm_up: Option<Duration>,

    /// Connections opened a second before that
    #[arg(long, value_name = "PER_SECOND", value_parser = rate, default_value = "5000")]
    #[arg(help_heading = TIMES)]
    ramp: f64,

    /// Rest before the first and after the last connection is opened, for memory to come to rest
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "500ms")]
    #[arg(help_heading = TIMES)]
    rest: Duration,

    /// How long a connection, and the last deliveries, may take
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "10s")]
    #[arg(help_heading = TIMES)]
    patience: Duration,

    /// Threads, each with a file table of its own [default: the processors that the server leaves,
    /// more where the limit on open files needs it]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    #[arg(help_heading = GENERATOR)]
    threads: Option<u32>,

    /// Threads never sleep, so that the server's sends pay for no wake-up
    #[arg(long, help_heading = GENERATOR)]
    spin: bool,

    /// Threads stay on their processors, the last ones first
    #[arg(long, help_heading = GENERATOR)]
    pin: bool,

    /// Tell `perf --delay=-1 --control fifo:FIFO` when the measured time begins and ends; may be
    /// given several times
    #[arg(long, value_name = "FIFO", help_heading = GENERATOR)]
    perf_control: Vec<PathBuf>,

    /// Refuse to report beyond this lag [default: 1ms, or a quarter of the p99
    /// latency]
    #[arg(long, value_name = "DURATION", value_parser = fine_duration, help_heading = GENERATOR)]
    lag: Option<Duration>,

    /// Refuse to report if a thread had work to do for more of the time, in percent
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "90")]
    #[arg(help_heading = GENERATOR)]
    busy: f64,

    /// Write all numbers to this file
    #[arg(long, value_name = "FILE", help_heading = REPORT)]
    json: Option<PathBuf>,

    /// Write a page with charts to this file; it needs no other
    #[arg(long, value_name = "FILE", help_heading = REPORT)]
    html: Option<PathBuf>,
}

impl BenchOptions {
    /// The run that these options ask for.
    ///
    /// # Errors
    /// One line that names the option at fault and the remedy.
    fn into_order(self) -> Result<Order, String> {
        let mut config = LoadConfig::of(self.scenario);
        self.scale(&mut config);
        self.set_traffic(&mut config)?;
        config.dialect = self.dialect;
        config.publishers = self.publishers;
        config.seed = self.seed;
        config.run = fastrand::u32(1..);
        config.size = self.size.unwrap_or(config.size);
        config.heartbeat_s = match self.heartbeat {
            Some(heartbeat) => super::options::whole_seconds("--heartbeat", heartbeat)?,
            None => 0,
        };
        config.duration_ns = self.duration.map_or(config.duration_ns, nanos);
        config.warm_up_ns = self.warm_up.map_or(config.warm_up_ns, nanos);
        config.rest_ns = nanos(self.rest);
        config.patience_ns = nanos(self.patience);
        config.ramp_rate = self.ramp;
        config.slow_share = self.slow.map_or(config.slow_share, |percent| percent / 100.0);
        let resumes = config.resume && self.dialect.has_sessions();
        config.resume = self.resume.map_or(resumes, |switch| switch == Switch::On);
        config.check()?;
        Ok(Order {
            config,
            server: self.server()?,
            threads: self.threads,
            spin: self.spin,
            pin: self.pin,
            perf_control: PerfControl { pipes: self.perf_control },
        })
    }

    /// Where other numbers of connections are asked for, the size of rooms stays.
    fn scale(&self, config: &mut LoadConfig) {
        let usual = config.connections / config.rooms.max(1);
        if let Some(connections) = self.connections {
            config.connections = connections;
            if config.rooms > 0 {
                config.rooms = (connections / usual).clamp(1, connections.max(1));
            }
        }
        config.rooms = self.rooms.unwrap_or(config.rooms);
    }

    fn set_traffic(&self, config: &mut LoadConfig) -> Result<(), String> {
        let silent = config.traffic == Traffic::Silent;
        if silent && (self.rate.is_some() || self.in_flight.is_some()) {
            return Err(format!(
                "--rate and --in-flight: in {} nobody sends; choose another scenario",
                self.scenario
            ));
        }
        if let Traffic::Open { rate, .. } = config.traffic {
            let rate = self.rate.unwrap_or(rate);
            config.traffic = Traffic::Open { rate, arrivals: self.arrivals };
        }
        if let Some(in_flight) = self.in_flight {
            config.traffic = Traffic::Closed { in_flight };
        }
        match &mut config.churn {
            Some(churn) => {
                let rate = self.churn_rate.unwrap_or(churn.rate);
                if self.lifetime < Duration::from_millis(10) {
                    return Err("--lifetime must be at least 10ms".into());
                }
                *churn = Churn { rate, lifetime_ns: nanos(self.lifetime) };
            }
            None if self.churn_rate.is_some() => {
                return Err(format!(
                    "--churn-rate: nobody comes and goes in {}; choose churn or mixed",
                    self.scenario
                ));
            }
            None => {}
        }
        Ok(())
    }

    fn server(&self) -> Result<ServerChoice, String> {
        if let Some(address) = self.target {
            return Ok(ServerChoice::Running { address, pid: self.server_pid });
        }
        let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
        if let Some(command) = &self.server_command {
            let words = words(command);
            if words.is_empty() {
                return Err("--server-command is empty; write it like 'server --port 0'".into());
            }
            return Ok(ServerChoice::Command(words));
        }
        let options = self.serve.as_deref().map(words).unwrap_or_default();
        Ok(ServerChoice::Own { workers: self.workers, options })
    }
}

/// Measures what is asked for and reports. Returns the exit code.
pub(super) fn bench(options: BenchOptions) -> u8 {
    let bounds = Bounds { lag_ns: options.lag.map(nanos), busy: options.busy / 100.0 };
    let (json, html) = (options.json.clone(), options.html.clone());
    for (option, path) in [("--json", &json), ("--html", &html)] {
        if let Some(refusal) = path.as_deref().and_then(|path| no_place(option, path)) {
            return complain(&refusal);
        }
    }
    let run = match options.into_order().map(|order| conduct(&order)) {
        Ok(Ok(run)) => run,
        Ok(Err(Trouble::Failed(reason))) => {
            let _ = complain(&reason);
            return BROKEN;
        }
        Ok(Err(Trouble::Refused(reason))) | Err(reason) => return complain(&reason),
    };
    let report = Report::new(&run, &judge(&run, &bounds));
    // A reader that has hung up has read enough.
    let _ = std::io::stdout().write_all(table::render(&report).as_bytes());
    if let Err(refusal) = write_files(&report, json.as_deref(), html.as_deref()) {
        return complain(&refusal);
    }
    match report.verdict {
        Verdict::Passed => DONE,
        Verdict::Failed => BROKEN,
        Verdict::Refused => UNFIT,
    }
}

/// Why a report cannot be written there, as far as that can be told before there is one.
fn no_place(option: &str, path: &Path) -> Option<String> {
    let shown = path.display();
    if path.is_dir() {
        return Some(format!("{option} {shown} is a folder; name a file in it"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    let missing = !folder.is_dir();
    missing.then(|| format!("{option} {shown}: there is no folder {}; make it", folder.display()))
}

fn write_files(report: &Report, json: Option<&Path>, html: Option<&Path>) -> Result<(), String> {
    let write = |option: &str, path: &Path, text: String| {
        fs::write(path, text)
            .map_err(|error| format!("{option} {} cannot be written: {error}", path.display()))
    };
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
        write("--json", path, text + "\n")?;
    }
    if let Some(path) = html {
        write("--html", path, page::render(report)?)?;
    }
    Ok(())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Lag is often shorter than the millisecond that other durations begin with.
fn fine_duration(text: &str) -> Result<Duration, String> {
    match text.strip_suffix("us").and_then(|number| number.parse().ok()) {
        Some(us) => Ok(Duration::from_micros(us)),
        None => units::duration(text),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err(format!("`{text}` is no rate; write how many a second, like 500 or 0.5")),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(format!("`{text}` is no percentage; write 0 to 100")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Harness {
        #[command(flatten)]
        bench: BenchOptions,
    }

    fn order(arguments: &[&str]) -> Result<Order, String> {
        let arguments = std::iter::once(&"corebeat").chain(arguments);
        let harness = Harness::try_parse_from(arguments).map_err(|error| error.to_string())?;
        harness.bench.into_order()
    }

    #[test]
    fn a_bare_bench_broadcasts_at_a_server_of_its_own() {
        let order = order(&[]).unwrap();
        assert_eq!(order.config.scenario, Scenario::Broadcast);
        assert!(matches!(order.server, ServerChoice::Own { workers: None, .. }));
    }

    #[test]
    fn more_connections_make_more_rooms_of_the_same_size() {
        let config = order(&["idle", "-c", "1000000"]).unwrap().config;
        assert_eq!((config.connections, config.rooms), (1_000_000, 10_000));
        let config = order(&["-c", "50", "--rooms", "1"]).unwrap().config;
        assert_eq!((config.connections, config.rooms), (50, 1));
    }

    #[test]
    fn what_contradicts_itself_is_refused_in_one_line() {
        for (arguments, words) in [
            (&["idle", "--rate", "5"][..], "in idle nobody sends"),
            (&["echo", "--churn-rate", "5"], "choose churn or mixed"),
            (&["--size", "1"], "--size 1 must lie between"),
            (&["--dialect", "text", "--publishers", "2"], "--publishers 1"),
            (&["--heartbeat", "500ms"], "must be whole seconds"),
        ] {
            let refusal = order(arguments).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
            assert_eq!(refusal.lines().count(), 1);
        }
        for arguments in [
            &["--target", "127.0.0.1:1", "--workers", "2"][..],
            &["--server-pid", "1"],
            &["--rate", "1", "--in-flight", "1"],
            &["--rate", "-1"],
            &["--slow", "101"],
        ] {
            assert!(order(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn lag_may_be_shorter_than_a_millisecond() {
        assert_eq!(fine_duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(fine_duration("2ms"), Ok(Duration::from_millis(2)));
        assert!(fine_duration("us").is_err());
    }

    #[test]
    fn every_choice_can_be_written() {
        assert_eq!(Scenario::value_variants(), Scenario::ALL);
        assert_eq!(Dialect::value_variants(), Dialect::ALL);
        assert_eq!(
            order(&["--arrivals", "poisson"]).unwrap().config.traffic,
            Traffic::Open { rate: 500.0, arrivals: Arrivals::Poisson }
        );
    }
}
