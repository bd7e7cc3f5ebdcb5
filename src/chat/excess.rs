//! Connections and sessions beyond what a limit allows.
//!
//! Owns the few connections that are held until their first bytes tell how to refuse them, what
//! they are told in each dialect, and the question to a user's home whether there is room for
//! another session. Never counts connections: the shell does, and says which are over a limit.
//!
//! Where sessions of users are limited, a hello is answered when the user's home has said that
//! there is room, and a further name of a text client likewise. What the home counts there is live
//! sessions, so a session that is resumed is no new one, and is always let in.

use std::collections::BTreeMap;

use crate::base::counters::CloseReason;
use crate::base::ids::{Address, ConnId, Ref, SessionId};
use crate::base::limits::REFUSED_RECONNECT_AFTER_MS;
use crate::base::name::Name;
use crate::base::time::Now;
use crate::wire::http::{Endpoint, Exchange, Request, Status, append_retry, upgrade};
use crate::wire::message::{Code, Event};

use super::batch::Dialect;
use super::mail::{Ending, Mail};
use super::reader::Coming;
use super::requests::Welcomed;
use super::session::{Marks, State};
use super::shard::Shard;
use super::web::Farewell;

/// Which limit a connection is beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// `--max-connections`.
    Connections,
    /// `--max-connections-per-address`.
    Address,
}

/// What a session wants of its user's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be welcomed.
    Hello,
    /// To go by another name.
    Rename,
}

/// Connections that are held to be refused.
pub type Held = BTreeMap<ConnId, Excess>;

impl Shard {
    /// The connection that was just opened is beyond a limit: it is told so as soon as it is known
    /// what it speaks, and closed.
    pub fn hold_to_refuse(&mut self, conn: ConnId, excess: Excess) {
        self.count_excess(excess);
        self.sessions.held.insert(conn, excess);
    }

    /// How many connections are held to be refused, at most
    /// [`REFUSALS_HELD_MAX`](crate::base::limits::REFUSALS_HELD_MAX): the shell sees to that.
    pub fn held(&self) -> usize {
        self.sessions.held.len()
    }

    /// A socket beyond a limit was closed at once, because enough others are held.
    pub fn note_turned_away(&mut self, excess: Excess) {
        self.count_excess(excess);
        self.counters.turned_away += 1;
    }

    fn count_excess(&mut self, excess: Excess) {
        match excess {
            Excess::Connections => self.counters.limited_connections += 1,
            Excess::Address => self.counters.limited_addresses += 1,
        }
    }

    /// Accepting paused so many times because connections came too fast.
    pub fn note_accept_pauses(&mut self, pauses: u64) {
        self.counters.limited_accepts += pauses;
    }

    /// Refuses a connection whose dialect is known, if it is held for that. One that speaks HTTP is
    /// answered when its request has come.
    pub(super) fn refuses_excess(&mut self, conn: ConnId, now: Now) -> bool {
        if self.sessions.held.is_empty() {
            return false;
        }
        let state = self.sessions.get(conn).map(|session| session.state);
        match (self.sessions.held.get(&conn), state) {
            (None, _) | (_, Some(State::AwaitingRequest)) => false,
            (Some(excess), _) => {
                self.refuse_excess(conn, *excess, now);
                true
            }
        }
    }

    fn refuse_excess(&mut self, conn: ConnId, excess: Excess, now: Now) {
        let after_ms = self.draw_return_ms();
        let text = self.excess_text(excess, after_ms);
        let why = (Code::TooMany, CloseReason::OverLimit);
        self.refuse_hello(conn, why, &text, Some(after_ms), now);
    }

    /// Answers the request of a connection that is held, if it is. Called for all but the probes of
    /// whoever watches the server (`/healthz`, `/readyz`), which are answered as usual.
    pub(super) fn refuses_request(
        &mut self,
        conn: ConnId,
        request: &Request<'_>,
        endpoint: Option<Endpoint>,
        now: Now,
    ) -> bool {
        let Some(excess) = self.sessions.held.get(&conn).copied() else {
            return false;
        };
        if endpoint == Some(Endpoint::Chat)
            && let Ok(upgrade) = upgrade(request, Endpoint::Chat, &self.web.origins, false)
        {
            self.switch(conn, upgrade, now);
            self.refuse_excess(conn, excess, now);
            return true;
        }
        let after_ms = self.draw_return_ms();
        let text = self.excess_text(excess, after_ms) + "\n";
        let status = match excess {
            Excess::Connections => Status::ServiceUnavailable,
            Excess::Address => Status::TooManyRequests,
        };
        let exchange = Exchange { keep_alive: false, ..Exchange::of(request, now.wall_ms) };
        let refusal =
            |out: &mut Vec<u8>| append_retry(out, status, &text, u64::from(after_ms), exchange);
        self.end_with(conn, CloseReason::OverLimit, refusal, now);
        true
    }

    /// When to come back: not all at once.
    fn draw_return_ms(&mut self) -> u32 {
        let (earliest, latest) = REFUSED_RECONNECT_AFTER_MS;
        self.dice.u32(earliest..=latest)
    }

    fn excess_text(&self, excess: Excess, after_ms: u32) -> String {
        match excess {
            Excess::Connections => format!(
                "the server has as many connections as it takes (--max-connections); try again in \
                 {after_ms} ms"
            ),
            Excess::Address => format!(
                "your address has as many connections as it may have here \
                 (--max-connections-per-address {}, of which each worker takes a share); close \
                 some, or try again in {after_ms} ms",
                self.limits.max_connections_per_address
            ),
        }
    }

