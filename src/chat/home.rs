//! A room as its home keeps it: the one order, who is there, and which shards must be told.
//!
//! Owns epochs and sequence numbers, the batch that this turn's messages are gathered in, the
//! count of members per shard and the users present. Never delivers: it fills batches, and the
//! shard ([`homes`](super::homes)) posts them.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;

use crate::base::ids::{Epoch, Position, Seq, ShardId};
use crate::base::name::Name;
use crate::base::time::Mono;

use super::batch::Batch;
use super::hash::NameHasher;
use super::history::{History, NOTHING};
use super::journal::RoomRecords;
use super::membership::Stay;
use super::roster::Roster;

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

/// One room at its home.
#[derive(Debug)]
pub struct HomeRoom {
    /// Its name.
    pub name: Name,
    /// The life of its history.
    pub epoch: Epoch,
    /// Its last message.
    pub seq: Seq,
    /// What the store keeps of it; none where all is in memory.
    pub records: Option<Box<RoomRecords>>,
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
    /// Whether what is said in it is kept. What is said to everybody is not: nobody can ask for it.
    pub keeps: bool,
    /// What was said, as far as it is kept.
    pub history: Option<Box<History>>,
    /// Its entry on the list of rooms with a history; 0 while it is not on it.
    pub history_listing: u32,
}

impl HomeRoom {
    /// Whether it has no member, nor one that was cut off and is expected back.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.roster.total() == 0
    }

    /// The last message that anybody may have heard of.
    pub fn head(&self) -> Position {
        let unwritten = self.records.as_ref().map_or(0, |records| records.unwritten);
        Position { epoch: self.epoch, seq: Seq(self.seq.0 - u64::from(unwritten)) }
    }

    /// What was said, as far as it is kept.
    pub fn history(&self) -> &History {
        self.history.as_deref().unwrap_or(&NOTHING)
    }

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

/// What is sealed to get the number from which a process counts its epochs.
const EPOCH_SEED: u64 = 0x6570_6f63_6873;

/// The rooms whose home one shard is.
#[derive(Debug)]
pub struct HomeTable {
    hasher: NameHasher,
    rooms: Slab<HomeRoom>,
    index: HashTable<HomeKey>,
    last_epoch: u32,
    /// Stays that were refused and whose leave is under way.
    refused: BTreeSet<(ShardId, Stay)>,
}

impl HomeTable {
    /// An empty table.
    pub fn new(hasher: NameHasher) -> HomeTable {
        HomeTable {
            hasher,
            rooms: Slab::new(),
            index: HashTable::new(),
            last_epoch: hasher.seal(EPOCH_SEED) as u32,
            refused: BTreeSet::new(),
        }
    }

    /// Notes that a stay of a connection of `shard` was refused, until its leave arrives.
    pub fn refuse(&mut self, shard: ShardId, stay: Stay) {
        self.refused.insert((shard, stay));
    }

    /// Whether a stay of a connection of `shard` was refused.
    pub fn is_refused(&self, shard: ShardId, stay: Stay) -> bool {
        self.refused.contains(&(shard, stay))
    }

    /// The leave of a stay arrived. Returns whether the stay was refused.
    pub fn forget_refused(&mut self, shard: ShardId, stay: Stay) -> bool {
        self.refused.remove(&(shard, stay))
    }

    /// The stays of `shard` that were refused end without a leave.
    pub fn forget_refused_of(&mut self, shard: ShardId) {
        self.refused.retain(|(of, _)| *of != shard);
    }

    /// The process has had tables of this shard before: epochs count from elsewhere.
    pub fn begin_life(&mut self, life: u32) {
        self.last_epoch = self.hasher.seal(EPOCH_SEED + (u64::from(life) << 48)) as u32;
    }

    /// All rooms.
    pub fn keys(&self) -> impl Iterator<Item = HomeKey> + '_ {
        self.rooms.iter().map(|(key, _)| HomeKey(key as u32))
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
    /// Epochs count from a number that the process's secret gives. So a room made again has another
    /// one, and after a restart, however quick, the chance of the same one is one in 2^32. A clock
    /// would repeat itself within its own step, and be overtaken where rooms are made fast.
    pub fn add(&mut self, name: Name, hash: u64, now: Mono) -> HomeKey {
        let room = HomeRoom {
            name,
            epoch: self.take_epoch(),
            seq: Seq(0),
            records: None,
            open: None,
            links: Vec::new(),
            roster: Roster::default(),
            owes_total: false,
            last_active: now,
            idle_listed: false,
            lossy_listed: false,
            keeps: false,
            history: None,
            history_listing: 0,
        };
        let key = HomeKey(self.rooms.insert(room) as u32);
        let (rooms, hasher) = (&self.rooms, self.hasher);
        self.index.insert_unique(hash, key, |key| hasher.hash(&rooms[key.0 as usize].name));
        key
    }

    /// The number of another epoch.
    pub fn take_epoch(&mut self) -> Epoch {
        // 0 stands for no room.
        self.last_epoch = self.last_epoch.wrapping_add(1).max(1);
        Epoch(self.last_epoch)
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

    /// Whether `listing` is the entry of the room of `key` on the list of rooms with a history. The
    /// room may be gone, and another one in its place.
    pub fn is_listed(&self, key: HomeKey, listing: u32) -> bool {
        self.rooms.get(key.0 as usize).is_some_and(|room| room.history_listing == listing)
    }

    /// Forgets a room, of which nothing is kept.
    pub fn remove(&mut self, key: HomeKey) {
        let room = self.rooms.remove(key.0 as usize);
        debug_assert!(room.history.is_none(), "a history is accounted for when it is dropped");
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let first = homes.add(Name::new("tea"), hash, Mono(0));
        let epoch = homes.get(first).epoch;
        homes.remove(first);
        assert_eq!(homes.find("tea", hash), None);
        let again = homes.add(Name::new("tea"), hash, Mono(0));
        assert_ne!(homes.get(again).epoch, epoch);
    }

    #[test]
    fn a_restart_at_the_same_instant_begins_other_epochs() {
        let epoch = |secret| {
            let hasher = NameHasher::new(secret);
            let mut homes = HomeTable::new(hasher);
            let key = homes.add(Name::new("tea"), hasher.hash("tea"), Mono(0));
            homes.get(key).epoch
        };
        assert_ne!(epoch([1, 2]), epoch([3, 4]));
    }
}
