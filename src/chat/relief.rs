//! Room made in an outbox that is too full.
//!
//! Owns how messages are taken out of the middle of what waits, whole ones only, and the notices
//! that take their places: each names what was dropped exactly, in the order of the stream. Never
//! decides that an outbox is too full, nor what happens if too little may be dropped:
//! [`overflow`](super::overflow) does.
//!
//! Losses of one room that follow one another are one gap, also where messages of other rooms
//! stand between them: between rooms there is no order to keep. What is said to one connection
//! alone is not passed over, because a room's messages before an answer and those behind it can
//! belong to different stays; neither is what stays of the room itself.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::ids::{Epoch, Seq};
use crate::base::limits::{FOLD_LOOKS, NOTICE_BYTES};
use crate::base::name::Name;
use crate::wire::message::{Event, PresenceKind};

use super::batch::{About, Chunk, ChunkPool, Dialect};
use super::outbox::{Outbox, OutboxPool, Piece, release};
use super::overflow::Overflow;

/// Messages of a room that one member is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The epoch.
    pub epoch: Epoch,
    /// The first one.
    pub from: Seq,
    /// The last one.
    pub to: Seq,
}

impl Gap {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.to.0 - self.from.0 + 1
    }

    fn is_followed_by(&self, next: &Gap) -> bool {
        self.epoch == next.epoch && self.to.0 + 1 == next.from.0
    }
}

/// What stands in an outbox in place of what was dropped.
#[derive(Debug)]
pub struct Notice {
    room: Name,
    gap: Option<Gap>,
    /// Members of the room, where comings and goings were dropped.
    total: Option<u32>,
    /// The notice as it is sent; empty while it is being changed.
    bytes: Vec<u8>,
}

impl Notice {
    /// The notice as it is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes in what was lost next. Returns whether it could.
    fn take_in(&mut self, gap: Option<Gap>, total: Option<u32>) -> bool {
        match (&mut self.gap, gap) {
            (Some(known), Some(next)) if known.is_followed_by(&next) => known.to = next.to,
            (Some(_), Some(_)) => return false,
            (known @ None, next) => *known = next,
            (Some(_), None) => {}
        }
        self.total = total.or(self.total);
        true
    }

    fn encode(&mut self, dialect: Dialect) {
        if let Some(Gap { epoch, from, to }) = self.gap {
            dialect.encode(&mut self.bytes, &Event::Gap { epoch, from, to, room: &self.room });
        }
        if let Some(total) = self.total {
            let (kind, room) = (PresenceKind::Many, &self.room);
            dialect.encode(&mut self.bytes, &Event::Presence { kind, total, room, user: "" });
        }
    }
}

/// Messages of a room that were dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The room.
    pub room: Name,
    /// Why they could be.
    pub overflow: Overflow,
    /// Which.
    pub gap: Gap,
}

/// The room whose news was too much.
#[derive(Clone, Copy, Debug)]
pub struct Culprit<'a> {
    /// The room.
    pub room: &'a Name,
    /// What gives way there.
    pub overflow: Overflow,
}

/// Which messages give way.
#[derive(Clone, Copy)]
struct Victims<'a> {
    overflow: Overflow,
    /// Only those of one room.
    room: Option<&'a Name>,
}

impl Victims<'_> {
    fn has(&self, chunk: &Chunk) -> bool {
        chunk.label().is_some_and(|label| {
            label.overflow == self.overflow
                && !matches!(label.about, About::Page)
                && self.room.is_none_or(|room| *room == label.room)
        })
    }

    /// Bytes that give way beyond what must, so that room need not be made again at once: a part of
    /// what may, or little would be left of a room that has little there.
    fn quarter_of(&self, outbox: &Outbox) -> usize {
        let bytes = |piece: &Piece| match piece {
            Piece::Shared { chunk, start, end } if self.has(chunk) => (end - start) as usize,
            _ => 0,
        };
        outbox.pieces.iter().map(bytes).sum::<usize>() / 4
    }
}

/// Makes room in outboxes. What it works with is kept for the next time.
#[derive(Debug)]
pub struct Relief {
    dialect: Dialect,
    /// What stays, in its order.
    kept: Vec<Piece>,
    /// What was taken from the end, the last first, and whether it gives way.
    from_end: Vec<(Piece, bool)>,
    /// Where in `kept` the notices are that a loss can be added to, one for each room.
    open: Vec<usize>,
    /// What was dropped.
    dropped: Vec<Piece>,
    losses: Vec<Loss>,
    /// Comings and goings that were dropped.
    folded: u64,
    /// Bytes that were dropped in this pass.
    freed: usize,
}

impl Default for Relief {
    fn default() -> Relief {
        Relief {
            dialect: Dialect::Native,
            kept: Vec::new(),
            from_end: Vec::new(),
            open: Vec::new(),
            dropped: Vec::new(),
            losses: Vec::new(),
            folded: 0,
            freed: 0,
        }
    }
}

