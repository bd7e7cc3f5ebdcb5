//! A store that does what a test says, and a world that is thrown back upon it.
//!
//! Owns the records that shards have handed over; those that are committed are on its shelf. Never
//! commits by itself.

use std::collections::VecDeque;

use corebeat::base::ids::ShardId;
use corebeat::chat::hash::{NameHasher, home};
use corebeat::chat::record::{Record, Recovered, StoreNumbers, Ticket};

use super::shelf::Shelf;
use super::world::SHARDS;

/// What shards have handed over, and what is committed.
#[derive(Default)]
pub(crate) struct Disk {
    committed: Shelf,
    handed: [VecDeque<(Ticket, Record)>; SHARDS],
    generations: [u32; SHARDS],
}

impl Disk {
    /// A shard hands a record over, having heard of `generation` failures.
    pub(crate) fn hand(&mut self, shard: usize, ticket: Ticket, generation: u32, record: Record) {
        if generation == self.generations[shard] {
            self.handed[shard].push_back((ticket, record));
        }
    }

    /// Records of a shard that are not committed.
    pub(crate) fn waiting(&self, shard: usize) -> usize {
        self.handed[shard].len()
    }

    /// Commits the next `count` records of a shard. Returns the last of them.
    pub(crate) fn commit(&mut self, shard: usize, count: usize) -> Option<Ticket> {
        let mut through = None;
        for (ticket, record) in self.handed[shard].drain(..count) {
            self.committed.commit_record(&record);
            through = Some(ticket);
        }
        through
    }

    /// The disk fails a shard. Of what is lost, the first `leaked` reach the disk all the same.
    pub(crate) fn fail(&mut self, shard: usize, leaked: usize) {
        self.commit(shard, leaked);
        self.handed[shard].clear();
        self.generations[shard] += 1;
    }

    /// The process is gone: what was not committed is lost. Returns what each shard is given back.
    pub(crate) fn crash(&mut self, secret: [u64; 2], torn: bool) -> Vec<Recovered> {
        self.handed = Default::default();
        self.generations = Default::default();
        self.committed.recover(secret, SHARDS as u16, torn)
    }

    /// A shard is gone, and the process is not: what it handed over is committed. Returns what its
    /// next life is given back.
    pub(crate) fn reload(&mut self, shard: usize, secret: [u64; 2]) -> Recovered {
        self.commit(shard, self.waiting(shard));
        self.generations[shard] = 0;
        let parts = self.committed.recover(secret, SHARDS as u16, false);
        parts.into_iter().nth(shard).expect("a part for each shard")
    }

    /// Keys that are stored.
    pub(crate) fn keys(&self) -> usize {
        self.committed.keys()
    }
}

/// What a world asks of its shards where there is a disk.
impl super::world::World {
    /// Commits the next `count` records of a shard, and tells it if it is `told`.
    pub(crate) fn commits(&mut self, shard: usize, count: usize, told: bool) {
        let disk = self.disk.as_mut().expect("a world with a disk");
        if let (Some(through), true) = (disk.commit(shard, count), told) {
            self.shards[shard].written(through, StoreNumbers::default(), self.now);
            self.settle();
        }
    }

    /// Commits all that is handed over, until nothing more comes.
    pub(crate) fn commits_all(&mut self) {
        while let Some(shard) = (0..SHARDS).find(|shard| self.waiting(*shard) > 0) {
            self.commits(shard, self.waiting(shard), true);
        }
    }

    /// The disk fails a shard, though the first `leaked` of its records are written.
    pub(crate) fn fails(&mut self, shard: usize, leaked: usize) {
        self.disk.as_mut().expect("a world with a disk").fail(shard, leaked);
        self.shards[shard].write_failed(StoreNumbers::default(), self.now);
        self.settle();
    }

    /// Records of a shard that are not committed.
    pub(crate) fn waiting(&self, shard: usize) -> usize {
        self.disk.as_ref().expect("a world with a disk").waiting(shard)
    }

    /// Keys that are stored.
    pub(crate) fn stored_keys(&self) -> usize {
        self.disk.as_ref().expect("a world with a disk").keys()
    }

    /// The home of a room or a user.
    pub(crate) fn home_of(&self, name: &str) -> ShardId {
        home(NameHasher::new(self.secret).hash(name), SHARDS as u16)
    }
}
