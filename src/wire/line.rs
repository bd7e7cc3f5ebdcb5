//! The text dialect: lines that people type and read.
//!
//! Owns how a line ends, what its commands are, and how an event reads as a line. A command is what
//! the words say; whether it is allowed is judged elsewhere. Never lets a body, a name or a reason
//! forge a second line or drive a terminal: whatever an event holds, it comes out as one line.

use super::decimal::append_decimal;
use super::message::{Event, Names, PresenceKind, WireError};
use crate::base::ids::Seq;

/// Takes the line at the head of `bytes`, without its LF or CRLF, and says how many bytes it took
/// with it. `Ok(None)` asks for more bytes.
///
/// # Errors
/// [`WireError::TooLong`] as soon as the line is known to be longer than `max_line` bytes, whether
/// it has ended or not.
pub fn line(bytes: &[u8], max_line: usize) -> Result<Option<(&[u8], usize)>, WireError> {
    // Behind the longest line there is room for a CR and an LF.
    let window = &bytes[..bytes.len().min(max_line.saturating_add(2))];
    let end = memchr::memchr(b'\n', window);
    let line = &window[..end.unwrap_or(window.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > max_line {
        return Err(WireError::TooLong);
    }
    Ok(end.map(|end| (line, end + 1)))
}

/// What a line of a text client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Nothing was typed.
    Empty,
    /// Say it in the current room.
    Say(&'a str),
    /// Go by this name.
    Nick(&'a str),
    /// Make this room the current one.
    Join(&'a str),
    /// Leave the current room.
    Leave,
    /// Say something to one user.
    Msg {
        /// The user.
        user: &'a str,
        /// What is said.
        text: &'a str,
    },
    /// Ask who is in the current room.
    Who,
    /// Ask for messages of the past, at most so many.
    History(Option<u16>),
    /// Ask for `pong`.
    Ping,
    /// Ask for the list of commands.
    Help,
    /// Hang up.
    Quit,
    /// A known command without what it needs, or with what it does not take: how it is written.
    Usage(&'static str),
    /// The first word of a line that begins with `/` and is no command.
    Unknown(&'a str),
}

/// Reads one line without its end. Commands are lower-case words; white space around their
/// arguments does not count. What is said is kept as it was typed.
pub fn command(line: &str) -> Command<'_> {
    if line.is_empty() {
        return Command::Empty;
    }
    if !line.starts_with('/') {
        return Command::Say(line);
    }
    let (word, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let arguments = arguments.trim();
    match word {
        "/nick" => needs(arguments, "/nick NAME", Command::Nick),
        "/join" => needs(arguments, "/join ROOM", Command::Join),
        "/leave" => takes_none(arguments, "/leave", Command::Leave),
        "/msg" => match arguments.split_once(char::is_whitespace) {
            Some((user, text)) => Command::Msg { user, text: text.trim_start() },
            None => Command::Usage("/msg USER TEXT"),
        },
        "/who" => takes_none(arguments, "/who", Command::Who),
        "/history" if arguments.is_empty() => Command::History(None),
        "/history" => match arguments.parse() {
            Ok(limit) => Command::History(Some(limit)),
            Err(_) => Command::Usage("/history [N]"),
        },
        "/ping" => takes_none(arguments, "/ping", Command::Ping),
        "/help" => takes_none(arguments, "/help", Command::Help),
        "/quit" => takes_none(arguments, "/quit", Command::Quit),
        _ => Command::Unknown(word),
    }
}

/// Appends an event as one line with its LF. OK, PING, ECHO and TEMPO say nothing to a text client
/// and append nothing.
pub fn encode_event(out: &mut Vec<u8>, event: &Event<'_>) {
    let mut line = Draft { out };
    match *event {
        Event::Message { room, from, body, .. } => {
            line.plain("[").text(room).plain("] ").text(from).plain(": ").body(body)
        }
        Event::Direct { from, body, .. } => {
            line.plain("[").text(from).plain(" -> you] ").body(body)
        }
        Event::Welcome(welcome) => line.plain("* welcome ").text(welcome.user),
        Event::Presence { kind, total, room, user } => line.presence(kind, total, room, user),
        Event::Roster { room, total, users, .. } => line.roster(room, total, users),
        Event::Error { code, text, .. } => {
            line.plain("! ").number(code as u64).plain(" ").text(text)
        }
        Event::Pong(_) => line.plain("pong"),
        Event::GoAway { reconnect_after_ms, reason, address } => {
            line.go_away(reconnect_after_ms, reason, address)
        }
        Event::Gap { from, to, room, .. } => line.gap(from, to, room),
        Event::Bye { .. } => line.plain("* bye"),
        Event::Ok { .. } | Event::Ping(_) | Event::Echo(_) | Event::Tempo { .. } => return,
    };
    line.plain("\n");
}

/// Appends `* ` and `text` as one line.
pub fn encode_notice(out: &mut Vec<u8>, text: &str) {
    Draft { out }.plain("* ").text(text).plain("\n");
}

/// Appends what `/help` prints: a line for each command.
pub fn encode_help(out: &mut Vec<u8>) {
    out.extend_from_slice(HELP.as_bytes());
}

const HELP: &str = "\
* A line that does not begin with / goes to everybody in the current room.
* /nick NAME      go by another name
* /join ROOM      make ROOM the current room
* /leave          leave the current room
* /msg USER TEXT  say something to one user
* /who            who is in the current room
* /history [N]    the last messages of the current room
* /ping           ask for pong
* /help           these lines
* /quit           hang up
";

fn needs<'a>(
    argument: &'a str,
    usage: &'static str,
    command: impl FnOnce(&'a str) -> Command<'a>,
) -> Command<'a> {
    if argument.is_empty() { Command::Usage(usage) } else { command(argument) }
}

/// An argument that is not taken is refused rather than ignored, for whoever writes `/leave ROOM`
/// means that room and not the current one.
fn takes_none<'a>(argument: &str, usage: &'static str, command: Command<'a>) -> Command<'a> {
    if argument.is_empty() { command } else { Command::Usage(usage) }
}

/// A line under construction at the end of a buffer.
struct Draft<'o> {
    out: &'o mut Vec<u8>,
}

impl Draft<'_> {
    /// Words of our own.
    fn plain(&mut self, text: &str) -> &mut Self {
        self.out.extend_from_slice(text.as_bytes());
        self
    }

    /// Words of somebody else. What would end the line or command a terminal becomes a space.
    fn text(&mut self, text: &str) -> &mut Self {
        if !may_hold_control(text.as_bytes()) {
            return self.plain(text);
        }
        for (index, clean) in text.split(is_control).enumerate() {
            if index > 0 {
                self.plain(" ");
            }
            self.plain(clean);
        }
        self
    }

    /// Any bytes. What is not UTF-8 becomes U+FFFD, the rest is written as [`Draft::text`] does.
    fn body(&mut self, bytes: &[u8]) -> &mut Self {
        if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
            return self.text(text);
        }
        for chunk in bytes.utf8_chunks() {
            self.text(chunk.valid());
            if !chunk.invalid().is_empty() {
                self.plain("\u{FFFD}");
            }
        }
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        append_decimal(self.out, number);
        self
    }

    fn presence(&mut self, kind: PresenceKind, total: u32, room: &str, user: &str) -> &mut Self {
        self.plain("* ");
        match kind {
            PresenceKind::Joined => self.text(user).plain(" joined ").text(room),
            PresenceKind::Left => self.text(user).plain(" left ").text(room),
            PresenceKind::Online => self.text(user).plain(" is online"),
            PresenceKind::Offline => self.text(user).plain(" is offline"),
            PresenceKind::Many => {
                let members = if total == 1 { " member" } else { " members" };
                self.text(room).plain(" has ").number(u64::from(total)).plain(members)
            }
        }
    }

    fn roster(&mut self, room: &str, total: u32, users: Names<'_>) -> &mut Self {
        self.plain("* ").text(room).plain(" (").number(u64::from(total)).plain("):");
        let mut listed = 0;
        for user in users.iter() {
            self.plain(if listed == 0 { " " } else { ", " }).text(user);
            listed += 1;
        }
        match listed {
            _ if total <= listed => self,
            0 => self.plain(" …"),
            _ => self.plain(", …"),
        }
    }

    fn go_away(&mut self, after_ms: u32, reason: &str, address: &str) -> &mut Self {
        self.plain("* the server is going away");
        if !reason.is_empty() {
            self.plain(": ").text(reason);
        }
        self.plain("; come back ").wait(after_ms);
        if !address.is_empty() {
            self.plain(" to ").text(address);
        }
        self
    }

    /// A waiting time as people say it, in seconds and tenths from a second on, never rounded down.
    fn wait(&mut self, wait_ms: u32) -> &mut Self {
        if wait_ms == 0 {
            return self.plain("now");
        }
        self.plain("in ");
        if wait_ms < 1_000 {
            return self.number(u64::from(wait_ms)).plain(" ms");
        }
        let tenths = u64::from(wait_ms.div_ceil(100));
        self.number(tenths / 10);
        if tenths % 10 != 0 {
            self.plain(".").number(tenths % 10);
        }
        self.plain(" s")
    }

    fn gap(&mut self, from: Seq, to: Seq, room: &str) -> &mut Self {
        let count = to.0.saturating_sub(from.0).saturating_add(1);
        self.plain("* ").number(count);
        if count == 1 {
            self.plain(" message of ").text(room).plain(" was not sent to you: ").number(from.0)
        } else {
            self.plain(" messages of ").text(room).plain(" were not sent to you: ");
            self.number(from.0).plain(" to ").number(to.0)
        }
    }
}

/// What no line may carry: the control characters C0, DEL and C1, and the two separators that some
/// readers take for the end of a line.
fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Whether UTF-8 text has a byte that a character of [`is_control`] begins with. It looks at every
/// byte alike, without leaving early, so that the compiler can look at many at once.
fn may_hold_control(bytes: &[u8]) -> bool {
    // C2 leads C1, E2 leads the separators; both also lead harmless characters.
    bytes.iter().fold(false, |found, &byte| found | matches!(byte, 0..=0x1F | 0x7F | 0xC2 | 0xE2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{Epoch, Ref};
    use crate::wire::message::{Code, Heartbeat, OkFlags};

    fn encoded(event: Event<'_>) -> String {
        let mut out = Vec::new();
        encode_event(&mut out, &event);
        String::from_utf8(out).unwrap()
    }

    fn said(body: &[u8]) -> String {
        let (epoch, seq) = (Epoch(7), Seq(1));
        encoded(Event::Message {
            epoch,
            seq,
            time_ms: 0,
            room: "lobby",
            from: "ann",
            body,
            replay: false,
        })
    }

    #[test]
    fn a_line_ends_with_lf_or_crlf_and_both_are_consumed() {
        assert_eq!(line(b"hi\nrest", 10), Ok(Some((&b"hi"[..], 3))));
        assert_eq!(line(b"hi\r\nrest", 10), Ok(Some((&b"hi"[..], 4))));
        assert_eq!(line(b"h\ri\n", 10), Ok(Some((&b"h\ri"[..], 4))));
        assert_eq!(line(b"\n", 10), Ok(Some((&b""[..], 1))));
        assert_eq!(line(b"\r\r\n", 10), Ok(Some((&b"\r"[..], 3))));
        assert_eq!(line(b"hi", 10), Ok(None));
        assert_eq!(line(b"", 10), Ok(None));
    }

    #[test]
    fn a_line_may_be_max_line_long_and_not_a_byte_longer() {
        assert_eq!(line(b"1234\n", 4), Ok(Some((&b"1234"[..], 5))));
        assert_eq!(line(b"1234\r\n", 4), Ok(Some((&b"1234"[..], 6))));
        assert_eq!(line(b"1234", 4), Ok(None));
        assert_eq!(line(b"1234\r", 4), Ok(None), "the LF of a CRLF may follow");
        assert_eq!(line(b"12345", 4), Err(WireError::TooLong));
        assert_eq!(line(b"12345\n", 4), Err(WireError::TooLong));
        assert_eq!(line(b"1234\r5", 4), Err(WireError::TooLong));
        assert_eq!(line(b"1234\r\r\n", 4), Err(WireError::TooLong));
        assert_eq!(line(&[b'x'; 1000], 4), Err(WireError::TooLong));
    }

    #[test]
    fn a_prefix_of_a_good_line_is_never_too_long() {
        for whole in [&b"1234\n"[..], b"1234\r\n", b"\r\n", b"12\r4\r\n"] {
            for length in 0..whole.len() {
                assert_eq!(line(&whole[..length], 4), Ok(None), "{whole:?} at {length}");
            }
            assert!(matches!(line(whole, 4), Ok(Some((_, n))) if n == whole.len()));
        }
    }

    #[test]
    fn what_does_not_begin_with_a_slash_is_said_as_it_was_typed() {
        assert_eq!(command(""), Command::Empty);
        assert_eq!(command("hi there "), Command::Say("hi there "));
        assert_eq!(command(" /nick ann"), Command::Say(" /nick ann"));
        assert_eq!(command(" "), Command::Say(" "));
    }

    #[test]
    fn commands_are_lower_case_words_with_trimmed_arguments() {
        assert_eq!(command("/nick ann"), Command::Nick("ann"));
        assert_eq!(command("/nick \t ann  "), Command::Nick("ann"));
        assert_eq!(command("/nick ann lee"), Command::Nick("ann lee"), "a name check refuses it");
        assert_eq!(command("/join\tden"), Command::Join("den"));
        assert_eq!(command("/leave "), Command::Leave);
        assert_eq!(
            command("/msg bob  see you  there "),
            Command::Msg { user: "bob", text: "see you  there" }
        );
        assert_eq!(command("/who"), Command::Who);
        assert_eq!(command("/history"), Command::History(None));
        assert_eq!(command("/history 20"), Command::History(Some(20)));
        assert_eq!(command("/ping"), Command::Ping);
        assert_eq!(command("/help"), Command::Help);
        assert_eq!(command("/quit"), Command::Quit);
        assert_eq!(command("/NICK ann"), Command::Unknown("/NICK"));
        assert_eq!(command("/nickann"), Command::Unknown("/nickann"));
        assert_eq!(command("/"), Command::Unknown("/"));
    }

    #[test]
    fn a_command_without_its_argument_or_with_one_too_many_tells_its_usage() {
        assert_eq!(command("/nick"), Command::Usage("/nick NAME"));
        assert_eq!(command("/nick  "), Command::Usage("/nick NAME"));
        assert_eq!(command("/join"), Command::Usage("/join ROOM"));
        assert_eq!(command("/msg"), Command::Usage("/msg USER TEXT"));
        assert_eq!(command("/msg bob "), Command::Usage("/msg USER TEXT"));
        assert_eq!(command("/leave den"), Command::Usage("/leave"));
        assert_eq!(command("/history many"), Command::Usage("/history [N]"));
        assert_eq!(command("/history 65536"), Command::Usage("/history [N]"));
        assert_eq!(command("/history -1"), Command::Usage("/history [N]"));
    }

    #[test]
    fn messages_read_as_the_contract_prints_them() {
        assert_eq!(said(b"hi there"), "[lobby] ann: hi there\n");
        assert_eq!(
            said("grüß dich, 世界 — ‘ja’".as_bytes()),
            "[lobby] ann: grüß dich, 世界 — ‘ja’\n"
        );
        assert_eq!(said(b""), "[lobby] ann: \n");
        let direct = Event::Direct { id: 17, time_ms: 0, from: "bob", body: b"psst", replay: true };
        assert_eq!(encoded(direct), "[bob -> you] psst\n");
    }

    #[test]
    fn no_body_forges_a_line_or_drives_a_terminal() {
        assert_eq!(said(b"a\n[lobby] bob: b"), "[lobby] ann: a [lobby] bob: b\n");
        assert_eq!(said(b"a\r\nb\0c\x1b[2Jd\x7fe\tf"), "[lobby] ann: a  b c [2Jd e f\n");
        assert_eq!(said("a\u{85}b\u{9b}2J\u{a0}c".as_bytes()), "[lobby] ann: a b 2J\u{a0}c\n");
        assert_eq!(said("a\u{2028}b\u{2029}c\u{2027}".as_bytes()), "[lobby] ann: a b c\u{2027}\n");
        assert_eq!(said(b"a\xFFb\n\xC3"), "[lobby] ann: a\u{FFFD}b \u{FFFD}\n");
        assert_eq!(said(b"\x9b2J"), "[lobby] ann: \u{FFFD}2J\n", "a bare C1 byte is not UTF-8");
    }

    #[test]
    fn every_control_character_becomes_one_space() {
        for character in ('\0'..='\u{2100}').filter(|&character| is_control(character)) {
            let body = format!("x{character}y");
            assert_eq!(said(body.as_bytes()), "[lobby] ann: x y\n", "{character:?}");
        }
    }

    #[test]
    fn presence_tells_who_came_and_went() {
        let presence =
            |kind, total, room, user| encoded(Event::Presence { kind, total, room, user });
        assert_eq!(presence(PresenceKind::Joined, 2, "den", "bob"), "* bob joined den\n");
        assert_eq!(presence(PresenceKind::Left, 1, "den", "bob"), "* bob left den\n");
        assert_eq!(presence(PresenceKind::Online, 0, "", "bob"), "* bob is online\n");
        assert_eq!(presence(PresenceKind::Offline, 0, "", "bob"), "* bob is offline\n");
        assert_eq!(presence(PresenceKind::Many, 300, "den", ""), "* den has 300 members\n");
        assert_eq!(presence(PresenceKind::Many, 1, "den", ""), "* den has 1 member\n");
    }

    #[test]
    fn a_roster_that_does_not_name_all_says_so() {
        let roster = |total, names: &[&str]| {
            let mut list = Vec::new();
            names.iter().for_each(|name| Names::push(&mut list, name));
            let users = Names::new(&list);
            encoded(Event::Roster { reference: Ref(4), room: "den", total, users })
        };
        assert_eq!(roster(2, &["ann", "bob"]), "* den (2): ann, bob\n");
        assert_eq!(roster(5, &["ann", "bob"]), "* den (5): ann, bob, …\n");
        assert_eq!(roster(5, &[]), "* den (5): …\n");
    }

    #[test]
    fn going_away_tells_why_when_and_where() {
        let go_away = |reconnect_after_ms, reason, address| {
            encoded(Event::GoAway { reconnect_after_ms, reason, address })
        };
        let away = "* the server is going away";
        assert_eq!(
            go_away(2_000, "an upgrade", ""),
            format!("{away}: an upgrade; come back in 2 s\n")
        );
        assert_eq!(go_away(500, "", ""), format!("{away}; come back in 500 ms\n"));
        assert_eq!(go_away(1_001, "", ""), format!("{away}; come back in 1.1 s\n"));
        assert_eq!(go_away(0, "x", "b:1"), format!("{away}: x; come back now to b:1\n"));
    }

    #[test]
    fn the_rest_of_the_events_read_as_they_should() {
        let gap = |from, to| {
            encoded(Event::Gap { epoch: Epoch(7), from: Seq(from), to: Seq(to), room: "den" })
        };
        assert_eq!(gap(40, 44), "* 5 messages of den were not sent to you: 40 to 44\n");
        assert_eq!(gap(40, 40), "* 1 message of den was not sent to you: 40\n");
        assert_eq!(
            gap(0, u64::MAX),
            format!("* {0} messages of den were not sent to you: 0 to {0}\n", u64::MAX)
        );
        let error = Event::Error { reference: Ref(6), code: Code::Forbidden, text: "no\nway" };
        assert_eq!(encoded(error), "! 403 no way\n");
        assert_eq!(encoded(Event::Pong(Heartbeat::default())), "pong\n");
        assert_eq!(encoded(Event::Bye { code: 0, reason: "" }), "* bye\n");
    }

    #[test]
    fn what_a_text_client_cannot_use_is_not_written() {
        let flags = OkFlags::default();
        for silent in [
            Event::Ok { reference: Ref(1), flags, epoch: Epoch(7), seq: Seq(1) },
            Event::Ping(Heartbeat::default()),
            Event::Echo(b"x"),
            Event::Tempo { heartbeat_s: 30, timeout_s: 90 },
        ] {
            assert_eq!(encoded(silent), "");
        }
    }

    #[test]
    fn help_names_every_command_and_notices_are_one_line() {
        let mut out = Vec::new();
        encode_help(&mut out);
        let help = String::from_utf8(out).unwrap();
        assert!(help.lines().all(|line| line.starts_with("* ")));
        assert!(help.ends_with('\n'));
        for word in [
            "/nick ",
            "/join ",
            "/leave ",
            "/msg ",
            "/who ",
            "/history ",
            "/ping ",
            "/help ",
            "/quit ",
        ] {
            assert!(help.contains(&format!("* {word}")), "{word}");
        }
        let mut out = Vec::new();
        encode_notice(&mut out, "you are in lobby\n\x1b[1m");
        assert_eq!(out, b"* you are in lobby  [1m\n");
    }
}
