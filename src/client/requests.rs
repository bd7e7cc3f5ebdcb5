//! What was asked for and not answered yet.
//!
//! Owns the queue of requests in the order in which they were made, their refs, and its bounds.
//! Pure. Never decides when one is sent: [`Core`](super::core::Core) does.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::{Message, Place, RequestError, Ticket};
use super::membership::Since;
use crate::base::ids::{Epoch, Ref, Seq};
use crate::base::limits::{CLIENT_HELD_MAX, CLIENT_QUEUE_BYTES, HISTORY_ANSWER_MAX};
use crate::wire::message::Request;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Become a member.
    Join {
        /// Of this room.
        room: Arc<str>,
    },
    /// Stop being one.
    Leave {
        /// Of this room.
        room: Arc<str>,
    },
    /// Say something.
    Publish {
        /// In this room.
        room: Arc<str>,
        /// This.
        body: Vec<u8>,
        /// It shall come back.
        echo: bool,
    },
    /// Say something to one user.
    Direct {
        /// To this one.
        user: String,
        /// This.
        body: Vec<u8>,
    },
    /// Who is there.
    Who {
        /// In this room.
        room: Arc<str>,
    },
    /// What was said before.
    History {
        /// In this room.
        room: Arc<str>,
        /// Behind this place.
        since: Seq,
        /// At most so many; 0 is as many as there are.
        limit: u16,
    },
}

impl Ask {
    /// It says something, so doing it twice would be heard.
    pub fn is_said(&self) -> bool {
        matches!(self, Ask::Publish { .. } | Ask::Direct { .. })
    }

    /// It changes which rooms one is in.
    pub fn is_movement(&self) -> bool {
        matches!(self, Ask::Join { .. } | Ask::Leave { .. })
    }

    /// Whether it joins `room`.
    pub fn joins(&self, room: &str) -> bool {
        matches!(self, Ask::Join { room: joined } if **joined == *room)
    }

    fn bytes(&self) -> usize {
        match self {
            Ask::Publish { body, .. } | Ask::Direct { body, .. } => body.len(),
            _ => 0,
        }
    }
}

/// Where a request's frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nowhere.
    Never,
    /// Into the connection of this number, behind so many bytes.
    On {
        /// The connection.
        connection: u64,
        /// The frame's first byte.
        offset: u64,
    },
}

/// One request that waits for its answer.
#[derive(Debug)]
pub struct Pending {
    /// By what the program knows it; none where the client made it by itself.
    pub ticket: Option<Ticket>,
    /// By what the server knows it.
    pub reference: Ref,
    /// What is asked for.
    pub ask: Ask,
    /// Where it went last.
    pub sent: Sent,
    /// It went into an earlier connection too, and may have arrived.
    pub repeated: bool,
    /// All that moves nobody waits until this is answered.
    pub gates: bool,
    /// What a JOIN asked for when it was sent.
    pub since: Since,
    /// So often the server had no room for it.
    pub refused: u32,
    /// It is not sent before.
    pub not_before_us: u64,
    /// What a HISTORY brought so far.
    pub messages: VecDeque<Message>,
}

impl Pending {
    /// Whether its frame went into `connection`.
    pub fn was_sent_on(&self, connection: u64) -> bool {
        matches!(self.sent, Sent::On { connection: used, .. } if used == connection)
    }

    /// The frame to send; `epoch` and `since` are those of a JOIN.
    pub fn request(&self, epoch: Epoch, since: Seq, notify: bool) -> Request<'_> {
        let reference = self.reference;
        match &self.ask {
            Ask::Join { room } => Request::Join { reference, epoch, since, room, notify },
            Ask::Leave { room } => Request::Leave { reference, room },
            Ask::Publish { room, body, echo } => {
                Request::Publish { reference, room, body, echo: *echo }
            }
            Ask::Direct { user, body } => Request::Direct { reference, user, body },
            Ask::Who { room } => Request::Who { reference, room },
            Ask::History { room, since, limit } => {
                Request::History { reference, room, since: *since, limit: *limit }
            }
        }
    }

    /// A message of the past came that a HISTORY may have asked for.
    pub fn collect(&mut self, message: &Message) {
        let Ask::History { since, limit, .. } = self.ask else {
            return;
        };
        // Nothing is skipped within an answer. What a JOIN replayed before it may be among these,
        // but not between them.
        let follows = |last: &Message| {
            let (last, next) = (last.place, message.place);
            let in_epoch =
                last.epoch == next.epoch && last.seq.0.checked_add(1) == Some(next.seq.0);
            in_epoch || last.epoch != next.epoch
        };
        if self.messages.back().is_some_and(|last| !follows(last)) {
            self.messages.clear();
        }
        let beyond = message.place.seq > since || !self.messages.is_empty();
        if beyond {
            self.messages.push_back(message.clone());
        }
        // No answer is longer, and a server that goes on and on is not to fill the memory.
        let most = if limit == 0 { HISTORY_ANSWER_MAX } else { usize::from(limit) };
        if self.messages.len() > most.min(HISTORY_ANSWER_MAX) {
            self.messages.pop_front();
        }
    }
}

/// The queue.
#[derive(Debug)]
pub struct Requests {
    waiting: VecDeque<Pending>,
    limit: usize,
    bytes: usize,
    next_ticket: u64,
    next_ref: u32,
    /// Messages of rooms that look like some that are repeated. Whether they are, their answers
    /// tell by the places that they name.
    held: Vec<Message>,
}

