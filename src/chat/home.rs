//! A room as its home keeps it: the one order, who is there, and which shards must be told.
//!
//! Owns epochs and sequence numbers, the batch that this turn's messages are gathered in, the
//! count of members per shard and the users present. Never delivers: it fills batches, and the
//! shard ([`homes`](super::homes)) posts them.

use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;

use crate::base::ids::{Epoch, Seq, ShardId};
use crate::base::limits::ROSTER_MAX;
use crate::base::name::Name;
use crate::base::time::Mono;
use crate::wire::message::Names;

use super::batch::Batch;
use super::hash::NameHasher;
use super::session::Stay;

/// A room in its home's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HomeKey(u32);

/// A shard that has members of the room.
#[derive(Debug)]
pub struct Link {
    /// The shard.
    pub shard: ShardId,
    /// How many members it has.
    pub members: u32,
    /// Messages that were shed because its mailbox was full, and of which it has not been told.
    pub lost: Option<(Seq, Seq)>,
}

#[derive(Debug)]
struct Present {
    user: Name,
    sessions: u32,
}

/// The users in a room. One with several sessions is one.
#[derive(Debug)]
pub struct Roster {
    hasher: NameHasher,
    present: HashTable<Present>,
}

impl Roster {
    fn new(hasher: NameHasher) -> Roster {
        Roster { hasher, present: HashTable::new() }
    }

    /// How many users there are.
    pub fn total(&self) -> u32 {
        self.present.len() as u32
    }

    /// A session of `user` came in; returns whether it is the user's first.
    pub fn enter(&mut self, user: Name) -> bool {
        let hasher = self.hasher;
        let hash = hasher.hash(&user);
        if let Some(present) = self.present.find_mut(hash, |present| present.user == user) {
            present.sessions += 1;
            return false;
        }
        let newcomer = Present { user, sessions: 1 };
        self.present.insert_unique(hash, newcomer, |present| hasher.hash(&present.user));
        true
    }

    /// A session of `user` went out; returns whether it was the user's last.
    ///
    /// # Panics
    /// If the user had none: shards report every leave once, after its join.
    pub fn leave(&mut self, user: &Name) -> bool {
        let hash = self.hasher.hash(user);
        let mut entry = self
            .present
            .find_entry(hash, |present| present.user == *user)
            .expect("who leaves was there");
        entry.get_mut().sessions -= 1;
        let gone = entry.get().sessions == 0;
        if gone {
            entry.remove();
        }
        gone
    }

    /// Names of those present, as many as the contract allows and `bytes_max` holds, encoded.
    pub fn names(&self, bytes_max: usize) -> Vec<u8> {
        let mut encoded = Vec::new();
        for present in self.present.iter().take(ROSTER_MAX) {
            if encoded.len() + 1 + present.user.len() > bytes_max {
                break;
            }
            Names::push(&mut encoded, &present.user);
        }
        encoded
    }
}

/// One room at its home.
#[derive(Debug)]
pub struct HomeRoom {
    /// Its name.
    pub name: Name,
    /// The life of its history.
    pub epoch: Epoch,
    /// Its last message.
    pub seq: Seq,
    /// This turn's messages.
    pub open: Option<Arc<Batch>>,
    /// The shards that have members.
    pub links: Vec<Link>,
    /// The users in it.
    pub roster: Roster,
    /// Joins and leaves happened that were not told singly; the total is owed.
    pub owes_total: bool,
    /// When it was last spoken in or left.
    pub last_active: Mono,
    /// Whether it is on the list of rooms that may be forgotten.
    pub idle_listed: bool,
    /// Whether it is on the list of rooms with links that lost messages.
    pub lossy_listed: bool,
}

impl HomeRoom {
    /// The link to `shard`, made if there is none.
    pub fn link(&mut self, shard: ShardId) -> &mut Link {
        let index = self.link_index(shard).unwrap_or_else(|| {
            self.links.push(Link { shard, members: 0, lost: None });
            self.links.len() - 1
        });
        &mut self.links[index]
    }

    /// The place of the link to `shard` among the links, if the shard has members.
    pub fn link_index(&self, shard: ShardId) -> Option<usize> {
        self.links.iter().position(|link| link.shard == shard)
    }

    /// A member of `shard` left; the last one ends the link.
    ///
    /// # Panics
    /// If the shard had none.
    pub fn unlink(&mut self, shard: ShardId) {
        let index = self.link_index(shard);
        let index = index.expect("a shard reports every leave once, after its join");
        self.links[index].members -= 1;
        if self.links[index].members == 0 {
            self.links.swap_remove(index);
        }
    }
}

/// The rooms whose home one shard is.
#[derive(Debug)]
pub struct HomeTable {
    hasher: NameHasher,
    rooms: Slab<HomeRoom>,
    index: HashTable<HomeKey>,
    last_epoch: u32,
    /// Stays that were refused and whose leave is under way.
    refused: HashTable<(ShardId, Stay)>,
}

impl HomeTable {
    /// An empty table.
    pub fn new(hasher: NameHasher) -> HomeTable {
        HomeTable {
            hasher,
            rooms: Slab::new(),
            index: HashTable::new(),
            last_epoch: 0,
            refused: HashTable::new(),
        }
    }

