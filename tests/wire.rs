//! The dialects against golden vectors, which are read out of `docs/protocol.md`, so that the page
//! and the server cannot drift apart. The vectors were computed without the server's code. Here is
//! the native dialect; JSON and HTTP have files of their own.

use corebeat::base::ids::{Epoch, NodeId, Ref, Seq};
use corebeat::base::limits::{FRAME_CRC, FRAME_HEADER};
use corebeat::wire::message::{
    Code, Event, Heartbeat, Hello, Names, OkFlags, PresenceKind, Request, Welcome, WireError,
};
use corebeat::wire::native::{self, Flags, Frame, kind};

#[path = "wire/http.rs"]
mod http;
#[path = "wire/json.rs"]
mod json;

const PAGE: &str = include_str!("../docs/protocol.md");
const MAX_FRAME: usize = 64 << 10;
/// Of so many places in what is cut or flipped one is tried: all, but where each takes a thousand
/// times as long.
const EVERY: usize = if cfg!(miri) { 41 } else { 1 };
const TIME_MS: u64 = 1_790_000_000_000;

/// One entry of a block of vectors: its first line, the frame, and the frame with a checksum.
struct Vector {
    title: String,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Vector {
    fn word(&self, index: usize) -> &str {
        self.title.split_whitespace().nth(index).expect("a title has a name")
    }

    fn name(&self) -> &str {
        self.word(1)
    }
}

/// The entries of the page's code block of that kind.
fn vectors(block: &str) -> Vec<Vector> {
    let fence = format!("```{block}\n");
    let (_, rest) = PAGE.split_once(&fence).expect("the page has the block");
    let (block, _) = rest.split_once("```").expect("the block ends");
    let mut vectors: Vec<Vector> = Vec::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let Some(indented) = line.strip_prefix("    ") else {
            let title = line.to_owned();
            vectors.push(Vector { title, plain: Vec::new(), sealed: Vec::new() });
            continue;
        };
        let vector = vectors.last_mut().expect("a title comes first");
        if let Some(checksum) = indented.strip_prefix("crc ") {
            vector.sealed = vector.plain.clone();
            vector.sealed[3] |= 1;
            vector.sealed.extend(hex(checksum));
        } else {
            vector.plain.extend(hex(indented));
        }
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

fn heartbeat(node: u32, status: u8, seq: u32) -> Heartbeat {
    Heartbeat { node: NodeId(node), time_ms: TIME_MS, status, seq }
}

fn join(
    reference: u32,
    epoch: u32,
    since: u64,
    room: &'static str,
    notify: bool,
) -> Request<'static> {
    let (epoch, since) = (Epoch(epoch), Seq(since));
    Request::Join { reference: Ref(reference), epoch, since, room, notify }
}

fn publish(
    reference: u32,
    room: &'static str,
    body: &'static [u8],
    echo: bool,
) -> Request<'static> {
    Request::Publish { reference: Ref(reference), room, body, echo }
}

/// What the page's vectors from the client mean, in its order.
fn requests() -> Vec<(&'static str, Request<'static>)> {
    let guest = Hello { version: 1, ..Hello::default() };
    let ann = Hello { heartbeat_s: 30, user: "ann", token: "s3cret", ..guest };
    let again = Hello {
        heartbeat_s: 60,
        session: 0x0102_0304_0506_0708,
        resume_key: 0x0123_4567_89AB_CDEF,
        user: "ann",
        ..guest
    };
    let history = Request::History { reference: Ref(7), room: "lobby", since: Seq(40), limit: 50 };
    vec![
        ("HELLO", Request::Hello(ann)),
        ("HELLO-GUEST", Request::Hello(guest)),
        ("HELLO-RESUME", Request::Hello(again)),
        ("PING", Request::Ping(heartbeat(0, 0, 1))),
        ("PONG", Request::Pong(heartbeat(0, 1, u32::MAX))),
        ("BYE", Request::Bye { code: 0, reason: "done" }),
        ("ECHO", Request::Echo(b"\x00\xFFhi")),
        ("ECHO-EMPTY", Request::Echo(b"")),
        ("JOIN", join(1, 0, 0, "lobby", false)),
        ("JOIN-NOTIFY", join(2, 7, 41, "den", true)),
        ("LEAVE", Request::Leave { reference: Ref(3), room: "lobby" }),
        ("PUBLISH", publish(4, "lobby", b"hi", false)),
        ("PUBLISH-ECHO", publish(0, "küche", b"\x00\xFF\n", true)),
        ("PUBLISH-EMPTY", publish(5, "*", b"", false)),
        ("DIRECT", Request::Direct { reference: Ref(6), user: "bob", body: b"psst" }),
        ("ACK", Request::Ack { id: 17 }),
        ("HISTORY", history),
        ("WHO", Request::Who { reference: Ref(8), room: "lobby" }),
    ]
}

