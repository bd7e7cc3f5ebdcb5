//! What shards do when one of them has begun anew.
//!
//! Owns the agreement on it. A shard whose worker panicked is thrown away as a whole, and another
//! one takes its place, with its number, its history where there is a store, and nothing else. Its
//! first letter to each of the others is its mark; a shard that first hears of the cut, from
//! whomever, sends its own mark to all, and only then does what there is to do. Letters between two
//! shards keep their order, so a mark parts what was said to or by the old life from what follows.
//! Never sees the panic: the shell does, and calls [`Shard::begin_anew`]. What there is to do then
//! is in [`parting`](super::parting), and the rosters are counted anew ([`census`](super::census)).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::counters::Counters;
use crate::base::ids::ShardId;
use crate::base::name::EVERYONE;
use crate::base::time::Now;

use super::census::Census;
use super::config::ShardConfig;
use super::mail::Mail;
use super::shard::Shard;

/// Which time a shard lives: 0 for the first.
pub type Life = u32;

/// The end of one life of a shard and the beginning of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// Whose.
    pub shard: ShardId,
    /// The life that begins.
    pub life: Life,
}

/// What a shard knows of the lives of all.
#[derive(Debug)]
pub struct Lives {
    /// Which one each is at, as far as that was heard.
    known: Vec<Life>,
    /// Of which of these this shard has marked the beginning, in its own present life.
    opened: Vec<Life>,
    /// From the life before which of these it has parted.
    parted: Vec<Life>,
    /// Shards whose letters are not heard before their marks of these cuts, one after the other:
    /// they
    /// are to or from a life that is over.
    deaf_to: BTreeMap<ShardId, VecDeque<Cut>>,
    /// Cuts of which marks are to come, and whose.
    open: BTreeMap<Cut, BTreeSet<ShardId>>,
}

