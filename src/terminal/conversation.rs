//! One room or one user that is talked with.
//!
//! Owns its lines, how many were not read, and who is there. Pure; the talk calls it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::client::Place;

/// Lines that are kept; older ones are in the room's history.
const LINES_MAX: usize = 5_000;

/// With whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum With {
    /// With all in a room.
    Room(Arc<str>),
    /// With one user.
    User(String),
}

impl With {
    /// As it is written: rooms begin with `#`, users with `@`.
    pub fn title(&self) -> String {
        match self {
            With::Room(room) => format!("#{room}"),
            With::User(user) => format!("@{user}"),
        }
    }
}

/// What has become of something we said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits for its answer.
    Waiting,
    /// It was taken.
    Taken,
    /// It was taken, and waits until the user comes back.
    Queued,
    /// It was not; why.
    Failed(String),
    /// Nobody knows.
    Uncertain,
}

/// What a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody said it.
    Said {
        /// Who.
        from: String,
        /// Where in the room's order, if it is known.
        place: Option<Place>,
    },
    /// We said it here.
    Own {
        /// The number under which its answer comes.
        number: u64,
        /// What has become of it.
        fate: Fate,
    },
    /// It happened.
    Note,
    /// Something is wrong or missing.
    Alarm,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What it is.
    pub kind: Kind,
    /// Its text, harmless to a terminal.
    pub text: String,
}

/// A room or a user, and what was said.
#[derive(Debug)]
pub struct Conversation {
    /// With whom.
    pub with: With,
    /// It is a room that we are in, or have asked to be in.
    pub joined: bool,
    /// What was said, oldest first.
    pub lines: VecDeque<Line>,
    /// Messages that were not looked at.
    pub unread: usize,
    /// One of them is about us.
    pub called: bool,
    /// How many are in the room, if that is known.
    pub total: Option<u32>,
    /// Who they are, as far as is known.
    pub members: BTreeSet<String>,
}

impl Conversation {
    /// An empty one.
    pub fn new(with: With) -> Conversation {
        Conversation {
            with,
            joined: false,
            lines: VecDeque::new(),
            unread: 0,
            called: false,
            total: None,
            members: BTreeSet::new(),
        }
    }

    /// Appends a line.
    pub fn push(&mut self, line: Line) {
        self.lines.push_back(line);
        if self.lines.len() > LINES_MAX {
            self.lines.pop_front();
        }
    }

    /// Puts messages of the past where they belong: before all that is said now, but for those
    /// that stand here already.
    pub fn insert_past(&mut self, past: Vec<Line>) {
        let place_of = |line: &Line| match line.kind {
            Kind::Said { place, .. } => place,
            _ => None,
        };
        let known: BTreeSet<Place> = self.lines.iter().filter_map(place_of).collect();
        let new =
            past.into_iter().filter(|line| place_of(line).is_none_or(|p| !known.contains(&p)));
        let new: Vec<Line> = new.collect();
        // Behind what was there before they were said, such as how we came in.
        let behind = |time_ms| move |line: &Line| line.time_ms > time_ms;
        let at = match new.first() {
            Some(first) => self.lines.iter().position(behind(first.time_ms)),
            None => return,
        };
        let tail = self.lines.split_off(at.unwrap_or(self.lines.len()));
        self.lines.extend(new);
        self.lines.extend(tail);
        while self.lines.len() > LINES_MAX {
            self.lines.pop_front();
        }
    }

    /// What has become of our line `number`.
    pub fn settle(&mut self, settled: u64, outcome: Fate) {
        for line in self.lines.iter_mut().rev() {
            if let Kind::Own { number, fate } = &mut line.kind
                && *number == settled
            {
                *fate = outcome;
                return;
            }
        }
    }

    /// It is looked at.
    pub fn read(&mut self) {
        (self.unread, self.called) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Epoch, Seq};

    fn said(seq: u64) -> Line {
        let place = Some(Place { epoch: Epoch(1), seq: Seq(seq) });
        let kind = Kind::Said { from: "bob".into(), place };
        Line { time_ms: seq * 10, kind, text: seq.to_string() }
    }

    #[test]
    fn the_past_is_put_before_the_present_without_doubles() {
        let mut den = Conversation::new(With::Room("den".into()));
        den.push(said(7));
        den.push(said(8));
        den.insert_past(vec![said(5), said(6), said(7)]);
        let texts: Vec<&str> = den.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["5", "6", "7", "8"]);
    }

    #[test]
    fn old_lines_give_way() {
        let mut den = Conversation::new(With::Room("den".into()));
        for seq in 0..=LINES_MAX as u64 {
            den.push(said(seq));
        }
        assert_eq!(den.lines.len(), LINES_MAX);
        assert_eq!(den.lines[0].text, "1");
    }
}
