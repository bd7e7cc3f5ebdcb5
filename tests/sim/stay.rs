//! What one connection saw of one room.
//!
//! Owns the requests to join and leave in the order in which they were sent, and each stretch of
//! messages between a known beginning and an end. Order and repetition are judged at once; whether
//! anything is missing is judged when all is quiet, for a missing message may have been the
//! client's own.

use std::collections::BTreeMap;

use super::panics::HomePanics;

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
    /// What it began with, if it asked for what had been said.
    pub(crate) recall: Option<Recall>,
    /// What is told live from here on is beyond this.
    floor: u64,
    /// It goes on where an earlier connection of the session was.
    pub(crate) resumed: Option<Resumed>,
    /// The room began another epoch in it: it holds all of its own up to the end.
    pub(crate) is_outlived: bool,
    /// Its room's home panicked, and what was said behind that is replayed.
    rejoins: bool,
    /// Its replay was in an earlier epoch when the room's home forgot all of them: nobody can tell
    /// from outside which epoch is which.
    pub(crate) is_unclear: bool,
}

/// Where a session was when it lost its connection, as far as its client knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resumed {
    /// The last message that it was told, or the head.
    latest: Option<(u32, u64)>,
    /// The last one that came once more.
    repeated: u64,
    /// Something was told live, so the replay is over.
    live: bool,
}

/// The past that a stay began with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recall {
    /// The last message when the home let the client in: up to there, its own are told too.
    pub(crate) head: u64,
    /// The last place that is gone for certain, where the client was told of a gap.
    gone: Option<u64>,
    /// Where the room is no longer in the epoch that was asked for: what came last of those that
    /// are kept of earlier ones.
    earlier: Option<Option<(u32, u64)>>,
    /// What came first of that epoch.
    earlier_from: u64,
    /// Something was told live, so the replay is over.
    live: bool,
}

/// What a join asks for of the past.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    /// 0 is the present one.
    pub(crate) epoch: u32,
    pub(crate) seq: u64,
}

