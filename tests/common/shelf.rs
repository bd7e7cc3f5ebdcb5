//! What is committed of a store that lives in memory, in the keys and values of the real one.
//!
//! Owns the entries and the counts that the real store writes with every commit. Never decides what
//! is committed, and when: the worlds of `tests/heart` and `tests/sim` do.

use std::collections::BTreeMap;
use std::io;

use corebeat::chat::hash::{NameHasher, home};
use corebeat::chat::record::{Record, Recovered};
use corebeat::store::codec::{COUNTS_KEY, Change, Codec, Counts};
use corebeat::store::engine::{Engine, Reach, Syncing};
use corebeat::store::load::load;

/// What is committed.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    counts: Counts,
}

impl Shelf {
    /// Commits one record.
    pub(crate) fn commit_record(&mut self, record: &Record) {
        if let Record::Direct { direct, .. } = record {
            self.counts.next_direct = self.counts.next_direct.max(direct.id() + 1);
        }
        self.stage(Codec::default().change(record));
        self.counts.commits += 1;
        let counts = self.counts.encode();
        self.stage(Change::Put { key: &COUNTS_KEY, value: &counts });
    }

    /// What a process that starts now gives back to each of its shards. Where the end of the last
    /// one is `torn`, something that was told may be missing.
    pub(crate) fn recover(&mut self, secret: [u64; 2], shards: u16, torn: bool) -> Vec<Recovered> {
        let mut loaded = load(self).expect("what was written can be read");
        loaded.renew_epochs = torn;
        let hasher = NameHasher::new(secret);
        loaded.divide(shards, |name| home(hasher.hash(name), shards))
    }

    /// Keys that are stored, but for that of the counts.
    pub(crate) fn keys(&self) -> usize {
        self.entries.keys().filter(|key| **key != COUNTS_KEY).count()
    }
}

impl Engine for Shelf {
    fn stage(&mut self, change: Change<'_>) {
        match change {
            Change::Put { key, value } => drop(self.entries.insert(key.to_vec(), value.to_vec())),
            Change::Strike { key } => drop(self.entries.remove(key)),
        }
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
        Ok(self.entries.get(key).cloned())
    }

    fn read(&mut self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        let _ = self.entries.iter().all(|(key, value)| each(key, value));
        Ok(())
    }
}