fn ok(reference: u32, flags: OkFlags, epoch: u32, seq: u64) -> Event<'static> {
    Event::Ok { reference: Ref(reference), flags, epoch: Epoch(epoch), seq: Seq(seq) }
}

fn error(reference: u32, code: Code, text: &'static str) -> Event<'static> {
    Event::Error { reference: Ref(reference), code, text }
}

fn message(seq: u64, time_ms: u64, room: &'static str, body: &'static [u8]) -> Event<'static> {
    let (epoch, seq, replay) = (Epoch(7), Seq(seq), seq == 1);
    Event::Message { epoch, seq, time_ms, room, from: "bob", body, replay }
}

fn direct(id: u64, body: &'static [u8], replay: bool) -> Event<'static> {
    Event::Direct { id, time_ms: TIME_MS, from: "bob", body, replay }
}

fn presence(
    kind: PresenceKind,
    total: u32,
    room: &'static str,
    user: &'static str,
) -> Event<'static> {
    Event::Presence { kind, total, room, user }
}

fn roster(reference: u32, total: u32, encoded: &'static [u8]) -> Event<'static> {
    Event::Roster { reference: Ref(reference), room: "", total, users: Names::new(encoded) }
}

fn go_away(reconnect_after_ms: u32, address: &'static str) -> Event<'static> {
    Event::GoAway { reconnect_after_ms, reason: "upgrade", address }
}

/// What the page's vectors from the server mean, in its order.
fn events() -> Vec<(&'static str, Event<'static>)> {
    let none = OkFlags::default();
    let welcome = Welcome {
        version: 1,
        node: NodeId(1),
        session: 0x0102_0304_0506_0708,
        resume_key: 0x0123_4567_89AB_CDEF,
        heartbeat_s: 30,
        timeout_s: 90,
        max_frame: 65_536,
        resumed: false,
        user: "ann",
    };
    let again =
        Welcome { heartbeat_s: 60, timeout_s: 180, resumed: true, user: "guest-7", ..welcome };
    vec![
        ("WELCOME", Event::Welcome(welcome)),
        ("WELCOME-RESUMED", Event::Welcome(again)),
        ("PING", Event::Ping(heartbeat(1, 0, 1))),
        ("PONG", Event::Pong(heartbeat(1, 2, 77))),
        ("BYE", Event::Bye { code: 503, reason: "draining" }),
        ("ECHO", Event::Echo(b"hi")),
        ("OK", ok(1, none, 7, 41)),
        ("OK-GAP", ok(2, OkFlags { gap: true, ..none }, 7, 41)),
        ("OK-QUEUED", ok(6, OkFlags { queued: true, ..none }, 0, 0)),
        ("OK-DUPLICATE", ok(4, OkFlags { duplicate: true, ..none }, 7, 42)),
        ("ERROR", error(6, Code::Forbidden, "not allowed")),
        ("ERROR-CLOSE", error(0, Code::Timeout, "silent for too long")),
        ("MESSAGE", message(42, TIME_MS, "lobby", b"hi")),
        ("MESSAGE-REPLAY", message(1, 1, "küche", b"")),
        ("DIRECT", direct(17, b"psst", false)),
        ("DIRECT-REPLAY", direct(18, b"\x00\xFF", true)),
        ("PRESENCE-JOINED", presence(PresenceKind::Joined, 2, "lobby", "bob")),
        ("PRESENCE-LEFT", presence(PresenceKind::Left, 1, "lobby", "bob")),
        ("PRESENCE-ONLINE", presence(PresenceKind::Online, 0, "", "bob")),
        ("PRESENCE-OFFLINE", presence(PresenceKind::Offline, 0, "", "bob")),
        ("PRESENCE-MANY", presence(PresenceKind::Many, 300, "lobby", "")),
        ("ROSTER", roster(8, 3, b"\x03ann\x03bob")),
        ("ROSTER-EMPTY", roster(9, 1, b"")),
        ("GOAWAY", go_away(500, "192.0.2.7:8080")),
        ("GOAWAY-SAME", go_away(2_000, "")),
        ("GAP", Event::Gap { epoch: Epoch(7), from: Seq(40), to: Seq(44), room: "lobby" }),
        ("TEMPO", Event::Tempo { heartbeat_s: 60, timeout_s: 180 }),
    ]
}

/// Each vector of a block with its meaning; page and list must have the same names.
fn paired<M>(block: &str, sender: &str, meanings: Vec<(&str, M)>) -> Vec<(Vector, M)> {
    let vectors = vectors(block);
    assert_eq!(
        vectors.iter().map(Vector::name).collect::<Vec<_>>(),
        meanings.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
    );
    for vector in &vectors {
        assert_eq!(vector.word(0), sender);
        assert!(!vector.sealed.is_empty(), "{} has no checksum", vector.title);
    }
    vectors.into_iter().zip(meanings).map(|(vector, (_, meaning))| (vector, meaning)).collect()
}

fn client_vectors() -> Vec<(Vector, Request<'static>)> {
    paired("requests", "client", requests())
}

fn server_vectors() -> Vec<(Vector, Event<'static>)> {
    paired("events", "server", events())
}

fn all_vectors() -> Vec<Vector> {
    let client = client_vectors().into_iter().map(|(vector, _)| vector);
    client.chain(server_vectors().into_iter().map(|(vector, _)| vector)).collect()
}

fn all_frames() -> Vec<Vec<u8>> {
    all_vectors().into_iter().flat_map(|vector| [vector.plain, vector.sealed]).collect()
}

/// The request as its frame with a checksum means it: a HELLO then asks for checksums.
fn asking_for_checksums(request: Request<'static>) -> Request<'static> {
    match request {
        Request::Hello(hello) => Request::Hello(Hello { crc: true, ..hello }),
        other => other,
    }
}

fn whole(bytes: &[u8]) -> Frame<'_> {
    let (frame, length) = native::frame(bytes, MAX_FRAME).expect("a good frame").expect("whole");
    assert_eq!(length, bytes.len());
    frame
}

/// The `rest` of a request, where its type has one.
fn rest_of_request<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    match *request {
        Request::Echo(body) | Request::Publish { body, .. } | Request::Direct { body, .. } => {
            Some(body)
        }
        _ => None,
    }
}

/// The `rest` of an event, where its type has one.
fn rest_of_event<'a>(event: &Event<'a>) -> Option<&'a [u8]> {
    match *event {
        Event::Echo(body) | Event::Message { body, .. } | Event::Direct { body, .. } => Some(body),
        _ => None,
    }
}