/// The answer to a join.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) epoch: u32,
    pub(crate) head: u64,
    pub(crate) gap: bool,
    pub(crate) round: u64,
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

    /// A stay that an answer began.
    fn told(told: Told, since: Option<Since>) -> Stay {
        let Told { epoch, head, gap, round } = told;
        let mut stay = Stay {
            epoch: Some(epoch),
            head: Some(head),
            items: Vec::new(),
            end: None,
            known_since: Some(round),
            recall: None,
            floor: 0,
            resumed: None,
            is_outlived: false,
            rejoins: false,
            is_unclear: false,
        };
        let Some(since) = since else {
            assert!(!gap, "nothing was asked for of the past");
            return stay;
        };
        let comparable = since.epoch == 0 || since.epoch == epoch;
        let gone = (gap && comparable && since.seq <= head).then_some(since.seq + 1);
        let earlier = (!comparable).then_some(None);
        stay.recall = Some(Recall { head, gone, earlier, earlier_from: 0, live: false });
        if gap {
            stay.head = (comparable && since.seq > head).then_some(head);
        } else {
            assert!(comparable && since.seq <= head, "{since:?} is not known: {told:?}");
            stay.head = Some(since.seq);
        }
        stay
    }

    /// Whether all that it is to hold up to the present head has been told to it, as far as the
    /// client can know.
    fn is_live(&self) -> bool {
        self.recall.is_none_or(|recall| recall.live)
            && self.resumed.is_none_or(|resumed| resumed.live)
    }

    /// Whether it began with a replay that may go on.
    fn awaits_replay(&self) -> bool {
        let recalls = self.recall.is_some_and(|recall| !recall.live);
        recalls || self.resumed.is_some_and(|resumed| !resumed.live)
    }

    /// The room's home forgot what it had said.
    pub(crate) fn note_lost_past(&mut self) {
        let is_earlier = self.recall.is_some_and(|recall| recall.earlier.is_some());
        self.is_unclear |= is_earlier && self.items.is_empty();
    }

    /// Whether its epoch may have ended with messages that are lost, for which a GAP stands.
    pub(crate) fn ends_with_a_gap(&self) -> bool {
        match self.items.last() {
            Some(Item::Gap(from, to)) => from == to || self.resumed.is_some(),
            Some(Item::GapOf(count)) => *count == 1,
            _ => false,
        }
    }

    /// The stay of a session that goes on, of which its client was told up to `latest`.
    fn going_on(latest: Option<(u32, u64)>) -> Stay {
        Stay {
            epoch: latest.map(|(epoch, _)| epoch),
            head: latest.map(|(_, seq)| seq),
            items: Vec::new(),
            end: None,
            known_since: None,
            recall: None,
            floor: 0,
            resumed: Some(Resumed { latest, repeated: 0, live: false }),
            is_outlived: false,
            rejoins: false,
            is_unclear: false,
        }
    }

    /// Whether its replay came to nothing of its epoch, and was last in an earlier one.
    pub(crate) fn is_ahead_of_its_replay(&self) -> bool {
        let is_earlier = |recall: Recall| matches!(recall.earlier, Some(Some(_)));
        self.items.is_empty() && self.recall.is_some_and(is_earlier)
    }

    /// Whether its replay came to a gap of one message last. Where nothing is known any more of the
    /// epoch that a replay had come to, such a gap stands for all that was left of it.
    pub(crate) fn may_have_lost_its_rest(&self) -> bool {
        !self.is_live() && matches!(self.items.last(), Some(Item::Gap(from, to)) if from == to)
    }

    /// The stay in the epoch that the room began in this one: it holds that from the first message
    /// on.
    fn renewed(&self, epoch: u32) -> Stay {
        let recall =
            self.recall.map(|recall| Recall { head: 0, gone: None, earlier: None, ..recall });
        let resumed = self.resumed.map(|resumed| Resumed { latest: None, repeated: 0, ..resumed });
        // Numbers of epochs tell nothing across the server's lives: what came of this one may have
        // been taken for one of an earlier epoch.
        let mistaken = self.recall.and_then(|recall| match recall.earlier {
            Some(Some((known, last))) if known == epoch => {
                Some(Item::Gap(recall.earlier_from, last))
            }
            _ => None,
        });
        Stay {
            epoch: Some(epoch),
            head: Some(0),
            items: mistaken.into_iter().collect(),
            end: None,
            known_since: None,
            recall,
            floor: 0,
            resumed,
            is_outlived: false,
            rejoins: self.rejoins,
            is_unclear: false,
        }
    }

    /// Something came in a stay that goes on. Returns whether it came before, on the connection
    /// that was lost. Where the room's history began anew, the stay does.
    fn is_repeated(&mut self, epoch: u32, seq: u64, replay: bool) -> bool {
        let Some(resumed) = self.resumed.as_mut() else {
            return false;
        };
        let may_be = !resumed.live || self.rejoins;
        assert!(!replay || may_be, "{seq} is replayed behind what is live");
        resumed.live |= !replay;
        if self.items.is_empty() && self.epoch.is_some_and(|known| known != epoch) {
            (self.epoch, self.head, resumed.latest) = (Some(epoch), None, None);
        }
        let is_known = resumed.latest.is_some_and(|latest| epoch == latest.0 && seq <= latest.1);
        if is_known {
            assert!(replay && seq > resumed.repeated, "{seq} came after {}", resumed.repeated);
            resumed.repeated = seq;
        }
        is_known
    }

    /// These messages came, or are said to be missing. Returns whether they are of an earlier
    /// epoch, of which what is kept is told whole and ahead of all else. What goes before its turn
    /// comes is told by a gap.
    fn is_earlier(&mut self, epoch: u32, (first, last): (u64, u64), replay: bool) -> bool {
        let (known, nothing_yet) = (self.epoch, self.items.is_empty());
        let Some(recall) = self.recall.as_mut().filter(|_| replay && nothing_yet) else {
            return false;
        };
        let Some(earlier) = recall.earlier.as_mut() else { return false };
        if known.is_some_and(|known| is_later(epoch, known)) {
            return false;
        }
        let own = known == Some(epoch);
        let before = if own { *earlier } else { earlier.replace((epoch, last)) };
        if !own && before.is_none_or(|(known, _)| known != epoch) {
            recall.earlier_from = first;
        }
        if let Some((last_epoch, last)) = before {
            let follows = if last_epoch == epoch { first == last + 1 } else { first == 1 };
            assert!(follows, "{first} of {epoch} came after {last} of {last_epoch}");
        }
        !own
    }

    /// The last message before the first one that it must hold.
    pub(crate) fn begins_after(&self) -> Option<u64> {
        let first = self.items.iter().find_map(|item| match item {
            Item::Message(seq) => Some(*seq),
            Item::Gap(from, _) => Some(*from),
            Item::Line(_) | Item::GapOf(_) => None,
        });
        let recalled = |recall: Recall| first.map_or(recall.head, |f| recall.head.min(f - 1));
        self.head.or_else(|| self.recall.map(recalled))
    }

    /// A message came, live or again.
    fn check_replay(&mut self, seq: u64, replay: bool) {
        assert!(replay || seq > self.floor, "{seq} came live behind {}", self.floor);
        if self.resumed.is_some() {
            return;
        }
        match &mut self.recall {
            None => {
                assert!(!replay || self.rejoins, "{seq} is replayed, and nobody asked for it");
            }
            Some(recall) => {
                assert!(replay || seq > recall.head, "{seq} came live and is of the past");
                let may_be = !recall.live || self.rejoins;
                assert!(!replay || may_be, "{seq} is replayed behind what is live");
                assert!(recall.gone.is_none_or(|gone| seq > gone), "{seq} was said to be gone");
                recall.live |= !replay;
            }
        }
    }

    fn push(&mut self, item: Item, epoch: u32, first: u64) {
        assert_eq!(*self.epoch.get_or_insert(epoch), epoch, "the epoch changed within a stay");
        if let Some(latest) = self.latest() {
            assert!(first > latest, "{item:?} came after {latest}");
        }
        self.items.push(item);
    }
}

