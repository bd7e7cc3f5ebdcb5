//! All that clients were told, by several servers one after the other.
//!
//! Owns what must never be contradicted: which message stands at a place, what was acknowledged,
//! and what users have acknowledged in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Epoch and sequence number.
pub(crate) type Place = (u32, u64);

/// What HISTORY told of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The room's epoch.
    pub(crate) epoch: u32,
    /// Its last place.
    pub(crate) seq: u64,
    /// What is kept.
    pub(crate) messages: Vec<(Place, Vec<u8>)>,
}

#[derive(Default)]
struct Book {
    /// What stood at each place, whoever saw it.
    places: BTreeMap<(String, Place), Vec<u8>>,
    /// What publishers were told the place of.
    acknowledged: BTreeMap<(String, Place), Vec<u8>>,
    /// Messages that were queued, by user: number and body.
    queued: BTreeMap<String, BTreeMap<u64, Vec<u8>>>,
    /// What each user has acknowledged.
    acked: BTreeMap<String, u64>,
    epochs: BTreeMap<String, BTreeSet<u32>>,
}

/// The book of it, written by many threads.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Book>);

impl Ledger {
    /// Somebody saw `body` at a place.
    pub(crate) fn saw(&self, room: &str, place: Place, body: &[u8]) {
        let mut book = self.0.lock().unwrap();
        let earlier = book.places.insert((room.to_owned(), place), body.to_vec());
        assert!(earlier.is_none_or(|earlier| earlier == body), "{room} {place:?} names two");
        book.epochs.entry(room.to_owned()).or_default().insert(place.0);
    }

    /// A publisher was told the place of its message.
    pub(crate) fn acknowledge(&self, room: &str, place: Place, body: &[u8]) {
        self.saw(room, place, body);
        self.0.lock().unwrap().acknowledged.insert((room.to_owned(), place), body.to_vec());
    }

    /// A sender was told that its message is queued for `user`.
    pub(crate) fn queue(&self, user: &str, id: u64, body: &[u8]) {
        let mut book = self.0.lock().unwrap();
        let queue = book.queued.entry(user.to_owned()).or_default();
        assert!(queue.insert(id, body.to_vec()).is_none(), "{user}'s {id} names two messages");
    }

    /// How many promises were given.
    pub(crate) fn acknowledged(&self) -> usize {
        let book = self.0.lock().unwrap();
        book.acknowledged.len() + book.queued.values().map(BTreeMap::len).sum::<usize>()
    }

    /// A room says this of itself. Where it `remembers`, all that was acknowledged is in it, and it
    /// goes on in its epoch.
    pub(crate) fn check_history(&self, room: &str, said: &Said, remembers: bool) {
        for (place, body) in &said.messages {
            self.saw(room, *place, body);
        }
        for pair in said.messages.windows(2) {
            let ((epoch, seq), (next_epoch, next)) = (pair[0].0, pair[1].0);
            assert!(next_epoch != epoch || next == seq + 1, "{room}: a hole behind {seq}");
        }
        let book = self.0.lock().unwrap();
        let kept: BTreeMap<Place, &Vec<u8>> =
            said.messages.iter().map(|(place, body)| (*place, body)).collect();
        if !remembers {
            let seen = book.epochs.get(room).is_some_and(|epochs| epochs.contains(&said.epoch));
            let told = kept.keys().any(|(epoch, _)| *epoch == said.epoch);
            assert!(!seen || told || said.seq == 0, "{room} goes on in {}", said.epoch);
            assert_eq!(said.seq, 0, "{room}: a new epoch");
            return;
        }
        for ((_, place), body) in book.acknowledged.iter().filter(|((of, _), _)| of == room) {
            assert_eq!(kept.get(place), Some(&body), "{room} lost {place:?}");
            assert_eq!(place.0, said.epoch, "{room} began another epoch");
        }
        let mut bodies: Vec<&Vec<u8>> = kept.values().copied().collect();
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), kept.len(), "{room}: a message stands at two places");
    }

    /// `user` came and was told these messages. Notes that it acknowledges all up to `ack`.
    pub(crate) fn check_directs(&self, user: &str, told: &[(u64, Vec<u8>)], ack: u64) {
        let mut book = self.0.lock().unwrap();
        let acked = book.acked.get(user).copied().unwrap_or(0);
        assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0), "{user}: out of order");
        assert!(told.iter().all(|(id, _)| *id > acked), "{user}: what was ACKed came again");
        let told: BTreeMap<u64, &Vec<u8>> = told.iter().map(|(id, body)| (*id, body)).collect();
        let queued = book.queued.get(user).cloned().unwrap_or_default();
        for (id, body) in queued.range(acked + 1..) {
            assert_eq!(told.get(id), Some(&body), "{user}'s {id} was lost");
        }
        book.acked.insert(user.to_owned(), ack.max(acked));
    }
}
