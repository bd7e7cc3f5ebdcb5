//! How fast connections may send.
//!
//! Owns a bucket of messages and one of bytes for each connection ([`Meters`]), the list of those
//! that are left unread for a while, and what is said to one that is too fast. Never reads bytes
//! and never does a request. Called by the [`intake`](super::intake), and by the timers for the
//! list.
//!
//! A request that comes too early is refused, and the connection lives. What has no answer that
//! could say so is done all the same, and so is what has arrived in bytes: then the connection is
//! left unread, so that its kernel and then its client are slowed down, until it has paid. While it
//! is left unread its silence is not held against it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::base::gcra::{Bucket, Rate, TooFast};
use crate::base::ids::{ConnId, Ref};
use crate::base::limits::{Limits, REFUSED_PAUSE_MS, SLOWED_MS};
use crate::base::time::{Mono, Now};
use crate::wire::message::{Code, Request};

use super::session::{Marks, State};
use super::shard::Shard;

/// What one connection may still send.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    messages: Bucket,
    bytes: Bucket,
}

const _: () = assert!(size_of::<Meter>() == 16, "what rates cost each connection");

/// The meters of one shard's connections, by slot, and those that are left unread.
#[derive(Debug)]
pub struct Meters {
    message_rate: Rate,
    byte_rate: Rate,
    /// Empty where there is no rate.
    table: Vec<Meter>,
    /// Connections that are left unread, each once, and when they are looked at again.
    slowed: BinaryHeap<Reverse<(Mono, ConnId)>>,
}

impl Meters {
    /// No connections yet, under these limits.
    pub fn new(limits: &Limits) -> Meters {
        Meters {
            message_rate: Rate::new(limits.message_rate, limits.message_burst),
            byte_rate: Rate::new(limits.byte_rate as u64, limits.byte_burst as u64),
            table: Vec::new(),
            slowed: BinaryHeap::new(),
        }
    }

    /// A connection began in `slot`.
    pub fn open(&mut self, slot: usize) {
        if self.message_rate.is_unlimited() && self.byte_rate.is_unlimited() {
            return;
        }
        if slot >= self.table.len() {
            self.table.resize(slot + 1, Meter::default());
        }
        self.table[slot] = Meter::default();
    }

    /// A message has come.
    #[inline(always)]
    pub fn take_message(&mut self, slot: usize, now: Mono) -> Result<(), TooFast> {
        match self.table.get_mut(slot) {
            Some(meter) => self.message_rate.take(&mut meter.messages, 1, now),
            None => Ok(()),
        }
    }

    /// The same, where it cannot be refused.
    fn charge_message(&mut self, slot: usize, now: Mono) {
        if let Some(meter) = self.table.get_mut(slot) {
            let _ = self.message_rate.charge(&mut meter.messages, 1, now);
        }
    }

    /// Bytes have come, and are taken whether or not they came too early.
    #[inline(always)]
    pub fn charge_bytes(&mut self, slot: usize, bytes: usize, now: Mono) -> Result<(), TooFast> {
        match self.table.get_mut(slot) {
            Some(meter) => self.byte_rate.charge(&mut meter.bytes, bytes as u64, now),
            None => Ok(()),
        }
    }

    /// How long a connection has to be left unread.
    fn owed_ms(&self, slot: usize, now: Mono) -> u64 {
        let Some(meter) = self.table.get(slot) else {
            return 0;
        };
        let owed = [
            self.message_rate.look(meter.messages, 0, now),
            self.byte_rate.look(meter.bytes, 0, now),
        ];
        owed.into_iter().filter_map(Result::err).map(|it| it.wait_ms).max().unwrap_or(0)
    }

    /// When the next connection is to be looked at again.
    pub fn next(&self) -> Option<Mono> {
        self.slowed.peek().map(|Reverse((due, _))| *due)
    }

    /// How many connections are left unread.
    pub fn slowed(&self) -> usize {
        self.slowed.len()
    }

    fn pop_due(&mut self, now: Mono) -> Option<ConnId> {
        let Reverse((due, _)) = self.slowed.peek()?;
        if *due > now {
            return None;
        }
        self.slowed.pop().map(|Reverse((_, conn))| conn)
    }
}

