//! What a run has to tell.
//!
//! Owns the numbers of the table, the JSON file and the page: plain numbers in the units that their
//! names end with. Never computes: [`reckoning`](super::reckoning) does. Never formats:
//! [`table`](super::table) and [`page`](super::page) do.

use serde::Serialize;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything was as the contract promises.
    Passed,
    /// The server broke the contract.
    Failed,
    /// The generator was the bottleneck: there are no results.
    Refused,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of `corebeat`.
    pub version: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// Why there are no results.
    pub refusals: Vec<String>,
    /// What the server must not do, and how often it did; only what happened.
    pub violations: Vec<ViolationCount>,
    /// The first few cases in words.
    pub examples: Vec<String>,
    /// What was asked for.
    pub run: RunFacts,
    /// Where it ran.
    pub machine: MachineFacts,
    /// How the generator itself did.
    pub generator: GeneratorFacts,
    /// What was measured.
    pub results: Option<Results>,
}

/// Cases of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct ViolationCount {
    /// The kind's name.
    pub kind: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// How many.
    pub count: u64,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct RunFacts {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The dialect's name.
    pub dialect: &'static str,
    /// What was measured.
    pub server: String,
    /// Its process.
    pub server_pid: Option<u32>,
    /// What the plan follows from.
    pub seed: u64,
    /// Connections that stay.
    pub connections: u32,
    /// Rooms.
    pub rooms: u32,
    /// Publishers in each room.
    pub publishers_per_room: u32,
    /// `open`, `closed` or `silent`.
    pub mode: &'static str,
    /// Open: messages a second.
    pub rate_per_s: Option<f64>,
    /// Open: how they are spread.
    pub arrivals: Option<&'static str>,
    /// Closed: messages of one publisher under way at any time.
    pub in_flight: Option<u32>,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Warm-up.
    pub warm_up_s: f64,
    /// Measured time as planned.
    pub duration_s: f64,
    /// The heartbeat wished for; 0 for the server's.
    pub heartbeat_s: u16,
}

/// Where it ran.
#[derive(Clone, Debug, Serialize)]
pub struct MachineFacts {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// Processors that could be used.
    pub processors: usize,
    /// Memory.
    pub memory_bytes: u64,
}

/// How the generator itself did.
#[derive(Clone, Debug, Serialize)]
pub struct GeneratorFacts {
    /// Threads.
    pub threads: u32,
    /// Whether they slept.
    pub spin: bool,
    /// The share of the measured time in which the busiest had work to do.
    pub busy: f64,
    /// The 99th percentile of its lateness.
    pub lag_p99_us: f64,
    /// The 99th percentile of its turns' lengths.
    pub turn_p99_us: f64,
    /// What was allowed of both.
    pub lag_allowed_us: Option<f64>,
    /// Processors it kept busy, spinning included.
    pub processors_used: f64,
    /// The share of the measured time that its threads waited for a processor, all together.
    pub waited: Option<f64>,
    /// Its own memory for each connection; only of many.
    pub bytes_per_connection: Option<f64>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// The measured time as it was.
    pub measured_s: f64,
    /// Latencies, by kind; only kinds that there were.
    pub latencies: Vec<LatencyRow>,
    /// Rates.
    pub traffic: TrafficFacts,
    /// The server's process, where it was known.
    pub server: Option<ServerFacts>,
    /// The kernel's memory, where it could be read.
    pub kernel: Option<KernelFacts>,
    /// The ramp.
    pub ramp: RampFacts,
    /// Comings and goings.
    pub churn: Option<ChurnFacts>,
    /// The storm.
    pub storm: Option<StormFacts>,
    /// Slow readers.
    pub slow: Option<SlowFacts>,
    /// The course of the run.
    pub course: Vec<CoursePoint>,
}

/// Latencies of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyRow {
    /// The kind.
    pub kind: &'static str,
    /// From when to when.
    pub meaning: &'static str,
    /// How many.
    pub count: u64,
    /// Mean.
    pub mean_us: f64,
    /// Half of them are at most this.
    pub p50_us: f64,
    /// Nine tenths.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// 99.99 %.
    pub p9999_us: f64,
    /// All.
    pub max_us: f64,
    /// Shares and what they do not exceed, in microseconds, for a curve.
    pub curve: Vec<(f64, f64)>,
}

/// Rates.
#[derive(Clone, Debug, Serialize)]
pub struct TrafficFacts {
    /// Messages and echoes sent in the measured time, a second.
    pub sent_per_s: f64,
    /// Deliveries and echoes heard in the measured time.
    pub deliveries: u64,
    /// The same, a second.
    pub deliveries_per_s: f64,
    /// Bytes heard, a second.
    pub bytes_per_s: f64,
    /// Messages written by one call.
    pub messages_per_write: f64,
    /// Deliveries read by one call, other calls included.
    pub deliveries_per_read: f64,
    /// Deliveries due in the whole run to members that stay and read.
    pub due: u64,
    /// Those that came.
    pub came: u64,
    /// Their share.
    pub delivery_ratio: f64,
    /// PINGs answered in the whole run.
    pub pings_answered: u64,
}

