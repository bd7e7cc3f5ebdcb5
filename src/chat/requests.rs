//! What a client may ask, and how it is refused.
//!
//! Owns the greeting of a session and the requests that all dialects share: join, leave, publish,
//! who. Never parses bytes ([`intake`](super::intake) does) and never orders a room
//! ([`homes`](super::homes) does); between the two it checks names and bounds.

use crate::base::counters::CloseReason;
use crate::base::ids::{ConnId, Epoch, Position, Ref, Seq, ShardId};
use crate::base::limits::{HOLES_MAX, LINGER_MS, LISTINGS_MAX};
use crate::base::name::{self, EVERYONE, LOBBY, Name, NameError};
use crate::base::time::Now;
use crate::wire::message::{Code, Event, Heartbeat, Hello, OkFlags, Request, Welcome};
use crate::wire::native;

use super::batch::Dialect;
use super::catch_up::Feed;
use super::excess::Purpose;
use super::mail::{Extent, Mail, Since};
use super::membership::{Membership, Place, RoomKey};
use super::reader::Coming;
use super::refs::Arrival;
use super::resume::Greeting;
use super::room::Audience;
use super::session::{Marks, SessionTable, State};
use super::shard::Shard;

/// Who tells a user's home of a session that is welcomed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Welcomed {
    /// The home was asked, and knows.
    ByHome,
    /// This shard, which did not have to ask.
    Here,
}

/// What a session wants of a room that it joins.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// To be told of joins and leaves.
    pub notify: bool,
    /// What it is to get of the past.
    pub since: Since,
}

impl Shard {
    /// A client that is no text client said HELLO.
    pub(super) fn hello(&mut self, conn: ConnId, hello: &Hello<'_>, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let dialect = session.state.dialect().expect("whoever says HELLO has a dialect");
        let dialect = if hello.crc { dialect.with_crc() } else { dialect };
        session.state = State::Live(dialect);
        session.tempo = self.policy.grant(hello.heartbeat_s);
        let user = match hello.user {
            "" => None,
            user => match name::check(user) {
                Ok(()) => Some(Name::new(user)),
                Err(error) => return self.fail_name(conn, error, now),
            },
        };
        let greeting = Greeting { dialect, user };
        match self.claimed_session(hello) {
            Some(id) => self.claim(conn, id, greeting, now),
            None => self.begin_session(conn, greeting, now),
        }
    }

    /// Makes a connection a session of its own, as soon as there is room for one, unless the worker
    /// is under pressure. A guest's name is its own.
    pub(super) fn begin_session(&mut self, conn: ConnId, greeting: Greeting, now: Now) {
        let Greeting { dialect, user } = greeting;
        if self.refuses_newcomer(conn, now) {
            if let Some(user) = user {
                self.note_closing_user(conn, user);
            }
            return;
        }
        match user {
            Some(user) if self.limits_sessions() => {
                self.ask_for_room(conn, user, Purpose::Hello, now);
            }
            user => {
                let user = user.unwrap_or_else(|| self.name_guest());
                self.begin_welcomed(conn, dialect, user, Welcomed::Here, now);
            }
        }
    }

    /// Makes a connection a session of its own and welcomes it.
    pub(super) fn begin_welcomed(
        &mut self,
        conn: ConnId,
        dialect: Dialect,
        user: Name,
        welcomed: Welcomed,
        now: Now,
    ) {
        self.admit(conn, user.clone(), dialect, now);
        if dialect == Dialect::Text {
            self.welcome_text(conn, &user, now);
        } else {
            self.welcome(conn, dialect, &user, false, now);
        }
        if welcomed == Welcomed::Here {
            self.come_online(conn, Coming::New, now);
        }
        self.send_on_if_draining(conn, now);
        if dialect == Dialect::Text {
            self.enter_room(conn, LOBBY, now);
        }
    }

    /// Tells a client that is no text client what it is to know of its session.
    pub(super) fn welcome(
        &mut self,
        conn: ConnId,
        dialect: Dialect,
        user: &Name,
        resumed: bool,
        now: Now,
    ) {
        let Some(tempo) = self.sessions.get(conn).map(|session| session.tempo) else {
            return;
        };
        let session = self.identity(conn).to_bits();
        let welcome = Event::Welcome(Welcome {
            version: native::VERSION,
            node: self.node,
            session,
            resume_key: self.hasher.seal(session),
            heartbeat_s: tempo.heartbeat_s,
            timeout_s: tempo.timeout_s,
            max_frame: self.limits.max_frame as u32,
            resumed,
            user,
        });
        if dialect.is_web() {
            // A pong may wait already for a ping that came before the hello, and what is urgent
            // from here on must not overtake this.
            self.tell_urgently(conn, &welcome, now);
        } else {
            self.tell(conn, &welcome, now);
        }
    }

