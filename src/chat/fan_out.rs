//! News to the members of this shard.
//!
//! Owns the way from a room's queue into the members' outboxes, within a budget, and how members
//! leave their places. Never renders twice: a news item is rendered once for each dialect that has
//! a member, and every outbox shares it.
//!
//! Messages of one turn and room travel as one batch, so a member gets one piece and later one
//! write, however many messages there are; only who wrote some of them gets the rest in pieces.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::counters::Counters;
use crate::base::ids::{Address, ConnId, ShardId};
use crate::base::limits::FAN_OUT_SLICE;
use crate::base::name::Name;
use crate::base::time::Now;

use super::batch::{Batch, Chunk, ChunkPool, Dialect};
use super::catch_up::Feed;
use super::mail::{Ending, Mail};
use super::membership::{Membership, Place, RoomKey};
use super::outbox::{Outbox, OutboxPool};
use super::room::{Audience, Delivery, News, Presence, Room};
use super::session::{Marks, SessionTable, State};
use super::shard::{Progress, Shard};

impl Shard {
    /// Closes this turn's batches and hands news to members, as many as the budget allows.
    ///
    /// Rooms take turns, so that a huge one does not hold up the others.
    ///
    /// Then those whose replays wait for room have their turn.
    pub fn fan_out(&mut self, now: Now) -> Progress {
        let progress = self.spread_news(now);
        if self.catch_ups.is_empty() {
            return progress;
        }
        match self.catch_up(now) {
            Progress::Done => progress,
            Progress::More => Progress::More,
        }
    }

    fn spread_news(&mut self, now: Now) -> Progress {
        self.close_batches();
        let mut budget = self.limits.fan_out_budget;
        while budget > 0
            && let Some(key) = self.active.pop_front()
        {
            let served = self.spread(key, budget.min(FAN_OUT_SLICE), now);
            budget = budget.saturating_sub(served.max(1));
        }
        self.spread_whereabouts(&mut budget, now);
        let all_told = self.active.is_empty() && self.tellings.is_empty();
        if all_told { Progress::Done } else { Progress::More }
    }

    /// Messages arrived for the members here.
    pub(super) fn hear_batch(&mut self, batch: Arc<Batch>) {
        let Some(key) = self.rooms.find(&batch.room, self.hasher.hash(&batch.room)) else {
            return self.chunks.release_batch(batch);
        };
        let room = self.rooms.get_mut(key);
        room.note_heard(batch.epoch, batch.last());
        let room = self.rooms.get(key);
        if room.queued() >= self.limits.max_room_queue {
            let gap = News::Gap { epoch: batch.epoch, from: batch.first, to: batch.last() };
            self.counters.shed += batch.frames.count() as u64;
            self.chunks.release_batch(batch);
            return self.queue_gap(key, gap);
        }
        let mut authors = self.chunks.places();
        for author in &batch.authors {
            if author.address.shard() == self.id
                && let Some(place) = place_of(&self.sessions, room, key, author.address.conn())
                && authors.last() != Some(&place)
            {
                authors.push(place);
            }
        }
        authors.sort_unstable();
        authors.dedup();
        self.queue_news(key, News::Messages(batch), authors);
    }

    /// Messages were lost on the way here.
    pub(super) fn hear_gap(&mut self, room: &Name, gap: News) {
        if let Some(key) = self.rooms.find(room, self.hasher.hash(room)) {
            self.queue_gap(key, gap);
        }
    }

    /// Somebody came or went. Where the queue is full, the total is told later.
    pub(super) fn hear_presence(&mut self, room: &Name, presence: Presence) {
        let Some(key) = self.rooms.find(room, self.hasher.hash(room)) else {
            return;
        };
        let room = self.rooms.get_mut(key);
        room.total = presence.total;
        if room.watchers() == 0 {
            room.untold_total = None;
        } else if room.untold_total.is_some() || room.queued() >= self.limits.max_room_queue {
            room.untold_total = Some(presence.total);
            self.counters.presence_folded += 1;
        } else {
            self.queue_news(key, News::Presence(presence), Vec::new());
        }
    }

    /// Tells the total that was not told while the queue was full.
    fn tell_untold(&mut self, key: RoomKey) {
        let room = self.rooms.get_mut(key);
        if room.queued() < self.limits.max_room_queue
            && let Some(total) = room.untold_total.take()
        {
            self.counters.presence_folded += 1;
            self.queue_news(key, News::Presence(Presence::total(total)), Vec::new());
        }
    }

