//! What a room's home keeps of what was said: a ring of encoded messages.
//!
//! Owns the ring of one room: one growing ring of bytes, which holds plain native MESSAGE frames
//! one behind the other, and one entry for each, so that the place of a message is computed and not
//! searched. Messages of several epochs may be in it, the older ones in front. Never decides who
//! gets what ([`recovery`](super::recovery) does), and never reads a clock.

use std::collections::VecDeque;

use crate::base::ids::{Epoch, Position, Seq};
use crate::base::limits::{Limits, PAST_EPOCHS_MAX};
use crate::base::time::Mono;
use crate::wire::native;

use super::batch::Frames;
use super::mail::Since;

/// Messages of a room that are no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Their epoch.
    pub epoch: Epoch,
    /// The first one.
    pub from: Seq,
    /// The last one.
    pub to: Seq,
}

/// Where a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The replay is what follows this.
    pub after: Position,
    /// Part of what was asked for is no longer kept.
    pub gap: bool,
    /// The part, for whoever gets no answer that could say so.
    pub missing: Option<Missing>,
}

/// How far a page of a replay came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageEnd {
    /// What precedes the page and was lost since the replay began.
    pub missing: Option<Missing>,
    /// The last message that the page holds or that was lost: the next page follows it.
    pub last: Position,
    /// Nothing follows it.
    pub is_head: bool,
}

/// How long a page may be.
#[derive(Clone, Copy, Debug)]
pub struct PageBounds {
    /// Bytes of frames; one message is always taken.
    pub bytes: usize,
    /// Messages.
    pub count: usize,
}

/// One message of the ring. Eight bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where it begins: bytes since the ring was made, modulo 2^32.
    start: u32,
    /// When it was taken, as [`Mono::low`].
    taken: u32,
}

/// The messages of one epoch, without a hole.
#[derive(Clone, Copy, Debug)]
struct Span {
    epoch: Epoch,
    /// The first one that is kept, or where none is, the one behind the last that was.
    first: Seq,
    count: usize,
}

impl Span {
    fn last(&self) -> Seq {
        Seq(self.first.0 + self.count as u64 - 1)
    }
}

/// One room's history. See the [module](self).
#[derive(Debug, Default)]
pub struct History {
    bytes: VecDeque<u8>,
    entries: VecDeque<Entry>,
    /// Older epochs in front. Those in front of the last one may have lost all of their messages.
    spans: VecDeque<Span>,
}

/// The history of a room that keeps none.
pub static NOTHING: History =
    History { bytes: VecDeque::new(), entries: VecDeque::new(), spans: VecDeque::new() };

impl History {
    /// Keeps a MESSAGE frame without checksum, taken `age_ms` before `now`. What is too much by
    /// `limits` is dropped, the oldest first; a frame that is too long by itself leaves nothing.
    ///
    /// # Panics
    /// If `at` does not follow the last message, or begin an epoch.
    pub fn push(&mut self, at: Position, frame: &[u8], age_ms: u64, now: Mono, limits: &Limits) {
        self.begin(at);
        self.drop_aged(now, limits.history_age_ms);
        while !self.entries.is_empty()
            && (self.entries.len() >= limits.history_count
                || self.bytes.len() + frame.len() > limits.history_bytes)
        {
            self.drop_first();
        }
        let span = self.spans.back_mut().expect("it was just begun");
        assert_eq!(at.seq.0, span.first.0 + span.count as u64, "messages are kept in their order");
        if frame.len() > limits.history_bytes {
            span.first.0 += 1;
            return;
        }
        span.count += 1;
        let taken = now.low().wrapping_sub(age_ms as u32);
        let start = self.first_start().wrapping_add(self.bytes.len() as u32);
        self.entries.push_back(Entry { start, taken });
        self.reserve(frame.len(), limits.history_bytes);
        self.bytes.extend(frame);
    }

    /// Makes the epoch of `at` the last one.
    fn begin(&mut self, at: Position) {
        if self.spans.back().is_some_and(|span| span.epoch == at.epoch) {
            return;
        }
        self.spans.push_back(Span { epoch: at.epoch, first: at.seq, count: 0 });
        if self.spans.len() > PAST_EPOCHS_MAX + 1 {
            while self.spans.front().is_some_and(|oldest| oldest.count > 0) {
                self.drop_first();
            }
            self.spans.pop_front();
        }
    }

