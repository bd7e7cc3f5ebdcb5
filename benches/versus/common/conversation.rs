//! What a client may ask a twin for, and how it is refused.
//!
//! Owns the sense of every request and of every typed line, with the checks, the words and the
//! order in which corebeat makes them, so that a difference between the servers is never one of
//! meaning. Never keeps a session or a room: the twins do, behind [`Conversation`].
//!
//! Not served, and refused with the words that corebeat has for a server without it: the room `*`
//! (as with `--publish-everyone off`), direct messages, history.

use corebeat::base::ids::{Epoch, Ref, Seq, ShardId};
use corebeat::base::limits::Limits;
use corebeat::base::name::{self, EVERYONE, LOBBY, Name, NameError};
use corebeat::chat::refs::{Arrival, RefWindow};
use corebeat::wire::line::{self, Command};
use corebeat::wire::message::{Code, Event, Heartbeat, OkFlags, Request};
use corebeat::wire::native;

const NOT_AVAILABLE: &str = "not available";

/// One greeted connection, as a twin keeps it.
pub trait Conversation {
    /// The bounds.
    fn limits(&self) -> &Limits;
    /// The connection's user.
    fn user(&self) -> &Name;
    /// What it asked for lately.
    fn recent(&mut self) -> &mut RefWindow;
    /// The room to which a text client's lines go.
    fn current_room(&mut self) -> &mut Option<Name>;
    /// How many rooms it is in, or has asked to be in.
    fn room_count(&self) -> usize;
    /// Whether it is in `room`, or has asked to be.
    fn is_in(&self, room: &str) -> bool;
    /// Any room that it is in.
    fn any_room(&self) -> Option<Name>;

