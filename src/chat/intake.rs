//! Received bytes to requests.
//!
//! Owns the walk of a byte through the dialects: what a connection's first bytes mean, where a
//! frame or line ends, what is held while it has not ended. Never interprets a request:
//! [`requests`](super::requests) and [`text`](super::text) do, and what comes by HTTP or on a
//! WebSocket is read by [`http`](super::http) and [`web`](super::web). Called by the shell through
//! [`Shard::receive`].

use crate::base::counters::CloseReason;
use crate::base::ids::{ConnId, Ref};
use crate::base::time::Now;
use crate::wire::message::{Code, Event, Request, WireError};
use crate::wire::sniff::{Sniffed, sniff};
use crate::wire::{line, native};

use super::batch::Dialect;
use super::session::{Marks, State};
use super::shard::Shard;

/// What one look at a connection's input led to.
pub(super) enum Step {
    /// So many bytes were used; there may be more to use.
    Used(usize),
    /// Nothing more can be used before more arrives.
    Wait,
    /// The connection is closed or gone.
    Over,
}

impl Shard {
    /// Bytes arrived.
    pub fn receive(&mut self, conn: ConnId, bytes: &[u8], now: Now) {
        self.counters.bytes_in += bytes.len() as u64;
        if !self.meters.spend_bytes(conn.slot(), bytes.len()) {
            self.pay_bytes(conn, bytes.len(), now);
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if matches!(session.state, State::Closing(_)) {
            return;
        }
        match session.input.as_mut() {
            Some(input) if !input.held.is_empty() => {
                input.held.extend_from_slice(bytes);
                let end = memchr::memchr(b'\n', bytes);
                if end.is_some() || !session.reads_lines(self.limits.max_frame) {
                    self.consume_held(conn, now);
                }
                // Else what was held has no end of line either: a line that dribbles in byte by
                // byte is searched once, not once for every byte.
            }
            _ => {
                let used = self.consume(conn, bytes, now);
                self.hold(conn, &bytes[used..], now);
            }
        }
    }

    /// Goes on with what was held while the connection's requests were paused.
    pub(super) fn resume_input(&mut self, conn: ConnId, now: Now) {
        if self.sessions.get(conn).is_some_and(|session| session.input.is_some()) {
            self.consume_held(conn, now);
        }
    }

    fn consume_held(&mut self, conn: ConnId, now: Now) {
        let input = self.sessions.get_mut(conn).and_then(|session| session.input.as_mut());
        let Some(input) = input else {
            return;
        };
        let mut held = std::mem::take(&mut input.held);
        let since = input.since.take();
        let used = self.consume(conn, &held, now);
        held.drain(..used);
        let since = if used == 0 { since } else { None };
        match self.sessions.get_mut(conn) {
            Some(session) if !held.is_empty() && !matches!(session.state, State::Closing(_)) => {
                let since = since.or_else(|| self.await_frame(conn, now));
                self.put_back(conn, held, since);
            }
            session => {
                if let Some(session) = session
                    && session.input.as_ref().is_some_and(|input| input.is_empty())
                {
                    session.input = None;
                }
                self.outboxes.release_buffer(held);
            }
        }
    }

    fn put_back(&mut self, conn: ConnId, held: Vec<u8>, since: Option<u32>) {
        if let Some(session) = self.sessions.get_mut(conn) {
            let input = session.input.get_or_insert_default();
            (input.held, input.since) = (held, since);
        }
    }

    fn hold(&mut self, conn: ConnId, rest: &[u8], now: Now) {
        if rest.is_empty() {
            return;
        }
        let state = self.sessions.get(conn).map(|session| session.state);
        if state.is_some_and(|state| !matches!(state, State::Closing(_))) {
            let mut held = self.outboxes.buffer();
            held.extend_from_slice(rest);
            let since = self.await_frame(conn, now);
            self.put_back(conn, held, since);
        }
    }

    /// Uses as much of `bytes` as makes whole requests; returns how much that was.
    fn consume(&mut self, conn: ConnId, bytes: &[u8], now: Now) -> usize {
        let mut used = 0;
        loop {
            match self.step(conn, &bytes[used..], now) {
                Step::Used(more) => used += more,
                Step::Wait => return used,
                Step::Over => return bytes.len(),
            }
        }
    }

    fn step(&mut self, conn: ConnId, bytes: &[u8], now: Now) -> Step {
        let pause_above = self.limits.pause_reading_above();
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Over;
        };
        let leaves = session.marks.has(Marks::LEAVING);
        if leaves || matches!(session.state, State::Closing(_)) {
            return Step::Over;
        }
        if bytes.is_empty() && !session.has_unread_frames() {
            return Step::Wait;
        }
        if session.waiting() > pause_above {
            if !session.state.awaits_shards() {
                session.marks.set(Marks::PAUSED);
            }
            return Step::Wait;
        }
        match session.state {
            State::Live(Dialect::Native | Dialect::NativeCrc)
            | State::AwaitingHello(Dialect::Native) => self.step_frame(conn, bytes, now),
            State::Sniffing => self.step_sniff(conn, bytes, now),
            State::AwaitingLine | State::Live(Dialect::Text) => self.step_line(conn, bytes, now),
            State::Live(_) | State::AwaitingHello(_) | State::Echo(_) => {
                self.step_web(conn, bytes, now)
            }
            State::AwaitingRequest | State::Browsing => self.step_request(conn, bytes, now),
            State::AwaitingNumbers | State::AwaitingWelcome(_) => Step::Wait,
            State::Closing(_) => Step::Over,
        }
    }

