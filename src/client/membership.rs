//! How far a room was heard.
//!
//! Owns the places that were handed out, in each epoch of the room that matters, and which of our
//! own messages need not come. Pure. Never sends: [`Core`](super::core::Core) asks for what
//! [`Hearing::Hole`] shows to be missing.

use std::collections::BTreeSet;

use super::event::{GapReason, Place};
use crate::base::ids::{Epoch, Seq};
use crate::base::limits::{CLIENT_EPOCHS_KEPT, CLIENT_OWN_KEPT};

/// What a message is to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// The next one.
    News,
    /// It was handed out before, or is our own.
    Again,
    /// So many before it have not come.
    Hole {
        /// The first place missing.
        from: Seq,
        /// How many are missing.
        count: u64,
    },
}

/// What a JOIN asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Live messages only.
    Live,
    /// What follows this place.
    Place(Place),
    /// All that is kept. The frame names an epoch that no room has, since `since` 0 means live.
    Everything,
}

/// Messages that an answered JOIN shows to be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// In this epoch.
    pub epoch: Epoch,
    /// From here.
    pub from: Seq,
    /// To here, included.
    pub to: Seq,
    /// Why.
    pub reason: GapReason,
}

/// One room that was joined.
#[derive(Debug, Default)]
pub struct Membership {
    /// Whether presence is wanted.
    pub notify: bool,
    /// The last place handed out in each epoch, the one touched last behind.
    places: Vec<Place>,
    /// The epoch of live messages; none before the first JOIN was answered.
    current: Option<Epoch>,
    /// Our own messages beyond what was handed out.
    own: BTreeSet<Place>,
    /// What is missing up to here, in the current epoch, was told already.
    forgiven: Seq,
    /// On this connection, and from this place on, what is missing was asked for.
    asked_again: Option<(u64, Place)>,
    /// The connection on which JOIN was answered last.
    joined_on: Option<u64>,
    /// What was missed of earlier epochs is on its way: nothing of the current one has come yet.
    crosses: bool,
}

impl Membership {
    /// A room to be joined, of which all up to `since` is known.
    pub fn new(notify: bool, since: Option<Place>) -> Membership {
        let current = since.map(|place| place.epoch);
        Membership { notify, places: Vec::from_iter(since), current, ..Membership::default() }
    }

    /// The last place that was handed out in the epoch of live messages.
    pub fn place(&self) -> Option<Place> {
        let current = self.current?;
        self.places.iter().find(|place| place.epoch == current).copied()
    }

    /// Whether anything was heard in `epoch`.
    pub fn knows(&self, epoch: Epoch) -> bool {
        self.places.iter().any(|place| place.epoch == epoch)
    }

    /// A JOIN was answered on `connection`.
    pub fn note_joined(&mut self, connection: u64) {
        self.joined_on = Some(connection);
    }

    /// Whether a JOIN was ever answered.
    pub fn was_joined(&self) -> bool {
        self.joined_on.is_some()
    }

    /// Whether a JOIN was answered on `connection`, so that the server has us in the room.
    pub fn is_joined_on(&self, connection: u64) -> bool {
        self.joined_on == Some(connection)
    }

    /// Whether a message of the past, of `epoch`, can be one that JOIN asked for.
    pub fn awaits(&self, epoch: Epoch) -> bool {
        self.crosses || self.knows(epoch)
    }

    /// What the next JOIN asks for.
    pub fn since(&self) -> Since {
        let Some(place) = self.place() else {
            return Since::Live;
        };
        // An epoch of which nothing was heard yet says nothing; the one before it may.
        let heard = |place: &&Place| place.seq > Seq(0);
        let known = Some(&place).filter(heard).or_else(|| self.places.iter().rev().find(heard));
        known.map_or(Since::Everything, |place| Since::Place(*place))
    }