#[test]
fn every_request_is_read_and_written_as_the_page_has_it() {
    for (vector, request) in client_vectors() {
        let title = &vector.title;
        assert_eq!(native::request(&whole(&vector.plain)), Ok(Some(request)), "{title}");
        let mut out = Vec::new();
        native::encode_request(&mut out, &request, false);
        assert_eq!(out, vector.plain, "{title}");

        let sealed = asking_for_checksums(request);
        assert_eq!(native::request(&whole(&vector.sealed)), Ok(Some(sealed)), "{title}, crc");
        let mut out = Vec::new();
        native::encode_request(&mut out, &request, true);
        assert_eq!(out, vector.sealed, "{title}, crc");
    }
}

#[test]
fn every_event_is_read_and_written_as_the_page_has_it() {
    for (vector, event) in server_vectors() {
        let title = &vector.title;
        for (bytes, crc) in [(&vector.plain, false), (&vector.sealed, true)] {
            assert_eq!(native::event(&whole(bytes)), Ok(Some(event)), "{title}, crc {crc}");
            let mut out = Vec::new();
            native::encode_event(&mut out, &event, crc);
            assert_eq!(&out, bytes, "{title}, crc {crc}");
        }
    }
}

#[test]
fn the_page_has_every_type_of_the_contract() {
    let mut requests: Vec<u8> = client_vectors().iter().map(|(v, _)| v.plain[1]).collect();
    requests.dedup();
    assert_eq!(requests, (0x01..=0x05).chain(0x10..=0x16).collect::<Vec<u8>>());
    let mut events: Vec<u8> = server_vectors().iter().map(|(v, _)| v.plain[1]).collect();
    events.dedup();
    assert_eq!(events, (0x81..=0x81).chain(0x02..=0x05).chain(0x90..=0x98).collect::<Vec<u8>>());
}

