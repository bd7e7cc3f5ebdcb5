//! What comes in on a WebSocket.
//!
//! Owns the way from frames to messages and from messages to requests, the answers to pings and
//! closes, the echo, and the close codes. Never takes a frame apart
//! ([`wire::websocket`](mod@crate::wire::websocket) does) and never does the work of a request:
//! [`requests`](super::requests) does, for every dialect. Called by the [`intake`](super::intake).
//!
//! A message that arrives in one piece, as nearly all do, is unmasked into a buffer of the shard.
//! Only one whose end has not come gets a buffer of its own.

use crate::base::counters::CloseReason;
use crate::base::ids::{ConnId, Ref};
use crate::base::limits::{ECHO_MESSAGE_MAX, FRAME_CRC, FRAME_HEADER, WEBSOCKET_CONTROL_MAX};
use crate::base::time::Now;
use crate::wire::message::{Code, Event, Request, WireError};
use crate::wire::websocket::deflate::Inflater;
use crate::wire::websocket::{self, Control, Item, Kind, Role, Rules, WebError, close};
use crate::wire::{json, native};

use super::dialect::Dialect;
use super::input::HalfMessage;
use super::intake::Step;
use super::session::{Compression, Marks, State};
use super::shard::Shard;

/// What the WebSockets of a shard share, because one message is looked at at a time.
#[derive(Debug, Default)]
pub struct WebDesk {
    payload: Vec<u8>,
    inflated: Vec<u8>,
    inflater: Inflater,
}

/// A piece of a message, as [`Item::Data`] tells it.
#[derive(Clone, Copy)]
struct Piece {
    kind: Kind,
    first: bool,
    last: bool,
    compressed: bool,
}

impl Shard {
    /// Takes what comes next on a WebSocket.
    #[inline(never)]
    pub(super) fn step_web(&mut self, conn: ConnId, bytes: &[u8], now: Now) -> Step {
        let Some(session) = self.sessions.get_mut(conn) else {
            return Step::Over;
        };
        let state = session.state;
        let mut half = session.take_half();
        if half.payload.capacity() == 0 {
            half.payload = std::mem::take(&mut self.web_desk.payload);
        }
        if let (State::Live(dialect), Some(_)) = (state, half.unread) {
            self.take_frames(conn, dialect, half, now);
            return Step::Used(0);
        }
        let rules = self.rules(state);
        let bytes = match state {
            State::Echo(_) => &bytes[..bytes.len().min(self.echo_step())],
            _ => bytes,
        };
        let (item, used) = match half.inbound.next(bytes, &mut half.payload, &rules) {
            Ok(Some(next)) => next,
            Ok(None) => {
                self.keep_half(conn, half, now);
                return Step::Wait;
            }
            Err(error) => {
                self.fail_web(conn, error, now);
                return Step::Over;
            }
        };
        if let Some(session) = self.sessions.get_mut(conn)
            && !matches!(state, State::AwaitingHello(_))
        {
            session.heard(now.mono);
        }
        match item {
            Item::Data { kind, first, last, compressed } => {
                let piece = Piece { kind, first, last, compressed };
                self.take_piece(conn, state, piece, half, now);
            }
            Item::Ping(payload) => {
                self.keep_half(conn, half, now);
                self.answer_ping(conn, &payload, now);
            }
            Item::Pong(payload) => {
                self.keep_half(conn, half, now);
                if let Some(pong) = native::heartbeat(payload.as_bytes()) {
                    self.take_pong(conn, &pong, now);
                }
            }
            Item::Close { code, .. } => self.answer_close(conn, code, now),
        }
        Step::Used(used)
    }

    /// What a WebSocket may send.
    fn rules(&self, state: State) -> Rules {
        let (max_message, compression) = match state {
            State::Live(dialect) | State::AwaitingHello(dialect) => {
                (self.message_max(dialect), dialect.compression())
            }
            State::Echo(compression) => (ECHO_MESSAGE_MAX, compression),
            _ => unreachable!("only a WebSocket is read as one"),
        };
        Rules { role: Role::Server, max_message, deflate: compression == Compression::Deflate }
    }

    /// The longest message of a dialect: an object of the length of a frame's payload, or a whole
    /// frame.
    fn message_max(&self, dialect: Dialect) -> usize {
        let around = if dialect.is_json() { 0 } else { FRAME_HEADER + FRAME_CRC };
        self.limits.max_frame + around
    }

    /// Bytes that are looked at in one step of an echo, so that what is returned always fits into
    /// what may wait for a connection. More than the decoder ever asks for at once.
    fn echo_step(&self) -> usize {
        (self.limits.pause_reading_above() / 2).max(2 * WEBSOCKET_CONTROL_MAX)
    }