/// Epochs that a shard begins in one life, at most.
const EPOCHS_MAX: u32 = 1 << 16;

/// Whether an epoch was begun behind another one. A shard counts them on in each of its lives, and
/// begins anywhere.
fn is_later(epoch: u32, than: u32) -> bool {
    (1..EPOCHS_MAX).contains(&epoch.wrapping_sub(than))
}

/// A request to join or to leave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) join: bool,
    pub(crate) notify: bool,
    pub(crate) reference: u32,
    /// Whether it was done, once that is known.
    pub(crate) done: Option<bool>,
    /// What a join asks for of the past.
    pub(crate) since: Option<Since>,
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
    /// The session may have been in it before, on another connection.
    pub(crate) is_resumed: bool,
    /// It was asked what was said in it. What is replayed belongs to the answers.
    pub(crate) is_listed: bool,
    /// Messages of an answer that has not come to its end.
    pub(crate) listing: Vec<(u32, u64)>,
    /// The room may begin another epoch while the client is in it.
    pub(crate) may_renew_epochs: bool,
    /// What panics of its home mean for it.
    pub(crate) home_panics: HomePanics,
}

impl RoomView {
    /// Notes a request; returns its number.
    pub(crate) fn request(&mut self, join: bool, notify: bool, reference: u32) -> usize {
        self.moves.push(Move { join, notify, reference, done: None, since: None });
        self.moves.len() - 1
    }

    /// Whether any join asked for what had been said.
    pub(crate) fn is_recalled(&self) -> bool {
        self.moves.iter().any(|m| m.since.is_some())
    }