impl Relief {
    /// Drops what may be dropped until no more than `max` bytes wait, or all of it is gone: of the
    /// culprit first, and then of every room. The notices are in `dialect`.
    pub fn relieve(
        &mut self,
        outbox: &mut Outbox,
        culprit: Option<Culprit<'_>>,
        max: usize,
        dialect: Dialect,
    ) {
        self.dialect = dialect;
        let begun = outbox.take_begun();
        if let Some(Culprit { room, overflow }) = culprit {
            let victims = Victims { overflow, room: Some(room) };
            let spare = match overflow {
                Overflow::DropNewest => NOTICE_BYTES,
                _ => victims.quarter_of(outbox),
            };
            self.pass(outbox, victims, max.saturating_sub(spare));
        }
        for overflow in [Overflow::LatestOnly, Overflow::DropOldest, Overflow::DropNewest] {
            if outbox.waiting() > max {
                let victims = Victims { overflow, room: None };
                self.pass(outbox, victims, max.saturating_sub(victims.quarter_of(outbox)));
            }
        }
        if let Some(begun) = begun {
            outbox.pieces.push_front(begun);
        }
    }

    /// The messages that were dropped.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Comings and goings that were dropped in favour of totals.
    pub fn folded(&self) -> u64 {
        self.folded
    }

    /// Forgets what was dropped.
    pub fn release(&mut self, pool: &mut OutboxPool, chunks: &mut ChunkPool) {
        for piece in self.dropped.drain(..) {
            release(piece, pool, chunks);
        }
        self.losses.clear();
        self.folded = 0;
    }

    fn pass(&mut self, outbox: &mut Outbox, victims: Victims<'_>, target: usize) {
        self.freed = 0;
        match victims.overflow {
            Overflow::Disconnect => {}
            Overflow::DropOldest => self.drop_oldest(outbox, victims, target),
            Overflow::DropNewest => self.drop_newest(outbox, victims, target),
            Overflow::LatestOnly => self.drop_all_but_latest(outbox, victims),
        }
        self.open.clear();
        outbox.waiting -= self.freed;
    }

    fn drop_oldest(&mut self, outbox: &mut Outbox, victims: Victims<'_>, target: usize) {
        while let Some(excess) = (outbox.waiting - self.freed).checked_sub(target + 1)
            && let Some(piece) = outbox.pieces.pop_front()
        {
            match piece {
                Piece::Shared { chunk, start, end } if victims.has(&chunk) => {
                    let cut = chunk.frames().end_after(start, excess + 1).min(end);
                    if cut < end {
                        let chunk = Rc::clone(&chunk);
                        outbox.pieces.push_front(Piece::Shared { chunk, start: cut, end });
                    }
                    self.lose(chunk, start, cut);
                }
                piece => self.keep(piece),
            }
        }
        self.encode_notices(outbox);
        while let Some(piece) = self.kept.pop() {
            outbox.pieces.push_front(piece);
        }
    }

    fn drop_newest(&mut self, outbox: &mut Outbox, victims: Victims<'_>, target: usize) {
        let mut excess = outbox.waiting.saturating_sub(target);
        while excess > 0
            && let Some(piece) = outbox.pieces.pop_back()
        {
            match piece {
                Piece::Shared { chunk, start, end } if victims.has(&chunk) => {
                    let cut = chunk.frames().start_before(end, excess).max(start);
                    if cut > start {
                        let chunk = Rc::clone(&chunk);
                        outbox.pieces.push_back(Piece::Shared { chunk, start, end: cut });
                    }
                    excess = excess.saturating_sub((end - cut) as usize);
                    self.from_end.push((Piece::Shared { chunk, start: cut, end }, true));
                }
                piece => self.from_end.push((piece, false)),
            }
        }
        self.look_back(&mut outbox.pieces, victims);
        while let Some((piece, gives_way)) = self.from_end.pop() {
            match piece {
                Piece::Shared { chunk, start, end } if gives_way => self.lose(chunk, start, end),
                piece => self.keep(piece),
            }
        }
        self.encode_notices(outbox);
        outbox.pieces.extend(self.kept.drain(..));
    }

    /// Looks for a notice to which what is dropped at the end can be added.
    fn look_back(&mut self, pieces: &mut VecDeque<Piece>, victims: Victims<'_>) {
        for _ in 0..FOLD_LOOKS {
            let is_found = match pieces.back() {
                None | Some(Piece::Own(_)) => return,
                Some(Piece::Shared { chunk, .. }) if victims.has(chunk) => return,
                Some(Piece::Notice(notice)) => victims.room.is_some_and(|it| *it == notice.room),
                Some(_) => false,
            };
            self.from_end.extend(pieces.pop_back().map(|piece| (piece, false)));
            if is_found {
                return;
            }
        }
    }

