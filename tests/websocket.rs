//! WebSocket frames against golden vectors, which are read out of `docs/protocol.md`, and against
//! an implementation that shares no line with the server's.

use std::io::{Cursor, Read, Write};

use corebeat::wire::websocket::deflate::Inflater;
use corebeat::wire::websocket::{
    Control, Inbound, Item, Kind, Opcode, Role, Rules, WebError, append_close, append_fragment,
    append_masked, append_message, append_ping, append_pong,
};
use tungstenite::protocol::frame::coding::{CloseCode, Control as Signal, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};
use tungstenite::protocol::{Role as Side, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Message};

const PAGE: &str = include_str!("../docs/protocol.md");
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const SERVER: Rules = Rules { role: Role::Server, max_message: 1 << 20, deflate: false };
const CLIENT: Rules = Rules { role: Role::Client, ..SERVER };

/// What a connection told, with whole messages.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// A caller of the decoder: bytes that it left are offered again with those that come next.
struct Reader {
    rules: Rules,
    inbound: Inbound,
    held: Vec<u8>,
    payload: Vec<u8>,
    under_way: Option<Kind>,
    told: Vec<Told>,
}

impl Reader {
    fn new(rules: Rules) -> Reader {
        let (inbound, held, payload, told) = Default::default();
        Reader { rules, inbound, held, payload, under_way: None, told }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), WebError> {
        self.held.extend_from_slice(bytes);
        let mut held = std::mem::take(&mut self.held);
        let mut used = 0;
        while let Some((item, taken)) =
            self.inbound.next(&held[used..], &mut self.payload, &self.rules)?
        {
            assert!(taken > 0 && used + taken <= held.len());
            used += taken;
            self.take(item)?;
        }
        held.drain(..used);
        assert!(held.len() < 140, "{} bytes were left", held.len());
        self.held = held;
        Ok(())
    }

    fn take(&mut self, item: Item) -> Result<(), WebError> {
        let bytes = |control: Control| control.as_bytes().to_vec();
        self.told.push(match item {
            Item::Ping(payload) => Told::Ping(bytes(payload)),
            Item::Pong(payload) => Told::Pong(bytes(payload)),
            Item::Close { code, reason } => Told::Close(code, reason.as_str().unwrap().to_owned()),
            Item::Data { kind, first, last, compressed } => {
                assert_eq!(first, self.under_way.is_none());
                assert_eq!(*self.under_way.get_or_insert(kind), kind);
                assert_eq!(self.inbound.is_idle(), last);
                if !last {
                    return Ok(());
                }
                self.under_way = None;
                let mut payload = std::mem::take(&mut self.payload);
                if compressed {
                    let mut inflated = Vec::new();
                    let most = self.rules.max_message;
                    Inflater::default().inflate(&payload, &mut inflated, most)?;
                    payload = inflated;
                }
                assert!(kind == Kind::Binary || std::str::from_utf8(&payload).is_ok());
                Told::Message(kind, payload)
            }
        });
        Ok(())
    }

    fn is_between_messages(&self) -> bool {
        self.inbound.is_idle() && self.held.is_empty() && self.payload.is_empty()
    }
}

fn read<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    rules: Rules,
) -> Result<Vec<Told>, WebError> {
    let mut reader = Reader::new(rules);
    for piece in pieces {
        reader.feed(piece)?;
    }
    assert!(reader.is_between_messages());
    Ok(reader.told)
}

/// One entry of a block of vectors: its first line, and the bytes.
struct Vector {
    title: String,
    bytes: Vec<u8>,
}

impl Vector {
    fn word(&self, index: usize) -> &str {
        self.title.split_whitespace().nth(index).expect("a title has a name")
    }

    fn rules(&self) -> Rules {
        let side = if self.word(0) == "server" { CLIENT } else { SERVER };
        Rules { deflate: self.word(1).starts_with("DEFLATE"), ..side }
    }
}

