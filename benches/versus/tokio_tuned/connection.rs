//! One connection of a core, and the table of all.
//!
//! Owns the stream, the state and the memberships of each connection. Never decides. An idle
//! connection owns no buffer: it is read into the core's scratch, and its outbox goes back to the
//! core's pool when it is empty.

use std::task::Waker;

use corebeat::base::ids::ConnId;
use corebeat::base::name::Name;
use corebeat::base::time::{Mono, Tick};
use corebeat::chat::heartbeat::Tempo;
use corebeat::chat::refs::RefWindow;
use tokio::net::TcpStream;

use super::common::dialect::Dialect;
use super::mail::Stay;
use super::outbox::Outbox;
use super::web::Assembler;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its first bytes have not told the dialect.
    Sniffing,
    /// Its HTTP request has not come to its end.
    AwaitingRequest,
    /// It has not said HELLO in native frames over TCP.
    AwaitingHello,
    /// It has not said hello in JSON. States of their own, and no dialect in the one above: a
    /// second field would make the connection larger.
    AwaitingJsonHello,
    /// It has not said HELLO in native frames over a WebSocket.
    AwaitingBinHello,
    /// It has not completed its first line.
    AwaitingLine,
    /// It takes part.
    Live(Dialect),
    /// Its last bytes are being sent; its input is discarded.
    Closing,
}

/// One-bit facts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    /// It is on the list of those to be written to.
    pub dirty: bool,
    /// The kernel took no more; the bell will ring.
    pub blocked: bool,
    /// It is not read until it has read more of the answers.
    pub paused: bool,
    /// The peer will send no more.
    pub ended: bool,
    /// It wrote part of the batch that is being handed out.
    pub author: bool,
    /// It is on the list of those to be dropped.
    pub doomed: bool,
}

/// A room in the core's table.
pub type RoomKey = u32;
/// The place of a member whose room's home has not let it in.
pub const PENDING: u32 = u32::MAX;

/// A part in one room.
#[derive(Clone, Copy, Debug)]
pub struct Membership {
    /// The room.
    pub room: RoomKey,
    /// Where it stands in the room's list, or [`PENDING`].
    pub place: u32,
    /// Which stay it is.
    pub stay: Stay,
    /// Whether joins and leaves are told.
    pub notify: bool,
}

/// What only some connections need.
#[derive(Debug, Default)]
pub struct Extra {
    memberships: Vec<Membership>,
    /// What it asked for lately.
    pub refs: RefWindow,
    /// Questions to other cores whose answers are on their way.
    pub questions: u32,
    /// The room to which a text client's lines go.
    pub current_room: Option<Name>,
    /// Has the fragments of a WebSocket message whose last one has not come.
    pub assembler: Option<Assembler>,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: TcpStream,
    /// Puts the connection on the core's list when the socket is ready.
    pub bell: Waker,
    /// Its user, once it is live.
    pub user: Option<Name>,
    /// Bytes of a frame or line whose end has not come.
    #[expect(clippy::box_collection, reason = "most connections have none")]
    pub input: Option<Box<Vec<u8>>>,
    /// What waits to be sent.
    pub outbox: Option<Box<Outbox>>,
    /// What only some need.
    pub extra: Option<Box<Extra>>,
    membership: Option<Membership>,
    /// Which of its slot's connections it is.
    pub generation: u32,
    /// When it was last heard, as [`Mono::low`].
    pub heard: u32,
    /// The tick of its one live timer.
    pub armed: Tick,
    /// Its heartbeat.
    pub tempo: Tempo,
    /// How far it has come.
    pub state: State,
    /// Pings since it was last heard.
    pub probes: u8,
    /// One-bit facts.
    pub marks: Marks,
}

impl Connection {
    /// A new connection.
    pub fn new(stream: TcpStream, bell: Waker, generation: u32, now: Mono) -> Connection {
        Connection {
            stream,
            bell,
            user: None,
            input: None,
            outbox: None,
            extra: None,
            membership: None,
            generation,
            heard: now.low(),
            armed: Tick(0),
            tempo: Tempo::default(),
            state: State::Sniffing,
            probes: 0,
            marks: Marks::default(),
        }
    }

    /// Notes a sign of life.
    pub fn hear(&mut self, now: Mono) {
        self.heard = now.low();
        self.probes = 0;
    }

