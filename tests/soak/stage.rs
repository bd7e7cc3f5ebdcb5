//! A real server, honest clients, and a scenario after the other.
//!
//! Owns what every scenario is held to: each of its connections ended for a reason that it should
//! have had, connections, descriptors, sessions and memory are back at the level before, and the
//! honest clients noticed nothing. Never attacks; scenarios do.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::common::process::Corebeat;
use super::common::{PATIENCE, eventually};
use super::crowd::{Crowd, Report};
use super::gauge::{Counters, Gauge, Level};

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Seconds, beside other tests.
    Small,
    /// As hard as one machine can against itself.
    Full,
}

impl Size {
    pub(crate) fn of(self, small: usize, full: usize) -> usize {
        match self {
            Size::Small => small,
            Size::Full => full,
        }
    }
}

/// Something that happens to a server.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What its server needs.
    pub(crate) server: fn() -> Own,
    /// Attacks, and says what should come of it.
    pub(crate) run: fn(&Stage) -> Outcome,
}

/// What a scenario's server has of its own. Those that have nothing share one in a long run.
#[derive(Default)]
pub(crate) struct Own {
    /// The program, where the one that all are played on does not do.
    pub(crate) program: Option<String>,
    /// Options beside [`OPTIONS`].
    pub(crate) options: Vec<&'static str>,
    /// What its process finds in its environment.
    pub(crate) environment: Vec<(&'static str, PathBuf)>,
    /// Memory that its process may have (`RLIMIT_DATA`).
    pub(crate) memory_kib: Option<u64>,
    /// Where the files lie that those name.
    pub(crate) _folder: Option<Folder>,
}

impl Own {
    /// Whether there is nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        let Own { program, options, environment, memory_kib, .. } = self;
        let is_ordinary = program.is_none() && memory_kib.is_none();
        is_ordinary && options.is_empty() && environment.is_empty()
    }
}

/// What a scenario did, and what should have come of it.
#[derive(Default)]
pub(crate) struct Outcome {
    /// How many of its connections must have ended for one of these reasons. It names them all.
    pub(crate) ends: Vec<(u64, Vec<&'static str>)>,
    /// What else is worth a word in the table.
    pub(crate) told: Vec<String>,
}

/// What came of a scenario.
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) connections: u64,
    /// Reasons and counters.
    pub(crate) told: String,
    /// Resident bytes before, at their most, and after.
    pub(crate) resident: [u64; 3],
    pub(crate) descriptors: [usize; 2],
    pub(crate) worst_delay: Duration,
    pub(crate) took: Duration,
}

/// What every server of a scenario is started with. Heartbeats are short, so that a run has many
/// and what is dead is found in seconds, and patience is long enough for honest clients on a busy
/// machine.
pub(crate) const OPTIONS: [&str; 16] = [
    "--workers",
    "2",
    "--heartbeat",
    "1s",
    "--heartbeat-shortest",
    "1s",
    "--timeout",
    "5s",
    "--handshake-timeout",
    "2s",
    "--frame-timeout",
    "2s",
    "--resume-window",
    "1s",
    "--presence-grace",
    "500ms",
];
/// [`OPTIONS`]' `--timeout`.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// Memory that may stay behind an attack: what the allocator and the pools keep for the next one,
const RESIDENT_KEPT: u64 = 16 << 20;
/// and, of each connection at a time, its places in tables that grew.
const RESIDENT_KEPT_EACH: u64 = 1 << 10;

/// Counters of connections that were closed without a word, and count as neither opened nor closed.
const AT_THE_DOOR: [&str; 2] = ["turned_away", "accept_closed"];

/// A folder of a test's own, which goes with it.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        let name = format!("corebeat-soak-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// See the [module](self).
pub(crate) struct Stage {
    pub(crate) crowd: Crowd,
    pub(crate) server: Corebeat,
    pub(crate) gauge: Gauge,
    pub(crate) size: Size,
    pub(crate) own: Own,
    /// Descriptors of a server without clients.
    bare: usize,
    _folder: Folder,
}

impl Stage {
    /// Everybody is there and has heard of everybody else when this returns.
    pub(crate) fn open(size: Size, own: Own) -> Stage {
        let folder = Folder::new();
        let admin = folder.0.join("admin");
        let mut options = OPTIONS.to_vec();
        options.extend_from_slice(&["--admin", admin.to_str().unwrap()]);
        options.extend_from_slice(&own.options);
        let program = own.program.as_deref();
        let server = Corebeat::start_within(program, &options, &own.environment, own.memory_kib);
        let gauge = Gauge::new(server.address, server.process(), admin);
        let mut bare = 0;
        eventually("nothing is opened any more", || {
            let before = std::mem::replace(&mut bare, gauge.descriptors());
            before == bare
        });
        let crowd = Crowd::gather(server.address);
        let stage = Stage { crowd, server, gauge, size, own, bare, _folder: folder };
        stage.expect_undisturbed();
        stage
    }

