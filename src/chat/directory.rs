//! Which sessions a user has.
//!
//! Owns the sessions of the users whose home this shard is, and the numbering of direct messages.
//! Never delivers: the shard asks for addresses and posts.

use hashbrown::HashTable;

use crate::base::ids::Address;
use crate::base::name::Name;

use super::hash::NameHasher;

#[derive(Debug)]
struct Entry {
    user: Name,
    session: Address,
}

/// The sessions of users, one entry of 16 bytes each; several of one user lie side by side.
#[derive(Debug)]
pub struct Directory {
    hasher: NameHasher,
    entries: HashTable<Entry>,
    next_direct_id: u64,
}

impl Directory {
    /// An empty directory. Ids of direct messages follow `first_direct_id`.
    pub fn new(hasher: NameHasher, first_direct_id: u64) -> Directory {
        Directory { hasher, entries: HashTable::new(), next_direct_id: first_direct_id }
    }

    /// A session of `user` began.
    pub fn online(&mut self, user: Name, session: Address) {
        let hasher = self.hasher;
        let hash = hasher.hash(&user);
        self.entries.insert_unique(hash, Entry { user, session }, |entry| hasher.hash(&entry.user));
    }

    /// A session of `user` ended.
    pub fn offline(&mut self, user: &str, session: Address) {
        let hash = self.hasher.hash(user);
        let found = self.entries.find_entry(hash, |entry| entry.session == session);
        debug_assert!(found.is_ok(), "a session goes offline once, after it was online");
        if let Ok(entry) = found {
            entry.remove();
        }
    }

    /// The sessions of `user`.
    pub fn sessions<'a>(&'a self, user: &'a str) -> impl Iterator<Item = Address> + 'a {
        self.entries
            .iter_hash(self.hasher.hash(user))
            .filter(move |entry| entry.user.as_bytes() == user.as_bytes())
            .map(|entry| entry.session)
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of the next direct message, which grows for every user of this home.
    pub fn take_direct_id(&mut self) -> u64 {
        self.next_direct_id += 1;
        self.next_direct_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ConnId, ShardId};

    #[test]
    fn a_user_may_have_several_sessions() {
        let mut directory = Directory::new(NameHasher::new([1, 2]), 0);
        let address = |slot| Address::new(ShardId(1), ConnId::new(slot, 0));
        for slot in 0..100 {
            directory.online(Name::new(if slot % 2 == 0 { "ann" } else { "bob" }), address(slot));
        }
        assert_eq!(directory.sessions("ann").count(), 50);
        directory.offline("ann", address(0));
        assert_eq!(directory.sessions("ann").count(), 49);
        assert!(directory.sessions("ann").all(|session| session != address(0)));
        assert_eq!(directory.sessions("eve").count(), 0);
        assert_eq!(directory.len(), 99);
    }
}
