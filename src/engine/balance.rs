//! How many connections each worker has.
//!
//! Owns the numbers, as each worker wrote its own last, who of them is under pressure, and the
//! judgement whether one has too many more than another. Never moves a connection:
//! [`Worker`](super::worker::Worker) does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use crate::base::ids::{SLOTS_PER_SHARD, ShardId};
use crate::base::limits::{SKEW_IGNORED, SKEW_MAX_PERCENT};

/// Added to the load of a worker that is under pressure: more than anybody has room for.
const STRAINED: usize = 1 << 40;
const _: () = assert!(STRAINED > SLOTS_PER_SHARD * 1_024);

/// All workers' loads. A number may be a turn old: it steers, and decides about nobody's right.
#[derive(Debug)]
pub struct Balance {
    loads: Box<[CachePadded<AtomicUsize>]>,
    /// Which of them are under pressure; each is written by its worker alone.
    strained: Box<[CachePadded<AtomicBool>]>,
    /// How many workers are overloaded.
    overloaded: CachePadded<AtomicUsize>,
}

impl Balance {
    /// The loads of so many workers that have no connections.
    pub fn new(workers: u16) -> Balance {
        Balance {
            loads: (0..workers).map(|_| CachePadded::default()).collect(),
            strained: (0..workers).map(|_| CachePadded::default()).collect(),
            overloaded: CachePadded::default(),
        }
    }

    /// A worker has so many connections.
    pub fn publish(&self, worker: ShardId, connections: usize) {
        self.loads[worker.index()].store(connections, Ordering::Relaxed);
    }

    /// A connection is on its way to a worker, which will count it.
    pub fn note_sent(&self, worker: ShardId) {
        self.loads[worker.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// A worker is under pressure, and is given nobody by others, or is so no more.
    pub fn note_strained(&self, worker: ShardId, is_so: bool) {
        self.strained[worker.index()].store(is_so, Ordering::Relaxed);
    }

    /// A worker is overloaded from now on.
    pub fn enter_overload(&self) {
        self.overloaded.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker is overloaded no more.
    pub fn leave_overload(&self) {
        self.overloaded.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many workers are overloaded.
    pub fn overloaded(&self) -> usize {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// The connections of all workers but this one.
    pub fn others(&self, worker: ShardId) -> usize {
        let others = (0..).zip(&self.loads).filter(|(number, _)| *number != worker.0);
        others.map(|(_, load)| load.load(Ordering::Relaxed)).sum()
    }

    /// The emptiest other worker, if a further connection of `worker`, which has so many, would
    /// make it fuller than the skew allows, or if it has no room at all while the other one does.
    pub fn emptier_than(
        &self,
        worker: ShardId,
        connections: usize,
        room: usize,
    ) -> Option<ShardId> {
        // What every worker has at most cannot be too much more than what another has.
        if connections < SKEW_IGNORED && connections < room {
            return None;
        }
        let others = (0..).zip(&self.loads).filter(|(number, _)| *number != worker.0);
        let loads = others.map(|(number, load)| {
            let is_strained = self.strained[usize::from(number)].load(Ordering::Relaxed);
            let load = load.load(Ordering::Relaxed);
            (if is_strained { load + STRAINED } else { load }, ShardId(number))
        });
        let (least, emptiest) = loads.min()?;
        let is_skewed = connections >= least.saturating_add(SKEW_IGNORED)
            && (connections + 1) * 100 > least.saturating_mul(SKEW_MAX_PERCENT);
        let is_full = connections >= room;
        (least < room && (is_skewed || is_full)).then_some(emptiest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 1_000;

    fn balance(loads: &[usize]) -> Balance {
        let balance = Balance::new(loads.len() as u16);
        for (number, load) in (0..).zip(loads) {
            balance.publish(ShardId(number), *load);
        }
        balance
    }

    #[test]
    fn the_emptiest_is_chosen_beyond_the_skew() {
        let balance = balance(&[0, 500, 400]);
        let chosen = |connections| balance.emptier_than(ShardId(0), connections, ROOM);
        assert_eq!(chosen(519), None, "one more is 520, and 1.3 times 400");
        assert_eq!(chosen(520), Some(ShardId(2)));
        (0..120).for_each(|_| balance.note_sent(ShardId(2)));
        assert_eq!(chosen(649), None);
        assert_eq!(chosen(650), Some(ShardId(1)), "the other one is the emptiest now");
    }

    #[test]
    fn small_differences_are_ignored_and_one_worker_is_alone() {
        let pair = balance(&[0, 3]);
        assert_eq!(pair.emptier_than(ShardId(0), SKEW_IGNORED + 2, ROOM), None);
        assert_eq!(pair.emptier_than(ShardId(0), SKEW_IGNORED + 3, ROOM), Some(ShardId(1)));
        assert_eq!(balance(&[500]).emptier_than(ShardId(0), 500, ROOM), None);
    }

    #[test]
    fn nobody_is_sent_to_a_worker_under_pressure() {
        let balance = balance(&[0, 0, 300]);
        let chosen = |connections| balance.emptier_than(ShardId(0), connections, ROOM);
        assert_eq!(chosen(600), Some(ShardId(1)));
        balance.note_strained(ShardId(1), true);
        assert_eq!(chosen(600), Some(ShardId(2)));
        balance.note_sent(ShardId(1));
        balance.note_strained(ShardId(2), true);
        assert_eq!((chosen(600), chosen(ROOM)), (None, None));
        balance.note_strained(ShardId(1), false);
        assert_eq!(chosen(600), Some(ShardId(1)));
        assert_eq!(balance.others(ShardId(0)), 301);
    }

    #[test]
    fn a_full_worker_finds_room_elsewhere_while_there_is_some() {
        let pair = balance(&[0, ROOM - 1]);
        assert_eq!(pair.emptier_than(ShardId(0), ROOM, ROOM), Some(ShardId(1)));
        pair.note_sent(ShardId(1));
        assert_eq!(pair.emptier_than(ShardId(0), ROOM, ROOM), None);
    }
}
