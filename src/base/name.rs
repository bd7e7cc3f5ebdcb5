//! Names of users and rooms: what is a valid one, and one shared copy of it.
//!
//! Owns the rule of the wire contract for names. Never looks a name up; tables of names belong to
//! those who keep them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use triomphe::ThinArc;

use super::limits::NAME_MAX;

/// The room that means every connection.
pub const EVERYONE: &str = "*";
/// The room in which a text client starts.
pub const LOBBY: &str = "lobby";

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// No byte at all.
    Empty,
    /// More than [`NAME_MAX`] bytes.
    TooLong,
    /// White space or a control character.
    BadCharacter,
    /// It begins with `$`, which belongs to the server.
    Reserved,
}

impl NameError {
    /// The reason in words that fit behind `user name` or `room name`.
    pub fn text(self) -> &'static str {
        match self {
            NameError::Empty => "is empty",
            NameError::TooLong => "is longer than 64 bytes",
            NameError::BadCharacter => "has white space or a control character",
            NameError::Reserved => "begins with $, which belongs to the server",
        }
    }
}

const _: () = assert!(NAME_MAX == 64, "the text of NameError::TooLong says 64");

/// Checks a name that a client gave, for a user or a room.
///
/// # Errors
/// The first rule of the contract that the name breaks.
pub fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_MAX {
        return Err(NameError::TooLong);
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(NameError::BadCharacter);
    }
    if name.starts_with('$') {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// One immutable copy of a name, shared by counting. Eight bytes wide; it may cross cores.
#[derive(Clone)]
pub struct Name(ThinArc<(), u8>);

impl Name {
    /// A shared copy of `name`, which the caller has checked.
    pub fn new(name: &str) -> Name {
        debug_assert!(name.len() <= NAME_MAX);
        Name(ThinArc::from_header_and_slice((), name.as_bytes()))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0.slice).expect("a Name is made from a str")
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.slice
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    /// By bytes, which for UTF-8 is by characters.
    fn cmp(&self, other: &Name) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_the_contract() {
        for good in ["a", "ann", "Jürgen", "*", "日本語", &"x".repeat(64), "a/b:c#d"] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        assert_eq!(check(""), Err(NameError::Empty));
        assert_eq!(check(&"x".repeat(65)), Err(NameError::TooLong));
        assert_eq!(check(&"é".repeat(33)), Err(NameError::TooLong));
        assert_eq!(check("$root"), Err(NameError::Reserved));
        for bad in ["a b", "a\tb", "a\u{a0}b", "a\u{7}", "a\u{85}b", "a\u{2028}b"] {
            assert_eq!(check(bad), Err(NameError::BadCharacter), "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_one_word_wide() {
        assert_eq!(size_of::<Option<Name>>(), 8);
    }
}
