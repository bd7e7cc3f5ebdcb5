//! Sessions without a connection, and where those are that left their birth shard.
//!
//! Owns what a session takes along when it loses its connection ([`Kept`]), and the table of them
//! at the shard where they were born ([`KeptTable`]). Never tells anybody: the shard's
//! [`resume`](super::resume) does. Of a session that lives where it was born, nothing is here.

use std::collections::BTreeMap;

use crate::base::ids::{Address, Position, SessionId, ShardId};
use crate::base::name::Name;
use crate::base::time::Mono;

use super::refs::RefWindow;

/// A session that lost its connection: all that it needs to go on where it was.
#[derive(Debug)]
pub struct Kept {
    /// Which session it is.
    pub id: SessionId,
    /// Whose.
    pub user: Name,
    /// The connection that it lost.
    pub address: Address,
    /// Its rooms, and how far it has come in each.
    pub rooms: Vec<KeptRoom>,
    /// What it asked for lately; none where it asked for nothing with a ref.
    pub refs: Option<Box<RefWindow>>,
    /// Bytes that were on their way to it and may not have arrived, at most, as plain native
    /// frames.
    pub undelivered_bytes: u32,
    /// Whether it has been away for longer than the grace, and so left the rosters of its rooms.
    pub absent: bool,
}

/// A room of a [`Kept`] session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRoom {
    /// The room.
    pub room: Name,
    /// The last message that was put into its outbox, or would have been were it not its own.
    pub last: Position,
    /// Whether it wants to be told of joins and leaves.
    pub notify: bool,
}

/// A connection that wants to go on with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The connection.
    pub claimer: Address,
    /// Whose session the client takes it for, unless it does not say.
    pub user: Option<Name>,
}

impl Claim {
    /// Whether it may have a session of `user`.
    pub fn fits(&self, user: &Name) -> bool {
        self.user.as_ref().is_none_or(|claimed| claimed == user)
    }
}

/// Where a session is that is not where it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abode {
    /// Without a connection, in the table.
    Kept(Turn),
    /// On this connection, or on its way from it to the table.
    Away(Address),
}

/// When a session's turn comes among those without a connection: later ones came later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(u64);

/// A session without a connection, and since when it has none.
#[derive(Debug)]
struct Entry {
    since: Mono,
    kept: Box<Kept>,
}

/// The sessions that were born on one shard, as far as they are not on the connections where they
/// began.
///
/// Ordered maps, because they grow by small nodes and give them back.
#[derive(Debug, Default)]
pub struct KeptTable {
    abodes: BTreeMap<SessionId, Abode>,
    /// Claims that wait until a session has been taken from another connection.
    claims: BTreeMap<SessionId, Claim>,
    /// Those without a connection, the oldest first.
    kept: BTreeMap<Turn, Entry>,
    next: Turn,
    /// The grace of those before this one is over.
    grace_from: Turn,
}

impl KeptTable {
    /// Sessions without a connection.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is none without a connection.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Sessions that live away from where they began, or are on their way from there.
    pub fn away(&self) -> usize {
        self.abodes.len() - self.kept.len()
    }

    /// Where a session is, unless it is where it began, or nowhere.
    pub fn abode(&self, id: SessionId) -> Option<Abode> {
        self.abodes.get(&id).copied()
    }

    /// A session has no connection since `since`, the latest instant of all so far.
    pub fn keep(&mut self, kept: Box<Kept>, since: Mono) {
        let turn = self.next;
        self.next = Turn(turn.0 + 1);
        self.abodes.insert(kept.id, Abode::Kept(turn));
        self.kept.insert(turn, Entry { since, kept });
    }

    /// A session lives on the connection at `address` from now on.
    pub fn note_away(&mut self, id: SessionId, address: Address) {
        self.abodes.insert(id, Abode::Away(address));
    }

    /// A session without a connection, if it is here.
    pub fn get(&self, id: SessionId) -> Option<&Kept> {
        match self.abodes.get(&id)? {
            Abode::Kept(turn) => self.kept.get(turn).map(|entry| &*entry.kept),
            Abode::Away(_) => None,
        }
    }

    /// Takes a session out that is without a connection, and forgets it.
    pub fn take(&mut self, id: SessionId) -> Option<Box<Kept>> {
        let Some(Abode::Kept(turn)) = self.abode(id) else {
            return None;
        };
        self.abodes.remove(&id);
        self.kept.remove(&turn).map(|entry| entry.kept)
    }

    /// Forgets that a session lived away. Returns the claim that waited for it.
    pub fn forget_away(&mut self, id: SessionId) -> Option<Claim> {
        if let Some(Abode::Away(_)) = self.abode(id) {
            self.abodes.remove(&id);
        }
        self.claims.remove(&id)
    }

    /// Has `claim` wait for a session. Returns the claim in whose place it waits.
    pub fn await_session(&mut self, id: SessionId, claim: Claim) -> Option<Claim> {
        self.claims.insert(id, claim)
    }

