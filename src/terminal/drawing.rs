//! How the talk looks.
//!
//! Owns the layout: a title with the state of the connection, conversations at the left, members
//! at the right where there is room, what was said between them, and the line under way. Pure: a
//! [`Talk`] in, rows out.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use super::command::COMMANDS;
use super::conversation::{Conversation, Fate, Kind, Line, With};
use super::paint::{Row, Style, head, wrap};
use super::talk::Talk;
use crate::client::{RequestError, State};

/// Columns of the list of conversations, and from which width of the screen on it is shown.
const SIDE: (usize, usize) = (20, 60);
/// The same of the members.
const MEMBERS: (usize, usize) = (18, 92);
/// Columns of a sender's name.
const NAME: usize = 12;
/// From this width on lines have their time.
const TIMED: usize = 40;
/// Rows that are not for what was said: title, status, line.
const FRAME_ROWS: usize = 3;

const RED: u8 = 1;
const GREEN: u8 = 2;
const YELLOW: u8 = 3;
const CYAN: u8 = 6;
/// Colours of names: those that are legible on light and on dark.
const NAMES: [u8; 6] = [2, 3, 4, 5, 6, 1];

/// The keys with what they do, as the help shows them.
const KEYS: &[(&str, &str)] = &[
    ("Enter", "say it"),
    ("Tab", "complete a name or command; else the next unread conversation"),
    ("Ctrl-N Ctrl-P", "next and previous conversation; also Ctrl or Alt with arrows"),
    ("Alt-1 … Alt-9", "the first to the ninth conversation"),
    ("PgUp PgDn", "what was said before"),
    ("Up Down", "lines typed before"),
    ("Ctrl-A E W U K", "edit as in a shell"),
    ("Ctrl-R Ctrl-L", "connect now; draw the screen anew"),
    ("F1", "this help"),
    ("Ctrl-Z Ctrl-C", "to the shell, `fg` comes back; leave"),
];

/// What the drawing has to know besides the talk.
pub struct Stage<'a> {
    /// Columns of the screen.
    pub columns: usize,
    /// Rows of the screen.
    pub rows: usize,
    /// The client's clock, in microseconds.
    pub now_us: u64,
    /// A message's time as people read it, five columns wide.
    pub face: &'a dyn Fn(u64) -> String,
}

/// The rows of the screen, and the cursor's column and row.
pub fn draw(talk: &mut Talk, stage: &Stage<'_>) -> (Vec<Row>, (usize, usize)) {
    let (columns, rows) = (stage.columns.max(1), stage.rows.max(1));
    let (input, cursor) = input_row(talk, columns);
    if rows < FRAME_ROWS + 1 || columns < 10 {
        let mut tiny = vec![Row::default(); rows];
        tiny[rows - 1] = input;
        return (tiny, (cursor, rows - 1));
    }
    let height = rows - FRAME_ROWS;
    let mut screen = vec![title_row(talk, stage)];
    screen.extend(if talk.helping { help(columns, height) } else { body(talk, stage, height) });
    screen.push(status_row(talk, columns));
    screen.push(input);
    (screen, (cursor, rows - 1))
}

fn title_row(talk: &Talk, stage: &Stage<'_>) -> Row {
    let (dot, colour, state) = state_words(talk, stage.now_us);
    let bar = Style::REVERSE;
    let state = format!("{dot} {state} ");
    let mut right = Row::default();
    right.push(bar.in_colour(colour), head(&state, stage.columns));
    let room = stage.columns - right.width();
    let mut row = Row::default();
    let name = talk.shown().map_or_else(|| "corebeat".to_owned(), |shown| shown.with.title());
    row.push_cut(Style { bold: true, ..bar }, &format!(" {name}"), room);
    let total = talk.shown().and_then(|shown| shown.total);
    if let Some(total) = total {
        row.push_cut(bar, &format!("  {total} here"), room - row.width());
    }
    let unread: usize = talk.conversations.iter().map(|conversation| conversation.unread).sum();
    if unread > 0 && stage.columns < SIDE.1 {
        row.push_cut(bar.in_colour(YELLOW), &format!("  {unread} unread"), room - row.width());
    }
    row.pad(bar, room).append(&right);
    row
}

