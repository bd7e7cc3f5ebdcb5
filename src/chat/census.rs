//! Who is in the rooms of a home, counted anew after a shard has begun anew.
//!
//! Owns the count ([`Census`]) and what each shard reports for it. A roster knows names and not
//! whose they are, because that is all it needs every day: so when a shard loses its memory, nobody
//! knows which names were its members'. Then every home asks all shards which members they answer
//! for. Never decides when that is: [`lives`](super::lives) does.
//!
//! The count is a consistent cut (K. M. Chandy and L. Lamport, Distributed Snapshots, 1985): each
//! shard reports at the instant at which its view of the lives becomes another one, and sends a
//! mark of that to all before anything else. What a home hears from a shard ahead of its mark is in
//! that shard's report already; what it hears behind it changes the count. Sessions that were on
//! their way from shard to shard at the cut are reported by the one where they arrive ahead of the
//! mark. A count belongs to one view, and so does each report: where somebody else begins anew
//! meanwhile, the count is dropped, and that of the new view begins from nothing. Whoever's view
//! leaves one out has no report for it, and need not: all views end in the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::base::name::Name;
use crate::base::time::Now;
use crate::wire::message::PresenceKind;

use super::home::HomeKey;
use super::kept::Kept;
use super::lives::{LifeMail, View};
use super::mail::Mail;
use super::membership::{Place, Stay};
use super::roster::Roster;
use super::session::State;
use super::shard::Shard;

/// A member that a shard answers for.
#[derive(Clone, Debug)]
pub struct Counted {
    room: Name,
    user: Name,
    /// The stay of one whose join was not answered: the home may have refused it.
    pending: Option<Stay>,
}

/// What a shard reports to a home.
#[derive(Debug)]
pub struct CensusReport {
    /// Under which view.
    view: View,
    /// The members that it answers for.
    members: Vec<Counted>,
    /// Nothing more follows.
    is_last: bool,
}

/// The count of a home that is under way.
#[derive(Debug)]
pub struct Census {
    view: View,
    /// Whose last reports are to come.
    missing: BTreeSet<ShardId>,
    /// How many sessions each user has in each room, as far as is known. Reports of different
    /// shards may overtake one another, so that one may be below zero for a while.
    sums: BTreeMap<Name, BTreeMap<Name, i64>>,
    /// This home itself has begun anew, and its rosters are not to be compared with.
    is_blank: bool,
}

impl Census {
    /// A count under `view`, of which nothing is known.
    pub fn new(view: View, is_blank: bool) -> Census {
        let missing = (0..view.len() as u16).map(ShardId).collect();
        Census { view, missing, sums: BTreeMap::new(), is_blank }
    }

    /// Whether this home itself has begun anew.
    pub fn is_blank(&self) -> bool {
        self.is_blank
    }

    fn add(&mut self, room: &Name, user: &Name, sessions: i64) {
        if let Some(users) = self.sums.get_mut(room) {
            *users.entry(user.clone()).or_default() += sessions;
        } else {
            self.sums.insert(room.clone(), BTreeMap::from([(user.clone(), sessions)]));
        }
    }
}

/// What a shard reports.
impl Shard {
    /// Tells all homes which members this shard answers for, at the instant at which its view
    /// becomes `view`, because `lost` has begun anew, if it was another one.
    pub(super) fn report_members(&mut self, view: &View, lost: Option<ShardId>, now: Now) {
        let mut reports: Vec<Vec<Counted>> = vec![Vec::new(); usize::from(self.shards)];
        for slot in 0..self.sessions.slots() {
            let Some(conn) = self.sessions.conn_in_slot(slot) else { continue };
            let Some(session) = self.sessions.get(conn) else { continue };
            let (State::Live(_), Some(user)) = (session.state, &session.user) else { continue };
            for membership in session.memberships() {
                let room = self.rooms.get(membership.room);
                let is_pending = membership.place == Place::PENDING;
                let was_in = || {
                    let rejoins = self.rejoining(conn, membership.stay()).is_some();
                    rejoins || self.position_of(conn, membership).is_some()
                };
                // A first join that its home has forgotten is made once more, and counts then.
                if is_pending && Some(room.home) == lost && !was_in() {
                    continue;
                }
                let pending = is_pending.then(|| membership.stay());
                let (room, user, home) = (room.name.clone(), user.clone(), room.home);
                reports[home.index()].push(Counted { room, user, pending });
            }
        }
        let unsettled = self.keeping.unsettled.values().map(|unsettled| &*unsettled.kept);
        for kept in unsettled.chain(self.keeping.table.iter()) {
            for (home, member) in self.members_of(kept) {
                reports[home.index()].push(member);
            }
        }
        for (members, home) in reports.into_iter().zip(0..) {
            if !members.is_empty() {
                self.report(view, ShardId(home), members, now);
            }
        }
    }

