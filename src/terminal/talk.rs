//! All that is talked, and what the person at the keyboard does about it.
//!
//! Owns the conversations, the line under way and what is shown of them. Pure: keys and events go
//! in, [`Wish`]es and something to draw come out. The screen carries wishes to the client.

mod hearing;

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

use super::command;
use super::completion::{Completion, complete};
use super::conversation::{Conversation, Fate, Kind, Line, With};
use super::editor::Editor;
use super::keys::Key;
use super::paint::harmless;
use super::past::{NOWHERE, Past, Question};
use crate::client::{Message, RequestError, Seq, State, Ticket};

/// Messages of the past that are shown when a room is entered.
const PAST_SHOWN: u16 = 50;

/// What is asked of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Join a room.
    Join(Arc<str>),
    /// Leave a room.
    Leave(Arc<str>),
    /// Say something in a room.
    Publish(Arc<str>, String),
    /// Say something to a user.
    Direct(String, String),
    /// Ask who is in a room.
    Who(Arc<str>),
    /// Ask for what follows a place, at most so many.
    History(Arc<str>, Seq, u16),
    /// Try again at once.
    Wake,
}

/// What an answer is for.
#[derive(Clone, Debug)]
enum Purpose {
    Join(Arc<str>),
    /// The line of this number.
    Say(With, u64),
    /// Aloud, or only to know.
    Who(Arc<str>, bool),
    /// The last messages of a room; aloud where a person asked for them.
    Past(Arc<str>, Past, bool),
    /// To find the head of a room, of which so many messages are wanted aloud.
    Head(Arc<str>, u16),
    /// Nothing that anybody waits for.
    Quiet,
}

/// The whole of it.
#[derive(Debug)]
pub struct Talk {
    /// The name we go by.
    pub user: String,
    /// What the connection is at.
    pub state: State,
    /// The smoothed round trip, in microseconds.
    pub round_trip_us: Option<u64>,
    /// Rooms and users, in the order in which they were opened.
    pub conversations: Vec<Conversation>,
    /// The one that is shown.
    pub current: usize,
    /// The line under way.
    pub editor: Editor,
    /// So many rows the view is above the end.
    pub scrolled: usize,
    /// The help is shown.
    pub helping: bool,
    /// The person wants to go.
    pub quits: bool,
    /// The person wants the shell for a while.
    pub suspends: bool,
    wishes: VecDeque<(Wish, Purpose)>,
    purposes: HashMap<Ticket, Purpose>,
    next_number: u64,
    now_ms: u64,
    was_online: bool,
}

impl Talk {
    /// A talk that begins in `rooms`.
    pub fn new(user: &str, rooms: &[String], now_ms: u64) -> Talk {
        let mut talk = Talk {
            user: user.to_owned(),
            state: State::Idle,
            round_trip_us: None,
            conversations: Vec::new(),
            current: 0,
            editor: Editor::default(),
            scrolled: 0,
            helping: false,
            quits: false,
            suspends: false,
            wishes: VecDeque::new(),
            purposes: HashMap::new(),
            next_number: 1,
            now_ms,
            was_online: false,
        };
        for room in rooms {
            talk.join(room);
        }
        talk.show(0);
        talk
    }

    /// What the clock says.
    pub fn tell_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// The next thing to ask the client for; [`Talk::granted`] or [`Talk::refused`] follows.
    pub fn next_wish(&mut self) -> Option<(Wish, Granting)> {
        let (wish, purpose) = self.wishes.pop_front()?;
        Some((wish, Granting(purpose)))
    }

    /// The client has taken a wish.
    pub fn granted(&mut self, granting: Granting, ticket: Ticket) {
        self.purposes.insert(ticket, granting.0);
    }

    /// The client has not.
    pub fn refused(&mut self, granting: Granting, error: RequestError) {
        self.answer(granting.0, Err(error));
    }

    /// The conversation that is shown.
    pub fn shown(&self) -> Option<&Conversation> {
        self.conversations.get(self.current)
    }

    // What the person does.

