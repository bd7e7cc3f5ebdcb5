//! What is due after a fixed time.
//!
//! Owns four lists: handshakes, totals that crowded rooms owe, rooms that may be forgotten, and
//! rooms with a history that grows old. Never acts: the shard's timers
//! ([`timers`](super::timers)) do. What is added to one list is
//! always due the same time later, so each is a queue in the order of its times, and costs less
//! than the wheel: a handshake is nearly always over long before it is due, and leaves no stale
//! entry behind.

use std::collections::VecDeque;

use crate::base::ids::ConnId;
use crate::base::time::Mono;

use super::home::HomeKey;

/// Something that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// The time for a hello is over.
    Handshake {
        /// Whose.
        conn: ConnId,
        /// When the connection was opened.
        opened: Mono,
    },
    /// A crowded room owes its members a total.
    Total(HomeKey),
    /// A room without members may be forgotten.
    IdleRoom(HomeKey),
    /// A room's history may have grown old.
    History {
        /// The room, which may be gone.
        key: HomeKey,
        /// The entry that is meant.
        listing: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Handshake {
    conn: ConnId,
    opened: Mono,
    due: Mono,
}

/// Capacity that a trim leaves to an empty list.
const KEPT: usize = 64;

#[derive(Clone, Copy, Debug)]
struct ListedHistory {
    key: HomeKey,
    listing: u32,
    listed_at: Mono,
    due: Mono,
}

/// The four lists.
#[derive(Debug, Default)]
pub struct Agenda {
    handshakes: VecDeque<Handshake>,
    totals: VecDeque<(Mono, HomeKey)>,
    idle_rooms: VecDeque<(Mono, HomeKey)>,
    histories: VecDeque<ListedHistory>,
}

impl Agenda {
    /// A connection was opened; its hello is due at `due`.
    pub fn await_hello(&mut self, conn: ConnId, opened: Mono, due: Mono) {
        self.handshakes.push_back(Handshake { conn, opened, due });
    }

    /// A room owes its total, to be told at `due`.
    pub fn owe_total(&mut self, key: HomeKey, due: Mono) {
        self.totals.push_back((due, key));
    }

    /// A room has no members, and may be forgotten at `due`.
    pub fn note_idle_room(&mut self, key: HomeKey, due: Mono) {
        self.idle_rooms.push_back((due, key));
    }

    /// The room that may be forgotten first, taken from the list.
    pub fn pop_idle_room(&mut self) -> Option<HomeKey> {
        self.idle_rooms.pop_front().map(|(_, key)| key)
    }

    /// A room has a history, to be looked at at `due`.
    pub fn note_history(&mut self, key: HomeKey, listing: u32, listed_at: Mono, due: Mono) {
        self.histories.push_back(ListedHistory { key, listing, listed_at, due });
    }

    /// The room with a history that was not looked at for longest, taken from the list, its entry
    /// there, and when that was made.
    pub fn pop_history(&mut self) -> Option<(HomeKey, u32, Mono)> {
        let listed = self.histories.pop_front()?;
        Some((listed.key, listed.listing, listed.listed_at))
    }

    /// Whose handshake is the oldest.
    pub fn first_handshake(&self) -> Option<ConnId> {
        self.handshakes.front().map(|handshake| handshake.conn)
    }

    /// Forgets the oldest handshake.
    pub fn drop_first_handshake(&mut self) {
        self.handshakes.pop_front();
    }

    /// When the first item is due.
    pub fn next(&self) -> Option<Mono> {
        let handshake = self.handshakes.front().map(|handshake| handshake.due);
        let total = self.totals.front().map(|(due, _)| *due);
        let idle = self.idle_rooms.front().map(|(due, _)| *due);
        let history = self.histories.front().map(|listed| listed.due);
        [handshake, total, idle, history].into_iter().flatten().min()
    }

    /// The next item that is due.
    pub fn pop_due(&mut self, now: Mono) -> Option<Item> {
        if let Some(handshake) = self.handshakes.pop_front_if(|first| first.due <= now) {
            let Handshake { conn, opened, .. } = handshake;
            return Some(Item::Handshake { conn, opened });
        }
        if let Some((_, key)) = self.totals.pop_front_if(|(due, _)| *due <= now) {
            return Some(Item::Total(key));
        }
        if let Some((_, key)) = self.idle_rooms.pop_front_if(|(due, _)| *due <= now) {
            return Some(Item::IdleRoom(key));
        }
        let listed = self.histories.pop_front_if(|first| first.due <= now)?;
        Some(Item::History { key: listed.key, listing: listed.listing })
    }

    /// Gives back the memory that a burst of connections left.
    pub fn trim(&mut self) {
        if self.handshakes.is_empty() {
            self.handshakes.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_when_they_are_due_and_not_before() {
        let mut agenda = Agenda::default();
        let conn = |slot| ConnId::new(slot, 0);
        agenda.await_hello(conn(1), Mono(0), Mono(10));
        agenda.await_hello(conn(2), Mono(5), Mono(15));
        assert_eq!(agenda.next(), Some(Mono(10)));
        assert_eq!(agenda.pop_due(Mono(9)), None);
        let first = Item::Handshake { conn: conn(1), opened: Mono(0) };
        assert_eq!(agenda.pop_due(Mono(12)), Some(first));
        assert_eq!(agenda.pop_due(Mono(12)), None);
        assert_eq!(agenda.first_handshake(), Some(conn(2)));
        agenda.drop_first_handshake();
        assert_eq!(agenda.next(), None);
    }
}
