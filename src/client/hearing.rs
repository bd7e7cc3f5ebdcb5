//! What the server says.
//!
//! Owns what each kind of frame does to the client, and what of it the program is told. Called by
//! [`Core`](super::core::Core) for each frame.

use std::sync::Arc;

use super::asking::REFUSALS_BORNE;
use super::config::{Acknowledge, Endpoint};
use super::core::{Core, Link, Moment};
use super::event::{
    Answer, Direct, Event, Gap, GapReason, History, Message, Place, Receipt, Refusal, RequestError,
    Roster,
};
use super::membership::{Hearing, Missing, Since};
use super::requests::{Ask, Pending, Sent};
use crate::base::ids::{NodeId, Ref, Seq};
use crate::base::limits::MAX_FRAME_RANGE;
use crate::base::name::EVERYONE;
use crate::wire::message::{self as wire, Code, Heartbeat, Names, OkFlags, PresenceKind, Request};
use crate::wire::native;

/// The longest frame that any server can be configured to send.
const FRAME_MAX: usize = MAX_FRAME_RANGE.1;
/// The highest number that is taken from a server. None ever comes that far, so that whoever adds
/// to a number need not fear for it.
const NUMBER_MAX: u64 = u64::MAX >> 1;
/// A JOIN that the server has no room for is asked again within this time, in microseconds.
const ASK_AGAIN_US: u64 = 1_000_000;
/// In the text of a refusal with 429, what stands before and behind the milliseconds after which
/// the request conforms.
const WAIT_NAMED: (&str, &str) = (" in ", " ms");

impl Core {
    /// Deals with the frame at the head of `bytes`, if it is whole. How long it was.
    pub(super) fn hear_frame(&mut self, bytes: &[u8], now: Moment) -> Option<usize> {
        let taken = native::frame(bytes, FRAME_MAX);
        let understood = taken.and_then(|found| match found {
            Some((frame, length)) => Ok(Some((native::event(&frame)?, length))),
            None => Ok(None),
        });
        match understood {
            Ok(Some((Some(event), _))) if highest_number(&event) > NUMBER_MAX => {
                self.give_up("the server counts beyond all numbers", now);
                None
            }
            Ok(Some((event, length))) => {
                self.pulse.heard();
                if let Some(event) = event {
                    self.hear(event, now);
                }
                Some(length)
            }
            Ok(None) => None,
            Err(error) => {
                let reason = format!("the server speaks another language: {}", error.text());
                self.give_up(&reason, now);
                None
            }
        }
    }

    fn hear(&mut self, event: wire::Event<'_>, now: Moment) {
        // Only an ERROR that nothing follows is why the connection ended.
        if !matches!(event, wire::Event::Error { .. }) {
            self.last_refusal = None;
        }
        match event {
            wire::Event::Welcome(welcome) => {
                if self.link == Link::Greeting {
                    self.welcome(&welcome, now);
                }
            }
            wire::Event::Ping(ping) => {
                let pong = Heartbeat { node: NodeId(0), status: 0, ..ping };
                self.say(&Request::Pong(pong));
            }
            wire::Event::Pong(pong) => {
                if let Some(round_trip) = self.pulse.pong(now.us, pong.seq) {
                    self.tell(Event::RoundTrip(round_trip));
                }
            }
            wire::Event::Ok { reference, flags, epoch, seq } => {
                self.hear_ok(reference, flags, Place { epoch, seq }, now);
            }
            wire::Event::Error { reference, code, text } => {
                self.hear_error(reference, Refusal { code, text: text.to_owned() }, now);
            }
            wire::Event::Message { epoch, seq, time_ms, room, from, body, replay } => {
                let (from, body) = (from.to_owned(), body.to_vec());
                let place = Place { epoch, seq };
                let room = self.room(room);
                self.hear_message(Message { room, place, time_ms, from, body, replay }, now);
            }
            wire::Event::Direct { id, time_ms, from, body, replay } => {
                let (from, body) = (from.to_owned(), body.to_vec());
                self.hear_direct(Direct { id, time_ms, from, body, replay });
            }
            wire::Event::Presence { kind, total, room, user } => {
                let room = self.room(room);
                self.hear_presence(kind, total, room, user);
            }
            wire::Event::Roster { reference, total, users, .. } => {
                self.hear_roster(reference, total, users);
            }
            wire::Event::GoAway { reconnect_after_ms, reason, address } => {
                self.hear_go_away(reconnect_after_ms, reason, address, now);
            }
            wire::Event::Gap { epoch, from, to, room } => {
                let place = Place { epoch, seq: to };
                self.hear_gap(room, from, place);
            }
            wire::Event::Tempo { heartbeat_s, timeout_s } => {
                self.tell(Event::Tempo { heartbeat_s, timeout_s });
            }
            // A reason for what follows, or an answer to what is never asked.
            wire::Event::Bye { .. } | wire::Event::Echo(_) => {}
        }
    }

