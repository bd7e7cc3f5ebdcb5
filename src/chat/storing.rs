//! What a home does where there is a store: nobody hears of a message before it is written.
//!
//! Owns the way of a batch from its closing to the disk and back, what becomes of it when the disk
//! fails, the striking of what is kept no longer, and the recovery at the start. Never writes: the
//! worker takes records out by [`Shard::poll_write`], and tells what became of them by
//! [`Shard::written`] and [`Shard::write_failed`].
//!
//! A failure fails all that is under way from this shard: what was written of it is struck again,
//! its requests are refused, and its rooms begin other epochs, because places of the old ones were
//! given to messages that nobody will hear of.

use std::sync::Arc;

use crate::base::ids::{Epoch, Position, Seq};
use crate::base::name::{EVERYONE, Name};
use crate::base::time::Now;
use crate::wire::message::Event;

use super::batch::{Batch, message_of};
use super::changes::Change;
use super::home::HomeKey;
use super::homes::Said;
use super::journal::{Answer, Held, Journal, QueuedDirect, RoomRecords, StoredMessages};
use super::mail::{Asked, Mail};
use super::record::{
    Durability, Record, RecordId, Recovered, RecoveredMessages, RecoveredRoom, RecoveredUser,
    StoreNumbers, Ticket,
};
use super::shard::Shard;

/// Why something is not done when the disk fails.
pub(super) const NOT_STORED: &str = "the storage fails";
/// Why something is not done while the disk is behind.
const BEHIND: &str = "overloaded: the storage is behind";

impl Shard {
    /// The next record to hand to the store, with its number. Call until `None`.
    pub fn poll_write(&mut self) -> Option<(Ticket, Record)> {
        self.journal.as_ref()?;
        self.store_changes(None);
        self.journal_mut().pop_outgoing()
    }

    /// There is no store any more: what waits for it is refused, and what will have to be written.
    pub fn store_gone(&mut self, now: Now) {
        self.write_failed(StoreNumbers::default(), now);
        self.inboxes.ignore_changes();
        if let Some(journal) = self.journal.as_mut() {
            journal.give_up();
        }
    }

    /// How many failures of the store this shard has heard of. To be told with each record: the
    /// store drops what was handed to it before that.
    pub fn store_generation(&self) -> u32 {
        self.journal.as_ref().map_or(0, |journal| journal.generation())
    }

    /// Records that are not known to be written.
    pub fn unwritten(&self) -> usize {
        self.journal.as_ref().map_or(0, |journal| journal.pending())
    }

    /// All records up to `through` are written.
    pub fn written(&mut self, through: Ticket, numbers: StoreNumbers, now: Now) {
        let Some(journal) = self.journal.as_mut() else { return };
        journal.note_written(numbers);
        while let Some(held) = self.journal.as_mut().and_then(|j| j.pop_written(through)) {
            self.counters.stored += 1;
            match held {
                Held::Batch { key, id, batch, answers } => {
                    self.batch_written(key, id, batch, answers, now);
                }
                Held::Told { key, .. } => self.landed(key),
                Held::Direct { user, queued: QueuedDirect { id, asked, is_offline } } => {
                    self.answer_direct(asked, id, is_offline.then(|| user.clone()), now);
                    if let Some(key) = self.inboxes.find(&user) {
                        self.inboxes.change(key, now, |inbox, _| inbox.note_written(id));
                    }
                    self.go_on_behind_write(&user, now);
                }
                Held::Again(_) => {}
            }
        }
    }

    /// Nothing that is under way from this shard has been or will be written.
    pub fn write_failed(&mut self, numbers: StoreNumbers, now: Now) {
        if self.journal.is_none() {
            return;
        }
        // Open batches hold places behind those that are lost.
        self.close_batches();
        let (mut strikes, mut changes) = (Vec::new(), Vec::new());
        for held in self.journal_mut().fail(numbers) {
            self.counters.store_failures += 1;
            match held {
                Held::Batch { key, id, batch, answers } => {
                    // Some of it may have reached the disk.
                    strikes.push(Record::StrikeMessages { room: batch.room.clone(), id });
                    self.batch_failed(key, batch, answers, now);
                }
                Held::Told { key, epoch } => {
                    self.landed(key);
                    self.end_epoch(key, epoch);
                }
                Held::Direct { user, queued } => {
                    let (origin, reference) = queued.asked;
                    self.take_back_direct(&user, queued.id, now);
                    self.refuse_direct(origin, reference, NOT_STORED, now);
                    self.go_on_behind_write(&user, now);
                }
                Held::Again(
                    record @ (Record::Direct { .. }
                    | Record::StrikeDirect { .. }
                    | Record::Missing { .. }),
                ) => changes.push(record),
                Held::Again(record) => self.journal_mut().push_unawaited(record),
            }
        }
        self.journal_mut().push_again(changes);
        // The last ones first: a crash in between must not leave a hole in a room.
        for strike in strikes.into_iter().rev() {
            self.journal_mut().push_unawaited(strike);
        }
    }

