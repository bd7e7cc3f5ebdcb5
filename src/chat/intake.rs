//! Received bytes to requests.
//!
//! Owns the walk of a byte through the dialects: what a connection's first bytes mean, where a
//! frame or line ends, what is held while it has not ended. Never interprets a request:
//! [`requests`](super::requests) and [`text`](super::text) do. Called by the shell through
//! [`Shard::receive`].

use crate::base::counters::CloseReason;
use crate::base::ids::{ConnId, Ref};
use crate::base::time::Now;
use crate::wire::message::{Code, Event, Request, WireError};
use crate::wire::sniff::{Sniffed, sniff};
use crate::wire::{http, line, native};

use super::batch::Dialect;
use super::session::{Marks, State};
use super::shard::Shard;

/// What one look at a connection's input led to.
enum Step {
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
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if matches!(session.state, State::Closing(_)) {
            return;
        }
        match session.input.take() {
            None => {
                let used = self.consume(conn, bytes, now);
                self.hold(conn, &bytes[used..]);
            }
            Some(mut held) => {
                held.extend_from_slice(bytes);
                let is_text = session.state.dialect() == Some(Dialect::Text);
                let max_line = self.limits.max_frame;
                if is_text && held.len() <= max_line && memchr::memchr(b'\n', bytes).is_none() {
                    // What was held has no end of line either: a line that dribbles in byte by
                    // byte is searched once, not once for every byte.
                    session.input = Some(held);
                } else {
                    self.consume_held(conn, held, now);
                }
            }
        }
    }

    /// Goes on with what was held while the connection's requests were paused.
    pub(super) fn resume_input(&mut self, conn: ConnId, now: Now) {
        if let Some(held) = self.sessions.get_mut(conn).and_then(|session| session.input.take()) {
            self.consume_held(conn, held, now);
        }
    }

    #[expect(clippy::box_collection)]
    fn consume_held(&mut self, conn: ConnId, mut held: Box<Vec<u8>>, now: Now) {
        let used = self.consume(conn, &held, now);
        held.drain(..used);
        match self.sessions.get_mut(conn) {
            Some(session) if !held.is_empty() && !matches!(session.state, State::Closing(_)) => {
                session.input = Some(held);
            }
            _ => self.outboxes.release_buffer(*held),
        }
    }

    fn hold(&mut self, conn: ConnId, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        if let Some(session) = self.sessions.get_mut(conn)
            && !matches!(session.state, State::Closing(_))
        {
            let mut held = self.outboxes.buffer();
            held.extend_from_slice(rest);
            session.input = Some(Box::new(held));
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
        if bytes.is_empty() {
            return Step::Wait;
        }
        if session.waiting() > pause_above {
            session.marks.set(Marks::PAUSED);
            return Step::Wait;
        }
        match session.state {
            State::Sniffing => self.step_sniff(conn, bytes, now),
            State::AwaitingHello | State::Live(Dialect::Native | Dialect::NativeCrc) => {
                self.step_frame(conn, bytes, now)
            }
            State::AwaitingLine | State::Live(Dialect::Text) => self.step_line(conn, bytes, now),
            State::Closing(_) => Step::Over,
        }
    }

    fn step_sniff(&mut self, conn: ConnId, bytes: &[u8], now: Now) -> Step {
        let state = match sniff(bytes) {
            Sniffed::Undecided => return Step::Wait,
            Sniffed::Native => State::AwaitingHello,
            Sniffed::Text => State::AwaitingLine,
            Sniffed::Http => {
                self.tell_raw(conn, http::encode_not_served, now);
                self.close(conn, CloseReason::UnservedDialect, None, now);
                return Step::Over;
            }
            Sniffed::Tls => {
                self.close(conn, CloseReason::UnservedDialect, None, now);
                return Step::Over;
            }
        };
        if let Some(session) = self.sessions.get_mut(conn) {
            session.state = state;
        }
        Step::Used(0)
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
        self.counters.messages_in += 1;
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Over;
        };
        let greeted = session.state != State::AwaitingHello;
        if greeted {
            session.heard(now.mono);
        }
        match request {
            None => {}
            Some(Request::Hello(hello)) if !greeted => self.hello(conn, &hello, now),
            Some(Request::Hello(_)) => {
                self.fail(conn, Code::Malformed, "HELLO was said before", now);
            }
            Some(request) if greeted => self.request(conn, &request, now),
            Some(_) => self.fail(conn, Code::Malformed, "the first frame must be HELLO", now),
        }
        Step::Used(used)
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
