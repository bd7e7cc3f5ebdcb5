//! A room as one shard sees it: the members it holds there, and what is being delivered to them.
//!
//! Owns the members' places and the queue of news. Never orders messages: the room's home does
//! ([`home`](super::home)), and news arrives here in that order. The shard's fan-out
//! ([`fan_out`](super::fan_out)) walks the members with a budget; a news item that is not finished
//! remembers how far it came.
//!
//! Places do not move while news is queued. A member that leaves then leaves a hole, and holes are
//! closed when the queue is empty; one that joins comes behind the end of every queued item. So an
//! item reaches exactly those who were members when it arrived, each once.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;

use crate::base::ids::{Address, Epoch, Position, Seq, ShardId};
use crate::base::limits::GAPS_APART;
use crate::base::name::Name;
use crate::wire::message::{Event, PresenceKind};

use super::batch::{About, Batch, Chunk, ChunkPool, Dialect, Label, Renderings};
use super::hash::NameHasher;
use super::membership::{Place, RoomKey};
use super::overflow::{Overflow, OverflowPolicies};
use super::relief::Gap;

/// Something that all members, or those who asked for presence, are told.
#[derive(Debug)]
pub enum News {
    /// Messages.
    Messages(Arc<Batch>),
    /// Somebody came or went.
    Presence(Presence),
    /// Messages that this shard did not get.
    Gap {
        /// The epoch.
        epoch: Epoch,
        /// The first one missing.
        from: Seq,
        /// The last one missing.
        to: Seq,
    },
}

/// Somebody came or went, or many did.
#[derive(Clone, Debug)]
pub struct Presence {
    /// What happened.
    pub kind: PresenceKind,
    /// Members of the room now.
    pub total: u32,
    /// Who it was; nobody for [`PresenceKind::Many`]. That user is not told.
    pub user: Option<Name>,
    /// The connection that came or changed its name. It is not told, whatever its name is by now.
    pub member: Option<Address>,
}

impl Presence {
    /// Many came or went: only how many members there are now.
    pub fn total(total: u32) -> Presence {
        Presence { kind: PresenceKind::Many, total, user: None, member: None }
    }
}

/// A news item on its way to the members of this shard.
#[derive(Debug)]
pub struct Delivery {
    /// What is told.
    pub news: News,
    renderings: Renderings,
    /// The next place to serve.
    pub next: usize,
    /// One beyond the last place to serve.
    pub end: usize,
    /// Places of members who wrote some of the messages themselves, in rising order.
    pub authors: Vec<usize>,
}

impl Delivery {
    /// Delivery of `news` to the places below `end`.
    pub fn new(news: News, end: usize, authors: Vec<usize>) -> Delivery {
        Delivery { news, renderings: Renderings::default(), next: 0, end, authors }
    }

    /// The rendering for `dialect`.
    pub fn chunk(&mut self, room: &Room, dialect: Dialect, pool: &mut ChunkPool) -> &Rc<Chunk> {
        let news = &self.news;
        let name = &room.name;
        self.renderings.of(dialect, pool).get_or_insert_with(|| match news {
            News::Messages(batch) => {
                let about = About::Messages { epoch: batch.epoch, first: batch.first };
                pool.render_batch(batch, dialect, room.label(about))
            }
            News::Presence(Presence { kind, total, user, .. }) => {
                let user = user.as_deref().unwrap_or_default();
                let event = Event::Presence { kind: *kind, total: *total, room: name, user };
                pool.render_event(&event, dialect, room.label(About::Presence { total: *total }))
            }
            News::Gap { epoch, from, to } => {
                let gap = Gap { epoch: *epoch, from: *from, to: *to };
                let event = Event::Gap { epoch: *epoch, from: *from, to: *to, room: name };
                pool.render_event(&event, dialect, room.label(About::Gap(gap)))
            }
        })
    }

