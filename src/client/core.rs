//! The client without a socket and a clock: bytes and time in; bytes, events and deadlines out.
//!
//! Owns what one connection is at, and everything that has to outlive it: the session, the rooms,
//! the requests that wait, when to try again. Pure, so that a test can be its whole world. What
//! arrives is dealt with in `hearing`, what is asked for in `asking`, how connections come and go
//! in `connecting`. The shells, a [mio one](super::evented::Client) and a
//! [blocking one](super::blocking::Client), do what [`Core::poll_command`] says.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::config::{Config, ConfigError, Endpoint};
use super::event::{Answer, Event, Refusal, RequestError, State, Ticket};
use super::membership::Membership;
use super::pulse::{Beat, Pulse};
use super::requests::Requests;
use super::seen::Seen;
use crate::base::ids::NodeId;
use crate::base::limits::{CLIENT_EVENT_BYTES, CLIENT_EVENTS_MAX};
use crate::wire::message::{Heartbeat, Request};
use crate::wire::native;

/// A point in time, as a shell reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds of a clock that never jumps.
    pub us: u64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// What a shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Open a connection, and say [`Core::connected`] or [`Core::disconnected`] of it.
    Dial(Endpoint),
    /// Write what can be written at once, close the connection, and say nothing of it.
    HangUp,
}

/// How far the connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// There is none.
    Down,
    /// The shell opens it.
    Dialing,
    /// It is open, and HELLO was said.
    Greeting,
    /// WELCOME came.
    Online,
}

/// What proves to the server that we were here before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) resume_key: u64,
}

/// The instants at which something is due, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers {
    /// Dial again.
    pub(super) retry: Option<u64>,
    /// Give the connection up: no welcome, or it outlives its GOAWAY.
    pub(super) give_up: Option<u64>,
}

/// The client's state machine.
#[derive(Debug)]
pub struct Core {
    pub(super) config: Config,
    pub(super) backoff: Backoff,
    pub(super) chance: fastrand::Rng,
    pub(super) state: State,
    pub(super) link: Link,
    pub(super) connection: u64,
    pub(super) next_endpoint: usize,
    pub(super) endpoint: Endpoint,
    pub(super) redirect: Option<Endpoint>,
    pub(super) timers: Timers,
    pub(super) pulse: Pulse,
    pub(super) user: Arc<str>,
    pub(super) session: Option<Session>,
    pub(super) asked_to_resume: bool,
    pub(super) max_frame: usize,
    /// When the server wants to see us again, where it said GOAWAY.
    pub(super) goes_until_us: Option<u64>,
    /// An ERROR about the connection that nothing has followed.
    pub(super) last_refusal: Option<Refusal>,
    pub(super) rooms: BTreeMap<Arc<str>, Membership>,
    pub(super) requests: Requests,
    pub(super) directs: Seen,
    /// The last direct message that the server shall forget.
    pub(super) ack_due: Option<u64>,
    /// The last one that was acknowledged in this session.
    pub(super) acknowledged: Option<u64>,
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    /// Bytes of `output` that are written already.
    pub(super) output_begun: usize,
    /// Bytes that this connection took.
    pub(super) written: u64,
    /// What is to be told, each with the number of the session that told it.
    events: VecDeque<(u64, Event)>,
    /// How many sessions there were.
    pub(super) sessions: u64,
    event_bytes: usize,
    pub(super) commands: VecDeque<Command>,
}

