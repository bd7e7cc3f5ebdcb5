//! Whether users are there at all.
//!
//! Owns how those who share a room with a user learn that its last session was cut off, or that one
//! came back (PRESENCE of kinds 3 and 4). Never says who is in a room: the room's home does. The
//! user's home decides and tells every shard once; each tells its members once, in however many
//! rooms they meet the user.
//!
//! Rooms that are too crowded for single presence events are left out: their totals say it. Under
//! pressure all rooms are.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::ids::{Address, ConnId, ShardId};
use crate::base::limits::WHEREABOUTS_MAX;
use crate::base::name::Name;
use crate::base::time::Now;
use crate::wire::message::{Event, PresenceKind};

use super::mail::Mail;
use super::shard::Shard;

/// A user went, or came back.
#[derive(Debug)]
pub struct Whereabouts {
    /// Who.
    pub user: Name,
    /// [`PresenceKind::Online`] or [`PresenceKind::Offline`].
    pub kind: PresenceKind,
    /// Where those are who are told.
    pub rooms: Arc<[Name]>,
}

/// [`Whereabouts`] that are being told to the members of this shard.
#[derive(Debug)]
pub struct Telling {
    whereabouts: Arc<Whereabouts>,
    /// The next of the rooms.
    next: usize,
    /// Who was told, in rooms before.
    told: BTreeSet<ConnId>,
}

impl Shard {
    /// A session of a user whose home this is has been cut off for longer than the grace. If the
    /// user has no other, those who share its rooms are told.
    pub(super) fn home_away(&mut self, user: Name, session: Address, rooms: Arc<[Name]>, now: Now) {
        if self.directory.sessions(&user).all(|other| other == session) {
            self.tell_whereabouts(Whereabouts { user, kind: PresenceKind::Offline, rooms }, now);
        }
    }

    /// A session of such a user is back. If it is the only one, those who share its rooms are told.
    pub(super) fn home_back(&mut self, user: Name, session: Address, rooms: Arc<[Name]>, now: Now) {
        if self.directory.sessions(&user).all(|other| other == session) {
            self.tell_whereabouts(Whereabouts { user, kind: PresenceKind::Online, rooms }, now);
        }
    }

    fn tell_whereabouts(&mut self, whereabouts: Whereabouts, now: Now) {
        if whereabouts.rooms.is_empty() {
            return;
        }
        if self.strain.pressure.folds_presence() {
            self.counters.presence_folded += 1;
            self.counters.shed_presence += 1;
            return;
        }
        let whereabouts = Arc::new(whereabouts);
        for shard in (0..self.shards).map(ShardId) {
            if self.is_overloaded(shard) {
                self.counters.presence_folded += 1;
            } else {
                self.send(shard, Mail::Whereabouts(Arc::clone(&whereabouts)), now);
            }
        }
    }

    /// A user went, or came back. The members here are told by and by.
    pub(super) fn hear_whereabouts(&mut self, whereabouts: Arc<Whereabouts>) {
        if self.tellings.len() >= WHEREABOUTS_MAX {
            self.counters.presence_folded += 1;
            return;
        }
        let told = BTreeSet::new();
        self.tellings.push_back(Telling { whereabouts, next: 0, told });
    }

    /// Tells the members of as many rooms as the budget allows; a room is never left halfway.
    pub(super) fn spread_whereabouts(&mut self, budget: &mut usize, now: Now) {
        while *budget > 0
            && let Some(mut telling) = self.tellings.pop_front()
        {
            let rooms = Arc::clone(&telling.whereabouts.rooms);
            while *budget > 0
                && let Some(room) = rooms.get(telling.next)
            {
                telling.next += 1;
                let looked_at = self.tell_room(room, &mut telling, now);
                *budget = budget.saturating_sub(looked_at.max(1));
            }
            if telling.next < rooms.len() {
                self.tellings.push_front(telling);
            }
        }
    }

    /// Tells those in a room who want presence and were not told. Returns how many it looked at.
    fn tell_room(&mut self, room: &Name, telling: &mut Telling, now: Now) -> usize {
        let Some(key) = self.rooms.find(room, self.hasher.hash(room)) else {
            return 0;
        };
        let room = self.rooms.get(key);
        if room.total as usize > self.limits.presence_max || room.watchers() == 0 {
            return 0;
        }
        let members = room.members();
        let looked_at = members.len();
        let watchers = members.iter().filter(|member| member.notify());
        let watchers: Vec<ConnId> = watchers
            .filter_map(|member| self.sessions.conn_in_slot(member.slot()?))
            .filter(|conn| telling.told.insert(*conn))
            .collect();
        let Whereabouts { user, kind, .. } = &*telling.whereabouts;
        let event = Event::Presence { kind: *kind, total: 0, room: "", user };
        for conn in watchers {
            if self.sessions.get(conn).is_some_and(|session| session.user.as_ref() != Some(user)) {
                self.tell(conn, &event, now);
            }
        }
        looked_at
    }
}
