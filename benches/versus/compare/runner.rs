//! Runs `corebeat bench` as a child, and watches the machine meanwhile.
//!
//! Owns child processes and their affinity, the reading of `/proc/stat`, and the schedule of a
//! trial: contestants one after the other, except that all idle at the same time. Never judges a
//! figure: it hands back each run's report as the generator wrote it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use serde_json::Value;

use super::arithmetic::{MachineTime, share_of_others};
use super::contestant::{Contestant, Programs};
use super::trial::{Pace, Trial};

/// The exit code of a generator that was the bottleneck.
const UNFIT: i32 = 3;

/// What came of a trial.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    /// Each contestant's report; none of a run whose generator was the bottleneck.
    pub(crate) reports: BTreeMap<Contestant, Value>,
    /// The largest share of the machine that others used during a run.
    pub(crate) others: f64,
    /// Why there is no report, where there is none.
    pub(crate) refusals: Vec<String>,
}

/// Starts generators.
pub(crate) struct Runner {
    programs: Programs,
    pace: Pace,
    /// The processors that may be used, in order.
    processors: Vec<usize>,
    folder: PathBuf,
    /// One command of each trial and contestant, as it was run.
    pub(crate) commands: BTreeMap<(Trial, Contestant), String>,
}

impl Runner {
    /// A runner that keeps its files in `folder`.
    ///
    /// # Errors
    /// One line that names what is missing and the remedy.
    pub(crate) fn new(programs: Programs, pace: Pace, folder: PathBuf) -> Result<Runner, String> {
        let taskset = Command::new("taskset").arg("--version").stdout(Stdio::null()).status();
        if !taskset.is_ok_and(|status| status.success()) {
            return Err("taskset is missing; install it: apt-get install util-linux".into());
        }
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let processors: Vec<usize> = cores.into_iter().map(|core| core.id).collect();
        if processors.len() < 2 {
            return Err("two processors are needed, one for the server and one for the load \
                        generator; give this program more (taskset, container limits)"
                .into());
        }
        fs::create_dir_all(&folder)
            .map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
        Ok(Runner { programs, pace, processors, folder, commands: BTreeMap::new() })
    }

    /// The processors of a trial's servers, and that of its generators.
    pub(crate) fn places(&self, trial: Trial) -> (String, usize) {
        let servers = &self.processors[..trial.workers() as usize];
        let servers: Vec<String> = servers.iter().map(usize::to_string).collect();
        (servers.join(","), self.processors[self.processors.len() - 1])
    }

    /// Puts all contestants of a trial under its load once, beginning with the `first`th.
    ///
    /// # Errors
    /// One line about a run that failed: a server that broke the contract, or did not start.
    pub(crate) fn attempt(
        &mut self,
        trial: Trial,
        first: usize,
        rate: f64,
    ) -> Result<Attempt, String> {
        let mut order = self.pace.contestants(trial);
        let count = order.len();
        order.rotate_left(first % count);
        if trial == Trial::Idle {
            return self.all_at_once(&order);
        }
        let mut attempt = Attempt::default();
        for contestant in order {
            let before = machine_time();
            let mut run = self.start(trial, contestant, 0, rate)?;
            let outcome = run.finish()?;
            attempt.take(contestant, outcome);
            attempt.others = attempt.others.max(share_of_others(&before, &machine_time()));
        }
        Ok(attempt)
    }

    /// Idle connections need a heartbeat's time and hardly any processor: all contestants' at once
    /// are measured under the very same conditions.
    fn all_at_once(&mut self, order: &[Contestant]) -> Result<Attempt, String> {
        let (begun, before) = (Instant::now(), machine_time());
        let mut runs = Vec::new();
        for (place, &contestant) in (0..).zip(order) {
            let at = Duration::from_millis(u64::from(self.pace.stagger_ms() * place));
            thread::sleep(at.saturating_sub(begun.elapsed()));
            runs.push((contestant, self.start(Trial::Idle, contestant, place, 0.0)?));
        }
        let mut attempt = Attempt::default();
        for (contestant, mut run) in runs {
            let outcome = run.finish()?;
            attempt.take(contestant, outcome);
        }
        attempt.others = share_of_others(&before, &machine_time());
        Ok(attempt)
    }