    /// An epoch that none of the room's is, for [`Since::Everything`].
    pub fn foreign_epoch(&self) -> Epoch {
        let mut number = 1;
        while self.places.iter().any(|place| place.epoch.0 == number) {
            number += 1;
        }
        Epoch(number)
    }

    /// A message came. `replay` says that it is of the past, so that it begins no new epoch.
    pub fn hear(&mut self, place: Place, replay: bool) -> Hearing {
        if self.current.is_none() {
            return Hearing::Again;
        }
        if !replay && self.current != Some(place.epoch) {
            self.current = Some(place.epoch);
            self.forgiven = Seq(0);
        }
        self.crosses &= self.current != Some(place.epoch);
        if self.own.remove(&place) {
            self.pass_own(place);
            return Hearing::Again;
        }
        let index = self.index_of(place.epoch);
        let last = self.places[index].seq;
        if place.seq <= last {
            return Hearing::Again;
        }
        let live = self.current == Some(place.epoch);
        let told = if live { self.forgiven.max(last) } else { last };
        if live && place.seq.0 > told.0 + 1 {
            let between = Place { seq: Seq(told.0 + 1), ..place }..place;
            let own = self.own.range(between.clone()).count() as u64;
            let count = place.seq.0 - told.0 - 1 - own;
            if count > 0 {
                let is_own = |seq| self.own.contains(&Place { seq: Seq(seq), ..place });
                let from = (told.0 + 1..place.seq.0).find(|seq| !is_own(*seq));
                let from = Seq(from.expect("not all that is missing is our own"));
                return Hearing::Hole { from, count };
            }
        }
        self.pass(place);
        Hearing::News
    }

    /// There is a hole. Whether to ask for what is missing: not twice on one connection from the
    /// same place, since a server that did not tell it the first time does not have it.
    pub fn ask_again(&mut self, connection: u64) -> bool {
        let asked = self.place().map(|place| (connection, place));
        let is_first = asked != self.asked_again;
        self.asked_again = asked;
        is_first
    }

    /// All up to `place` was handed out, or is known to be missing.
    pub fn pass(&mut self, place: Place) {
        let index = self.index_of(place.epoch);
        self.places[index].seq = self.places[index].seq.max(place.seq);
        self.advance(index);
    }

    /// Our own message got this place, and will not come.
    pub fn note_own(&mut self, place: Place) {
        self.own.insert(place);
        if self.own.len() > CLIENT_OWN_KEPT {
            self.own.pop_first();
        }
        if self.current == Some(place.epoch) {
            let index = self.index_of(place.epoch);
            self.advance(index);
        }
    }

    /// JOIN was answered with the room's last message. What of it is missing and will not come, if
    /// any is.
    pub fn join(&mut self, asked: Since, head: Place, gap: bool) -> Option<Missing> {
        let before = self.place();
        let begins_anew = before.is_some_and(|before| before.epoch != head.epoch);
        let last = before.filter(|_| !begins_anew).map_or(Seq(0), |place| place.seq);
        self.current = Some(head.epoch);
        self.forgiven = Seq(0);
        self.crosses = begins_anew && asked != Since::Live && head.seq > Seq(0);
        let index = self.index_of(head.epoch);
        let missing = |from: Seq, reason| {
            let told = Missing { epoch: head.epoch, from: Seq(from.0 + 1), to: head.seq, reason };
            Some(told)
        };
        let told = match asked {
            Since::Live => {
                self.places[index].seq = head.seq;
                let behind = (last.0 + 1..=head.seq.0)
                    .any(|seq| !self.own.contains(&Place { seq: Seq(seq), ..head }));
                match before {
                    None => None,
                    Some(_) if begins_anew => missing(Seq(0), GapReason::NewEpoch),
                    Some(_) if behind => missing(last, GapReason::NotKept),
                    Some(_) => None,
                }
            }
            Since::Place(_) | Since::Everything if begins_anew && gap => {
                self.forgiven = head.seq;
                missing(Seq(0), GapReason::NewEpoch)
            }
            // Asking by a foreign epoch always shows a gap. Whether there is one, messages tell.
            Since::Place(_) if gap && head.seq > last => {
                self.forgiven = head.seq;
                missing(last, GapReason::NotKept)
            }
            Since::Place(_) | Since::Everything => None,
        };
        if head.seq < self.places[index].seq {
            self.places[index].seq = head.seq;
        }
        self.advance(index);
        told
    }

