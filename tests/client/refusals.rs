//! What a client does where the server refuses it a room: it asks again as long as that may help,
//! and stays in the rooms in which the server has it.

use corebeat::base::ids::Ref;
use corebeat::client::{Code, Event, JoinOptions, RequestError, Ticket};
use corebeat::wire::message::{self as wire};

use super::script::{Said, Script};

const OVERLOADED: &str = "overloaded";

/// How many JOINs the client says within a while, each refused in the same words.
fn joins_within_ms(script: &mut Script, ms: u64, code: Code, text: &str) -> usize {
    let mut count = 0;
    for _ in 0..=ms {
        for said in script.said() {
            if let Said::Join { reference, .. } = said {
                count += 1;
                script.refuse(reference, code, text);
            }
        }
        script.pass_ms(1);
    }
    count
}

/// A client in the lobby that comes back after its connection was cut, and asks for its room.
fn back_again(resumed: bool) -> (Script, u32) {
    let mut script = Script::in_lobby(40);
    script.said();
    script.lose();
    script.pass_ms(1_000);
    script.welcome(resumed);
    let reference = script.reference_of_join();
    script.events();
    (script, reference)
}

fn dropped(events: &[Event]) -> Option<Code> {
    events.iter().find_map(|event| match event {
        Event::Dropped { room, refusal } if &**room == "lobby" => Some(refusal.code),
        _ => None,
    })
}

fn refused(events: &[Event], ticket: Ticket) -> Option<Code> {
    events.iter().find_map(|event| match event {
        Event::Answered(answered, Err(RequestError::Refused(refusal))) if *answered == ticket => {
            Some(refusal.code)
        }
        _ => None,
    })
}

#[test]
fn a_room_that_the_server_has_no_room_for_is_asked_for_again() {
    let (mut script, reference) = back_again(false);
    script.refuse(reference, Code::Unavailable, OVERLOADED);
    assert_eq!(script.said(), [], "not at once");
    script.pass_ms(1_000);
    let [Said::Join { reference, epoch: 7, since: 40 }] = script.said()[..] else {
        panic!("it asks again for what follows 40");
    };
    script.ok(reference, 7, 41);
    script.message(41, true);
    assert_eq!(script.told(), [41]);
}

#[test]
fn a_room_that_stays_refused_is_told_as_dropped_and_left() {
    for code in [Code::Unavailable, Code::TooMany] {
        let (mut script, reference) = back_again(true);
        script.refuse(reference, code, OVERLOADED);
        // Three more times with what was missed, and at last to be a member at all.
        assert_eq!(joins_within_ms(&mut script, 5_000, code, OVERLOADED), 4, "{code:?}");
        assert_eq!(dropped(&script.events()), Some(code));
        assert_eq!(script.core.rooms().count(), 0);
    }
    let (mut script, reference) = back_again(true);
    script.refuse(reference, Code::Forbidden, "no");
    assert_eq!(dropped(&script.events()), Some(Code::Forbidden), "which time does not change");
    assert!(script.said().contains(&Said::Leave), "the session that goes on may still be in it");
}

#[test]
fn who_is_too_fast_comes_back_to_all_rooms_one_after_the_other() {
    const ROOMS: usize = 300;
    let mut script = Script::new("one");
    for number in 0..ROOMS {
        let room = format!("room {number}").replace(' ', "-");
        script.core.join(&room, JoinOptions::default(), script.now).unwrap();
        if number % 100 == 99 {
            // The queue is no longer than that.
            if number == 99 {
                script.welcome(false);
            }
            for said in script.said() {
                if let Said::Join { reference, .. } = said {
                    script.ok(reference, 7, 1);
                }
            }
        }
    }
    script.events();
    script.lose();
    script.pass_ms(1_000);
    script.welcome(true);
    // A hundred at once, and then twenty a second.
    let (mut credit_ms, mut asked, mut joined) = (100 * 50, 0, 0);
    for _ in 0..12_000 {
        for said in script.said() {
            let Said::Join { reference, .. } = said else {
                continue;
            };
            asked += 1;
            if credit_ms >= 50 {
                credit_ms -= 50;
                joined += 1;
                script.ok(reference, 7, 1);
            } else {
                let wait_ms = 50 - credit_ms;
                let text = format!("too fast: 20 messages a second; try again in {wait_ms} ms");
                script.refuse(reference, Code::TooMany, &text);
            }
        }
        script.pass_ms(1);
        script.message(1, true);
        credit_ms += 1;
    }
    assert_eq!(joined, ROOMS);
    assert_eq!(dropped(&script.events()), None);
    assert_eq!(script.core.rooms().count(), ROOMS);
    assert!(asked <= 3 * ROOMS, "{asked} times it asked, which is no flood");
}

