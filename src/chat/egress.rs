//! What goes out to one connection: words, the last word, the close.
//!
//! Owns how an event gets into a connection's outbox, and how a connection ends. Never decides that
//! it should: heartbeats, malformed bytes, goodbyes and full outboxes
//! ([`overflow`](super::overflow)) do. The opposite of [`intake`](super::intake).

use crate::base::counters::CloseReason;
use crate::base::ids::ConnId;
use crate::base::limits::LINGER_MS;
use crate::base::time::Now;
use crate::wire::message::Event;
use crate::wire::{native, websocket};

use super::detach::Loss;
use super::mail::Ending;
use super::outbox::Outbox;
use super::session::{Marks, Session, State};
use super::shard::{Shard, Verdict};
use super::web::Farewell;

/// Whether a connection that is closed for `reason` does not read. One that reads is told in order;
/// one that does not, as soon as can be.
fn is_unread(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::SlowReader
            | CloseReason::StalledReader
            | CloseReason::HeartbeatTimeout
            | CloseReason::Superseded
    )
}

/// How a word to one connection takes its place in the outbox.
#[derive(Clone, Copy)]
enum Haste {
    InOrder,
    Urgent,
}

impl Shard {
    /// Tells one connection something, behind all that waits for it.
    pub(super) fn tell(&mut self, conn: ConnId, event: &Event<'_>, now: Now) {
        self.queue(conn, event, Haste::InOrder);
        self.bound_outbox(conn, now);
    }

    /// Tells one connection something ahead of the data that waits for it.
    #[inline]
    pub(super) fn tell_urgently(&mut self, conn: ConnId, event: &Event<'_>, now: Now) {
        self.queue(conn, event, Haste::Urgent);
        self.bound_outbox(conn, now);
    }

    /// Queues bytes that are no event, such as a text notice.
    pub(super) fn tell_raw(&mut self, conn: ConnId, encode: impl FnOnce(&mut Vec<u8>), now: Now) {
        self.queue_raw(conn, encode, Haste::InOrder);
        self.bound_outbox(conn, now);
    }

    /// Queues bytes that are no event, such as a WebSocket's pong, ahead of the data that waits.
    pub(super) fn tell_raw_urgently(
        &mut self,
        conn: ConnId,
        encode: impl FnOnce(&mut Vec<u8>),
        now: Now,
    ) {
        self.queue_raw(conn, encode, Haste::Urgent);
        self.bound_outbox(conn, now);
    }

    fn queue_raw(&mut self, conn: ConnId, encode: impl FnOnce(&mut Vec<u8>), haste: Haste) {
        if let Some(session) = self.sessions.get_mut(conn)
            && !matches!(session.state, State::Closing(_))
        {
            let outbox = session.outbox(&mut self.outboxes);
            match haste {
                Haste::InOrder => outbox.push_own(&mut self.outboxes, encode),
                Haste::Urgent => outbox.push_urgent(&mut self.outboxes, encode),
            }
            self.queued(conn);
        }
    }

