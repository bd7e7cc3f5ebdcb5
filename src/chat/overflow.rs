//! What gives way where a connection does not read what it is told.
//!
//! Owns the policies, which room has which, and what becomes of a connection whose outbox has grown
//! beyond its bound: what may be dropped is, in favour of a notice that names it, and only if the
//! rest is too much as well the connection is closed. Never takes an outbox apart
//! ([`relief`](super::relief) does). Called wherever something was queued.

use std::collections::BTreeMap;

use crate::base::counters::{CloseReason, Counters};
use crate::base::ids::{ConnId, Ref};
use crate::base::time::Now;
use crate::wire::message::{Code, Event};

use super::membership::RoomKey;
use super::relief::{Culprit, Loss};
use super::session::State;
use super::shard::Shard;

/// What gives way when more waits for a member than may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The member does: it is told 431 and closed.
    #[default]
    Disconnect,
    /// The room's messages that wait for longest.
    DropOldest,
    /// The room's messages that came last.
    DropNewest,
    /// All of the room's messages but the last.
    LatestOnly,
}

impl Overflow {
    /// Every policy.
    pub const ALL: [Overflow; 4] =
        [Overflow::Disconnect, Overflow::DropOldest, Overflow::DropNewest, Overflow::LatestOnly];

    /// Its name in options.
    pub fn name(self) -> &'static str {
        match self {
            Overflow::Disconnect => "disconnect",
            Overflow::DropOldest => "drop-oldest",
            Overflow::DropNewest => "drop-newest",
            Overflow::LatestOnly => "latest-only",
        }
    }

    /// The policy of that name.
    pub fn named(name: &str) -> Option<Overflow> {
        Overflow::ALL.into_iter().find(|overflow| overflow.name() == name)
    }

    /// Whether messages may be dropped.
    pub fn drops(self) -> bool {
        self != Overflow::Disconnect
    }
}

/// Which room has which policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverflowPolicies {
    otherwise: Overflow,
    rooms: BTreeMap<Box<str>, Overflow>,
    prefixes: BTreeMap<Box<str>, Overflow>,
}

impl OverflowPolicies {
    /// All rooms have one policy.
    pub fn new(otherwise: Overflow) -> OverflowPolicies {
        OverflowPolicies { otherwise, ..OverflowPolicies::default() }
    }

    /// Gives the room called `pattern` a policy of its own, or, where it ends in `*`, all rooms
    /// that begin with what stands before. Returns whether it had none yet.
    pub fn set(&mut self, pattern: &str, overflow: Overflow) -> bool {
        let earlier = match pattern.strip_suffix('*') {
            Some(prefix) => self.prefixes.insert(prefix.into(), overflow),
            None => self.rooms.insert(pattern.into(), overflow),
        };
        earlier.is_none()
    }

    /// The policy of a room: its own, or that of the longest prefix, or that of all others.
    pub fn of(&self, room: &str) -> Overflow {
        if let Some(overflow) = self.rooms.get(room) {
            return *overflow;
        }
        let fitting = self.prefixes.iter().filter(|(prefix, _)| room.starts_with(&***prefix));
        let longest = fitting.max_by_key(|(prefix, _)| prefix.len());
        longest.map_or(self.otherwise, |(_, overflow)| *overflow)
    }
}

/// Counts what was dropped.
fn count(counters: &mut Counters, loss: &Loss) {
    let counter = match loss.overflow {
        Overflow::Disconnect => unreachable!("what may not be dropped is not"),
        Overflow::DropOldest => &mut counters.overflow_drop_oldest,
        Overflow::DropNewest => &mut counters.overflow_drop_newest,
        Overflow::LatestOnly => &mut counters.overflow_latest_only,
    };
    *counter += loss.gap.count();
}

impl Shard {
    /// Looks whether more waits for a connection than may.
    pub(super) fn bound_outbox(&mut self, conn: ConnId, now: Now) {
        let max = self.limits.max_outbound;
        if self.sessions.get(conn).is_some_and(|session| session.waiting() > max) {
            match self.lives.is_parting {
                true => self.overflowed.push(conn),
                false => self.make_room(conn, None, now),
            }
        }
    }

