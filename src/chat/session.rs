//! One connection as the heart knows it, and the table of all of a worker's.
//!
//! Owns a session's state, its place in rooms, its half-read input and its outbox. Never decides:
//! the shard's files do. A session is one cache line; what only some sessions need is in [`Extra`],
//! allocated when it is first needed.

use crate::base::counters::CloseReason;
use crate::base::ids::{ConnId, Position, Seq, SessionId};
use crate::base::limits::{GAPS_APART, HTTP_HEAD_BYTES};
use crate::base::name::Name;
use crate::base::time::{Mono, Tick};

use super::batch::Dialect;
use super::excess::Held;
use super::heartbeat::{PROBES, Tempo};
use super::input::{HalfMessage, Input};
use super::membership::{Membership, Place, RoomKey};
use super::outbox::{Outbox, OutboxPool};
use super::refs::RefWindow;
use super::relief::Gap;
use super::resume::Rejoining;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its first bytes have not told the dialect.
    Sniffing,
    /// It speaks this dialect, which is native or a WebSocket's, and has not said HELLO.
    AwaitingHello(Dialect),
    /// It speaks text and has not completed its first line.
    AwaitingLine,
    /// It speaks HTTP and has not completed its first request.
    AwaitingRequest,
    /// It speaks HTTP, and asks for one thing after the other.
    Browsing,
    /// It speaks HTTP and asked for the numbers of all shards, whose answers are on their way. Its
    /// further requests wait unread.
    AwaitingNumbers,
    /// A WebSocket that gets back what it sends.
    Echo(Compression),
    /// It said HELLO, and another shard is asked: that of the session with which it would go on, or
    /// the home of its user, where users may have few sessions. What it sends waits unread.
    AwaitingWelcome(Dialect),
    /// It has a user and takes part.
    Live(Dialect),
    /// It takes part no more: its last bytes are being sent, and its input is discarded.
    Closing(CloseReason),
}

impl State {
    /// What it can be told things in, as soon as that is known.
    pub fn dialect(self) -> Option<Dialect> {
        match self {
            State::Live(dialect)
            | State::AwaitingHello(dialect)
            | State::AwaitingWelcome(dialect) => Some(dialect),
            State::AwaitingLine => Some(Dialect::Text),
            State::Sniffing | State::Closing(_) | State::Echo(_) => None,
            State::AwaitingRequest | State::Browsing | State::AwaitingNumbers => None,
        }
    }

    /// Whether what it sends waits unread until other shards have answered.
    pub fn awaits_shards(self) -> bool {
        matches!(self, State::AwaitingNumbers | State::AwaitingWelcome(_))
    }

    /// Whether its signs of life count from one to the next: it has said its hello, or is an echo.
    pub fn is_greeted(self) -> bool {
        matches!(self, State::Live(_) | State::Echo(_))
    }

    /// Whether it is a WebSocket that was not closed.
    pub fn is_web(self) -> bool {
        match self {
            State::Live(dialect)
            | State::AwaitingHello(dialect)
            | State::AwaitingWelcome(dialect) => dialect.is_web(),
            State::Echo(_) => true,
            _ => false,
        }
    }
}

/// Whether a WebSocket may send compressed messages, and is sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// It did not agree on it.
    Off,
    /// It agreed on permessage-deflate (RFC 7692), without a context that outlives a message.
    Deflate,
}

/// One-bit facts about a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u8);

impl Marks {
    /// It is on the list of connections with bytes to send.
    pub const DIRTY: Marks = Marks(1);
    /// The kernel took no more; it is not written to before the kernel says that it may be.
    pub const BLOCKED: Marks = Marks(2);
    /// Its requests are not read until it has read more of the answers.
    pub const PAUSED: Marks = Marks(4);
    /// Its first ping, at a levelled instant, is still to come.
    pub const LEVELLING: Marks = Marks(8);
    /// The peer will send no more.
    pub const ENDED: Marks = Marks(16);
    /// It said goodbye and only waits for the answers to what it asked before.
    pub const LEAVING: Marks = Marks(64);
    /// It is left unread until other shards have answered what it waits for and it has paid for
    /// what was too fast, or is on the list of those that may go on.
    pub const RESUMING: Marks = Marks(32);
    /// It has HTTP responses to read, and that it does so is its sign of life.
    pub const FETCHING: Marks = Marks(128);
    /// Either of the marks that make reading a sign of life.
    pub const PAUSED_OR_FETCHING: Marks = Marks(Marks::PAUSED.0 | Marks::FETCHING.0);
    /// Either of the marks that keep it unread. Where both are set both have to end.
    pub const HELD_BACK: Marks = Marks(Marks::PAUSED.0 | Marks::RESUMING.0);

