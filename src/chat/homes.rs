//! The rooms and users whose home this shard is.
//!
//! Owns what a home does with requests: it gives a message its place, a member its seam, a question
//! its answer, and tells the shards that have members. Called with mail from other shards, or
//! directly where the requester lives here.
//!
//! What a home says of a room leaves in the order in which it happened: whatever is said after a
//! message closes the batch that holds the message first.

use std::sync::Arc;

use crate::base::ids::{Address, Position, Ref, Seq, ShardId};
use crate::base::limits::{BATCH_BYTES, FRAME_HEADER, IDLE_ROOM_LOOKS, ROOM_IDLE_MS};
use crate::base::name::{EVERYONE, Name};
use crate::base::time::Now;
use crate::wire::message::{Code, Event, PresenceKind};
use crate::wire::native;

use super::batch::{Author, Batch};
use super::home::HomeKey;
use super::mail::{Asked, Mail, Since};
use super::membership::Stay;
use super::shard::Shard;
use super::shedding::NO_ROSTERS;

/// Bytes of a ROSTER payload before the names: ref, total, count.
const ROSTER_HEADER: usize = 4 + 4 + 2;
/// Why a room is not made.
const TOO_MANY_ROOMS: &str = "too many rooms on this server (--max-rooms): try again later";

/// Why somebody is not let in.
const ROOM_IS_FULL: &str = "the room has as many members as it may (--max-members-per-room): try \
                            again when somebody has left";

/// A message on its way to its place.
pub(super) struct Said<'a> {
    /// The sender's user.
    pub from: &'a Name,
    /// The sender.
    pub origin: Address,
    /// The request's number.
    pub reference: Ref,
    /// The sender wants it too.
    pub echo: bool,
    /// What is said.
    pub body: &'a [u8],
}

impl Said<'_> {
    /// The message, at its place in the room.
    pub(super) fn event<'e>(&'e self, room: &'e str, at: Position, now: Now) -> Event<'e> {
        Event::Message {
            epoch: at.epoch,
            seq: at.seq,
            time_ms: now.wall_ms,
            room,
            from: self.from,
            body: self.body,
            replay: false,
        }
    }
}

/// A member that joins.
pub(super) struct Joiner {
    /// The member's user.
    pub user: Name,
    /// The member.
    pub member: Address,
    /// The request's number.
    pub reference: Ref,
    /// The stay that begins.
    pub stay: Stay,
    /// It is a member already; nothing begins.
    pub again: bool,
    /// It was a member before, and its user is in the roster still.
    pub returns: bool,
    /// What it is to get of the past.
    pub since: Since,
}

impl Shard {
    /// Makes the room `*`, which every shard always hears.
    pub(super) fn add_everyone(&mut self, now: Now) {
        let hash = self.hasher.hash(EVERYONE);
        let key = self.homes.add(Name::new(EVERYONE), hash, now.mono);
        for shard in 0..self.shards {
            self.homes.get_mut(key).link(ShardId(shard)).members = 1;
        }
    }

    /// The room, made if there is none. `None` where there are too many.
    pub(super) fn home_room(&mut self, room: &str, hash: u64, now: Now) -> Option<HomeKey> {
        if let Some(key) = self.homes.find(room, hash) {
            return Some(key);
        }
        if self.homes.len() >= self.limits.max_rooms && !self.make_way(now) {
            return None;
        }
        let key = self.homes.add(Name::new(room), hash, now.mono);
        self.homes.get_mut(key).keeps = self.limits.history_count > 0;
        Some(key)
    }

    /// Gives a message its place and puts it into the room's batch.
    pub(super) fn home_publish(&mut self, room: &str, hash: u64, said: &Said<'_>, now: Now) {
        if self.journal.is_some() {
            return self.home_publish_stored(room, hash, said, now);
        }
        let Some(key) = self.home_of_message(room, hash, said, now) else { return };
        let home = self.homes.get_mut(key);
        let (epoch, seq) = (home.epoch, home.seq);
        if home.links.is_empty() {
            self.list_if_idle(key, now);
        } else {
            self.add_to_batch(key, said, now);
        }
        if self.homes.get(key).keeps {
            self.keep(key, said, now);
        }
        self.answer_publish(said, Position { epoch, seq }, now);
    }

    /// The room in which `said` takes the next place. None where the request is refused.
    #[inline]
    pub(super) fn home_of_message(
        &mut self,
        room: &str,
        hash: u64,
        said: &Said<'_>,
        now: Now,
    ) -> Option<HomeKey> {
        let Some(key) = self.home_room(room, hash, now) else {
            let (origin, reference) = (said.origin, said.reference);
            self.refuse_for_home(origin, reference, Asked::Publish, TOO_MANY_ROOMS, now);
            return None;
        };
        let home = self.homes.get_mut(key);
        home.seq = Seq(home.seq.0 + 1);
        home.last_active = now.mono;
        Some(key)
    }

