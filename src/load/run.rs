//! What a run was, when it is over.
//!
//! Owns the phases and all that was measured and sampled, as the conductor gathered it. Never
//! judges or computes: the [verdict](super::verdict) and the [report](super::report) do.

use super::measure::Measures;
use super::plan::Plan;
use super::sample::{KernelSample, Machine, ProcessSample, Switches};

/// A phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connections are opened.
    Ramp,
    /// All are there; nothing happens.
    Rest,
    /// Messages flow and are not measured.
    WarmUp,
    /// What is planned now is measured.
    Measured,
    /// All were dropped and come back.
    Storm,
    /// What is on its way is waited for.
    Drain,
    /// As many bare connections are accepted.
    Bare,
}

impl Phase {
    /// Its name in the live line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Ramp => "ramp",
            Phase::Rest => "rest",
            Phase::WarmUp => "warm-up",
            Phase::Measured => "measured",
            Phase::Storm => "storm",
            Phase::Drain => "drain",
            Phase::Bare => "bare",
        }
    }
}

/// The run at an instant.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// When, in nanoseconds of the run's clock.
    pub at_ns: u64,
    /// The phase.
    pub phase: Phase,
    /// Connections that are open.
    pub open: u64,
    /// Messages sent so far.
    pub sent: u64,
    /// Deliveries so far.
    pub delivered: u64,
    /// Violations so far.
    pub violations: u64,
    /// The 99th percentile of the latency since the last point, in nanoseconds; 0 for none.
    pub p99_ns: u64,
    /// The server.
    pub server: Option<ProcessSample>,
}

/// Both processes and the kernel at one end of a stretch of time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// When, in nanoseconds of the run's clock.
    pub at_ns: u64,
    /// The server.
    pub server: Option<ProcessSample>,
    /// Its processor time in nanoseconds.
    pub processor_ns: Option<u64>,
    /// Its context switches.
    pub switches: Option<Switches>,
    /// The generator.
    pub generator: ProcessSample,
    /// How long the generator's threads waited for a processor, in nanoseconds.
    pub waited_ns: Option<u64>,
    /// What the kernel keeps.
    pub kernel: Option<KernelSample>,
}

/// A run that is over.
#[derive(Debug)]
pub struct Run {
    /// What was done.
    pub plan: Plan,
    /// What it was done to.
    pub server_name: String,
    /// The server's process.
    pub server_pid: Option<u32>,
    /// The machine.
    pub machine: Machine,
    /// Threads of the generator.
    pub threads: u32,
    /// Whether they slept.
    pub spin: bool,
    /// How long the ramp took, in nanoseconds.
    pub ramp_ns: u64,
    /// Before the first connection.
    pub at_rest: Mark,
    /// When all connections were there.
    pub joined: Mark,
    /// When the measured time began.
    pub from: Mark,
    /// When it ended.
    pub until: Mark,
    /// When the storm was to begin.
    pub storm_ns: Option<u64>,
    /// Bare connections that were asked for in vain.
    pub unaccepted: u64,
    /// What all threads measured.
    pub measures: Measures,
    /// The course of the run.
    pub course: Vec<Point>,
}
