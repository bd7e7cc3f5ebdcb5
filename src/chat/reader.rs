//! How far one session has come in its user's direct messages.
//!
//! Owns what the user's home knows of a session: what it was told, what it acknowledged, and what
//! it is still to be told. Never keeps a message: the user's [`inbox`](super::inbox) does, and is
//! the only caller.

use crate::base::ids::{Address, SessionId};
use crate::base::time::Mono;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is being told what is kept, page by page; live messages wait behind.
    CatchingUp,
    /// It was told all, and is told what comes.
    Live,
    /// It ended in order, and its shard is still to say which messages came too late for it.
    Leaving,
    /// It broke, and may be resumed. It is remembered until then at most.
    Kept(Mono),
}

/// What a session that comes online was told of direct messages before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coming {
    /// Nothing: it begins.
    New,
    /// It was there on another connection, of whose end the home may not know yet, and so many of
    /// the bytes on their way to that one may not have arrived.
    Resumed {
        /// Bytes.
        undelivered: u32,
    },
    /// It is where it was, and the home has begun anew: all up to this one, or nothing.
    Again {
        /// The last message.
        last: u64,
    },
}

/// Messages that are no longer kept and were not told, or may not have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The id of the first one.
    pub from: u64,
    /// The id of the last one.
    pub to: u64,
    /// How many there are at most. Ids of one user have holes.
    pub count: u64,
}

impl Missing {
    /// Adds the message `id` to what is missing.
    pub fn note(missing: &mut Option<Missing>, id: u64) {
        let known = missing.get_or_insert(Missing { from: id, to: id, count: 0 });
        known.from = known.from.min(id);
        known.to = known.to.max(id);
        known.count += 1;
    }

    /// What is missing in all, with what was missing before.
    pub fn with(self, before: Option<Missing>) -> Missing {
        let first = before.unwrap_or(Missing { count: 0, ..self });
        let (from, to) = (first.from.min(self.from), first.to.max(self.to));
        Missing { from, to, count: first.count + self.count }
    }
}

/// One of a user's sessions.
#[derive(Debug)]
pub struct Reader {
    /// Which session it is, whatever its connection.
    pub identity: SessionId,
    /// Its connection, or the last one that it had.
    pub session: Address,
    /// Where it stands.
    pub standing: Standing,
    /// What is missing for it alone.
    pub missing: Option<Missing>,
    /// It cannot be resumed when its connection ends.
    pub is_over: bool,
    /// It was told what is missing in the user's queue. What is dropped from there later, before it
    /// comes to it, is missing for it alone.
    pub heard_missing: bool,
    /// It was told all that is written, and the next message is not: the home owes it a page.
    pub awaits_write: bool,
    /// Messages told live to others up to this id are none of its business.
    pub began: u64,
    /// The last message when it said hello. What others had taken of those before is none of its
    /// business either.
    pub greeted: u64,
    /// It acknowledged all that it was told up to this id.
    pub acked: u64,
    /// While it catches up: it was told all up to this id.
    pub cursor: u64,
    /// By the end of its last connection it had been told all up to this id.
    pub told_before: u64,
    /// What it was told live up to this id, and did not acknowledge, is no longer kept.
    pub forgotten: u64,
}

impl Reader {
    /// A session that is told what comes behind the message `began`, and of those up to `greeted`
    /// what nobody has taken.
    pub fn new(
        identity: SessionId,
        session: Address,
        standing: Standing,
        (began, greeted): (u64, u64),
    ) -> Reader {
        debug_assert!(began <= greeted, "nobody is greeted before it is there");
        Reader {
            identity,
            session,
            standing,
            missing: None,
            is_over: false,
            heard_missing: false,
            awaits_write: false,
            began,
            greeted,
            acked: 0,
            cursor: 0,
            told_before: 0,
            forgotten: 0,
        }
    }

    /// Whether it has a connection.
    pub fn is_active(&self) -> bool {
        matches!(self.standing, Standing::CatchingUp | Standing::Live)
    }

    /// Whether a message that was told live is its, and not acknowledged.
    pub fn needs(&self, id: u64) -> bool {
        self.done() < id
    }

    /// Whether a message that was told live, and was perhaps `taken` since, is to be told to it.
    pub fn is_owed(&self, id: u64, taken: bool) -> bool {
        self.needs(id) && (!taken || self.greeted < id)
    }

    /// Messages told live up to this id are none of its business, or acknowledged.
    pub fn done(&self) -> u64 {
        self.began.max(self.acked)
    }

    /// Whether a message that was told live is or was its, and it has not broken since.
    pub fn holds(&self, id: u64) -> bool {
        let may_have_it = match self.standing {
            Standing::CatchingUp | Standing::Live => true,
            Standing::Leaving => id <= self.told_before,
            Standing::Kept(_) => false,
        };
        self.began < id && may_have_it
    }

    /// Whether the pages are beyond the message `id`.
    pub fn is_beyond(&self, id: u64) -> bool {
        self.standing != Standing::CatchingUp || id <= self.cursor
    }

    /// The last message that an ACK of it can mean, where `head` is the user's last one.
    pub fn reach(&self, head: u64) -> u64 {
        match self.standing {
            Standing::CatchingUp => self.cursor.max(self.told_before),
            _ => head,
        }
    }
}