fn vectors(block: &str) -> Vec<Vector> {
    let fence = format!("```{block}\n");
    let (_, rest) = PAGE.split_once(&fence).expect("the page has the block");
    let (block, _) = rest.split_once("```").expect("the block ends");
    let mut vectors: Vec<Vector> = Vec::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let Some(indented) = line.strip_prefix("    ") else {
            vectors.push(Vector { title: line.to_owned(), bytes: Vec::new() });
            continue;
        };
        let bytes = &mut vectors.last_mut().expect("a title comes first").bytes;
        let (written, zeros) = indented.split_once('…').unwrap_or((indented, "0"));
        bytes.extend(hex(written));
        bytes.resize(bytes.len() + zeros.trim().parse::<usize>().unwrap(), 0);
    }
    vectors
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .split_whitespace()
        .flat_map(str::chars)
        .map(|digit| digit.to_digit(16).expect("a hexadecimal digit") as u8)
        .collect();
    assert_eq!(digits.len() % 2, 0, "half a byte in {text:?}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// What the vector of that name means.
fn meaning(name: &str) -> Vec<Told> {
    let hello = || Told::Message(Kind::Text, b"Hello".to_vec());
    let zeros = |length| vec![Told::Message(Kind::Binary, vec![0; length])];
    match name {
        "PING" => vec![Told::Ping(b"Hello".to_vec())],
        "PONG" => vec![Told::Pong(b"Hello".to_vec())],
        "PING-BETWEEN" => vec![Told::Ping(b"!".to_vec()), hello()],
        "EMPTY" => zeros(0),
        "CLOSE" => vec![Told::Close(None, String::new())],
        "CLOSE-1000" => vec![Told::Close(Some(1000), String::new())],
        "CLOSE-1001" => vec![Told::Close(Some(1001), "küche".to_owned())],
        "DEFLATE-EMPTY" => vec![Told::Message(Kind::Text, Vec::new())],
        _ if name.contains("HELLO") || name.starts_with("DEFLATE") => vec![hello()],
        _ => zeros(name.strip_prefix("BINARY-").expect(name).parse().unwrap()),
    }
}

/// What the server's code writes for a vector that is not compressed.
fn written(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let close = |out: &mut Vec<u8>, payload| append_masked(out, Opcode::Close, MASK, payload);
    match name {
        "HELLO" => append_message(&mut out, Kind::Text, |out| out.extend_from_slice(b"Hello")),
        "HELLO-MASKED" => append_masked(&mut out, Opcode::Text, MASK, b"Hello"),
        "HELLO-HALVES" => {
            append_fragment(&mut out, Kind::Text, true, false, 3);
            out.extend_from_slice(b"Hel");
            append_fragment(&mut out, Kind::Text, false, true, 2);
            out.extend_from_slice(b"lo");
        }
        "PING" => append_ping(&mut out, b"Hello"),
        "PONG" => append_masked(&mut out, Opcode::Pong, MASK, b"Hello"),
        "EMPTY" => append_masked(&mut out, Opcode::Binary, MASK, b""),
        "CLOSE" => close(&mut out, b""),
        "CLOSE-1000" => close(&mut out, &1000_u16.to_be_bytes()),
        "CLOSE-1001" => append_close(&mut out, Some(1001), "küche"),
        _ => {
            let length: usize = name.strip_prefix("BINARY-").expect(name).parse().unwrap();
            append_message(&mut out, Kind::Binary, |out| out.resize(out.len() + length, 0));
        }
    }
    out
}

#[test]
fn every_vector_is_read_as_the_page_has_it_whole_and_byte_by_byte() {
    let vectors = vectors("websocket");
    assert!(vectors.len() > 20, "the page has the block");
    for vector in vectors {
        let (title, name) = (&vector.title, vector.word(1));
        let expected = Ok(meaning(name));
        assert_eq!(read([&vector.bytes[..]], vector.rules()), expected, "{title}");
        assert_eq!(read(vector.bytes.chunks(1), vector.rules()), expected, "{title}");
    }
}

#[test]
fn every_vector_is_read_at_every_split() {
    for vector in vectors("websocket") {
        let expected = Ok(meaning(vector.word(1)));
        let bytes = &vector.bytes;
        for split in (0..=bytes.len()).filter(|at| *at < 300 || at % 4_099 == 0) {
            let (head, tail) = bytes.split_at(split);
            assert_eq!(read([head, tail], vector.rules()), expected, "{} {split}", vector.title);
        }
    }
}

#[test]
fn every_vector_without_compression_is_written_as_the_page_has_it() {
    let plain = |vector: &Vector| {
        !vector.word(1).starts_with("DEFLATE") && vector.word(1) != "PING-BETWEEN"
    };
    let mut seen = 0;
    for vector in vectors("websocket").into_iter().filter(plain) {
        assert!(written(vector.word(1)) == vector.bytes, "{}", vector.title);
        seen += 1;
    }
    assert!(seen >= 14);
}

#[test]
fn what_the_page_calls_broken_is_refused_at_its_last_byte_and_not_before() {
    let broken = vectors("websocket-broken");
    assert!(broken.len() >= 20, "the page has the block");
    for Vector { title, bytes } in broken {
        let (last, before) = bytes.split_last().unwrap();
        for chunk in [1, bytes.len()] {
            let mut reader = Reader::new(SERVER);
            assert!(before.chunks(chunk).all(|piece| reader.feed(piece).is_ok()), "{title}");
            let error = reader.feed(&[*last]).expect_err(&title);
            assert_eq!(format!("{error:?}"), title.split_whitespace().next().unwrap());
        }
        assert!(Reader::new(SERVER).feed(&bytes).is_err(), "{title}, whole");
    }
}

#[test]
fn a_server_must_not_mask_and_a_client_must() {
    for vector in vectors("websocket") {
        let other = if vector.word(0) == "server" { SERVER } else { CLIENT };
        let rules = Rules { role: other.role, ..vector.rules() };
        let error = if other == SERVER { WebError::NotMasked } else { WebError::Masked };
        assert_eq!(Reader::new(rules).feed(&vector.bytes[..2]), Err(error), "{}", vector.title);
    }
}

#[test]
fn every_first_byte_is_judged_by_its_bits_alone() {
    for deflate in [false, true] {
        for first in 0..=255_u8 {
            let outcome = Reader::new(Rules { deflate, ..SERVER }).feed(&[first]);
            let (fin, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0F);
            let may_be_compressed = deflate && matches!(opcode, 1 | 2);
            let expected = match opcode {
                3..=7 | 11..=15 => Err(WebError::ReservedOpcode),
                _ if reserved & 0x30 != 0 => Err(WebError::ReservedBit),
                _ if reserved != 0 && !may_be_compressed => Err(WebError::ReservedBit),
                0 => Err(WebError::NothingToContinue),
                8.. if !fin => Err(WebError::ControlFragmented),
                _ => Ok(()),
            };
            assert_eq!(outcome, expected, "{first:02X}, deflate {deflate}");
        }
    }
}

#[test]
fn a_continuation_or_a_control_frame_is_never_marked_as_compressed() {
    let rules = Rules { deflate: true, ..SERVER };
    for first in [0xC0, 0x40, 0xC8, 0xC9, 0xCA] {
        let mut reader = Reader::new(rules);
        reader.feed(&hex("41 80 00000000")).unwrap();
        assert_eq!(reader.feed(&[first]), Err(WebError::ReservedBit), "{first:02X}");
    }
}

#[test]
fn every_length_in_a_longer_form_than_it_needs_is_refused() {
    for (header, least) in [("82 FE", 126_u64), ("82 FF", 65_536)] {
        let width = if least == 126 { 2 } else { 8 };
        for length in [0, 1, least - 1, least, least + 1] {
            let mut bytes = hex(header);
            bytes.extend_from_slice(&length.to_be_bytes()[8 - width..]);
            let outcome = Reader::new(SERVER).feed(&bytes);
            let expected = if length < least { Err(WebError::Length) } else { Ok(()) };
            assert_eq!(outcome, expected, "{header} {length}");
        }
    }
}

#[test]
fn every_close_code_is_judged() {
    for code in 0..=u16::MAX {
        let mut bytes = Vec::new();
        append_masked(&mut bytes, Opcode::Close, MASK, &code.to_be_bytes());
        let expected = match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => {
                Ok(vec![Told::Close(Some(code), String::new())])
            }
            _ => Err(WebError::CloseCode),
        };
        let mut reader = Reader::new(SERVER);
        let outcome = reader.feed(&bytes).map(|()| reader.told);
        assert_eq!(outcome, expected, "{code}");
    }
}