    fn hear_direct(&mut self, direct: Direct) {
        if self.directs.note(direct.id, direct.time_ms) {
            self.tell(Event::Direct(direct));
        } else {
            self.hear_again(direct.id);
        }
    }

    fn hear_roster(&mut self, reference: Ref, total: u32, users: Names<'_>) {
        if let Some(pending) = self.requests.take(reference)
            && let Ask::Who { room } = &pending.ask
        {
            let (room, users) = (Arc::clone(room), users.iter().map(str::to_owned));
            let roster = Roster { room, total, users: users.collect() };
            self.settle(pending, Ok(Answer::Roster(roster)));
        }
    }

    /// One copy of a room's name for all its messages.
    fn room(&self, name: &str) -> Arc<str> {
        self.rooms.get_key_value(name).map_or_else(|| name.into(), |(room, _)| Arc::clone(room))
    }

    fn hear_ok(&mut self, reference: Ref, flags: OkFlags, place: Place, now: Moment) {
        let Some(pending) = self.requests.take(reference) else {
            return;
        };
        let answer = match &pending.ask {
            Ask::Join { room } => {
                let room = Arc::clone(room);
                self.hear_joined(&room, pending.since, place, flags.gap);
                Answer::Joined(place)
            }
            Ask::Leave { .. } => Answer::Left,
            Ask::Publish { room, echo, .. } => {
                if let Some(member) = self.rooms.get_mut(room).filter(|_| !echo) {
                    member.note_own(place);
                }
                let OkFlags { duplicate, queued, .. } = flags;
                Answer::Sent(Receipt { place, duplicate, queued })
            }
            Ask::Direct { .. } | Ask::Who { .. } => {
                let OkFlags { duplicate, queued, .. } = flags;
                Answer::Sent(Receipt { place, duplicate, queued })
            }
            Ask::History { room, .. } => Answer::History(History {
                room: Arc::clone(room),
                messages: pending.messages.iter().cloned().collect(),
                head: place,
                gap: flags.gap,
            }),
        };
        self.settle(pending, Ok(answer));
        self.transmit(now);
    }

    fn hear_joined(&mut self, room: &Arc<str>, asked: Since, head: Place, gap: bool) {
        // It may have been left meanwhile.
        let Some(member) = self.rooms.get_mut(room) else {
            return;
        };
        member.note_joined(self.connection);
        if let Some(Missing { epoch, from, to, reason }) = member.join(asked, head, gap) {
            self.tell(Event::Gap(Gap { room: Arc::clone(room), epoch, from, to, reason }));
        }
    }

    fn hear_error(&mut self, reference: Ref, refusal: Refusal, now: Moment) {
        let Some(pending) = self.requests.find(reference) else {
            let no_resume = self.asked_to_resume && self.link == Link::Online;
            self.asked_to_resume = false;
            // That nothing was resumed, the welcome has told.
            if no_resume && refusal.code == Code::Unavailable {
                return;
            }
            if refusal.code == Code::TooLarge {
                self.fail_sent(&refusal);
            }
            self.last_refusal = Some(refusal.clone());
            return self.tell(Event::Complaint(refusal));
        };
        if pending.ticket.is_none() && self.asks_later(reference, &refusal, now) {
            return;
        }
        let Some(pending) = self.requests.take(reference) else {
            return;
        };
        let answer = match &pending.ask {
            Ask::Leave { .. } if refusal.code == Code::NotFound => Ok(Answer::Left),
            Ask::Join { room } => {
                self.hear_join_refused(&pending, room, &refusal);
                Err(RequestError::Refused(refusal))
            }
            _ => Err(RequestError::Refused(refusal)),
        };
        self.settle(pending, answer);
        self.transmit(now);
    }

