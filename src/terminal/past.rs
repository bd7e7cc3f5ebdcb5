//! How to ask for the last messages of a room.
//!
//! Owns the way from *the last twenty*, which is what people want, to what the protocol has: what
//! follows a place in the present epoch, from the oldest end, as far as one answer takes it. Pure.
//! The talk and the line mode ask.

use std::collections::VecDeque;

use crate::client::{History, Message, Seq};

/// Behind any message: a HISTORY from here on brings none, but tells where the last one is.
pub const NOWHERE: Seq = Seq(u64::MAX);

/// What to ask HISTORY for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// What follows this place.
    pub since: Seq,
    /// At most so many; 0 is as many as there are.
    pub limit: u16,
}

/// The last messages of a room, on their way.
#[derive(Clone, Debug)]
pub struct Past {
    count: u16,
    /// The room's last message when it was asked for.
    until: Seq,
    messages: VecDeque<Message>,
}

impl Past {
    /// The last `count` messages of a room whose last one is `head`, and what to ask for first. Of
    /// an epoch that is younger than that nobody knows how much of an earlier one stands before it,
    /// so all is asked for, and the last are taken.
    pub fn new(head: Seq, count: u16) -> (Past, Question) {
        let question = match head.0.checked_sub(u64::from(count)) {
            None | Some(0) => Question { since: Seq(0), limit: 0 },
            Some(since) => Question { since: Seq(since), limit: count },
        };
        (Past { count, until: head, messages: VecDeque::new() }, question)
    }

    /// An answer came. What to ask for next, where it did not reach the last message.
    pub fn take(&mut self, history: History) -> Option<Question> {
        let last = history.messages.last()?.place;
        let epochs = |past: &Past| {
            let before = past.messages.back()?.place.epoch;
            Some((before, history.messages.first()?.place.epoch))
        };
        if epochs(self).is_some_and(|(before, first)| before != first) {
            // Between the two something may be missing that nobody can ask for.
            self.messages.clear();
        }
        self.messages.extend(history.messages);
        let surplus = self.messages.len().saturating_sub(usize::from(self.count));
        self.messages.drain(..surplus);
        // The end of an earlier epoch is no place to ask from, nor is what stands before the first
        // message of this one, where as much as fits an answer is older.
        let since = if last.epoch == history.head.epoch { last.seq } else { Seq(1) };
        let left = self.until.0.saturating_sub(since.0);
        (left > 0).then(|| Question { since, limit: u16::try_from(left).unwrap_or(self.count) })
    }

    /// All that came, oldest first.
    pub fn into_messages(self) -> Vec<Message> {
        self.messages.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Epoch, Place};

    /// What a server answers that keeps these messages and sends three at a time.
    fn answer(kept: &[(u32, u64)], head: (u32, u64), question: Question) -> History {
        let place = |(epoch, seq)| Place { epoch: Epoch(epoch), seq: Seq(seq) };
        let Question { since, limit } = question;
        let follows =
            |&&(epoch, seq): &&(u32, u64)| since == Seq(0) || epoch == head.0 && seq > since.0;
        let most = if limit == 0 { 3 } else { 3.min(usize::from(limit)) };
        let message = |&at: &(u32, u64)| Message {
            room: "den".into(),
            place: place(at),
            time_ms: at.1,
            from: "bob".into(),
            body: Vec::new(),
            replay: true,
        };
        let messages = kept.iter().filter(follows).take(most).map(message).collect();
        History { room: "den".into(), messages, head: place(head), gap: false }
    }

    fn last(kept: &[(u32, u64)], count: u16) -> (Vec<(u32, u64)>, usize) {
        let head = *kept.last().unwrap();
        let (mut past, first) = Past::new(Seq(head.1), count);
        let (mut next, mut asked) = (Some(first), 0);
        while let Some(question) = next {
            asked += 1;
            next = past.take(answer(kept, head, question));
        }
        let places = past.into_messages();
        let places = places.iter().map(|message| (message.place.epoch.0, message.place.seq.0));
        (places.collect(), asked)
    }

    #[test]
    fn the_last_messages_follow_a_place_unless_an_earlier_epoch_may_have_some_of_them() {
        let asked = |since, limit| Question { since: Seq(since), limit };
        assert_eq!(Past::new(Seq(500), 20).1, asked(480, 20));
        assert_eq!(Past::new(Seq(21), 20).1, asked(1, 20));
        for young in [0, 3, 20] {
            assert_eq!(Past::new(Seq(young), 20).1, asked(0, 0), "of which the last are taken");
        }
    }

    #[test]
    fn the_last_messages_are_the_last_however_few_one_answer_takes() {
        let room: Vec<(u32, u64)> = (1..=50).map(|seq| (7, seq)).collect();
        assert_eq!(last(&room, 10), (room[40..].to_vec(), 4));
        assert_eq!(last(&room, 50), (room.clone(), 17));
        assert_eq!(last(&room[..2], 10), (room[..2].to_vec(), 1));
    }

    #[test]
    fn a_young_epoch_has_what_stands_before_it_as_far_as_it_can_be_asked_for() {
        let short = [(6, 8), (7, 1), (7, 2), (7, 3), (7, 4)];
        assert_eq!(last(&short, 4), (short[1..].to_vec(), 2));
        // What follows the first answer here nobody can ask for but from the second message on.
        let long: Vec<(u32, u64)> =
            (1..=9).map(|seq| (6, seq)).chain(short[1..].to_vec()).collect();
        assert_eq!(last(&long, 20).0, short[2..]);
    }

    #[test]
    fn a_room_that_begins_anew_meanwhile_ends_the_asking() {
        let (mut past, question) = Past::new(Seq(500), 20);
        let next = past.take(answer(&[(7, 481)], (7, 500), question));
        assert_eq!(next, Some(Question { since: Seq(481), limit: 19 }));
        assert_eq!(past.take(answer(&[], (8, 0), question)), None);
        assert_eq!(past.into_messages().len(), 1);
    }
}
