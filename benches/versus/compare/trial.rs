//! What is run, and who takes part.
//!
//! Owns the trials, their sizes and times in the full and the quick comparison, and the arguments
//! of `corebeat bench` that follow. Never runs anything: [`runner`](super::runner) does.

use corebeat::load::config::Dialect;

use super::contestant::Contestant;

/// Members of a room where there is one, and of all rooms where there are several.
pub(crate) const MEMBERS: u32 = 1_000;
/// Rooms of the trials that measure latency.
pub(crate) const ROOMS: u32 = 10;
/// Bytes of a body.
pub(crate) const BODY_BYTES: u32 = 64;
/// The seed of every plan.
pub(crate) const SEED: u32 = 1;

/// A load that every contestant is put under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trial {
    /// Saturation with one message in flight, in one room.
    Single,
    /// Saturation with 16 in flight.
    Burst,
    /// Half of the weakest one's capacity, one worker.
    Half,
    /// Nine tenths of it.
    Most,
    /// Half of the weakest one's capacity, two workers.
    Span,
    /// All connections are dropped and come back at once.
    Storm,
    /// Connections that only answer heartbeats. All contestants at the same time.
    Idle,
    /// What one worker can do with the rooms of [`Trial::Half`]: sets its rate.
    Capacity,
    /// The same of two workers.
    SpanCapacity,
}

impl Trial {
    /// Those of a round, in order.
    pub(crate) const OF_A_ROUND: [Trial; 7] = [
        Trial::Single,
        Trial::Burst,
        Trial::Half,
        Trial::Most,
        Trial::Span,
        Trial::Storm,
        Trial::Idle,
    ];

    /// As programs and the live line name it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Trial::Single => "one_in_flight",
            Trial::Burst => "sixteen_in_flight",
            Trial::Half => "half_load",
            Trial::Most => "nine_tenths_load",
            Trial::Span => "half_load_two_workers",
            Trial::Storm => "storm",
            Trial::Idle => "idle",
            Trial::Capacity => "capacity",
            Trial::SpanCapacity => "capacity_two_workers",
        }
    }

    /// Who takes part.
    pub(crate) fn contestants(self) -> &'static [Contestant] {
        match self {
            Trial::Single | Trial::Burst => &Contestant::ALL,
            Trial::Idle => {
                const WITH_FLOOR: [Contestant; 4] = [
                    Contestant::Corebeat,
                    Contestant::Tuned,
                    Contestant::Plain,
                    Contestant::FloorPrivate,
                ];
                &WITH_FLOOR
            }
            _ => &Contestant::SERVERS,
        }
    }

    /// Workers of each server, and processors that it may use.
    pub(crate) fn workers(self) -> u32 {
        match self {
            Trial::Span | Trial::SpanCapacity => 2,
            _ => 1,
        }
    }

    /// Further options of each server. Where messages flow, pings stay away.
    pub(crate) fn server_options(self) -> &'static str {
        match self {
            Trial::Idle => "",
            _ => "--heartbeat 10m --timeout 30m",
        }
    }

    /// The capacity that its rate is a share of, and the share.
    pub(crate) fn load(self) -> Option<(Trial, f64)> {
        match self {
            Trial::Half => Some((Trial::Capacity, 0.5)),
            Trial::Most => Some((Trial::Capacity, 0.9)),
            Trial::Span => Some((Trial::SpanCapacity, 0.5)),
            _ => None,
        }
    }
}

/// How long everything takes.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// What is spoken.
    pub(crate) dialect: Dialect,
    /// The trials of a round, in order.
    pub(crate) trials: Vec<Trial>,
    /// Rounds.
    pub(crate) rounds: usize,
    /// Whether idling, the storm and 90 % load are left to the first round.
    pub(crate) brief: bool,
    /// The whole comparison stops to repeat what was disturbed after so long, in seconds.
    pub(crate) limit_s: f64,
    /// Repetitions of what was disturbed, at most.
    pub(crate) repetitions: u32,
    /// Connections of the idle trial, and the heartbeat that they wish for, in seconds.
    pub(crate) idle_connections: u32,
    pub(crate) heartbeat_s: u32,
    /// Warm-up and measured time of saturation.
    saturation_ms: (u32, u32),
    /// The same where latency is measured.
    latency_ms: (u32, u32),
    /// Connections of the storm.
    pub(crate) storm_connections: u32,
    /// Connections opened a second.
    pub(crate) ramp: u32,
}

impl Pace {
    /// Under 15 minutes with five rounds.
    pub(crate) fn full() -> Pace {
        Pace {
            dialect: Dialect::Native,
            trials: Trial::OF_A_ROUND.to_vec(),
            rounds: 5,
            brief: false,
            limit_s: 12.5 * 60.0,
            repetitions: 12,
            idle_connections: 14_000,
            heartbeat_s: 25,
            saturation_ms: (500, 2_000),
            latency_ms: (500, 4_000),
            storm_connections: 5_000,
            ramp: 10_000,
        }
    }

    /// Under two minutes with three rounds.
    pub(crate) fn quick() -> Pace {
        Pace {
            rounds: 3,
            brief: true,
            limit_s: 85.0,
            repetitions: 3,
            idle_connections: 10_000,
            heartbeat_s: 5,
            saturation_ms: (200, 500),
            latency_ms: (200, 1_000),
            storm_connections: 2_000,
            ..Pace::full()
        }
    }

