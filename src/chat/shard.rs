//! The seam between the heart and its shells.
#![allow(missing_docs, unused_variables)]
use std::io::IoSlice;

use super::mail::Mail;
use crate::base::counters::{CloseReason, Counters};
use crate::base::ids::{ConnId, NodeId, ShardId};
use crate::base::limits::Limits;
use crate::base::time::{Mono, Now};

/// How a shard is set up. Plain data; the shell fills it.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    pub shard: ShardId,
    pub shards: u16,
    pub node: NodeId,
    pub limits: Limits,
    pub heartbeat: HeartbeatPolicy,
    /// Seeds every pseudo-random choice of the shard (jitter, levelling); a different one per shard.
    pub seed: u64,
    /// Secret of the process, the same in every shard: table hashing, homes, resume keys.
    pub secret: [u64; 2],
    /// Whether clients may publish to the room `*`.
    pub publish_everyone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatPolicy {
    /// A connection silent for so long is pinged (whole seconds, 1..=65535).
    pub interval_s: u16,
    /// A connection silent for so long is closed.
    pub timeout_s: u16,
    /// Shortest interval that a client may wish for.
    pub shortest_s: u16,
    /// Longest interval that a client may wish for.
    pub longest_s: u16,
}

/// Whether a budgeted phase has work left for the next turn (which then must not sleep).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    Done,
    More,
}

/// What the heart wants done to a connection, at the end of the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All bytes are out: half-close (shutdown write); keep reading (the heart discards) until the
    /// peer hangs up or the heart says `Close`.
    Shutdown(ConnId),
    /// Drop the socket now. The heart has forgotten the connection: do not call `closed` for it.
    Close(ConnId, CloseReason),
    /// Read from it again: the heart had asked to pause (`wants_input` was false) and is ready now.
    Resume(ConnId),
}

pub struct Shard {
    counters: Counters,
}

impl Shard {
    pub fn new(config: ShardConfig, now: Now) -> Shard {
        Shard { counters: Counters::default() }
    }

    /// A new socket. `conn.slot()` is the shell's slab key.
    pub fn open(&mut self, conn: ConnId, now: Now) {}
    /// Bytes arrived. Calls for connections that are gone are ignored (also everywhere below).
    pub fn receive(&mut self, conn: ConnId, bytes: &[u8], now: Now) {}
    /// The peer will send no more (read returned 0). The heart answers with a verdict in time.
    pub fn end_of_input(&mut self, conn: ConnId, now: Now) {}
    /// The socket failed (RST, write error). The shell drops it by itself afterwards.
    pub fn closed(&mut self, conn: ConnId, reason: CloseReason, now: Now) {}
    /// Mail from another shard.
    pub fn mail(&mut self, from: ShardId, mail: Mail, now: Now) {}
    /// Fires due timers, at most TIMER_BUDGET of them.
    pub fn expire(&mut self, now: Now) -> Progress {
        Progress::Done
    }
    /// Seals this turn's batches and delivers, at most FAN_OUT_BUDGET copies.
    pub fn fan_out(&mut self, now: Now) -> Progress {
        Progress::Done
    }
    /// Starts draining: no hello is accepted any more, every connection gets GOAWAY and is closed
    /// when its bytes are out. Budgeted like a timer phase: continued by `expire`.
    pub fn drain(&mut self, reason: &str, now: Now) {}

    /// Next letter to post. Post phase: call until None.
    pub fn poll_mail(&mut self) -> Option<(ShardId, Mail)> {
        None
    }
    /// The mailbox of `to` is full: the letter goes back to the head of the queue, and `poll_mail`
    /// gives none for `to` until `retry_mail`.
    pub fn mail_refused(&mut self, to: ShardId, mail: Mail) {}
    /// A new turn: try full mailboxes again. More when letters wait (the turn must not sleep long).
    pub fn retry_mail(&mut self) -> Progress {
        Progress::Done
    }
    /// A connection with bytes to send, each at most once until more is queued for it.
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        None
    }
    /// Its slices for one vectored write; returns how many were filled in.
    pub fn gather<'a>(&'a self, conn: ConnId, slices: &mut [IoSlice<'a>]) -> usize {
        0
    }
    /// The kernel took `bytes`. Bytes that remain make it dirty again.
    pub fn sent(&mut self, conn: ConnId, bytes: usize, now: Now) {}
    /// The kernel took nothing (WouldBlock): not dirty again before `writable`.
    pub fn blocked(&mut self, conn: ConnId) {}
    /// The kernel has room again (edge).
    pub fn writable(&mut self, conn: ConnId) {}
    /// Close phase, the last of a turn: call until None.
    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        None
    }
    /// False while the connection's own requests should stay in the kernel (its outbox is filling).
    pub fn wants_input(&self, conn: ConnId) -> bool {
        true
    }
    /// When `expire` has something to do at the earliest.
    pub fn next_deadline(&self) -> Option<Mono> {
        None
    }
    /// Connections that the heart knows.
    pub fn connections(&self) -> usize {
        0
    }
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
