//! What one connection saw of one room.
//!
//! Owns the requests to join and leave in the order in which they were sent, and each stretch of
//! messages between a known beginning and an end. Order and repetition are judged at once; whether
//! anything is missing is judged when all is quiet, for a missing message may have been the
//! client's own.

use std::collections::BTreeMap;

/// Something that was told in a stay.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item {
    /// The message of this seq.
    Message(u64),
    /// A message whose seq the dialect does not tell.
    Line(usize),
    /// These messages were not sent.
    Gap(u64, u64),
    /// So many messages were not sent.
    GapOf(u64),
}

/// A stretch of messages that must be whole.
#[derive(Clone, Debug)]
pub(crate) struct Stay {
    /// `None` until it is told.
    pub(crate) epoch: Option<u32>,
    /// The last message before it, where the client was told.
    pub(crate) head: Option<u64>,
    pub(crate) items: Vec<Item>,
    /// The last message in it, where that is known.
    pub(crate) end: Option<u64>,
    /// The round in which the client knew that it had begun.
    pub(crate) known_since: Option<u64>,
}

impl Stay {
    /// The greatest seq that was told, or the head.
    fn latest(&self) -> Option<u64> {
        let last = self.items.iter().rev().find_map(|item| match item {
            Item::Message(seq) => Some(*seq),
            Item::Gap(_, to) => Some(*to),
            Item::Line(_) | Item::GapOf(_) => None,
        });
        last.or(self.head)
    }

    fn push(&mut self, item: Item, epoch: u32, first: u64) {
        assert_eq!(*self.epoch.get_or_insert(epoch), epoch, "the epoch changed within a stay");
        if let Some(latest) = self.latest() {
            assert!(first > latest, "{item:?} came after {latest}");
        }
        self.items.push(item);
    }
}

/// A request to join or to leave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) join: bool,
    pub(crate) notify: bool,
    pub(crate) reference: u32,
    /// Whether it was done, once that is known.
    pub(crate) done: Option<bool>,
}

/// One room as one connection saw it.
#[derive(Debug, Default)]
pub(crate) struct RoomView {
    pub(crate) moves: Vec<Move>,
    pub(crate) stay: Option<Stay>,
    /// The move that began the stay.
    begun_by: usize,
    pub(crate) past: Vec<Stay>,
    /// The last total that presence told in this stay.
    pub(crate) total: Option<u32>,
    /// What presence last told of each user in this stay.
    pub(crate) users: BTreeMap<String, bool>,
}

impl RoomView {
    /// Notes a request; returns its number.
    pub(crate) fn request(&mut self, join: bool, notify: bool, reference: u32) -> usize {
        self.moves.push(Move { join, notify, reference, done: None });
        self.moves.len() - 1
    }

    /// Whether presence was asked for by the last join.
    pub(crate) fn wants_presence(&self) -> bool {
        self.moves.iter().rev().find(|m| m.join).is_some_and(|m| m.notify)
    }

    /// Whether, when all is answered, the client is a member. Refs of 0 leave that open.
    pub(crate) fn is_member(&self) -> Option<bool> {
        let mut member = Some(false);
        for m in &self.moves {
            match m.done {
                Some(true) => member = Some(m.join),
                Some(false) if m.join => {}
                Some(false) => member = Some(false),
                None => member = None,
            }
        }
        member
    }

    /// Whether the client means to be a member.
    pub(crate) fn is_wanted(&self) -> bool {
        self.moves.last().is_some_and(|last| last.join)
    }

    /// A join was answered with the room's head.
    pub(crate) fn joined(&mut self, number: usize, epoch: u32, head: u64, round: u64) {
        self.moves[number].done = Some(true);
        let later = &self.moves[number + 1..];
        assert!(
            !later.iter().any(|m| m.join && m.done == Some(true)),
            "joins were answered out of order"
        );
        if later.iter().any(|m| !m.join && m.done == Some(true)) {
            return;
        }
        // A leave without a ref may have been done before this answer, and says nothing.
        let left_silently = later.iter().any(|m| !m.join && m.reference == 0);
        let left_between = self.moves[self.begun_by..number].iter().any(|m| !m.join);
        if let Some(mut stay) = self.stay.take() {
            if !left_between && !left_silently {
                assert_eq!(
                    *stay.epoch.get_or_insert(epoch),
                    epoch,
                    "the epoch changed within a stay"
                );
                let latest = stay.latest();
                assert!(
                    latest.is_none_or(|latest| latest <= head),
                    "the head {head} is behind {latest:?}"
                );
                stay.end = Some(head);
            }
            self.past.push(stay);
        }
        // It may not have wanted presence until this request.
        (self.total, self.users) = (None, BTreeMap::new());
        self.begun_by = number;
        self.stay = Some(Stay {
            epoch: Some(epoch),
            head: Some(head),
            items: Vec::new(),
            end: None,
            known_since: Some(round),
        });
    }

    /// A leave was answered.
    pub(crate) fn left(&mut self, number: usize) {
        self.moves[number].done = Some(true);
        self.end();
    }

    /// A request was refused.
    pub(crate) fn refused(&mut self, number: usize) {
        self.moves[number].done = Some(false);
    }

    /// The stay is over.
    pub(crate) fn end(&mut self) {
        self.past.extend(self.stay.take());
    }

    /// A stay whose head is not told begins, or goes on.
    pub(crate) fn begin_blind(&mut self, known_since: Option<u64>) {
        if self.stay.is_none() {
            self.stay =
                Some(Stay { epoch: None, head: None, items: Vec::new(), end: None, known_since });
        }
    }

    /// The stay that something told of the room belongs to.
    ///
    /// A join with ref 0 is not answered: what follows it may begin a stay by itself.
    pub(crate) fn current(&mut self) -> &mut Stay {
        if self.stay.is_none() {
            let left = self.moves.iter().rposition(|m| !m.join && m.done == Some(true));
            let open = left.map_or(0, |number| number + 1);
            let is_blind = |m: &Move| m.join && m.reference == 0 && m.done.is_none();
            let blind = self.moves[open..].iter().position(is_blind);
            let blind = blind.unwrap_or_else(|| {
                panic!("something was told of a room outside of every stay: {:?}", self.moves)
            });
            self.begin_blind(None);
            self.begun_by = open + blind;
        }
        self.stay.as_mut().expect("it was just begun")
    }

    /// A message with its place arrived.
    pub(crate) fn message(&mut self, epoch: u32, seq: u64) {
        self.current().push(Item::Message(seq), epoch, seq);
    }

    /// A gap with its places arrived.
    pub(crate) fn gap(&mut self, epoch: u32, from: u64, to: u64) {
        assert!(from <= to, "a gap from {from} to {to}");
        self.current().push(Item::Gap(from, to), epoch, from);
    }

    /// All stays, the present one too.
    pub(crate) fn stays(&self) -> impl Iterator<Item = &Stay> {
        self.past.iter().chain(&self.stay)
    }
}
