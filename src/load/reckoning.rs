//! How the numbers of a report follow from a run.
//!
//! Owns every difference, rate and ratio. Never measures, and never formats.

use super::config::{SECOND_NS, Scenario, Traffic};
use super::measure::Latencies;
use super::report::{
    ChurnFacts, CoursePoint, GeneratorFacts, KernelFacts, LatencyRow, MachineFacts, RampFacts,
    Report, Results, ResumeFacts, RunFacts, ServerFacts, SlowFacts, StormFacts, TrafficFacts,
    Verdict, ViolationCount,
};
use super::run::{Mark, Point, Run};
use super::verdict::Fitness;
use super::violation::Violation;

impl Report {
    /// The report of a run whose generator was judged.
    pub fn new(run: &Run, fitness: &Fitness) -> Report {
        let violations = &run.measures.counts.violations;
        let happened = |kind: Violation| {
            let count = violations.of(kind);
            (count > 0).then_some(ViolationCount {
                kind: kind.name(),
                meaning: kind.meaning(),
                count,
            })
        };
        let verdict = match (violations.total(), fitness.refusals.is_empty()) {
            (1.., _) => Verdict::Failed,
            (0, false) => Verdict::Refused,
            (0, true) => Verdict::Passed,
        };
        Report {
            version: env!("CARGO_PKG_VERSION"),
            verdict,
            refusals: fitness.refusals.clone(),
            violations: Violation::ALL.into_iter().filter_map(happened).collect(),
            examples: violations.told().to_vec(),
            run: run_facts(run),
            machine: MachineFacts {
                kernel: run.machine.kernel.clone(),
                processor: run.machine.processor.clone(),
                processors: run.machine.processors,
                memory_bytes: run.machine.memory,
            },
            generator: generator_facts(run, fitness),
            results: fitness.refusals.is_empty().then(|| results(run)),
        }
    }
}

fn run_facts(run: &Run) -> RunFacts {
    let config = run.plan.config();
    let (mode, rate_per_s, arrivals, in_flight) = match config.traffic {
        Traffic::Silent => ("silent", None, None, None),
        Traffic::Open { rate, arrivals } => ("open", Some(rate), Some(arrivals.name()), None),
        Traffic::Closed { in_flight } => ("closed", None, None, Some(in_flight)),
    };
    RunFacts {
        scenario: config.scenario.name(),
        dialect: config.dialect.name(),
        server: run.server_name.clone(),
        server_pid: run.server_pid,
        seed: config.seed,
        connections: config.connections,
        rooms: config.rooms,
        publishers_per_room: config.publishers,
        mode,
        rate_per_s,
        arrivals,
        in_flight,
        body_bytes: config.size,
        warm_up_s: seconds(config.warm_up_ns),
        duration_s: seconds(config.duration_ns),
        heartbeat_s: config.heartbeat_s,
    }
}

fn generator_facts(run: &Run, fitness: &Fitness) -> GeneratorFacts {
    let (from, until) = (&run.from, &run.until);
    let window_s = seconds(until.at_ns - from.at_ns).max(1e-9);
    let used = until.generator.processor_us() - from.generator.processor_us();
    let waited = until.waited_ns.zip(from.waited_ns);
    let grown = run.joined.generator.resident.saturating_sub(run.at_rest.generator.resident);
    GeneratorFacts {
        threads: run.threads,
        spin: run.spin,
        busy: fitness.busy,
        lag_p99_us: micros(fitness.lag_ns),
        turn_p99_us: micros(fitness.turn_ns),
        lag_allowed_us: fitness.lag_allowed_ns.map(micros),
        processors_used: used as f64 / 1e6 / window_s,
        waited: waited.map(|(until, from)| seconds(until.saturating_sub(from)) / window_s),
        bytes_per_connection: each_of_many(grown, run.plan.staying()),
    }
}

fn results(run: &Run) -> Results {
    let counts = &run.measures.counts;
    let config = run.plan.config();
    let measured_s = seconds(run.until.at_ns - run.from.at_ns).max(1e-9);
    let ramp_s = seconds(run.ramp_ns).max(1e-9);
    Results {
        measured_s,
        latencies: latencies(run),
        traffic: TrafficFacts {
            sent_per_s: counts.sent_measured as f64 / measured_s,
            deliveries: counts.delivered_measured,
            deliveries_per_s: counts.delivered_measured as f64 / measured_s,
            bytes_per_s: counts.bytes_in_measured as f64 / measured_s,
            messages_per_write: ratio(counts.sent_measured, counts.writes_measured),
            deliveries_per_read: ratio(counts.delivered_measured, counts.reads_measured),
            due: counts.due,
            came: counts.due_delivered,
            delivery_ratio: match counts.due {
                0 => 1.0,
                due => counts.due_delivered as f64 / due as f64,
            },
            pings_answered: counts.pings,
        },
        server: server_facts(run, measured_s),
        kernel: kernel_facts(&run.at_rest, &run.joined),
        ramp: RampFacts {
            seconds: ramp_s,
            connections_per_s: f64::from(config.connections) / ramp_s,
            asked_per_s: config.ramp_rate,
        },
        churn: config.churn.map(|_| ChurnFacts {
            connections: counts.reconnects,
            connections_per_s: counts.reconnects as f64 / measured_s,
            unfinished: counts.unfinished,
        }),
        storm: storm_facts(run),
        slow: (config.slow_share > 0.0)
            .then_some(SlowFacts { members: counts.slow, dealt_with: counts.slow_dealt_with }),
        course: course(&run.course),
    }
}

