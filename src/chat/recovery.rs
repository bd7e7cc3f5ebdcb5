//! What members get of the past.
//!
//! Owns the home's side of it: what is kept, where a replay begins, its pages, listings, and how
//! much all rooms keep together. Never holds a message itself ([`history`](super::history) does),
//! and never decides when the next page goes out: the member's shard asks for it
//! ([`catch_up`](super::catch_up)).

use std::sync::Arc;

use crate::base::ids::{Address, Position, Ref, Seq, ShardId};
use crate::base::limits::{HISTORY_ANSWER_MAX, HISTORY_LOOKS, REPLAYS_STAGED_MAX};
use crate::base::name::Name;
use crate::base::time::Now;
use crate::wire::message::Code;
use crate::wire::native;

use super::batch::{Batch, Frames};
use super::catch_up::Round;
use super::history::{History, PageBounds, PageEnd, Start};
use super::home::{HomeKey, HomeRoom};
use super::homes::Said;
use super::mail::{Asked, Extent, Mail, Replay, Since};
use super::shard::Shard;

/// What a shard knows of all its rooms' histories together.
#[derive(Debug, Default)]
pub struct Archive {
    /// Bytes of memory that they take.
    memory: usize,
    last_listing: u32,
    /// A message that nobody hears, before it is kept.
    unheard: Vec<u8>,
    /// The page that was sent last. Many who lost their connections at one instant ask for one and
    /// the same.
    last_page: Option<CachedPage>,
}

#[derive(Debug)]
struct CachedPage {
    room: Name,
    head: Position,
    after: Position,
    end: PageEnd,
    page: Option<Arc<Batch>>,
}

impl Archive {
    /// Bytes of memory that all histories take.
    pub fn memory(&self) -> usize {
        self.memory
    }
}

/// What is kept.
impl Shard {
    /// Keeps the message that a room took last.
    pub(super) fn keep(&mut self, key: HomeKey, said: &Said<'_>, now: Now) {
        let home = self.homes.get_mut(key);
        let at = Position { epoch: home.epoch, seq: home.seq };
        let HomeRoom { name, open, history, .. } = home;
        let frame = match open {
            Some(open) => open.frames.frame(open.frames.count() - 1),
            None => {
                self.archive.unheard.clear();
                let event = said.event(name, at, now);
                native::encode_event(&mut self.archive.unheard, &event, false);
                &self.archive.unheard
            }
        };
        let memory_before = history.as_deref().map_or(0, History::memory);
        let history = history.get_or_insert_default();
        history.push(at, frame, 0, now.mono, &self.limits);
        self.archive.memory += history.memory() - memory_before;
        if home.history_listing == 0 {
            self.list_history(key, now);
        }
        if self.archive.memory > self.limits.history_memory {
            self.relieve(now);
        }
    }

    /// Keeps messages that are written, the first of which stands at `first`. `age_ms` tells how
    /// long ago one was taken.
    pub(super) fn keep_written(
        &mut self,
        key: HomeKey,
        first: Position,
        frames: &Frames,
        age_ms: impl Fn(&[u8]) -> u64,
        now: Now,
    ) {
        let history = &mut self.homes.get_mut(key).history;
        let memory_before = history.as_deref().map_or(0, History::memory);
        let history = history.get_or_insert_default();
        for index in 0..frames.count() {
            let at = Position { epoch: first.epoch, seq: Seq(first.seq.0 + index as u64) };
            let frame = frames.frame(index);
            history.push(at, frame, age_ms(frame), now.mono, &self.limits);
        }
        self.archive.memory += history.memory();
        self.archive.memory -= memory_before;
        if self.homes.get(key).history_listing == 0 {
            self.list_history(key, now);
        }
        if self.archive.memory > self.limits.history_memory {
            self.relieve(now);
        }
    }

    /// Puts a room on the list of those with a history.
    fn list_history(&mut self, key: HomeKey, now: Now) {
        self.archive.last_listing = self.archive.last_listing.wrapping_add(1).max(1);
        let listing = self.archive.last_listing;
        self.homes.get_mut(key).history_listing = listing;
        let due = now.mono + self.limits.history_period_ms();
        self.agenda.note_history(key, listing, now.mono, due);
    }

    /// Drops histories until they take no more memory than they may: of rooms in which nothing was
    /// said since they were last looked at, as far as the first ones on the list go.
    #[cold]
    fn relieve(&mut self, now: Now) {
        let mut looks = HISTORY_LOOKS;
        while self.archive.memory > self.limits.history_memory
            && let Some((key, listing, listed_at)) = self.agenda.pop_history()
        {
            if !self.homes.is_listed(key, listing) {
                continue;
            }
            if self.homes.get(key).last_active > listed_at && looks > 0 {
                looks -= 1;
                self.list_history(key, now);
                continue;
            }
            self.counters.histories_dropped += 1;
            self.forget_history(key);
        }
    }

    /// Drops what a room kept.
    pub(super) fn forget_history(&mut self, key: HomeKey) {
        let home = self.homes.get_mut(key);
        home.history_listing = 0;
        if let Some(history) = home.history.take() {
            self.archive.memory -= history.memory();
        }
        self.trim_records(key);
    }

    /// Drops what is too old of a room's history, and looks at it again later if something is left.
    pub(super) fn sweep_history(&mut self, key: HomeKey, listing: u32, now: Now) {
        if !self.homes.is_listed(key, listing) {
            return;
        }
        if self.keeps_messages(key, now) {
            self.trim_records(key);
            self.list_history(key, now);
        } else {
            self.forget_history(key);
        }
    }

