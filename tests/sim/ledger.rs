//! What was said, and which place each message took.
//!
//! Owns one record for every message that a client ever tried to send, and what all clients
//! together were told of its place. Two clients that disagree are the failure it looks for.

use std::collections::{BTreeMap, BTreeSet};

use corebeat::wire::message::Code;

use super::letters::Letters;
use super::plan::ROOMS;
use super::visit::Wish;

/// A message, by the number that its body begins with.
pub(crate) type MessageId = usize;
/// A connection, as its client counts it.
pub(crate) type VisitId = usize;
/// A place in a room's order: room, epoch, seq.
pub(crate) type Spot = (usize, u32, u64);

/// Whether the server refused a message, and whether it can have been told all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It did not.
    #[default]
    None,
    /// Because something was not to be had: perhaps the disk.
    Unavailable,
    /// It ended in a life in which a failed commit left records on the disk, and perhaps before it
    /// could take this one back. Nobody can know more of a write that failed. Or the worker that
    /// was to do it panicked, before or after.
    Doubtful,
    /// Nobody ever hears it.
    Final,
}

impl Refusal {
    fn of(code: Code) -> Refusal {
        if code == Code::Unavailable { Refusal::Unavailable } else { Refusal::Final }
    }

    /// It is refused, by this code. Whoever was asked may have panicked, and then done it before.
    /// Where the life of the server that refused it is over when this is read, `leaked` tells what
    /// a failed commit of that one did.
    pub(crate) fn refuse(&mut self, code: Code, leaked: Option<bool>) {
        let was_doubtful = *self == Refusal::Doubtful;
        *self = match Refusal::of(code) {
            Refusal::Unavailable if was_doubtful => Refusal::Doubtful,
            refused => refused,
        };
        if let Some(leaked) = leaked {
            self.end_life(leaked);
        }
    }

    /// Whether nobody may hear it.
    pub(crate) fn holds(self) -> bool {
        matches!(self, Refusal::Unavailable | Refusal::Final)
    }

    /// The server's life ended, in which a failed commit left records on the disk or none did.
    pub(crate) fn end_life(&mut self, has_leaked: bool) {
        if *self == Refusal::Unavailable {
            *self = if has_leaked { Refusal::Doubtful } else { Refusal::Final };
        }
    }
}

/// A message that a client tried to send.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) visit: VisitId,
    /// The room, where the client knows it: a text client's lines go to its current room.
    pub(crate) room: Option<usize>,
    pub(crate) echo: bool,
    pub(crate) reference: u32,
    pub(crate) body: Vec<u8>,
    /// The round in which the client said it.
    pub(crate) round: u64,
    pub(crate) refused: Refusal,
    /// Where a receiver saw it.
    pub(crate) spot: Option<Spot>,
    /// The server's time that receivers were told.
    pub(crate) time_ms: u64,
}

/// All that was said.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) messages: Vec<Publication>,
    pub(crate) letters: Letters,
    /// Which message receivers saw at a place.
    pub(crate) seen: BTreeMap<Spot, MessageId>,
    /// Whose request, by visit and ref, was told that it took a place.
    pub(crate) acked: BTreeMap<Spot, (VisitId, u32)>,
    /// The first life of the server in which anybody was told of a place.
    told_in: BTreeMap<Spot, u64>,
    /// Names that a visit had or asked for.
    pub(crate) names: Vec<Vec<String>>,
    /// The first visit of the session that each visit went on with, or asked to.
    pub(crate) authors: Vec<VisitId>,
    /// For each life of the server that is over, whether a failed commit in it left records on the
    /// disk.
    leaks: Vec<bool>,
}

impl Ledger {
    /// Notes a message to be sent, and gives it the body that begins with its number.
    pub(crate) fn publish(
        &mut self,
        (visit, room): (VisitId, Option<usize>),
        (reference, echo): (u32, bool),
        padding: &[u8],
        round: u64,
    ) -> MessageId {
        let id = self.messages.len();
        let mut body = format!("m{id}.").into_bytes();
        body.extend_from_slice(padding);
        self.messages.push(Publication {
            visit,
            room,
            echo,
            reference,
            body,
            round,
            refused: Refusal::None,
            spot: None,
            time_ms: 0,
        });
        id
    }

    /// A native client was handed a message: is it what was said, and where all others saw it?
    pub(crate) fn witness(&mut self, id: MessageId, spot: Spot, from: &str, time_ms: u64) {
        let message = &mut self.messages[id];
        assert!(!message.refused.holds(), "message {id} was refused and yet delivered");
        let told = message.room.is_none_or(|room| room == spot.0);
        assert!(told, "message {id} came in room {}", ROOMS[spot.0]);
        match message.spot {
            None => (message.spot, message.time_ms) = (Some(spot), time_ms),
            Some(known) => {
                assert_eq!(known, spot, "message {id} was seen at two places");
                assert_eq!(message.time_ms, time_ms, "message {id} has two times");
            }
        }
        let other = *self.seen.entry(spot).or_insert(id);
        assert_eq!(other, id, "two messages were seen at {spot:?}");
        if let Some(acked) = self.acked.get(&spot) {
            let author = self.authors[message.visit];
            assert_eq!(*acked, (author, message.reference), "{spot:?} was given away twice");
        }
        self.check_sender(id, from);
    }

    /// Whether a failed commit left records on the disk in that life of the server, if it is over.
    pub(crate) fn has_leaked(&self, life: u64) -> Option<bool> {
        self.leaks.get(life as usize).copied()
    }

