//! The line that is being typed.
//!
//! Owns its text, the place of the cursor, and the lines that were typed before. Moves by what a
//! reader sees as one character. Pure; the talk calls it.

use std::collections::VecDeque;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use super::keys::Key;

/// Lines that are remembered.
const REMEMBERED_MAX: usize = 200;
/// Longest line, in bytes: more fits no frame of the usual size.
const LINE_MAX: usize = 60 << 10;

/// A line under the cursor.
#[derive(Debug, Default)]
pub struct Editor {
    text: String,
    /// A byte's place in `text`.
    cursor: usize,
    remembered: VecDeque<String>,
    /// How far back we went, and what was typed before.
    recalled: Option<(usize, String)>,
}

impl Editor {
    /// The line.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line in front of the cursor.
    pub fn before_cursor(&self) -> &str {
        &self.text[..self.cursor]
    }

    /// Columns in front of the cursor.
    pub fn cursor_column(&self) -> usize {
        self.before_cursor().width()
    }

    /// Takes the line out, and remembers it.
    pub fn submit(&mut self) -> String {
        let line = std::mem::take(&mut self.text);
        self.cursor = 0;
        self.recalled = None;
        if !line.trim().is_empty() && self.remembered.back() != Some(&line) {
            self.remembered.push_back(line.clone());
            if self.remembered.len() > REMEMBERED_MAX {
                self.remembered.pop_front();
            }
        }
        line
    }

    /// Puts `text` in the place of the word that ends at the cursor and is `length` bytes long.
    pub fn complete(&mut self, length: usize, text: &str) {
        let start = self.cursor - length;
        self.text.replace_range(start..self.cursor, text);
        self.cursor = start + text.len();
    }

    /// Takes a key. Whether it is one of editing.
    pub fn press(&mut self, key: &Key) -> bool {
        match key {
            Key::Character(character) => self.insert(character.encode_utf8(&mut [0; 4])),
            Key::Paste(text) => self.insert(&text.replace(['\r', '\n', '\t'], " ")),
            Key::Left | Key::Control('b') => self.cursor -= self.step_back(),
            Key::Right | Key::Control('f') => self.cursor += self.step_on(),
            Key::WordLeft | Key::Alt('b') => self.cursor = self.word_before(),
            Key::WordRight | Key::Alt('f') => self.cursor = self.word_behind(),
            Key::Home | Key::Control('a') => self.cursor = 0,
            Key::End | Key::Control('e') => self.cursor = self.text.len(),
            Key::Backspace => self.remove(self.cursor - self.step_back(), self.cursor),
            Key::Delete | Key::Control('d') => {
                self.remove(self.cursor, self.cursor + self.step_on())
            }
            Key::Control('u') => self.remove(0, self.cursor),
            Key::Control('k') => self.remove(self.cursor, self.text.len()),
            Key::Control('w') => self.remove(self.word_before(), self.cursor),
            Key::Up => self.recall(1),
            Key::Down => self.recall(-1),
            _ => return false,
        }
        true
    }

    fn insert(&mut self, text: &str) {
        let clean: String = text.chars().filter(|character| !character.is_control()).collect();
        if self.text.len() + clean.len() <= LINE_MAX {
            self.text.insert_str(self.cursor, &clean);
            self.cursor += clean.len();
        }
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.cursor = from;
    }

    fn step_back(&self) -> usize {
        self.text[..self.cursor].graphemes(true).next_back().map_or(0, str::len)
    }

    fn step_on(&self) -> usize {
        self.text[self.cursor..].graphemes(true).next().map_or(0, str::len)
    }

    fn word_before(&self) -> usize {
        let text = self.text[..self.cursor].trim_end();
        text.rfind(char::is_whitespace)
            .map_or(0, |at| at + text[at..].chars().next().map_or(0, char::len_utf8))
    }

    fn word_behind(&self) -> usize {
        let rest = &self.text[self.cursor..];
        let spaces = rest.len() - rest.trim_start().len();
        let word = rest[spaces..].find(char::is_whitespace).unwrap_or(rest.len() - spaces);
        self.cursor + spaces + word
    }

    fn recall(&mut self, by: i32) {
        let (back, typed) = match self.recalled.take() {
            Some((back, typed)) => (back as i32 + by, typed),
            None => (by, self.text.clone()),
        };
        let back = back.clamp(0, self.remembered.len() as i32) as usize;
        self.text = match back {
            0 => typed.clone(),
            back => self.remembered[self.remembered.len() - back].clone(),
        };
        self.cursor = self.text.len();
        self.recalled = (back > 0).then_some((back, typed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Editor {
        let mut editor = Editor::default();
        editor.press(&Key::Paste(text.into()));
        editor
    }

    #[test]
    fn what_readers_see_as_one_character_is_one_step() {
        let mut editor = typed("e\u{301}日👩‍👩‍👧");
        assert_eq!(editor.cursor_column(), 1 + 2 + 2);
        editor.press(&Key::Backspace);
        assert_eq!(editor.text(), "e\u{301}日");
        editor.press(&Key::Left);
        assert_eq!(editor.cursor_column(), 1);
        editor.press(&Key::Backspace);
        assert_eq!(editor.text(), "日");
        assert_eq!(editor.cursor_column(), 0);
    }

    #[test]
    fn words_and_lines_are_removed() {
        let mut editor = typed("one two  three");
        editor.press(&Key::Control('w'));
        assert_eq!(editor.text(), "one two  ");
        editor.press(&Key::Control('w'));
        assert_eq!(editor.text(), "one ");
        editor.press(&Key::Control('u'));
        assert_eq!(editor.text(), "");
        let mut editor = typed("one two");
        editor.press(&Key::Home);
        editor.press(&Key::WordRight);
        editor.press(&Key::Control('k'));
        assert_eq!(editor.text(), "one");
    }

    #[test]
    fn lines_of_before_come_back_and_so_does_the_one_under_way() {
        let mut editor = typed("first");
        assert_eq!(editor.submit(), "first");
        editor.press(&Key::Paste("second".into()));
        editor.submit();
        editor.press(&Key::Paste("half".into()));
        for expected in ["second", "first", "first"] {
            editor.press(&Key::Up);
            assert_eq!(editor.text(), expected);
        }
        for expected in ["second", "half", "half"] {
            editor.press(&Key::Down);
            assert_eq!(editor.text(), expected);
        }
    }

    #[test]
    fn a_paste_becomes_one_line_without_control_characters() {
        assert_eq!(typed("a\r\nb\x1b[31m\tc").text(), "a  b[31m c");
    }
}
