//! How many connections each worker has.
//!
//! Owns the numbers, as each worker wrote its own last, and the judgement whether one of them has
//! too many more than another. Never moves a connection: [`Worker`](super::worker::Worker) does.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use crate::base::ids::ShardId;
use crate::base::limits::{SKEW_IGNORED, SKEW_MAX_PERCENT};

/// All workers' loads. A number may be a turn old: it steers, and decides about nobody's right.
#[derive(Debug)]
pub struct Balance {
    loads: Box<[CachePadded<AtomicUsize>]>,
}

impl Balance {
    /// The loads of so many workers that have no connections.
    pub fn new(workers: u16) -> Balance {
        Balance { loads: (0..workers).map(|_| CachePadded::default()).collect() }
    }

    /// A worker has so many connections.
    pub fn publish(&self, worker: ShardId, connections: usize) {
        self.loads[worker.index()].store(connections, Ordering::Relaxed);
    }

    /// A connection is on its way to a worker, which will count it.
    pub fn note_sent(&self, worker: ShardId) {
        self.loads[worker.index()].fetch_add(1, Ordering::Relaxed);
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
        let loads = others.map(|(number, load)| (load.load(Ordering::Relaxed), ShardId(number)));
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
    fn a_full_worker_finds_room_elsewhere_while_there_is_some() {
        let pair = balance(&[0, ROOM - 1]);
        assert_eq!(pair.emptier_than(ShardId(0), ROOM, ROOM), Some(ShardId(1)));
        pair.note_sent(ShardId(1));
        assert_eq!(pair.emptier_than(ShardId(0), ROOM, ROOM), None);
    }
}