/// A dot, its colour, and what the connection is at.
fn state_words(talk: &Talk, now_us: u64) -> (char, u8, String) {
    match &talk.state {
        State::Idle => ('○', YELLOW, "not connected".to_owned()),
        State::Connecting { endpoint, attempt: 1 } => ('◌', YELLOW, format!("calling {endpoint}")),
        State::Connecting { endpoint, attempt } => {
            ('◌', YELLOW, format!("calling {endpoint}, try {attempt}"))
        }
        State::Online { .. } => match talk.round_trip_us {
            Some(us) if us < 10_000 => {
                ('●', GREEN, format!("online {}.{} ms", us / 1_000, us / 100 % 10))
            }
            Some(us) => ('●', GREEN, format!("online {} ms", us / 1_000)),
            None => ('●', GREEN, "online".to_owned()),
        },
        State::Waiting { until_us, reason, quiet, .. } => {
            let seconds = until_us.saturating_sub(now_us).div_ceil(1_000_000);
            let again = if *quiet { "resting, again" } else { "again" };
            ('○', RED, format!("{reason}; {again} in {seconds} s"))
        }
        State::Closed { .. } => ('○', RED, "closed".to_owned()),
    }
}

fn body(talk: &mut Talk, stage: &Stage<'_>, height: usize) -> Vec<Row> {
    let side = if stage.columns >= SIDE.1 { SIDE.0 } else { 0 };
    let is_room = talk.shown().is_some_and(|shown| matches!(shown.with, With::Room(_)));
    let members = if is_room && stage.columns >= MEMBERS.1 { MEMBERS.0 } else { 0 };
    let middle = stage.columns - side - members;
    let said = said_rows(talk, stage, middle, height);
    let left = if side > 0 { side_rows(talk, side, height) } else { Vec::new() };
    let right = if members > 0 { member_rows(talk, members, height) } else { Vec::new() };
    let mut rows = Vec::with_capacity(height);
    for (number, said) in said.into_iter().enumerate() {
        let mut row = left.get(number).cloned().unwrap_or_default();
        row.append(&said);
        if let Some(right) = right.get(number) {
            row.pad(Style::PLAIN, side + middle).append(right);
        }
        rows.push(row);
    }
    rows
}

fn side_rows(talk: &Talk, width: usize, height: usize) -> Vec<Row> {
    // The one that is shown stays in sight.
    let first = (talk.current + 1).saturating_sub(height);
    let mut rows: Vec<Row> = Vec::new();
    for (index, conversation) in talk.conversations.iter().enumerate().skip(first).take(height) {
        let style = match () {
            () if index == talk.current => Style::REVERSE,
            () if conversation.called => Style::BOLD.in_colour(YELLOW),
            () if conversation.unread > 0 => Style::BOLD,
            () => Style::PLAIN,
        };
        let count = match conversation.unread {
            0 => String::new(),
            unread @ 1..1_000 => format!(" {unread}"),
            _ => " 999+".to_owned(),
        };
        let mut row = Row::default();
        let title = format!(" {}", conversation.with.title());
        row.push_cut(style, &title, width - 2 - count.len());
        row.pad(style, width - 2 - count.len()).push(style, &count);
        rows.push(row);
    }
    rows.resize(height, Row::default());
    for row in &mut rows {
        row.pad(Style::PLAIN, width - 2).push(Style::DIM, "│ ");
    }
    rows
}

fn member_rows(talk: &Talk, width: usize, height: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let Some(shown) = talk.shown() else {
        return rows;
    };
    for member in shown.members.iter().take(height) {
        let mut row = Row::default();
        let style = Style::PLAIN.in_colour(colour_of(member));
        row.push(Style::DIM, "│ ").push_cut(style, member, width - 2);
        rows.push(row);
    }
    let hidden = (shown.total.unwrap_or(0) as usize).saturating_sub(rows.len());
    if hidden > 0 && !rows.is_empty() {
        if rows.len() == height {
            rows.pop();
        }
        let hidden = shown.total.unwrap_or(0) as usize - rows.len();
        let mut row = Row::default();
        row.push(Style::DIM, "│ ").push_cut(Style::DIM, &format!("and {hidden} more"), width - 2);
        rows.push(row);
    }
    let mut empty = Row::default();
    empty.push(Style::DIM, "│");
    rows.resize(height, empty);
    rows
}