    /// Extends a gap that nobody's turn has come for, where `gap` follows it and goes to the places
    /// below the same `end`. Returns whether it did.
    ///
    /// Somebody may have been told of the shorter gap ahead of the turn, on leaving: its rendering
    /// is dropped.
    pub fn extend_gap(&mut self, gap: &News, end: usize, pool: &mut ChunkPool) -> bool {
        let News::Gap { epoch: gap_epoch, to: gap_to, .. } = *gap else {
            return false;
        };
        let untouched = self.next == 0 && self.end == end;
        match &mut self.news {
            News::Gap { epoch, to, .. } if untouched && *epoch == gap_epoch => *to = gap_to,
            _ => return false,
        }
        std::mem::take(&mut self.renderings).release(pool);
        true
    }

    /// Gives back what it holds.
    pub fn release(self, pool: &mut ChunkPool) {
        pool.release_places(self.authors);
        self.renderings.release(pool);
        if let News::Messages(batch) = self.news {
            pool.release_batch(batch);
        }
    }
}

/// A member in its place: its slab slot, and whether it wants presence. Four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member(u32);

impl Member {
    /// A place that somebody left while news was queued.
    pub const HOLE: Member = Member(u32::MAX);

    /// The member in `slot`.
    pub fn new(slot: usize, notify: bool) -> Member {
        Member((slot as u32) << 1 | u32::from(notify))
    }

    /// The member's slab slot, unless the place is a hole.
    pub fn slot(self) -> Option<usize> {
        (self != Member::HOLE).then_some((self.0 >> 1) as usize)
    }

    /// Whether it wants to be told of joins and leaves.
    pub fn notify(self) -> bool {
        self != Member::HOLE && self.0 & 1 == 1
    }
}

/// Who hears a room's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Its members.
    Members,
    /// Every live session of the shard; a place is a slab slot.
    Everyone,
}

/// One room on one shard.
#[derive(Debug)]
pub struct Room {
    /// Its name.
    pub name: Name,
    /// The shard that orders it.
    pub home: ShardId,
    /// Who hears it.
    pub audience: Audience,
    /// What gives way when a member does not read.
    pub overflow: Overflow,
    /// Members whose joins the home has not acknowledged.
    pub joining: u32,
    /// Whether the fan-out has it on its list.
    pub listed: bool,
    /// Members of the room, where those who want presence were not told, because the queue was
    /// full.
    pub untold_total: Option<u32>,
    /// Members of the room, as its home told last.
    pub total: u32,
    /// The last message that this shard has heard of.
    heard: Position,
    /// Messages of which this shard was told only that they are missing: from the first to the
    /// last, and perhaps some in between that it did get.
    missing: Option<(Position, Seq)>,
    members: Vec<Member>,
    holes: Vec<usize>,
    watchers: usize,
    queue: VecDeque<Delivery>,
}

impl Room {
    fn new(name: Name, home: ShardId, audience: Audience, overflow: Overflow) -> Room {
        Room {
            name,
            home,
            audience,
            overflow,
            joining: 0,
            listed: false,
            untold_total: None,
            total: 0,
            heard: Position::default(),
            missing: None,
            members: Vec::new(),
            holes: Vec::new(),
            watchers: 0,
            queue: VecDeque::new(),
        }
    }

    /// What a rendering of something about it is labelled with, where it may be dropped.
    pub fn label(&self, about: About) -> Option<Label> {
        let Room { name, overflow, .. } = self;
        overflow.drops().then(|| Label { room: name.clone(), overflow: *overflow, about })
    }

    /// The members in their places.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How many members want presence.
    pub fn watchers(&self) -> usize {
        self.watchers
    }

    /// This shard has heard of all messages up to this one.
    pub fn note_heard(&mut self, epoch: Epoch, seq: Seq) {
        self.heard = Position { epoch, seq };
    }

    /// This shard was told only of the lack of these messages.
    pub fn note_missing(&mut self, epoch: Epoch, from: Seq, to: Seq) {
        let first = match self.missing {
            Some((first, last)) if first.epoch == epoch && from.0 - last.0 < GAPS_APART => first,
            _ => Position { epoch, seq: from },
        };
        self.missing = Some((first, to));
    }

    /// The messages of which this shard was told only that they are missing, of the last epoch in
    /// which there were some.
    pub fn missing(&self) -> Option<(Position, Seq)> {
        self.missing
    }

