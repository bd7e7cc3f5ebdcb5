//! Section 5: messages in fragments, and what may stand between them.

use super::case::{Act, Case, Cut, End, OCTETS, case, heard, run};
use crate::common::web::{CONTINUATION, FIN, Heard, PING, PONG, TEXT, frame};

const CUTS: [Cut; 3] = [Cut::Once, Cut::Frames, OCTETS];

fn first(payload: &[u8]) -> Vec<u8> {
    frame(TEXT, payload)
}

fn middle(payload: &[u8]) -> Vec<u8> {
    frame(CONTINUATION, payload)
}

fn last(payload: &[u8]) -> Vec<u8> {
    frame(FIN | CONTINUATION, payload)
}

fn ping(payload: &[u8]) -> Vec<u8> {
    frame(FIN | PING, payload)
}

fn pong(payload: &[u8]) -> Heard {
    Heard::Pong(payload.to_vec())
}

/// The frames fail the connection, whatever was heard before.
fn failed(id: &str, cut: Cut, frames: &[Vec<u8>], heard: Option<Heard>) -> Case {
    case(id, cut, frames, heard, End::Failed(1002))
}

/// The same frames in each cut, with numbers from `number` on.
fn in_every_cut(number: usize, frames: &[Vec<u8>], heard: &[Heard], end: End) -> Vec<Case> {
    let numbered = (number..).zip(CUTS);
    numbered.map(|(at, cut)| case(format!("5.{at}"), cut, frames, heard.to_vec(), end)).collect()
}

/// Five fragments with pings between them. The first ping is answered while the message still goes
/// on: nothing more is sent before its pong is there.
fn interleaved(id: &str, cut: Cut) -> Case {
    let before = [first(b"fragment1"), middle(b"fragment2"), ping(b"pongme 1!")];
    let behind =
        [middle(b"fragment3"), middle(b"fragment4"), ping(b"pongme 2!"), last(b"fragment5")];
    let mut acts: Vec<Act> = cut.writes(&before).collect();
    acts.push(Act::Hear(pong(b"pongme 1!")));
    acts.extend(cut.writes(&behind));
    acts.push(Act::Hear(pong(b"pongme 2!")));
    let message = b"fragment1fragment2fragment3fragment4fragment5";
    acts.push(Act::Hear(heard(TEXT, message)));
    Case { id: id.to_owned(), acts, end: End::Clean }
}

#[test]
fn fragments_make_a_message_and_control_frames_are_whole() {
    let halves = [first(b"fragment1"), last(b"fragment2")];
    let whole = heard(TEXT, b"fragment1fragment2");
    let fragmented = |opcode| [frame(opcode, b"fragment1"), last(b"fragment2")];
    let mut cases = vec![
        failed("5.1", Cut::Once, &fragmented(PING), None),
        failed("5.2", Cut::Once, &fragmented(PONG), None),
    ];
    cases.extend(in_every_cut(3, &halves, std::slice::from_ref(&whole), End::Clean));
    let with_ping = [first(b"fragment1"), ping(b"ping payload"), last(b"fragment2")];
    cases.extend(in_every_cut(6, &with_ping, &[pong(b"ping payload"), whole.clone()], End::Clean));

    let text = frame(FIN | TEXT, b"Hello, world!");
    let nothing = |opcode| [frame(opcode, b"non-continuation payload"), text.clone()];
    cases.extend(in_every_cut(9, &nothing(FIN | CONTINUATION), &[], End::Failed(1002)));
    cases.extend(in_every_cut(12, &nothing(CONTINUATION), &[], End::Failed(1002)));

    let [one, two] = halves;
    let stray = [one.clone(), two.clone(), middle(b"fragment3"), text.clone()];
    cases.push(failed("5.15", Cut::Once, &stray, Some(whole)));
    let twice = |stray: Vec<u8>| [stray.clone(), one.clone(), two.clone(), stray, one.clone()];
    cases.push(failed("5.16", Cut::Once, &twice(middle(b"fragment1")), None));
    cases.push(failed("5.17", Cut::Once, &twice(last(b"fragment1")), None));
    cases.push(end_of_half("5.18", &[one, frame(FIN | TEXT, b"fragment2")]));
    cases.push(interleaved("5.19", Cut::Once));
    cases.push(interleaved("5.20", Cut::Frames));
    run(cases, 20);
}

/// A message that is not continued: its echo has begun, and never ends.
fn end_of_half(id: &str, frames: &[Vec<u8>]) -> Case {
    let mut acts: Vec<Act> = Cut::Once.writes(frames).collect();
    acts.push(Act::HearPart(b"fragment1".to_vec()));
    Case { id: id.to_owned(), acts, end: End::Failed(1002) }
}