    /// Tells the client something.
    fn tell(&mut self, event: &Event<'_>);
    /// Tells the client something ahead of the data that waits for it.
    fn tell_urgently(&mut self, event: &Event<'_>);
    /// Tells a text client what is no event.
    fn tell_raw(&mut self, encode: impl FnOnce(&mut Vec<u8>));
    /// Ends the connection, which said goodbye, once it was told all that it was to be told.
    fn finish(&mut self);
    /// Ends the connection because of what it said, which it is told.
    fn fail(&mut self, code: Code, text: &str);

    /// Answers a PING.
    fn pong(&mut self, ping: &Heartbeat);
    /// Joins a room whose name is good. OK, or the notice of a text client, says when it is done.
    fn join(&mut self, reference: Ref, room: &str, notify: bool);
    /// Leaves a room that it is in.
    fn leave(&mut self, room: &str);
    /// Publishes what has passed all checks. OK tells of it where that is wanted.
    fn publish(&mut self, reference: Ref, room: &str, body: &[u8], echo: bool);
    /// Asks for a roster, or for 404 where there is no such room.
    fn who(&mut self, reference: Ref, room: &str);
}

/// A greeted client that is no text client asks for something.
pub fn request(client: &mut impl Conversation, request: &Request<'_>) {
    match *request {
        Request::Hello(_) => client.fail(Code::Malformed, "HELLO was said before"),
        Request::Ping(ping) => client.pong(&ping),
        Request::Pong(_) | Request::Ack { .. } => {}
        Request::Bye { .. } => client.finish(),
        Request::Echo(bytes) => client.tell(&Event::Echo(bytes)),
        Request::Join { reference, since, room, notify, .. } => {
            if since != Seq(0) {
                return refuse(client, reference, Code::Unavailable, NOT_AVAILABLE);
            }
            join(client, reference, room, notify);
        }
        Request::Leave { reference, room } => leave(client, reference, room),
        Request::Publish { reference, room, body, echo } => {
            publish(client, reference, room, body, echo);
        }
        Request::Who { reference, room } => who(client, reference, room),
        Request::Direct { reference, .. } | Request::History { reference, .. } => {
            refuse(client, reference, Code::Unavailable, NOT_AVAILABLE);
        }
    }
}

/// The name that the first line of a text client gives it, if it gives one.
///
/// # Errors
/// Why the name cannot be had; the client is told, and gets a name of the server's.
pub fn nick(first_line: &str) -> Result<Option<Name>, NameError> {
    match line::command(first_line) {
        Command::Nick(nick) => name::check(nick).map(|()| Some(Name::new(nick))),
        _ => Ok(None),
    }
}

/// What follows a text client's welcome: the lobby, and what its first line said besides a name.
pub fn first_line(client: &mut impl Conversation, text: &str) {
    enter(client, LOBBY);
    if !matches!(line::command(text), Command::Nick(_)) {
        command(client, text);
    }
}

/// A further line of a text client.
pub fn command(client: &mut impl Conversation, text: &str) {
    match line::command(text) {
        Command::Empty => {}
        Command::Say(text) => {
            if let Some(room) = current_room(client) {
                publish(client, Ref::NONE, &room, text.as_bytes(), false);
            }
        }
        Command::Join(room) => enter(client, room),
        Command::Leave => leave_current_room(client),
        Command::Who => {
            if let Some(room) = current_room(client) {
                who(client, Ref::NONE, &room);
            }
        }
        Command::Ping => client.tell_urgently(&Event::Pong(Heartbeat::default())),
        Command::Help => client.tell_raw(line::encode_help),
        Command::Quit => {
            client.tell(&Event::Bye { code: 0, reason: "" });
            client.finish();
        }
        Command::Nick(_) | Command::Msg { .. } | Command::History(_) => {
            refuse(client, Ref::NONE, Code::Unavailable, NOT_AVAILABLE);
        }
        Command::Usage(usage) => {
            refuse(client, Ref::NONE, Code::Malformed, &format!("usage: {usage}"));
        }
        Command::Unknown(command) => {
            let text = format!("{command} is no command; /help lists them");
            refuse(client, Ref::NONE, Code::Malformed, &text);
        }
    }
}

/// Says where a text client's lines go, once it is in.
pub fn announce_room(client: &mut impl Conversation, room: &str, total: u32) {
    let notice = match total {
        1 => format!("you are in {room}, alone so far"),
        _ => format!("you are in {room}, {total} members"),
    };
    client.tell_raw(|out| line::encode_notice(out, &notice));
}

/// Answers a request that is not done. The connection lives.
pub fn refuse(client: &mut impl Conversation, reference: Ref, code: Code, text: &str) {
    client.tell(&Event::Error { reference, code, text });
}

/// The refusal of a user's name.
pub fn refuse_name(client: &mut impl Conversation, error: NameError) {
    let text = format!("the user name {}", error.text());
    refuse(client, Ref::NONE, code_of(error), &text);
}

/// The code with which a name is refused.
pub fn code_of(error: NameError) -> Code {
    match error {
        NameError::Reserved => Code::Forbidden,
        NameError::Empty | NameError::TooLong | NameError::BadCharacter => Code::Malformed,
    }
}

/// The OK of a publish, to the request and to those of its repetitions that came before it.
pub fn published(client: &mut impl Conversation, reference: Ref, epoch: Epoch, seq: Seq) {
    if !reference.wants_answer() {
        return;
    }
    let repetitions = client.recent().complete(reference, epoch, seq);
    client.tell(&Event::Ok { reference, flags: OkFlags::default(), epoch, seq });
    let flags = OkFlags { duplicate: true, ..OkFlags::default() };
    for _ in 0..repetitions {
        client.tell(&Event::Ok { reference, flags, epoch, seq });
    }
}

/// The OK of a join.
pub fn joined(client: &mut impl Conversation, reference: Ref, epoch: Epoch, seq: Seq) {
    if reference.wants_answer() {
        client.tell(&Event::Ok { reference, flags: OkFlags::default(), epoch, seq });
    }
}

fn join(client: &mut impl Conversation, reference: Ref, room: &str, notify: bool) -> bool {
    if !room_is_valid(client, reference, room) {
        return false;
    }
    let full = client.room_count() >= client.limits().max_rooms_per_connection;
    if full && !client.is_in(room) {
        refuse(client, reference, Code::TooMany, "too many rooms: leave one first");
        return false;
    }
    client.join(reference, room, notify);
    true
}

fn leave(client: &mut impl Conversation, reference: Ref, room: &str) {
    if !client.is_in(room) {
        return refuse(client, reference, Code::NotFound, "not in that room");
    }
    client.leave(room);
    joined(client, reference, Epoch(0), Seq(0));
}

fn publish(client: &mut impl Conversation, reference: Ref, room: &str, body: &[u8], echo: bool) {
    if room == EVERYONE {
        return refuse(client, reference, Code::Forbidden, "publishing to * is not allowed");
    }
    if !room_is_valid(client, reference, room) {
        return;
    }
    let payload = native::message_payload_len(room, client.user(), body.len());
    if payload > client.limits().max_frame {
        let text = "the message would be longer than max_frame";
        return refuse(client, reference, Code::TooLarge, text);
    }
    if reference.wants_answer() && !is_new(client, reference) {
        return;
    }
    client.publish(reference, room, body, echo);
}

/// Whether `reference` was not seen lately; answers the repetition of one that was done.
fn is_new(client: &mut impl Conversation, reference: Ref) -> bool {
    match client.recent().arrive(reference, ShardId(0)) {
        Arrival::New => true,
        Arrival::Pending => false,
        Arrival::Done { epoch, seq } => {
            let flags = OkFlags { duplicate: true, ..OkFlags::default() };
            client.tell(&Event::Ok { reference, flags, epoch, seq });
            false
        }
    }
}

fn who(client: &mut impl Conversation, reference: Ref, room: &str) {
    if room_is_valid(client, reference, room) {
        client.who(reference, room);
    }
}

fn room_is_valid(client: &mut impl Conversation, reference: Ref, room: &str) -> bool {
    if room == EVERYONE {
        let text = "* is every connection: it can only be published to";
        refuse(client, reference, Code::Forbidden, text);
        return false;
    }
    if let Err(error) = name::check(room) {
        let text = format!("the room name {}", error.text());
        refuse(client, reference, code_of(error), &text);
        return false;
    }
    true
}

/// Joins a room and makes it the one that lines go to.
fn enter(client: &mut impl Conversation, room: &str) {
    if join(client, Ref::NONE, room, true) {
        *client.current_room() = Some(Name::new(room));
    }
}

fn leave_current_room(client: &mut impl Conversation) {
    let Some(room) = current_room(client) else {
        return;
    };
    client.leave(&room);
    let next = client.any_room();
    let notice = match &next {
        Some(next) => format!("you left {room}; your lines go to {next}"),
        None => format!("you left {room}; /join ROOM to enter another"),
    };
    *client.current_room() = next;
    client.tell_raw(|out| line::encode_notice(out, &notice));
}

/// The room that lines go to; tells the client if there is none.
fn current_room(client: &mut impl Conversation) -> Option<Name> {
    let room = client.current_room().clone();
    if room.is_none() {
        let text = "you are in no room; /join ROOM to enter one";
        refuse(client, Ref::NONE, Code::NotFound, text);
    }
    room
}
