//! UTF-8 that arrives in pieces (RFC 3629).
//!
//! Owns what has to be remembered of a character that two pieces share. Never keeps the bytes:
//! one byte of state tells which byte may come next. Called for each piece of a text message.

/// Checks text as it arrives. The default state is between two characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utf8Stream {
    expects: Expects,
}

/// A piece, with all that came before it, is not the beginning of any UTF-8 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUtf8;

/// What the next byte has to be. The narrower ranges behind some first bytes rule out the long
/// forms, the surrogates and what is above U+10FFFF, at the second byte already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expects {
    /// The first byte of a character.
    #[default]
    First,
    /// Its last byte.
    One,
    /// Two more, any.
    Two,
    /// Three more, any.
    Three,
    /// Behind E0: two more, from A0 on.
    TwoNotLong,
    /// Behind ED: two more, up to 9F.
    TwoNotSurrogate,
    /// Behind F0: three more, from 90 on.
    ThreeNotLong,
    /// Behind F4: three more, up to 8F.
    ThreeNotBeyond,
}

impl Utf8Stream {
    /// Takes the next piece of the text.
    ///
    /// # Errors
    /// [`NotUtf8`] with the first byte after which nothing could make the text UTF-8, even in the
    /// middle of a character.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), NotUtf8> {
        let mut rest = piece;
        while self.expects != Expects::First {
            let Some((&byte, behind)) = rest.split_first() else { return Ok(()) };
            self.expects = self.expects.after(byte)?;
            rest = behind;
        }
        let (characters, begun) = rest.split_at(rest.len() - begun_character(rest));
        simdutf8::basic::from_utf8(characters).map_err(|_| NotUtf8)?;
        for &byte in begun {
            self.expects = self.expects.after(byte)?;
        }
        Ok(())
    }

    /// Whether the text may end here: no character is left unfinished.
    pub fn is_complete(&self) -> bool {
        self.expects == Expects::First
    }
}

impl Expects {
    /// What comes behind `byte`.
    fn after(self, byte: u8) -> Result<Expects, NotUtf8> {
        Ok(match (self, byte) {
            (Expects::First, 0x00..=0x7F) => Expects::First,
            (Expects::First, 0xC2..=0xDF) => Expects::One,
            (Expects::First, 0xE0) => Expects::TwoNotLong,
            (Expects::First, 0xED) => Expects::TwoNotSurrogate,
            (Expects::First, 0xE1..=0xEF) => Expects::Two,
            (Expects::First, 0xF0) => Expects::ThreeNotLong,
            (Expects::First, 0xF1..=0xF3) => Expects::Three,
            (Expects::First, 0xF4) => Expects::ThreeNotBeyond,
            (Expects::One, 0x80..=0xBF) => Expects::First,
            (Expects::Two, 0x80..=0xBF)
            | (Expects::TwoNotLong, 0xA0..=0xBF)
            | (Expects::TwoNotSurrogate, 0x80..=0x9F) => Expects::One,
            (Expects::Three, 0x80..=0xBF)
            | (Expects::ThreeNotLong, 0x90..=0xBF)
            | (Expects::ThreeNotBeyond, 0x80..=0x8F) => Expects::Two,
            _ => return Err(NotUtf8),
        })
    }
}

/// How many bytes at the end of `bytes` begin a character that does not end there: 0 to 3, counted
/// from its first byte. Where the end is wrong, any of these will do, for it is checked either way.
fn begun_character(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let length = match bytes[bytes.len() - back] {
            0x00..=0x7F => return 0,
            0x80..=0xBF => continue,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xFF => 4,
        };
        return if length > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the standard library says: whether the text may go on, and whether it may end.
    fn expected(bytes: &[u8]) -> (bool, bool) {
        match std::str::from_utf8(bytes) {
            Ok(_) => (true, true),
            Err(error) => (error.error_len().is_none(), false),
        }
    }

    fn judged<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (bool, bool) {
        let mut stream = Utf8Stream::default();
        let goes_on = pieces.into_iter().all(|piece| stream.push(piece).is_ok());
        (goes_on, goes_on && stream.is_complete())
    }

    /// Whole, in single bytes, and in any two pieces.
    fn check(bytes: &[u8]) {
        let expected = expected(bytes);
        assert_eq!(judged([bytes]), expected, "{bytes:X?} whole");
        assert_eq!(judged(bytes.chunks(1)), expected, "{bytes:X?} byte by byte");
        for split in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(split);
            assert_eq!(judged([head, tail]), expected, "{bytes:X?} split at {split}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "it tries hundreds of thousands, and takes hours")]
    fn every_sequence_of_two_bytes_is_judged_like_the_standard_library_does() {
        check(b"");
        for first in 0..=255 {
            check(&[first]);
            for second in 0..=255 {
                check(&[first, second]);
            }
        }
    }

    #[test]
    fn longer_sequences_are_judged_alike_at_all_bounds_of_the_grammar() {
        let bounds = [
            0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0,
            0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFF,
        ];
        let some = |every: usize| bounds.into_iter().step_by(if cfg!(miri) { every } else { 1 });
        for first in some(3) {
            for second in some(4) {
                for third in some(5) {
                    check(&[first, second, third]);
                    for fourth in [0x41, 0x7F, 0x80, 0xBF, 0xC2, 0xE0, 0xF0, 0xFF] {
                        check(&[first, second, third, fourth]);
                    }
                }
            }
        }
    }

    #[test]
    fn every_character_is_taken_at_every_split_and_after_text_of_any_length() {
        let characters =
            ['\u{0}', '\u{7F}', '\u{80}', '\u{7FF}', '\u{800}', '\u{D7FF}', '\u{E000}']
                .into_iter()
                .chain(['\u{FFFF}', '\u{10000}', '\u{10FFFF}', 'ü', '€', '😀']);
        for character in characters {
            for before in [0, 1, 2, 3, 15, 16, 17, 31, 63, 64, 65, 127, 128, 130] {
                check(format!("{}{character}z", "a".repeat(before)).as_bytes());
            }
        }
        let last = if cfg!(miri) { '\u{900}' } else { char::MAX };
        let all: String = ('\u{0}'..=last).collect();
        for length in [1, 2, 3, 5, 7, 64, 1021, all.len()] {
            assert_eq!(judged(all.as_bytes().chunks(length)), (true, true));
        }
    }

    #[test]
    fn a_wrong_byte_is_told_at_once_in_a_long_text_too() {
        for at in [0, 1, 63, 64, 100, 997, 998] {
            let mut text = "é".repeat(500).into_bytes();
            text[at] = 0xFF;
            let mut stream = Utf8Stream::default();
            assert_eq!(stream.push(&text[..at]), Ok(()));
            assert_eq!(stream.push(&text[at..=at]), Err(NotUtf8));
            assert_eq!(judged([&text[..]]), (false, false));
        }
    }
}
