//! What a client asks for.
//!
//! Owns the choice of the next request and its record in the visit and the ledger. Native clients
//! count their refs; text clients type lines.

use corebeat::base::ids::{Epoch, NodeId, Ref, Seq};
use corebeat::base::time::Now;
use corebeat::wire::message::{Code, Heartbeat, Hello, Request};
use corebeat::wire::native;

use super::dice::Dice;
use super::ledger::{Ledger, MessageId};
use super::network::Link;
use super::plan::{ABSENT, Character, EVERYONE, Plan, ROOMS, Speech, USERS};
use super::stay::Since;
use super::visit::{Visit, Wish};

/// One client about to ask for something.
pub(crate) struct Wisher<'a> {
    pub(crate) visit: &'a mut Visit,
    pub(crate) link: &'a mut Link,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) dice: &'a mut Dice,
    pub(crate) plan: &'a Plan,
    pub(crate) character: &'a Character,
    pub(crate) round: u64,
    pub(crate) now: Now,
}

impl Wisher<'_> {
    /// Asks for a WebSocket.
    pub(crate) fn open_websocket(&mut self) {
        let opening = self.visit.web.as_mut().expect("it speaks on one").opening(self.visit.speech);
        self.visit.say(&opening, self.link, self.now.mono);
    }

    /// Says hello as `user`, who may be nobody in particular.
    pub(crate) fn greet(&mut self, user: &str) {
        self.ledger.names[self.visit.id].push(user.to_owned());
        if self.visit.speech == Speech::Text {
            if user.is_empty() {
                let line = self.dice.pick(&["hello", "/who", "/help", ""]);
                if line == "hello" { self.type_message() } else { self.line(line) }
            } else {
                self.line(&format!("/nick {user}"));
            }
            return;
        }
        let guess = if self.dice.chance(30) { (1, 0) } else { (0, 0) };
        let (session, resume_key) = self.visit.claims.unwrap_or(guess);
        let heartbeat_s = self.dice.pick(&[0, 0, 0, 1, 4, 1_000]);
        self.request(&Request::Hello(Hello {
            version: native::VERSION,
            heartbeat_s,
            session,
            resume_key,
            user,
            token: "",
            crc: self.visit.speech.has_crc(),
        }));
    }

    /// Sends again what was not answered on the connection that the session lost.
    pub(crate) fn ask_again(&mut self) {
        for (reference, wish) in std::mem::take(&mut self.visit.unanswered) {
            if self.ledger.is_doubtful(&wish) {
                // If it was done nevertheless, it would be told twice.
                self.ask_anew(reference, wish);
                continue;
            }
            let again = wish.clone();
            self.visit.ask_once_more(reference, wish);
            match again {
                Wish::Publish(ids) => self.send_message(reference, ids[0]),
                Wish::Direct(ids) => self.send_letter(reference, ids[0]),
                other => unreachable!("{other:?} is not repeated"),
            }
        }
    }

    /// Asks for the same with another body, which is known from the first.
    fn ask_anew(&mut self, reference: u32, mut wish: Wish) {
        match &mut wish {
            Wish::Publish(ids) => {
                let first = &self.ledger.messages[ids[0]];
                let (place, echo) = ((self.visit.id, first.room), first.echo);
                let id = self.ledger.publish(place, (reference, echo), b"anew", self.round);
                ids.push(id);
                self.visit.ask_once_more(reference, wish);
                self.send_message(reference, id);
            }
            Wish::Direct(numbers) => {
                let user = self.ledger.letters.all[numbers[0]].user.clone();
                let number = self.ledger.letters.write(self.visit.id, &user, b"anew", self.round);
                numbers.push(number);
                self.visit.ask_once_more(reference, wish);
                self.send_letter(reference, number);
            }
            other => unreachable!("{other:?} is not repeated"),
        }
    }

    /// Sends a message that is in the ledger.
    fn send_message(&mut self, reference: u32, id: MessageId) {
        let message = &self.ledger.messages[id];
        let room = ROOMS[message.room.expect("native clients name the room")];
        let (body, echo) = (message.body.clone(), message.echo);
        self.request(&Request::Publish { reference: Ref(reference), room, body: &body, echo });
    }

    /// Sends a direct message that is in the ledger.
    fn send_letter(&mut self, reference: u32, number: usize) {
        let letter = &self.ledger.letters.all[number];
        let (user, body) = (letter.user.clone(), letter.body.clone());
        self.request(&Request::Direct { reference: Ref(reference), user: &user, body: &body });
    }

    /// Asks for something.
    pub(crate) fn wish(&mut self) {
        if self.visit.speech == Speech::Text {
            self.type_something();
        } else {
            self.ask_something();
        }
    }

    fn ask_something(&mut self) {
        if self.dice.chance(self.character.hop) {
            return self.hop();
        }
        match self.dice.within(0..=99) {
            0..=11 => {
                let (room, reference) = (self.any_room(), self.dice_reference());
                self.join(room, reference);
            }
            12..=17 => {
                let (room, reference) = (self.joined_room(), self.dice_reference());
                self.leave(room, reference);
            }
            18..=63 => self.publish(),
            64..=74 => self.write_to_somebody(),
            75..=79 => self.acknowledge(),
            80..=83 => self.repeat(),
            84..=87 => {
                let room = self.any_room();
                self.who(room);
            }
            88..=91 => {
                let length = self.dice.within(0..=self.character.body_max.min(200));
                let bytes = self.dice.bytes(length);
                self.request(&Request::Echo(&bytes));
                self.visit.echoes.push_back(bytes);
            }
            92..=94 => self.ping(),
            95..=96 => self.list(),
            _ => self.ask_in_vain(),
        }
    }

    fn request(&mut self, request: &Request<'_>) {
        self.visit.ask(request, self.link, self.now.mono);
    }

    fn line(&mut self, line: &str) {
        self.visit.type_line(line, self.link, self.now.mono);
    }

    fn dice_reference(&mut self) -> bool {
        self.dice.chance(self.character.reference)
    }

    fn any_room(&mut self) -> usize {
        self.dice.within(EVERYONE + 1..=self.plan.rooms - 1)
    }

    /// A room in which the client means to be, if there is one.
    fn joined_room(&mut self) -> usize {
        let wanted: Vec<usize> =
            (0..self.plan.rooms).filter(|room| self.visit.rooms[*room].is_wanted()).collect();
        if wanted.is_empty() { self.any_room() } else { self.dice.pick(&wanted) }
    }

    /// Leaves and joins again before the answer can be there.
    fn hop(&mut self) {
        let room = self.joined_room();
        for _ in 0..self.dice.within(1..=3) {
            let reference = self.dice_reference();
            self.leave(room, reference);
            if self.dice.chance(300) {
                self.publish_in(room, true);
            }
            self.join(room, true);
        }
    }

    /// Joins a room, as a member already or not.
    pub(crate) fn join(&mut self, room: usize, reference: bool) {
        if !self.plan.panics.is_empty() && self.visit.rooms[room].is_listed {
            return;
        }
        // Two requests without a ref, one after the other, would leave too much unknown.
        let reference = reference || self.visit.rooms[room].moves.iter().any(|m| m.reference == 0);
        let since = self.draw_since(room);
        // Where a replay begins, and where another join ends it, only the answers tell.
        let view = &self.visit.rooms[room];
        let reference = reference || since.is_some() || view.is_recalled() || view.is_resumed;
        let notify = self.dice.chance(600);
        let number = self.visit.rooms[room].moves.len();
        let reference = self.visit.note(Wish::Join(room, number), reference);
        self.note_heads(reference, room);
        self.visit.rooms[room].request(true, notify, reference);
        self.visit.rooms[room].moves[number].since = since;
        let since = since.unwrap_or(Since { epoch: 0, seq: 0 });
        let (epoch, since) = (Epoch(since.epoch), Seq(since.seq));
        let (reference, room) = (Ref(reference), ROOMS[room]);
        self.request(&Request::Join { reference, epoch, since, room, notify });
    }

    /// Something that was said in a room, near its end, and now and then what is not known there.
    fn draw_since(&mut self, room: usize) -> Option<Since> {
        let view = &self.visit.rooms[room];
        if view.is_listed || view.is_resumed || !self.dice.chance(self.character.recall) {
            return None;
        }
        let known = self.ledger.seen.range((room, 0, 0)..(room + 1, 0, 0)).next_back();
        let &(_, epoch, last) = known?.0;
        let back = self.dice.pick(&[0, 1, 3, 10, 40, 400]);
        let seq = last.saturating_sub(self.dice.number(0..=back)) + self.dice.pick(&[0, 0, 0, 2]);
        let epoch = self.dice.pick(&[epoch, epoch, epoch, 0, 0, epoch ^ 1]);
        (seq > 0).then_some(Since { epoch, seq })
    }

    /// Asks what was said in a room.
    fn list(&mut self) {
        let room = self.any_room();
        let view = &self.visit.rooms[room];
        // What is replayed behind a panic would be taken for a part of the answer.
        let may_rejoin = !self.plan.panics.is_empty() && !view.moves.is_empty();
        if view.is_recalled() || view.is_resumed || may_rejoin {
            return;
        }
        let last = self.ledger.seen.range((room, 0, 0)..(room + 1, 0, 0)).next_back();
        let last = last.map_or(0, |(spot, _)| spot.2);
        let since = self.dice.number(0..=last + 1);
        let since = if self.dice.chance(300) { 0 } else { since };
        let limit = self.dice.pick(&[0, 1, 3, 1_000]);
        self.list_behind(room, since, limit);
    }

    /// Asks for at most `limit` messages of a room that follow `since`.
    pub(crate) fn list_behind(&mut self, room: usize, since: u64, limit: u16) {
        self.visit.rooms[room].is_listed = true;
        let reference = self.visit.note(Wish::List(room, since, limit), true);
        self.note_heads(reference, room);
        let (reference, since, room) = (Ref(reference), Seq(since), ROOMS[room]);
        self.request(&Request::History { reference, room, since, limit });
    }

    /// Notes what is known of a room when a request that its head answers is sent.
    fn note_heads(&mut self, reference: u32, room: usize) {
        if let Some(asked) = self.visit.asked.get_mut(&reference) {
            asked.heads = self.ledger.heads(room);
        }
    }

    /// Leaves a room.
    pub(crate) fn leave(&mut self, room: usize, reference: bool) {
        let number = self.visit.rooms[room].moves.len();
        let reference = self.visit.note(Wish::Leave(room, number), reference);
        self.visit.rooms[room].request(false, false, reference);
        self.request(&Request::Leave { reference: Ref(reference), room: ROOMS[room] });
    }

    fn publish(&mut self) {
        let room = match self.dice.within(0..=19) {
            0 => EVERYONE,
            1..=3 => self.any_room(),
            _ => self.joined_room(),
        };
        let reference = self.dice_reference();
        self.publish_in(room, reference);
    }

    fn publish_in(&mut self, room: usize, reference: bool) {
        let echo = self.dice.chance(self.character.echo);
        let longest = self.character.body_max.min(self.longest_body());
        let length = self.dice.within(0..=longest);
        let padding = self.dice.bytes(length);
        let reference = self.visit.note(Wish::Publish(Vec::new()), reference);
        let place = (self.visit.id, Some(room));
        let id = self.ledger.publish(place, (reference, echo), &padding, self.round);
        if let Some(asked) = self.visit.asked.get_mut(&reference) {
            asked.wish = Wish::Publish(vec![id]);
        }
        self.send_message(reference, id);
    }

    /// Writes to a user: somebody who may be there, itself, or somebody who never comes.
    fn write_to_somebody(&mut self) {
        let user = match self.dice.within(0..=9) {
            0 | 1 => self.dice.pick(&ABSENT).to_owned(),
            2 if self.visit.welcomed => self.visit.user.clone(),
            _ => self.dice.pick(&USERS).to_owned(),
        };
        let longest = self.character.body_max.min(self.longest_body());
        let length = self.dice.within(0..=longest);
        let padding = self.dice.bytes(length);
        let reference = self.dice_reference();
        self.write_to(&user, &padding, reference);
    }

    /// Writes to a user, in whatever the client speaks.
    pub(crate) fn write_late(&mut self, user: &str) {
        if self.visit.is_text() {
            self.write_letter(user);
        } else {
            self.write_to(user, b"late", true);
        }
    }

    /// Writes to a user, in a native frame.
    pub(crate) fn write_to(&mut self, user: &str, padding: &[u8], reference: bool) -> usize {
        let reference = self.visit.note(Wish::Direct(Vec::new()), reference);
        let number = self.ledger.letters.write(self.visit.id, user, padding, self.round);
        if let Some(asked) = self.visit.asked.get_mut(&reference) {
            asked.wish = Wish::Direct(vec![number]);
        }
        self.send_letter(reference, number);
        number
    }

    /// Acknowledges what came on this connection, most often all.
    fn acknowledge(&mut self) {
        let latest = self.visit.post.latest;
        let back = self.dice.pick(&[0, 0, 0, 1, 3]);
        let id = latest.saturating_sub(back);
        if id > 0 {
            self.visit.note_ack(id, self.ledger);
            self.request(&Request::Ack { id });
        }
    }

    /// The longest body whose message is not too long: in an object it may be six times as long.
    fn longest_body(&self) -> usize {
        let max_frame = self.plan.limits.max_frame;
        if self.visit.speech == Speech::Json { (max_frame - 400) / 6 } else { max_frame - 40 }
    }

    /// Sends an earlier request again, with another body, so that a delivery would be seen.
    fn repeat(&mut self) {
        let earlier = 1 + self.dice.within(0..=5) as u32;
        let reference = self.visit.last_ref.saturating_sub(earlier);
        let Some(asked) = self.visit.asked.get_mut(&reference) else {
            return;
        };
        match &mut asked.wish {
            Wish::Publish(ids) => {
                let first = &self.ledger.messages[ids[0]];
                let (place, echo) = ((self.visit.id, first.room), first.echo);
                let id = self.ledger.publish(place, (reference, echo), b"again", self.round);
                ids.push(id);
                asked.requests += 1;
                self.send_message(reference, id);
            }
            Wish::Direct(numbers) => {
                let user = self.ledger.letters.all[numbers[0]].user.clone();
                let number = self.ledger.letters.write(self.visit.id, &user, b"again", self.round);
                numbers.push(number);
                asked.requests += 1;
                self.send_letter(reference, number);
            }
            _ => {}
        }
    }

    /// Asks who is in a room.
    pub(crate) fn who(&mut self, room: usize) {
        let reference = Ref(self.visit.note(Wish::Who(room), true));
        self.request(&Request::Who { reference, room: ROOMS[room] });
    }

    fn ping(&mut self) {
        let seq = self.dice.bits() as u32;
        let ping = Heartbeat { node: NodeId(0), time_ms: self.dice.bits(), status: 0, seq };
        self.visit.pings.push(ping);
        self.request(&Request::Ping(ping));
    }

    /// Asks for what is refused without harm.
    fn ask_in_vain(&mut self) {
        let choice = self.dice.within(0..=4);
        let codes: &'static [Code] = match choice {
            0 | 1 => &[Code::Malformed],
            _ => &[Code::Forbidden],
        };
        let reference = Ref(self.visit.note(Wish::Refusal(codes), true));
        let (epoch, since, notify) = (Epoch(0), Seq(0), false);
        let request = match choice {
            0 => Request::Direct { reference, user: "a b", body: b"psst" },
            1 => Request::Join { reference, epoch, since, room: "a b", notify },
            2 => Request::Join { reference, epoch, since, room: "*", notify },
            3 => Request::Who { reference, room: "$all" },
            _ => Request::Publish { reference, room: "$all", body: b"m", echo: true },
        };
        self.request(&request);
    }

    fn type_something(&mut self) {
        if self.dice.chance(self.character.hop) {
            let room = self.any_room();
            self.line("/leave");
            return self.type_join(room);
        }
        match self.dice.within(0..=99) {
            0..=9 => {
                let room = self.any_room();
                self.type_join(room);
            }
            10..=14 => self.line("/leave"),
            15..=19 => {
                let user = self.dice.pick(&USERS);
                self.ledger.names[self.visit.id].push(user.to_owned());
                self.line(&format!("/nick {user}"));
            }
            20..=25 => {
                let user = if self.dice.chance(200) { ABSENT[0] } else { self.dice.pick(&USERS) };
                self.write_letter(user);
            }
            26..=29 => self.line("/who"),
            30..=33 => self.type_ping(),
            34 => self.line("/help"),
            35 => {
                let count = self.dice.within(1..=5);
                self.visit.recalled += count;
                self.visit.has_recalled = true;
                self.line(&format!("/history {count}"));
            }
            _ => self.type_message(),
        }
    }

    fn type_join(&mut self, room: usize) {
        self.line(&format!("/join {}", ROOMS[room]));
    }

    /// Types a message for the current room.
    fn type_message(&mut self) {
        let longest = self.character.body_max.min(self.plan.limits.max_frame - 40);
        let padding = vec![b'x'; self.dice.within(0..=longest)];
        let place = (self.visit.id, None);
        let id = self.ledger.publish(place, (0, false), &padding, self.round);
        let line = String::from_utf8(self.ledger.messages[id].body.clone()).expect("it is ASCII");
        self.line(&line);
    }

    /// Types a direct message.
    pub(crate) fn write_letter(&mut self, user: &str) -> usize {
        let number = self.ledger.letters.write(self.visit.id, user, b"psst", self.round);
        let body = String::from_utf8(self.ledger.letters.all[number].body.clone()).expect("ASCII");
        self.line(&format!("/msg {user} {body}"));
        number
    }

    /// Types `/ping`, which also shows that the client is there.
    pub(crate) fn type_ping(&mut self) {
        self.visit.pings.push(Heartbeat::default());
        self.line("/ping");
    }

    /// Types `/who`.
    pub(crate) fn type_who(&mut self) {
        self.line("/who");
    }

    /// Sends what no dialect allows.
    pub(crate) fn misbehave(&mut self) {
        if let Some(web) = self.visit.web.as_mut() {
            let nonsense = web.nonsense(self.visit.speech);
            self.visit.babble(&nonsense);
            let length = self.dice.within(0..=2_000);
            let bytes = self.dice.bytes(length);
            return self.visit.babble(&bytes);
        }
        let nonsense: &[u8] = match self.dice.within(0..=6) {
            0 => b"\xFB\x12\0\0\xFF\xFF\xFF\xFF",
            1 => b"\xFB\x7F\0\0\0\0\0\0",
            2 => b"\xFB\x01\0\0\0\0\0\x03\x01\0\0",
            3 => b"\xFB\x05\0\x01\0\0\0\0nope",
            4 => b"\xFF\xFE\n",
            5 => b"\xFB\x10\0\0\0\0\0\x02\0\0",
            _ => b"\xC3\n/nick bob\n/quit\n",
        };
        self.ledger.names[self.visit.id].push("bob".to_owned());
        self.visit.babble(nonsense);
        if self.dice.chance(500) {
            let length = self.dice.within(1..=3_000);
            let mut bytes = self.dice.bytes(length);
            // Whole lines of it might be taken for messages.
            bytes.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = 0xFF);
            self.visit.babble(&bytes);
        }
    }
}
