//! What shards do when one of them has begun anew.
//!
//! Owns the agreement on it. A shard whose worker panicked is thrown away as a whole, and another
//! one takes its place, with its number, its history where there is a store, and nothing else.
//! Every shard has a view of which life each of them lives. Views only grow, and whoever's grows
//! sends it to all others at once, as a mark, so that all come to the same one, however many begin
//! anew at a time and whoever hears of it first. Letters between two shards keep their order, so a
//! mark parts what was said to or by a life that is over from what follows: a letter is heard if
//! the last mark of its sender knew the present lives of both. With each view the rosters are
//! counted anew ([`census`](super::census)), and what was counted under an earlier one is dropped.
//! Never sees the panic: the shell does, and calls [`Shard::begin_anew`]. What there is to do where
//! somebody else has begun anew is in [`parting`](super::parting).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::counters::Counters;
use crate::base::ids::{Address, SessionId, ShardId};
use crate::base::name::EVERYONE;
use crate::base::time::Now;

use super::census::{Census, CensusReport};
use super::config::ShardConfig;
use super::mail::Mail;
use super::shard::Shard;

/// Which time a shard lives: 0 for the first.
pub type Life = u32;

/// Which life each shard lives, as far as somebody knows.
pub type View = Arc<[Life]>;

/// What shards tell one another because one of them has begun anew.
#[derive(Debug)]
pub enum LifeMail {
    /// To every shard: the sender's view has become this one. What it wrote before it wrote under
    /// an earlier one.
    Mark(View),
    /// To every home: members that the sender answers for.
    Members(Box<CensusReport>),
    /// To a session's birth shard, which has begun anew: the session lives away from it.
    LivesAt {
        /// The session.
        session: SessionId,
        /// Its connection.
        address: Address,
    },
}

/// What the last mark of a shard knew that matters between it and this one.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Its own life.
    senders: Life,
    /// This shard's life.
    receivers: Life,
}

/// What a shard knows of the lives of all.
#[derive(Debug)]
pub struct Lives {
    view: View,
    /// Whose mark of this view has not come, and what the one before it knew.
    unmarked: BTreeMap<ShardId, Known>,
    /// The shard parts from a former life, and nobody is closed until that is done.
    pub(super) is_parting: bool,
}

impl Lives {
    /// Everybody's first.
    pub fn first(shards: u16) -> Lives {
        let view = vec![0; usize::from(shards)].into();
        Lives { view, unmarked: BTreeMap::new(), is_parting: false }
    }

    /// Whether letters have to be looked at before they are taken.
    #[inline]
    pub fn are_disturbed(&self) -> bool {
        !self.unmarked.is_empty()
    }

    /// Of how many shards the marks of this view are to come.
    pub fn unmarked(&self) -> usize {
        self.unmarked.len()
    }

    /// Whether a shard lives another life than its first.
    pub(super) fn has_begun_anew(&self, shard: ShardId) -> bool {
        self.of(shard) > 0
    }

    /// Whether what comes from `from` was written under this view.
    pub(super) fn has_marked(&self, from: ShardId) -> bool {
        !self.unmarked.contains_key(&from)
    }

    fn of(&self, shard: ShardId) -> Life {
        self.view[shard.index()]
    }

    /// Puts `life` of `shard` into the view, of which no mark has come then.
    fn renew(&mut self, own: ShardId, shard: ShardId, life: Life) {
        for other in (0..self.view.len() as u16).map(ShardId).filter(|other| *other != own) {
            let known = Known { senders: self.of(other), receivers: self.of(own) };
            self.unmarked.entry(other).or_insert(known);
        }
        let mut view = self.view.to_vec();
        view[shard.index()] = life;
        self.view = view.into();
    }

    /// A mark has come. Returns whether it was the last one of this view.
    fn take_mark(&mut self, own: ShardId, from: ShardId, view: &View) -> bool {
        if *view == self.view {
            return self.unmarked.remove(&from).is_some() && self.unmarked.is_empty();
        }
        if let Some(known) = self.unmarked.get_mut(&from) {
            *known = Known { senders: view[from.index()], receivers: view[own.index()] };
        }
        false
    }

