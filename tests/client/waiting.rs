//! Calls that wait for their answer, against a server whose every word the test chooses: what comes
//! meanwhile stays until it is taken, and an answer that does not come is told as late.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use corebeat::base::limits::{CLIENT_EVENT_BYTES, CLIENT_EVENTS_MAX};
use corebeat::client::blocking::{Client, Error};
use corebeat::client::{Answer, Event};

use super::played::{Heard, Listener};
use super::{GUARD, config, wait_for};

#[test]
fn a_direct_message_that_comes_during_a_call_is_acknowledged_when_it_is_taken() {
    for takes in [false, true] {
        let (listener, address) = Listener::open();
        let server = thread::spawn(move || {
            let mut played = listener.welcome();
            let reference = played.hear_publish();
            played.direct(1, b"psst");
            played.ok(reference);
            let reference = played.hear_publish();
            played.ok(reference);
            played.hear_out()
        });
        let mut ann = Client::connect_within(config(&address.to_string(), "ann"), GUARD).unwrap();
        ann.publish("lobby", b"first").unwrap();
        ann.publish("lobby", b"second").unwrap();
        let expected = if takes {
            wait_for(&mut ann, |event| matches!(event, Event::Direct(_)).then_some(()));
            ann.close();
            vec![Heard::Ack(1), Heard::Bye]
        } else {
            // The program ends here, and the server keeps the message.
            drop(ann);
            vec![]
        };
        assert_eq!(server.join().unwrap(), expected, "taken: {takes}");
    }
}

#[test]
fn an_answer_that_is_late_is_an_event_of_its_ticket() {
    let (listener, address) = Listener::open();
    let (gave_up, goes_on) = mpsc::channel();
    let server = thread::spawn(move || {
        let mut played = listener.welcome();
        let reference = played.hear_publish();
        goes_on.recv().unwrap();
        played.ok(reference);
        played.hear_out()
    });
    let mut ann = Client::connect_within(config(&address.to_string(), "ann"), GUARD).unwrap();
    ann.set_answer_timeout(Duration::from_millis(1));
    let Err(Error::Late(ticket)) = ann.publish("lobby", b"hello?") else {
        panic!("nobody answers");
    };
    gave_up.send(()).unwrap();
    let answer = wait_for(&mut ann, |event| match event {
        Event::Answered(answered, answer) if answered == ticket => Some(answer),
        _ => None,
    });
    assert!(matches!(answer, Ok(Answer::Sent(_))), "{answer:?}");
    ann.close();
    assert_eq!(server.join().unwrap(), [Heard::Bye]);
}

/// How many events wait when a call is told that they are too many. All of them come after that,
/// and then the answer.
fn events_before_an_answer(say: impl Fn(&mut super::played::Played) + Send + 'static) -> usize {
    let (listener, address) = Listener::open();
    let server = thread::spawn(move || {
        let mut played = listener.welcome();
        let reference = played.hear_publish();
        say(&mut played);
        played.ok(reference);
        played.hear_out()
    });
    let mut ann = Client::connect_within(config(&address.to_string(), "ann"), GUARD).unwrap();
    let Err(Error::EventsWait(ticket)) = ann.publish("lobby", b"hello?") else {
        panic!("the answer stands behind more than is read");
    };
    let mut count = 0;
    wait_for(&mut ann, |event| match event {
        Event::Answered(answered, answer) => (answered == ticket).then_some(answer),
        Event::Direct(_) | Event::Presence { .. } => {
            count += 1;
            None
        }
        _ => None,
    })
    .unwrap();
    ann.close();
    server.join().unwrap();
    count
}

#[test]
fn so_many_events_wait_that_the_answer_cannot_be_read() {
    let most = CLIENT_EVENTS_MAX + 100;
    let count = events_before_an_answer(move |played| {
        (0..most).for_each(|_| played.presence());
    });
    assert_eq!(count, most);
}

#[test]
fn so_many_bytes_of_events_wait_that_the_answer_cannot_be_read() {
    let body = vec![b'x'; 60 << 10];
    let most = CLIENT_EVENT_BYTES / body.len() + 10;
    let count = events_before_an_answer(move |played| {
        (1..=most as u64).for_each(|id| played.direct(id, &body));
    });
    assert_eq!(count, most);
}

#[test]
fn one_may_wait_for_ever() {
    let (listener, address) = Listener::open();
    let server = thread::spawn(move || {
        let mut played = listener.welcome();
        let reference = played.hear_publish();
        played.ok(reference);
        played.direct(1, b"psst");
        played.hear_out()
    });
    let mut patient = config(&address.to_string(), "ann");
    patient.connect_timeout = Duration::MAX;
    patient.ping_every = Duration::MAX;
    patient.pong_timeout = Duration::MAX;
    let mut ann = Client::connect_within(patient, Duration::MAX).unwrap();
    ann.publish("lobby", b"hello").unwrap();
    while !matches!(ann.next_event(Duration::MAX).unwrap(), Some(Event::Direct(_))) {}
    ann.close();
    assert_eq!(server.join().unwrap(), [Heard::Ack(1), Heard::Bye]);
}