    /// A JOIN of the client's own was refused. Whether it is asked again, since the next one may
    /// not be.
    fn asks_later(&mut self, reference: Ref, refusal: &Refusal, now: Moment) -> bool {
        if !matches!(refusal.code, Code::Unavailable | Code::TooMany) {
            return false;
        }
        let latest_us = self.requests.iter().map(|pending| pending.not_before_us).max();
        let Some(pending) = self.requests.find(reference) else {
            return false;
        };
        if let Some(wait_us) = wait_named_in(&refusal.text) {
            // One after the other: the server takes the next one so much later than the last.
            let latest_us = latest_us.unwrap_or(0).max(now.us);
            pending.not_before_us = latest_us.saturating_add(wait_us);
        } else if pending.refused <= REFUSALS_BORNE {
            pending.refused += 1;
            let hopeless = pending.refused > REFUSALS_BORNE;
            let wait_us = if hopeless { 1 } else { self.chance.u64(1..=ASK_AGAIN_US) };
            pending.not_before_us = now.us + wait_us;
        } else {
            return false;
        }
        pending.sent = Sent::Never;
        true
    }

    /// A JOIN was refused, and is not asked again.
    fn hear_join_refused(&mut self, pending: &Pending, room: &Arc<str>, refusal: &Refusal) {
        let Some(member) = self.rooms.get(room) else {
            return;
        };
        // The server has us in the room from an earlier JOIN, or a later one may still do.
        if member.is_joined_on(self.connection)
            || self.requests.iter().any(|pending| pending.ask.joins(room))
        {
            return;
        }
        let (ask, gates) = (Ask::Join { room: Arc::clone(room) }, pending.gates);
        if pending.ticket.is_some() && member.was_joined() {
            // This JOIN stood for the one by which we come back.
            return self.requests.push_inner(ask, gates);
        }
        self.rooms.remove(room);
        if pending.ticket.is_none() {
            // A session that goes on may still be in the room.
            self.requests.push_inner(Ask::Leave { room: Arc::clone(room) }, false);
            let (room, refusal) = (Arc::clone(room), refusal.clone());
            self.tell(Event::Dropped { room, refusal });
        }
    }

    /// The server closes the connection over a frame of ours; which one it was it does not say.
    fn fail_sent(&mut self, refusal: &Refusal) {
        let connection = self.connection;
        let sent = |pending: &Pending| pending.ask.is_said() && pending.was_sent_on(connection);
        while let Some(pending) = self.requests.take_where(sent) {
            self.fail(pending, RequestError::Refused(refusal.clone()));
        }
    }

    fn hear_message(&mut self, message: Message, now: Moment) {
        let room = Arc::clone(&message.room);
        if &*room == EVERYONE {
            return self.tell(Event::Message(message));
        }
        let asked = match message.replay {
            true => self.requests.history_of(self.connection, &room),
            false => None,
        };
        let is_asked = asked.is_some();
        if let Some(pending) = asked {
            pending.collect(&message);
        }
        let Some(member) = self.rooms.get_mut(&room) else {
            return;
        };
        let is_current = |place: Place| place.epoch == message.place.epoch;
        if is_asked
            && !member.place().is_some_and(is_current)
            && !member.awaits(message.place.epoch)
        {
            return;
        }
        // An epoch begins with the answer to JOIN, which tells how much of it there is. The message
        // comes again behind it.
        let joins = || self.requests.iter().any(|pending| pending.ask.joins(&room));
        if !member.knows(message.place.epoch) && joins() {
            return;
        }
        match member.hear(message.place, message.replay) {
            Hearing::News => self.tell_unless_own(message),
            Hearing::Again => {}
            // An answer to HISTORY may begin anywhere.
            Hearing::Hole { .. } if is_asked => {}
            Hearing::Hole { from, count } => self.hear_hole(message, from, count, now),
        }
    }

