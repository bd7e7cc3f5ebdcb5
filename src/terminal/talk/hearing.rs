//! What the client tells, and what becomes of it in the conversations.
//!
//! Owns the way from an event to lines, members and unread counts. Never asks the client for
//! anything but the past and the members of a room that was entered. The screen calls
//! [`Talk::hear`].

use std::sync::Arc;

use super::{PAST_SHOWN, Purpose, Talk, mentions, said};
use crate::client::{
    Answer, Direct, Event, Gap, GapReason, History, Message, PresenceKind, RequestError, State,
};
use crate::terminal::conversation::{Fate, Kind, Line, With};
use crate::terminal::paint::harmless;
use crate::terminal::past::Past;

impl Talk {
    /// The client told something.
    pub fn hear(&mut self, event: Event) {
        match event {
            Event::State(state) => self.hear_state(state),
            Event::Answered(ticket, answer) => {
                if let Some(purpose) = self.purposes.remove(&ticket) {
                    self.answer(purpose, answer);
                }
            }
            Event::Message(message) => self.hear_message(message),
            Event::Direct(direct) => self.hear_direct(direct),
            Event::Presence { kind, total, room, user } => {
                self.hear_presence(kind, total, &room, &user);
            }
            Event::Gap(gap) => self.hear_gap(&gap),
            Event::DirectsDropped { .. } => {
                self.alarm("direct messages to you were dropped: too many waited, or too long");
            }
            Event::Dropped { room, refusal } => {
                self.put_out(room, &format!("no longer here: {refusal}"));
            }
            Event::RoundTrip(round_trip) => self.round_trip_us = Some(round_trip.smoothed_us),
            Event::GoAway { reason, .. } => {
                self.note(&format!("the server asks us to come back in a moment: {reason}"));
            }
            Event::Complaint(refusal) => self.alarm(&format!("the server says {refusal}")),
            Event::Tempo { .. } => {}
        }
    }

    fn hear_state(&mut self, state: State) {
        match &state {
            State::Online { user, resumed, .. } => {
                self.user = user.to_string();
                if self.was_online {
                    self.note(if *resumed { "back, where we were" } else { "back again" });
                }
                self.was_online = true;
                let rooms: Vec<Arc<str>> = self.rooms().collect();
                rooms.iter().for_each(|room| self.ask_who(room, false));
            }
            State::Waiting { reason, .. } => {
                if matches!(self.state, State::Online { .. }) {
                    self.alarm(&format!("offline: {reason}; what you write waits"));
                }
                self.round_trip_us = None;
            }
            State::Closed { .. } => self.quits = true,
            State::Idle | State::Connecting { .. } => {}
        }
        self.state = state;
    }

    fn rooms(&self) -> impl Iterator<Item = Arc<str>> {
        self.conversations.iter().filter_map(|conversation| match &conversation.with {
            With::Room(room) => Some(Arc::clone(room)),
            With::User(_) => None,
        })
    }

    pub(super) fn answer(&mut self, purpose: Purpose, answer: Result<Answer, RequestError>) {
        match (purpose, answer) {
            (Purpose::Join(room), Ok(Answer::Joined(head))) => {
                self.ask_who(&room, false);
                // Also where the epoch has none: an earlier one may.
                self.ask_past(&room, head.seq, PAST_SHOWN, false);
            }
            (Purpose::Join(room), Err(error)) => {
                self.put_out(room, &format!("not joined: {error}"));
            }
            (Purpose::Say(with, number), outcome) => {
                let fate = match outcome {
                    Ok(Answer::Sent(receipt)) if receipt.queued => Fate::Queued,
                    Ok(_) => Fate::Taken,
                    Err(RequestError::Uncertain) => Fate::Uncertain,
                    Err(error) => Fate::Failed(error.to_string()),
                };
                if let Some(index) = self.find(&with) {
                    self.conversations[index].settle(number, fate);
                }
            }
            (Purpose::Who(room, aloud), Ok(Answer::Roster(roster))) => {
                let with = With::Room(room);
                let listed = roster.users.join(", ");
                if aloud {
                    self.put(&with, Kind::Note, &format!("{} here: {listed}", roster.total));
                }
                if let Some(index) = self.find(&with) {
                    self.conversations[index].total = Some(roster.total);
                    self.conversations[index].members = roster.users.into_iter().collect();
                }
            }
            (Purpose::Head(room, count), Ok(Answer::History(history))) => {
                self.ask_past(&room, history.head.seq, count, true);
            }
            (Purpose::Past(room, past, aloud), Ok(Answer::History(history))) => {
                self.hear_past(room, past, history, aloud);
            }
            (
                Purpose::Who(room, true) | Purpose::Past(room, _, true) | Purpose::Head(room, _),
                Err(error),
            ) => {
                self.put(&With::Room(room), Kind::Alarm, &error.to_string());
            }
            // What nobody asked for aloud, nobody misses.
            _ => {}
        }
    }

