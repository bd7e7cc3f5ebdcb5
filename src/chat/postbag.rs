//! The letters that wait to be posted.
//!
//! Owns a queue for each shard. Never sends: the worker takes letters out and puts them into the
//! other worker's mailbox, and brings back those that found it full.

use std::collections::VecDeque;

use crate::base::ids::ShardId;

use super::mail::Mail;

#[derive(Debug, Default)]
struct Bag {
    letters: VecDeque<Mail>,
    /// The mailbox was full this turn.
    stalled: bool,
    /// The bag is on the list of bags to be emptied.
    listed: bool,
}

/// Letters that wait to be posted, a queue for each shard.
#[derive(Debug)]
pub struct Postbag {
    bags: Vec<Bag>,
    waiting: Vec<ShardId>,
}

impl Postbag {
    /// Empty bags for `shards` shards.
    pub fn new(shards: u16) -> Postbag {
        let bags = std::iter::repeat_with(Bag::default).take(usize::from(shards)).collect();
        Postbag { bags, waiting: Vec::new() }
    }

    /// Puts a letter to `to` behind the earlier ones.
    pub fn push(&mut self, to: ShardId, mail: Mail) {
        let bag = &mut self.bags[to.index()];
        bag.letters.push_back(mail);
        if !bag.listed {
            bag.listed = true;
            self.waiting.push(to);
        }
    }

    /// Throws away the letters to `to`, whose life is over.
    pub fn discard(&mut self, to: ShardId) {
        self.bags[to.index()].letters.clear();
    }

    /// How many letters to `to` wait.
    pub fn waiting_for(&self, to: ShardId) -> usize {
        self.bags[to.index()].letters.len()
    }

    /// Whether any letter waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next letter to post.
    pub fn pop(&mut self) -> Option<(ShardId, Mail)> {
        let mut index = 0;
        while let Some(&to) = self.waiting.get(index) {
            let bag = &mut self.bags[to.index()];
            if bag.stalled {
                index += 1;
                continue;
            }
            match bag.letters.pop_front() {
                Some(mail) => return Some((to, mail)),
                None => {
                    bag.listed = false;
                    self.waiting.swap_remove(index);
                }
            }
        }
        None
    }

    /// Takes back a letter that found the mailbox of `to` full.
    pub fn put_back(&mut self, to: ShardId, mail: Mail) {
        let bag = &mut self.bags[to.index()];
        bag.letters.push_front(mail);
        bag.stalled = true;
    }

    /// A new turn begins: full mailboxes may have room again.
    pub fn retry(&mut self) {
        for to in &self.waiting {
            self.bags[to.index()].stalled = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ConnId, Epoch, Ref, Seq};

    fn letter(seq: u64) -> Mail {
        let conn = ConnId::new(0, 0);
        Mail::Published { conn, reference: Ref(1), epoch: Epoch(1), seq: Seq(seq) }
    }

    fn seq(mail: &Mail) -> u64 {
        match mail {
            Mail::Published { seq, .. } => seq.0,
            other => panic!("unexpected {other:?}"),
        }
    }

    #[test]
    fn a_full_mailbox_delays_its_own_letters_only_and_keeps_their_order() {
        let mut bag = Postbag::new(3);
        for number in 0..3 {
            bag.push(ShardId(1), letter(number));
            bag.push(ShardId(2), letter(10 + number));
        }
        let mut seen = Vec::new();
        while let Some((to, mail)) = bag.pop() {
            if to == ShardId(1) {
                bag.put_back(to, mail);
            } else {
                seen.push(seq(&mail));
            }
        }
        assert_eq!(seen, [10, 11, 12]);
        assert_eq!(bag.waiting_for(ShardId(1)), 3);
        bag.retry();
        let rest: Vec<u64> = std::iter::from_fn(|| bag.pop()).map(|(_, mail)| seq(&mail)).collect();
        assert_eq!(rest, [0, 1, 2]);
        assert!(bag.is_empty());
    }
}
