//! The numbers that `/stats` tells.
//!
//! Owns one shard's numbers ([`ShardStats`]), how they are written as JSON, and the gathering of
//! all shards' numbers for whoever asks ([`Gathering`]). Never shares a number between shards: the
//! one that is asked asks the others by mail. Called by [`http`](super::http) and by the mail.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::counters::CloseReason;
use crate::base::ids::{ConnId, ShardId};
use crate::base::pressure::Readings;
use crate::base::time::Now;
use crate::base::wheel;

use super::dialect::Dialect;
use super::mail::Mail;
use super::record::StoreNumbers;
use super::shard::Shard;

/// Upper bounds of the buckets in which round trips are counted, in milliseconds. Behind them comes
/// a bucket for all that took longer.
pub const ROUND_TRIP_BOUNDS_MS: [u64; 16] =
    [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768];
const BUCKETS: usize = ROUND_TRIP_BOUNDS_MS.len() + 1;
/// Parts into which the span of the wheel is divided for show.
const SECTORS: usize = 64;
const _: () = assert!(wheel::SLOTS.is_multiple_of(SECTORS));

/// How long heartbeats took to come back.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundTrips([u64; BUCKETS]);

impl RoundTrips {
    /// Counts one.
    pub fn record(&mut self, round_trip_ms: u64) {
        // The bounds are the powers of two from 1 on.
        let bucket = u64::BITS - round_trip_ms.saturating_sub(1).leading_zeros();
        self.0[(bucket as usize).min(BUCKETS - 1)] += 1;
    }
}

/// How many live sessions speak what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Speakers {
    native: u32,
    text: u32,
    websocket: u32,
}

impl Speakers {
    /// A session of `dialect` began.
    pub fn came(&mut self, dialect: Dialect) {
        *self.of(dialect) += 1;
    }

    /// A session of `dialect` ended.
    pub fn went(&mut self, dialect: Dialect) {
        *self.of(dialect) -= 1;
    }

    fn of(&mut self, dialect: Dialect) -> &mut u32 {
        match dialect {
            Dialect::Native | Dialect::NativeCrc => &mut self.native,
            Dialect::Text => &mut self.text,
            _ => &mut self.websocket,
        }
    }
}

/// The longest times of one worker since they were last asked for, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Longest {
    pub(super) turn_us: u64,
    /// What somebody may have waited for the worker to accept.
    pub(super) accept_stall_us: u64,
}

/// One shard's numbers. Totals count since the start of the process.
#[derive(Debug, Serialize)]
pub struct ShardStats {
    id: u16,
    connections: usize,
    native: u32,
    text: u32,
    websocket: u32,
    /// Rooms whose home it is.
    rooms: usize,
    /// Sessions of users whose home it is.
    users: usize,
    /// Sessions without a connection that may still be resumed.
    kept_sessions: usize,
    /// Bytes of memory that the histories of those rooms take.
    history_bytes: usize,
    /// Bytes that direct messages to those users are counted with.
    direct_bytes: usize,
    /// Replays that wait for their readers.
    replays: usize,
    messages_in: u64,
    published: u64,
    delivered: u64,
    replayed: u64,
    bytes_in: u64,
    bytes_out: u64,
    pings: u64,
    pongs: u64,
    opened: u64,
    welcomed: u64,
    closed: BTreeMap<&'static str, u64>,
    limited: BTreeMap<&'static str, u64>,
    http_served: u64,
    http_refused: u64,
    upgrades: u64,
    /// Records on their way to the store.
    unwritten: usize,
    stored: u64,
    store_failures: u64,
    overflow_disconnect: u64,
    overflow_drop_oldest: u64,
    overflow_drop_newest: u64,
    overflow_latest_only: u64,
    busy_us: u64,
    turns: u64,
    /// The longest turn since the last look: what arrived at its beginning waited so long.
    lag_us_max: u64,
    /// The longest that somebody may have waited for the worker to accept, since the last look.
    accept_stall_us_max: u64,
    handed_over: u64,
    pressure: PressureStats,
    worker_panics: u64,
    wheel: WheelStats,
    /// What the store told this shard last; none where all is in memory.
    #[serde(skip)]
    store: Option<StoreNumbers>,
    /// Heartbeats by the time they took, one number for each bucket.
    round_trip_ms: [u64; BUCKETS],
}

