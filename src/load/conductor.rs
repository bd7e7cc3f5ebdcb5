//! The course of a run.
//!
//! Owns the order of the phases (server, ramp, barrier, warm-up, measured time or storm, proof,
//! drain) and what is sampled meanwhile. Never drives a connection: the drivers do. Never judges:
//! the [verdict](super::verdict) does. The command line calls [`conduct`].

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::Poll;

use super::config::{LoadConfig, SECOND_NS, Scenario, Traffic};
use super::crew::Crew;
use super::driver::{BELL, Departure, DriverThread, Seat};
use super::figures;
use super::measure::{Measures, RunClock};
use super::perf_control::PerfControl;
use super::plan::Plan;
use super::run::{Mark, Phase, Point, Run};
use super::sample::{KernelSample, Machine, ProcessSample, Switches, processor_ns, waited_ns};
use super::server::{ServerChoice, ServerProcess};
use super::shared::{Note, Shared, Timetable};
use crate::net::mailbox::mailbox;

/// How often processes are sampled.
const SAMPLE_PERIOD_NS: u64 = SECOND_NS / 5;
/// How finely the conductor watches.
const WATCH: Duration = Duration::from_millis(5);
/// Between a decision and the instant it is for.
const AHEAD_NS: u64 = SECOND_NS / 20;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The run.
    pub config: LoadConfig,
    /// The server.
    pub server: ServerChoice,
    /// Threads of the generator; by the machine where not said.
    pub threads: Option<u32>,
    /// Threads do not sleep.
    pub spin: bool,
    /// Threads stay on their cores.
    pub pin: bool,
    /// Profilers that are told when the measured time begins and ends.
    pub perf_control: PerfControl,
}

/// Why there is nothing to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The request was wrong, or the machine does not allow it.
    Refused(String),
    /// The server did not do what it should, before anything could be measured.
    Failed(String),
}

/// Runs it all.
///
/// # Errors
/// See [`Trouble`].
pub fn conduct(order: &Order) -> Result<Run, Trouble> {
    let plan = Plan::new(order.config.clone());
    let connections = figures::thousands(u64::from(plan.len()));
    show_line(&format!("preparing for {connections} connections"));
    let crew = Crew::of(order, &plan);
    show_line("");
    let crew = crew.map_err(Trouble::Refused)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Without a handler the signal ends the generator at once, which is as good.
        let _ = signal_hook::flag::register(signal, Arc::clone(&interrupted));
    }
    let server = ServerProcess::start(&order.server, crew.workers).map_err(Trouble::Refused)?;
    crew.check_target(server.address, &plan).map_err(Trouble::Refused)?;
    let mut conductor = Conductor::begin(order, plan, crew, server, interrupted)?;
    let staged = conductor.stage();
    conductor.finish(staged)
}

/// Shows what goes on, in place of what was shown before, where a person looks on.
fn show_line(words: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K{words}");
    }
}

/// What is known when the measured time is over.
struct Staged {
    ramp_ns: u64,
    at_rest: Mark,
    joined: Mark,
    from: Mark,
    until: Mark,
    storm_ns: Option<u64>,
    unaccepted: u64,
}

struct Conductor {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Departure>>,
    server: ServerProcess,
    interrupted: Arc<AtomicBool>,
    perf_control: PerfControl,
    course: Vec<Point>,
    sampled_ns: u64,
}

