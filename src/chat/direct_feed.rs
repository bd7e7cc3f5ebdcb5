//! Direct messages between a connection and the home of a user.
//!
//! Owns the connection's side: requests and acknowledgements on their way to the home, what is told
//! live, and the pages of what was kept, which go into the outbox as it has room
//! ([`catch_up`](super::catch_up)). Never keeps a message: the home does
//! ([`directs`](super::directs)), until it is acknowledged. A text client has no ACK to send: what
//! its outbox took counts as acknowledged.
//!
//! A message that comes for a connection which has left its user meanwhile is said to be missed, so
//! that the home does not take it for told.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::base::ids::{ConnId, Epoch, Ref, Seq};
use crate::base::limits::PAGES_ASKED_MAX;
use crate::base::name::{self, Name};
use crate::base::time::Now;
use crate::wire::message::{Code, Event, OkFlags};
use crate::wire::{line, native};

use super::batch::{Batch, Dialect};
use super::catch_up::{CatchUp, Feed};
use super::direct::Direct;
use super::mail::{DirectPage, Mail};
use super::reader::Missing;
use super::requests::code_of;
use super::session::State;
use super::shard::{Progress, Shard};

/// Acknowledgements that wait because a home's mail is at its bound.
#[derive(Debug, Default)]
pub struct LateAcks {
    /// The last one of each connection.
    pub(super) waiting: BTreeMap<ConnId, u64>,
    /// The connection that was looked at last; none where the next one is the first.
    looked_at: Option<ConnId>,
}