    /// Tells a publisher its message's place, if it wants to know.
    #[inline]
    pub(super) fn answer_publish(&mut self, said: &Said<'_>, at: Position, now: Now) {
        if said.reference.wants_answer() {
            let (conn, reference, Position { epoch, seq }) =
                (said.origin.conn(), said.reference, at);
            let mail = Mail::Published { conn, reference, epoch, seq };
            self.send(said.origin.shard(), mail, now);
        }
    }

    pub(super) fn add_to_batch(&mut self, key: HomeKey, said: &Said<'_>, now: Now) {
        let home = self.homes.get(key);
        let payload = native::message_payload_len(&home.name, said.from, said.body.len());
        let full = home
            .open
            .as_ref()
            .is_some_and(|open| open.frames.bytes().len() + FRAME_HEADER + payload > BATCH_BYTES);
        if full {
            self.close_batch(key);
        }
        let home = self.homes.get_mut(key);
        if home.open.is_none() {
            let mut opened = self.chunks.batch(&home.name);
            let batch = Arc::get_mut(&mut opened).expect("nobody has seen it");
            batch.epoch = home.epoch;
            batch.first = home.seq;
            home.open = Some(opened);
            self.open_homes.push(key);
        }
        let open = home.open.as_mut().expect("it was just opened");
        let batch = Arc::get_mut(open).expect("an open batch is not shared");
        if !said.echo {
            let index = batch.frames.count() as u32;
            batch.authors.push(Author { index, address: said.origin });
        }
        let event = said.event(&home.name, Position { epoch: home.epoch, seq: home.seq }, now);
        batch.frames.push(|out| native::encode_event(out, &event, false));
    }

    /// Closes the batches of this turn, so that they are delivered.
    pub(super) fn close_batches(&mut self) {
        while let Some(key) = self.open_homes.pop() {
            self.close_batch(key);
        }
    }

    /// Closes a room's batch and hands it to the shards that have members.
    pub(super) fn close_batch(&mut self, key: HomeKey) {
        let Some(batch) = self.homes.get_mut(key).open.take() else {
            return;
        };
        if self.journal.is_some() {
            return self.write_batch(key, batch);
        }
        self.deliver_batch(key, batch);
    }

    /// Hands a batch to the shards that have members.
    pub(super) fn deliver_batch(&mut self, key: HomeKey, batch: Arc<Batch>) {
        for index in 0..self.homes.get(key).links.len() {
            self.post_batch(key, index, &batch);
        }
        self.chunks.release_batch(batch);
    }

    /// Hands a batch to one shard, or sheds it where that shard's mail is at its bound.
    fn post_batch(&mut self, key: HomeKey, index: usize, batch: &Arc<Batch>) {
        let link = &self.homes.get(key).links[index];
        let to = link.shard;
        if to == self.id {
            return self.hear_batch(Arc::clone(batch));
        }
        if self.is_overloaded(to) {
            return self.shed(key, index, batch);
        }
        self.post_gap(key, index);
        self.counters.mail_out += 1;
        self.postbag.push(to, Mail::Deliver(Arc::clone(batch)));
    }

    fn shed(&mut self, key: HomeKey, index: usize, batch: &Arc<Batch>) {
        self.counters.shed += batch.frames.count() as u64;
        let home = self.homes.get_mut(key);
        let link = &mut home.links[index];
        let from = link.lost.map_or(batch.first, |(from, _)| from);
        link.lost = Some((from, batch.last()));
        if !home.lossy_listed {
            home.lossy_listed = true;
            self.lossy_homes.push(key);
        }
    }

    /// Tells shards whose mailboxes have room again what they did not get.
    pub(super) fn post_gaps(&mut self) {
        for key in std::mem::take(&mut self.lossy_homes) {
            for index in 0..self.homes.get(key).links.len() {
                if !self.is_overloaded(self.homes.get(key).links[index].shard) {
                    self.post_gap(key, index);
                }
            }
            let home = self.homes.get_mut(key);
            home.lossy_listed = home.links.iter().any(|link| link.lost.is_some());
            if home.lossy_listed {
                self.lossy_homes.push(key);
            }
        }
    }

    pub(super) fn post_gap(&mut self, key: HomeKey, index: usize) {
        let home = self.homes.get_mut(key);
        let link = &mut home.links[index];
        if let Some((from, to)) = link.lost.take() {
            let shard = link.shard;
            let (room, epoch) = (home.name.clone(), home.epoch);
            self.counters.mail_out += 1;
            self.postbag.push(shard, Mail::Gap { room, epoch, from, to });
        }
    }

