//! Messages in JSON, read without a parser where they are written as the contract's examples are.
//!
//! Owns one form of one event: a room's message with its members in the usual order and nothing
//! escaped. It is what a load hears most, and reading it must not cost more than the server spends
//! on it. Everything else is left to the [codec](crate::wire::json). Pure.

/// The number and the body of a message, or nothing where the text is any other.
pub fn message(text: &str) -> Option<(u64, &[u8])> {
    let rest = text.strip_prefix("{\"op\":\"message\",\"room\":\"")?;
    // Control characters are not looked for: names have none, and a body that was written without
    // them is found out by its checksum.
    if rest.contains('\\') {
        return None;
    }
    let (_, rest) = rest.split_once('"')?;
    let (_, rest) = rest.strip_prefix(",\"from\":\"")?.split_once('"')?;
    let (_, rest) = number(rest.strip_prefix(",\"epoch\":")?)?;
    let (seq, rest) = number(rest.strip_prefix(",\"seq\":")?)?;
    let (_, rest) = number(rest.strip_prefix(",\"time_ms\":")?)?;
    let (body, rest) = rest.strip_prefix(",\"body\":\"")?.split_once('"')?;
    (rest == "}").then_some((seq, body.as_bytes()))
}

/// The number at the head of a text, written as JSON has it, and what is behind it.
fn number(text: &str) -> Option<(u64, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(length);
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{Epoch, Seq};
    use crate::wire::json;
    use crate::wire::message::Event;

    fn written(room: &str, seq: u64, body: &[u8], replay: bool) -> String {
        let (epoch, seq, from) = (Epoch(7), Seq(seq), "ann");
        let event = Event::Message { epoch, seq, time_ms: 0, room, from, body, replay };
        let mut out = Vec::new();
        json::encode_event(&mut out, &event);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_read_is_what_the_codec_reads() {
        for (seq, body) in [(0, "hi"), (1, ""), (u64::MAX, "cb00,}{'\u{1F600}"), (42, "a: b")] {
            let text = written("küche", seq, body.as_bytes(), false);
            assert_eq!(message(&text), Some((seq, body.as_bytes())));
            let object = json::object(text.as_bytes()).unwrap();
            let Ok(Some(Event::Message { seq: read, body: said, .. })) = object.event() else {
                panic!("{text}")
            };
            assert_eq!((read.0, said), (seq, body.as_bytes()));
        }
    }

    #[test]
    fn everything_else_is_left_to_the_codec() {
        let usual = written("den", 5, b"hi", false);
        assert!(message(&usual).is_some());
        for other in [
            written("den", 5, b"a\"b", false),
            written("den", 5, b"a\nb", false),
            written("d\\n", 5, b"a", false),
            written("den", 5, b"\xFF", false),
            written("den", 5, b"a", true),
            usual.replace("\"seq\":5", "\"seq\":05"),
            usual.replace("\"seq\":5", "\"seq\":"),
            usual.replace("\"seq\":5", "\"seq\":5.0"),
            usual.replace("\"seq\":5", "\"seq\":99999999999999999999"),
            usual.replace("\"room\"", "\"from\""),
            usual.replace(",\"time_ms\"", ", \"time_ms\""),
            format!("{usual} "),
            usual[..usual.len() - 1].to_owned(),
        ] {
            assert_eq!(message(&other), None, "{other}");
        }
    }
}