    /// Whether `mark`, or one of several marks, is set.
    pub fn has(self, mark: Marks) -> bool {
        self.0 & mark.0 != 0
    }

    /// Sets `mark`.
    pub fn set(&mut self, mark: Marks) {
        self.0 |= mark.0;
    }

    /// Clears `mark`.
    pub fn clear(&mut self, mark: Marks) {
        self.0 &= !mark.0;
    }
}

/// What only some sessions need.
#[derive(Debug, Default)]
pub struct Extra {
    /// Further rooms, beyond the first.
    pub memberships: Vec<Membership>,
    /// What it asked for lately.
    pub refs: RefWindow,
    /// Requests to other shards whose answers are on their way: who is in a room, joins of a room
    /// that it was in already, joins that it left before they were answered, direct messages.
    pub questions: u32,
    /// Listings of what was said that are on their way, a part of the questions.
    pub listings: u32,
    /// Whether the home of another name was asked whether it may go by that.
    pub renaming: bool,
    /// The room to which a text client's lines go.
    pub current_room: Option<RoomKey>,
    /// Which session it is, where that began on another connection.
    pub identity: Option<SessionId>,
    /// Rooms of a resumed session whose homes have not let it in again.
    pub rejoining: Vec<Rejoining>,
    /// Messages that were dropped because it did not read.
    pub missed: Vec<Missed>,
    /// The last direct message that it was handed, where such are stored: the user's home may begin
    /// anew with those that wait, and has to know which of them it need not tell once more.
    pub last_direct: u64,
}

/// Messages of a room that a session was not sent: from the first to the last, and perhaps some in
/// between that it was.
#[derive(Clone, Copy, Debug)]
pub struct Missed {
    /// The room.
    pub room: RoomKey,
    /// The first one.
    pub first: Position,
    /// The last one, of the same epoch.
    pub last: Seq,
}

/// Pings sent, in the byte that has the credit too.
const PROBES_MASK: u8 = 3;
const CREDIT_UNIT: u8 = PROBES_MASK + 1;
/// Messages that a session can have paid for ahead.
pub const CREDIT_MAX: u8 = u8::MAX / CREDIT_UNIT;
const _: () = assert!(PROBES <= PROBES_MASK);

/// One connection, from its accept to its close.
#[derive(Debug)]
#[repr(align(64))]
pub struct Session {
    /// Which of the slot's connections this is.
    pub generation: u32,
    /// When it was last heard, as [`Mono::low`].
    pub last_heard: u32,
    /// The tick of its one live entry in the wheel; entries of other ticks are stale.
    pub armed: Tick,
    /// Its heartbeat.
    pub tempo: Tempo,
    /// How far it has come.
    pub state: State,
    /// One-bit facts.
    pub marks: Marks,
    /// In the two lowest bits, pings sent since it was last heard; above them, messages that it may
    /// send before its rate is looked at again.
    probes_and_credit: u8,
    first_membership: Option<Membership>,
    /// Its user, once it is live.
    pub user: Option<Name>,
    /// What was received and is not used up. Boxed, because most sessions have none.
    pub input: Option<Box<Input>>,
    /// What waits to be sent. Absent while nothing does.
    pub outbox: Option<Box<Outbox>>,
    /// What only some sessions need.
    pub extra: Option<Box<Extra>>,
}

const _: () = assert!(size_of::<Option<Session>>() == 64, "a session is one cache line");

impl Session {
    fn new(generation: u32, now: Mono) -> Session {
        Session {
            generation,
            last_heard: now.low(),
            armed: Tick(0),
            tempo: Tempo::default(),
            state: State::Sniffing,
            marks: Marks::default(),
            probes_and_credit: 0,
            first_membership: None,
            user: None,
            input: None,
            outbox: None,
            extra: None,
        }
    }

    /// Notes a sign of life: all there is to do, so that life costs one store to a line that is
    /// being worked on anyway.
    pub fn heard(&mut self, now: Mono) {
        self.last_heard = now.low();
        self.probes_and_credit &= !PROBES_MASK;
    }

    /// Pings sent since it was last heard.
    pub fn probes(&self) -> u8 {
        self.probes_and_credit & PROBES_MASK
    }

    /// Notes that a ping is sent to it.
    pub fn note_probe(&mut self) {
        debug_assert!(self.probes() < PROBES_MASK);
        self.probes_and_credit += 1;
    }

