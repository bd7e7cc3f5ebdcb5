//! Received bytes to requests, and what a request does.
//!
//! Owns the walk from bytes to frames, lines and messages, the greeting, and the side of each
//! request that concerns its own connection. What concerns a room goes to the room's home.

use std::ops::ControlFlow;

use corebeat::base::ids::{Address, ConnId, Ref};
use corebeat::base::limits::{Limits, RECONNECT_AFTER_MS};
use corebeat::base::name::{self, Name};
use corebeat::chat::heartbeat::Tempo;
use corebeat::chat::refs::RefWindow;
use corebeat::wire::message::{Code, Event, Heartbeat, Hello, Request};
use corebeat::wire::sniff::{Sniffed, sniff};
use corebeat::wire::{http, line, native};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::common::conversation::{self, Conversation};
use super::common::dialect::Dialect;
use super::common::websocket::{self, Answer, Complaint, Data};
use super::connection::{Membership, PENDING, State};
use super::core::Core;
use super::homes::Said;
use super::mail::{Joiner, Mail, Stay};
use super::room::{Member, Room};
use super::web::{self, Assembler};

/// What one look at a connection's input led to.
enum Step {
    Used(usize),
    Wait,
    Over,
}

impl Core {
    /// Bytes arrived.
    pub(super) fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if connection.state == State::Closing {
            return;
        }
        match connection.input.take() {
            None => {
                let used = self.consume(conn, bytes);
                self.hold(conn, &bytes[used..]);
            }
            Some(mut held) => {
                held.extend_from_slice(bytes);
                self.consume_held(conn, held);
            }
        }
    }

    /// Goes on with what was held while the connection was paused.
    pub(super) fn resume_input(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if !connection.marks.paused
            && let Some(held) = connection.input.take()
        {
            self.consume_held(conn, held);
        }
    }

    #[expect(clippy::box_collection)]
    fn consume_held(&mut self, conn: ConnId, mut held: Box<Vec<u8>>) {
        let used = self.consume(conn, &held);
        held.drain(..used);
        if let Some(connection) = self.connections.get_mut(conn)
            && !held.is_empty()
            && connection.state != State::Closing
        {
            connection.input = Some(held);
        }
    }

    fn hold(&mut self, conn: ConnId, rest: &[u8]) {
        if let Some(connection) = self.connections.get_mut(conn)
            && !rest.is_empty()
            && connection.state != State::Closing
        {
            connection.input = Some(Box::new(rest.to_vec()));
        }
    }

    fn consume(&mut self, conn: ConnId, bytes: &[u8]) -> usize {
        let mut used = 0;
        loop {
            match self.step(conn, &bytes[used..]) {
                Step::Used(more) => used += more,
                Step::Wait => return used,
                Step::Over => return bytes.len(),
            }
        }
    }

    fn step(&mut self, conn: ConnId, bytes: &[u8]) -> Step {
        let pause_above = self.service.limits.pause_reading_above();
        let Some(connection) = self.connections.get_mut(conn) else {
            return Step::Over;
        };
        if connection.state == State::Closing {
            return Step::Over;
        }
        if bytes.is_empty() {
            return Step::Wait;
        }
        if connection.waiting() > pause_above {
            connection.marks.paused = true;
            return Step::Wait;
        }
        match connection.state {
            State::Sniffing => self.step_sniff(conn, bytes),
            State::AwaitingLine | State::Live(Dialect::Text) => self.step_line(conn, bytes),
            State::AwaitingRequest => self.step_http(conn, bytes),
            State::AwaitingJsonHello | State::Live(Dialect::Json) => {
                self.step_message(conn, Dialect::Json, bytes)
            }
            State::AwaitingBinHello | State::Live(Dialect::Bin | Dialect::BinCrc) => {
                self.step_message(conn, Dialect::Bin, bytes)
            }
            _ => self.step_frame(conn, bytes),
        }
    }

    fn step_sniff(&mut self, conn: ConnId, bytes: &[u8]) -> Step {
        let state = match sniff(bytes) {
            Sniffed::Undecided => return Step::Wait,
            Sniffed::Native => State::AwaitingHello,
            Sniffed::Text => State::AwaitingLine,
            Sniffed::Http => State::AwaitingRequest,
            Sniffed::Tls => {
                self.close(conn);
                return Step::Over;
            }
        };
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.state = state;
        }
        Step::Used(0)
    }

    fn step_frame(&mut self, conn: ConnId, bytes: &[u8]) -> Step {
        let decoded =
            native::frame(bytes, self.service.limits.max_frame).and_then(|frame| match frame {
                None => Ok(None),
                Some((frame, used)) => Ok(Some((native::request(&frame)?, used))),
            });
        let (request, used) = match decoded {
            Ok(None) => return Step::Wait,
            Ok(Some(decoded)) => decoded,
            Err(error) => {
                self.fail_with(conn, error.code(), error.text());
                return Step::Over;
            }
        };
        self.take_request(conn, request.as_ref());
        Step::Used(used)
    }

    fn take_request(&mut self, conn: ConnId, request: Option<&Request<'_>>) {
        let now = self.now.mono;
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let greeted = matches!(connection.state, State::Live(_));
        if greeted {
            connection.hear(now);
        }
        match request {
            None => {}
            Some(Request::Hello(hello)) if !greeted => self.hello(conn, hello),
            Some(request) if greeted => {
                conversation::request(&mut Client { core: self, conn }, request);
            }
            Some(_) => self.fail_with(conn, Code::Malformed, "the first frame must be HELLO"),
        }
    }

    fn step_http(&mut self, conn: ConnId, bytes: &[u8]) -> Step {
        match websocket::answer(bytes, self.now.wall_ms) {
            None => Step::Wait,
            Some((Answer::Switch(upgrade, dialect), used)) => {
                self.tell_raw(conn, false, |out| http::append_switching(out, &upgrade));
                if let Some(connection) = self.connections.get_mut(conn) {
                    connection.state = match dialect {
                        Dialect::Json => State::AwaitingJsonHello,
                        _ => State::AwaitingBinHello,
                    };
                }
                Step::Used(used)
            }
            Some((Answer::Refuse(response), _)) => {
                self.tell_raw(conn, false, |out| out.extend_from_slice(&response));
                self.close(conn);
                Step::Over
            }
        }
    }

    fn step_message(&mut self, conn: ConnId, dialect: Dialect, bytes: &[u8]) -> Step {
        let length = match web::whole_frame(bytes, &self.service.limits) {
            Ok(None) => return Step::Wait,
            Ok(Some(length)) => length,
            Err(error) => return self.fail_web(conn, &error),
        };
        let extra = self.connections.get_mut(conn).and_then(|c| c.extra.as_mut());
        let own = extra.and_then(|extra| extra.assembler.take());
        let mut assembler = own
            .or_else(|| self.assembler.take())
            .unwrap_or_else(|| Assembler::new(&self.service.limits));
        let mut answers = Vec::new();
        let step = assembler.take(&bytes[..length], &mut answers);
        if !answers.is_empty() {
            self.tell_raw(conn, true, |out| out.extend_from_slice(&answers));
        }
        match step {
            Ok(web::Step::Message(message)) => {
                self.assembler = Some(assembler);
                self.take_message(conn, dialect, &message);
            }
            Ok(web::Step::Fragment) => {
                if let Some(connection) = self.connections.get_mut(conn) {
                    connection.hear(self.now.mono);
                    connection.extra.get_or_insert_default().assembler = Some(assembler);
                }
            }
            Ok(web::Step::Closed) => {
                self.close(conn);
                return Step::Over;
            }
            Err(error) => return self.fail_web(conn, &error),
        }
        Step::Used(length)
    }

    fn take_message(&mut self, conn: ConnId, dialect: Dialect, message: &Message) {
        let data = match message {
            Message::Text(text) => Data::Text(text.as_str()),
            Message::Binary(bytes) => Data::Binary(bytes),
            _ => {
                if let Some(connection) = self.connections.get_mut(conn) {
                    connection.hear(self.now.mono);
                }
                return;
            }
        };
        let max_frame = self.service.limits.max_frame;
        let taken = websocket::requests(dialect, data, max_frame, |request| {
            self.take_request(conn, request);
            match self.connections.get(conn).map(|connection| connection.state) {
                None | Some(State::Closing) => ControlFlow::Break(()),
                Some(_) => ControlFlow::Continue(()),
            }
        });
        if let Err(complaint) = taken {
            self.complain(conn, &complaint);
        }
    }

    fn fail_web(&mut self, conn: ConnId, error: &Error) -> Step {
        match Complaint::of(error) {
            Some(complaint) => self.complain(conn, &complaint),
            None => self.close(conn),
        }
        Step::Over
    }

    fn step_line(&mut self, conn: ConnId, bytes: &[u8]) -> Step {
        let (line, used) = match line::line(bytes, self.service.limits.max_frame) {
            Ok(None) => return Step::Wait,
            Ok(Some(found)) => found,
            Err(error) => {
                self.fail_with(conn, error.code(), "the line is longer than max_frame");
                return Step::Over;
            }
        };
        let now = self.now.mono;
        let Some(connection) = self.connections.get_mut(conn) else {
            return Step::Over;
        };
        let first = connection.state == State::AwaitingLine;
        connection.hear(now);
        match std::str::from_utf8(line) {
            Ok(line) if first => self.greet(conn, line),
            Ok(line) => conversation::command(&mut Client { core: self, conn }, line),
            Err(_) if first => self.fail_with(conn, Code::Malformed, "the line is not UTF-8"),
            Err(_) => {
                let client = &mut Client { core: self, conn };
                let text = "the line is not UTF-8";
                conversation::refuse(client, Ref::NONE, Code::Malformed, text);
            }
        }
        Step::Used(used)
    }

    fn hello(&mut self, conn: ConnId, hello: &Hello<'_>) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let dialect = connection.dialect().expect("who says HELLO has a dialect");
        let dialect = if hello.crc { dialect.with_crc() } else { dialect };
        connection.state = State::Live(dialect);
        let user = match hello.user {
            "" => self.name_guest(),
            user => match name::check(user) {
                Ok(()) => Name::new(user),
                Err(error) => {
                    let text = format!("the user name {}", error.text());
                    return self.fail_with(conn, conversation::code_of(error), &text);
                }
            },
        };
        let tempo = self.service.policy.grant(hello.heartbeat_s);
        self.admit(conn, user.clone(), dialect, tempo);
        let number = Address::new(self.id, conn).to_bits();
        let welcome = self.service.welcome(&user, number, tempo, self.now);
        self.tell(conn, &welcome, false);
        if hello.session != 0 {
            let client = &mut Client { core: self, conn };
            conversation::refuse(client, Ref::NONE, Code::Unavailable, "not available");
        }
    }

    fn greet(&mut self, conn: ConnId, first_line: &str) {
        let nick = conversation::nick(first_line);
        let user = nick.clone().ok().flatten().unwrap_or_else(|| self.name_guest());
        self.admit(conn, user.clone(), Dialect::Text, Tempo::default());
        if let Err(error) = nick {
            conversation::refuse_name(&mut Client { core: self, conn }, error);
        }
        let welcome = self.service.welcome(&user, 0, Tempo::default(), self.now);
        self.tell(conn, &welcome, false);
        conversation::first_line(&mut Client { core: self, conn }, first_line);
    }

    fn admit(&mut self, conn: ConnId, user: Name, dialect: Dialect, tempo: Tempo) {
        let now = self.now.mono;
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        connection.state = State::Live(dialect);
        connection.tempo = tempo;
        connection.user = Some(user);
        connection.hear(now);
        if dialect == Dialect::Text {
            self.arm_at(conn, now + self.service.limits.text_idle_timeout_ms);
        } else {
            self.arm_first_look(conn);
        }
    }

    fn name_guest(&mut self) -> Name {
        let number = self.guests * self.cores() + u64::from(self.id.0) + 1;
        self.guests += 1;
        Name::new(&format!("guest-{number}"))
    }

    /// Ends a connection because of what it said, or did not say.
    pub(super) fn fail_with(&mut self, conn: ConnId, code: Code, text: &str) {
        self.tell(conn, &Event::Error { reference: Ref::NONE, code, text }, true);
        self.close_with(conn, websocket::close_code(code));
    }

    fn complain(&mut self, conn: ConnId, complaint: &Complaint) {
        let Complaint { code, text, close } = complaint;
        self.tell(conn, &Event::Error { reference: Ref::NONE, code: *code, text }, true);
        self.close_with(conn, *close);
    }

    /// Tells a connection that the server stops.
    pub(super) fn say_goodbye(&mut self, conn: ConnId) {
        let (earliest, latest) = RECONNECT_AFTER_MS;
        let reconnect_after_ms = self.dice.u32(earliest..=latest);
        let live = self.connections.get(conn).is_some_and(|c| matches!(c.state, State::Live(_)));
        if live {
            let reason = "the server is stopping";
            self.tell(conn, &Event::GoAway { reconnect_after_ms, reason, address: "" }, false);
        }
    }
}