    fn journal_mut(&mut self) -> &mut Journal {
        self.journal.as_mut().expect("only where there is a store")
    }

    /// Why nothing that has to be written is done at present.
    pub(super) fn refuses_to_write(&self) -> Option<&'static str> {
        let journal = self.journal.as_ref()?;
        match journal.refuses() {
            false => None,
            true if journal.is_failing() => Some(NOT_STORED),
            true => Some(BEHIND),
        }
    }

    /// Why not even a direct message is told to a user who is there: it may have to be written when
    /// it is not acknowledged.
    pub(super) fn refuses_live_directs(&self) -> Option<&'static str> {
        self.journal.as_ref().filter(|journal| journal.refuses_live()).map(|_| BEHIND)
    }

    /// Gives a message its place and puts it into the room's batch, which is to be written. It is
    /// kept and its publisher answered then, or at once where nothing waits for the disk.
    #[inline(never)]
    pub(super) fn home_publish_stored(&mut self, room: &str, hash: u64, said: &Said<'_>, now: Now) {
        if let Some(reason) = self.refuses_to_write() {
            return self.refuse_for_home(said.origin, said.reference, Asked::Publish, reason, now);
        }
        let Some(key) = self.home_of_message(room, hash, said, now) else { return };
        let home = self.homes.get(key);
        let at = Position { epoch: home.epoch, seq: home.seq };
        self.add_to_batch(key, said, now);
        if self.waits_for_write(key, said) {
            return;
        }
        if self.homes.get(key).keeps {
            self.keep(key, said, now);
            self.trim_records(key);
        }
        self.list_if_idle(key, now);
        self.answer_publish(said, at, now);
    }

    /// Notes who waits for a message of the open batch. False where nobody does, because answers
    /// are given at once.
    fn waits_for_write(&mut self, key: HomeKey, said: &Said<'_>) -> bool {
        if self.journal_mut().durability() == Durability::None {
            return false;
        }
        let home = self.homes.get_mut(key);
        let seq = home.seq;
        let records = home.records.get_or_insert_default();
        records.unwritten += 1;
        if said.reference.wants_answer() {
            let (origin, reference) = (said.origin, said.reference);
            records.answers.push(Answer { origin, reference, seq });
        }
        true
    }

    /// Sends a closed batch to the store. It is delivered when it is written, or at once where
    /// nothing waits for the disk.
    pub(super) fn write_batch(&mut self, key: HomeKey, batch: Arc<Batch>) {
        let keeps = self.homes.get(key).keeps;
        let journal = self.journal.as_mut().expect("only where there is a store");
        let records = self.homes.get_mut(key).records.get_or_insert_default();
        records.in_flight += 1;
        let id = journal.take_record_id();
        let record = if keeps {
            Record::Messages { id, batch: Arc::clone(&batch) }
        } else {
            let (room, epoch, seq) = (batch.room.clone(), batch.epoch, batch.last());
            Record::Head { room, id, epoch, seq }
        };
        if journal.durability() == Durability::None {
            journal.push(record, Held::Told { key, epoch: batch.epoch });
            note(records, id, &batch, keeps);
            self.deliver_batch(key, batch);
        } else {
            let answers = std::mem::replace(&mut records.answers, journal.spare_answers());
            journal.push(record, Held::Batch { key, id, batch, answers });
        }
    }

    /// A batch is written: whom it concerns may hear of it.
    fn batch_written(
        &mut self,
        key: HomeKey,
        id: RecordId,
        batch: Arc<Batch>,
        answers: Vec<Answer>,
        now: Now,
    ) {
        let epoch = batch.epoch;
        let keeps = self.homes.get(key).keeps;
        let records = self.homes.get_mut(key).records.as_mut().expect("a batch of it was written");
        records.unwritten -= batch.frames.count() as u32;
        records.in_flight -= 1;
        note(records, id, &batch, keeps);
        if keeps {
            let first = Position { epoch, seq: batch.first };
            self.keep_written(key, first, &batch.frames, |_| 0, now);
            self.trim_records(key);
        }
        self.deliver_batch(key, batch);
        self.list_if_idle(key, now);
        for Answer { origin, reference, seq } in answers.iter().copied() {
            let mail = Mail::Published { conn: origin.conn(), reference, epoch, seq };
            self.send(origin.shard(), mail, now);
        }
        self.journal_mut().release_answers(answers);
    }

    /// A batch could not be written: its messages were never said.
    fn batch_failed(&mut self, key: HomeKey, batch: Arc<Batch>, answers: Vec<Answer>, now: Now) {
        self.landed(key);
        self.end_epoch(key, batch.epoch);
        for Answer { origin, reference, .. } in answers.iter().copied() {
            self.refuse_for_home(origin, reference, Asked::Publish, NOT_STORED, now);
        }
        self.journal_mut().release_answers(answers);
        self.chunks.release_batch(batch);
        self.list_if_idle(key, now);
    }

    /// A record of a room is under way no longer.
    fn landed(&mut self, key: HomeKey) {
        let records = self.homes.get_mut(key).records.as_mut().expect("a record was under way");
        records.in_flight -= 1;
    }

    /// Whether who asks for something that has to be written is answered when it is.
    pub(super) fn answers_wait_for_writes(&self) -> bool {
        let durability = self.journal.as_ref().map(|journal| journal.durability());
        durability.is_some_and(|durability| durability != Durability::None)
    }

    /// Hands over what changed in users' queues. One message is perhaps `awaited` by whoever sent
    /// it, and by its user.
    pub(super) fn store_changes(&mut self, awaited: Option<QueuedDirect>) {
        let Some(journal) = self.journal.as_mut() else { return };
        while let Some((user, change)) = self.inboxes.pop_change() {
            let record = match change {
                Change::Queued(direct) => Record::Direct { user, direct },
                Change::Struck { id, .. } => Record::StrikeDirect { user, id },
                Change::Missing(missing) => Record::Missing { user, missing },
            };
            match (&record, awaited) {
                (Record::Direct { user, direct }, Some(queued)) if direct.id() == queued.id => {
                    let held = Held::Direct { user: user.clone(), queued };
                    journal.push(record, held);
                }
                _ => journal.push_unawaited(record),
            }
        }
    }

    /// Takes a queued message back that could not be written.
    fn take_back_direct(&mut self, user: &Name, id: u64, now: Now) {
        if let Some(key) = self.inboxes.find(user) {
            self.inboxes.change(key, now, |inbox, terms| inbox.take_back(id, terms.changes));
        }
    }

    /// Begins another epoch of a room, if `epoch` is its present one.
    fn end_epoch(&mut self, key: HomeKey, epoch: Epoch) {
        if self.homes.get(key).epoch != epoch {
            return;
        }
        // What shards were not sent is told by the epoch in which it was said.
        for index in 0..self.homes.get(key).links.len() {
            self.post_gap(key, index);
        }
        self.counters.epochs_renewed += 1;
        self.begin_epoch(key);
    }

    fn begin_epoch(&mut self, key: HomeKey) {
        let epoch = self.homes.take_epoch();
        let home = self.homes.get_mut(key);
        home.epoch = epoch;
        home.seq = Seq(0);
        let room = home.name.clone();
        let records = home.records.get_or_insert_default();
        records.unwritten = 0;
        records.has_head = true;
        let journal = self.journal_mut();
        let id = journal.take_record_id();
        let seq = Seq(0);
        journal.push_unawaited(Record::Head { room, id, epoch, seq });
    }

    /// Strikes the records of messages that a room's history has dropped. The last place is kept
    /// by itself where no message is left to say it.
    pub(super) fn trim_records(&mut self, key: HomeKey) {
        let Some(journal) = self.journal.as_mut() else { return };
        let home = self.homes.get_mut(key);
        let Some(records) = home.records.as_mut() else { return };
        let first = home.history.as_ref().and_then(|history| history.first());
        let before = records.messages.len();
        while let Some(oldest) = records.messages.front().copied() {
            if let Some(first) = first {
                let of_its_epoch = |record: &StoredMessages| record.epoch == first.epoch;
                let is_older = match of_its_epoch(&oldest) {
                    true => oldest.last < first.seq,
                    false => records.messages.iter().any(of_its_epoch),
                };
                if !is_older {
                    break;
                }
            }
            records.messages.pop_front();
            let (room, id) = (home.name.clone(), oldest.id);
            journal.push_unawaited(Record::StrikeMessages { room, id });
        }
        // What is under way says a later place.
        if before > 0 && records.messages.is_empty() && records.in_flight == 0 {
            records.has_head = true;
            let Position { epoch, seq } = home.head();
            let (room, id) = (home.name.clone(), journal.take_record_id());
            journal.push_unawaited(Record::Head { room, id, epoch, seq });
        }
    }

    /// Strikes all records of a room that is about to be forgotten.
    pub(super) fn strike_room(&mut self, key: HomeKey) {
        let Some(journal) = self.journal.as_mut() else { return };
        let home = self.homes.get_mut(key);
        let Some(records) = home.records.take() else { return };
        for StoredMessages { id, .. } in records.messages {
            journal.push_unawaited(Record::StrikeMessages { room: home.name.clone(), id });
        }
        if records.has_head {
            journal.push_unawaited(Record::StrikeHead { room: home.name.clone() });
        }
    }

    /// Takes back what was kept, before the first connection.
    pub fn recover(&mut self, recovered: Recovered, now: Now) {
        let Recovered { rooms, users, next_record, next_direct, renew_epochs } = recovered;
        if self.journal.is_none() {
            return;
        }
        self.journal_mut().begin_records_at(next_record);
        let is_anew = self.lives.has_begun_anew(self.id);
        for room in rooms {
            // What was on its way to those who are there is lost, and nothing of it is kept.
            let renews = renew_epochs || is_anew && *room.name == *EVERYONE;
            self.recover_room(room, renews, now);
        }
        self.inboxes.skip_ids(next_direct);
        for RecoveredUser { name, directs, missing } in users {
            self.recover_directs(&name, directs, missing, now);
        }
    }

    fn recover_room(&mut self, room: RecoveredRoom, renew_epoch: bool, now: Now) {
        let hash = self.hasher.hash(&room.name);
        // The room of everybody is there already, and keeps nothing.
        let key = self.homes.find(&room.name, hash).unwrap_or_else(|| {
            let key = self.homes.add(room.name, hash, now.mono);
            self.homes.get_mut(key).keeps = self.limits.history_count > 0;
            key
        });
        let home = self.homes.get_mut(key);
        (home.epoch, home.seq) = (room.epoch, room.seq);
        let records = home.records.get_or_insert_default();
        records.has_head = room.has_head;
        for RecoveredMessages { id, epoch, first, frames } in &room.messages {
            let (id, epoch, last) = (*id, *epoch, Seq(first.0 + frames.count() as u64 - 1));
            records.messages.push_back(StoredMessages { id, epoch, last });
        }
        if self.homes.get(key).keeps {
            // Older ones have the same fate, and what the clock said then need not be true now.
            let oldest_ms = self.limits.history_age_ms + 1;
            let age_ms = |frame: &[u8]| match message_of(frame) {
                Event::Message { time_ms, .. } => {
                    now.wall_ms.saturating_sub(time_ms).min(oldest_ms)
                }
                other => unreachable!("{other:?} was read as a message"),
            };
            for RecoveredMessages { epoch, first, frames, .. } in &room.messages {
                let first = Position { epoch: *epoch, seq: *first };
                self.keep_written(key, first, frames, age_ms, now);
            }
            self.keeps_messages(key, now);
        }
        if renew_epoch {
            self.begin_epoch(key);
        }
        self.trim_records(key);
        self.list_if_idle(key, now);
    }
}

/// Notes what a room has in the store.
fn note(records: &mut RoomRecords, id: RecordId, batch: &Batch, keeps: bool) {
    if keeps {
        let stored = StoredMessages { id, epoch: batch.epoch, last: batch.last() };
        records.messages.push_back(stored);
    } else {
        records.has_head = true;
    }
}
