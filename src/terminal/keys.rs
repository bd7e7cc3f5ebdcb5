//! What a terminal sends when keys are pressed.
//!
//! Owns the reading of escape sequences (ECMA-48, as xterm and its kin use them) and of pastes.
//! Pure: bytes in, [`Key`]s out. The screen calls it for what it reads.

/// A key, or something pasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Character(char),
    /// Text that was pasted, whatever it holds.
    Paste(String),
    /// Text was pasted that is longer than 64 KiB, and is not taken.
    PasteTooLong,
    /// A letter with the control key.
    Control(char),
    /// A character with the alt key.
    Alt(char),
    /// Enter.
    Enter,
    /// Tab.
    Tab,
    /// Tab with the shift key.
    BackTab,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Escape.
    Escape,
    /// An arrow.
    Up,
    /// An arrow.
    Down,
    /// An arrow.
    Left,
    /// An arrow.
    Right,
    /// An arrow with control or alt.
    WordLeft,
    /// An arrow with control or alt.
    WordRight,
    /// Arrow up with control or alt.
    Previous,
    /// Arrow down with control or alt.
    Next,
    /// Home.
    Home,
    /// End.
    End,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Function key 1.
    Help,
}

const PASTE_BEGINS: &[u8] = b"\x1b[200~";
const PASTE_ENDS: &[u8] = b"\x1b[201~";
/// Longest sequence. What begins like one and goes on beyond it means nothing up to here.
const SEQUENCE_MAX: usize = 32;
/// Longest paste that is taken, in bytes.
const PASTE_MAX: usize = 64 << 10;

/// Bytes on their way to keys.
#[derive(Debug, Default)]
pub struct Keys {
    rest: Vec<u8>,
    /// What comes belongs to a paste that is too long, up to its end.
    discards: bool,
}

impl Keys {
    /// Takes bytes as one read brought them. An escape that nothing follows is the key: terminals
    /// write a sequence in one piece.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.rest.extend_from_slice(bytes);
        let mut keys = Vec::new();
        let mut at = 0;
        while at < self.rest.len() {
            if self.discards {
                match end_of_paste(&self.rest[at..]) {
                    Some(end) => {
                        at += end + PASTE_ENDS.len();
                        self.discards = false;
                    }
                    None => {
                        // The end may have begun.
                        at = self.rest.len().saturating_sub(PASTE_ENDS.len() - 1).max(at);
                        break;
                    }
                }
                continue;
            }
            match key(&self.rest[at..]) {
                Found::Key(length, key) => {
                    keys.push(key);
                    at += length;
                }
                Found::Nothing(length) => at += length,
                Found::Endless => {
                    keys.push(Key::PasteTooLong);
                    at += PASTE_BEGINS.len();
                    self.discards = true;
                }
                Found::Partial => break,
            }
        }
        self.rest.drain(..at);
        keys
    }
}

enum Found {
    Key(usize, Key),
    /// So many bytes mean nothing.
    Nothing(usize),
    /// A paste that is too long already, and whose end is still to come.
    Endless,
    Partial,
}

fn key(bytes: &[u8]) -> Found {
    match bytes[0] {
        0x1B => escaped(bytes),
        b'\r' | b'\n' => Found::Key(1, Key::Enter),
        b'\t' => Found::Key(1, Key::Tab),
        0x7F | 0x08 => Found::Key(1, Key::Backspace),
        0 => Found::Nothing(1),
        control @ 1..0x1B => Found::Key(1, Key::Control((b'a' + control - 1) as char)),
        0x1C..0x20 => Found::Nothing(1),
        _ => character(bytes).map_or(Found::Partial, |(length, found)| {
            found.map_or(Found::Nothing(length), |found| Found::Key(length, Key::Character(found)))
        }),
    }
}

/// The character at the head of `bytes`, none where it is no UTF-8. `None` asks for more bytes.
fn character(bytes: &[u8]) -> Option<(usize, Option<char>)> {
    let length = match bytes[0] {
        0x00..0x80 => 1,
        0xC2..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0..0xF5 => 4,
        _ => return Some((1, None)),
    };
    let bytes = bytes.get(..length)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Some((length, text.chars().next())),
        Err(_) => Some((1, None)),
    }
}

fn escaped(bytes: &[u8]) -> Found {
    if bytes.starts_with(PASTE_BEGINS) {
        return pasted(bytes);
    }
    match bytes.get(1) {
        None => Found::Key(1, Key::Escape),
        Some(b'[' | b'O') => sequence(bytes),
        Some(0x1B) => Found::Key(1, Key::Escape),
        Some(0x7F | 0x08) => Found::Key(2, Key::Control('w')),
        Some(_) => match character(&bytes[1..]) {
            Some((length, Some(found))) if !found.is_control() => {
                Found::Key(1 + length, Key::Alt(found))
            }
            Some((length, _)) => Found::Nothing(1 + length),
            None => Found::Partial,
        },
    }
}

