//! What a program hears from its client.
//!
//! Owns the vocabulary: events, answers and errors, each a value that outlives the bytes it came
//! in. Pure. Never decides anything: [`Core`](super::core::Core) makes them.

use std::error;
use std::fmt;
use std::sync::Arc;

use super::config::Endpoint;
use crate::base::ids::{Epoch, Seq};
use crate::base::name::NameError;
use crate::wire::message::{Code, PresenceKind};

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A message's place in its room: `seq` grows by 1 from 1 in each `epoch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The life of the room's history.
    pub epoch: Epoch,
    /// The place in it.
    pub seq: Seq,
}

/// What the client is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It was not started.
    #[default]
    Idle,
    /// It opens a connection.
    Connecting {
        /// Where to.
        endpoint: Endpoint,
        /// Which try in a row this is, from 1.
        attempt: u32,
    },
    /// It was welcomed.
    Online {
        /// Where.
        endpoint: Endpoint,
        /// The name the server knows it by.
        user: Arc<str>,
        /// The session of the connection before goes on.
        resumed: bool,
    },
    /// It waits before the next try.
    Waiting {
        /// When that is, in microseconds of the client's clock.
        until_us: u64,
        /// So many tries have failed in a row; 0 where the server asked to come back later.
        attempt: u32,
        /// It is the long wait behind the last of a series of tries.
        quiet: bool,
        /// Why the last connection ended.
        reason: String,
    },
    /// It is over: the program closed it, or another hello would only fail again.
    Closed {
        /// Why the server does not want it; none where the program closed it.
        refusal: Option<Refusal>,
    },
}

/// The server said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, as the contract numbers it.
    pub code: Code,
    /// Why, in words.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code as u16, self.text)
    }
}

impl error::Error for Refusal {}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The server said no.
    Refused(Refusal),
    /// A name of a room or user that is none.
    Name(NameError),
    /// So many requests, or so many of their bytes, wait already. Ask again later.
    QueueFull,
    /// The frame would be longer than the server takes.
    TooLong {
        /// The most that it takes, in bytes.
        max_frame: usize,
    },
    /// The connection and its session were lost before the answer came: nobody knows whether it
    /// was done.
    Uncertain,
    /// The client is closed.
    Closed,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Refused(refusal) => refusal.fmt(f),
            RequestError::Name(error) => write!(f, "the name {}", error.text()),
            RequestError::QueueFull => f.write_str("too many requests wait for their answer"),
            RequestError::TooLong { max_frame } => {
                write!(f, "longer than {max_frame} bytes, which is the most the server takes")
            }
            RequestError::Uncertain => {
                f.write_str("the session was lost before the answer came; it may have been done")
            }
            RequestError::Closed => f.write_str("the client is closed"),
        }
    }
}

impl error::Error for RequestError {}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// JOIN: the room's last message before.
    Joined(Place),
    /// LEAVE, also where one was not in the room.
    Left,
    /// PUBLISH or DIRECT.
    Sent(Receipt),
    /// WHO.
    Roster(Roster),
    /// HISTORY.
    History(History),
}

/// What came of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its place in the room; of a direct message, epoch 0 and its id.
    pub place: Place,
    /// The server had it already, from before a reconnect.
    pub duplicate: bool,
    /// It is a direct message that waits until its user comes back.
    pub queued: bool,
}

/// Who is in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// The room.
    pub room: Arc<str>,
    /// How many are in it.
    pub total: u32,
    /// Their names, at most 1,000, in the order of their bytes.
    pub users: Vec<String>,
}

/// What was said in a room before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The room.
    pub room: Arc<str>,
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// The room's last message.
    pub head: Place,
    /// Part of what was asked for is no longer kept.
    pub gap: bool,
}

/// A message of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The room.
    pub room: Arc<str>,
    /// Its place there.
    pub place: Place,
    /// When the server took it, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who said it.
    pub from: String,
    /// What was said: any bytes.
    pub body: Vec<u8>,
    /// It was said while this client was away.
    pub replay: bool,
}

/// A message to this user alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Its number, to acknowledge it by.
    pub id: u64,
    /// When the server took it, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who said it.
    pub from: String,
    /// What was said: any bytes.
    pub body: Vec<u8>,
    /// It waited in the user's queue.
    pub replay: bool,
}

/// Why messages of a room did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The server left them out, because this client or a worker could not keep up. `history` may
    /// still have them.
    Overflow,
    /// They are no longer kept. Those of the range that still are, follow.
    NotKept,
    /// The room began anew, as after a restart without storage. Those of the range that are kept
    /// follow; how much of the old epoch is missing, nobody knows.
    NewEpoch,
}

/// Messages of a room that did not come, `from` to `to`, some of which may be our own. Nothing
/// else is ever missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The room.
    pub room: Arc<str>,
    /// The life of its history.
    pub epoch: Epoch,
    /// The first one missing.
    pub from: Seq,
    /// The last one missing.
    pub to: Seq,
    /// Why.
    pub reason: GapReason,
}

/// Something that the client has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It does something else now.
    State(State),
    /// A request was answered, or never will be.
    Answered(Ticket, Result<Answer, RequestError>),
    /// A message of a room: each comes once, in the room's order.
    Message(Message),
    /// A message to this user alone: each comes once.
    Direct(Direct),
    /// Somebody came or went.
    Presence {
        /// What happened.
        kind: PresenceKind,
        /// Members of the room now; 0 for online and offline.
        total: u32,
        /// The room; empty for online and offline.
        room: Arc<str>,
        /// The user; empty for [`PresenceKind::Many`].
        user: String,
    },
    /// Messages of a room that did not come.
    Gap(Gap),
    /// Direct messages of these ids were dropped, being too many or too old. How many they were
    /// nobody can tell: ids have holes.
    DirectsDropped {
        /// The first id.
        from: u64,
        /// The last id.
        to: u64,
    },
    /// A room that had been joined and could not be joined again.
    Dropped {
        /// The room.
        room: Arc<str>,
        /// Why.
        refusal: Refusal,
    },
    /// A PONG came.
    RoundTrip(super::pulse::RoundTrip),
    /// The server's heartbeat for this connection.
    Tempo {
        /// It pings after so many seconds of silence.
        heartbeat_s: u16,
        /// It gives up after so many.
        timeout_s: u16,
    },
    /// The server asks to leave; the client comes back by itself.
    GoAway {
        /// How much later, in milliseconds.
        reconnect_after_ms: u32,
        /// Why.
        reason: String,
    },
    /// The server complains about the connection. If it closes it as well, a [`State`] follows.
    Complaint(Refusal),
}
