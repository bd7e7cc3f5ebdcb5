//! permessage-deflate (RFC 7692): messages compressed one by one.
//!
//! Owns what is agreed in the handshake ([`negotiate`]) and the two contexts. Every message starts
//! with an empty window in both directions, so that a context belongs to a core and not to a
//! connection, and a compressed message may be sent to any number of peers. A context is made when
//! it is first used: who compresses nothing pays nothing. Never decides what is worth compressing.
//! Called by the heart, and by the tests as the other end.

mod offer;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

pub use self::offer::{MalformedExtensions, Parameters, negotiate};
use super::WebError;

/// What ends each flush of a compressor, is not sent, and is put back before a message is read
/// (RFC 7692 sections 7.2.1 and 7.2.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// How hard a compressor tries, from 1 to 9. The first steps gain most of what there is to gain in
/// short messages, and the later ones cost several times as much.
const LEVEL: u32 = 3;

/// Reads compressed messages. One serves all connections of a core.
#[derive(Debug, Default)]
pub struct Inflater {
    context: Option<Decompress>,
}

impl Inflater {
    /// Appends to `out` what the compressed `message` says, at most `max_message` bytes.
    ///
    /// # Errors
    /// [`WebError::Compression`] where no compressor wrote that, [`WebError::TooLarge`] with the
    /// first byte beyond the limit. `out` then ends with a part of the message.
    pub fn inflate(
        &mut self,
        message: &[u8],
        out: &mut Vec<u8>,
        max_message: usize,
    ) -> Result<(), WebError> {
        let context = self.context.get_or_insert_with(|| Decompress::new(false));
        context.reset(false);
        let end = out.len().saturating_add(max_message);
        feed(context, message, out, end)?;
        feed(context, &TAIL, out, end)
    }
}

/// Feeds all of `input`, and takes all that comes of it.
fn feed(
    context: &mut Decompress,
    mut input: &[u8],
    out: &mut Vec<u8>,
    end: usize,
) -> Result<(), WebError> {
    loop {
        // One byte of room behind the longest message shows whether it is longer.
        let room = input.len().saturating_mul(4).clamp(64, 64 << 10);
        out.reserve(room.min(end.saturating_add(1).saturating_sub(out.len())));
        let before = context.total_in();
        let status = context
            .decompress_vec(input, out, FlushDecompress::Sync)
            .map_err(|_| WebError::Compression)?;
        input = &input[(context.total_in() - before) as usize..];
        if out.len() > end {
            return Err(WebError::TooLarge);
        }
        if status == Status::StreamEnd {
            // A block that calls itself the last one ends its stream, not the message; the next
            // stream begins at the next byte (RFC 7692 section 7.2.3.4).
            context.reset(false);
        }
        if input.is_empty() && (status == Status::StreamEnd || out.len() < out.capacity()) {
            return Ok(());
        }
    }
}

/// Writes compressed messages. One serves all connections of a core.
#[derive(Debug, Default)]
pub struct Deflater {
    context: Option<Compress>,
}

impl Deflater {
    /// Appends `message` compressed, without a header.
    pub fn deflate(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let level = Compression::new(LEVEL);
        let context = self.context.get_or_insert_with(|| Compress::new(level, false));
        context.reset();
        let mut input = message;
        loop {
            out.reserve(input.len() / 2 + 64);
            let before = context.total_in();
            let status = context.compress_vec(input, out, FlushCompress::Sync);
            status.expect("a compressor that was not ended takes any bytes");
            input = &input[(context.total_in() - before) as usize..];
            // Room that is left says that the flush is complete.
            if input.is_empty() && out.len() < out.capacity() {
                break;
            }
        }
        assert!(out.ends_with(&TAIL), "a flush ends with an empty stored block");
        out.truncate(out.len() - TAIL.len());
    }
}
