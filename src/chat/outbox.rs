//! What waits to be sent to one connection.
//!
//! Owns the queue of pieces, how much of the first one the kernel has taken, and the pool that
//! outboxes return to. Never decides who gets what, nor when a queue is too long; it counts the
//! bytes and the shard decides. An idle connection has no outbox at all.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

use crate::base::limits::OWN_PIECE_BYTES;
use crate::wire::http::SWITCHING;

use super::batch::{Chunk, ChunkPool};
use super::patience::Stall;
use super::relief::Notice;

/// A run of whole frames or lines.
#[derive(Debug)]
pub(super) enum Piece {
    /// Part of something that many connections get.
    Shared { chunk: Rc<Chunk>, start: u32, end: u32 },
    /// Said to this connection alone. It may be part of the program itself.
    Own(Cow<'static, [u8]>),
    /// Said to this connection alone, ahead of what waits.
    Urgent(Vec<u8>),
    /// In place of what was dropped.
    Notice(Box<Notice>),
}

impl Piece {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Shared { chunk, start, end } => {
                &chunk.frames().bytes()[*start as usize..*end as usize]
            }
            Piece::Own(bytes) => bytes,
            Piece::Urgent(bytes) => bytes,
            Piece::Notice(notice) => notice.bytes(),
        }
    }
}

/// The bytes that wait for one connection, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    pub(super) pieces: VecDeque<Piece>,
    /// Bytes of the first piece that the kernel has.
    sent_of_first: usize,
    /// Bytes that the kernel does not have.
    pub(super) waiting: usize,
    /// Bytes that were dropped unsent.
    dropped: usize,
    /// How long nothing of it has been taken, where the kernel has no room for more.
    pub stall: Option<Stall>,
}

impl Outbox {
    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes that were dropped instead of being sent.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Queues bytes `start..end` of a shared chunk, which are whole frames.
    pub fn push_shared(&mut self, chunk: &Rc<Chunk>, start: u32, end: u32) {
        self.waiting += (end - start) as usize;
        self.pieces.push_back(Piece::Shared { chunk: Rc::clone(chunk), start, end });
    }

    /// Queues bytes that are part of the program. They are sent from where they lie.
    pub fn push_static(&mut self, bytes: &'static [u8]) {
        if !bytes.is_empty() {
            self.waiting += bytes.len();
            self.pieces.push_back(Piece::Own(Cow::Borrowed(bytes)));
        }
    }

    /// Queues what `encode` writes. It may write nothing.
    pub fn push_own(&mut self, pool: &mut OutboxPool, encode: impl FnOnce(&mut Vec<u8>)) {
        let has_room = |piece: &Piece| match piece {
            Piece::Own(Cow::Owned(bytes)) => bytes.len() < OWN_PIECE_BYTES,
            _ => false,
        };
        if !self.pieces.back().is_some_and(has_room) {
            self.pieces.push_back(Piece::Own(Cow::Owned(pool.buffer())));
        }
        self.write_into(self.pieces.len() - 1, pool, encode);
    }

    /// Queues what `encode` writes ahead of all that has not begun to be sent.
    ///
    /// Heartbeats, refusals and the last word before a close overtake data so, in the order among
    /// themselves in which they were queued. A frame that has begun cannot be cut in two: of what
    /// many get, the first frame goes before them, and of what is said to this connection alone the
    /// first piece.
    pub fn push_urgent(&mut self, pool: &mut OutboxPool, encode: impl FnOnce(&mut Vec<u8>)) {
        let place = self.urgent_place();
        match self.pieces.get(place) {
            Some(Piece::Urgent(_)) => {}
            Some(_) => self.pieces.insert(place, Piece::Urgent(pool.buffer())),
            // Most often nothing waits, and an insertion is the dearer way to the end.
            None => self.pieces.push_back(Piece::Urgent(pool.buffer())),
        }
        self.write_into(place, pool, encode);
    }

    /// Where what is urgent goes. Another urgent piece may have begun: what follows is its end.
    fn urgent_place(&mut self) -> usize {
        match self.pieces.front() {
            None | Some(Piece::Urgent(_)) => 0,
            Some(Piece::Own(_) | Piece::Notice(_)) => 1,
            Some(Piece::Shared { .. }) => self.end_first_frame(),
        }
    }