    /// A session that was on its way at the cut has arrived here.
    pub(super) fn report_arrival(&mut self, view: &View, kept: &Kept, now: Now) {
        let members: Vec<(ShardId, Counted)> = self.members_of(kept).collect();
        for (home, member) in members {
            self.report(view, home, vec![member], now);
        }
    }

    fn report(&mut self, view: &View, home: ShardId, members: Vec<Counted>, now: Now) {
        let report = CensusReport { view: Arc::clone(view), members, is_last: false };
        self.send(home, Mail::Life(LifeMail::Members(Box::new(report))), now);
    }

    /// Nothing can be on its way any more.
    pub(super) fn end_report(&mut self, view: &View, home: ShardId, now: Now) {
        let report = CensusReport { view: Arc::clone(view), members: Vec::new(), is_last: true };
        self.send(home, Mail::Life(LifeMail::Members(Box::new(report))), now);
    }

    /// The rosters in which a session without a connection is, by their homes.
    fn members_of<'a>(&'a self, kept: &'a Kept) -> impl Iterator<Item = (ShardId, Counted)> + 'a {
        let rooms = if kept.absent { &[][..] } else { &kept.rooms };
        rooms.iter().map(|room| {
            let (room, user) = (room.room.clone(), kept.user.clone());
            (self.home_of(self.hasher.hash(&room)), Counted { room, user, pending: None })
        })
    }
}

/// What a home makes of it.
impl Shard {
    /// A shard reports.
    pub(super) fn take_report(&mut self, from: ShardId, report: CensusReport, now: Now) {
        let CensusReport { view, members, is_last } = report;
        if self.census.as_ref().is_none_or(|census| census.view != view) {
            return;
        }
        for Counted { room, user, pending } in members {
            if pending.is_some_and(|stay| self.homes.is_refused(from, stay)) {
                continue;
            }
            let census = self.census.as_mut().expect("it was just there");
            census.add(&room, &user, 1);
            if census.is_blank {
                // Whoever is suspended may be told absent, and has to have a room to leave.
                self.home_room(&room, self.hasher.hash(&room), now);
            }
        }
        let census = self.census.as_mut().expect("it was just there");
        if is_last && census.missing.remove(&from) && census.missing.is_empty() {
            let census = self.census.take().expect("it was just there");
            self.take_census(*census, now);
        }
    }

    /// All have reported: who is in no report has gone with the shard that answered for it.
    fn take_census(&mut self, mut census: Census, now: Now) {
        let keys: Vec<HomeKey> = self.homes.keys().collect();
        for key in keys {
            let home = self.homes.get_mut(key);
            let counted = census.sums.remove(&home.name).unwrap_or_default();
            let roster = Roster::of(counted.into_iter().filter(|(_, sessions)| *sessions > 0));
            let before = std::mem::replace(&mut home.roster, roster);
            let gone: Vec<Name> = before.users().filter(|user| !home.roster.has(user)).collect();
            let came = home.roster.total() as usize + gone.len() != before.total() as usize;
            // Whoever was let in before was told a total without those who were not.
            if came || census.is_blank {
                self.owe_total(key, now);
            }
            for user in gone {
                self.tell_presence(key, PresenceKind::Left, user, None, now);
            }
            self.list_if_idle(key, now);
        }
    }

    /// A session of a connection of `from` came into a room. Returns whether the user did.
    #[inline]
    pub(super) fn enter_roster(&mut self, key: HomeKey, from: ShardId, user: Name) -> bool {
        if self.census.is_some() {
            self.note_change(key, from, &user, 1);
        }
        self.homes.get_mut(key).roster.enter(user)
    }

    /// A session that `from` answered for went out of a room. Returns whether the user did.
    #[inline]
    pub(super) fn leave_roster(&mut self, key: HomeKey, from: ShardId, user: &Name) -> bool {
        if self.census.is_some() {
            self.note_change(key, from, user, -1);
            let is_blank = self.census.as_ref().is_some_and(|census| census.is_blank);
            if is_blank && !self.homes.get(key).roster.has(user) {
                return false;
            }
        }
        self.homes.get_mut(key).roster.leave(user)
    }

    #[cold]
    fn note_change(&mut self, key: HomeKey, from: ShardId, user: &Name, sessions: i64) {
        if from != self.id && !self.lives.has_marked(from) {
            return;
        }
        let room = &self.homes.get(key).name;
        if let Some(census) = &mut self.census {
            census.add(room, user, sessions);
        }
    }
}
