//! What is to be written to the disk, and what is read from it at the start.
//!
//! Owns the words between the heart and the store: [`Record`], the numbers by which the heart knows
//! what has been written ([`Ticket`]) and by which a record is struck again ([`RecordId`]), and
//! [`Recovered`]. Never writes: the heart makes records ([`journal`](super::journal)), the store
//! keeps them.

use std::sync::Arc;

use serde::Serialize;

use crate::base::ids::{Epoch, Seq};
use crate::base::name::Name;

use super::batch::{Batch, Frames};
use super::direct::Direct;
use super::reader::Missing;

/// When the answer to a request may be given whose outcome must outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// At once. The last messages before a crash of the process may be lost, and then every room
    /// begins a new epoch.
    None,
    /// When the operating system has it: a crash of the process loses nothing, one of the machine
    /// may lose the last messages.
    Batch,
    /// When the disk has it.
    Sync,
}

impl Durability {
    /// Its name, as operators write it.
    pub fn name(self) -> &'static str {
        match self {
            Durability::None => "none",
            Durability::Batch => "batch",
            Durability::Sync => "sync",
        }
    }
}

/// A record's number in the order in which one shard handed its records to the store, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// By which a record is found again. Numbers of one shard grow, also across restarts: of two
/// records of a room, the later one has the higher number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId(pub u64);

impl RecordId {
    /// The one behind it.
    pub fn next(self) -> RecordId {
        RecordId(self.0 + 1)
    }
}

/// Something to be kept, or to be kept no longer. To do it twice is to do it once.
#[derive(Clone, Debug)]
pub enum Record {
    /// Messages of a room.
    Messages {
        /// By which they are struck.
        id: RecordId,
        /// The messages; never none.
        batch: Arc<Batch>,
    },
    /// Messages of a room are kept no longer.
    StrikeMessages {
        /// The room.
        room: Name,
        /// The record that held them.
        id: RecordId,
    },
    /// The last place that a room has given, where no message says it. Replaces the room's earlier
    /// one.
    Head {
        /// The room.
        room: Name,
        /// Orders it among the room's records.
        id: RecordId,
        /// The epoch.
        epoch: Epoch,
        /// The last message's place; 0 before the first.
        seq: Seq,
    },
    /// A room is forgotten, once the records of its messages are struck.
    StrikeHead {
        /// The room.
        room: Name,
    },
    /// A message waits for a user.
    Direct {
        /// The user.
        user: Name,
        /// The message.
        direct: Direct,
    },
    /// A message waits for its user no longer.
    StrikeDirect {
        /// The user.
        user: Name,
        /// The message's number.
        id: u64,
    },
    /// What is to be told of messages that were dropped before their user came. Replaces what was
    /// to be told before.
    Missing {
        /// The user.
        user: Name,
        /// What is missing; none once it was told.
        missing: Option<Missing>,
    },
}

impl Record {
    /// About how many bytes it takes in the store.
    pub fn bytes(&self) -> usize {
        /// Keys, lengths and numbers.
        const FIXED: usize = 32;
        FIXED
            + match self {
                Record::Messages { batch, .. } => batch.room.len() + batch.frames.bytes().len(),
                Record::Direct { user, direct } => user.len() + direct.frame().len(),
                Record::StrikeMessages { room: name, .. }
                | Record::Head { room: name, .. }
                | Record::StrikeHead { room: name }
                | Record::StrikeDirect { user: name, .. }
                | Record::Missing { user: name, .. } => name.len(),
            }
    }
}

/// What a shard is given back at its start.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The rooms whose home it is.
    pub rooms: Vec<RecoveredRoom>,
    /// The users whose home it is.
    pub users: Vec<RecoveredUser>,
    /// No record that was read, for whatever shard, has a number so high.
    pub next_record: RecordId,
    /// No direct message ever had a number so high.
    pub next_direct: u64,
    /// What was told last may be missing: every room begins a new epoch.
    pub renew_epochs: bool,
}

/// A room as it was kept.
#[derive(Debug)]
pub struct RecoveredRoom {
    /// Its name.
    pub name: Name,
    /// The epoch of the last message.
    pub epoch: Epoch,
    /// The last message's place.
    pub seq: Seq,
    /// Its messages, the oldest record first.
    pub messages: Vec<RecoveredMessages>,
    /// Whether the last place is known by a record of its own.
    pub has_head: bool,
}

/// A record of messages as it was kept.
#[derive(Debug)]
pub struct RecoveredMessages {
    /// By which they are struck.
    pub id: RecordId,
    /// Their epoch.
    pub epoch: Epoch,
    /// The first one's place; the others follow without a gap.
    pub first: Seq,
    /// The messages, each a MESSAGE frame without checksum; never none.
    pub frames: Frames,
}

/// A user for whom messages wait.
#[derive(Debug)]
pub struct RecoveredUser {
    /// The name.
    pub name: Name,
    /// The messages, in the order of their numbers.
    pub directs: Vec<Direct>,
    /// What is missing and is to be told.
    pub missing: Option<Missing>,
}

/// What the store has done since its start, as it tells it with each watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoreNumbers {
    /// Groups of records written.
    pub commits: u64,
    /// Records written.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Groups that could not be written.
    pub failed_commits: u64,
    /// Times that the disk was waited for.
    pub syncs: u64,
    /// Time that the commits took, in microseconds.
    pub commit_us: u64,
    /// The longest commit, in microseconds.
    pub longest_commit_us: u64,
}
