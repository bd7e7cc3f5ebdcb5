//! What a core tells its connections, and how it ends them.
//!
//! Owns the way from news to outboxes, from outboxes to the kernel, and the close. A turn's news is
//! gathered first and written at its end, each connection's share in one call.

use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use corebeat::base::ids::{Address, ConnId, Ref};
use corebeat::base::limits::{LINGER_MS, OUTBOXES_KEPT, WRITE_SLICES};
use corebeat::base::name::Name;
use corebeat::base::time::Mono;
use corebeat::wire::message::{Code, Event, PresenceKind};
use tokio::io::AsyncWrite;

use super::common::dialect::DIALECTS;
use super::common::websocket::close_code;
use super::connection::{Connection, State};
use super::core::Core;
use super::outbox::{Batch, Run};
use super::web;

/// Segments that an outbox kept for reuse may have room for.
const SEGMENTS_KEPT: usize = 16;

/// News for many.
impl Core {
    /// Messages for the members here.
    pub(super) fn hear_batch(&mut self, batch: &Arc<Batch>) {
        let Some(key) = self.rooms.find(&batch.room, batch.hash) else {
            return;
        };
        for (_, author) in &batch.authors {
            self.mark_author(*author, true);
        }
        let members = std::mem::take(&mut self.rooms.get_mut(key).members);
        let mut runs: [Option<Rc<Run>>; DIALECTS] = Default::default();
        for member in &members {
            let Some((conn, connection)) = self.connections.in_slot(member.slot()) else {
                continue;
            };
            let State::Live(dialect) = connection.state else {
                continue;
            };
            let run = runs[dialect as usize].get_or_insert_with(|| Run::of_batch(batch, dialect));
            let outbox = match &mut connection.outbox {
                Some(outbox) => outbox,
                none => none.insert(self.outboxes.pop().unwrap_or_default()),
            };
            if connection.marks.author {
                let address = Address::new(self.id, conn);
                let own = batch.authors.iter().filter(|(_, author)| *author == address);
                outbox.push_run_of_author(run, own.map(|(index, _)| *index));
            } else {
                outbox.push_run(run);
            }
            let waiting = outbox.waiting();
            if waiting == 0 {
                self.outboxes.extend(connection.outbox.take());
            } else if waiting > self.service.limits.max_outbound {
                self.overflowed.push(conn);
            } else if !connection.marks.dirty && !connection.marks.blocked {
                connection.marks.dirty = true;
                self.dirty.push(conn);
            }
        }
        self.rooms.get_mut(key).members = members;
        for (_, author) in &batch.authors {
            self.mark_author(*author, false);
        }
        while let Some(conn) = self.overflowed.pop() {
            self.close_slow_reader(conn);
        }
    }

    fn mark_author(&mut self, author: Address, mark: bool) {
        if author.shard() == self.id
            && let Some(connection) = self.connections.get_mut(author.conn())
        {
            connection.marks.author = mark;
        }
    }

    /// Somebody came or went.
    pub(super) fn hear_presence(
        &mut self,
        room: &Name,
        kind: PresenceKind,
        total: u32,
        user: Option<&Name>,
    ) {
        let Some(key) = self.rooms.find(room, self.service.hasher.hash(room)) else {
            return;
        };
        let told = user.map_or("", |user| user);
        let event = Event::Presence { kind, total, room, user: told };
        let mut runs: [Option<Rc<Run>>; DIALECTS] = Default::default();
        let members = std::mem::take(&mut self.rooms.get_mut(key).members);
        for member in members.iter().filter(|member| member.notify()) {
            let Some((conn, connection)) = self.connections.in_slot(member.slot()) else {
                continue;
            };
            let State::Live(dialect) = connection.state else {
                continue;
            };
            if connection.user.as_ref() == user {
                continue;
            }
            let run = runs[dialect as usize].get_or_insert_with(|| Run::of_event(&event, dialect));
            let outbox = match &mut connection.outbox {
                Some(outbox) => outbox,
                none => none.insert(self.outboxes.pop().unwrap_or_default()),
            };
            outbox.push_run(run);
            self.mark_dirty(conn);
        }
        self.rooms.get_mut(key).members = members;
    }
}

/// News for one, and its end.
impl Core {
    /// Tells one connection something.
    pub(super) fn tell(&mut self, conn: ConnId, event: &Event<'_>, urgent: bool) {
        let Some(dialect) = self.connections.get(conn).and_then(Connection::dialect) else {
            return;
        };
        self.tell_raw(conn, urgent, |out| web::append_event(out, dialect, event));
    }

    /// Queues what `encode` writes.
    pub(super) fn tell_raw(
        &mut self,
        conn: ConnId,
        urgent: bool,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if connection.state == State::Closing {
            return;
        }
        let outbox = match &mut connection.outbox {
            Some(outbox) => outbox,
            none => none.insert(self.outboxes.pop().unwrap_or_default()),
        };
        if urgent {
            outbox.push_urgent(encode);
        } else {
            outbox.push_own(encode);
        }
        match outbox.waiting() {
            0 => self.recycle_outbox(conn),
            waiting if waiting > self.service.limits.max_outbound => self.close_slow_reader(conn),
            _ => self.mark_dirty(conn),
        }
    }

