//! The sessions of one user, as the user's [`inbox`](super::inbox) knows them.
//!
//! Owns their order, by which one is found without a look at all others, how far the last of them
//! is, and when the first of those that broke is forgotten. Never decides what one is told: the
//! inbox does, and is the only caller.

use std::cmp::Ordering;
use std::ops::{Index, IndexMut};
use std::slice;

use crate::base::ids::{Address, SessionId};
use crate::base::time::Mono;

use super::reader::{Reader, Standing};

/// The readers of one inbox. See the [module](self).
#[derive(Debug)]
pub struct Readers {
    /// In the order of their connections, or their last ones.
    list: Vec<Reader>,
    least: Least,
    kept_until: Option<Mono>,
}

/// How far the last ones are: none needs what was told live up to `done`.
#[derive(Clone, Copy, Debug)]
struct Least {
    done: u64,
    /// How many readers are no further.
    readers: usize,
}

impl Least {
    fn of(readers: &[Reader]) -> Least {
        let nobody = Least { done: u64::MAX, readers: 0 };
        readers.iter().fold(nobody, |least, reader| least.with(reader.done()))
    }

    fn with(self, done: u64) -> Least {
        match done.cmp(&self.done) {
            Ordering::Less => Least { done, readers: 1 },
            Ordering::Equal => Least { readers: self.readers + 1, ..self },
            Ordering::Greater => self,
        }
    }
}

impl Readers {
    /// Live sessions that are told what comes behind the message `began`. One that is on two
    /// connections counts as one.
    pub fn new(sessions: impl Iterator<Item = (SessionId, Address)>, began: u64) -> Readers {
        let mut list: Vec<Reader> = sessions
            .map(|(identity, session)| {
                Reader::new(identity, session, Standing::Live, (began, began))
            })
            .collect();
        list.sort_by_key(|reader| reader.identity);
        list.dedup_by_key(|reader| reader.identity);
        list.sort_by_key(|reader| reader.session);
        Readers { least: Least::of(&list), list, kept_until: None }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> slice::Iter<'_, Reader> {
        self.list.iter()
    }

    /// All of them, to be changed in all but how far they are and where.
    pub fn iter_mut(&mut self) -> slice::IterMut<'_, Reader> {
        self.list.iter_mut()
    }

    /// The one on a connection that has not ended.
    pub fn active(&self, session: Address) -> Option<usize> {
        self.on(session, Reader::is_active)
    }

    /// The one on a connection that has ended in order.
    pub fn leaving(&self, session: Address) -> Option<usize> {
        self.on(session, |reader| reader.standing == Standing::Leaving)
    }

    fn on(&self, session: Address, stands: impl Fn(&Reader) -> bool) -> Option<usize> {
        let first = self.list.partition_point(|reader| reader.session < session);
        let its = self.list[first..].iter().take_while(|reader| reader.session == session);
        its.enumerate().find(|(_, reader)| stands(reader)).map(|(index, _)| first + index)
    }

    /// The one of a session, on whatever connection. Looks at all.
    pub fn of(&self, identity: SessionId) -> Option<usize> {
        self.list.iter().position(|reader| reader.identity == identity)
    }

    /// Adds one, and returns where it is.
    pub fn insert(&mut self, reader: Reader) -> usize {
        self.least = self.least.with(reader.done());
        self.place(reader)
    }

    fn place(&mut self, reader: Reader) -> usize {
        let index = self.list.partition_point(|known| known.session <= reader.session);
        self.list.insert(index, reader);
        index
    }

    /// One goes on on another connection. Returns where it is then.
    pub fn move_to(&mut self, index: usize, session: Address) -> usize {
        let mut reader = self.list.remove(index);
        reader.session = session;
        reader.standing = Standing::CatchingUp;
        self.note_kept();
        self.place(reader)
    }

    /// Takes one out.
    pub fn remove(&mut self, index: usize) -> Reader {
        let reader = self.list.remove(index);
        self.least = Least::of(&self.list);
        self.note_kept();
        reader
    }

    /// The sessions of those that stand so.
    pub fn that_are(&self, standing: Standing) -> impl Iterator<Item = Address> + '_ {
        let alike = move |reader: &&Reader| reader.standing == standing;
        self.list.iter().filter(alike).map(|reader| reader.session)
    }

    /// Remembers those that broke until `until` at least.
    pub fn remember_broken(&mut self, until: Mono) {
        for reader in &mut self.list {
            if let Standing::Kept(end) = &mut reader.standing {
                *end = until.max(*end);
            }
        }
    }

    /// Forgets those that broke and are remembered until `now` at most.
    pub fn forget_broken(&mut self, now: Mono) {
        let over = |reader: &Reader| matches!(reader.standing, Standing::Kept(end) if end <= now);
        self.list.retain(|reader| !over(reader));
        self.least = Least::of(&self.list);
        self.note_kept();
    }

    /// What was told live up to this is needed by nobody.
    pub fn done(&self) -> u64 {
        self.least.done
    }

    /// One of them was as far as `before`, and is further now. Returns whether [`Readers::done`] is
    /// another then: a look at all is due only behind the last one.
    pub fn went_on(&mut self, before: u64) -> bool {
        if before > self.least.done {
            return false;
        }
        self.least.readers -= 1;
        if self.least.readers > 0 {
            return false;
        }
        self.least = Least::of(&self.list);
        true
    }

    /// Until when the first of the sessions that broke is remembered.
    pub fn kept_until(&self) -> Option<Mono> {
        self.kept_until
    }

    /// It has changed who of them broke, or until when such are remembered.
    pub fn note_kept(&mut self) {
        let until = |reader: &Reader| match reader.standing {
            Standing::Kept(until) => Some(until),
            _ => None,
        };
        self.kept_until = self.list.iter().filter_map(until).min();
    }
}

impl Index<usize> for Readers {
    type Output = Reader;

    fn index(&self, index: usize) -> &Reader {
        &self.list[index]
    }
}

impl IndexMut<usize> for Readers {
    fn index_mut(&mut self, index: usize) -> &mut Reader {
        &mut self.list[index]
    }
}