#[test]
fn a_message_may_be_as_large_as_the_limit_over_all_its_fragments() {
    let rules = Rules { max_message: 10, ..CLIENT };
    for fragments in [&[10][..], &[0, 10], &[4, 6], &[4, 6, 0], &[1; 10]] {
        for more in [0, 1] {
            let mut bytes = Vec::new();
            for (index, &length) in fragments.iter().enumerate() {
                let last = index + 1 == fragments.len();
                let length = if last { length + more } else { length };
                append_fragment(&mut bytes, Kind::Binary, index == 0, last, length);
                bytes.resize(bytes.len() + length as usize, 0);
            }
            // A message that is too large is told by the header alone.
            let told = Reader::new(rules).feed(&bytes);
            let expected = if more == 0 { Ok(()) } else { Err(WebError::TooLarge) };
            assert_eq!(told, expected, "{fragments:?} and {more} more");
        }
    }
    let mut reader = Reader::new(rules);
    assert_eq!(reader.feed(&hex("82 7F 000000FFFFFFFFFF")), Err(WebError::TooLarge));
}

#[test]
fn a_compressed_message_has_room_for_what_does_not_compress() {
    let rules = Rules { max_message: 1_000, deflate: true, ..CLIENT };
    for (length, expected) in [(1_067, Ok(())), (1_068, Err(WebError::TooLarge))] {
        let header = [&[0xC2, 126][..], &(length as u16).to_be_bytes()].concat();
        assert_eq!(Reader::new(rules).feed(&header), expected);
    }
}

