//! Section 6: text that is UTF-8 and text that is not.

use super::case::{Act, Case, Cut, End, OCTETS, case, echoed, heard, run};
use crate::common::web::{CONTINUATION, FIN, TEXT, frame, header, masked};

/// "κόσμε", whose five characters take eleven bytes.
const WORLD: &str = "CE BA E1 BD B9 CF 83 CE BC CE B5";
const GREETING: &str = "Hello-µ@ßöäüàá-UTF-8!!";

/// Payloads of whole messages: the subsection, whether they are UTF-8, and the bytes.
const PAYLOADS: &[(u8, bool, &[&str])] = &[
    // Some valid text.
    (
        5,
        true,
        &[
            "68 65 6C 6C 6F 24 77 6F 72 6C 64",
            "68 65 6C 6C 6F C2 A2 77 6F 72 6C 64",
            "68 65 6C 6C 6F E2 82 AC 77 6F 72 6C 64",
            "68 65 6C 6C 6F F0 A4 AD A2 77 6F 72 6C 64",
            "CE BA E1 BD B9 CF 83 CE BC CE B5",
        ],
    ),
    // The first character of each length.
    (7, true, &["00", "C2 80", "E0 A0 80", "F0 90 80 80"]),
    // The first sequences of five and six bytes.
    (8, false, &["F8 88 80 80 80", "FC 84 80 80 80 80"]),
    // The last character of each length.
    (9, true, &["7F", "DF BF", "EF BF BF", "F4 8F BF BF"]),
    // The last sequences of four to six bytes.
    (10, false, &["F7 BF BF BF", "FB BF BF BF BF", "FD BF BF BF BF BF"]),
    // Around the surrogates and the end of the code space.
    // What is beyond it is case 6.11.5.
    (11, true, &["ED 9F BF", "EE 80 80", "EF BF BD", "F4 8F BF BF"]),
    // Bytes that continue nothing.
    (
        12,
        false,
        &[
            "80",
            "BF",
            "80 BF",
            "80 BF 80",
            "80 BF 80 BF",
            "80 BF 80 BF 80",
            "80 BF 80 BF 80 BF",
            "80 81 82 83 84 85 86 87 88 89 8A 8B 8C 8D 8E 8F 90 91 92 93 94 95 96 97 98 99 9A 9B \
          9C 9D 9E 9F A0 A1 A2 A3 A4 A5 A6 A7 A8 A9 AA AB AC AD AE AF B0 B1 B2 B3 B4 B5 B6 B7 \
          B8 B9 BA BB BC BD BE BF",
        ],
    ),
    // First bytes without what follows.
    (
        13,
        false,
        &[
            "C0 20 C1 20 C2 20 C3 20 C4 20 C5 20 C6 20 C7 20 C8 20 C9 20 CA 20 CB 20 CC 20 CD 20 \
          CE 20 CF 20 D0 20 D1 20 D2 20 D3 20 D4 20 D5 20 D6 20 D7 20 D8 20 D9 20 DA 20 DB 20 \
          DC 20 DD 20 DE 20 DF 20",
            "E0 20 E1 20 E2 20 E3 20 E4 20 E5 20 E6 20 E7 20 E8 20 E9 20 EA 20 EB 20 EC 20 ED 20 \
          EE 20 EF 20",
            "F0 20 F1 20 F2 20 F3 20 F4 20 F5 20 F6 20 F7 20",
            "F8 20 F9 20 FA 20 FB 20",
            "FC 20 FD 20",
        ],
    ),
    // Sequences without their last byte.
    (
        14,
        false,
        &[
            "C0",
            "E0 80",
            "F0 80 80",
            "F8 80 80 80",
            "FC 80 80 80 80",
            "DF",
            "EF BF",
            "F7 BF BF",
            "FB BF BF BF",
            "FD BF BF BF BF",
        ],
    ),
    // All of those one behind the other.
    (
        15,
        false,
        &["C0 E0 80 F0 80 80 F8 80 80 80 FC 80 80 80 80 DF EF BF \
          F7 BF BF FB BF BF BF FD BF BF BF BF"],
    ),
    // Bytes that stand nowhere.
    (16, false, &["FE", "FF", "FE FE FF FF"]),
    // A slash in too many bytes.
    (17, false, &["C0 AF", "E0 80 AF", "F0 80 80 AF", "F8 80 80 80 AF", "FC 80 80 80 80 AF"]),
    // The most that is too long.
    (18, false, &["C1 BF", "E0 9F BF", "F0 8F BF BF", "F8 87 BF BF BF", "FC 83 BF BF BF BF"]),
    // Zero in too many bytes.
    (19, false, &["C0 80", "E0 80 80", "F0 80 80 80", "F8 80 80 80 80", "FC 80 80 80 80 80"]),
    // Single surrogates.
    (
        20,
        false,
        &["ED A0 80", "ED AD BF", "ED AE 80", "ED AF BF", "ED B0 80", "ED BE 80", "ED BF BF"],
    ),
    // Pairs of surrogates.
    (
        21,
        false,
        &[
            "ED A0 80 ED B0 80",
            "ED A0 80 ED BF BF",
            "ED AD BF ED B0 80",
            "ED AD BF ED BF BF",
            "ED AE 80 ED B0 80",
            "ED AE 80 ED BF BF",
            "ED AF BF ED B0 80",
            "ED AF BF ED BF BF",
        ],
    ),
    // The specials.
    (
        23,
        true,
        &["EF BF B9", "EF BF BA", "EF BF BB", "EF BF BC", "EF BF BD", "EF BF BE", "EF BF BF"],
    ),
];

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.split_whitespace();
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("two hexadecimal digits")).collect()
}