impl Requests {
    /// An empty queue for `limit` requests of the program.
    pub fn new(limit: usize) -> Requests {
        Requests {
            waiting: VecDeque::new(),
            limit,
            bytes: 0,
            next_ticket: 1,
            next_ref: 1,
            held: Vec::new(),
        }
    }

    /// Puts a request of the program behind all others.
    ///
    /// # Errors
    /// [`RequestError::QueueFull`].
    pub fn push(&mut self, ask: Ask) -> Result<Ticket, RequestError> {
        if self.len() >= self.limit || self.bytes + ask.bytes() > CLIENT_QUEUE_BYTES {
            return Err(RequestError::QueueFull);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.enqueue(Some(ticket), ask, false);
        Ok(ticket)
    }

    /// Puts a request of the client's own behind all others.
    pub fn push_inner(&mut self, ask: Ask, gates: bool) {
        self.enqueue(None, ask, gates);
    }

    fn enqueue(&mut self, ticket: Option<Ticket>, ask: Ask, gates: bool) {
        let reference = Ref(self.next_ref);
        self.next_ref = self.next_ref.checked_add(1).unwrap_or(1);
        self.bytes += ask.bytes();
        self.waiting.push_back(Pending {
            ticket,
            reference,
            ask,
            sent: Sent::Never,
            repeated: false,
            gates,
            since: Since::Live,
            refused: 0,
            not_before_us: 0,
            messages: VecDeque::new(),
        });
    }

    /// Takes out the request that is answered under `reference`.
    pub fn take(&mut self, reference: Ref) -> Option<Pending> {
        let index = self.waiting.iter().position(|pending| pending.reference == reference)?;
        self.remove(index)
    }

    /// Takes out the first request that `is_meant`.
    pub fn take_where(&mut self, is_meant: impl Fn(&Pending) -> bool) -> Option<Pending> {
        let index = self.waiting.iter().position(is_meant)?;
        self.remove(index)
    }

    fn remove(&mut self, index: usize) -> Option<Pending> {
        let pending = self.waiting.remove(index)?;
        self.bytes -= pending.ask.bytes();
        Some(pending)
    }

    /// The request under `reference`.
    pub fn find(&mut self, reference: Ref) -> Option<&mut Pending> {
        self.waiting.iter_mut().find(|pending| pending.reference == reference)
    }

    /// `connection` ended after it took `written` bytes: what was not begun to be written has not
    /// arrived, and what was may have.
    pub fn lose(&mut self, connection: u64, written: u64) {
        for pending in &mut self.waiting {
            pending.gates = false;
            pending.messages.clear();
            if let Sent::On { connection: used, offset } = pending.sent
                && used == connection
            {
                pending.repeated |= offset < written;
                pending.sent = Sent::Never;
            }
        }
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.waiting.iter()
    }

    /// All of them, oldest first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.waiting.iter_mut()
    }

    /// How many of the program's requests wait.
    pub fn len(&self) -> usize {
        self.waiting.iter().filter(|pending| pending.ticket.is_some()).count()
    }

    /// Whether none of the program's requests waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether one of the messages that may have arrived before the present connection, and were
    /// not answered, says `body` in `room`.
    fn said_before(&self, room: &str, body: &[u8]) -> bool {
        self.waiting.iter().any(|pending| {
            let same = matches!(&pending.ask, Ask::Publish { room: said, body: words, echo: false }
                if **said == *room && words == body);
            same && pending.repeated
        })
    }

    /// The room's history brought a message of our own user. It is held if it looks like one that
    /// is repeated, and else given back.
    pub fn hold(&mut self, message: Message) -> Option<Message> {
        let holds = self.said_before(&message.room, &message.body);
        if !holds || self.held.len() >= CLIENT_HELD_MAX {
            return Some(message);
        }
        self.held.push(message);
        None
    }

    /// A message that said `body` in `room` is answered, and `place` is its own if it has one. What
    /// was held in its name, and is none of ours after all.
    pub fn release(&mut self, room: &str, body: &[u8], place: Option<Place>) -> Vec<Message> {
        self.held.retain(|held| *held.room != *room || Some(held.place) != place);
        if self.held.is_empty() || self.said_before(room, body) {
            return Vec::new();
        }
        let same = |held: &mut Message| *held.room == *room && held.body == body;
        self.held.extract_if(.., same).collect()
    }

    /// How many messages of ours to `room`, sent on `connection`, have no place yet.
    pub fn unplaced(&self, connection: u64, room: &str) -> u64 {
        let meant = |pending: &&Pending| {
            let here = matches!(&pending.ask, Ask::Publish { room: said, echo: false, .. }
                if **said == *room);
            here && pending.was_sent_on(connection)
        };
        self.waiting.iter().filter(meant).count() as u64
    }

    /// The oldest HISTORY of `room` that was sent on `connection`.
    pub fn history_of(&mut self, connection: u64, room: &str) -> Option<&mut Pending> {
        self.waiting.iter_mut().find(|pending| {
            let here = matches!(&pending.ask, Ask::History { room: asked, .. } if **asked == *room);
            here && pending.was_sent_on(connection)
        })
    }
}
