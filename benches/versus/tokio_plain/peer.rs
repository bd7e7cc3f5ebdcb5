//! A connection as others see it: the handle that rooms hold.
//!
//! Owns the way into its outbound queue, the count of bytes that wait there, and the two bells by
//! which its tasks are called. Never writes to the socket: the [`writer`](super::writer) does.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use corebeat::base::ids::Ref;
use corebeat::base::limits::Limits;
use corebeat::base::name::Name;
use corebeat::wire::message::{Code, Event};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio_tungstenite::tungstenite::Message;

use super::common::dialect::Dialect;
use super::parcel::{Parcel, close};

/// A connection's number among all of this process.
pub type PeerId = u64;

/// Who a greeted connection is.
#[derive(Debug)]
pub struct Identity {
    /// Its user.
    pub user: Name,
    /// What it is told things in.
    pub dialect: Dialect,
}

/// The way into a connection's outbound queue; `None` is the end. Unbounded in messages, bounded in
/// bytes by [`Peer::deliver`].
#[derive(Debug)]
pub enum Outbound {
    /// Of one that speaks TCP.
    Frames(UnboundedSender<Option<Bytes>>),
    /// Of a WebSocket.
    Messages(UnboundedSender<Option<Message>>),
}

/// A connection as others see it.
#[derive(Debug)]
pub struct Peer {
    /// Its number.
    pub id: PeerId,
    /// Who it is, once it has said hello.
    pub identity: OnceLock<Identity>,
    outbound: Outbound,
    waiting: AtomicUsize,
    max_waiting: usize,
    overflowed: AtomicBool,
    paused: AtomicBool,
    dismissed: AtomicBool,
    /// Calls the reader: it may read on, or must end.
    pub reader_bell: Notify,
    /// Calls the writer: the queue has overflowed.
    pub writer_bell: Notify,
}

impl Peer {
    /// A connection that has not said hello.
    pub fn new(id: PeerId, outbound: Outbound, limits: &Limits) -> Peer {
        Peer {
            id,
            identity: OnceLock::new(),
            outbound,
            waiting: AtomicUsize::new(0),
            max_waiting: limits.max_outbound,
            overflowed: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            reader_bell: Notify::new(),
            writer_bell: Notify::new(),
        }
    }

    /// Queues something whole. Where that is more than may wait, the connection ends.
    pub fn deliver(&self, parcel: Parcel) {
        let length = parcel.len();
        let waiting = self.waiting.fetch_add(length, Ordering::Relaxed) + length;
        if waiting > self.max_waiting {
            return self.overflow();
        }
        // The writer is gone only when the connection is.
        match (&self.outbound, parcel) {
            (Outbound::Frames(queue), Parcel::Frames(frames)) => {
                let _ = queue.send(Some(frames));
            }
            (Outbound::Messages(queue), Parcel::Message(message)) => {
                let _ = queue.send(Some(message));
            }
            _ => unreachable!("a parcel is made for the peer's dialect"),
        }
    }

    /// Queues what `encode` writes, for one that is no WebSocket.
    pub fn deliver_raw(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut frame = Vec::with_capacity(64);
        encode(&mut frame);
        self.deliver(Parcel::Frames(Bytes::from(frame)));
    }

    /// Lets the writer end when all that is queued is written; a WebSocket is told why.
    pub fn end(&self, close_code: u16) {
        match &self.outbound {
            Outbound::Frames(queue) => {
                let _ = queue.send(None);
            }
            Outbound::Messages(queue) => {
                let _ = queue.send(Some(close(close_code)));
                let _ = queue.send(None);
            }
        }
    }

    /// Ends the connection as one that reads too slowly.
    pub fn overflow(&self) {
        if !self.overflowed.swap(true, Ordering::AcqRel) {
            self.writer_bell.notify_one();
            self.reader_bell.notify_one();
        }
    }

    /// Whether more waited than may.
    pub fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Acquire)
    }

    /// Tells the connection to end: the server stops.
    pub fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Release);
        self.reader_bell.notify_one();
    }

    /// Whether the server stops.
    pub fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Acquire)
    }

    /// The kernel took `bytes`. Calls a reader that waits for that.
    pub fn sent(&self, bytes: usize) {
        let waiting = self.waiting.fetch_sub(bytes, Ordering::AcqRel) - bytes;
        if waiting < self.max_waiting / 4 && self.paused.swap(false, Ordering::AcqRel) {
            self.reader_bell.notify_one();
        }
    }

    /// Whether requests are not to be read because too many answers wait; the reader is called
    /// when it may go on.
    pub fn must_pause(&self) -> bool {
        if self.waiting.load(Ordering::Acquire) <= self.max_waiting / 2 {
            return false;
        }
        self.paused.store(true, Ordering::Release);
        if self.waiting.load(Ordering::Acquire) < self.max_waiting / 4 {
            self.paused.store(false, Ordering::Release);
            return false;
        }
        true
    }

    /// Whether the reader waits to be called.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// The last word to a connection that reads too slowly.
    pub fn last_word(&self) -> Option<Parcel> {
        let text = "the outbound queue is full: read faster";
        let event = Event::Error { reference: Ref::NONE, code: Code::SlowReader, text };
        Parcel::of(self.identity.get()?.dialect, &event)
    }
}
