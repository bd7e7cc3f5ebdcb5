//! The users in one room.
//!
//! Owns who is there and with how many sessions; a user with several is one member. Never tells
//! anybody: the room's home ([`homes`](super::homes)) does.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::limits::ROSTER_MAX;
use crate::base::name::Name;
use crate::wire::message::Names;

/// The users in a room, in the order of their names.
///
/// Nearly every user has one session there, so a user is eight bytes of an ordered set, and only
/// the further sessions of those who have some are counted. Ordered sets grow by small nodes; a
/// hash table of thousands is half empty after it has grown, and leaves its former self behind in
/// the allocator.
#[derive(Debug, Default)]
pub struct Roster {
    users: BTreeSet<Name>,
    further_sessions: BTreeMap<Name, u32>,
}

impl Roster {
    /// The roster of users with so many sessions each, at least one.
    pub fn of(users: impl Iterator<Item = (Name, i64)>) -> Roster {
        let mut roster = Roster::default();
        for (user, sessions) in users {
            if let Ok(further @ 1..) = u32::try_from(sessions - 1) {
                roster.further_sessions.insert(user.clone(), further);
            }
            roster.users.insert(user);
        }
        roster
    }

    /// All users.
    pub fn users(&self) -> impl Iterator<Item = Name> + '_ {
        self.users.iter().cloned()
    }

    /// Whether `user` is there.
    pub fn has(&self, user: &Name) -> bool {
        self.users.contains(user)
    }

    /// How many users there are.
    pub fn total(&self) -> u32 {
        self.users.len() as u32
    }

    /// A session of `user` came in; returns whether it is the user's first.
    pub fn enter(&mut self, user: Name) -> bool {
        if self.users.contains(&user) {
            *self.further_sessions.entry(user).or_default() += 1;
            return false;
        }
        self.users.insert(user)
    }

    /// A session of `user` went out; returns whether it was the user's last.
    ///
    /// # Panics
    /// If the user had none: shards report every leave once, after its join.
    pub fn leave(&mut self, user: &Name) -> bool {
        if let Some(further) = self.further_sessions.get_mut(user) {
            *further -= 1;
            if *further == 0 {
                self.further_sessions.remove(user);
            }
            return false;
        }
        assert!(self.users.remove(user), "who leaves was there");
        true
    }

    /// Names of those present, as many as the contract allows and `bytes_max` holds, encoded.
    pub fn names(&self, bytes_max: usize) -> Vec<u8> {
        let mut encoded = Vec::new();
        for user in self.users.iter().take(ROSTER_MAX) {
            if encoded.len() + 1 + user.len() > bytes_max {
                break;
            }
            Names::push(&mut encoded, user);
        }
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_several_sessions_is_one_member() {
        let mut roster = Roster::default();
        let ann = Name::new("ann");
        assert!(roster.enter(ann.clone()));
        assert!(!roster.enter(ann.clone()));
        assert!(!roster.enter(ann.clone()));
        assert_eq!(roster.total(), 1);
        assert!(!roster.leave(&ann));
        assert!(!roster.leave(&ann));
        assert!(roster.leave(&ann));
        assert_eq!(roster.total(), 0);
        assert!(roster.further_sessions.is_empty());
    }

    #[test]
    fn a_roster_names_as_many_as_fit_in_their_order() {
        let mut roster = Roster::default();
        for number in (0..1_500).rev() {
            roster.enter(Name::new(&format!("user-{number:04}")));
        }
        assert_eq!(Names::new(&roster.names(1 << 20)).count(), ROSTER_MAX);
        let two = roster.names(25);
        let names: Vec<&str> = Names::new(&two).iter().collect();
        assert_eq!(names, ["user-0000", "user-0001"]);
    }
}