    /// The last message of which this shard has heard.
    pub fn heard(&self) -> Position {
        self.heard
    }

    /// The last message that the member at `place` was handed, or would have been were it not its
    /// own.
    pub fn position(&self, place: usize) -> Position {
        let coming = |delivery: &&Delivery| (delivery.next..delivery.end).contains(&place);
        let first = self.queue.iter().filter(coming).find_map(|delivery| match &delivery.news {
            News::Messages(batch) => Some((batch.epoch, batch.first)),
            News::Gap { epoch, from, .. } => Some((*epoch, *from)),
            News::Presence(_) => None,
        });
        first.map_or(self.heard, |(epoch, seq)| Position { epoch, seq: Seq(seq.0 - 1) })
    }

    /// Adds a member behind all others.
    pub fn enter(&mut self, slot: usize, notify: bool) -> Place {
        self.members.push(Member::new(slot, notify));
        self.watchers += usize::from(notify);
        Place::new(self.members.len() - 1)
    }

    /// Says whether the member at `place` wants presence.
    pub fn set_notify(&mut self, place: usize, notify: bool) {
        let slot = self.members[place].slot().expect("a member stands in its place");
        self.watchers -= usize::from(self.members[place].notify());
        self.watchers += usize::from(notify);
        self.members[place] = Member::new(slot, notify);
    }

    /// Takes the member at `place` out. Returns the slot of the member that stands there now, if
    /// one was moved. Behind the last of the news, holes may still wait to be closed.
    pub fn vacate(&mut self, place: usize) -> Option<usize> {
        self.watchers -= usize::from(self.members[place].notify());
        if self.queue.is_empty() && self.holes.is_empty() {
            return self.remove(place);
        }
        self.members[place] = Member::HOLE;
        self.holes.push(place);
        None
    }

    fn remove(&mut self, place: usize) -> Option<usize> {
        self.members.swap_remove(place);
        self.members.get(place).map(|moved| moved.slot().expect("holes are closed from the end"))
    }

    /// Closes the holes, from the end; tells `moved` which slot's member now stands at which place.
    /// Only while no news is queued.
    pub fn close_holes(&mut self, mut moved: impl FnMut(usize, usize)) {
        debug_assert!(self.queue.is_empty(), "places do not move while news is queued");
        let mut holes = std::mem::take(&mut self.holes);
        holes.sort_unstable();
        while let Some(place) = holes.pop() {
            if let Some(slot) = self.remove(place) {
                moved(place, slot);
            }
        }
        self.holes = holes;
    }

    /// Places that members left while news was queued.
    pub fn holes(&self) -> usize {
        self.holes.len()
    }

    /// The news in its order.
    pub fn queue(&mut self) -> &mut VecDeque<Delivery> {
        &mut self.queue
    }

    /// News items that are not finished.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether nobody here has anything to do with the room.
    pub fn is_unused(&self) -> bool {
        self.members.is_empty()
            && self.joining == 0
            && self.queue.is_empty()
            && self.audience == Audience::Members
    }
}

/// The rooms that have members on one shard.
#[derive(Debug)]
pub struct RoomTable {
    hasher: NameHasher,
    policies: Arc<OverflowPolicies>,
    rooms: Slab<Room>,
    index: HashTable<RoomKey>,
    /// Memberships of all sessions in all rooms, whether or not their homes have answered.
    pub subscriptions: usize,
}

impl RoomTable {
    /// An empty table.
    pub fn new(hasher: NameHasher, policies: Arc<OverflowPolicies>) -> RoomTable {
        RoomTable {
            hasher,
            policies,
            rooms: Slab::new(),
            index: HashTable::new(),
            subscriptions: 0,
        }
    }

    /// The room called `name`, whose hash is `hash`.
    pub fn find(&self, name: &str, hash: u64) -> Option<RoomKey> {
        let is_it = |key: &RoomKey| self.rooms[key.index()].name.as_bytes() == name.as_bytes();
        self.index.find(hash, is_it).copied()
    }