/// `ESC [` or `ESC O`, parameters, and a last byte that says what it is.
fn sequence(bytes: &[u8]) -> Found {
    let inside = &bytes[2..bytes.len().min(SEQUENCE_MAX)];
    let Some(last) = inside.iter().position(|byte| (0x40..0x7F).contains(byte)) else {
        let hopeless = bytes.len() >= SEQUENCE_MAX;
        return if hopeless { Found::Nothing(SEQUENCE_MAX) } else { Found::Partial };
    };
    let length = 2 + last + 1;
    let parameters = std::str::from_utf8(&bytes[2..2 + last]).unwrap_or_default();
    let mut numbers = parameters.split(';').map(|number| number.parse::<u32>().unwrap_or(0));
    let first = numbers.next().unwrap_or(0);
    // 1 is no modifier, 3 is alt, 5 is control; combinations of them count as either.
    let modified = numbers.next().is_some_and(|modifier| modifier > 2);
    let choose = |plain, with| if modified { with } else { plain };
    let key = match bytes[length - 1] {
        b'A' => choose(Key::Up, Key::Previous),
        b'B' => choose(Key::Down, Key::Next),
        b'C' => choose(Key::Right, Key::WordRight),
        b'D' => choose(Key::Left, Key::WordLeft),
        b'H' => Key::Home,
        b'F' => Key::End,
        b'Z' => Key::BackTab,
        b'P' => Key::Help,
        b'M' if bytes[1] == b'O' => Key::Enter,
        b'~' => match first {
            1 | 7 => Key::Home,
            3 => Key::Delete,
            4 | 8 => Key::End,
            5 => choose(Key::PageUp, Key::Previous),
            6 => choose(Key::PageDown, Key::Next),
            11 => Key::Help,
            _ => return Found::Nothing(length),
        },
        _ => return Found::Nothing(length),
    };
    Found::Key(length, key)
}

fn pasted(bytes: &[u8]) -> Found {
    let inside = &bytes[PASTE_BEGINS.len()..];
    let length = |end| PASTE_BEGINS.len() + end + PASTE_ENDS.len();
    match end_of_paste(inside) {
        Some(end) if end > PASTE_MAX => Found::Key(length(end), Key::PasteTooLong),
        Some(end) => {
            let text = String::from_utf8_lossy(&inside[..end]).into_owned();
            Found::Key(length(end), Key::Paste(text))
        }
        None if inside.len() >= PASTE_MAX + PASTE_ENDS.len() => Found::Endless,
        None => Found::Partial,
    }
}

fn end_of_paste(inside: &[u8]) -> Option<usize> {
    inside.windows(PASTE_ENDS.len()).position(|window| window == PASTE_ENDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        Keys::default().feed(bytes)
    }

    #[test]
    fn characters_come_whole_however_they_are_cut() {
        let mut stream = Keys::default();
        assert_eq!(stream.feed(&"ü".as_bytes()[..1]), []);
        assert_eq!(stream.feed(&"ü日".as_bytes()[1..4]), [Key::Character('ü')]);
        assert_eq!(stream.feed(&"日".as_bytes()[2..]), [Key::Character('日')]);
        assert_eq!(keys(b"\xFFa"), [Key::Character('a')], "what is no UTF-8 is dropped");
    }

    #[test]
    fn keys_are_told_apart() {
        for (bytes, key) in [
            (&b"\r"[..], Key::Enter),
            (b"\x7f", Key::Backspace),
            (b"\x03", Key::Control('c')),
            (b"\x1b", Key::Escape),
            (b"\x1bx", Key::Alt('x')),
            (b"\x1b[A", Key::Up),
            (b"\x1bOA", Key::Up),
            (b"\x1b[1;5C", Key::WordRight),
            (b"\x1b[1;3B", Key::Next),
            (b"\x1b[5~", Key::PageUp),
            (b"\x1b[3~", Key::Delete),
            (b"\x1b[Z", Key::BackTab),
            (b"\x1bOP", Key::Help),
            (b"\x1b[H", Key::Home),
            (b"\x1b[200~a\r\x1b[Ab\x1b[201~", Key::Paste("a\r\x1b[Ab".into())),
        ] {
            assert_eq!(keys(bytes), [key], "{bytes:?}");
        }
        assert_eq!(keys(b"\x1b[99;9x"), [], "an unknown sequence is nothing");
    }

    #[test]
    fn a_sequence_may_come_in_parts() {
        let mut stream = Keys::default();
        assert_eq!(stream.feed(b"a\x1b["), [Key::Character('a')]);
        assert_eq!(stream.feed(b"1;5"), []);
        assert_eq!(stream.feed(b"D\x1b[200~x"), [Key::WordLeft]);
        assert_eq!(stream.feed(b"y\x1b[201~z"), [Key::Paste("xy".into()), Key::Character('z')]);
    }

    #[test]
    fn of_a_paste_that_is_too_long_nothing_becomes_a_key() {
        let mut stream = Keys::default();
        let mut keys = stream.feed(PASTE_BEGINS);
        for _ in 0..=PASTE_MAX / 1_000 {
            keys.extend(stream.feed(&[&b"a line\r"[..], &[b'x'; 1_000]].concat()));
        }
        assert_eq!(keys, [Key::PasteTooLong], "which is said once");
        assert_eq!(stream.feed(b"rm -r .\r\x1b[20"), []);
        assert_eq!(stream.feed(b"1~y"), [Key::Character('y')]);
        let longest = [PASTE_BEGINS, &[b'x'; PASTE_MAX], PASTE_ENDS].concat();
        for pieces in [1, longest.len() / 3, 4_096] {
            let keys: Vec<Key> =
                longest.chunks(pieces.max(4_096)).flat_map(|piece| stream.feed(piece)).collect();
            assert_eq!(keys, [Key::Paste("x".repeat(PASTE_MAX))]);
        }
        let whole = [PASTE_BEGINS, &[b'x'; PASTE_MAX + 1], PASTE_ENDS, b"y"].concat();
        assert_eq!(stream.feed(&whole), [Key::PasteTooLong, Key::Character('y')]);
    }

    #[test]
    fn what_is_too_long_for_a_sequence_is_the_same_however_it_is_cut() {
        let long = [b"\x1b[", &b"1;"[..].repeat(20)[..], b"Ax"].concat();
        let whole = keys(&long);
        assert_eq!(whole.last(), Some(&Key::Character('x')));
        for cut in 2..long.len() {
            let mut stream = Keys::default();
            let mut pieces = stream.feed(&long[..cut]);
            pieces.extend(stream.feed(&long[cut..]));
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
