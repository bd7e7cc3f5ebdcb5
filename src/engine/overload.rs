//! What a worker can bear, and what it does when that is used up.
//!
//! Owns the worker's readings of itself and the levels they come to. Never sheds anything by
//! itself: the shard is told the [`Pressure`], the doors are paused, the other workers see it at
//! the [balance](super::balance). The worker calls it once a turn.
//!
//! The loop's lag and the connections are known at no cost. What the kernel must be asked for, the
//! memory and the limit on open files, is asked at most four times a second, and only by a worker
//! that is awake: while nothing happens, nothing is used up. A worker under pressure wakes up now
//! and then to see whether it has passed.

use log::{info, warn};

use super::config::FileTables;
use super::worker::Worker;
use crate::base::counters::Counters;
use crate::base::limits::{Limits, MEMORY_LOOK_MS, PRESSURE_LOOK_MS};
use crate::base::pressure::{Lag, Level, Pressure, Readings};
use crate::base::time::Mono;
use crate::net::kernel;
use crate::net::memory::MemoryGauge;

/// The readings of one worker, and what was made of them.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Limits,
    tables: FileTables,
    pressure: Pressure,
    readings: Readings,
    lag: Lag,
    /// None where the memory has no limit, or is not known.
    memory: Option<MemoryGauge>,
    /// Descriptors of the table that are not connections of this worker.
    others: usize,
    open_files: u64,
    /// When the kernel was last asked.
    looked_at: Option<Mono>,
    /// When the levels were last judged.
    judged_at: Mono,
    /// The counters when the worker was last calm.
    before: Counters,
}

impl Watch {
    /// A watch over a worker without connections. To be made on its thread, in its own table.
    pub(super) fn new(limits: Limits, tables: FileTables) -> Watch {
        let memory = MemoryGauge::open(limits.memory_limit);
        Watch {
            limits,
            tables,
            pressure: Pressure::default(),
            readings: Readings::default(),
            lag: Lag::default(),
            memory,
            others: kernel::open_descriptors().unwrap_or(0),
            open_files: kernel::open_file_limit(),
            looked_at: None,
            judged_at: Mono(0),
            before: Counters::default(),
        }
    }

    /// The loop slept for so long, and then had a turn of so long.
    pub(super) fn note_turn(&mut self, slept_us: u64, turn_us: u64) {
        self.lag.note(slept_us, turn_us);
    }

    /// How near it is to what it can bear.
    pub(super) fn level(&self) -> Level {
        self.pressure.level()
    }

    /// How near its memory is to the end.
    pub(super) fn memory_level(&self) -> Level {
        self.pressure.memory
    }

    /// When the worker is to wake up to see whether the pressure has passed; none where there is
    /// none.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let is_calm = self.pressure.level() == Level::Calm;
        (!is_calm).then(|| self.judged_at + PRESSURE_LOOK_MS)
    }

    /// Judges the readings anew. `others` tells the connections of all other workers.
    fn judge(&mut self, connections: usize, others: impl Fn() -> usize, now: Mono) -> Pressure {
        let is_due = |looked_at: Mono| now.since_ms(looked_at) >= MEMORY_LOOK_MS;
        let mut in_table = self.others + connections;
        if self.tables == FileTables::Shared {
            in_table += others();
        }
        if self.looked_at.is_none_or(is_due) {
            self.looked_at = Some(now);
            self.open_files = kernel::open_file_limit();
            // A reading that fails leaves the last one.
            if let Some(Ok(percent)) = self.memory.as_mut().map(MemoryGauge::percent) {
                self.readings.memory_percent = percent;
            }
        }
        self.judged_at = now;
        self.readings.descriptors_percent = in_table as u64 * 100 / self.open_files.max(1);
        self.readings.lag_us = self.lag.us();
        let Readings { descriptors_percent, memory_percent, lag_us } = self.readings;
        let Limits { overload_descriptors, overload_memory, overload_lag, .. } = &self.limits;
        Pressure {
            descriptors: overload_descriptors.judge(self.pressure.descriptors, descriptors_percent),
            memory: overload_memory.judge(self.pressure.memory, memory_percent),
            lag: overload_lag.judge(self.pressure.lag, lag_us),
        }
    }

    /// The readings in words, and the worst of them first to be seen.
    fn describe(&self) -> String {
        let Readings { descriptors_percent, memory_percent, lag_us } = self.readings;
        let Pressure { descriptors, memory, lag } = self.pressure;
        let lag_ms = lag_us as f64 / 1_000.0;
        format!(
            "descriptors {descriptors_percent} % ({}), memory {memory_percent} % ({}), loop lag \
             {lag_ms:.1} ms ({})",
            descriptors.name(),
            memory.name(),
            lag.name()
        )
    }
}

