//! One direct message, as it is kept and as it travels.
//!
//! Owns its encoding, which is made once: the frame that native clients get, from which all other
//! dialects are rendered. Never decides who gets it.

use std::fmt;

use triomphe::ThinArc;

use crate::base::limits::{DIRECT_OVERHEAD_BYTES, FRAME_HEADER};
use crate::wire::message::Event;
use crate::wire::native;

use super::batch::message_of;

/// One direct message: its encoded native frame, without checksum and without `REPLAY`. Shared by
/// counting; it may cross cores. Beside it stands since when it is kept.
#[derive(Clone)]
pub struct Direct(ThinArc<u64, u8>);

impl Direct {
    /// The message `id` of `from`, taken at `time_ms`.
    pub fn new(id: u64, time_ms: u64, from: &str, body: &[u8]) -> Direct {
        Direct::kept_since(time_ms, id, time_ms, from, body)
    }

    /// The same, which grows old from `since_ms` on, on a clock that nobody sets.
    pub fn kept_since(since_ms: u64, id: u64, time_ms: u64, from: &str, body: &[u8]) -> Direct {
        let mut bytes = Vec::new();
        let event = Event::Direct { id, time_ms, from, body, replay: false };
        native::encode_event(&mut bytes, &event, false);
        Direct(ThinArc::from_header_and_slice(since_ms, &bytes))
    }

    /// The message whose frame [`Direct::frame`] gave, in another life perhaps: it grows old from
    /// the time that it tells.
    pub fn from_frame(frame: &[u8]) -> Direct {
        let (_, time_ms) = native::direct_id_and_time(frame);
        Direct(ThinArc::from_header_and_slice(time_ms, frame))
    }

    /// Its encoded frame.
    pub fn frame(&self) -> &[u8] {
        &self.0.slice
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        native::direct_id_and_time(self.frame()).0
    }

    /// Since when it is kept, as [`Inboxes::steady_ms`](super::inboxes::Inboxes::steady_ms) counts.
    pub fn since_ms(&self) -> u64 {
        self.0.header.header
    }

    /// When the home took it, in milliseconds since 1970, as its clock said then.
    pub fn time_ms(&self) -> u64 {
        native::direct_id_and_time(self.frame()).1
    }

    /// What a client is told.
    pub fn event(&self) -> Event<'_> {
        message_of(self.frame())
    }

    /// Bytes of memory that keeping it takes, as they are counted against the bounds.
    pub fn cost(&self) -> usize {
        self.0.slice.len() + DIRECT_OVERHEAD_BYTES
    }

    /// The same of a message that is not made yet, whose body is `body_len` long.
    pub fn cost_of(from: &str, body_len: usize) -> usize {
        FRAME_HEADER + native::direct_payload_len(from, body_len) + DIRECT_OVERHEAD_BYTES
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "direct {}", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_message_gives_back_what_it_was_made_of() {
        let direct = Direct::new(17, 99, "ann", b"psst");
        assert_eq!((direct.id(), direct.time_ms()), (17, 99));
        let event =
            Event::Direct { id: 17, time_ms: 99, from: "ann", body: b"psst", replay: false };
        assert_eq!(direct.event(), event);
        assert_eq!(Direct::from_frame(direct.frame()).event(), event);
    }
}