impl Conductor {
    fn begin(
        order: &Order,
        plan: Plan,
        crew: Crew,
        server: ServerProcess,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Conductor, Trouble> {
        let refused = |what: &str, error: std::io::Error| {
            Trouble::Refused(format!("cannot make {what}: {error}"))
        };
        let in_flight = match plan.config().traffic {
            Traffic::Closed { in_flight } => in_flight as usize,
            _ => 0,
        };
        let letters = 64 + plan.publishers() as usize * in_flight;
        let mut seats = Vec::new();
        let mut posts = Vec::new();
        for _ in 0..crew.threads {
            let poll = Poll::new().map_err(|error| refused("a poll", error))?;
            let (post, mailbox) =
                mailbox(letters, &poll, BELL).map_err(|error| refused("a mailbox", error))?;
            seats.push(Seat { poll, mailbox });
            posts.push(post);
        }
        let clock = RunClock::start();
        let shared = Arc::new(Shared::new(plan, clock, server.address, posts, order.spin));
        let cores = crew.cores(order.pin);
        let mut threads = Vec::new();
        for (id, seat) in (0..).zip(seats) {
            let core = cores.get(id as usize % cores.len().max(1)).copied();
            let private_table = crew.private_tables;
            let shared = Arc::clone(&shared);
            let driver = DriverThread { id, shared, core, private_table, seat };
            let thread = thread::Builder::new().name(format!("cb-load-{id}"));
            threads.push(
                thread.spawn(move || driver.run()).map_err(|error| refused("a thread", error))?,
            );
        }
        Ok(Conductor {
            shared,
            threads,
            server,
            interrupted,
            perf_control: order.perf_control.clone(),
            course: Vec::new(),
            sampled_ns: 0,
        })
    }

    /// Everything up to the end of the measured time.
    fn stage(&mut self) -> Result<Staged, Trouble> {
        let rest_ns = self.shared.plan.config().rest_ns;
        self.watch_until(Phase::Rest, self.now() + rest_ns)?;
        let at_rest = self.mark();
        let ramp_ns = self.ramp()?;
        self.watch_until(Phase::Rest, self.now() + rest_ns)?;
        let joined = self.mark();
        let scenario = self.shared.plan.config().scenario;
        let (from, until, storm_ns) = match scenario {
            Scenario::Storm => {
                let at = self.now() + AHEAD_NS;
                let (from, until) = self.storm(at)?;
                (from, until, Some(at))
            }
            _ => {
                let (from, until) = self.traffic()?;
                (from, until, None)
            }
        };
        if self.shared.plan.config().traffic == Traffic::Silent {
            self.shared.tell(Note::Prove);
            self.watch_until(Phase::Drain, self.now() + AHEAD_NS)?;
        }
        self.shared.tell(Note::Drain);
        let patience = self.now() + self.shared.plan.config().patience_ns;
        let shared = Arc::clone(&self.shared);
        let settled =
            || shared.progress.iter().all(|thread| thread.settled.load(Ordering::Acquire));
        // What is still on its way when patience ends is lost, and will be counted as that.
        let _ = self.watch(Phase::Drain, patience, settled)?;
        let unaccepted = self.bare()?;
        Ok(Staged { ramp_ns, at_rest, joined, from, until, storm_ns, unaccepted })
    }

    /// Opens all connections and waits until each is where it wants to be. Gives back how long
    /// that took.
    fn ramp(&mut self) -> Result<u64, Trouble> {
        let config = self.shared.plan.config();
        let (staying, patience_ns) = (u64::from(self.shared.plan.staying()), config.patience_ns);
        let began = self.now() + AHEAD_NS;
        self.shared.tell(Note::Ramp { at: began });
        let mut ready = 0;
        while ready < staying {
            // As long as more arrive there is hope.
            let shared = Arc::clone(&self.shared);
            let patience = self.now().max(began) + patience_ns;
            if !self.watch(Phase::Ramp, patience, || shared.ready() > ready)? {
                return Err(Trouble::Failed(format!(
                    "only {ready} of {staying} connections were let in; no further one within {} s",
                    patience_ns / SECOND_NS
                )));
            }
            ready = self.shared.ready();
            self.fail_on_violations()?;
        }
        Ok(self.now() - began)
    }

    /// Before anything is measured, what goes wrong ends the run.
    fn fail_on_violations(&self) -> Result<(), Trouble> {
        let shared = &self.shared;
        match shared.sum(|progress| progress.violations.load(Ordering::Relaxed)) {
            0 => Ok(()),
            count => Err(Trouble::Failed(format!(
                "{count} connections were refused or ended while they were opened"
            ))),
        }
    }

    fn traffic(&mut self) -> Result<(Mark, Mark), Trouble> {
        let config = self.shared.plan.config();
        let start = self.now() + AHEAD_NS;
        let from = start + config.warm_up_ns;
        let until = from + config.duration_ns;
        self.shared.tell(Note::Traffic(Timetable { start, from, until }));
        self.watch_until(Phase::WarmUp, from)?;
        let from = self.open_measured()?;
        self.watch_until(Phase::Measured, until)?;
        let until = self.close_measured()?;
        // Whoever was late with a planned message still sends it.
        self.watch_until(Phase::Drain, self.now() + AHEAD_NS)?;
        Ok((from, until))
    }

    fn storm(&mut self, at: u64) -> Result<(Mark, Mark), Trouble> {
        let patience_ns = self.shared.plan.config().patience_ns;
        let from = self.open_measured()?;
        self.shared.tell(Note::Storm { at });
        self.watch_until(Phase::Storm, at)?;
        self.watch_them_come(Phase::Storm, patience_ns, Shared::returned)?;
        Ok((from, self.close_measured()?))
    }

    /// Watches those that the storm dropped come, as `count` tells, as long as more arrive within
    /// `patience_ns`. Gives back how many did not.
    fn watch_them_come(
        &mut self,
        phase: Phase,
        patience_ns: u64,
        count: fn(&Shared) -> u64,
    ) -> Result<u64, Trouble> {
        let all = u64::from(self.shared.plan.dropped());
        let mut came = 0;
        while came < all {
            let shared = Arc::clone(&self.shared);
            let patience = self.now() + patience_ns;
            if !self.watch(phase, patience, || count(&shared) > came)? {
                break;
            }
            came = count(&self.shared);
        }
        Ok(all - came)
    }

    /// Where sessions were resumed: as many connections without any, to compare. Gives back how
    /// many were not accepted.
    fn bare(&mut self) -> Result<u64, Trouble> {
        let config = self.shared.plan.config();
        let (rest_ns, patience_ns) = (config.rest_ns, config.patience_ns);
        if !config.resume {
            return Ok(0);
        }
        let at = self.now() + rest_ns.max(AHEAD_NS);
        self.shared.tell(Note::Bare { at });
        self.watch_until(Phase::Rest, at)?;
        self.watch_them_come(Phase::Bare, patience_ns, Shared::accepted)
    }

    fn open_measured(&self) -> Result<Mark, Trouble> {
        self.perf_control.enable().map_err(Trouble::Refused)?;
        Ok(self.mark())
    }

    fn close_measured(&self) -> Result<Mark, Trouble> {
        let mark = self.mark();
        self.perf_control.disable().map_err(Trouble::Refused)?;
        Ok(mark)
    }

    /// Ends the threads and gathers what they measured.
    fn finish(mut self, staged: Result<Staged, Trouble>) -> Result<Run, Trouble> {
        show_line("");
        self.shared.tell(Note::Stop);
        let mut measures = Measures::default();
        let mut broken = None;
        for thread in std::mem::take(&mut self.threads) {
            match thread.join() {
                Ok(Departure { outcome: Ok(theirs), seat }) => {
                    measures.add(&theirs);
                    drop(seat);
                }
                Ok(Departure { outcome: Err(reason), .. }) => broken = Some(reason),
                Err(_) => broken = Some("a thread of the generator panicked".into()),
            }
        }
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Trouble::Refused("interrupted".into()));
        }
        if let Some(reason) = broken {
            return Err(Trouble::Refused(reason));
        }
        let Staged { ramp_ns, at_rest, joined, from, until, storm_ns, unaccepted } = match staged {
            Ok(staged) => staged,
            Err(Trouble::Failed(reason)) => {
                let told = measures.counts.violations.told().first().cloned();
                let told = told.map(|told| format!("; {told}")).unwrap_or_default();
                return Err(Trouble::Failed(format!("{reason}{told}")));
            }
            Err(trouble) => return Err(trouble),
        };
        let threads = self.shared.threads;
        Ok(Run {
            plan: self.shared.plan.clone(),
            server_name: self.server.name.clone(),
            server_pid: self.server.pid,
            machine: Machine::look(),
            threads,
            spin: self.shared.spin,
            ramp_ns,
            at_rest,
            joined,
            from,
            until,
            storm_ns,
            unaccepted,
            measures,
            course: std::mem::take(&mut self.course),
        })
    }

    fn watch_until(&mut self, phase: Phase, at: u64) -> Result<(), Trouble> {
        self.watch(phase, at, || false).map(drop)
    }

    /// Watches until `done`, or until `deadline`. Gives back whether it was done.
    fn watch(
        &mut self,
        phase: Phase,
        deadline: u64,
        done: impl Fn() -> bool,
    ) -> Result<bool, Trouble> {
        loop {
            if done() {
                return Ok(true);
            }
            let now = self.now();
            if now >= deadline {
                return Ok(false);
            }
            if self.interrupted.load(Ordering::Relaxed) || self.shared.any_ended() {
                return Err(Trouble::Refused("interrupted".into()));
            }
            if now - self.sampled_ns >= SAMPLE_PERIOD_NS {
                self.sampled_ns = now;
                self.sample(phase);
                if let Some(death) = self.server.has_died() {
                    return Err(Trouble::Failed(death));
                }
            }
            thread::sleep(WATCH.min(Duration::from_nanos(deadline - now)));
        }
    }

    fn sample(&mut self, phase: Phase) {
        let shared = &self.shared;
        let p99_ns = shared.recent.lock().map_or(0, |mut recent| {
            let p99_ns = recent.at(0.99);
            recent.clear();
            p99_ns
        });
        let point = Point {
            at_ns: self.now(),
            phase,
            open: shared.sum(|thread| u64::from(thread.open.load(Ordering::Relaxed))),
            sent: shared.sum(|thread| thread.sent.load(Ordering::Relaxed)),
            delivered: shared.sum(|thread| thread.delivered.load(Ordering::Relaxed)),
            violations: shared.sum(|thread| thread.violations.load(Ordering::Relaxed)),
            p99_ns,
            server: self.server.pid.and_then(|pid| ProcessSample::take(pid).ok()),
        };
        let last = self.course.last().copied();
        self.course.push(point);
        self.draw_line(last, point);
    }

    fn draw_line(&self, last: Option<Point>, point: Point) {
        let rate = last.map_or(0.0, |last| {
            let seconds = (point.at_ns - last.at_ns) as f64 / SECOND_NS as f64;
            (point.delivered - last.delivered) as f64 / seconds.max(1e-9)
        });
        let config = self.shared.plan.config();
        show_line(&format!(
            "{:>5.1}s  {} {:<8}  {}/{} connected  {}/s delivered  p99 {}  {} errors",
            point.at_ns as f64 / SECOND_NS as f64,
            config.scenario,
            point.phase.name(),
            point.open,
            self.shared.plan.staying(),
            figures::thousands(rate as u64),
            figures::time(point.p99_ns as f64),
            point.violations,
        ));
    }

    fn mark(&self) -> Mark {
        let pid = self.server.pid;
        let waits = self
            .shared
            .progress
            .iter()
            .map(|thread| waited_ns(thread.thread_id.load(Ordering::Relaxed)));
        Mark {
            at_ns: self.now(),
            server: pid.and_then(|pid| ProcessSample::take(pid).ok()),
            processor_ns: pid.and_then(processor_ns),
            switches: pid.and_then(Switches::take),
            generator: ProcessSample::of_this_process(),
            waited_ns: waits.sum(),
            kernel: KernelSample::take(),
        }
    }

    fn now(&self) -> u64 {
        self.shared.clock.now_ns()
    }
}