/// A live connection that asks for something, or is answered.
pub(super) struct Client<'a> {
    core: &'a mut Core,
    conn: ConnId,
}

impl<'a> Client<'a> {
    /// The connection, if it is live.
    pub(super) fn of(core: &'a mut Core, conn: ConnId) -> Option<Client<'a>> {
        let state = core.connections.get(conn)?.state;
        matches!(state, State::Live(_)).then_some(Client { core, conn })
    }

    fn connection(&mut self) -> &mut super::connection::Connection {
        self.core.connections.get_mut(self.conn).expect("a client that asks is there")
    }
}

impl Conversation for Client<'_> {
    fn limits(&self) -> &Limits {
        &self.core.service.limits
    }

    fn user(&self) -> &Name {
        let connection = self.core.connections.get(self.conn);
        let user = connection.and_then(|connection| connection.user.as_ref());
        user.expect("a client that asks has a name")
    }

    fn recent(&mut self) -> &mut RefWindow {
        &mut self.connection().extra.get_or_insert_default().refs
    }

    fn current_room(&mut self) -> &mut Option<Name> {
        &mut self.connection().extra.get_or_insert_default().current_room
    }

    fn room_count(&self) -> usize {
        let connection = self.core.connections.get(self.conn);
        connection.map_or(0, |connection| connection.memberships().count())
    }