/// What a level means, for the log.
fn meaning(pressure: Pressure) -> &'static str {
    match (pressure.level(), pressure.of_work()) {
        (Level::Calm, _) => "all is done again",
        (Level::Strained, Level::Calm) => "new sessions are refused, resumed ones are not",
        (Level::Strained, _) => {
            "new sessions are refused, resumed ones are not; presence is told as totals, numbers \
             seldom"
        }
        (Level::Overloaded, Level::Calm) => "nobody is accepted",
        (Level::Overloaded, Level::Strained) => {
            "nobody is accepted; presence is told as totals, numbers seldom"
        }
        (Level::Overloaded, Level::Overloaded) => {
            "nobody is accepted; presence and rosters wait, numbers are told seldom"
        }
    }
}

impl Worker {
    /// Phase: sees whether it can go on as ever, before anything is read or accepted.
    pub(super) fn watch_pressure(&mut self) {
        let balance = &self.seat.steering.balance;
        let (id, connections) = (self.id, self.sockets.len());
        let after = self.watch.judge(connections, || balance.others(id), self.now.mono);
        let before = std::mem::replace(&mut self.watch.pressure, after);
        let somewhere = balance.overloaded() > 0;
        self.shard.note_overload_somewhere(somewhere);
        self.shard.note_pressure(after, self.watch.readings);
        if (before.level(), before.of_work()) == (after.level(), after.of_work()) {
            return;
        }
        self.change_pressure(before, after);
    }

    /// A level began or ended.
    fn change_pressure(&mut self, before: Pressure, after: Pressure) {
        let balance = &self.seat.steering.balance;
        balance.note_strained(self.id, after.refuses_newcomers());
        match (before.pauses_accepting(), after.pauses_accepting()) {
            (false, true) => {
                balance.enter_overload();
                self.acceptor.pause();
            }
            (true, false) => {
                balance.leave_overload();
                self.acceptor.go_on();
            }
            _ => {}
        }
        self.shard.note_overload_somewhere(balance.overloaded() > 0);
        let (id, readings, meaning) = (self.id, self.watch.describe(), meaning(after));
        let level = after.level().name();
        if after.level() > before.level() || after.of_work() > before.of_work() {
            warn!("worker {id} is {level}: {readings}: {meaning}");
        } else if after.level() > Level::Calm {
            info!("worker {id} is {level} only: {readings}: {meaning}");
        } else {
            let counters = self.shard.counters();
            let since =
                |number: fn(&Counters) -> u64| number(counters) - number(&self.watch.before);
            info!(
                "worker {id} is calm again: {readings}: {meaning}; meanwhile {} new sessions were \
                 refused and {} resumed, and of presence {}, of rosters {}, of numbers {} were \
                 left out",
                since(|counters| counters.overload_refused),
                since(|counters| counters.overload_resumed),
                since(|counters| counters.shed_presence),
                since(|counters| counters.shed_rosters),
                since(|counters| counters.shed_statistics),
            );
        }
        if after.level() == Level::Calm {
            self.watch.before = *self.shard.counters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::pressure::Watermarks;

    fn watch(limits: Limits) -> Watch {
        Watch::new(limits, FileTables::Private)
    }

    #[test]
    fn connections_count_against_the_limit_on_open_files() {
        let marks = Watermarks { low: 40, soft: 60, high: 80 };
        let mut watch = watch(Limits { overload_descriptors: marks, ..Limits::default() });
        let judge = |watch: &mut Watch, percent: u64| {
            let all = watch.open_files * percent / 100 + 1;
            let connections = all as usize - watch.others;
            watch.pressure = watch.judge(connections, || 0, Mono(0));
            watch.pressure.descriptors
        };
        assert_eq!(judge(&mut watch, 59), Level::Calm);
        assert_eq!(watch.deadline(), None, "nobody is woken where there is no pressure");
        assert_eq!(judge(&mut watch, 60), Level::Strained);
        assert_eq!(watch.deadline(), Some(Mono(PRESSURE_LOOK_MS)));
        assert_eq!(judge(&mut watch, 80), Level::Overloaded);
        assert_eq!(judge(&mut watch, 60), Level::Overloaded);
        assert_eq!(judge(&mut watch, 50), Level::Strained);
        assert_eq!(judge(&mut watch, 39), Level::Calm);
    }

    #[test]
    fn in_a_shared_table_the_connections_of_all_workers_count() {
        let marks = Watermarks { low: 40, soft: 60, high: 80 };
        let limits = Limits { overload_descriptors: marks, ..Limits::default() };
        let mut watch = Watch::new(limits, FileTables::Shared);
        let others = watch.open_files as usize;
        assert_eq!(watch.judge(0, || others, Mono(0)).descriptors, Level::Overloaded);
    }

    #[test]
    fn the_memory_is_looked_at_seldom() {
        let limits = Limits { memory_limit: Some(64 << 10), ..Limits::default() };
        let mut watch = watch(limits);
        assert_eq!(watch.judge(0, || 0, Mono(1_000)).memory, Level::Overloaded);
        watch.memory = MemoryGauge::open(Some(1 << 50));
        assert_eq!(
            watch.judge(0, || 0, Mono(1_000 + MEMORY_LOOK_MS - 1)).memory,
            Level::Overloaded
        );
        assert_eq!(watch.judge(0, || 0, Mono(1_000 + MEMORY_LOOK_MS)).memory, Level::Calm);
    }
}
