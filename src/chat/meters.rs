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
use std::collections::{BTreeSet, BinaryHeap};

use crate::base::gcra::{Bucket, Rate, TooFast};
use crate::base::ids::{ConnId, Ref};
use crate::base::limits::{Limits, REFUSED_PAUSE_MS, SLOWED_MS};
use crate::base::time::{Mono, Now};
use crate::wire::message::{Code, Request};

use super::session::{CREDIT_MAX, Marks, State};
use super::shard::{Progress, Shard};

/// Bytes that a connection pays for ahead at most.
const BYTES_AHEAD_MAX: usize = 64 << 10;
/// The part of a burst that is paid for ahead at most.
const AHEAD_SHARE: usize = 32;

/// The meters of one shard's connections, by slot, and those that are left unread.
#[derive(Debug)]
pub struct Meters {
    message_rate: Rate,
    byte_rate: Rate,
    /// Messages and bytes that are paid for ahead.
    ahead: (u8, u32),
    /// Empty where there is no rate, as the next two.
    messages: Vec<Bucket>,
    bytes: Vec<Bucket>,
    /// Bytes that were paid for ahead.
    byte_credits: Vec<u32>,
    /// Connections that are left unread, and when they are looked at again.
    slowed: BinaryHeap<Reverse<(Mono, ConnId)>>,
    /// The same, each once.
    are_slowed: BTreeSet<ConnId>,
}

impl Meters {
    /// No connections yet, under these limits.
    pub fn new(limits: &Limits) -> Meters {
        let message_share = limits.message_burst / AHEAD_SHARE as u64;
        let bytes_ahead = (limits.byte_burst / AHEAD_SHARE).min(BYTES_AHEAD_MAX);
        Meters {
            message_rate: Rate::new(limits.message_rate, limits.message_burst),
            byte_rate: Rate::new(limits.byte_rate as u64, limits.byte_burst as u64),
            ahead: (message_share.min(u64::from(CREDIT_MAX)) as u8, bytes_ahead as u32),
            messages: Vec::new(),
            bytes: Vec::new(),
            byte_credits: Vec::new(),
            slowed: BinaryHeap::new(),
            are_slowed: BTreeSet::new(),
        }
    }

    /// A connection began in `slot`.
    pub fn open(&mut self, slot: usize) {
        if !self.message_rate.is_unlimited() {
            fill(&mut self.messages, slot);
        }
        if !self.byte_rate.is_unlimited() {
            fill(&mut self.bytes, slot);
            fill(&mut self.byte_credits, slot);
        }
    }

    /// A message has come that was not paid for. Returns how many further ones are paid for with
    /// it.
    #[cold]
    fn take_message(&mut self, slot: usize, now: Mono) -> Result<u8, TooFast> {
        let ahead = self.ahead.0;
        let Some(bucket) = self.messages.get_mut(slot) else {
            return Ok(CREDIT_MAX);
        };
        if self.message_rate.take(bucket, 1 + u64::from(ahead), now).is_ok() {
            return Ok(ahead);
        }
        self.message_rate.take(bucket, 1, now).map(|()| 0)
    }

    /// A message has come and is taken although it came too early.
    fn charge_message(&mut self, slot: usize, now: Mono) {
        if let Some(bucket) = self.messages.get_mut(slot) {
            let _ = self.message_rate.charge(bucket, 1, now);
        }
    }

    /// Bytes have come, and are taken. Returns whether they were paid for ahead.
    #[inline(always)]
    pub fn spend_bytes(&mut self, slot: usize, bytes: usize) -> bool {
        let Some(credit) = self.byte_credits.get_mut(slot) else {
            return true;
        };
        let left = (*credit as usize).checked_sub(bytes);
        if let Some(left) = left {
            *credit = left as u32;
        }
        left.is_some()
    }

    /// The same bytes are paid for, and some more.
    #[cold]
    fn pay_bytes(&mut self, slot: usize, bytes: usize, now: Mono) -> Result<(), TooFast> {
        let (bucket, credit) = (&mut self.bytes[slot], &mut self.byte_credits[slot]);
        let owed = bytes as u64 - u64::from(*credit);
        *credit = 0;
        let ahead = self.ahead.1;
        if self.byte_rate.take(bucket, owed + u64::from(ahead), now).is_ok() {
            *credit = ahead;
            return Ok(());
        }
        self.byte_rate.charge(bucket, owed, now)
    }

    /// How long a connection has to be left unread.
    fn owed_ms(&self, slot: usize, now: Mono) -> u64 {
        let owed = |rate: Rate, buckets: &[Bucket]| {
            let bucket = buckets.get(slot).copied().unwrap_or_default();
            rate.look(bucket, 0, now).err().map_or(0, |too_fast| too_fast.wait_ms)
        };
        owed(self.message_rate, &self.messages).max(owed(self.byte_rate, &self.bytes))
    }

    /// When the next connection is to be looked at again.
    pub fn next(&self) -> Option<Mono> {
        self.slowed.peek().map(|Reverse((due, _))| *due)
    }

    /// How many connections are left unread.
    pub fn slowed(&self) -> usize {
        self.slowed.len()
    }

    /// Whether a connection is left unread because it was too fast.
    pub fn is_slowed(&self, conn: ConnId) -> bool {
        !self.are_slowed.is_empty() && self.are_slowed.contains(&conn)
    }

