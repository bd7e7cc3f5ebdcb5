//! A worker and the store.
//!
//! Owns the worker's end of it: the records of a turn go into the store's channel, and outcomes
//! come back by the mailbox. Never waits, but when the loop is left.

use std::io;

use crossbeam_channel::bounded;
use log::error;

use super::worker::Worker;
use crate::base::ids::ShardId;
use crate::chat::config::ShardConfig;
use crate::chat::hash::{self, NameHasher};
use crate::chat::record::{Recovered, StoreNumbers};
use crate::chat::shard::Shard;
use crate::store::intake::{Refused, Submitter};
use crate::store::keeper::{Errand, Outcome, Reload, Submission};

impl Worker {
    /// Takes back what was kept of the shard.
    pub fn recover(&mut self, recovered: Recovered) {
        self.shard.recover(recovered, self.now);
    }

    /// What became of records that were handed over.
    pub(super) fn hear_store(&mut self, outcome: Outcome, numbers: StoreNumbers) {
        match outcome {
            Outcome::Written(through) => self.shard.written(through, numbers, self.now),
            Outcome::Failed => self.shard.write_failed(numbers, self.now),
        }
    }

    /// Phase: hands what is to be kept to the store, all of the turn at once. What finds no room is
    /// kept as it is, and goes ahead of later records.
    pub(super) fn hand_over_records(&mut self) {
        let mut next = self.next_submission();
        while let Some(submission) = next.take() {
            let Some(store) = &self.seat.store else { return };
            match store.submit(Errand::Write(submission)) {
                Ok(()) => next = self.next_submission(),
                Err(Refused::Full(Errand::Write(submission))) => {
                    self.refused_records = Some(submission);
                }
                Err(Refused::Full(_)) => unreachable!("what is refused is what was submitted"),
                Err(Refused::Closed) => self.lose_store(),
            }
        }
    }

    /// The store is gone, and with it the answers to all that it was handed.
    pub(super) fn lose_store(&mut self) {
        if self.seat.store.take().is_some() {
            error!("worker {}: the store is gone", self.id);
            self.store_is_lost = true;
            self.shard.store_gone(self.now);
        }
    }

    /// The loop is left, nobody is served any more, and what is left may wait for the store.
    pub(super) fn hand_over_the_rest(&mut self) {
        let Some(store) = self.seat.store.take() else { return };
        let mut left = self.next_submission();
        while let Some(submission) = left.take() {
            match store.submit(Errand::Write(submission)) {
                Ok(()) => left = self.next_submission(),
                Err(Refused::Full(errand)) => {
                    store.wait_until_taken();
                    if let Errand::Write(submission) = errand {
                        left = Some(submission);
                    }
                }
                Err(Refused::Closed) => {}
            }
        }
    }

    /// What found no room, or else the records that came since. After a failure the shard has taken
    /// back what it had handed out, and the store would drop it.
    fn next_submission(&mut self) -> Option<Submission> {
        let generation = self.shard.store_generation();
        let refused = self.refused_records.take();
        refused
            .filter(|submission| submission.generation == generation)
            .or_else(|| submission(self.id, &mut self.shard))
    }
}

/// What the store has of a shard that begins anew. Waits for it: nobody is served meanwhile.
///
/// # Errors
/// What keeps the store from reading it, or that it is gone.
pub(super) fn reload(store: &Submitter<Errand>, config: &ShardConfig) -> io::Result<Recovered> {
    let (tell, told) = bounded(1);
    let (hasher, shards) = (NameHasher::new(config.secret), config.shards);
    let home = Box::new(move |name: &str| hash::home(hasher.hash(name), shards));
    let mut errand = Errand::Reload(Reload { shard: config.shard, home, tell });
    let gone = || io::Error::other("the store has ended");
    loop {
        match store.submit(errand) {
            Ok(()) => return told.recv().map_err(|_| gone())?,
            Err(Refused::Full(back)) => {
                store.wait_until_taken();
                errand = back;
            }
            Err(Refused::Closed) => return Err(gone()),
        }
    }
}

#[cfg(debug_assertions)]
impl Worker {
    /// A drill: the store's thread panics.
    pub(super) fn have_store_panic(&mut self) {
        if let Some(store) = &self.seat.store {
            let _ = store.submit(Errand::Panic);
        }
    }
}

/// The records of a turn; none where there are none.
fn submission(id: ShardId, shard: &mut Shard) -> Option<Submission> {
    let (first, record) = shard.poll_write()?;
    let mut records = vec![record];
    while let Some((_, record)) = shard.poll_write() {
        records.push(record);
    }
    Some(Submission { shard: id, generation: shard.store_generation(), first, records })
}
