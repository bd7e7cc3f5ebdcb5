//! Arbitrary bytes as WebSocket frames, as a handshake's extensions, as a compressed message and as
//! text in pieces: no panic, the same whatever the pieces, and what was understood is written and
//! understood again as the same.
#![no_main]

use corebeat::wire::websocket::deflate::{Deflater, Inflater, negotiate};
use corebeat::wire::websocket::{
    Control, Inbound, Item, Kind, Role, Rules, Utf8Stream, WebError, append_close, append_message,
    append_ping, append_pong,
};
use libfuzzer_sys::fuzz_target;

const MAX_MESSAGE: usize = 1 << 12;

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    check_frames(first, bytes);
    check_extensions(bytes);
    check_compressed(bytes);
    check_text(usize::from(first) + 1, bytes);
});

#[derive(Debug, PartialEq)]
enum Told {
    Message(Kind, bool, Vec<u8>),
    Ping(Control),
    Pong(Control),
    Close(Option<u16>, Control),
}

fn check_frames(first: u8, bytes: &[u8]) {
    let role = if first & 1 == 0 { Role::Server } else { Role::Client };
    let rules = Rules { role, max_message: MAX_MESSAGE, deflate: first & 2 != 0 };
    let (told, error) = read(bytes, bytes.len().max(1), &rules);
    for length in [1, 2, 7, usize::from(first) + 1] {
        let (again, same) = read(bytes, length, &rules);
        assert_eq!((&again, same), (&told, error), "in pieces of {length}");
    }
    let mut out = Vec::new();
    told.iter().for_each(|told| write(told, &mut out));
    let plain = Rules { role: Role::Client, deflate: false, ..rules };
    let largest = Rules { max_message: 2 * MAX_MESSAGE, ..plain };
    let (again, error) = read(&out, out.len().max(1), &largest);
    assert_eq!(error, None);
    for (one, other) in told.iter().zip(&again) {
        match (one, other) {
            (Told::Message(_, true, one), Told::Message(_, _, other)) => assert_eq!(one, other),
            _ => assert_eq!(one, other),
        }
    }
    assert_eq!(told.len(), again.len());
}

/// The whole messages and control frames that come in pieces of that length, and how it ends.
fn read(bytes: &[u8], length: usize, rules: &Rules) -> (Vec<Told>, Option<WebError>) {
    let (mut inbound, mut held, mut payload) = (Inbound::default(), Vec::new(), Vec::new());
    let mut told = Vec::new();
    for piece in bytes.chunks(length) {
        held.extend_from_slice(piece);
        loop {
            let (item, used) = match inbound.next(&held, &mut payload, rules) {
                Ok(None) => break,
                Ok(Some(taken)) => taken,
                Err(error) => return (told, Some(error)),
            };
            assert!(used > 0);
            held.drain(..used);
            told.push(match item {
                Item::Data { last: false, .. } => continue,
                Item::Data { kind, compressed, .. } => {
                    assert!(inbound.is_idle());
                    let text = kind == Kind::Text && !compressed;
                    assert!(!text || std::str::from_utf8(&payload).is_ok());
                    Told::Message(kind, compressed, std::mem::take(&mut payload))
                }
                Item::Ping(payload) => Told::Ping(payload),
                Item::Pong(payload) => Told::Pong(payload),
                Item::Close { code, reason } => {
                    assert!(reason.as_str().is_some());
                    told.push(Told::Close(code, reason));
                    return (told, None);
                }
            });
        }
        assert!(held.len() < 140);
    }
    (told, None)
}

fn write(told: &Told, out: &mut Vec<u8>) {
    match told {
        // What is compressed is not UTF-8.
        Told::Message(kind, compressed, payload) => {
            let kind = if *compressed { Kind::Binary } else { *kind };
            append_message(out, kind, |out| out.extend_from_slice(payload));
        }
        Told::Ping(payload) => append_ping(out, payload.as_bytes()),
        Told::Pong(payload) => append_pong(out, payload.as_bytes()),
        Told::Close(code, reason) => append_close(out, *code, reason.as_str().expect("UTF-8")),
    }
}

fn check_extensions(bytes: &[u8]) {
    let Ok(Some(parameters)) = negotiate([bytes]) else { return };
    let mut answer = Vec::new();
    parameters.append_answer(&mut answer);
    assert_eq!(negotiate([&answer[..]]), Ok(Some(parameters)));
}

fn check_compressed(bytes: &[u8]) {
    let mut read = Vec::new();
    let _ = Inflater::default().inflate(bytes, &mut read, MAX_MESSAGE);
    let (mut compressed, mut read) = (Vec::new(), Vec::new());
    Deflater::default().deflate(bytes, &mut compressed);
    assert_eq!(Inflater::default().inflate(&compressed, &mut read, bytes.len()), Ok(()));
    assert_eq!(read, bytes);
}

/// Each piece is taken or refused as the standard library says of all bytes up to its end.
fn check_text(length: usize, bytes: &[u8]) {
    let mut stream = Utf8Stream::default();
    let mut end = 0;
    for piece in bytes.chunks(length) {
        end += piece.len();
        let expected = std::str::from_utf8(&bytes[..end]);
        let goes_on = expected.map_or_else(|error| error.error_len().is_none(), |_| true);
        assert_eq!(stream.push(piece).is_ok(), goes_on);
        if !goes_on {
            return;
        }
        assert_eq!(stream.is_complete(), expected.is_ok());
    }
}
