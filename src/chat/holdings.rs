//! What a shard holds of what comes and goes.
//!
//! Owns the counts of it, for tests and the simulation: when everybody has left, all of them are
//! zero. Owns the sum that tells a worker whether memory was freed. Never changes what it counts.

use crate::base::ids::ShardId;

use super::shard::Shard;

/// About what a session without a connection takes.
const KEPT_SESSION_BYTES: usize = 256;

impl Shard {
    /// Bytes, about, of what is kept for those who are away: where it is less than it was, memory
    /// was freed although no connection ended.
    pub fn kept_bytes(&self) -> usize {
        self.archive.memory()
            + self.inboxes.memory()
            + self.keeping.table.len() * KEPT_SESSION_BYTES
    }

    /// What the shard holds, for those who check that nothing is left behind.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            sessions: self.sessions.len(),
            rooms: self.rooms.len() - 1,
            home_rooms: self.homes.len() - usize::from(self.everyone_home() == self.id),
            refused_joins: self.homes.refused(),
            users: self.directory.len(),
            inboxes: self.inboxes.len(),
            queued_directs: self.inboxes.queued(),
            direct_bytes: self.inboxes.memory(),
            late_acks: self.late_acks.waiting.len(),
            letters: (0..self.shards).map(|to| self.postbag.waiting_for(ShardId(to))).sum(),
            timers: self.wheel.len(),
            questions: self.questions.len(),
            open_counts: self.lives.unmarked() + usize::from(self.census.is_some()),
            replays: self.catch_ups.len(),
            history_bytes: self.archive.memory(),
            stats_askers: self.gathering.waiting(),
            kept_sessions: self.keeping.table.len(),
            in_grace: self.keeping.table.oldest_in_grace().is_some(),
            away_sessions: self.keeping.table.away() + self.keeping.table.claims(),
            unsettled_sessions: self.keeping.unsettled.len(),
            tellings: self.tellings.len(),
            subscriptions: self.rooms.subscriptions,
            held: self.sessions.held.len(),
            slowed: self.meters.slowed(),
            waits: self.patience.len(),
        }
    }
}

/// How much a shard holds of what comes and goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Connections.
    pub sessions: usize,
    /// Rooms with members here, the room `*` not counted.
    pub rooms: usize,
    /// Rooms whose home is here, the room `*` not counted.
    pub home_rooms: usize,
    /// Joins that this home refused and whose leave has not arrived.
    pub refused_joins: usize,
    /// Sessions of users whose home is here.
    pub users: usize,
    /// Users with direct messages that are kept here.
    pub inboxes: usize,
    /// Direct messages that wait for users, of those.
    pub queued_directs: usize,
    /// Bytes that all direct messages are counted with.
    pub direct_bytes: usize,
    /// Connections whose last acknowledgement has not been sent.
    pub late_acks: usize,
    /// Letters that wait to be posted.
    pub letters: usize,
    /// Entries of the timing wheel, stale ones too.
    pub timers: usize,
    /// Questions that other shards have not answered.
    pub questions: usize,
    /// Marks of this view of the shards' lives that are to come, and the count that waits for them.
    pub open_counts: usize,
    /// Replays that have not come to their end.
    pub replays: usize,
    /// Bytes of memory that histories take.
    pub history_bytes: usize,
    /// Connections that wait, or waited, for the numbers of all shards.
    pub stats_askers: usize,
    /// Sessions without connections.
    pub kept_sessions: usize,
    /// Whether some of them are not told absent yet.
    pub in_grace: bool,
    /// Sessions that were born here and live elsewhere, and claims that wait for some of them.
    pub away_sessions: usize,
    /// Sessions that lost their connections here and wait for answers.
    pub unsettled_sessions: usize,
    /// Users whose coming and going is being told.
    pub tellings: usize,
    /// Memberships of all sessions.
    pub subscriptions: usize,
    /// Connections that are held to be refused.
    pub held: usize,
    /// Connections that are left unread for a while, or were.
    pub slowed: usize,
    /// Frames and readers that are waited for, or were.
    pub waits: usize,
}
