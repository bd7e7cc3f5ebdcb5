//! The JSON dialect: the page's objects, their splits and mutilations, and an independent encoder.

use std::borrow::Cow;

use corebeat::base::ids::{Epoch, Ref, Seq};
use corebeat::wire::json::{Member, encode_event, encode_request, object};
use corebeat::wire::message::{Code, Event, Names, Request, WireError};
use serde_json::{Value, json};

use super::{EVERY, PAGE, events, requests};

/// An entry of the page: the words of its title, and its text.
type Entry = (Vec<&'static str>, &'static str);

/// The entries of the page's code block of that kind.
fn entries(block: &str) -> Vec<Entry> {
    let fence = format!("```{block}\n");
    let (_, rest) = PAGE.split_once(&fence).expect("the page has the block");
    let (block, _) = rest.split_once("```").expect("the block ends");
    let mut entries: Vec<Entry> = Vec::new();
    for line in block.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("    ") {
            Some(text) => entries.last_mut().expect("a title comes first").1 = text,
            None => entries.push((line.split_whitespace().collect(), "")),
        }
    }
    entries
}

fn name_of(entry: &Entry) -> &'static str {
    entry.0[1]
}

/// The events of the native vectors, except that JSON tells the room of a roster.
fn events_of_json() -> Vec<(&'static str, Event<'static>)> {
    let mut events = events();
    for (_, event) in &mut events {
        if let Event::Roster { room, .. } = event {
            *room = "lobby";
        }
    }
    events
}

/// What comes of a client's message, in a form that outlives it.
fn read_request(text: &[u8]) -> String {
    match object(text) {
        Err(error) => format!("{error:?}"),
        Ok(object) => match object.request() {
            Ok(Some(request)) => format!("{request:?}"),
            Ok(None) => "skipped".to_owned(),
            Err(error) => format!("{error:?}"),
        },
    }
}

fn written_request(request: &Request<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    encode_request(&mut out, request);
    assert_eq!(&out[..6], b"before");
    out.split_off(6)
}

fn written_event(event: &Event<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    encode_event(&mut out, event);
    assert_eq!(&out[..6], b"before");
    out.split_off(6)
}