    /// Takes out the claim that waits for a session.
    pub fn take_claim(&mut self, id: SessionId) -> Option<Claim> {
        self.claims.remove(&id)
    }

    /// All sessions without a connection.
    pub fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.kept.values().map(|entry| &*entry.kept)
    }

    /// Forgets the sessions that live on connections of `shard`, which is gone, and the claims that
    /// came from there. Returns the claims of others that waited for such sessions.
    pub fn forget_at(&mut self, shard: ShardId) -> Vec<Claim> {
        self.claims.retain(|_, claim| claim.claimer.shard() != shard);
        let is_there = |abode: &Abode| matches!(abode, Abode::Away(at) if at.shard() == shard);
        let gone = self.abodes.iter().filter(|(_, abode)| is_there(abode));
        let gone: Vec<SessionId> = gone.map(|(id, _)| *id).collect();
        gone.into_iter().filter_map(|id| self.forget_away(id)).collect()
    }

    /// Claims that wait for sessions.
    pub fn claims(&self) -> usize {
        self.claims.len()
    }

    /// Which session has been without a connection for the longest time, and since when.
    pub fn oldest(&self) -> Option<(Mono, SessionId)> {
        self.kept.first_key_value().map(|(_, entry)| (entry.since, entry.kept.id))
    }

    /// Since when the oldest one whose grace has not ended has no connection.
    pub fn oldest_in_grace(&self) -> Option<Mono> {
        self.kept.range(self.grace_from..).next().map(|(_, entry)| entry.since)
    }

    /// The grace of the oldest one in it is over. Returns it, to be made absent.
    pub fn end_grace(&mut self) -> Option<&mut Kept> {
        let (turn, entry) = self.kept.range_mut(self.grace_from..).next()?;
        self.grace_from = Turn(turn.0 + 1);
        Some(&mut entry.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ConnId, ShardId};

    fn address(slot: usize) -> Address {
        Address::new(ShardId(1), ConnId::new(slot, 3))
    }

    fn id(slot: usize) -> SessionId {
        SessionId::born_at(address(slot))
    }

    fn kept(slot: usize) -> Box<Kept> {
        Box::new(Kept {
            id: id(slot),
            user: Name::new("ann"),
            address: address(slot),
            rooms: Vec::new(),
            refs: None,
            undelivered_bytes: 0,
            absent: false,
        })
    }

    #[test]
    fn the_oldest_comes_first_and_each_grace_ends_once() {
        let mut table = KeptTable::default();
        for (slot, since) in [(5, 10), (3, 10), (4, 20)] {
            table.keep(kept(slot), Mono(since));
        }
        assert_eq!(table.oldest_in_grace(), Some(Mono(10)));
        let mut ended = Vec::new();
        while let Some(kept) = table.end_grace() {
            ended.push(kept.id);
        }
        assert_eq!(ended, [id(5), id(3), id(4)]);
        assert_eq!(table.oldest_in_grace(), None);
        table.keep(kept(1), Mono(20));
        assert_eq!(table.end_grace().map(|kept| kept.id), Some(id(1)));
        assert_eq!(table.len(), 4);
        assert_eq!(table.oldest(), Some((Mono(10), id(5))));
        assert!(table.take(id(5)).is_some());
        assert!(table.take(id(5)).is_none());
        assert_eq!(table.oldest(), Some((Mono(10), id(3))));
    }

    #[test]
    fn a_session_is_in_one_place_and_one_claim_waits_for_it() {
        let mut table = KeptTable::default();
        let claim =
            |slot, user: Option<&str>| Claim { claimer: address(slot), user: user.map(Name::new) };
        table.note_away(id(1), address(8));
        assert_eq!(table.abode(id(1)), Some(Abode::Away(address(8))));
        assert_eq!(table.away(), 1);
        assert!(table.get(id(1)).is_none());
        assert_eq!(table.await_session(id(1), claim(9, None)), None);
        assert_eq!(table.await_session(id(1), claim(10, Some("bob"))), Some(claim(9, None)));
        assert!(!claim(10, Some("bob")).fits(&Name::new("ann")));
        table.keep(kept(1), Mono(5));
        assert_eq!(table.take_claim(id(1)), Some(claim(10, Some("bob"))));
        assert!(table.get(id(1)).is_some());
        assert_eq!((table.len(), table.away()), (1, 0));
        table.note_away(id(2), address(8));
        assert_eq!(table.forget_away(id(2)), None);
        assert_eq!(table.abode(id(2)), None);
    }

    #[test]
    fn a_kept_session_is_small() {
        assert!(size_of::<Kept>() <= 72, "{}", size_of::<Kept>());
        assert!(size_of::<KeptRoom>() <= 32, "{}", size_of::<KeptRoom>());
        assert!(size_of::<(SessionId, Abode)>() <= 24);
    }
}