    /// Makes room for a frame: the ring doubles, and is never larger than it may be.
    fn reserve(&mut self, more: usize, max: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let target = needed.max(2 * self.bytes.capacity()).min(max.max(needed));
            self.bytes.reserve_exact(target - self.bytes.len());
        }
    }

    /// Drops what was taken more than `age_ms` ago.
    pub fn drop_aged(&mut self, now: Mono, age_ms: u64) {
        while self.entries.front().is_some_and(|entry| now.since_low_ms(entry.taken) > age_ms) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let span = self.spans.iter_mut().find(|span| span.count > 0);
        let span = span.expect("an entry belongs to a span");
        span.first.0 += 1;
        span.count -= 1;
        self.bytes.drain(..self.range(0).1);
        self.entries.pop_front();
    }

    /// Where the first message begins; all places are counted from there.
    fn first_start(&self) -> u32 {
        self.entries.front().map_or(0, |entry| entry.start)
    }

    /// Where the bytes of entry `index` lie in the ring.
    fn range(&self, index: usize) -> (usize, usize) {
        let first = self.first_start();
        let start = |entry: &Entry| entry.start.wrapping_sub(first) as usize;
        let end = self.entries.get(index + 1).map_or(self.bytes.len(), start);
        (start(&self.entries[index]), end)
    }

    /// The oldest message that is kept.
    pub fn first(&self) -> Option<Position> {
        let span = self.spans.iter().find(|span| span.count > 0)?;
        Some(Position { epoch: span.epoch, seq: span.first })
    }

    /// Messages that are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no message is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>() + size_of::<History>()
    }

    /// The place in `spans`, and among the entries, of the first message of `epoch`.
    fn span(&self, epoch: Epoch) -> Option<(usize, usize)> {
        let mut before = 0;
        for (index, span) in self.spans.iter().enumerate() {
            if span.epoch == epoch {
                return Some((index, before));
            }
            before += span.count;
        }
        None
    }

    /// Before the oldest message that is kept. `head` is the room's last message.
    fn oldest(&self, head: Position) -> Position {
        match self.spans.iter().find(|span| span.count > 0) {
            Some(span) => Position { epoch: span.epoch, seq: Seq(span.first.0 - 1) },
            None => head,
        }
    }

    /// Before all that is known, kept or not.
    fn before_all(&self, head: Position) -> Position {
        let epoch = self.spans.front().map_or(head.epoch, |span| span.epoch);
        Position { epoch, seq: Seq(0) }
    }

    /// The first message of `epoch` that is kept, or the one behind the last that was: `None`
    /// where nothing is known of that epoch.
    fn first_of(&self, epoch: Epoch, head: Position) -> Option<Seq> {
        match self.span(epoch) {
            Some((index, _)) => Some(self.spans[index].first),
            None => (epoch == head.epoch).then_some(Seq(head.seq.0 + 1)),
        }
    }

    /// Where the replay of `user` for `since` begins, in a room whose last message is `head`.
    pub fn start(&self, head: Position, since: Since, user: &str) -> Start {
        match since {
            Since::Live => Start { after: head, gap: false, missing: None },
            Since::After(since) => self.start_after(head, since),
            Since::Resumed { last, undelivered_bytes } => {
                self.start_resumed(head, last, undelivered_bytes as usize, user)
            }
        }
    }

    fn start_after(&self, head: Position, since: Position) -> Start {
        let epoch = if since.epoch == Epoch(0) { head.epoch } else { since.epoch };
        let Some(first) = self.first_of(epoch, head) else {
            return Start { after: self.oldest(head), gap: true, missing: None };
        };
        if epoch == head.epoch && since.seq > head.seq {
            return Start { after: head, gap: true, missing: None };
        }
        let before_first = Seq(first.0 - 1);
        // What an earlier epoch said behind its last message that is kept is not known.
        let gap = since.seq < before_first || epoch != head.epoch;
        let after = Position { epoch, seq: since.seq.max(before_first) };
        Start { after, gap, missing: None }
    }

    /// Where the replay of a resumed session begins, which was sent all up to `last`, the final
    /// `undelivered` bytes of it perhaps in vain. So many bytes of messages are replayed again, not
    /// counting what `user` said: it may be the session's own, which it was not sent.
    ///
    /// Where they reach beyond what is kept, nobody knows how far, since the session's own messages
    /// have no bytes there. So all from the epoch's first message on is called missing.
    fn start_resumed(
        &self,
        head: Position,
        last: Position,
        undelivered: usize,
        user: &str,
    ) -> Start {
        let Some(first) = self.first_of(last.epoch, head) else {
            // No answer says *gap*. The pages say what is missing of the epochs since then.
            return Start { after: self.before_all(head), gap: true, missing: None };
        };
        if last.epoch == head.epoch && last.seq > head.seq {
            return self.start_after(head, last);
        }
        let before_first = Seq(first.0 - 1);
        let (mut kept_bytes, mut after) = (0, last.seq);
        if let Some((index, before)) = self.span(last.epoch)
            && last.seq > before_first
        {
            let span = &self.spans[index];
            let end = before + (last.seq.min(span.last()).0 - before_first.0) as usize;
            for entry in (before..end).rev() {
                if kept_bytes >= undelivered {
                    break;
                }
                let (start, stop) = self.range(entry);
                if !self.is_from(start, user) {
                    kept_bytes += stop - start;
                }
                after = Seq(before_first.0 + (entry - before) as u64);
            }
        }
        let whole_from = if undelivered > kept_bytes { Seq(0) } else { after };
        let after = Position { epoch: last.epoch, seq: after.max(before_first) };
        let is_missing = whole_from < before_first && after.seq == before_first;
        let missing = is_missing.then_some(Missing {
            epoch: last.epoch,
            from: Seq(whole_from.0 + 1),
            to: before_first,
        });
        Start { after, gap: missing.is_some(), missing }
    }

    /// Whether `user` said the message that begins at byte `start` of the ring.
    fn is_from(&self, start: usize, user: &str) -> bool {
        let room_len = usize::from(self.bytes[start + native::MESSAGE_ROOM]);
        let from = start + native::MESSAGE_ROOM + 1 + room_len;
        let from_len = usize::from(self.bytes[from]);
        from_len == user.len()
            && self.bytes.range(from + 1..from + 1 + from_len).eq(user.as_bytes())
    }

    /// Where a listing of what follows `since` in the present epoch begins; 0 is before the oldest
    /// message that is kept, of whatever epoch.
    pub fn start_listing(&self, head: Position, since: Seq) -> Start {
        if since != Seq(0) {
            return self.start_after(head, Position { epoch: head.epoch, seq: since });
        }
        let after = self.oldest(head);
        Start { after, gap: after.seq != Seq(0), missing: None }
    }

    /// Before the last messages, as many as `bounds` allows.
    pub fn start_latest(&self, head: Position, bounds: PageBounds) -> Position {
        let mut left = self.entries.len().min(bounds.count);
        while left > 1 {
            let start = self.range(self.entries.len() - left).0;
            if self.bytes.len() - start <= bounds.bytes {
                break;
            }
            left -= 1;
        }
        let mut skipped = self.entries.len() - left;
        for span in &self.spans {
            if skipped < span.count {
                return Position { epoch: span.epoch, seq: Seq(span.first.0 + skipped as u64 - 1) };
            }
            skipped -= span.count;
        }
        head
    }

    /// Appends to `page` what follows `after`, as far as `bounds` allows, each frame with the flag
    /// `REPLAY`. `head` is the room's last message.
    ///
    /// Messages that were lost since the replay came to `after` stand in front of the page or end
    /// it, so that what is missing is told where it is missed. Where nothing is known any more of
    /// the epoch that it came to, nobody knows how many its rest had, if any: the next one stands
    /// for them.
    pub fn page(
        &self,
        head: Position,
        after: Position,
        bounds: PageBounds,
        page: &mut Frames,
    ) -> PageEnd {
        let known = after.epoch == head.epoch || self.span(after.epoch).is_some();
        if !known {
            let next = Seq(after.seq.0 + 1);
            let missing = Some(Missing { epoch: after.epoch, from: next, to: next });
            return PageEnd { missing, last: self.before_all(head), is_head: false };
        }
        let mut end = PageEnd { missing: None, last: after, is_head: false };
        let (mut index, mut before) = self.span(after.epoch).unwrap_or((self.spans.len(), 0));
        while let Some(span) = self.spans.get(index) {
            if span.epoch != end.last.epoch {
                end.last = Position { epoch: span.epoch, seq: Seq(0) };
            }
            if !self.page_of_span(span, before, bounds, page, &mut end) {
                return end;
            }
            before += span.count;
            index += 1;
        }
        if end.last.epoch != head.epoch {
            end.last = Position { epoch: head.epoch, seq: Seq(0) };
        }
        let lost = Seq(head.seq.0 + 1);
        end.is_head = end.last == head || end.skip_to(lost, page);
        end
    }

    /// Appends what `span`, whose first entry is `before`, holds of the page. Returns whether the
    /// page may go on behind it.
    fn page_of_span(
        &self,
        span: &Span,
        before: usize,
        bounds: PageBounds,
        page: &mut Frames,
        end: &mut PageEnd,
    ) -> bool {
        if end.last.seq.0 + 1 < span.first.0 && !end.skip_to(span.first, page) {
            return false;
        }
        let skipped = (end.last.seq.0 + 1 - span.first.0) as usize;
        for index in before + skipped..before + span.count {
            let (start, stop) = self.range(index);
            let full = page.bytes().len() + (stop - start) > bounds.bytes;
            if page.count() >= bounds.count || (full && page.count() > 0) {
                return false;
            }
            page.push(|out| {
                let at = out.len();
                append_range(out, &self.bytes, start, stop);
                native::mark_replay(&mut out[at..]);
            });
            end.last.seq.0 += 1;
        }
        true
    }
}