impl Shard {
    /// Says something to one user.
    pub(super) fn direct(
        &mut self,
        conn: ConnId,
        reference: Ref,
        user: &str,
        body: &[u8],
        now: Now,
    ) {
        if let Err(error) = name::check(user) {
            let text = format!("the user name {}", error.text());
            return self.refuse(conn, reference, code_of(error), &text, now);
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let from = session.user.clone().expect("a live session has a user");
        if native::direct_payload_len(&from, body.len()) > self.limits.max_frame {
            let text = "the message would be longer than max_frame";
            return self.refuse(conn, reference, Code::TooLarge, text, now);
        }
        let home = self.home_of(self.hasher.hash(user));
        if self.is_overloaded(home) {
            return self.refuse(conn, reference, Code::Unavailable, "overloaded", now);
        }
        if !reference.wants_answer() {
            let session = self.sessions.get_mut(conn).expect("it was just there");
            session.extra().questions += 1;
        } else if !self.is_new(conn, reference, home, now) {
            return;
        }
        let (user, origin) = (Name::new(user), self.address(conn));
        let mail = Mail::Direct { user, from, origin, reference, body: body.into() };
        self.send(home, mail, now);
    }

    /// The home took a direct message.
    pub(super) fn direct_done(
        &mut self,
        conn: ConnId,
        reference: Ref,
        id: u64,
        queued_for: Option<Name>,
        now: Now,
    ) {
        if !reference.wants_answer() {
            self.question_answered(conn);
            if let Some(user) = queued_for
                && self.speaks_text(conn)
            {
                let notice = format!("{user} is offline, and will be told");
                self.tell_raw(conn, |out| line::encode_notice(out, &notice), now);
            }
            return;
        }
        let Some(refs) = self.refs_of(conn) else {
            return;
        };
        let (epoch, seq) = (Epoch(0), Seq(id));
        let repetitions = refs.complete(reference, epoch, seq);
        let flags = OkFlags { queued: queued_for.is_some(), ..OkFlags::default() };
        self.tell_urgently(conn, &Event::Ok { reference, flags, epoch, seq }, now);
        for _ in 0..repetitions {
            let flags = OkFlags { duplicate: true, ..OkFlags::default() };
            self.tell_urgently(conn, &Event::Ok { reference, flags, epoch, seq }, now);
        }
    }

    /// A connection has all direct messages up to `id`. An acknowledgement is never refused: where
    /// the home's mail is at its bound, the last one of each connection waits.
    pub(super) fn acknowledge(&mut self, conn: ConnId, id: u64, now: Now) {
        let Some(user) = self.sessions.get(conn).and_then(|session| session.user.clone()) else {
            return;
        };
        let home = self.home_of(self.hasher.hash(&user));
        if self.is_overloaded(home) {
            let late = self.late_acks.waiting.entry(conn).or_insert(id);
            *late = id.max(*late);
        } else {
            let id = self.late_acks.waiting.remove(&conn).map_or(id, |late| late.max(id));
            self.send(home, Mail::Ack { user, session: self.address(conn), id }, now);
        }
    }

    /// Sends acknowledgements that waited: so many in one turn, one behind the other, so that those
    /// for a home that has room come up behind those for one that has none.
    pub(super) fn send_late_acks(&mut self, now: Now) -> Progress {
        if self.late_acks.waiting.is_empty() {
            return Progress::Done;
        }
        let most = self.limits.timer_budget;
        let after = self.late_acks.looked_at.map_or(Bound::Unbounded, Bound::Excluded);
        let waiting = self.late_acks.waiting.range((after, Bound::Unbounded));
        let chosen: Vec<(ConnId, u64)> =
            waiting.take(most).map(|(conn, id)| (*conn, *id)).collect();
        let is_end = chosen.len() < most;
        self.late_acks.looked_at = chosen.last().map(|(conn, _)| *conn).filter(|_| !is_end);
        for (conn, id) in chosen {
            self.acknowledge(conn, id, now);
        }
        if is_end { Progress::Done } else { Progress::More }
    }

    /// A direct message came from the user's home, to be told live.
    pub(super) fn take_direct(&mut self, conn: ConnId, user: Name, direct: &Direct, now: Now) {
        if !self.is_session_of(conn, &user) {
            return self.say_missed(conn, user, (direct.id(), direct.id()), now);
        }
        self.counters.directs += 1;
        self.note_last_direct(conn, direct.id());
        self.tell(conn, &direct.event(), now);
        if self.speaks_text(conn) {
            self.acknowledge(conn, direct.id(), now);
        }
    }

    /// A page of what was kept came from the user's home. It is handed over as there is room.
    pub(super) fn take_directs(&mut self, page: DirectPage, now: Now) -> ConnId {
        let DirectPage { conn, batch, missing, asked } = page;
        if asked {
            self.catch_ups.page_came();
        }
        let count = batch.frames.count();
        if !self.is_session_of(conn, &batch.room) {
            if count > 0 {
                let ids = (direct_id(&batch, 0), direct_id(&batch, count - 1));
                self.say_missed(conn, batch.room.clone(), ids, now);
            }
            self.chunks.release_batch(batch);
            return conn;
        }
        self.catch_ups.take((conn, Feed::Directs));
        if let Some(missing) = missing {
            self.tell_missing_directs(conn, missing, now);
        }
        if count == 0 {
            self.chunks.release_batch(batch);
        } else if let Some(open) = self.open_page(conn, Arc::clone(&batch), None) {
            let round = self.catch_ups.next_round();
            let mut replay = CatchUp::new(round);
            (replay.page, replay.source) = (Some(open), Some(batch));
            self.catch_ups.wait(conn, Feed::Directs, replay);
        }
        conn
    }

    /// Hands over what a connection has room for of a page of direct messages, and asks for the
    /// next one when all of it is handed over.
    pub(super) fn go_on_with_directs(&mut self, conn: ConnId, mut replay: CatchUp, now: Now) {
        if let (Some(page), Some(source)) = (replay.page.take(), replay.source.take()) {
            let first = page.next;
            let rest = self.hand_over_page(conn, page, now);
            let next = rest.as_ref().map_or(source.frames.count(), |rest| rest.next);
            if next > first && self.is_session_of(conn, &source.room) {
                self.counters.directs += (next - first) as u64;
                self.note_last_direct(conn, direct_id(&source, next - 1));
                if self.speaks_text(conn) {
                    self.acknowledge(conn, direct_id(&source, next - 1), now);
                }
            }
            if !self.is_session_of(conn, &source.room) {
                // The page was too much for its outbox, and it was closed.
                self.release_page(rest);
                return self.chunks.release_batch(source);
            }
            match rest {
                Some(_) => (replay.page, replay.source) = (rest, Some(source)),
                None => self.chunks.release_batch(source),
            }
        }
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let Some(user) = session.user.clone() else {
            return;
        };
        let has_room = session.waiting() < self.limits.replay_below() && replay.page.is_none();
        let home = self.home_of(self.hasher.hash(&user));
        let overloaded = self.is_overloaded(home);
        if !has_room || overloaded || self.catch_ups.pages_asked() >= PAGES_ASKED_MAX {
            return self.catch_ups.wait_on(conn, Feed::Directs, replay, overloaded);
        }
        self.catch_ups.await_page(conn, Feed::Directs, replay);
        self.send(home, Mail::NextDirects { user, session: self.address(conn) }, now);
    }

    /// A connection is about to leave its user: what waited for the home is sent, and what is in
    /// hand for the connection is said to be missed. Called ahead of `Offline`.
    pub(super) fn leave_directs(&mut self, conn: ConnId, user: &Name, now: Now) {
        if let Some(id) = self.late_acks.waiting.remove(&conn) {
            let (home, session) = (self.home_of(self.hasher.hash(user)), self.address(conn));
            self.send(home, Mail::Ack { user: user.clone(), session, id }, now);
        }
        let Some(replay) = self.catch_ups.take((conn, Feed::Directs)) else {
            return;
        };
        if let (Some(page), Some(source)) = (&replay.page, &replay.source) {
            let last = source.frames.count() - 1;
            let ids = (direct_id(source, page.next), direct_id(source, last));
            self.say_missed(conn, user.clone(), ids, now);
        }
        self.release_page(replay.page);
        if let Some(source) = replay.source {
            self.chunks.release_batch(source);
        }
    }

    /// No more direct messages follow for a connection that has left its user; what came too late
    /// has been said.
    pub(super) fn end_of_directs(&mut self, conn: ConnId, user: Name, now: Now) {
        let (home, session) = (self.home_of(self.hasher.hash(&user)), self.address(conn));
        self.send(home, Mail::DirectsEnded { user, session }, now);
    }

    /// A connection was handed direct messages up to this one. Without a store no home that begins
    /// anew has any of them.
    fn note_last_direct(&mut self, conn: ConnId, id: u64) {
        if self.journal.is_some()
            && let Some(session) = self.sessions.get_mut(conn)
        {
            session.extra().last_direct = id;
        }
    }

    /// The last direct message that a connection was handed, if that was noted.
    pub(super) fn last_direct(&self, conn: ConnId) -> u64 {
        let extra = self.sessions.get(conn).and_then(|session| session.extra.as_ref());
        extra.map_or(0, |extra| extra.last_direct)
    }

    /// A connection goes by another name, whose messages have numbers of their own.
    pub(super) fn forget_last_direct(&mut self, conn: ConnId) {
        let extra = self.sessions.get_mut(conn).and_then(|session| session.extra.as_mut());
        if let Some(extra) = extra {
            extra.last_direct = 0;
        }
    }

    fn say_missed(&mut self, conn: ConnId, user: Name, (from, to): (u64, u64), now: Now) {
        let (home, session) = (self.home_of(self.hasher.hash(&user)), self.address(conn));
        self.send(home, Mail::DirectsMissed { user, session, from, to }, now);
    }

    fn tell_missing_directs(&mut self, conn: ConnId, missing: Missing, now: Now) {
        let Missing { from, to, count } = missing;
        if self.speaks_text(conn) {
            let text = match count {
                1 => "a direct message was dropped".to_owned(),
                _ => format!("{count} direct messages were dropped"),
            };
            let (reference, code) = (Ref::NONE, Code::Unavailable);
            self.tell(conn, &Event::Error { reference, code, text: &text }, now);
        } else {
            let (from, to) = (Seq(from), Seq(to));
            self.tell(conn, &Event::Gap { epoch: Epoch(0), from, to, room: "" }, now);
        }
    }

    fn is_session_of(&self, conn: ConnId, user: &Name) -> bool {
        self.sessions.get(conn).is_some_and(|session| {
            matches!(session.state, State::Live(_)) && session.user.as_ref() == Some(user)
        })
    }

    fn speaks_text(&self, conn: ConnId) -> bool {
        let state = self.sessions.get(conn).map(|session| session.state);
        state == Some(State::Live(Dialect::Text))
    }
}

/// The number of a message of a page.
fn direct_id(page: &Batch, index: usize) -> u64 {
    native::direct_id_and_time(page.frames.frame(index)).0
}