    /// Another number of rounds; the time for repetitions grows and shrinks with it.
    pub(crate) fn set_rounds(&mut self, rounds: Option<u16>) {
        let Some(rounds) = rounds.map(usize::from) else { return };
        self.limit_s *= rounds as f64 / self.rounds as f64;
        self.rounds = rounds;
    }

    /// How long after the beginning a disturbed trial of a round, counted from 0, may still be
    /// repeated, in seconds. Rounds share the time evenly where they are alike.
    pub(crate) fn repeats_until_s(&self, round: usize) -> f64 {
        match self.brief {
            true => self.limit_s,
            false => self.limit_s * (round + 1) as f64 / self.rounds as f64,
        }
    }

    /// These trials alone, in the order of a round; all where there are none. The time for
    /// repetitions shrinks with their number.
    pub(crate) fn set_trials(&mut self, chosen: &[Trial]) {
        self.trials.retain(|trial| chosen.is_empty() || chosen.contains(trial));
        self.limit_s *= self.trials.len() as f64 / Trial::OF_A_ROUND.len() as f64;
    }

    /// The trials of a round, counted from 0.
    pub(crate) fn trials_of(&self, round: usize) -> Vec<Trial> {
        let rare = |trial: &Trial| matches!(trial, Trial::Idle | Trial::Storm | Trial::Most);
        let left_out = |trial: &Trial| self.brief && rare(trial) && round > 0;
        self.trials.iter().copied().filter(|trial| !left_out(trial)).collect()
    }

    /// The capacities that some trial's rate is a share of.
    pub(crate) fn capacities(&self) -> Vec<Trial> {
        let wanted = |capacity: &Trial| {
            self.trials.iter().any(|trial| trial.load().is_some_and(|(of, _)| of == *capacity))
        };
        [Trial::Capacity, Trial::SpanCapacity].into_iter().filter(wanted).collect()
    }

    /// Who takes part in a trial. The bare loop speaks native frames only.
    pub(crate) fn contestants(&self, trial: Trial) -> Vec<Contestant> {
        let all = trial.contestants().iter().copied();
        let has_floor = self.dialect == Dialect::Native;
        all.filter(|contestant| has_floor || !contestant.is_floor()).collect()
    }

    /// How long after the first one each further server of the idle trial is started, in
    /// milliseconds, so that their ramps do not overlap.
    pub(crate) fn stagger_ms(&self) -> u32 {
        1_500 + self.idle_connections * 1_250 / self.ramp
    }

    /// The arguments of `corebeat bench` without the server's. `place` is the contestant's place
    /// among the idle ones, and `rate` the messages a second of an open loop.
    pub(crate) fn arguments(&self, trial: Trial, place: u32, rate: f64) -> String {
        let dialect = match self.dialect {
            Dialect::Native => String::new(),
            other => format!("--dialect {} ", other.name()),
        };
        let seed = format!("{dialect}--seed {SEED} --ramp {} --threads 1 --pin", self.ramp);
        let messages = format!("broadcast -c {MEMBERS} --size {BODY_BYTES} {seed} --rest 100ms");
        // How busy the generator is in a closed loop stands beside the figures instead.
        let closed = "--busy 100 --spin";
        let times = |(warm_up, measured): (u32, u32)| {
            format!("--warm-up {warm_up}ms --duration {measured}ms")
        };
        let saturation = times(self.saturation_ms);
        let latency = times(self.latency_ms);
        let open = format!("--rooms {ROOMS} -r {rate:.1} --arrivals poisson");
        match trial {
            Trial::Single => format!("{messages} --rooms 1 -w 1 {closed} {saturation}"),
            Trial::Burst => format!("{messages} --rooms 1 -w 16 {closed} {saturation}"),
            Trial::Half | Trial::Most => format!("{messages} {open} --spin {latency}"),
            // The generator shares a processor with a worker here, and must leave it to it.
            // It is late by as much as that costs, which is told beside the figures.
            Trial::Span => format!("{messages} {open} --lag 1s {latency}"),
            Trial::Capacity => {
                format!("{messages} --rooms {ROOMS} -w 1 {closed} {saturation}")
            }
            Trial::SpanCapacity => {
                format!("{messages} --rooms {ROOMS} -w 1 --busy 100 {saturation}")
            }
            Trial::Storm => {
                format!("storm -c {} {seed} --rest 100ms --resume off", self.storm_connections)
            }
            Trial::Idle => {
                // All windows begin when the last ramp is over.
                let last = self.contestants(Trial::Idle).len() as u32 - 1;
                let wait_ms = self.stagger_ms() * (last - place) + 200;
                format!(
                    "idle -c {} --rooms 1 --heartbeat {}s {seed} --warm-up {wait_ms}ms \
                     --duration {}ms",
                    self.idle_connections,
                    self.heartbeat_s,
                    self.heartbeat_s * 1_000 + 100
                )
            }
        }
    }
}

/// Deliveries that one message makes where latency is measured: its publisher gets none.
pub(crate) fn deliveries_per_message() -> f64 {
    f64::from(MEMBERS / ROOMS - 1)
}
