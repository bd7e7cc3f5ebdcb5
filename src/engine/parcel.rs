//! What threads of the engine tell each other.
//!
//! Owns the words between the workers, and between them and the steward. Never carries a
//! descriptor: file tables are private, and only a [hatch](crate::net::hatch) leads between them.

use std::sync::Arc;

use super::close_journal::CloseQuery;
use super::close_log::CloseTally;
use super::close_watch::CloseAnswer;
use crate::base::counters::Counters;
use crate::base::ids::ShardId;
use crate::chat::drain::DrainPlan;
use crate::chat::mail::Mail;
use crate::chat::record::StoreNumbers;
use crate::store::keeper::Outcome;

/// What lies in a worker's mailbox.
#[derive(Debug)]
pub enum Parcel {
    /// From another shard to this one.
    Mail {
        /// The shard that wrote it.
        from: ShardId,
        /// What it wrote.
        mail: Mail,
    },
    /// From the store to the shard.
    Stored {
        /// What became of the records that the shard handed over.
        outcome: Outcome,
        /// What the store has done.
        numbers: StoreNumbers,
    },
    /// From the store, whose thread has panicked: it will tell nothing more.
    StoreLost,
    /// From the steward to the worker.
    Command(Command),
}

/// What the steward wants of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Accept connections, and say so at `/readyz`.
    OpenDoor,
    /// Say at `/readyz` that clients had better go elsewhere; serve on.
    BeUnready,
    /// Accept no more. Answered by [`News::DoorShut`].
    ShutDoor(Waiting),
    /// Send every connection on, and tell when none is left. Answered by [`News::Emptied`].
    Drain(Arc<DrainPlan>),
    /// Tell by [`News::Closed`] whose connections end from here on, and have ended since you last
    /// told.
    TellOfCloses,
    /// Tell of these connections that ended. Answered by [`News::FoundCloses`].
    FindCloses(Arc<CloseQuery>),
    /// Tell your numbers. Answered by [`News::Counted`].
    Count,
    /// Panic: a drill, of which a shipped server knows nothing.
    #[cfg(debug_assertions)]
    Panic,
    /// Have the store's thread panic: the same.
    #[cfg(debug_assertions)]
    PanicStore,
    /// Leave the loop, whatever is left.
    Stop,
}

/// What becomes of those who wait before a door that is shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// They are taken in first: the kernel resets whoever is left.
    TakenIn,
    /// Another process has the same listeners and takes them in.
    Left,
}

/// What lies in the steward's mailbox.
#[derive(Debug)]
pub struct Report {
    /// The worker that writes.
    pub worker: ShardId,
    /// What it has to say.
    pub news: News,
}

/// What a worker tells the steward.
#[derive(Debug)]
pub enum News {
    /// It turns.
    Started {
        /// Whether it stays on its core.
        pinned: bool,
    },
    /// It accepts no more.
    DoorShut {
        /// The connections that it holds.
        connections: usize,
    },
    /// It drains and holds no connection any more. It goes on serving mail until it is stopped,
    /// because other workers' connections may be in rooms whose home it is.
    Emptied,
    /// Its numbers up to now.
    Counted(Box<Counters>),
    /// Connections that ended. Told unasked once, and then once for each
    /// [`Command::TellOfCloses`].
    Closed(CloseTally),
    /// What it knows of connections that ended.
    FoundCloses(CloseAnswer),
    /// Its thread is about to end: joining it does not take long.
    Gone,
}

/// The most reports of one worker that can wait for the steward: each kind once.
///
/// Two of a kind never wait: the steward asks again only after an answer.
pub const REPORTS_PER_WORKER: usize = 7;
