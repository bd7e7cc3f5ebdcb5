//! What is read out of the generator's reports, and what is promised of it.
//!
//! Owns the measures in the order in which they are shown, their words and units, and the targets.
//! Never computes: [`summary`](super::summary) does.

use corebeat::load::config::Dialect;
use serde_json::Value;

use super::arithmetic::{Better, Side};
use super::contestant::Contestant;
use super::trial::Trial;

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things, without a unit.
    Count,
    /// Things a second.
    PerSecond,
    /// Parts of a whole, from 0 to 1.
    Share,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanoseconds,
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// As programs name it, within its trial.
    pub(crate) key: &'static str,
    /// As people do.
    pub(crate) title: &'static str,
    pub(crate) trial: Trial,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    /// Where it is in a report.
    pub(crate) read: fn(&Value) -> Option<f64>,
}

impl Measure {
    /// Whether the bare loop has a figure of it: what the kernel takes for the same work.
    pub(crate) fn has_floor(&self) -> bool {
        !matches!(self.unit, Unit::Bytes) && self.key != "connections"
    }

    /// Whether it has a chart of bars: what all have in common, what stands on another chart, and
    /// what tells about the generator has none.
    pub(crate) fn has_bars(&self) -> bool {
        self.has_ratio()
            && !self.title.starts_with("latency")
            && self.key != "deliveries_per_core_s"
    }

    /// Whether one would rather have more or less of it.
    pub(crate) fn has_ratio(&self) -> bool {
        !matches!(self.unit, Unit::Count | Unit::Share) && self.key != "lag_ns"
    }
}

/// Rows of one trial, with a sentence that explains them.
pub(crate) struct Section {
    pub(crate) trial: Trial,
    pub(crate) title: &'static str,
    pub(crate) sentence: &'static str,
    pub(crate) measures: &'static [Measure],
}

macro_rules! measure {
    ($trial:ident, $key:literal, $title:literal, $unit:ident, $better:ident, $read:expr) => {
        Measure {
            key: $key,
            title: $title,
            trial: Trial::$trial,
            unit: Unit::$unit,
            better: Better::$better,
            read: $read,
        }
    };
}

fn at(report: &Value, path: &str) -> Option<f64> {
    report.pointer(path)?.as_f64()
}

/// Kernel objects and buffers of one socket. Both ends of a connection are on this machine, and the
/// figure is per socket, so it is the server's end.
fn kernel_bytes(report: &Value) -> Option<f64> {
    let slab = at(report, "/results/kernel/slab_bytes_per_socket")?;
    Some(slab + at(report, "/results/kernel/buffer_bytes_per_socket")?)
}

fn deliveries_per_s(report: &Value) -> Option<f64> {
    at(report, "/results/traffic/deliveries_per_s")
}

fn per_delivery_ns(report: &Value) -> Option<f64> {
    Some(at(report, "/results/server/us_per_delivery")? * 1e3)
}

fn messages_per_write(report: &Value) -> Option<f64> {
    at(report, "/results/traffic/deliveries_per_read")
}

fn latency_ns(report: &Value, percentile: &str) -> Option<f64> {
    Some(at(report, &format!("/results/latencies/0/{percentile}"))? * 1e3)
}

macro_rules! latencies {
    ($trial:ident) => {
        [
            measure!($trial, "p50_ns", "latency p50", Nanoseconds, Lower, |report| latency_ns(
                report, "p50_us"
            )),
            measure!($trial, "p99_ns", "latency p99", Nanoseconds, Lower, |report| latency_ns(
                report, "p99_us"
            )),
            measure!($trial, "p999_ns", "latency p99.9", Nanoseconds, Lower, |report| {
                latency_ns(report, "p999_us")
            }),
            measure!($trial, "max_ns", "latency max", Nanoseconds, Lower, |report| latency_ns(
                report, "max_us"
            )),
            measure!(
                $trial,
                "processor_ns_per_delivery",
                "processor time per delivery",
                Nanoseconds,
                Lower,
                per_delivery_ns
            ),
            measure!($trial, "lag_ns", "generator's own lag p99", Nanoseconds, Lower, |report| {
                Some(
                    at(report, "/generator/lag_p99_us")?.max(at(report, "/generator/turn_p99_us")?)
                        * 1e3,
                )
            }),
        ]
    };
}

