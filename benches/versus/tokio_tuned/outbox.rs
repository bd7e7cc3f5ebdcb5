//! What waits to be sent to one connection, and the encoded frames that many connections share.
//!
//! Owns the queue of segments and how much of it the kernel has. Never writes. A message is encoded
//! once, by its room's home; the batch of one turn crosses cores by one count of an `Arc`, and the
//! members of a core share it through an `Rc`.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;

use corebeat::base::ids::Address;
use corebeat::base::name::Name;
use corebeat::wire::message::Event;

use super::common::dialect::Dialect;
use super::web;

/// Encoded messages one after the other, and where each ends.
#[derive(Debug, Default)]
pub struct Frames {
    /// The messages.
    pub bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Frames {
    /// Appends one message.
    pub fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    /// How many messages there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    fn range(&self, index: usize) -> (u32, u32) {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        (start, self.ends[index])
    }
}

/// What one room said in one turn, as native frames without checksums.
#[derive(Debug)]
pub struct Batch {
    /// The room.
    pub room: Name,
    /// The hash of its name.
    pub hash: u64,
    /// The messages.
    pub frames: Frames,
    /// Indices of messages and their senders, who do not get them back.
    pub authors: Vec<(u32, Address)>,
}

/// Something for many connections of one core, in one dialect.
#[derive(Debug)]
pub enum Run {
    /// The batch as it came.
    Native(Arc<Batch>),
    /// Encoded for the dialect.
    Rendered(Frames),
}

impl Run {
    /// Its messages.
    pub fn frames(&self) -> &Frames {
        match self {
            Run::Native(batch) => &batch.frames,
            Run::Rendered(frames) => frames,
        }
    }

    /// `batch` in `dialect`.
    pub fn of_batch(batch: &Arc<Batch>, dialect: Dialect) -> Rc<Run> {
        if dialect == Dialect::Native {
            return Rc::new(Run::Native(Arc::clone(batch)));
        }
        let mut frames = Frames::default();
        for index in 0..batch.frames.count() {
            let (start, end) = batch.frames.range(index);
            let plain = &batch.frames.bytes[start as usize..end as usize];
            frames.push(|out| match dialect.opcode() {
                None => dialect.encode_frame(out, plain),
                Some(opcode) => {
                    web::append_message(out, opcode, |out| dialect.encode_frame(out, plain));
                }
            });
        }
        Rc::new(Run::Rendered(frames))
    }

    /// `event` in `dialect`.
    pub fn of_event(event: &Event<'_>, dialect: Dialect) -> Rc<Run> {
        let mut frames = Frames::default();
        frames.push(|out| web::append_event(out, dialect, event));
        Rc::new(Run::Rendered(frames))
    }
}

#[derive(Debug)]
enum Segment {
    Shared { run: Rc<Run>, start: u32, end: u32 },
    Own(Vec<u8>),
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Segment::Shared { run, start, end } => {
                &run.frames().bytes[*start as usize..*end as usize]
            }
            Segment::Own(bytes) => bytes,
        }
    }
}

/// The bytes that wait for one connection. A connection for which nothing waits has none.
#[derive(Debug, Default)]
pub struct Outbox {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that the kernel has.
    begun: usize,
    waiting: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Queues all of `run`.
    pub fn push_run(&mut self, run: &Rc<Run>) {
        self.push_part(run, 0, run.frames().bytes.len() as u32);
    }

    /// Queues the messages of `run` but those of which `own` says that the reader wrote them.
    pub fn push_run_of_author(&mut self, run: &Rc<Run>, own: impl Iterator<Item = u32>) {
        let mut start = 0;
        for index in own {
            let (own_start, own_end) = run.frames().range(index as usize);
            self.push_part(run, start, own_start);
            start = own_end;
        }
        self.push_part(run, start, run.frames().bytes.len() as u32);
    }

    fn push_part(&mut self, run: &Rc<Run>, start: u32, end: u32) {
        if start < end {
            self.waiting += (end - start) as usize;
            self.segments.push_back(Segment::Shared { run: Rc::clone(run), start, end });
        }
    }

    /// Queues what `encode` writes.
    pub fn push_own(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if !matches!(self.segments.back(), Some(Segment::Own(_))) {
            self.segments.push_back(Segment::Own(Vec::with_capacity(64)));
        }
        let Some(Segment::Own(bytes)) = self.segments.back_mut() else {
            unreachable!("the last segment was just made an own one");
        };
        let before = bytes.len();
        encode(bytes);
        self.waiting += bytes.len() - before;
        if bytes.is_empty() {
            self.segments.pop_back();
        }
    }

    /// Queues what `encode` writes ahead of all that has not begun to be sent.
    pub fn push_urgent(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.segments.len() <= 1 {
            return self.push_own(encode);
        }
        let mut bytes = Vec::with_capacity(64);
        encode(&mut bytes);
        self.waiting += bytes.len();
        self.segments.insert(1, Segment::Own(bytes));
    }

    /// Drops all that has not begun to be sent.
    pub fn truncate(&mut self) {
        let begun = usize::from(self.begun > 0);
        while self.segments.len() > begun {
            let last = self.segments.pop_back().expect("there are more than were begun");
            self.waiting -= last.bytes().len();
        }
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.segments.clear();
        self.begun = 0;
        self.waiting = 0;
    }

    /// What waits, where that is one segment.
    pub fn only_segment(&self) -> Option<&[u8]> {
        let first = self.segments.front().filter(|_| self.segments.len() == 1)?;
        Some(&first.bytes()[self.begun..])
    }

    /// Fills `slices` from the front; returns how many it filled.
    pub fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            let skip = if filled == 0 { self.begun } else { 0 };
            *slice = IoSlice::new(&segment.bytes()[skip..]);
            filled += 1;
        }
        filled
    }

    /// The kernel took `bytes` from the front.
    pub fn sent(&mut self, bytes: usize) {
        self.waiting -= bytes;
        if self.waiting == 0 {
            return self.clear();
        }
        self.begun += bytes;
        while let Some(first) = self.segments.front() {
            let length = first.bytes().len();
            if self.begun < length {
                break;
            }
            self.begun -= length;
            self.segments.pop_front();
        }
    }

    /// Segments that it has room for, for whoever keeps it for reuse.
    pub fn capacity(&self) -> usize {
        self.segments.capacity()
    }
}