    /// A message came. Returns whether it was paid for ahead.
    #[inline(always)]
    pub fn spend_credit(&mut self) -> bool {
        let has_credit = self.probes_and_credit >= CREDIT_UNIT;
        if has_credit {
            self.probes_and_credit -= CREDIT_UNIT;
        }
        has_credit
    }

    /// It paid for so many messages ahead, at most [`CREDIT_MAX`], and has no other credit.
    pub fn give_credit(&mut self, messages: u8) {
        debug_assert!(messages <= CREDIT_MAX && self.probes_and_credit < CREDIT_UNIT);
        self.probes_and_credit += messages * CREDIT_UNIT;
    }

    /// What is allocated when it is first needed.
    pub fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Bytes that wait for it.
    pub fn waiting(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.waiting())
    }

    /// Its outbox, made if there is none.
    pub fn outbox<'a>(&'a mut self, pool: &mut OutboxPool) -> &'a mut Outbox {
        self.outbox.get_or_insert_with(|| pool.outbox())
    }

    /// Takes out how far it has come in a message. Between two messages there is nothing to take.
    pub fn take_half(&mut self) -> HalfMessage {
        let Some(input) = self.input.as_mut() else {
            return HalfMessage::default();
        };
        let half = input.half.take();
        if input.is_empty() {
            self.input = None;
        }
        half.map(|half| *half).unwrap_or_default()
    }

    /// Whether what it sends is of use only when a line of it has ended, as long as that is no
    /// longer than it may be.
    pub fn reads_lines(&self, max_line: usize) -> bool {
        let max = match self.state {
            State::AwaitingLine | State::Live(Dialect::Text) => max_line,
            State::AwaitingRequest | State::Browsing => HTTP_HEAD_BYTES,
            _ => return false,
        };
        self.input.as_ref().is_some_and(|input| input.held.len() <= max)
    }

    /// Whether frames of a message that has wholly arrived wait to be looked at.
    pub fn has_unread_frames(&self) -> bool {
        let half = self.input.as_ref().and_then(|input| input.half.as_ref());
        half.is_some_and(|half| half.unread.is_some())
    }

    /// All its rooms.
    pub fn memberships(&self) -> impl Iterator<Item = &Membership> {
        let more = self.extra.as_ref().map_or(&[][..], |extra| &extra.memberships);
        self.first_membership.iter().chain(more)
    }

    /// Its part in `room`.
    pub fn membership(&self, room: RoomKey) -> Option<&Membership> {
        self.memberships().find(|membership| membership.room == room)
    }

    /// Its part in `room`, to be changed.
    pub fn membership_mut(&mut self, room: RoomKey) -> Option<&mut Membership> {
        let more = self.extra.as_mut().map_or(&mut [][..], |extra| &mut extra.memberships);
        self.first_membership.iter_mut().chain(more).find(|membership| membership.room == room)
    }

    /// Adds a room in which it is not yet.
    pub fn add_membership(&mut self, membership: Membership) {
        debug_assert!(self.membership(membership.room).is_none());
        if self.first_membership.is_none() {
            self.first_membership = Some(membership);
        } else {
            self.extra().memberships.push(membership);
        }
    }

    /// Takes a room away; returns what its part was.
    pub fn remove_membership(&mut self, room: RoomKey) -> Option<Membership> {
        if let Some(extra) = &mut self.extra {
            extra.missed.retain(|missed| missed.room != room);
        }
        if self.first_membership.is_some_and(|first| first.room == room) {
            let next = self.extra.as_mut().and_then(|extra| extra.memberships.pop());
            return std::mem::replace(&mut self.first_membership, next);
        }
        let more = &mut self.extra.as_mut()?.memberships;
        let index = more.iter().position(|membership| membership.room == room)?;
        Some(more.swap_remove(index))
    }

    /// Takes any one room away, until there is none.
    pub fn pop_membership(&mut self) -> Option<Membership> {
        let room = self.first_membership?.room;
        self.remove_membership(room)
    }

    /// Notes that it was not sent some messages of a room that it is in.
    pub fn note_missed(&mut self, room: RoomKey, gap: Gap) {
        let missed = &mut self.extra().missed;
        let first = Position { epoch: gap.epoch, seq: gap.from };
        match missed.iter_mut().find(|known| known.room == room) {
            None => missed.push(Missed { room, first, last: gap.to }),
            Some(known)
                if known.first.epoch == gap.epoch
                    && gap.from.0.saturating_sub(known.last.0) < GAPS_APART =>
            {
                known.first = known.first.min(first);
                known.last = known.last.max(gap.to);
            }
            Some(known) => *known = Missed { room, first, last: gap.to },
        }
    }

    /// Messages that were dropped because it did not read.
    pub fn missed(&self) -> &[Missed] {
        self.extra.as_ref().map_or(&[], |extra| &extra.missed)
    }

    /// Whether it takes part still, but has asked for the last time.
    pub fn asks_no_more(&self) -> bool {
        let last_words = self.marks.has(Marks::ENDED) || self.marks.has(Marks::LEAVING);
        last_words && matches!(self.state, State::Live(_))
    }

    /// Whether answers to what it asked are still on their way from other shards.
    pub fn awaits_answers(&self) -> bool {
        let pending_join = self.memberships().any(|membership| membership.place == Place::PENDING);
        pending_join || self.extra.as_ref().is_some_and(|e| e.refs.pending() > 0 || e.questions > 0)
    }
}

