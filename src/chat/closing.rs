//! What is known of a connection at the moment its end is decided.
//!
//! Owns the heart's part of the record of a close. It is taken when the decision falls and not when
//! the socket goes, because by then the user has departed, the queue has been cut and the last
//! words have been sent. Never looks at the socket: the shell adds what the kernel knows.

use crate::base::counters::CloseReason;
use crate::base::ids::ConnId;
use crate::base::name::Name;
use crate::base::time::Now;

use super::batch::Dialect;
use super::session::State;
use super::shard::{Shard, Verdict};

/// What a connection spoke, in the words of operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Speech {
    /// Too little had come to tell.
    Nothing,
    /// Native frames.
    Native,
    /// Lines of text.
    Text,
    /// HTTP, without having become a WebSocket.
    Http,
    /// JSON on a WebSocket.
    Json,
    /// Native frames on a WebSocket.
    Bin,
    /// The WebSocket echo.
    Echo,
}

impl Speech {
    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Speech::Nothing => "none",
            Speech::Native => "native",
            Speech::Text => "text",
            Speech::Http => "http",
            Speech::Json => "ws-json",
            Speech::Bin => "ws-bin",
            Speech::Echo => "ws-echo",
        }
    }

    fn of(state: State) -> Speech {
        match state {
            State::Sniffing | State::Closing(_) => Speech::Nothing,
            State::AwaitingLine => Speech::Text,
            State::AwaitingRequest | State::Browsing | State::AwaitingNumbers => Speech::Http,
            State::Echo(_) => Speech::Echo,
            State::AwaitingHello(dialect)
            | State::AwaitingWelcome(dialect)
            | State::Live(dialect) => match dialect {
                Dialect::Native | Dialect::NativeCrc => Speech::Native,
                Dialect::Text => Speech::Text,
                web if web.is_json() => Speech::Json,
                _ => Speech::Bin,
            },
        }
    }
}

/// A connection whose end was decided, and what the heart knew of it then.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Which one.
    pub conn: ConnId,
    /// Why.
    pub reason: CloseReason,
    /// What it spoke.
    pub speech: Speech,
    /// Its user, if it had said a name or was given one.
    pub user: Option<Name>,
    /// Bytes that waited for it, or were dropped because it did not read.
    pub queued: usize,
    /// How long it had been silent, in milliseconds: since its last whole frame, line or request,
    /// or since its accept.
    pub silent_ms: u64,
    /// Its heartbeats' smoothed round trip in milliseconds, where heartbeats adapt and one came
    /// back.
    pub heartbeat_ms: Option<u16>,
}

impl Shard {
    /// Counts a connection whose end is decided and notes what is known of it. To be called before
    /// it departs, once for each connection.
    pub(super) fn note_closing(
        &mut self,
        conn: ConnId,
        reason: CloseReason,
        queued: usize,
        now: Now,
    ) {
        self.counters.count_close(reason);
        let closing = self.closing_of(conn, reason, now);
        self.closings.extend(closing.map(|closing| Closing { queued, ..closing }));
    }

    /// Says who a connection wanted to be that was not let in, behind [`Shard::note_closing`]: it
    /// never became a session of that user.
    pub(super) fn note_closing_user(&mut self, conn: ConnId, user: Name) {
        let closing = self.closings.iter_mut().rev().find(|closing| closing.conn == conn);
        if let Some(closing) = closing {
            closing.user.get_or_insert(user);
        }
    }

    /// The shell is about to drop a connection and to call this shard no more. One whose end was
    /// decided before is not counted twice.
    pub fn cut(&mut self, conn: ConnId, now: Now) {
        let state = self.sessions.get(conn).map(|session| session.state);
        if state.is_some_and(|state| !matches!(state, State::Closing(_))) {
            let queued = self.undelivered_in_outbox(conn);
            self.note_closing(conn, CloseReason::Cut, queued, now);
        }
    }

    /// What is known of a connection that ends for `reason` without having been closed; none of one
    /// whose end was decided before.
    pub fn closing_of(&self, conn: ConnId, reason: CloseReason, now: Now) -> Option<Closing> {
        let session = self.sessions.get(conn)?;
        if matches!(session.state, State::Closing(_)) {
            return None;
        }
        let pulses = self.pulses.as_ref();
        Some(Closing {
            conn,
            reason,
            speech: Speech::of(session.state),
            user: session.user.clone(),
            queued: self.undelivered_in_outbox(conn),
            silent_ms: now.mono.since_low_ms(session.last_heard),
            heartbeat_ms: pulses.and_then(|pulses| pulses.round_trip_ms(conn.slot())),
        })
    }

    /// A connection whose end was decided in this turn; its socket is still there. Call until
    /// `None`, before [`Shard::poll_verdict`].
    pub fn poll_closing(&mut self) -> Option<Closing> {
        self.closings.pop_front()
    }

    /// Has the kernel lose patience with a connection when its heartbeat does. New connections have
    /// the server's own timeout.
    pub(super) fn bound_patience(&mut self, conn: ConnId, timeout_s: u16) {
        self.verdicts.push_back(Verdict::GiveUpAfter(conn, timeout_s));
    }
}
