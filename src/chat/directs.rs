//! The direct messages of users whose home this shard is.
//!
//! Owns what a home does with a message to a user: it numbers it, tells the user's live sessions or
//! queues it, answers the sender, and replays what is kept at the next hello, page by page. What is
//! kept and who was told what is in the [`inbox`](super::inbox). Called with mail from other
//! shards, or directly where the other side lives here ([`direct_feed`](super::direct_feed)).

use std::sync::Arc;

use crate::base::ids::{Address, Ref, SessionId};
use crate::base::limits::{BATCH_BYTES, SETTLE_MAX_MS};
use crate::base::name::Name;
use crate::base::time::Now;
use crate::wire::message::Code;
use crate::wire::native;

use super::changes::Strike;
use super::direct::Direct;
use super::inbox::{Inbox, Route, Terms};
use super::inboxes::InboxKey;
use super::journal::QueuedDirect;
use super::mail::{Asked, DirectPage, Ending, Mail};
use super::reader::{Coming, Missing};
use super::shard::Shard;

impl Shard {
    /// A user's session said hello, or goes on on another connection: it is told what is kept.
    pub(super) fn home_online(
        &mut self,
        user: Name,
        (session, identity): (Address, SessionId),
        coming: Coming,
        now: Now,
    ) {
        self.directory.online(user.clone(), session, identity);
        let Some(key) = self.inboxes.find(&user) else {
            return;
        };
        if let Coming::Resumed { undelivered } = coming {
            if self.inboxes.get(key).has_active(identity) {
                // What it acknowledged on its former connection may be under way, and is not to
                // come again. The news that that one has ended comes behind it.
                return;
            }
            self.resume_directs(key, (session, identity), undelivered as usize, now);
        } else {
            let told = if let Coming::Again { last } = coming { last } else { 0 };
            let greet = |inbox: &mut Inbox, terms: &mut Terms<'_>| {
                inbox.greet(identity, session, told, terms);
            };
            self.inboxes.change(key, now, greet);
        }
        self.send_directs(&user, session, false, now);
    }

    fn resume_directs(
        &mut self,
        key: InboxKey,
        (session, identity): (Address, SessionId),
        undelivered: usize,
        now: Now,
    ) {
        self.inboxes.change(key, now, |inbox, terms| {
            inbox.resume(identity, session, undelivered, terms);
        });
    }

    /// A user's session lost its connection, or ended with it.
    pub(super) fn home_offline(
        &mut self,
        user: &Name,
        session: Address,
        identity: SessionId,
        ending: Ending,
        now: Now,
    ) {
        self.directory.offline(user.clone(), session);
        let Some(key) = self.inboxes.find(user) else {
            return;
        };
        let asks = self.inboxes.change(key, now, |inbox, terms| inbox.end(session, ending, terms));
        if asks {
            let mail = Mail::LastDirects { conn: session.conn(), user: user.clone() };
            return self.send(session.shard(), mail, now);
        }
        // It may have come back before it was known to be gone.
        let elsewhere = self.directory.readers(user).find(|(other, _)| *other == identity);
        if let Some((_, elsewhere)) = elsewhere
            && let Some(key) = self.inboxes.find(user)
            && !self.inboxes.get(key).has_active(identity)
        {
            self.resume_directs(key, (elsewhere, identity), usize::MAX, now);
            self.send_directs(user, elsewhere, false, now);
        }
    }

    /// A session that broke was not resumed in time.
    pub(super) fn home_expired(&mut self, user: &Name, identity: SessionId, now: Now) {
        if let Some(key) = self.inboxes.find(user) {
            self.inboxes.change(key, now, |inbox, _| inbox.forget_session(identity));
        }
    }

    /// Delivers a direct message to every live session of its user, or queues it.
    pub(super) fn home_direct(
        &mut self,
        user: &Name,
        from: &Name,
        (origin, reference): (Address, Ref),
        body: &[u8],
        now: Now,
    ) {
        let key = self.inboxes.find(user);
        let route = match key {
            Some(key) => self.inboxes.get(key).route(self.inboxes.keeps()),
            None if self.directory.sessions(user).next().is_some() => Route::Tell,
            None => Route::Queue,
        };
        let cost = Direct::cost_of(from, body.len());
        let refusal = match route {
            Route::Tell => self.refuses_live_directs(),
            Route::Queue | Route::Behind => {
                self.refuses_to_write().or_else(|| self.inboxes.check_room(cost, route).err())
            }
        };
        if let Some(text) = refusal {
            self.counters.directs_refused += 1;
            return self.refuse_direct(origin, reference, text, now);
        }
        let began = self.inboxes.last_id();
        let id = self.inboxes.take_id();
        let since_ms = self.inboxes.steady_ms(now);
        let direct = Direct::kept_since(since_ms, id, now.wall_ms, from, body);
        let key = key.unwrap_or_else(|| {
            let readers = self.directory.readers(user);
            self.inboxes.add(user, readers, began)
        });
        if route != Route::Tell {
            let is_offline = route == Route::Queue;
            let queued = QueuedDirect { id, asked: (origin, reference), is_offline };
            return self.queue_direct((user, key), direct, queued, now);
        }
        let sessions: Vec<Address> = self.inboxes.get(key).live().collect();
        let retain = self.inboxes.has_memory(cost);
        let told = direct.clone();
        self.inboxes.change(key, now, |inbox, _| inbox.tell(told, retain));
        for session in sessions {
            let (conn, user, direct) = (session.conn(), user.clone(), direct.clone());
            self.send(session.shard(), Mail::DirectTo { conn, user, direct }, now);
        }
        self.answer_direct((origin, reference), id, None, now);
    }

    /// Queues a message of whom none is told now, and answers its sender, once it is written where
    /// that is promised.
    fn queue_direct(
        &mut self,
        (user, key): (&Name, InboxKey),
        direct: Direct,
        queued: QueuedDirect,
        now: Now,
    ) {
        self.counters.directs_queued += 1;
        let waits = self.answers_wait_for_writes();
        self.inboxes.change(key, now, |inbox, terms| {
            inbox.queue(direct, terms);
            if waits {
                inbox.await_write(queued.id);
            }
        });
        self.count_struck();
        if waits {
            return self.store_changes(Some(queued));
        }
        let queued_for = queued.is_offline.then(|| user.clone());
        self.answer_direct(queued.asked, queued.id, queued_for, now);
    }

    /// A queued message was written, or taken back: sessions that waited for it go on.
    pub(super) fn go_on_behind_write(&mut self, user: &Name, now: Now) {
        let Some(key) = self.inboxes.find(user) else { return };
        let waiting = self.inboxes.change(key, now, |inbox, _| inbox.take_waiting());
        for session in waiting {
            self.send_directs(user, session, false, now);
        }
    }

    /// Tells a sender that its message was taken. One that is queued is a promise from here on.
    pub(super) fn answer_direct(
        &mut self,
        (origin, reference): (Address, Ref),
        id: u64,
        queued_for: Option<Name>,
        now: Now,
    ) {
        let conn = origin.conn();
        self.send(origin.shard(), Mail::DirectDone { conn, reference, id, queued_for }, now);
    }

    /// Tells a sender that its message is not taken.
    pub(super) fn refuse_direct(
        &mut self,
        origin: Address,
        reference: Ref,
        text: &'static str,
        now: Now,
    ) {
        let (conn, request, code) = (origin.conn(), Asked::Direct, Code::Unavailable);
        self.send(origin.shard(), Mail::Refused { conn, reference, request, code, text }, now);
    }

    /// A session acknowledged all direct messages up to `id`.
    pub(super) fn home_ack(&mut self, user: &Name, session: Address, id: u64, now: Now) {
        if let Some(key) = self.inboxes.find(user) {
            self.inboxes.change(key, now, |inbox, terms| inbox.ack(session, id, terms));
            self.count_struck();
        }
    }

    /// Messages were not handed to a session.
    pub(super) fn home_missed(&mut self, user: &Name, session: Address, ids: (u64, u64), now: Now) {
        if let Some(key) = self.inboxes.find(user) {
            self.inboxes.change(key, now, |inbox, terms| inbox.missed(session, ids, terms));
            self.count_struck();
        }
    }

    /// A session that ended in order has said what it missed.
    pub(super) fn home_left(&mut self, user: &Name, session: Address, now: Now) {
        if let Some(key) = self.inboxes.find(user) {
            self.inboxes.change(key, now, |inbox, _| inbox.left(session));
        }
    }

    /// Sends a session the next page of what is kept for its user, also an empty one if its shard
    /// `asked` for it.
    pub(super) fn send_directs(&mut self, user: &Name, session: Address, asked: bool, now: Now) {
        let mut batch = self.chunks.batch(user);
        let filled = Arc::get_mut(&mut batch).expect("nobody has seen it");
        let missing = self.inboxes.find(user).and_then(|key| {
            self.inboxes.change(key, now, |inbox, terms| {
                inbox.page(session, BATCH_BYTES, terms, |direct| {
                    filled.frames.push(|out| {
                        let start = out.len();
                        out.extend_from_slice(direct.frame());
                        native::mark_replay(&mut out[start..]);
                    });
                })
            })
        });
        if filled.frames.count() == 0 && missing.is_none() && !asked {
            return self.chunks.release_batch(batch);
        }
        let page = DirectPage { conn: session.conn(), batch, missing, asked };
        self.send(session.shard(), Mail::Directs(Box::new(page)), now);
    }

    /// Drops what has been kept for too long, in as many inboxes as the budget allows.
    pub(super) fn expire_directs(&mut self, budget: &mut usize, now: Now) {
        // While the server itself was away nobody could come back.
        let remembered_until = self.amnesty_at + SETTLE_MAX_MS;
        while *budget > 0 && self.inboxes.expire_one(remembered_until, now) {
            *budget -= 1;
        }
        self.count_struck();
    }

    fn count_struck(&mut self) {
        let struck = self.inboxes.take_struck();
        self.counters.directs_acked += struck[Strike::Acked as usize];
        self.counters.directs_dropped += struck[Strike::Dropped as usize];
        self.counters.directs_expired += struck[Strike::Expired as usize];
    }

    /// Takes back what a store kept for a user, in the order of the messages' ids. Before anybody
    /// is connected.
    pub fn recover_directs(
        &mut self,
        user: &Name,
        queue: Vec<Direct>,
        missing: Option<Missing>,
        now: Now,
    ) {
        if let Some(last) = queue.last() {
            self.inboxes.skip_ids(last.id());
        }
        let key = self.inboxes.add(user, std::iter::empty(), 0);
        self.inboxes.change(key, now, |inbox, terms| inbox.recover(queue, missing, terms.now_ms));
    }
}
