//! Section 1: messages in one frame, around every bound of a length; and section 10: a message that
//! its sender cuts into many frames.

use super::case::{Case, Cut, End, case, echoed, heard, run};
use crate::common::web::{BINARY, CONTINUATION, FIN, TEXT, frame};

const LENGTHS: [usize; 7] = [0, 125, 126, 127, 128, 65_535, 65_536];

fn section(number: u8, opcode: u8, filler: u8) -> impl Iterator<Item = Case> {
    let whole = (1..).zip(LENGTHS).map(move |(index, length)| {
        echoed(format!("1.{number}.{index}"), Cut::Once, opcode, &vec![filler; length])
    });
    let chopped = echoed(format!("1.{number}.8"), Cut::Chops(997), opcode, &[filler; 65_536]);
    whole.chain([chopped])
}

#[test]
fn messages_of_every_form_of_length_come_back() {
    run(section(1, TEXT, b'*').chain(section(2, BINARY, 0xFE)).collect(), 16);
}

#[test]
fn a_message_in_many_frames_comes_back() {
    let message = vec![b'*'; 65_536];
    let pieces: Vec<&[u8]> = message.chunks(1_300).collect();
    let frames: Vec<Vec<u8>> = (1..=pieces.len())
        .zip(&pieces)
        .map(|(number, piece)| {
            let opcode = if number == 1 { TEXT } else { CONTINUATION };
            frame(opcode | if number == pieces.len() { FIN } else { 0 }, piece)
        })
        .collect();
    run(vec![case("10.1.1", Cut::Frames, &frames, [heard(TEXT, &message)], End::Clean)], 1);
}
