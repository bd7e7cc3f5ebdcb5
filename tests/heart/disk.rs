//! A store that does what a test says, and a world that is thrown back upon it.
//!
//! Owns the records that shards have handed over and those that are committed, as keys and values
//! in the layout of the real store. Never commits by itself.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use corebeat::base::ids::ShardId;
use corebeat::chat::hash::{NameHasher, home};
use corebeat::chat::record::{Record, Recovered, StoreNumbers, Ticket};
use corebeat::store::codec::{Change, Codec};
use corebeat::store::engine::{Engine, Reach, Syncing};
use corebeat::store::load::load;

use super::world::SHARDS;

/// What shards have handed over, and what is committed.
#[derive(Default)]
pub(crate) struct Disk {
    committed: BTreeMap<Vec<u8>, Vec<u8>>,
    handed: [VecDeque<(Ticket, u32, Record)>; SHARDS],
    generations: [u32; SHARDS],
}

impl Disk {
    /// A shard hands a record over, having heard of `generation` failures.
    pub(crate) fn hand(&mut self, shard: usize, ticket: Ticket, generation: u32, record: Record) {
        if generation == self.generations[shard] {
            self.handed[shard].push_back((ticket, generation, record));
        }
    }

    /// Records of a shard that are not committed.
    pub(crate) fn waiting(&self, shard: usize) -> usize {
        self.handed[shard].len()
    }

    /// Commits the next `count` records of a shard. Returns the last of them.
    pub(crate) fn commit(&mut self, shard: usize, count: usize) -> Option<Ticket> {
        let mut through = None;
        for (ticket, _, record) in self.handed[shard].drain(..count) {
            apply(&mut self.committed, Codec::default().change(&record));
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
        let mut loaded = load(self).expect("what was written can be read");
        loaded.renew_epochs = torn;
        let hasher = NameHasher::new(secret);
        loaded.divide(SHARDS as u16, |name| home(hasher.hash(name), SHARDS as u16))
    }

    /// A shard is gone, and the process is not: what it handed over is committed. Returns what its
    /// next life is given back.
    pub(crate) fn reload(&mut self, shard: usize, secret: [u64; 2]) -> Recovered {
        self.commit(shard, self.waiting(shard));
        self.generations[shard] = 0;
        let loaded = load(self).expect("what was written can be read");
        let hasher = NameHasher::new(secret);
        let parts = loaded.divide(SHARDS as u16, |name| home(hasher.hash(name), SHARDS as u16));
        parts.into_iter().nth(shard).expect("a part for each shard")
    }

    /// Keys that are stored.
    pub(crate) fn keys(&self) -> usize {
        self.committed.len()
    }
}

fn apply(committed: &mut BTreeMap<Vec<u8>, Vec<u8>>, change: Change<'_>) {
    match change {
        Change::Put { key, value } => drop(committed.insert(key.to_vec(), value.to_vec())),
        Change::Strike { key } => drop(committed.remove(key)),
    }
}

impl Engine for Disk {
    fn stage(&mut self, change: Change<'_>) {
        apply(&mut self.committed, change);
    }

    fn commit(&mut self, _reach: Reach) -> io::Result<()> {
        Ok(())
    }

    fn syncing(&self) -> Syncing {
        Box::new(|| Ok(()))
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn get(&mut self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.committed.get(key).cloned())
    }

    fn read(&mut self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        let _ = self.committed.iter().all(|(key, value)| each(key, value));
        Ok(())
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