    fn pass_own(&mut self, place: Place) {
        let index = self.index_of(place.epoch);
        if place.seq.0 == self.places[index].seq.0 + 1 {
            self.places[index].seq = place.seq;
            self.advance(index);
        } else if place.seq > self.places[index].seq {
            // It stands for itself until what is before it has come.
            self.own.insert(place);
        }
    }

    /// Steps over our own messages, and forgets those that are passed.
    fn advance(&mut self, index: usize) {
        let Place { epoch, mut seq } = self.places[index];
        while self.own.remove(&Place { epoch, seq: Seq(seq.0 + 1) }) {
            seq.0 += 1;
        }
        self.places[index].seq = seq;
        let passed = Place { epoch, seq: Seq(0) }..=Place { epoch, seq };
        while let Some(place) = self.own.range(passed.clone()).next().copied() {
            self.own.remove(&place);
        }
    }

    /// The epoch's place in the table, which now stands behind all others.
    fn index_of(&mut self, epoch: Epoch) -> usize {
        let found = match self.places.iter().position(|place| place.epoch == epoch) {
            Some(index) => self.places.remove(index),
            None => Place { epoch, seq: Seq(0) },
        };
        if self.places.len() == CLIENT_EPOCHS_KEPT {
            let current = self.current;
            let oldest = self.places.iter().position(|place| Some(place.epoch) != current);
            self.places.remove(oldest.expect("one epoch of several is not the current one"));
        }
        self.places.push(found);
        self.places.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u32, seq: u64) -> Place {
        Place { epoch: Epoch(epoch), seq: Seq(seq) }
    }

    fn joined(epoch: u32, seq: u64) -> Membership {
        let mut member = Membership::new(true, None);
        assert_eq!(member.since(), Since::Live);
        assert_eq!(member.join(Since::Live, at(epoch, seq), false), None);
        member
    }

    #[test]
    fn each_message_is_news_once_and_in_order() {
        let mut member = joined(7, 41);
        assert_eq!(member.hear(at(7, 41), false), Hearing::Again);
        assert_eq!(member.hear(at(7, 42), false), Hearing::News);
        assert_eq!(member.hear(at(7, 42), true), Hearing::Again);
        assert_eq!(member.hear(at(7, 45), false), Hearing::Hole { from: Seq(43), count: 2 });
        assert_eq!(member.place(), Some(at(7, 42)), "a hole is not passed over");
        member.pass(at(7, 45));
        assert_eq!(member.hear(at(7, 46), false), Hearing::News);
        assert_eq!(member.since(), Since::Place(at(7, 46)));
    }

    #[test]
    fn our_own_messages_are_no_holes_and_no_news() {
        let mut member = joined(7, 10);
        member.note_own(at(7, 11));
        assert_eq!(member.place(), Some(at(7, 11)));
        member.note_own(at(7, 13));
        assert_eq!(member.hear(at(7, 14), false), Hearing::Hole { from: Seq(12), count: 1 });
        assert_eq!(member.hear(at(7, 13), true), Hearing::Again);
        assert_eq!(member.hear(at(7, 12), true), Hearing::News);
        assert_eq!(member.place(), Some(at(7, 13)), "its own is stepped over");
        assert_eq!(member.hear(at(7, 14), false), Hearing::News);
    }