/// All sessions of one worker, by slab slot.
#[derive(Debug, Default)]
pub struct SessionTable {
    slots: Vec<Option<Session>>,
    count: usize,
    /// Those that are held to be refused.
    pub held: Held,
}

impl SessionTable {
    /// A table with room for `capacity` sessions. Memory that is never used is never touched.
    pub fn with_capacity(capacity: usize) -> SessionTable {
        SessionTable { slots: Vec::with_capacity(capacity), ..SessionTable::default() }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One beyond the highest slot that was ever used.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Adds the session of a new connection.
    ///
    /// # Panics
    /// If the slot is taken: the shell gives a slot again only after its connection was closed.
    pub fn insert(&mut self, conn: ConnId, now: Mono) -> &mut Session {
        if conn.slot() >= self.slots.len() {
            self.slots.resize_with(conn.slot() + 1, || None);
        }
        let slot = &mut self.slots[conn.slot()];
        assert!(slot.is_none(), "{conn:?} opened in a slot that is taken");
        self.count += 1;
        slot.insert(Session::new(conn.generation(), now))
    }

    /// Takes a session out.
    pub fn remove(&mut self, conn: ConnId) -> Option<Session> {
        self.get(conn)?;
        self.count -= 1;
        if !self.held.is_empty() {
            self.held.remove(&conn);
        }
        self.slots[conn.slot()].take()
    }

    /// The session of `conn`, unless it is gone; another connection in its slot is not it.
    pub fn get(&self, conn: ConnId) -> Option<&Session> {
        self.slots
            .get(conn.slot())?
            .as_ref()
            .filter(|session| session.generation == conn.generation())
    }

    /// The session of `conn`, to be changed.
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.slots
            .get_mut(conn.slot())?
            .as_mut()
            .filter(|session| session.generation == conn.generation())
    }

    /// Whoever is in `slot`.
    pub fn in_slot(&mut self, slot: usize) -> Option<&mut Session> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// The connection that is in `slot`.
    pub fn conn_in_slot(&self, slot: usize) -> Option<ConnId> {
        let session = self.slots.get(slot)?.as_ref()?;
        Some(ConnId::new(slot, session.generation))
    }
}

#[cfg(test)]
mod tests {
    use super::super::membership::Stay;
    use super::*;

    fn membership(room: usize) -> Membership {
        Membership::pending(RoomKey::new(room), Stay::default().next(), true)
    }

    #[test]
    fn a_stale_connection_meets_nobody() {
        let mut table = SessionTable::default();
        let old = ConnId::new(3, 1);
        table.insert(old, Mono(0));
        assert!(table.remove(old).is_some());
        let new = ConnId::new(3, 2);
        table.insert(new, Mono(0));
        assert!(table.get(old).is_none());
        assert!(table.remove(old).is_none());
        assert!(table.get_mut(new).is_some());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn rooms_come_and_go_in_any_order() {
        let mut session = Session::new(0, Mono(0));
        for room in 0..4 {
            session.add_membership(membership(room));
        }
        assert!(session.remove_membership(RoomKey::new(0)).is_some());
        assert!(session.remove_membership(RoomKey::new(0)).is_none());
        assert!(session.remove_membership(RoomKey::new(2)).is_some());
        let mut left: Vec<_> = session.memberships().map(|m| m.room.index()).collect();
        left.sort_unstable();
        assert_eq!(left, [1, 3]);
        while session.pop_membership().is_some() {}
        assert_eq!(session.memberships().count(), 0);
    }
}