    /// Tells a connection why it is not taken and, if that is known, when to come back, and closes
    /// it.
    pub(super) fn refuse_hello(
        &mut self,
        conn: ConnId,
        (code, reason): (Code, CloseReason),
        text: &str,
        after_ms: Option<u32>,
        now: Now,
    ) {
        let dialect = self.sessions.get(conn).and_then(|session| session.state.dialect());
        self.tell(conn, &Event::Error { reference: Ref::NONE, code, text }, now);
        if let Some(reconnect_after_ms) = after_ms
            && dialect != Some(Dialect::Text)
        {
            let event = Event::GoAway { reconnect_after_ms, reason: text, address: "" };
            self.tell(conn, &event, now);
        }
        let last = Event::Error { reference: Ref::NONE, code, text };
        let farewell = Farewell::of(reason, Some(&last));
        self.close_with(conn, reason, None, &farewell, now);
    }
}

/// Sessions of one user.
impl Shard {
    /// Whether a user's home has to be asked before the user has another session.
    pub(super) fn limits_sessions(&self) -> bool {
        self.limits.max_sessions_per_user > 0
    }

    /// Asks the home of `user` for room for a session. Of a hello, nothing more is read until it
    /// has answered.
    pub(super) fn ask_for_room(&mut self, conn: ConnId, user: Name, purpose: Purpose, now: Now) {
        let home = self.home_of(self.hasher.hash(&user));
        let session = self.address(conn);
        if let Some(it) = self.sessions.get_mut(conn) {
            match (purpose, it.state.dialect()) {
                (Purpose::Hello, Some(dialect)) => {
                    it.state = State::AwaitingWelcome(dialect);
                    it.marks.set(Marks::RESUMING);
                }
                (Purpose::Hello, None) => return,
                (Purpose::Rename, _) => it.extra().renaming = true,
            }
        }
        self.send(home, Mail::Ask { user, session, purpose }, now);
    }

    /// A session asks for room among those of its user, whose home this is.
    pub(super) fn home_ask(&mut self, user: Name, session: Address, purpose: Purpose, now: Now) {
        let most = self.limits.max_sessions_per_user;
        let has_room = self.directory.sessions(&user).take(most).count() < most;
        let answer = Mail::Answer { conn: session.conn(), user: user.clone(), purpose, has_room };
        if has_room {
            self.send(session.shard(), answer, now);
            let identity = SessionId::born_at(session);
            self.home_online(user, (session, identity), Coming::New, now);
        } else {
            self.counters.limited_sessions += 1;
            self.send(session.shard(), answer, now);
        }
    }

    /// The home of `user` has answered.
    pub(super) fn take_answer_of_home(
        &mut self,
        conn: ConnId,
        user: Name,
        (purpose, has_room): (Purpose, bool),
        now: Now,
    ) {
        let state = self.sessions.get(conn).map(|session| session.state);
        match (purpose, state) {
            (Purpose::Hello, Some(State::AwaitingWelcome(dialect))) => {
                // From here on its input is read again, or discarded.
                self.go_on_after_answer(conn);
                if has_room {
                    self.begin_welcomed(conn, dialect, user, Welcomed::ByHome, now);
                } else {
                    self.refuse_session(conn, user, now);
                }
            }
            (Purpose::Rename, Some(State::Live(_))) => {
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.extra().renaming = false;
                }
                if has_room {
                    self.go_by(conn, user, Welcomed::ByHome, now);
                } else {
                    let (code, text, _) = self.session_refusal();
                    self.refuse(conn, Ref::NONE, code, &text, now);
                }
            }
            _ if has_room => self.give_room_back(conn, user, now),
            _ => {}
        }
    }

    /// Whether a connection waits for the answer.
    pub(super) fn awaits_room(&self, conn: ConnId, purpose: Purpose) -> bool {
        let Some(session) = self.sessions.get(conn) else {
            return false;
        };
        match purpose {
            Purpose::Hello => matches!(session.state, State::AwaitingWelcome(_)),
            Purpose::Rename => session.extra.as_ref().is_some_and(|extra| extra.renaming),
        }
    }

    /// The connection ended before its home had answered.
    fn give_room_back(&mut self, conn: ConnId, user: Name, now: Now) {
        let session = self.address(conn);
        let (identity, ending) = (SessionId::born_at(session), Ending::Orderly);
        let home = self.home_of(self.hasher.hash(&user));
        self.leave_directs(conn, &user, now);
        self.send(home, Mail::Offline { user, session, identity, ending }, now);
    }

    fn refuse_session(&mut self, conn: ConnId, user: Name, now: Now) {
        let (code, text, after_ms) = self.session_refusal();
        self.refuse_hello(conn, (code, CloseReason::OverLimit), &text, after_ms, now);
        self.note_closing_user(conn, user);
    }

    /// What is said to one session too many, and when it may come back. Who finds a name in use is
    /// to take another one.
    fn session_refusal(&mut self) -> (Code, String, Option<u32>) {
        match self.limits.max_sessions_per_user {
            1 => (Code::Conflict, "the name is in use: take another one".to_owned(), None),
            most => {
                let after_ms = self.draw_return_ms();
                let text = format!(
                    "the user has the {most} sessions that one may have (--max-sessions-per-user): \
                     close one, or try again in {after_ms} ms"
                );
                (Code::TooMany, text, Some(after_ms))
            }
        }
    }
}