    /// Whether what was asked for may have been done or not, and whoever asked knows that.
    pub(crate) fn is_doubtful(&self, wish: &Wish) -> bool {
        match wish {
            Wish::Publish(ids) => {
                ids.iter().any(|id| self.messages[*id].refused == Refusal::Doubtful)
            }
            Wish::Direct(numbers) => {
                numbers.iter().any(|number| self.letters.all[*number].refused == Refusal::Doubtful)
            }
            _ => false,
        }
    }

    /// The server's life ended, in which a failed commit left records on the disk or none did.
    pub(crate) fn end_life(&mut self, has_leaked: bool) {
        self.leaks.push(has_leaked);
        let letters = self.letters.all.iter_mut().map(|letter| &mut letter.refused);
        let messages = self.messages.iter_mut().map(|message| &mut message.refused);
        messages.chain(letters).for_each(|refused| refused.end_life(has_leaked));
    }

    /// Whether `from` is a name of the visit that sent message `id`.
    pub(crate) fn check_sender(&self, id: MessageId, from: &str) {
        let known = self.goes_by(self.messages[id].visit, from);
        assert!(known, "message {id} came from {from:?}");
    }

    /// Whether `name` is one that a visit had or asked for. An empty one asks for any guest's.
    pub(crate) fn goes_by(&self, visit: VisitId, name: &str) -> bool {
        let is_guest = name.starts_with("guest-");
        self.names[visit].iter().any(|known| known == name || known.is_empty() && is_guest)
    }

    /// A publisher was told its message's place.
    pub(crate) fn acknowledge(&mut self, spot: Spot, visit: VisitId, reference: u32) {
        let visit = self.authors[visit];
        let first = *self.acked.entry(spot).or_insert((visit, reference));
        assert_eq!(first, (visit, reference), "two requests were told {spot:?}");
        if let Some(id) = self.seen.get(&spot) {
            let message = &self.messages[*id];
            let seen = (self.authors[message.visit], message.reference);
            assert_eq!(seen, first, "{spot:?} was told to another than its sender");
        }
    }

    /// Somebody who came in the server's life `life` was told of a place.
    pub(crate) fn note_life(&mut self, spot: Spot, life: u64) {
        let first = self.told_in.entry(spot).or_insert(life);
        *first = life.min(*first);
    }

    /// The last place of a room's epoch that anybody was told of up to a life of the server. An
    /// epoch may have ended in a life, and go on in the next one, which has not read of its end.
    pub(crate) fn last_seq_in(&self, room: usize, epoch: u32, life: u64) -> u64 {
        let range = (room, epoch, 0)..=(room, epoch, u64::MAX);
        let mut told = self.told_in.range(range).rev();
        told.find(|(_, first)| **first <= life).map_or(0, |(spot, _)| spot.2)
    }

    /// The last place of a room's epoch that anybody was told of.
    pub(crate) fn last_seq(&self, room: usize, epoch: u32) -> u64 {
        let range = (room, epoch, 0)..=(room, epoch, u64::MAX);
        let seen = self.seen.range(range.clone()).next_back().map_or(0, |(spot, _)| spot.2);
        let acked = self.acked.range(range).next_back().map_or(0, |(spot, _)| spot.2);
        seen.max(acked)
    }

    /// The last place of each epoch of a room that anybody was told of.
    pub(crate) fn heads(&self, room: usize) -> Vec<(u32, u64)> {
        let epochs = self.epochs(room).into_iter();
        epochs.map(|epoch| (epoch, self.last_seq(room, epoch))).collect()
    }

    /// The epochs of a room that anybody was told of.
    pub(crate) fn epochs(&self, room: usize) -> BTreeSet<u32> {
        let all = (room, 0, 0)..(room + 1, 0, 0);
        let seen = self.seen.range(all.clone()).map(|(spot, _)| spot.1);
        seen.chain(self.acked.range(all).map(|(spot, _)| spot.1)).collect()
    }

    /// Whether the message at `spot` is one that its sender, `visit`, does not get: `None` where
    /// nobody knows which message is there.
    pub(crate) fn withheld_from(&self, spot: Spot, visit: VisitId) -> Option<bool> {
        let visit = self.authors[visit];
        if let Some(id) = self.seen.get(&spot) {
            let message = &self.messages[*id];
            return Some(self.authors[message.visit] == visit && !message.echo);
        }
        let (sender, reference) = *self.acked.get(&spot)?;
        let is_it = |m: &Publication| self.authors[m.visit] == sender && m.reference == reference;
        let echo = self.messages.iter().any(|m| is_it(m) && m.echo);
        Some(sender == visit && !echo)
    }

    /// How many messages of `visit` to `room` may have taken places that nobody was told of.
    pub(crate) fn unplaced(&self, visit: VisitId, room: usize) -> usize {
        let visit = self.authors[visit];
        let placed = |message: &Publication| {
            message.spot.is_some()
                || message.reference != 0
                    && message.refused != Refusal::Doubtful
                    && self.acked.values().any(|a| *a == (visit, message.reference))
        };
        self.messages
            .iter()
            .filter(|m| self.authors[m.visit] == visit && !m.echo && !m.refused.holds())
            .filter(|m| m.room.is_none_or(|known| known == room) && !placed(m))
            .count()
    }
}

/// The number that a body begins with: `m` for messages, `d` for direct ones.
pub(crate) fn number_of(body: &[u8], letter: u8) -> Option<usize> {
    let digits = body.strip_prefix(&[letter])?;
    let end = digits.iter().position(|byte| *byte == b'.')?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}