    /// Queues a gap, as part of the last item where that is the gap before it.
    fn queue_gap(&mut self, key: RoomKey, gap: News) {
        if let News::Gap { epoch, from, to } = gap {
            let room = self.rooms.get_mut(key);
            room.note_missing(epoch, from, to);
            room.note_heard(epoch, to);
        }
        let end = self.end_of(key);
        let last = self.rooms.get_mut(key).queue().back_mut();
        if !last.is_some_and(|last| last.extend_gap(&gap, end, &mut self.chunks)) {
            self.queue_news(key, gap, Vec::new());
        }
    }

    fn queue_news(&mut self, key: RoomKey, news: News, authors: Vec<usize>) {
        let end = self.end_of(key);
        let room = self.rooms.get_mut(key);
        room.queue().push_back(Delivery::new(news, end, authors));
        if !room.listed {
            room.listed = true;
            self.active.push_back(key);
        }
    }

    /// One beyond the last place of those who hear a room now.
    fn end_of(&self, key: RoomKey) -> usize {
        let room = self.rooms.get(key);
        match room.audience {
            Audience::Members => room.members().len(),
            Audience::Everyone => self.sessions.slots(),
        }
    }

    /// Serves at most `slice` places of a room; returns how many it served.
    fn spread(&mut self, key: RoomKey, slice: usize, now: Now) -> usize {
        let mut served = 0;
        while served < slice {
            let Some(mut delivery) = self.rooms.get_mut(key).queue().pop_front() else {
                break;
            };
            served += self.serve(key, &mut delivery, slice - served);
            if delivery.next < delivery.end {
                self.rooms.get_mut(key).queue().push_front(delivery);
            } else {
                delivery.release(&mut self.chunks);
            }
        }
        self.relieve_overflowed(key, now);
        self.tell_untold(key);
        let room = self.rooms.get_mut(key);
        room.listed = room.queued() > 0;
        if room.listed {
            self.active.push_back(key);
        } else {
            self.close_holes(key);
            self.rooms.remove_if_unused(key);
        }
        served
    }

    fn serve(&mut self, key: RoomKey, delivery: &mut Delivery, slice: usize) -> usize {
        let first = delivery.next;
        delivery.next = delivery.end.min(first + slice);
        let (room, mut desk) = self.desk(key);
        let mut author = delivery.authors.partition_point(|place| *place < first);
        for place in first..delivery.next {
            let wrote = delivery.authors.get(author) == Some(&place);
            author += usize::from(wrote);
            desk.hand_over(room, delivery, place, wrote);
        }
        delivery.next - first
    }

    /// Hands a member all the news of a room that is queued for it. It is about to leave its place.
    pub(super) fn finish_deliveries(&mut self, conn: ConnId, member: &Membership, now: Now) {
        let Some(place) = member.place.index() else {
            return;
        };
        debug_assert!(self.sessions.get(conn).is_some());
        let mut queue: VecDeque<Delivery> = std::mem::take(self.rooms.get_mut(member.room).queue());
        let (room, mut desk) = self.desk(member.room);
        for delivery in &mut queue {
            if (delivery.next..delivery.end).contains(&place) {
                let wrote = delivery.authors.binary_search(&place).is_ok();
                desk.hand_over(room, delivery, place, wrote);
            }
        }
        *self.rooms.get_mut(member.room).queue() = queue;
        self.relieve_overflowed(member.room, now);
    }

    fn desk(&mut self, key: RoomKey) -> (&Room, Desk<'_>) {
        let desk = Desk {
            shard: self.id,
            max_outbound: self.limits.max_outbound,
            sessions: &mut self.sessions,
            outboxes: &mut self.outboxes,
            chunks: &mut self.chunks,
            dirty: &mut self.dirty,
            overflowed: &mut self.overflowed,
            counters: &mut self.counters,
        };
        (self.rooms.get(key), desk)
    }

    /// Takes a member out of its place.
    pub(super) fn vacate(&mut self, key: RoomKey, place: usize) {
        if let Some(slot) = self.rooms.get_mut(key).vacate(place) {
            note_place(&mut self.sessions, key, place, slot);
        }
    }

    fn close_holes(&mut self, key: RoomKey) {
        let sessions = &mut self.sessions;
        let moved = |place, slot| note_place(sessions, key, place, slot);
        self.rooms.get_mut(key).close_holes(moved);
    }

    /// Takes a session, which no longer counts the room among its own, out of the room.
    pub(super) fn leave_room(&mut self, membership: &Membership, user: Name, now: Now) {
        match membership.place.index() {
            None => self.rooms.get_mut(membership.room).joining -= 1,
            Some(place) => self.vacate(membership.room, place),
        }
        let room = self.rooms.get(membership.room);
        let (home, room, stay) = (room.home, room.name.clone(), membership.stay());
        self.send(home, Mail::Leave { room, user, stay }, now);
        self.rooms.remove_if_unused(membership.room);
    }