#[test]
fn a_second_join_that_is_refused_ends_no_membership() {
    for code in [Code::Unavailable, Code::TooMany] {
        let mut script = Script::in_lobby(40);
        let options = JoinOptions { notify: false, since: None };
        let again = script.core.join("lobby", options, script.now).unwrap();
        let reference = script.reference_of_join();
        script.refuse(reference, code, OVERLOADED);
        assert_eq!(refused(&script.events(), again), Some(code), "whoever asked is told");
        script.message(41, false);
        assert_eq!(script.told(), [41], "the server has us in the room");
    }
}

#[test]
fn of_two_joins_of_a_new_room_one_may_be_refused() {
    let mut script = Script::new("one");
    let first = script.core.join("lobby", JoinOptions::default(), script.now).unwrap();
    script.core.join("lobby", JoinOptions::default(), script.now).unwrap();
    script.welcome(false);
    let said = script.said();
    let joins: Vec<u32> = said
        .iter()
        .filter_map(|said| match said {
            Said::Join { reference, .. } => Some(*reference),
            _ => None,
        })
        .collect();
    script.refuse(joins[0], Code::Unavailable, OVERLOADED);
    script.ok(joins[1], 7, 40);
    assert_eq!(refused(&script.events(), first), Some(Code::Unavailable));
    script.message(41, false);
    assert_eq!(script.told(), [41]);
}

#[test]
fn a_new_room_that_is_refused_is_not_joined() {
    let mut script = Script::new("one");
    let ticket = script.core.join("lobby", JoinOptions::default(), script.now).unwrap();
    script.welcome(false);
    let reference = script.reference_of_join();
    script.refuse(reference, Code::TooMany, "the room is full");
    let events = script.events();
    assert_eq!(refused(&events, ticket), Some(Code::TooMany));
    assert_eq!((dropped(&events), script.core.rooms().count()), (None, 0));
    script.lose();
    script.pass_ms(1_000);
    script.welcome(false);
    assert!(!script.said().iter().any(|said| matches!(said, Said::Join { .. })));
}

#[test]
fn a_join_of_the_program_that_is_refused_on_the_way_back_does_not_end_the_way_back() {
    let mut script = Script::in_lobby(40);
    script.said();
    script.lose();
    let again = script.core.join("lobby", JoinOptions::default(), script.now).unwrap();
    script.pass_ms(1_000);
    script.welcome(false);
    let reference = script.reference_of_join();
    script.refuse(reference, Code::Unavailable, OVERLOADED);
    assert_eq!(refused(&script.events(), again), Some(Code::Unavailable));
    let reference = script.reference_of_join();
    script.ok(reference, 7, 41);
    script.message(41, true);
    assert_eq!(script.told(), [41]);
}

#[test]
fn a_hole_that_cannot_be_asked_for_ends_no_membership() {
    let mut script = Script::in_lobby(40);
    script.said();
    script.message(43, false);
    assert_eq!(joins_within_ms(&mut script, 6_000, Code::Unavailable, OVERLOADED), 5);
    assert_eq!(dropped(&script.events()), None);
    script.message(44, false);
    let events = script.events();
    let gap = events.iter().find_map(|event| match event {
        Event::Gap(gap) => Some((gap.from.0, gap.to.0)),
        _ => None,
    });
    assert_eq!(gap, Some((41, 43)));
    assert!(matches!(events.last(), Some(Event::Message(message)) if message.place.seq.0 == 44));
}

#[test]
fn nothing_is_asked_again_of_a_server_that_says_goodbye_and_nothing_is_busy_about_it() {
    let (mut script, reference) = back_again(true);
    script.refuse(reference, Code::Unavailable, OVERLOADED);
    script.say(&wire::Event::Pong(wire::Heartbeat { seq: 1, ..wire::Heartbeat::default() }));
    let (reason, address) = ("upgrade", "");
    script.say(&wire::Event::GoAway { reconnect_after_ms: 8_000, reason, address });
    script.pass_ms(5_000);
    let due = script.core.deadline_us().unwrap();
    assert!(due > script.now.us, "there is nothing to do for {} us", script.now.us - due);
    script.lose();
    script.pass_ms(8_000);
    script.welcome(true);
    let reference = script.reference_of_join();
    script.ok(reference, 7, 40);
}

#[test]
fn a_complaint_about_the_connection_is_told() {
    let mut script = Script::in_lobby(40);
    script.say(&wire::Event::Error { reference: Ref(0), code: Code::SlowReader, text: "too slow" });
    let told =
        |event: &Event| matches!(event, Event::Complaint(why) if why.code == Code::SlowReader);
    assert!(script.events().iter().any(told));
}
