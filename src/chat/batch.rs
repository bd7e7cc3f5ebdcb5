//! Messages that travel and are delivered together.
//!
//! Owns the encoded frames of what one room said in one turn ([`Batch`]) and one dialect's
//! rendering of something that goes to many ([`Chunk`]). Never knows who receives it. A home shard
//! fills a batch; it crosses cores by one count of an `Arc`, and is shared by the members of a core
//! through an `Rc` of the chunk around it.

use std::rc::Rc;
use std::sync::Arc;

use crate::base::ids::{Address, Epoch, Seq};
use crate::base::name::Name;
use crate::wire::message::Event;
use crate::wire::{line, native};

pub use super::dialect::Dialect;
use super::dialect::{PLAIN_DIALECTS, WEB_DIALECTS};
use super::overflow::Overflow;
use super::press::Press;
use super::relief::Gap;

/// Encoded messages, one after the other, and where each ends.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Frames {
    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Where message `index` lies.
    pub fn range(&self, index: usize) -> (u32, u32) {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        (start, self.ends[index])
    }

    /// The bytes of message `index`.
    pub fn frame(&self, index: usize) -> &[u8] {
        let (start, end) = self.range(index);
        &self.bytes[start as usize..end as usize]
    }

    /// Appends one message, written by `encode`.
    pub fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.bytes);
        let end = u32::try_from(self.bytes.len()).expect("a batch is bounded far below 4 GiB");
        self.ends.push(end);
    }

    /// The message that begins at `offset`, or their number at the end.
    pub fn index_at(&self, offset: u32) -> usize {
        self.ends.partition_point(|end| *end <= offset)
    }

    /// Where the message ends with which, from `start` on, there are at least `bytes` bytes; the
    /// end where there are fewer.
    pub fn end_after(&self, start: u32, bytes: usize) -> u32 {
        let enough = |end: &u32| *end as usize >= start as usize + bytes;
        let index = self.ends.partition_point(|end| !enough(end));
        self.ends.get(index).or(self.ends.last()).copied().unwrap_or_default()
    }

    /// Where the last message begins from which, up to `end`, there are at least `bytes` bytes; 0
    /// where there are fewer.
    pub fn start_before(&self, end: u32, bytes: usize) -> u32 {
        let Some(latest) = (end as usize).checked_sub(bytes) else {
            return 0;
        };
        let index = self.ends.partition_point(|end| *end as usize <= latest);
        index.checked_sub(1).map_or(0, |index| self.ends[index])
    }

    /// Empties it, keeping what was allocated.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Bytes of memory kept.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + 4 * self.ends.capacity()
    }
}

/// The sender of a message of a batch, which does not get it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    /// The message's index in the batch.
    pub index: u32,
    /// The connection that sent it.
    pub address: Address,
}

/// What one room said in one turn, as native frames, on its way to the members' shards.
#[derive(Debug)]
pub struct Batch {
    /// The room.
    pub room: Name,
    /// The life of the room's history.
    pub epoch: Epoch,
    /// The place of the first message; the others follow without a gap.
    pub first: Seq,
    /// The messages, each a MESSAGE frame without checksum.
    pub frames: Frames,
    /// Those who do not get their own message, in the order of the messages.
    pub authors: Vec<Author>,
}

impl Batch {
    /// An empty batch of `room`.
    pub fn new(room: Name) -> Batch {
        Batch {
            room,
            epoch: Epoch::default(),
            first: Seq::default(),
            frames: Frames::default(),
            authors: Vec::new(),
        }
    }

    /// The place of the last message.
    ///
    /// # Panics
    /// If the batch is empty.
    pub fn last(&self) -> Seq {
        assert!(self.frames.count() > 0, "an empty batch has no last message");
        Seq(self.first.0 + self.frames.count() as u64 - 1)
    }

