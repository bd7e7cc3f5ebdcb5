//! Rooms: the members that a core has in them, and the order that a core keeps as their home.
//!
//! Owns both tables. Never delivers: the core does.

use std::collections::HashMap;

use corebeat::base::ids::{ConnId, Epoch, Seq, ShardId};
use corebeat::base::limits::ROSTER_MAX;
use corebeat::base::name::Name;
use corebeat::base::time::{Mono, Now};
use corebeat::chat::hash::NameHasher;
use corebeat::wire::message::Names;
use hashbrown::HashTable;
use slab::Slab;

use super::connection::RoomKey;
use super::outbox::{Batch, Frames};

/// A table of things that have names, each under a number of its own.
#[derive(Debug)]
pub struct Named<T> {
    hasher: NameHasher,
    things: Slab<(Name, T)>,
    index: HashTable<u32>,
}

impl<T> Named<T> {
    /// An empty table.
    pub fn new(hasher: NameHasher) -> Named<T> {
        Named { hasher, things: Slab::new(), index: HashTable::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.things.len()
    }

    /// The one called `name`, whose hash is `hash`.
    pub fn find(&self, name: &str, hash: u64) -> Option<u32> {
        self.index.find(hash, |key| &*self.things[*key as usize].0 == name).copied()
    }

    /// Adds one.
    pub fn add(&mut self, name: Name, hash: u64, thing: T) -> u32 {
        let key = self.things.insert((name, thing)) as u32;
        let (things, hasher) = (&self.things, self.hasher);
        self.index.insert_unique(hash, key, |key| hasher.hash(&things[*key as usize].0));
        key
    }

    /// Takes one out.
    pub fn remove(&mut self, key: u32) {
        let (name, _) = self.things.remove(key as usize);
        if let Ok(entry) = self.index.find_entry(self.hasher.hash(&name), |other| *other == key) {
            entry.remove();
        }
    }

    /// The name of one.
    pub fn name(&self, key: u32) -> &Name {
        &self.things[key as usize].0
    }

    /// One of them.
    pub fn get(&self, key: u32) -> &T {
        &self.things[key as usize].1
    }

    /// One of them.
    pub fn get_mut(&mut self, key: u32) -> &mut T {
        &mut self.things[key as usize].1
    }

    /// Their numbers.
    pub fn keys(&self) -> impl Iterator<Item = u32> + '_ {
        self.things.iter().map(|(key, _)| key as u32)
    }
}

/// A member in its place: its slot, and whether it wants presence.
#[derive(Clone, Copy, Debug)]
pub struct Member(u32);

impl Member {
    /// The member in `slot`.
    pub fn new(slot: usize, notify: bool) -> Member {
        Member((slot as u32) << 1 | u32::from(notify))
    }

    /// Its slot.
    pub fn slot(self) -> usize {
        (self.0 >> 1) as usize
    }

    /// Whether it wants presence.
    pub fn notify(self) -> bool {
        self.0 & 1 == 1
    }
}

/// A room that has members on this core.
#[derive(Debug)]
pub struct Room {
    /// The core that orders it.
    pub home: ShardId,
    /// Its members.
    pub members: Vec<Member>,
    /// Members that the home has not let in.
    pub joining: u32,
}

impl Room {
    /// A room without members.
    pub fn new(home: ShardId) -> Room {
        Room { home, members: Vec::new(), joining: 0 }
    }

    /// Adds a member; returns its place.
    pub fn enter(&mut self, conn: ConnId, notify: bool) -> u32 {
        self.members.push(Member::new(conn.slot(), notify));
        self.members.len() as u32 - 1
    }

    /// Takes a member out. Returns the slot of the one that stands in its place now, if any.
    pub fn vacate(&mut self, place: u32) -> Option<usize> {
        self.members.swap_remove(place as usize);
        self.members.get(place as usize).map(|moved| moved.slot())
    }

    /// Whether nobody has anything to do with it.
    pub fn is_unused(&self) -> bool {
        self.members.is_empty() && self.joining == 0
    }
}

/// The rooms that have members on this core.
pub type Rooms = Named<Room>;
/// The rooms whose home this core is.
pub type Homes = Named<Home>;
/// A room in its home's table.
pub type HomeKey = RoomKey;

/// A room at its home.
#[derive(Debug)]
pub struct Home {
    /// The life of its history.
    pub epoch: Epoch,
    /// Its last message.
    pub seq: Seq,
    /// What it said in this turn.
    pub open: Option<Box<Batch>>,
    /// Cores that have members, and how many.
    pub links: Vec<(ShardId, u32)>,
    /// Its users and how many sessions each has in it.
    pub roster: HashMap<Name, u32>,
    /// A total is owed to its members.
    pub owes_total: bool,
    /// When it was last spoken in or left.
    pub last_active: Mono,
}

impl Home {
    /// A room that nobody has spoken in.
    pub fn new(epoch: Epoch, now: Now) -> Home {
        Home {
            epoch,
            seq: Seq(0),
            open: None,
            links: Vec::new(),
            roster: HashMap::new(),
            owes_total: false,
            last_active: now.mono,
        }
    }

    /// The batch of this turn, made if there is none.
    pub fn batch(&mut self, room: &Name, hash: u64) -> &mut Batch {
        self.open.get_or_insert_with(|| {
            let frames = Frames::default();
            Box::new(Batch { room: room.clone(), hash, frames, authors: Vec::new() })
        })
    }

    /// A member of `shard` came in; returns whether it is its user's first.
    pub fn enter(&mut self, shard: ShardId, user: &Name) -> bool {
        match self.links.iter_mut().find(|(linked, _)| *linked == shard) {
            Some((_, members)) => *members += 1,
            None => self.links.push((shard, 1)),
        }
        let sessions = self.roster.entry(user.clone()).or_default();
        *sessions += 1;
        *sessions == 1
    }

    /// A session of `user` went out; returns whether it was the last.
    pub fn leave(&mut self, user: &Name) -> bool {
        let sessions = self.roster.get_mut(user).expect("who leaves was there");
        *sessions -= 1;
        let gone = *sessions == 0;
        if gone {
            self.roster.remove(user);
        }
        gone
    }

    /// A member of `shard` is gone.
    pub fn unlink(&mut self, shard: ShardId) {
        let index = self.links.iter().position(|(linked, _)| *linked == shard);
        let index = index.expect("who leaves was there");
        self.links[index].1 -= 1;
        if self.links[index].1 == 0 {
            self.links.swap_remove(index);
        }
    }

    /// How many users there are.
    pub fn total(&self) -> u32 {
        self.roster.len() as u32
    }

    /// The names of as many as fit.
    pub fn names(&self, bytes_max: usize) -> Box<[u8]> {
        let mut names = Vec::new();
        for user in self.roster.keys().take(ROSTER_MAX) {
            if names.len() + 1 + user.len() > bytes_max {
                break;
            }
            Names::push(&mut names, user);
        }
        names.into_boxed_slice()
    }
}
