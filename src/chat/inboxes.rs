//! The inboxes of the users whose home one shard is.
//!
//! Owns the table of them, the numbering of messages, the memory that they take together, when the
//! oldest message of each is due to be dropped, and the changes that a store has to hear of. Never
//! decides what becomes of a message: the [`inbox`](super::inbox) does, and
//! [`directs`](super::directs) calls both. A user with nothing kept has no inbox.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashTable;
use slab::Slab;

use crate::base::ids::{Address, SessionId, ShardId};
use crate::base::limits::{Limits, SETTLE_MAX_MS};
use crate::base::name::Name;
use crate::base::time::{Mono, Now};

use super::changes::{Change, Changes};
use super::hash::NameHasher;
use super::inbox::{Inbox, QueueBounds, Route, Terms};

/// An inbox in its home's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InboxKey(u32);

#[derive(Debug)]
struct Slot {
    inbox: Inbox,
    /// What it was last counted with.
    memory: usize,
    /// When it is next looked at.
    due: Option<Mono>,
}

/// What bounds the inboxes of one shard.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    queue: QueueBounds,
    age_ms: u64,
    memory: usize,
    resume_window_ms: u64,
}

/// The inboxes of one shard's users.
#[derive(Debug)]
pub struct Inboxes {
    hasher: NameHasher,
    /// The time of day at which the monotonic scale began.
    origin_ms: u64,
    bounds: Bounds,
    slots: Slab<Box<Slot>>,
    index: HashTable<InboxKey>,
    deadlines: BTreeSet<(Mono, InboxKey)>,
    memory: usize,
    queued: usize,
    last_id: u64,
    /// The changes of the operation under way, and messages struck so far.
    changes: Changes,
    /// Changes that were not taken out.
    outgoing: VecDeque<(Name, Change)>,
}

impl Inboxes {
    /// An empty table. The ids of messages follow `last_id`.
    pub fn new(hasher: NameHasher, limits: &Limits, last_id: u64, now: Now) -> Inboxes {
        Inboxes {
            hasher,
            origin_ms: now.wall_ms.saturating_sub(now.mono.0),
            bounds: Bounds {
                queue: QueueBounds { count: limits.offline_count, bytes: limits.offline_bytes },
                age_ms: limits.offline_age_ms,
                memory: limits.offline_memory,
                resume_window_ms: limits.resume_window_ms,
            },
            slots: Slab::new(),
            index: HashTable::new(),
            deadlines: BTreeSet::new(),
            memory: 0,
            queued: 0,
            last_id,
            changes: Changes::default(),
            outgoing: VecDeque::new(),
        }
    }

    /// What the wall clock would say if nobody had set it since the start. Ages are counted by it:
    /// a clock that is set must make nothing too old, and what is in a store tells only the time of
    /// day.
    pub fn steady_ms(&self, now: Now) -> u64 {
        self.origin_ms + now.mono.0
    }

    /// Changes are noted for [`Inboxes::pop_change`] from here on.
    pub fn gather_changes(&mut self) {
        self.changes.gathers = true;
    }

    /// Changes are noted no longer, and those that were not taken out are forgotten.
    pub fn ignore_changes(&mut self) {
        self.changes.gathers = false;
        self.changes.list = Vec::new();
        self.outgoing = VecDeque::new();
    }

    /// The number of the next direct message, which grows for every user of this home.
    pub fn take_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The number of the last direct message, for whomever.
    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Numbers of direct messages grow beyond `id` from here on.
    pub fn skip_ids(&mut self, id: u64) {
        self.last_id = self.last_id.max(id);
    }

    /// The inbox of `user`.
    pub fn find(&self, user: &str) -> Option<InboxKey> {
        if self.slots.is_empty() {
            return None;
        }
        let is_it = |key: &InboxKey| self.slot(*key).inbox.user().as_bytes() == user.as_bytes();
        self.index.find(self.hasher.hash(user), is_it).copied()
    }

    /// Makes the inbox of a user who has none, and whose `sessions` are told what comes behind the
    /// message `began`. If nothing is put into it by the next [`Inboxes::change`], it is forgotten.
    pub fn add(
        &mut self,
        user: &Name,
        sessions: impl Iterator<Item = (SessionId, Address)>,
        began: u64,
    ) -> InboxKey {
        let inbox = Inbox::new(user.clone(), sessions, began);
        let memory = inbox.memory();
        self.memory += memory;
        let key = self.slots.insert(Box::new(Slot { inbox, memory, due: None }));
        let key = InboxKey(u32::try_from(key).expect("memory ends before 2^32 inboxes"));
        let (slots, hasher) = (&self.slots, self.hasher);
        let hash_of = |key: &InboxKey| hasher.hash(slots[key.0 as usize].inbox.user());
        self.index.insert_unique(hasher.hash(user), key, hash_of);
        key
    }

    /// The inbox of `key`.
    ///
    /// # Panics
    /// If it is gone.
    pub fn get(&self, key: InboxKey) -> &Inbox {
        &self.slot(key).inbox
    }

