//! What one thread knows of its rooms' messages.
//!
//! Owns the check of every body, and that all members of a room hear the same message under the
//! same number. Never knows a connection: whether a member heard all is [`Peer`]'s to say. Pure.
//! A driver asks for every delivery.
//!
//! A room's last few bodies are kept, because a message reaches many members one after the other:
//! a copy that equals a body already checked needs no second checksum.
//!
//! [`Peer`]: super::peer::Peer

use super::body::{BodyFault, Stamp};
use super::violation::Violation;

/// Bodies kept of each room, unless more are in flight at a time.
const KEPT: usize = 8;
/// The index before a publisher's first one.
const UNHEARD: u32 = u32::MAX;

/// One message of a room.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// Its number; 0 for an empty entry, since messages are counted from 1.
    seq: u32,
    stamp: Stamp,
    body: Vec<u8>,
}

/// The last messages of one room.
#[derive(Clone, Debug, Default)]
struct RoomLog {
    newest: u32,
    /// Empty until the room's first message. The entry of a number is found by its low bits.
    entries: Box<[Entry]>,
}

/// All rooms as one thread heard them.
#[derive(Debug)]
pub struct Ledger {
    run: u32,
    rooms: Vec<RoomLog>,
    kept: usize,
    /// The last index heard of each publisher.
    indexes: Vec<u32>,
}

impl Ledger {
    /// A ledger of `rooms` rooms with `publishers` publishers, of whom `in_flight` messages may be
    /// on their way at a time.
    pub fn new(run: u32, rooms: u32, publishers: u32, in_flight: u32) -> Ledger {
        Ledger {
            run,
            rooms: vec![RoomLog::default(); rooms as usize],
            kept: KEPT.max(2 * in_flight as usize).next_power_of_two(),
            indexes: vec![UNHEARD; publishers as usize],
        }
    }

    /// A message of `room` with its number, as one member heard it. Gives back the number (which
    /// of a dialect without numbers the body tells) and what the body says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn message(
        &mut self,
        room: u32,
        seq: Option<u32>,
        body: &[u8],
    ) -> Result<(u32, Stamp), Violation> {
        let Some(seq) = seq else {
            let stamp = self.read(room, body)?;
            return Ok((stamp.index + 1, stamp));
        };
        let slot = seq as usize & (self.kept - 1);
        if let Some(entry) = self.rooms[room as usize].entries.get(slot)
            && entry.seq == seq
        {
            return match entry.body == body {
                true => Ok((seq, entry.stamp)),
                // A whole body of another message means that two members disagree on the order.
                false => self.read(room, body).and(Err(Violation::Order)),
            };
        }
        let stamp = self.read(room, body)?;
        self.keep(room, seq, stamp, body)?;
        Ok((seq, stamp))
    }

    fn read(&self, room: u32, body: &[u8]) -> Result<Stamp, Violation> {
        let stamp = Stamp::read(body, self.run).map_err(|fault| match fault {
            BodyFault::Corrupt => Violation::Corrupt,
            BodyFault::Foreign => Violation::Foreign,
        })?;
        let known = (stamp.publisher as usize) < self.indexes.len();
        if !known || stamp.publisher % self.rooms.len() as u32 != room {
            return Err(Violation::Foreign);
        }
        Ok(stamp)
    }

    /// Keeps a message heard for the first time on this thread. What one publisher said must come
    /// in the order in which it was said.
    fn keep(&mut self, room: u32, seq: u32, stamp: Stamp, body: &[u8]) -> Result<(), Violation> {
        let log = &mut self.rooms[room as usize];
        if log.entries.is_empty() {
            log.entries = vec![Entry::default(); self.kept].into();
        }
        if seq < log.newest {
            // A member far behind the others: the body was good, and is not kept any more.
            return Ok(());
        }
        log.newest = seq;
        let entry = &mut log.entries[seq as usize & (self.kept - 1)];
        (entry.seq, entry.stamp) = (seq, stamp);
        entry.body.clear();
        entry.body.extend_from_slice(body);
        let last = &mut self.indexes[stamp.publisher as usize];
        let in_order = *last == UNHEARD || stamp.index > *last;
        *last = stamp.index;
        if in_order { Ok(()) } else { Err(Violation::Order) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(run: u32, publisher: u32, index: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Stamp { run, publisher, index, planned_us: 5 }.write(&mut out, 64);
        out
    }

    fn ledger() -> Ledger {
        Ledger::new(9, 2, 4, 1)
    }

    #[test]
    fn members_that_hear_the_same_are_content() {
        let mut ledger = ledger();
        for seq in 1..100 {
            let body = body(9, 0, seq - 1);
            for _ in 0..3 {
                let (number, stamp) = ledger.message(0, Some(seq), &body).unwrap();
                assert_eq!((number, stamp.index), (seq, seq - 1));
            }
        }
        let old = body(9, 0, 0);
        assert!(ledger.message(0, Some(1), &old).is_ok(), "somebody far behind");
    }

    #[test]
    fn members_that_hear_different_messages_under_one_number_are_noticed() {
        let mut ledger = ledger();
        ledger.message(0, Some(1), &body(9, 0, 0)).unwrap();
        assert_eq!(ledger.message(0, Some(1), &body(9, 2, 0)), Err(Violation::Order));
    }

    #[test]
    fn a_publishers_words_keep_their_order() {
        let mut ledger = ledger();
        ledger.message(0, Some(1), &body(9, 0, 1)).unwrap();
        assert_eq!(ledger.message(0, Some(2), &body(9, 0, 0)), Err(Violation::Order));
        assert_eq!(ledger.message(0, Some(3), &body(9, 0, 0)), Err(Violation::Order), "twice");
    }

    #[test]
    fn a_changed_body_is_noticed_first_and_second_hand() {
        let mut ledger = ledger();
        let whole = body(9, 0, 0);
        let mut changed = whole.clone();
        changed[60] ^= 1;
        assert_eq!(ledger.message(0, Some(1), &changed), Err(Violation::Corrupt));
        ledger.message(0, Some(1), &whole).unwrap();
        assert_eq!(ledger.message(0, Some(1), &changed), Err(Violation::Corrupt));
    }

    #[test]
    fn what_belongs_elsewhere_is_foreign() {
        let mut ledger = ledger();
        assert_eq!(ledger.message(1, Some(1), &body(9, 0, 0)), Err(Violation::Foreign), "room");
        assert_eq!(ledger.message(0, Some(1), &body(8, 0, 0)), Err(Violation::Foreign), "run");
        assert_eq!(ledger.message(0, Some(1), &body(9, 4, 0)), Err(Violation::Foreign), "nobody");
    }

    #[test]
    fn where_messages_have_no_number_the_body_tells() {
        let mut ledger = ledger();
        assert_eq!(ledger.message(1, None, &body(9, 1, 6)).unwrap().0, 7);
    }
}
