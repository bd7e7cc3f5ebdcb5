//! What a shard has asked the store to write, and what waits until it is written.
//!
//! Owns the numbering of records, those that were not handed over yet, and, in the same order, what
//! is to be done once each is written ([`Held`]). Never writes and never acts: the worker takes
//! records out and brings watermarks back, and the shard ([`storing`](super::storing)) does what
//! was held. A shard without a store has no journal.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::ids::{Address, Epoch, Ref, Seq};
use crate::base::limits::{PENDING_BEFORE_LIVE_REFUSED, RECORD_BYTES_PENDING, RECORDS_PENDING_MAX};
use crate::base::name::Name;

use super::batch::Batch;
use super::home::HomeKey;
use super::record::{Durability, Record, RecordId, StoreNumbers, Ticket};

/// A publisher that waits for the place of its message.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The publisher.
    pub origin: Address,
    /// The request's number.
    pub reference: Ref,
    /// The message's place.
    pub seq: Seq,
}

/// What a room has in the store, and on the way there.
#[derive(Debug, Default)]
pub struct RoomRecords {
    /// Messages that have a place and are not written: nobody has heard of them.
    pub unwritten: u32,
    /// Records on their way to the store.
    pub in_flight: u32,
    /// Publishers of the open batch.
    pub answers: Vec<Answer>,
    /// The records of its messages, in their order.
    pub messages: VecDeque<StoredMessages>,
    /// Whether its last place has a record of its own.
    pub has_head: bool,
}

/// A record of messages: its number, and the last message in it.
#[derive(Clone, Copy, Debug)]
pub struct StoredMessages {
    /// By which it is struck.
    pub id: RecordId,
    /// The epoch.
    pub epoch: Epoch,
    /// The last message.
    pub last: Seq,
}

/// A direct message whose sender waits until it is written.
#[derive(Clone, Copy, Debug)]
pub struct QueuedDirect {
    /// The message's number.
    pub id: u64,
    /// The sender, and the request's number.
    pub asked: (Address, Ref),
    /// The user was not there; else it is behind others that the user has yet to be told.
    pub is_offline: bool,
}

/// What is done once a record is written, or when it could not be.
#[derive(Debug)]
pub enum Held {
    /// Messages of a room: they are delivered, and their publishers told their places.
    Batch {
        /// The room.
        key: HomeKey,
        /// The record.
        id: RecordId,
        /// The messages.
        batch: Arc<Batch>,
        /// Who waits.
        answers: Vec<Answer>,
    },
    /// Messages that were delivered without waiting. If they could not be written, the room begins
    /// another epoch.
    Told {
        /// The room.
        key: HomeKey,
        /// The epoch that ends if they could not be.
        epoch: Epoch,
    },
    /// A message that is queued for a user: its sender is told, and then its user.
    Direct {
        /// The user.
        user: Name,
        /// The message.
        queued: QueuedDirect,
    },
    /// Nobody waits. If it could not be written, it is tried again.
    Again(Record),
}

/// Whether the store takes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// As far as is known.
    Sound,
    /// The last write failed. What must be repeated is tried again; until that succeeds, requests
    /// that have to be written are refused.
    Failing,
    /// There is no store any more, and nobody to take what is pushed: it is not kept.
    Gone,
}

/// One shard's side of the store. See the [module](self).
#[derive(Debug)]
pub struct Journal {
    durability: Durability,
    health: Health,
    /// Counts failures. The store drops what was handed over before it told of one.
    generation: u32,
    next_ticket: Ticket,
    next_record: RecordId,
    outgoing: VecDeque<Record>,
    /// The record that `outgoing` begins with.
    first_outgoing: Ticket,
    held: VecDeque<Held>,
    /// The record that `held` begins with.
    first_held: Ticket,
    /// Bytes of the records that are not known to be written, by the size of each.
    sizes: VecDeque<u32>,
    bytes: usize,
    spare_answers: Vec<Vec<Answer>>,
    numbers: StoreNumbers,
}

/// Lists of answers that are kept for reuse.
const SPARE_ANSWERS: usize = 64;
/// Longest list of answers that is kept.
const SPARE_ANSWERS_LEN: usize = 256;