fn latencies(run: &Run) -> Vec<LatencyRow> {
    let measures = &run.measures;
    let closed = matches!(run.plan.config().traffic, Traffic::Closed { .. });
    let since = |planned, sent| if closed { sent } else { planned };
    let silent = run.plan.config().churn.is_none() && run.storm_ns.is_none();
    let answer = match silent {
        true => "in the ramp, from connect to WELCOME",
        false => "from connect to WELCOME",
    };
    [
        (
            "delivery",
            since(
                "from the planned instant of a message to each delivery",
                "from the sending of a message to each delivery",
            ),
            &measures.delivery,
        ),
        (
            "echo",
            since(
                "from the planned instant of an echo to its answer",
                "from the sending of an echo to its answer",
            ),
            &measures.echo,
        ),
        ("welcome", "from the planned instant of a connection to WELCOME", &measures.welcome),
        ("joined", "from the planned instant of a connection until in its room", &measures.joined),
        ("connect", answer, &measures.answer),
    ]
    .into_iter()
    .filter(|(.., latencies)| latencies.count() > 0)
    .map(|(kind, meaning, latencies)| latency_row(kind, meaning, latencies))
    .collect()
}

fn latency_row(kind: &'static str, meaning: &'static str, latencies: &Latencies) -> LatencyRow {
    let at = |quantile| micros(latencies.at(quantile));
    let count = latencies.count();
    // From the median on, ten shares to each nine, as far as there is more than one beyond.
    let shares = (3..).map(|step| 1.0 - 10f64.powf(-f64::from(step) / 10.0));
    let told = shares.take_while(|share| (1.0 - share) * count as f64 >= 1.0);
    let mut curve: Vec<(f64, f64)> = told.map(|share| (share, at(share))).collect();
    curve.push((1.0 - 1.0 / count as f64, micros(latencies.max())));
    LatencyRow {
        kind,
        meaning,
        count,
        mean_us: latencies.mean() / 1e3,
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        p9999_us: at(0.9999),
        max_us: micros(latencies.max()),
        curve,
    }
}

fn server_facts(run: &Run, measured_s: f64) -> Option<ServerFacts> {
    let (at_rest, joined) = (run.at_rest.server?, run.joined.server?);
    let (from, until) = (run.from.server?, run.until.server?);
    let counts = &run.measures.counts;
    let config = run.plan.config();
    let ticks_us = until.processor_us().saturating_sub(from.processor_us()) as f64;
    let exact = run.from.processor_ns.zip(run.until.processor_ns);
    // A thread that ended in between took its time with it.
    let exact_us = exact.and_then(|(from, until)| until.checked_sub(from)).map(micros);
    let used_us = exact_us.filter(|exact| *exact > 0.9 * ticks_us - 50e3).unwrap_or(ticks_us);
    let each = |count: u64| (count > 0).then(|| used_us / count as f64);
    let switches = run.from.switches.zip(run.until.switches);
    let peak = run.course.iter().filter_map(|point| point.server).map(|server| server.resident);
    let grown = joined.resident.saturating_sub(at_rest.resident);
    Some(ServerFacts {
        processors_used: used_us / 1e6 / measured_s,
        system_share: (until.system_us - from.system_us) as f64 / ticks_us.max(1.0),
        us_per_delivery: each(counts.delivered_measured),
        idle_us_per_connection_second: (config.scenario == Scenario::Idle)
            .then(|| used_us / measured_s / f64::from(config.connections)),
        us_per_connect: (config.traffic == Traffic::Silent)
            .then(|| each(counts.reconnects))
            .flatten(),
        resident_at_rest_bytes: at_rest.resident,
        resident_joined_bytes: joined.resident,
        resident_peak_bytes: peak.max().unwrap_or(joined.resident),
        bytes_per_connection: each_of_many(grown, config.connections),
        voluntary_switches_per_s: switches
            .map(|(a, b)| b.voluntary.saturating_sub(a.voluntary) as f64 / measured_s),
        involuntary_switches_per_s: switches
            .map(|(a, b)| b.involuntary.saturating_sub(a.involuntary) as f64 / measured_s),
        threads: until.threads,
    })
}