    fn drop_all_but_latest(&mut self, outbox: &mut Outbox, victims: Victims<'_>) {
        let latest = latest_of(&outbox.pieces, victims);
        for index in 0..outbox.pieces.len() {
            match outbox.pieces.pop_front().expect("as many as there were") {
                Piece::Shared { chunk, start, end } if victims.has(&chunk) => {
                    let is_latest = latest.contains(&index);
                    let cut = if is_latest { chunk.frames().start_before(end, 1) } else { end };
                    let cut = cut.max(start);
                    let rest = (cut < end).then(|| Rc::clone(&chunk));
                    if cut > start {
                        self.lose(chunk, start, cut);
                    }
                    if let Some(chunk) = rest {
                        self.keep(Piece::Shared { chunk, start: cut, end });
                    }
                }
                piece => self.keep(piece),
            }
        }
        self.encode_notices(outbox);
        outbox.pieces.extend(self.kept.drain(..));
    }

    /// A piece stays.
    fn keep(&mut self, piece: Piece) {
        match &piece {
            Piece::Own(_) => self.open.clear(),
            Piece::Urgent(_) => {}
            Piece::Shared { chunk, .. } => {
                if let Some(label) = chunk.label() {
                    self.close(&label.room);
                }
            }
            Piece::Notice(notice) => {
                if self.add(&notice.room, notice.gap, notice.total) {
                    self.freed += notice.bytes.len();
                    return self.dropped.push(piece);
                }
                self.close(&notice.room);
                self.open.push(self.kept.len());
            }
        }
        self.kept.push(piece);
    }

    /// The frames in `start..end` of a chunk are dropped.
    fn lose(&mut self, chunk: Rc<Chunk>, start: u32, end: u32) {
        let label = chunk.label().expect("only what has a label is dropped");
        let room = &label.room;
        match label.about {
            About::Messages { epoch, first } => {
                let at = |offset| Seq(first.0 + chunk.frames().index_at(offset) as u64);
                let gap = Gap { epoch, from: at(start), to: Seq(at(end).0 - 1) };
                match self.losses.last_mut() {
                    Some(last) if last.room == *room && last.gap.is_followed_by(&gap) => {
                        last.gap.to = gap.to;
                    }
                    _ => {
                        let loss = Loss { room: room.clone(), overflow: label.overflow, gap };
                        self.losses.push(loss);
                    }
                }
                self.note(room, Some(gap), None);
            }
            About::Gap(gap) => self.note(room, Some(gap), None),
            About::Presence { total } => {
                self.folded += 1;
                self.note(room, None, Some(total));
            }
            About::Page => unreachable!("what was asked for is not dropped"),
        }
        self.freed += (end - start) as usize;
        self.dropped.push(Piece::Shared { chunk, start, end });
    }

    /// Says what was lost, at this place.
    fn note(&mut self, room: &Name, gap: Option<Gap>, total: Option<u32>) {
        if !self.add(room, gap, total) {
            self.close(room);
            self.open.push(self.kept.len());
            let notice = Notice { room: room.clone(), gap, total, bytes: Vec::new() };
            self.kept.push(Piece::Notice(Box::new(notice)));
        }
    }

    /// Adds what was lost to the notice that is open for its room. Returns whether it could.
    fn add(&mut self, room: &Name, gap: Option<Gap>, total: Option<u32>) -> bool {
        let Some(index) = self.open_notice(room) else {
            return false;
        };
        let Piece::Notice(notice) = &mut self.kept[self.open[index]] else {
            unreachable!("an open notice is one");
        };
        let is_added = notice.take_in(gap, total);
        if is_added {
            self.freed += notice.bytes.len();
            notice.bytes.clear();
        }
        is_added
    }

    /// No further loss can be added to what is told of a room here.
    fn close(&mut self, room: &Name) {
        if let Some(index) = self.open_notice(room) {
            self.open.swap_remove(index);
        }
    }

    fn open_notice(&self, room: &Name) -> Option<usize> {
        let is_of_room = |at: &usize| match &self.kept[*at] {
            Piece::Notice(notice) => notice.room == *room,
            _ => unreachable!("an open notice is one"),
        };
        self.open.iter().position(is_of_room)
    }

    fn encode_notices(&mut self, outbox: &mut Outbox) {
        for piece in &mut self.kept {
            if let Piece::Notice(notice) = piece
                && notice.bytes.is_empty()
            {
                notice.encode(self.dialect);
                outbox.waiting += notice.bytes.len();
            }
        }
    }
}

/// Where the latest messages of rooms are, of which no others are kept.
fn latest_of(pieces: &VecDeque<Piece>, victims: Victims<'_>) -> Vec<usize> {
    let mut latest: Vec<(&Name, usize)> = Vec::new();
    for (index, piece) in pieces.iter().enumerate().rev() {
        if let Piece::Shared { chunk, .. } = piece
            && victims.has(chunk)
            && let Some(label) = chunk.label()
            && matches!(label.about, About::Messages { .. })
            && !latest.iter().any(|(room, _)| **room == label.room)
        {
            latest.push((&label.room, index));
        }
    }
    latest.into_iter().map(|(_, index)| index).collect()
}
