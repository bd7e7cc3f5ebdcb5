//! The mailbox over loom. Each test is run once for every order that is possible.

use loom::model::Builder;
use loom::thread;

#[path = "primitives.rs"]
mod primitives;

// It is public in the library.
#[allow(unreachable_pub)]
#[path = "../../src/net/mailbox.rs"]
mod mailbox;

use mailbox::{Receiver, Sender, mailbox};
use primitives::channel::TrySendError;
use primitives::{Poll, Token};

/// Letters of one sender, in the order in which it posts them: who it is, and the number.
type Letter = (u8, u8);

/// Runs `test` in every order in which threads are interrupted at most twice while they could go
/// on. Nearly every fault shows with two (Musuvathi and Qadeer, 2007); all orders would take hours.
fn every_order(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(test);
}

fn new_mailbox(capacity: usize) -> (Poll, Sender<Letter>, Receiver<Letter>) {
    let poll = Poll::default();
    let (sender, receiver) = mailbox(capacity, &poll, Token).unwrap();
    (poll, sender, receiver)
}

/// Reads as a worker does, until `count` letters have come. Returns them, and how often it slept.
fn read(poll: &Poll, receiver: &Receiver<Letter>, count: usize) -> (Vec<Letter>, usize) {
    let (mut heard, mut sleeps) = (Vec::new(), 0);
    while heard.len() < count {
        if receiver.may_sleep() {
            sleeps += 1;
            poll.sleep();
        }
        receiver.woke();
        heard.extend(std::iter::from_fn(|| receiver.try_receive()));
    }
    (heard, sleeps)
}

fn of(sender: u8, heard: &[Letter]) -> Vec<u8> {
    heard.iter().filter(|letter| letter.0 == sender).map(|letter| letter.1).collect()
}

#[test]
fn nobody_sleeps_before_a_letter_of_one_sender() {
    every_order(|| {
        let (poll, sender, receiver) = new_mailbox(3);
        let writer = thread::spawn(move || {
            for number in 0..3 {
                sender.try_send((0, number)).unwrap();
            }
        });
        let (heard, sleeps) = read(&poll, &receiver, 3);
        writer.join().unwrap();
        assert_eq!(of(0, &heard), [0, 1, 2]);
        assert!(poll.rings() <= sleeps + 1, "{} rings for {sleeps} sleeps", poll.rings());
    });
}

#[test]
fn nobody_sleeps_before_a_letter_of_two_senders() {
    every_order(|| {
        let (poll, sender, receiver) = new_mailbox(2);
        let other = sender.clone();
        let first = thread::spawn(move || sender.try_send((0, 0)).unwrap());
        let second = thread::spawn(move || other.try_send((1, 0)).unwrap());
        let (heard, _) = read(&poll, &receiver, 2);
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!((of(0, &heard), of(1, &heard)), (vec![0], vec![0]));
    });
}

/// What does not fit comes back to its sender, and nothing else does.
#[test]
fn a_full_mailbox_keeps_its_bound_and_its_order() {
    every_order(|| {
        let (poll, sender, receiver) = new_mailbox(1);
        let writer = thread::spawn(move || {
            let posted = (0..3u8).filter(|&number| match sender.try_send((0, number)) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error, TrySendError::Full((0, number)));
                    false
                }
            });
            posted.collect::<Vec<u8>>()
        });
        // The first one always fits.
        let (mut heard, _) = read(&poll, &receiver, 1);
        let posted = writer.join().unwrap();
        let rest: Vec<Letter> = std::iter::from_fn(|| receiver.try_receive()).collect();
        assert!(rest.len() <= 1, "more lies there than fits: {rest:?}");
        heard.extend(rest);
        assert_eq!(of(0, &heard), posted);
    });
}

#[test]
fn a_sender_sees_that_the_reader_is_gone() {
    every_order(|| {
        let (_poll, sender, receiver) = new_mailbox(2);
        let other = sender.clone();
        let writer = thread::spawn(move || match sender.try_send((0, 0)) {
            Ok(()) => {}
            Err(error) => assert_eq!(error, TrySendError::Disconnected((0, 0))),
        });
        let reader = thread::spawn(move || {
            let _ = receiver.may_sleep();
            receiver.woke();
            drop(receiver);
        });
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(other.try_send((1, 0)), Err(TrySendError::Disconnected((1, 0))));
    });
}