fn kernel_facts(at_rest: &Mark, joined: &Mark) -> Option<KernelFacts> {
    let (before, after) = (at_rest.kernel?, joined.kernel?);
    let sockets = after.sockets.checked_sub(before.sockets).filter(|added| *added > 0)?;
    let slab = before.slab.zip(after.slab);
    Some(KernelFacts {
        sockets,
        slab_bytes_per_socket: slab
            .map(|(before, after)| after.saturating_sub(before) as f64 / sockets as f64),
        buffer_bytes_per_socket: after.buffers.saturating_sub(before.buffers) as f64
            / sockets as f64,
    })
}

fn storm_facts(run: &Run) -> Option<StormFacts> {
    let at = run.storm_ns?;
    let counts = &run.measures.counts;
    let ((first, last), done) = (counts.storm_asked_ns?, counts.storm_done_ns?);
    let millis = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e6;
    let rate = |ms: f64| counts.reconnects as f64 / (ms / 1e3).max(1e-9);
    Some(StormFacts {
        connections: counts.reconnects,
        drop_ms: millis(at, first),
        asking_ms: millis(first, last),
        asked_per_s: rate(millis(first, last)),
        all_back_ms: millis(at, done),
        accepts_per_s: rate(millis(first, done)),
        kept_up: millis(first, done) < 1.1 * millis(first, last),
        resume: run.plan.config().resume.then(|| resume_facts(run)),
    })
}

fn resume_facts(run: &Run) -> ResumeFacts {
    let counts = &run.measures.counts;
    let millis = |ns: u64| ns as f64 / 1e6;
    let joined = &run.measures.joined;
    let accept_all_ms = millis(run.measures.bare.max());
    let p99_ms = millis(joined.at(0.99));
    ResumeFacts {
        resumed: counts.resumed,
        missing: counts.violations.of(Violation::Lost) + counts.violations.of(Violation::Shed),
        replayed: counts.replayed,
        repeated: counts.repeated,
        p50_ms: millis(joined.at(0.5)),
        p99_ms,
        max_ms: millis(joined.max()),
        accept_all_ms,
        unaccepted: run.unaccepted,
        p99_by_accept_all: p99_ms / accept_all_ms.max(1e-9),
    }
}

fn course(points: &[Point]) -> Vec<CoursePoint> {
    let first = points.first().copied();
    let before = first.into_iter().chain(points.iter().copied());
    let step = |(last, point): (Point, &Point)| {
        let passed_s = seconds(point.at_ns - last.at_ns);
        let rate = |count: u64| if passed_s > 0.0 { count as f64 / passed_s } else { 0.0 };
        let used = point
            .server
            .zip(last.server)
            .map(|(now, then)| rate(now.processor_us().saturating_sub(then.processor_us())) / 1e6);
        CoursePoint {
            at_s: seconds(point.at_ns),
            phase: point.phase.name(),
            open: point.open,
            deliveries_per_s: rate(point.delivered - last.delivered),
            p99_us: micros(point.p99_ns),
            resident_bytes: point.server.map(|server| server.resident),
            processors_used: used,
            violations: point.violations,
        }
    };
    before.zip(points).map(step).collect()
}

/// Memory that grew with connections, for each; nothing for so few that a step of the allocator, or
/// of the kernel's large pages, would be most of it.
fn each_of_many(grown: u64, connections: u32) -> Option<f64> {
    const MANY: u32 = 10_000;
    (connections >= MANY).then(|| grown as f64 / f64::from(connections))
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / SECOND_NS as f64
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_ends_where_a_single_value_lies() {
        let mut latencies = Latencies::new(3);
        (1..=1_000).for_each(|ms| latencies.record(ms * 1_000_000));
        let row = latency_row("delivery", "", &latencies);
        assert!((row.p50_us / 500_000.0 - 1.0).abs() < 0.002, "{}", row.p50_us);
        assert!((row.p99_us / 990_000.0 - 1.0).abs() < 0.002, "{}", row.p99_us);
        let (share, last) = *row.curve.last().unwrap();
        assert_eq!((share, last), (0.999, row.max_us));
        assert!(row.curve.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        assert!(row.curve.iter().all(|(share, _)| *share >= 0.49 && *share <= 0.9991));
    }

    #[test]
    fn the_course_tells_rates_between_points() {
        let point = |at_s: u64, delivered| Point {
            at_ns: at_s * SECOND_NS,
            phase: super::super::run::Phase::Measured,
            open: 1,
            sent: 0,
            delivered,
            violations: 0,
            p99_ns: 0,
            server: None,
        };
        let course = course(&[point(1, 0), point(3, 500)]);
        let rates: Vec<f64> = course.iter().map(|point| point.deliveries_per_s).collect();
        assert_eq!(rates, [0.0, 250.0]);
    }
}