#[derive(Debug, Serialize)]
struct PressureStats {
    /// `calm`, `strained` or `overloaded`.
    level: &'static str,
    descriptors_percent: u64,
    memory_percent: u64,
    lag_us: u64,
    /// The counters `overload_…`, `accept_…` and `shed_…`.
    pauses: u64,
    refused: u64,
    resumed: u64,
    accept_failures: u64,
    accept_closed: u64,
    shed_presence: u64,
    shed_rosters: u64,
    shed_statistics: u64,
}

#[derive(Debug, Serialize)]
struct WheelStats {
    armed: usize,
    slots: usize,
    /// Entries in each part of the span ahead, the next one first.
    occupancy: Vec<usize>,
}

/// The whole answer.
#[derive(Serialize)]
struct Stats<'a> {
    version: &'static str,
    uptime_s: f64,
    time_ms: u64,
    /// The latest numbers of the store that a worker has heard; none where all is in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<StoreNumbers>,
    /// Connections of the fullest worker over those of the emptiest.
    skew: f64,
    workers: &'a [ShardStats],
    round_trip_bounds_ms: [u64; ROUND_TRIP_BOUNDS_MS.len()],
}

/// Who asked for the numbers, and those that have come.
#[derive(Debug, Default)]
pub struct Gathering {
    /// Connections that wait for the answer; `true` for those that want its head only.
    askers: Vec<(ConnId, bool)>,
    answers: Vec<ShardStats>,
    /// Answers that are on their way.
    missing: u16,
}

impl Gathering {
    /// How many connections wait.
    pub fn waiting(&self) -> usize {
        self.askers.len()
    }
}

impl Shard {
    /// Asks all shards for their numbers, to be told to `conn`. Whoever asks while answers are on
    /// their way gets the same ones.
    pub(super) fn gather_stats(&mut self, conn: ConnId, head_only: bool, now: Now) {
        self.gathering.askers.push((conn, head_only));
        if self.gathering.missing > 0 {
            return;
        }
        self.gathering.missing = self.shards;
        for shard in 0..self.shards {
            self.send(ShardId(shard), Mail::AskStats, now);
        }
    }

    /// Another shard, or this one, wants this one's numbers.
    pub(super) fn tell_stats(&mut self, to: ShardId, now: Now) {
        let stats = Box::new(self.stats());
        self.send(to, Mail::Stats(stats), now);
    }

    /// A shard's numbers have come. The last ones make the answer.
    pub(super) fn take_stats(&mut self, stats: Box<ShardStats>, now: Now) {
        let gathering = &mut self.gathering;
        gathering.answers.push(*stats);
        gathering.missing -= 1;
        if gathering.missing > 0 {
            return;
        }
        let Gathering { askers, mut answers, .. } = std::mem::take(gathering);
        answers.sort_unstable_by_key(|stats| stats.id);
        let body = encode(&answers, now);
        for (conn, head_only) in askers {
            self.serve_stats(conn, &body, head_only, now);
        }
    }

