//! Replays on their way to the members of this shard.
//!
//! Owns how what was said before gets into a connection's outbox without filling it: a page that
//! does not fit waits, and the next page is asked for only when the last one has gone. A list of
//! those who wait is looked at in each turn, some at a time. Never knows what is kept: the home
//! sends the pages ([`recovery`](super::recovery)).
//!
//! Until its replay has come to the head of the room, a member stands in no place and gets nothing
//! that is live. The page that comes to the head is the seam: whatever the home delivered before it
//! is in the replay, and what follows it is not. So that page counts only if it fits as a
//! whole; otherwise it is handed over as one of many, and another one is asked for.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::base::ids::{ConnId, Position, Ref, Seq};
use crate::base::limits::{CATCH_UP_BUDGET, PAGES_ASKED_MAX};
use crate::base::name::Name;
use crate::base::time::Now;
use crate::wire::message::{Event, OkFlags, PresenceKind};
use crate::wire::{line, native};

use super::batch::{About, Batch, Chunk, Dialect, Label};
use super::history::Missing;
use super::mail::{Mail, Replay};
use super::membership::RoomKey;
use super::session::State;
use super::shard::{Progress, Shard};

/// Which of a shard's replays this is. Pages of one that was given up name it in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round(pub u32);

/// What is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feed {
    /// The messages of a room that the connection is a member of.
    Room(RoomKey),
    /// The direct messages that were kept for its user.
    Directs,
}

/// A page that is being handed over.
#[derive(Debug)]
pub struct OpenPage {
    chunk: Rc<Chunk>,
    /// The next message.
    pub next: usize,
    /// The first message.
    first: Position,
}

impl OpenPage {
    /// The last message before the next one; `last` is the page's last.
    ///
    /// A page may begin in one epoch and end in the next one, which it then holds from its first
    /// message on.
    fn position(&self, last: Position) -> Position {
        let rest = (self.chunk.frames().count() - self.next) as u64;
        let from_first = |seq: Seq| Position { epoch: self.first.epoch, seq };
        match last.seq.0.checked_sub(rest) {
            Some(seq) => Position { epoch: last.epoch, seq: Seq(seq) },
            None => from_first(Seq(self.first.seq.0 + self.next as u64 - 1)),
        }
    }
}

/// A replay that has not come to its end.
#[derive(Debug)]
pub struct CatchUp {
    round: Round,
    /// What it came to in a room: the next page follows this.
    after: Position,
    /// The page that is being handed over.
    pub page: Option<OpenPage>,
    /// What the page was rendered from, where its messages have to be known by their ids.
    pub source: Option<Arc<Batch>>,
}

impl CatchUp {
    /// A replay without a page.
    pub fn new(round: Round) -> CatchUp {
        CatchUp { round, after: Position::default(), page: None, source: None }
    }
}

/// All replays of a shard that have not come to their end.
#[derive(Debug, Default)]
pub struct CatchUps {
    replays: BTreeMap<(ConnId, Feed), CatchUp>,
    /// Those that wait for room in an outbox. Those that wait for a page are not in it.
    waiting: VecDeque<(ConnId, Feed, Round)>,
    /// Pages that were asked for and have not come.
    asked: usize,
    last_round: Round,
    /// How many of those who wait are still to be looked at.
    unseen: usize,
    /// Something other than bytes that were sent makes another look worthwhile.
    stirred: bool,
    /// Bytes that had been sent when the last look began.
    bytes_seen: u64,
}

