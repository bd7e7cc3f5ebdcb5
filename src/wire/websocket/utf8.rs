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