    /// What it can be told things in, as soon as that is known.
    pub fn dialect(&self) -> Option<Dialect> {
        match self.state {
            State::AwaitingLine => Some(Dialect::Text),
            State::AwaitingHello => Some(Dialect::Native),
            State::AwaitingJsonHello => Some(Dialect::Json),
            State::AwaitingBinHello => Some(Dialect::Bin),
            State::Live(dialect) => Some(dialect),
            State::Sniffing | State::AwaitingRequest | State::Closing => None,
        }
    }

    /// Bytes that wait for it.
    pub fn waiting(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.waiting())
    }

    /// All its rooms.
    pub fn memberships(&self) -> impl Iterator<Item = &Membership> {
        let more = self.extra.as_ref().map_or(&[][..], |extra| &extra.memberships);
        self.membership.iter().chain(more)
    }

    /// Its part in `room`.
    pub fn membership_mut(&mut self, room: RoomKey) -> Option<&mut Membership> {
        let more = self.extra.as_mut().map_or(&mut [][..], |extra| &mut extra.memberships);
        self.membership.iter_mut().chain(more).find(|membership| membership.room == room)
    }

    /// Adds a room.
    pub fn add_membership(&mut self, membership: Membership) {
        if self.membership.is_none() {
            self.membership = Some(membership);
        } else {
            self.extra.get_or_insert_default().memberships.push(membership);
        }
    }

    /// Takes a room away.
    pub fn remove_membership(&mut self, room: RoomKey) -> Option<Membership> {
        if self.membership.is_some_and(|first| first.room == room) {
            let next = self.extra.as_mut().and_then(|extra| extra.memberships.pop());
            return std::mem::replace(&mut self.membership, next);
        }
        let more = &mut self.extra.as_mut()?.memberships;
        let index = more.iter().position(|membership| membership.room == room)?;
        Some(more.swap_remove(index))
    }

    /// Whether answers to what it asked are on their way from other cores.
    pub fn awaits_answers(&self) -> bool {
        let joins = self.memberships().any(|membership| membership.place == PENDING);
        joins || self.extra.as_ref().is_some_and(|e| e.refs.pending() > 0 || e.questions > 0)
    }

    /// Takes any room away.
    pub fn pop_membership(&mut self) -> Option<Membership> {
        let room = self.membership?.room;
        self.remove_membership(room)
    }
}

/// All connections of a core by slot.
#[derive(Debug, Default)]
pub struct Connections {
    slots: Vec<Option<Connection>>,
    free: Vec<u32>,
    generation: u32,
}

impl Connections {
    /// A table with room for `capacity`; memory that is never used is never touched.
    pub fn with_capacity(capacity: usize) -> Connections {
        Connections { slots: Vec::with_capacity(capacity), ..Connections::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// One beyond the highest slot ever used.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The number that the next connection will have.
    pub fn next_id(&self) -> ConnId {
        let slot = self.free.last().map_or(self.slots.len(), |slot| *slot as usize);
        ConnId::new(slot, self.generation)
    }

    /// Adds the connection that was given [`Connections::next_id`].
    pub fn insert(&mut self, connection: Connection) {
        self.generation = self.generation.wrapping_add(1);
        match self.free.pop() {
            Some(slot) => self.slots[slot as usize] = Some(connection),
            None => self.slots.push(Some(connection)),
        }
    }

    /// Drops a connection.
    pub fn remove(&mut self, conn: ConnId) {
        if self.get(conn).is_some() {
            self.slots[conn.slot()] = None;
            self.free.push(conn.slot() as u32);
        }
    }

    /// The connection, unless it is gone.
    pub fn get(&self, conn: ConnId) -> Option<&Connection> {
        let connection = self.slots.get(conn.slot())?.as_ref()?;
        (connection.generation == conn.generation()).then_some(connection)
    }

    /// The connection, unless it is gone.
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(conn.slot())?.as_mut()?;
        (connection.generation == conn.generation()).then_some(connection)
    }

    /// Whoever is in `slot`.
    pub fn in_slot(&mut self, slot: usize) -> Option<(ConnId, &mut Connection)> {
        let connection = self.slots.get_mut(slot)?.as_mut()?;
        Some((ConnId::new(slot, connection.generation), connection))
    }
}

// Two cache lines, with whether the slot is taken.
const _: () = assert!(size_of::<Option<Connection>>() <= 128);