    /// Takes a session that ends for good out of all its rooms and out of its user's sessions.
    pub(super) fn depart(&mut self, conn: ConnId, ending: Ending, now: Now) {
        let identity = self.identity(conn);
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let (Some(user), State::Live(dialect)) = (session.user.take(), session.state) else {
            return;
        };
        self.speakers.went(dialect);
        while let Some(membership) =
            self.sessions.get_mut(conn).and_then(|session| session.pop_membership())
        {
            self.rooms.subscriptions -= 1;
            self.end_replay(conn, Feed::Room(membership.room));
            self.leave_room(&membership, user.clone(), now);
        }
        self.leave_directs(conn, &user, now);
        let home = self.home_of(self.hasher.hash(&user));
        let session = self.address(conn);
        self.send(home, Mail::Offline { user, session, identity, ending }, now);
        if dialect != Dialect::Text {
            self.end_session(identity, now);
        }
    }
}

/// The member in `slot` was moved to `place`.
fn note_place(sessions: &mut SessionTable, key: RoomKey, place: usize, slot: usize) {
    let session = sessions.in_slot(slot).expect("a member is a session");
    let membership = session.membership_mut(key).expect("a member knows its room");
    membership.place = Place::new(place);
}

/// Where a connection stands among those who hear a room.
fn place_of(sessions: &SessionTable, room: &Room, key: RoomKey, conn: ConnId) -> Option<usize> {
    let session = sessions.get(conn)?;
    match room.audience {
        Audience::Everyone => Some(conn.slot()),
        Audience::Members => session.membership(key)?.place.index(),
    }
}

/// The parts of a shard that handing over news touches.
struct Desk<'a> {
    shard: ShardId,
    max_outbound: usize,
    sessions: &'a mut SessionTable,
    outboxes: &'a mut OutboxPool,
    chunks: &'a mut ChunkPool,
    dirty: &'a mut VecDeque<ConnId>,
    overflowed: &'a mut Vec<ConnId>,
    counters: &'a mut Counters,
}

impl Desk<'_> {
    /// Hands a news item to whoever stands at `place`, if it is for them.
    fn hand_over(&mut self, room: &Room, delivery: &mut Delivery, place: usize, wrote: bool) {
        let (slot, notify) = match room.audience {
            Audience::Everyone => (place, false),
            Audience::Members => {
                let member = room.members()[place];
                let Some(slot) = member.slot() else {
                    return;
                };
                (slot, member.notify())
            }
        };
        let Some(session) = self.sessions.in_slot(slot) else {
            return;
        };
        let State::Live(dialect) = session.state else {
            return;
        };
        let conn = ConnId::new(slot, session.generation);
        let address = Address::new(self.shard, conn);
        if let News::Presence(Presence { user, member, .. }) = &delivery.news
            && (!notify || session.user == *user || *member == Some(address))
        {
            return;
        }
        let chunk = Rc::clone(delivery.chunk(room, dialect, self.chunks));
        let outbox = session.outbox(self.outboxes);
        if let News::Messages(batch) = &delivery.news {
            let own = if wrote { Some(address) } else { None };
            self.counters.delivered += push_messages(outbox, &chunk, batch, own);
        } else {
            outbox.push_shared(&chunk, 0, chunk.frames().bytes().len() as u32);
        }
        let waiting = outbox.waiting();
        if waiting > self.max_outbound {
            self.overflowed.push(conn);
        } else if waiting == 0 {
            let unused = session.outbox.take().expect("it was just used");
            self.outboxes.release_outbox(unused, self.chunks);
        } else if !session.marks.has(Marks::DIRTY) && !session.marks.has(Marks::BLOCKED) {
            session.marks.set(Marks::DIRTY);
            self.dirty.push_back(conn);
        }
        self.chunks.release(chunk);
    }
}

/// Queues the messages of a batch that `own` did not write; returns how many there were.
fn push_messages(
    outbox: &mut Outbox,
    chunk: &Rc<Chunk>,
    batch: &Batch,
    own: Option<Address>,
) -> u64 {
    let frames = chunk.frames();
    let count = frames.count() as u64;
    let Some(own) = own else {
        outbox.push_shared(chunk, 0, frames.bytes().len() as u32);
        return count;
    };
    let mut skipped = 0;
    let mut start = 0;
    for index in batch.written_by(own) {
        let (own_start, own_end) = frames.range(index);
        if own_start > start {
            outbox.push_shared(chunk, start, own_start);
        }
        start = own_end;
        skipped += 1;
    }
    let end = frames.bytes().len() as u32;
    if end > start {
        outbox.push_shared(chunk, start, end);
    }
    count - skipped
}