    fn fail_name(&mut self, conn: ConnId, error: NameError, now: Now) {
        let text = format!("the user name {}", error.text());
        let event = Event::Error { reference: Ref::NONE, code: code_of(error), text: &text };
        self.close(conn, CloseReason::Refused, Some(&event), now);
    }

    /// Makes a connection the session of `user`.
    pub(super) fn admit(&mut self, conn: ConnId, user: Name, dialect: Dialect, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.state = State::Live(dialect);
        session.user = Some(user);
        session.heard(now.mono);
        let tempo = session.tempo;
        self.counters.welcomed += 1;
        if let Some(pulses) = &mut self.pulses {
            pulses.granted(conn.slot(), tempo.heartbeat_s, now.mono);
        }
        self.speakers.came(dialect);
        if dialect == Dialect::Text {
            self.arm_at(conn, now, now.mono + self.limits.text_idle_timeout_ms);
        } else {
            self.level_first_ping(conn, now);
            if tempo.timeout_s != self.policy.timeout_s {
                self.bound_patience(conn, tempo.timeout_s);
            }
        }
    }

    /// Tells a user's home of a session that was welcomed: what the home tells it comes behind the
    /// welcome.
    pub(super) fn come_online(&mut self, conn: ConnId, coming: Coming, now: Now) {
        let Some(user) = self.sessions.get(conn).and_then(|session| session.user.clone()) else {
            return;
        };
        let identity = self.identity(conn);
        let home = self.home_of(self.hasher.hash(&user));
        let session = self.address(conn);
        self.send(home, Mail::Online { user, session, identity, coming }, now);
    }

    /// A name for a user who gave none. Shards count in steps, so that no two give the same.
    pub(super) fn name_guest(&mut self) -> Name {
        let number = self.guests * u64::from(self.shards) + u64::from(self.id.0) + 1;
        self.guests += 1;
        Name::new(&format!("guest-{number}"))
    }

    /// A greeted client that is no text client asks for something.
    #[inline(always)]
    pub(super) fn request(&mut self, conn: ConnId, request: &Request<'_>, now: Now) {
        match *request {
            Request::Hello(_) => unreachable!("the intake handles HELLO"),
            Request::Ping(ping) => self.pong(conn, &ping, now),
            Request::Pong(pong) => self.take_pong(conn, &pong, now),
            Request::Bye { .. } => self.take_leave(conn, now),
            Request::Echo(bytes) => self.tell(conn, &Event::Echo(bytes), now),
            Request::Join { reference, epoch, since, room, notify } => {
                let since = match since {
                    Seq(0) => Since::Live,
                    seq => Since::After(Position { epoch, seq }),
                };
                self.join(conn, reference, room, Part { notify, since }, now);
            }
            Request::Leave { reference, room } => self.leave(conn, reference, room, now),
            Request::Publish { reference, room, body, echo } => {
                self.publish(conn, reference, room, body, echo, now);
            }
            Request::Who { reference, room } => self.who(conn, reference, room, now),
            Request::History { reference, room, since, limit } => {
                let extent = Extent::Following { since, limit };
                self.ask_history(conn, reference, room, extent, now);
            }
            Request::Direct { reference, user, body } => {
                self.direct(conn, reference, user, body, now);
            }
            Request::Ack { id } => self.acknowledge(conn, id, now),
        }
    }

    /// A client said goodbye: nothing more is read, and it is closed once all is answered.
    pub(super) fn take_leave(&mut self, conn: ConnId, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.marks.set(Marks::LEAVING);
        if session.awaits_answers() {
            self.arm_at(conn, now, now.mono + LINGER_MS);
        } else {
            self.part(conn, now);
        }
    }