    /// Changes an inbox, and forgets it if it is empty then.
    pub fn change<R>(
        &mut self,
        key: InboxKey,
        now: Now,
        operation: impl FnOnce(&mut Inbox, &mut Terms<'_>) -> R,
    ) -> R {
        let slot = &mut self.slots[key.0 as usize];
        let mut terms = Terms {
            bounds: self.bounds.queue,
            now_ms: self.origin_ms + now.mono.0,
            head: self.last_id,
            kept_until: now.mono + self.bounds.resume_window_ms + SETTLE_MAX_MS,
            changes: &mut self.changes,
        };
        let queued = slot.inbox.queued();
        let result = operation(&mut slot.inbox, &mut terms);
        self.queued = self.queued + slot.inbox.queued() - queued;
        let memory = slot.inbox.memory();
        self.memory = self.memory - std::mem::replace(&mut slot.memory, memory) + memory;
        for change in self.changes.list.drain(..) {
            self.outgoing.push_back((slot.inbox.user().clone(), change));
        }
        if slot.inbox.is_empty() {
            self.remove(key);
        } else {
            self.arm(key, now);
        }
        result
    }

    /// Has the inbox looked at no later than when something in it is due.
    fn arm(&mut self, key: InboxKey, now: Now) {
        let now_ms = self.steady_ms(now);
        let slot = &mut self.slots[key.0 as usize];
        let expires = slot.inbox.oldest_ms().map(|oldest_ms| {
            let age_ms = now_ms.saturating_sub(oldest_ms);
            now.mono + (self.bounds.age_ms + 1).saturating_sub(age_ms)
        });
        let due = [expires, slot.inbox.kept_until()].into_iter().flatten().min();
        let Some(due) = due.filter(|due| slot.due.is_none_or(|armed| *due < armed)) else {
            // Armed for earlier: it is armed anew then.
            return;
        };
        if let Some(armed) = slot.due.replace(due) {
            self.deadlines.remove(&(armed, key));
        }
        self.deadlines.insert((due, key));
    }

    fn remove(&mut self, key: InboxKey) {
        let slot = self.slots.remove(key.0 as usize);
        self.memory -= slot.memory;
        if let Some(due) = slot.due {
            self.deadlines.remove(&(due, key));
        }
        let hash = self.hasher.hash(slot.inbox.user());
        let entry = self.index.find_entry(hash, |other| *other == key);
        entry.expect("inboxes are indexed").remove();
    }

    /// When something is too old at the earliest.
    pub fn next_due(&self) -> Option<Mono> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// Drops what is too old in one inbox. Returns whether there was one to look at. Sessions that
    /// broke are remembered at least until `remembered_until`.
    pub fn expire_one(&mut self, remembered_until: Mono, now: Now) -> bool {
        let Some(&(due, key)) = self.deadlines.first() else {
            return false;
        };
        if due > now.mono {
            return false;
        }
        self.deadlines.pop_first();
        self.slots[key.0 as usize].due = None;
        let before_ms = self.steady_ms(now).saturating_sub(self.bounds.age_ms);
        let until = (now.mono, remembered_until);
        self.change(key, now, |inbox, terms| inbox.expire(before_ms, until, terms));
        true
    }

    /// Whether a message of `cost` bytes for a user, which takes this route, may be kept.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check_room(&self, cost: usize, route: Route) -> Result<(), &'static str> {
        let is_behind = route == Route::Behind;
        if self.bounds.queue.count == 0 {
            return Err("the user is offline, and messages are not kept here");
        }
        if cost > self.bounds.queue.bytes {
            return Err(match is_behind {
                true => "earlier messages wait, and this one is longer than what is kept",
                false => "the user is offline, and the message is longer than what is kept",
            });
        }
        if !self.has_memory(cost) {
            return Err(match is_behind {
                true => "earlier messages to the user wait, and no more can be kept",
                false => "the user is offline, and no more messages can be kept",
            });
        }
        Ok(())
    }

    /// Whether `bytes` more may be kept of all users together.
    pub fn has_memory(&self, bytes: usize) -> bool {
        self.memory + bytes <= self.bounds.memory
    }

    /// Whether messages are kept for users who are offline.
    pub fn keeps(&self) -> bool {
        self.bounds.queue.count > 0
    }

    /// Sessions that ended in order and whose shard, which is gone, was to say what came too late
    /// for them; with their users.
    pub fn leaving_at(&self, shard: ShardId) -> Vec<(Name, Address)> {
        let mut leaving = Vec::new();
        for (_, slot) in &self.slots {
            let its = slot.inbox.leavers().filter(|session| session.shard() == shard);
            leaving.extend(its.map(|session| (slot.inbox.user().clone(), session)));
        }
        leaving
    }

    /// Bytes that are kept.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Messages that wait for users.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// How many users have something kept.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nobody has.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Messages that left a queue since the last call, by [`Strike`](super::changes::Strike).
    pub fn take_struck(&mut self) -> [u64; 4] {
        std::mem::take(&mut self.changes.struck)
    }

    /// The next change of a queue, with the user whose it is. Call until `None`.
    pub fn pop_change(&mut self) -> Option<(Name, Change)> {
        self.outgoing.pop_front()
    }

    fn slot(&self, key: InboxKey) -> &Slot {
        &self.slots[key.0 as usize]
    }
}