    /// Plays a scenario and holds the server to its promises.
    ///
    /// # Panics
    /// If one is not kept, with what was seen.
    pub(crate) fn play(&self, scenario: &Scenario) -> Row {
        let began = Instant::now();
        let before = self.rest();
        let resident_before = self.gauge.resident();
        let (counters_before, asked_before) = (self.gauge.counters(), self.gauge.asked());
        self.gauge.forget_peak();

        let outcome = (scenario.run)(self);

        let connections: u64 = outcome.ends.iter().map(|(count, _)| count).sum();
        self.expect_level(&before);
        let peak = self.gauge.peak();
        let kept = RESIDENT_KEPT + connections.min(20_000) * RESIDENT_KEPT_EACH;
        let resident_after = self.expect_memory(resident_before + kept);
        let counted = self.gauge.counters().since(&counters_before);
        let own = self.gauge.asked() - asked_before;
        let ended = expect_reasons(&counted, own, &outcome.ends);
        let report = self.expect_undisturbed();
        Row {
            scenario: scenario.name,
            connections,
            told: ended.into_iter().chain(outcome.told).collect::<Vec<_>>().join(", "),
            resident: [resident_before, peak, resident_after],
            descriptors: [before.descriptors, self.rest().descriptors],
            worst_delay: report.worst_delay,
            took: began.elapsed(),
        }
    }

    /// Ends the server in order.
    pub(crate) fn close(self) {
        let Stage { crowd, mut server, .. } = self;
        drop(crowd);
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
    }

    /// The level when nothing is left but the honest clients.
    fn rest(&self) -> Level {
        let mut level = self.gauge.level();
        eventually("only honest clients are there", || {
            level = self.gauge.level();
            level.connections == Crowd::CONNECTIONS
                && level.descriptors == self.bare + Crowd::CONNECTIONS as usize
        });
        level
    }

    fn expect_level(&self, before: &Level) {
        let began = Instant::now();
        loop {
            let level = self.gauge.level();
            if level == *before {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{level:?} is left, {before:?} was before");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Until so much memory is resident at most; returns how much it is.
    fn expect_memory(&self, most: u64) -> u64 {
        let began = Instant::now();
        loop {
            let resident = self.gauge.resident();
            if resident <= most {
                return resident;
            }
            assert!(began.elapsed() < PATIENCE, "{resident} bytes are resident, not {most}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// What the honest clients heard, who must have noticed nothing.
    pub(crate) fn expect_undisturbed(&self) -> Report {
        let report = self.crowd.report();
        let first: Vec<&String> = report.troubles.iter().take(5).collect();
        assert!(first.is_empty(), "{} troubles, such as {first:?}", report.troubles.len());
        report
    }

    /// Until so many connections have ended since.
    pub(crate) fn expect_ends(&self, since: &Counters, count: u64) {
        let asked = self.gauge.asked();
        let mut ended = 0;
        eventually("the connections end", || {
            let counted = self.gauge.counters().since(since);
            ended = counted.closed() - (self.gauge.asked() - asked);
            ended >= count
        });
    }
}

/// Each connection must have ended for one of its reasons, and none for another. `own` connections
/// asked for numbers and were served. Returns what happened, in words.
fn expect_reasons(counted: &Counters, own: u64, ends: &[(u64, Vec<&'static str>)]) -> Vec<String> {
    let mut closed = counted.beginning("closed_");
    if let Some(served) = closed.get_mut("served") {
        *served -= own;
    }
    let all = counted.beginning("");
    closed.extend(all.into_iter().filter(|(name, _)| AT_THE_DOOR.contains(name)));
    closed.retain(|_, count| *count > 0);
    let words = closed.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let connections: u64 = ends.iter().map(|(count, _)| count).sum();
    assert_eq!(closed.values().sum::<u64>(), connections, "{closed:?} of {ends:?}");
    for reason in closed.keys() {
        let known = ends.iter().any(|(_, reasons)| reasons.contains(reason));
        assert!(known, "{closed:?} of {ends:?}");
    }
    for (count, reasons) in ends {
        // Several kinds may share a reason, so that a kind alone gives a lower bound only.
        let found: u64 = reasons.iter().filter_map(|reason| closed.get(reason)).sum();
        assert!(found >= *count, "{closed:?} of {ends:?}");
    }
    words
}
