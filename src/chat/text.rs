//! The commands of a text client.
//!
//! Owns what a person at a terminal may type and what is answered in plain words. Never formats
//! what all dialects say ([`wire::line`](mod@crate::wire::line) does), and never does the work of
//! a request: it calls the same functions as the native dialect.

use crate::base::ids::{ConnId, Ref, SessionId, ShardId};
use crate::base::limits::TEXT_HISTORY;
use crate::base::name::{self, Name, NameError};
use crate::base::time::Now;
use crate::wire::line::{self, Command};
use crate::wire::message::{Code, Event, Heartbeat, Welcome};
use crate::wire::native;

use super::batch::Dialect;
use super::excess::Purpose;
use super::mail::{Ending, Extent, Mail, Since};
use super::membership::{RoomKey, Stay};
use super::reader::Coming;
use super::requests::{Part, Welcomed, code_of};
use super::resume::Greeting;
use super::session::State;
use super::shard::{Shard, Verdict};

impl Shard {
    /// The first line of a text client: its name or, with a name of the server's, its first words.
    pub(super) fn greet(&mut self, conn: ConnId, first_line: &str, now: Now) {
        let command = line::command(first_line);
        let user = match command {
            Command::Nick(nick) => match name::check(nick) {
                Ok(()) => Some(Name::new(nick)),
                Err(error) => {
                    self.refuse_user_name(conn, error, now);
                    None
                }
            },
            _ => None,
        };
        let was_named = user.is_some();
        self.begin_session(conn, Greeting { dialect: Dialect::Text, user }, now);
        let is_let_in = |state| !matches!(state, State::Closing(_));
        let state = self.sessions.get(conn).map(|session| session.state);
        if !was_named && !matches!(command, Command::Nick(_)) && state.is_some_and(is_let_in) {
            self.command(conn, first_line, now);
        }
    }

    /// Tells a text client its name.
    pub(super) fn welcome_text(&mut self, conn: ConnId, user: &Name, now: Now) {
        self.verdicts.push_back(Verdict::ProbeHost(conn));
        let welcome = Event::Welcome(Welcome {
            version: native::VERSION,
            node: self.node,
            session: 0,
            resume_key: 0,
            heartbeat_s: 0,
            timeout_s: 0,
            max_frame: self.limits.max_frame as u32,
            resumed: false,
            user,
        });
        self.tell(conn, &welcome, now);
    }

    /// A further line.
    pub(super) fn command(&mut self, conn: ConnId, text: &str, now: Now) {
        match line::command(text) {
            Command::Empty => {}
            Command::Say(text) => self.say(conn, text, now),
            Command::Nick(nick) => self.rename(conn, nick, now),
            Command::Join(room) => self.enter_room(conn, room, now),
            Command::Leave => self.leave_current_room(conn, now),
            Command::Msg { user, text } => {
                self.direct(conn, Ref::NONE, user, text.as_bytes(), now);
            }
            Command::Who => {
                if let Some(room) = self.current_room_name(conn, now) {
                    self.who(conn, Ref::NONE, &room, now);
                }
            }
            Command::History(count) => {
                if let Some(room) = self.current_room_name(conn, now) {
                    let extent = Extent::Latest(count.unwrap_or(TEXT_HISTORY));
                    self.ask_history(conn, Ref::NONE, &room, extent, now);
                }
            }
            Command::Ping => self.tell_urgently(conn, &Event::Pong(Heartbeat::default()), now),
            Command::Help => self.tell_raw(conn, line::encode_help, now),
            Command::Quit => self.take_leave(conn, now),
            Command::Usage(usage) => {
                let text = format!("usage: {usage}");
                self.refuse(conn, Ref::NONE, Code::Malformed, &text, now);
            }
            Command::Unknown(command) => {
                let text = format!("{command} is no command; /help lists them");
                self.refuse(conn, Ref::NONE, Code::Malformed, &text, now);
            }
        }
    }

    fn say(&mut self, conn: ConnId, text: &str, now: Now) {
        if let Some(room) = self.current_room_name(conn, now) {
            self.publish(conn, Ref::NONE, &room, text.as_bytes(), false, now);
        }
    }

    /// Joins a room and makes it the one that lines go to.
    pub(super) fn enter_room(&mut self, conn: ConnId, room: &str, now: Now) {
        let part = Part { notify: true, since: Since::Live };
        self.join(conn, Ref::NONE, room, part, now);
        let key = self.rooms.find(room, self.hasher.hash(room));
        if let Some(session) = self.sessions.get_mut(conn)
            && let Some(key) = key.filter(|key| session.membership(*key).is_some())
        {
            session.extra().current_room = Some(key);
        }
    }