    fn start(
        &mut self,
        trial: Trial,
        contestant: Contestant,
        place: u32,
        rate: f64,
    ) -> Result<Run, String> {
        let (servers, generator) = self.places(trial);
        let options = trial.server_options();
        let server = self.programs.server(contestant, trial.workers(), options);
        let server = format!("taskset -c {servers} {server}");
        let arguments = self.pace.arguments(trial, place, rate);
        let corebeat = self.programs.corebeat.display();
        let bench = format!("taskset -c {generator} {corebeat} bench {arguments}");
        self.commands
            .entry((trial, contestant))
            .or_insert_with(|| format!("{bench} --server-command '{server}'"));
        let json = self.folder.join(format!("{}.json", contestant.key()));
        // A report of an earlier run must not be taken for this one's.
        let _ = fs::remove_file(&json);
        let mut words = bench.split_whitespace();
        let program = words.next().expect("the command has words");
        let child = Command::new(program)
            .args(words)
            .args(["--server-command", &server, "--json"])
            .arg(&json)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start `{bench}`: {error}"))?;
        let name = format!("{} in {}", contestant.name(), trial.key());
        Ok(Run { child: Some(child), json, name })
    }
}

impl Attempt {
    fn take(&mut self, contestant: Contestant, outcome: Result<Value, String>) {
        match outcome {
            Ok(report) => drop(self.reports.insert(contestant, report)),
            Err(refusal) => self.refusals.push(refusal),
        }
    }
}

/// A generator that runs. Dropping it ends it, and with it its server.
struct Run {
    child: Option<Child>,
    json: PathBuf,
    name: String,
}

impl Run {
    /// Waits for its end; the inner error is a refusal to report.
    fn finish(&mut self) -> Result<Result<Value, String>, String> {
        let child = self.child.take().ok_or("a run ends once")?;
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let report = fs::read_to_string(&self.json)
            .ok()
            .and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().last().unwrap_or("no word about it").trim();
        let told = |report: &Value, key: &str| {
            let first = report[key].get(0).and_then(Value::as_str);
            first.map(String::from)
        };
        match (output.status.code(), report) {
            (Some(0), Some(report)) => Ok(Ok(report)),
            (Some(UNFIT), Some(report)) => {
                let why = told(&report, "refusals").unwrap_or_else(|| last.into());
                Ok(Err(format!("{}: {why}", self.name)))
            }
            (_, Some(report)) => {
                let why = told(&report, "examples").unwrap_or_else(|| last.into());
                Err(format!("{} broke the contract: {why}", self.name))
            }
            (_, None) => Err(format!("{}: {last}", self.name)),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // By its signal to stop the generator stops its server too.
        if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = child.wait();
    }
}

/// The machine now. Where the kernel does not tell, nothing seems to happen on it.
fn machine_time() -> MachineTime {
    let tick_s = 1.0 / clock_ticks_per_second() as f64;
    let numbers = |text: &str| -> Vec<f64> {
        text.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0.0)).collect()
    };
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    // user nice system idle iowait irq softirq steal; guests' time is in user (proc_stat(5)).
    let all: Vec<f64> = numbers(line).into_iter().take(8).collect();
    let idle: f64 = all.iter().skip(3).take(2).sum();
    let busy = all.iter().sum::<f64>() - idle;
    let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = own.rsplit_once(") ").map_or_else(Vec::new, |(_, fields)| numbers(fields));
    // utime stime cutime cstime, the last two of all descendants that were waited for.
    let own: f64 = fields.iter().skip(11).take(4).sum();
    MachineTime { busy_s: busy * tick_s, idle_s: idle * tick_s, own_s: own * tick_s }
}