impl Journal {
    /// An empty journal.
    pub fn new(durability: Durability) -> Journal {
        Journal {
            durability,
            health: Health::Sound,
            generation: 0,
            next_ticket: Ticket(1),
            next_record: RecordId(1),
            outgoing: VecDeque::new(),
            first_outgoing: Ticket(1),
            held: VecDeque::new(),
            first_held: Ticket(1),
            sizes: VecDeque::new(),
            bytes: 0,
            spare_answers: Vec::new(),
            numbers: StoreNumbers::default(),
        }
    }

    /// Record numbers begin here.
    pub fn begin_records_at(&mut self, next: RecordId) {
        self.next_record = self.next_record.max(next);
    }

    /// When requests are answered that have to be written.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// A number for a new record.
    pub fn take_record_id(&mut self) -> RecordId {
        let id = self.next_record;
        self.next_record = id.next();
        id
    }

    /// Hands a record to the store, and remembers what is to be done once it is written.
    pub fn push(&mut self, record: Record, held: Held) {
        if self.health == Health::Gone {
            debug_assert!(matches!(held, Held::Again(_)), "such requests are refused");
            return;
        }
        let bytes = record.bytes();
        self.bytes += bytes;
        self.sizes.push_back(u32::try_from(bytes).expect("a record is far below 4 GiB"));
        self.outgoing.push_back(record);
        self.held.push_back(held);
        self.next_ticket = Ticket(self.next_ticket.0 + 1);
    }

    /// Hands over a record that nobody waits for.
    pub fn push_unawaited(&mut self, record: Record) {
        self.push(record.clone(), Held::Again(record));
    }

    /// Does the same with changes of users' queues that could not be written, but for those that
    /// later ones make void. A message that was struck is struck all the same: some of what could
    /// not be written may have reached the disk.
    pub fn push_again(&mut self, changes: Vec<Record>) {
        let (mut struck, mut told) = (BTreeSet::new(), BTreeSet::new());
        let mut valid = Vec::new();
        for record in changes.into_iter().rev() {
            let is_valid = match &record {
                Record::StrikeDirect { user, id } => struck.insert((user.clone(), *id)),
                Record::Direct { user, direct } => !struck.contains(&(user.clone(), direct.id())),
                Record::Missing { user, .. } => told.insert(user.clone()),
                _ => true,
            };
            if is_valid {
                valid.push(record);
            }
        }
        valid.into_iter().rev().for_each(|record| self.push_unawaited(record));
    }

    /// The next record to hand over.
    pub fn pop_outgoing(&mut self) -> Option<(Ticket, Record)> {
        let record = self.outgoing.pop_front()?;
        let ticket = self.first_outgoing;
        self.first_outgoing = Ticket(ticket.0 + 1);
        Some((ticket, record))
    }

    /// Which failures the store knows that this shard has heard of.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether a request that has to be written is refused: the store fails, or is too far behind.
    pub fn refuses(&self) -> bool {
        self.is_failing() || self.is_behind(1)
    }

    /// Whether also such is refused that need not be written now, and may have to be later.
    pub fn refuses_live(&self) -> bool {
        self.is_behind(PENDING_BEFORE_LIVE_REFUSED)
    }

    fn is_behind(&self, times: usize) -> bool {
        self.bytes >= times * RECORD_BYTES_PENDING || self.held.len() >= times * RECORDS_PENDING_MAX
    }

    /// Whether the last write failed, or there is no store any more.
    pub fn is_failing(&self) -> bool {
        self.health != Health::Sound
    }

    /// Records that are not known to be written.
    pub fn pending(&self) -> usize {
        self.held.len()
    }

    /// All records up to `through` are written.
    pub fn note_written(&mut self, numbers: StoreNumbers) {
        self.health = Health::Sound;
        self.numbers = numbers;
    }

    /// What was held for the next record up to `through`.
    pub fn pop_written(&mut self, through: Ticket) -> Option<Held> {
        if self.first_held > through {
            return None;
        }
        debug_assert!(through < self.first_outgoing, "what was not handed over is not written");
        let held = self.held.pop_front().expect("the store knows only tickets that were given");
        self.first_held = Ticket(self.first_held.0 + 1);
        self.bytes -= self.sizes.pop_front().expect("each record has a size") as usize;
        Some(held)
    }

