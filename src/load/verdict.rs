//! Whether the numbers of a run may be told.
//!
//! Owns the bounds beyond which the generator itself was the bottleneck. Never looks at what the
//! server did wrong: violations are counted where they are seen.
//!
//! Two things are looked at. *Busy*: the share of the measured time in which the busiest thread had
//! work to do. Near 1 the thread read as fast as it could, and the rate is its own. *Lag*: how late
//! the generator was at what it had planned, and how long its turns were, since an event that comes
//! during a turn waits for its end. That time is inside of every latency, so it must be short
//! against them.

use super::config::{SECOND_NS, Scenario, Traffic};
use super::figures;
use super::measure::Latencies;
use super::run::Run;

/// Lag is allowed up to this without being asked for: what a timer and a wake-up cost.
const LAG_FREE_NS: u64 = SECOND_NS / 1_000;
/// And up to this share of the latency at the same percentile.
const LAG_SHARE: f64 = 0.25;
/// The percentile at which lag is judged.
const QUANTILE: f64 = 0.99;

/// What the generator allows itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The most lag, in nanoseconds; by the latencies where not said.
    pub lag_ns: Option<u64>,
    /// The largest share of the time in which a thread may have work to do.
    pub busy: f64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { lag_ns: None, busy: 0.9 }
    }
}

/// How the generator itself did.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitness {
    /// The share of the measured time in which the busiest thread had work to do.
    pub busy: f64,
    /// The 99th percentile of the lag, in nanoseconds.
    pub lag_ns: u64,
    /// The 99th percentile of a turn's length.
    pub turn_ns: u64,
    /// What was allowed of both; none where nothing was planned for an instant.
    pub lag_allowed_ns: Option<u64>,
    /// Why the numbers may not be told; empty if they may.
    pub refusals: Vec<String>,
}

/// Judges the generator's part in a run.
pub fn judge(run: &Run, bounds: &Bounds) -> Fitness {
    let window_ns = run.until.at_ns.saturating_sub(run.from.at_ns).max(1);
    let measures = &run.measures;
    // A turn counts with all of its length, also with what of it was behind the window.
    let busy = (measures.counts.busiest_ns as f64 / window_ns as f64).min(1.0);
    let (lag_ns, turn_ns) = (measures.lateness.at(QUANTILE), measures.turns.at(QUANTILE));
    let latency = slowest([&measures.delivery, &measures.echo, &measures.welcome]);
    let config = run.plan.config();
    let planned = matches!(config.traffic, Traffic::Open { .. }) || config.churn.is_some();
    let lag_allowed_ns = planned.then(|| {
        let usual = LAG_FREE_NS.max((latency as f64 * LAG_SHARE) as u64);
        bounds.lag_ns.unwrap_or(usual)
    });
    let mut fitness = Fitness { busy, lag_ns, turn_ns, lag_allowed_ns, refusals: Vec::new() };
    let waited = run.until.waited_ns.zip(run.from.waited_ns).map(|(until, from)| until - from);
    let waited = waited.unwrap_or(0) as f64 / window_ns as f64;
    // In a storm everything is due at one instant, and the table says how fast it was asked for.
    if config.scenario != Scenario::Storm {
        fitness.refuse_busy(bounds, run.threads);
        fitness.refuse_lag(latency);
    }
    if !fitness.refusals.is_empty() && waited > 0.1 {
        fitness.refusals.push(format!(
            "the generator's threads waited {:.0} % of the measured time for a processor: other \
             programs are busy on this machine",
            waited * 100.0
        ));
    }
    fitness
}

fn slowest(kinds: [&Latencies; 3]) -> u64 {
    kinds.into_iter().map(|kind| kind.at(QUANTILE)).max().unwrap_or(0)
}

impl Fitness {
    fn refuse_busy(&mut self, bounds: &Bounds, threads: u32) {
        if self.busy > bounds.busy {
            self.refusals.push(format!(
                "a thread of the generator had work to do for {:.0} % of the measured time, more \
                 than --busy {:.0}%: the rate is the generator's own. Ask for more --threads than \
                 {threads}, on more processors, or for less load",
                self.busy * 100.0,
                bounds.busy * 100.0
            ));
        }
    }

