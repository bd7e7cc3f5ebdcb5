//! Clocks that jump under a running server.
//!
//! The server is started behind a small library (`clock.c`), which moves the process's own clocks.
//! The machine's are left alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::common::preload::make_library;
use super::common::{Frame, MESSAGE, Native, OK, eventually, frame, publish};
use super::stage::{Folder, Outcome, Own, Scenario, Stage};

/// The wall clock jumps by hours, forth and back, and the monotonic one forth by minutes, as where
/// a machine was suspended. Nobody is closed for it, and what is kept by age is kept.
pub(crate) const CLOCKS: Scenario = Scenario { name: "clock-jumps", server: own, run: clocks };

const SHIFTS: &str = "CLOCK_SHIFTS";
/// Where the wall clock stands, in hours from the true time: jumps by 6, 12 and 100 hours.
const WALL_HOURS: [i64; 4] = [6, -6, 94, 0];
/// Where the monotonic clock stands, in minutes from the true one. What is kept for an hour is not
/// to be too old for it.
const MONOTONIC_MINUTES: [i64; 2] = [10, 20];
const ABSENT: &str = "absent";
const ROOM: &str = "tower";
const DIRECT: u8 = 0x93;

fn own() -> Own {
    let folder = Folder::new();
    let (library, shifts) = (folder.0.join("clock.so"), folder.0.join("shifts"));
    make_library("soak/clock.c", &library);
    std::fs::write(&shifts, [0; 16]).unwrap();
    Own {
        options: vec!["--offline-age", "1h", "--history-age", "1h"],
        environment: vec![("LD_PRELOAD", library), (SHIFTS, shifts)],
        _folder: Some(folder),
        ..Own::default()
    }
}

/// The clocks of a stage's server.
struct Clocks(File);

impl Clocks {
    fn of(stage: &Stage) -> Clocks {
        let (_, path) = stage.own.environment.iter().find(|(name, _)| *name == SHIFTS).unwrap();
        Clocks(File::options().write(true).open(path).unwrap())
    }

    fn set_wall(&self, shift_ms: i64) {
        self.0.write_all_at(&shift_ms.to_ne_bytes(), 0).unwrap();
    }

    fn set_monotonic(&self, shift_ms: i64) {
        self.0.write_all_at(&shift_ms.to_ne_bytes(), 8).unwrap();
    }
}

/// One who says something in a room and to a user who is away, each with a number.
struct Speaker {
    client: Native,
    said: u32,
}

impl Speaker {
    fn say(&mut self) {
        self.said += 1;
        let number = self.said;
        let mut payload = (2 * number).to_be_bytes().to_vec();
        payload.push(ABSENT.len() as u8);
        payload.extend_from_slice(ABSENT.as_bytes());
        payload.extend_from_slice(&number.to_be_bytes());
        self.client.send(&frame(0x13, &payload));
        self.client.expect(OK);
        self.client.send(&publish(2 * number + 1, ROOM, &number.to_be_bytes()));
        self.client.expect(OK);
    }
}

fn clocks(stage: &Stage) -> Outcome {
    let clocks = Clocks::of(stage);
    let client = Native::greet(stage.server.address, "speaker");
    let mut speaker = Speaker { client, said: 0 };
    speaker.say();
    for hours in WALL_HOURS {
        let shift_ms = hours * 3_600_000;
        clocks.set_wall(shift_ms);
        eventually("the server lives in that time", || {
            let told = stage.gauge.stats()["time_ms"].as_i64().unwrap();
            let true_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
            (told - true_ms - shift_ms).abs() < 60_000
        });
        speaker.say();
        stage.expect_undisturbed();
    }
    for minutes in MONOTONIC_MINUTES {
        let amnesties = stage.gauge.counters().of("amnesties");
        clocks.set_monotonic(minutes * 60_000);
        eventually("silence is forgiven", || stage.gauge.counters().of("amnesties") > amnesties);
        speaker.say();
        stage.expect_undisturbed();
    }
    expect_all_kept(stage, speaker.said);
    drop(speaker);
    Outcome {
        ends: vec![(2, vec!["peer_closed", "reset"])],
        told: vec![
            format!("wall clock at {WALL_HOURS:?} h"),
            format!("monotonic at {MONOTONIC_MINUTES:?} min"),
        ],
    }
}

/// What was said to the absent one and in the room is there, each once and nothing missing.
fn expect_all_kept(stage: &Stage, said: u32) {
    let mut absent = Native::greet(stage.server.address, ABSENT);
    for number in 1..=said {
        let told: Frame = absent.expect(DIRECT);
        assert!(told.is_replay() && told.payload.ends_with(&number.to_be_bytes()), "{told:?}");
        absent.send(&frame(0x14, &told.payload[..8]));
    }
    let mut asks = 1_u32.to_be_bytes().to_vec();
    asks.push(ROOM.len() as u8);
    asks.extend_from_slice(ROOM.as_bytes());
    asks.extend_from_slice(&[0; 8]);
    asks.extend_from_slice(&100_u16.to_be_bytes());
    absent.send(&frame(0x15, &asks));
    for number in 1..=said {
        let (_, _, body) = absent.expect(MESSAGE).message();
        assert_eq!(body, number.to_be_bytes());
    }
    absent.expect(OK);
}
