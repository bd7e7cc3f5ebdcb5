//! What cores tell each other.
//!
//! Owns the letters and the channels. All letters of one turn to one core travel as one message, so
//! that a busy core wakes another at most once a turn. Never reads a letter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corebeat::base::ids::{Address, ConnId, Epoch, Ref, Seq, ShardId};
use corebeat::base::limits::MAILBOX_CAPACITY;
use corebeat::base::name::Name;
use corebeat::wire::message::PresenceKind;
use crossbeam_utils::CachePadded;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::outbox::Batch;

/// Which stay of a connection in a room is meant: the home repeats it when it lets a member in, so
/// that its answer to an earlier stay opens no later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stay(pub u32);

/// A member that joins.
#[derive(Debug)]
pub struct Joiner {
    /// Its user.
    pub user: Name,
    /// Where it is.
    pub member: Address,
    /// The request's number.
    pub reference: Ref,
    /// The stay that begins.
    pub stay: Stay,
    /// It is a member already.
    pub again: bool,
}

/// What was refused.
#[derive(Debug)]
pub enum Refused {
    /// A join: the stay ends before it began.
    Join {
        /// The room.
        room: Name,
        /// The stay.
        stay: Stay,
    },
    /// A publish.
    Publish,
    /// There is no such room.
    Who,
}

/// A letter from one core to another.
#[derive(Debug)]
pub enum Mail {
    /// To a room's home.
    Join { room: Name, joiner: Joiner },
    /// To a room's home: a member of the sender left.
    Leave { room: Name, user: Name },
    /// To a room's home.
    Publish {
        room: Name,
        /// The sender's user.
        from: Name,
        origin: Address,
        reference: Ref,
        echo: bool,
        body: Box<[u8]>,
    },
    /// To a room's home.
    Who { room: Name, origin: Address, reference: Ref },
    /// From a room's home: what follows is for the member too.
    Joined {
        room: Name,
        conn: ConnId,
        reference: Ref,
        stay: Stay,
        epoch: Epoch,
        seq: Seq,
        total: u32,
    },
    /// From a room's home: the message has its place.
    Published { conn: ConnId, reference: Ref, epoch: Epoch, seq: Seq },
    /// From a room's home.
    Deliver(Arc<Batch>),
    /// From a room's home; `user` is not told of itself.
    Presence { room: Name, kind: PresenceKind, total: u32, user: Option<Name> },
    /// From a room's home.
    Roster { room: Name, conn: ConnId, reference: Ref, total: u32, names: Box<[u8]> },
    /// From a room's home.
    Refused { conn: ConnId, reference: Ref, request: Refused },
    /// From whoever heard the signal.
    Stop,
}

/// All letters of one turn to one core.
#[derive(Debug)]
pub struct Post {
    /// Who wrote them.
    pub from: ShardId,
    /// The letters in their order.
    pub letters: Vec<Mail>,
}

/// The way to one core.
#[derive(Clone, Debug)]
pub struct Mailbox {
    channel: UnboundedSender<Post>,
    waiting: Arc<CachePadded<AtomicUsize>>,
}

impl Mailbox {
    /// A mailbox and the end from which it is read.
    pub fn new() -> (Mailbox, UnboundedReceiver<Post>) {
        let (channel, post) = unbounded_channel();
        (Mailbox { channel, waiting: Arc::default() }, post)
    }

    /// Sends letters.
    pub fn send(&self, post: Post) {
        self.waiting.fetch_add(post.letters.len(), Ordering::Relaxed);
        // A core that is gone has no use for letters.
        let _ = self.channel.send(post);
    }

    /// So many letters were read.
    pub fn note_read(&self, letters: usize) {
        self.waiting.fetch_sub(letters, Ordering::Relaxed);
    }

    /// Whether so many letters wait that whoever would write more should stop reading requests.
    /// Letters are still read then, so two such cores do not wait for each other.
    pub fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > MAILBOX_CAPACITY
    }
}
