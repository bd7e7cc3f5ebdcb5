//! The client for programs that wait.
//!
//! Owns a poll with one client in it, and the waiting for answers. Never starts a thread: whatever
//! happens, happens while the program is in one of its calls, heartbeats too. A program that stays
//! away longer than the server's timeout is reconnected, and misses nothing.

use std::error;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::asking::JoinOptions;
use super::config::{Config, ConfigError};
use super::event::{
    Answer, Event, History, Place, Receipt, Refusal, RequestError, Roster, State, Ticket,
};
use super::evented;
use crate::base::ids::Seq;

const TOKEN: Token = Token(0);

/// A client whose calls wait for their answer.
///
/// ```no_run
/// use std::time::Duration;
///
/// use corebeat::client::{Config, Event, blocking::Client};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut client = Client::connect(Config::new("127.0.0.1:8080", "ann")?)?;
/// client.join("lobby")?;
/// let receipt = client.publish("lobby", b"good evening")?;
/// println!("said as number {}", receipt.place.seq.0);
/// while let Some(event) = client.next_event(Duration::from_secs(60))? {
///     if let Event::Message(message) = event {
///         println!("{}: {}", message.from, String::from_utf8_lossy(&message.body));
///     }
/// }
/// client.close();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    inner: evented::Client,
    poll: Poll,
    ready: Events,
    answer_timeout: Duration,
}

/// Why a call failed.
#[derive(Debug)]
pub enum Error {
    /// The client could not be made.
    Config(ConfigError),
    /// The machine refused something.
    Io(io::Error),
    /// The server does not want this client.
    Refused(Refusal),
    /// The request was not done.
    Request(RequestError),
    /// No answer came in time. If it comes later, it is an [`Event::Answered`] of this ticket.
    Late(Ticket),
    /// The first connection was not there in time.
    Unreachable(String),
    /// So many events wait that the answer cannot be read. It will be an [`Event::Answered`] of
    /// this ticket, once events were taken.
    EventsWait(Ticket),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(error) => error.fmt(f),
            Error::Io(error) => error.fmt(f),
            Error::Refused(refusal) => refusal.fmt(f),
            Error::Request(error) => error.fmt(f),
            Error::Late(_) => f.write_str("no answer came in time"),
            Error::Unreachable(reason) => write!(f, "the server is not there: {reason}"),
            Error::EventsWait(_) => f.write_str("events wait to be taken before the answer"),
        }
    }
}

impl error::Error for Error {}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Error {
        Error::Config(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Error {
        Error::Request(error)
    }
}

impl Client {
    /// Connects, and waits for the welcome at most 30 s, in which it tries again as often as its
    /// back-off says.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Io`], [`Error::Refused`], [`Error::Unreachable`].
    pub fn connect(config: Config) -> Result<Client, Error> {
        Client::connect_within(config, Duration::from_secs(30))
    }

    /// Connects, and waits for the welcome at most so long. Answers are waited for as long, too.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub fn connect_within(config: Config, timeout: Duration) -> Result<Client, Error> {
        let poll = Poll::new()?;
        let mut inner = evented::Client::new(config)?;
        inner.start(poll.registry(), TOKEN)?;
        let ready = Events::with_capacity(8);
        let mut client = Client { inner, poll, ready, answer_timeout: timeout };
        let end = Instant::now().checked_add(timeout);
        let mut last = String::from("no answer");
        loop {
            match client.take(end)? {
                Some(Event::State(State::Online { .. })) => return Ok(client),
                Some(Event::State(State::Closed { refusal: Some(refusal) })) => {
                    return Err(Error::Refused(refusal));
                }
                Some(Event::State(State::Waiting { reason, .. })) => last = reason,
                Some(_) => {}
                None => return Err(Error::Unreachable(last)),
            }
        }
    }

    /// How long a call waits for its answer: at first as long as connecting might have taken.
    pub fn set_answer_timeout(&mut self, timeout: Duration) {
        self.answer_timeout = timeout;
    }

    /// Joins a room, with presence. Returns the room's last message before.
    ///
    /// # Errors
    /// [`Error::Request`], [`Error::Late`], [`Error::EventsWait`], [`Error::Io`].
    pub fn join(&mut self, room: &str) -> Result<Place, Error> {
        self.join_with(room, JoinOptions::default())
    }