    #[test]
    fn what_is_no_longer_kept_is_told_once() {
        let mut member = joined(7, 10);
        let asked = member.since();
        let missing = member.join(asked, at(7, 20), true).unwrap();
        assert_eq!((missing.from, missing.to), (Seq(11), Seq(20)));
        assert_eq!(missing.reason, GapReason::NotKept);
        assert_eq!(member.hear(at(7, 18), true), Hearing::News, "the hole before it was told");
        assert_eq!(member.hear(at(7, 19), true), Hearing::News);
        assert_eq!(member.hear(at(7, 20), true), Hearing::News);
        assert_eq!(member.hear(at(7, 22), false), Hearing::Hole { from: Seq(21), count: 1 });
    }

    #[test]
    fn a_room_that_began_anew_replays_what_it_has_of_every_epoch() {
        let mut member = joined(7, 10);
        let asked = member.since();
        // The old epoch is kept as an older part of the history: nothing is missing.
        assert_eq!(member.join(asked, at(9, 2), false), None);
        assert_eq!(member.since(), Since::Place(at(7, 10)), "nothing of the new one was heard");
        assert_eq!(member.hear(at(7, 10), true), Hearing::Again);
        assert_eq!(member.hear(at(7, 11), true), Hearing::News);
        assert_eq!(member.hear(at(8, 1), true), Hearing::News, "an epoch between them");
        assert_eq!(member.since(), Since::Place(at(8, 1)));
        assert_eq!(member.hear(at(9, 1), true), Hearing::News);
        assert_eq!(member.since(), Since::Place(at(9, 1)));
        // A second replay of the same overlaps and adds nothing.
        for again in [at(7, 11), at(8, 1), at(9, 1)] {
            assert_eq!(member.hear(again, true), Hearing::Again);
        }
        assert_eq!(member.hear(at(9, 2), true), Hearing::News);
    }

    #[test]
    fn a_new_epoch_whose_past_is_gone_says_so() {
        let mut member = joined(7, 10);
        let asked = member.since();
        let missing = member.join(asked, at(9, 5), true).unwrap();
        assert_eq!((missing.from, missing.to), (Seq(1), Seq(5)));
        assert_eq!(missing.reason, GapReason::NewEpoch);
        assert_eq!(member.hear(at(9, 4), true), Hearing::News);
        // Without any history the room is entered live.
        let mut member = joined(7, 10);
        let missing = member.join(Since::Live, at(9, 5), false).unwrap();
        assert_eq!(missing.reason, GapReason::NewEpoch);
        assert_eq!(member.hear(at(9, 6), false), Hearing::News);
    }

    #[test]
    fn an_empty_room_is_asked_for_everything_by_an_epoch_that_it_does_not_have() {
        let mut member = joined(1, 0);
        assert_eq!(member.since(), Since::Everything);
        assert_eq!(member.foreign_epoch(), Epoch(2));
        assert_eq!(member.join(Since::Everything, at(1, 3), true), None, "no false alarm");
        assert_eq!(member.hear(at(1, 1), true), Hearing::News);
    }

    #[test]
    fn live_messages_of_another_epoch_are_news() {
        let mut member = joined(7, 10);
        assert_eq!(member.hear(at(8, 1), false), Hearing::News);
        assert_eq!(member.place(), Some(at(8, 1)));
        assert_eq!(member.hear(at(7, 11), true), Hearing::News, "late, of the old one");
        assert_eq!(member.place(), Some(at(8, 1)));
    }

    #[test]
    #[cfg_attr(miri, ignore = "it fills the tables, and takes hours")]
    fn tables_stay_small() {
        let mut member = joined(1, 0);
        for epoch in 2..100 {
            assert_eq!(member.hear(at(epoch, 1), false), Hearing::News);
        }
        assert_eq!(member.places.len(), CLIENT_EPOCHS_KEPT);
        for seq in 3..10_000 {
            member.note_own(at(99, seq));
        }
        assert_eq!(member.own.len(), CLIENT_OWN_KEPT);
    }
}