    /// Puts a half message where it is found with the next bytes, or its buffer back where there
    /// is nothing to keep.
    fn keep_half(&mut self, conn: ConnId, mut half: HalfMessage, now: Now) {
        let is_whole = half.inbound.is_idle() && half.unread.is_none();
        let session = self.sessions.get(conn);
        let is_open = |state| !matches!(state, State::Closing(_));
        if !session.is_some_and(|session| !is_whole && is_open(session.state)) {
            return self.reuse(half.payload);
        }
        half.since = half.since.or_else(|| self.await_frame(conn, now));
        let Some(session) = self.sessions.get_mut(conn) else {
            return self.reuse(half.payload);
        };
        let is_shared = self.web_desk.payload.capacity() == 0;
        if is_shared || half.payload.is_empty() {
            let mut own = Vec::new();
            if !half.payload.is_empty() {
                own = self.outboxes.buffer();
                own.extend_from_slice(&half.payload);
            }
            let shared = std::mem::replace(&mut half.payload, own);
            session.input.get_or_insert_default().half = Some(Box::new(half));
            return self.reuse(shared);
        }
        session.input.get_or_insert_default().half = Some(Box::new(half));
    }

    fn reuse(&mut self, mut payload: Vec<u8>) {
        if self.web_desk.payload.capacity() == 0 {
            payload.clear();
            self.web_desk.payload = payload;
        } else {
            self.outboxes.release_buffer(payload);
        }
    }

    /// A piece of a message arrived, at the end of what there is of it.
    fn take_piece(
        &mut self,
        conn: ConnId,
        state: State,
        piece: Piece,
        mut half: HalfMessage,
        now: Now,
    ) {
        let dialect = match state {
            State::Echo(_) => return self.echo(conn, piece, half, now),
            _ => state.dialect().expect("a WebSocket that is no echo has a dialect"),
        };
        if piece.kind != dialect.kind() {
            let text = match dialect.kind() {
                Kind::Text => "this subprotocol has text messages only",
                Kind::Binary => "this subprotocol has binary messages only",
            };
            self.reuse(half.payload);
            return self.fail(conn, Code::Malformed, text, now);
        }
        if !piece.last {
            return self.keep_half(conn, half, now);
        }
        if piece.compressed
            && let Err(error) = self.inflate(&mut half.payload, self.message_max(dialect))
        {
            self.reuse(half.payload);
            return self.fail_web(conn, error, now);
        }
        if dialect.is_json() {
            self.take_object(conn, &half.payload, now);
            self.reuse(half.payload);
        } else {
            half.unread = Some(0);
            self.take_frames(conn, dialect, half, now);
        }
    }

    /// Puts what a compressed message says in its place.
    fn inflate(&mut self, message: &mut Vec<u8>, max_message: usize) -> Result<(), WebError> {
        let WebDesk { inflated, inflater, .. } = &mut self.web_desk;
        inflated.clear();
        inflater.inflate(message, inflated, max_message)?;
        std::mem::swap(message, inflated);
        Ok(())
    }

    fn take_object(&mut self, conn: ConnId, message: &[u8], now: Now) {
        let object = json::object(message);
        let request = object.as_ref().map_err(|error| *error).and_then(|object| object.request());
        match request {
            Ok(request) => self.take_web_request(conn, request.as_ref(), now),
            Err(error) => self.fail_wire(conn, error, now),
        }
    }

    #[inline(never)]
    fn take_web_request(&mut self, conn: ConnId, request: Option<&Request<'_>>, now: Now) {
        self.take_request(conn, request, now);
    }

    /// Takes the native frames of a binary message, until the connection is to be paused or closed.
    fn take_frames(&mut self, conn: ConnId, dialect: Dialect, mut half: HalfMessage, now: Now) {
        debug_assert!(!dialect.is_json());
        let mut at = half.unread.expect("the message is whole");
        loop {
            let decoded = native::frame(&half.payload[at..], self.limits.max_frame)
                .and_then(|frame| frame.ok_or(WireError::Truncated))
                .and_then(|(frame, used)| Ok((native::request(&frame)?, used)));
            match decoded {
                Ok((request, used)) => {
                    at += used;
                    self.take_web_request(conn, request.as_ref(), now);
                }
                Err(error) => {
                    self.fail_wire(conn, error, now);
                    break;
                }
            }
            if at == half.payload.len() {
                break;
            }
            match self.sessions.get_mut(conn) {
                Some(session) if session.marks.has(Marks::LEAVING) => break,
                Some(session) if matches!(session.state, State::Closing(_)) => break,
                Some(session) if session.state.awaits_shards() => {
                    half.unread = Some(at);
                    return self.keep_half(conn, half, now);
                }
                Some(session) if session.waiting() > self.limits.pause_reading_above() => {
                    session.marks.set(Marks::PAUSED);
                    half.unread = Some(at);
                    return self.keep_half(conn, half, now);
                }
                Some(_) => {}
                None => break,
            }
        }
        self.reuse(half.payload);
    }