    fn refuse_lag(&mut self, latency: u64) {
        let Some(allowed) = self.lag_allowed_ns else { return };
        for (what, ns) in [
            ("sent 1 % of its messages more than", self.lag_ns),
            ("spent 1 % of its working time in turns of more than", self.turn_ns),
        ] {
            if ns > allowed {
                self.refusals.push(format!(
                    "the generator {what} {} {}, beyond the {} allowed beside a p99 of {}: the \
                     latencies are partly its own. Give it a processor of its own (--threads, \
                     --pin), or ask for less load",
                    figures::time(ns as f64),
                    if what.starts_with("sent") { "late" } else { "each" },
                    figures::time(allowed as f64),
                    figures::time(latency as f64),
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::LoadConfig;
    use super::super::measure::Measures;
    use super::super::plan::Plan;
    use super::super::run::Mark;
    use super::super::sample::Machine;
    use super::*;

    fn run(scenario: Scenario, change: impl Fn(&mut Measures)) -> Run {
        let mut measures = Measures::default();
        change(&mut measures);
        let mark = |at_ns| Mark { at_ns, ..Mark::default() };
        Run {
            plan: Plan::new(LoadConfig::of(scenario)),
            server_name: "a server".into(),
            server_pid: None,
            machine: Machine::look(),
            threads: 1,
            spin: false,
            ramp_ns: 1,
            at_rest: mark(0),
            joined: mark(0),
            from: mark(0),
            until: mark(10 * SECOND_NS),
            storm_ns: None,
            unaccepted: 0,
            measures,
            course: Vec::new(),
        }
    }

    #[test]
    fn a_generator_with_time_to_spare_may_tell() {
        let run = run(Scenario::Broadcast, |measures| {
            measures.counts.busiest_ns = 5 * SECOND_NS;
            measures.lateness.record(900_000);
            measures.turns.record(100_000);
        });
        let fitness = judge(&run, &Bounds::default());
        assert_eq!(fitness.refusals, Vec::<String>::new());
        assert_eq!(fitness.lag_allowed_ns, Some(LAG_FREE_NS));
    }

    #[test]
    fn a_generator_without_time_to_spare_may_not() {
        let run = run(Scenario::Broadcast, |measures| measures.counts.busiest_ns = 9_500_000_000);
        let fitness = judge(&run, &Bounds::default());
        assert!(fitness.refusals[0].contains("95 % of the measured time"), "{fitness:?}");
    }

    #[test]
    fn all_of_the_time_is_the_most_that_one_can_be_busy() {
        let run = run(Scenario::Broadcast, |measures| measures.counts.busiest_ns = 13 * SECOND_NS);
        let fitness = judge(&run, &Bounds { busy: 1.0, ..Bounds::default() });
        assert_eq!((fitness.busy, fitness.refusals), (1.0, Vec::new()));
    }

    #[test]
    fn lag_is_measured_against_the_latencies_unless_a_bound_was_given() {
        let run = run(Scenario::Broadcast, |measures| {
            measures.lateness.record(2_000_000);
            measures.delivery.record(10_000_000);
        });
        assert!(
            judge(&run, &Bounds::default()).refusals.is_empty(),
            "a quarter of 10 ms is allowed"
        );
        let strict = Bounds { lag_ns: Some(1_000_000), ..Bounds::default() };
        assert!(judge(&run, &strict).refusals[0].contains("beyond the 1.00 ms allowed"));
    }

    #[test]
    fn long_turns_are_lag_too() {
        let run = run(Scenario::Broadcast, |measures| measures.turns.record(3_000_000));
        let fitness = judge(&run, &Bounds::default());
        assert!(fitness.refusals[0].contains("in turns of more than 3.0"), "{fitness:?}");
    }

    #[test]
    fn in_a_storm_everything_is_late_by_plan() {
        let run = run(Scenario::Storm, |measures| {
            measures.counts.busiest_ns = 10 * SECOND_NS;
            measures.turns.record(SECOND_NS);
        });
        assert!(judge(&run, &Bounds::default()).refusals.is_empty());
    }
}
