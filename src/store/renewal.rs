//! The rooms that have to begin other epochs, until that is written.
//!
//! Owns their names. After a run of which something may be missing no room may go on counting where
//! it was, and the shards begin other epochs as they take back what is stored. Until the last of
//! these is on the disk the next run must not trust what it finds either, so the mark of the last
//! run stays as it is. Never begins an epoch: the shards do. The [`keeper`](super::keeper) calls.

use std::collections::BTreeSet;

use crate::base::name::Name;
use crate::chat::record::Record;

/// Rooms whose other epochs are not written yet.
#[derive(Debug, Default)]
pub struct Renewal {
    awaited: BTreeSet<Name>,
    /// Those whose epochs are in the group.
    staged: Vec<Name>,
}

impl Renewal {
    /// All of these are to begin other epochs.
    pub fn of(rooms: impl Iterator<Item = Name>) -> Renewal {
        Renewal { awaited: rooms.collect(), staged: Vec::new() }
    }

    /// Whether all have begun them, and that is written.
    pub fn is_over(&self) -> bool {
        self.awaited.is_empty()
    }

    /// A record is in the group.
    pub fn note_staged(&mut self, record: &Record) {
        if let Record::Head { room, .. } = record
            && self.awaited.contains(room)
        {
            self.staged.push(room.clone());
        }
    }

    /// The group is written. Returns whether that was the last one that was awaited.
    pub fn note_written(&mut self) -> bool {
        let was_over = self.is_over();
        for room in self.staged.drain(..) {
            self.awaited.remove(&room);
        }
        !was_over && self.is_over()
    }

    /// The group is lost.
    pub fn note_failed(&mut self) {
        self.staged.clear();
    }
}