    pub(super) fn mark_dirty(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn)
            && !connection.marks.dirty
            && !connection.marks.blocked
        {
            connection.marks.dirty = true;
            self.dirty.push(conn);
        }
    }

    fn recycle_outbox(&mut self, conn: ConnId) {
        if let Some(mut outbox) = self.connections.get_mut(conn).and_then(|c| c.outbox.take()) {
            outbox.clear();
            if self.outboxes.len() < OUTBOXES_KEPT && outbox.capacity() <= SEGMENTS_KEPT {
                self.outboxes.push(outbox);
            }
        }
    }

    /// Phase: writes what the turn has produced, each connection's share in one call.
    pub(super) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for conn in dirty.drain(..) {
            self.write(conn);
        }
        // Failures may have marked others meanwhile.
        std::mem::swap(&mut self.dirty, &mut dirty);
        self.dirty.append(&mut dirty);
    }

    fn write(&mut self, conn: ConnId) {
        loop {
            let Some(connection) = self.connections.get_mut(conn) else {
                return;
            };
            let Connection { stream, bell, outbox, marks, .. } = connection;
            marks.dirty = false;
            let Some(outbox) = outbox else {
                return self.all_sent(conn);
            };
            let cx = &mut Context::from_waker(bell);
            // One segment is the common case: `send` is cheaper than `writev`, and no table of
            // slices is filled.
            let written = match outbox.only_segment() {
                Some(bytes) => Pin::new(stream).poll_write(cx, bytes),
                None => {
                    let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
                    let count = outbox.gather(&mut slices);
                    Pin::new(stream).poll_write_vectored(cx, &slices[..count])
                }
            };
            match written {
                Poll::Pending => return marks.blocked = true,
                Poll::Ready(Ok(0) | Err(_)) => return self.fail(conn),
                Poll::Ready(Ok(bytes)) => {
                    outbox.sent(bytes);
                    let waiting = outbox.waiting();
                    self.note_progress(conn, waiting);
                    if waiting == 0 {
                        self.recycle_outbox(conn);
                        return self.all_sent(conn);
                    }
                }
            }
        }
    }

    /// The peer reads. Goes on with its requests where they were left because it did not.
    fn note_progress(&mut self, conn: ConnId, waiting: usize) {
        let resume_below = self.service.limits.pause_reading_above() / 2;
        if let Some(connection) = self.connections.get_mut(conn)
            && connection.marks.paused
        {
            connection.hear(self.now.mono);
            if waiting < resume_below {
                connection.marks.paused = false;
                self.ready.push(conn);
            }
        }
    }

    fn all_sent(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if connection.state != State::Closing {
            return;
        }
        if connection.marks.ended {
            return self.doom(conn);
        }
        // What was left unread would turn the close into a reset, and a reset takes the last words
        // away from the peer: it is read on until it hangs up, or the timer fires.
        let cx = &mut Context::from_waker(&connection.bell);
        let _ = Pin::new(&mut connection.stream).poll_shutdown(cx);
        self.ready.push(conn);
    }

    /// Ends a connection when all that is queued is sent.
    pub(super) fn close(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if connection.state == State::Closing {
            return;
        }
        let heard_nothing = connection.state == State::Sniffing && connection.outbox.is_none();
        self.depart(conn);
        if heard_nothing {
            return self.doom(conn);
        }
        let connection = self.connections.get_mut(conn).expect("it was just there");
        connection.state = State::Closing;
        connection.marks.paused = false;
        connection.input = None;
        self.arm_at(conn, self.now.mono + LINGER_MS);
        self.mark_dirty(conn);
    }

    /// Ends a connection when all that is queued is sent, and tells a WebSocket why.
    pub(super) fn close_with(&mut self, conn: ConnId, code: u16) {
        let dialect = self.connections.get(conn).and_then(Connection::dialect);
        if dialect.is_some_and(|dialect| dialect.opcode().is_some()) {
            self.tell_raw(conn, false, |out| web::append_close(out, code));
        }
        self.close(conn);
    }

    /// Ends a connection whose outbox is full.
    pub(super) fn close_slow_reader(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if let Some(outbox) = &mut connection.outbox {
            outbox.truncate();
        }
        let text = "the outbound queue is full: read faster";
        let event = Event::Error { reference: Ref::NONE, code: Code::SlowReader, text };
        self.tell(conn, &event, true);
        self.close_with(conn, close_code(Code::SlowReader));
    }

    pub(super) fn fail(&mut self, conn: ConnId) {
        self.depart(conn);
        self.doom(conn);
    }

    /// Puts a connection on the list of those to be dropped at the end of the turn.
    pub(super) fn doom(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn)
            && !connection.marks.doomed
        {
            connection.marks.doomed = true;
            connection.state = State::Closing;
            self.doomed.push(conn);
        }
    }

    /// Phase, the last but the post: slots are free again only now.
    pub(super) fn reap(&mut self) {
        while let Some(conn) = self.doomed.pop() {
            self.recycle_outbox(conn);
            self.connections.remove(conn);
            self.door_rests_until = Mono(0);
        }
    }
}
