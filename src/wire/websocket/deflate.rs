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

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(message: &[u8], max_message: usize) -> Result<Vec<u8>, WebError> {
        let mut out = b"before".to_vec();
        Inflater::default().inflate(message, &mut out, max_message)?;
        Ok(out.strip_prefix(b"before").unwrap().to_vec())
    }

    fn deflated(message: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        Deflater::default().deflate(message, &mut out);
        out.strip_prefix(b"before").unwrap().to_vec()
    }

    /// Bytes that repeat within any window, or nowhere.
    fn sample(length: usize, period: u64) -> Vec<u8> {
        let mixed = |at: usize| (at as u64 % period).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
        (0..length).map(|at| mixed(at) as u8).collect()
    }

    #[test]
    fn what_one_end_compresses_the_other_reads_at_every_size() {
        let (mut inflater, mut deflater) = (Inflater::default(), Deflater::default());
        let lengths = (0..70).chain([255, 4_096, 65_535, 65_536, 65_537, 300_000, 1 << 20]);
        let (every, most) = if cfg!(miri) { (9, 300) } else { (1, usize::MAX) };
        for length in lengths.step_by(every).take_while(|length| *length <= most) {
            for period in [1, 7, 1_000, 40_000, u64::MAX] {
                let message = sample(length, period);
                let (mut compressed, mut read) = (Vec::new(), Vec::new());
                deflater.deflate(&message, &mut compressed);
                inflater.inflate(&compressed, &mut read, length).unwrap();
                assert!(read == message, "{length} bytes of period {period}");
            }
        }
    }

    #[test]
    fn nothing_is_the_single_byte_that_the_rfc_has_for_it() {
        assert_eq!(deflated(b""), [0x00]);
        assert_eq!(inflated(&[0x00], 0), Ok(Vec::new()));
    }

    #[test]
    fn a_message_knows_nothing_of_the_one_before() {
        let (mut inflater, mut deflater) = (Inflater::default(), Deflater::default());
        let (mut first, mut second) = (Vec::new(), Vec::new());
        deflater.deflate(b"Hello Hello", &mut first);
        deflater.deflate(b"Hello Hello", &mut second);
        assert_eq!(first, second);
        let mut out = Vec::new();
        inflater.inflate(&first, &mut out, 100).unwrap();
        // The second Hello of RFC 7692 section 7.2.3.2 reaches back into the first.
        let shared = [0xF2, 0x00, 0x11, 0x00, 0x00];
        assert_eq!(inflater.inflate(&shared, &mut out, 100), Err(WebError::Compression));
        assert_eq!(inflater.inflate(&first, &mut out, 11), Ok(()), "it recovers");
    }

    #[test]
    fn a_message_of_the_limit_is_taken_and_a_byte_more_is_not() {
        let lengths = [1, 63, 64, 65, 1_000, 65_536, 200_000];
        for length in lengths.into_iter().take(if cfg!(miri) { 5 } else { 7 }) {
            for period in [1, u64::MAX] {
                let compressed = deflated(&sample(length, period));
                assert_eq!(inflated(&compressed, length).unwrap().len(), length);
                assert_eq!(inflated(&compressed, length - 1), Err(WebError::TooLarge));
            }
        }
    }

    #[test]
    fn a_bomb_goes_off_within_the_limit() {
        let (size, limit) = if cfg!(miri) { (64 << 10, 10_000) } else { (8 << 20, 100_000) };
        let bomb = deflated(&vec![0; size]);
        assert!(bomb.len() < size / 128);
        let mut out = Vec::new();
        assert_eq!(Inflater::default().inflate(&bomb, &mut out, limit), Err(WebError::TooLarge));
        assert!(out.capacity() <= 256 << 10, "{} bytes were reserved", out.capacity());
    }

    #[test]
    fn what_no_compressor_wrote_is_told() {
        for bad in [&[0xFF; 8][..], &[0x06], &[0x07, 0x00], &[0x00, 0x05, 0x00, 0x05, 0x00]] {
            assert_eq!(inflated(bad, 1_000), Err(WebError::Compression), "{bad:X?}");
        }
        let message = sample(5_000, 1_000);
        let whole = deflated(&message);
        for length in (1..whole.len()).step_by(if cfg!(miri) { 200 } else { 1 }) {
            let outcome = inflated(&whole[..length], 5_000);
            assert_ne!(outcome.as_deref(), Ok(&message[..]), "cut at {length}");
        }
    }
}
