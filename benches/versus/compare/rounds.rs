//! The course of a comparison.
//!
//! Owns the order of rounds and trials, what is discarded and repeated, and the live line. The
//! contestant that begins changes with every round.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Instant;

use super::arithmetic::{Allowance, OTHERS_SHARE_MAX, is_disturbed};
use super::contestant::Contestant;
use super::facts;
use super::runner::{Attempt, Runner};
use super::summary::{Facts, Figures};
use super::trial::{BODY_BYTES, Pace, ROOMS, Trial, deliveries_per_message};

/// A comparison that runs.
pub(crate) struct Rounds {
    runner: Runner,
    pace: Pace,
    begun: Instant,
    allowance: Allowance,
    /// The largest share that others used during a trial that was kept.
    others: f64,
    /// Deliveries a second of the weakest server.
    capacity_per_s: BTreeMap<Trial, f64>,
    refusals: Vec<String>,
}

impl Rounds {
    pub(crate) fn new(runner: Runner, pace: Pace) -> Rounds {
        Rounds {
            allowance: Allowance::new(pace.repetitions),
            runner,
            pace,
            begun: Instant::now(),
            others: 0.0,
            capacity_per_s: BTreeMap::new(),
            refusals: Vec::new(),
        }
    }

    /// Runs all rounds.
    ///
    /// # Errors
    /// One line about a run that failed.
    pub(crate) fn run(&mut self) -> Result<Figures, String> {
        for trial in self.pace.capacities() {
            self.measure_capacity(trial)?;
        }
        let mut figures = Figures::default();
        for round in 0..self.pace.rounds {
            for trial in self.pace.trials_of(round) {
                let attempt = self.repeat_until_quiet(trial, round)?;
                figures.add(trial, &attempt);
            }
        }
        self.say("");
        Ok(figures)
    }

    /// The weakest server's capacity, which sets the rate of the trials that measure latency.
    fn measure_capacity(&mut self, trial: Trial) -> Result<(), String> {
        let attempt = self.repeat_until_quiet(trial, 0)?;
        let rates = attempt.reports.values().filter_map(|report| {
            report.pointer("/results/traffic/deliveries_per_s").and_then(|rate| rate.as_f64())
        });
        let weakest = rates.fold(f64::INFINITY, f64::min);
        if !weakest.is_finite() {
            return Err(format!(
                "no capacity could be measured ({}); try again on a quieter machine",
                attempt.refusals.join("; ")
            ));
        }
        self.capacity_per_s.insert(trial, weakest);
        Ok(())
    }

    /// A trial of all contestants, again while others use the machine too.
    fn repeat_until_quiet(&mut self, trial: Trial, round: usize) -> Result<Attempt, String> {
        let rate = trial.load().map_or(0.0, |(capacity, share)| {
            self.capacity_per_s[&capacity] * share / deliveries_per_message()
        });
        loop {
            let (number, of) = (round + 1, self.pace.rounds);
            self.say(&format!("round {number} of {of}: {}", trial.key()));
            let attempt = self.runner.attempt(trial, round, rate)?;
            let disturbed = is_disturbed(attempt.others) || !attempt.refusals.is_empty();
            let has_time = self.begun.elapsed().as_secs_f64() < self.pace.repeats_until_s(round);
            if !self.allowance.discards(disturbed, has_time) {
                self.others = self.others.max(attempt.others);
                self.refusals.extend(attempt.refusals.iter().cloned());
                return Ok(attempt);
            }
        }
    }

    /// The live line; silent when not on a terminal.
    fn say(&self, words: &str) {
        let mut out = std::io::stderr();
        if !out.is_terminal() {
            return;
        }
        let seconds = self.begun.elapsed().as_secs();
        let discarded = self.allowance.discarded;
        let _ = match words {
            "" => write!(out, "\r\x1b[K"),
            words => write!(out, "\r\x1b[K{seconds:>4} s  {words}  {discarded} discarded"),
        };
    }

    /// How it was measured.
    pub(crate) fn facts(&self) -> Facts {
        let mut lines = facts::of_the_machine();
        lines.push(("placement".into(), self.placement()));
        lines.push(("load".into(), self.load()));
        lines.push(("rounds".into(), self.rounds_told()));
        let command = |((trial, contestant), command): (&(Trial, Contestant), &String)| {
            format!("{}, {}: {command}", trial.key(), contestant.name())
        };
        let by_workers = |(trial, capacity): (&Trial, &f64)| (trial.workers(), capacity.round());
        Facts {
            version: env!("CARGO_PKG_VERSION"),
            lines,
            commands: self.runner.commands.iter().map(command).collect(),
            warnings: self.warnings(),
            capacity_per_s: self.capacity_per_s.iter().map(by_workers).collect(),
        }
    }

    fn placement(&self) -> String {
        let (one, generator) = self.runner.places(Trial::Single);
        let (two, _) = self.runner.places(Trial::Span);
        format!(
            "server with one worker on processor {one}, with two on {two}; load generator, one \
             thread, on processor {generator}, spinning except where it shares it, when idle and \
             in the storm"
        )
    }

    fn load(&self) -> String {
        let pace = &self.pace;
        let mut told = format!("dialect {}, bodies of {BODY_BYTES} bytes", pace.dialect.name());
        for (trial, capacity) in &self.capacity_per_s {
            told += &format!(
                "; capacity of the weakest server with {}, one message of each of {ROOMS} \
                 publishers in flight: {:.0} k deliveries/s",
                if trial.workers() == 1 { "one worker" } else { "two workers" },
                capacity / 1e3
            );
        }
        if pace.trials.contains(&Trial::Idle) {
            let (count, heartbeat_s) = (pace.idle_connections, pace.heartbeat_s);
            told += &format!("; {count} idle connections at a heartbeat of {heartbeat_s} s");
        }
        if pace.trials.contains(&Trial::Storm) {
            told += &format!("; storm of {}", pace.storm_connections);
        }
        told
    }

    fn rounds_told(&self) -> String {
        let rare =
            if self.pace.brief { " (idle, storm and 90 % load: the first only)" } else { "" };
        format!(
            "{}{rare}, in {:.0} s; trials discarded and repeated because others used more than \
             {:.0} % of the machine, or the generator refused: {}; most used by others in one \
             that counts: {:.1} %",
            self.pace.rounds,
            self.begun.elapsed().as_secs_f64(),
            OTHERS_SHARE_MAX * 100.0,
            self.allowance.discarded,
            self.others * 100.0
        )
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.allowance.kept_disturbed > 0 {
            warnings.push(format!(
                "{} trials were disturbed by other programs and count all the same, because \
                 repetitions or time were used up; measure again on a quieter machine",
                self.allowance.kept_disturbed
            ));
        }
        if !self.refusals.is_empty() {
            let first = &self.refusals[0];
            let count = self.refusals.len();
            warnings.push(format!("{count} runs have no figures; the first: {first}"));
        }
        warnings
    }
}