impl Core {
    /// A client that was not started. All chance comes from `seed`.
    ///
    /// # Errors
    /// What is wrong with `config`.
    pub fn new(config: Config, seed: u64) -> Result<Core, ConfigError> {
        config.check()?;
        Ok(Core {
            backoff: Backoff::new(&config, seed),
            chance: fastrand::Rng::with_seed(seed ^ 0x5eed),
            state: State::Idle,
            link: Link::Down,
            connection: 0,
            next_endpoint: 0,
            endpoint: config.endpoints[0].clone(),
            redirect: None,
            timers: Timers::default(),
            pulse: Pulse::new(us_of(config.ping_every), us_of(config.pong_timeout)),
            user: config.user.as_str().into(),
            session: None,
            asked_to_resume: false,
            max_frame: usize::MAX,
            goes_until_us: None,
            last_refusal: None,
            rooms: BTreeMap::new(),
            requests: Requests::new(config.queue_limit),
            directs: Seen::default(),
            ack_due: None,
            acknowledged: None,
            input: Vec::new(),
            output: Vec::new(),
            output_begun: 0,
            written: 0,
            events: VecDeque::new(),
            sessions: 0,
            event_bytes: 0,
            commands: VecDeque::new(),
            config,
        })
    }

    /// What it is doing.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The name it goes by, as the server said last.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The smoothed round trip of this connection, in microseconds.
    pub fn round_trip_us(&self) -> Option<u64> {
        self.pulse.smoothed_us().filter(|_| self.link == Link::Online)
    }

    /// How many requests wait for their answer.
    pub fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// The rooms that are joined, or will be with the next connection.
    pub fn rooms(&self) -> impl Iterator<Item = &str> {
        self.rooms.keys().map(|room| &**room)
    }

    // What the shell is to do.

    /// The next thing to be done by the shell.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The next thing to be told to the program.
    pub fn poll_event(&mut self, now: Moment) -> Option<Event> {
        let was_full = self.is_full();
        let (session, event) = self.events.pop_front()?;
        self.event_bytes -= weight(&event);
        // Another session's numbers may be those of another server.
        if session == self.sessions {
            self.taken(&event);
        }
        if was_full && !self.is_full() {
            self.digest(now);
        }
        Some(event)
    }

    /// What came of one request, if that waits to be told, ahead of all else that does.
    pub fn poll_answer(
        &mut self,
        ticket: Ticket,
        now: Moment,
    ) -> Option<Result<Answer, RequestError>> {
        let was_full = self.is_full();
        let answers = |event: &Event| matches!(event, Event::Answered(told, _) if *told == ticket);
        // It is among the latest.
        let index = self.events.iter().rposition(|(_, event)| answers(event))?;
        let (_, event) = self.events.remove(index)?;
        self.event_bytes -= weight(&event);
        if was_full && !self.is_full() {
            self.digest(now);
        }
        match event {
            Event::Answered(_, answer) => Some(answer),
            _ => unreachable!("it was just found to be an answer"),
        }
    }

    /// So much waits to be told that nothing more may be read.
    pub fn is_full(&self) -> bool {
        self.events.len() >= CLIENT_EVENTS_MAX || self.event_bytes >= CLIENT_EVENT_BYTES
    }

    /// When [`Core::expire`] is to be called, in microseconds of the clock that hands in moments.
    pub fn deadline_us(&self) -> Option<u64> {
        let pulse = (self.link == Link::Online).then(|| self.pulse.due_us());
        let held_back = self.requests.iter().map(|pending| pending.not_before_us);
        let may_ask = self.link == Link::Online && self.goes_until_us.is_none();
        let held_back = held_back.filter(|&due| due > 0 && may_ask).min();
        [self.timers.retry, self.timers.give_up, pulse, held_back].into_iter().flatten().min()
    }

    /// The bytes to be written next.
    pub fn outgoing(&mut self) -> &[u8] {
        if let Some(id) = self.ack_due.take_if(|_| self.link == Link::Online) {
            self.say(&Request::Ack { id });
        }
        &self.output[self.output_begun..]
    }

    /// So many of the bytes of [`Core::outgoing`] are written.
    pub fn wrote(&mut self, count: usize) {
        self.output_begun += count;
        self.written += count as u64;
        if self.output_begun == self.output.len() {
            self.output.clear();
            self.output_begun = 0;
        }
    }

    // What happens.

    /// Begins, or begins again after the end.
    pub fn start(&mut self, now: Moment) {
        if matches!(self.state, State::Idle | State::Closed { .. }) {
            self.backoff.reset();
            self.dial(now);
        }
    }