/// The last rows of what was said, or those before them as far as the view is moved up.
fn said_rows(talk: &mut Talk, stage: &Stage<'_>, width: usize, height: usize) -> Vec<Row> {
    let scrolled = talk.scrolled;
    let mut rows: Vec<Row> = Vec::new();
    if let Some(shown) = talk.shown() {
        for line in shown.lines.iter().rev() {
            let mut of_line = line_rows(line, shown, &talk.user, stage, width);
            of_line.reverse();
            rows.extend(of_line);
            if rows.len() >= height + scrolled {
                break;
            }
        }
    } else {
        let mut row = Row::default();
        row.push_cut(Style::DIM, " nobody to talk with: /join ROOM", width);
        rows.push(row);
    }
    // The view cannot go above the first line.
    talk.scrolled = scrolled.min(rows.len().saturating_sub(height));
    let visible = rows.into_iter().skip(talk.scrolled).take(height);
    let mut visible: Vec<Row> = visible.collect();
    visible.resize(height, Row::default());
    visible.reverse();
    if talk.scrolled == 0
        && let Some(shown) = talk.conversations.get_mut(talk.current)
    {
        shown.read();
    }
    visible
}

fn line_rows(
    line: &Line,
    conversation: &Conversation,
    user: &str,
    stage: &Stage<'_>,
    width: usize,
) -> Vec<Row> {
    let (name, name_style, style) = match &line.kind {
        Kind::Said { from, .. } => {
            (from.as_str(), Style::BOLD.in_colour(colour_of(from)), Style::PLAIN)
        }
        Kind::Own { fate, .. } => {
            let style = if *fate == Fate::Waiting { Style::DIM } else { Style::PLAIN };
            (user, Style::BOLD, style)
        }
        Kind::Note => ("·", Style::DIM, Style::DIM),
        Kind::Alarm => ("!", Style::BOLD.in_colour(RED), Style::PLAIN.in_colour(RED)),
    };
    let mut before = Row::default();
    if width >= TIMED {
        before.push(Style::DIM, &(stage.face)(line.time_ms)).push(Style::PLAIN, " ");
        let mut name_row = Row::default();
        name_row.push_cut(name_style, name, NAME);
        let padded = before.width() + NAME - name_row.width();
        before.pad(Style::PLAIN, padded).append(&name_row);
    } else {
        before.push_cut(name_style, name, NAME);
    }
    before.push(Style::DIM, " │ ");
    let indent = before.width();
    let (end_style, end) = end_of(&line.kind, conversation);
    let room = width.saturating_sub(indent + 1).max(2);
    let text = wrap(&line.text, room);
    let mut rows = Vec::new();
    for text in text {
        let mut row = if rows.is_empty() { before.clone() } else { continuation(indent) };
        row.push(style, &text);
        rows.push(row);
    }
    for (number, text) in wrap(&end, room).into_iter().enumerate().filter(|_| !end.is_empty()) {
        let last = rows.last_mut().expect("a line has a row");
        if number == 0 && last.width() + text.width() <= width {
            last.push(end_style, &text);
        } else {
            let mut row = continuation(indent);
            row.push(end_style, text.trim_start());
            rows.push(row);
        }
    }
    rows
}

/// What stands behind a line's text.
fn end_of(kind: &Kind, conversation: &Conversation) -> (Style, String) {
    match kind {
        Kind::Own { fate: Fate::Waiting, .. } => (Style::DIM, " …".to_owned()),
        Kind::Own { fate: Fate::Queued, .. } => {
            (Style::DIM, format!(" (waits for {})", conversation.with.title()))
        }
        Kind::Own { fate: Fate::Failed(why), .. } => {
            (Style::PLAIN.in_colour(RED), format!(" (not sent: {why})"))
        }
        Kind::Own { fate: Fate::Uncertain, .. } => {
            (Style::PLAIN.in_colour(RED), format!(" (uncertain: {})", RequestError::Uncertain))
        }
        _ => (Style::PLAIN, String::new()),
    }
}

fn continuation(indent: usize) -> Row {
    let mut row = Row::default();
    row.pad(Style::PLAIN, indent - 3).push(Style::DIM, " │ ");
    row
}

