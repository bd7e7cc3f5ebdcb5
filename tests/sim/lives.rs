//! How the server ends, and begins anew on what is committed.
//!
//! Owns what an end takes away: connections, letters, shards, and whatever the store had not
//! committed. When the server ends is planned; what must outlive it is judged by the oracle.

use super::mailroom::Mailroom;
use super::store::End;
use super::worker::{Worker, secret};
use super::world::World;

impl World {
    /// How the server ends in this round, if it does.
    pub(super) fn end_due(&self) -> Option<End> {
        let ends = &self.plan.store.as_ref()?.ends;
        let due = ends.iter().find(|(round, _)| *round == self.round);
        due.filter(|_| !self.draining).map(|(_, end)| *end)
    }

    /// The server ends: while much is under way, or after a calm, or shortly after one.
    pub(super) fn end_life(&mut self, end: End) {
        if self.dice.chance(500) {
            self.rest_in_storm();
        }
        self.crash(end);
    }

    /// The server's process is gone at this instant, and another one begins on what is committed.
    pub(super) fn crash(&mut self, end: End) {
        let Some(store) = self.store.as_mut() else { return };
        self.life += 1;
        self.lives.fill(0);
        let secret = secret(&self.plan, self.life);
        let has_leaked = std::mem::take(&mut store.has_leaked);
        let (parts, is_torn) = store.end(end, secret, &mut self.dice);
        self.network.server_crashes(self.now.mono, &mut self.dice);
        self.mailroom = Mailroom::new(&self.plan);
        self.now = self.now.plus_ms(self.dice.number(1..=3_000));
        for (part, id) in parts.into_iter().zip(0..) {
            let mut worker = Worker::new(&self.plan, id, self.life, self.now);
            worker.shard.recover(part, self.now);
            worker.was_starved = self.workers[usize::from(id)].was_starved;
            let former = std::mem::replace(&mut self.workers[usize::from(id)], worker);
            self.past.add(former.shard.counters());
        }
        self.ledger.end_life(has_leaked);
        self.ledger.letters.end_life(self.life, is_torn);
    }
}