macro_rules! saturation {
    ($trial:ident) => {
        [
            measure!(
                $trial,
                "deliveries_per_s",
                "deliveries per second",
                PerSecond,
                Higher,
                deliveries_per_s
            ),
            measure!(
                $trial,
                "deliveries_per_core_s",
                "deliveries per core-second",
                PerSecond,
                Higher,
                |report| Some(1e9 / per_delivery_ns(report)?)
            ),
            measure!($trial, "server_busy", "server's core in use", Share, Higher, |report| at(
                report,
                "/results/server/processors_used"
            )),
            measure!($trial, "generator_busy", "generator's core in use", Share, Lower, |report| {
                at(report, "/generator/busy")
            }),
            measure!(
                $trial,
                "processor_ns_per_delivery",
                "processor time per delivery",
                Nanoseconds,
                Lower,
                per_delivery_ns
            ),
            measure!(
                $trial,
                "messages_per_write",
                "messages per write",
                Count,
                Higher,
                messages_per_write
            ),
        ]
    };
}

const IDLE: [Measure; 4] = [
    measure!(Idle, "connections", "connections", Count, Higher, |report| at(
        report,
        "/run/connections"
    )),
    measure!(Idle, "memory_bytes", "memory per connection, user", Bytes, Lower, |report| at(
        report,
        "/results/server/bytes_per_connection"
    )),
    measure!(Idle, "kernel_bytes", "memory per connection, kernel", Bytes, Lower, kernel_bytes),
    measure!(
        Idle,
        "processor_ns_per_s",
        "processor time per connection and second",
        Nanoseconds,
        Lower,
        |report| Some(at(report, "/results/server/idle_us_per_connection_second")? * 1e3)
    ),
];

const STORM: [Measure; 3] = [
    measure!(Storm, "accepts_per_s", "accepts per second", PerSecond, Higher, |report| at(
        report,
        "/results/storm/accepts_per_s"
    )),
    measure!(
        Storm,
        "processor_ns_per_accept",
        "processor time per accepted connection",
        Nanoseconds,
        Lower,
        |report| Some(at(report, "/results/server/us_per_connect")? * 1e3)
    ),
    measure!(Storm, "recovery_ns", "storm recovery time", Nanoseconds, Lower, |report| Some(
        at(report, "/results/storm/all_back_ms")? * 1e6
    )),
];

const SINGLE: [Measure; 6] = saturation!(Single);
const BURST: [Measure; 6] = saturation!(Burst);
const HALF: [Measure; 6] = latencies!(Half);
const MOST: [Measure; 6] = latencies!(Most);
const SPAN: [Measure; 6] = latencies!(Span);

/// All rows, in the order in which they are shown.
pub(crate) const SECTIONS: [Section; 7] = [
    Section {
        trial: Trial::Single,
        title: "Saturation, one message in flight",
        sentence: "One publisher sends its next message to a room of 1,000 when the last has \
                   reached all members, so each write carries one message and the kernel's send \
                   is most of the cost.",
        measures: &SINGLE,
    },
    Section {
        trial: Trial::Burst,
        title: "Saturation, 16 messages in flight",
        sentence: "The same with 16 messages under way, which a server may gather into one write \
                   for each member.",
        measures: &BURST,
    },
    Section {
        trial: Trial::Half,
        title: "Latency at 50 % load, one worker",
        sentence: "Messages come at random planned instants at half of the rate that the weakest \
                   server can sustain, in 10 rooms of 100, and each delivery is timed from the \
                   planned instant.",
        measures: &HALF,
    },
    Section {
        trial: Trial::Most,
        title: "Latency at 90 % load, one worker",
        sentence: "The same at nine tenths of the weakest server's capacity.",
        measures: &MOST,
    },
    Section {
        trial: Trial::Span,
        title: "Latency at 50 % load, two workers",
        sentence: "Two workers on two processors, with rooms whose members are on both, at half \
                   of what the weakest server sustains there; on a machine with two processors \
                   the load generator shares the last one with a worker.",
        measures: &SPAN,
    },
    Section {
        trial: Trial::Idle,
        title: "Idle connections",
        sentence: "Connections that have joined a room and only answer heartbeats, held for a \
                   whole heartbeat interval, with all contestants on the same processor at the \
                   same time.",
        measures: &IDLE,
    },
    Section {
        trial: Trial::Storm,
        title: "Reconnect storm",
        sentence: "All connections are reset and come back at once; recovery ends when the last \
                   one is in its room again, and the pace is also the load generator's, which \
                   has to connect on a processor of its own.",
        measures: &STORM,
    },
];

