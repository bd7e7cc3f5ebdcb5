//! The store, and what of it outlives a crash.
//!
//! Owns what shards have handed over, turn by turn, what is committed of it, and what shards have
//! not been told of that. A commit takes whole turns, as the real store's does, and the process, or
//! the machine, may end between any two of them. Never knows what a record means.

use std::collections::VecDeque;

use corebeat::chat::record::{Durability, Record, Recovered, Ticket};
use corebeat::store::keeper::Outcome;
use corebeat::store::renewal::Renewal;

use super::dice::Dice;
use super::plan::StorePlan;
use super::shelf::Shelf;

/// The records of one turn of a shard.
struct Submission {
    last: Ticket,
    records: Vec<Record>,
}

/// What is known of one shard.
#[derive(Default)]
struct Desk {
    handed: VecDeque<Submission>,
    /// Failures so far. What the shard hands over before it heard of them all is dropped.
    generation: u32,
    untold: VecDeque<Outcome>,
}

/// What an end leaves on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The process is killed: whatever was committed is there.
    Killed,
    /// The machine loses its power: what the disk was not waited for may be missing.
    PowerLost,
}

/// The store of one run.
pub(crate) struct Store {
    plan: StorePlan,
    committed: Shelf,
    /// What the disk was last waited for, and what was committed since.
    synced: Shelf,
    unsynced: Vec<Vec<Record>>,
    desks: Vec<Desk>,
    /// Commits so far.
    pub(crate) commits: u64,
    /// Commits so far that failed.
    pub(crate) failures: u64,
    /// One of them, in this life of the server, left records on the disk all the same.
    pub(crate) has_leaked: bool,
    /// Until this is over, the end before last counts on.
    renewal: Renewal,
}

impl Store {
    /// An empty store for so many shards.
    pub(crate) fn new(plan: StorePlan, shards: usize) -> Store {
        Store {
            plan,
            committed: Shelf::default(),
            synced: Shelf::default(),
            unsynced: Vec::new(),
            desks: std::iter::repeat_with(Desk::default).take(shards).collect(),
            commits: 0,
            failures: 0,
            has_leaked: false,
            renewal: Renewal::default(),
        }
    }

    /// A shard that has heard of `generation` failures hands over the records of a turn.
    pub(crate) fn hand(
        &mut self,
        shard: usize,
        generation: u32,
        (last, records): (Ticket, Vec<Record>),
    ) {
        let desk = &mut self.desks[shard];
        if generation == desk.generation {
            desk.handed.push_back(Submission { last, records });
        }
    }

    /// What a shard has not been told.
    pub(crate) fn next_outcome(&mut self, shard: usize) -> Option<Outcome> {
        self.desks[shard].untold.pop_front()
    }

    /// Whether a shard has not been told something.
    pub(crate) fn has_outcome(&self, shard: usize) -> bool {
        !self.desks[shard].untold.is_empty()
    }

    /// Whether all that was handed over is committed, and told.
    pub(crate) fn is_quiet(&self) -> bool {
        self.desks.iter().all(|desk| desk.handed.is_empty() && desk.untold.is_empty())
    }

    /// Keys that are stored.
    pub(crate) fn keys(&self) -> usize {
        self.committed.keys()
    }

    /// One round. In a hurry it does not fail, and commits all that it has. It ends early, and says
    /// so, when it has committed so often that the process is to be killed.
    pub(crate) fn work(&mut self, dice: &mut Dice, hurry: bool) -> bool {
        for shard in dice.order(self.desks.len()) {
            if !hurry && dice.chance(self.plan.fail) && !self.desks[shard].handed.is_empty() {
                let leaked = dice.within(0..=self.desks[shard].handed.len());
                self.fail(shard, leaked);
            }
            while !self.desks[shard].handed.is_empty() && (hurry || dice.chance(self.plan.commit)) {
                self.commit(shard);
                if self.plan.kill_at_commit == Some(self.commits) {
                    return true;
                }
            }
        }
        if self.plan.durability == Durability::Sync || dice.chance(self.plan.sync) {
            self.sync();
        }
        false
    }

    /// Commits what a shard handed over in one turn.
    fn commit(&mut self, shard: usize) {
        if let Some(through) = self.keep(shard) {
            self.desks[shard].untold.push_back(Outcome::Written(through));
        }
    }

    /// A shard is gone, and the process is not: all that it had handed over is committed. Returns
    /// what its next life is given back, which hears nothing more of the records of this one.
    pub(crate) fn reload(&mut self, shard: usize, secret: [u64; 2]) -> Recovered {
        while self.keep(shard).is_some() {}
        self.desks[shard] = Desk::default();
        if self.plan.durability == Durability::Sync {
            self.sync();
        }
        let (shards, is_torn) = (self.desks.len() as u16, self.plan.durability == Durability::None);
        let parts = self.committed.recover(secret, shards, is_torn);
        parts.into_iter().nth(shard).expect("a part for each shard")
    }

    fn keep(&mut self, shard: usize) -> Option<Ticket> {
        let Submission { last, records } = self.desks[shard].handed.pop_front()?;
        records.iter().for_each(|record| {
            self.committed.commit_record(record);
            self.renewal.note_staged(record);
        });
        self.renewal.note_written();
        self.unsynced.push(records);
        self.commits += 1;
        Some(last)
    }

    /// A commit fails, of which some turns' records reach the disk all the same.
    fn fail(&mut self, shard: usize, leaked: usize) {
        self.failures += 1;
        self.has_leaked |= leaked > 0;
        for _ in 0..leaked {
            self.keep(shard);
        }
        let desk = &mut self.desks[shard];
        desk.handed.clear();
        desk.generation += 1;
        desk.untold.push_back(Outcome::Failed);
    }

    fn sync(&mut self) {
        self.synced = self.committed.clone();
        self.unsynced.clear();
    }

    /// The process ends. Returns what those of the next one are given back.
    pub(crate) fn end(
        &mut self,
        end: End,
        secret: [u64; 2],
        dice: &mut Dice,
    ) -> (Vec<Recovered>, bool) {
        if end == End::PowerLost {
            let left = dice.within(0..=self.unsynced.len());
            let kept = self.unsynced.drain(..).take(left);
            for record in kept.flatten() {
                self.synced.commit_record(&record);
            }
            self.committed = self.synced.clone();
        }
        self.sync();
        self.desks.iter_mut().for_each(|desk| *desk = Desk::default());
        let is_torn = match self.plan.durability {
            Durability::None => true,
            Durability::Batch => end == End::PowerLost,
            Durability::Sync => false,
        };
        let is_torn = is_torn || !self.renewal.is_over();
        let shards = self.desks.len() as u16;
        let parts = self.committed.recover(secret, shards, is_torn);
        let rooms = parts.iter().flat_map(|part| &part.rooms).filter(|_| is_torn);
        self.renewal = Renewal::of(rooms.map(|room| room.name.clone()));
        (parts, is_torn)
    }
}