    /// Whether one of the two has begun anew since the last mark of `from`, as that knew them.
    fn is_deaf_to(&self, own: ShardId, from: ShardId) -> bool {
        self.unmarked
            .get(&from)
            .is_some_and(|known| known.senders < self.of(from) || known.receivers < self.of(own))
    }
}

impl Shard {
    /// A shard in place of one that is lost, where all shards are at these `lives`, its own one
    /// included. What the old one counted goes on. [`Shard::recover`] may follow.
    pub fn begin_anew(config: ShardConfig, lives: Vec<Life>, counted: Counters, now: Now) -> Shard {
        let mut shard = Shard::new(config, now);
        let life = lives[shard.id.index()];
        shard.counters = counted;
        // Names of guests that the old life gave may be in use still.
        shard.guests = counted.opened;
        shard.homes.begin_life(life);
        if shard.everyone_home() == shard.id {
            let epoch = shard.homes.take_epoch();
            let key = shard.homes.find(EVERYONE, shard.hasher.hash(EVERYONE));
            shard.homes.get_mut(key.expect("it was just made")).epoch = epoch;
        }
        // Nobody's mark has come to this life, and it has nothing of anybody's former one.
        let nothing = Known { senders: 0, receivers: 0 };
        shard.lives.unmarked = shard.others().map(|other| (other, nothing)).collect();
        shard.lives.view = lives.into();
        shard.mark_view(None, true, now);
        shard
    }

    fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.id;
        (0..self.shards).map(ShardId).filter(move |shard| *shard != own)
    }

    /// Takes what another shard says because somebody has begun anew.
    pub(super) fn take_life_mail(&mut self, from: ShardId, mail: LifeMail, now: Now) {
        match mail {
            LifeMail::Mark(view) => self.take_mark(from, &view, now),
            LifeMail::Members(report) => self.take_report(from, *report, now),
            LifeMail::LivesAt { session, address } => {
                self.keeping.table.note_away(session, address);
            }
        }
    }

    /// A shard's view has become this one. What is new in it is done one shard after the other, so
    /// that what is asked of one of them does not get lost between it and the next.
    fn take_mark(&mut self, from: ShardId, view: &View, now: Now) {
        for lost in self.others() {
            let life = view[lost.index()];
            if life > self.lives.of(lost) {
                self.lives.renew(self.id, lost, life);
                let was_blank = self.census.as_ref().is_some_and(|census| census.is_blank());
                self.mark_view(Some(lost), was_blank, now);
                self.part_from(lost, now);
            }
        }
        if self.lives.take_mark(self.id, from, view) {
            self.end_reports(now);
        }
    }

    /// Tells all that the view is a new one, and what this shard has at this instant.
    fn mark_view(&mut self, lost: Option<ShardId>, is_blank: bool, now: Now) {
        let view = Arc::clone(&self.lives.view);
        self.census = Some(Box::new(Census::new(Arc::clone(&view), is_blank)));
        if let Some(lost) = lost {
            // They are for the old life.
            self.postbag.discard(lost);
        }
        for other in self.others() {
            self.send(other, Mail::Life(LifeMail::Mark(Arc::clone(&view))), now);
        }
        self.report_members(&view, lost, now);
        if !self.lives.are_disturbed() {
            self.end_reports(now);
        }
    }

    /// Nothing of an earlier view can be on its way to this shard any more.
    fn end_reports(&mut self, now: Now) {
        let view = Arc::clone(&self.lives.view);
        for home in (0..self.shards).map(ShardId) {
            self.end_report(&view, home, now);
        }
    }

    /// Looks at a letter before it is taken. Returns whether it is to be: what was said to or by a
    /// life that is over is not.
    #[cold]
    pub(super) fn is_to_be_heard(&mut self, from: ShardId, mail: &Mail, now: Now) -> bool {
        if matches!(mail, Mail::Life(LifeMail::Mark(_))) {
            return true;
        }
        if self.lives.is_deaf_to(self.id, from) {
            return false;
        }
        if let Mail::Deposit(kept) | Mail::Granted { kept, .. } = mail
            && !self.lives.has_marked(from)
        {
            let view = Arc::clone(&self.lives.view);
            self.report_arrival(&view, kept, now);
        }
        true
    }
}
