//! The direct messages of one user, as the user's home keeps them.
//!
//! Owns two lists, each in the order of the messages' ids. The *queue* is promised: what came while
//! the user had no session, and what sessions that broke had not acknowledged; it is replayed at
//! every hello until an ACK strikes it. The *told* list is what live sessions were handed and have
//! not acknowledged, so that a session that breaks loses nothing: what nobody has taken of it is
//! told to each session that comes, and queued when the last one that was told breaks. Owns also
//! how far each of the user's sessions has come ([`Reader`]). Never sends:
//! [`directs`](super::directs) does, through [`inboxes`](super::inboxes), which counts the memory
//! and notes what a store has to know.
//!
//! A reader's ACK strikes only what that reader was told. Each is told in the order of the ids, so
//! that a number is enough to say how far it is: nothing enters the queue below the place that a
//! reader has come to but what it was told live.
//!
//! Where messages are stored, one that joined the queue and is not written yet is told to nobody,
//! and nothing behind it is: a session that has come so far goes on when the write is done.
//!
//! A user may have many sessions, and each of them acknowledges: an ACK looks at no reader but its
//! own, unless that was the last one to need a message.

use std::collections::VecDeque;

use crate::base::ids::{Address, SessionId};
use crate::base::limits::{INBOX_BYTES, TOLD_BYTES, TOLD_MAX};
use crate::base::name::Name;
use crate::base::time::Mono;

use super::changes::{Change, Changes, Strike};
use super::direct::Direct;
use super::mail::Ending;
use super::queue::Queue;
use super::reader::{Missing, Reader, Standing};
use super::readers::Readers;

/// What becomes of a new message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Nobody is there: it joins the queue.
    Queue,
    /// All who are there must be told earlier ones first: it joins the queue behind those.
    Behind,
    /// The live sessions are told at once.
    Tell,
}

/// Bounds of one user's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    /// Most messages.
    pub count: usize,
    /// Most bytes, as [`Direct::cost`] counts them.
    pub bytes: usize,
}

/// What an operation on an inbox is told besides.
#[derive(Debug)]
pub struct Terms<'a> {
    /// Bounds of the queue.
    pub bounds: QueueBounds,
    /// The time by which what is kept grows old, in milliseconds since 1970.
    pub now_ms: u64,
    /// The id of the last message that there is, for whomever.
    pub head: u64,
    /// Until when a session that breaks now is remembered, if nothing more is heard of it.
    pub kept_until: Mono,
    /// Where changes are noted.
    pub changes: &'a mut Changes,
}

/// A message that live sessions were handed.
#[derive(Debug)]
struct Told {
    direct: Direct,
    /// A session acknowledged it, or took it and said goodbye: it is never queued.
    taken: bool,
}

impl Told {
    fn is_owed_to(&self, reader: &Reader) -> bool {
        reader.is_owed(self.direct.id(), self.taken)
    }
}

/// The direct messages of one user. See the [module](self).
#[derive(Debug)]
pub struct Inbox {
    user: Name,
    queue: Queue,
    told: VecDeque<Told>,
    told_bytes: usize,
    readers: Readers,
    /// Some reader may wait for a message to be written.
    readers_await_write: bool,
    missing: Option<Missing>,
    /// When something was last missing, in milliseconds since 1970.
    missing_at_ms: u64,
}

impl Inbox {
    /// An inbox without messages, for a user whose `sessions` are told what comes behind `began`.
    /// One that is on two connections, because it is not known yet that the first has ended, counts
    /// as one.
    pub fn new(
        user: Name,
        sessions: impl Iterator<Item = (SessionId, Address)>,
        began: u64,
    ) -> Inbox {
        Inbox {
            user,
            queue: Queue::default(),
            told: VecDeque::new(),
            told_bytes: 0,
            readers: Readers::new(sessions, began),
            readers_await_write: false,
            missing: None,
            missing_at_ms: 0,
        }
    }

    /// Whose it is.
    pub fn user(&self) -> &Name {
        &self.user
    }

    /// How many messages are queued.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Bytes that count against the bound of all.
    pub fn memory(&self) -> usize {
        let readers = self.readers.len() * size_of::<Reader>();
        INBOX_BYTES + readers + self.queue.bytes() + self.told_bytes
    }

