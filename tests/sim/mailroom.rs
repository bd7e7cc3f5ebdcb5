//! The mailboxes between shards.
//!
//! Owns one bounded queue for each pair of shards. Keeps the order within a pair, as a channel
//! does, and nothing else: pairs overtake each other, and some letters are held up.

use std::collections::VecDeque;

use corebeat::base::ids::ShardId;
use corebeat::chat::mail::Mail;

use super::dice::Dice;
use super::plan::Plan;

#[derive(Default)]
struct Pair {
    letters: VecDeque<Mail>,
    /// The round before which nothing of it is delivered.
    held_until: u64,
}

/// All letters under way.
pub(crate) struct Mailroom {
    shards: usize,
    pairs: Vec<Pair>,
    capacity: usize,
    slow: u32,
    slow_rounds: u64,
}

impl Mailroom {
    /// Empty mailboxes.
    pub(crate) fn new(plan: &Plan) -> Mailroom {
        let shards = usize::from(plan.shards);
        Mailroom {
            shards,
            pairs: std::iter::repeat_with(Pair::default).take(shards * shards).collect(),
            capacity: plan.mailbox_capacity,
            slow: plan.slow_mail,
            slow_rounds: plan.slow_mail_rounds,
        }
    }

    /// Posts a letter.
    ///
    /// # Errors
    /// The letter, where the mailbox is full.
    pub(crate) fn post(
        &mut self,
        from: usize,
        to: ShardId,
        mail: Mail,
        round: u64,
        dice: &mut Dice,
    ) -> Result<(), Mail> {
        assert_ne!(from, to.index(), "what a shard tells itself is no letter");
        let pair = &mut self.pairs[from * self.shards + to.index()];
        if pair.letters.len() >= self.capacity {
            return Err(mail);
        }
        if dice.chance(self.slow) {
            pair.held_until = pair.held_until.max(round + dice.number(1..=self.slow_rounds));
        }
        pair.letters.push_back(mail);
        Ok(())
    }

    /// Takes the next letter to `to` out of one of the mailboxes that may be opened.
    pub(crate) fn take(
        &mut self,
        to: usize,
        round: u64,
        dice: &mut Dice,
    ) -> Option<(ShardId, Mail)> {
        let ready: Vec<usize> =
            (0..self.shards).filter(|from| self.ready(*from, to, round)).collect();
        if ready.is_empty() {
            return None;
        }
        let from = dice.pick(&ready);
        let mail = self.pairs[from * self.shards + to].letters.pop_front()?;
        Some((ShardId(from as u16), mail))
    }

    /// Whether there is mail for `to` that may be delivered.
    pub(crate) fn has_mail(&self, to: usize, round: u64) -> bool {
        (0..self.shards).any(|from| self.ready(from, to, round))
    }

    /// Whether no letter is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.iter().all(|pair| pair.letters.is_empty())
    }

    fn ready(&self, from: usize, to: usize, round: u64) -> bool {
        let pair = &self.pairs[from * self.shards + to];
        !pair.letters.is_empty() && pair.held_until <= round
    }
}