#[test]
fn every_request_is_read_and_written_as_the_page_has_it() {
    let entries = entries("json-requests");
    let names: Vec<&str> = entries.iter().map(name_of).collect();
    assert_eq!(names, requests().iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for ((title, text), (_, request)) in entries.iter().zip(requests()) {
        assert_eq!(title[0], "client");
        let object = object(text.as_bytes()).unwrap();
        assert_eq!(object.request(), Ok(Some(request)), "{text}");
        assert_eq!(String::from_utf8(written_request(&request)).unwrap(), *text);
    }
}

#[test]
fn every_event_is_read_and_written_as_the_page_has_it() {
    let entries = entries("json-events");
    let events = events_of_json();
    let names: Vec<&str> = entries.iter().map(name_of).collect();
    assert_eq!(names, events.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for ((title, text), (_, event)) in entries.iter().zip(events) {
        assert_eq!(title[0], "server");
        let object = object(text.as_bytes()).unwrap();
        assert_eq!(object.event(), Ok(Some(event)), "{text}");
        assert_eq!(String::from_utf8(written_event(&event)).unwrap(), *text);
    }
}

#[test]
fn what_the_page_calls_the_same_is_the_same() {
    let requests = requests();
    for (title, text) in entries("json-taken") {
        let (_, mut meant) = *requests.iter().find(|(name, _)| *name == title[0]).unwrap();
        if let Request::Ping(heartbeat) = &mut meant {
            assert_eq!(heartbeat.node.0, 0);
        }
        assert_eq!(read_request(text.as_bytes()), format!("{meant:?}"), "{text}");
    }
}

#[test]
fn what_the_page_calls_broken_is_refused_for_its_reason_and_optional_is_skipped() {
    let broken = entries("json-broken");
    assert!(broken.len() > 40, "the page has the block");
    for (title, text) in broken {
        assert_eq!(read_request(text.as_bytes()), title[0], "{title:?} {text}");
    }
}

#[test]
fn every_reason_is_a_400_that_names_the_member() {
    for member in Member::ALL {
        let error = WireError::Member(*member);
        assert_eq!(error.code(), Code::Malformed);
        assert!(error.text().starts_with(&format!("\"{}\" must be ", member.name())));
    }
    for error in [WireError::Json, WireError::UnknownOp, WireError::Utf8] {
        assert_eq!(error.code(), Code::Malformed);
        assert!(!error.text().is_empty());
    }
}

/// Every member of every example, in turn taken out and replaced by what it must not be: the
/// outcome is the error that names it, or the member may be missing, and nothing else.
#[test]
fn every_member_of_every_example_is_checked() {
    let wrong = [json!([]), json!({}), json!(-1), json!(0.5), json!("\u{0}"), json!(u64::MAX)];
    for block in ["json-requests", "json-events"] {
        for (_, text) in entries(block) {
            let whole: Value = serde_json::from_str(text).unwrap();
            let members: Vec<String> = whole.as_object().unwrap().keys().cloned().collect();
            for name in members {
                let mut without = whole.clone();
                without.as_object_mut().unwrap().remove(&name);
                check_outcome(block, &without, &name);
                for value in &wrong {
                    let mut changed = whole.clone();
                    changed[&name] = value.clone();
                    check_outcome(block, &changed, &name);
                }
                let mut list = whole.clone();
                list[&name] = json!([1]);
                assert!(outcome(block, &list).is_err(), "{name} of {text} takes a list of numbers");
            }
        }
    }
}

fn outcome(block: &str, value: &Value) -> Result<(), WireError> {
    let text = value.to_string();
    let object = object(text.as_bytes())?;
    match block {
        "json-requests" => object.request().map(|_| ()),
        _ => object.event().map(|_| ()),
    }
}

fn check_outcome(block: &str, value: &Value, name: &str) {
    match outcome(block, value) {
        Ok(()) => {}
        // Of the two ways to say a body the usual one is asked for.
        Err(WireError::Member(Member::Body)) if name == "body_b64" => {}
        Err(WireError::Member(member)) => assert_eq!(member.name(), name, "{value}"),
        Err(WireError::UnknownOp) => assert_eq!(name, "op", "{value}"),
        Err(error) => panic!("{value}: {error:?}"),
    }
}

#[test]
fn no_proper_prefix_of_an_object_is_an_object() {
    for block in ["json-requests", "json-events"] {
        for (_, text) in entries(block) {
            for split in (0..text.len()).step_by(EVERY) {
                let error = object(&text.as_bytes()[..split]).unwrap_err();
                let inside_of_a_character = !text.is_char_boundary(split);
                let expected =
                    if inside_of_a_character { WireError::Utf8 } else { WireError::Json };
                assert_eq!(error, expected, "{split} bytes of {text}");
            }
        }
    }
}

#[test]
fn wrong_utf8_is_told_from_wrong_json() {
    assert_eq!(object(b"{\"op\":\"\xC3\x28\"}").unwrap_err(), WireError::Utf8);
    assert_eq!(object(b"\xFF").unwrap_err(), WireError::Utf8);
}

#[test]
fn what_is_nested_deeply_overflows_nothing() {
    let nested = |member: &str, end: &str| {
        let (open, close) = ("[".repeat(50_000), end.repeat(50_000));
        object(format!("{{\"op\":\"ping\",\"{member}\":{open}{close}}}").as_bytes()).map(|_| ())
    };
    assert_eq!(nested("unknown", "]"), Ok(()), "an unknown member is skipped, whatever it holds");
    assert_eq!(nested("unknown", "}"), Err(WireError::Json));
    assert_eq!(nested("unknown", ""), Err(WireError::Json));
    assert_eq!(nested("room", "]"), Err(WireError::Json), "no known member is nested");
}

#[test]
fn a_later_version_of_the_server_does_not_end_a_connection() {
    let later = br#"{"op":"presence","kind":"typing","room":"lobby","user":"bob","total":2}"#;
    assert_eq!(object(later).unwrap().event(), Ok(None), "a kind of presence without a name");
    let later = br#"{"op":"reaction","emoji":"x","optional":true}"#;
    assert_eq!(object(later).unwrap().event(), Ok(None));
    let later = br#"{"op":"error","ref":1,"code":599,"text":""}"#;
    let event = object(later).unwrap();
    assert!(matches!(event.event(), Ok(Some(Event::Error { code: Code::Unavailable, .. }))));
}

#[test]
fn a_string_without_escapes_is_borrowed_and_one_with_escapes_is_not() {
    let borrowed = |text: &str, found: &[u8]| {
        let (start, end) = (text.as_ptr() as usize, text.as_ptr() as usize + text.len());
        (start..end).contains(&(found.as_ptr() as usize))
    };
    let body_of = |text: &str| match object(text.as_bytes()).unwrap().request() {
        Ok(Some(Request::Publish { body, .. })) => (borrowed(text, body), body.to_vec()),
        other => panic!("{other:?}"),
    };
    assert_eq!(body_of(r#"{"op":"publish","room":"a","body":"ü"}"#), (true, "ü".into()));
    assert_eq!(body_of(r#"{"op":"publish","room":"a","body":"\t"}"#), (false, "\t".into()));
}

#[test]
fn every_character_is_escaped_as_an_independent_encoder_does_it() {
    let mut all: String = (0..=0x2FF).filter_map(char::from_u32).collect();
    all.push_str("\u{2028}\u{2029}\u{FEFF}\u{FFFD}\u{1F600}\\\"/");
    for text in all.char_indices().map(|(at, _)| &all[at..]).chain([""]) {
        let event = Event::Error { reference: Ref(0), code: Code::NotFound, text };
        let value = serde_json::to_string(text).unwrap();
        let expected = format!("{{\"op\":\"error\",\"ref\":0,\"code\":404,\"text\":{value}}}");
        let written = written_event(&event);
        assert_eq!(String::from_utf8(written.clone()).unwrap(), expected);
        assert_eq!(object(&written).unwrap().event(), Ok(Some(event)));
    }
}

#[test]
fn every_body_survives_whether_it_is_text_or_not() {
    for length in 0..70 {
        for start in [0, 32, 96, 200] {
            let body: Vec<u8> = (0..length).map(|index| (start + index) as u8).collect();
            let event = Event::Message {
                epoch: Epoch(u32::MAX),
                seq: Seq(u64::MAX),
                time_ms: u64::MAX,
                room: "r\u{7F}\"",
                from: "é\u{0}",
                body: &body,
                replay: start == 32,
            };
            let written = written_event(&event);
            assert_eq!(object(&written).unwrap().event(), Ok(Some(event)));
            let value: Value = serde_json::from_slice(&written).unwrap();
            assert_eq!(value.get("body").is_some(), std::str::from_utf8(&body).is_ok());
            assert_eq!(value.get("body_b64").is_some(), std::str::from_utf8(&body).is_err());
        }
    }
}

#[test]
fn numbers_are_written_as_an_independent_encoder_does_it() {
    for id in (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit]).chain([u64::MAX]) {
        let text = String::from_utf8(written_request(&Request::Ack { id })).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"op": "ack", "id": id}));
    }
}

#[test]
fn a_roster_takes_as_many_names_as_the_contract_allows_and_no_more() {
    let roster = |count: usize, name: Cow<'_, str>| {
        let users = vec![name; count];
        json!({"op": "roster", "ref": 1, "room": "a", "total": count, "users": users}).to_string()
    };
    let taken = |text: &str| match object(text.as_bytes()).unwrap().event() {
        Ok(Some(Event::Roster { users, .. })) => Ok(users.count()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let refused = Err(WireError::Member(Member::Users));
    assert_eq!(taken(&roster(1_000, "ann".into())), Ok(1_000));
    assert_eq!(taken(&roster(1_001, "ann".into())), refused);
    assert_eq!(taken(&roster(2, "a".repeat(255).into())), Ok(2));
    assert_eq!(taken(&roster(2, "a".repeat(256).into())), refused);
    let mut encoded = Vec::new();
    Names::push(&mut encoded, "quo\"te");
    let users = Names::new(&encoded);
    let event = Event::Roster { reference: Ref(1), room: "a", total: 1, users };
    assert_eq!(object(&written_event(&event)).unwrap().event(), Ok(Some(event)));
}

#[test]
fn nothing_is_allocated_but_the_buffer_for_what_is_written() {
    let (_, event) = events_of_json().into_iter().find(|(name, _)| *name == "MESSAGE").unwrap();
    let mut out = Vec::with_capacity(4096);
    let address = out.as_ptr();
    for _ in 0..10 {
        encode_event(&mut out, &event);
    }
    assert_eq!(out.as_ptr(), address);
}