    /// Ends the first piece, which is shared, behind the frame that goes out next.
    fn end_first_frame(&mut self) -> usize {
        let sent = self.sent_of_first;
        if let Some(Piece::Shared { chunk, start, end }) = self.pieces.front_mut() {
            let cut = chunk.frames().end_after(*start, sent + 1).min(*end);
            if cut < *end {
                let rest = Piece::Shared { chunk: Rc::clone(chunk), start: cut, end: *end };
                *end = cut;
                self.pieces.insert(1, rest);
            }
        }
        1
    }

    /// What has to go out before anything else can be said: the rest of a frame that was begun, or
    /// what makes the connection a WebSocket.
    pub fn begun(&self) -> &[u8] {
        let sent = self.sent_of_first;
        match self.pieces.front() {
            Some(Piece::Shared { chunk, start, end }) if sent > 0 => {
                let stop = chunk.frames().end_after(*start, sent + 1).min(*end);
                &chunk.frames().bytes()[*start as usize + sent..stop as usize]
            }
            Some(piece) if sent > 0 || piece.bytes().starts_with(SWITCHING) => {
                &piece.bytes()[sent..]
            }
            _ => &[],
        }
    }

    /// Takes out what cannot be dropped any more because the kernel has begun to take it.
    /// Whatever is taken out still waits, and goes to the front again.
    pub(super) fn take_begun(&mut self) -> Option<Piece> {
        if self.sent_of_first == 0 {
            return None;
        }
        self.end_first_frame();
        self.pieces.pop_front()
    }

    /// Appends what `encode` writes to a piece of this connection alone, which is dropped if it is
    /// empty even so.
    fn write_into(
        &mut self,
        place: usize,
        pool: &mut OutboxPool,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let (Piece::Own(Cow::Owned(bytes)) | Piece::Urgent(bytes)) = &mut self.pieces[place] else {
            unreachable!("only a piece of its own is written to");
        };
        let before = bytes.len();
        encode(bytes);
        self.waiting += bytes.len() - before;
        if bytes.is_empty() {
            let piece = self.pieces.remove(place).expect("it was just written to");
            let (Piece::Own(Cow::Owned(bytes)) | Piece::Urgent(bytes)) = piece else {
                unreachable!("only a piece of its own is written to");
            };
            pool.release_buffer(bytes);
        }
    }

    /// Drops all that has not begun to be sent, but for what makes the connection a WebSocket:
    /// without that, nothing that follows could be understood.
    pub fn truncate(&mut self, pool: &mut OutboxPool, chunks: &mut ChunkPool) {
        let switches = |piece: &Piece| piece.bytes().starts_with(SWITCHING);
        let begun = self.sent_of_first > 0 || self.pieces.front().is_some_and(switches);
        let begun = usize::from(begun);
        while self.pieces.len() > begun {
            let piece = self.pieces.pop_back().expect("there are more than were begun");
            self.waiting -= piece.bytes().len();
            self.dropped += piece.bytes().len();
            release(piece, pool, chunks);
        }
    }

    /// Fills `slices` from the front; returns how many it filled.
    pub fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            let skip = if filled == 0 { self.sent_of_first } else { 0 };
            *slice = IoSlice::new(&piece.bytes()[skip..]);
            filled += 1;
        }
        filled
    }

    /// The kernel took `bytes` from the front.
    ///
    /// # Panics
    /// If fewer bytes were waiting.
    pub fn sent(&mut self, bytes: usize, pool: &mut OutboxPool, chunks: &mut ChunkPool) {
        assert!(bytes <= self.waiting, "more was sent than waited");
        self.waiting -= bytes;
        self.sent_of_first += bytes;
        while let Some(first) = self.pieces.front() {
            let length = first.bytes().len();
            if self.sent_of_first < length {
                break;
            }
            self.sent_of_first -= length;
            let piece = self.pieces.pop_front().expect("its length was just read");
            release(piece, pool, chunks);
        }
    }
}

#[inline(always)]
pub(super) fn release(piece: Piece, pool: &mut OutboxPool, chunks: &mut ChunkPool) {
    match piece {
        Piece::Shared { chunk, .. } => chunks.release(chunk),
        Piece::Own(Cow::Owned(bytes)) | Piece::Urgent(bytes) => pool.release_buffer(bytes),
        Piece::Own(Cow::Borrowed(_)) => {}
        Piece::Notice(notice) => drop(notice),
    }
}