    /// Whether it holds nothing that an inbox made anew would not: that takes all who are there for
    /// live, and whoever catches up has a page on its way that nothing live may overtake.
    pub fn is_empty(&self) -> bool {
        let nothing_kept = self.queue.is_empty() && self.told.is_empty() && self.missing.is_none();
        let is_behind = |it: &Reader| it.missing.is_some() || it.standing == Standing::CatchingUp;
        nothing_kept && !self.readers.iter().any(is_behind)
    }

    /// What becomes of a new message, where messages are queued or not.
    pub fn route(&self, queues: bool) -> Route {
        let live = |reader: &Reader| reader.standing == Standing::Live;
        let takes = |reader: &Reader| live(reader) || (!queues && reader.is_active());
        if self.readers.iter().any(takes) {
            Route::Tell
        } else if self.readers.iter().any(Reader::is_active) {
            Route::Behind
        } else {
            Route::Queue
        }
    }

    /// Whether a session has a connection.
    pub fn has_active(&self, identity: SessionId) -> bool {
        self.readers.iter().any(|reader| reader.identity == identity && reader.is_active())
    }

    /// The sessions that are told a new message at once.
    pub fn live(&self) -> impl Iterator<Item = Address> + '_ {
        self.readers.that_are(Standing::Live)
    }

    /// The sessions that ended in order and are yet to say what came too late.
    pub fn leavers(&self) -> impl Iterator<Item = Address> + '_ {
        self.readers.that_are(Standing::Leaving)
    }

    /// Queues a new message behind all others; the oldest give way.
    pub fn queue(&mut self, direct: Direct, terms: &mut Terms<'_>) {
        debug_assert!(self.queue.behind(direct.id()) == self.queue.len());
        terms.changes.note(|| Change::Queued(direct.clone()));
        self.queue.insert(direct);
        self.bound_queue(terms);
    }

    /// The message that was queued last is not written yet. [`Inbox::note_written`] or
    /// [`Inbox::take_back`] follows.
    pub fn await_write(&mut self, id: u64) {
        self.queue.await_write(id);
    }

    /// A message of the queue is written.
    pub fn note_written(&mut self, id: u64) {
        self.queue.note_written(id);
    }

    /// The sessions that may go on since something is no longer unwritten: each is owed a page.
    pub fn take_waiting(&mut self) -> Vec<Address> {
        if !std::mem::take(&mut self.readers_await_write) {
            return Vec::new();
        }
        let waits = |reader: &&Reader| reader.awaits_write && reader.is_active();
        self.readers.iter().filter(waits).map(|reader| reader.session).collect()
    }

    fn bound_queue(&mut self, terms: &mut Terms<'_>) {
        let QueueBounds { count, bytes } = terms.bounds;
        while self.queue.len() > count || self.queue.bytes() > bytes {
            self.drop_oldest(Strike::Dropped, terms);
        }
    }

    /// Drops the oldest queued message, which is to be said at the next hello.
    fn drop_oldest(&mut self, reason: Strike, terms: &mut Terms<'_>) {
        let Some(oldest) = self.queue.pop_first() else {
            return;
        };
        let id = oldest.id();
        Missing::note(&mut self.missing, id);
        self.missing_at_ms = terms.now_ms;
        // Who was told it misses nothing, and who has not come so far is told this one by itself.
        let misses = |reader: &&mut Reader| reader.heard_missing && !reader.is_beyond(id);
        for reader in self.readers.iter_mut().filter(misses) {
            Missing::note(&mut reader.missing, id);
        }
        terms.changes.strike(id, reason);
        terms.changes.note(|| Change::Missing(self.missing));
    }

    /// Notes that the live sessions are told a message. What is beyond the bounds of what is kept
    /// of such, or all of it where `retain` is false, is forgotten.
    pub fn tell(&mut self, direct: Direct, retain: bool) {
        self.told_bytes += direct.cost();
        self.told.push_back(Told { direct, taken: false });
        let (count, bytes) = if retain { (TOLD_MAX, TOLD_BYTES) } else { (0, 0) };
        while self.told.len() > count || self.told_bytes > bytes {
            self.forget_told();
        }
    }

    fn forget_told(&mut self) {
        let Some(told) = self.told.pop_front() else {
            return;
        };
        self.told_bytes -= told.direct.cost();
        let id = told.direct.id();
        for reader in self.readers.iter_mut().filter(|reader| told.is_owed_to(reader)) {
            if reader.is_beyond(id) {
                reader.forgotten = id;
            } else {
                Missing::note(&mut reader.missing, id);
            }
        }
    }

    /// A session acknowledged all up to `id`. What it was not told stays.
    pub fn ack(&mut self, session: Address, id: u64, terms: &mut Terms<'_>) {
        let Some(index) = self.readers.active(session) else {
            return;
        };
        let reader = &mut self.readers[index];
        let id = id.min(reader.reach(terms.head));
        let done_before = reader.done();
        if id > reader.acked {
            reader.acked = id;
            for told in &mut self.told {
                let told_id = told.direct.id();
                told.taken |= reader.began < told_id && told_id <= id;
            }
        }
        if reader.heard_missing && self.missing.is_some_and(|missing| missing.to <= id) {
            self.missing = None;
            terms.changes.note(|| Change::Missing(None));
        }
        let went_on = reader.done() > done_before;
        self.queue.strike_up_to(id, terms.changes);
        if went_on && self.readers.went_on(done_before) {
            self.forget_needless();
        }
    }

    /// Takes a message out of the queue that could not be written.
    pub fn take_back(&mut self, id: u64, to: &mut Changes) {
        self.queue.take_back(id, to);
    }

    /// A session said hello on a connection, or was `told` all up to some message before the home
    /// began anew. It is told what is kept, from the oldest on, or behind that. Late news of an
    /// earlier connection of a session that has another one changes nothing.
    pub fn greet(&mut self, identity: SessionId, session: Address, told: u64, terms: &Terms<'_>) {
        let its = |reader: &Reader| reader.identity == identity && reader.is_active();
        if !self.readers.iter().any(its) {
            let heard_missing = self.missing.is_some_and(|missing| missing.to <= told);
            let newcomer = self.newcomer(identity, session, terms.head);
            self.readers.insert(Reader { cursor: told, heard_missing, ..newcomer });
        }
    }

    /// A session of which nothing was known. Its replay begins with the oldest message that a live
    /// session was told and nobody has taken: that session may be a broken one of which nobody
    /// knows yet.
    fn newcomer(&self, identity: SessionId, session: Address, head: u64) -> Reader {
        let oldest = self.told.iter().find(|told| !told.taken);
        let began = oldest.map_or(head, |told| told.direct.id() - 1);
        Reader::new(identity, session, Standing::CatchingUp, (began, head))
    }

    /// A session goes on on another connection, and is known to have lost the former. The last
    /// `undelivered` bytes that were on their way to it may not have arrived.
    pub fn resume(
        &mut self,
        identity: SessionId,
        session: Address,
        undelivered: usize,
        terms: &mut Terms<'_>,
    ) {
        debug_assert!(!self.has_active(identity), "it goes on when its connection has ended");
        let index = match self.readers.of(identity) {
            Some(index) => self.readers.move_to(index, session),
            None => self.readers.insert(self.newcomer(identity, session, terms.head)),
        };
        let reader = &mut self.readers[index];
        reader.cursor = 0;
        reader.heard_missing = false;
        reader.awaits_write = false;
        let retained = self.told.iter().filter(|told| told.is_owed_to(reader));
        let retained: usize = retained.map(|told| told.direct.frame().len()).sum();
        let first = reader.began.max(reader.acked) + 1;
        if first <= reader.forgotten && retained < undelivered {
            let (to, count) = (reader.forgotten, reader.forgotten + 1 - first);
            reader.missing = Some(Missing { from: first, to, count });
        }
        reader.forgotten = 0;
    }

    /// A session ended. Returns whether its shard is to be asked which of the messages that it was
    /// told came too late: then [`Inbox::missed`] and at last [`Inbox::left`] follow.
    pub fn end(&mut self, session: Address, ending: Ending, terms: &mut Terms<'_>) -> bool {
        let Some(index) = self.readers.active(session) else {
            return false;
        };
        let reader = &mut self.readers[index];
        let ending = if reader.is_over && ending == Ending::Kept { Ending::Cut } else { ending };
        reader.told_before = match reader.standing {
            // What it was told on a connection that broke it may have missed.
            Standing::CatchingUp if ending == Ending::Orderly => reader.cursor,
            _ => reader.reach(terms.head),
        };
        let (cursor, catches_up) = (reader.cursor, reader.standing == Standing::CatchingUp);
        reader.standing = match ending {
            Ending::Orderly => Standing::Leaving,
            Ending::Cut | Ending::Kept => Standing::Kept(terms.kept_until),
        };
        let first_not_taken = match ending {
            Ending::Orderly if catches_up => cursor + 1,
            Ending::Orderly => u64::MAX,
            Ending::Cut | Ending::Kept => 0,
        };
        self.queue_orphans(index, (first_not_taken, u64::MAX), terms);
        let reader = &self.readers[index];
        let needs = self.told.iter().any(|told| reader.needs(told.direct.id()));
        match ending {
            Ending::Orderly if needs => return true,
            Ending::Kept => self.readers.note_kept(),
            _ => drop(self.readers.remove(index)),
        }
        self.forget_needless();
        false
    }

    /// Queues what a session was told, from one id to another, and no session took or holds.
    fn queue_orphans(&mut self, index: usize, (from, to): (u64, u64), terms: &mut Terms<'_>) {
        if terms.bounds.count == 0 {
            return;
        }
        let mut place = 0;
        while let Some(told) = self.told.get(place) {
            let id = told.direct.id();
            let its = from <= id && id <= to && self.readers[index].needs(id) && !told.taken;
            let mut others = self.readers.iter().enumerate().filter(|(other, _)| *other != index);
            if its && !others.any(|(_, reader)| reader.holds(id)) {
                let told = self.told.remove(place).expect("it was just there");
                self.told_bytes -= told.direct.cost();
                self.queue_again(told.direct, terms);
            } else {
                place += 1;
            }
        }
    }

    /// Queues a message that was told and not taken.
    fn queue_again(&mut self, direct: Direct, terms: &mut Terms<'_>) {
        let mut readers = self.readers.iter();
        debug_assert!(readers.all(|reader| reader.began < direct.id()), "all were to be told it");
        terms.changes.note(|| Change::Queued(direct.clone()));
        self.queue.insert(direct);
        self.bound_queue(terms);
    }

    /// Messages from one id to another were not handed to a session: it is about to end, with the
    /// rest of a page in hand, or had ended in order when they came.
    pub fn missed(&mut self, session: Address, (from, to): (u64, u64), terms: &mut Terms<'_>) {
        if let Some(index) = self.readers.active(session) {
            let reader = &mut self.readers[index];
            reader.cursor = reader.cursor.min(from.saturating_sub(1));
        } else if let Some(index) = self.readers.leaving(session) {
            // What follows the first one came too late as well.
            let reader = &mut self.readers[index];
            reader.told_before = reader.told_before.min(from.saturating_sub(1));
            self.queue_orphans(index, (from, to), terms);
        }
    }

    /// A session that ended in order has taken all that it did not miss.
    pub fn left(&mut self, session: Address) {
        let Some(index) = self.readers.leaving(session) else {
            return;
        };
        let reader = self.readers.remove(index);
        for told in &mut self.told {
            let id = told.direct.id();
            told.taken |= reader.needs(id) && id <= reader.told_before;
        }
        self.forget_needless();
    }

    /// A session that broke, which may not be known yet, will not be resumed.
    pub fn forget_session(&mut self, identity: SessionId) {
        let Some(index) = self.readers.of(identity) else {
            return;
        };
        if self.readers[index].is_active() {
            self.readers[index].is_over = true;
        } else {
            self.readers.remove(index);
            self.forget_needless();
        }
    }

    /// Forgets told messages that no session is still to acknowledge.
    fn forget_needless(&mut self) {
        let done = self.readers.done();
        while let Some(told) = self.told.pop_front_if(|told| told.direct.id() <= done) {
            self.told_bytes -= told.direct.cost();
        }
    }

    /// Gives a session that catches up the next messages: `take` is called with each, in the order
    /// of their ids, until they are `budget` bytes or more. A page without messages makes it live.
    /// Not the last one with messages does: what is live must not overtake what the session's shard
    /// has of that one still to hand over. Nor does one that ends at a message which is not written
    /// ([`Inbox::take_waiting`]). Returns what is to be told to be missing, ahead of them.
    pub fn page(
        &mut self,
        session: Address,
        budget: usize,
        terms: &mut Terms<'_>,
        mut take: impl FnMut(&Direct),
    ) -> Option<Missing> {
        let index = self.readers.active(session)?;
        let reader = &mut self.readers[index];
        if reader.standing == Standing::Live {
            return None;
        }
        let mut missing = reader.missing.take();
        if !std::mem::replace(&mut reader.heard_missing, true)
            && let Some(more) = self.missing
        {
            missing = Some(more.with(missing));
        }
        let mut queued = self.queue.behind(reader.cursor);
        let mut told = self.told.partition_point(|told| told.direct.id() <= reader.cursor);
        let first_unwritten = self.queue.first_unwritten();
        let (mut bytes, mut awaits_write) = (0, false);
        while bytes < budget {
            while self.told.get(told).is_some_and(|told| !told.is_owed_to(reader)) {
                told += 1;
            }
            let next = match (self.queue.get(queued), self.told.get(told)) {
                (None, None) => break,
                (Some(direct), Some(later)) if direct.id() < later.direct.id() => direct,
                (Some(direct), None) => direct,
                (_, Some(first)) => &first.direct,
            };
            let id = next.id();
            if id >= first_unwritten {
                awaits_write = true;
                break;
            }
            let from_queue = self.queue.get(queued).is_some_and(|direct| direct.id() == id);
            *(if from_queue { &mut queued } else { &mut told }) += 1;
            take(next);
            bytes += next.frame().len();
            reader.cursor = id;
        }
        reader.awaits_write = bytes == 0 && awaits_write;
        self.readers_await_write |= reader.awaits_write;
        if bytes == 0 && !awaits_write {
            reader.standing = Standing::Live;
        }
        if self.queue.is_empty() && self.missing.is_some_and(|gone| gone.from > reader.cursor) {
            // Nothing is left whose ACK would mean this too. What it was told as a message before
            // it gave way has an ACK of its own.
            self.missing = None;
            terms.changes.note(|| Change::Missing(None));
        }
        missing
    }

    /// Drops what is too old, that is from before `before_ms`, and forgets sessions that broke and
    /// of which nothing was heard since; but not before `remembered_until`.
    pub fn expire(
        &mut self,
        before_ms: u64,
        (now, remembered_until): (Mono, Mono),
        terms: &mut Terms<'_>,
    ) {
        while self.queue.first().is_some_and(|oldest| oldest.since_ms() < before_ms) {
            self.drop_oldest(Strike::Expired, terms);
        }
        while self.told.front().is_some_and(|oldest| oldest.direct.since_ms() < before_ms) {
            self.forget_told();
        }
        if self.missing.is_some() && self.missing_at_ms < before_ms {
            self.missing = None;
            terms.changes.note(|| Change::Missing(None));
        }
        self.readers.remember_broken(remembered_until);
        self.readers.forget_broken(now);
        self.forget_needless();
    }

    /// Since when the oldest thing is kept, in milliseconds since 1970.
    pub fn oldest_ms(&self) -> Option<u64> {
        let queued = self.queue.first().map(Direct::since_ms);
        let told = self.told.front().map(|told| told.direct.since_ms());
        let missing = self.missing.map(|_| self.missing_at_ms);
        [queued, told, missing].into_iter().flatten().min()
    }

    /// Until when the first of the sessions that broke is remembered.
    pub fn kept_until(&self) -> Option<Mono> {
        self.readers.kept_until()
    }

    /// Fills an inbox made anew with what was stored of it: messages in the order of their ids.
    pub fn recover(&mut self, queue: Vec<Direct>, missing: Option<Missing>, now_ms: u64) {
        self.queue.recover(queue);
        (self.missing, self.missing_at_ms) = (missing, now_ms);
    }
}