    /// Lets a member in: it gets what follows the room's present head.
    pub(super) fn home_join(&mut self, room: Name, joiner: Joiner, now: Now) {
        let Joiner { user, member, reference, stay, again, returns, since } = joiner;
        let hash = self.hasher.hash(&room);
        // Asked again before it was heard that the stay is refused: so is this. The shard may have
        // other members in the room.
        let was_refused = again && self.homes.is_refused(member.shard(), stay);
        let key =
            if again { self.homes.find(&room, hash) } else { self.home_room(&room, hash, now) };
        let Some(key) = key else {
            if !again {
                self.homes.refuse(member.shard(), stay);
            }
            let request = Asked::Join { stay };
            return self.refuse_for_home(member, reference, request, TOO_MANY_ROOMS, now);
        };
        let is_new = !again && !returns && !matches!(since, Since::Resumed { .. });
        if was_refused || is_new && self.is_full(key) {
            self.counters.limited_members += 1;
            if !again {
                self.homes.refuse(member.shard(), stay);
            }
            self.list_if_idle(key, now);
            let (conn, request, code) = (member.conn(), Asked::Join { stay }, Code::TooMany);
            let text = ROOM_IS_FULL;
            let mail = Mail::Refused { conn, reference, request, code, text };
            return self.send(member.shard(), mail, now);
        }
        self.tell_all_so_far(key, member.shard());
        let replay = self.begin_replay(key, (member.shard(), &user), since, now);
        let home = self.homes.get_mut(key);
        let mut newcomer = false;
        if !again {
            home.link(member.shard()).members += 1;
            newcomer = !returns && self.enter_roster(key, member.shard(), user.clone());
        }
        let home = self.homes.get(key);
        let (epoch, seq, total) = (home.epoch, home.head().seq, home.roster.total());
        let conn = member.conn();
        let mail = Mail::Joined { room, conn, reference, stay, epoch, seq, total, replay };
        self.send(member.shard(), mail, now);
        if newcomer {
            self.tell_presence(key, PresenceKind::Joined, user, Some(member), now);
        }
    }

    /// Whether a room has as many members as it may.
    fn is_full(&self, key: HomeKey) -> bool {
        let most = self.limits.max_members_per_room;
        let members = self.homes.get(key).links.iter().map(|link| link.members as usize);
        most > 0 && members.sum::<usize>() >= most
    }

    /// Sends `shard` all that it is to be told of a room so far. What it was not sent lies before
    /// the head that somebody there is about to be told, and is told first.
    pub(super) fn tell_all_so_far(&mut self, key: HomeKey, shard: ShardId) {
        self.close_batch(key);
        if let Some(index) = self.homes.get(key).link_index(shard) {
            self.post_gap(key, index);
        }
    }

    /// Lets a member of `from` out, unless it was never let in.
    pub(super) fn home_leave(
        &mut self,
        from: ShardId,
        room: &Name,
        user: Name,
        stay: Stay,
        now: Now,
    ) {
        if self.homes.forget_refused(from, stay) {
            return;
        }
        let key = self.homes.find(room, self.hasher.hash(room)).expect("a member keeps its room");
        let gone = self.leave_roster(key, from, &user);
        self.homes.get_mut(key).last_active = now.mono;
        if gone {
            self.tell_presence(key, PresenceKind::Left, user, None, now);
        }
        // The batch of this turn was closed for the presence; without one it is closed here, while
        // the leaver's shard may still have other members to give it to.
        self.close_batch(key);
        self.homes.get_mut(key).unlink(from);
        self.list_if_idle(key, now);
    }

    /// A member of `from` was cut off, unless it was never let in: its shard gets nothing more on
    /// its account, and its user stays in the roster.
    pub(super) fn home_suspend(&mut self, from: ShardId, room: &Name, stay: Stay, now: Now) {
        if self.homes.forget_refused(from, stay) {
            return;
        }
        let key = self.homes.find(room, self.hasher.hash(room)).expect("a member keeps its room");
        self.close_batch(key);
        let home = self.homes.get_mut(key);
        home.last_active = now.mono;
        home.unlink(from);
        self.list_if_idle(key, now);
    }

    /// A member that was cut off has been away for too long: its user leaves the roster.
    pub(super) fn home_absent(&mut self, from: ShardId, room: &Name, user: Name, now: Now) {
        // A home that has begun anew may have had no room for all that it had before.
        let Some(key) = self.homes.find(room, self.hasher.hash(room)) else { return };
        self.homes.get_mut(key).last_active = now.mono;
        if self.leave_roster(key, from, &user) {
            self.tell_presence(key, PresenceKind::Left, user, None, now);
        }
        self.list_if_idle(key, now);
    }

