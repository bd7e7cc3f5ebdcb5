//! The chat line by line, for pipes, scripts and terminals that can do no more.
//!
//! Owns the loop between standard input, client and standard output, and the form of lines, which
//! is that of the text dialect. `corebeat chat` runs it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use super::command::{COMMANDS, Line, understand};
use super::paint::harmless;
use super::past::{NOWHERE, Past, Question};
use super::screen::end_of;
use super::tty::read_ready;
use crate::client::evented::Client;
use crate::client::{Answer, Event, JoinOptions, PresenceKind, RequestError, State, Ticket};

const CLIENT: Token = Token(0);
const INPUT: Token = Token(1);
const SIGNALS: Token = Token(2);
/// Longest line of input, in bytes.
const INPUT_MAX: usize = 1 << 20;
/// Lines of input that wait for the queue of requests; with more, nothing is read.
const LINES_READ: usize = 64;

/// How to talk.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Rooms to join; what is said goes to the first.
    pub rooms: Vec<String>,
    /// Stay behind the end of the input.
    pub follow: bool,
    /// Tell nothing of comings and goings.
    pub quiet: bool,
    /// Give up where there was no welcome after so long.
    pub patience: Duration,
}

/// What was asked for.
enum Asked {
    /// To do what these words say.
    Deed(String),
    /// Where a room's last message is, of which so many are wanted.
    Head(String, u16),
    /// The last messages of a room.
    Past(String, Past),
}

/// One talk.
struct Talk {
    client: Client,
    manner: Manner,
    /// Where lines are said.
    room: Option<String>,
    input: Vec<u8>,
    /// What comes belongs to a line that is too long, up to its end.
    discards: bool,
    /// More may be there to be read, of which nobody tells again.
    more: bool,
    ended: bool,
    lines: VecDeque<String>,
    asked: HashMap<Ticket, Asked>,
    /// What was not done.
    failed: Option<String>,
    /// Why there is no welcome yet.
    unreached: Option<String>,
    welcomed: bool,
    over: bool,
}