impl PageEnd {
    /// Goes on at `first`: what precedes it is missing. Not behind messages, and not twice.
    fn skip_to(&mut self, first: Seq, page: &Frames) -> bool {
        if page.count() > 0 || self.missing.is_some() {
            return false;
        }
        let (epoch, from) = (self.last.epoch, Seq(self.last.seq.0 + 1));
        self.missing = Some(Missing { epoch, from, to: Seq(first.0 - 1) });
        self.last.seq = Seq(first.0 - 1);
        true
    }
}

/// Appends bytes `start..end` of a ring.
fn append_range(out: &mut Vec<u8>, ring: &VecDeque<u8>, start: usize, end: usize) {
    let (front, back) = ring.as_slices();
    let split = front.len();
    out.extend_from_slice(&front[start.min(split)..end.min(split)]);
    out.extend_from_slice(&back[start.max(split) - split..end.max(split) - split]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Event;

    const EPOCH: Epoch = Epoch(7);

    fn frame(at: Position, body: &[u8]) -> Vec<u8> {
        let Position { epoch, seq } = at;
        let (time_ms, room, from) = (1, "tea", "ann");
        let event = Event::Message { epoch, seq, time_ms, room, from, body, replay: false };
        let mut bytes = Vec::new();
        native::encode_event(&mut bytes, &event, false);
        bytes
    }

    /// Where the messages of a page stand.
    fn places(page: &Frames) -> Vec<Position> {
        let place = |index| match super::super::batch::message_of(page.frame(index)) {
            Event::Message { epoch, seq, replay, .. } => {
                assert!(replay, "a replay says that it is one");
                Position { epoch, seq }
            }
            other => panic!("{other:?}"),
        };
        (0..page.count()).map(place).collect()
    }

    fn at(seq: u64) -> Position {
        Position { epoch: EPOCH, seq: Seq(seq) }
    }

    fn filled(count: u64, limits: &Limits) -> History {
        let mut history = History::default();
        for seq in 1..=count {
            history.push(at(seq), &frame(at(seq), b"hi"), 0, Mono(seq), limits);
        }
        history
    }

    const ALL: PageBounds = PageBounds { bytes: usize::MAX, count: usize::MAX };

    fn replayed(history: &History, head: Position, after: Position) -> Vec<u64> {
        let mut page = Frames::default();
        let end = history.page(head, after, ALL, &mut page);
        assert!(end.is_head && end.last == head && end.missing.is_none(), "{end:?}");
        places(&page).iter().map(|place| place.seq.0).collect()
    }

    #[test]
    fn what_follows_a_place_is_found_and_what_is_gone_is_said() {
        let limits = Limits { history_count: 4, ..Limits::default() };
        let history = filled(10, &limits);
        for (since, gap, expected) in [
            (9, false, &[10][..]),
            (10, false, &[]),
            (6, false, &[7, 8, 9, 10]),
            (5, true, &[7, 8, 9, 10]),
            (1, true, &[7, 8, 9, 10]),
            (11, true, &[]),
        ] {
            for epoch in [EPOCH, Epoch(0)] {
                let since = Position { epoch, seq: Seq(since) };
                let start = history.start(at(10), Since::After(since), "eve");
                assert_eq!(start.gap, gap, "{since:?}");
                assert_eq!(replayed(&history, at(10), start.after), expected, "{since:?}");
            }
        }
        let foreign = Position { epoch: Epoch(3), seq: Seq(8) };
        let start = history.start(at(10), Since::After(foreign), "eve");
        assert!(start.gap);
        assert_eq!(replayed(&history, at(10), start.after), [7, 8, 9, 10]);
        assert_eq!(history.start(at(10), Since::Live, "eve").after, at(10));
    }

    #[test]
    fn a_resumed_session_gets_again_what_may_be_lost() {
        let limits = Limits { history_count: 4, ..Limits::default() };
        let history = filled(10, &limits);
        let length = frame(at(1), b"hi").len() as u32;
        let lost = |from, to| Some(Missing { epoch: EPOCH, from: Seq(from), to: Seq(to) });
        for (last, undelivered_bytes, missing, expected) in [
            (8, 0, None, &[9, 10][..]),
            (8, 1, None, &[8, 9, 10]),
            (8, length, None, &[8, 9, 10]),
            (8, length + 1, None, &[7, 8, 9, 10]),
            (10, 0, None, &[]),
            (6, 0, None, &[7, 8, 9, 10]),
            (4, 0, lost(5, 6), &[7, 8, 9, 10]),
            // How many are lost before the oldest one cannot be told by their bytes.
            (8, 2 * length + 1, lost(1, 6), &[7, 8, 9, 10]),
            (5, 1, lost(1, 6), &[7, 8, 9, 10]),
            (7, 1 << 30, lost(1, 6), &[7, 8, 9, 10]),
        ] {
            let since = Since::Resumed { last: at(last), undelivered_bytes };
            let start = history.start(at(10), since, "eve");
            assert_eq!((start.missing, start.gap), (missing, missing.is_some()), "{since:?}");
            assert_eq!(replayed(&history, at(10), start.after), expected, "{since:?}");
        }
        let last = Position { epoch: Epoch(3), seq: Seq(8) };
        let start = history.start(at(10), Since::Resumed { last, undelivered_bytes: 0 }, "eve");
        assert_eq!((start.after, start.missing), (at(0), None), "its epoch is gone");
        let end = history.page(at(10), start.after, ALL, &mut Frames::default());
        assert_eq!((end.missing, end.is_head), (lost(1, 6), true), "the next one is told whole");
        let whole = filled(3, &limits);
        let since = Since::Resumed { last: at(3), undelivered_bytes: 1 << 30 };
        assert_eq!(
            whole.start(at(3), since, "eve"),
            Start { after: at(0), gap: false, missing: None }
        );
    }

    #[test]
    fn a_listing_begins_at_the_oldest_or_ends_at_the_latest() {
        let limits = Limits { history_count: 4, ..Limits::default() };
        let history = filled(10, &limits);
        let start = history.start_listing(at(10), Seq(0));
        assert_eq!((start.after, start.gap), (at(6), true));
        assert_eq!(history.start_listing(at(10), Seq(8)).after, at(8));
        assert!(!filled(3, &limits).start_listing(at(3), Seq(0)).gap);
        assert!(NOTHING.start_listing(at(3), Seq(0)).gap);
        assert!(!NOTHING.start_listing(at(0), Seq(0)).gap);
        let length = frame(at(1), b"hi").len();
        let latest = |bytes, count| history.start_latest(at(10), PageBounds { bytes, count });
        assert_eq!(latest(usize::MAX, 2), at(8));
        assert_eq!(latest(usize::MAX, 100), at(6));
        assert_eq!(latest(3 * length, 100), at(7));
        assert_eq!(latest(1, 100), at(9));
        assert_eq!(NOTHING.start_latest(at(10), ALL), at(10));
    }

    #[test]
    fn nothing_outlives_its_age_and_too_long_a_message_is_a_gap() {
        let limits = Limits { history_age_ms: 5, history_bytes: 60, ..Limits::default() };
        let mut history = History::default();
        history.push(at(1), &frame(at(1), b""), 3, Mono(10), &limits);
        history.drop_aged(Mono(12), limits.history_age_ms);
        assert_eq!(history.len(), 1);
        history.drop_aged(Mono(13), limits.history_age_ms);
        assert!(history.is_empty());
        history.push(at(2), &frame(at(2), b""), 0, Mono(14), &limits);
        history.push(at(3), &frame(at(3), &[b'x'; 100]), 0, Mono(15), &limits);
        assert!(history.is_empty());
        history.push(at(4), &frame(at(4), b""), 0, Mono(16), &limits);
        let start = history.start(at(4), Since::After(at(2)), "eve");
        assert_eq!((start.after, start.gap), (at(3), true));
    }

    /// A history that keeps everything in a list, and searches.
    #[derive(Default)]
    struct Naive {
        said: Vec<(Position, usize, u64)>,
        dropped: usize,
        epochs: Vec<Epoch>,
    }

    impl Naive {
        fn push(&mut self, at: Position, length: usize, now: Mono, limits: &Limits) {
            if self.epochs.last() != Some(&at.epoch) {
                self.epochs.push(at.epoch);
                let known = self.known().to_vec();
                while self.kept().first().is_some_and(|(at, ..)| !known.contains(&at.epoch)) {
                    self.dropped += 1;
                }
            }
            self.drop_aged(now, limits);
            let bytes = |kept: &[(Position, usize, u64)]| kept.iter().map(|m| m.1).sum::<usize>();
            while !self.kept().is_empty()
                && (self.kept().len() >= limits.history_count
                    || bytes(self.kept()) + length > limits.history_bytes)
            {
                self.dropped += 1;
            }
            self.said.push((at, length, now.0));
            self.dropped += usize::from(length > limits.history_bytes);
        }

        fn drop_aged(&mut self, now: Mono, limits: &Limits) {
            let is_old = |m: &(Position, usize, u64)| now.0 - m.2 > limits.history_age_ms;
            while self.kept().first().is_some_and(is_old) {
                self.dropped += 1;
            }
        }

        fn kept(&self) -> &[(Position, usize, u64)] {
            &self.said[self.dropped..]
        }

        fn known(&self) -> &[Epoch] {
            &self.epochs[self.epochs.len().saturating_sub(PAST_EPOCHS_MAX + 1)..]
        }

        /// How many messages were said up to a place.
        fn index(&self, at: Position) -> usize {
            let rank = |epoch| self.epochs.iter().position(|known| *known == epoch);
            let place = (rank(at.epoch), at.seq);
            self.said.iter().filter(|m| (rank(m.0.epoch), m.0.seq) <= place).count()
        }

        fn judge(&self, since: Position, head: Position, start: Start) {
            let epoch = if since.epoch == Epoch(0) { head.epoch } else { since.epoch };
            let since = Position { epoch, seq: since.seq };
            if !self.known().contains(&epoch) {
                assert!(
                    start.gap && self.index(start.after) == self.dropped,
                    "{since:?} {start:?}"
                );
            } else if epoch == head.epoch && since.seq > head.seq {
                assert!(start.gap && start.after == head, "{since:?} {start:?}");
            } else {
                let first = self.index(since);
                let lost = self.said[first..self.dropped.max(first)].iter();
                let lost = lost.filter(|m| m.0.epoch == epoch).count();
                assert_eq!(start.gap, lost > 0 || epoch != head.epoch, "{since:?} {start:?}");
                let after = self.index(start.after);
                assert_eq!(after, first + lost, "{since:?} {start:?}");
            }
        }
    }

    #[test]
    fn the_ring_agrees_with_a_list_that_is_searched() {
        let (seeds, steps) = if cfg!(miri) { (2, 40) } else { (200, 400) };
        for seed in 0..seeds {
            let mut dice = fastrand::Rng::with_seed(seed);
            let limits = Limits {
                history_count: dice.usize(1..40),
                history_bytes: dice.usize(40..4_000),
                history_age_ms: dice.choice([50, 1_000, 1 << 40]).unwrap(),
                ..Limits::default()
            };
            let (mut ring, mut naive) = (History::default(), Naive::default());
            let (mut head, mut now) = (at(0), Mono(0));
            // A reader, who goes on after what it was last told.
            let mut reader = at(0);
            for _ in 0..steps {
                now.0 += dice.u64(0..8);
                if dice.u8(..) < 4 {
                    head = Position { epoch: Epoch(head.epoch.0 + 1), seq: Seq(0) };
                }
                head.seq.0 += 1;
                let longest = if dice.bool() { 8 } else { 200 };
                let body = vec![b'x'; dice.usize(0..longest)];
                let bytes = frame(head, &body);
                ring.push(head, &bytes, 0, now, &limits);
                naive.push(head, bytes.len(), now, &limits);
                assert_eq!(ring.len(), naive.kept().len());
                if dice.u8(..) < 30 {
                    now.0 += dice.u64(0..100);
                    ring.drop_aged(now, limits.history_age_ms);
                    naive.drop_aged(now, &limits);
                }
                let epoch = Epoch(dice.u32(EPOCH.0 - 1..=head.epoch.0));
                let epoch = if dice.bool() { epoch } else { Epoch(0) };
                let since = Position { epoch, seq: Seq(dice.u64(0..=head.seq.0 + 2)) };
                naive.judge(since, head, ring.start(head, Since::After(since), "eve"));
                if dice.u8(..) < 60 {
                    reader = read_on(&mut dice, &ring, &naive, reader, head);
                }
            }
            assert!(ring.memory() <= 2 * limits.history_bytes.max(4_000) + 2_000);
        }
    }

    /// Reads one page, and judges that each message is in it or said to be missing.
    fn read_on(
        dice: &mut fastrand::Rng,
        ring: &History,
        naive: &Naive,
        reader: Position,
        head: Position,
    ) -> Position {
        let bounds = PageBounds { bytes: dice.usize(1..3_000), count: dice.usize(1..30) };
        let mut page = Frames::default();
        let end = ring.page(head, reader, bounds, &mut page);
        if !naive.known().contains(&reader.epoch) {
            let next = Seq(reader.seq.0 + 1);
            let missing = Some(Missing { epoch: reader.epoch, from: next, to: next });
            let last = Position { epoch: naive.known()[0], seq: Seq(0) };
            let expected = PageEnd { missing, last, is_head: false };
            assert_eq!((end, page.count()), (expected, 0), "its rest is gone");
            return last;
        }
        assert!(page.count() <= bounds.count);
        assert!(page.count() < 2 || page.bytes().len() <= bounds.bytes);
        let mut told = Vec::new();
        if let Some(Missing { epoch, from, to }) = end.missing {
            told.extend((from.0..=to.0).map(|seq| Position { epoch, seq: Seq(seq) }));
            assert!(told.iter().all(|at| naive.index(*at) <= naive.dropped), "it is not missing");
        }
        told.extend(places(&page));
        let (first, last) = (naive.index(reader), naive.index(end.last));
        let expected: Vec<Position> = naive.said[first..last].iter().map(|m| m.0).collect();
        assert_eq!(told, expected, "after {reader:?}");
        assert_eq!(end.is_head, end.last == head);
        assert!(end.is_head || !told.is_empty(), "a page makes progress");
        end.last
    }
}
