//! Identities, each a type of its own, so that no two kinds can be confused.
//!
//! Owns how a connection is named inside a core and across cores. Never hands ids out: the slab
//! gives a slot, the worker counts generations, a home shard counts epochs and sequence numbers.

use std::fmt;
use std::num::NonZeroU64;

/// A worker's number, which is also the number of its shard: 0 to n-1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// As an index into a table with one entry per shard.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// This process among the nodes of a cluster, as clients see it in WELCOME and in heartbeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeId(pub u32);

const SLOT_BITS: u32 = 24;
const GENERATION_BITS: u32 = 28;
const SHARD_BITS: u32 = 12;
const _: () = assert!(SLOT_BITS + GENERATION_BITS + SHARD_BITS == 64);

/// How many connections one worker can name.
pub const SLOTS_PER_SHARD: usize = 1 << SLOT_BITS;
/// How many workers a process can have.
pub const SHARDS_MAX: usize = 1 << SHARD_BITS;

/// A connection of one worker: its slab slot and the generation that lives there.
///
/// It is the token that the kernel hands back with an event, the entry of the timing wheel and the
/// key of a session. A slot is reused, a generation is not (until 2^28 later connections of the
/// same worker), so a stale event or a late timer names nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl ConnId {
    /// The connection in `slot` whose generation is `generation` (taken modulo 2^28).
    ///
    /// # Panics
    /// If `slot` is not below [`SLOTS_PER_SHARD`].
    pub fn new(slot: usize, generation: u32) -> ConnId {
        assert!(slot < SLOTS_PER_SHARD, "slab slot {slot} does not fit a connection id");
        let generation = u64::from(generation) & ((1 << GENERATION_BITS) - 1);
        ConnId(slot as u64 | generation << SLOT_BITS)
    }

    /// The connection that [`ConnId::to_bits`] described. Bits of a shard are ignored.
    pub fn from_bits(bits: u64) -> ConnId {
        ConnId(bits & ((1 << (SLOT_BITS + GENERATION_BITS)) - 1))
    }

    /// The highest value of [`ConnId::to_bits`].
    pub const BITS_MAX: u64 = (1 << (SLOT_BITS + GENERATION_BITS)) - 1;

    /// All of it in the low 52 bits of one word, for a mio token.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Index into the worker's slab.
    pub fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }

    /// Which of the slot's successive connections this is.
    pub fn generation(self) -> u32 {
        (self.0 >> SLOT_BITS) as u32
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn {}.{}", self.slot(), self.generation())
    }
}

/// A connection as other shards name it: its [`ConnId`] and its shard, in one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(u64);

impl Address {
    /// Before all others.
    pub const MIN: Address = Address(0);
    /// Behind all others.
    pub const MAX: Address = Address(u64::MAX);

    /// The connection `conn` of `shard`.
    ///
    /// # Panics
    /// If `shard` is not below [`SHARDS_MAX`].
    pub fn new(shard: ShardId, conn: ConnId) -> Address {
        assert!(shard.index() < SHARDS_MAX, "shard {shard} does not fit an address");
        Address(conn.0 | u64::from(shard.0) << (SLOT_BITS + GENERATION_BITS))
    }

    /// All of it in one word.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The shard that holds the connection.
    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> (SLOT_BITS + GENERATION_BITS)) as u16)
    }

    /// The connection within its shard.
    pub fn conn(self) -> ConnId {
        ConnId::from_bits(self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} {:?}", self.shard(), self.conn())
    }
}

/// A session, which may outlive the connection that began it.
///
/// It tells the shard at which the session was born, which knows what became of it. It is no
/// secret: the key that belongs to it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(NonZeroU64);

impl SessionId {
    /// The session that began on the connection at `birth`.
    ///
    /// Inverted, because 0 stands for no session on the wire.
    ///
    /// # Panics
    /// On the last slot and generation of the last shard that an address can name.
    pub fn born_at(birth: Address) -> SessionId {
        SessionId(NonZeroU64::new(!birth.to_bits()).expect("no worker has so many slots"))
    }

    /// The session that [`SessionId::to_bits`] described, or that a client made up; none for 0.
    pub fn from_bits(bits: u64) -> Option<SessionId> {
        NonZeroU64::new(bits).map(SessionId)
    }

    /// All of it in one word, as the wire has it.
    pub fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// The connection that began it, which may be gone.
    pub fn birth(self) -> Address {
        Address(!self.to_bits())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session of {:?}", self.birth())
    }
}

/// A life of a room's history. Messages are counted from 1 within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// A message's place in its room's one order, within an [`Epoch`]. The first message is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// One message of a room, or the end of all that were sent before one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The life of the room's history.
    pub epoch: Epoch,
    /// The place in it; 0 is before the first message.
    pub seq: Seq,
}

/// A client's own number for a request. 0 asks for no answer on success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ref(pub u32);

impl Ref {
    /// The number of a request that wants no answer, and of an error about the connection itself.
    pub const NONE: Ref = Ref(0);

    /// Whether the client wants an answer.
    pub fn wants_answer(self) -> bool {
        self != Ref::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gives_back_its_parts() {
        let conn = ConnId::new(SLOTS_PER_SHARD - 1, (1 << GENERATION_BITS) - 1);
        let address = Address::new(ShardId(4095), conn);
        assert_eq!(address.conn(), conn);
        assert_eq!(address.shard(), ShardId(4095));
        assert_eq!(conn.slot(), SLOTS_PER_SHARD - 1);
        assert_eq!(ConnId::from_bits(conn.to_bits()), conn);
    }

    #[test]
    fn a_session_tells_where_it_was_born_and_is_never_zero() {
        let first = Address::new(ShardId(0), ConnId::new(0, 0));
        assert_ne!(SessionId::born_at(first).to_bits(), 0);
        assert_eq!(SessionId::from_bits(0), None);
        let birth = Address::new(ShardId(7), ConnId::new(3, 9));
        let session = SessionId::from_bits(SessionId::born_at(birth).to_bits());
        assert_eq!(session.map(SessionId::birth), Some(birth));
    }

    #[test]
    fn generations_wrap_without_touching_the_slot() {
        let wrapped = ConnId::new(7, 1 << GENERATION_BITS);
        assert_eq!((wrapped.slot(), wrapped.generation()), (7, 0));
    }
}