    /// A key was pressed.
    pub fn press(&mut self, key: &Key) {
        if self.helping && matches!(key, Key::Escape | Key::Enter | Key::Help) {
            self.helping = false;
            return;
        }
        match key {
            Key::Control('c') => self.quits = true,
            Key::Control('d') if self.editor.text().is_empty() => self.quits = true,
            Key::Control('z') => self.suspends = true,
            Key::Enter => self.submit(),
            Key::Help => self.helping = true,
            Key::Control('n') | Key::Next => self.step(1),
            Key::Control('p') | Key::Previous => self.step(-1),
            Key::Alt(digit @ '1'..='9') => self.show(*digit as usize - '1' as usize),
            Key::Alt('a') | Key::Control('g') => self.show_unread(),
            Key::Control('r') => self.wishes.push_back((Wish::Wake, Purpose::Quiet)),
            Key::PageUp => self.scrolled += 10,
            Key::PageDown => self.scrolled = self.scrolled.saturating_sub(10),
            Key::Escape => self.scrolled = 0,
            Key::Tab => self.complete(),
            Key::PasteTooLong => self.alarm("not taken: what was pasted is longer than 64 KiB"),
            _ => {
                self.editor.press(key);
            }
        }
    }

    fn step(&mut self, by: isize) {
        let count = self.conversations.len();
        if count > 0 {
            self.show((self.current as isize + by).rem_euclid(count as isize) as usize);
        }
    }

    fn show(&mut self, index: usize) {
        if let Some(conversation) = self.conversations.get_mut(index) {
            conversation.read();
            (self.current, self.scrolled) = (index, 0);
        }
    }

    fn show_unread(&mut self) {
        let behind = (self.current + 1..self.conversations.len()).chain(0..self.current);
        let called = |index: &usize| self.conversations[*index].called;
        let unread = |index: &usize| self.conversations[*index].unread > 0;
        let next = behind.clone().find(called).or_else(|| behind.clone().find(unread));
        if let Some(index) = next {
            self.show(index);
        }
    }

    fn submit(&mut self) {
        let line = self.editor.submit();
        self.scrolled = 0;
        let shown = self.shown().map(|conversation| conversation.with.clone());
        let room = match &shown {
            Some(With::Room(room)) => Some(Arc::clone(room)),
            _ => None,
        };
        match command::understand(&line) {
            command::Line::Empty => {}
            command::Line::Say(text) => match shown {
                Some(with) => self.say(with, &text),
                None => self.alarm("join a room first: /join lobby"),
            },
            command::Line::Join(room) => {
                let index = self.join(&room);
                self.show(index);
            }
            command::Line::Leave => self.leave(),
            command::Line::Direct(user, text) => self.say(With::User(user), &text),
            command::Line::Query(user) => {
                let index = self.open(With::User(user));
                self.show(index);
            }
            command::Line::Who => match room {
                Some(room) => self.ask_who(&room, true),
                None => self.alarm("this is no room"),
            },
            command::Line::History(count) => match room {
                Some(room) => {
                    let wish = Wish::History(Arc::clone(&room), NOWHERE, 1);
                    self.wishes.push_back((wish, Purpose::Head(room, count)));
                }
                None => self.alarm("this is no room"),
            },
            command::Line::Clear => self.clear(),
            command::Line::Help => self.helping = true,
            command::Line::Quit => self.quits = true,
            command::Line::Wrong(why) => self.alarm(&why),
        }
    }

    /// Completes a command, or the name of somebody that is known here.
    fn complete(&mut self) {
        let users = self.conversations.iter().filter_map(|conversation| match &conversation.with {
            With::User(user) => Some(user),
            With::Room(_) => None,
        });
        let members = self.shown().into_iter().flat_map(|shown| &shown.members);
        let names = members.chain(users).map(String::as_str);
        match complete(self.editor.before_cursor(), names) {
            Completion::Nothing => self.show_unread(),
            Completion::None => {}
            Completion::Text(length, text) => self.editor.complete(length, &text),
            Completion::Several(choices) => self.note(&choices.join("  ")),
        }
    }