/// What a target's figure is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    /// Nothing: corebeat's own figure counts.
    Itself,
    /// The ratio of corebeat's figure to this one's counts.
    Contestant(Contestant),
}

/// What is promised of corebeat.
pub(crate) struct Target {
    pub(crate) words: &'static str,
    pub(crate) trial: Trial,
    /// The key of the measure.
    pub(crate) key: &'static str,
    pub(crate) against: Against,
    pub(crate) side: Side,
    pub(crate) bound: f64,
}

const fn target(
    words: &'static str,
    (trial, key): (Trial, &'static str),
    against: Against,
    side: Side,
    bound: f64,
) -> Target {
    Target { words, trial, key, against, side, bound }
}

const SINGLE_RATE: (Trial, &str) = (Trial::Single, "deliveries_per_core_s");
const BURST_RATE: (Trial, &str) = (Trial::Burst, "deliveries_per_core_s");
const MEMORY: (Trial, &str) = (Trial::Idle, "memory_bytes");
const TAIL: (Trial, &str) = (Trial::Span, "p999_ns");
const TUNED: Against = Against::Contestant(Contestant::Tuned);
const PLAIN: Against = Against::Contestant(Contestant::Plain);
const SHARED: Against = Against::Contestant(Contestant::FloorShared);
const PRIVATE: Against = Against::Contestant(Contestant::FloorPrivate);

/// The targets where all contestants speak native frames.
#[rustfmt::skip]
const NATIVE_TARGETS: [Target; 12] = [
    target(
        "one in flight: deliveries per core-second against the floor on a shared file table",
        SINGLE_RATE, SHARED, Side::AtLeast, 1.0),
    target(
        "one in flight: deliveries per core-second against tokio-tuned",
        SINGLE_RATE, TUNED, Side::AtLeast, 1.0),
    target(
        "one in flight: deliveries per core-second against tokio-plain",
        SINGLE_RATE, PLAIN, Side::AtLeast, 1.0),
    target(
        "16 in flight: deliveries per core-second against the floor on a private file table",
        BURST_RATE, PRIVATE, Side::AtLeast, 0.9),
    target(
        "16 in flight: deliveries per core-second against tokio-tuned",
        BURST_RATE, TUNED, Side::AtLeast, 1.5),
    target(
        "16 in flight: deliveries per core-second against tokio-plain",
        BURST_RATE, PLAIN, Side::AtLeast, 3.0),
    target(
        "idle: bytes of user memory per connection",
        MEMORY, Against::Itself, Side::AtMost, 256.0),
    target(
        "idle: user memory against tokio-tuned",
        MEMORY, TUNED, Side::AtMost, 0.25),
    target(
        "idle: user memory against tokio-plain",
        MEMORY, PLAIN, Side::AtMost, 0.05),
    target(
        "idle: nanoseconds per connection and second at a 25 s heartbeat",
        (Trial::Idle, "processor_ns_per_s"), Against::Itself, Side::AtMost, 400.0),
    target(
        "50 % load, two workers: p99.9 against tokio-plain",
        TAIL, PLAIN, Side::AtMost, 0.5),
    target(
        "50 % load, two workers: p99.9 against tokio-tuned",
        TAIL, TUNED, Side::AtMost, 1.0),
];

/// The targets where all contestants speak WebSocket.
#[rustfmt::skip]
const WEBSOCKET_TARGETS: [Target; 1] = [
    target(
        "idle: bytes of user memory per WebSocket",
        MEMORY, Against::Itself, Side::AtMost, 320.0),
];

/// The targets of a comparison in a dialect.
pub(crate) fn targets(dialect: Dialect) -> &'static [Target] {
    match dialect {
        Dialect::WebSocketJson | Dialect::WebSocketBin => &WEBSOCKET_TARGETS,
        _ => &NATIVE_TARGETS,
    }
}