    fn slow_down(&mut self, conn: ConnId, due: Mono) {
        let is_new = self.are_slowed.insert(conn);
        debug_assert!(is_new, "{conn:?} is on the list already");
        self.slowed.push(Reverse((due, conn)));
    }

    fn pop_due(&mut self, now: Mono) -> Option<ConnId> {
        let Reverse((due, conn)) = *self.slowed.peek()?;
        if due > now {
            return None;
        }
        self.slowed.pop();
        self.are_slowed.remove(&conn);
        Some(conn)
    }
}

/// Makes what is at `slot` new, and room for it if there is none.
fn fill<T: Clone + Default>(table: &mut Vec<T>, slot: usize) {
    if slot >= table.len() {
        table.resize(slot + 1, T::default());
    }
    table[slot] = T::default();
}

impl Shard {
    /// Has a connection pay for bytes that have come.
    #[cold]
    pub(super) fn pay_bytes(&mut self, conn: ConnId, bytes: usize, now: Now) {
        if let Err(too_fast) = self.meters.pay_bytes(conn.slot(), bytes, now.mono) {
            self.slow_down(conn, too_fast.wait_ms, now);
        }
    }

    /// Has a connection pay for a message that has come, unless it did so ahead.
    ///
    /// # Errors
    /// How long to wait, where it came too early.
    #[inline(always)]
    pub(super) fn pay_message(&mut self, conn: ConnId, now: Now) -> Result<(), TooFast> {
        let session = self.sessions.get_mut(conn);
        if session.is_some_and(|session| session.spend_credit()) {
            return Ok(());
        }
        self.renew_credit(conn, now)
    }

    /// The same, of one that did not pay ahead.
    #[cold]
    pub(super) fn renew_credit(&mut self, conn: ConnId, now: Now) -> Result<(), TooFast> {
        let credit = self.meters.take_message(conn.slot(), now.mono)?;
        if let Some(session) = self.sessions.get_mut(conn) {
            session.give_credit(credit);
        }
        Ok(())
    }

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
        if matches!(session.state, State::Closing(_)) || self.meters.is_slowed(conn) {
            return;
        }
        session.marks.set(Marks::RESUMING);
        self.counters.limited_reads += 1;
        self.meters.slow_down(conn, now.mono + wait_ms.min(SLOWED_MS));
    }

    /// Other shards have answered what a connection waited for: it goes on, unless it has to pay
    /// first. Then [`Shard::expire_slowed`] sees to it.
    pub(super) fn go_on_after_answer(&mut self, conn: ConnId) {
        if !self.meters.is_slowed(conn) {
            self.resuming.push(conn);
        }
    }

    /// Reads again those who have waited for long enough.
    ///
    /// With a budget of its own, so that many who are too fast take no time from other timers.
    pub(super) fn expire_slowed(&mut self, now: Now) -> Progress {
        let mut budget = self.limits.timer_budget;
        while let Some(conn) = self.meters.pop_due(now.mono) {
            if budget == 0 {
                self.meters.slow_down(conn, now.mono);
                return Progress::More;
            }
            budget -= 1;
            let owed_ms = self.meters.owed_ms(conn.slot(), now.mono);
            let session = self.sessions.get_mut(conn);
            let Some(session) = session.filter(|session| session.marks.has(Marks::RESUMING)) else {
                // It ends, or is gone.
                continue;
            };
            // Of one that is paused besides it counts whether it reads.
            if session.state.is_greeted() && !session.marks.has(Marks::PAUSED) {
                session.heard(now.mono);
            }
            if owed_ms > 0 {
                self.meters.slow_down(conn, now.mono + owed_ms.min(SLOWED_MS));
            } else if !session.state.awaits_shards() {
                self.resuming.push(conn);
            }
        }
        Progress::Done
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
            assert_eq!(meters.take_message(3, Mono(5)), Ok(0));
            assert_eq!(meters.take_message(3, Mono(5)), Ok(0));
            assert_eq!(meters.take_message(3, Mono(5)), Err(TooFast { wait_ms: 1_000 }));
        }
    }

    #[test]
    fn without_rates_nothing_is_kept() {
        let limits = Limits { message_rate: 0, byte_rate: 0, ..Limits::default() };
        let mut meters = Meters::new(&limits);
        meters.open(1_000);
        assert_eq!((meters.messages.capacity(), meters.byte_credits.capacity()), (0, 0));
        for _ in 0..1_000 {
            assert_eq!(meters.take_message(1_000, Mono(5)), Ok(CREDIT_MAX));
            assert!(meters.spend_bytes(1_000, 1 << 20));
        }
    }

    #[test]
    fn what_is_paid_for_ahead_is_a_small_part_of_the_burst() {
        let limits = Limits {
            message_rate: 1,
            message_burst: 320,
            byte_rate: 1,
            byte_burst: 3_200,
            ..Limits::default()
        };
        let mut meters = Meters::new(&limits);
        meters.open(0);
        let (mut messages, now) = (0, Mono(5));
        while let Ok(credit) = meters.take_message(0, now) {
            assert!(credit <= 10);
            messages += 1 + u64::from(credit);
        }
        assert_eq!(messages, 320);
        let mut bytes = 0;
        while meters.spend_bytes(0, 7) || meters.pay_bytes(0, 7, now).is_ok() {
            bytes += 7;
        }
        assert!((3_190..=3_200).contains(&bytes), "{bytes}");
        assert!(meters.pay_bytes(0, 70, now).is_err(), "and what came is charged");
        assert!(meters.owed_ms(0, now) >= 69_000);
    }
}