    /// The room called `name`, made if there is none.
    pub fn find_or_add(
        &mut self,
        name: &str,
        hash: u64,
        home: ShardId,
        audience: Audience,
    ) -> RoomKey {
        if let Some(key) = self.find(name, hash) {
            return key;
        }
        let room = Room::new(Name::new(name), home, audience, self.policies.of(name));
        let key = RoomKey::new(self.rooms.insert(room));
        let (rooms, hasher) = (&self.rooms, self.hasher);
        self.index.insert_unique(hash, key, |key| hasher.hash(&rooms[key.index()].name));
        key
    }

    /// The room of `key`.
    ///
    /// # Panics
    /// If it is gone: a membership or a queued item keeps its room.
    pub fn get(&self, key: RoomKey) -> &Room {
        &self.rooms[key.index()]
    }

    /// The room of `key`, to be changed.
    ///
    /// # Panics
    /// If it is gone.
    pub fn get_mut(&mut self, key: RoomKey) -> &mut Room {
        &mut self.rooms[key.index()]
    }

    /// Forgets the room if nobody here has anything to do with it.
    pub fn remove_if_unused(&mut self, key: RoomKey) {
        let room = &self.rooms[key.index()];
        if !room.is_unused() || room.listed {
            return;
        }
        let hash = self.hasher.hash(&room.name);
        let entry = self.index.find_entry(hash, |other| *other == key).expect("rooms are indexed");
        entry.remove();
        self.rooms.remove(key.index());
    }

    /// How many rooms there are.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Room {
        let overflow = Overflow::Disconnect;
        Room::new(Name::new("tea"), ShardId(0), Audience::Members, overflow)
    }

    fn news() -> Delivery {
        let gap = News::Gap { epoch: Epoch(1), from: Seq(1), to: Seq(2) };
        Delivery::new(gap, 0, Vec::new())
    }

    #[test]
    fn places_hold_still_while_news_is_queued() {
        let mut room = room();
        for slot in 10..14 {
            room.enter(slot, slot % 2 == 0);
        }
        room.queue().push_back(news());
        assert_eq!(room.vacate(0), None);
        assert_eq!(room.vacate(3), None);
        assert_eq!(room.members()[1].slot(), Some(11));
        assert_eq!(room.watchers(), 1);
        room.queue().pop_front();
        let mut moved = Vec::new();
        room.close_holes(|place, slot| moved.push((place, slot)));
        assert_eq!(moved, [(0, 12)]);
        let slots: Vec<_> = room.members().iter().map(|member| member.slot()).collect();
        assert_eq!(slots, [Some(12), Some(11)]);
    }

    #[test]
    fn who_leaves_behind_the_last_news_leaves_a_hole_if_there_are_others() {
        let mut room = room();
        for slot in 10..13 {
            room.enter(slot, true);
        }
        room.queue().push_back(news());
        assert_eq!(room.vacate(2), None);
        room.queue().pop_front();
        assert_eq!(room.vacate(0), None);
        let mut moved = Vec::new();
        room.close_holes(|place, slot| moved.push((place, slot)));
        assert_eq!(moved, [(0, 11)]);
    }

    #[test]
    fn without_news_a_place_is_filled_at_once() {
        let mut room = room();
        for slot in 10..13 {
            room.enter(slot, true);
        }
        assert_eq!(room.vacate(0), Some(12));
        assert_eq!(room.vacate(1), None);
        assert_eq!(room.watchers(), 1);
        room.set_notify(0, false);
        assert_eq!(room.watchers(), 0);
    }

    #[test]
    fn a_room_is_found_by_name_until_nobody_needs_it() {
        let hasher = NameHasher::new([1, 2]);
        let mut table = RoomTable::new(hasher, Arc::default());
        let hash = hasher.hash("tea");
        let key = table.find_or_add("tea", hash, ShardId(0), Audience::Members);
        assert_eq!(table.find_or_add("tea", hash, ShardId(0), Audience::Members), key);
        table.get_mut(key).joining = 1;
        table.remove_if_unused(key);
        assert_eq!(table.find("tea", hash), Some(key));
        table.get_mut(key).joining = 0;
        table.remove_if_unused(key);
        assert_eq!(table.find("tea", hash), None);
        assert!(table.is_empty());
    }
}