    /// Messages before this one are missing: they are asked for, and this one comes with them.
    fn hear_hole(&mut self, message: Message, from: Seq, count: u64, now: Moment) {
        let room = Arc::clone(&message.room);
        let connection = self.connection;
        let joins = |pending: &&Pending| pending.ask.joins(&room);
        if self.requests.iter().any(|pending| joins(&pending)) {
            return;
        }
        let Some(member) = self.rooms.get_mut(&room) else {
            return;
        };
        let own = self.requests.unplaced(connection, &room);
        if count > own && member.ask_again(connection) {
            self.requests.push_inner(Ask::Join { room }, false);
            return self.transmit(now);
        }
        member.pass(message.place);
        if count > own {
            let Place { epoch, seq } = message.place;
            let to = Seq(seq.0 - 1);
            self.tell(Event::Gap(Gap { room, epoch, from, to, reason: GapReason::NotKept }));
        }
        self.tell_unless_own(message);
    }

    /// Our own message of before, whose answer was lost, comes back among what we missed. It is
    /// held until the answer to its repetition shows whether it is the same.
    fn tell_unless_own(&mut self, message: Message) {
        let message = match *message.from == *self.user {
            true => self.requests.hold(message),
            false => Some(message),
        };
        if let Some(message) = message {
            self.tell(Event::Message(message));
        }
    }

    fn hear_presence(&mut self, kind: PresenceKind, total: u32, room: Arc<str>, user: &str) {
        self.tell(Event::Presence { kind, total, room, user: user.to_owned() });
    }

    fn hear_gap(&mut self, room: &str, from: Seq, to: Place) {
        // It names nothing.
        if from > to.seq {
            return;
        }
        if room.is_empty() {
            return self.tell(Event::DirectsDropped { from: from.0, to: to.seq.0 });
        }
        let room = self.room(room);
        let Some(member) = self.rooms.get_mut(&room) else {
            return;
        };
        // What was handed out already is not missing, and what a JOIN under way asks for may come.
        let is_asked = self.requests.iter().any(|pending| {
            pending.ask.joins(&room) && pending.sent != Sent::Never && pending.since != Since::Live
        });
        let known = member.place().filter(|place| place.epoch == to.epoch);
        let last = known.map_or(Seq(0), |place| place.seq);
        if is_asked || to.seq <= last {
            return;
        }
        member.pass(to);
        let from = Seq(from.0.max(last.0 + 1));
        let (epoch, to) = (to.epoch, to.seq);
        self.tell(Event::Gap(Gap { room, epoch, from, to, reason: GapReason::Overflow }));
    }

    fn hear_go_away(&mut self, after_ms: u32, reason: &str, address: &str, now: Moment) {
        let until_us = now.us + u64::from(after_ms) * 1_000;
        self.redirect = match address {
            "" => Some(self.endpoint.clone()),
            address => Endpoint::parse(address).ok().or_else(|| Some(self.endpoint.clone())),
        };
        self.goes_until_us = Some(until_us);
        // A server that keeps the connection beyond its own word is left.
        self.timers.give_up = Some(until_us);
        self.tell(Event::GoAway { reconnect_after_ms: after_ms, reason: reason.to_owned() });
    }

    /// The program has taken an event.
    pub(super) fn taken(&mut self, event: &Event) {
        if let Event::Direct(direct) = event
            && self.config.acknowledge == Acknowledge::WhenTaken
        {
            self.acknowledge(direct.id);
        }
    }

    /// A direct message came again: the server did not hear that it had arrived. One that the
    /// program has not taken yet is acknowledged when it is.
    fn hear_again(&mut self, id: u64) {
        let taken = match self.config.acknowledge {
            Acknowledge::WhenTaken => !self.waits_to_be_taken(id),
            Acknowledge::ByHand => self.acknowledged >= Some(id),
        };
        if taken {
            self.acknowledge(id);
        }
    }
}

/// The wait that the text of a refusal names, in microseconds.
fn wait_named_in(text: &str) -> Option<u64> {
    let (before, _) = text.rsplit_once(WAIT_NAMED.1)?;
    let (_, wait_ms) = before.rsplit_once(WAIT_NAMED.0)?;
    let wait_ms: u64 = wait_ms.parse().ok()?;
    Some(wait_ms.max(1).saturating_mul(1_000))
}

/// The highest number in an event that is added to.
fn highest_number(event: &wire::Event<'_>) -> u64 {
    match event {
        wire::Event::Ok { seq, .. } | wire::Event::Message { seq, .. } => seq.0,
        wire::Event::Direct { id, .. } => *id,
        wire::Event::Gap { from, to, .. } => from.0.max(to.0),
        _ => 0,
    }
}