/// A server's messages and a client's, written and read by tungstenite.
mod oracle {
    use super::*;

    /// A stream that a [`WebSocketContext`] reads to its end and that swallows its answers.
    struct Recorded(Cursor<Vec<u8>>);

    impl Read for Recorded {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Recorded {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What tungstenite reads until the stream ends, breaks, or is closed.
    pub(super) fn read(bytes: &[u8], side: Side) -> Vec<Told> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(SERVER.max_message))
            .max_frame_size(Some(SERVER.max_message));
        let mut context = WebSocketContext::new(side, Some(config));
        let mut stream = Recorded(Cursor::new(bytes.to_vec()));
        let mut told = Vec::new();
        while let Ok(message) = context.read(&mut stream) {
            told.push(match message {
                Message::Text(text) => Told::Message(Kind::Text, text.as_bytes().to_vec()),
                Message::Binary(bytes) => Told::Message(Kind::Binary, bytes.to_vec()),
                Message::Ping(bytes) => Told::Ping(bytes.to_vec()),
                Message::Pong(bytes) => Told::Pong(bytes.to_vec()),
                Message::Close(None) => Told::Close(None, String::new()),
                Message::Close(Some(frame)) => {
                    Told::Close(Some(frame.code.into()), frame.reason.as_str().to_owned())
                }
                Message::Frame(_) => unreachable!("only whole messages are read"),
            });
            if matches!(told.last(), Some(Told::Close(..))) {
                break;
            }
        }
        told
    }

    /// A frame as tungstenite writes it.
    pub(super) fn append(out: &mut Vec<u8>, opcode: OpCode, fin: bool, payload: &[u8], mask: bool) {
        let mask = mask.then(|| std::array::from_fn(|_| fastrand::u8(..)));
        let header = FrameHeader { is_final: fin, opcode, mask, ..FrameHeader::default() };
        let frame = Frame::from_payload(header, Bytes::copy_from_slice(payload));
        frame.format(out).unwrap();
    }
}

