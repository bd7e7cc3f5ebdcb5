//! The body of a message that can be checked.
//!
//! Owns its form: printable, so that a text line carries it, and proof against a lost or changed
//! byte. Never sends or counts. Publishers [write](Stamp::write) bodies, whoever hears one
//! [reads](Stamp::read) it.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 2 | `cb` |
//! | 2 | 8 | the run, hexadecimal as all that follows |
//! | 10 | 8 | the publisher: its connection's number |
//! | 18 | 8 | how many messages that publisher sent before |
//! | 26 | 12 | when it was planned to be sent, in microseconds of the run's clock |
//! | 38 | 8 | CRC-32 of all other bytes |
//! | 46 | rest | padding, printable |

/// The shortest body.
pub const BODY_MIN: usize = 46;

const MARK: &[u8; 2] = b"cb";
const CRC_AT: usize = 38;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// What a body says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The run.
    pub run: u32,
    /// The connection that sent it.
    pub publisher: u32,
    /// How many that connection had sent before.
    pub index: u32,
    /// When it was planned to be sent, in microseconds of the run's clock; 48 bits are kept.
    pub planned_us: u64,
}

/// Why a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It is not what was sent.
    Corrupt,
    /// It is whole, and of another run.
    Foreign,
}

impl Stamp {
    /// Appends the body, `size` bytes long.
    ///
    /// # Panics
    /// If `size` is below [`BODY_MIN`].
    pub fn write(&self, out: &mut Vec<u8>, size: usize) {
        assert!(size >= BODY_MIN, "a body has at least {BODY_MIN} bytes");
        let start = out.len();
        out.extend_from_slice(MARK);
        push_hex(out, u64::from(self.run), 8);
        push_hex(out, u64::from(self.publisher), 8);
        push_hex(out, u64::from(self.index), 8);
        push_hex(out, self.planned_us, 12);
        push_hex(out, 0, 8);
        // Letters that differ from body to body, so that bytes of another one do not fit.
        let first = self.publisher.wrapping_add(self.index) % 26;
        let letters = (0u32..).map(|at| b'a' + ((first + at) % 26) as u8);
        out.extend(letters.take(size - BODY_MIN));
        let crc = checksum(&out[start..]);
        let mut digits = Vec::with_capacity(8);
        push_hex(&mut digits, u64::from(crc), 8);
        out[start + CRC_AT..start + BODY_MIN].copy_from_slice(&digits);
    }

    /// Reads a body of the run `run`.
    ///
    /// # Errors
    /// See [`BodyFault`].
    pub fn read(body: &[u8], run: u32) -> Result<Stamp, BodyFault> {
        let stamp = Stamp::parse(body).ok_or(BodyFault::Corrupt)?;
        if stamp.run == run { Ok(stamp) } else { Err(BodyFault::Foreign) }
    }

    fn parse(body: &[u8]) -> Option<Stamp> {
        if body.len() < BODY_MIN || !body.starts_with(MARK) {
            return None;
        }
        let crc = hex(&body[CRC_AT..BODY_MIN])?;
        if u64::from(checksum(body)) != crc {
            return None;
        }
        Some(Stamp {
            run: hex(&body[2..10])? as u32,
            publisher: hex(&body[10..18])? as u32,
            index: hex(&body[18..26])? as u32,
            planned_us: hex(&body[26..38])?,
        })
    }
}

/// The checksum of a body, which does not cover its own digits.
fn checksum(body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&body[..CRC_AT]);
    hasher.update(&body[BODY_MIN..]);
    hasher.finalize()
}

fn push_hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    for digit in (0..digits).rev() {
        out.push(DIGITS[(value >> (4 * digit)) as usize & 15]);
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp =
        Stamp { run: 0xC0FFEE, publisher: 999_999, index: 12, planned_us: 0xABCD_1234_5678 };

    fn body(size: usize) -> Vec<u8> {
        let mut body = Vec::new();
        STAMP.write(&mut body, size);
        body
    }

    #[test]
    fn what_is_written_is_read_and_printable() {
        for size in [BODY_MIN, 64, 1_000] {
            let body = body(size);
            assert_eq!(body.len(), size);
            assert!(body.iter().all(u8::is_ascii_alphanumeric));
            assert_eq!(Stamp::read(&body, STAMP.run), Ok(STAMP));
        }
    }

    #[test]
    fn no_byte_can_change_or_go_unseen() {
        let whole = body(64);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(Stamp::read(&changed, STAMP.run), Err(BodyFault::Corrupt), "{at}");
            }
            assert_eq!(Stamp::read(&whole[..at], STAMP.run), Err(BodyFault::Corrupt));
        }
    }

    #[test]
    fn a_body_of_another_run_is_told_from_a_corrupt_one() {
        assert_eq!(Stamp::read(&body(64), 1), Err(BodyFault::Foreign));
    }
}