    /// The indices of the messages that `address` sent and does not get back.
    pub fn written_by(&self, address: Address) -> impl Iterator<Item = usize> + '_ {
        self.authors
            .iter()
            .filter(move |author| author.address == address)
            .map(|author| author.index as usize)
    }
}

/// What a chunk is about, where it may be dropped before a member was sent it.
#[derive(Clone, Debug)]
pub struct Label {
    /// The room.
    pub room: Name,
    /// What gives way there.
    pub overflow: Overflow,
    /// What is told of it.
    pub about: About,
}

/// What is told of a room.
#[derive(Clone, Copy, Debug)]
pub enum About {
    /// Messages, one after the other.
    Messages {
        /// The epoch.
        epoch: Epoch,
        /// The place of the first one.
        first: Seq,
    },
    /// Messages that are missing.
    Gap(Gap),
    /// Somebody came or went.
    Presence {
        /// Members of the room since then.
        total: u32,
    },
    /// What was said before, as it was asked for.
    Page,
}

/// One dialect's rendering of something that goes to many members of one shard.
#[derive(Debug, Default)]
pub struct Chunk {
    /// What it is about; nothing where it may not be dropped.
    label: Option<Label>,
    /// Where the dialect is plain native, the batch itself is the rendering.
    batch: Option<Arc<Batch>>,
    frames: Frames,
}

impl Chunk {
    /// What it is about, where it is of a room whose messages may be dropped.
    pub fn label(&self) -> Option<&Label> {
        self.label.as_ref()
    }

    /// The rendered messages.
    pub fn frames(&self) -> &Frames {
        match &self.batch {
            Some(batch) => &batch.frames,
            None => &self.frames,
        }
    }
}

/// The renderings of one news item, made when the first member of a dialect is reached.
#[derive(Debug, Default)]
pub struct Renderings {
    plain: [Option<Rc<Chunk>>; PLAIN_DIALECTS],
    /// Boxed, because a room without WebSockets has none, and news is moved about.
    web: Option<Box<WebRenderings>>,
}

/// The renderings for WebSockets.
pub type WebRenderings = [Option<Rc<Chunk>>; WEB_DIALECTS];

impl Renderings {
    /// The place of the rendering for `dialect`.
    pub fn of(&mut self, dialect: Dialect, pool: &mut ChunkPool) -> &mut Option<Rc<Chunk>> {
        let index = dialect as usize;
        if index < PLAIN_DIALECTS {
            return &mut self.plain[index];
        }
        let web = self.web.get_or_insert_with(|| pool.web.pop().unwrap_or_default());
        &mut web[index - PLAIN_DIALECTS]
    }

    /// Gives all of them back.
    pub fn release(self, pool: &mut ChunkPool) {
        for chunk in self.plain.into_iter().flatten() {
            pool.release(chunk);
        }
        if let Some(web) = self.web {
            pool.release_web(web);
        }
    }
}

/// Chunks and batches that nobody uses, kept for the next ones.
///
/// Bounded in number and in the size of what each keeps, so that a burst does not leave its memory
/// behind.
#[derive(Debug)]
pub struct ChunkPool {
    chunks: Vec<Rc<Chunk>>,
    batches: Vec<Arc<Batch>>,
    places: Vec<Vec<usize>>,
    /// Empty ones.
    #[expect(clippy::vec_box)]
    web: Vec<Box<WebRenderings>>,
    kept_max: usize,
    bytes_max: usize,
    press: Press,
}

impl ChunkPool {
    /// A pool that keeps at most `kept_max` of each kind, none larger than `bytes_max`.
    pub fn new(kept_max: usize, bytes_max: usize) -> ChunkPool {
        ChunkPool {
            chunks: Vec::new(),
            batches: Vec::new(),
            places: Vec::new(),
            web: Vec::new(),
            kept_max,
            bytes_max,
            press: Press::default(),
        }
    }

