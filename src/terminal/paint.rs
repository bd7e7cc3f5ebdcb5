//! Rows of styled text, and how they get onto a terminal.
//!
//! Owns the width of what is shown, the breaking of lines, and what of a row has changed. Pure:
//! rows in, bytes for the terminal out. The drawing makes rows.

use std::fmt::Write;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// How a piece of text looks. Colours are the terminal's own, so that its theme holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// A number of the palette, 0 to 15.
    pub colour: Option<u8>,
    /// Bold.
    pub bold: bool,
    /// Faint.
    pub dim: bool,
    /// Foreground and background exchanged.
    pub reverse: bool,
}

impl Style {
    /// As the terminal writes.
    pub const PLAIN: Style = Style { colour: None, bold: false, dim: false, reverse: false };
    /// Bold.
    pub const BOLD: Style = Style { bold: true, ..Style::PLAIN };
    /// Faint.
    pub const DIM: Style = Style { dim: true, ..Style::PLAIN };
    /// Foreground and background exchanged.
    pub const REVERSE: Style = Style { reverse: true, ..Style::PLAIN };

    /// This style in a colour of the palette.
    pub const fn in_colour(self, colour: u8) -> Style {
        Style { colour: Some(colour), ..self }
    }
}

/// One row of the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    spans: Vec<(Style, String)>,
    width: usize,
}

impl Row {
    /// Columns that are taken.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Appends text as it is.
    pub fn push(&mut self, style: Style, text: &str) -> &mut Row {
        if !text.is_empty() {
            self.width += text.width();
            self.spans.push((style, text.to_owned()));
        }
        self
    }

    /// Appends text of at most `columns`, with `…` where it was cut.
    pub fn push_cut(&mut self, style: Style, text: &str, columns: usize) -> &mut Row {
        if text.width() <= columns {
            return self.push(style, text);
        }
        let kept = head(text, columns.saturating_sub(1));
        let cut = if columns > 0 { format!("{kept}…") } else { String::new() };
        self.push(style, &cut)
    }

    /// Appends spaces up to `column`.
    pub fn pad(&mut self, style: Style, column: usize) -> &mut Row {
        let missing = column.saturating_sub(self.width);
        self.push(style, &" ".repeat(missing))
    }

    /// Appends another row.
    pub fn append(&mut self, other: &Row) -> &mut Row {
        self.spans.extend(other.spans.iter().cloned());
        self.width += other.width;
        self
    }

    /// Its text without styles.
    pub fn text(&self) -> String {
        self.spans.iter().map(|(_, text)| text.as_str()).collect()
    }
}

/// As much of the head of `text` as fits `columns`.
pub fn head(text: &str, columns: usize) -> &str {
    let (mut width, mut end) = (0, 0);
    for piece in text.graphemes(true) {
        width += piece.width();
        if width > columns {
            break;
        }
        end += piece.len();
    }
    &text[..end]
}

/// What may not reach a terminal: control characters, and those that turn the direction of text
/// around. Each becomes a space.
pub fn harmless(text: &str) -> String {
    let is_harmful = |c: char| {
        let turns = matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}');
        c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_harmful(c) { ' ' } else { c }).collect()
}

/// Breaks `text` into lines of at most `columns`, between words where it can.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut width = 0;
    for piece in text.split_word_bounds() {
        let needed = piece.width();
        if width + needed > columns {
            if piece.chars().all(char::is_whitespace) {
                // The end of the line takes the place of what separates words.
                lines.push(std::mem::take(&mut line));
                width = 0;
                continue;
            }
            if needed <= columns {
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
                width = 0;
            }
        }
        for cluster in piece.graphemes(true) {
            if width + cluster.width() > columns {
                lines.push(std::mem::take(&mut line));
                width = 0;
            }
            line.push_str(cluster);
            width += cluster.width();
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// What stands on the terminal.
#[derive(Debug, Default)]
pub struct Painter {
    shown: Vec<Row>,
    colourless: bool,
}

impl Painter {
    /// A painter of an empty terminal, without colours where that is asked for.
    pub fn new(colourless: bool) -> Painter {
        Painter { shown: Vec::new(), colourless }
    }

    /// The terminal shows something else: paints everything the next time.
    pub fn forget(&mut self) {
        self.shown.clear();
    }

    /// The bytes that make the terminal show `rows`, with the cursor at a column and a row.
    pub fn paint(&mut self, rows: Vec<Row>, (column, line): (usize, usize)) -> String {
        // In one update, where the terminal knows that; hidden, so that the cursor does not dance.
        let mut out = String::from("\x1b[?2026h\x1b[?25l");
        if self.shown.len() != rows.len() {
            self.shown.clear();
            out.push_str("\x1b[0m\x1b[2J");
        }
        for (number, row) in rows.iter().enumerate() {
            if self.shown.get(number) == Some(row) {
                continue;
            }
            let _ = write!(out, "\x1b[{};1H\x1b[0m\x1b[K", number + 1);
            for (style, text) in &row.spans {
                self.dress(*style, &mut out);
                out.push_str(text);
            }
        }
        let _ = write!(out, "\x1b[0m\x1b[{};{}H\x1b[?25h\x1b[?2026l", line + 1, column + 1);
        self.shown = rows;
        out
    }

    fn dress(&self, style: Style, out: &mut String) {
        out.push_str("\x1b[0");
        for (wanted, code) in [(style.bold, ";1"), (style.dim, ";2"), (style.reverse, ";7")] {
            if wanted {
                out.push_str(code);
            }
        }
        match style.colour.filter(|_| !self.colourless) {
            Some(colour @ 0..8) => drop(write!(out, ";3{colour}")),
            Some(colour) => drop(write!(out, ";9{}", colour.min(15) - 8)),
            None => {}
        }
        out.push('m');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_within_those_that_are_too_long() {
        assert_eq!(wrap("good evening all", 8), ["good", "evening", "all"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
        assert_eq!(wrap("", 10), [""]);
        for columns in 2..20 {
            let text = "a quick 日本語 fox, jumping 👩‍👩‍👧 over-the-lazy dogs";
            let lines = wrap(text, columns);
            assert!(lines.iter().all(|line| line.width() <= columns), "{lines:?}");
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(letters(&lines.concat()), letters(text), "{columns}");
        }
    }

    #[test]
    fn what_is_cut_says_so_and_fits() {
        let mut row = Row::default();
        row.push_cut(Style::PLAIN, "日本語", 5).pad(Style::PLAIN, 7);
        assert_eq!((row.text().as_str(), row.width()), ("日本…  ", 7));
    }

    #[test]
    fn only_rows_that_changed_are_painted() {
        let row = |text: &str| {
            let mut row = Row::default();
            row.push(Style::BOLD.in_colour(2), text);
            row
        };
        let mut painter = Painter::new(false);
        let first = painter.paint(vec![row("one"), row("two")], (0, 0));
        assert!(first.contains("\x1b[2J") && first.contains("\x1b[0;1;32mone"), "{first:?}");
        let second = painter.paint(vec![row("one"), row("2")], (1, 1));
        assert!(!second.contains("one") && second.contains("\x1b[2;1H"), "{second:?}");
        let mut painter = Painter::new(true);
        assert!(painter.paint(vec![row("one")], (0, 0)).contains("\x1b[0;1mone"));
    }

    #[test]
    fn a_message_cannot_drive_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\u{202e}c\u{9b}d"), "a [2Jb c d");
    }
}