    fn step_sniff(&mut self, conn: ConnId, bytes: &[u8], now: Now) -> Step {
        let state = match sniff(bytes) {
            Sniffed::Undecided => return Step::Wait,
            Sniffed::Native => State::AwaitingHello(Dialect::Native),
            Sniffed::Text => State::AwaitingLine,
            Sniffed::Http => State::AwaitingRequest,
            Sniffed::Tls => {
                self.close(conn, CloseReason::UnservedDialect, None, now);
                return Step::Over;
            }
        };
        if let Some(session) = self.sessions.get_mut(conn) {
            session.state = state;
        }
        if self.refuses_excess(conn, now) { Step::Over } else { Step::Used(0) }
    }

    fn step_frame(&mut self, conn: ConnId, bytes: &[u8], now: Now) -> Step {
        let decoded = native::frame(bytes, self.limits.max_frame).and_then(|frame| match frame {
            None => Ok(None),
            Some((frame, used)) => Ok(Some((native::request(&frame)?, used))),
        });
        let (request, used) = match decoded {
            Ok(None) => return Step::Wait,
            Ok(Some(decoded)) => decoded,
            Err(error) => {
                self.fail(conn, error.code(), error.text(), now);
                return Step::Over;
            }
        };
        self.take_request(conn, request.as_ref(), now);
        Step::Used(used)
    }

    /// Takes a request of a client that is no text client. It is none where the client says that it
    /// may be skipped.
    ///
    /// Inlined, because native frames are most of what there is; WebSockets share one copy.
    #[inline(always)]
    pub(super) fn take_request(&mut self, conn: ConnId, request: Option<&Request<'_>>, now: Now) {
        self.counters.messages_in += 1;
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let greeted = !matches!(session.state, State::AwaitingHello(_));
        if greeted {
            session.heard(now.mono);
            if !session.spend_credit()
                && let Err(too_fast) = self.renew_credit(conn, now)
                && self.refuses_hasty(conn, request, too_fast, now)
            {
                return;
            }
        }
        match request {
            None => {}
            Some(Request::Hello(hello)) if !greeted => self.hello(conn, hello, now),
            Some(Request::Hello(_)) => {
                self.fail(conn, Code::Malformed, "HELLO was said before", now);
            }
            Some(request) if greeted => self.request(conn, request, now),
            Some(_) => self.fail(conn, Code::Malformed, "HELLO must come first", now),
        }
    }

    fn step_line(&mut self, conn: ConnId, bytes: &[u8], now: Now) -> Step {
        let (line, used) = match line::line(bytes, self.limits.max_frame) {
            Ok(None) => return Step::Wait,
            Ok(Some(found)) => found,
            Err(_) => {
                self.fail(conn, Code::TooLarge, "the line is longer than max_frame", now);
                return Step::Over;
            }
        };
        self.counters.messages_in += 1;
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Over;
        };
        let first = session.state == State::AwaitingLine;
        if !first
            && !session.spend_credit()
            && let Err(too_fast) = self.renew_credit(conn, now)
        {
            self.refuse_hasty(conn, Ref::NONE, too_fast, now);
            return Step::Used(used);
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Over;
        };
        match simdutf8::basic::from_utf8(line) {
            Ok(line) => {
                session.heard(now.mono);
                if first { self.greet(conn, line, now) } else { self.command(conn, line, now) }
            }
            Err(_) if first => {
                let error = WireError::Utf8;
                self.fail(conn, error.code(), "the line is not UTF-8", now);
            }
            Err(_) => {
                session.heard(now.mono);
                self.refuse(conn, Ref::NONE, Code::Malformed, "the line is not UTF-8", now);
            }
        }
        Step::Used(used)
    }

    /// Closes a connection whose bytes are not what its dialect allows.
    pub(super) fn fail(&mut self, conn: ConnId, code: Code, text: &str, now: Now) {
        let reason = match code {
            Code::TooLarge => CloseReason::TooLarge,
            Code::Malformed => CloseReason::Malformed,
            _ => CloseReason::Refused,
        };
        let last = Event::Error { reference: Ref::NONE, code, text };
        self.close(conn, reason, Some(&last), now);
    }
}