    /// An empty batch of `room` that nobody else holds.
    pub fn batch(&mut self, room: &Name) -> Arc<Batch> {
        match self.batches.pop() {
            None => Arc::new(Batch::new(room.clone())),
            Some(mut kept) => {
                let batch = Arc::get_mut(&mut kept).expect("the pool keeps what nobody holds");
                batch.room.clone_from(room);
                kept
            }
        }
    }

    /// An empty list of places.
    pub fn places(&mut self) -> Vec<usize> {
        self.places.pop().unwrap_or_default()
    }

    /// Takes a list of places back.
    pub fn release_places(&mut self, mut places: Vec<usize>) {
        if self.places.len() < self.kept_max && size_of_val(&places[..]) <= self.bytes_max {
            places.clear();
            self.places.push(places);
        }
    }

    /// The rendering of `batch` in `dialect`.
    pub fn render_batch(
        &mut self,
        batch: &Arc<Batch>,
        dialect: Dialect,
        label: Option<Label>,
    ) -> Rc<Chunk> {
        self.chunk(label, |chunk, press| match dialect {
            Dialect::Native => chunk.batch = Some(Arc::clone(batch)),
            Dialect::NativeCrc => {
                for index in 0..batch.frames.count() {
                    let frame = batch.frames.frame(index);
                    chunk.frames.push(|out| native::append_with_crc(out, frame));
                }
            }
            Dialect::Text => {
                for index in 0..batch.frames.count() {
                    let event = message_of(batch.frames.frame(index));
                    chunk.frames.push(|out| line::encode_event(out, &event));
                }
            }
            web => press.render_batch(&mut chunk.frames, batch, web),
        })
    }

    /// The rendering of a single event in `dialect`.
    pub fn render_event(
        &mut self,
        event: &Event<'_>,
        dialect: Dialect,
        label: Option<Label>,
    ) -> Rc<Chunk> {
        self.chunk(label, |chunk, press| {
            chunk.frames.push(|out| press.render_event(out, event, dialect));
        })
    }

    fn chunk(
        &mut self,
        label: Option<Label>,
        fill: impl FnOnce(&mut Chunk, &mut Press),
    ) -> Rc<Chunk> {
        let mut chunk = self.chunks.pop().unwrap_or_default();
        let unshared = Rc::get_mut(&mut chunk).expect("the pool keeps what nobody holds");
        unshared.label = label;
        fill(unshared, &mut self.press);
        chunk
    }

    /// Takes back one share of a chunk; the last one returns its memory to the pool.
    pub fn release(&mut self, mut chunk: Rc<Chunk>) {
        if let Some(unshared) = Rc::get_mut(&mut chunk) {
            if let Some(batch) = unshared.batch.take() {
                self.release_batch(batch);
            }
            unshared.label = None;
            unshared.frames.clear();
            if self.chunks.len() < self.kept_max && unshared.frames.capacity() <= self.bytes_max {
                self.chunks.push(chunk);
            }
        }
    }

    #[inline(never)]
    fn release_web(&mut self, mut web: Box<WebRenderings>) {
        for chunk in web.iter_mut().filter_map(Option::take) {
            self.release(chunk);
        }
        if self.web.len() < self.kept_max {
            self.web.push(web);
        }
    }

    /// Takes back one share of a batch; the last one returns its memory to the pool.
    pub fn release_batch(&mut self, mut batch: Arc<Batch>) {
        if self.batches.len() >= self.kept_max {
            return;
        }
        if let Some(unshared) = Arc::get_mut(&mut batch)
            && unshared.frames.capacity() <= self.bytes_max
        {
            unshared.frames.clear();
            unshared.authors.clear();
            self.batches.push(batch);
        }
    }
}

/// The message that a frame of a batch holds.
pub(super) fn message_of(frame: &[u8]) -> Event<'_> {
    let (frame, _) = native::frame(frame, usize::MAX)
        .expect("a batch is encoded by this process")
        .expect("a batch holds whole frames");
    native::event(&frame)
        .expect("a batch is encoded by this process")
        .expect("a batch holds messages only")
}
