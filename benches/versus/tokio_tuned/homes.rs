//! The rooms whose home a core is, and the letters about them.
//!
//! Owns what a home does: it gives a message its place, lets members in and out, tells who is
//! there. What a home says of a room leaves in the order in which it happened: whatever is said
//! after a message closes the batch that holds the message first.

use std::sync::Arc;

use corebeat::base::ids::{Address, ConnId, Epoch, Ref, Seq, ShardId};
use corebeat::base::limits::{PRESENCE_PERIOD_MS, ROOM_IDLE_MS};
use corebeat::base::name::Name;
use corebeat::wire::message::{Code, Event, Names, PresenceKind};
use corebeat::wire::native;

use super::common::conversation;
use super::common::dialect::Dialect;
use super::connection::{Connection, PENDING};
use super::core::Core;
use super::intake::Client;
use super::mail::{Joiner, Mail, Refused, Stay};
use super::room::{Home, HomeKey};

/// Bytes of a ROSTER payload before the names.
const ROSTER_HEADER: usize = 4 + 4 + 2;
/// A batch that has grown to this is closed and the next one begun.
const BATCH_BYTES: usize = 64 << 10;

/// A message on its way to its place.
pub(super) struct Said<'a> {
    pub(super) from: &'a Name,
    pub(super) origin: Address,
    pub(super) reference: Ref,
    pub(super) echo: bool,
    pub(super) body: &'a [u8],
}

impl Core {
    /// A letter from another core, or from this one to itself.
    pub(super) fn take_letter(&mut self, from: ShardId, letter: Mail) {
        match letter {
            Mail::Join { room, joiner } => self.home_join(room, joiner),
            Mail::Leave { room, user } => self.home_leave(from, &room, &user),
            Mail::Publish { room, from, origin, reference, echo, body } => {
                let hash = self.service.hasher.hash(&room);
                let said = Said { from: &from, origin, reference, echo, body: &body };
                self.home_publish(&room, hash, &said);
            }
            Mail::Who { room, origin, reference } => self.home_who(room, origin, reference),
            Mail::Joined { room, conn, reference, stay, epoch, seq, total } => {
                self.joined(&room, conn, reference, stay, (epoch, seq, total));
            }
            Mail::Published { conn, reference, epoch, seq } => {
                if let Some(mut client) = Client::of(self, conn) {
                    conversation::published(&mut client, reference, epoch, seq);
                }
            }
            Mail::Deliver(batch) => self.hear_batch(&batch),
            Mail::Presence { room, kind, total, user } => {
                self.hear_presence(&room, kind, total, user.as_ref());
            }
            Mail::Roster { room, conn, reference, total, names } => {
                self.answered(conn);
                let users = Names::new(&names);
                self.tell(conn, &Event::Roster { reference, room: &room, total, users }, false);
            }
            Mail::Refused { conn, reference, request } => self.refused(conn, reference, request),
            Mail::Stop => self.stop(),
        }
    }

    fn home_room(&mut self, room: &Name, hash: u64) -> Option<HomeKey> {
        if let Some(key) = self.homes.find(room, hash) {
            return Some(key);
        }
        if self.homes.len() >= self.service.limits.max_rooms {
            return None;
        }
        let second = (self.now.wall_ms / 1_000) as u32;
        self.last_epoch = self.last_epoch.saturating_add(1).max(second);
        let home = Home::new(Epoch(self.last_epoch), self.now);
        Some(self.homes.add(room.clone(), hash, home))
    }

    /// Gives a message its place and puts it into the batch of this turn.
    pub(super) fn home_publish(&mut self, room: &Name, hash: u64, said: &Said<'_>) {
        let (origin, reference) = (said.origin, said.reference);
        let Some(key) = self.home_room(room, hash) else {
            return self.send_refusal(origin, reference, Refused::Publish);
        };
        let payload = native::message_payload_len(room, said.from, said.body.len());
        let open = self.homes.get(key).open.as_ref();
        if open.is_some_and(|open| open.frames.bytes.len() + payload > BATCH_BYTES) {
            self.close_batch(key);
        }
        let wall_ms = self.now.wall_ms;
        let home = self.homes.get_mut(key);
        home.seq = Seq(home.seq.0 + 1);
        home.last_active = self.now.mono;
        let (epoch, seq) = (home.epoch, home.seq);
        if !home.links.is_empty() {
            if home.open.is_none() {
                self.open_homes.push(key);
            }
            let batch = home.batch(room, hash);
            if !said.echo {
                batch.authors.push((batch.frames.count() as u32, origin));
            }
            let (from, body) = (said.from, said.body);
            let time_ms = wall_ms;
            let event = Event::Message { epoch, seq, time_ms, room, from, body, replay: false };
            batch.frames.push(|out| native::encode_event(out, &event, false));
        }
        if reference.wants_answer() {
            let conn = origin.conn();
            self.send(origin.shard(), Mail::Published { conn, reference, epoch, seq });
        }
    }