    fn stats(&mut self) -> ShardStats {
        let counters = &self.counters;
        let closed = CloseReason::ALL
            .into_iter()
            .map(|reason| (reason.name(), counters.closed_for(reason)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let longest = std::mem::take(&mut self.longest);
        ShardStats {
            id: self.id.0,
            connections: self.sessions.len(),
            native: self.speakers.native,
            text: self.speakers.text,
            websocket: self.speakers.websocket,
            rooms: self.homes.len() - usize::from(self.everyone_home() == self.id),
            users: self.directory.len(),
            kept_sessions: self.keeping.table.len(),
            history_bytes: self.archive.memory(),
            direct_bytes: self.inboxes.memory(),
            replays: self.catch_ups.len(),
            messages_in: counters.messages_in,
            published: counters.published,
            delivered: counters.delivered,
            replayed: counters.replayed,
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
            pings: counters.pings,
            pongs: counters.pongs,
            opened: counters.opened,
            welcomed: counters.welcomed,
            closed,
            limited: counters.limited().into_iter().filter(|(_, count)| *count > 0).collect(),
            http_served: counters.http_served,
            http_refused: counters.http_refused,
            upgrades: counters.upgrades,
            unwritten: self.unwritten(),
            stored: counters.stored,
            store_failures: counters.store_failures,
            overflow_disconnect: counters.overflow_disconnect,
            overflow_drop_oldest: counters.overflow_drop_oldest,
            overflow_drop_newest: counters.overflow_drop_newest,
            overflow_latest_only: counters.overflow_latest_only,
            busy_us: counters.busy_us,
            turns: counters.turns,
            lag_us_max: longest.turn_us,
            accept_stall_us_max: longest.accept_stall_us,
            handed_over: counters.handed_over,
            pressure: self.pressure_stats(),
            worker_panics: counters.worker_panics,
            wheel: self.wheel_stats(),
            store: self.journal.as_ref().map(|journal| journal.numbers()),
            round_trip_ms: self.round_trips.0,
        }
    }

    fn pressure_stats(&self) -> PressureStats {
        let Readings { descriptors_percent, memory_percent, lag_us } = self.strain.readings;
        let counters = &self.counters;
        PressureStats {
            level: self.strain.pressure.level().name(),
            descriptors_percent,
            memory_percent,
            lag_us,
            pauses: counters.overload_pauses,
            refused: counters.overload_refused,
            resumed: counters.overload_resumed,
            accept_failures: counters.accept_failures,
            accept_closed: counters.accept_closed,
            shed_presence: counters.shed_presence,
            shed_rosters: counters.shed_rosters,
            shed_statistics: counters.shed_statistics,
        }
    }

    fn wheel_stats(&self) -> WheelStats {
        let mut occupancy = vec![0; SECTORS];
        // What is due and not yet popped comes first, and belongs to the first part.
        let ahead = self.wheel.occupancy().map(|(_, entries)| entries);
        let due = self.wheel.occupancy().count() - wheel::HORIZON as usize;
        for (place, entries) in ahead.enumerate() {
            let distance = place.saturating_sub(due);
            occupancy[distance * SECTORS / wheel::SLOTS] += entries;
        }
        WheelStats { armed: self.wheel.len(), slots: wheel::SLOTS, occupancy }
    }
}

/// Connections of the fullest worker over those of the emptiest, to two decimals.
fn skew(workers: &[ShardStats]) -> f64 {
    let connections = || workers.iter().map(|worker| worker.connections.max(1));
    let (fullest, emptiest) = (connections().max().unwrap_or(1), connections().min().unwrap_or(1));
    (fullest as f64 * 100.0 / emptiest as f64).round() / 100.0
}

fn encode(workers: &[ShardStats], now: Now) -> Vec<u8> {
    let stats = Stats {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: now.mono.0 as f64 / 1_000.0,
        time_ms: now.wall_ms,
        store: workers.iter().filter_map(|worker| worker.store).max_by_key(|n| n.commits),
        skew: skew(workers),
        workers,
        round_trip_bounds_ms: ROUND_TRIP_BOUNDS_MS,
    };
    let mut body = serde_json::to_vec(&stats).expect("numbers and names can be written as JSON");
    body.push(b'\n');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_counted_in_the_first_bucket_that_it_fits() {
        let mut trips = RoundTrips::default();
        for round_trip_ms in [0, 1, 2, 3, 32_768, 32_769, 1 << 40] {
            trips.record(round_trip_ms);
        }
        let mut expected = [0; BUCKETS];
        expected[..3].copy_from_slice(&[2, 1, 1]);
        expected[15..].copy_from_slice(&[1, 2]);
        assert_eq!(trips.0, expected);
    }
}