    /// Whether a room keeps messages that are not too old.
    pub(super) fn keeps_messages(&mut self, key: HomeKey, now: Now) -> bool {
        let age_ms = self.limits.history_age_ms;
        let Some(history) = self.homes.get_mut(key).history.as_mut() else {
            return false;
        };
        history.drop_aged(now.mono, age_ms);
        !history.is_empty()
    }
}

/// What is told.
impl Shard {
    /// The beginning of what a member that joins is to get of the past.
    pub(super) fn begin_replay(
        &mut self,
        key: HomeKey,
        (shard, user): (ShardId, &Name),
        since: Since,
        now: Now,
    ) -> Option<Box<Replay>> {
        if since == Since::Live {
            return None;
        }
        self.keeps_messages(key, now);
        let home = self.homes.get(key);
        let Start { after, gap, missing } = home.history().start(home.head(), since, user);
        self.counters.rejoined += 1;
        self.counters.history_gaps += u64::from(gap);
        let staged = if shard == self.id { 0 } else { self.postbag.waiting_for(shard) };
        // It asks for the next page when what waits for its shard has gone.
        let nothing = Replay { page: None, last: after, is_head: false, gap, missing };
        if staged > REPLAYS_STAGED_MAX {
            return Some(Box::new(nothing));
        }
        let page = self.page(key, after);
        Some(Box::new(match (missing, page.missing) {
            // Only one stretch can be told with a page.
            (Some(_), Some(_)) => nothing,
            (first, second) => Replay { gap: gap || page.gap, missing: first.or(second), ..page },
        }))
    }

    /// Sends a member the next page of its replay.
    pub(super) fn home_next_page(
        &mut self,
        room: Name,
        member: Address,
        round: Round,
        after: Position,
        now: Now,
    ) {
        let key = self.homes.find(&room, self.hasher.hash(&room)).expect("a member keeps its room");
        self.tell_all_so_far(key, member.shard());
        self.keeps_messages(key, now);
        let replay = Box::new(self.page(key, after));
        let total = self.homes.get(key).roster.total();
        let mail = Mail::Page { room, conn: member.conn(), round, total, replay };
        self.send(member.shard(), mail, now);
    }

    /// Sends a listing of what was said.
    pub(super) fn home_history(
        &mut self,
        room: Name,
        origin: Address,
        reference: Ref,
        extent: Extent,
        now: Now,
    ) {
        let conn = origin.conn();
        let Some(key) = self.homes.find(&room, self.hasher.hash(&room)) else {
            let (request, code) = (Asked::History, Code::NotFound);
            let text = "there is no such room";
            let mail = Mail::Refused { conn, reference, request, code, text };
            return self.send(origin.shard(), mail, now);
        };
        self.tell_all_so_far(key, origin.shard());
        self.keeps_messages(key, now);
        let bytes = self.limits.replay_page_bytes();
        let home = self.homes.get(key);
        let head = home.head();
        let (start, count) = match extent {
            Extent::Following { since, limit } => {
                let limit = if limit == 0 { HISTORY_ANSWER_MAX } else { usize::from(limit) };
                (home.history().start_listing(head, since), limit.min(HISTORY_ANSWER_MAX))
            }
            Extent::Latest(count) => {
                let count = usize::from(count).min(HISTORY_ANSWER_MAX);
                let after = home.history().start_latest(head, PageBounds { bytes, count });
                (Start { after, gap: false, missing: None }, count)
            }
        };
        let mut replay = self.page_within(key, start.after, PageBounds { bytes, count });
        replay.gap = start.gap;
        self.counters.histories_asked += 1;
        self.counters.history_gaps += u64::from(start.gap);
        let replay = Box::new(replay);
        self.send(origin.shard(), Mail::Listed { conn, room, reference, head, replay }, now);
    }

    /// A page of a replay, which may be the one that was sent last.
    fn page(&mut self, key: HomeKey, after: Position) -> Replay {
        let home = self.homes.get(key);
        let head = home.head();
        if let Some(cached) = &self.archive.last_page
            && (cached.after, cached.head) == (after, head)
            && cached.room == home.name
        {
            return Replay::new(cached.page.clone(), cached.end);
        }
        let room = home.name.clone();
        let bytes = self.limits.replay_page_bytes();
        let replay = self.page_within(key, after, PageBounds { bytes, count: usize::MAX });
        let Replay { page, last, is_head, missing, .. } = &replay;
        let end = PageEnd { missing: *missing, last: *last, is_head: *is_head };
        self.archive.last_page = Some(CachedPage { room, head, after, end, page: page.clone() });
        replay
    }

    fn page_within(&mut self, key: HomeKey, after: Position, bounds: PageBounds) -> Replay {
        let home = self.homes.get(key);
        let mut frames = Frames::default();
        let end = home.history().page(home.head(), after, bounds, &mut frames);
        let page = (frames.count() > 0).then(|| {
            let mut batch = Batch::new(home.name.clone());
            batch.frames = frames;
            Arc::new(batch)
        });
        Replay::new(page, end)
    }
}

impl Replay {
    fn new(page: Option<Arc<Batch>>, end: PageEnd) -> Replay {
        let PageEnd { missing, last, is_head } = end;
        Replay { page, last, is_head, gap: false, missing }
    }
}