    /// Closes a room's batch and hands it to the cores that have members.
    pub(super) fn close_batch(&mut self, key: HomeKey) {
        let Some(batch) = self.homes.get_mut(key).open.take() else {
            return;
        };
        let batch = Arc::new(*batch);
        let links: &[(ShardId, u32)] = &self.homes.get(key).links;
        if let [(only, _)] = links {
            let only = *only;
            return self.send(only, Mail::Deliver(batch));
        }
        for index in 0..links.len() {
            let shard = self.homes.get(key).links[index].0;
            self.send(shard, Mail::Deliver(Arc::clone(&batch)));
        }
    }

    fn home_join(&mut self, room: Name, joiner: Joiner) {
        let Joiner { user, member, reference, stay, again } = joiner;
        let hash = self.service.hasher.hash(&room);
        let Some(key) = self.home_room(&room, hash) else {
            return self.send_refusal(member, reference, Refused::Join { room, stay });
        };
        self.close_batch(key);
        let home = self.homes.get_mut(key);
        let newcomer = !again && home.enter(member.shard(), &user);
        let (epoch, seq, total) = (home.epoch, home.seq, home.total());
        let conn = member.conn();
        let joined = Mail::Joined { room, conn, reference, stay, epoch, seq, total };
        self.send(member.shard(), joined);
        if newcomer {
            self.tell_presence(key, PresenceKind::Joined, user);
        }
    }

    fn home_leave(&mut self, from: ShardId, room: &Name, user: &Name) {
        let key = self.homes.find(room, self.service.hasher.hash(room));
        let key = key.expect("a member keeps its room");
        let home = self.homes.get_mut(key);
        home.last_active = self.now.mono;
        if home.leave(user) {
            self.tell_presence(key, PresenceKind::Left, user.clone());
        }
        self.close_batch(key);
        self.homes.get_mut(key).unlink(from);
    }

    fn home_who(&mut self, room: Name, origin: Address, reference: Ref) {
        let Some(key) = self.homes.find(&room, self.service.hasher.hash(&room)) else {
            return self.send_refusal(origin, reference, Refused::Who);
        };
        let home = self.homes.get(key);
        let (total, conn) = (home.total(), origin.conn());
        let names = home.names(self.service.limits.max_frame - ROSTER_HEADER);
        self.send(origin.shard(), Mail::Roster { room, conn, reference, total, names });
    }

    /// Tells the members' cores of a join or leave or, in a crowded room, owes them a total.
    fn tell_presence(&mut self, key: HomeKey, kind: PresenceKind, user: Name) {
        let presence_max = self.service.limits.presence_max;
        let room = self.homes.name(key).clone();
        let home = self.homes.get_mut(key);
        let total = home.total();
        if total as usize <= presence_max && !home.owes_total {
            return self.spread_presence(key, &room, kind, total, Some(user));
        }
        if !home.owes_total {
            home.owes_total = true;
            self.totals.push_back((self.now.mono + PRESENCE_PERIOD_MS, room));
        }
    }

    /// Tells the totals that are due, and forgets rooms that were silent for long.
    pub(super) fn expire_homes(&mut self) {
        while self.totals.front().is_some_and(|(due, _)| *due <= self.now.mono)
            && let Some((_, room)) = self.totals.pop_front()
        {
            if let Some(key) = self.homes.find(&room, self.service.hasher.hash(&room)) {
                let home = self.homes.get_mut(key);
                home.owes_total = false;
                let total = home.total();
                self.spread_presence(key, &room, PresenceKind::Many, total, None);
            }
        }
        if self.now.mono.since_ms(self.swept) >= ROOM_IDLE_MS {
            self.swept = self.now.mono;
            let idle: Vec<HomeKey> = self.homes.keys().filter(|key| self.is_idle(*key)).collect();
            for key in idle {
                self.homes.remove(key);
            }
        }
    }