    fn is_in(&self, room: &str) -> bool {
        let key = self.core.rooms.find(room, self.core.service.hasher.hash(room));
        let connection = self.core.connections.get(self.conn);
        key.zip(connection)
            .is_some_and(|(key, connection)| connection.memberships().any(|m| m.room == key))
    }

    fn any_room(&self) -> Option<Name> {
        let connection = self.core.connections.get(self.conn)?;
        let membership = connection.memberships().next()?;
        Some(self.core.rooms.name(membership.room).clone())
    }

    fn tell(&mut self, event: &Event<'_>) {
        self.core.tell(self.conn, event, false);
    }

    fn tell_urgently(&mut self, event: &Event<'_>) {
        self.core.tell(self.conn, event, true);
    }

    fn tell_raw(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        self.core.tell_raw(self.conn, false, encode);
    }

    fn finish(&mut self) {
        self.core.close_with(self.conn, websocket::GOODBYE);
    }

    fn fail(&mut self, code: Code, text: &str) {
        self.core.fail_with(self.conn, code, text);
    }

    fn pong(&mut self, ping: &Heartbeat) {
        let node = self.core.service.node;
        self.tell_urgently(&Event::Pong(Heartbeat { node, status: 0, ..*ping }));
    }

    fn join(&mut self, reference: Ref, room: &str, notify: bool) {
        let conn = self.conn;
        let hash = self.core.service.hasher.hash(room);
        let home = self.core.home_of(hash);
        let user = self.user().clone();
        let core = &mut *self.core;
        let key = match core.rooms.find(room, hash) {
            Some(key) => key,
            None => core.rooms.add(Name::new(room), hash, Room::new(home)),
        };
        let connection = core.connections.get_mut(conn).expect("a client that asks is there");
        let mut again = false;
        let stay = match connection.membership_mut(key) {
            Some(membership) => {
                again = true;
                membership.notify = notify;
                if membership.place != PENDING {
                    let members = &mut core.rooms.get_mut(key).members;
                    members[membership.place as usize] = Member::new(conn.slot(), notify);
                }
                membership.stay
            }
            None => {
                core.last_stay = core.last_stay.wrapping_add(1);
                let stay = Stay(core.last_stay);
                let membership = Membership { room: key, place: PENDING, stay, notify };
                connection.add_membership(membership);
                core.rooms.get_mut(key).joining += 1;
                stay
            }
        };
        let member = Address::new(core.id, conn);
        let room = core.rooms.name(key).clone();
        let joiner = Joiner { user, member, reference, stay, again };
        core.send(home, Mail::Join { room, joiner });
    }