impl Lives {
    /// All live the lives in `known`, and nothing is left of those before.
    pub fn new(known: Vec<Life>) -> Lives {
        let none = vec![0; known.len()];
        Lives {
            opened: none.clone(),
            parted: none,
            known,
            deaf_to: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    /// Whether letters have to be looked at before they are taken.
    #[inline]
    pub fn are_disturbed(&self) -> bool {
        !self.open.is_empty() || !self.deaf_to.is_empty()
    }

    /// Cuts of which marks are to come.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

impl Shard {
    /// A shard in place of one that is lost, where all shards are at these `lives`, its own one
    /// included. What the old one counted goes on. [`Shard::recover`] may follow.
    pub fn begin_anew(config: ShardConfig, lives: Vec<Life>, counted: Counters, now: Now) -> Shard {
        let mut shard = Shard::new(config, now);
        let life = lives[shard.id.index()];
        shard.lives = Lives::new(lives);
        shard.counters = counted;
        // Names of guests that the old life gave may be in use still.
        shard.guests = counted.opened;
        shard.homes.begin_life(life);
        if shard.everyone_home() == shard.id {
            let epoch = shard.homes.take_epoch();
            let key = shard.homes.find(EVERYONE, shard.hasher.hash(EVERYONE));
            shard.homes.get_mut(key.expect("it was just made")).epoch = epoch;
        }
        let cut = Cut { shard: shard.id, life };
        shard.lives.deaf_to = shard.others().map(|other| (other, [cut].into())).collect();
        shard.open_cut(cut, now);
        shard
    }

    fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.id;
        (0..self.shards).map(ShardId).filter(move |shard| *shard != own)
    }

    /// First hears of a cut: marks it towards all, and counts its rosters anew.
    fn open_cut(&mut self, cut: Cut, now: Now) {
        self.lives.known[cut.shard.index()] = cut.life;
        self.lives.parted[cut.shard.index()] = cut.life;
        let was_blank = self.census.as_ref().is_some_and(|census| census.is_blank());
        let is_blank = was_blank || cut.shard == self.id;
        self.census = Some(Box::new(Census::new(cut, self.shards, is_blank)));
        let others: BTreeSet<ShardId> = self.others().collect();
        self.mark_cut(cut, others, now);
    }

    /// Sends `others` this shard's mark, whose marks it awaits, and reports.
    fn mark_cut(&mut self, cut: Cut, others: BTreeSet<ShardId>, now: Now) {
        self.lives.opened[cut.shard.index()] = cut.life;
        for other in &others {
            if *other == cut.shard {
                // They are for the old life.
                self.postbag.discard(*other);
            }
            self.send(*other, Mail::Cut { cut, asks: true }, now);
        }
        self.lives.open.insert(cut, others);
        self.report_members(cut, None, now);
        self.end_cut_if_marked(cut, now);
    }

    fn end_cut_if_marked(&mut self, cut: Cut, now: Now) {
        if self.lives.open.get(&cut).is_some_and(BTreeSet::is_empty) {
            self.lives.open.remove(&cut);
            for home in (0..self.shards).map(ShardId) {
                self.end_report(cut, home, now);
            }
        }
    }

    /// A shard's mark of a cut.
    pub(super) fn take_mark(&mut self, from: ShardId, cut: Cut, asks: bool, now: Now) {
        if cut.life > self.lives.known[cut.shard.index()] {
            let deaf = self.lives.deaf_to.entry(cut.shard).or_default();
            deaf.clear();
            deaf.extend((from != cut.shard).then_some(cut));
            self.open_cut(cut, now);
            self.ask_for_marks(cut.shard, now);
            self.part_from(cut.shard, now);
        } else if asks && cut.shard != self.id {
            self.take_late_mark(from, cut, now);
        }
        if let Some(deaf) = self.lives.deaf_to.get_mut(&from) {
            if deaf.front() == Some(&cut) {
                deaf.pop_front();
            }
            if deaf.is_empty() {
                self.lives.deaf_to.remove(&from);
            }
        }
        if let Some(awaited) = self.lives.open.get_mut(&cut) {
            awaited.remove(&from);
        }
        if let Some(census) = &mut self.census {
            census.note_mark(cut, from);
        }
        self.end_cut_if_marked(cut, now);
    }

    /// A mark of a cut that was known to all when this life began, or is dealt with: who sends it
    /// may have had this shard's mark from its former life, or not.
    fn take_late_mark(&mut self, from: ShardId, cut: Cut, now: Now) {
        let index = cut.shard.index();
        if from == cut.shard {
            if self.lives.parted[index] < cut.life {
                // Nothing that this life has said to it so far was heard.
                self.lives.parted[index] = cut.life;
                self.postbag.discard(from);
                self.send(from, Mail::Cut { cut, asks: false }, now);
                self.report_members(cut, Some(from), now);
                self.end_report(cut, from, now);
                self.part_from(from, now);
            }
        } else if self.lives.opened[index] < cut.life {
            let others = self.others().filter(|other| *other != cut.shard).collect();
            self.mark_cut(cut, others, now);
        } else if !self.lives.open.contains_key(&cut) {
            self.send(from, Mail::Cut { cut, asks: false }, now);
        }
    }

    /// Asks the next life of `lost` for the marks that its former life owes, and reports to it, of
    /// whichever cut it counts its rosters at.
    fn ask_for_marks(&mut self, lost: ShardId, now: Now) {
        for shard in self.others().filter(|shard| *shard != lost) {
            let cut = Cut { shard, life: self.lives.opened[shard.index()] };
            if cut.life > 0 && !self.lives.open.contains_key(&cut) {
                self.send(lost, Mail::Cut { cut, asks: false }, now);
                self.report_members(cut, Some(lost), now);
                self.end_report(cut, lost, now);
            }
        }
        let open: Vec<Cut> = self.lives.open.keys().copied().collect();
        for cut in open.into_iter().filter(|cut| cut.shard != lost) {
            self.lives.open.entry(cut).or_default().insert(lost);
            if cut.shard == self.id {
                self.lives.deaf_to.entry(lost).or_default().push_back(cut);
            }
            self.send(lost, Mail::Cut { cut, asks: true }, now);
            self.report_members(cut, Some(lost), now);
        }
    }

    /// Looks at a letter before it is taken. Returns whether it is to be: what was said to or by a
    /// life that is over is not.
    #[cold]
    pub(super) fn is_to_be_heard(&mut self, from: ShardId, mail: &Mail, now: Now) -> bool {
        if matches!(mail, Mail::Cut { .. }) {
            return true;
        }
        if self.lives.deaf_to.contains_key(&from) {
            return false;
        }
        if let Mail::Deposit(kept) | Mail::Granted { kept, .. } = mail {
            let unmarked = self.lives.open.iter().filter(|(_, awaited)| awaited.contains(&from));
            let cuts: Vec<Cut> = unmarked.map(|(cut, _)| *cut).collect();
            for cut in cuts {
                self.report_arrival(cut, kept, now);
            }
        }
        true
    }
}