/// Outboxes and buffers that nobody uses, kept for the next ones.
#[derive(Debug)]
pub struct OutboxPool {
    // Boxed, because a session holds its outbox by one word.
    #[expect(clippy::vec_box)]
    outboxes: Vec<Box<Outbox>>,
    buffers: Vec<Vec<u8>>,
    /// The fewest of each that were idle at any moment since the last trim.
    idle_outboxes: usize,
    idle_buffers: usize,
    kept_max: usize,
    bytes_max: usize,
}

/// Pieces that an outbox in the pool may have room for.
const PIECES_KEPT: usize = 16;

impl OutboxPool {
    /// A pool that keeps at most `kept_max` of each kind, no buffer larger than `bytes_max`.
    pub fn new(kept_max: usize, bytes_max: usize) -> OutboxPool {
        OutboxPool {
            outboxes: Vec::new(),
            buffers: Vec::new(),
            idle_outboxes: 0,
            idle_buffers: 0,
            kept_max,
            bytes_max,
        }
    }

    /// An empty outbox.
    pub fn outbox(&mut self) -> Box<Outbox> {
        let outbox = self.outboxes.pop().unwrap_or_default();
        self.idle_outboxes = self.idle_outboxes.min(self.outboxes.len());
        outbox
    }

    /// Takes an outbox back, with whatever is in it.
    pub fn release_outbox(&mut self, mut outbox: Box<Outbox>, chunks: &mut ChunkPool) {
        outbox.sent_of_first = 0;
        outbox.waiting = 0;
        outbox.dropped = 0;
        outbox.stall = None;
        while let Some(piece) = outbox.pieces.pop_front() {
            release(piece, self, chunks);
        }
        if self.outboxes.len() < self.kept_max && outbox.pieces.capacity() <= PIECES_KEPT {
            self.outboxes.push(outbox);
        }
    }

    /// An empty buffer, to hold a half frame or what is said to one connection.
    pub fn buffer(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.idle_buffers = self.idle_buffers.min(self.buffers.len());
        buffer
    }

    /// Gives back to the allocator what was idle at every moment since the last trim, so that a
    /// burst does not leave its memory behind and a steady load keeps all it needs.
    pub fn trim(&mut self) {
        self.outboxes.truncate(self.outboxes.len() - self.idle_outboxes);
        self.buffers.truncate(self.buffers.len() - self.idle_buffers);
        (self.idle_outboxes, self.idle_buffers) = (self.outboxes.len(), self.buffers.len());
    }

    /// Takes a buffer back.
    ///
    /// Not inlined, because most of what a connection is sent is shared, and the loop that lets go
    /// of it is shorter so.
    #[inline(never)]
    pub fn release_buffer(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < self.kept_max && buffer.capacity() <= self.bytes_max {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Ref;
    use crate::chat::batch::Dialect;
    use crate::wire::message::{Code, Event};

    fn pools() -> (OutboxPool, ChunkPool) {
        (OutboxPool::new(8, 4_096), ChunkPool::new(8, 4_096))
    }

    fn drain(outbox: &mut Outbox, step: usize, pools: &mut (OutboxPool, ChunkPool)) -> Vec<u8> {
        let mut taken = Vec::new();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2];
            let filled = outbox.gather(&mut slices);
            let all: Vec<u8> = slices[..filled].iter().flat_map(|s| s.iter().copied()).collect();
            let step = step.min(all.len());
            taken.extend_from_slice(&all[..step]);
            outbox.sent(step, &mut pools.0, &mut pools.1);
        }
        assert_eq!(outbox.waiting(), 0);
        taken
    }

    #[test]
    fn bytes_leave_in_order_however_the_kernel_takes_them() {
        for step in [1, 2, 3, 7, 1_000] {
            let mut pools = pools();
            let mut outbox = Outbox::default();
            let text = Event::Error { reference: Ref::NONE, code: Code::NotFound, text: "no" };
            let chunk = pools.1.render_event(&text, Dialect::Text, None);
            outbox.push_own(&mut pools.0, |out| out.extend_from_slice(b"one"));
            outbox.push_shared(&chunk, 0, 9);
            outbox.push_own(&mut pools.0, |out| out.extend_from_slice(b"two"));
            outbox.push_own(&mut pools.0, |out| out.extend_from_slice(b"three"));
            pools.1.release(chunk);
            assert_eq!(drain(&mut outbox, step, &mut pools), b"one! 404 no\ntwothree"[..].to_vec());
        }
    }

