//! How a text client reads what it is sent.
//!
//! Owns the grammar of the lines that the server prints. A line that fits none of them is a
//! failure.

use corebeat::wire::message::Code;

use super::ledger::{Ledger, number_of};
use super::stay::Item;
use super::visit::{Roster, Visit, room_index};

impl Visit {
    /// Reads all whole lines.
    pub(crate) fn read_lines(&mut self, ledger: &mut Ledger, round: u64) {
        let inbox = std::mem::take(&mut self.inbox);
        let end = inbox.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text = std::str::from_utf8(&inbox[..end]).expect("lines are UTF-8");
        for line in text.lines() {
            self.read_line(line, ledger, round);
        }
        self.inbox = inbox[end..].to_vec();
    }

    fn read_line(&mut self, line: &str, ledger: &mut Ledger, round: u64) {
        if let Some(message) = line.strip_prefix('[') {
            return self.read_message(message, ledger);
        }
        if let Some(error) = line.strip_prefix("! ") {
            let code = code_of(error);
            self.unasked += usize::from(code == Code::Unavailable);
            if line.contains("too fast") {
                // It says nowhere which line that was.
                self.unasked += 1;
                self.hasty = true;
            }
            return self.errors.push(code);
        }
        if line == "pong" {
            self.pings.pop().expect("a pong answers a /ping");
            return;
        }
        let notice = line.strip_prefix("* ").unwrap_or_else(|| panic!("{line:?} is no line"));
        self.read_notice(notice, ledger, round);
    }

    fn read_message(&mut self, line: &str, ledger: &mut Ledger) {
        let (head, rest) = line.split_once(']').expect("a message names its room");
        if let Some((from, you)) = head.split_once(" -> ") {
            assert_eq!(you, "you");
            let number = number_of(rest.trim_start().as_bytes(), b'd').expect("a letter's number");
            return self.letter(from, number, ledger);
        }
        self.received += 1;
        let room = room_index(head);
        let (from, body) = rest[1..].split_once(": ").expect("a message names its sender");
        let id = number_of(body.as_bytes(), b'm');
        let id = id.unwrap_or_else(|| panic!("[{line}: bodies begin with their number"));
        let message = &ledger.messages[id];
        let told = message.room.is_none_or(|known| known == room);
        assert!(told && !message.refused.holds(), "message {id} came in {head}");
        ledger.check_sender(id, from);
        let own = message.visit == self.id && !message.echo;
        let is_out = self.rooms[room].stay.is_none();
        let mut seen = self.rooms[room].stay.iter().flat_map(|stay| &stay.items);
        let twice = seen.any(|item| matches!(item, Item::Line(other) if *other == id));
        // Behind a panic of the room's home all is replayed that it missed, its own too.
        let may_be_replay = self.rooms[room].home_panics.were_any;
        if own && !may_be_replay || twice || is_out && self.recalled > 0 {
            // It says nowhere which lines answer `/history`, but how many there may be.
            self.recalled = self.recalled.checked_sub(1).unwrap_or_else(|| {
                panic!("message {id} came again, or is its own: {own}");
            });
            return;
        }
        self.rooms[room].current().items.push(Item::Line(id));
    }

    fn read_notice(&mut self, notice: &str, ledger: &mut Ledger, round: u64) {
        if notice.starts_with("nothing is kept of what was said in ") {
            return;
        }
        if let Some(user) = notice.strip_prefix("welcome ") {
            return self.welcome(user, round, ledger);
        }
        if let Some(place) = notice.strip_prefix("you are in ") {
            let (room, _) = place.split_once(", ").expect("it says how many are there");
            self.rooms[room_index(room)].begin_blind(Some(round));
            return;
        }
        if let Some(room) = notice.strip_prefix("you left ") {
            let (room, _) = room.split_once("; ").expect("it says what comes next");
            let view = &mut self.rooms[room_index(room)];
            (view.total, view.users) = (None, Default::default());
            return view.end();
        }
        if let Some(user) = notice.strip_prefix("you are ") {
            let user = user.strip_suffix(" now").expect("it says who you are now");
            return self.rename(user, ledger);
        }
        if notice.starts_with("the server is going away") {
            self.told_to_go = true;
            return;
        }
        if notice == "bye" || notice.starts_with('/') || notice.starts_with("A line that") {
            return;
        }
        if !self.read_gap(notice) && !self.read_roster(notice) {
            self.read_presence(notice);
        }
    }

    fn read_gap(&mut self, notice: &str) -> bool {
        let Some((count, rest)) = notice.split_once(" message") else {
            return false;
        };
        let room = rest.trim_start_matches('s').strip_prefix(" of ");
        let room = room.and_then(|rest| rest.split_once(" w")).expect("a gap names its room").0;
        let count: u64 = count.parse().expect("a gap has a length");
        let (_, range) = rest.split_once(" to you: ").expect("a gap has a range");
        let (from, to) = range.split_once(" to ").unwrap_or((range, range));
        let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
        assert_eq!(count, to - from + 1, "{notice}");
        self.rooms[room_index(room)].current().items.push(Item::GapOf(count));
        true
    }

    fn read_roster(&mut self, notice: &str) -> bool {
        let Some((room, rest)) = notice.split_once(" (") else {
            return false;
        };
        let (total, users) = rest.split_once("):").expect("a roster has a total");
        let users = users.split(", ").map(|user| user.trim().to_owned());
        self.rosters.push(Roster {
            room: room_index(room),
            total: total.parse().expect("a total is a number"),
            users: users.filter(|user| !user.is_empty() && user != "…").collect(),
        });
        true
    }

    fn read_presence(&mut self, notice: &str) {
        let words: Vec<&str> = notice.split(' ').collect();
        match words[..] {
            [user, "joined", room] => self.presence(room_index(room), user, true),
            [user, "left", room] => self.presence(room_index(room), user, false),
            [user, "is", whereabouts @ ("online" | "offline")] => {
                assert_ne!(user, self.user, "it was told of itself");
                self.whereabouts.push((user.to_owned(), whereabouts == "online"));
            }
            [room, "has", total, "members" | "member"] => {
                self.crowd(room_index(room));
                let total = total.parse().expect("a total is a number");
                self.rooms[room_index(room)].total = Some(total);
            }
            [_, "is", "offline,", "and", "will", "be", "told"] => {}
            _ => panic!("{notice:?} is no notice"),
        }
    }
}

fn code_of(error: &str) -> Code {
    let (number, _) = error.split_once(' ').expect("an error has a code and a text");
    let codes = [
        Code::Malformed,
        Code::Unauthorized,
        Code::Forbidden,
        Code::NotFound,
        Code::Timeout,
        Code::Conflict,
        Code::TooLarge,
        Code::TooMany,
        Code::SlowReader,
        Code::Unavailable,
    ];
    let code = codes.into_iter().find(|code| (*code as u16).to_string() == number);
    code.unwrap_or_else(|| panic!("{number} is no code of the contract"))
}
