//! What was received of one connection and is not used up.
//!
//! Owns the bytes of a frame, a line, a request head or a message whose end has not come. Never
//! interprets them: [`intake`](super::intake) and [`web`](super::web) do. A connection between two
//! messages has none of it.

use crate::wire::websocket::Inbound;

use super::outbox::OutboxPool;

/// Received bytes that wait for more.
#[derive(Debug, Default)]
pub struct Input {
    /// Bytes of a frame, a line or the head of a request, or whatever came while it was paused.
    pub held: Vec<u8>,
    /// How far a WebSocket has come in a frame or a message.
    pub half: Option<Box<HalfMessage>>,
    /// Since when it is waited for that the held frame completes, as
    /// [`Mono::low`](crate::base::time::Mono::low).
    pub since: Option<u32>,
}

/// A WebSocket in the midst of a message.
#[derive(Debug, Default)]
pub struct HalfMessage {
    /// How far it has come in its frames.
    pub inbound: Inbound,
    /// What has arrived of the message, unmasked.
    pub payload: Vec<u8>,
    /// Where, in a message that has wholly arrived, the native frames begin that were not looked
    /// at because the connection was paused.
    pub unread: Option<usize>,
    /// Since when it is waited for that the message completes, as
    /// [`Mono::low`](crate::base::time::Mono::low).
    pub since: Option<u32>,
}

impl Input {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.half.is_none()
    }

    /// Since when something is waited for that is the same as `began`, to be changed.
    pub fn since(&mut self, began: u32) -> Option<&mut Option<u32>> {
        let half = self.half.as_mut().map(|half| &mut half.since);
        half.into_iter().chain([&mut self.since]).find(|since| **since == Some(began))
    }

    /// Gives back what it holds.
    pub fn release(self, pool: &mut OutboxPool) {
        pool.release_buffer(self.held);
        if let Some(half) = self.half {
            pool.release_buffer(half.payload);
        }
    }
}