#[test]
fn a_hello_that_asks_for_checksums_carries_one_itself() {
    let (vector, request) = client_vectors().swap_remove(0);
    let mut out = Vec::new();
    native::encode_request(&mut out, &asking_for_checksums(request), false);
    assert_eq!(out, vector.sealed);
}

#[test]
fn no_proper_prefix_of_a_frame_is_a_frame_or_an_error() {
    for bytes in all_frames() {
        for split in 0..bytes.len() {
            assert_eq!(native::frame(&bytes[..split], MAX_FRAME), Ok(None), "{bytes:X?} {split}");
        }
    }
}

/// The frames that come out when a stream arrives in these pieces.
fn fed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let (mut held, mut found) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        while let Some((_, length)) = native::frame(&held, MAX_FRAME).expect("good frames") {
            found.push(held.drain(..length).collect::<Vec<u8>>());
        }
    }
    assert!(held.is_empty());
    found
}

#[test]
fn a_run_of_frames_is_the_same_fed_whole_byte_by_byte_and_at_every_split() {
    let frames = all_frames();
    let run = frames.concat();
    assert_eq!(fed([&run[..]]), frames);
    assert_eq!(fed(run.chunks(1)), frames);
    for split in (0..=run.len()).step_by(EVERY) {
        assert_eq!(fed([&run[..split], &run[split..]]), frames, "split at {split}");
    }
}

#[test]
fn a_payload_cut_within_its_fields_is_truncated() {
    // The `rest` of a payload may be cut anywhere: it is then shorter.
    for (vector, request) in client_vectors() {
        let frame = whole(&vector.plain);
        let fixed = frame.payload.len() - rest_of_request(&request).map_or(0, <[u8]>::len);
        for length in 0..=frame.payload.len() {
            let cut = Frame { payload: &frame.payload[..length], ..frame };
            let outcome = native::request(&cut).map(|request| request.is_some());
            let expected = if length < fixed { Err(WireError::Truncated) } else { Ok(true) };
            assert_eq!(outcome, expected, "{} {length}", vector.title);
        }
    }
    for (vector, event) in server_vectors() {
        let frame = whole(&vector.plain);
        let fixed = frame.payload.len() - rest_of_event(&event).map_or(0, <[u8]>::len);
        for length in 0..=frame.payload.len() {
            let cut = Frame { payload: &frame.payload[..length], ..frame };
            let outcome = native::event(&cut).map(|event| event.is_some());
            let expected = if length < fixed { Err(WireError::Truncated) } else { Ok(true) };
            assert_eq!(outcome, expected, "{} {length}", vector.title);
        }
    }
}

#[test]
fn bytes_behind_the_last_field_are_ignored_and_rest_is_all_that_remains() {
    let longer = |bytes: &[u8]| [whole(bytes).payload, b"\xFFlater"].concat();
    for (vector, request) in client_vectors() {
        let payload = longer(&vector.plain);
        let frame = Frame { payload: &payload, ..whole(&vector.plain) };
        let found = native::request(&frame).unwrap().unwrap();
        match rest_of_request(&request) {
            Some(body) => {
                assert_eq!(rest_of_request(&found), Some(&[body, b"\xFFlater"].concat()[..]));
            }
            None => assert_eq!(found, request),
        }
    }
    for (vector, event) in server_vectors() {
        let payload = longer(&vector.plain);
        let frame = Frame { payload: &payload, ..whole(&vector.plain) };
        let found = native::event(&frame).unwrap().unwrap();
        match rest_of_event(&event) {
            Some(body) => {
                assert_eq!(rest_of_event(&found), Some(&[body, b"\xFFlater"].concat()[..]));
            }
            None => assert_eq!(found, event),
        }
    }
}