    /// Closes a connection that said goodbye, or whose peer will send no more.
    pub(super) fn part(&mut self, conn: ConnId, now: Now) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let bye = Event::Bye { code: 0, reason: "" };
        let is_text = session.state == State::Live(Dialect::Text);
        if session.marks.has(Marks::LEAVING) {
            if is_text {
                self.tell(conn, &bye, now);
            }
            self.close(conn, CloseReason::Bye, None, now);
        } else {
            self.close(conn, CloseReason::PeerClosed, None, now);
        }
    }

    fn pong(&mut self, conn: ConnId, ping: &Heartbeat, now: Now) {
        self.counters.pings_answered += 1;
        let pong = Heartbeat { node: self.node, status: self.status(), ..*ping };
        self.tell_urgently(conn, &Event::Pong(pong), now);
    }

    pub(super) fn take_pong(&mut self, conn: ConnId, pong: &Heartbeat, now: Now) {
        self.counters.pongs += 1;
        // A clock set back in between, or a peer that makes times up, tells no round trip.
        if let Some(round_trip_ms) = now.wall_ms.checked_sub(pong.time_ms)
            && round_trip_ms < u64::from(u16::MAX) * 1_000
        {
            self.counters.round_trip_ms += round_trip_ms;
            self.round_trips.record(round_trip_ms);
            self.adapt_to_answer(conn, round_trip_ms, now);
        }
    }

    /// How the server feels, for its heartbeats: 1 while work is left over from turn to turn, or
    /// the worker is under pressure.
    pub(super) fn status(&self) -> u8 {
        let is_busy = !self.active.is_empty() || !self.postbag.is_empty();
        u8::from(is_busy || self.strain.is_felt)
    }

    /// Makes a session a member of a room, or tells a member the room's head again.
    pub(super) fn join(&mut self, conn: ConnId, reference: Ref, room: &str, part: Part, now: Now) {
        let Part { notify, since } = part;
        if !self.room_is_valid(conn, reference, room, now) {
            return;
        }
        let hash = self.hasher.hash(room);
        let home = self.home_of(hash);
        if self.is_overloaded(home) {
            return self.refuse(conn, reference, Code::Unavailable, "overloaded", now);
        }
        let known = self.rooms.find(room, hash);
        if known.is_some_and(|key| self.rooms.get(key).holes() > HOLES_MAX) {
            return self.refuse(conn, reference, Code::Unavailable, "overloaded", now);
        }
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let user = session.user.clone().expect("a live session has a user");
        let again = known.is_some_and(|key| session.membership(key).is_some());
        if !again && let Some(text) = self.refuses_membership(conn) {
            return self.refuse(conn, reference, Code::TooMany, &text, now);
        }
        let key = self.rooms.find_or_add(room, hash, home, Audience::Members);
        let session = self.sessions.get_mut(conn).expect("it was just there");
        if again {
            session.extra().questions += 1;
            let membership = session.membership_mut(key).expect("it was just found");
            membership.set_notify(notify);
            let place = membership.place.index();
            if let Some(place) = place {
                self.rooms.get_mut(key).set_notify(place, notify);
            }
        } else {
            self.last_stay = self.last_stay.next();
            session.add_membership(Membership::pending(key, self.last_stay, notify));
            self.rooms.subscriptions += 1;
            self.rooms.get_mut(key).joining += 1;
        }
        let membership = session_membership(&self.sessions, conn, key);
        let stay = membership.stay();
        let (room, member) = (self.rooms.get(key).name.clone(), self.address(conn));
        let returns = false;
        let join = Mail::Join { room, user, member, reference, stay, again, returns, since };
        self.send(home, join, now);
    }

    /// Ends a session's membership of a room at its own wish.
    pub(super) fn leave(&mut self, conn: ConnId, reference: Ref, room: &str, now: Now) {
        let key = self.rooms.find(room, self.hasher.hash(room));
        let membership = key.and_then(|key| self.sessions.get(conn)?.membership(key).copied());
        let Some(membership) = membership else {
            return self.refuse(conn, reference, Code::NotFound, "not in that room", now);
        };
        self.finish_deliveries(conn, &membership, now);
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if session.remove_membership(membership.room).is_none() {
            // The last of the news was too much for its outbox, and it was closed.
            return;
        }
        self.rooms.subscriptions -= 1;
        let was_let_in = self.end_replay(conn, Feed::Room(membership.room));
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if membership.place == Place::PENDING && !was_let_in {
            // The join is answered when the home has done it, as one that begins nothing.
            session.extra().questions += 1;
        }
        let user = session.user.clone().expect("a live session has a user");
        self.leave_room(&membership, user, now);
        if reference.wants_answer() {
            let flags = OkFlags::default();
            let event = Event::Ok { reference, flags, epoch: Epoch(0), seq: Seq(0) };
            self.tell(conn, &event, now);
        }
    }

    /// Says something in a room.
    pub(super) fn publish(
        &mut self,
        conn: ConnId,
        reference: Ref,
        room: &str,
        body: &[u8],
        echo: bool,
        now: Now,
    ) {
        let to_everyone = room == EVERYONE;
        if to_everyone && !self.publish_everyone {
            let text = "publishing to * is not allowed";
            return self.refuse(conn, reference, Code::Forbidden, text, now);
        }
        if !to_everyone && !self.room_is_valid(conn, reference, room, now) {
            return;
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let user = session.user.clone().expect("a live session has a user");
        if native::message_payload_len(room, &user, body.len()) > self.limits.max_frame {
            let text = "the message would be longer than max_frame";
            return self.refuse(conn, reference, Code::TooLarge, text, now);
        }
        let hash = self.hasher.hash(room);
        let home = self.home_of(hash);
        if self.is_overloaded(home) {
            return self.refuse(conn, reference, Code::Unavailable, "overloaded", now);
        }
        if reference.wants_answer() && !self.is_new(conn, reference, home, now) {
            return;
        }
        self.counters.published += 1;
        let origin = self.address(conn);
        if home == self.id {
            let said = super::homes::Said { from: &user, origin, reference, echo, body };
            self.home_publish(room, hash, &said, now);
        } else {
            let (room, body) = (Name::new(room), Box::from(body));
            let mail = Mail::Publish { room, from: user, origin, reference, echo, body };
            self.send(home, mail, now);
        }
    }

    /// Whether `reference`, for which `home` is about to be asked, was not seen lately; answers
    /// the repetition of one that was done.
    pub(super) fn is_new(&mut self, conn: ConnId, reference: Ref, home: ShardId, now: Now) -> bool {
        let Some(session) = self.sessions.get_mut(conn) else {
            return false;
        };
        match session.extra().refs.arrive(reference, home) {
            Arrival::New => true,
            Arrival::Pending => {
                self.counters.duplicates += 1;
                false
            }
            Arrival::Done { epoch, seq } => {
                self.counters.duplicates += 1;
                let flags = OkFlags { duplicate: true, ..OkFlags::default() };
                self.tell_urgently(conn, &Event::Ok { reference, flags, epoch, seq }, now);
                false
            }
        }
    }

    /// Why a session is to be in no further room, if it is not.
    fn refuses_membership(&mut self, conn: ConnId) -> Option<String> {
        let rooms = self.sessions.get(conn).map_or(0, |session| session.memberships().count());
        let most = self.limits.max_rooms_per_connection;
        if most > 0 && rooms >= most {
            self.counters.limited_rooms += 1;
            return Some(format!(
                "too many rooms: {most} on one connection (--max-rooms-per-connection); leave one \
                 first"
            ));
        }
        let most = self.limits.max_subscriptions;
        if most > 0 && self.rooms.subscriptions >= most {
            self.counters.limited_subscriptions += 1;
            let text = "the server has as many memberships as it takes (--max-subscriptions): try \
                        again later";
            return Some(text.to_owned());
        }
        None
    }

    /// Asks a room's home who is there.
    pub(super) fn who(&mut self, conn: ConnId, reference: Ref, room: &str, now: Now) {
        if !self.room_is_valid(conn, reference, room, now) {
            return;
        }
        if self.refuses_roster(conn, reference, now) {
            return;
        }
        let home = self.home_of(self.hasher.hash(room));
        if self.is_overloaded(home) {
            return self.refuse(conn, reference, Code::Unavailable, "overloaded", now);
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.extra().questions += 1;
        let mail = Mail::Who { room: Name::new(room), origin: self.address(conn), reference };
        self.send(home, mail, now);
    }

    /// Asks a room's home what was said.
    pub(super) fn ask_history(
        &mut self,
        conn: ConnId,
        reference: Ref,
        room: &str,
        extent: Extent,
        now: Now,
    ) {
        if !self.room_is_valid(conn, reference, room, now) {
            return;
        }
        let home = self.home_of(self.hasher.hash(room));
        if self.is_overloaded(home) {
            return self.refuse(conn, reference, Code::Unavailable, "overloaded", now);
        }
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let extra = session.extra();
        if extra.listings >= LISTINGS_MAX {
            let text = "too many listings at a time: wait for an answer";
            return self.refuse(conn, reference, Code::TooMany, text, now);
        }
        extra.listings += 1;
        extra.questions += 1;
        let (room, origin) = (Name::new(room), self.address(conn));
        self.send(home, Mail::History { room, origin, reference, extent }, now);
    }

    /// Whether `room` names a room that one can be in; refuses the request if not.
    fn room_is_valid(&mut self, conn: ConnId, reference: Ref, room: &str, now: Now) -> bool {
        if room == EVERYONE {
            let text = "* is every connection: it can only be published to";
            self.refuse(conn, reference, Code::Forbidden, text, now);
            return false;
        }
        if let Err(error) = name::check(room) {
            let text = format!("the room name {}", error.text());
            self.refuse(conn, reference, code_of(error), &text, now);
            return false;
        }
        true
    }

    /// Answers a request that is not done, ahead of the data that waits. The connection lives.
    pub(super) fn refuse(
        &mut self,
        conn: ConnId,
        reference: Ref,
        code: Code,
        text: &str,
        now: Now,
    ) {
        self.counters.refused += 1;
        self.tell_urgently(conn, &Event::Error { reference, code, text }, now);
    }
}

/// The code with which a name is refused.
pub(super) fn code_of(error: NameError) -> Code {
    match error {
        NameError::Reserved => Code::Forbidden,
        NameError::Empty | NameError::TooLong | NameError::BadCharacter => Code::Malformed,
    }
}

fn session_membership(sessions: &SessionTable, conn: ConnId, key: RoomKey) -> &Membership {
    let session = sessions.get(conn).expect("the caller has it");
    session.membership(key).expect("the caller has it")
}