    /// Looks again at the connections for which news of a room was too much.
    pub(super) fn relieve_overflowed(&mut self, key: RoomKey, now: Now) {
        while !self.lives.is_parting
            && let Some(conn) = self.overflowed.pop()
        {
            self.make_room(conn, Some(key), now);
        }
    }

    /// Looks at the connections for which it was too much what they were told in the parting.
    pub(super) fn relieve_behind_parting(&mut self, now: Now) {
        while let Some(conn) = self.overflowed.pop() {
            self.make_room(conn, None, now);
        }
    }

    /// More waits for a connection than may: what may be dropped is dropped, first of all of the
    /// room whose news it was. If that is not enough, the connection is closed.
    #[cold]
    fn make_room(&mut self, conn: ConnId, key: Option<RoomKey>, now: Now) {
        let max = self.limits.max_outbound;
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let (State::Live(dialect), Some(outbox)) = (session.state, session.outbox.as_mut()) else {
            return self.close_slow_reader(conn, now);
        };
        let culprit = key.map(|key| self.rooms.get(key));
        let culprit = culprit.map(|room| Culprit { room: &room.name, overflow: room.overflow });
        if outbox.waiting() > max {
            self.relief.relieve(outbox, culprit, max, dialect);
        }
        let is_too_much = outbox.waiting() > max;
        self.note_losses(conn);
        if is_too_much {
            self.counters.overflow_disconnect += 1;
            self.close_slow_reader(conn, now);
        } else {
            self.mark_dirty(conn);
        }
    }

    /// Counts what a relief has dropped, and notes it with the session: its client will know of
    /// it without having been sent the bytes.
    fn note_losses(&mut self, conn: ConnId) {
        self.counters.presence_folded += self.relief.folded();
        for loss in self.relief.losses() {
            count(&mut self.counters, loss);
            let key = self.rooms.find(&loss.room, self.hasher.hash(&loss.room));
            if let Some(key) = key
                && let Some(session) = self.sessions.get_mut(conn)
                && session.membership(key).is_some()
            {
                session.note_missed(key, loss.gap);
            }
        }
        self.relief.release(&mut self.outboxes, &mut self.chunks);
    }

    /// Closes a connection whose outbox is full. It may have been closed for that in this turn.
    pub(super) fn close_slow_reader(&mut self, conn: ConnId, now: Now) {
        let text = "the outbound queue is full: read faster";
        self.close_unread(conn, CloseReason::SlowReader, text, now);
    }

    /// Closes a connection that does not read what waits for it.
    pub(super) fn close_unread(&mut self, conn: ConnId, reason: CloseReason, text: &str, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if matches!(session.state, State::Closing(_)) {
            return;
        }
        if let Some(outbox) = session.outbox.as_mut() {
            outbox.truncate(&mut self.outboxes, &mut self.chunks);
        }
        let last = Event::Error { reference: Ref::NONE, code: Code::SlowReader, text };
        self.close(conn, reason, Some(&last), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_its_own_policy_or_that_of_the_longest_prefix_or_that_of_all() {
        let mut policies = OverflowPolicies::new(Overflow::DropNewest);
        assert!(policies.set("price-*", Overflow::LatestOnly));
        assert!(policies.set("price-log-*", Overflow::DropOldest));
        assert!(policies.set("price-log-audit", Overflow::Disconnect));
        assert!(!policies.set("price-*", Overflow::LatestOnly), "said twice");
        for (room, overflow) in [
            ("lobby", Overflow::DropNewest),
            ("price", Overflow::DropNewest),
            ("price-", Overflow::LatestOnly),
            ("price-gold", Overflow::LatestOnly),
            ("price-log-gold", Overflow::DropOldest),
            ("price-log-audit", Overflow::Disconnect),
            ("price-log-audits", Overflow::DropOldest),
        ] {
            assert_eq!(policies.of(room), overflow, "{room}");
        }
        for overflow in Overflow::ALL {
            assert_eq!(Overflow::named(overflow.name()), Some(overflow));
        }
        assert_eq!(Overflow::named("drop"), None);
    }
}
