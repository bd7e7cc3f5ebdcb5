//! The messages that are promised to one user, in the order of their ids.
//!
//! Owns the list, what it weighs, and which of it are not written yet where messages are stored.
//! Never decides what enters or leaves it: the user's [`inbox`](super::inbox) does, and is the only
//! caller.

use std::collections::VecDeque;

use super::changes::{Changes, Strike};
use super::direct::Direct;

/// The queue of one user. See the [module](self).
#[derive(Debug, Default)]
pub struct Queue {
    messages: VecDeque<Direct>,
    bytes: usize,
    /// The ids of those that are not written yet, in order.
    unwritten: VecDeque<u64>,
}

impl Queue {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes, as [`Direct::cost`] counts them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest.
    pub fn first(&self) -> Option<&Direct> {
        self.messages.front()
    }

    /// The id of the oldest, or one that is beyond all.
    pub fn first_id(&self) -> u64 {
        self.first().map_or(u64::MAX, Direct::id)
    }

    /// The one at `place`.
    pub fn get(&self, place: usize) -> Option<&Direct> {
        self.messages.get(place)
    }

    /// The place behind all up to `id`.
    pub fn behind(&self, id: u64) -> usize {
        self.messages.partition_point(|direct| direct.id() <= id)
    }

    /// Adds one at its place.
    pub fn insert(&mut self, direct: Direct) {
        self.bytes += direct.cost();
        self.messages.insert(self.behind(direct.id()), direct);
    }

    /// Takes the oldest out.
    pub fn pop_first(&mut self) -> Option<Direct> {
        let oldest = self.messages.pop_front()?;
        self.bytes -= oldest.cost();
        Some(oldest)
    }

    /// Strikes all up to `id`.
    pub fn strike_up_to(&mut self, id: u64, to: &mut Changes) {
        while let Some(direct) = self.messages.pop_front_if(|first| first.id() <= id) {
            self.bytes -= direct.cost();
            to.strike(direct.id(), Strike::Acked);
        }
    }

    /// Takes one out that could not be written.
    pub fn take_back(&mut self, id: u64, to: &mut Changes) {
        if let Ok(place) = self.messages.binary_search_by_key(&id, Direct::id) {
            let direct = self.messages.remove(place).expect("it was just found");
            self.bytes -= direct.cost();
            to.strike(id, Strike::Unwritten);
        }
        self.note_written(id);
    }

    /// The one that was added last is not written yet. [`Queue::note_written`] or
    /// [`Queue::take_back`] follows.
    pub fn await_write(&mut self, id: u64) {
        debug_assert!(self.unwritten.back().is_none_or(|last| *last < id));
        self.unwritten.push_back(id);
    }

    /// One is written.
    pub fn note_written(&mut self, id: u64) {
        if let Ok(place) = self.unwritten.binary_search(&id) {
            self.unwritten.remove(place);
        }
    }

    /// The first that is not written, or an id that is beyond all.
    pub fn first_unwritten(&self) -> u64 {
        self.unwritten.front().copied().unwrap_or(u64::MAX)
    }

    /// Fills an empty queue with what was stored, in the order of the ids.
    pub fn recover(&mut self, messages: Vec<Direct>) {
        self.bytes = messages.iter().map(Direct::cost).sum();
        self.messages = messages.into();
    }
}
