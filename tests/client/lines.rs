//! `corebeat chat` line by line, in a pipe: where lines go, what is read, and how it ends.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};

use corebeat::client::blocking::Client;
use rustix::process::{Pid, Signal, kill_process};

use super::common::process::{Corebeat, command};
use super::played::{Heard, Listener};
use super::{connect, message, wait_for};

fn chat(arguments: &[&str]) -> (Child, ChildStdin) {
    let mut child = command(&[&["chat", "--user", "bot"], arguments].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take().unwrap();
    (child, input)
}

/// The exit code, and what was said on standard error.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
}

/// The room and the words of what is heard next.
fn next_message(client: &mut Client) -> (String, String) {
    let message = wait_for(client, message);
    (message.room.to_string(), String::from_utf8(message.body).unwrap())
}

#[test]
fn what_follows_a_join_is_said_in_that_room() {
    let server = Corebeat::start(&[]);
    let mut ann = connect(&server, "ann");
    ann.join("lobby").unwrap();
    ann.join("den").unwrap();
    // All of it is there before the welcome is.
    let (child, mut input) = chat(&[&server.address.to_string()]);
    input.write_all(b"first\n/join den\nsecond\n").unwrap();
    drop(input);
    // Each room has an order of its own.
    let heard = BTreeMap::from([next_message(&mut ann), next_message(&mut ann)]);
    let expected = [("lobby", "first"), ("den", "second")];
    assert_eq!(heard, expected.map(|(room, said)| (room.into(), said.into())).into());
    assert_eq!(end(child), (Some(0), String::new()));
}

#[test]
fn of_a_line_that_is_too_long_nothing_is_said() {
    let server = Corebeat::start(&[]);
    let mut ann = connect(&server, "ann");
    ann.join("lobby").unwrap();
    let (child, mut input) = chat(&[&server.address.to_string()]);
    // Its end alone would be short enough to be said.
    let long = "x".repeat((1 << 20) + 20_000);
    input.write_all(format!("{long}\nnext\n").as_bytes()).unwrap();
    drop(input);
    assert_eq!(next_message(&mut ann).1, "next");
    let (code, told) = end(child);
    assert_eq!((code, told.matches("is longer than").count()), (Some(1), 1), "{told}");
}

#[test]
fn a_pipe_is_read_to_its_end_though_it_tells_once_that_there_is_something() {
    let (listener, address) = Listener::open();
    let (child, mut input) = chat(&[&address.to_string()]);
    let mut played = listener.welcome();
    input.write_all(b"first\n").unwrap();
    let reference = played.hear_publish();
    played.ok(reference);
    // From here on nothing else wakes it: these lines ask for nothing, the pipe stays open, and the
    // server says nothing that it was not asked.
    input.write_all(&[&[b'\n'; 60_000], &b"hello\n"[..]].concat()).unwrap();
    let reference = played.hear_publish();
    played.ok(reference);
    drop(input);
    assert_eq!(end(child), (Some(0), String::new()));
}

#[test]
fn a_signal_is_a_good_end_only_where_nothing_is_left_undone() {
    let server = Corebeat::start(&[]);
    let (mut child, mut input) = chat(&[&server.address.to_string()]);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    input.write_all(b"/who\n").unwrap();
    output.read_line(&mut String::new()).unwrap();
    interrupt(&child);
    assert_eq!(end(child), (Some(0), String::new()), "all was answered");
    for (arguments, expected) in [(&[][..], 1), (&["--follow"], 0)] {
        let (listener, address) = Listener::open();
        let (child, mut input) = chat(&[arguments, &[&address.to_string()]].concat());
        let mut played = listener.welcome();
        input.write_all(b"hello?\n").unwrap();
        played.hear_publish();
        interrupt(&child);
        let (code, told) = end(child);
        assert_eq!(code, Some(expected), "{arguments:?}: {told}");
        assert_eq!(told.contains("ended before all was done"), expected == 1, "{told}");
        assert_eq!(played.hear_out(), [Heard::Bye]);
    }
}

#[test]
fn the_last_messages_are_shown_however_long_they_are() {
    let server = Corebeat::start(&[]);
    let mut ann = connect(&server, "ann");
    ann.join("lobby").unwrap();
    // One answer to HISTORY takes three of these.
    for number in 0..30 {
        let body = format!("{number} {}", "x".repeat(20_000));
        ann.publish("lobby", body.as_bytes()).unwrap();
    }
    let (child, mut input) = chat(&["--quiet", &server.address.to_string()]);
    input.write_all(b"/history 10\n").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let numbers = shown.lines().filter_map(|line| line.split(' ').nth(2));
    let expected: Vec<String> = (20..30).map(|number: u32| number.to_string()).collect();
    assert_eq!(numbers.collect::<Vec<&str>>(), expected);
}