    fn say(&mut self, with: With, text: &str) {
        let number = self.next_number;
        self.next_number += 1;
        let wish = match &with {
            With::Room(room) => Wish::Publish(Arc::clone(room), text.to_owned()),
            With::User(user) => Wish::Direct(user.clone(), text.to_owned()),
        };
        let index = self.open(with.clone());
        let kind = Kind::Own { number, fate: Fate::Waiting };
        let line = Line { time_ms: self.now_ms, kind, text: harmless(text) };
        self.conversations[index].push(line);
        self.wishes.push_back((wish, Purpose::Say(with, number)));
        self.show(index);
    }

    fn join(&mut self, room: &str) -> usize {
        let room: Arc<str> = room.strip_prefix('#').unwrap_or(room).into();
        let with = With::Room(Arc::clone(&room));
        let index = self.open(with);
        // One that was refused may be tried again.
        if !mem::replace(&mut self.conversations[index].joined, true) {
            self.wishes.push_back((Wish::Join(Arc::clone(&room)), Purpose::Join(room)));
        }
        index
    }

    /// Empties what is shown. The room's past that is still on its way would fill it again.
    fn clear(&mut self) {
        let Some(conversation) = self.conversations.get_mut(self.current) else {
            return;
        };
        conversation.lines.clear();
        let With::Room(cleared) = &conversation.with else {
            return;
        };
        for purpose in self.purposes.values_mut() {
            if matches!(purpose, Purpose::Past(room, _, false) if room == cleared) {
                *purpose = Purpose::Quiet;
            }
        }
    }

    fn leave(&mut self) {
        if self.conversations.is_empty() {
            return;
        }
        let left = self.conversations.remove(self.current);
        if let With::Room(room) = left.with {
            self.wishes.push_back((Wish::Leave(room), Purpose::Quiet));
        }
        self.show(self.current.min(self.conversations.len().saturating_sub(1)));
    }

    fn ask_who(&mut self, room: &Arc<str>, aloud: bool) {
        let purpose = Purpose::Who(Arc::clone(room), aloud);
        self.wishes.push_back((Wish::Who(Arc::clone(room)), purpose));
    }

    fn ask_past(&mut self, room: &Arc<str>, head: Seq, count: u16, aloud: bool) {
        let (past, question) = Past::new(head, count);
        self.ask_more_past(room, past, question, aloud);
    }

    fn ask_more_past(&mut self, room: &Arc<str>, past: Past, question: Question, aloud: bool) {
        let wish = Wish::History(Arc::clone(room), question.since, question.limit);
        self.wishes.push_back((wish, Purpose::Past(Arc::clone(room), past, aloud)));
    }

    fn find(&self, with: &With) -> Option<usize> {
        self.conversations.iter().position(|conversation| conversation.with == *with)
    }

    /// The conversation's index; it is begun if it was not.
    fn open(&mut self, with: With) -> usize {
        self.find(&with).unwrap_or_else(|| {
            self.conversations.push(Conversation::new(with));
            self.conversations.len() - 1
        })
    }

    fn put(&mut self, with: &With, kind: Kind, text: &str) {
        if let Some(index) = self.find(with) {
            let line = Line { time_ms: self.now_ms, kind, text: harmless(text) };
            self.conversations[index].push(line);
        }
    }

    fn note(&mut self, text: &str) {
        self.put_here(Kind::Note, text);
    }

    /// Says what is wrong, where the person looks.
    pub fn alarm(&mut self, text: &str) {
        self.put_here(Kind::Alarm, text);
    }

    fn put_here(&mut self, kind: Kind, text: &str) {
        let line = Line { time_ms: self.now_ms, kind, text: harmless(text) };
        if let Some(conversation) = self.conversations.get_mut(self.current) {
            conversation.push(line);
        }
    }
}

/// What a wish was made for, on its way through the client.
#[derive(Debug)]
pub struct Granting(Purpose);

fn said(message: Message) -> Line {
    let text = harmless(&String::from_utf8_lossy(&message.body));
    let kind = Kind::Said { from: message.from, place: Some(message.place) };
    Line { time_ms: message.time_ms, kind, text }
}