    /// Says where a text client's lines go, once the home has let it in.
    pub(super) fn announce_room(&mut self, conn: ConnId, room: &Name, total: u32, now: Now) {
        let notice = match total {
            1 => format!("you are in {room}, alone so far"),
            _ => format!("you are in {room}, {total} members"),
        };
        self.tell_raw(conn, |out| line::encode_notice(out, &notice), now);
    }

    fn leave_current_room(&mut self, conn: ConnId, now: Now) {
        let Some(room) = self.current_room_name(conn, now) else {
            return;
        };
        let Some(key) = self.current_room(conn) else {
            return;
        };
        self.leave(conn, Ref::NONE, &room, now);
        self.forget_current_room(conn, key);
        let next = self.current_room(conn).map(|key| self.rooms.get(key).name.clone());
        let notice = match next {
            Some(next) => format!("you left {room}; your lines go to {next}"),
            None => format!("you left {room}; /join ROOM to enter another"),
        };
        self.tell_raw(conn, |out| line::encode_notice(out, &notice), now);
    }

    /// The room was left: lines go to another one, if there is one.
    pub(super) fn forget_current_room(&mut self, conn: ConnId, room: RoomKey) {
        if let Some(session) = self.sessions.get_mut(conn) {
            let other = session.memberships().next().map(|membership| membership.room);
            if let Some(extra) = session.extra.as_mut()
                && extra.current_room == Some(room)
            {
                extra.current_room = other;
            }
        }
    }

    fn current_room(&self, conn: ConnId) -> Option<RoomKey> {
        self.sessions.get(conn)?.extra.as_ref()?.current_room
    }

    /// The name of the room that lines go to; tells the client if there is none.
    fn current_room_name(&mut self, conn: ConnId, now: Now) -> Option<Name> {
        let name = self.current_room(conn).map(|key| self.rooms.get(key).name.clone());
        if name.is_none() {
            let text = "you are in no room; /join ROOM to enter one";
            self.refuse(conn, Ref::NONE, Code::NotFound, text, now);
        }
        name
    }

    /// Gives a client that has a name another one.
    fn rename(&mut self, conn: ConnId, nick: &str, now: Now) {
        if let Err(error) = name::check(nick) {
            return self.refuse_user_name(conn, error, now);
        }
        if (0..self.shards).any(|shard| self.is_overloaded(ShardId(shard))) {
            return self.refuse(conn, Ref::NONE, Code::Unavailable, "overloaded", now);
        }
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let to = Name::new(nick);
        if !self.limits_sessions() || session.user.as_ref() == Some(&to) {
            return self.go_by(conn, to, Welcomed::Here, now);
        }
        if session.extra.as_ref().is_some_and(|extra| extra.renaming) {
            let text = "another name is being asked for: wait for the answer";
            return self.refuse(conn, Ref::NONE, Code::TooMany, text, now);
        }
        self.ask_for_room(conn, to, Purpose::Rename, now);
    }

    /// Gives a client another name, which there is room for.
    pub(super) fn go_by(&mut self, conn: ConnId, to: Name, welcomed: Welcomed, now: Now) {
        let address = self.address(conn);
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let from = session.user.replace(to.clone()).expect("a live session has a user");
        let stays: Vec<(RoomKey, Stay)> =
            session.memberships().map(|m| (m.room, m.stay())).collect();
        if from == to {
            return;
        }
        for (key, stay) in stays {
            let room = self.rooms.get(key);
            let (home, room, member) = (room.home, room.name.clone(), address);
            let (from, to) = (from.clone(), to.clone());
            self.send(home, Mail::Rename { room, from, to, member, stay }, now);
        }
        self.leave_directs(conn, &from, now);
        self.forget_last_direct(conn);
        let old_home = self.home_of(self.hasher.hash(&from));
        let identity = SessionId::born_at(address);
        let (session, ending) = (address, Ending::Orderly);
        self.send(old_home, Mail::Offline { user: from, session, identity, ending }, now);
        let notice = format!("you are {to} now");
        if welcomed == Welcomed::Here {
            let new_home = self.home_of(self.hasher.hash(&to));
            let coming = Coming::New;
            self.send(new_home, Mail::Online { user: to, session, identity, coming }, now);
        }
        self.tell_raw(conn, |out| line::encode_notice(out, &notice), now);
    }

    fn refuse_user_name(&mut self, conn: ConnId, error: NameError, now: Now) {
        let text = format!("the user name {}", error.text());
        self.refuse(conn, Ref::NONE, code_of(error), &text, now);
    }
}
