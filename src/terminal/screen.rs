//! The chat on a whole terminal.
//!
//! Owns the loop between keyboard, signals, client and screen. Never decides what a key or an
//! event means: the [`Talk`] does. `corebeat chat` runs it.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::termios::isatty;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook_mio::v1_0::Signals;

use super::drawing::{Stage, draw};
use super::face::Face;
use super::keys::{Key, Keys};
use super::paint::Painter;
use super::talk::{Talk, Wish};
use super::tty::{Terminal, read_ready};
use crate::client::evented::Client;
use crate::client::{Event, JoinOptions, Refusal, RequestError, State, Ticket};

const CLIENT: Token = Token(0);
const KEYBOARD: Token = Token(1);
const SIGNALS: Token = Token(2);
/// While something on the screen counts seconds.
const TICK: Duration = Duration::from_secs(1);

/// Whether a person sits before standard input and output.
pub fn is_possible() -> bool {
    isatty(io::stdin()) && isatty(io::stdout())
}

/// Talks until the person leaves. The server's refusal, if that is what ended it.
///
/// # Errors
/// Those of the terminal and of the poll.
pub fn talk(mut client: Client, rooms: &[String]) -> io::Result<Option<Refusal>> {
    let mut poll = Poll::new()?;
    let mut signals = Signals::new([SIGWINCH, SIGTSTP, SIGCONT, SIGTERM, SIGINT, SIGHUP])?;
    poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
    let keyboard = io::stdin().as_raw_fd();
    poll.registry().register(&mut SourceFd(&keyboard), KEYBOARD, Interest::READABLE)?;
    let face = Face::here();
    let mut talk = Talk::new(client.user(), rooms, face.now_ms());
    let colourless = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut painter = Painter::new(colourless);
    let mut keys = Keys::default();
    let mut ready = Events::with_capacity(16);
    let terminal = Terminal::take()?;
    client.start(poll.registry(), CLIENT)?;
    loop {
        serve(&mut client, &mut talk);
        if talk.quits {
            break;
        }
        show(&mut talk, &client, &terminal, &mut painter, &face)?;
        let counting = matches!(talk.state, State::Waiting { .. }).then_some(TICK);
        let timeout = [client.timeout(), counting].into_iter().flatten().min();
        match poll.poll(&mut ready, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        talk.tell_time(face.now_ms());
        heed(&mut signals, &mut talk, &terminal, &mut painter)?;
        let mut buffer = [0; 4_096];
        while let Some(bytes) = read_ready(&mut buffer)? {
            if bytes.is_empty() {
                talk.quits = true;
                break;
            }
            for key in keys.feed(bytes) {
                if key == Key::Control('l') {
                    painter.forget();
                }
                talk.press(&key);
            }
        }
        if mem::take(&mut talk.suspends) {
            terminal.suspend()?;
            heed(&mut signals, &mut talk, &terminal, &mut painter)?;
        }
        client.turn();
    }
    client.close();
    drop(terminal);
    match talk.state {
        State::Closed { refusal } => Ok(refusal),
        _ => Ok(None),
    }
}

/// Does what signals ask for.
fn heed(
    signals: &mut Signals,
    talk: &mut Talk,
    terminal: &Terminal,
    painter: &mut Painter,
) -> io::Result<()> {
    for signal in signals.pending() {
        match signal {
            SIGWINCH => painter.forget(),
            SIGTSTP => talk.suspends = true,
            SIGCONT => {
                // Also where it was stopped without a chance to give the terminal back.
                terminal.take_again()?;
                painter.forget();
            }
            _ => talk.quits = true,
        }
    }
    Ok(())
}

/// Carries events to the talk and its wishes to the client, until neither has any.
fn serve(client: &mut Client, talk: &mut Talk) {
    loop {
        let mut idle = true;
        while let Some(event) = client.poll_event() {
            talk.hear(event);
            idle = false;
        }
        while let Some((wish, granting)) = talk.next_wish() {
            match grant(client, &wish) {
                Ok(Some(ticket)) => talk.granted(granting, ticket),
                Ok(None) => {}
                Err(error) => talk.refused(granting, error),
            }
            idle = false;
        }
        if idle {
            return;
        }
    }
}

/// Asks the client for what is wished.
fn grant(client: &mut Client, wish: &Wish) -> Result<Option<Ticket>, RequestError> {
    let ticket = match wish {
        Wish::Join(room) => client.join(room, JoinOptions::default())?,
        Wish::Leave(room) => client.leave(room)?,
        Wish::Publish(room, text) => client.publish(room, text.as_bytes())?,
        Wish::Direct(user, text) => client.direct(user, text.as_bytes())?,
        Wish::Who(room) => client.who(room)?,
        Wish::History(room, since, limit) => client.history(room, *since, *limit)?,
        Wish::Wake => {
            client.wake();
            return Ok(None);
        }
    };
    Ok(Some(ticket))
}

fn show(
    talk: &mut Talk,
    client: &Client,
    terminal: &Terminal,
    painter: &mut Painter,
    face: &Face,
) -> io::Result<()> {
    let (columns, rows) = terminal.size();
    let now_us = client.now_us();
    let shown = |time_ms: u64| face.show(time_ms);
    let stage = Stage { columns, rows, now_us, face: &shown };
    let (rows, cursor) = draw(talk, &stage);
    terminal.write(painter.paint(rows, cursor).as_bytes())
}

/// Whether an event ends the client.
pub(super) fn end_of(event: &Event) -> Option<Option<&Refusal>> {
    match event {
        Event::State(State::Closed { refusal }) => Some(refusal.as_ref()),
        _ => None,
    }
}