/// The server's process.
#[derive(Clone, Debug, Serialize)]
pub struct ServerFacts {
    /// Processors it kept busy in the measured time.
    pub processors_used: f64,
    /// The share of that in the kernel.
    pub system_share: f64,
    /// Processor time for each delivery or echo, where there were any.
    pub us_per_delivery: Option<f64>,
    /// Processor time for each connection and second, where nothing was sent.
    pub idle_us_per_connection_second: Option<f64>,
    /// Processor time for each connection that was opened in the measured time.
    pub us_per_connect: Option<f64>,
    /// Resident memory before the first connection.
    pub resident_at_rest_bytes: u64,
    /// With all connections there.
    pub resident_joined_bytes: u64,
    /// The most of the run.
    pub resident_peak_bytes: u64,
    /// Memory for each connection; only of many, since memory comes in large steps.
    pub bytes_per_connection: Option<f64>,
    /// Context switches a second because it waited.
    pub voluntary_switches_per_s: Option<f64>,
    /// Context switches a second because another was given the processor.
    pub involuntary_switches_per_s: Option<f64>,
    /// Threads.
    pub threads: u64,
}

/// The kernel's memory. Both ends of a connection are counted where both are on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct KernelFacts {
    /// TCP sockets that the ramp added.
    pub sockets: u64,
    /// Bytes of kernel objects for each, where they may be read.
    pub slab_bytes_per_socket: Option<f64>,
    /// Bytes in buffers for each.
    pub buffer_bytes_per_socket: f64,
}

/// The ramp.
#[derive(Clone, Debug, Serialize)]
pub struct RampFacts {
    /// How long until all were there.
    pub seconds: f64,
    /// How many a second.
    pub connections_per_s: f64,
    /// How many a second were asked for.
    pub asked_per_s: f64,
}

/// Comings and goings in the measured time.
#[derive(Clone, Debug, Serialize)]
pub struct ChurnFacts {
    /// Connections opened.
    pub connections: u64,
    /// The same, a second.
    pub connections_per_s: f64,
    /// Those that were not in their room when their time was up, in the whole run.
    pub unfinished: u64,
}

/// The storm.
#[derive(Clone, Debug, Serialize)]
pub struct StormFacts {
    /// Connections dropped and asked for again.
    pub connections: u64,
    /// From the instant of the storm until the generator had dropped all and asked for the first.
    pub drop_ms: f64,
    /// From the first asked for to the last asked for.
    pub asking_ms: f64,
    /// Connections asked for a second, as fast as the generator could.
    pub asked_per_s: f64,
    /// From the instant of the storm until all were back in their rooms.
    pub all_back_ms: f64,
    /// Connections accepted and let in a second, from the first asked for to the last let in.
    pub accepts_per_s: f64,
    /// The server was done as soon as it was asked: its own limit lies higher.
    pub kept_up: bool,
    /// Where sessions were resumed.
    pub resume: Option<ResumeFacts>,
}

/// The sessions that a storm cut off. Times count from the instant of the storm until a session
/// was resumed and had heard what it missed.
#[derive(Clone, Debug, Serialize)]
pub struct ResumeFacts {
    /// Sessions that were resumed.
    pub resumed: u64,
    /// Messages that did not come, or that the server said it did not send.
    pub missing: u64,
    /// Messages that were missed and came out of the history.
    pub replayed: u64,
    /// Messages that came again out of the history.
    pub repeated: u64,
    /// Half of the sessions took at most this.
    pub p50_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// All.
    pub max_ms: f64,
    /// As many bare connections: from their planned instant to the last WELCOME.
    pub accept_all_ms: f64,
    /// How many of those were not accepted.
    pub unaccepted: u64,
    /// `p99_ms` by `accept_all_ms`.
    pub p99_by_accept_all: f64,
}

/// Slow readers.
#[derive(Clone, Debug, Serialize)]
pub struct SlowFacts {
    /// Members that stopped reading.
    pub members: u64,
    /// Those that the server ended or told of gaps.
    pub dealt_with: u64,
}

/// The run at an instant.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CoursePoint {
    /// When, since the run began.
    pub at_s: f64,
    /// The phase.
    pub phase: &'static str,
    /// Connections open.
    pub open: u64,
    /// Deliveries a second since the last point.
    pub deliveries_per_s: f64,
    /// The 99th percentile of the latency since the last point; 0 for none.
    pub p99_us: f64,
    /// The server's resident memory.
    pub resident_bytes: Option<u64>,
    /// Processors that the server kept busy since the last point.
    pub processors_used: Option<f64>,
    /// Violations so far.
    pub violations: u64,
}