/// Whether `body` names `user` as a word of its own.
fn mentions(body: &[u8], user: &str) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase();
    let user = user.to_lowercase();
    !user.is_empty()
        && text
            .split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_')
            .any(|word| word == user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{
        Answer, Code, Direct, Epoch, Event, History, Place, Receipt, Refusal, Roster,
    };

    /// A talk in the lobby and a den, whose wishes so far were granted under the tickets 1, 2, ….
    fn talking() -> (Talk, Vec<(Ticket, Wish)>) {
        let rooms = ["lobby".to_owned(), "den".to_owned()];
        let mut talk = Talk::new("ann", &rooms, 1_000);
        let wishes = grant(&mut talk, 1);
        (talk, wishes)
    }

    fn grant(talk: &mut Talk, first: u64) -> Vec<(Ticket, Wish)> {
        let mut granted = Vec::new();
        while let Some((wish, granting)) = talk.next_wish() {
            let ticket = Ticket(first + granted.len() as u64);
            talk.granted(granting, ticket);
            granted.push((ticket, wish));
        }
        granted
    }

    fn place(seq: u64) -> Place {
        Place { epoch: Epoch(1), seq: Seq(seq) }
    }

    fn message(room: &str, seq: u64, text: &str) -> Message {
        Message {
            room: room.into(),
            place: place(seq),
            time_ms: seq,
            from: "bob".into(),
            body: text.as_bytes().to_vec(),
            replay: false,
        }
    }

    fn typed(talk: &mut Talk, line: &str) {
        talk.press(&Key::Paste(line.into()));
        talk.press(&Key::Enter);
    }

    fn texts(talk: &Talk, index: usize) -> Vec<&str> {
        talk.conversations[index].lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn rooms_are_joined_and_filled_with_their_past() {
        let (mut talk, wishes) = talking();
        let join = |room: &str| Wish::Join(room.into());
        assert_eq!(wishes, [(Ticket(1), join("lobby")), (Ticket(2), join("den"))]);
        talk.hear(Event::Answered(Ticket(1), Ok(Answer::Joined(place(80)))));
        let asked = grant(&mut talk, 3);
        assert_eq!(asked[0].1, Wish::Who("lobby".into()));
        assert_eq!(asked[1].1, Wish::History("lobby".into(), Seq(30), 50));
        talk.hear(Event::Message(message("lobby", 81, "now")));
        let roster = Roster { room: "lobby".into(), total: 2, users: vec!["bob".into()] };
        talk.hear(Event::Answered(Ticket(3), Ok(Answer::Roster(roster))));
        let history = History {
            room: "lobby".into(),
            messages: vec![message("lobby", 80, "before"), message("lobby", 81, "now")],
            head: place(81),
            gap: false,
        };
        talk.hear(Event::Answered(Ticket(4), Ok(Answer::History(history))));
        assert_eq!(texts(&talk, 0), ["before", "now"]);
        assert_eq!(talk.conversations[0].total, Some(2));
    }

    #[test]
    fn what_is_not_looked_at_is_counted() {
        let (mut talk, _) = talking();
        talk.hear(Event::Message(message("lobby", 1, "seen")));
        talk.hear(Event::Message(message("den", 1, "unseen")));
        talk.hear(Event::Message(message("den", 2, "Ann: look")));
        let counts: Vec<usize> = talk.conversations.iter().map(|each| each.unread).collect();
        assert_eq!((counts, talk.conversations[1].called), (vec![0, 2], true));
        talk.press(&Key::Tab);
        assert_eq!((talk.current, talk.conversations[1].unread), (1, 0));
        let (from, body) = ("carol".to_owned(), b"psst".to_vec());
        talk.hear(Event::Direct(Direct { id: 1, time_ms: 1, from, body, replay: false }));
        assert_eq!(talk.conversations[2].with, With::User("carol".into()));
        assert_eq!(talk.current, 1, "nobody is torn away from what they read");
    }

    #[test]
    fn what_one_says_is_shown_with_what_becomes_of_it() {
        let (mut talk, _) = talking();
        typed(&mut talk, "hello");
        typed(&mut talk, "/msg carol psst");
        let wishes = grant(&mut talk, 10);
        assert_eq!(wishes[0].1, Wish::Publish("lobby".into(), "hello".into()));
        assert_eq!(wishes[1].1, Wish::Direct("carol".into(), "psst".into()));
        let fate = |talk: &Talk, index: usize| match &talk.conversations[index].lines[0].kind {
            Kind::Own { fate, .. } => fate.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(fate(&talk, 0), Fate::Waiting);
        talk.hear(Event::Answered(Ticket(10), Err(RequestError::Uncertain)));
        assert_eq!(fate(&talk, 0), Fate::Uncertain);
        let receipt = Receipt { place: place(1), duplicate: false, queued: true };
        talk.hear(Event::Answered(Ticket(11), Ok(Answer::Sent(receipt))));
        assert_eq!(fate(&talk, 2), Fate::Queued);
        assert_eq!(talk.current, 2, "one sees what one has said");
    }

    #[test]
    fn rooms_are_left_and_the_next_one_is_shown() {
        let (mut talk, _) = talking();
        typed(&mut talk, "/leave");
        assert_eq!(grant(&mut talk, 10)[0].1, Wish::Leave("lobby".into()));
        assert_eq!(talk.shown().map(|shown| shown.with.title()).as_deref(), Some("#den"));
        typed(&mut talk, "/leave");
        typed(&mut talk, "into the void");
        typed(&mut talk, "/join #kitchen");
        assert_eq!(grant(&mut talk, 11).last().unwrap().1, Wish::Join("kitchen".into()));
        assert!(!talk.quits);
        talk.press(&Key::Control('d'));
        assert!(talk.quits);
    }

    #[test]
    fn a_room_that_cannot_be_joined_says_why() {
        let (mut talk, _) = talking();
        let refusal = Refusal { code: Code::Forbidden, text: "not allowed\x1b[2J".into() };
        talk.hear(Event::Answered(Ticket(2), Err(RequestError::Refused(refusal))));
        assert_eq!(texts(&talk, 1), ["not joined: 403 not allowed [2J"]);
    }

    #[test]
    fn a_room_that_was_refused_or_lost_is_joined_when_one_tries_again() {
        let (mut talk, _) = talking();
        let joins = |talk: &mut Talk, first| {
            typed(talk, "/join den");
            grant(talk, first).into_iter().filter(|(_, wish)| matches!(wish, Wish::Join(_))).count()
        };
        assert_eq!(joins(&mut talk, 10), 0, "it is being joined");
        let refusal = || Refusal { code: Code::Unavailable, text: "overloaded".into() };
        let refused = Err(RequestError::Refused(refusal()));
        talk.hear(Event::Answered(Ticket(2), refused));
        assert_eq!(joins(&mut talk, 20), 1);
        talk.hear(Event::Answered(Ticket(20), Ok(Answer::Joined(place(0)))));
        grant(&mut talk, 30);
        assert_eq!(joins(&mut talk, 40), 0, "it is joined");
        talk.hear(Event::Dropped { room: "den".into(), refusal: refusal() });
        assert_eq!(joins(&mut talk, 50), 1);
        assert_eq!(talk.conversations.len(), 2);
    }

    #[test]
    fn the_past_is_asked_for_up_to_its_end() {
        let (mut talk, _) = talking();
        talk.hear(Event::Answered(Ticket(1), Ok(Answer::Joined(place(80)))));
        let mut ticket = grant(&mut talk, 3)[1].0;
        let history = |seqs: std::ops::RangeInclusive<u64>| History {
            room: "lobby".into(),
            messages: seqs.map(|seq| message("lobby", seq, &seq.to_string())).collect(),
            head: place(80),
            gap: false,
        };
        talk.hear(Event::Answered(ticket, Ok(Answer::History(history(31..=60)))));
        let asked = grant(&mut talk, 10);
        assert_eq!(asked[0].1, Wish::History("lobby".into(), Seq(60), 20));
        ticket = asked[0].0;
        talk.hear(Event::Answered(ticket, Ok(Answer::History(history(61..=80)))));
        assert_eq!(grant(&mut talk, 20), []);
        let shown = texts(&talk, 0);
        assert_eq!((shown.len(), shown[0], shown[49]), (50, "31", "80"));
    }

    #[test]
    fn a_paste_that_is_too_long_is_not_taken_and_said_to_be() {
        let (mut talk, _) = talking();
        talk.press(&Key::PasteTooLong);
        assert_eq!(talk.editor.text(), "");
        assert_eq!(texts(&talk, 0), ["not taken: what was pasted is longer than 64 KiB"]);
    }
}