    /// Notes that a stay of a connection of `shard` was refused, until its leave arrives.
    pub fn refuse(&mut self, shard: ShardId, stay: Stay) {
        let hasher = self.hasher;
        let rehash = |refused: &(ShardId, Stay)| hash_of_stay(hasher, *refused);
        self.refused.insert_unique(rehash(&(shard, stay)), (shard, stay), rehash);
    }

    /// Whether a stay of a connection of `shard` was refused.
    pub fn is_refused(&self, shard: ShardId, stay: Stay) -> bool {
        let hash = hash_of_stay(self.hasher, (shard, stay));
        self.refused.find(hash, |refused| *refused == (shard, stay)).is_some()
    }

    /// The leave of a stay arrived. Returns whether the stay was refused.
    pub fn forget_refused(&mut self, shard: ShardId, stay: Stay) -> bool {
        let hash = hash_of_stay(self.hasher, (shard, stay));
        let entry = self.refused.find_entry(hash, |refused| *refused == (shard, stay));
        entry.map(|entry| entry.remove()).is_ok()
    }

    /// How many refused stays wait for their leave.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// The room called `name`, whose hash is `hash`.
    pub fn find(&self, name: &str, hash: u64) -> Option<HomeKey> {
        let is_it = |key: &HomeKey| self.rooms[key.0 as usize].name.as_bytes() == name.as_bytes();
        self.index.find(hash, is_it).copied()
    }

    /// Makes the room called `name`, of which there is none.
    ///
    /// Its epoch is the wall clock's second, or the one after this home's last epoch if that is
    /// later: a room made again, here or after a restart, never repeats an epoch.
    pub fn add(&mut self, name: Name, hash: u64, now: Mono, wall_ms: u64) -> HomeKey {
        self.last_epoch = self.last_epoch.saturating_add(1).max((wall_ms / 1_000) as u32);
        let room = HomeRoom {
            name,
            epoch: Epoch(self.last_epoch),
            seq: Seq(0),
            open: None,
            links: Vec::new(),
            roster: Roster::new(self.hasher),
            owes_total: false,
            last_active: now,
            idle_listed: false,
            lossy_listed: false,
        };
        let key = HomeKey(self.rooms.insert(room) as u32);
        let (rooms, hasher) = (&self.rooms, self.hasher);
        self.index.insert_unique(hash, key, |key| hasher.hash(&rooms[key.0 as usize].name));
        key
    }

    /// The room of `key`.
    ///
    /// # Panics
    /// If it is gone.
    pub fn get(&self, key: HomeKey) -> &HomeRoom {
        &self.rooms[key.0 as usize]
    }

    /// The room of `key`, to be changed.
    ///
    /// # Panics
    /// If it is gone.
    pub fn get_mut(&mut self, key: HomeKey) -> &mut HomeRoom {
        &mut self.rooms[key.0 as usize]
    }

    /// Forgets a room.
    pub fn remove(&mut self, key: HomeKey) {
        let room = self.rooms.remove(key.0 as usize);
        let hash = self.hasher.hash(&room.name);
        let entry = self.index.find_entry(hash, |other| *other == key).expect("rooms are indexed");
        entry.remove();
    }

    /// How many rooms there are.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

fn hash_of_stay(hasher: NameHasher, (shard, stay): (ShardId, Stay)) -> u64 {
    hasher.seal(u64::from(shard.0) << 32 | u64::from(stay.number()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_two_sessions_is_one_member() {
        let mut roster = Roster::new(NameHasher::new([1, 2]));
        let ann = Name::new("ann");
        assert!(roster.enter(ann.clone()));
        assert!(!roster.enter(ann.clone()));
        assert_eq!(roster.total(), 1);
        assert!(!roster.leave(&ann));
        assert!(roster.leave(&ann));
        assert_eq!(roster.total(), 0);
    }

    #[test]
    fn a_roster_names_as_many_as_fit() {
        let mut roster = Roster::new(NameHasher::new([1, 2]));
        for number in 0..1_500 {
            roster.enter(Name::new(&format!("user-{number:04}")));
        }
        assert_eq!(Names::new(&roster.names(1 << 20)).count(), ROSTER_MAX);
        assert_eq!(Names::new(&roster.names(25)).count(), 2);
    }

    #[test]
    fn a_refused_stay_is_remembered_until_its_leave() {
        let mut homes = HomeTable::new(NameHasher::new([1, 2]));
        let stay = Stay::default().next();
        homes.refuse(ShardId(1), stay);
        assert!(homes.is_refused(ShardId(1), stay));
        assert!(!homes.is_refused(ShardId(2), stay));
        assert!(!homes.forget_refused(ShardId(1), stay.next()));
        assert!(homes.forget_refused(ShardId(1), stay));
        assert!(!homes.forget_refused(ShardId(1), stay));
        assert_eq!(homes.refused(), 0);
    }

    #[test]
    fn a_room_made_again_has_another_epoch() {
        let hasher = NameHasher::new([1, 2]);
        let mut homes = HomeTable::new(hasher);
        let hash = hasher.hash("tea");
        let first = homes.add(Name::new("tea"), hash, Mono(0), 1_790_000_000_000);
        let epoch = homes.get(first).epoch;
        assert_eq!(epoch, Epoch(1_790_000_000));
        homes.remove(first);
        assert_eq!(homes.find("tea", hash), None);
        let again = homes.add(Name::new("tea"), hash, Mono(0), 1_790_000_000_000);
        assert_eq!(homes.get(again).epoch, Epoch(1_790_000_001));
    }
}