    /// Returns what came, piece by piece; a compressed message whole, because only as a whole it
    /// can be read.
    fn echo(&mut self, conn: ConnId, piece: Piece, mut half: HalfMessage, now: Now) {
        let Piece { kind, first, last, compressed } = piece;
        if compressed {
            let most = self.limits.pause_reading_above();
            if half.payload.len() > most {
                self.reuse(half.payload);
                return self.fail_web(conn, WebError::TooLarge, now);
            }
            if !last {
                return self.keep_half(conn, half, now);
            }
            let inflated = self.inflate(&mut half.payload, most);
            let is_text = kind == Kind::Text;
            let read = inflated.and_then(|()| match simdutf8::basic::from_utf8(&half.payload) {
                Err(_) if is_text => Err(WebError::Utf8),
                _ => Ok(()),
            });
            if let Err(error) = read {
                self.reuse(half.payload);
                return self.fail_web(conn, error, now);
            }
        }
        let (first, payload) = (first || compressed, &half.payload);
        let fragment = |out: &mut Vec<u8>| {
            websocket::append_fragment(out, kind, first, last, payload.len() as u64);
            out.extend_from_slice(payload);
        };
        self.tell_raw(conn, fragment, now);
        if last {
            self.counters.messages_in += 1;
            self.counters.echoes += 1;
            if let Err(too_fast) = self.meters.take_message(conn.slot(), now.mono) {
                self.bear_hasty(conn, too_fast, now);
            }
        }
        half.payload.clear();
        // A long message is on its way for long: each piece of it is waited for.
        half.since = None;
        self.keep_half(conn, half, now);
    }

    fn answer_ping(&mut self, conn: ConnId, payload: &Control, now: Now) {
        self.counters.pings_answered += 1;
        let pong = |out: &mut Vec<u8>| websocket::append_pong(out, payload.as_bytes());
        self.tell_raw_urgently(conn, pong, now);
    }

    /// The peer says the end: it is told the same, and what it asked before is not waited for.
    ///
    /// Only the code for a normal closure says goodbye to the session. A client that gives up a
    /// connection it no longer trusts, or a page that is left, says another or none, and may come
    /// back for its session.
    fn answer_close(&mut self, conn: ConnId, code: Option<u16>, now: Now) {
        self.counters.websocket_closes += 1;
        let farewell = Farewell { code, reason: "" };
        let state = self.sessions.get(conn).map(|session| session.state);
        let is_cut_off = matches!(state, Some(State::Live(_))) && code != Some(close::NORMAL);
        let reason = if is_cut_off { CloseReason::PeerClosed } else { CloseReason::Bye };
        self.close_with(conn, reason, None, &farewell, now);
    }

    /// Closes a WebSocket whose frames are not what the protocol allows.
    fn fail_web(&mut self, conn: ConnId, error: WebError, now: Now) {
        let (reason, code) = match error {
            WebError::TooLarge => (CloseReason::TooLarge, Code::TooLarge),
            _ => (CloseReason::Malformed, Code::Malformed),
        };
        let text = error.text();
        let last = Event::Error { reference: Ref::NONE, code, text };
        let farewell = Farewell { code: Some(error.close_code()), reason: text };
        self.close_with(conn, reason, Some(&last), &farewell, now);
    }

    /// Closes a connection one of whose messages is no request.
    pub(super) fn fail_wire(&mut self, conn: ConnId, error: WireError, now: Now) {
        if error != WireError::Utf8 {
            return self.fail(conn, error.code(), error.text(), now);
        }
        let last = Event::Error { reference: Ref::NONE, code: error.code(), text: error.text() };
        let farewell = Farewell { code: Some(close::INVALID), reason: error.text() };
        self.close_with(conn, CloseReason::Malformed, Some(&last), &farewell, now);
    }
}

/// What a WebSocket's last frame says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Farewell<'a> {
    /// Why, as a number; none where the peer said none.
    pub(super) code: Option<u16>,
    /// Why, in words.
    pub(super) reason: &'a str,
}

/// The close codes of the contract that are corebeat's own.
mod own {
    pub(super) const UNAUTHORIZED: u16 = 4401;
    pub(super) const TIMEOUT: u16 = 4408;
    pub(super) const CONFLICT: u16 = 4409;
    pub(super) const TOO_MANY: u16 = 4429;
    pub(super) const SLOW_READER: u16 = 4431;
}

impl<'a> Farewell<'a> {
    /// The last frame to a connection that ends for `reason` and was told `last`.
    pub(super) fn of(reason: CloseReason, last: Option<&Event<'a>>) -> Farewell<'a> {
        if let Some(&Event::Error { code, text, .. }) = last {
            return Farewell { code: Some(code_of(code)), reason: text };
        }
        match reason {
            CloseReason::Draining => Farewell { code: Some(close::GOING_AWAY), reason: "draining" },
            _ => Farewell { code: Some(close::NORMAL), reason: "" },
        }
    }
}

/// The close code for an error of the contract.
fn code_of(code: Code) -> u16 {
    match code {
        Code::Malformed => close::PROTOCOL,
        Code::Unauthorized => own::UNAUTHORIZED,
        Code::Forbidden | Code::NotFound => close::POLICY,
        Code::Timeout => own::TIMEOUT,
        Code::Conflict => own::CONFLICT,
        Code::TooLarge => close::TOO_LARGE,
        Code::TooMany => own::TOO_MANY,
        Code::SlowReader => own::SLOW_READER,
        Code::Unavailable => close::TRY_AGAIN_LATER,
    }
}
