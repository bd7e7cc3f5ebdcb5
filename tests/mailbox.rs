//! The mailbox between threads: nobody sleeps before a letter.
//!
//! `every_order` compiles the mailbox itself, `src/net/mailbox.rs`, over primitives of loom, which
//! runs each test in every order of its threads' steps, with every value that the memory model
//! lets a load see. The tests behind it are with real threads, a real channel and a real poll.

use std::thread;
use std::time::Duration;

use corebeat::net::mailbox::mailbox;
use crossbeam_channel::TrySendError;
use mio::{Events, Poll, Token};

#[path = "mailbox/every_order.rs"]
mod every_order;

const BELL: Token = Token(0);

fn rings(poll: &mut Poll, wait: Duration) -> bool {
    let mut events = Events::with_capacity(4);
    poll.poll(&mut events, Some(wait)).unwrap();
    events.iter().any(|event| event.token() == BELL)
}

#[test]
fn only_a_sleeper_is_rung_and_only_once() {
    let mut poll = Poll::new().unwrap();
    let (sender, receiver) = mailbox(8, &poll, BELL).unwrap();
    sender.try_send(1).unwrap();
    assert!(!rings(&mut poll, Duration::ZERO), "the receiver is at work");
    assert!(!receiver.may_sleep(), "a letter lies there");
    receiver.woke();
    assert_eq!(receiver.try_receive(), Some(1));
    assert!(receiver.may_sleep());
    sender.try_send(2).unwrap();
    assert!(rings(&mut poll, Duration::from_secs(10)));
    sender.try_send(3).unwrap();
    assert!(!rings(&mut poll, Duration::ZERO), "the flag is down after the first ring");
}

#[test]
fn a_full_mailbox_gives_the_letter_back() {
    let poll = Poll::new().unwrap();
    let (sender, receiver) = mailbox(1, &poll, BELL).unwrap();
    sender.try_send("first").unwrap();
    assert_eq!(sender.try_send("second"), Err(TrySendError::Full("second")));
    drop(receiver);
    assert_eq!(sender.try_send("third"), Err(TrySendError::Disconnected("third")));
}

#[test]
fn no_letter_lies_before_a_thread_that_sleeps() {
    const LETTERS: u32 = if cfg!(miri) { 50 } else { 20_000 };
    let mut poll = Poll::new().unwrap();
    let (sender, receiver) = mailbox(4, &poll, BELL).unwrap();
    let writer = thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(7);
        for letter in 0..LETTERS {
            for _ in 0..random.u32(..200) {
                std::hint::spin_loop();
            }
            while sender.try_send(letter).is_err() {
                thread::yield_now();
            }
        }
    });
    let mut expected = 0;
    while expected < LETTERS {
        if receiver.may_sleep() {
            assert!(rings(&mut poll, Duration::from_secs(10)), "slept before a letter");
        }
        receiver.woke();
        while let Some(letter) = receiver.try_receive() {
            assert_eq!(letter, expected);
            expected += 1;
        }
    }
    writer.join().unwrap();
}
