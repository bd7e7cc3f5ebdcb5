//! Replays on their way to the members of this shard.
//!
//! Owns how what was said before gets into a connection's outbox without filling it: a page that
//! does not fit waits, and the next page is asked for only when the last one has gone. A list of
//! those who wait is looked at in each turn, some at a time. Never knows what is kept: the home
//! sends the pages ([`recovery`](super::recovery)).
//!
//! Until its replay has reached the head of the room, a member stands in no place and gets nothing
//! that is live. The page that reaches the head is the seam: whatever its home delivered before that
//! page is in the replay, and what follows it is not.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::base::ids::{ConnId, Position};

use super::batch::Chunk;
use super::session::RoomKey;

/// Which of a shard's replays this is. Pages of one that was given up name it in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round(pub u32);

/// What is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feed {
    /// The messages of a room that the connection is a member of.
    Room(RoomKey),
}

/// A replay that has not reached its end.
#[derive(Debug)]
pub struct CatchUp {
    /// Which one it is.
    pub round: Round,
    /// What it came to: the next page follows this.
    pub after: Position,
    /// The page that is being handed over, and its next message.
    page: Option<(Rc<Chunk>, usize)>,
}

/// All replays of a shard that have not reached their end.
#[derive(Debug, Default)]
pub struct CatchUps {
    replays: BTreeMap<(ConnId, Feed), CatchUp>,
    /// Those that wait for room in an outbox. Those that wait for a page are not in it.
    waiting: VecDeque<(ConnId, Feed, Round)>,
    last_round: Round,
}

impl CatchUps {
    /// Begins a replay, in the place of an earlier one of the same feed. It waits for room.
    pub fn begin(&mut self, conn: ConnId, feed: Feed, after: Position) -> Round {
        self.last_round = Round(self.last_round.0.wrapping_add(1));
        let round = self.last_round;
        self.replays.insert((conn, feed), CatchUp { round, after, page: None });
        self.waiting.push_back((conn, feed, round));
        round
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.replays.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.replays.is_empty()
    }
}