impl Shard {
    /// A message came too early. Returns whether it was refused, and is not to be done.
    #[cold]
    pub(super) fn refuses_hasty(
        &mut self,
        conn: ConnId,
        request: Option<&Request<'_>>,
        too_fast: TooFast,
        now: Now,
    ) -> bool {
        let reference = match request {
            Some(
                Request::Join { reference, .. }
                | Request::Publish { reference, .. }
                | Request::Direct { reference, .. }
                | Request::History { reference, .. }
                | Request::Who { reference, .. },
            ) => *reference,
            _ => {
                self.bear_hasty(conn, too_fast, now);
                return false;
            }
        };
        self.refuse_hasty(conn, reference, too_fast, now);
        true
    }

    /// Refuses a request that came too early.
    #[cold]
    pub(super) fn refuse_hasty(
        &mut self,
        conn: ConnId,
        reference: Ref,
        TooFast { wait_ms }: TooFast,
        now: Now,
    ) {
        self.counters.limited_messages += 1;
        let text = self.hasty_text(wait_ms);
        self.refuse(conn, reference, Code::TooMany, &text, now);
        self.slow_down(conn, wait_ms.min(REFUSED_PAUSE_MS), now);
    }

    /// What a client is told whose request came `wait_ms` too early.
    pub(super) fn hasty_text(&self, wait_ms: u64) -> String {
        format!(
            "too fast: {} messages a second and {} at once (--message-rate, --message-burst); try \
             again in {wait_ms} ms",
            self.limits.message_rate, self.limits.message_burst
        )
    }

    /// Does what cannot be refused although it came too early: what follows has to wait.
    #[cold]
    pub(super) fn bear_hasty(&mut self, conn: ConnId, too_fast: TooFast, now: Now) {
        self.meters.charge_message(conn.slot(), now.mono);
        self.slow_down(conn, too_fast.wait_ms, now);
    }

    /// Leaves a connection unread for so long, or until it is looked at again before that.
    #[cold]
    pub(super) fn slow_down(&mut self, conn: ConnId, wait_ms: u64, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let is_held_already = session.marks.has(Marks::RESUMING);
        if is_held_already || matches!(session.state, State::Closing(_)) {
            return;
        }
        session.marks.set(Marks::RESUMING);
        self.counters.limited_reads += 1;
        let due = now.mono + wait_ms.min(SLOWED_MS);
        self.meters.slowed.push(Reverse((due, conn)));
    }

    /// Reads again those who have waited for long enough.
    pub(super) fn expire_slowed(&mut self, now: Now) {
        while let Some(conn) = self.meters.pop_due(now.mono) {
            let owed_ms = self.meters.owed_ms(conn.slot(), now.mono);
            let Some(session) = self.sessions.get_mut(conn) else {
                continue;
            };
            if session.state.awaits_shards() || !session.marks.has(Marks::RESUMING) {
                // It is read again when those have answered, or is already.
                continue;
            }
            if session.state.is_greeted() {
                session.heard(now.mono);
            }
            if owed_ms > 0 && !matches!(session.state, State::Closing(_)) {
                let due = now.mono + owed_ms.min(SLOWED_MS);
                self.meters.slowed.push(Reverse((due, conn)));
            } else {
                self.resuming.push(conn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_begins_with_full_buckets_whoever_was_there_before() {
        let limits = Limits { message_rate: 1, message_burst: 2, ..Limits::default() };
        let mut meters = Meters::new(&limits);
        for _ in 0..2 {
            meters.open(3);
            assert!(meters.take_message(3, Mono(5)).is_ok());
            assert!(meters.take_message(3, Mono(5)).is_ok());
            assert_eq!(meters.take_message(3, Mono(5)), Err(TooFast { wait_ms: 1_000 }));
        }
    }

    #[test]
    fn without_rates_nothing_is_kept() {
        let limits = Limits { message_rate: 0, byte_rate: 0, ..Limits::default() };
        let mut meters = Meters::new(&limits);
        meters.open(1_000);
        assert_eq!(meters.table.capacity(), 0);
        for _ in 0..1_000 {
            assert!(meters.take_message(1_000, Mono(5)).is_ok());
            assert!(meters.charge_bytes(1_000, 1 << 20, Mono(5)).is_ok());
        }
    }
}
