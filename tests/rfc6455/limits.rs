//! Section 9: messages up to 16 MiB, in one frame, in many, and in small pieces of a stream; and
//! many messages one behind the other.

use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::thread;

use super::case::{End, finish, heard};
use crate::common::process::Corebeat;
use crate::common::web::{BINARY, CONTINUATION, FIN, TEXT, Web, frame, header, masked};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A payload and the same under the mask. All pieces that are cut from it begin with the mask's
/// first byte.
struct Payload {
    plain: Vec<u8>,
    masked: Vec<u8>,
}

/// The longest text; shorter ones are its beginnings. A line has 32 bytes.
static TEXTS: LazyLock<Payload> = LazyLock::new(|| {
    let line = "κόσμε corebeat 心拍 😀\n";
    assert_eq!(line.len(), 32);
    payload(line.as_bytes().repeat(16 * MIB / 32))
});

static BYTES: LazyLock<Payload> = LazyLock::new(|| {
    let block: Vec<u8> = (0..=255_u8).map(|byte| byte.wrapping_mul(167)).collect();
    payload(block.repeat(16 * MIB / 256))
});

fn payload(plain: Vec<u8>) -> Payload {
    let masked = masked(&plain);
    Payload { plain, masked }
}

/// A message of `length` bytes in frames of `fragment` bytes, written in chops of `chop` bytes.
struct Bulk {
    id: String,
    opcode: u8,
    length: usize,
    fragment: usize,
    chop: usize,
}

impl Bulk {
    fn payload(&self) -> &'static Payload {
        if self.opcode == TEXT { &TEXTS } else { &BYTES }
    }

    fn write(&self, to: &mut impl Write) {
        let masked = &self.payload().masked[..self.length];
        let mut chopped = Chopped { to, chop: self.chop, gathered: Vec::new() };
        for (index, piece) in masked.chunks(self.fragment).enumerate() {
            let opcode = if index == 0 { self.opcode } else { CONTINUATION };
            let last = (index + 1) * self.fragment >= self.length;
            chopped.take(&header(opcode | if last { FIN } else { 0 }, piece.len()));
            chopped.take(piece);
        }
        chopped.to.write_all(&chopped.gathered).unwrap();
    }

    /// Sends and receives at the same time, as neither side has room for the whole message.
    fn run(&self, address: SocketAddr) {
        let mut web = Web::open(address, "/echo", "");
        let mut writer = web.stream.try_clone().unwrap();
        let returned = thread::scope(|scope| {
            scope.spawn(|| self.write(&mut writer));
            web.next()
        });
        let expected = heard(self.opcode, &self.payload().plain[..self.length]);
        assert!(returned == expected, "case {}: {returned:?}", self.id);
        finish(web, End::Clean, &self.id);
    }
}

/// A writer of pieces of one length.
struct Chopped<'w, W: Write> {
    to: &'w mut W,
    chop: usize,
    gathered: Vec<u8>,
}

impl<W: Write> Chopped<'_, W> {
    fn take(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
        let whole = self.gathered.len() / self.chop * self.chop;
        for piece in self.gathered[..whole].chunks(self.chop) {
            self.to.write_all(piece).unwrap();
        }
        self.gathered.drain(..whole);
    }
}

fn run(cases: impl Iterator<Item = Bulk>, expected: usize) {
    let server = Corebeat::start(&["--workers", "2"]);
    let count = cases.inspect(|bulk| bulk.run(server.address)).count();
    assert_eq!(count, expected, "the section has so many cases");
}

/// The cases of a subsection for text, and of the next one for bytes.
fn of_both_kinds<const N: usize>(
    section: u8,
    cases: [(usize, usize, usize); N],
) -> impl Iterator<Item = Bulk> {
    [(section, TEXT), (section + 1, BINARY)].into_iter().flat_map(move |(section, opcode)| {
        (1..).zip(cases).map(move |(index, (length, fragment, chop))| {
            let id = format!("9.{section}.{index}");
            Bulk { id, opcode, length, fragment, chop }
        })
    })
}

#[test]
fn messages_of_up_to_16_mib_come_back() {
    let lengths = [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB];
    run(of_both_kinds(1, lengths.map(|length| (length, length, 64 * KIB))), 12);
}

#[test]
fn messages_of_4_mib_in_fragments_of_any_length_come_back() {
    let fragments = [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB];
    run(of_both_kinds(3, fragments.map(|fragment| (4 * MIB, fragment, 64 * KIB))), 18);
}

#[test]
fn messages_of_1_mib_in_small_writes_come_back() {
    let chops = [64, 128, 256, 512, KIB, 2 * KIB];
    run(of_both_kinds(5, chops.map(|chop| (MIB, MIB, chop))), 12);
}

#[test]
fn a_thousand_messages_one_after_the_other_come_back() {
    let server = Corebeat::start(&["--workers", "2"]);
    for (section, opcode) in [(7, TEXT), (8, BINARY)] {
        for (index, length) in (1..).zip([0, 16, 64, 256, KIB, 4 * KIB]) {
            let id = format!("9.{section}.{index}");
            let payload = if opcode == TEXT { &TEXTS } else { &BYTES };
            let message = frame(FIN | opcode, &payload.plain[..length]);
            let expected = heard(opcode, &payload.plain[..length]);
            let mut web = Web::open(server.address, "/echo", "");
            for _ in 0..1_000 {
                web.send(&message);
                assert_eq!(web.next(), expected, "case {id}");
            }
            finish(web, End::Clean, &id);
        }
    }
}

#[test]
fn a_byte_more_than_16_mib_is_refused_by_its_header() {
    let server = Corebeat::start(&["--workers", "1"]);
    let mut web = Web::open(server.address, "/echo", "");
    web.send(&header(FIN | BINARY, 16 * MIB + 1));
    finish(web, End::Failed(1009), "one frame");

    let mut web = Web::open(server.address, "/echo", "");
    let mut writer = BufWriter::new(web.stream.try_clone().unwrap());
    let most =
        Bulk { id: String::new(), opcode: BINARY, length: 16 * MIB, fragment: MIB, chop: MIB };
    let returned = thread::scope(|scope| {
        scope.spawn(|| {
            let mut whole = Vec::new();
            most.write(&mut whole);
            // The last fragment says that another one follows.
            let last = whole.len() - MIB - 14;
            assert_eq!(whole[last], FIN | CONTINUATION);
            whole[last] = CONTINUATION;
            writer.write_all(&whole).unwrap();
            writer.write_all(&header(FIN | CONTINUATION, 1)).unwrap();
            writer.flush().unwrap();
        });
        web.part(16 * MIB)
    });
    assert!(returned == BYTES.plain);
    finish(web, End::Failed(1009), "many frames");
}