    fn is_idle(&self, key: HomeKey) -> bool {
        let home = self.homes.get(key);
        let in_use = !home.links.is_empty() || home.owes_total || home.open.is_some();
        !in_use && self.now.mono.since_ms(home.last_active) >= ROOM_IDLE_MS
    }

    fn spread_presence(
        &mut self,
        key: HomeKey,
        room: &Name,
        kind: PresenceKind,
        total: u32,
        user: Option<Name>,
    ) {
        self.close_batch(key);
        for (shard, _) in self.homes.get(key).links.clone() {
            let (room, user) = (room.clone(), user.clone());
            self.send(shard, Mail::Presence { room, kind, total, user });
        }
    }

    fn send_refusal(&mut self, to: Address, reference: Ref, request: Refused) {
        self.send(to.shard(), Mail::Refused { conn: to.conn(), reference, request });
    }
}

/// What becomes of a home's answers.
impl Core {
    /// The home let a member in: from here on it hears the room.
    fn joined(
        &mut self,
        room: &Name,
        conn: ConnId,
        reference: Ref,
        stay: Stay,
        (epoch, seq, total): (Epoch, Seq, u32),
    ) {
        let Some(key) = self.rooms.find(room, self.service.hasher.hash(room)) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let dialect = connection.dialect();
        let Some(membership) = connection.membership_mut(key).filter(|m| m.stay == stay) else {
            return;
        };
        if membership.place == PENDING {
            let notify = membership.notify;
            let entered = self.rooms.get_mut(key);
            entered.joining -= 1;
            membership.place = entered.enter(conn, notify);
        }
        let Some(mut client) = Client::of(self, conn) else {
            return;
        };
        if dialect == Some(Dialect::Text) {
            conversation::announce_room(&mut client, room, total);
        } else {
            conversation::joined(&mut client, reference, epoch, seq);
        }
    }

    fn refused(&mut self, conn: ConnId, reference: Ref, request: Refused) {
        let (code, text) = match &request {
            Refused::Who => {
                self.answered(conn);
                (Code::NotFound, "there is no such room")
            }
            _ => (Code::Unavailable, "too many rooms on this server"),
        };
        if let Refused::Join { room, stay } = &request
            && let Some(key) = self.rooms.find(room, self.service.hasher.hash(room))
            && let Some(connection) = self.connections.get_mut(conn)
            && connection.membership_mut(key).is_some_and(|m| m.stay == *stay)
        {
            connection.remove_membership(key);
            self.rooms.get_mut(key).joining -= 1;
            self.remove_room_if_unused(key);
        }
        let Some(mut client) = Client::of(self, conn) else {
            return;
        };
        if matches!(request, Refused::Publish) && reference.wants_answer() {
            conversation::Conversation::recent(&mut client).forget(reference);
        }
        conversation::refuse(&mut client, reference, code, text);
    }

    /// A question was answered.
    fn answered(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn)
            && let Some(extra) = &mut connection.extra
        {
            extra.questions -= 1;
        }
    }

    /// Takes a connection, which no longer counts the room among its own, out of the room.
    pub(super) fn leave_room(&mut self, key: u32, place: u32, user: Name) {
        if place == PENDING {
            self.rooms.get_mut(key).joining -= 1;
        } else if let Some(moved) = self.rooms.get_mut(key).vacate(place)
            && let Some((_, connection)) = self.connections.in_slot(moved)
            && let Some(membership) = connection.membership_mut(key)
        {
            membership.place = place;
        }
        let (home, room) = (self.rooms.get(key).home, self.rooms.name(key).clone());
        self.remove_room_if_unused(key);
        self.send(home, Mail::Leave { room, user });
    }

    pub(super) fn remove_room_if_unused(&mut self, key: u32) {
        if self.rooms.get(key).is_unused() {
            self.rooms.remove(key);
        }
    }

    /// Takes a connection that ends out of all its rooms.
    pub(super) fn depart(&mut self, conn: ConnId) {
        let Some(user) = self.connections.get_mut(conn).and_then(|c| c.user.take()) else {
            return;
        };
        while let Some(membership) =
            self.connections.get_mut(conn).and_then(Connection::pop_membership)
        {
            self.leave_room(membership.room, membership.place, user.clone());
        }
    }
}