    /// Joins a room.
    ///
    /// # Errors
    /// As for [`Client::join`].
    pub fn join_with(&mut self, room: &str, options: JoinOptions) -> Result<Place, Error> {
        let ticket = self.inner.join(room, options)?;
        match self.answer(ticket)? {
            Answer::Joined(place) => Ok(place),
            other => unreachable!("JOIN was answered by {other:?}"),
        }
    }

    /// Leaves a room.
    ///
    /// # Errors
    /// As for [`Client::join`].
    pub fn leave(&mut self, room: &str) -> Result<(), Error> {
        let ticket = self.inner.leave(room)?;
        self.answer(ticket).map(drop)
    }

    /// Says something in a room, and waits until it has its place there.
    ///
    /// # Errors
    /// As for [`Client::join`]; in particular [`RequestError::Uncertain`].
    pub fn publish(&mut self, room: &str, body: &[u8]) -> Result<Receipt, Error> {
        let ticket = self.inner.publish(room, body)?;
        self.receipt(ticket)
    }

    /// Says something to one user, and waits until the server has it.
    ///
    /// # Errors
    /// As for [`Client::publish`].
    pub fn direct(&mut self, user: &str, body: &[u8]) -> Result<Receipt, Error> {
        let ticket = self.inner.direct(user, body)?;
        self.receipt(ticket)
    }

    /// Asks who is in a room.
    ///
    /// # Errors
    /// As for [`Client::join`].
    pub fn who(&mut self, room: &str) -> Result<Roster, Error> {
        let ticket = self.inner.who(room)?;
        match self.answer(ticket)? {
            Answer::Roster(roster) => Ok(roster),
            other => unreachable!("WHO was answered by {other:?}"),
        }
    }

    /// Asks what was said in a room behind `since`, oldest first; 0 is from the oldest on. At most
    /// `limit` messages come, where that is not 0, and at most 1,000 and 64 KiB in one answer:
    /// whoever has not reached its `head` asks again, from the last message on.
    ///
    /// # Errors
    /// As for [`Client::join`].
    pub fn history(&mut self, room: &str, since: Seq, limit: u16) -> Result<History, Error> {
        let ticket = self.inner.history(room, since, limit)?;
        match self.answer(ticket)? {
            Answer::History(history) => Ok(history),
            other => unreachable!("HISTORY was answered by {other:?}"),
        }
    }

    /// Every direct message up to `id` has arrived. Only with
    /// [`Acknowledge::ByHand`](super::Acknowledge::ByHand).
    pub fn acknowledge(&mut self, id: u64) {
        self.inner.acknowledge(id);
    }

    /// The next thing that the client has to tell; none if there is none within `timeout`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn next_event(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        self.take(Instant::now().checked_add(timeout))
    }

    /// What it is at: its state, name, round trip and rooms. Requests without waiting can be made
    /// here as well; they are sent at once, and their answers are events.
    pub fn inner(&mut self) -> &mut evented::Client {
        &mut self.inner
    }

    /// Says goodbye and closes.
    pub fn close(mut self) {
        self.inner.close();
    }

    fn receipt(&mut self, ticket: Ticket) -> Result<Receipt, Error> {
        match self.answer(ticket)? {
            Answer::Sent(receipt) => Ok(receipt),
            other => unreachable!("a message was answered by {other:?}"),
        }
    }

    fn answer(&mut self, ticket: Ticket) -> Result<Answer, Error> {
        let end = Instant::now().checked_add(self.answer_timeout);
        let mut in_time = true;
        loop {
            // All else stays where it is until the program takes it.
            if let Some(answer) = self.inner.poll_answer(ticket) {
                return answer.map_err(Error::Request);
            }
            if self.inner.is_full() {
                return Err(Error::EventsWait(ticket));
            }
            if !in_time {
                return Err(Error::Late(ticket));
            }
            in_time = self.turn(end)?;
        }
    }

    /// The next event that comes before `end`.
    fn take(&mut self, end: Option<Instant>) -> Result<Option<Event>, Error> {
        let mut in_time = true;
        loop {
            let event = self.inner.poll_event();
            if event.is_some() || !in_time {
                return Ok(event);
            }
            in_time = self.turn(end)?;
        }
    }

    /// Waits until something happens, or until `end` if there is one, and does what can be done.
    /// Whether there was time left.
    fn turn(&mut self, end: Option<Instant>) -> Result<bool, Error> {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let wait = [self.inner.timeout(), left].into_iter().flatten().min();
        match self.poll.poll(&mut self.ready, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        self.inner.turn();
        Ok(left.is_none_or(|left| !left.is_zero()))
    }
}