    fn queue(&mut self, conn: ConnId, event: &Event<'_>, haste: Haste) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let Some(dialect) = session.state.dialect() else {
            return self.queue_to_echo(conn, event);
        };
        let encode = |out: &mut Vec<u8>| dialect.encode(out, event);
        let outbox: &mut Outbox = session.outbox(&mut self.outboxes);
        match haste {
            Haste::InOrder => outbox.push_own(&mut self.outboxes, encode),
            Haste::Urgent => outbox.push_urgent(&mut self.outboxes, encode),
        }
        self.queued(conn);
    }

    /// Queues what is said to a connection without a dialect: pings, to an echo.
    #[cold]
    fn queue_to_echo(&mut self, conn: ConnId, event: &Event<'_>) {
        let is_echo = |session: &Session| matches!(session.state, State::Echo(_));
        if let Event::Ping(ping) = event
            && self.sessions.get(conn).is_some_and(is_echo)
        {
            let payload = native::heartbeat_bytes(ping);
            self.queue_raw(conn, |out| websocket::append_ping(out, &payload), Haste::Urgent);
        }
    }

    pub(super) fn queued(&mut self, conn: ConnId) {
        let empty = self.sessions.get(conn).is_some_and(|session| session.waiting() == 0);
        if empty { self.recycle_outbox(conn) } else { self.mark_dirty(conn) }
    }

    /// Ends a connection: a last word, what is queued, a half-close, and at last the close.
    ///
    /// From here on it is a member of nothing, gets nothing more and is not listened to.
    pub(super) fn close(
        &mut self,
        conn: ConnId,
        reason: CloseReason,
        last: Option<&Event<'_>>,
        now: Now,
    ) {
        self.close_with(conn, reason, last, &Farewell::of(reason, last), now);
    }

    /// The same, where a WebSocket's last frame is not to say what it usually says.
    pub(super) fn close_with(
        &mut self,
        conn: ConnId,
        reason: CloseReason,
        last: Option<&Event<'_>>,
        farewell: &Farewell<'_>,
        now: Now,
    ) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if matches!(session.state, State::Closing(_)) {
            return;
        }
        let heard_nothing = session.state == State::Sniffing && session.outbox.is_none();
        let undelivered = self.undelivered_in_outbox(conn);
        self.note_closing(conn, reason, undelivered, now);
        let is_kept = self.is_to_be_kept(conn, reason);
        let session = self.sessions.get(conn).expect("it was just there");
        if session.state.is_web() {
            self.queue_farewell(conn, reason, last, farewell);
        } else if let Some(event) = last {
            let haste = if is_unread(reason) { Haste::Urgent } else { Haste::InOrder };
            self.queue(conn, event, haste);
        }
        if is_kept {
            self.detach(conn, Loss::Closed { undelivered }, now);
        } else {
            self.depart(conn, Ending::of(reason), now);
        }
        if heard_nothing {
            return self.forget(conn, reason);
        }
        let session = self.sessions.get_mut(conn).expect("it was just there");
        session.state = State::Closing(reason);
        if session.marks.has(Marks::HELD_BACK) {
            // The shell is to see it hang up, and must not leave bytes unread: they would turn the
            // close into a reset.
            session.marks.clear(Marks::HELD_BACK);
            self.verdicts.push_back(Verdict::Resume(conn));
        }
        if let Some(input) = session.input.take() {
            input.release(&mut self.outboxes);
        }
        let session = self.sessions.get_mut(conn).expect("it was just there");
        let nothing_waits = session.outbox.is_none();
        self.arm_at(conn, now, now.mono + LINGER_MS);
        if nothing_waits {
            self.all_sent(conn);
        }
    }

    /// Queues the last words to a WebSocket and its last frame, behind which nothing may come: what
    /// a peer that does not read was not sent is dropped.
    fn queue_farewell(
        &mut self,
        conn: ConnId,
        reason: CloseReason,
        last: Option<&Event<'_>>,
        farewell: &Farewell<'_>,
    ) {
        let outbox = self.sessions.get_mut(conn).and_then(|session| session.outbox.as_mut());
        if let Some(outbox) = outbox
            && is_unread(reason)
        {
            outbox.truncate(&mut self.outboxes, &mut self.chunks);
        }
        if let Some(event) = last {
            self.queue(conn, event, Haste::InOrder);
        }
        let Farewell { code, reason } = *farewell;
        self.queue_raw(conn, |out| websocket::append_close(out, code, reason), Haste::InOrder);
    }

    /// The kernel took bytes for a connection whose reading counts as life, and `waiting` are left.
    ///
    /// The PONGs of one that is paused lie unread behind its requests; one that fetches pages has
    /// none to send.
    #[cold]
    pub(super) fn was_read(&mut self, conn: ConnId, waiting: usize, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.heard(now.mono);
        if session.marks.has(Marks::PAUSED) && waiting < self.limits.pause_reading_above() / 2 {
            session.marks.clear(Marks::PAUSED);
            if !session.marks.has(Marks::RESUMING) {
                session.marks.set(Marks::RESUMING);
                self.resuming.push(conn);
            }
        }
        if waiting > 0 {
            return self.mark_dirty(conn);
        }
        let (state, fetching) = (session.state, session.marks.has(Marks::FETCHING));
        self.recycle_outbox(conn);
        match state {
            State::Closing(_) => self.all_sent(conn),
            _ if fetching => self.all_fetched(conn, now),
            _ => {}
        }
    }

    /// All that waited for a connection is with the kernel.
    pub(super) fn all_sent(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if let State::Closing(reason) = session.state {
            if session.marks.has(Marks::ENDED) {
                self.forget(conn, reason);
            } else {
                self.verdicts.push_back(Verdict::Shutdown(conn));
            }
        }
    }

    /// Forgets a connection and has its socket dropped.
    pub(super) fn forget(&mut self, conn: ConnId, reason: CloseReason) {
        self.remove(conn);
        self.verdicts.push_back(Verdict::Close(conn, reason));
    }

    pub(super) fn remove(&mut self, conn: ConnId) {
        let Some(mut session) = self.sessions.remove(conn) else {
            return;
        };
        debug_assert!(session.memberships().next().is_none(), "who is removed has departed");
        if let Some(outbox) = session.outbox.take() {
            self.outboxes.release_outbox(outbox, &mut self.chunks);
        }
        if let Some(input) = session.input.take() {
            input.release(&mut self.outboxes);
        }
    }

    /// Puts a connection on the list of those with bytes to send.
    pub(super) fn mark_dirty(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn)
            && !session.marks.has(Marks::DIRTY)
            && !session.marks.has(Marks::BLOCKED)
        {
            session.marks.set(Marks::DIRTY);
            self.dirty.push_back(conn);
        }
    }

    fn recycle_outbox(&mut self, conn: ConnId) {
        if let Some(outbox) = self.sessions.get_mut(conn).and_then(|s| s.outbox.take()) {
            self.outboxes.release_outbox(outbox, &mut self.chunks);
        }
    }
}