impl CatchUps {
    /// What a connection has come to in a replay that has not come to its end.
    pub fn position(&self, conn: ConnId, feed: Feed) -> Option<Position> {
        let replay = self.replays.get(&(conn, feed))?;
        Some(match &replay.page {
            Some(page) => page.position(replay.after),
            None => replay.after,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.replays.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.replays.is_empty() && self.waiting.is_empty()
    }

    /// Whether one of those who wait may have room by now, where so many bytes have been sent in
    /// all.
    pub fn are_due(&self, bytes_out: u64) -> bool {
        let news = self.stirred || self.unseen > 0 || self.bytes_seen != bytes_out;
        !self.waiting.is_empty() && news
    }

    /// Begins or goes on with a replay, which waits for room.
    pub fn wait(&mut self, conn: ConnId, feed: Feed, replay: CatchUp) {
        self.waiting.push_back((conn, feed, replay.round));
        self.replays.insert((conn, feed), replay);
        self.stirred = true;
    }

    /// A replay that was looked at waits on: until bytes were sent, or for the next turn if it is
    /// `due` then.
    pub fn wait_on(&mut self, conn: ConnId, feed: Feed, replay: CatchUp, due: bool) {
        self.waiting.push_back((conn, feed, replay.round));
        self.stirred |= due;
        self.replays.insert((conn, feed), replay);
    }

    /// A replay waits for a page, which the caller asks for.
    pub fn await_page(&mut self, conn: ConnId, feed: Feed, replay: CatchUp) {
        self.asked += 1;
        self.replays.insert((conn, feed), replay);
    }

    /// A page that was asked for came.
    pub fn page_came(&mut self) {
        self.asked -= 1;
        self.stirred = true;
    }

    /// Pages that were asked for and have not come.
    pub fn pages_asked(&self) -> usize {
        self.asked
    }

    /// Takes a replay out.
    pub fn take(&mut self, of: (ConnId, Feed)) -> Option<CatchUp> {
        if self.replays.is_empty() { None } else { self.replays.remove(&of) }
    }

    /// A number for a new replay.
    pub fn next_round(&mut self) -> Round {
        self.last_round = Round(self.last_round.0.wrapping_add(1));
        self.last_round
    }

    /// How many of those who wait are to be looked at now.
    fn begin_look(&mut self, bytes_out: u64) -> usize {
        if self.unseen == 0 && self.are_due(bytes_out) {
            self.unseen = self.waiting.len();
            self.stirred = false;
            self.bytes_seen = bytes_out;
        }
        self.unseen = self.unseen.min(self.waiting.len());
        self.unseen.min(CATCH_UP_BUDGET)
    }

    /// The next one that waits, taken out of all lists. One that has ended is nothing.
    fn pop(&mut self) -> Option<(ConnId, Feed, CatchUp)> {
        self.unseen -= 1;
        let (conn, feed, round) = self.waiting.pop_front()?;
        let is_it = self.replays.get(&(conn, feed)).is_some_and(|replay| replay.round == round);
        let replay = is_it.then(|| self.replays.remove(&(conn, feed))).flatten()?;
        Some((conn, feed, replay))
    }
}

impl Shard {
    /// Goes on with the replays that may have room by now, as many as one turn looks at.
    pub(super) fn catch_up(&mut self, now: Now) -> Progress {
        for _ in 0..self.catch_ups.begin_look(self.counters.bytes_out) {
            if let Some((conn, feed, replay)) = self.catch_ups.pop() {
                self.go_on(conn, feed, replay, now);
            }
        }
        let is_due = self.catch_ups.are_due(self.counters.bytes_out);
        if is_due { Progress::More } else { Progress::Done }
    }

    /// Hands over what a connection has room for, and asks for more when all of it is handed over.
    fn go_on(&mut self, conn: ConnId, feed: Feed, mut replay: CatchUp, now: Now) {
        let Feed::Room(key) = feed else {
            return self.go_on_with_directs(conn, replay, now);
        };
        if let Some(page) = replay.page.take() {
            replay.page = self.hand_over_page(conn, page, now);
        }
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if session.membership(key).is_none() {
            // The page was too much for its outbox, and it was closed.
            return self.release_page(replay.page);
        }
        let has_room = session.waiting() < self.limits.replay_below() && replay.page.is_none();
        let home = self.rooms.get(key).home;
        let overloaded = self.is_overloaded(home);
        if !has_room || overloaded || self.catch_ups.asked >= PAGES_ASKED_MAX {
            // The letters that wait keep the worker awake. A page that comes stirs by itself.
            return self.catch_ups.wait_on(conn, feed, replay, overloaded);
        }
        let (round, after) = (replay.round, replay.after);
        self.catch_ups.await_page(conn, feed, replay);
        let (room, member) = (self.rooms.get(key).name.clone(), self.address(conn));
        self.send(home, Mail::NextPage { room, member, round, after }, now);
    }

    /// The home let a member in and sent the beginning of its replay.
    pub(super) fn take_first_page(
        &mut self,
        conn: ConnId,
        key: RoomKey,
        total: u32,
        replay: Replay,
        now: Now,
    ) {
        let round = self.catch_ups.next_round();
        self.take_page(conn, key, round, total, replay, now);
    }

    /// The next page of a replay came, or of one that was given up.
    pub(super) fn take_next_page(
        &mut self,
        conn: ConnId,
        room: &Name,
        round: Round,
        total: u32,
        replay: Replay,
        now: Now,
    ) {
        self.catch_ups.page_came();
        let key = self.rooms.find(room, self.hasher.hash(room));
        let is_it = |key: &RoomKey| {
            let known = self.catch_ups.replays.get(&(conn, Feed::Room(*key)));
            known.is_some_and(|known| known.round == round)
        };
        if let Some(key) = key.filter(is_it) {
            let caught_up = self.take_page(conn, key, round, total, replay, now);
            if caught_up {
                self.tell_total_at_seam(conn, key, total, now);
            }
        }
    }

    /// Hands a page over. Where it comes to the head and all of it has room, the stay begins; if
    /// not, the replay goes on later. Returns whether the stay began.
    fn take_page(
        &mut self,
        conn: ConnId,
        key: RoomKey,
        round: Round,
        total: u32,
        replay: Replay,
        now: Now,
    ) -> bool {
        let feed = Feed::Room(key);
        self.catch_ups.replays.remove(&(conn, feed));
        let Replay { page, last: after, is_head, gap: _, missing } = replay;
        if let Some(missing) = missing {
            self.tell_missing(conn, key, missing, now);
        }
        let label = self.rooms.get(key).label(About::Page);
        let rest = page.and_then(|page| self.open_page(conn, page, label));
        let rest = rest.and_then(|page| self.hand_over_page(conn, page, now));
        if self.sessions.get(conn).and_then(|session| session.membership(key)).is_none() {
            self.release_page(rest);
            return false;
        }
        if is_head && rest.is_none() {
            self.rooms.get_mut(key).note_heard(after.epoch, after.seq);
            self.begin_stay(conn, key, total);
            return true;
        }
        self.catch_ups.wait(conn, feed, CatchUp { after, page: rest, ..CatchUp::new(round) });
        false
    }

    /// Renders a page for a connection.
    pub(super) fn open_page(
        &mut self,
        conn: ConnId,
        page: Arc<Batch>,
        label: Option<Label>,
    ) -> Option<OpenPage> {
        let State::Live(dialect) = self.sessions.get(conn)?.state else {
            return None;
        };
        let first = native::message_position(page.frames.frame(0));
        let chunk = self.chunks.render_batch(&page, dialect, label);
        self.chunks.release_batch(page);
        Some(OpenPage { chunk, next: 0, first })
    }

    /// Hands over as many messages of a page as there is room for. Returns the page if it is not
    /// at its end.
    pub(super) fn hand_over_page(
        &mut self,
        conn: ConnId,
        mut page: OpenPage,
        now: Now,
    ) -> Option<OpenPage> {
        if let Some(session) = self.sessions.get_mut(conn)
            && matches!(session.state, State::Live(_))
        {
            let frames = page.chunk.frames();
            let start = page.next.checked_sub(1).map_or(0, |last| frames.range(last).1);
            let room = self.limits.replay_below().saturating_sub(session.waiting());
            let mut end = start;
            while page.next < frames.count() && ((end - start) as usize) < room {
                end = frames.range(page.next).1;
                page.next += 1;
                self.counters.replayed += 1;
            }
            let is_done = page.next == frames.count();
            if end > start {
                session.outbox(&mut self.outboxes).push_shared(&page.chunk, start, end);
                self.queued(conn);
                self.bound_outbox(conn, now);
            }
            if !is_done {
                return Some(page);
            }
        }
        self.chunks.release(page.chunk);
        None
    }

    pub(super) fn release_page(&mut self, page: Option<OpenPage>) {
        if let Some(page) = page {
            self.chunks.release(page.chunk);
        }
    }

    fn tell_missing(&mut self, conn: ConnId, key: RoomKey, missing: Missing, now: Now) {
        let room = self.rooms.get(key).name.clone();
        let Missing { epoch, from, to } = missing;
        self.tell(conn, &Event::Gap { epoch, from, to, room: &room }, now);
    }

    /// Who came and went during the replay was not told: the total is.
    pub(super) fn tell_total_at_seam(&mut self, conn: ConnId, key: RoomKey, total: u32, now: Now) {
        let membership = self.sessions.get(conn).and_then(|session| session.membership(key));
        if membership.is_some_and(|membership| membership.notify()) {
            let room = self.rooms.get(key).name.clone();
            let kind = PresenceKind::Many;
            self.tell(conn, &Event::Presence { kind, total, room: &room, user: "" }, now);
        }
    }

    /// Gives up a replay. Returns whether there was one.
    pub(super) fn end_replay(&mut self, conn: ConnId, feed: Feed) -> bool {
        if self.catch_ups.replays.is_empty() {
            return false;
        }
        let Some(ended) = self.catch_ups.replays.remove(&(conn, feed)) else {
            return false;
        };
        self.release_page(ended.page);
        true
    }

    /// What was asked of a room's history came. What members are told live behind it is beyond its
    /// head.
    pub(super) fn take_listing(
        &mut self,
        conn: ConnId,
        room: &Name,
        reference: Ref,
        head: Position,
        replay: Replay,
        now: Now,
    ) {
        self.listing_answered(conn);
        let key = self.rooms.find(room, self.hasher.hash(room));
        let membership = key.and_then(|key| self.sessions.get(conn)?.membership(key).copied());
        if let Some(membership) = membership
            && let Some(place) = membership.place.index()
        {
            self.finish_deliveries(conn, &membership, now);
            self.move_behind_news(conn, membership.room, place);
        }
        let Some(State::Live(dialect)) = self.sessions.get(conn).map(|session| session.state)
        else {
            return;
        };
        let is_empty = replay.page.is_none();
        if let Some(page) = replay.page.and_then(|page| self.open_page(conn, page, None)) {
            self.hand_over_whole(conn, page, now);
        }
        if dialect == Dialect::Text && is_empty {
            let notice = format!("nothing is kept of what was said in {room}");
            self.tell_raw(conn, |out| line::encode_notice(out, &notice), now);
        }
        if reference.wants_answer() {
            let flags = OkFlags { gap: replay.gap, ..OkFlags::default() };
            let (epoch, seq) = (head.epoch, head.seq);
            self.tell(conn, &Event::Ok { reference, flags, epoch, seq }, now);
        }
    }

    pub(super) fn listing_answered(&mut self, conn: ConnId) {
        self.question_answered(conn);
        if let Some(extra) = self.sessions.get_mut(conn).and_then(|s| s.extra.as_mut()) {
            extra.listings = extra.listings.saturating_sub(1);
        }
    }

    /// Hands over a page that answers a question: whoever asks for more than it reads is not read.
    fn hand_over_whole(&mut self, conn: ConnId, page: OpenPage, now: Now) {
        if let Some(session) = self.sessions.get_mut(conn) {
            let frames = page.chunk.frames();
            self.counters.replayed += frames.count() as u64;
            let end = frames.bytes().len() as u32;
            session.outbox(&mut self.outboxes).push_shared(&page.chunk, 0, end);
            self.queued(conn);
            self.bound_outbox(conn, now);
        }
        self.chunks.release(page.chunk);
    }
}
