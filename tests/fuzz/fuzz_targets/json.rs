//! Arbitrary bytes as an object of a client and of a server, and whatever an event may hold: no
//! panic, what was understood is written and understood again as the same, and what is written is
//! JSON to an independent reader.
#![no_main]

use corebeat::wire::message::{Event, WireError};
use corebeat::wire::{json, native};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check_text(bytes);
    if let [kind, payload @ ..] = bytes {
        check_event(*kind, payload);
    }
});

fn check_text(bytes: &[u8]) {
    let object = match json::object(bytes) {
        Ok(object) => object,
        Err(WireError::Utf8) => return assert!(std::str::from_utf8(bytes).is_err()),
        Err(error) => return assert_eq!(error, WireError::Json),
    };
    if let Ok(Some(request)) = object.request() {
        let mut out = Vec::new();
        json::encode_request(&mut out, &request);
        check_json(&out);
        let again = json::object(&out).expect("ours");
        assert_eq!(again.request(), Ok(Some(request)));
    }
    if let Ok(Some(event)) = object.event() {
        check_written(&event);
    }
}

/// Any event that a native frame can carry, written as an object.
fn check_event(kind: u8, payload: &[u8]) {
    let frame = native::Frame { kind, flags: native::Flags::NONE, payload };
    if let Ok(Some(event)) = native::event(&frame) {
        check_written(&event);
    }
}

fn check_written(event: &Event<'_>) {
    let mut out = Vec::new();
    json::encode_event(&mut out, event);
    check_json(&out);
    let again = json::object(&out).expect("ours");
    assert_eq!(again.event(), Ok(Some(*event)));
}

fn check_json(text: &[u8]) {
    let value: serde_json::Value = serde_json::from_slice(text).expect("JSON");
    assert!(value.is_object());
}