#[test]
fn what_the_page_calls_broken_is_refused_for_its_reason_and_optional_is_skipped() {
    let broken = vectors("broken");
    assert!(broken.len() >= 10, "the page has the block");
    for vector in broken {
        let outcome = match native::frame(&vector.plain, MAX_FRAME) {
            Ok(None) => panic!("{} asks for more bytes", vector.title),
            Ok(Some((frame, _))) => native::request(&frame),
            Err(error) => Err(error),
        };
        let outcome = match outcome {
            Ok(None) => "skipped".to_owned(),
            Ok(Some(request)) => panic!("{} is taken for {request:?}", vector.title),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(outcome, vector.word(0), "{}", vector.title);
    }
}

#[test]
fn what_only_a_client_sends_is_unknown_to_a_client() {
    let client_only = (kind::HELLO..=kind::HELLO).chain(kind::JOIN..=kind::WHO);
    for kind in client_only.chain([0x00, 0x7F, 0xFF]) {
        let frame = |flags| Frame { kind, flags, payload: b"" };
        assert_eq!(native::event(&frame(Flags::NONE)), Err(WireError::UnknownType));
        assert_eq!(native::event(&frame(Flags::OPTIONAL)), Ok(None));
    }
}

#[test]
fn what_a_later_version_may_send_does_not_end_a_connection() {
    let code_read_from = |number: u16| {
        let payload = [&[0, 0, 0, 6][..], &number.to_be_bytes(), &[0, 0]].concat();
        let frame = Frame { kind: kind::ERROR, flags: Flags::NONE, payload: &payload };
        match native::event(&frame) {
            Ok(Some(Event::Error { code, .. })) => code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code_read_from(418), Code::Malformed, "a code is read by its class");
    assert_eq!(code_read_from(599), Code::Unavailable);
    assert_eq!(code_read_from(0), Code::Unavailable);
    let payload = &hex("06 00000000 00 00");
    let presence = Frame { kind: kind::PRESENCE, flags: Flags::NONE, payload };
    assert_eq!(native::event(&presence), Ok(None), "a kind of presence without a name");
    let ping = Frame { kind: kind::PING, flags: Flags(0x7FF0), payload: &[0; 17] };
    assert_eq!(native::request(&ping), Ok(Some(Request::Ping(Heartbeat::default()))));
}

#[test]
fn every_code_survives_the_wire() {
    for code in [
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
    ] {
        let event = error(1, code, "");
        let mut out = Vec::new();
        native::encode_event(&mut out, &event, false);
        assert_eq!(native::event(&whole(&out)), Ok(Some(event)));
    }
}

#[test]
fn a_length_over_the_limit_is_told_at_the_eighth_byte_and_overflows_nothing() {
    for length in [MAX_FRAME as u32 + 1, 1 << 31, u32::MAX] {
        for flags in [0, 1] {
            let mut header = vec![native::MAGIC, kind::PUBLISH, 0, flags];
            header.extend(length.to_be_bytes());
            assert_eq!(native::frame(&header[..7], MAX_FRAME), Ok(None));
            assert_eq!(native::frame(&header, MAX_FRAME), Err(WireError::TooLong));
            assert_eq!(native::frame(&header, usize::MAX), Ok(None));
        }
    }
}

#[test]
fn a_payload_of_exactly_the_limit_is_taken() {
    let body = vec![b'x'; MAX_FRAME];
    let mut out = Vec::new();
    native::encode_request(&mut out, &Request::Echo(&body), true);
    assert_eq!(whole(&out).payload, body);
    assert_eq!(native::frame(&out, MAX_FRAME - 1), Err(WireError::TooLong));
}

#[test]
fn every_flipped_bit_but_the_flag_itself_is_noticed_by_the_checksum() {
    for Vector { title, sealed, .. } in all_vectors() {
        for bit in (0..sealed.len() * 8).step_by(EVERY) {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let outcome = native::frame(&flipped, MAX_FRAME);
            let as_expected = match (bit / 8, bit % 8) {
                (0, _) => outcome == Err(WireError::Magic),
                // The flag cannot protect itself: without it the checksum follows the frame.
                (3, 0) => {
                    matches!(outcome, Ok(Some((_, length))) if length == sealed.len() - FRAME_CRC)
                }
                // A greater length asks for bytes that are not there, or is over the limit.
                (4..FRAME_HEADER, _) => {
                    matches!(outcome, Ok(None) | Err(WireError::TooLong | WireError::Crc))
                }
                _ => outcome == Err(WireError::Crc),
            };
            assert!(as_expected, "{title}: bit {bit}: {outcome:?}");
        }
    }
}

#[test]
fn a_batch_given_checksums_is_what_encoding_with_checksums_gives() {
    let (mut plain, mut sealed) = (Vec::new(), b"before".to_vec());
    for (_, event) in server_vectors() {
        native::encode_event(&mut plain, &event, false);
        native::encode_event(&mut sealed, &event, true);
    }
    let mut out = b"before".to_vec();
    native::append_with_crc(&mut out, &plain);
    assert_eq!(out, sealed);
}

#[test]
#[should_panic(expected = "a run of whole frames")]
fn half_a_frame_is_not_given_a_checksum() {
    let (vector, _) = server_vectors().swap_remove(0);
    native::append_with_crc(&mut Vec::new(), &vector.plain[..vector.plain.len() - 1]);
}

#[test]
#[should_panic(expected = "a checksum already")]
fn a_frame_is_not_given_a_second_checksum() {
    let (vector, _) = server_vectors().swap_remove(0);
    native::append_with_crc(&mut Vec::new(), &vector.sealed);
}

#[test]
fn the_length_of_a_message_is_known_before_it_is_written() {
    let mut seen = 0;
    for (vector, event) in server_vectors() {
        let told = match event {
            Event::Message { room, from, body, .. } => {
                native::message_payload_len(room, from, body.len())
            }
            Event::Direct { from, body, .. } => native::direct_payload_len(from, body.len()),
            _ => continue,
        };
        assert_eq!(told, whole(&vector.plain).payload.len(), "{}", vector.title);
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn a_roster_of_more_names_than_the_contract_allows_is_refused() {
    let roster_of = |count: u16| {
        let mut payload = hex("00000008 00001000");
        payload.extend(count.to_be_bytes());
        (0..count).for_each(|_| Names::push(&mut payload, "a"));
        let frame = Frame { kind: kind::ROSTER, flags: Flags::NONE, payload: &payload };
        native::event(&frame).map(|event| event.is_some())
    };
    assert_eq!(roster_of(1_000), Ok(true));
    assert_eq!(roster_of(1_001), Err(WireError::TooLong));
}

#[test]
fn wrong_utf8_is_told_in_every_string_of_a_request() {
    for (kind, payload) in [
        (kind::HELLO, "01 0000 0000000000000000 0000000000000000 01 FF 0000"),
        (kind::HELLO, "01 0000 0000000000000000 0000000000000000 00 0001 FF"),
        (kind::BYE, "0000 0001 FF"),
        (kind::JOIN, "00000001 00000000 0000000000000000 01 FF"),
        (kind::LEAVE, "00000001 02 C080"),
        (kind::PUBLISH, "00000001 01 FF 6869"),
        (kind::DIRECT, "00000001 03 EDA080 6869"),
        (kind::HISTORY, "00000001 01 FF 0000000000000000 0000"),
        (kind::WHO, "00000001 01 C3"),
    ] {
        let frame = Frame { kind, flags: Flags::NONE, payload: &hex(payload) };
        assert_eq!(native::request(&frame), Err(WireError::Utf8), "type {kind:02X} {payload}");
    }
}

#[test]
fn wrong_utf8_is_told_in_every_string_of_an_event() {
    for (kind, payload) in [
        (
            kind::WELCOME,
            "01 00000001 0000000000000000 0000000000000000 001E 005A 00010000 00 01 FF",
        ),
        (kind::ERROR, "00000001 0190 0001 FF"),
        (kind::MESSAGE, "00000007 000000000000002A 0000000000000000 01 FF 01 61"),
        (kind::MESSAGE, "00000007 000000000000002A 0000000000000000 01 61 01 FF"),
        (kind::DIRECT_MESSAGE, "0000000000000011 0000000000000000 01 FF"),
        (kind::PRESENCE, "01 00000001 01 FF 00"),
        (kind::PRESENCE, "01 00000001 00 01 FF"),
        (kind::ROSTER, "00000001 00000001 0001 01 FF"),
        (kind::GOAWAY, "00000000 0001 FF 0000"),
        (kind::GOAWAY, "00000000 0000 0001 FF"),
        (kind::GAP, "00000007 0000000000000001 0000000000000001 01 FF"),
    ] {
        let frame = Frame { kind, flags: Flags::NONE, payload: &hex(payload) };
        assert_eq!(native::event(&frame), Err(WireError::Utf8), "type {kind:02X} {payload}");
    }
}