    /// A member changed its name, unless it was never let in.
    pub(super) fn home_rename(
        &mut self,
        room: &Name,
        (from, to): (Name, Name),
        (member, stay): (Address, Stay),
        now: Now,
    ) {
        if self.homes.is_refused(member.shard(), stay) {
            return;
        }
        let key = self.homes.find(room, self.hasher.hash(room)).expect("a member keeps its room");
        if self.leave_roster(key, member.shard(), &from) {
            self.tell_presence(key, PresenceKind::Left, from, Some(member), now);
        }
        if self.enter_roster(key, member.shard(), to.clone()) {
            self.tell_presence(key, PresenceKind::Joined, to, Some(member), now);
        }
    }

    /// Says who is in a room.
    pub(super) fn home_who(&mut self, room: Name, origin: Address, reference: Ref, now: Now) {
        let conn = origin.conn();
        let Some(key) = self.homes.find(&room, self.hasher.hash(&room)) else {
            let (code, text) = (Code::NotFound, "there is no such room");
            let mail = Mail::Refused { conn, reference, request: Asked::Who, code, text };
            return self.send(origin.shard(), mail, now);
        };
        if self.strain.pressure.refuses_rosters() {
            self.counters.shed_rosters += 1;
            return self.refuse_for_home(origin, reference, Asked::Who, NO_ROSTERS, now);
        }
        let roster = &self.homes.get(key).roster;
        let names = roster.names(self.limits.max_frame - ROSTER_HEADER).into_boxed_slice();
        let total = roster.total();
        self.send(origin.shard(), Mail::Roster { conn, room, reference, total, names }, now);
    }

    /// Puts a room without members on the list of those that may be forgotten.
    pub(super) fn list_if_idle(&mut self, key: HomeKey, now: Now) {
        let home = self.homes.get_mut(key);
        if home.is_empty() && !home.idle_listed {
            home.idle_listed = true;
            self.agenda.note_idle_room(key, now.mono + ROOM_IDLE_MS);
        }
    }

    /// Forgets a room whose time on that list is over, unless it is in use or was lately.
    pub(super) fn sweep_idle_room(&mut self, key: HomeKey, now: Now) {
        let home = self.homes.get_mut(key);
        home.idle_listed = false;
        if !home.is_empty() {
            return;
        }
        let in_use = self.is_busy(key) || self.keeps_messages(key, now);
        if in_use || now.mono.since_ms(self.homes.get(key).last_active) < ROOM_IDLE_MS {
            return self.list_if_idle(key, now);
        }
        self.forget_room(key);
    }

    /// Whether something of a room is still to be told.
    fn is_busy(&self, key: HomeKey) -> bool {
        let home = self.homes.get(key);
        // A batch that was closed early leaves its room on the list of this turn's batches.
        home.owes_total
            || home.lossy_listed
            || self.open_homes.contains(&key)
            || home.records.as_ref().is_some_and(|records| records.in_flight > 0)
    }

    /// Forgets a room and what it kept.
    fn forget_room(&mut self, key: HomeKey) {
        self.forget_history(key);
        self.strike_room(key);
        self.homes.remove(key);
    }

    /// Forgets the room that was idle for longest, of the first ones that may be forgotten. Returns
    /// whether there was one.
    fn make_way(&mut self, now: Now) -> bool {
        let mut idle = [None; IDLE_ROOM_LOOKS];
        for place in &mut idle {
            let Some(key) = self.agenda.pop_idle_room() else {
                break;
            };
            let home = self.homes.get_mut(key);
            home.idle_listed = false;
            *place = home.is_empty().then_some(key);
        }
        let may_go = |key: &HomeKey| !self.is_busy(*key);
        let since = |key: &HomeKey| self.homes.get(*key).last_active;
        let longest = idle.iter().flatten().copied().filter(may_go).min_by_key(since);
        for key in idle.into_iter().flatten().filter(|key| Some(*key) != longest) {
            self.list_if_idle(key, now);
        }
        let Some(longest) = longest else {
            return false;
        };
        self.counters.rooms_evicted += 1;
        self.forget_room(longest);
        true
    }

    /// Tells whoever asked that it is not done, though it was no fault of theirs.
    pub(super) fn refuse_for_home(
        &mut self,
        origin: Address,
        reference: Ref,
        request: Asked,
        text: &'static str,
        now: Now,
    ) {
        let (conn, code) = (origin.conn(), Code::Unavailable);
        let mail = Mail::Refused { conn, reference, request, code, text };
        self.send(origin.shard(), mail, now);
    }
}