    fn hear_past(&mut self, room: Arc<str>, mut past: Past, history: History, aloud: bool) {
        let Some(index) = self.find(&With::Room(Arc::clone(&room))) else {
            return;
        };
        if let Some(question) = past.take(history) {
            return self.ask_more_past(&room, past, question, aloud);
        }
        let past = past.into_messages().into_iter().map(said).collect::<Vec<Line>>();
        if aloud {
            let count = past.len();
            self.put(&With::Room(room), Kind::Note, &format!("the last {count} messages:"));
            past.into_iter().for_each(|line| self.conversations[index].push(line));
        } else {
            self.conversations[index].insert_past(past);
        }
    }

    /// We are not in a room, although we wished to be.
    fn put_out(&mut self, room: Arc<str>, why: &str) {
        let with = With::Room(room);
        if let Some(index) = self.find(&with) {
            self.conversations[index].joined = false;
        }
        self.put(&with, Kind::Alarm, why);
    }

    fn hear_message(&mut self, message: Message) {
        let room = Arc::clone(&message.room);
        let called = mentions(&message.body, &self.user);
        let index = self.open(With::Room(room));
        self.conversations[index].push(said(message));
        self.count(index, called);
    }

    fn hear_direct(&mut self, direct: Direct) {
        let index = self.open(With::User(direct.from.clone()));
        let text = harmless(&String::from_utf8_lossy(&direct.body));
        let kind = Kind::Said { from: direct.from, place: None };
        self.conversations[index].push(Line { time_ms: direct.time_ms, kind, text });
        self.count(index, true);
    }

    /// Something new is in a conversation.
    fn count(&mut self, index: usize, called: bool) {
        if index == self.current && self.scrolled > 0 {
            // What is looked at stays in sight.
            self.scrolled += 1;
        }
        if index != self.current || self.scrolled > 0 {
            self.conversations[index].unread += 1;
            self.conversations[index].called |= called;
        }
    }

    fn hear_presence(&mut self, kind: PresenceKind, total: u32, room: &Arc<str>, user: &str) {
        let with = match kind {
            PresenceKind::Online | PresenceKind::Offline => With::User(user.to_owned()),
            _ => With::Room(Arc::clone(room)),
        };
        let Some(index) = self.find(&with) else {
            return;
        };
        let conversation = &mut self.conversations[index];
        let words = match kind {
            PresenceKind::Joined => {
                conversation.members.insert(user.to_owned());
                "joined"
            }
            PresenceKind::Left => {
                conversation.members.remove(user);
                "left"
            }
            PresenceKind::Online => "is online",
            PresenceKind::Offline => "is offline",
            PresenceKind::Many => "",
        };
        if matches!(with, With::Room(_)) {
            conversation.total = Some(total);
        }
        if !words.is_empty() {
            self.put(&with, Kind::Note, &format!("{user} {words}"));
        }
    }

    fn hear_gap(&mut self, gap: &Gap) {
        let count = (gap.to.0 + 1).saturating_sub(gap.from.0);
        let words = match gap.reason {
            GapReason::Overflow => format!("{count} messages were left out: too many came at once"),
            GapReason::NotKept => "some of what was said meanwhile is no longer kept".to_owned(),
            GapReason::NewEpoch => {
                "the room began anew; what was said meanwhile is gone".to_owned()
            }
        };
        self.put(&With::Room(Arc::clone(&gap.room)), Kind::Alarm, &words);
    }
}