fn status_row(talk: &Talk, columns: usize) -> Row {
    let waiting = talk.shown().map_or(0, |shown| {
        let waits = |line: &&Line| matches!(&line.kind, Kind::Own { fate: Fate::Waiting, .. });
        shown.lines.iter().rev().take(100).filter(waits).count()
    });
    let mut row = Row::default();
    row.push(Style::DIM, "─");
    if talk.scrolled > 0 {
        row.push_cut(Style::PLAIN.in_colour(CYAN), " more below: PgDn or Esc ", columns - 1);
    } else if waiting > 0 && !matches!(talk.state, State::Online { .. }) {
        let words = format!(" {waiting} to be sent when we are back ");
        row.push_cut(Style::PLAIN.in_colour(YELLOW), &words, columns - 1);
    } else {
        row.push_cut(Style::DIM, " F1 help · Tab next unread · Ctrl-C leave ", columns - 1);
    }
    let rest = columns.saturating_sub(row.width());
    row.push(Style::DIM, &"─".repeat(rest));
    row
}

/// The line under way, moved so that the cursor is in sight, and the cursor's column.
fn input_row(talk: &Talk, columns: usize) -> (Row, usize) {
    let mut row = Row::default();
    row.push_cut(Style::BOLD, &talk.user, NAME.min(columns / 3)).push(Style::DIM, "› ");
    let room = columns.saturating_sub(row.width() + 1).max(1);
    let before = talk.editor.before_cursor();
    // Measured from the cursor back, as far as there is room: the line may be long.
    let (mut start, mut shown) = (before.len(), 0);
    for (at, character) in before.grapheme_indices(true).rev() {
        shown += character.width();
        if shown > room {
            break;
        }
        start = at;
    }
    let cursor = row.width() + before[start..].width();
    row.push(Style::PLAIN, head(&talk.editor.text()[start..], room));
    (row, cursor.min(columns - 1))
}

fn help(columns: usize, height: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut section = |title: &str, entries: &[(&str, &str)]| {
        let mut row = Row::default();
        row.push_cut(Style::BOLD, &format!(" {title}"), columns);
        rows.push(row);
        for (what, meaning) in entries {
            let mut row = Row::default();
            row.push_cut(Style::PLAIN.in_colour(CYAN), &format!("  {what}"), columns);
            row.pad(Style::PLAIN, 20.min(columns));
            let room = columns.saturating_sub(row.width());
            row.push_cut(Style::PLAIN, meaning, room);
            rows.push(row);
        }
    };
    section("Keys, Esc closes this", KEYS);
    section("Commands", COMMANDS);
    rows.truncate(height);
    rows.resize(height, Row::default());
    rows
}

fn colour_of(name: &str) -> u8 {
    let sum = name.bytes().fold(0_usize, |sum, byte| sum * 31 % 65_521 + usize::from(byte));
    NAMES[sum % NAMES.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Event, RequestError, Ticket};
    use crate::terminal::keys::Key;

    /// The rows of the screen, and the cursor's column.
    fn drawn(talk: &mut Talk, columns: usize) -> (Vec<String>, usize) {
        let face = |_| "12:34".to_owned();
        let stage = Stage { columns, rows: 8, now_us: 0, face: &face };
        let (rows, cursor) = draw(talk, &stage);
        (rows.iter().map(Row::text).collect(), cursor.0)
    }

    #[test]
    fn of_a_long_line_the_end_is_in_sight() {
        let mut talk = Talk::new("ann", &["den".to_owned()], 1);
        talk.press(&Key::Paste(format!("{}日本語abc", "x".repeat(50_000))));
        let (rows, cursor) = drawn(&mut talk, 20);
        assert_eq!((rows[7].as_str(), cursor), ("ann› xxxxx日本語abc", 19));
        let (rows, cursor) = drawn(&mut talk, 12);
        // Half a character is none.
        assert_eq!((rows[7].as_str(), cursor), ("ann› 語abc", 10));
        talk.press(&Key::Home);
        let (rows, cursor) = drawn(&mut talk, 20);
        assert_eq!((rows[7].as_str(), cursor), ("ann› xxxxxxxxxxxxxx", 5));
    }

    #[test]
    fn what_is_uncertain_is_not_said_to_be_unsent() {
        let mut talk = Talk::new("ann", &["den".to_owned()], 1);
        talk.press(&Key::Character('x'));
        talk.press(&Key::Enter);
        let mut ticket = 0;
        while let Some((_, granting)) = talk.next_wish() {
            ticket += 1;
            talk.granted(granting, Ticket(ticket));
        }
        talk.hear(Event::Answered(Ticket(ticket), Err(RequestError::Uncertain)));
        let (rows, _) = drawn(&mut talk, 58);
        let screen = rows.join("\n");
        assert!(screen.contains("(uncertain: the session was"), "{screen}");
        assert!(!screen.contains("not sent"), "{screen}");
    }
}