/// A random conversation: what it says, and its bytes as tungstenite writes them.
fn conversation(random: &mut fastrand::Rng, masked: bool) -> (Vec<Told>, Vec<u8>) {
    let (mut said, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..random.usize(1..6) {
        let kind = if random.bool() { Kind::Text } else { Kind::Binary };
        let length = *random.choice(&[0, 1, 5, 125, 126, 300, 5_000, 65_535, 65_536]).unwrap();
        let payload: Vec<u8> = match kind {
            Kind::Binary => (0..length).map(|_| random.u8(..)).collect(),
            Kind::Text => (0..length / 2).map(|_| random.char(..)).collect::<String>().into_bytes(),
        };
        let fragments = random.usize(1..5);
        let mut rest = &payload[..];
        for index in 0..fragments {
            let last = index + 1 == fragments;
            let length = if last { rest.len() } else { random.usize(0..=rest.len()) };
            let (piece, behind) = rest.split_at(length);
            rest = behind;
            let opcode = match (index, kind) {
                (0, Kind::Text) => Data::Text,
                (0, Kind::Binary) => Data::Binary,
                _ => Data::Continue,
            };
            oracle::append(&mut bytes, OpCode::Data(opcode), last, piece, masked);
            if !last && random.bool() {
                let payload: Vec<u8> = (0..random.usize(..=125)).map(|_| random.u8(..)).collect();
                let ping = random.bool();
                let opcode = if ping { Signal::Ping } else { Signal::Pong };
                oracle::append(&mut bytes, OpCode::Control(opcode), true, &payload, masked);
                said.push(if ping { Told::Ping(payload) } else { Told::Pong(payload) });
            }
        }
        said.push(Told::Message(kind, payload));
    }
    if random.bool() {
        let frame = CloseFrame { code: CloseCode::Away, reason: "tschüß".into() };
        Frame::close(Some(frame)).format(&mut Vec::new()).unwrap();
        let payload = [&1001_u16.to_be_bytes()[..], "tschüß".as_bytes()].concat();
        oracle::append(&mut bytes, OpCode::Control(Signal::Close), true, &payload, masked);
        said.push(Told::Close(Some(1001), "tschüß".to_owned()));
    }
    (said, bytes)
}

/// Random pieces of a stream, of very different lengths.
fn chopped<'a>(mut bytes: &'a [u8], random: &mut fastrand::Rng) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let most = *random.choice(&[1, 3, 20, 2_000, 100_000]).unwrap();
        let (piece, rest) = bytes.split_at(random.usize(1..=most).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

#[test]
fn what_tungstenite_writes_is_read_in_any_pieces() {
    let mut random = fastrand::Rng::with_seed(4);
    for round in 0..150 {
        let masked = random.bool();
        let (said, bytes) = conversation(&mut random, masked);
        let rules = if masked { SERVER } else { CLIENT };
        let told = read(chopped(&bytes, &mut random), rules).expect("good frames");
        assert!(told == said, "round {round}");
    }
}

#[test]
fn what_the_server_writes_is_read_by_tungstenite() {
    let mut random = fastrand::Rng::with_seed(5);
    for round in 0..150 {
        let (said, _) = conversation(&mut random, false);
        let (mut server, mut client) = (Vec::new(), Vec::new());
        for told in &said {
            let mask = std::array::from_fn(|_| random.u8(..));
            match told {
                Told::Message(kind, payload) => {
                    append_message(&mut server, *kind, |out| out.extend_from_slice(payload));
                    append_masked(&mut client, kind.opcode(), mask, payload);
                }
                Told::Ping(payload) => {
                    append_ping(&mut server, payload);
                    append_masked(&mut client, Opcode::Ping, mask, payload);
                }
                Told::Pong(payload) => {
                    append_pong(&mut server, payload);
                    append_masked(&mut client, Opcode::Pong, mask, payload);
                }
                Told::Close(code, reason) => {
                    append_close(&mut server, *code, reason);
                    let code = code.expect("a code").to_be_bytes();
                    let payload = [&code[..], reason.as_bytes()].concat();
                    append_masked(&mut client, Opcode::Close, mask, &payload);
                }
            }
        }
        assert!(oracle::read(&server, Side::Client) == said, "round {round}, from a server");
        assert!(oracle::read(&client, Side::Server) == said, "round {round}, from a client");
    }
}

#[test]
fn flipped_bits_are_judged_as_tungstenite_judges_them() {
    let mut random = fastrand::Rng::with_seed(6);
    let (mut refused, mut stricter) = (0, 0);
    for round in 0..3_000 {
        let (_, mut bytes) = conversation(&mut random, true);
        bytes.truncate(8_000);
        for _ in 0..random.usize(1..4) {
            // Headers stand at the beginning of frames: the first bytes are flipped most often.
            let most = *random.choice(&[2, 12, 300, bytes.len()]).unwrap();
            let at = random.usize(..most.min(bytes.len()));
            bytes[at] ^= 1 << random.u8(..8);
        }
        let mut reader = Reader::new(SERVER);
        let mut error = None;
        for piece in chopped(&bytes, &mut random) {
            error = reader.feed(piece).err();
            if error.is_some() || matches!(reader.told.last(), Some(Told::Close(..))) {
                break;
            }
        }
        let end = reader.told.iter().position(|told| matches!(told, Told::Close(..)));
        reader.told.truncate(end.map_or(usize::MAX, |end| end + 1));
        let theirs = oracle::read(&bytes, Side::Server);
        refused += usize::from(error.is_some());
        // It takes lengths in any form, and closes instead of failing for a bad code.
        if matches!(error, Some(WebError::Length | WebError::CloseCode)) {
            assert!(theirs.starts_with(&reader.told), "round {round}: {error:?}");
            stricter += 1;
        } else {
            assert_eq!(reader.told, theirs, "round {round}: {error:?}");
        }
    }
    assert!(refused > 1_000 && stricter < refused / 4, "{refused} refused, {stricter} stricter");
}