    /// Tries again at once where it waits to; where it is online, looks whether it still is.
    pub fn wake(&mut self, now: Moment) {
        match self.state {
            State::Waiting { .. } => {
                self.backoff.reset();
                self.dial(now);
            }
            State::Online { .. } => {
                self.pulse.hurry(now.us);
                self.expire(now);
            }
            _ => {}
        }
    }

    /// Bytes came.
    pub fn receive(&mut self, bytes: &[u8], now: Moment) {
        self.input.extend_from_slice(bytes);
        self.digest(now);
    }

    /// Time has passed.
    pub fn expire(&mut self, now: Moment) {
        let is_due = |due: Option<u64>| due.is_some_and(|due| due <= now.us);
        if is_due(self.timers.retry) {
            self.dial(now);
        }
        if is_due(self.timers.give_up) {
            let reason = match self.link {
                Link::Dialing => "the server cannot be reached",
                Link::Greeting => "the server does not welcome us",
                Link::Online | Link::Down => "the server asked us to leave",
            };
            self.commands.push_back(Command::HangUp);
            self.lose(reason, now);
        }
        if self.link != Link::Online {
            return;
        }
        if self.is_full() {
            self.pulse.pause(now.us);
        }
        match self.pulse.beat(now.us) {
            Beat::Wait => {}
            Beat::Ping(seq) => {
                let ping = Heartbeat { node: NodeId(0), time_ms: now.wall_ms, status: 0, seq };
                self.say(&Request::Ping(ping));
            }
            Beat::Dead => {
                self.commands.push_back(Command::HangUp);
                return self.lose("the server does not answer", now);
            }
        }
        self.transmit(now);
    }

    /// Says goodbye. What still waits is told as closed.
    pub fn close(&mut self) {
        if matches!(self.state, State::Closed { .. }) {
            return;
        }
        if self.link == Link::Online {
            if let Some(id) = self.ack_due.take() {
                self.say(&Request::Ack { id });
            }
            self.say(&Request::Bye { code: 1000, reason: "" });
        }
        self.end(None);
    }

    // Small things.

    /// Takes frames off the head of what was received, unless too much waits to be told.
    fn digest(&mut self, now: Moment) {
        let connection = self.connection;
        let input = mem::take(&mut self.input);
        let mut at = 0;
        while self.link != Link::Down && self.connection == connection && !self.is_full() {
            match self.hear_frame(&input[at..], now) {
                Some(length) => at += length,
                None => break,
            }
        }
        if self.link != Link::Down && self.connection == connection {
            self.input = input;
            self.input.drain(..at);
        }
    }

    /// Puts a frame behind what is to be written, and says where it begins.
    pub(super) fn say(&mut self, request: &Request<'_>) -> u64 {
        let offset = self.written + (self.output.len() - self.output_begun) as u64;
        native::encode_request(&mut self.output, request, self.config.crc);
        offset
    }

    /// The server's words make no sense: hangs up.
    pub(super) fn give_up(&mut self, reason: &str, now: Moment) {
        self.commands.push_back(Command::HangUp);
        self.lose(reason, now);
    }

    pub(super) fn change(&mut self, state: State) {
        self.state = state.clone();
        self.tell(Event::State(state));
    }

    /// Whether a direct message up to `id` is among the events that nobody took yet.
    pub(super) fn waits_to_be_taken(&self, id: u64) -> bool {
        let earlier = |event: &Event| matches!(event, Event::Direct(direct) if direct.id <= id);
        self.events.iter().any(|(_, event)| earlier(event))
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.event_bytes += weight(&event);
        self.events.push_back((self.sessions, event));
    }
}

/// What an event costs of the bound on bytes.
fn weight(event: &Event) -> usize {
    match event {
        Event::Message(message) => message.body.len(),
        Event::Direct(direct) => direct.body.len(),
        Event::Answered(_, Ok(Answer::History(history))) => {
            history.messages.iter().map(|message| message.body.len()).sum()
        }
        _ => 0,
    }
}

/// Microseconds of a duration, of which the longest are the longest that can be counted.
pub(super) fn us_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
