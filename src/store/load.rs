//! All that is stored, back into rooms and users.
//!
//! Owns the reading at the start. Never decides where a room or a user lives: whoever knows the
//! hash does, through [`Loaded::divide`]. Called once, before the first worker.

use std::collections::BTreeMap;
use std::io;

use super::codec::{Counts, Entry, entry};
use super::engine::Engine;
use crate::base::ids::{Epoch, Seq, ShardId};
use crate::base::name::Name;
use crate::chat::record::{RecordId, Recovered, RecoveredRoom, RecoveredUser};

/// All that is stored.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The rooms.
    pub rooms: Vec<RecoveredRoom>,
    /// The users for whom something waits.
    pub users: Vec<RecoveredUser>,
    /// The store's counts.
    pub counts: Counts,
    /// No record has a number so high.
    pub next_record: RecordId,
    /// What was told last may be missing.
    pub renew_epochs: bool,
    /// Messages of rooms.
    pub messages: u64,
    /// Messages that wait for users.
    pub directs: u64,
}

/// Reads everything.
///
/// # Errors
/// What the disk says, and [`io::ErrorKind::InvalidData`] for what nobody wrote so.
pub fn load(engine: &mut dyn Engine) -> io::Result<Loaded> {
    let mut reading = Reading::default();
    engine.read(&mut |key, value| match entry(key, value) {
        Some(entry) => {
            reading.take(entry);
            true
        }
        None => {
            reading.garbled = true;
            false
        }
    })?;
    let garbled = || io::Error::new(io::ErrorKind::InvalidData, "a record that nobody wrote so");
    reading.finish().ok_or_else(garbled)
}

#[derive(Default)]
struct Reading {
    loaded: Loaded,
    /// By the last places that rooms have given: the number that orders it, epoch and place.
    heads: BTreeMap<Name, (RecordId, Epoch, Seq)>,
    rooms: BTreeMap<Name, RecoveredRoom>,
    users: BTreeMap<Name, RecoveredUser>,
    garbled: bool,
}

impl Reading {
    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Messages(name, messages) => {
                self.loaded.next_record = self.loaded.next_record.max(messages.id.next());
                self.loaded.messages += messages.frames.count() as u64;
                // Keys come in order: the last record of a room is its latest.
                let room = room(&mut self.rooms, name);
                let goes_on = room.epoch != messages.epoch || room.seq.0 + 1 == messages.first.0;
                self.garbled |= !goes_on;
                room.epoch = messages.epoch;
                room.seq = Seq(messages.first.0 + messages.frames.count() as u64 - 1);
                room.messages.push(messages);
            }
            Entry::Head(name, id, epoch, seq) => {
                self.loaded.next_record = self.loaded.next_record.max(id.next());
                self.heads.insert(name, (id, epoch, seq));
            }
            Entry::Direct(name, direct) => {
                self.loaded.directs += 1;
                let next = &mut self.loaded.counts.next_direct;
                *next = (*next).max(direct.id() + 1);
                user(&mut self.users, name).directs.push(direct);
            }
            Entry::Missing(name, missing) => {
                let next = &mut self.loaded.counts.next_direct;
                *next = (*next).max(missing.to + 1);
                user(&mut self.users, name).missing = Some(missing);
            }
            Entry::Counts(counts) => {
                self.loaded.counts.commits = counts.commits;
                let next = &mut self.loaded.counts.next_direct;
                *next = (*next).max(counts.next_direct);
            }
        }
    }

    /// What was read, unless it cannot have been written so.
    fn finish(mut self) -> Option<Loaded> {
        for (name, (id, epoch, seq)) in self.heads {
            let room = room(&mut self.rooms, name);
            room.has_head = true;
            if room.messages.last().is_none_or(|last| last.id < id) {
                // A room that went back would give places a second time.
                self.garbled |= room.epoch == epoch && seq < room.seq;
                (room.epoch, room.seq) = (epoch, seq);
            }
        }
        self.loaded.rooms = self.rooms.into_values().collect();
        self.loaded.users = self.users.into_values().collect();
        (!self.garbled).then_some(self.loaded)
    }
}

fn room(rooms: &mut BTreeMap<Name, RecoveredRoom>, name: Name) -> &mut RecoveredRoom {
    rooms.entry(name.clone()).or_insert_with(|| RecoveredRoom {
        name,
        epoch: Epoch(0),
        seq: Seq(0),
        messages: Vec::new(),
        has_head: false,
    })
}

fn user(users: &mut BTreeMap<Name, RecoveredUser>, name: Name) -> &mut RecoveredUser {
    let empty = |name| RecoveredUser { name, directs: Vec::new(), missing: None };
    users.entry(name.clone()).or_insert_with(|| empty(name))
}

impl Loaded {
    /// The part of each shard, whose number `home` gives for a name.
    pub fn divide(self, shards: u16, home: impl Fn(&Name) -> ShardId) -> Vec<Recovered> {
        let part = || Recovered {
            next_record: self.next_record,
            next_direct: self.counts.next_direct,
            renew_epochs: self.renew_epochs,
            ..Recovered::default()
        };
        let mut parts: Vec<Recovered> = (0..shards).map(|_| part()).collect();
        for room in self.rooms {
            parts[home(&room.name).index()].rooms.push(room);
        }
        for user in self.users {
            parts[home(&user.name).index()].users.push(user);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::batch::Frames;
    use crate::chat::record::RecoveredMessages;

    #[test]
    fn a_room_that_went_back_is_not_read() {
        let read = |seq| {
            let mut reading = Reading::default();
            let mut frames = Frames::default();
            frames.push(|out| out.push(0));
            let (id, epoch, first) = (RecordId(1), Epoch(7), Seq(41));
            let messages = RecoveredMessages { id, epoch, first, frames };
            reading.take(Entry::Messages(Name::new("tea"), messages));
            reading.take(Entry::Head(Name::new("tea"), RecordId(2), epoch, Seq(seq)));
            reading.finish().map(|loaded| loaded.rooms[0].seq)
        };
        assert_eq!(read(41), Some(Seq(41)));
        assert_eq!(read(45), Some(Seq(45)), "what followed was dropped");
        assert_eq!(read(40), None);
    }
}