    /// Nothing that is not known to be written will be. Returns what was held for it.
    pub fn fail(&mut self, numbers: StoreNumbers) -> VecDeque<Held> {
        self.health = Health::Failing;
        self.numbers = numbers;
        self.generation += 1;
        self.outgoing.clear();
        self.sizes.clear();
        self.bytes = 0;
        self.first_outgoing = self.next_ticket;
        self.first_held = self.next_ticket;
        std::mem::take(&mut self.held)
    }

    /// There is no store any more. Nothing is kept for it from here on.
    pub fn give_up(&mut self) {
        self.fail(self.numbers);
        self.health = Health::Gone;
    }

    /// What the store has done, as it told last.
    pub fn numbers(&self) -> StoreNumbers {
        self.numbers
    }

    /// An empty list of answers.
    pub fn spare_answers(&mut self) -> Vec<Answer> {
        self.spare_answers.pop().unwrap_or_default()
    }

    /// Takes a list of answers back.
    pub fn release_answers(&mut self, mut answers: Vec<Answer>) {
        answers.clear();
        if self.spare_answers.len() < SPARE_ANSWERS && answers.capacity() <= SPARE_ANSWERS_LEN {
            self.spare_answers.push(answers);
        }
    }

    /// Gives back the memory of a burst.
    pub fn trim(&mut self) {
        if self.held.is_empty() {
            self.held.shrink_to(SPARE_ANSWERS_LEN);
            self.sizes.shrink_to(SPARE_ANSWERS_LEN);
            self.outgoing.shrink_to(SPARE_ANSWERS_LEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::direct::Direct;
    use crate::chat::reader::Missing;

    #[test]
    fn what_is_repeated_is_what_later_changes_left() {
        let mut journal = Journal::new(Durability::Sync);
        let user = Name::new("bob");
        let queued =
            |id| Record::Direct { user: user.clone(), direct: Direct::new(id, 0, "ann", b"psst") };
        let struck = |id| Record::StrikeDirect { user: user.clone(), id };
        let missing = |id: Option<u64>| Record::Missing {
            user: user.clone(),
            missing: id.map(|id| Missing { from: id, to: id, count: 1 }),
        };
        let ids = if cfg!(miri) { 30 } else { 1_000 };
        for round in 0..3 {
            for id in 1..=ids {
                for record in [queued(id), struck(id), missing(Some(id))] {
                    journal.push_unawaited(record);
                }
            }
            journal.push_unawaited(queued(2_000 + round));
            journal.push_unawaited(missing(None));
            let mut lost = Vec::new();
            for held in journal.fail(StoreNumbers::default()) {
                let Held::Again(record) = held else { panic!("nobody waits") };
                lost.push(record);
            }
            journal.push_again(lost);
            // The strikes, what was queued and not struck, and what is missing in the end.
            assert_eq!(journal.pending(), ids as usize + round as usize + 1 + 1);
        }
        let mut last = None;
        while let Some((_, record)) = journal.pop_outgoing() {
            last = Some(record);
        }
        assert!(matches!(last, Some(Record::Missing { missing: None, .. })), "{last:?}");
    }

    #[test]
    fn nothing_is_kept_for_a_store_that_is_gone() {
        let mut journal = Journal::new(Durability::Sync);
        let record = Record::StrikeHead { room: Name::new("lobby") };
        journal.push_unawaited(record.clone());
        journal.give_up();
        for _ in 0..10 {
            journal.push_unawaited(record.clone());
        }
        assert_eq!((journal.pending(), journal.pop_outgoing().is_none()), (0, true));
        assert!(journal.refuses() && journal.is_failing());
    }

    #[test]
    #[cfg_attr(miri, ignore = "it fills the whole journal, and takes hours")]
    fn live_messages_are_refused_only_when_far_more_is_pending() {
        let mut journal = Journal::new(Durability::Sync);
        let record = || Record::StrikeHead { room: Name::new("lobby") };
        for _ in 0..RECORDS_PENDING_MAX {
            journal.push_unawaited(record());
        }
        assert!(journal.refuses() && !journal.refuses_live());
        for _ in 0..RECORDS_PENDING_MAX {
            journal.push_unawaited(record());
        }
        assert!(journal.refuses_live());
    }
}