    fn leave(&mut self, room: &str) {
        let user = self.user().clone();
        let core = &mut *self.core;
        let Some(key) = core.rooms.find(room, core.service.hasher.hash(room)) else {
            return;
        };
        // What was said before the leave is delivered before it is answered.
        if let Some(home) = core.homes.find(room, core.service.hasher.hash(room)) {
            core.close_batch(home);
        }
        let connection = core.connections.get_mut(self.conn);
        if let Some(left) = connection.and_then(|connection| connection.remove_membership(key)) {
            core.leave_room(key, left.place, user);
        }
    }

    fn publish(&mut self, reference: Ref, room: &str, body: &[u8], echo: bool) {
        let from = self.user().clone();
        let core = &mut *self.core;
        let hash = core.service.hasher.hash(room);
        let home = core.home_of(hash);
        let origin = Address::new(core.id, self.conn);
        let room = match core.rooms.find(room, hash) {
            Some(key) => core.rooms.name(key).clone(),
            None => Name::new(room),
        };
        if home == core.id {
            let said = Said { from: &from, origin, reference, echo, body };
            core.home_publish(&room, hash, &said);
        } else {
            let body = Box::from(body);
            core.send(home, Mail::Publish { room, from, origin, reference, echo, body });
        }
    }

    fn who(&mut self, reference: Ref, room: &str) {
        self.connection().extra.get_or_insert_default().questions += 1;
        let home = self.core.home_of(self.core.service.hasher.hash(room));
        let origin = Address::new(self.core.id, self.conn);
        self.core.send(home, Mail::Who { room: Name::new(room), origin, reference });
    }
}
