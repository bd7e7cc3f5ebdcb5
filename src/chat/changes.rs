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
    /// A message left the queue.
    Struck {
        /// Its id.
        id: u64,
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

    /// Notes that a message left the queue.
    pub fn strike(&mut self, id: u64, reason: Strike) {
        self.struck[reason as usize] += 1;
        self.note(|| Change::Struck { id, reason });
    }
}