    /// Whether presence was asked for by the last join that was not refused.
    pub(crate) fn wants_presence(&self) -> bool {
        self.moves.iter().rev().find(|m| m.join && m.done != Some(false)).is_some_and(|m| m.notify)
    }

    /// Whether it is told of who comes and goes, where that is known.
    pub(crate) fn presence(&self) -> Option<bool> {
        let last = self.moves.iter().rev().find(|m| m.join);
        match last {
            None => Some(false),
            Some(join) => (join.done == Some(true)).then_some(join.notify),
        }
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
    pub(crate) fn joined(&mut self, number: usize, told: Told) {
        let Told { epoch, head, .. } = told;
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
            let is_other = stay.epoch.is_some_and(|known| known != epoch);
            // The room may have been forgotten while the session was away: then this answer is the
            // first that tells.
            let may_be_anew = stay.resumed.is_some() && stay.items.is_empty();
            if is_other && (self.may_renew_epochs || may_be_anew) {
                stay.is_outlived = stay.is_live() && !left_between && !left_silently;
            } else if !left_between && !left_silently {
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
                // What was still to be replayed then is not.
                stay.end = stay.is_live().then_some(head);
            }
            self.past.push(stay);
        }
        // It may not have wanted presence until this request.
        (self.total, self.users) = (None, BTreeMap::new());
        self.begun_by = number;
        self.stay = Some(Stay::told(told, self.moves[number].since));
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
            self.stay = Some(Stay {
                epoch: None,
                head: None,
                items: Vec::new(),
                end: None,
                known_since,
                recall: None,
                floor: 0,
                resumed: None,
                is_outlived: false,
                rejoins: false,
                is_unclear: false,
            });
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
    pub(crate) fn message(&mut self, epoch: u32, seq: u64, replay: bool) {
        if replay && self.is_listed {
            return self.listing.push((epoch, seq));
        }
        if !replay {
            self.give_up_replay(epoch, seq);
        }
        if self.current().is_unclear {
            return;
        }
        self.note_rejoining(replay);
        if self.current().is_earlier(epoch, (seq, seq), replay) {
            return;
        }
        self.renew(epoch, replay);
        let stay = self.current();
        if stay.is_repeated(epoch, seq, replay) {
            return;
        }
        stay.check_replay(seq, replay);
        stay.push(Item::Message(seq), epoch, seq);
    }

    /// A replay that follows a panic of the room's home begins, goes on, or is over.
    fn note_rejoining(&mut self, replay: bool) {
        let stay = self.current();
        if !replay {
            stay.rejoins = false;
        } else if !stay.rejoins && !stay.awaits_replay() {
            let is_due = self.home_panics.explain_replay();
            self.current().rejoins = is_due;
        }
    }

    /// Something of an epoch is told: where the room has begun it meanwhile, another stay begins.
    fn renew(&mut self, epoch: u32, may_be_replay: bool) {
        let may_renew = self.may_renew_epochs;
        let stay = self.current();
        let is_other = stay.epoch.is_some_and(|known| known != epoch);
        // Whether it goes on in its epoch is not known where nothing was told of it yet.
        let is_known = stay.resumed.is_none() || !stay.items.is_empty();
        if may_renew && is_other && is_known {
            let mut renewed = stay.renewed(epoch);
            // Of a session that goes on and was told of gaps alone, the former epoch may be gone,
            // and then it is told what is kept.
            let is_message = |item: &Item| matches!(item, Item::Message(_));
            let is_cut = may_be_replay
                && stay.resumed.is_some_and(|resumed| !resumed.live)
                && !stay.items.iter().any(is_message);
            if is_cut {
                renewed.head = None;
            }
            // It may have been out of the room in between.
            let later = &self.moves[(self.begun_by + 1).min(self.moves.len())..];
            let is_sure = later.iter().all(|m| m.join && m.reference != 0);
            let stay = self.current();
            stay.is_outlived = is_sure && !is_cut;
            self.end();
            self.stay = Some(renewed);
        }
    }

    /// A message came live. A replay that had not come to its end may have been given up for a join
    /// that asked for nothing, and not for an answer either.
    fn give_up_replay(&mut self, epoch: u32, seq: u64) {
        let later = &self.moves[(self.begun_by + 1).min(self.moves.len())..];
        let may_be_given_up = later.iter().any(|m| m.join && m.reference == 0);
        if may_be_given_up && self.stay.as_ref().is_some_and(|stay| !stay.is_live()) {
            self.past.extend(self.stay.take());
            self.begin_blind(None);
            let stay = self.stay.as_mut().expect("it was just begun");
            (stay.epoch, stay.head) = (Some(epoch), Some(seq - 1));
        }
    }

    /// The answer to what was said came to its end. What is told live from here on is beyond it.
    pub(crate) fn listed(&mut self, epoch: u32, head: u64) -> Vec<(u32, u64)> {
        if let Some(stay) = self.stay.as_mut().filter(|stay| stay.epoch == Some(epoch)) {
            stay.floor = head;
        }
        std::mem::take(&mut self.listing)
    }

    /// A gap with its places arrived.
    pub(crate) fn gap(&mut self, epoch: u32, from: u64, to: u64) {
        assert!(from <= to, "a gap from {from} to {to}");
        let stay = self.current();
        if stay.is_unclear {
            return;
        }
        let is_other = stay.epoch != Some(epoch);
        if is_other && stay.is_earlier(epoch, (from, to), true) {
            return;
        }
        // The client was told of the next epoch already, by an answer.
        let is_past = is_other && self.past.iter().any(|stay| stay.epoch == Some(epoch));
        if self.home_panics.were_any && is_past {
            return;
        }
        self.renew(epoch, true);
        let stay = self.current();
        if let Some(resumed) = stay.resumed.as_ref()
            && let Some((known, latest)) = resumed.latest
        {
            // What it had been told of it is not missing.
            let from = if known == epoch { from.max(latest + 1) } else { from };
            if stay.items.is_empty() && known != epoch {
                (stay.epoch, stay.head) = (Some(epoch), None);
            }
            if from <= to {
                stay.push(Item::Gap(from, to), epoch, from);
            }
            return;
        }
        self.current().push(Item::Gap(from, to), epoch, from);
    }

    /// What a session goes on with that lost the connection which saw this.
    pub(crate) fn legacy(&self) -> Option<RoomView> {
        let notify = self.wants_presence();
        let is_member = self.is_member();
        if is_member == Some(false) {
            return None;
        }
        let may_renew_epochs = self.may_renew_epochs;
        let home_panics = self.home_panics;
        let mut view = RoomView { may_renew_epochs, home_panics, ..RoomView::default() };
        // Whether it is still a member, and wants presence, is not known where it was not told.
        let notify = notify || is_member.is_none() && self.moves.iter().any(|m| m.notify);
        view.request(true, notify, u32::from(is_member.is_some()));
        let stay = self.stay.as_ref().filter(|stay| is_member.is_some() && !stay.is_unclear);
        let latest = stay.and_then(|stay| Some((stay.epoch?, stay.latest()?)));
        view.stay = Some(Stay::going_on(latest));
        view.is_resumed = true;
        Some(view)
    }

    /// Whether the session goes on, or another one begins, is told now.
    pub(crate) fn settle_legacy(&mut self, resumed: bool) {
        if self.is_resumed {
            let is_sure = self.moves[0].reference != 0;
            if !resumed {
                self.moves[0].done = Some(false);
                self.stay = None;
            } else if is_sure {
                self.moves[0].done = Some(true);
            }
        }
    }

    /// The session may not have been let in again.
    pub(crate) fn doubt_legacy(&mut self) {
        if self.is_resumed {
            self.moves[0].done = None;
        }
    }

    /// All stays, the present one too.
    pub(crate) fn stays(&self) -> impl Iterator<Item = &Stay> {
        self.past.iter().chain(&self.stay)
    }
}
