//! What a typed line asks for.
//!
//! Owns the commands, which are those of the text dialect and a few that only a screen needs.
//! Pure. The talk and the line mode do what they say.

use crate::base::limits::{HISTORY_ANSWER_MAX, TEXT_HISTORY};

const _: () = assert!(HISTORY_ANSWER_MAX == 1_000 && TEXT_HISTORY == 20, "the help says so");

/// The commands with what they are for, as `/help` shows them.
pub const COMMANDS: &[(&str, &str)] = &[
    ("/join ROOM", "join a room, or go to it"),
    ("/leave", "leave the room, or close the conversation"),
    ("/msg USER TEXT", "say something to one user"),
    ("/query USER", "open a conversation with one user"),
    ("/who", "who is here"),
    ("/history [N]", "the last N messages of the room: 1 to 1000, or 20"),
    ("/clear", "empty the screen"),
    ("/help", "keys and commands"),
    ("/quit", "leave"),
];

/// A line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Nothing.
    Empty,
    /// Say it.
    Say(String),
    /// Join or show a room.
    Join(String),
    /// Leave what is shown.
    Leave,
    /// Say something to one user.
    Direct(String, String),
    /// Open a conversation with one user.
    Query(String),
    /// Who is here.
    Who,
    /// The last messages.
    History(u16),
    /// Empty the screen.
    Clear,
    /// Show what can be typed.
    Help,
    /// Leave.
    Quit,
    /// It is none of these, and why.
    Wrong(String),
}

/// Understands a line. Two slashes at its head say one.
pub fn understand(line: &str) -> Line {
    let line = line.trim_end_matches(['\r', '\n']);
    if let Some(said) = line.strip_prefix("//") {
        return Line::Say(format!("/{said}"));
    }
    if !line.starts_with('/') {
        return if line.trim().is_empty() { Line::Empty } else { Line::Say(line.to_owned()) };
    }
    let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let usage = |usage: &str| Line::Wrong(format!("write it like {usage}"));
    let one_word = !rest.is_empty() && !rest.contains(char::is_whitespace);
    match command {
        "/join" | "/j" if one_word => Line::Join(rest.to_owned()),
        "/join" | "/j" => usage("/join ROOM"),
        "/leave" | "/part" | "/close" => Line::Leave,
        "/msg" | "/m" => match rest.split_once(char::is_whitespace) {
            Some((user, text)) => Line::Direct(user.to_owned(), text.trim().to_owned()),
            None => usage("/msg USER TEXT"),
        },
        "/query" | "/q" if one_word => Line::Query(rest.to_owned()),
        "/query" | "/q" => usage("/query USER"),
        "/who" | "/names" => Line::Who,
        "/history" if rest.is_empty() => Line::History(TEXT_HISTORY),
        "/history" => match rest.parse() {
            Ok(count) if (1..=HISTORY_ANSWER_MAX).contains(&usize::from(count)) => {
                Line::History(count)
            }
            _ => usage("/history 20"),
        },
        "/clear" => Line::Clear,
        "/help" | "/?" => Line::Help,
        "/quit" | "/exit" => Line::Quit,
        other => Line::Wrong(format!("{other} is no command; /help lists them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_unless_they_are_commands() {
        assert_eq!(understand("hello there"), Line::Say("hello there".into()));
        assert_eq!(understand("//etc/passwd"), Line::Say("/etc/passwd".into()));
        assert_eq!(understand("   "), Line::Empty);
        assert_eq!(understand("/join den"), Line::Join("den".into()));
        assert_eq!(understand("/msg bob  psst you"), Line::Direct("bob".into(), "psst you".into()));
        assert_eq!(understand("/history"), Line::History(20));
        assert_eq!(understand("/history 5"), Line::History(5));
        for wrong in ["/join", "/join a b", "/msg bob", "/history 0", "/history 1001", "/dance"] {
            assert!(matches!(understand(wrong), Line::Wrong(_)), "{wrong}");
        }
    }

    #[test]
    fn every_command_of_the_help_is_one() {
        for (usage, _) in COMMANDS {
            let line = usage.replace("[N]", "7");
            assert!(!matches!(understand(&line), Line::Wrong(_) | Line::Say(_)), "{line}");
        }
    }
}