/// Talks until the input is over and all is answered, or until somebody ends it. What went wrong,
/// if something did.
///
/// # Errors
/// Those of the poll and of standard output.
pub fn talk(client: Client, manner: Manner) -> io::Result<Option<String>> {
    let mut poll = Poll::new()?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
    let stdin = io::stdin().as_raw_fd();
    // A file cannot be watched, and can always be read.
    let _ = poll.registry().register(&mut SourceFd(&stdin), INPUT, Interest::READABLE);
    let mut talk = Talk::new(client, manner);
    talk.client.start(poll.registry(), CLIENT)?;
    talk.begin();
    let mut ready = Events::with_capacity(16);
    let give_up = Instant::now() + talk.manner.patience;
    loop {
        talk.listen()?;
        talk.speak()?;
        if talk.over || talk.is_done() {
            break;
        }
        let patience = (!talk.welcomed).then(|| give_up.saturating_duration_since(Instant::now()));
        let at_once = talk.may_read().then_some(Duration::ZERO);
        let timeout = [talk.client.timeout(), patience, at_once].into_iter().flatten().min();
        match poll.poll(&mut ready, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        if signals.pending().next().is_some() {
            if talk.leaves_undone() {
                talk.fail("ended before all was done");
            }
            break;
        }
        if !talk.welcomed && Instant::now() >= give_up {
            let why = talk.unreached.take().unwrap_or_else(|| "no answer".into());
            talk.failed = Some(format!("the server is not there: {why}"));
            break;
        }
        talk.read()?;
        talk.client.turn();
    }
    talk.client.close();
    Ok(talk.failed)
}

impl Talk {
    fn new(client: Client, manner: Manner) -> Talk {
        Talk {
            client,
            room: manner.rooms.first().cloned(),
            manner,
            input: Vec::new(),
            discards: false,
            more: true,
            ended: false,
            lines: VecDeque::new(),
            asked: HashMap::new(),
            failed: None,
            unreached: None,
            welcomed: false,
            over: false,
        }
    }

    fn begin(&mut self) {
        for room in self.manner.rooms.clone() {
            if let Err(error) = self.join(&room) {
                self.fail(&format!("{room}: {error}"));
            }
        }
    }

    /// Whether it would end now with something undone that it was to end with.
    fn leaves_undone(&self) -> bool {
        let waits = !self.lines.is_empty() || !self.asked.is_empty();
        waits && !self.manner.follow
    }

    /// Nothing more comes in, and all that was asked is answered.
    fn is_done(&self) -> bool {
        let said = self.ended && self.lines.is_empty() && self.asked.is_empty();
        said && self.welcomed && !self.manner.follow
    }

    /// Whether there may be something to read, and somewhere to put it.
    fn may_read(&self) -> bool {
        self.more && !self.ended && self.lines.len() < LINES_READ
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        // A pipe tells once that there is something to read, so all of it is read, now or later.
        self.more = true;
        while self.may_read() {
            match read_ready(&mut buffer)? {
                Some(bytes) => self.feed(bytes),
                None => self.more = false,
            }
        }
        Ok(())
    }

    /// Takes what was read, nothing at its end, and makes lines of it.
    fn feed(&mut self, bytes: &[u8]) {
        self.ended = bytes.is_empty();
        let begin = if mem::take(&mut self.discards) {
            let end = bytes.iter().position(|&byte| byte == b'\n');
            self.discards = end.is_none() && !self.ended;
            end.map_or(bytes.len(), |end| end + 1)
        } else {
            0
        };
        self.input.extend_from_slice(&bytes[begin..]);
        let whole = match self.input.iter().rposition(|&byte| byte == b'\n') {
            _ if self.ended => self.input.len(),
            Some(last) => last + 1,
            None => 0,
        };
        let rest = self.input.split_off(whole);
        let text = String::from_utf8_lossy(&self.input).into_owned();
        self.input = rest;
        self.lines.extend(text.lines().map(str::to_owned));
        if self.input.len() >= INPUT_MAX {
            self.input.clear();
            self.discards = true;
            self.fail(&format!("a line is longer than {INPUT_MAX} bytes"));
        }
    }

    /// Does what the lines say, as far as the queue of requests has room.
    fn speak(&mut self) -> io::Result<()> {
        while let Some(line) = self.lines.pop_front() {
            match self.take(&line) {
                Err(RequestError::QueueFull) => {
                    self.lines.push_front(line);
                    return Ok(());
                }
                Err(error) => self.fail(&error.to_string()),
                Ok(None) => {}
                Ok(Some(words)) => print(&words)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, line: &str) -> Result<Option<String>, RequestError> {
        let Some(room) = self.room.clone() else {
            return match understand(line) {
                Line::Join(room) => self.enter(room).map(|()| None),
                Line::Quit => {
                    self.over = true;
                    Ok(None)
                }
                _ => {
                    self.fail("join a room first: /join lobby");
                    Ok(None)
                }
            };
        };
        let (ticket, what) = match understand(line) {
            Line::Empty => return Ok(None),
            Line::Say(text) => (self.client.publish(&room, text.as_bytes())?, "message".into()),
            Line::Direct(user, text) => {
                (self.client.direct(&user, text.as_bytes())?, format!("message to {user}"))
            }
            Line::Who => (self.client.who(&room)?, format!("who is in {room}")),
            Line::History(count) => {
                let ticket = self.client.history(&room, NOWHERE, 1)?;
                self.asked.insert(ticket, Asked::Head(room, count));
                return Ok(None);
            }
            Line::Join(room) => return self.enter(room).map(|()| None),
            Line::Leave => {
                let ticket = self.client.leave(&room)?;
                self.room = self.client.rooms().next().map(str::to_owned);
                (ticket, format!("leaving {room}"))
            }
            Line::Quit => {
                (self.ended, self.manner.follow) = (true, false);
                self.lines.clear();
                return Ok(None);
            }
            Line::Help => {
                let lines = COMMANDS.iter().map(|(usage, what)| format!("* {usage:18} {what}"));
                return Ok(Some(lines.collect::<Vec<String>>().join("\n")));
            }
            Line::Query(_) | Line::Clear => {
                self.fail(&format!("{line} needs a screen"));
                return Ok(None);
            }
            Line::Wrong(why) => {
                self.fail(&why);
                return Ok(None);
            }
        };
        self.asked.insert(ticket, Asked::Deed(what));
        Ok(None)
    }

    /// Joins a room, and says there what follows.
    fn enter(&mut self, room: String) -> Result<(), RequestError> {
        self.join(&room)?;
        self.room = Some(room);
        Ok(())
    }

    fn join(&mut self, room: &str) -> Result<(), RequestError> {
        let options = JoinOptions { notify: !self.manner.quiet, since: None };
        let ticket = self.client.join(room, options)?;
        self.asked.insert(ticket, Asked::Deed(format!("joining {room}")));
        Ok(())
    }

    fn ask_past(&mut self, room: String, past: Past, question: Question) {
        match self.client.history(&room, question.since, question.limit) {
            Ok(ticket) => drop(self.asked.insert(ticket, Asked::Past(room, past))),
            Err(error) => self.fail(&format!("history of {room}: {error}")),
        }
    }

    /// Prints what the client tells.
    fn listen(&mut self) -> io::Result<()> {
        while let Some(event) = self.client.poll_event() {
            if let Some(refusal) = end_of(&event) {
                self.failed = refusal.map(ToString::to_string).or_else(|| self.failed.take());
                self.over = true;
                return Ok(());
            }
            if let Some(words) = self.words_of(event) {
                print(&words)?;
            }
        }
        Ok(())
    }

    fn words_of(&mut self, event: Event) -> Option<String> {
        match event {
            Event::State(state) => self.hear_state(&state),
            Event::Message(message) => {
                Some(said(&format!("[{}] {}:", message.room, message.from), &message.body))
            }
            Event::Direct(direct) => Some(said(&format!("[{} -> you]", direct.from), &direct.body)),
            Event::Presence { kind, room, user, .. } if !self.manner.quiet => match kind {
                PresenceKind::Joined => Some(format!("* {user} joined {room}")),
                PresenceKind::Left => Some(format!("* {user} left {room}")),
                PresenceKind::Online => Some(format!("* {user} is online")),
                PresenceKind::Offline => Some(format!("* {user} is offline")),
                PresenceKind::Many => None,
            },
            Event::Gap(gap) => {
                let (from, to) = (gap.from.0, gap.to.0);
                Some(format!("! messages {from} to {to} of {} did not come", gap.room))
            }
            Event::DirectsDropped { .. } => Some("! direct messages were dropped".into()),
            Event::Dropped { room, refusal } => Some(format!("! {room}: {refusal}")),
            Event::Answered(ticket, answer) => self.hear_answer(ticket, answer),
            _ => None,
        }
    }

    fn hear_state(&mut self, state: &State) -> Option<String> {
        match state {
            State::Online { .. } => self.welcomed = true,
            State::Waiting { reason, quiet, .. } => {
                if !self.welcomed {
                    self.unreached = Some(reason.clone());
                } else {
                    let _ = writeln!(io::stderr(), "corebeat: {reason}; trying again");
                    if *quiet && !self.manner.follow {
                        self.failed = Some(reason.clone());
                        self.over = true;
                    }
                }
            }
            _ => {}
        }
        None
    }

    fn hear_answer(
        &mut self,
        ticket: Ticket,
        answer: Result<Answer, RequestError>,
    ) -> Option<String> {
        let asked = self.asked.remove(&ticket)?;
        match (answer, asked) {
            (Ok(Answer::Roster(roster)), _) => {
                let users = roster.users.join(", ");
                Some(format!("* {} ({}): {users}", roster.room, roster.total))
            }
            (Ok(Answer::History(history)), Asked::Head(room, count)) => {
                let (past, question) = Past::new(history.head.seq, count);
                self.ask_past(room, past, question);
                None
            }
            (Ok(Answer::History(history)), Asked::Past(room, mut past)) => {
                if let Some(question) = past.take(history) {
                    self.ask_past(room, past, question);
                    return None;
                }
                let messages = past.into_messages();
                let lines = messages.iter().map(|message| {
                    said(&format!("[{}] {}:", message.room, message.from), &message.body)
                });
                Some(lines.collect::<Vec<String>>().join("\n")).filter(|lines| !lines.is_empty())
            }
            (Ok(_), _) => None,
            (Err(error), Asked::Deed(what)) => {
                self.fail(&format!("{what}: {error}"));
                None
            }
            (Err(error), Asked::Head(room, _) | Asked::Past(room, _)) => {
                self.fail(&format!("history of {room}: {error}"));
                None
            }
        }
    }

    /// Something was not done: it is said at once, and the exit code tells as well.
    fn fail(&mut self, why: &str) {
        let _ = writeln!(io::stderr(), "corebeat: {why}");
        self.failed = Some("not everything was done".into());
    }
}

/// A message, with its head before each of its lines.
fn said(head: &str, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let lines = text.lines().map(|line| format!("{head} {}", harmless(line)));
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { head.to_owned() } else { lines.join("\n") }
}

fn print(words: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{words}")?;
    out.flush()
}
