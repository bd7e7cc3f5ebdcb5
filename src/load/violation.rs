//! What a server must not do, and how often it did.
//!
//! Owns the kinds, their names in reports, and the first few cases in words. Never decides whether
//! something is one. A run with any of them has failed.

/// A breach of what the contract promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Violation {
    /// A message did not reach a member.
    Lost,
    /// A message reached a member again.
    Duplicate,
    /// Messages came in another order than they have.
    Order,
    /// A body is not what was sent.
    Corrupt,
    /// A message came that was not meant for this connection.
    Foreign,
    /// The server said that it did not send messages.
    Shed,
    /// The server refused a request.
    Refused,
    /// The server ended a connection.
    Closed,
    /// The server's bytes are not of the dialect.
    Malformed,
    /// A connection was not answered in time.
    Unanswered,
    /// The server took no more of what a publisher had to say.
    Unsent,
    /// The server did not go on with a session.
    Forgotten,
}

impl Violation {
    /// Every kind, in the order of reports.
    pub const ALL: [Violation; 12] = [
        Violation::Lost,
        Violation::Duplicate,
        Violation::Order,
        Violation::Corrupt,
        Violation::Foreign,
        Violation::Shed,
        Violation::Refused,
        Violation::Closed,
        Violation::Malformed,
        Violation::Unanswered,
        Violation::Unsent,
        Violation::Forgotten,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Violation::Lost => "lost",
            Violation::Duplicate => "duplicate",
            Violation::Order => "order",
            Violation::Corrupt => "corrupt",
            Violation::Foreign => "foreign",
            Violation::Shed => "shed",
            Violation::Refused => "refused",
            Violation::Closed => "closed",
            Violation::Malformed => "malformed",
            Violation::Unanswered => "unanswered",
            Violation::Unsent => "unsent",
            Violation::Forgotten => "forgotten",
        }
    }

    /// What it means, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Violation::Lost => "messages that did not reach a member",
            Violation::Duplicate => "messages that reached a member twice",
            Violation::Order => "messages in another order than their room's",
            Violation::Corrupt => "bodies that are not what was sent",
            Violation::Foreign => "messages that came to the wrong connection",
            Violation::Shed => "messages that the server said it did not send",
            Violation::Refused => "requests that the server refused",
            Violation::Closed => "connections that the server ended",
            Violation::Malformed => "connections whose bytes broke the dialect",
            Violation::Unanswered => "connections that were not answered in time",
            Violation::Unsent => "messages that a publisher could not get rid of",
            Violation::Forgotten => "sessions that the server did not resume",
        }
    }
}

/// Cases that are kept in words.
const TOLD_MAX: usize = 8;

/// How often each happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    counts: [u64; Violation::ALL.len()],
    told: Vec<String>,
}

impl Violations {
    /// Counts `count` cases, and keeps the words of the first few.
    pub fn count(&mut self, kind: Violation, count: u64, words: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        self.counts[kind as usize] += count;
        if self.told.len() < TOLD_MAX {
            self.told.push(format!("{}: {}", kind.name(), words()));
        }
    }

    /// How many of one kind.
    pub fn of(&self, kind: Violation) -> u64 {
        self.counts[kind as usize]
    }

    /// How many of all kinds.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The first few cases.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Adds those of another thread.
    pub fn add(&mut self, other: &Violations) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        let free = TOLD_MAX - self.told.len();
        self.told.extend(other.told.iter().take(free).cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_index_their_own_count() {
        for (index, kind) in Violation::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn the_first_cases_are_kept_in_words_and_all_are_counted() {
        let mut violations = Violations::default();
        violations.count(Violation::Lost, 0, || unreachable!("none is not told"));
        for case in 0..10 {
            violations.count(Violation::Lost, 2, || format!("case {case}"));
        }
        let mut sum = Violations::default();
        sum.add(&violations);
        assert_eq!((sum.of(Violation::Lost), sum.total()), (20, 20));
        assert_eq!(sum.told().len(), TOLD_MAX);
        assert_eq!(sum.told()[0], "lost: case 0");
    }
}