    #[test]
    fn the_urgent_overtakes_what_has_not_begun() {
        let mut pools = pools();
        let mut outbox = Outbox::default();
        let event = Event::Error { reference: Ref::NONE, code: Code::NotFound, text: "no" };
        let chunk = pools.1.render_event(&event, Dialect::Text, None);
        outbox.push_shared(&chunk, 0, 9);
        outbox.push_shared(&chunk, 0, 9);
        outbox.sent(4, &mut pools.0, &mut pools.1);
        outbox.push_urgent(&mut pools.0, |out| out.extend_from_slice(b"PING\n"));
        assert_eq!(drain(&mut outbox, 100, &mut pools), b"4 no\nPING\n! 404 no\n"[..].to_vec());
    }

    #[test]
    fn the_urgent_waits_for_one_small_piece_and_keeps_its_own_order() {
        let mut pools = pools();
        let mut outbox = Outbox::default();
        let answers = 10 * OWN_PIECE_BYTES / 100;
        for _ in 0..answers {
            outbox.push_own(&mut pools.0, |out| out.extend_from_slice(&[b'.'; 100]));
        }
        for word in ["PING ", "PONG ", "ERROR"] {
            outbox.push_urgent(&mut pools.0, |out| out.extend_from_slice(word.as_bytes()));
        }
        outbox.push_urgent(&mut pools.0, |_| ());
        let sent = String::from_utf8(drain(&mut outbox, 1_000, &mut pools)).unwrap();
        assert_eq!(sent.len(), 100 * answers + 15);
        let at = sent.find("PING PONG ERROR").expect("in one run");
        assert!((OWN_PIECE_BYTES..OWN_PIECE_BYTES + 100).contains(&at), "{at}");
    }

    #[test]
    fn truncation_keeps_the_frame_that_was_begun() {
        let mut pools = pools();
        let mut outbox = Outbox::default();
        let event = Event::Error { reference: Ref::NONE, code: Code::NotFound, text: "no" };
        let chunk = pools.1.render_event(&event, Dialect::Text, None);
        outbox.push_shared(&chunk, 0, 9);
        outbox.push_shared(&chunk, 0, 9);
        outbox.sent(1, &mut pools.0, &mut pools.1);
        outbox.truncate(&mut pools.0, &mut pools.1);
        assert_eq!((outbox.waiting(), outbox.dropped()), (8, 9));
        outbox.sent(8, &mut pools.0, &mut pools.1);
        outbox.push_shared(&chunk, 0, 9);
        outbox.truncate(&mut pools.0, &mut pools.1);
        assert!(outbox.is_empty());
    }

    #[test]
    fn truncation_keeps_what_makes_a_websocket() {
        let mut pools = pools();
        let mut outbox = Outbox::default();
        let event = Event::Error { reference: Ref::NONE, code: Code::NotFound, text: "no" };
        let chunk = pools.1.render_event(&event, Dialect::Text, None);
        outbox.push_own(&mut pools.0, |out| out.extend_from_slice(SWITCHING));
        outbox.push_shared(&chunk, 0, 9);
        outbox.truncate(&mut pools.0, &mut pools.1);
        assert_eq!(drain(&mut outbox, 100, &mut pools), SWITCHING);
    }

    #[test]
    fn a_trim_gives_back_what_a_burst_left_and_keeps_what_is_in_use() {
        let (mut pool, mut chunks) = pools();
        let burst: Vec<_> = (0..6).map(|_| pool.outbox()).collect();
        burst.into_iter().for_each(|outbox| pool.release_outbox(outbox, &mut chunks));
        pool.trim();
        assert_eq!(pool.outboxes.len(), 6, "they were in use in this period");
        let steady: Vec<_> = (0..2).map(|_| pool.outbox()).collect();
        steady.into_iter().for_each(|outbox| pool.release_outbox(outbox, &mut chunks));
        pool.trim();
        assert_eq!(pool.outboxes.len(), 2);
        pool.trim();
        assert!(pool.outboxes.is_empty());
    }

    #[test]
    fn saying_nothing_leaves_no_piece() {
        let mut pools = pools();
        let mut outbox = Outbox::default();
        outbox.push_own(&mut pools.0, |_| ());
        assert!(outbox.is_empty());
    }
}
