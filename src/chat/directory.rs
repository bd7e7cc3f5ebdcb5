//! Which sessions a user has.
//!
//! Owns the sessions of the users whose home this shard is. Never delivers: the shard asks for
//! addresses and posts.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{Address, SessionId, ShardId};
use crate::base::name::Name;

/// The sessions of users, one entry of 16 bytes each; several of one user lie side by side.
///
/// An ordered set, because it grows by small nodes: a hash table of this size is half empty after
/// it has grown, and leaves its former self behind in the allocator.
#[derive(Debug, Default)]
pub struct Directory {
    sessions: BTreeSet<(Name, Address)>,
    /// Which sessions those are that began on another connection.
    resumed: BTreeMap<Address, SessionId>,
}

impl Directory {
    /// A session of `user` began, or goes on, on a connection.
    pub fn online(&mut self, user: Name, session: Address, identity: SessionId) {
        if identity != SessionId::born_at(session) {
            self.resumed.insert(session, identity);
        }
        self.sessions.insert((user, session));
    }

    /// A connection of `user` ended.
    pub fn offline(&mut self, user: Name, session: Address) {
        self.resumed.remove(&session);
        let was_online = self.sessions.remove(&(user, session));
        debug_assert!(was_online, "a session goes offline once, after it was online");
    }

    /// The sessions of `user`.
    pub fn sessions(&self, user: &Name) -> impl Iterator<Item = Address> {
        let all = (user.clone(), Address::MIN)..=(user.clone(), Address::MAX);
        self.sessions.range(all).map(|(_, session)| *session)
    }

    /// The sessions of `user`, by their identities.
    pub fn readers(&self, user: &Name) -> impl Iterator<Item = (SessionId, Address)> {
        self.sessions(user).map(|session| {
            let resumed = self.resumed.get(&session).copied();
            (resumed.unwrap_or(SessionId::born_at(session)), session)
        })
    }

    /// The sessions whose connections are on `shard`, each with its user and its identity.
    pub fn at(&self, shard: ShardId) -> Vec<(Name, Address, SessionId)> {
        let its = self.sessions.iter().filter(|(_, session)| session.shard() == shard);
        its.map(|(user, session)| {
            let resumed = self.resumed.get(session).copied();
            (user.clone(), *session, resumed.unwrap_or(SessionId::born_at(*session)))
        })
        .collect()
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ConnId;

    #[test]
    fn a_user_may_have_several_sessions() {
        let mut directory = Directory::default();
        let address = |slot| Address::new(ShardId(1), ConnId::new(slot, 0));
        let [ann, bob, eve] = ["ann", "bob", "anna"].map(Name::new);
        for slot in 0..100 {
            let (user, session) = (if slot % 2 == 0 { &ann } else { &bob }, address(slot));
            directory.online(user.clone(), session, SessionId::born_at(session));
        }
        assert_eq!(directory.sessions(&ann).count(), 50);
        directory.offline(ann.clone(), address(0));
        assert_eq!(directory.sessions(&ann).count(), 49);
        assert!(directory.sessions(&ann).all(|session| session != address(0)));
        assert_eq!(directory.sessions(&eve).count(), 0);
        assert_eq!(directory.len(), 99);
    }
}
