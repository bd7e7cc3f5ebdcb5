//! What changed in a user's queue of direct messages.
//!
//! Owns the list of changes of one operation, from which a store keeps its copy of the queue. Never
//! writes: the [`inbox`](super::inbox) notes, and whoever holds the list takes it out.

use super::direct::Direct;
use super::reader::Missing;

/// Why a message left the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// It was acknowledged.
    Acked,
    /// Later ones took its room.
    Dropped,
    /// It was too old.
    Expired,
    /// It could not be written, and its sender was told so.
    Unwritten,
}

/// What changed in a queue, for those who keep a copy of it.
#[derive(Clone, Debug)]
pub enum Change {
    /// A message joined the queue. Mostly the last one, but what a session failed to take joins
    /// between earlier ones; ids give the order.
    Queued(Direct),
    /// All queued messages from one id to another are gone, both included.
    Struck {
        /// The id of the first one.
        from: u64,
        /// The id of the last one.
        to: u64,
        /// Why.
        reason: Strike,
    },
    /// What the user is to be told to be missing.
    Missing(Option<Missing>),
}

/// The changes of one operation, gathered where somebody keeps a copy and counted everywhere.
#[derive(Debug, Default)]
pub struct Changes {
    /// Whether they are gathered.
    pub gathers: bool,
    /// They, in their order.
    pub list: Vec<Change>,
    /// Messages that left a queue, by [`Strike`].
    pub struck: [u64; 4],
}

impl Changes {
    /// Notes a change where changes are gathered.
    pub fn note(&mut self, change: impl FnOnce() -> Change) {
        if self.gathers {
            self.list.push(change());
        }
    }

    /// Notes that `count` messages, all that were queued from one id to another, are gone.
    pub fn strike(&mut self, from: u64, to: u64, count: u64, reason: Strike) {
        self.struck[reason as usize] += count;
        self.note(|| Change::Struck { from, to, reason });
    }
}