/// Text in one frame that comes back, or is refused.
fn judged(id: impl Into<String>, cut: Cut, text: &[u8], good: bool) -> Case {
    if good {
        return echoed(id, cut, TEXT, text);
    }
    case(id, cut, &[frame(FIN | TEXT, text)], [], End::Failed(1007))
}

/// Text in fragments that comes back.
fn fragmented(id: &str, pieces: &[&[u8]]) -> Case {
    case(id, Cut::Frames, &fragments(pieces), [heard(TEXT, &pieces.concat())], End::Clean)
}

fn fragments(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let numbered = (1..=pieces.len()).zip(pieces);
    let frames = numbered.map(|(number, piece)| {
        let opcode = if number == 1 { TEXT } else { CONTINUATION };
        frame(opcode | if number == pieces.len() { FIN } else { 0 }, piece)
    });
    frames.collect()
}

/// Text of which the server has returned the first part when the wrong byte comes. The rest of the
/// text never comes.
fn failing_fast(id: &str, good: Vec<u8>, part: &[u8], bad: Vec<u8>) -> Case {
    let acts = vec![Act::Send(good), Act::HearPart(part.to_vec()), Act::Send(bad)];
    Case { id: id.to_owned(), acts, end: End::Failed(1007) }
}

fn text_in_fragments() -> Vec<Case> {
    let (greeting, world) = (GREETING.as_bytes(), bytes(WORLD));
    let broken = [&world[..], &bytes("ED A0 80"), b"edited"].concat();
    let octets = |text: &[u8]| fragments(&text.chunks(1).collect::<Vec<_>>());
    vec![
        judged("6.1.1", Cut::Once, b"", true),
        fragmented("6.1.2", &[b"", b"", b""]),
        fragmented("6.1.3", &[b"", b"middle frame payload", b""]),
        judged("6.2.1", Cut::Once, greeting, true),
        fragmented("6.2.2", &[&greeting[..12], &greeting[12..]]),
        fragmented("6.2.3", &greeting.chunks(1).collect::<Vec<_>>()),
        fragmented("6.2.4", &world.chunks(1).collect::<Vec<_>>()),
        judged("6.3.1", Cut::Once, &broken, false),
        octets_fail("6.3.2", &octets(&broken), &world),
    ]
}

/// Fragments of one byte each, of which the surrogate is told at its second byte.
fn octets_fail(id: &str, frames: &[Vec<u8>], good: &[u8]) -> Case {
    let mut acts: Vec<Act> = Cut::Frames.writes(&frames[..good.len() + 2]).collect();
    acts.push(Act::HearPart(good.to_vec()));
    Case { id: id.to_owned(), acts, end: End::Failed(1007) }
}

fn text_that_fails_fast() -> Vec<Case> {
    let world = bytes(WORLD);
    let begun = [&world[..], &[0xF4]].concat();
    let beyond = bytes("F4 90 80 80");
    // The same in a single frame, whose length tells that more would follow.
    let opened = |part: &[u8]| [header(FIN | TEXT, 21), masked(part)].concat();
    let then = |part: &[u8], bad: &[u8]| masked(&[part, bad].concat()).split_off(part.len());
    vec![
        failing_fast("6.4.1", frame(TEXT, &world), &world, frame(CONTINUATION, &beyond)),
        failing_fast("6.4.2", frame(TEXT, &begun), &begun, frame(CONTINUATION, &[0x90])),
        failing_fast("6.4.3", opened(&world), &world, then(&world, &beyond)),
        failing_fast("6.4.4", opened(&begun), &begun, then(&begun, &[0x90])),
    ]
}

/// Every beginning of a text is a text if it ends with a character.
fn beginnings() -> impl Iterator<Item = Case> {
    let world = bytes(WORLD);
    (1..=world.len()).map(move |length| {
        let good = [2, 5, 7, 9, 11].contains(&length);
        judged(format!("6.6.{length}"), Cut::Once, &world[..length], good)
    })
}

/// The last two code points of each plane are no characters, and yet may be sent.
fn noncharacters() -> impl Iterator<Item = Case> {
    let planes = (0..=0x10).flat_map(|plane| [plane << 16 | 0xFFFE, plane << 16 | 0xFFFF]);
    (1..).zip(planes).map(|(index, number)| {
        let text = char::from_u32(number).expect("a code point").to_string();
        judged(format!("6.22.{index}"), Cut::Once, text.as_bytes(), true)
    })
}

#[test]
fn text_comes_back_and_what_is_not_utf8_fails_at_its_first_wrong_byte() {
    let mut cases = text_in_fragments();
    cases.extend(text_that_fails_fast());
    cases.extend(beginnings());
    for (section, good, payloads) in PAYLOADS {
        cases.extend((1..).zip(*payloads).map(|(index, hex)| {
            judged(format!("6.{section}.{index}"), Cut::Once, &bytes(hex), *good)
        }));
    }
    cases.push(judged("6.11.5", Cut::Once, &bytes("F4 90 80 80"), false));
    cases.extend(noncharacters());
    run(cases, 145);
}

#[test]
fn how_text_is_cut_makes_no_difference() {
    let cases = PAYLOADS.iter().flat_map(|(section, good, payloads)| {
        (1..).zip(*payloads).map(move |(index, hex)| {
            judged(format!("6.{section}.{index}, octets"), OCTETS, &bytes(hex), *good)
        })
    });
    run(cases.collect(), 86);
}
